/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "calibrate.h"

#define SERIES 200
#define T0 1700000000000000ULL

/* A small machine: SERIES series with noise, one detector. */
struct machine {
	struct detect *d;
	void *global;
	uint8_t *states;
	uint64_t tick, rng;
	uint64_t alarms;
	struct detect_result last;
	size_t last_series;
};

static uint32_t rnd(struct machine *m)
{
	m->rng = m->rng * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(m->rng >> 33);
}

static int setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct detect_config config = { .false_alarms_per_day = 1 };

	m->global = calloc(1, detect_global_state_size());
	m->states = calloc(SERIES, detect_series_state_size());
	m->rng = 42;
	assert_int_equal(detect_new(&m->d, &config, m->global), 0);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct machine *m = *state;

	detect_free(m->d);
	free(m->global);
	free(m->states);
	free(m);
	return 0;
}

static void reopen(struct machine *m)
{
	struct detect_config config = { .false_alarms_per_day = 1 };

	m->d = detect_free(m->d);
	assert_int_equal(detect_new(&m->d, &config, m->global), 0);
}

static bool feed(struct machine *m, size_t series, const uint64_t values[static METRIC_N], uint32_t silent)
{
	struct detect_result r;

	if (!detect_series(m->d, m->states + series * detect_series_state_size(), values, silent, &r))
		return false;
	m->alarms++;
	m->last = r;
	m->last_series = series;
	return true;
}

/* on-CPU samples of 20 ms, Poisson-like with some 5 a tick */
static void usual(struct machine *m, uint64_t values[static METRIC_N])
{
	uint64_t hits = 0;

	for (int i = 0; i < 10; i++)
		hits += rnd(m) % 2;
	memset(values, 0, METRIC_N * sizeof(uint64_t));
	values[METRIC_ON_CPU] = hits * 20000000;
	values[METRIC_HITS] = hits;
	values[METRIC_RUNNABLE] = 1000000 + rnd(m) % 2000000;
}

static void begin(struct machine *m)
{
	struct detect_tick tick = {
		.time_us = T0 + m->tick * USEC_PER_SEC,
		.duration_ns = NSEC_PER_SEC,
		.load = 1,
		.gate_open = true,
		.online_cpus = 64,
	};

	m->tick++;
	detect_tick_begin(m->d, &tick);
}

/* n quiet ticks, in which series `odd` has the values `odd_values` instead */
static void run(struct machine *m, unsigned n, size_t odd, const uint64_t *odd_values)
{
	while (n-- > 0) {
		begin(m);
		for (size_t i = 0; i < SERIES; i++) {
			uint64_t values[METRIC_N];

			usual(m, values);
			feed(m, i, i == odd ? odd_values : values, 0);
		}
		detect_tick_end(m->d);
	}
}

static void test_types_have_names(void **state)
{
	(void)state;
	for (int t = 0; t < DETECT_TYPE_N; t++) {
		enum detect_type back;

		assert_int_equal(detect_type_from_string(detect_type_to_string(t), &back), 0);
		assert_int_equal(back, t);
	}
	assert_string_equal(detect_type_to_string(DETECT_LEVEL_SHIFT), "level-shift");
	enum detect_type unchanged = DETECT_DROP;
	assert_int_equal(detect_type_from_string("nonsense", &unchanged), -EINVAL);
	assert_int_equal(unchanged, DETECT_DROP);
	assert_null(detect_type_to_string(DETECT_TYPE_N));
}

static void test_state_is_small(void **state)
{
	(void)state;
	assert_true(detect_series_state_size() <= 256);
	assert_int_equal(detect_series_state_size() % 8, 0);
	assert_true(detect_global_state_size() < 320 * 1024);
}

