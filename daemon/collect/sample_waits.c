/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sample_waits.h"

/* Threads that have ended and may leave a CPU once more. */
#define ENDED_MAX 8192
/* A thread that has ended leaves its CPU for the last time in less. */
#define ENDED_REPORTS 2

enum kind { KIND_OUT, KIND_OUT_UNDRAWN, KIND_OUT_PREEMPTED, KIND_IN, KIND_WOKEN, KIND_BEGUN, KIND_ENDED };

struct event {
	uint64_t time_ns;
	uint32_t what; /* place of the wait, or thread */
	uint32_t kind;
};

enum state { WAIT_FREE, WAIT_DRAWN, WAIT_GOES_ON, WAIT_OVER };

struct wait {
	enum state state;
	uint32_t tid, weight;
	uint64_t raw_id;          /* 0: it was not drawn */
	struct collect_process process;
	uint64_t out_ns, told_ns; /* told: until then */
	uint64_t woken_ns;        /* 0: not yet */
	bool preempted;
	bool lasting;             /* as the sink was told */
};

struct sample_waits {
	struct wait *waits;
	uint32_t *free_waits, n_free, n_used; /* used: places that were ever taken */
	struct map64 *by_tid;
	uint32_t *drawn;                      /* by CPU: what leaves it next; UINT32_MAX: nothing */
	uint32_t n_cpus;
	struct event *events;
	size_t n_events;
	struct map64 *ended[2];               /* generations of threads */
	uint32_t reports;
	struct sample_waits_lost lost;
};

#define NOTHING UINT32_MAX

int sample_waits_new(struct sample_waits **ret, uint32_t n_cpus)
{
	_cleanup_(sample_waits_freep) struct sample_waits *w = calloc(1, sizeof *w);
	int r;

	if (!w)
		return -ENOMEM;
	w->waits = calloc(SAMPLE_WAITS_MAX, sizeof *w->waits);
	w->free_waits = calloc(SAMPLE_WAITS_MAX, sizeof *w->free_waits);
	w->events = calloc(SAMPLE_WAITS_EVENTS_MAX, sizeof *w->events);
	w->drawn = calloc(n_cpus, sizeof *w->drawn);
	if (!w->waits || !w->free_waits || !w->events || !w->drawn)
		return -ENOMEM;
	w->n_cpus = n_cpus;
	memset(w->drawn, 0xff, n_cpus * sizeof *w->drawn);
	for (uint32_t i = 0; i < SAMPLE_WAITS_MAX; i++)
		w->free_waits[w->n_free++] = SAMPLE_WAITS_MAX - 1 - i;
	if ((r = map64_new(&w->by_tid, SAMPLE_WAITS_MAX)) < 0 || (r = map64_new(&w->ended[0], ENDED_MAX)) < 0 ||
	    (r = map64_new(&w->ended[1], ENDED_MAX)) < 0)
		return r;
	*ret = TAKE_PTR(w);
	return 0;
}

struct sample_waits *sample_waits_free(struct sample_waits *w)
{
	if (!w)
		return NULL;
	free(w->waits);
	free(w->free_waits);
	free(w->events);
	free(w->drawn);
	map64_free(w->by_tid);
	map64_free(w->ended[0]);
	map64_free(w->ended[1]);
	free(w);
	return NULL;
}

static void let_go(struct sample_waits *w, uint32_t i)
{
	w->waits[i].state = WAIT_FREE;
	w->free_waits[w->n_free++] = i;
}

/* ---- as the rings are read ---- */

static void note(struct sample_waits *w, enum kind kind, uint32_t what, uint64_t time_ns)
{
	if (w->n_events == SAMPLE_WAITS_EVENTS_MAX)
		sample_waits_forget(w);
	w->events[w->n_events++] = (struct event){ time_ns, what, kind };
}

void sample_waits_drawn(struct sample_waits *w, uint32_t cpu, uint32_t tid, uint64_t raw_id, const struct collect_process *process, uint32_t weight)
{
	uint32_t *place = &w->drawn[cpu];

	if (*place == NOTHING && w->n_free == 0) {
		w->lost.full++;
		return;
	}
	if (*place == NOTHING)
		*place = w->free_waits[--w->n_free];
	w->n_used = MAX(w->n_used, *place + 1);
	w->waits[*place] = (struct wait){ .state = WAIT_DRAWN, .tid = tid, .weight = weight, .raw_id = raw_id, .process = *process };
}

