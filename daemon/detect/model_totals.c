/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Units and the machine: what they use in all. */
#include <math.h>

#include "model_marks.h"

/* A quarter of the time for which totals keep something up. */
static const unsigned quarter_ticks[CHANNELS_UP] = { 1, 4, 16 };
/* Totals differ by so much, as ln, from one use of a program to the other ... */
#define TOTAL_SPREAD 1.0f
/* ... and by no more as time goes on: else the first run of every program would be news, the longer the more. */
#define TOTAL_AGE 64.0f
/* A unit is steady when it does something in so large a part of some quarter of an hour's ticks. */
#define STEADY_PART 0.9f
#define STEADY_TICKS 1024.0f
#define STEADY_AGE 256
#define FAR 4.0f /* times the mean */
#define RISEN 4.0f /* times the mean, or more: what rose */
#define BACK_TICKS 3u
/* What is blocked is no more than what is left of the threads' time. Its place has what a unit wants of the CPUs, got or
 * not: one that gets less of what it wants does not do less by itself. */
#define METRIC_WANTED METRIC_BLOCKED
/* A unit's silence is tested for a quarter of an hour, if it came so often, at each quarter of an octave of s above what is never told. */
#define SILENCE_TICKS 900u
#define SILENCE_TIMES 16u
#define SILENCE_MEMORY 256.0f /* silences that their mean is of */
/* The longest silence is never taken for less than this beyond the mean: a tick, and what timers are let have; and an eighth of the mean's
 * share of one when it came a few times only. */
#define SILENCE_SPREAD 1.0f
#define SILENCE_SLACK (1.0f / 64)
#define SILENCE_YOUNG 8.0f

/* Gives true when a quarter is over. */
static bool end_quarter(struct total_window *w, unsigned ticks, uint32_t tick, float x)
{
	w->sum += x;
	if (tick % ticks != 0)
		return false;
	w->quarters[tick / ticks % QUARTERS] = w->sum / (float)ticks;
	w->sum = 0;
	return true;
}

/* How long a unit has to wait for a CPU is up to others, and starting takes it a whole one. */
static bool is_steady(const struct metric_state *ms, unsigned m, unsigned channel, uint32_t age)
{
	return age >= STEADY_AGE && ms->low > STEADY_PART && m != METRIC_RUNNABLE && channel != CHANNEL_TICK;
}

/* s of what was kept up, or down to, for the n-th time; see above. */
static float score_total(float rise, float own, float spread, float n)
{
	return rise > own ? logf(n + 1) * rise / MAX(own, spread) : 0;
}

/* Gives whether it is beyond the mark. */
static bool score_kept_up(const struct metric_state *ms, unsigned family, unsigned m, unsigned ch, float least, float floor, float common,
			  float spread, float n, struct findings *f)
{
	float mean = logf(ms->mean + floor), mark = MAX(ms->peak[ch], ms->mean);
	float score = score_total(logf(least + floor) - mean - MAX(common, 0.0f), logf(mark + floor) - mean, spread, n);

	f->tests[family]++;
	if (score > 0)
		model_add_finding(f, family, m, score, least, ms->mean);
	return least > mark;
}

static bool score_window(const struct population *p, const struct tick_context *c, const struct metric_state *ms,
			 const struct total_window *w, unsigned m, unsigned ch, uint32_t age, struct findings *f)
{
	bool steady = is_steady(ms, m, ch, age), outside = false;
	float floor = c->floor[m] * (steady ? MODEL_LITTLE_TO_UNIT : 1), common = model_common_rise(p, c, m, ch);
	float spread = steady ? SPREAD_MIN + SPREAD_YOUNG / (1 + (float)age / SPREAD_YOUNG_TICKS) : TOTAL_SPREAD;
	float least = w->quarters[0], most = w->quarters[0], mean = logf(ms->mean + floor), score;
	float n = steady ? (float)age / (float)(QUARTERS * quarter_ticks[ch]) : MIN((float)age, TOTAL_AGE);

	for (unsigned i = 1; i < QUARTERS; i++) {
		least = MIN(least, w->quarters[i]);
		most = MAX(most, w->quarters[i]);
	}
	if (least > 0 && m != METRIC_WANTED)
		outside = score_kept_up(ms, family_of_total(steady ? TOTAL_STEADY_RISES : TOTAL_RISES, m, ch), m, ch, least, floor, common,
					spread, n, f);
	if (steady && m == METRIC_WANTED) {
		unsigned family = family_of_total(TOTAL_STEADY_FALLS, m, ch);

		f->tests[family]++;
		score = score_total(mean - logf(most + floor) + MIN(common, 0.0f), mean - logf(w->low + floor), spread, n);
		outside |= score > 0;
		if (score > 0)
			model_add_finding(f, family, METRIC_ON_CPU, score, most, ms->mean);
	}
	return outside;
}

