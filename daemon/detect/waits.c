/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads that wait where they did not of late.
 *
 * A lock that is not given back, a disk or a peer that does not answer: threads that waited for work, or did it, wait there now. What each of
 * them waits in all is as it was, and a stack in which much is waited for the first time may be a program that has just been
 * started, or that has more threads. What these don't have is that as much is missed elsewhere in the unit:
 *
 *     moved = min(sum of what stacks wait more, sum of what they wait less - what the unit wants more of the CPUs)
 *
 * against their means over the last 64 ticks, which of a stack that is new are nothing, and more only where that is beyond what any tick of the
 * stack has shown: one in which much is waited at times would hide others. Threads that stop waiting to work are not
 * missed; nor are those that only the open gate shows, which appear and disappear with it. It is judged as the totals are: of each unit in every
 * tick there is a measurement, so that minutes of experience are enough. */
#include <math.h>

#include "internal.h"

/* A process is settled when it was there so long before its stack was, or so long before a stack of which it is known how much is waited in it as
 * a rule: for as long as its mean goes back. */
#define SETTLED_TICKS 16
#define OLD_TICKS 64
/* In its first ticks the daemon finds the waits that go on, some of them twice: after a restart that would be news of each unit. */
#define FIRST_TICKS 4

double detect_wait_rise(const struct detect *d, const void *state, uint64_t blocked, uint32_t silent_ticks)
{
	return d->scoring && blocked <= d->context.most[METRIC_BLOCKED] ? (double)model_wait_rise(&d->context, state, blocked, silent_ticks) : 0;
}

void detect_add_wait(struct detect *d, uint64_t key, const void *state, uint64_t blocked, double rise, double process_s)
{
	double stack_s = (double)MIN(model_age(&d->context, state), (uint32_t)OLD_TICKS) * d->g->tick_s;
	struct moved *moved;
	uint64_t i;

	if (!d->scoring || blocked > d->context.most[METRIC_BLOCKED] || !map64_get(d->unit_by_key, key, &i))
		return;
	moved = &d->unit_moved[i];
	if (rise < 0)
		moved->less -= (float)rise;
	else if (process_s >= stack_s + SETTLED_TICKS * d->g->tick_s)
		moved->more += MIN((float)rise, model_wait_beyond(&d->context, state, blocked));
}

void waits_begin_unit(struct detect *d, size_t unit)
{
	const struct metric_state *wanted = &d->g->units[unit].series.state.metrics[METRIC_BLOCKED];
	const uint64_t *values = d->unit_values[unit];

	d->unit_moved[unit] = (struct moved){
		.less = wanted->mean - (float)(values[METRIC_ON_CPU] + values[METRIC_RUNNABLE]) / d->context.seconds,
	};
}

bool detect_moved_waits(struct detect *d, uint64_t *ret_key, struct detect_result *ret)
{
	struct total_state *best = NULL;
	struct weighed w, most = { 0 };
	struct finding finding;

	for (size_t i = 0; d->scoring && i < TOTALS_MAX; i++) {
		struct total_state *u = &d->g->units[i];
		const struct moved *moved = &d->unit_moved[i];
		float waits = d->ticks > FIRST_TICKS ? MAX(MIN(moved->more, moved->less), 0.0f) : 0;

		if (!u->key)
			continue;
		model_visit_moved(&d->total_context, &u->series, waits, &d->findings);
		w = detect_weigh(d, &u->series.state);
		if (!w.finding)
			continue;
		if (!detect_may_tell(d, &u->series.state, &w)) {
			d->g->suppressed++;
			continue;
		}
		if (best && w.finding->observed <= finding.observed)
			continue;
		best = u;
		most = w;
		finding = *w.finding;
	}
	if (!best)
		return false;
	most.finding = &finding;
	*ret_key = best->key;
	detect_tell(d, &best->series.state, &most, ret);
	return true;
}
