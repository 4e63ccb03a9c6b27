/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Units and the machine as a whole, by what they use in all. */
#include <math.h>

#include "internal.h"

/* What is little to the machine, added to each rate: a hundredth of its CPUs' time, 8 MB/s of new memory a CPU, and
 * as many major faults, each of which waits for a disk for some milliseconds, as one thread has that does nothing
 * else for a hundredth of the time. */
#define LITTLE_SHARE 0.01f
#define LITTLE_MINOR_FAULTS 2000.0f /* a second and CPU */
#define LITTLE_MAJOR_FAULTS 3.0f

/* Of the machine's memory; where that is not known, of 16 GiB. */
#define LITTLE_MEMORY_PART 16384
#define LITTLE_MEMORY (1LL << 20)
/* So many times its memory no unit has more, or less, from one tick to the next. */
#define MEMORY_TIMES 16
#define MEMORY_MOST (1ULL << 40) /* where that is not known */

#define COMMON_UNITS_MIN 5 /* fewer have no common mode */
#define COMMON_AGE_MIN 16  /* ticks */
/* A unit that was told explains what the machine as a whole does, and that others have to wait for a CPU,
 * for so many ticks, unless that is so many times more than what was told; and that others do less. */
#define EXPLAINED_TICKS 60
#define EXPLAINED_RISE 2.0f

#define STARVES_LEAST (0.2 * (double)NSEC_PER_SEC) /* a second */
#define STARVES_TIMES 2.0

/* More often the machine does not begin to do nothing by mistake. */
#define BLANKS_MOST (1.0f / 64)
#define BLANKS_TICKS 3600.0f

void totals_load(struct detect *d)
{
	if (!model_total_valid(&d->g->machine, d->g->tick))
		d->g->machine = (struct total_series){ 0 };
	map64_clear(d->unit_by_key);
	for (size_t i = 0; i < TOTALS_MAX; i++) {
		struct total_state *u = &d->g->units[i];

		/* twice the same: the memory comes from somewhere else */
		if (u->key && (map64_get(d->unit_by_key, u->key, NULL) || map64_put(d->unit_by_key, u->key, i) < 0))
			*u = (struct total_state){ 0 };
		else if (growth_valid(&u->growth, d->g->tick))
			growth_forget_level(&u->growth);
		else
			u->growth = (struct growth){ 0 };
		if (!model_total_valid(&u->series, d->g->tick))
			u->series = (struct total_series){ 0 };
	}
}

static bool is_used(const struct detect *d, size_t i)
{
	for (unsigned m = 0; m < METRIC_N; m++)
		if (d->unit_values[i][m] > 0)
			return true;
	return d->unit_memory[i] != 0;
}

/* A free place, or that of the unit which has done nothing for longest; TOTALS_MAX when all do something. */
static size_t find_place(const struct detect *d)
{
	uint32_t seen = UINT32_MAX;
	size_t best = TOTALS_MAX;

	for (size_t i = 0; i < TOTALS_MAX; i++) {
		const struct total_state *u = &d->g->units[i];

		if (!u->key)
			return i;
		if (u->series.state.seen < seen && !is_used(d, i)) {
			seen = u->series.state.seen;
			best = i;
		}
	}
	return best;
}

/* Its place, or TOTALS_MAX. */
static size_t place_of(struct detect *d, uint64_t key)
{
	uint64_t i;

	if (map64_get(d->unit_by_key, key, &i))
		return i;
	i = find_place(d);
	if (i == TOTALS_MAX)
		return i;
	if (d->g->units[i].key)
		map64_remove(d->unit_by_key, d->g->units[i].key);
	d->g->units[i] = (struct total_state){ .key = key };
	map64_put(d->unit_by_key, key, i);
	return i;
}

int detect_add_memory(struct detect *d, uint64_t key, int64_t change)
{
	size_t i = place_of(d, key);

	if (i == TOTALS_MAX)
		return -ENOSPC;
	if (__builtin_add_overflow(d->unit_memory[i], change, &d->unit_memory[i]))
		d->unit_memory[i] = 0;
	return 0;
}

