/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "internal.h"

#define GLOBAL_TAG 0x7364676c0000000bULL /* layout 11 */

/* No further alarm of a series so soon, whatever the metric, unless it escalates; nor of a unit, unless it is another trouble. */
#define REFRACTORY_TICKS 600
/* Escalation: so many times the level that was told. */
#define ESCALATION_LEVEL 4.0f
/* Another metric of a unit moves by so much more than that which was told, in terms of what is little to the machine: the word is its. */
#define OTHER_LEVEL 2.0f
/* While alarms come fast, each further one must be that much less probable; the memory of that, in ticks.
 * The same holds for alarms of one family within a day: a family that is calibrated wrongly silences
 * itself. */
#define RECENT_TICKS 60.0

#define SLOW_TICKS 3600.0   /* global rates and baselines */
#define OPEN_SHARE_MIN (1.0 / 48) /* the gate is supposed to be open, and closed, for half an hour a day at least */
#define FORGET_EVERY 3600   /* ticks between decays of the calibration ... */
#define FORGET_FACTOR 0.985 /* ... to a half-life of 46 hours */
#define COMMON_STEP 0.1f    /* ln units a series; 20 series in step move it by a factor of seven */
#define COMMON_SERIES 64.0f /* fewer live series move it less: one of few is no common mode */
/* A tick outside these bounds, or so many times as long or short as usual, is a gap (suspend, a clock
 * set), not a measurement. */
#define TICK_MIN_SECONDS 0.01
#define TICK_MAX_SECONDS 60.0
#define TICK_FACTOR 10.0
#define TICK_CHANGED 5 /* ticks of another length one after the other: that is what is usual now */
#define SECONDS_PER_DAY 86400.0
/* Ticks that are so many times as long, or short, as those that silences are counted in, so many one after the other: silences are counted in these. */
#define LENGTH_FACTOR 1.4f
#define LENGTH_TICKS 8

/* What can't be: counters that run backwards, or over. So many times the CPUs' time, for what is counted late; a fault in 10 ns, a sample in a
 * microsecond, of each CPU; as many threads as Linux has at most. */
#define CPU_TIMES 4.0
#define FAULTS_MOST 1e8
#define SAMPLES_MOST 1e6
#define THREADS_MOST (1 << 22)

static const char *const type_names[DETECT_TYPE_N] = {
	[DETECT_SPIKE] = "spike",
	[DETECT_DROP] = "drop",
	[DETECT_LEVEL_SHIFT] = "level-shift",
	[DETECT_NEW_STACK] = "new-stack",
	[DETECT_VANISHED_STACK] = "vanished-stack",
	[DETECT_SLOW_GROWTH] = "slow-growth",
	[DETECT_COST_SHIFT] = "cost-shift",
	[DETECT_NEW_CODE] = "new-code",
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
	return sizeof(struct stack_series);
}

size_t detect_global_state_size(void)
{
	return sizeof(struct global_state);
}

static double population_sum(const struct population *p)
{
	double sum = 0;

	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		sum += (double)(p->floor[m] + p->common[m]);
		for (unsigned i = 0; i < 2; i++)
			sum += (double)(p->quantum[m][i] + p->window_quantum[m][i] + p->common_base[m][i] +
					p->common_window[m][i]);
	}
	return sum;
}

static bool global_valid(const struct global_state *g)
{
	double sum = g->tick_s + g->open_share + (double)g->total_rise + g->recent_alarms + g->live + g->live_slow;

	if (g->tag != GLOBAL_TAG || g->total_told > g->tick || !streams_valid(&g->streams))
		return false;
	if (!(g->blanks >= 0 && g->blanks <= 1))
		return false;
	for (unsigned i = 0; i < TICK_LENGTHS; i++)
		if (!(g->lengths[i].seconds >= 0 && g->lengths[i].seconds <= TICK_MAX_SECONDS) || g->lengths[i].from > g->tick)
			return false;
	sum += population_sum(&g->stacks) + population_sum(&g->totals);
	for (unsigned f = 0; f < FAMILIES; f++) {
		const struct family_state *family = &g->families[f];

		sum += family->n[0] + family->n[1] + family->per_tick[0] + family->per_tick[1] + family->told + family->recent;
		for (unsigned b = 0; b < BINS; b++) {
			if (family->bins[0][b] < 0 || family->bins[1][b] < 0)
				return false;
			sum += (double)(family->bins[0][b] + family->bins[1][b]);
		}
	}
	return isfinite(sum);
}