static void test_spike_is_told_with_what_moved(void **state)
{
	struct machine *m = *state;
	uint64_t spike[METRIC_N] = {
		[METRIC_ON_CPU] = 5 * NSEC_PER_SEC, [METRIC_HITS] = 250, [METRIC_RUNNABLE] = 1500000
	};

	run(m, 1800, SIZE_MAX, NULL);
	assert_int_equal(m->alarms, 0);
	run(m, 5, 17, spike);
	assert_int_equal(m->alarms, 1);
	assert_int_equal(m->last_series, 17);
	assert_int_equal(m->last.metric, METRIC_ON_CPU);
	assert_int_equal(m->last.type, DETECT_SPIKE);
	assert_true(m->last.p_value > 0 && m->last.p_value < 1e-6);
	assert_true(fabs(m->last.score + log10(m->last.p_value)) < 1e-3);
	assert_true(m->last.observed > 4 * m->last.expected);
	assert_true(m->last.expected > 0.05e9 && m->last.expected < 0.2e9);
	assert_true(m->last.since_us <= T0 + m->tick * USEC_PER_SEC &&
		    m->last.since_us >= T0 + (m->tick - 10) * USEC_PER_SEC);
}

static double evidence(void *userdata, enum metric metric, bool rises)
{
	const double *decades = userdata;

	return metric == METRIC_ON_CPU && rises ? *decades : 0;
}

static void test_evidence_from_elsewhere_moves_what_is_told(void **state)
{
	struct machine *m = *state;
	struct detect_status before, after;
	uint64_t spike[METRIC_N] = {
		[METRIC_ON_CPU] = 5 * NSEC_PER_SEC, [METRIC_HITS] = 250, [METRIC_RUNNABLE] = 1500000
	};
	uint64_t wait[METRIC_N] = { [METRIC_RUNNABLE] = 50 * NSEC_PER_SEC };
	double decades = 30;

	run(m, 1800, SIZE_MAX, NULL);
	detect_set_evidence(m->d, evidence, &decades);
	detect_get_status(m->d, &before);
	run(m, 5, 17, spike);
	detect_get_status(m->d, &after);
	assert_int_equal(m->alarms, 0);
	assert_true(after.suppressed > before.suppressed);
	run(m, 120, SIZE_MAX, NULL);
	/* Of another metric it says nothing. */
	run(m, 5, 17, wait);
	assert_int_equal(m->alarms, 1);
	assert_int_equal(m->last.metric, METRIC_RUNNABLE);
	run(m, 120, SIZE_MAX, NULL);
	decades = 0;
	run(m, 5, 23, spike);
	assert_int_equal(m->alarms, 2);
	assert_true(m->last.margin > 0);
	/* Not told after all. */
	detect_withhold(m->d);
	detect_get_status(m->d, &after);
	assert_int_equal(after.alarms, 1);
}

/* In a copy of the machine: whether a spike of so many seconds a second is told. */
static bool told_with(const struct machine *of, double decades, double on_cpu_s)
{
	const struct detect_config one_a_day = { .false_alarms_per_day = 1 };
	size_t states_size = SERIES * detect_series_state_size();
	struct machine m = *of;
	uint64_t spike[METRIC_N] = { [METRIC_ON_CPU] = (uint64_t)(on_cpu_s * 1e9), [METRIC_HITS] = (uint64_t)(on_cpu_s * 50),
				     [METRIC_RUNNABLE] = 1500000 };

	m.global = malloc(detect_global_state_size());
	m.states = malloc(states_size);
	memcpy(m.global, of->global, detect_global_state_size());
	memcpy(m.states, of->states, states_size);
	assert_int_equal(detect_new(&m.d, &one_a_day, m.global), 0);
	detect_set_evidence(m.d, evidence, &decades);
	run(&m, 1, 17, spike);
	detect_free(m.d);
	free(m.global);
	free(m.states);
	return m.alarms > of->alarms;
}

/* What is nearly enough is enough where it has been real, and only what is nearly so. */
static void test_lowered_evidence_tells_what_is_nearly_enough(void **state)
{
	struct machine *m = *state;
	unsigned usual = 0, lowered = 0, unbounded = 0;

	run(m, 1800, SIZE_MAX, NULL);
	for (double s = 0.2; s < 2; s *= 1.04) {
		usual += told_with(m, 0, s);
		lowered += told_with(m, -DETECT_EVIDENCE_LOWERED, s);
		unbounded += told_with(m, -30, s);
	}
	printf("# of the same spikes %u are told, %u with less evidence\n", usual, lowered);
	assert_true(usual > 0 && lowered > usual);
	assert_int_equal(unbounded, lowered);
}

