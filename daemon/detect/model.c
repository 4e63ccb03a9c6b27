/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "model_marks.h"
#include "packed.h"

#define SERIES_TAG 0x73640002u /* layout 2 */

static const float window_ticks[CHANNELS_UP] = { 1, SHORT_TICKS, LONG_TICKS };
/* How much a mark may grow in a tick: what lasts is learnt in a minute or two (tick), some minutes
 * (short), half an hour (long); what happened once is not yet normal. A young series learns at once. */
const float model_growth[CHANNELS_UP] = { 1.0f / 16, 1.0f / 64, 1.0f / 512 };
#define LOW_FALL (1.0f / 32)

/* The effective samples in a mean with 1/n forgetting: 2n - 1. */
#define SHORT_SAMPLES 15.0f
#define LONG_SAMPLES 127.0f

#define SAMPLES_MIN (1.0f / 64) /* so many are expected of anything */
#define LIGHT_TICKS 256         /* so many active ticks before a light tail is half believed */

/* A silence is tested at these lengths, within the minute for which a silent series is visited ... */
static const uint8_t silences[] = { 8, 20, 55 };
#define SILENCE_FADES (FADE_TICKS / SILENCE_FADE_TICKS)
/* While so small a part of the usual series do anything, a silence is not the series' own, and not learnt. */
#define SILENCE_ACTIVITY 0.25f
#define SILENCE_MISSING                                                                                      \
	16.0f /* ... when chance explains it with less than e^-16: so many samples are missing */
/* Total weight since its birth is tested at these ages, each by itself: what takes all CPUs for some seconds is more than any other
 * for as long, not more than many others for a minute. */
static const struct {
	uint8_t age;
	enum channel window; /* of what is common to all */
} milestones[BIRTH_CHANNELS] = { { 4, CHANNEL_SHORT }, { 16, CHANNEL_SHORT }, { 64, CHANNEL_LONG } };
/* At first everything is new. */
#define BIRTHS_FROM_TICK 256

/* What the detector finds in its first ticks was there before, and is not new. */
#define START_TICKS 16u
#define START_ACTIVE_MIN 4 /* of such a stack, before its marks are believed: else what it does now and then would be its unit's mark */

/* Deviance of h samples where mu are expected: -ln of the Poisson tail, but for a slowly varying factor. */
static float poisson_deviance(float h, float mu)
{
	if (h <= 0)
		return mu;
	return h * logf(h / mu) + mu - h;
}

/* These come as samples with weights; blocked and runnable are sums of times. */
static bool is_counted(unsigned m)
{
	return m == METRIC_ON_CPU || m == METRIC_FAULTS_MINOR || m == METRIC_FAULTS_MAJOR;
}

void model_add_finding(struct findings *f, unsigned family, enum metric metric, float s, float observed,
			float expected)
{
	f->all[f->n++] = (struct finding){ .family = (uint8_t)family,
					   .metric = metric,
					   .s = s,
					   .observed = observed,
					   .expected = expected };
}

/* What all do more with the gate open than with it closed is the load that has opened it. What they seem to do less is how they are sampled. */
float model_common_base(const struct population *p, unsigned m, bool gate_open)
{
	return gate_open ? MIN(p->common_base[m][0], p->common_base[m][1]) : p->common_base[m][0];
}

/* The part of a rise that all series share, as ln. A window's is the mean of the factors, as its value is
 * the mean of the values. */
float model_common_rise(const struct population *p, const struct tick_context *c, unsigned m,
			 unsigned channel)
{
	float now = p->common[m] - model_common_base(p, m, c->gate_open), before;

	if (channel == CHANNEL_TICK)
		return now;
	before = p->common_window[m][channel - CHANNEL_SHORT];
	return log1pf(before + (expm1f(now) - before) / window_ticks[channel]);
}

/* The samples behind a value and its mark have a say: a value can't surprise more than they carry, and
 * where counting alone explains the mark the tail is Poisson's. s: by the Pareto tail; n: ln of the number
 * of values. */