int detect_new(struct detect **ret, const struct detect_config *config, void *global)
{
	_cleanup_(detect_freep) struct detect *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	r = map64_new(&d->unit_by_key, TOTALS_MAX);
	if (r < 0)
		return r;
	r = map64_new(&d->shares_by_key, SHARES_UNITS);
	if (r < 0)
		return r;
	d->g = global;
	d->config = *config;
	if (!global_valid(d->g)) {
		memset(d->g, 0, sizeof(*d->g));
		d->g->tag = GLOBAL_TAG;
	}
	totals_load(d);
	functions_load(d);
	*ret = TAKE_PTR(d);
	return 0;
}

struct detect *detect_free(struct detect *d)
{
	if (!d)
		return NULL;
	map64_free(d->unit_by_key);
	map64_free(d->shares_by_key);
	free(d);
	return NULL;
}

void detect_reconfigure(struct detect *d, const struct detect_config *config)
{
	d->config = *config;
}

void detect_set_evidence(struct detect *d, detect_evidence_fn fn, void *userdata)
{
	d->evidence = fn;
	d->evidence_userdata = userdata;
}

void detect_withhold(struct detect *d, const struct detect_result *told)
{
	struct family_state *family = &d->g->families[told->family];

	d->g->alarms--;
	d->g->suppressed++;
	d->g->recent_alarms = MAX(d->g->recent_alarms - 1, 0.0);
	family->told = MAX(family->told - 1, 0.0);
}

void detect_same_trouble(struct detect *d)
{
	d->g->recent_alarms = MAX(d->g->recent_alarms - 1, 0.0);
}

/* Tests in a day, with the gate as it is. The states' shares of the time are what the last hour says, which
 * makes their parts of the budget hold whatever the gate does. */
static double tests_per_day(const struct detect *d, unsigned family, bool gate)
{
	double share = MIN(MAX(d->g->open_share, OPEN_SHARE_MIN), 1 - OPEN_SHARE_MIN);

	return (gate ? share : 1 - share) * d->g->families[family].per_tick[gate && !family_is_total(family)] * SECONDS_PER_DAY /
	       MAX(d->g->tick_s, 1e-3);
}

static double alpha_of(const struct detect *d, unsigned family)
{
	bool gate = d->tick.gate_open;

	return calibrate_alpha(family, gate, d->config.false_alarms_per_day, tests_per_day(d, family, gate));
}

/* Totals are exact whatever the gate does. */
static bool family_gate(const struct detect *d, unsigned family)
{
	return d->tick.gate_open && !family_is_total(family);
}

/* Whoever runs could fault: that a unit did not is known for each time that it ran. */
static double times_measured(const struct detect *d, unsigned family)
{
	unsigned channel, metric;
	double n = 0;

	if (family < FAMILY_TOTALS || family >= family_of_total(TOTAL_STEADY_FALLS, 0, 0))
		return 0;
	channel = (family - FAMILY_TOTALS) % CHANNELS_UP;
	metric = (family - FAMILY_TOTALS) / CHANNELS_UP % SCORED_METRICS;
	if (metric != METRIC_FAULTS_MINOR && metric != METRIC_FAULTS_MAJOR)
		return 0;
	for (enum total_kind kind = TOTAL_RISES; kind <= TOTAL_STEADY_RISES; kind++)
		n += d->g->families[family_of_total(kind, METRIC_ON_CPU, channel)].n[0];
	return n;
}

