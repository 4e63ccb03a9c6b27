/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "calibrate.h"

#define GLOBAL_TAG 0x7364676c00000001ULL /* layout 1 */

/* No further alarm of a series so soon, whatever the metric, unless it escalates. */
#define REFRACTORY_TICKS 600
/* Escalation: so many times the level that was told. */
#define ESCALATION_LEVEL 4.0f
/* While alarms come fast, each further one must be that much less probable; the memory of that, in ticks.
 * The same holds for alarms of one family within a day: a family that is calibrated wrongly silences
 * itself. */
#define RECENT_TICKS 60.0

#define SLOW_TICKS 3600.0   /* global rates and baselines */
#define FORGET_EVERY 3600   /* ticks between decays of the calibration ... */
#define FORGET_FACTOR 0.985 /* ... to a half-life of 46 hours */
#define COMMON_STEP 0.1f    /* ln units a series; 20 series in step move it by a factor of seven */
#define COMMON_SERIES 64.0f /* fewer live series move it less: one of few is no common mode */
/* A tick outside these bounds, or so many times as long or short as usual, is a gap (suspend, a clock
 * set), not a measurement. */
#define TICK_MIN_SECONDS 0.01
#define TICK_MAX_SECONDS 60.0
#define TICK_FACTOR 10.0
#define SECONDS_PER_DAY 86400.0

struct detect {
	struct detect_config config;
	struct global_state *g;
	struct detect_tick tick;
	struct tick_context context;
	bool scoring;  /* this tick is a measurement */
	uint32_t live; /* series that were not silent in this tick */
	struct findings findings;
	struct tail tails[FAMILIES];
};

static const char *const type_names[DETECT_TYPE_N] = {
	[DETECT_SPIKE] = "spike",
	[DETECT_DROP] = "drop",
	[DETECT_LEVEL_SHIFT] = "level-shift",
	[DETECT_NEW_STACK] = "new-stack",
	[DETECT_VANISHED_STACK] = "vanished-stack",
};

const char *detect_type_to_string(enum detect_type t)
{
	return (unsigned)t < DETECT_TYPE_N ? type_names[t] : NULL;
}

int detect_type_from_string(const char *s, enum detect_type *ret)
{
	for (unsigned t = 0; t < DETECT_TYPE_N; t++)
		if (streq(s, type_names[t])) {
			*ret = (enum detect_type)t;
			return 0;
		}
	return -EINVAL;
}

size_t detect_series_state_size(void)
{
	return sizeof(struct series_state);
}

size_t detect_global_state_size(void)
{
	return sizeof(struct global_state);
}

static bool global_valid(const struct global_state *g)
{
	double sum = g->tick_s + g->recent_alarms + g->live + g->live_slow;

	if (g->tag != GLOBAL_TAG)
		return false;
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		sum += (double)(g->floor[m] + g->common[m]);
		for (unsigned i = 0; i < 2; i++)
			sum += (double)(g->quantum[m][i] + g->window_quantum[m][i] + g->common_base[m][i] +
					g->common_window[m][i]);
	}
	for (unsigned f = 0; f < FAMILIES; f++) {
		const struct family_state *family = &g->families[f];

		sum += family->n[0] + family->n[1] + family->per_tick + family->told + family->recent;
		for (unsigned b = 0; b < BINS; b++) {
			if (family->bins[0][b] < 0 || family->bins[1][b] < 0)
				return false;
			sum += family->bins[0][b] + family->bins[1][b];
		}
	}
	return isfinite(sum);
}

int detect_new(struct detect **ret, const struct detect_config *config, void *global)
{
	struct detect *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->g = global;
	d->config = *config;
	if (!global_valid(d->g))
		*d->g = (struct global_state){ .tag = GLOBAL_TAG };
	*ret = d;
	return 0;
}

struct detect *detect_free(struct detect *d)
{
	free(d);
	return NULL;
}

void detect_reconfigure(struct detect *d, const struct detect_config *config)
{
	d->config = *config;
}

static double tests_per_day(const struct detect *d, unsigned family)
{
	return d->g->families[family].per_tick * SECONDS_PER_DAY / MAX(d->g->tick_s, 1e-3);
}

static void prepare_tails(struct detect *d)
{
	for (unsigned f = 0; f < FAMILIES; f++)
		calibrate_prepare(&d->tails[f], &d->g->families[f], d->tick.gate_open,
				  calibrate_alpha(f, d->config.false_alarms_per_day, tests_per_day(d, f)));
}