void sample_waits_out(struct sample_waits *w, uint32_t cpu, uint32_t tid, bool preempted, uint64_t time_ns)
{
	uint32_t place = w->drawn[cpu];

	if (place == NOTHING) {
		note(w, preempted ? KIND_OUT_PREEMPTED : KIND_OUT_UNDRAWN, tid, time_ns);
		return;
	}
	if (w->n_events == SAMPLE_WAITS_EVENTS_MAX) {
		sample_waits_forget(w);
		return;
	}
	w->drawn[cpu] = NOTHING;
	if (w->waits[place].tid != tid) {
		let_go(w, place);
		return;
	}
	w->waits[place].out_ns = w->waits[place].told_ns = time_ns;
	w->waits[place].preempted = preempted;
	note(w, KIND_OUT, place, time_ns);
}

void sample_waits_woken(struct sample_waits *w, uint32_t tid, uint64_t time_ns)
{
	note(w, KIND_WOKEN, tid, time_ns);
}

void sample_waits_in(struct sample_waits *w, uint32_t tid, uint64_t time_ns)
{
	note(w, KIND_IN, tid, time_ns);
}

void sample_waits_begun(struct sample_waits *w, uint32_t tid, uint64_t time_ns)
{
	note(w, KIND_BEGUN, tid, time_ns);
}

void sample_waits_ended(struct sample_waits *w, uint32_t tid, uint64_t time_ns)
{
	note(w, KIND_ENDED, tid, time_ns);
}

/* ---- in the order of their time ---- */

static void tell_until(struct wait *wait, uint64_t until_ns, sample_wait_fn fn, void *userdata)
{
	uint64_t from = wait->told_ns, woken;

	if (until_ns <= from || !wait->raw_id)
		return;
	woken = wait->preempted ? from : wait->woken_ns ? MIN(MAX(wait->woken_ns, from), until_ns) : until_ns;
	fn(userdata, wait->raw_id, &wait->process, (woken - from) * wait->weight, (until_ns - woken) * wait->weight, wait->weight);
	wait->told_ns = until_ns;
}

static bool find(const struct sample_waits *w, uint32_t tid, uint32_t *ret)
{
	uint64_t place;

	if (!map64_get(w->by_tid, tid, &place))
		return false;
	*ret = (uint32_t)place;
	return true;
}

/* The sink must still hear of its end when it was told of it. */
static void end(struct sample_waits *w, uint32_t place)
{
	map64_remove(w->by_tid, w->waits[place].tid);
	if (w->waits[place].lasting)
		w->waits[place].state = WAIT_OVER;
	else
		let_go(w, place);
}

static bool has_ended(const struct sample_waits *w, uint32_t tid)
{
	return map64_get(w->ended[0], tid, NULL) || map64_get(w->ended[1], tid, NULL);
}

static void take_out(struct sample_waits *w, uint32_t place)
{
	uint32_t before, tid = w->waits[place].tid;

	if (find(w, tid, &before)) {
		w->lost.forgotten += w->waits[before].raw_id != 0;
		end(w, before);
	}
	if (has_ended(w, tid)) {
		let_go(w, place);
		return;
	}
	w->waits[place].state = WAIT_GOES_ON;
	(void)map64_put(w->by_tid, tid, place);
}

/* So that it is known how many last of which nothing is told, and that whatever the thread did before is over. */
static void take_undrawn(struct sample_waits *w, uint32_t tid, bool preempted, uint64_t time_ns)
{
	uint32_t place;

	if (w->n_free == 0 || tid == 0)
		return;
	place = w->free_waits[--w->n_free];
	w->n_used = MAX(w->n_used, place + 1);
	w->waits[place] = (struct wait){ .tid = tid, .out_ns = time_ns, .preempted = preempted };
	take_out(w, place);
}