static float weigh_samples(const struct metric_state *ms, bool counted, float s, float n, float value,
			   float mark, float mean)
{
	float carried = n + poisson_deviance(value, mark), range, light;

	if (counted) {
		range = MAX(poisson_deviance(mark, MIN(mean, mark)), n);
		/* light: how far the mark is what counting alone would have made it, as far as the number
		 * of samples can tell */
		light = MAX(2 * n / range - 1, 0.0f) * mean / (mean + 2) * (float)ms->active /
			(float)(ms->active + LIGHT_TICKS);
		if (light > 0)
			s *= powf(n * poisson_deviance(value, mean) / range / s, light);
	}
	return MAX(MIN(s, carried), S_PLAIN);
}

/* s of a value above its mark; 0 when the mark, the common mode or the number of samples explains it. n:
 * how many such values the series has had, windows that overlap counted once. */
static float score_up(const struct metric_state *ms, bool counted, float n, float value, float mark,
		      float floor, float quantum, float common)
{
	float rise, within, s, usual;

	common = MAX(common, 0.0f);
	rise = logf((value + floor) / (ms->mean + floor)) - common;
	within = logf((mark + floor) / (ms->mean + floor));
	within = MAX(within, SPREAD_MIN + SPREAD_YOUNG / (1 + (float)ms->active / SPREAD_YOUNG_TICKS));
	if (rise <= within)
		return 0;
	n = logf(n + 1);
	s = n * rise / within;
	if (s <= S_PLAIN)
		return s;
	common = expf(common);
	usual = mark * common;
	if (value <= usual)
		return S_PLAIN;
	return weigh_samples(ms, counted, s, n, value / quantum, MAX(usual / quantum, SAMPLES_MIN),
			     MAX(ms->mean * common / quantum, SAMPLES_MIN));
}

static float score_down(const struct metric_state *ms, float floor, float quantum, float common)
{
	float n, fall, within, s;

	fall = logf((ms->mean + floor) / (ms->short_mean + floor)) + MIN(common, 0.0f);
	n = (float)ms->active / SHORT_TICKS;
	within = MAX(logf((ms->mean + floor) / (ms->low + floor)),
		     SPREAD_MIN + SPREAD_YOUNG / (1 + n / SPREAD_YOUNG_TICKS));
	if (fall <= within)
		return 0;
	n = logf(n + 1);
	s = n * fall / within;
	if (s > S_PLAIN)
		s = MIN(s, MAX(n + poisson_deviance(ms->short_mean / quantum, ms->low / quantum), S_PLAIN));
	return s;
}

/* The mean over a window has less noise than a tick. */
static float window_floor(const struct tick_context *c, unsigned m, unsigned channel)
{
	static const float noise[CHANNELS_UP] = { 1, 1.0f / 4, 1.0f / 11 };

	return c->floor[m] * noise[channel];
}

static void score_metric(const struct population *p, const struct tick_context *c, struct metric_state *ms,
			 unsigned m, float n, float x, float quantum, struct findings *f, bool *outside)
{
	for (unsigned ch = 0; x > 0 && ch < CHANNELS_UP; ch++) {
		float value = ch == CHANNEL_TICK ? x : ch == CHANNEL_SHORT ? ms->short_mean : ms->long_mean;
		float q = ch == CHANNEL_TICK ? quantum : c->window_quantum[m][ch - CHANNEL_SHORT];
		float floor = window_floor(c, m, ch);
		float mark = MAX(ms->peak[ch], ms->mean), score;

		f->tests[m * CHANNEL_N + ch]++;
		if (value <= mark)
			continue;
		*outside = true;
		score = score_up(ms, is_counted(m), n / window_ticks[ch], value, mark, floor, q, model_common_rise(p, c, m, ch));
		if (score > 0)
			model_add_finding(f, m * CHANNEL_N + ch, m, score, value, ms->mean);
	}
	if (ms->active >= ACTIVE_MIN && c->trust > 0.25f) {
		float score = 0;

		f->tests[m * CHANNEL_N + CHANNEL_DOWN]++;
		if (ms->short_mean < ms->low)
			score = c->trust * score_down(ms, window_floor(c, m, CHANNEL_SHORT),
						      c->window_quantum[m][0],
						      model_common_rise(p, c, m, CHANNEL_SHORT));
		if (score > 0) {
			*outside = true;
			model_add_finding(f, m * CHANNEL_N + CHANNEL_DOWN, m, score, ms->short_mean, ms->mean);
		}
	}
}