static void test_nothing_is_told_before_there_is_experience(void **state)
{
	struct machine *m = *state;
	uint64_t spike[METRIC_N] = {
		[METRIC_ON_CPU] = 5 * NSEC_PER_SEC, [METRIC_HITS] = 250, [METRIC_RUNNABLE] = 60 * NSEC_PER_SEC
	};

	run(m, 20, SIZE_MAX, NULL);
	run(m, 5, 3, spike);
	assert_int_equal(m->alarms, 0);
}

static void test_one_alarm_for_one_trouble_but_escalation_is_told(void **state)
{
	struct machine *m = *state;
	uint64_t spike[METRIC_N] = {
		[METRIC_ON_CPU] = 3 * NSEC_PER_SEC, [METRIC_HITS] = 150, [METRIC_RUNNABLE] = 1500000
	};

	run(m, 1800, SIZE_MAX, NULL);
	run(m, 30, 17, spike);
	assert_int_equal(m->alarms, 1);
	spike[METRIC_ON_CPU] = 60 * NSEC_PER_SEC;
	spike[METRIC_HITS] = 3000;
	run(m, 30, 17, spike);
	assert_int_equal(m->alarms, 2);
	assert_int_equal(m->last_series, 17);
}

static void test_a_lasting_change_becomes_normal(void **state)
{
	struct machine *m = *state;
	uint64_t shifted[METRIC_N] = {
		[METRIC_ON_CPU] = NSEC_PER_SEC, [METRIC_HITS] = 50, [METRIC_RUNNABLE] = 1500000
	};

	run(m, 1800, SIZE_MAX, NULL);
	run(m, 5000, 17, shifted);
	assert_in_range(m->alarms, 1, 2);
	run(m, 3000, 17, shifted);
	assert_in_range(m->alarms, 1, 2);
}

static void test_a_regular_series_that_falls_silent(void **state)
{
	struct machine *m = *state;
	struct detect_config config = { .false_alarms_per_day = 100 };
	uint64_t zero[METRIC_N] = { 0 };

	detect_reconfigure(m->d, &config);
	/* young series fall silent every minute: that is what programs do */
	for (size_t i = 100; i < SERIES; i++) {
		memset(m->states + i * detect_series_state_size(), 0, detect_series_state_size());
		run(m, 100, SIZE_MAX, NULL);
		run(m, 60, i, zero);
	}
	assert_int_equal(m->alarms, 0);
	/* one that has been there all the time doesn't */
	run(m, 60, 5, zero);
	assert_int_equal(m->alarms, 1);
	assert_int_equal(m->last_series, 5);
	assert_int_equal(m->last.type, DETECT_VANISHED_STACK);
	assert_true(m->last.observed == 0 && m->last.expected > 0);
	/* known by now */
	run(m, 60, SIZE_MAX, NULL);
	run(m, 60, 5, zero);
	assert_int_equal(m->alarms, 1);
}

static void test_silences_as_ever_are_no_news(void **state)
{
	struct machine *m = *state;
	struct detect_config config = { .false_alarms_per_day = 100 };
	uint64_t zero[METRIC_N] = { 0 };

	detect_reconfigure(m->d, &config);
	for (size_t i = 100; i < SERIES; i++) {
		memset(m->states + i * detect_series_state_size(), 0, detect_series_state_size());
		run(m, 100, SIZE_MAX, NULL);
		run(m, 30, i, zero);
		run(m, 30, 5, zero);
	}
	assert_int_equal(m->alarms, 0);
}