static void take(struct sample_waits *w, const struct event *e, sample_wait_fn fn, void *userdata)
{
	uint32_t place;

	switch ((enum kind)e->kind) {
	case KIND_OUT:
		take_out(w, e->what);
		break;
	case KIND_OUT_UNDRAWN:
	case KIND_OUT_PREEMPTED:
		take_undrawn(w, e->what, e->kind == KIND_OUT_PREEMPTED, e->time_ns);
		break;
	case KIND_IN:
		if (find(w, e->what, &place)) {
			tell_until(&w->waits[place], e->time_ns, fn, userdata);
			end(w, place);
		}
		break;
	case KIND_WOKEN:
		if (find(w, e->what, &place) && !w->waits[place].woken_ns)
			w->waits[place].woken_ns = e->time_ns;
		break;
	case KIND_BEGUN:
		map64_remove(w->ended[0], e->what);
		map64_remove(w->ended[1], e->what);
		break;
	case KIND_ENDED:
		(void)map64_put(w->ended[0], e->what, 0);
		break;
	}
}

static int by_time(const void *a, const void *b)
{
	const struct event *x = a, *y = b;

	return x->time_ns < y->time_ns ? -1 : x->time_ns > y->time_ns;
}

void sample_waits_settle(struct sample_waits *w, uint64_t until_ns, sample_wait_fn fn, void *userdata)
{
	size_t n = 0;

	qsort(w->events, w->n_events, sizeof *w->events, by_time);
	while (n < w->n_events && w->events[n].time_ns <= until_ns)
		take(w, &w->events[n++], fn, userdata);
	w->n_events -= n;
	memmove(w->events, w->events + n, w->n_events * sizeof *w->events);
}

/* ---- ticks ---- */

static void tell_lasting(struct wait *wait, bool lasting, const struct sample_waits_reader *r)
{
	const struct collect_wait told = {
		.raw_id = wait->raw_id, .process = wait->process, .threads = lasting ? (int)wait->weight : -(int)wait->weight
	};

	if (wait->lasting != lasting)
		r->sink->wait(r->sink_userdata, &told);
	wait->lasting = lasting;
}

static bool lasts_undrawn(const struct wait *wait, uint64_t last_tick_ns)
{
	return !wait->raw_id && !wait->preempted && !wait->woken_ns && wait->out_ns <= last_tick_ns;
}

static void report(struct wait *wait, uint64_t last_tick_ns, uint64_t now_ns, const struct sample_waits_reader *r)
{
	if (!wait->raw_id)
		return;
	if (wait->preempted || wait->woken_ns) {
		tell_until(wait, now_ns, r->passed, r->passed_userdata);
		tell_lasting(wait, false, r);
	} else if (wait->out_ns <= last_tick_ns) {
		wait->weight = 1;
		if (!wait->lasting)
			tell_until(wait, last_tick_ns, r->passed, r->passed_userdata);
		tell_lasting(wait, true, r);
		wait->told_ns = now_ns;
	}
}

void sample_waits_report(struct sample_waits *w, uint64_t last_tick_ns, uint64_t now_ns, const struct sample_waits_reader *r)
{
	struct map64 *oldest = w->ended[1];

	for (uint32_t i = 0; i < w->n_used; i++) {
		if (w->waits[i].state == WAIT_GOES_ON && lasts_undrawn(&w->waits[i], last_tick_ns)) {
			w->lost.undrawn++;
			end(w, i);
		}
		if (w->waits[i].state == WAIT_GOES_ON)
			report(&w->waits[i], last_tick_ns, now_ns, r);
		if (w->waits[i].state != WAIT_OVER)
			continue;
		tell_lasting(&w->waits[i], false, r);
		let_go(w, i);
	}
	if (++w->reports % ENDED_REPORTS)
		return;
	map64_clear(oldest);
	w->ended[1] = w->ended[0];
	w->ended[0] = oldest;
}

void sample_waits_forget(struct sample_waits *w)
{
	memset(w->drawn, 0xff, w->n_cpus * sizeof *w->drawn);
	for (uint32_t i = 0; i < w->n_used; i++) {
		if (w->waits[i].state == WAIT_DRAWN)
			let_go(w, i);
		else if (w->waits[i].state == WAIT_GOES_ON)
			end(w, i);
		else
			continue;
		w->lost.forgotten += w->waits[i].raw_id != 0;
	}
	w->n_events = 0;
}

struct sample_waits_lost sample_waits_take_lost(struct sample_waits *w)
{
	struct sample_waits_lost lost = w->lost;

	w->lost = (struct sample_waits_lost){};
	return lost;
}

uint32_t sample_waits_count(const struct sample_waits *w)
{
	return (uint32_t)map64_size(w->by_tid);
}