void model_learn_mark(float *mark, uint16_t *pending, float value, float mean, float floor, float rate)
{
	if (value > *mark) {
		*pending = MAX(*pending, pack(value));
		*mark = MIN(value, *mark * (1 + rate) + floor * rate);
		return;
	}
	*mark = MAX(*mark - (*mark - MIN(mean, *mark)) * (1 / FADE_TICKS), unpack(*pending));
	*pending = 0;
}

static void learn_low(struct metric_state *ms, float floor, float rate)
{
	if (ms->short_mean < ms->low) {
		uint16_t reached = MAX(pack(ms->short_mean), (uint16_t)1);

		ms->pending_low = ms->pending_low ? MIN(ms->pending_low, reached) : reached;
		ms->low = MAX(ms->short_mean, ms->low * (1 - rate) - floor * rate);
		return;
	}
	ms->low += (ms->mean - MIN(ms->low, ms->mean)) * (1 / FADE_TICKS);
	if (ms->pending_low)
		ms->low = MIN(ms->low, unpack(ms->pending_low));
	ms->pending_low = 0;
}

static void learn_marks(struct metric_state *ms, const struct tick_context *c, unsigned m, uint32_t age,
			float x)
{
	float young = MIN(YOUNG_GROWTH / (float)(ms->active + 1), 1.0f);

	model_learn_mark(&ms->peak[CHANNEL_TICK], &ms->pending[CHANNEL_TICK], x, ms->mean, c->floor[m],
		   MAX(model_growth[CHANNEL_TICK], young));
	model_learn_mark(&ms->peak[CHANNEL_SHORT], &ms->pending[CHANNEL_SHORT], ms->short_mean, ms->mean,
		   window_floor(c, m, CHANNEL_SHORT), MAX(model_growth[CHANNEL_SHORT], young));
	model_learn_mark(&ms->peak[CHANNEL_LONG], &ms->pending[CHANNEL_LONG], ms->long_mean, ms->mean,
		   window_floor(c, m, CHANNEL_LONG), MAX(model_growth[CHANNEL_LONG], young));
	if (age < ACTIVE_MIN)
		ms->low = MIN(ms->short_mean, ms->mean);
	else
		learn_low(ms, window_floor(c, m, CHANNEL_SHORT), MAX(LOW_FALL, young));
}

/* The windows move before the scoring (they are what is scored), the mean and the marks after it. */
static void move_windows(struct metric_state *ms, float x)
{
	ms->short_mean += (x - ms->short_mean) / SHORT_TICKS;
	ms->long_mean += (x - ms->long_mean) / LONG_TICKS;
}

static void move_mean(struct metric_state *ms, float rate, float x)
{
	/* What is beyond any mark would drag the mean along. */
	float known = ms->active ? MIN(x, ms->peak[CHANNEL_TICK]) : x;

	ms->mean += (known - ms->mean) * rate;
}

