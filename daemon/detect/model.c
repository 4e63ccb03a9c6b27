/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "model.h"

#define SERIES_TAG 0x73640001u /* layout 1 */

#define SHORT_TICKS 8.0f
#define LONG_TICKS 64.0f
#define MEAN_TICKS 4096.0f
/* Marks fall back to the mean in a day of visits: the daily peak is known the next day. */
#define FADE_TICKS 86400.0f
/* How much a mark may grow in a tick: what lasts is learnt in a minute or two (tick), some minutes (short), half an hour (long);
 * what happened once is not yet normal. A young series learns at once. */
static const float growth[CHANNELS_UP] = { 1.0f / 16, 1.0f / 64, 1.0f / 512 };
#define YOUNG_GROWTH 4.0f /* divided by the number of active ticks */
#define LOW_FALL (1.0f / 64)

/* ln(mark / mean) is taken for at least this: marks of a constant series are where the next jitter is. */
#define SPREAD_MIN 0.15f
#define SPREAD_YOUNG 1.5f
#define SPREAD_YOUNG_TICKS 8.0f
/* The effective samples in a mean with 1/n forgetting: 2n - 1. */
#define SHORT_SAMPLES 15.0f
#define LONG_SAMPLES 127.0f
/* Below this a score is never told, and what samples can carry need not be asked. */
#define S_PLAIN 6.0f

#define ACTIVE_MIN 32         /* active ticks before a fall means anything */
#define SILENCE_FIRST 8       /* silences are tested at 8, 16, 32, ... ticks */
/* Total weight since its birth is tested at these ages. */
static const uint8_t milestones[] = { 8, 64 };
/* At first everything is new. */
#define BIRTHS_FROM_TICK 64

/* Deviance of h samples where mu are expected: -ln of the Poisson tail, but for a slowly varying factor. */
static float poisson_deviance(float h, float mu)
{
	if (h <= 0)
		return mu;
	return h * logf(h / mu) + mu - h;
}

static float spread(float mark, float mean, float floor, float n)
{
	float observed = logf((mark + floor) / (mean + floor));

	return MAX(observed, SPREAD_MIN + SPREAD_YOUNG / (1 + n / SPREAD_YOUNG_TICKS));
}

static void add_finding(struct findings *f, unsigned family, enum metric metric, float s, float observed, float expected)
{
	f->all[f->n++] = (struct finding){ .family = (uint8_t)family, .metric = metric, .s = s, .observed = observed, .expected = expected };
}

/* The part of a rise that all series share. */
static float common_rise(const struct global_state *g, const struct tick_context *c, unsigned m, unsigned channel)
{
	float now = g->common[m] - g->common_base[m][c->gate_open];

	if (channel == CHANNEL_SHORT)
		now = g->common_window[m][0] + (now - g->common_window[m][0]) / SHORT_TICKS;
	else if (channel == CHANNEL_LONG)
		now = g->common_window[m][1] + (now - g->common_window[m][1]) / LONG_TICKS;
	return now;
}

/* s of a value above its mark; 0 when the mark, the common mode or the number of samples explains it. */
static float score_up(const struct metric_state *ms, float value, float mark, float floor, float quantum, float common)
{
	float n, rise, within, s;

	if (value <= mark)
		return 0;
	common = MAX(common, 0.0f);
	rise = logf((value + floor) / (ms->mean + floor)) - common;
	n = (float)ms->active;
	within = spread(mark, ms->mean, floor, n);
	if (rise <= within)
		return 0;
	n = logf(n + 1);
	s = n * rise / within;
	if (s > S_PLAIN) {
		float usual = mark * expf(common);
		float carried = value > usual ? n + poisson_deviance(value / quantum, MAX(usual, quantum / 64) / quantum) : n;

		s = MIN(s, MAX(carried, S_PLAIN));
	}
	return s;
}

static float score_down(const struct metric_state *ms, float floor, float quantum, float common)
{
	float n, fall, within, s;

	if (ms->short_mean >= ms->low)
		return 0;
	fall = logf((ms->mean + floor) / (ms->short_mean + floor)) + MIN(common, 0.0f);
	n = (float)ms->active;
	within = MAX(logf((ms->mean + floor) / (ms->low + floor)), SPREAD_MIN);
	if (fall <= within)
		return 0;
	n = logf(n + 1);
	s = n * fall / within;
	if (s > S_PLAIN)
		s = MIN(s, MAX(n + poisson_deviance(ms->short_mean / quantum, ms->low / quantum), S_PLAIN));
	return s;
}

