/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Units by what their samples are of. */
#include "internal.h"

/* No further alarm of a unit's functions so soon, nor after one of the unit's total. */
#define REFRACTORY_TICKS 600
#define RATE_TICKS 4096.0f
/* For which what was told of a unit's functions explains what its stacks do. */
#define EXPLAINS_TICKS 300

void functions_load(struct detect *d)
{
	map64_clear(d->shares_by_key);
	for (size_t i = 0; i < SHARES_UNITS; i++) {
		struct unit_shares *u = &d->g->shares[i];

		if (u->key && (!shares_valid(u, d->g->tick) || map64_get(d->shares_by_key, u->key, NULL) || map64_put(d->shares_by_key, u->key, i) < 0))
			*u = (struct unit_shares){ 0 };
	}
}

static uint64_t key_of(uint64_t unit, enum shared of)
{
	return hash64(&unit, sizeof(unit), of) | 1;
}

static struct unit_shares *place_of(struct detect *d, uint64_t unit, enum shared of)
{
	uint64_t key = key_of(unit, of);
	struct unit_shares *u = &d->g->shares[0];
	uint64_t i;

	if (map64_get(d->shares_by_key, key, &i))
		return &d->g->shares[i];
	for (i = 0; i < SHARES_UNITS && u->key; i++)
		if (!d->g->shares[i].key || d->g->shares[i].seen < u->seen)
			u = &d->g->shares[i];
	if (u->key)
		map64_remove(d->shares_by_key, u->key);
	*u = (struct unit_shares){ .key = key, .unit = unit, .of = (uint32_t)of };
	map64_put(d->shares_by_key, key, (uint64_t)(u - d->g->shares));
	return u;
}

static const enum metric metrics[SHARED_N] = { METRIC_ON_CPU, METRIC_FAULTS_MINOR };

void detect_add_functions(struct detect *d, uint64_t unit, uint64_t series, const uint64_t *functions, size_t n,
			  const uint64_t values[static METRIC_N])
{
	const uint64_t *most = d->context.most;
	const float samples[SHARED_N] = {
		values[METRIC_HITS] <= most[METRIC_HITS] && values[METRIC_ON_CPU] <= most[METRIC_ON_CPU] ? (float)values[METRIC_HITS] : 0,
		values[METRIC_FAULTS_MINOR] > most[METRIC_FAULTS_MINOR] ? 0 : (float)values[METRIC_FAULTS_MINOR] / MAX(d->context.quantum[METRIC_FAULTS_MINOR] * d->context.seconds, 1.0f),
	};

	d->unit_told = false;
	for (enum shared of = 0; d->scoring && unit && of < SHARED_N; of++)
		if (samples[of] > 0) {
			struct unit_shares *u = place_of(d, unit, of);

			u->value += (float)values[metrics[of]];
			d->unit_told |= u->told && d->g->tick - u->told < EXPLAINS_TICKS;
			shares_add(u, d->g->tick, series, functions, n, samples[of]);
		}
}

/* Its total, or NULL. */
static const struct total_state *total_of(const struct detect *d, uint64_t key)
{
	uint64_t i;

	return map64_get(d->unit_by_key, key, &i) ? &d->g->units[i] : NULL;
}

static bool is_told(const struct detect *d, const struct unit_shares *u, const struct total_state *total)
{
	uint32_t told = MAX(u->told, total ? total->series.state.told : 0);

	return told && d->g->tick - told < REFRACTORY_TICKS;
}

/* What it does of it, in the metric's unit per second. */
static float move_rate(const struct detect *d, struct unit_shares *u, const struct total_state *total)
{
	u->rate += (u->value / d->context.seconds - u->rate) / MIN((float)u->ticks + 1, RATE_TICKS);
	u->value = 0;
	return u->of == SHARED_ON_CPU && total ? total->series.state.metrics[METRIC_ON_CPU].mean : u->rate;
}

/* One event, of whatever metrics. */
static void note_told(struct detect *d, uint64_t unit, bool turned_over)
{
	for (enum shared of = 0; of < SHARED_N; of++) {
		struct unit_shares *u;
		uint64_t i;

		if (!map64_get(d->shares_by_key, key_of(unit, of), &i))
			continue;
		u = &d->g->shares[i];
		u->told = d->g->tick;
		if (turned_over)
			shares_turned_over(u);
		else
			shares_forget(u);
	}
}