/* ticks of nothing */
static void fade_metrics(struct series_state *s, uint32_t age, uint32_t ticks)
{
	float n = (float)ticks, short_f = expf(-n / SHORT_TICKS), long_f = expf(-n / LONG_TICKS);
	float mean_f = (float)age < MEAN_TICKS ? (float)(age - MIN(ticks, age - 1)) / (float)age
					       : expf(-n / MEAN_TICKS);

	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		struct metric_state *ms = &s->metrics[m];

		/* A wait that goes on unchanged is not visited, and is not nothing. */
		if (!ms->active || (m == METRIC_BLOCKED && s->held))
			continue;
		ms->short_mean *= short_f;
		ms->long_mean *= long_f;
		ms->mean *= mean_f;
		/* What falls silent at times can't surprise by falling. */
		ms->low = MIN(ms->low, ms->short_mean);
	}
}

void model_fade_silence(struct series_state *s, uint32_t tick, float usual)
{
	for (uint32_t hour = s->seen / SILENCE_FADE_TICKS; hour < tick / SILENCE_FADE_TICKS && (float)s->gap_max > usual; hour++) {
		/* By a tick a day at least, where that is none in an hour. */
		uint32_t by = (uint32_t)(((float)s->gap_max - usual) / SILENCE_FADES) + (hour % (uint32_t)SILENCE_FADES == 0);

		s->gap_max -= MIN(by, s->gap_max);
	}
}

float model_ticks_then(const struct tick_context *c, struct series_state *s)
{
	const struct tick_length *then = c->lengths;

	if (!then || s->seen >= then->from)
		return 1;
	while (then + 1 < c->lengths + TICK_LENGTHS && then[1].seconds > 0 && s->seen < then->from)
		then++;
	s->seen = c->lengths->from;
	return then->seconds / c->lengths->seconds;
}

/* A silence longer than any before: measured by how long the series was regular, against what else has
 * fallen silent. */
static void score_silence(const struct tick_context *c, struct series_state *s, uint32_t gap,
			  struct findings *f)
{
	float n = 0, weight = 0, expected = 0;
	unsigned most = 0;

	if (c->other_length || s->silence_stage >= ELEMENTS_OF(silences) || gap < silences[s->silence_stage])
		return;
	s->silence_stage++;
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		const struct metric_state *ms = &s->metrics[m];
		float samples = ms->mean / c->quantum[m];

		n = MAX(n, (float)ms->active);
		if (ms->active && samples > weight) {
			most = m;
			weight = samples;
			expected = ms->mean;
		}
	}
	if (n < ACTIVE_MIN || gap <= 2 * s->gap_max || weight * (float)gap < SILENCE_MISSING)
		return;
	s->silence_stage = ELEMENTS_OF(silences);
	f->tests[FAMILY_VANISHED]++;
	n = c->trust * c->activity * c->activity * n / (float)(1 + s->gap_max);
	model_add_finding(f, FAMILY_VANISHED, most, n, 0, expected);
}

/* What all series do more of while it is young is no property of the new one. */
static void score_birth(const struct population *p, const struct tick_context *c, struct series_state *s, uint32_t age,
			struct findings *f)
{
	unsigned stage = s->birth_stage;

	if (stage >= BIRTH_CHANNELS || age < milestones[stage].age)
		return;
	s->birth_stage++;
	/* One that came to that age while it was silent for long does not weigh what it does now for all that time. */
	if (s->born < BIRTHS_FROM_TICK || age >= 2u * milestones[stage].age)
		return;
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		const struct metric_state *ms = &s->metrics[m];
		float common = expf(MAX(model_common_rise(p, c, m, milestones[stage].window), 0.0f));
		/* Not the mean, which the marks hold back while they are young. */
		float rate = stage == 0 ? ms->short_mean / (1 - expf(-(float)age / SHORT_TICKS)) : ms->long_mean / (1 - expf(-(float)age / LONG_TICKS));

		if (!ms->active)
			continue;
		f->tests[m * CHANNEL_N + CHANNEL_BIRTH + stage]++;
		model_add_finding(f, m * CHANNEL_N + CHANNEL_BIRTH + stage, m,
			    c->trust * rate * (float)age / (c->floor[m] * common), rate, 0);
	}
}