static void score_metric(const struct global_state *g, const struct tick_context *c, struct metric_state *ms, unsigned m, float x,
                         float quantum, struct findings *f, bool *outside)
{
	for (unsigned ch = 0; x > 0 && ch < CHANNELS_UP; ch++) {
		float value = ch == CHANNEL_TICK ? x : ch == CHANNEL_SHORT ? ms->short_mean : ms->long_mean;
		float q = ch == CHANNEL_TICK ? quantum : c->window_quantum[m][ch - CHANNEL_SHORT];
		float floor = ch == CHANNEL_TICK ? c->floor[m] : ch == CHANNEL_SHORT ? c->floor[m] / 4 : c->floor[m] / 11;
		float mark = MAX(ms->peak[ch], ms->mean), score;

		f->tests[m * CHANNEL_N + ch]++;
		if (value <= mark)
			continue;
		*outside = true;
		score = c->trust * score_up(ms, value, mark, floor, q, common_rise(g, c, m, ch));
		if (score > 0)
			add_finding(f, m * CHANNEL_N + ch, m, score, value, ms->mean);
	}
	if (ms->active >= ACTIVE_MIN && c->trust > 0.25f) {
		float score = c->trust * score_down(ms, c->floor[m] / 4, c->window_quantum[m][0], common_rise(g, c, m, CHANNEL_SHORT));

		f->tests[m * CHANNEL_N + CHANNEL_DOWN]++;
		if (score > 0) {
			*outside = true;
			add_finding(f, m * CHANNEL_N + CHANNEL_DOWN, m, score, ms->short_mean, ms->mean);
		}
	}
}

static void raise_mark(float *mark, float value, float mean, float floor, float rate)
{
	if (value > *mark)
		*mark = MIN(value, *mark * (1 + rate) + floor * rate);
	else
		*mark -= (*mark - MIN(mean, *mark)) / FADE_TICKS;
}

static void learn_marks(struct metric_state *ms, const struct tick_context *c, unsigned m, uint32_t age, float x)
{
	float young = YOUNG_GROWTH / (float)(ms->active + 1);

	raise_mark(&ms->peak[CHANNEL_TICK], x, ms->mean, c->floor[m], MAX(growth[CHANNEL_TICK], young));
	raise_mark(&ms->peak[CHANNEL_SHORT], ms->short_mean, ms->mean, c->floor[m] / 4, MAX(growth[CHANNEL_SHORT], young));
	raise_mark(&ms->peak[CHANNEL_LONG], ms->long_mean, ms->mean, c->floor[m] / 11, MAX(growth[CHANNEL_LONG], young));
	if (age < ACTIVE_MIN)
		ms->low = MIN(ms->short_mean, ms->mean);
	else if (ms->short_mean < ms->low)
		ms->low = MAX(ms->short_mean, ms->low * (1 - LOW_FALL) - c->floor[m] / 4 * LOW_FALL);
	else
		ms->low += (ms->mean - MIN(ms->low, ms->mean)) / FADE_TICKS;
}

/* The windows move before the scoring (they are what is scored), the mean and the marks after it. */
static void move_windows(struct metric_state *ms, float x)
{
	ms->short_mean += (x - ms->short_mean) / SHORT_TICKS;
	ms->long_mean += (x - ms->long_mean) / LONG_TICKS;
}

static void move_mean(struct metric_state *ms, uint32_t age, float x)
{
	/* What is beyond any mark would drag the mean along. */
	float known = ms->active ? MIN(x, ms->peak[CHANNEL_TICK]) : x;

	ms->mean += (known - ms->mean) / MIN((float)age, MEAN_TICKS);
}

/* ticks of nothing */
static void fade_metrics(struct series_state *s, uint32_t age, uint32_t ticks)
{
	float n = (float)ticks, short_f = expf(-n / SHORT_TICKS), long_f = expf(-n / LONG_TICKS);
	float mean_f = (float)age < MEAN_TICKS ? (float)(age - MIN(ticks, age - 1)) / (float)age : expf(-n / MEAN_TICKS);

	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		struct metric_state *ms = &s->metrics[m];

		/* A wait that goes on unchanged is not visited, and is not nothing. */
		if (!ms->active || (m == METRIC_BLOCKED && s->held))
			continue;
		ms->short_mean *= short_f;
		ms->long_mean *= long_f;
		ms->mean *= mean_f;
	}
}

/* A silence of 8, 16, 32, ... ticks in a series, against the longest it has had, by how much is missing. */
static void score_silence(const struct tick_context *c, struct series_state *s, uint32_t gap, struct findings *f)
{
	float n = 0, missing = 0, weight = 0, expected = 0, score;
	unsigned most = 0;

	if (gap < SILENCE_FIRST || (gap & (gap - 1)) != 0)
		return;
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		const struct metric_state *ms = &s->metrics[m];
		float samples = ms->mean / c->quantum[m];

		n = MAX(n, (float)ms->active);
		if (ms->active && samples > weight) {
			most = m;
			weight = samples;
			expected = ms->mean;
		}
		missing = MAX(missing, samples * (float)gap);
	}
	if (n < ACTIVE_MIN)
		return;
	f->tests[FAMILY_VANISHED]++;
	n = logf(n + 1);
	score = n * logf(1 + (float)gap) / logf(2 + (float)s->gap_max) * logf(1 + weight);
	score = c->trust * c->activity * c->activity * MIN(score, n + missing);
	add_finding(f, FAMILY_VANISHED, most, score, 0, expected);
}

