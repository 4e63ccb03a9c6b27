/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "switches.h"

/* Of the recording's clock: what waits then is told once for all of it. */
#define JUMP_MAX_S 3600

struct waiting {
	uint32_t tid;
	bool runnable; /* from the beginning */
	uint64_t from, woken; /* ns; woken 0: not yet */
	size_t bytes;
	struct stack stack;
	struct names_frame frames[]; /* and their strings */
};

struct switches {
	bool ticks;
	stack_fn fn;
	void *userdata;
	struct map64 *index; /* thread → place */
	struct waiting **waiting;
	size_t n, max, bytes;
	uint64_t now;
	struct switches_status status;
};

int switches_new(struct switches **ret, bool ticks, stack_fn fn, void *userdata)
{
	_cleanup_(switches_freep) struct switches *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->ticks = ticks;
	s->fn = fn;
	s->userdata = userdata;
	r = map64_new(&s->index, SWITCHES_THREADS_MAX);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

struct switches *switches_free(struct switches *s)
{
	if (!s)
		return NULL;
	for (size_t i = 0; i < s->n; i++)
		free(s->waiting[i]);
	free(s->waiting);
	map64_free(s->index);
	free(s);
	return NULL;
}

/* ---- a stack that outlives its sample ---- */

static size_t string_size(const char *text)
{
	return text ? strlen(text) + 1 : 0;
}

static const char *keep(char **at, const char *text)
{
	char *kept = *at;
	size_t size = string_size(text);

	if (!text)
		return NULL;
	memcpy(kept, text, size);
	*at += size;
	return kept;
}

static struct waiting *copy(const struct stack *stack)
{
	size_t bytes = sizeof(struct waiting) + stack->n * sizeof(*stack->frames) + string_size(stack->comm) +
		string_size(stack->process_comm) + string_size(stack->exe) + string_size(stack->event);
	struct waiting *w;
	char *at;

	for (size_t i = 0; i < stack->n; i++)
		bytes += string_size(stack->frames[i].name) + string_size(stack->frames[i].object);
	w = malloc(bytes);
	if (!w)
		return NULL;
	*w = (struct waiting){ .bytes = bytes, .stack = *stack };
	at = (char *)(w->frames + stack->n);
	for (size_t i = 0; i < stack->n; i++) {
		w->frames[i] = stack->frames[i];
		w->frames[i].name = keep(&at, stack->frames[i].name);
		w->frames[i].object = keep(&at, stack->frames[i].object);
	}
	w->stack.frames = w->frames;
	w->stack.comm = keep(&at, stack->comm);
	w->stack.process_comm = keep(&at, stack->process_comm);
	w->stack.exe = keep(&at, stack->exe);
	w->stack.event = keep(&at, stack->event);
	return w;
}

/* ---- who waits ---- */

static int add(struct switches *s, struct waiting *w)
{
	if (s->n == s->max) {
		size_t max = s->max ? 2 * s->max : 64;
		struct waiting **more = reallocarray(s->waiting, max, sizeof(*more));

		if (!more)
			return -ENOMEM;
		s->waiting = more;
		s->max = max;
	}
	if (map64_put(s->index, w->tid, s->n) < 0)
		return -ENOMEM;
	s->bytes += w->bytes;
	s->waiting[s->n++] = w;
	return 0;
}

static struct waiting *find(const struct switches *s, uint32_t tid)
{
	uint64_t at;

	return map64_get(s->index, tid, &at) ? s->waiting[at] : NULL;
}

/* The last one takes its place. */
static void forget(struct switches *s, uint32_t tid)
{
	uint64_t at;

	if (!map64_get(s->index, tid, &at))
		return;
	map64_remove(s->index, tid);
	s->bytes -= s->waiting[at]->bytes;
	free(s->waiting[at]);
	s->waiting[at] = s->waiting[--s->n];
	if (at < s->n)
		(void)map64_put(s->index, s->waiting[at]->tid, at);
}

/* ---- what is told ---- */

static int tell(struct switches *s, struct waiting *w, enum metric metric, uint64_t ns, uint64_t time_ns)
{
	if (ns == 0)
		return 0;
	w->stack.metric = metric;
	w->stack.amount = w->stack.value = ns;
	w->stack.time_ns = time_ns;
	return s->fn(s->userdata, &w->stack);
}

/* From where it was told last. */
static int tell_until(struct switches *s, struct waiting *w, uint64_t until)
{
	uint64_t from = w->from, woken = w->runnable ? from : w->woken ? MIN(MAX(w->woken, from), until) : until;
	int r;

	if (until <= from)
		return 0;
	w->from = until;
	/* A moment before: what ends with a second belongs to that second. */
	r = tell(s, w, METRIC_BLOCKED, woken - from, until - 1);
	return r < 0 ? r : tell(s, w, METRIC_RUNNABLE, until - woken, until - 1);
}

static int tell_all(struct switches *s, uint64_t until)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < s->n; i++)
		r = tell_until(s, s->waiting[i], until);
	return r;
}

/* ---- events ---- */

int switches_advance(struct switches *s, uint64_t time_ns)
{
	uint64_t second = s->now / NSEC_PER_SEC;
	int r = 0;

	if (time_ns <= s->now)
		return 0;
	if (s->ticks && s->n > 0 && time_ns / NSEC_PER_SEC - second <= JUMP_MAX_S)
		while (r >= 0 && ++second <= time_ns / NSEC_PER_SEC)
			r = tell_all(s, second * NSEC_PER_SEC);
	s->now = time_ns;
	return r;
}

int switches_out(struct switches *s, uint32_t tid, bool runnable, const struct stack *stack)
{
	struct waiting *w;
	int r = switches_advance(s, stack->time_ns);

	if (r < 0 || tid == 0)
		return r;
	if (find(s, tid)) {
		s->status.open++;
		forget(s, tid);
	}
	if (s->n == SWITCHES_THREADS_MAX || s->bytes >= SWITCHES_BYTES_MAX) {
		s->status.dropped++;
		return 0;
	}
	w = copy(stack);
	if (!w)
		return -ENOMEM;
	w->tid = tid;
	w->runnable = runnable;
	w->from = s->now;
	r = add(s, w);
	if (r < 0)
		free(w);
	return r;
}

void switches_woken(struct switches *s, uint32_t tid, uint64_t time_ns)
{
	struct waiting *w = find(s, tid);

	if (w && w->woken == 0)
		w->woken = MAX(time_ns, s->now);
}

int switches_in(struct switches *s, uint32_t tid, uint64_t time_ns)
{
	int r = switches_advance(s, time_ns);
	struct waiting *w = find(s, tid);

	if (r < 0 || !w)
		return r;
	r = tell_until(s, w, s->now);
	forget(s, tid);
	return r;
}

int switches_end(struct switches *s)
{
	return tell_all(s, s->now);
}

void switches_get_status(const struct switches *s, struct switches_status *ret)
{
	*ret = s->status;
}
