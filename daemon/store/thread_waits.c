/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "thread_waits.h"

/* Threads in waits that last: 32 bytes each, and what their number takes to be found. */
#define OPEN_MAX 32768
/* Raw stacks named in a tick. */
#define NAMES_MAX 16384

struct open {
	uint64_t from_us;
	uint64_t raw_id;
	store_ref process, stack; /* 0: not named */
	uint32_t tid;             /* 0: not used */
	uint32_t next_free;       /* number + 1 */
};

struct thread_waits {
	struct moments *over;
	struct map64 *by_tid;  /* thread -> number */
	uint32_t first_free;   /* number + 1; 0: none was let go of */
	uint32_t n_used;       /* numbers from here on were never taken */
	uint32_t n_unnamed;
	struct open open[OPEN_MAX];
};

int thread_waits_new(struct thread_waits **ret, uint64_t bytes)
{
	_cleanup_(thread_waits_freep) struct thread_waits *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	if ((r = moments_new_named(&w->over, bytes, NAMES_MAX)) < 0 || (r = map64_new(&w->by_tid, OPEN_MAX)) < 0)
		return r;
	*ret = TAKE_PTR(w);
	return 0;
}

struct thread_waits *thread_waits_free(struct thread_waits *w)
{
	if (!w)
		return NULL;
	moments_free(w->over);
	map64_free(w->by_tid);
	free(w);
	return NULL;
}

void thread_waits_name(struct thread_waits *w, uint64_t raw_id, store_ref process, store_ref stack)
{
	moments_name(w->over, raw_id, process, stack);
}

void thread_waits_add(struct thread_waits *w, uint64_t raw_id, uint64_t time_us, enum metric metric, uint64_t weight_ns, bool drawn, uint32_t tid,
                      const char *comm)
{
	const struct moment wait = {
		.time_us = time_us, .weight_us = (weight_ns + NSEC_PER_USEC / 2) / NSEC_PER_USEC, .tid = tid, .metric = metric, .drawn = drawn
	};

	moments_add_wait(w->over, raw_id, &wait, comm);
}

static void end(struct thread_waits *w, struct open *o, uint64_t until_us)
{
	const struct moment wait = {
		.time_us = until_us,
		.process = o->process,
		.stack = o->stack,
		.weight_us = until_us > o->from_us ? until_us - o->from_us : 0,
		.tid = o->tid,
		.metric = METRIC_BLOCKED,
		.lasting = true,
	};

	if (wait.weight_us > 0 && wait.stack)
		moments_add_named(w->over, &wait);
	else if (wait.weight_us > 0)
		moments_add_wait(w->over, o->raw_id, &wait, moments_thread(w->over, o->tid));
	w->n_unnamed -= !o->stack;
	map64_remove(w->by_tid, o->tid);
	*o = (struct open){ .next_free = w->first_free };
	w->first_free = (uint32_t)(o - w->open) + 1;
}

int thread_waits_begin(struct thread_waits *w, uint64_t raw_id, uint32_t tid, const char *comm, uint64_t from_us)
{
	uint64_t n;

	if (map64_get(w->by_tid, tid, &n))
		end(w, &w->open[n], from_us); /* its end was lost */
	if (tid == 0 || (!w->first_free && w->n_used == OPEN_MAX))
		return -ENOSPC;
	n = w->first_free ? w->first_free - 1 : w->n_used;
	if (map64_put(w->by_tid, tid, n) < 0)
		return -ENOSPC;
	if (w->first_free)
		w->first_free = w->open[n].next_free;
	else
		w->n_used++;
	w->open[n] = (struct open){ .from_us = from_us, .raw_id = raw_id, .tid = tid };
	w->n_unnamed++;
	moments_set_thread(w->over, tid, comm);
	return 0;
}

void thread_waits_end(struct thread_waits *w, uint64_t raw_id, uint32_t tid, uint64_t until_us)
{
	uint64_t n;

	if (map64_get(w->by_tid, tid, &n) && w->open[n].raw_id == raw_id)
		end(w, &w->open[n], until_us);
}

void thread_waits_end_all(struct thread_waits *w, uint64_t until_us)
{
	for (uint32_t i = 0; i < w->n_used; i++)
		if (w->open[i].tid)
			end(w, &w->open[i], until_us);
}

static void name_open(struct thread_waits *w)
{
	for (uint32_t i = 0; w->n_unnamed > 0 && i < w->n_used; i++) {
		struct open *o = &w->open[i];

		if (o->tid && !o->stack && moments_get_name(w->over, o->raw_id, &o->process, &o->stack))
			w->n_unnamed--;
	}
}

void thread_waits_end_tick(struct thread_waits *w, uint64_t begin_us, uint64_t end_us)
{
	name_open(w);
	moments_end_tick(w->over, begin_us, end_us);
}

bool thread_waits_range(const struct thread_waits *w, uint64_t *ret_since_us, uint64_t *ret_until_us)
{
	return moments_range(w->over, ret_since_us, ret_until_us);
}

struct window {
	uint64_t since_us, until_us;
	moment_fn fn;
	void *userdata;
};

static int visit_within(void *userdata, const struct moment *m)
{
	const struct window *x = userdata;
	uint64_t from_us = m->time_us - MIN(m->weight_us, m->time_us), until_us = MIN(m->time_us, x->until_us);
	struct moment part = *m;

	if (!m->lasting)
		return m->time_us < x->until_us ? x->fn(x->userdata, m) : 0;
	from_us = MAX(from_us, x->since_us);
	if (from_us >= until_us)
		return 0;
	part.weight_us = until_us - from_us;
	return x->fn(x->userdata, &part);
}

int thread_waits_visit(const struct thread_waits *w, uint64_t since_us, uint64_t until_us, moment_fn fn, void *userdata)
{
	struct window x = { since_us, until_us, fn, userdata };
	uint64_t kept_since, kept_until;
	int r;

	if (!moments_range(w->over, &kept_since, &kept_until))
		return 0;
	/* One that ended after the window may have been in it. */
	r = moments_visit(w->over, since_us, UINT64_MAX, visit_within, &x);
	for (uint32_t i = 0; r == 0 && i < w->n_used; i++) {
		const struct open *o = &w->open[i];

		if (o->tid)
			r = visit_within(&x, &(struct moment){
				.time_us = kept_until,
				.process = o->process,
				.stack = o->stack,
				.weight_us = kept_until - MIN(o->from_us, kept_until),
				.tid = o->tid,
				.metric = METRIC_BLOCKED,
				.lasting = true,
			});
	}
	return r;
}

const char *thread_waits_thread(const struct thread_waits *w, uint32_t tid)
{
	return moments_thread(w->over, tid);
}

void thread_waits_get_status(const struct thread_waits *w, struct thread_waits_status *ret)
{
	struct moments_status over;

	moments_get_status(w->over, &over);
	*ret = (struct thread_waits_status){ over.used, over.max, (uint32_t)map64_size(w->by_tid), OPEN_MAX };
}