static void prepare_context(struct detect *d)
{
	const struct global_state *g = d->g;
	bool gate = d->tick.gate_open;
	double lost = d->tick.lost_fraction;

	lost = isfinite(lost) ? MAX(MIN(lost, 1.0), 0.0) : 1;
	d->context = (struct tick_context){
		.tick = g->tick,
		.gate_open = gate,
		.seconds = (float)d->tick.duration_ns / (float)NSEC_PER_SEC,
		.trust = (float)((1 - lost) * (1 - lost)),
		.activity = g->live_slow > 0 ? (float)MIN(g->live / g->live_slow, 1.0) : 0,
		.common_step = COMMON_STEP * MIN((float)g->live_slow / COMMON_SERIES, 1.0f),
	};
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		/* a gate state that has not been seen yet: the other's */
		float q = g->quantum_n[m][gate]    ? g->quantum[m][gate]
			  : g->quantum_n[m][!gate] ? g->quantum[m][!gate]
						   : 0;

		d->context.quantum[m] = expf(q);
		d->context.floor[m] = expf(g->floor[m]);
		d->context.window_quantum[m][0] = expf(g->window_quantum[m][0]) / 15;
		d->context.window_quantum[m][1] = expf(g->window_quantum[m][1]) / 127;
	}
}

void detect_tick_begin(struct detect *d, const struct detect_tick *tick)
{
	struct global_state *g = d->g;
	double seconds = (double)tick->duration_ns / (double)NSEC_PER_SEC;

	d->tick = *tick;
	d->live = 0;
	memset(d->findings.tests, 0, sizeof(d->findings.tests));
	d->scoring =
		seconds >= TICK_MIN_SECONDS && seconds <= TICK_MAX_SECONDS &&
		(g->tick < 3 || (seconds < TICK_FACTOR * g->tick_s && seconds > g->tick_s / TICK_FACTOR));
	if (!d->scoring)
		return;
	g->tick++;
	if (g->gate_ticks[tick->gate_open]++ == 0)
		for (unsigned m = 0; m < SCORED_METRICS; m++)
			g->common_base[m][tick->gate_open] = g->common_base[m][!tick->gate_open];
	prepare_context(d);
	prepare_tails(d);
}

static enum detect_type finding_type(const struct finding *f)
{
	static const enum detect_type types[CHANNEL_N] = {
		[CHANNEL_TICK] = DETECT_SPIKE,       [CHANNEL_SHORT] = DETECT_SPIKE,
		[CHANNEL_LONG] = DETECT_LEVEL_SHIFT, [CHANNEL_DOWN] = DETECT_DROP,
		[CHANNEL_BIRTH] = DETECT_NEW_STACK,
	};

	return f->family == FAMILY_VANISHED ? DETECT_VANISHED_STACK : types[f->family % CHANNEL_N];
}

/* What has been told is no news for a while, and the same level of the same metric not for long. */
static bool is_known(const struct series_state *s, const struct finding *f, uint32_t tick)
{
	bool escalated = f->metric == s->told_metric && f->observed > ESCALATION_LEVEL * s->told_level;

	if (!s->told || escalated)
		return false;
	return tick - s->told < REFRACTORY_TICKS ||
	       (f->metric == s->told_metric && f->observed > f->expected);
}

static bool is_birth_or_death(unsigned family)
{
	return family == FAMILY_VANISHED || family % CHANNEL_N == CHANNEL_BIRTH;
}

static uint64_t since_us(const struct detect *d, const struct series_state *s)
{
	uint32_t from = s->excursion ? s->excursion : d->g->tick;
	uint64_t before = (uint64_t)((double)(d->g->tick - from) * d->g->tick_s * (double)USEC_PER_SEC) +
			  d->tick.duration_ns / NSEC_PER_USEC;

	return d->tick.time_us > before ? d->tick.time_us - before : 0;
}

static bool tell(struct detect *d, struct series_state *s, const struct finding *f, double p,
		 struct detect_result *ret)
{
	struct global_state *g = d->g;
	struct family_state *family = &g->families[f->family];
	double recent = 1 + g->recent_alarms, spent = recent * recent * (1 + family->told);

	if (p * spent > d->tails[f->family].alpha || is_known(s, f, g->tick)) {
		g->suppressed++;
		return false;
	}
	g->alarms++;
	g->recent_alarms++;
	family->told++;
	s->told = g->tick;
	s->told_metric = (uint8_t)f->metric;
	s->told_level = MAX(f->observed, f->expected);
	*ret = (struct detect_result){
		.type = finding_type(f),
		.metric = f->metric,
		.p_value = p,
		.score = -log10(p),
		.observed = (double)f->observed,
		.expected = (double)f->expected,
		.since_us = since_us(d, s),
	};
	return true;
}