static void prepare_tails(struct detect *d)
{
	for (unsigned f = 0; f < FAMILIES; f++) {
		struct tail_prior prior = calibrate_prior(f);

		calibrate_prepare(&d->tails[f], &d->g->families[f], family_gate(d, f), &prior, times_measured(d, f), alpha_of(d, f));
		d->tails[f].doubt = calibrate_doubt(tests_per_day(d, f, d->tick.gate_open));
	}
}

static void prepare_most(const struct detect *d, uint64_t most[static METRIC_N])
{
	double seconds = MAX((double)d->tick.duration_ns / (double)NSEC_PER_SEC, d->g->tick_s), cpu_s = d->cpus * seconds;

	memset(most, 0xff, METRIC_N * sizeof(*most));
	most[METRIC_ON_CPU] = (uint64_t)(CPU_TIMES * cpu_s * (double)NSEC_PER_SEC);
	most[METRIC_BLOCKED] = most[METRIC_RUNNABLE] = (uint64_t)(THREADS_MOST * seconds * (double)NSEC_PER_SEC);
	most[METRIC_FAULTS_MINOR] = most[METRIC_FAULTS_MAJOR] = (uint64_t)(FAULTS_MOST * cpu_s);
	most[METRIC_HITS] = (uint64_t)(SAMPLES_MOST * cpu_s);
}

static void prepare_context(struct detect *d)
{
	const struct global_state *g = d->g;
	const struct population *p = &g->stacks;
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
		.lengths = g->lengths,
		.other_length = d->other_ticks > 1,
	};
	prepare_most(d, d->context.most);
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		/* a gate state that has not been seen yet: the other's */
		float q = p->quantum_n[m][gate]    ? p->quantum[m][gate]
			  : p->quantum_n[m][!gate] ? p->quantum[m][!gate]
						   : 0;

		d->context.quantum[m] = expf(q);
		d->context.floor[m] = expf(p->floor[m]);
		d->context.window_quantum[m][0] = expf(p->window_quantum[m][0]) / 15;
		d->context.window_quantum[m][1] = expf(p->window_quantum[m][1]) / 127;
	}
}

/* A state of the gate that was not seen before is supposed to be like the other one. */
static void borrow(struct global_state *g, bool gate)
{
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		g->stacks.common_base[m][gate] = g->stacks.common_base[m][!gate];
		g->totals.common_base[m][gate] = g->totals.common_base[m][!gate];
	}
	for (unsigned f = 0; f < FAMILIES; f++)
		g->families[f].per_tick[gate] = g->families[f].per_tick[!gate];
}

/* The first ticks of a busy machine may be a fraction of a second each, and tick lengths are configured anew. */
static bool is_measurement(struct detect *d, double seconds)
{
	struct global_state *g = d->g;

	if (seconds < TICK_MIN_SECONDS || seconds > TICK_MAX_SECONDS)
		return false;
	if (g->tick < 3 || (seconds < TICK_FACTOR * g->tick_s && seconds > g->tick_s / TICK_FACTOR)) {
		d->astray = 0;
		return true;
	}
	if (++d->astray < TICK_CHANGED)
		return false;
	d->astray = 0;
	g->tick_s = seconds;
	return true;
}

/* What is counted by the tick, and learnt over more of them than it takes to notice. */
static void change_length(struct detect *d, float seconds)
{
	struct global_state *g = d->g;
	float times = seconds / g->lengths[0].seconds;

	memmove(g->lengths + 1, g->lengths, (TICK_LENGTHS - 1) * sizeof(*g->lengths));
	g->lengths[0] = (struct tick_length){ g->tick, seconds };
	g->tick_s = (double)seconds;
	for (size_t i = 0; i < TOTALS_MAX; i++)
		growth_change_length(&g->units[i].growth, times);
}