static void test_what_follows_from_a_trouble_is_not_told_again(void **state)
{
	struct machine *m = *state;
	uint64_t spike[METRIC_N] = {
		[METRIC_ON_CPU] = 5 * NSEC_PER_SEC, [METRIC_HITS] = 250, [METRIC_RUNNABLE] = 1500000
	};
	uint64_t waits[METRIC_N] = {
		[METRIC_ON_CPU] = 100000000, [METRIC_HITS] = 5, [METRIC_RUNNABLE] = 50 * NSEC_PER_SEC
	};

	run(m, 1800, SIZE_MAX, NULL);
	run(m, 5, 17, spike);
	assert_int_equal(m->alarms, 1);
	run(m, 5, 17, waits);
	assert_int_equal(m->alarms, 1);
	/* in a series that has had none, the same is told */
	run(m, 100, SIZE_MAX, NULL);
	run(m, 5, 18, waits);
	assert_int_equal(m->alarms, 2);
	assert_int_equal(m->last_series, 18);
	assert_int_equal(m->last.metric, METRIC_RUNNABLE);
}

static void test_loss_is_no_drop(void **state)
{
	struct machine *m = *state;

	run(m, 1800, SIZE_MAX, NULL);
	for (unsigned i = 0; i < 60; i++) {
		struct detect_tick tick = {
			.time_us = T0 + m->tick * USEC_PER_SEC,
			.duration_ns = NSEC_PER_SEC,
			.load = 1,
			.gate_open = true,
			.online_cpus = 64,
			.lost_fraction = 0.95,
		};

		m->tick++;
		detect_tick_begin(m->d, &tick);
		for (size_t s = 0; s < SERIES; s++) {
			uint64_t values[METRIC_N];

			usual(m, values);
			for (unsigned v = 0; v < METRIC_N; v++)
				values[v] /= 20;
			feed(m, s, values, 0);
		}
		detect_tick_end(m->d);
	}
	assert_int_equal(m->alarms, 0);
}

static void test_calibration_claims_no_more_than_it_knows(void **state)
{
	struct family_state f = { 0 };
	struct tail t;
	double p, before = 1;

	(void)state;
	calibrate_prepare(&t, &f, false, 0, 1e-9);
	assert_true(calibrate_p(&t, 1e9) == 1);
	assert_true(isinf(t.critical));
	for (double n = 1e2; n <= 1e9; n *= 10) {
		f.n[0] = n;
		calibrate_prepare(&t, &f, false, 0, 1e-9);
		p = calibrate_p(&t, 1e6);
		assert_true(p < before && p >= 0.999 / (n + 1) / (n + 1));
		before = p;
	}
	/* scores that come often are not improbable, and never the more improbable the lower they are */
	for (unsigned i = 0; i < 100000; i++)
		calibrate_learn(&f, false, &t, false, 5 + 0.001f * (float)(i % 20000));
	f.n[0] = 1e6;
	calibrate_prepare(&t, &f, false, 0, 1e-9);
	p = calibrate_p(&t, 15);
	assert_true(p > 0.04 && p < 0.07);
	before = 1;
	for (double s = 0.1; s < 1e5; s *= 1.03) {
		p = calibrate_p(&t, s);
		assert_true(p <= before && p > 0);
		before = p;
	}
	assert_true(fabs(calibrate_p(&t, t.critical) / 1e-9 - 1) < 1e-6);
	/* an exponential tail is no less a probability */
	calibrate_prepare(&t, &f, false, 3, 1e-9);
	before = 1;
	for (double s = 0.1; s < 1e5; s *= 1.03) {
		p = calibrate_p(&t, s);
		assert_true(p <= before && p > 0);
		before = p;
	}
	assert_true(fabs(calibrate_p(&t, t.critical) / 1e-9 - 1) < 1e-6);
	/* the gate's other state borrows it, until it knows better */
	calibrate_prepare(&t, &f, true, 0, 1e-9);
	p = calibrate_p(&t, 15);
	assert_true(p > 0.04 && p < 0.07);
	f.n[1] = 1e9;
	calibrate_prepare(&t, &f, true, 0, 1e-9);
	assert_true(calibrate_p(&t, 15) < 1e-4);
}

