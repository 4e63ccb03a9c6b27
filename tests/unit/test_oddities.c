/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers that can't be, and some that only nearly can't: none is told, none is learnt, and after each a trouble is found as it was before. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "internal.h"

#define T0 1700000000000000ULL
#define UNITS 16
#define TIMER UNITS /* the unit that comes by the clock */
#define EVERY 15 /* ticks */
#define STACKS 4 /* of a unit: three that work, and one in which its threads wait for it */
#define WAITS 3
#define SERIES (UNITS * STACKS)
#define CPUS 32
#define HISTORY 7200
#define SETTLES 8 /* ticks: a copy's detector has been started anew */
#define MIB (1 << 20)
#define VICTIM 5
#define GROWS 1 /* the unit that grows all the time */
#define WRONG 3 /* the unit whose numbers are odd */

enum channel_told { TOLD_SERIES, TOLD_TOTALS, TOLD_GROWTH, TOLD_WAITS, TOLD_FUNCTIONS, TOLD_N };

struct machine {
	struct detect *d;
	void *global;
	uint8_t *states;
	uint64_t tick, rng;
	double seconds; /* a tick */
	uint32_t cpus;
	unsigned every; /* the timer, ticks */
	int64_t memory[UNITS];
	unsigned told[TOLD_N];
	size_t of[TOLD_N]; /* unit that was told last */
	struct detect_result last;
};

/* What a unit does in a tick, and the tick itself. */
struct unit_does {
	uint64_t totals[METRIC_N], stacks[STACKS][METRIC_N];
	int64_t memory; /* change */
};

struct machine_does {
	struct unit_does units[UNITS];
	bool timer;
	struct detect_tick tick;
};

typedef void (*change_fn)(struct machine *m, struct machine_does *does, uint64_t since);

static double uniform(struct machine *m)
{
	m->rng = m->rng * 6364136223846793005ULL + 1442695040888963407ULL;
	return (double)(m->rng >> 11) / (double)(1ULL << 53);
}

static const struct detect_config budget = { .false_alarms_per_day = 100 };

static int setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));

	m->global = calloc(1, detect_global_state_size());
	m->states = calloc(SERIES, detect_series_state_size());
	m->rng = 42;
	m->seconds = 1;
	m->cpus = CPUS;
	m->every = EVERY;
	assert_int_equal(detect_new(&m->d, &budget, m->global), 0);
	*state = m;
	return 0;
}

static struct machine *machine_free(struct machine *m)
{
	detect_free(m->d);
	free(m->global);
	free(m->states);
	free(m);
	return NULL;
}

static int teardown(void **state)
{
	machine_free(*state);
	return 0;
}

static struct machine *copy(const struct machine *of)
{
	struct machine *m = malloc(sizeof(*m));

	*m = *of;
	m->global = malloc(detect_global_state_size());
	m->states = malloc(SERIES * detect_series_state_size());
	memcpy(m->global, of->global, detect_global_state_size());
	memcpy(m->states, of->states, SERIES * detect_series_state_size());
	assert_int_equal(detect_new(&m->d, &budget, m->global), 0);
	/* It goes on, as if it had not been started anew. */
	memcpy(m->global, of->global, detect_global_state_size());
	return m;
}

static void *state_of(struct machine *m, size_t unit, size_t stack)
{
	return m->states + (unit * STACKS + stack) * detect_series_state_size();
}

/* Samples of 20 ms of a tenth of a CPU or so, by stack a half, a third and a sixth of them. */
static void usual_stack(struct machine *m, double share, uint64_t values[static METRIC_N])
{
	uint64_t hits = 0, fault_samples = 0;

	for (unsigned i = 0; i < (unsigned)(12 * m->seconds); i++)
		hits += uniform(m) < share;
	for (unsigned i = 0; i < (unsigned)(4 * m->seconds); i++)
		fault_samples += uniform(m) < share;
	values[METRIC_HITS] = hits;
	values[METRIC_ON_CPU] = hits * 20000000;
	values[METRIC_FAULTS_MINOR] = fault_samples * 20;
}

