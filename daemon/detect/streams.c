/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "internal.h"

#define VALUE_SECONDS 300.0
#define VALUES_AN_HOUR 12
/* In values: on the first two days most of what there is was not there before, which is no measure of what is rare. */
#define PROBATION 576
/* What a unit or the machine was told for explains its totals for so many ticks: as long as windows of some values have it. */
#define EXPLAINED_TICKS 1800

/* A clock that has jumped, unless the machine slept: which hour it is is not sure before it has said so for an hour. */
#define ASTRAY_US (600 * USEC_PER_SEC)
#define ASTRAY_VALUES VALUES_AN_HOUR

static const enum metric metrics[STREAMS] = { METRIC_ON_CPU, METRIC_RUNNABLE, METRIC_FAULTS_MINOR, METRIC_FAULTS_MAJOR };

bool streams_valid(const struct streams *s)
{
	double sum = s->seconds;

	for (size_t i = 0; i < STREAMS; i++) {
		sum += s->sums[i];
		if (s->all[i].views.n_shapes > SHAPES)
			return false;
	}
	return isfinite(sum);
}

/* What this hour of the week has, if there was such an hour before; else what has been usual for days. */
static double expected(const struct views *v, uint64_t time_us)
{
	const struct fading_mean *hour = &v->week[views_hour(time_us)];

	return hour->n > VALUES_AN_HOUR ? hour->mean : v->slow.mean;
}

static bool is_explained(const struct global_state *g)
{
	return g->streams.astray || (g->total_told && g->tick - g->total_told < EXPLAINED_TICKS);
}

/* Scores a value and learns it. Fills *ret and *ret_p when it is to be told. */
static bool visit(struct detect *d, struct univariate *u, enum metric metric, double value, struct finding *ret, double *ret_p)
{
	const struct tail *t = &d->tails[FAMILY_STREAM];
	double little = (double)d->total_context.floor[metric], usual = expected(&u->views, d->g->streams.time_us);
	double surprise = univariate_add(u, &univariate_default, d->g->streams.time_us, value);
	struct finding f = {
		.family = FAMILY_STREAM,
		.metric = metric,
		.s = (float)(surprise * M_LN10),
		.observed = (float)value,
		.expected = (float)usual,
		.since = d->g->tick - MIN(d->g->tick - 1, (uint32_t)(d->g->streams.seconds / MAX(d->g->tick_s, 1e-3))),
	};
	struct weighed w = { .finding = &f };

	if (u->views.n < PROBATION || MAX(value, usual) < little)
		return false;
	d->findings.tests[FAMILY_STREAM]++;
	calibrate_learn(&d->g->families[FAMILY_STREAM], false, t, true, (float)(u->surprise * M_LN10));
	if ((double)f.s < t->critical || fabs(value - usual) < little)
		return false;
	w.p = calibrate_p(t, (double)f.s);
	if (is_explained(d->g) || !detect_may_tell(d, &d->g->machine.state, &w)) {
		d->g->suppressed++;
		return false;
	}
	*ret = f;
	*ret_p = w.p;
	return true;
}

static void move_clock(struct streams *s, uint64_t now_us)
{
	s->time_us += (uint64_t)(s->seconds * (double)USEC_PER_SEC);
	if (now_us - s->time_us + ASTRAY_US <= 2 * ASTRAY_US || ++s->astray >= ASTRAY_VALUES) {
		s->time_us = now_us;
		s->astray = 0;
	}
}

bool streams_visit(struct detect *d, const uint64_t sum[static METRIC_N], struct finding *ret, double *ret_p)
{
	struct streams *s = &d->g->streams;
	bool found = false;

	s->seconds += (double)d->context.seconds;
	for (size_t i = 0; i < STREAMS; i++)
		s->sums[i] += (double)sum[metrics[i]];
	if (s->seconds < VALUE_SECONDS)
		return false;
	move_clock(s, d->tick.time_us);
	for (size_t i = 0; i < STREAMS; i++) {
		struct finding f;
		double p;

		if (!visit(d, &s->all[i], metrics[i], s->sums[i] / s->seconds, &f, &p) || (found && p >= *ret_p))
			continue;
		*ret = f;
		*ret_p = p;
		found = true;
	}
	s->seconds = 0;
	memset(s->sums, 0, sizeof(s->sums));
	return found;
}