static void score_birth(const struct tick_context *c, struct series_state *s, uint32_t age, struct findings *f)
{
	if (s->birth_stage >= ELEMENTS_OF(milestones) || age < milestones[s->birth_stage])
		return;
	s->birth_stage++;
	if (s->born < BIRTHS_FROM_TICK)
		return;
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		const struct metric_state *ms = &s->metrics[m];

		if (!ms->active)
			continue;
		f->tests[m * CHANNEL_N + CHANNEL_BIRTH]++;
		add_finding(f, m * CHANNEL_N + CHANNEL_BIRTH, m, c->trust * ms->mean * (float)age / c->floor[m], ms->mean, 0);
	}
}

static void move_common(struct global_state *g, const struct tick_context *c, unsigned m, const struct metric_state *ms, float x)
{
	float ratio = logf((x + c->floor[m]) / (ms->mean + c->floor[m])) - g->common[m];

	g->common[m] += MAX(MIN(ratio, c->common_step), -c->common_step);
}

/* A running quarter quantile of what is not zero, on a log scale: mostly the weight of one sample. */
static void move_quantum(struct global_state *g, const struct tick_context *c, unsigned m, float x)
{
	float *q = &g->quantum[m][c->gate_open], lx = logf(x);
	uint32_t n = ++g->quantum_n[m][c->gate_open];
	float step = MAX(2.0f / (float)(n + 1), 0.01f);

	if (n == 1)
		*q = lx;
	else
		*q += lx < *q ? -0.75f * step : 0.25f * step;
	if (n == UINT32_MAX)
		g->quantum_n[m][c->gate_open] = n / 2;
}

/* The caller's memory may come from anywhere: what can't be is new. */
static void check_state(const struct global_state *g, struct series_state *s)
{
	float sum = s->told_level;

	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		const struct metric_state *ms = &s->metrics[m];

		sum += ms->short_mean + ms->long_mean + ms->mean + ms->peak[0] + ms->peak[1] + ms->peak[2] + ms->low;
	}
	if (s->tag == SERIES_TAG && s->born <= g->tick && s->seen <= g->tick && s->seen >= s->born && s->told <= g->tick &&
	    s->excursion <= g->tick && isfinite(sum))
		return;
	*s = (struct series_state){ .tag = SERIES_TAG, .born = g->tick, .seen = g->tick };
}

bool model_visit(struct global_state *g, const struct tick_context *c, struct series_state *s, const uint64_t values[static METRIC_N],
                 uint32_t silent_ticks, struct findings *f)
{
	uint32_t age, gap;
	bool active = false, outside = false;

	f->n = 0;
	check_state(g, s);
	for (unsigned m = 0; m < SCORED_METRICS; m++)
		active |= values[m] > 0;
	age = c->tick - s->born + 1;
	silent_ticks = MIN(silent_ticks, age - 1);
	if (silent_ticks > 0) {
		fade_metrics(s, age, silent_ticks);
		if (s->held)
			s->seen = c->tick - 1;
	}
	gap = c->tick - s->seen;
	if (!active) {
		fade_metrics(s, age, 1);
		s->held = 0;
		score_silence(c, s, gap, f);
		score_birth(c, s, age, f);
		return false;
	}
	if (gap > 1)
		s->gap_max = MAX(s->gap_max, gap);
	s->seen = c->tick;
	s->held = values[METRIC_BLOCKED] > 0;

	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		struct metric_state *ms = &s->metrics[m];
		float x = (float)values[m] / c->seconds, quantum = c->quantum[m];

		if (values[m] == 0 && !ms->active)
			continue;
		if (m == METRIC_ON_CPU && values[METRIC_HITS] > 0 && values[m] > 0)
			quantum = x / (float)values[METRIC_HITS];
		move_windows(ms, x);
		if (ms->active)
			score_metric(g, c, ms, m, x, quantum, f, &outside);
		if (values[m] > 0) {
			move_common(g, c, m, ms, x);
			move_quantum(g, c, m, x);
			ms->active += ms->active < UINT32_MAX;
		}
		move_mean(ms, age, x);
		learn_marks(ms, c, m, age, x);
	}
	score_birth(c, s, age, f);
	s->told_level -= s->told_level / FADE_TICKS;
	if (!outside)
		s->excursion = 0;
	else if (!s->excursion)
		s->excursion = c->tick;
	return true;
}