static const struct unit_shares *of_other_metric(const struct detect *d, const struct unit_shares *u)
{
	uint64_t i;

	return map64_get(d->shares_by_key, key_of(u->unit, u->of == SHARED_ON_CPU ? SHARED_FAULTS : SHARED_ON_CPU), &i) ? &d->g->shares[i] : NULL;
}

/* A spin is a CPU more in the unit's exact time as well. */
static struct share_context context_of(const struct detect *d, struct unit_shares *u, const struct total_state *total, bool told)
{
	const struct tick_context *t = &d->total_context;
	struct share_context c = { .other = of_other_metric(d, u), .part = surplus_part(0, 0) };
	float now, mean;

	if (u->of != SHARED_ON_CPU || !total)
		return c;
	now = model_on_cpu(t, &total->series);
	mean = total->series.state.metrics[METRIC_ON_CPU].mean;
	c.part = surplus_part(now, mean);
	if (told)
		surplus_forget(&u->surplus);
	else
		c.more = surplus_tick(&u->surplus, t->tick, now, mean, MODEL_LITTLE_TO_UNIT * t->floor[METRIC_ON_CPU]);
	return c;
}

struct candidate {
	struct unit_shares *unit;
	struct finding finding;
	struct weighed weighed;
	double alpha;
	uint64_t series;
	uint32_t since;
};

static void visit(struct detect *d, struct unit_shares *u, struct candidate *best)
{
	const struct total_state *total = total_of(d, u->unit);
	float a_sample = u->value / u->now / d->context.seconds, rate = move_rate(d, u, total);
	struct share_news news[SHARE_CHANGE_N];
	bool told = is_told(d, u, total), explained = false;
	struct share_context context = context_of(d, u, total, told);

	shares_tick(u, &context, d->g->tick, news, &d->findings.tests[family_of_share(u->of, 0)]);
	for (enum share_change change = 0; change < SHARE_CHANGE_N; change++) {
		unsigned family = family_of_share(u->of, change);
		const struct tail *t = &d->tails[family];
		double s = (double)news[change].s;
		struct candidate c = {
			.unit = u,
			.finding = { .family = (uint8_t)family, .metric = metrics[u->of], .s = (float)s,
				     /* What is gone is gone of what there was; what has come may have come on top of it. */
				     .observed = news[change].share * (change == SHARE_FALLS ? rate : MAX(news[change].a_tick * a_sample, rate)),
				     .expected = news[change].usual * rate },
			.series = news[change].function ? news[change].function->series : 0,
			.since = news[change].since,
		};

		if (!told && news[change].height > 0)
			calibrate_learn(&d->g->families[family], false, t, true, news[change].height);
		explained |= told && s > 0 && s >= t->critical;
		if (told || s <= 0 || s < t->critical)
			continue;
		c.weighed.p = calibrate_p(t, s);
		c.alpha = t->alpha;
		if (!best->unit || c.weighed.p * best->alpha < best->weighed.p * t->alpha)
			*best = c;
	}
	/* How far it goes is no measure of what the unit's functions do by themselves. */
	if (explained)
		shares_forget(u);
}

bool detect_functions(struct detect *d, uint64_t *ret_series, struct detect_result *ret)
{
	struct candidate best = { 0 };
	struct series_state state = { 0 };

	for (size_t i = 0; d->scoring && i < SHARES_UNITS; i++)
		if (d->g->shares[i].key && d->g->shares[i].now > 0)
			visit(d, &d->g->shares[i], &best);
	if (!best.unit)
		return false;
	best.weighed.finding = &best.finding;
	if (!detect_may_tell(d, &state, &best.weighed)) {
		d->g->suppressed++;
		return false;
	}
	calibrate_learn(&d->g->families[best.finding.family], false, &d->tails[best.finding.family], true, best.finding.s);
	note_told(d, best.unit->unit, (best.finding.family - FAMILY_SHARES) % SHARE_CHANGE_N == SHARE_TURNOVER);
	state.excursion = best.since;
	detect_tell(d, &state, &best.weighed, ret);
	*ret_series = best.series;
	return true;
}
