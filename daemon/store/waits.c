/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Waits that do not change cost nothing a tick: one record while they last, one run when they end. An open
 * record keeps what was committed beside what the open tick changes, so that a crash in between loses
 * nothing. */
#include "internal.h"

struct open_wait *store_open_wait(const struct store *s, uint32_t i)
{
	return (struct open_wait *)store_at(s, s->layout.open_waits.offset) + i;
}

struct run *store_run(const struct store *s, uint32_t position)
{
	const struct section *runs = &s->layout.runs;

	return (struct run *)store_at(s, runs->offset) + (s->c.runs.first + position) % (uint32_t)runs->n;
}

int32_t store_wait_threads(const struct store *s, uint32_t slice)
{
	return s->slice_wait[slice] ? store_open_wait(s, s->slice_wait[slice] - 1)->threads : 0;
}

static uint64_t tick_begin_us(const struct store *s)
{
	return s->tick_time_us - s->tick_duration_ns / NSEC_PER_USEC;
}

static struct open_wait *take(struct store *s, uint32_t slice)
{
	struct open_wait *w;
	uint32_t i;

	if (s->n_wait_free == 0)
		return NULL;
	i = s->wait_free[--s->n_wait_free];
	w = store_open_wait(s, i);
	*w = (struct open_wait) { .slice = slice, .epoch = s->c.epoch };
	s->slice_wait[slice] = i + 1;
	return w;
}

int store_wait_change(struct store *s, uint32_t slice, int threads)
{
	struct open_wait *w = s->slice_wait[slice] ? store_open_wait(s, s->slice_wait[slice] - 1) : NULL;
	uint32_t now = s->c.tick + 1, series = store_slice_at(s, slice)->series;
	int64_t next = MIN(MAX((int64_t)(w ? w->threads : 0) + threads, (int64_t)0), (int64_t)INT32_MAX);

	if (!w) {
		if (next == 0)
			return 0;
		w = take(s, slice);
		if (!w)
			return -ENOSPC;
	}
	if (w->changed != now) {
		w->prev_threads = w->threads;
		w->prev_since = w->since;
		w->prev_from_ns = w->from_ns;
		w->prev_from_us = w->from_us;
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		w->changed = now;
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		s->wait_changed[s->n_wait_changed++] = s->slice_wait[slice] - 1;
	}
	s->series_wait[series] += (int32_t)next - w->threads;
	s->series_wait_changed[series] = now;
	store_live_add(s, series);
	w->threads = (int32_t)next;
	w->since = next == w->prev_threads ? w->prev_since : now;
	w->from_ns = next == w->prev_threads ? w->prev_from_ns : s->c.elapsed_ns;
	w->from_us = next == w->prev_threads ? w->prev_from_us : tick_begin_us(s);
	return 0;
}

void store_run_append(struct store *s, const struct run *run)
{
	uint32_t slot = store_log_slot(&s->c.runs, &store_published(s)->runs, s->layout.runs.n);

	if (slot == LOG_NONE)
		s->c.lost_runs++;
	else
		((struct run *)store_at(s, s->layout.runs.offset))[slot] = *run;
}

/* What ended or changed in this tick becomes a run up to its beginning. */
void store_waits_commit(struct store *s)
{
	for (uint32_t k = 0; k < s->n_wait_changed; k++) {
		uint32_t i = s->wait_changed[k];
		struct open_wait *w = store_open_wait(s, i);

		if (w->prev_threads > 0 && w->prev_threads != w->threads)
			store_run_append(s, &(struct run){
						    .slice = w->slice,
						    .since = w->prev_since,
						    .threads = (uint32_t)w->prev_threads,
						    .from_ns = w->prev_from_ns,
						    .until_ns = s->c.elapsed_ns,
						    .from_us = w->prev_from_us,
						    .until_us = tick_begin_us(s),
					    });
		if (w->threads == 0) {
			s->slice_wait[w->slice] = 0;
			s->wait_free[s->n_wait_free++] = i;
		}
	}
	s->n_wait_changed = 0;
}