/* What is kept up for a window's quarters began with the first of them. */
static void note_outside(const struct tick_context *c, struct total_window *w, unsigned ch, bool outside, struct findings *f, size_t from)
{
	uint32_t window = QUARTERS * quarter_ticks[ch];

	if (!outside)
		w->outside = 0;
	else if (!w->outside)
		w->outside = c->tick > window ? c->tick - window + 1 : 1;
	for (size_t i = from; i < f->n; i++)
		f->all[i].since = w->outside;
}

static void learn_window(struct metric_state *ms, struct total_window *w, const struct tick_context *c, unsigned m,
			 unsigned ch, uint32_t age)
{
	float young = MIN(YOUNG_GROWTH / (float)age, 1.0f), rate = MAX(model_growth[ch], young);
	float least = w->quarters[0], most = w->quarters[0];

	for (unsigned i = 1; i < QUARTERS; i++) {
		least = MIN(least, w->quarters[i]);
		most = MAX(most, w->quarters[i]);
	}
	model_learn_mark(&ms->peak[ch], &ms->pending[ch], least, ms->mean, c->floor[m], rate);
	if (age < ACTIVE_MIN)
		w->low = MIN(most, ms->mean);
	else if (most < w->low)
		w->low = MAX(most, w->low * (1 - rate) - c->floor[m] * MODEL_LITTLE_TO_UNIT * rate);
	else
		w->low += (ms->mean - MIN(w->low, ms->mean)) * (1 / FADE_TICKS);
}

/* The longest silence is beyond the mean by so much at least. */
static float silence_spread(const struct total_series *t)
{
	return SILENCE_SPREAD + t->gap_mean * (SILENCE_SLACK + 1 / (1 + (float)t->times / SILENCE_YOUNG));
}

/* s of a silence that is longer than any was, in terms of how much they differ. */
static float silence_score(const struct total_series *t, uint32_t gap)
{
	float longest = (float)t->state.gap_max - t->gap_mean;

	if (t->times < SILENCE_TIMES || gap <= t->state.gap_max)
		return 0;
	return logf((float)t->times + 1) * ((float)gap - t->gap_mean) / MAX(longest, silence_spread(t));
}

/* A unit that stays away. */
static void score_unit_silence(const struct tick_context *c, struct total_series *t, struct findings *f)
{
	struct series_state *s = &t->state;
	uint32_t gap = c->tick - s->seen;
	float score = silence_score(t, gap), height;

	if (c->other_length || gap > SILENCE_TICKS || score < S_PLAIN)
		return;
	height = 1 + 4 * log2f(score / S_PLAIN);
	if (height < (float)s->silence_stage + 1)
		return;
	s->silence_stage = (uint8_t)MIN(height, (float)UINT8_MAX);
	model_add_finding(f, FAMILY_UNIT_SILENT, METRIC_ON_CPU, score, 0, s->metrics[METRIC_ON_CPU].mean);
}

/* Each silence that ends is a test, whose score was too low to be one unless there is a finding of it. */
static void note_activity(const struct tick_context *c, struct total_series *t, struct findings *f)
{
	struct series_state *s = &t->state;
	uint32_t gap = c->tick - s->seen;

	model_fade_silence(s, c->tick, t->gap_mean + silence_spread(t));
	if (gap > 1 && !c->other_length) {
		float score = silence_score(t, MIN(gap, SILENCE_TICKS));

		if (score > 0)
			model_add_finding(f, FAMILY_UNIT_SILENT, METRIC_ON_CPU, score, 1, s->metrics[METRIC_ON_CPU].mean);
		s->gap_max = MAX(s->gap_max, gap);
		f->tests[FAMILY_UNIT_SILENT] += ++t->times >= SILENCE_TIMES;
		t->gap_mean += ((float)gap - t->gap_mean) / MIN((float)t->times, SILENCE_MEMORY);
	}
	s->seen = c->tick;
	s->silence_stage = 0;
}

/* Whether what was told is back, by its last ticks. Of what fell, and of what is judged elsewhere, that is not known. */
static bool is_back(const struct tick_context *c, const struct total_series *t)
{
	const struct series_state *s = &t->state;
	unsigned m = MIN(s->told_metric, SCORED_METRICS - 1u);
	const float *quarters = m == METRIC_BLOCKED ? t->moved_windows[CHANNEL_TICK].quarters : t->windows[m][CHANNEL_TICK].quarters;
	float most = 0;

	for (uint32_t i = 0; i < BACK_TICKS; i++)
		most = MAX(most, quarters[(c->tick - i) % QUARTERS]);
	return m == s->told_metric && s->told_level > RISEN * s->metrics[m].mean && most < s->told_level / RISEN;
}

