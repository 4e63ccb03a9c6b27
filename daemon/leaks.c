/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "leaks.h"

#include "pipeline.h"
#include "watches.h"

#define HOLDERS_MAX 4096 /* a stack of a process */
#define HISTORY 16U
#define HISTORY_US (10 * USEC_PER_SEC) /* from one reading of the history to the next */
#define EARLY_US (USEC_PER_SEC / 2)    /* ticks are not quite a second apart */
#define PARTS 8U                       /* of the history, whose least is above the one's before where something grows */

struct holder {
	struct api_leak shown;
	uint64_t key;
	int64_t history[HISTORY]; /* bytes; a ring */
	uint64_t first_us, last_us; /* of the history */
	uint32_t n_history;       /* readings so far */
	bool seen;                /* in this census */
};

struct leaks {
	struct collect *collect;
	struct pipeline *pipeline;
	const struct watches *watches;
	struct holder *holders;
	struct map64 *index;
	size_t n;
	struct api_leaks all;
};

int leaks_new(struct leaks **ret, struct collect *collect, struct pipeline *pipeline, const struct watches *watches)
{
	_cleanup_(leaks_freep) struct leaks *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->collect = collect;
	l->pipeline = pipeline;
	l->watches = watches;
	l->holders = calloc(HOLDERS_MAX, sizeof(*l->holders));
	if (!l->holders)
		return -ENOMEM;
	r = map64_new(&l->index, HOLDERS_MAX);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(l);
	return 0;
}

struct leaks *leaks_free(struct leaks *l)
{
	if (!l)
		return NULL;
	map64_free(l->index);
	free(l->holders);
	free(l);
	return NULL;
}

/* ---- who holds what ---- */

static const struct api_memory_watch *watch_of(const struct leaks *l, uint32_t heap)
{
	const struct api_memory_watch *w;

	for (size_t i = 0; (w = watches_at(l->watches, i)); i++)
		if (w->heap == heap && w->state == API_MEMORY_WATCHED)
			return w;
	return NULL;
}

/* For whom: of the kernel's memory that is told by the raw stack. */
static void find_owner(const struct leaks *l, const struct api_memory_watch *w, uint64_t raw_id, struct api_leak *ret)
{
	struct collect_frames frames;

	*ret = (struct api_leak){ .watch = w->id, .kernel = w->pid == API_MEMORY_KERNEL, .pid = w->pid };
	if (!ret->kernel)
		copy_string(ret->comm, sizeof(ret->comm), w->comm);
	else if (collect_frames(l->collect, raw_id, &frames) >= 0) {
		ret->pid = frames.process.pid;
		copy_string(ret->comm, sizeof(ret->comm), frames.process.comm);
	}
}

static struct holder *holder_of(struct leaks *l, const struct api_memory_watch *w, uint64_t raw_id, uint64_t stack_id)
{
	struct api_leak fresh;
	uint64_t key, i;
	struct holder *h;

	find_owner(l, w, raw_id, &fresh);
	fresh.stack_id = stack_id;
	key = hash64((const uint32_t[]){ fresh.watch, (uint32_t)fresh.pid }, 2 * sizeof(uint32_t), stack_id);
	if (map64_get(l->index, key, &i))
		return &l->holders[i];
	if (map64_put(l->index, key, l->n) < 0)
		return NULL;
	h = &l->holders[l->n++];
	*h = (struct holder){ .key = key, .shown = fresh };
	return h;
}

static void drop(struct leaks *l, size_t i)
{
	map64_remove(l->index, l->holders[i].key);
	if (i != --l->n) {
		l->holders[i] = l->holders[l->n];
		*map64_find(l->index, l->holders[i].key) = i;
	}
}

static void add(struct leaks *l, const struct collect_heap_stack *s)
{
	const struct api_memory_watch *w = watch_of(l, s->watch);
	struct holder *h;
	uint64_t id;

	if (!w)
		return;
	l->all.bytes += s->bytes;
	if (pipeline_stack_id(l->pipeline, s->raw_id, &id) < 0) {
		l->all.unnamed += s->bytes;
		return;
	}
	h = holder_of(l, w, s->raw_id, id);
	if (!h) {
		l->all.left_out += s->bytes;
		return;
	}
	h->seen = true;
	h->shown.bytes += s->bytes;
	h->shown.blocks += s->blocks;
	for (unsigned i = 0; i < COLLECT_HEAP_AGES; i++)
		h->shown.older[i] += s->older[i];
}