bool detect_series(struct detect *d, void *state, const uint64_t values[static METRIC_N],
		   uint32_t silent_ticks, struct detect_result *ret)
{
	struct series_state *s = state;
	struct findings *found = &d->findings;
	const struct finding *best = NULL;
	double best_p = 1;

	if (!d->scoring)
		return false;
	d->live += model_visit(d->g, &d->context, s, values, silent_ticks, found);
	for (size_t i = 0; i < found->n; i++) {
		const struct finding *f = &found->all[i];
		const struct tail *t = &d->tails[f->family];
		bool beyond = (double)f->s >= t->critical;

		/* An excursion that was told is one event, and its height no measure of what is normal: a
		 * score beyond what is told counts as one that just is. If such come too often, that alone
		 * moves the threshold. */
		if (!is_known(s, f, d->g->tick) && model_new_height(s, f))
			calibrate_learn(&d->g->families[f->family], d->tick.gate_open, t,
					!is_birth_or_death(f->family), beyond ? (float)t->critical : f->s);
		if (beyond) {
			double p = calibrate_p(t, (double)f->s);

			if (!best || p < best_p) {
				best = f;
				best_p = p;
			}
		}
	}
	return best && tell(d, s, best, best_p, ret);
}

/* Tests inside the marks are counted together; those outside went in one by one. */
static void count_tests(struct detect *d)
{
	struct global_state *g = d->g;
	double step = 1 / MIN((double)g->tick, SLOW_TICKS);

	for (unsigned f = 0; f < FAMILIES; f++) {
		struct family_state *family = &g->families[f];
		double n = d->findings.tests[f];

		g->scored += d->findings.tests[f];
		family->n[d->tick.gate_open] += n;
		family->per_tick += (n - family->per_tick) * step;
		family->told -= family->told * g->tick_s / SECONDS_PER_DAY;
		family->recent -= family->recent / RECENT_TICKS;
	}
	if (g->tick % FORGET_EVERY == 0)
		for (unsigned f = 0; f < FAMILIES; f++)
			calibrate_forget(&g->families[f], FORGET_FACTOR);
}

void detect_tick_end(struct detect *d)
{
	struct global_state *g = d->g;
	bool gate = d->tick.gate_open;
	float slow = 1 / (float)MIN((double)g->tick, SLOW_TICKS);

	if (!d->scoring)
		return;
	count_tests(d);
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		float common, gate_slow = 1 / (float)MIN((double)g->gate_ticks[gate], SLOW_TICKS);

		if (g->quantum_n[m][gate]) {
			g->floor[m] += (g->quantum[m][gate] - g->floor[m]) * slow;
			g->window_quantum[m][0] +=
				(g->quantum[m][gate] - g->window_quantum[m][0]) / MIN((float)g->tick, 8.0f);
			g->window_quantum[m][1] +=
				(g->quantum[m][gate] - g->window_quantum[m][1]) / MIN((float)g->tick, 64.0f);
		}
		common = g->common[m] - g->common_base[m][gate];
		g->common_window[m][0] += (expm1f(common) - g->common_window[m][0]) / 8;
		g->common_window[m][1] += (expm1f(common) - g->common_window[m][1]) / 64;
		g->common_base[m][gate] += common * gate_slow;
	}
	g->live += (d->live - g->live) / 8;
	g->live_slow += (d->live - g->live_slow) * (double)slow;
	g->tick_s += (d->context.seconds - g->tick_s) * (double)slow;
	g->recent_alarms -= g->recent_alarms / RECENT_TICKS;
}

void detect_get_status(const struct detect *d, struct detect_status *ret)
{
	double alpha = 1, tests = 0;

	for (unsigned f = 0; f < FAMILIES; f++) {
		double per_day = tests_per_day(d, f),
		       a = calibrate_alpha(f, d->config.false_alarms_per_day, per_day);

		tests += per_day;
		if (per_day > 0)
			alpha = MIN(alpha, a);
	}
	*ret = (struct detect_status){
		.scored = d->g->scored,
		.alarms = d->g->alarms,
		.suppressed = d->g->suppressed,
		.threshold = -log10(alpha),
		.tests_per_day = tests,
	};
}