static void usual_unit(struct machine *m, size_t unit, struct unit_does *u)
{
	static const double shares[] = { 0.5, 0.3, 0.2 };
	double cpu = 0.12 * (0.7 + 0.6 * uniform(m));

	*u = (struct unit_does){
		.totals = { [METRIC_ON_CPU] = (uint64_t)(cpu * m->seconds * 1e9), [METRIC_RUNNABLE] = (uint64_t)(cpu * 0.1 * m->seconds * uniform(m) * 1e9),
			    [METRIC_FAULTS_MINOR] = (uint64_t)(80 * m->seconds * uniform(m)) },
	};
	for (size_t i = 0; i < WAITS; i++)
		usual_stack(m, shares[i], u->stacks[i]);
	u->stacks[WAITS][METRIC_BLOCKED] = (uint64_t)((200 + uniform(m)) * m->seconds * 1e9);
	u->memory = (int64_t)((double)(100 * MIB) + 64 * uniform(m) * 4096) - m->memory[unit];
	if (unit == GROWS)
		u->memory = m->memory[unit] ? (int64_t)(m->seconds * (0.9 + 0.2 * uniform(m)) * MIB / 2) : MIB;
}

static void note(struct machine *m, enum channel_told channel, size_t unit, const struct detect_result *r)
{
	m->told[channel]++;
	m->of[channel] = unit;
	m->last = *r;
}

static void visit(struct machine *m, size_t unit, size_t stack, const uint64_t values[static METRIC_N])
{
	void *state = state_of(m, unit, stack);
	struct detect_result r;
	double rise;

	detect_add_functions(m->d, unit + 1, unit * STACKS + stack + 1, (uint64_t[]){ 100 * (unit + 1) + stack, 100 * (unit + 1) + STACKS }, 2, values);
	rise = detect_wait_rise(m->d, state, values[METRIC_BLOCKED], 0);
	detect_add_wait(m->d, unit + 1, state, values[METRIC_BLOCKED], rise, 1e6);
	if (detect_series(m->d, state, values, 0, &r))
		note(m, TOLD_SERIES, unit, &r);
}

static void go(struct machine *m, const struct machine_does *does)
{
	const uint64_t little[METRIC_N] = { [METRIC_ON_CPU] = 5000000 };
	struct detect_result r;
	uint64_t key;

	for (size_t u = 0; u < UNITS; u++) {
		assert_int_equal(detect_add_total(m->d, u + 1, does->units[u].totals), 0);
		assert_int_equal(detect_add_memory(m->d, u + 1, does->units[u].memory), 0);
		m->memory[u] = (int64_t)((uint64_t)m->memory[u] + (uint64_t)does->units[u].memory);
	}
	if (does->timer)
		assert_int_equal(detect_add_total(m->d, TIMER + 1, little), 0);
	detect_tick_begin(m->d, &does->tick);
	if (detect_totals(m->d, &key, &r))
		note(m, TOLD_TOTALS, key - 1, &r);
	if (detect_growth(m->d, &key, &r))
		note(m, TOLD_GROWTH, key - 1, &r);
	for (size_t u = 0; u < UNITS; u++)
		for (size_t i = 0; i < STACKS; i++)
			visit(m, u, i, does->units[u].stacks[i]);
	if (detect_moved_waits(m->d, &key, &r))
		note(m, TOLD_WAITS, key - 1, &r);
	if (detect_functions(m->d, &key, &r))
		note(m, TOLD_FUNCTIONS, (key - 1) / STACKS, &r);
	detect_tick_end(m->d);
}