/* ---- whether it grows ---- */

/* The i-th oldest of those that the history has. */
static int64_t reading(const struct holder *h, uint32_t i)
{
	uint32_t n = MIN(h->n_history, HISTORY);

	return h->history[(h->n_history - n + i) % HISTORY];
}

/* What is freed as well as it is allocated has its ups and downs; what leaks has a least that rises from part to part. */
static bool rises(const struct holder *h)
{
	uint32_t n = MIN(h->n_history, HISTORY), at = 0;
	int64_t before = INT64_MIN;

	for (uint32_t part = 1; part <= PARTS; part++) {
		int64_t least = INT64_MAX;

		for (; at < n * part / PARTS; at++)
			least = MIN(least, reading(h, at));
		if (least <= before)
			return false;
		before = least;
	}
	return true;
}

static void note_history(struct holder *h, uint64_t now_us)
{
	if (h->n_history > 0 && now_us - h->last_us + EARLY_US < HISTORY_US)
		return;
	h->history[h->n_history++ % HISTORY] = h->shown.bytes;
	if (h->n_history == 1)
		h->first_us = now_us;
	else if (h->n_history > HISTORY)
		h->first_us += (now_us - h->first_us) / HISTORY;
	h->last_us = now_us;
	h->shown.measured = h->n_history >= PARTS;
	if (!h->shown.measured)
		return;
	h->shown.grows = rises(h);
	h->shown.per_minute = (double)(h->shown.bytes - reading(h, 0)) * 60 * (double)USEC_PER_SEC / (double)(h->last_us - h->first_us);
}

/* ---- the census ---- */

void leaks_tick(struct leaks *l, uint64_t now_us)
{
	const struct collect_heap_stack *stacks;
	int64_t left_out;
	size_t n;

	if (!collect_heap_census(l->collect, &stacks, &n, &left_out))
		return;
	l->all = (struct api_leaks){ .counted_us = now_us, .left_out = left_out };
	for (size_t i = 0; i < l->n; i++) {
		struct holder *h = &l->holders[i];

		h->seen = false;
		h->shown.bytes = 0;
		h->shown.blocks = 0;
		memset(h->shown.older, 0, sizeof(h->shown.older));
	}
	for (size_t i = 0; i < n; i++)
		add(l, &stacks[i]);
	for (size_t i = l->n; i-- > 0;) {
		if (l->holders[i].seen)
			note_history(&l->holders[i], now_us);
		else
			drop(l, i);
	}
}

static bool is_watched(const struct leaks *l, uint32_t id)
{
	const struct api_memory_watch *w;

	for (size_t i = 0; (w = watches_at(l->watches, i)); i++)
		if (w->id == id)
			return w->state == API_MEMORY_WATCHED;
	return false;
}

/* Whether a is to be told before b. */
static bool comes_before(const struct api_leak *a, const struct api_leak *b)
{
	if (a->grows != b->grows)
		return a->grows;
	return a->grows ? a->per_minute > b->per_minute : a->bytes > b->bytes;
}

size_t leaks_count(const struct leaks *l, size_t *ret_max)
{
	*ret_max = HOLDERS_MAX;
	return l->n;
}

size_t leaks_list(const struct leaks *l, pid_t pid, struct api_leak *ret, size_t max, struct api_leaks *ret_all)
{
	size_t n = 0;

	*ret_all = l->all;
	for (size_t i = 0; i < l->n; i++) {
		const struct api_leak *leak = &l->holders[i].shown;
		size_t k = n;

		if ((pid && leak->pid != pid) || !is_watched(l, leak->watch) || (n == max && !comes_before(leak, &ret[n - 1])))
			continue;
		for (k = n < max ? n++ : n - 1; k > 0 && comes_before(leak, &ret[k - 1]); k--)
			ret[k] = ret[k - 1];
		ret[k] = *leak;
	}
	return n;
}
