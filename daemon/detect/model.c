/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "model.h"

#define SERIES_TAG 0x73640001u /* layout 1 */

#define SHORT_TICKS 8.0f
#define LONG_TICKS 64.0f
#define MEAN_TICKS 4096.0f
static const float window_ticks[CHANNELS_UP] = { 1, SHORT_TICKS, LONG_TICKS };
/* Marks fall back to the mean in a day of visits: the daily peak is known the next day. */
#define FADE_TICKS 86400.0f
/* How much a mark may grow in a tick: what lasts is learnt in a minute or two (tick), some minutes
 * (short), half an hour (long); what happened once is not yet normal. A young series learns at once. */
static const float growth[CHANNELS_UP] = { 1.0f / 16, 1.0f / 64, 1.0f / 512 };
#define YOUNG_GROWTH 4.0f /* divided by the number of active ticks */
#define LOW_FALL (1.0f / 32)

/* ln(mark / mean) is taken for at least this: marks of a constant series are where the next jitter is. */
#define SPREAD_MIN 0.15f
#define SPREAD_YOUNG 1.5f
#define SPREAD_YOUNG_TICKS 64.0f
/* The effective samples in a mean with 1/n forgetting: 2n - 1. */
#define SHORT_SAMPLES 15.0f
#define LONG_SAMPLES 127.0f
/* Below this a score is never told, and what samples can carry need not be asked. */
#define S_PLAIN 6.0f

#define SAMPLES_MIN (1.0f / 64) /* so many are expected of anything */
#define LIGHT_TICKS 256         /* so many active ticks before a light tail is half believed */

#define ACTIVE_MIN 32 /* active ticks before a fall means anything */
/* A silence is tested at these lengths, within the minute for which a silent series is visited ... */
static const uint8_t silences[] = { 8, 20, 55 };
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

/* A quarter of the time for which totals keep something up. */
static const unsigned quarter_ticks[CHANNELS_UP] = { 1, 4, 16 };
/* Totals differ by so much, as ln, from one use of a program to the other ... */
#define TOTAL_SPREAD 1.0f
/* ... and by no more as time goes on: else the first run of every program would be news, the longer the more. */
#define TOTAL_AGE 64.0f
/* A unit is steady when it does something in so large a part of some quarter of an hour's ticks. It is known well
 * enough to be measured by itself: a third of what is little to the machine is little to it. */
#define STEADY_PART 0.9f
#define STEADY_TICKS 1024.0f
#define STEADY_AGE 256
#define STEADY_FLOOR 0.3f
#define FAR 4.0f /* times the mean */
#define RISEN 4.0f /* times the mean, or more: what rose */
#define BACK_TICKS 3u
/* What the detector finds in its first ticks was there before, and is not new. */
#define START_TICKS 16u
#define START_ACTIVE_MIN 4 /* of such a stack, before its marks are believed: else what it does now and then would be its unit's mark */
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

static void add_finding(struct findings *f, unsigned family, enum metric metric, float s, float observed,
			float expected)
{
	f->all[f->n++] = (struct finding){ .family = (uint8_t)family,
					   .metric = metric,
					   .s = s,
					   .observed = observed,
					   .expected = expected };
}

/* The part of a rise that all series share, as ln. A window's is the mean of the factors, as its value is
 * the mean of the values. */
static float common_rise(const struct population *p, const struct tick_context *c, unsigned m,
			 unsigned channel)
{
	float now = p->common[m] - p->common_base[m][c->gate_open], before;

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
		score = score_up(ms, is_counted(m), n / window_ticks[ch], value, mark, floor, q, common_rise(p, c, m, ch));
		if (score > 0)
			add_finding(f, m * CHANNEL_N + ch, m, score, value, ms->mean);
	}
	if (ms->active >= ACTIVE_MIN && c->trust > 0.25f) {
		float score = 0;

		f->tests[m * CHANNEL_N + CHANNEL_DOWN]++;
		if (ms->short_mean < ms->low)
			score = c->trust * score_down(ms, window_floor(c, m, CHANNEL_SHORT),
						      c->window_quantum[m][0],
						      common_rise(p, c, m, CHANNEL_SHORT));
		if (score > 0) {
			*outside = true;
			add_finding(f, m * CHANNEL_N + CHANNEL_DOWN, m, score, ms->short_mean, ms->mean);
		}
	}
}

/* The upper half of a float, rounded away from zero. */
static uint16_t pack(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return (uint16_t)MIN((bits + 0xffff) >> 16, 0x7f7fu);
}