static void move_common(struct population *p, const struct tick_context *c, unsigned m,
			const struct metric_state *ms, float x)
{
	float ratio = logf((x + c->floor[m]) / (ms->mean + c->floor[m])) - p->common[m];

	p->common[m] += MAX(MIN(ratio, c->common_step), -c->common_step);
}

/* A running quarter quantile of what is not zero, on a log scale: mostly the weight of one sample. */
static void move_quantum(struct population *p, const struct tick_context *c, unsigned m, float x)
{
	float *q = &p->quantum[m][c->gate_open], lx = logf(x);
	uint32_t n = ++p->quantum_n[m][c->gate_open];
	float step = MAX(2.0f / ((float)n + 1), 0.01f);

	if (n == 1)
		*q = lx;
	else
		*q += lx < *q ? -0.75f * step : 0.25f * step;
	if (n == UINT32_MAX)
		p->quantum_n[m][c->gate_open] = n / 2;
}

/* Two levels an octave from S_PLAIN on. An excursion is one event however long it lasts: only each new
 * height is learnt. */
bool model_new_height(struct series_state *s, const struct finding *f)
{
	unsigned channel = family_channel(f->family), level, old;
	uint16_t *learnt = &s->metrics[f->metric].learnt;

	/* A silence is one event, as long as it has got. */
	if (f->family == FAMILY_UNIT_SILENT)
		return model_is_over(f);
	/* When it is over. */
	if (f->family == FAMILY_GROWTH)
		return false;
	if (family_is_birth_or_death(f->family))
		return true;
	level = f->s < S_PLAIN ? 1 : 1 + (unsigned)MIN(2 * log2f(f->s / S_PLAIN) + 1, 6.0f);
	old = *learnt >> (3 * channel) & 7;
	if (level <= old)
		return false;
	*learnt = (uint16_t)((*learnt & ~(7u << (3 * channel))) | level << (3 * channel));
	return true;
}

/* The caller's memory may come from anywhere: what can't be is new. Gives false for what is. */
bool model_check_state(uint32_t tick, struct series_state *s)
{
	float sum = s->told_level;

	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		const struct metric_state *ms = &s->metrics[m];

		sum += ms->short_mean + ms->long_mean + ms->mean + ms->peak[0] + ms->peak[1] + ms->peak[2] +
		       ms->low;
	}
	if (s->tag == SERIES_TAG && s->born <= tick && s->seen <= tick && s->seen >= s->born &&
	    s->told <= tick && s->excursion <= tick && isfinite(sum))
		return true;
	*s = (struct series_state){ .tag = SERIES_TAG, .born = tick, .seen = tick };
	return false;
}

void model_end_visit(const struct tick_context *c, struct series_state *s, bool outside)
{
	s->told_level -= s->told_level / FADE_TICKS;
	if (!outside) {
		s->excursion = 0;
		for (unsigned m = 0; m < SCORED_METRICS; m++)
			s->metrics[m].learnt = 0;
	} else if (!s->excursion)
		s->excursion = c->tick;
}

const uint64_t *model_possible(const struct tick_context *c, const struct series_state *s, const uint64_t values[static METRIC_N],
			       uint64_t room[static METRIC_N])
{
	bool all = true;

	for (unsigned m = 0; m < METRIC_N; m++)
		all &= values[m] <= c->most[m];
	if (all)
		return values;
	for (unsigned m = 0; m < METRIC_N; m++) {
		float usual = m < SCORED_METRICS ? s->metrics[m].mean * c->seconds : 0;

		room[m] = values[m] <= c->most[m] ? values[m] : (uint64_t)MIN(MAX(usual, 0.0f), (float)(c->most[m] / 2));
	}
	if (values[METRIC_ON_CPU] != room[METRIC_ON_CPU])
		room[METRIC_HITS] = 0;
	return room;
}