static void test_damaged_state_is_taken_as_new(void **state)
{
	struct machine *m = *state;
	struct series_state *s = (struct series_state *)m->states;

	run(m, 100, SIZE_MAX, NULL);
	s[3].metrics[METRIC_RUNNABLE].mean = NAN;
	s[4].born = UINT32_MAX;
	run(m, 100, SIZE_MAX, NULL);
	assert_true(isfinite(s[3].metrics[METRIC_RUNNABLE].mean));
	assert_int_equal(s[3].born, 101);
	assert_int_equal(s[4].born, 101);
	assert_int_equal(s[5].born, 1);
}

static void test_impossible_numbers_never_alarm(void **state)
{
	struct machine *m = *state;
	static const uint64_t durations[] = { 0, 1, NSEC_PER_SEC, 3600 * NSEC_PER_SEC, UINT64_MAX };
	static const uint64_t times[] = { 0, T0, T0 - 3600 * USEC_PER_SEC, UINT64_MAX };
	static const double odd[] = { 0, -1, 1, 2, NAN, INFINITY, -INFINITY };
	uint64_t huge[METRIC_N], zero[METRIC_N] = { 0 },
				 constant[METRIC_N] = { [METRIC_BLOCKED] = NSEC_PER_SEC };

	memset(huge, 0xff, sizeof(huge));
	for (unsigned i = 0; i < 20000; i++) {
		struct detect_tick tick = {
			.time_us = times[rnd(m) % ELEMENTS_OF(times)],
			.duration_ns = durations[rnd(m) % ELEMENTS_OF(durations)],
			.load = odd[rnd(m) % ELEMENTS_OF(odd)],
			.gate_open = rnd(m) % 2,
			.online_cpus = rnd(m) % 3,
			.lost_fraction = odd[rnd(m) % ELEMENTS_OF(odd)],
		};
		struct detect_status status;

		detect_tick_begin(m->d, &tick);
		feed(m, 0, zero, 0);
		feed(m, 1, constant, 0);
		feed(m, 2, i % 2 ? huge : zero, rnd(m) % 2 ? UINT32_MAX : 0);
		feed(m, 3, huge, 0);
		detect_tick_end(m->d);
		detect_get_status(m->d, &status);
		assert_true(isfinite(status.threshold));
		assert_true(isfinite(status.tests_per_day));
	}
	assert_int_equal(m->alarms, 0);
	reopen(m);
	run(m, 10, SIZE_MAX, NULL);
	assert_int_equal(m->alarms, 0);
}

static void test_foreign_state_is_taken_as_new(void **state)
{
	struct machine *m = *state;
	struct detect_status status;

	memset(m->global, 0x5a, detect_global_state_size());
	for (size_t i = 0; i < SERIES * detect_series_state_size(); i++)
		m->states[i] = (uint8_t)rnd(m);
	reopen(m);
	detect_get_status(m->d, &status);
	assert_int_equal(status.scored, 0);
	run(m, 600, SIZE_MAX, NULL);
	assert_int_equal(m->alarms, 0);
	detect_get_status(m->d, &status);
	assert_true(status.scored > 0);
	assert_true(status.threshold > 3);
}

static void test_the_budget_moves_the_threshold(void **state)
{
	struct machine *m = *state;
	struct detect_status strict, lax;
	struct detect_config config = { .false_alarms_per_day = 1000 };

	run(m, 100, SIZE_MAX, NULL);
	detect_get_status(m->d, &strict);
	detect_reconfigure(m->d, &config);
	detect_get_status(m->d, &lax);
	assert_true(fabs(strict.threshold - lax.threshold - 3) < 1e-6);
}