static float unpack(uint16_t packed)
{
	uint32_t bits = (uint32_t)packed << 16;
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static void learn_mark(float *mark, uint16_t *pending, float value, float mean, float floor, float rate)
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

	learn_mark(&ms->peak[CHANNEL_TICK], &ms->pending[CHANNEL_TICK], x, ms->mean, c->floor[m],
		   MAX(growth[CHANNEL_TICK], young));
	learn_mark(&ms->peak[CHANNEL_SHORT], &ms->pending[CHANNEL_SHORT], ms->short_mean, ms->mean,
		   window_floor(c, m, CHANNEL_SHORT), MAX(growth[CHANNEL_SHORT], young));
	learn_mark(&ms->peak[CHANNEL_LONG], &ms->pending[CHANNEL_LONG], ms->long_mean, ms->mean,
		   window_floor(c, m, CHANNEL_LONG), MAX(growth[CHANNEL_LONG], young));
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

/* A silence longer than any before: measured by how long the series was regular, against what else has
 * fallen silent. */
static void score_silence(const struct tick_context *c, struct series_state *s, uint32_t gap,
			  struct findings *f)
{
	float n = 0, weight = 0, expected = 0;
	unsigned most = 0;

	if (s->silence_stage >= ELEMENTS_OF(silences) || gap < silences[s->silence_stage])
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
	add_finding(f, FAMILY_VANISHED, most, n, 0, expected);
}

/* What all series do more of while it is young is no property of the new one. */
static void score_birth(const struct population *p, const struct tick_context *c, struct series_state *s, uint32_t age,
			struct findings *f)
{
	unsigned stage = s->birth_stage;

	if (stage >= BIRTH_CHANNELS || age < milestones[stage].age)
		return;
	s->birth_stage++;
	if (s->born < BIRTHS_FROM_TICK)
		return;
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		const struct metric_state *ms = &s->metrics[m];
		float common = expf(MAX(common_rise(p, c, m, milestones[stage].window), 0.0f));
		/* Not the mean, which the marks hold back while they are young. */
		float rate = stage == 0 ? ms->short_mean / (1 - expf(-(float)age / SHORT_TICKS)) : ms->long_mean / (1 - expf(-(float)age / LONG_TICKS));

		if (!ms->active)
			continue;
		f->tests[m * CHANNEL_N + CHANNEL_BIRTH + stage]++;
		add_finding(f, m * CHANNEL_N + CHANNEL_BIRTH + stage, m,
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
	float step = MAX(2.0f / (float)(n + 1), 0.01f);

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
	level = f->s < S_PLAIN ? 1 : 1 + (unsigned)MIN(2 * log2f(f->s / S_PLAIN) + 1, 14.0f);
	old = *learnt >> (4 * channel) & 15;
	if (level <= old)
		return false;
	*learnt = (uint16_t)((*learnt & ~(15u << (4 * channel))) | level << (4 * channel));
	return true;
}

/* The caller's memory may come from anywhere: what can't be is new. Gives false for what is. */
static bool check_state(uint32_t tick, struct series_state *s)
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

static void end_visit(const struct tick_context *c, struct series_state *s, bool outside)
{
	s->told_level -= s->told_level / FADE_TICKS;
	if (!outside) {
		s->excursion = 0;
		for (unsigned m = 0; m < SCORED_METRICS; m++)
			s->metrics[m].learnt = 0;
	} else if (!s->excursion)
		s->excursion = c->tick;
}

bool model_visit(struct population *p, const struct tick_context *c, struct series_state *s,
		 const uint64_t values[static METRIC_N], uint32_t silent_ticks, struct findings *f)
{
	uint32_t age, gap;
	bool active = false, outside = false;
	float known = 0, mean_rate;

	f->n = 0;
	check_state(c->tick, s);
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
	if (gap > 1)
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
	end_visit(c, s, outside);
	return true;
}

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
		add_finding(f, family, m, score, least, ms->mean);
	return least > mark;
}

static bool score_window(const struct population *p, const struct tick_context *c, const struct metric_state *ms,
			 const struct total_window *w, unsigned m, unsigned ch, uint32_t age, struct findings *f)
{
	bool steady = is_steady(ms, m, ch, age), outside = false;
	float floor = c->floor[m] * (steady ? STEADY_FLOOR : 1), common = common_rise(p, c, m, ch);
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
			add_finding(f, family, METRIC_ON_CPU, score, most, ms->mean);
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
	float young = MIN(YOUNG_GROWTH / (float)age, 1.0f), rate = MAX(growth[ch], young);
	float least = w->quarters[0], most = w->quarters[0];

	for (unsigned i = 1; i < QUARTERS; i++) {
		least = MIN(least, w->quarters[i]);
		most = MAX(most, w->quarters[i]);
	}
	learn_mark(&ms->peak[ch], &ms->pending[ch], least, ms->mean, c->floor[m], rate);
	if (age < ACTIVE_MIN)
		w->low = MIN(most, ms->mean);
	else if (most < w->low)
		w->low = MAX(most, w->low * (1 - rate) - c->floor[m] * STEADY_FLOOR * rate);
	else
		w->low += (ms->mean - MIN(w->low, ms->mean)) * (1 / FADE_TICKS);
}

/* s of a silence that is longer than any was, in terms of how much they differ. */
static float silence_score(const struct total_series *t, uint32_t gap)
{
	float spread = SILENCE_SPREAD + t->gap_mean * (SILENCE_SLACK + 1 / (1 + (float)t->times / SILENCE_YOUNG));
	float longest = (float)t->state.gap_max - t->gap_mean;

	if (t->times < SILENCE_TIMES || gap <= t->state.gap_max)
		return 0;
	return logf((float)t->times + 1) * ((float)gap - t->gap_mean) / MAX(longest, spread);
}

/* A unit that stays away. */
static void score_unit_silence(const struct tick_context *c, struct total_series *t, struct findings *f)
{
	struct series_state *s = &t->state;
	uint32_t gap = c->tick - s->seen;
	float score = silence_score(t, gap), height;

	if (gap > SILENCE_TICKS || score < S_PLAIN)
		return;
	height = 1 + 4 * log2f(score / S_PLAIN);
	if (height < (float)s->silence_stage + 1)
		return;
	s->silence_stage = (uint8_t)MIN(height, (float)UINT8_MAX);
	add_finding(f, FAMILY_UNIT_SILENT, METRIC_ON_CPU, score, 0, s->metrics[METRIC_ON_CPU].mean);
}

/* Each silence that ends is a test, whose score was too low to be one unless there is a finding of it. */
static void note_activity(const struct tick_context *c, struct total_series *t, struct findings *f)
{
	struct series_state *s = &t->state;
	uint32_t gap = c->tick - s->seen;

	if (gap > 1) {
		float score = silence_score(t, MIN(gap, SILENCE_TICKS));

		if (score > 0)
			add_finding(f, FAMILY_UNIT_SILENT, METRIC_ON_CPU, score, 1, s->metrics[METRIC_ON_CPU].mean);
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

/* Nothing is a value like any other. */
void model_visit_total(const struct population *p, const struct tick_context *c, struct total_series *t,
		       const uint64_t values[static METRIC_N], struct findings *f)
{
	struct series_state *s = &t->state;
	uint32_t age;
	bool outside = false;

	f->n = 0;
	if (!check_state(c->tick, s)) {
		memset(t, 0, sizeof(*t));
		check_state(c->tick, s);
		/* What was never seen has used nothing since the beginning. */
		s->born = 1;
	}
	age = c->tick - s->born + 1;
	if (values[METRIC_ON_CPU] > 0)
		note_activity(c, t, f);
	else
		score_unit_silence(c, t, f);
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		struct metric_state *ms = &s->metrics[m];
		uint64_t value = m == METRIC_WANTED ? values[METRIC_ON_CPU] + values[METRIC_RUNNABLE] : values[m];
		float x = (float)value / c->seconds;

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
		ms->low += ((value > 0) - ms->low) / MIN((float)age, STEADY_TICKS);
	}
	for (unsigned ch = 0; ch < MOVED_CHANNELS; ch++)
		outside |= t->moved_windows[ch].outside != 0;
	s->held &= !is_back(c, t);
	end_visit(c, s, outside);
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

float model_total_rise(const struct tick_context *c, const struct series_state *s, unsigned m, uint64_t value)
{
	return logf(((float)value / c->seconds + c->floor[m]) / (s->metrics[m].mean + c->floor[m]));
}

float model_steady_rise(const struct tick_context *c, const struct total_series *t)
{
	const struct metric_state *ms = &t->state.metrics[METRIC_ON_CPU];
	const struct total_window *w = &t->windows[METRIC_ON_CPU][CHANNEL_TICK];
	uint32_t age = c->tick - t->state.born + 1;
	float floor = c->floor[METRIC_ON_CPU] * STEADY_FLOOR, mean = logf(ms->mean + floor), least = w->quarters[0];
	float spread = SPREAD_MIN + SPREAD_YOUNG / (1 + (float)age / SPREAD_YOUNG_TICKS);

	if (age < STEADY_AGE || ms->low <= STEADY_PART)
		return 0;
	for (unsigned i = 1; i < QUARTERS; i++)
		least = MIN(least, w->quarters[i]);
	return score_total(logf(least + floor) - mean, logf(MAX(ms->peak[CHANNEL_TICK], ms->mean) + floor) - mean, spread, (float)age / QUARTERS);
}
