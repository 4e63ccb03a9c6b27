/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a series' sums (sums.h) are given of a tick, and when they are believed. */
#include <math.h>

#include "model_marks.h"

/* Active ticks from which on it is learnt how much a metric varies, and is summed up whether there is more of it. */
#define SUM_LEARNS 16
#define SUM_FROM 64
#define SUM_SILENCE 1024u
#define SUM_USUAL 1.2f /* times the mean: that is of an hour, and the next one is another */

bool model_is_summed(unsigned m, const struct tick_context *c)
{
	return m == METRIC_ON_CPU || (m == METRIC_BLOCKED && !c->gate_open);
}

void model_prepare_sums(struct stack_series *t, uint32_t tick)
{
	const struct series_state *s = &t->state;
	uint32_t gap = tick - s->seen;

	for (unsigned i = 0; i < SUM_N; i++) {
		struct series_sum *u = &t->sums[i];

		if (s->told && s->told >= s->seen)
			sum_told(u);
		/* The mean is of the silence. */
		if (gap >= SUM_SILENCE && gap / 2 > s->gap_max)
			sum_doubt(u);
		for (uint32_t hour = s->seen / SILENCE_FADE_TICKS; hour < tick / SILENCE_FADE_TICKS && u->most; hour++)
			sum_fade(u, hour);
	}
}

/* Before the tick is learnt. What comes by and by is more than the hour's mean, and no more than the last minute's: no change at a tick. */
void model_score_sum(const struct population *p, const struct tick_context *c, struct stack_series *series, unsigned m, float x, float quantum,
		     uint32_t silent, struct findings *f, bool *outside)
{
	struct series_sum *u = &series->sums[m == METRIC_ON_CPU ? SUM_ON_CPU : SUM_BLOCKED];
	const struct series_state *s = &series->state;
	const struct metric_state *ms = &s->metrics[m];
	float unit = m == METRIC_ON_CPU ? quantum : ms->mean;
	struct sum_tick t = {
		.value = x / unit,
		.mean = ms->mean / unit,
		.usual = SUM_USUAL * MAX(expf(MAX(model_common_rise(p, c, m, CHANNEL_TICK), 0.0f)), ms->mean > 0 ? ms->long_mean / ms->mean : 0),
		.mean_ticks = MIN((float)(c->tick - s->born + 1), MEAN_TICKS),
		.silent = silent,
		.counted = m == METRIC_ON_CPU,
	};
	float score = 0;

	if (ms->active < SUM_LEARNS || ms->mean <= 0 || !sum_valid(u))
		sum_new(u);
	else if (ms->active < SUM_FROM)
		sum_learn(u, &t);
	else
		score = sum_move(u, &t);
	if (x <= 0)
		return;
	f->tests[m * CHANNEL_N + CHANNEL_SUM] += t.mean_ticks >= MEAN_TICKS;
	/* What comes every quarter of an hour has been there some times by then. */
	if (score < S_PLAIN || t.mean_ticks < MEAN_TICKS)
		return;
	*outside = true;
	model_add_finding(f, m * CHANNEL_N + CHANNEL_SUM, m, score, x, ms->mean);
}