/* n ticks, with what is changed in them. */
static void run(struct machine *m, unsigned n, change_fn change)
{
	uint64_t from = m->tick;

	while (n-- > 0) {
		struct machine_does does = {
			.tick = {
				.time_us = T0 + m->tick * USEC_PER_SEC, .duration_ns = (uint64_t)(m->seconds * 1e9), .load = 1, .online_cpus = m->cpus,
				.memory_bytes = 16ULL << 30,
			},
		};

		for (size_t u = 0; u < UNITS; u++)
			usual_unit(m, u, &does.units[u]);
		does.timer = m->tick % m->every == 0;
		if (change)
			change(m, &does, m->tick - from);
		m->tick++;
		go(m, &does);
	}
}

static unsigned all_told(const struct machine *m)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < TOLD_N; i++)
		sum += m->told[i];
	return sum;
}

/* ---- troubles ---- */

static void spike(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)m, (void)since;
	for (unsigned i = 0; i < 3; i++) {
		does->units[VICTIM].stacks[i][METRIC_HITS] = (uint64_t)(250 * m->seconds);
		does->units[VICTIM].stacks[i][METRIC_ON_CPU] = (uint64_t)(5e9 * m->seconds);
	}
}

static void takes_all(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)since;
	does->units[VICTIM].totals[METRIC_ON_CPU] = (uint64_t)(31e9 * m->seconds);
}

static void leaks(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)since;
	does->units[VICTIM].memory = (int64_t)(4 * MIB * m->seconds);
}

static void locks(struct machine *m, struct machine_does *does, uint64_t since)
{
	uint64_t *idle = &does->units[VICTIM].stacks[WAITS][METRIC_BLOCKED];

	(void)m, (void)since;
	does->units[VICTIM].stacks[0][METRIC_BLOCKED] = *idle - 1000000000;
	*idle = 1000000000;
}

static void stops(struct machine *m, struct machine_does *does, uint64_t since)
{
	struct unit_does *u = &does->units[VICTIM];

	(void)m, (void)since;
	for (unsigned i = 0; i < METRIC_N; i++) {
		u->stacks[1][i] += u->stacks[0][i];
		u->stacks[0][i] = 0;
	}
}

static void late(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)m, (void)since;
	does->timer = false;
}

static const struct {
	const char *name;
	change_fn change;
	enum channel_told channel;
	size_t unit;
	unsigned ticks; /* in which it is told; 0: that depends on when it is due */
} troubles[] = {
	{ "spike", spike, TOLD_SERIES, VICTIM, 8 },
	{ "takes all CPUs", takes_all, TOLD_TOTALS, VICTIM, 8 },
	{ "leak", leaks, TOLD_GROWTH, VICTIM, 300 },
	{ "lock", locks, TOLD_WAITS, VICTIM, 8 },
	{ "function stops", stops, TOLD_FUNCTIONS, VICTIM, 16 },
	{ "late timer", late, TOLD_TOTALS, TIMER, 0 },
};

static void assert_troubles_are_told(const struct machine *of)
{
	unsigned missed = 0;

	for (size_t i = 0; i < ELEMENTS_OF(troubles); i++) {
		struct machine *m = copy(of);
		unsigned before, n = 0, ticks = troubles[i].ticks ? troubles[i].ticks : 2 * of->every + 16;

		run(m, SETTLES, NULL);
		before = m->told[troubles[i].channel];
		while (n < ticks && (m->told[troubles[i].channel] == before || m->of[troubles[i].channel] != troubles[i].unit)) {
			run(m, 1, troubles[i].change);
			n++;
		}
		if (m->told[troubles[i].channel] == before || m->of[troubles[i].channel] != troubles[i].unit) {
			print_message("# not told: %s\n", troubles[i].name);
			missed++;
		}
		machine_free(m);
	}
	assert_int_equal(missed, 0);
}

/* ---- oddities ---- */

static void everything_is(struct unit_does *u, uint64_t value)
{
	for (unsigned i = 0; i < METRIC_N; i++) {
		u->totals[i] = value;
		for (unsigned k = 0; k < STACKS; k++)
			u->stacks[k][i] = value;
	}
	u->memory = (int64_t)value;
}