bool model_visit(struct population *p, const struct tick_context *c, struct stack_series *t,
		 const uint64_t values[static METRIC_N], uint32_t silent_ticks, struct findings *f)
{
	struct series_state *s = &t->state;
	uint32_t age, gap;
	bool active = false, outside = false;
	float known = 0, mean_rate, then;
	uint64_t room[METRIC_N];

	f->n = 0;
	model_check_state(c->tick, s);
	values = model_possible(c, s, values, room);
	then = model_ticks_then(c, s);
	if (then != 1)
		s->gap_max = (uint32_t)MIN((float)s->gap_max * then + 0.5f, (float)SILENCE_MOST);
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		active |= values[m] > 0;
		known = MAX(known, (float)s->metrics[m].active);
	}
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
		score_birth(p, c, s, age, f);
		return false;
	}
	model_prepare_sums(t, c->tick);
	model_fade_silence(s, c->tick, 0);
	if (gap > 1 && !c->other_length && c->activity >= SILENCE_ACTIVITY)
		s->gap_max = MAX(s->gap_max, gap);
	s->seen = c->tick;
	s->silence_stage = 0;
	s->held = values[METRIC_BLOCKED] > 0;

	mean_rate = 1 / MIN((float)age, MEAN_TICKS);
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		struct metric_state *ms = &s->metrics[m];
		float x = (float)values[m] / c->seconds, quantum = c->quantum[m];

		if (values[m] == 0 && !ms->active)
			continue;
		if (m == METRIC_ON_CPU && values[METRIC_HITS] > 0 && values[m] > 0)
			quantum = x / (float)values[METRIC_HITS];
		if (model_is_summed(m, c))
			model_score_sum(p, c, t, m, x, quantum, gap - 1, f, &outside);
		move_windows(ms, x);
		if (known > 0)
			score_metric(p, c, ms, m, known, x, quantum, f, &outside);
		if (values[m] > 0) {
			move_common(p, c, m, ms, x);
			move_quantum(p, c, m, x);
			ms->active += ms->active < UINT16_MAX;
		}
		move_mean(ms, mean_rate, x);
		learn_marks(ms, c, m, age, x);
	}
	score_birth(p, c, s, age, f);
	model_end_visit(c, s, outside);
	return true;
}

uint32_t model_age(const struct tick_context *c, const struct series_state *s)
{
	return s->tag == SERIES_TAG && s->born <= c->tick ? c->tick - s->born : 0;
}

/* The part of the window for which a stack has been watched that was there when the detector began; of others all, in which they had nothing at
 * first. */
static float watched_part(const struct tick_context *c, const struct series_state *s)
{
	uint32_t age = c->tick - s->born;

	return s->born <= START_TICKS && age > 0 && age < 4 * (uint32_t)LONG_TICKS ? 1 - expf(-(float)age / LONG_TICKS) : 1;
}

float model_wait_rise(const struct tick_context *c, const struct series_state *s, uint64_t blocked, uint32_t silent_ticks)
{
	const struct metric_state *ms = &s->metrics[METRIC_BLOCKED];
	float now = (float)blocked / c->seconds, usual = 0;

	/* A wait that goes on unchanged is not visited, and is not nothing. */
	if (s->tag == SERIES_TAG && ms->active)
		usual = (s->held ? ms->long_mean : ms->long_mean * expf(-(float)silent_ticks / LONG_TICKS)) / watched_part(c, s);
	/* Nor does its mean over the window move then. */
	if (s->held && s->born <= START_TICKS)
		usual = MAX(usual, ms->mean);
	return isfinite(usual) ? now - usual : 0;
}

float model_wait_beyond(const struct tick_context *c, const struct series_state *s, uint64_t blocked)
{
	const struct metric_state *ms = &s->metrics[METRIC_BLOCKED];
	bool known = s->tag == SERIES_TAG && ms->active >= (s->born <= START_TICKS ? START_ACTIVE_MIN : ACTIVE_MIN);

	return MAX((float)blocked / c->seconds - (known ? ms->peak[CHANNEL_TICK] : 0), 0.0f);
}