int detect_add_total(struct detect *d, uint64_t key, const uint64_t values[static METRIC_N])
{
	size_t i = place_of(d, key);

	if (i == TOTALS_MAX)
		return -ENOSPC;
	for (unsigned m = 0; m < METRIC_N; m++)
		if (__builtin_add_overflow(d->unit_values[i][m], values[m], &d->unit_values[i][m]))
			d->unit_values[i][m] = UINT64_MAX;
	return 0;
}

void totals_prepare(struct detect *d)
{
	float cpus = (float)d->cpus;
	struct tick_context *c = &d->total_context;

	*c = (struct tick_context){
		.tick = d->context.tick,
		.seconds = d->context.seconds,
		.trust = 1,
		.lengths = d->context.lengths,
		.other_length = d->context.other_length,
		.floor = {
			[METRIC_ON_CPU] = cpus * LITTLE_SHARE * (float)NSEC_PER_SEC,
			[METRIC_BLOCKED] = cpus * LITTLE_SHARE * (float)NSEC_PER_SEC,
			[METRIC_RUNNABLE] = cpus * LITTLE_SHARE * (float)NSEC_PER_SEC,
			[METRIC_FAULTS_MINOR] = cpus * LITTLE_MINOR_FAULTS,
			[METRIC_FAULTS_MAJOR] = cpus * LITTLE_MAJOR_FAULTS,
		},
	};
	memcpy(c->most, d->context.most, sizeof(c->most));
}