static void note_length(struct detect *d, float seconds)
{
	struct tick_length *usual = d->g->lengths;

	if (usual->seconds <= 0)
		*usual = (struct tick_length){ d->g->tick, seconds };
	if (seconds < LENGTH_FACTOR * usual->seconds && seconds > usual->seconds / LENGTH_FACTOR)
		d->other_ticks = 0;
	else if (d->other_ticks && (seconds > usual->seconds) != (d->other_seconds > (float)d->other_ticks * usual->seconds))
		d->other_ticks = 0;
	else
		d->other_ticks++;
	d->other_seconds = d->other_ticks > 1 ? d->other_seconds + seconds : seconds;
	if (d->other_ticks < LENGTH_TICKS)
		return;
	change_length(d, d->other_seconds / LENGTH_TICKS);
	d->other_ticks = 0;
}

void detect_tick_begin(struct detect *d, const struct detect_tick *tick)
{
	struct global_state *g = d->g;
	double seconds = (double)tick->duration_ns / (double)NSEC_PER_SEC;

	d->tick = *tick;
	d->live = 0;
	memset(d->findings.tests, 0, sizeof(d->findings.tests));
	d->scoring = is_measurement(d, seconds);
	if (!d->scoring)
		return;
	g->tick++;
	d->ticks++;
	if (tick->online_cpus || !d->cpus)
		d->cpus = MAX(tick->online_cpus, 1u);
	note_length(d, (float)seconds);
	if (g->gate_ticks[tick->gate_open]++ == 0)
		borrow(g, tick->gate_open);
	prepare_context(d);
	totals_prepare(d);
	prepare_tails(d);
}

static enum detect_type finding_type(const struct finding *f)
{
	static const enum detect_type types[CHANNEL_N] = {
		[CHANNEL_TICK] = DETECT_SPIKE,       [CHANNEL_SHORT] = DETECT_SPIKE,
		[CHANNEL_LONG] = DETECT_LEVEL_SHIFT, [CHANNEL_DOWN] = DETECT_DROP,
		[CHANNEL_SUM] = DETECT_SPIKE,
		[CHANNEL_BIRTH] = DETECT_NEW_STACK,  [CHANNEL_BIRTH_SHORT] = DETECT_NEW_STACK,
		[CHANNEL_BIRTH_LONG] = DETECT_NEW_STACK,
	};

	static const enum detect_type changes[SHARE_CHANGE_N] = {
		[SHARE_RISES] = DETECT_COST_SHIFT, [SHARE_FALLS] = DETECT_VANISHED_STACK, [SHARE_TURNOVER] = DETECT_NEW_CODE,
	};

	if (f->family == FAMILY_GROWTH)
		return DETECT_SLOW_GROWTH;
	if (f->family == FAMILY_STREAM)
		return f->observed < f->expected ? DETECT_DROP : DETECT_LEVEL_SHIFT;
	if (f->family >= FAMILY_SHARES)
		return changes[(f->family - FAMILY_SHARES) % SHARE_CHANGE_N];
	return family_is_silence(f->family) ? DETECT_VANISHED_STACK : types[family_channel(f->family)];
}

/* Whether a unit that was told, and does what it does in another metric, is in another trouble: it was over meanwhile, or this is larger. What is
 * told first is not always the cause: threads that come to wait for a disk may take a CPU to get there. */
static bool is_other(const struct detect *d, const struct series_state *s, const struct finding *f)
{
	const float *little = d->total_context.floor;

	if (!family_is_total(f->family) || f->metric == s->told_metric)
		return false;
	/* Waits are judged after the excursion has been noted, so it may begin a tick later. */
	if (!s->excursion || s->excursion > s->told + 1)
		return true;
	/* What was told has been back, though it is remembered. Not waits, which move back after any trouble. */
	if (!s->held && f->since > s->told && f->metric != METRIC_BLOCKED)
		return true;
	return f->metric < SCORED_METRICS && s->told_metric < SCORED_METRICS &&
	       f->observed / little[f->metric] > OTHER_LEVEL * s->told_level / little[s->told_metric];
}

/* What has been told is no news for a while, and the same level of the same metric not for long. */
static bool is_known(const struct detect *d, const struct series_state *s, const struct finding *f)
{
	bool escalated = f->metric == s->told_metric && f->observed > ESCALATION_LEVEL * s->told_level;

	if (!s->told || escalated || is_other(d, s, f))
		return false;
	return d->g->tick - s->told < REFRACTORY_TICKS ||
	       (f->metric == s->told_metric && f->observed > f->expected);
}