/* When it ended that nothing was measured, what had been silent may have done something meanwhile. */
static void visit_silence(const struct tick_context *c, struct total_series *t, bool active, struct findings *f)
{
	float then = model_ticks_then(c, &t->state);

	if (then != 1) {
		t->state.gap_max = (uint32_t)MIN((float)t->state.gap_max * then + 0.5f, (float)SILENCE_MOST);
		t->gap_mean *= then;
	}
	if (c->blank)
		t->state.seen = c->tick;
	else if (active)
		note_activity(c, t, f);
	else
		score_unit_silence(c, t, f);
}

bool model_total_valid(const struct total_series *t, uint32_t tick)
{
	const struct metric_state *moved = &t->moved;
	float sum = t->gap_mean + moved->mean + moved->low;

	for (unsigned ch = 0; ch < CHANNELS_UP; ch++) {
		sum += moved->peak[ch];
		for (unsigned m = 0; m <= SCORED_METRICS; m++) {
			const struct total_window *w = m < SCORED_METRICS ? &t->windows[m][ch] : &t->moved_windows[MIN(ch, MOVED_CHANNELS - 1u)];

			sum += w->sum + w->low + w->quarters[0] + w->quarters[1] + w->quarters[2] + w->quarters[3];
			if (w->outside > tick)
				return false;
		}
	}
	return isfinite(sum) && t->gap_mean >= 0;
}

/* Nothing is a value like any other. */
void model_visit_total(const struct population *p, const struct tick_context *c, struct total_series *t,
		       const uint64_t values[static METRIC_N], struct findings *f)
{
	struct series_state *s = &t->state;
	uint32_t age;
	bool outside = false;

	f->n = 0;
	if (!model_check_state(c->tick, s)) {
		memset(t, 0, sizeof(*t));
		model_check_state(c->tick, s);
		/* What was never seen has used nothing since the beginning. */
		s->born = 1;
	}
	age = c->tick - s->born + 1;
	visit_silence(c, t, values[METRIC_ON_CPU] > 0, f);
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		struct metric_state *ms = &s->metrics[m];
		uint64_t value = m == METRIC_WANTED ? values[METRIC_ON_CPU] + values[METRIC_RUNNABLE] : values[m];
		float x = c->blank ? ms->mean : (float)value / c->seconds;

		for (unsigned ch = 0; ch < CHANNELS_UP; ch++) {
			struct total_window *w = &t->windows[m][ch];

			if (end_quarter(w, quarter_ticks[ch], c->tick, x)) {
				size_t from = f->n;

				note_outside(c, w, ch, score_window(p, c, ms, w, m, ch, age, f), f, from);
				learn_window(ms, w, c, m, ch, age);
			}
			outside |= w->outside != 0;
		}
		ms->short_mean += (x - ms->short_mean) / SHORT_TICKS;
		/* What is far beyond would drag the mean along. */
		ms->mean += (MIN(x, FAR * ms->mean + c->floor[m]) - ms->mean) / MIN((float)age, MEAN_TICKS);
		if (!c->blank)
			ms->low += ((value > 0) - ms->low) / MIN((float)age, STEADY_TICKS);
	}
	for (unsigned ch = 0; ch < MOVED_CHANNELS; ch++)
		outside |= t->moved_windows[ch].outside != 0;
	s->held &= !is_back(c, t);
	model_end_visit(c, s, outside);
}

void model_visit_moved(const struct tick_context *c, struct total_series *t, float moved, struct findings *f)
{
	float age = (float)(c->tick - t->state.born + 1), floor = c->floor[METRIC_BLOCKED];
	struct metric_state *ms = &t->moved;

	f->n = 0;
	for (unsigned ch = 0; ch < MOVED_CHANNELS; ch++) {
		struct total_window *w = &t->moved_windows[ch];
		float least;

		if (!end_quarter(w, quarter_ticks[ch], c->tick, moved))
			continue;
		least = MIN(MIN(w->quarters[0], w->quarters[1]), MIN(w->quarters[2], w->quarters[3]));
		/* That none has moved is a measurement as well. */
		note_outside(c, w, ch,
			     score_kept_up(ms, family_of_total(TOTAL_RISES, METRIC_BLOCKED, ch), METRIC_BLOCKED, ch, least, floor, 0,
					   TOTAL_SPREAD, MIN(age, TOTAL_AGE), f),
			     f, 0);
		learn_window(ms, w, c, METRIC_BLOCKED, ch, (uint32_t)age);
	}
	ms->mean += (MIN(moved, FAR * ms->mean + floor) - ms->mean) / MIN(age, MEAN_TICKS);
}

float model_total_rise(const struct tick_context *c, const struct series_state *s, unsigned m, uint64_t value)
{
	return logf(((float)value / c->seconds + c->floor[m]) / (s->metrics[m].mean + c->floor[m]));
}

float model_on_cpu(const struct tick_context *c, const struct total_series *t)
{
	return t->windows[METRIC_ON_CPU][CHANNEL_TICK].quarters[c->tick % QUARTERS];
}