static void overflows(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)m, (void)since;
	everything_is(&does->units[VICTIM], 1ULL << 63);
}

static void nearly_overflows(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)m, (void)since;
	everything_is(&does->units[VICTIM], 1ULL << 56);
}

static void runs_backwards(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)m;
	everything_is(&does->units[VICTIM], (uint64_t)-1000 - since);
}

static void is_not_a_number(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)m;
	does->tick.load = NAN;
	does->tick.lost_fraction = since % 2 ? INFINITY : NAN;
}

static void clock_jumps(struct machine *m, struct machine_does *does, uint64_t since)
{
	static const uint64_t to[] = { 0, T0 - 3600 * USEC_PER_SEC, T0 + 86400 * USEC_PER_SEC, UINT64_MAX };

	(void)m;
	does->tick.time_us = to[since % ELEMENTS_OF(to)];
}

static void an_hour_is_missing(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)m;
	if (since != 2)
		return;
	does->tick.duration_ns *= 3600;
	for (size_t u = 0; u < UNITS; u++)
		for (unsigned i = 0; i < METRIC_N; i++) {
			does->units[u].totals[i] *= 3600;
			for (unsigned k = 0; k < STACKS; k++)
				does->units[u].stacks[k][i] *= 3600;
		}
}

static void all_is_zero(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)m, (void)since;
	for (size_t u = 0; u < UNITS; u++)
		does->units[u] = (struct unit_does){ 0 };
	does->timer = false;
}

static void all_is_constant(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)m, (void)since;
	for (size_t u = 0; u < UNITS; u++) {
		struct unit_does *unit = &does->units[u];

		*unit = (struct unit_does){ .totals = { [METRIC_ON_CPU] = 120000000, [METRIC_RUNNABLE] = 6000000, [METRIC_FAULTS_MINOR] = 40 } };
		for (unsigned i = 0; i < WAITS; i++)
			unit->stacks[i][METRIC_ON_CPU] = 20000000 * (unit->stacks[i][METRIC_HITS] = 3 - i);
		unit->stacks[WAITS][METRIC_BLOCKED] = 200 * NSEC_PER_SEC;
	}
}

static void one_point(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)m;
	if (since == 1)
		does->units[VICTIM].stacks[0][METRIC_FAULTS_MAJOR] = does->units[VICTIM].totals[METRIC_FAULTS_MAJOR] = 1;
}

static void cpus_come_and_go(struct machine *m, struct machine_does *does, uint64_t since)
{
	static const uint32_t cpus[] = { 32, 2, 32, 0, 64, 1, 32 };

	(void)m;
	does->tick.online_cpus = cpus[since / 4 % ELEMENTS_OF(cpus)];
}

static void state_is_of_the_future(struct machine *m, struct machine_does *does, uint64_t since)
{
	struct series_state *s = state_of(m, WRONG, since % STACKS);
	struct global_state *g = m->global;

	(void)does;
	s->seen = s->born = s->told = g->tick + 100000;
	g->units[WRONG].series.state.told = g->tick + 100000;
	g->units[WRONG].series.state.seen = g->tick + 1000;
}

static const struct {
	const char *name;
	change_fn change;
	unsigned ticks;
} oddities[] = {
	{ "nothing odd", NULL, 1 },
	{ "overflow", overflows, 2 },
	{ "nearly an overflow", nearly_overflows, 2 },
	{ "counters that run backwards", runs_backwards, 3 },
	{ "no numbers", is_not_a_number, 10 },
	{ "jumps of the clock", clock_jumps, 12 },
	{ "an hour is missing", an_hour_is_missing, 5 },
	{ "all zero", all_is_zero, 20 },
	{ "constant", all_is_constant, 1800 },
	{ "one point", one_point, 2 },
	{ "CPUs that come and go", cpus_come_and_go, 28 },
	{ "state of the future", state_is_of_the_future, 4 },
};