static uint64_t since_us(const struct detect *d, const struct series_state *s, const struct finding *f)
{
	uint32_t from = MIN(f->since ? f->since : s->excursion ? s->excursion : d->g->tick, d->g->tick);
	uint64_t before = (uint64_t)((double)(d->g->tick - from) * d->g->tick_s * (double)USEC_PER_SEC) +
			  d->tick.duration_ns / NSEC_PER_USEC;

	return d->tick.time_us > before ? d->tick.time_us - before : 0;
}

/* How much faster alarms come than the budget has it, of late and in the family. */
static double overspent(const struct detect *d, unsigned family)
{
	double budget = d->config.false_alarms_per_day;
	double recent = 1 + d->g->recent_alarms / (1 + budget * RECENT_TICKS * d->g->tick_s / SECONDS_PER_DAY);

	return recent * (1 + d->g->families[family].told / (1 + budget * calibrate_share(family)));
}

/* The probability that the budget has it come to, with what evidence there must be. */
static double weighted(double p, double evidence)
{
	return evidence == 0 ? p : p * pow(10, evidence);
}

bool detect_may_tell(const struct detect *d, const struct series_state *s, const struct weighed *w)
{
	const struct finding *f = w->finding;

	return weighted(w->p, w->evidence) * overspent(d, f->family) <= d->tails[f->family].alpha && !is_known(d, s, f);
}

void detect_tell(struct detect *d, struct series_state *s, const struct weighed *w, struct detect_result *ret)
{
	const struct finding *f = w->finding;
	struct global_state *g = d->g;
	double needed = d->tails[f->family].alpha / overspent(d, f->family);

	g->alarms++;
	g->recent_alarms++;
	g->families[f->family].told++;
	s->told = g->tick;
	s->told_metric = (uint8_t)f->metric;
	if (family_is_total(f->family))
		s->held = 1;
	s->told_level = MAX(f->observed, f->expected);
	*ret = (struct detect_result){
		.type = finding_type(f),
		.metric = f->metric,
		.p_value = w->p,
		.score = -log10(w->p),
		.margin = log10(needed / w->p),
		.observed = (double)f->observed,
		.expected = (double)f->expected,
		.since_us = since_us(d, s, f),
		.family = f->family,
	};
}

/* Where a total comes from is not known yet. */
static double evidence_for(const struct detect *d, const struct finding *f)
{
	if (!d->evidence || family_is_total(f->family))
		return 0;
	return MAX(d->evidence(d->evidence_userdata, f->metric, f->observed > f->expected), -DETECT_EVIDENCE_LOWERED);
}

struct weighed detect_weigh(struct detect *d, struct series_state *s)
{
	struct weighed best = { .p = 1 };

	for (size_t i = 0; i < d->findings.n; i++) {
		const struct finding *f = &d->findings.all[i];
		const struct tail *t = &d->tails[f->family];
		bool beyond = (double)f->s >= t->critical, known = is_known(d, s, f);
		struct weighed w = { .finding = f };

		/* An excursion that was told is one event, and its height no measure of what is normal. */
		if (!known && model_new_height(s, f))
			calibrate_learn(&d->g->families[f->family], family_gate(d, f->family), t, !family_is_birth_or_death(f->family), f->s);
		if (model_is_over(f))
			continue;
		if (f->explained) {
			d->g->suppressed += beyond;
			continue;
		}
		if (!beyond && (known || !d->evidence || (double)f->s < t->critical_least))
			continue;
		w.p = calibrate_p(t, (double)f->s);
		w.evidence = known ? 0 : evidence_for(d, f);
		if ((beyond || w.evidence < 0) &&
		    (!best.finding || weighted(w.p, w.evidence) < weighted(best.p, best.evidence)))
			best = w;
	}
	return best;
}