/* Units of a machine with 2 CPUs: each takes a fiftieth of a CPU, give or take. */
static bool run_units(struct machine *m, unsigned ticks, uint64_t busy, uint64_t busy_ns, uint64_t *ret_key)
{
	bool told = false;

	while (ticks-- > 0) {
		struct detect_tick tick = {
			.time_us = T0 + m->tick * USEC_PER_SEC,
			.duration_ns = NSEC_PER_SEC,
			.load = 1,
			.online_cpus = 2,
		};
		struct detect_result result;
		uint64_t key;

		m->tick++;
		for (uint64_t unit = 1; unit <= 10; unit++) {
			uint64_t values[METRIC_N] = { [METRIC_ON_CPU] = 10000000 + rnd(m) % 20000000,
						      [METRIC_RUNNABLE] = 100000 + rnd(m) % 1000000 };

			if (unit == busy) {
				values[METRIC_ON_CPU] = busy_ns;
				values[METRIC_RUNNABLE] = 6 * busy_ns;
			}
			/* by process */
			assert_int_equal(detect_add_total(m->d, unit, values), 0);
			assert_int_equal(detect_add_total(m->d, unit, values), 0);
		}
		detect_tick_begin(m->d, &tick);
		if (detect_totals(m->d, &key, &result)) {
			assert_false(told);
			told = true;
			*ret_key = key;
			m->last = result;
		}
		detect_tick_end(m->d);
	}
	return told;
}

static void test_unit_that_takes_the_machine_is_told(void **state)
{
	struct machine *m = *state;
	uint64_t key;

	assert_false(run_units(m, 900, 0, 0, &key));
	assert_true(run_units(m, 30, 7, NSEC_PER_SEC, &key));
	assert_int_equal(key, 7);
	assert_true(m->last.observed > 10 * m->last.expected);
	/* a restart keeps what is known */
	reopen(m);
	assert_false(run_units(m, 60, 7, NSEC_PER_SEC, &key));
}

static void test_short_use_of_the_machine_is_not_told(void **state)
{
	struct machine *m = *state;
	uint64_t key;

	assert_false(run_units(m, 900, 0, 0, &key));
	for (unsigned i = 0; i < 20; i++) {
		assert_false(run_units(m, 3, 1 + i % 10, NSEC_PER_SEC, &key));
		assert_false(run_units(m, 20, 0, 0, &key));
	}
}

static void test_units_are_bounded(void **state)
{
	struct machine *m = *state;
	const uint64_t little[METRIC_N] = { [METRIC_ON_CPU] = 1000000 };
	struct detect_tick tick = { .time_us = T0, .duration_ns = NSEC_PER_SEC, .online_cpus = 2 };
	struct detect_status status;
	struct detect_result result;
	uint64_t key;

	/* as many as there is room for, and then others: those that do nothing make room */
	for (uint64_t round = 0; round < 2; round++) {
		detect_get_status(m->d, &status);
		for (uint64_t unit = 1; unit <= status.units_max; unit++)
			assert_int_equal(detect_add_total(m->d, round * 1000 + unit, little), 0);
		detect_tick_begin(m->d, &tick);
		detect_totals(m->d, &key, &result);
		detect_tick_end(m->d);
		detect_get_status(m->d, &status);
		assert_int_equal(status.units, status.units_max);
	}
	for (uint64_t unit = 0; unit < status.units_max; unit++)
		assert_int_equal(detect_add_total(m->d, 5000 + unit, little), 0);
	assert_int_equal(detect_add_total(m->d, 6000, little), -ENOSPC);
	assert_int_equal(detect_add_total(m->d, 5000, little), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types_have_names),
		cmocka_unit_test(test_state_is_small),
		cmocka_unit_test_setup_teardown(test_spike_is_told_with_what_moved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_evidence_from_elsewhere_moves_what_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lowered_evidence_tells_what_is_nearly_enough, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_told_before_there_is_experience, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_one_alarm_for_one_trouble_but_escalation_is_told, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_lasting_change_becomes_normal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_regular_series_that_falls_silent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_silences_as_ever_are_no_news, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_follows_from_a_trouble_is_not_told_again, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_loss_is_no_drop, setup, teardown),
		cmocka_unit_test(test_calibration_claims_no_more_than_it_knows),
		cmocka_unit_test_setup_teardown(test_damaged_state_is_taken_as_new, setup, teardown),
		cmocka_unit_test_setup_teardown(test_impossible_numbers_never_alarm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_state_is_taken_as_new, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_budget_moves_the_threshold, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unit_that_takes_the_machine_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_short_use_of_the_machine_is_not_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_units_are_bounded, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