static void test_oddities_are_not_told_and_hide_nothing(void **state)
{
	struct machine *before = *state;

	run(before, HISTORY, NULL);
	for (size_t i = 0; i < ELEMENTS_OF(oddities); i++) {
		struct machine *m = copy(before);
		unsigned told = all_told(m);

		print_message("# %s\n", oddities[i].name);
		run(m, oddities[i].ticks, oddities[i].change);
		run(m, 120, NULL);
		assert_int_equal(all_told(m), told);
		assert_troubles_are_told(m);
		machine_free(m);
	}
}

/* TickSec= is set anew: what comes in so many seconds does so as before. */
static void test_ticks_of_another_length_move_what_is_counted_in_them(void **state)
{
	static const struct {
		double before, after;
		unsigned every;
	} lengths[] = { { 10, 1, 15 }, { 2, 1, 75 }, { 5, 1, 15 }, { 1, 5, 75 }, { 1, 20, 300 } };

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(lengths); i++) {
		struct machine *m;

		setup((void **)&m);
		m->seconds = lengths[i].before;
		m->every = lengths[i].every;
		run(m, HISTORY, NULL);
		m->seconds = lengths[i].after;
		m->every = (unsigned)(lengths[i].every * lengths[i].before / lengths[i].after);
		run(m, 1200, NULL);
		print_message("# ticks of %.0f s after %.0f s\n", lengths[i].after, lengths[i].before);
		/* That a unit grows all the time. */
		assert_int_equal(all_told(m), 1);
		assert_int_equal(m->told[TOLD_GROWTH], 1);
		assert_troubles_are_told(m);
		machine_free(m);
	}
}

static void surges(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)m, (void)since;
	for (size_t u = 0; u < UNITS; u++)
		for (unsigned i = 0; u != VICTIM && i < METRIC_N; i++) {
			does->units[u].totals[i] *= 10;
			for (unsigned k = 0; k < WAITS; k++)
				does->units[u].stacks[k][i] *= 10;
		}
}

/* A daemon that is started in the middle of it. */
static void test_a_surge_of_the_first_ticks_is_forgotten(void **state)
{
	struct machine *m = *state;

	run(m, 120, surges);
	run(m, HISTORY, NULL);
	assert_troubles_are_told(m);
}

static void constant_but_for_one(struct machine *m, struct machine_does *does, uint64_t since)
{
	all_is_constant(m, does, since);
	one_point(m, does, since);
	if (since == 1) {
		does->units[VICTIM].totals[METRIC_ON_CPU] += 10000000;
		does->units[VICTIM].stacks[0][METRIC_HITS]++;
		does->units[VICTIM].stacks[0][METRIC_ON_CPU] += 20000000;
		does->units[VICTIM].memory = 4096;
	}
}

static void test_one_count_after_days_without_any_variance(void **state)
{
	struct machine *m = *state;

	run(m, 20000, all_is_constant);
	run(m, 600, constant_but_for_one);
	assert_int_equal(all_told(m), 0);
	assert_troubles_are_told(m);
}

static void nothing_is_sampled(struct machine *m, struct machine_does *does, uint64_t since)
{
	(void)m, (void)since;
	for (size_t u = 0; u < UNITS; u++)
		memset(does->units[u].stacks, 0, sizeof(does->units[u].stacks));
}

static void test_hours_without_samples(void **state)
{
	struct machine *m = *state;

	run(m, HISTORY, NULL);
	run(m, 7200, nothing_is_sampled);
	run(m, 120, NULL);
	assert_int_equal(all_told(m), m->told[TOLD_GROWTH]);
	assert_troubles_are_told(m);
	assert_true(((struct series_state *)state_of(m, VICTIM, 0))->gap_max < 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_oddities_are_not_told_and_hide_nothing, setup, teardown),
		cmocka_unit_test(test_ticks_of_another_length_move_what_is_counted_in_them),
		cmocka_unit_test_setup_teardown(test_a_surge_of_the_first_ticks_is_forgotten, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_count_after_days_without_any_variance, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hours_without_samples, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