bool detect_series(struct detect *d, void *state, const uint64_t values[static METRIC_N],
		   uint32_t silent_ticks, struct detect_result *ret)
{
	struct stack_series *series = state;
	struct series_state *s = &series->state;
	struct weighed w;
	bool explained;

	if (!d->scoring)
		return false;
	d->live += model_visit(&d->g->stacks, &d->context, series, values, silent_ticks, &d->findings);
	w = detect_weigh(d, s);
	explained = d->unit_told;
	d->unit_told = false;
	if (!w.finding)
		return false;
	if (explained || !detect_may_tell(d, s, &w)) {
		d->g->suppressed++;
		return false;
	}
	detect_tell(d, s, &w, ret);
	return true;
}

/* Tests inside the marks are counted together; those outside went in one by one. */
static void count_tests(struct detect *d)
{
	struct global_state *g = d->g;

	g->open_share += (d->tick.gate_open - g->open_share) / SLOW_TICKS;
	for (unsigned f = 0; f < FAMILIES; f++) {
		struct family_state *family = &g->families[f];
		bool gate = family_gate(d, f);
		double n = d->findings.tests[f];

		g->scored += d->findings.tests[f];
		family->n[gate] += n;
		/* Not from the beginning: some begin when units are old enough. */
		if (n > 0 || family->ticks[gate] > 0)
			family->per_tick[gate] += (n - family->per_tick[gate]) / MIN((double)++family->ticks[gate], SLOW_TICKS);
		family->told -= family->told * g->tick_s / SECONDS_PER_DAY;
		family->recent -= family->recent / RECENT_TICKS;
	}
	if (g->tick % FORGET_EVERY == 0)
		for (unsigned f = 0; f < FAMILIES; f++)
			calibrate_forget(&g->families[f], FORGET_FACTOR);
}

static void move_population(const struct global_state *g, struct population *p, bool gate, float slow)
{
	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		float common;

		if (p->quantum_n[m][gate]) {
			p->floor[m] += (p->quantum[m][gate] - p->floor[m]) * slow;
			p->window_quantum[m][0] +=
				(p->quantum[m][gate] - p->window_quantum[m][0]) / MIN((float)g->tick, 8.0f);
			p->window_quantum[m][1] +=
				(p->quantum[m][gate] - p->window_quantum[m][1]) / MIN((float)g->tick, 64.0f);
		}
		common = expm1f(p->common[m] - model_common_base(p, m, gate));
		p->common_window[m][0] += (common - p->common_window[m][0]) / 8;
		p->common_window[m][1] += (common - p->common_window[m][1]) / 64;
		/* Slowly from the beginning: the first surge of load is common to all, and not what is usual with the gate open. */
		p->common_base[m][gate] += (p->common[m] - p->common_base[m][gate]) / (float)SLOW_TICKS;
	}
}

double detect_series_usual(const void *state, enum metric metric)
{
	const struct series_state *s = state;

	return metric < SCORED_METRICS && s->metrics[metric].active ? (double)s->metrics[metric].mean : 0;
}

void detect_tick_end(struct detect *d)
{
	struct global_state *g = d->g;
	float slow = 1 / (float)MIN((double)g->tick, SLOW_TICKS);

	if (!d->scoring)
		return;
	count_tests(d);
	move_population(g, &g->stacks, d->tick.gate_open, slow);
	move_population(g, &g->totals, d->tick.gate_open, slow);
	g->live += (d->live - g->live) / 8;
	g->live_slow += (d->live - g->live_slow) * (double)slow;
	g->tick_s += (d->context.seconds - g->tick_s) * (double)slow;
	g->recent_alarms -= g->recent_alarms / RECENT_TICKS;
}

void detect_get_status(const struct detect *d, struct detect_status *ret)
{
	double alpha = 1, tests = 0;

	for (unsigned f = 0; f < FAMILIES; f++) {
		double per_day = tests_per_day(d, f, false) + tests_per_day(d, f, true), a = alpha_of(d, f);

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
		.units = (uint32_t)map64_size(d->unit_by_key),
		.units_max = TOTALS_MAX,
	};
}