static int compare_floats(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

/* What can't be is as usual. A machine that does nothing at all was not measured, unless it is one on which that happens. */
static void find_possible(struct detect *d)
{
	uint64_t room[METRIC_N], on_cpu = 0;
	bool all = true;

	for (size_t i = 0; i < TOTALS_MAX; i++) {
		struct total_state *u = &d->g->units[i];

		if (u->key && model_possible(&d->total_context, &u->series.state, d->unit_values[i], room) == room) {
			memcpy(d->unit_values[i], room, sizeof(room));
			all = false;
		}
		on_cpu += d->unit_values[i][METRIC_ON_CPU];
	}
	d->total_context.blank = on_cpu == 0 && d->g->blanks < BLANKS_MOST;
	if (on_cpu > 0)
		d->g->blanks += ((float)d->was_blank - d->g->blanks) / BLANKS_TICKS;
	d->was_blank = on_cpu == 0;
	d->measured = all && !d->total_context.blank;
}

/* The median over the units, of this tick itself: they are few. */
static void find_common(struct detect *d)
{
	float rises[TOTALS_MAX];

	for (unsigned m = 0; m < SCORED_METRICS; m++) {
		size_t n = 0;

		for (size_t i = 0; i < TOTALS_MAX; i++) {
			const struct total_state *u = &d->g->units[i];

			if (u->key && u->series.state.tag && d->g->tick - u->series.state.born >= COMMON_AGE_MIN &&
			    d->unit_values[i][m] > 0)
				rises[n++] = model_total_rise(&d->total_context, &u->series.state, m,
							      d->unit_values[i][m]);
		}
		d->g->totals.common[m] = 0;
		if (n < COMMON_UNITS_MIN)
			continue;
		qsort(rises, n, sizeof(*rises), compare_floats);
		d->g->totals.common[m] = rises[n / 2];
	}
}

/* How much more it is than usual, as a share of what is little to the machine. */
static float rise(const struct detect *d, const struct finding *f)
{
	return fabsf(f->observed - f->expected) / d->total_context.floor[f->metric];
}

static bool is_explained(const struct detect *d, const struct series_state *s, const struct finding *f)
{
	const struct global_state *g = d->g;

	if (!g->total_told || g->tick - g->total_told >= EXPLAINED_TICKS)
		return false;
	if (!family_is_silence(f->family) && family_channel(f->family) == CHANNEL_DOWN)
		return true;
	return rise(d, f) <= EXPLAINED_RISE * g->total_rise &&
	       (s == &g->machine.state || f->metric == METRIC_RUNNABLE);
}

struct candidate {
	struct series_state *series;
	struct finding finding;
	double p;
	uint64_t key;
	float rise;       /* of all its findings the greatest */
	float most_waits; /* the greatest rise of runnable of any unit, improbable or not */
};

static float greatest_rise(const struct detect *d, bool waits_only)
{
	float most = 0;

	for (size_t i = 0; i < d->findings.n; i++)
		if (!waits_only || d->findings.all[i].metric == METRIC_RUNNABLE)
			most = MAX(most, rise(d, &d->findings.all[i]));
	return most;
}

/* Who waits for a CPU more than usual, but less than another, suffers from what the other does. */
static bool suffers(const struct detect *d, const struct candidate *best)
{
	return best->series && best->finding.metric == METRIC_RUNNABLE &&
	       rise(d, &best->finding) < best->most_waits;
}

static void visit(struct detect *d, uint64_t key, struct total_series *total,
		  const uint64_t values[static METRIC_N], struct candidate *best)
{
	struct series_state *s = &total->state;
	const struct finding *f;
	struct weighed w;

	model_visit_total(&d->g->totals, &d->total_context, total, values, &d->findings);
	/* Who takes the CPUs from others may have to wait for them as well: what explains that is no reason not to tell the one. */
	for (size_t i = 0; i < d->findings.n; i++)
		d->findings.all[i].explained = is_explained(d, s, &d->findings.all[i]);
	w = detect_weigh(d, s);
	f = w.finding;
	if (s != &d->g->machine.state)
		best->most_waits = MAX(best->most_waits, greatest_rise(d, true));
	if (!f)
		return;
	if (!detect_may_tell(d, s, &w)) {
		d->g->suppressed++;
		return;
	}
	/* Of the units that one trouble moves the one that it moves most; the machine if no unit does. */
	if (best->series && (s == &d->g->machine.state || rise(d, f) <= rise(d, &best->finding)))
		return;
	*best = (struct candidate){ s, *f, w.p, key, greatest_rise(d, false), best->most_waits };
}

bool detect_totals(struct detect *d, uint64_t *ret_key, struct detect_result *ret)
{
	uint64_t sum[METRIC_N] = { 0 };
	struct candidate best = { 0 };
	struct finding finding;
	double p;

	if (d->scoring) {
		find_possible(d);
		find_common(d);
		for (size_t i = 0; i < TOTALS_MAX; i++) {
			struct total_state *u = &d->g->units[i];

			if (!u->key)
				continue;
			for (unsigned m = 0; m < METRIC_N; m++)
				sum[m] += d->unit_values[i][m];
			visit(d, u->key, &u->series, d->unit_values[i], &best);
			waits_begin_unit(d, i);
		}
		if (suffers(d, &best))
			best.series = NULL;
		visit(d, 0, &d->g->machine, sum, &best);
		if (d->measured && streams_visit(d, sum, &finding, &p) && !best.series)
			best = (struct candidate){ &d->g->machine.state, finding, p, 0, rise(d, &finding), 0 };
	}
	memset(d->unit_values, 0, sizeof(d->unit_values));
	if (!best.series)
		return false;
	d->g->total_told = d->g->tick;
	d->g->total_rise = best.rise;
	*ret_key = best.key;
	detect_tell(d, best.series, &(struct weighed){ .finding = &best.finding, .p = best.p }, ret);
	return true;
}

/* Over the last QUARTERS ticks. */
static double rise_of(const struct total_series *t, enum metric m)
{
	const float *quarters = t->windows[m][CHANNEL_TICK].quarters;
	double sum = 0;

	for (unsigned i = 0; i < QUARTERS; i++)
		sum += (double)quarters[i];
	return sum / QUARTERS - (double)t->state.metrics[m].mean;
}

/* How long is waited for a CPU on this machine as a rule, for a second that is got of it. */
static double usual_wait(const struct detect *d)
{
	const struct metric_state *metrics = d->g->machine.state.metrics;
	double got = (double)metrics[METRIC_ON_CPU].mean, waited = (double)metrics[METRIC_RUNNABLE].mean;

	return got > 0 ? waited / got : 0;
}

bool detect_unit_starves(const struct detect *d, uint64_t key)
{
	const struct total_series *t;
	double waits;
	uint64_t i;

	if (!map64_get(d->unit_by_key, key, &i))
		return false;
	t = &d->g->units[i].series;
	waits = rise_of(t, METRIC_RUNNABLE);
	return waits > STARVES_LEAST && waits > STARVES_TIMES * MAX(usual_wait(d), 1.0) * rise_of(t, METRIC_ON_CPU);
}

/* ---- memory ---- */

static void move_levels(struct detect *d)
{
	int64_t most = (int64_t)MIN(MEMORY_TIMES * (d->tick.memory_bytes ? d->tick.memory_bytes : MEMORY_MOST), (uint64_t)INT64_MAX);

	for (size_t i = 0; i < TOTALS_MAX; i++)
		if (d->unit_memory[i] != 0 && d->unit_memory[i] <= most && d->unit_memory[i] >= -most)
			growth_move(&d->g->units[i].growth, d->unit_memory[i]);
	memset(d->unit_memory, 0, sizeof(d->unit_memory));
}

/* Fills *ret when there is something to be told of the unit. */
static bool visit_growth(struct detect *d, struct total_state *u, int64_t little, struct growth_news *news, struct weighed *ret)
{
	const struct tail *t = &d->tails[FAMILY_GROWTH];
	struct findings *f = &d->findings;

	f->n = 0;
	growth_tick(&u->growth, d->g->tick, little, news, &f->tests[FAMILY_GROWTH]);
	/* What a program needs when it is started says nothing of those that are known; but what would have been told is learnt. */
	if (news->over > 0)
		calibrate_learn(&d->g->families[FAMILY_GROWTH], false, t, true, (double)news->over >= t->critical ? news->over : news->over_usual);
	if (news->s <= 0)
		return false;
	f->all[f->n++] = (struct finding){
		.family = FAMILY_GROWTH, .metric = METRIC_RSS, .s = news->s, .observed = news->rate / (float)MAX(d->g->tick_s, 1e-3),
	};
	*ret = detect_weigh(d, &u->series.state);
	if (!ret->finding)
		return false;
	if (detect_may_tell(d, &u->series.state, ret))
		return true;
	d->g->suppressed++;
	return false;
}

bool detect_growth(struct detect *d, uint64_t *ret_key, struct detect_result *ret)
{
	int64_t little = d->tick.memory_bytes ? (int64_t)(d->tick.memory_bytes / LITTLE_MEMORY_PART) : LITTLE_MEMORY;
	struct growth_news news, most = { 0 };
	struct total_state *best = NULL;
	struct finding finding;
	struct weighed w;

	move_levels(d);
	for (size_t i = 0; d->scoring && i < TOTALS_MAX; i++) {
		struct total_state *u = &d->g->units[i];

		if (!u->key || !visit_growth(d, u, little, &news, &w) || news.s <= most.s)
			continue;
		best = u;
		most = news;
		finding = *w.finding;
	}
	if (!best)
		return false;
	w = (struct weighed){ .finding = &finding, .p = calibrate_p(&d->tails[FAMILY_GROWTH], (double)most.s) };
	detect_tell(d, &best->series.state, &w, ret);
	ret->since_us = d->tick.time_us - MIN((uint64_t)((double)(d->g->tick - most.begun) * d->g->tick_s * (double)USEC_PER_SEC), d->tick.time_us);
	*ret_key = best->key;
	return true;
}

double detect_growth_rate(const struct detect *d, uint64_t key)
{
	const struct total_state *u;
	float rate;
	uint64_t i;

	if (!map64_get(d->unit_by_key, key, &i))
		return 0;
	u = &d->g->units[i];
	rate = growth_rate(&u->growth, d->g->tick);
	/* What is not known yet, after a restart, is as it was. */
	if (rate < 0)
		return u->series.state.told_metric == METRIC_RSS ? (double)u->series.state.told_level : 0;
	return (double)rate / MAX(d->g->tick_s, 1e-3);
}
