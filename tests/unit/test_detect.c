/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "internal.h"

#define SERIES 200
#define T0 1700000000000000ULL

/* A small machine: SERIES series with noise, one detector. */
struct machine {
	struct detect *d;
	void *global;
	uint8_t *states;
	uint64_t tick, duration_ns /* 0: a second */, rng;
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

static void begin_lossy(struct machine *m, double lost)
{
	struct detect_tick tick = {
		.time_us = T0 + m->tick * USEC_PER_SEC,
		.duration_ns = m->duration_ns ? m->duration_ns : NSEC_PER_SEC,
		.load = 1,
		.gate_open = true,
		.online_cpus = 64,
		.lost_fraction = lost,
	};

	m->tick++;
	detect_tick_begin(m->d, &tick);
}

static void begin(struct machine *m)
{
	begin_lossy(m, 0);
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
	assert_true(detect_global_state_size() < 808 * 1024);
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
	detect_withhold(m->d, &m->last);
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

/* What is left of it in ticks that lose most of their samples. */
static void run_lossy(struct machine *m, unsigned n, double lost, size_t odd, const uint64_t *odd_values)
{
	while (n-- > 0) {
		begin_lossy(m, lost);
		for (size_t s = 0; s < SERIES; s++) {
			uint64_t values[METRIC_N];

			usual(m, values);
			for (unsigned v = 0; v < METRIC_N; v++)
				values[v] = (uint64_t)((double)(s == odd ? odd_values[v] : values[v]) * (1 - lost));
			feed(m, s, values, 0);
		}
		detect_tick_end(m->d);
	}
}

/* Programs come and go all the time. One that takes all CPUs is told when it has been there for four ticks. */
static void test_new_stack_that_takes_the_machine_is_told_at_once(void **state)
{
	const uint64_t all[METRIC_N] = { [METRIC_ON_CPU] = 32 * NSEC_PER_SEC, [METRIC_HITS] = 1600, [METRIC_RUNNABLE] = 1500000 };
	struct machine *m = *state;

	for (size_t i = 0; i < 3200; i++) {
		/* ten new ones a tick */
		memset(m->states + (100 + i % 10 * 10) * detect_series_state_size(), 0, 10 * detect_series_state_size());
		run(m, 1, SIZE_MAX, NULL);
	}
	assert_int_equal(m->alarms, 0);
	memset(m->states + 7 * detect_series_state_size(), 0, detect_series_state_size());
	run(m, 3, 7, all);
	assert_int_equal(m->alarms, 0);
	run(m, 1, 7, all);
	assert_int_equal(m->alarms, 1);
	assert_int_equal(m->last_series, 7);
	assert_int_equal(m->last.type, DETECT_NEW_STACK);
	assert_true(m->last.observed > 0.9 * 32 * NSEC_PER_SEC && m->last.observed < 1.1 * 32 * NSEC_PER_SEC);
}

/* A stack does something for some ticks, and for a second six hours later: not visited meanwhile, it comes to all its milestones at once. */
static void test_what_comes_back_is_no_heavy_birth(void **state)
{
	static const uint64_t nothing[METRIC_N];
	const uint64_t a_cpu[METRIC_N] = { [METRIC_ON_CPU] = NSEC_PER_SEC, [METRIC_HITS] = 50, [METRIC_RUNNABLE] = 1500000 };
	struct machine *m = *state;

	for (size_t i = 0; i < 3200; i++) {
		memset(m->states + (100 + i % 100) * detect_series_state_size(), 0, detect_series_state_size());
		run(m, 1, SIZE_MAX, NULL);
	}
	memset(m->states + 7 * detect_series_state_size(), 0, detect_series_state_size());
	run(m, 3, SIZE_MAX, NULL);
	run(m, 57, 7, nothing);
	for (unsigned tick = 0; tick <= 6 * 3600; tick++) {
		begin(m);
		for (size_t i = 0; i < SERIES; i++) {
			uint64_t values[METRIC_N];

			usual(m, values);
			if (i != 7)
				feed(m, i, values, 0);
			else if (tick == 6 * 3600)
				feed(m, i, a_cpu, 6 * 3600);
		}
		detect_tick_end(m->d);
	}
	assert_int_equal(m->alarms, 0);
}

static void test_loss_is_no_drop(void **state)
{
	struct machine *m = *state;

	run(m, 1800, SIZE_MAX, NULL);
	run_lossy(m, 60, 0.95, SIZE_MAX, NULL);
	assert_int_equal(m->alarms, 0);
}

/* What was lost can only have been more. */
static void test_loss_hides_no_rise(void **state)
{
	uint64_t spike[METRIC_N] = { [METRIC_ON_CPU] = 2 * NSEC_PER_SEC, [METRIC_HITS] = 100, [METRIC_RUNNABLE] = 1500000 };
	struct machine *m = *state;

	run_lossy(m, 1800, 0.6, SIZE_MAX, NULL);
	assert_int_equal(m->alarms, 0);
	run_lossy(m, 3, 0.6, 17, spike);
	assert_int_equal(m->alarms, 1);
	assert_int_equal(m->last_series, 17);
	assert_int_equal(m->last.type, DETECT_SPIKE);
}

/* The critical score after so many more, far beyond all that are usual; told: how many such are told in a day. */
static double critical_after(unsigned n, float s, double told)
{
	const struct tail_prior exponential = { .excess = 1.5 };
	struct family_state f = { .n = { 1e6 }, .told = told };
	struct tail t;

	for (unsigned i = 0; i <= n; i++) {
		for (unsigned k = 0; i == 0 && k < 1000; k++)
			f.bins[0][24 + k % 4]++;
		calibrate_prepare(&t, &f, false, &exponential, 0, 1e-9);
		t.doubt = 1e-9;
		if (i < n)
			calibrate_learn(&f, false, &t, false, s);
	}
	return t.critical;
}

static void test_troubles_are_not_what_is_usual(void **state)
{
	double before = critical_after(0, 0, 0);

	(void)state;
	assert_true(critical_after(20, 10 * (float)before, 2) < before + 0.5);
	/* but what just is told may be of what is usual, and what is told every half hour is */
	assert_true(critical_after(20, 1.01f * (float)before, 2) > before + 2);
	assert_true(critical_after(20, 10 * (float)before, 48) > before + 2);
}

static void test_calibration_claims_no_more_than_it_knows(void **state)
{
	const struct tail_prior pareto = { 0 };
	struct family_state f = { 0 };
	struct tail t = { .doubt = 1e-9 };
	double p, before = 1, critical = 0;

	(void)state;
	calibrate_prepare(&t, &f, false, &pareto, 0, 1e-9);
	assert_true(calibrate_p(&t, 1e9) == 1);
	assert_true(isinf(t.critical));
	for (double n = 1e2; n <= 1e9; n *= 10) {
		f.n[0] = n;
		calibrate_prepare(&t, &f, false, &pareto, 0, 1e-9);
		p = calibrate_p(&t, 1e6);
		assert_true(p < before && p >= 0.999 / (n + 1) / (n + 1));
		before = p;
	}
	/* scores that come often are not improbable, and never the more improbable the lower they are */
	f.n[0] = 1e6;
	for (unsigned i = 0; i < 100000; i++) {
		if (i % 100 == 0)
			calibrate_prepare(&t, &f, false, &pareto, 0, 1e-9);
		calibrate_learn(&f, false, &t, false, 5 + 0.001f * (float)(i * 7919 % 20000));
	}
	calibrate_prepare(&t, &f, false, &pareto, 0, 1e-9);
	p = calibrate_p(&t, 15);
	assert_true(p > 0.04 && p < 0.07);
	before = 1;
	for (double s = 0.1; s < 1e5; s *= 1.03) {
		p = calibrate_p(&t, s);
		assert_true(p <= before && p > 0);
		before = p;
	}
	assert_true(fabs(calibrate_p(&t, t.critical) / 1e-9 - 1) < 1e-6);
	/* an exponential tail is no less a probability, nor is one that is as heavy as a mixture, which has everything less improbable */
	for (double shape = 0; shape < 0.5; shape += 0.15) {
		struct tail_prior prior = { .excess = 3, .shape = shape };

		calibrate_prepare(&t, &f, false, &prior, 0, 1e-9);
		before = 1;
		for (double s = 0.1; s < 1e5; s *= 1.03) {
			p = calibrate_p(&t, s);
			assert_true(p <= before && p > 0);
			before = p;
		}
		assert_true(fabs(calibrate_p(&t, t.critical) / 1e-9 - 1) < 1e-6);
		assert_true(t.critical > critical);
		critical = t.critical;
	}
	/* the gate's other state borrows it, until it knows better */
	calibrate_prepare(&t, &f, true, &pareto, 0, 1e-9);
	p = calibrate_p(&t, 15);
	assert_true(p > 0.04 && p < 0.07);
	f.n[1] = 1e9;
	calibrate_prepare(&t, &f, true, &pareto, 0, 1e-9);
	assert_true(calibrate_p(&t, 15) < 1e-4);
}

static void test_damaged_state_is_taken_as_new(void **state)
{
	struct machine *m = *state;
	struct stack_series *s = (struct stack_series *)m->states;

	run(m, 100, SIZE_MAX, NULL);
	s[3].state.metrics[METRIC_RUNNABLE].mean = NAN;
	s[4].state.born = UINT32_MAX;
	run(m, 100, SIZE_MAX, NULL);
	assert_true(isfinite(s[3].state.metrics[METRIC_RUNNABLE].mean));
	assert_int_equal(s[3].state.born, 101);
	assert_int_equal(s[4].state.born, 101);
	assert_int_equal(s[5].state.born, 1);
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

/* The first ticks of a daemon that starts on a busy machine follow each other at once; and TickSec= is set anew. */
static void test_ticks_of_another_length_are_usual_after_some(void **state)
{
	struct machine *m = *state;
	uint64_t spike[METRIC_N] = {
		[METRIC_ON_CPU] = 5 * NSEC_PER_SEC, [METRIC_HITS] = 250, [METRIC_RUNNABLE] = 1500000
	};
	struct detect_status before, after;

	m->duration_ns = NSEC_PER_SEC / 20;
	run(m, 3, SIZE_MAX, NULL);
	m->duration_ns = NSEC_PER_SEC;
	run(m, 1800, SIZE_MAX, NULL);
	run(m, 5, 17, spike);
	assert_int_equal(m->alarms, 1);
	/* A gap is no measurement; a few of them neither. */
	m->duration_ns = 30 * NSEC_PER_SEC;
	detect_get_status(m->d, &before);
	run(m, 3, SIZE_MAX, NULL);
	detect_get_status(m->d, &after);
	assert_int_equal(after.scored, before.scored);
	run(m, 10, SIZE_MAX, NULL);
	detect_get_status(m->d, &after);
	assert_true(after.scored > before.scored);
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

/* Twenty units, each of which does a little in every so many ticks, give or take some. Unit 5 is away from a tick on. Gives the tick in which
 * something was told of it. */
static uint64_t run_timers(struct machine *m, unsigned ticks, unsigned every, bool exact, uint64_t away_from)
{
	const uint64_t little[METRIC_N] = { [METRIC_ON_CPU] = 5000000 };
	uint64_t next[20] = { 0 }, found = 0;

	while (ticks-- > 0) {
		struct detect_tick tick = { .time_us = T0 + m->tick++ * USEC_PER_SEC, .duration_ns = NSEC_PER_SEC, .online_cpus = 2 };
		struct detect_result result;
		uint64_t key;

		for (uint64_t unit = 1; unit <= ELEMENTS_OF(next); unit++) {
			if (m->tick < next[unit - 1] || (unit == 5 && away_from && m->tick >= away_from))
				continue;
			next[unit - 1] = m->tick + (exact ? every : 1 + (uint64_t)(-log((rnd(m) + 1.0) / (1u << 31)) * every));
			assert_int_equal(detect_add_total(m->d, unit, little), 0);
		}
		detect_tick_begin(m->d, &tick);
		if (detect_totals(m->d, &key, &result)) {
			m->alarms++;
			m->last = result;
			if (key == 5 && !found)
				found = m->tick;
		}
		detect_tick_end(m->d);
	}
	return found;
}

/* What comes by the clock is missed as soon as it is late by more than its own ticks. */
static void test_late_timer_is_told(void **state)
{
	struct machine *m = *state;
	uint64_t found;

	assert_int_equal(run_timers(m, 7200, 15, true, 0), 0);
	assert_int_equal(m->alarms, 0);
	found = run_timers(m, 60, 15, true, m->tick + 2);
	assert_true(found > 0);
	assert_int_equal(m->last.type, DETECT_VANISHED_STACK);
	/* It had been there in the first of these ticks, and was due 15 later. */
	assert_true(found - (m->tick - 60) >= 16 && found - (m->tick - 60) <= 15 + 8);
}

/* What comes by chance is not. */
static void test_late_by_chance_is_not_told(void **state)
{
	struct machine *m = *state;

	run_timers(m, 20000, 15, false, 0);
	assert_int_equal(m->alarms, 0);
}

/* Fills its ticks with what comes every so many, but not between two of them. Gives the highest s of a silence in the last `last` ticks. */
static float live_by_the_clock(struct total_series *t, struct tick_context *c, unsigned ticks, unsigned every, unsigned last)
{
	static const struct population none;
	static struct findings f;
	float most = 0;

	while (ticks-- > 0) {
		uint64_t values[METRIC_N] = { 0 };

		if (++c->tick % every == 0)
			values[METRIC_ON_CPU] = 5000000;
		model_visit_total(&none, c, t, values, &f);
		for (size_t i = 0; i < f.n && ticks < last; i++)
			most = f.all[i].family == FAMILY_UNIT_SILENT && !model_is_over(&f.all[i]) ? fmaxf(most, f.all[i].s) : most;
	}
	return most;
}

/* A night for which a timer was stopped is not for ever what it may be late by. */
static void test_a_long_absence_is_forgotten(void **state)
{
	struct tick_context c = { .seconds = 1, .trust = 1 };
	struct total_series t = { 0 };

	(void)state;
	memset(c.most, 0xff, sizeof(c.most));
	for (unsigned m = 0; m < SCORED_METRICS; m++)
		c.floor[m] = 2e7f;
	live_by_the_clock(&t, &c, 86400, 15, 0);
	assert_true(live_by_the_clock(&t, &c, 7200, UINT32_MAX, 7200) > 50);
	/* Of the next hours it says something. */
	live_by_the_clock(&t, &c, 7200, 15, 0);
	assert_true(live_by_the_clock(&t, &c, 60, UINT32_MAX, 60) <= 0);
	live_by_the_clock(&t, &c, 12 * 86400, 15, 0);
	assert_true(live_by_the_clock(&t, &c, 75, UINT32_MAX, 75) > 25);
}

/* The same of a stack. */
static void test_a_stack_that_was_away_for_long_can_vanish_again(void **state)
{
	struct population p = { 0 };
	struct tick_context c = { .seconds = 1, .trust = 1, .activity = 1 };
	const uint64_t nothing[METRIC_N] = { 0 }, usual[METRIC_N] = { [METRIC_ON_CPU] = 100000000, [METRIC_HITS] = 5 };
	static struct stack_series s;
	static struct findings f;
	unsigned found[3] = { 0 };

	(void)state;
	memset(c.most, 0xff, sizeof(c.most));
	for (unsigned m = 0; m < SCORED_METRICS; m++)
		c.floor[m] = c.quantum[m] = c.window_quantum[m][0] = c.window_quantum[m][1] = 2e7f;
	for (unsigned life = 0; life < 3; life++) {
		for (unsigned i = 0; i < (life == 1 ? 3600 : 4 * 86400); i++) {
			c.tick++;
			model_visit(&p, &c, &s, usual, 0, &f);
		}
		for (unsigned i = 0; i < 300; i++) {
			c.tick++;
			model_visit(&p, &c, &s, nothing, 0, &f);
			for (size_t k = 0; k < f.n; k++)
				found[life] += f.all[k].family == FAMILY_VANISHED;
		}
	}
	assert_int_equal(found[0], 1);
	assert_int_equal(found[1], 0);
	assert_int_equal(found[2], 1);
}

static unsigned sums_of(struct population *p, struct tick_context *c, struct stack_series *s, unsigned ticks, double from, double to)
{
	static struct findings f;
	static uint64_t rng = 1;
	unsigned found = 0;

	for (unsigned i = 0; i < ticks; i++) {
		uint64_t values[METRIC_N] = { 0 };
		double rate = from * pow(to / from, (double)i / ticks);

		for (unsigned k = 0; k < 100; k++) {
			rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
			values[METRIC_HITS] += (double)(rng >> 33) / 2147483648.0 < rate / 100;
		}
		values[METRIC_ON_CPU] = values[METRIC_HITS] * 200000000;
		c->tick++;
		model_visit(p, c, s, values, 0, &f);
		for (size_t k = 0; k < f.n; k++)
			found += family_is_sum(f.all[k].family) && f.all[k].s > 16;
	}
	return found;
}

/* What comes within minutes is for windows; what comes at a tick, for sums. */
static void test_a_sum_follows_what_comes_by_and_by(void **state)
{
	struct population p = { 0 };
	struct tick_context c = { .seconds = 1, .trust = 1, .activity = 1 };
	static struct stack_series s;

	(void)state;
	memset(c.most, 0xff, sizeof(c.most));
	for (unsigned m = 0; m < SCORED_METRICS; m++)
		c.floor[m] = c.quantum[m] = c.window_quantum[m][0] = c.window_quantum[m][1] = 2e8f;
	assert_int_equal(sums_of(&p, &c, &s, 20000, 0.5, 0.5), 0);
	assert_int_equal(sums_of(&p, &c, &s, 600, 0.5, 4), 0);
	assert_int_equal(sums_of(&p, &c, &s, 12000, 4, 0.5), 0);
	assert_int_equal(sums_of(&p, &c, &s, 12000, 0.5, 0.5), 0);
	assert_true(sums_of(&p, &c, &s, 10, 5, 5) > 0);
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

/* ---- threads that wait elsewhere ---- */

#define WAITING_UNITS 20
#define THREADS 100.0

/* What a unit's threads do: of the same process, and of one that has just been started. */
struct unit_waits {
	double idle, locked, fresh; /* threads */
	double on_cpu;
	double process_s, fresh_s;
};

static const struct unit_waits usual_waits = { .idle = THREADS, .locked = 0.01, .on_cpu = 0.02, .process_s = 1e5, .fresh_s = 1e5 };

static void feed_wait(struct machine *m, uint64_t key, size_t series, double threads, double process_s)
{
	void *state = m->states + series * detect_series_state_size();
	uint64_t values[METRIC_N] = { [METRIC_BLOCKED] = (uint64_t)(threads * (0.98 + 0.04 * (double)(rnd(m) % 1000) / 1000) * 1e9) };

	detect_add_wait(m->d, key, state, values[METRIC_BLOCKED], detect_wait_rise(m->d, state, values[METRIC_BLOCKED], 0), process_s);
	feed(m, series, values, 0);
}

/* n ticks, in which unit `odd` does something else. Gives how many of them it took until its threads were told to have moved, 0: never. */
static unsigned run_waits(struct machine *m, unsigned n, size_t odd, const struct unit_waits *does)
{
	unsigned told = 0;

	for (unsigned tick = 1; tick <= n; tick++) {
		struct detect_result r;
		uint64_t key;

		for (size_t u = 0; u < WAITING_UNITS; u++) {
			double on_cpu = (u == odd ? does->on_cpu : usual_waits.on_cpu) * (0.5 + (double)(rnd(m) % 1000) / 1000);
			uint64_t values[METRIC_N] = { [METRIC_ON_CPU] = (uint64_t)(on_cpu * 1e9) };

			assert_int_equal(detect_add_total(m->d, u + 1, values), 0);
		}
		begin(m);
		m->alarms += detect_totals(m->d, &key, &r);
		for (size_t u = 0; u < WAITING_UNITS; u++) {
			const struct unit_waits *w = u == odd ? does : &usual_waits;

			feed_wait(m, u + 1, 3 * u, w->idle, w->process_s);
			feed_wait(m, u + 1, 3 * u + 1, w->locked, w->process_s);
			if (w->fresh > 0)
				feed_wait(m, u + 1, 3 * u + 2, w->fresh, w->fresh_s);
		}
		if (detect_moved_waits(m->d, &key, &r) && !told) {
			told = tick;
			m->last = r;
			m->last_series = key - 1;
		}
		detect_tick_end(m->d);
	}
	return told;
}

static const struct detect_config thousand = { .false_alarms_per_day = 1000 };

static void test_threads_that_wait_elsewhere_are_told_after_minutes(void **state)
{
	const struct unit_waits convoy = { .locked = THREADS, .process_s = 1e5 };
	struct machine *m = *state;

	detect_reconfigure(m->d, &thousand);
	assert_int_equal(run_waits(m, 90, SIZE_MAX, NULL), 0);
	assert_in_range(run_waits(m, 10, 7, &convoy), 1, 6);
	assert_int_equal(m->last_series, 7);
	assert_int_equal(m->last.metric, METRIC_BLOCKED);
	assert_true(m->last.observed > 50e9 && m->last.expected < 10e9);
}

static void test_the_same_in_a_stack_never_seen(void **state)
{
	const struct unit_waits stall = { .fresh = THREADS, .process_s = 1e5, .fresh_s = 90 };
	struct machine *m = *state;

	detect_reconfigure(m->d, &thousand);
	assert_int_equal(run_waits(m, 90, SIZE_MAX, NULL), 0);
	assert_in_range(run_waits(m, 10, 7, &stall), 1, 6);
	assert_int_equal(m->last_series, 7);
}

/* A wait for a backend is as old as the program: it is always waited a little there. */
static void test_the_same_in_a_stack_as_old_as_its_process(void **state)
{
	const struct unit_waits slow_backend = { .locked = THREADS, .process_s = 90 };
	struct machine *m = *state;

	detect_reconfigure(m->d, &thousand);
	assert_int_equal(run_waits(m, 90, SIZE_MAX, NULL), 0);
	assert_in_range(run_waits(m, 10, 7, &slow_backend), 1, 6);
	assert_int_equal(m->last_series, 7);
}

static void test_threads_that_are_not_missed_elsewhere_have_not_moved(void **state)
{
	const struct unit_waits more_threads = { .idle = THREADS, .fresh = 700, .on_cpu = 0.02, .process_s = 1e5, .fresh_s = 1e5 };
	const struct unit_waits restarted = { .fresh = THREADS, .on_cpu = 0.02, .process_s = 1e5, .fresh_s = 2 };
	const struct unit_waits works = { .idle = 20, .locked = 20, .on_cpu = 80, .process_s = 1e5 };
	const struct unit_waits ended = { .on_cpu = 0 };
	struct machine *m = *state;

	detect_reconfigure(m->d, &thousand);
	assert_int_equal(run_waits(m, 600, SIZE_MAX, NULL), 0);
	assert_int_equal(run_waits(m, 100, 3, &more_threads), 0);
	assert_int_equal(run_waits(m, 20, 5, &restarted), 0);
	assert_int_equal(run_waits(m, 100, 7, &works), 0);
	assert_int_equal(run_waits(m, 100, 9, &ended), 0);
}

/* Nor does it hide those that come to wait elsewhere. */
static void test_a_stack_in_which_much_is_waited_at_times_is_usual(void **state)
{
	const struct unit_waits stall = { .idle = THREADS - 60, .fresh = 60, .on_cpu = 0.02, .process_s = 1e5, .fresh_s = 1e5 };
	struct machine *m = *state;

	detect_reconfigure(m->d, &thousand);
	for (unsigned i = 0; i < 120; i++) {
		double locked = rnd(m) % 40;
		const struct unit_waits busy = { .idle = THREADS - locked, .locked = locked, .on_cpu = 0.02, .process_s = 1e5 };

		assert_int_equal(run_waits(m, 5, 7, &busy), 0);
	}
	assert_in_range(run_waits(m, 10, 7, &stall), 1, 6);
	assert_int_equal(m->last_series, 7);
}

/* Those that wait on since the detector began have not come from where some have ended. */
static void test_waits_that_were_there_at_the_beginning_do_not_grow(void **state)
{
	const struct unit_waits both = { .idle = THREADS, .locked = 20, .process_s = 1e5 }, one = { .idle = THREADS, .process_s = 1e5 };
	struct machine *m = *state;

	detect_reconfigure(m->d, &(struct detect_config){ .false_alarms_per_day = 1e5 });
	assert_int_equal(run_waits(m, 90, 7, &both), 0);
	assert_int_equal(run_waits(m, 30, 7, &one), 0);
}

/* A daemon that begins finds the waits that go on, one by one and some twice. What lasts is told all the same. */
static void test_waits_found_at_a_start_are_no_news(void **state)
{
	const struct unit_waits convoy = { .locked = THREADS, .process_s = 1e5 };
	struct machine *m = *state;

	detect_reconfigure(m->d, &thousand);
	assert_int_equal(run_waits(m, 90, SIZE_MAX, NULL), 0);
	reopen(m);
	detect_reconfigure(m->d, &thousand);
	assert_int_equal(run_waits(m, 4, 7, &convoy), 0);
	assert_int_equal(run_waits(m, 20, SIZE_MAX, NULL), 0);
	reopen(m);
	detect_reconfigure(m->d, &thousand);
	assert_in_range(run_waits(m, 12, 9, &convoy), 5, 10);
	assert_int_equal(m->last_series, 9);
}

/* A unit that has just been told for the CPU that it takes, and whose threads then come to wait for a lock. */
static void test_another_trouble_of_a_unit_that_was_told_is_told(void **state)
{
	const struct unit_waits busy = { .idle = THREADS, .locked = 0.01, .on_cpu = 20, .process_s = 1e5 };
	const struct unit_waits busy_convoy = { .locked = THREADS, .on_cpu = 20, .process_s = 1e5 };
	const struct unit_waits busy_few = { .idle = THREADS - 30, .locked = 30, .on_cpu = 20, .process_s = 1e5 };
	const struct unit_waits few = { .idle = THREADS - 30, .locked = 30, .on_cpu = 0.02, .process_s = 1e5 };
	struct machine *m = *state;

	detect_reconfigure(m->d, &(struct detect_config){ .false_alarms_per_day = 1e5 });
	assert_int_equal(run_waits(m, 600, SIZE_MAX, NULL), 0);
	assert_int_equal(m->alarms, 0);
	/* Of both that which is larger has the word, also when the other was told before. */
	assert_int_equal(run_waits(m, 10, 7, &busy), 0);
	assert_int_equal(m->alarms, 1);
	assert_in_range(run_waits(m, 10, 7, &busy_convoy), 1, 6);
	assert_int_equal(m->last_series, 7);
	assert_int_equal(m->last.metric, METRIC_BLOCKED);
	/* What is no larger belongs to what goes on; when that is over, it is another trouble. */
	assert_int_equal(run_waits(m, 10, 9, &busy), 0);
	assert_int_equal(run_waits(m, 20, SIZE_MAX, NULL), 0);
	assert_in_range(run_waits(m, 10, 9, &few), 1, 6);
	assert_int_equal(m->last_series, 9);
	assert_int_equal(run_waits(m, 60, SIZE_MAX, NULL), 0);
	assert_int_equal(run_waits(m, 10, 11, &busy), 0);
	assert_int_equal(run_waits(m, 10, 11, &busy_few), 0);
}

/* n ticks of thirty units, of which one works, waits for CPUs, and takes pages; the others less than usual_faults. */
static unsigned run_faulting_units(struct machine *m, unsigned n, uint32_t usual_faults, size_t odd, double got, double waited, uint64_t faults)
{
	unsigned told = 0;

	while (n-- > 0) {
		struct detect_result r;
		uint64_t key;

		for (size_t u = 0; u < 30; u++) {
			const uint64_t values[METRIC_N] = {
				[METRIC_ON_CPU] = u == odd ? (uint64_t)(got * 1e9) : 10000000 + rnd(m) % 20000000,
				[METRIC_RUNNABLE] = u == odd ? (uint64_t)(waited * 1e9) : 1000000 + rnd(m) % 2000000,
				[METRIC_FAULTS_MINOR] = u == odd ? faults : rnd(m) % usual_faults,
			};

			assert_int_equal(detect_add_total(m->d, u + 1, values), 0);
		}
		begin(m);
		if (detect_totals(m->d, &key, &r) && key == odd + 1) {
			told++;
			m->last = r;
		}
		detect_tick_end(m->d);
	}
	return told;
}

static unsigned run_busy_units(struct machine *m, unsigned n, size_t odd, double got, double waited, uint64_t faults)
{
	return run_faulting_units(m, n, 100, odd, got, waited, faults);
}

/* Some seconds later: what is remembered of the first does not go on. */
static void test_a_smaller_trouble_after_another_is_told(void **state)
{
	struct machine *m = *state;

	detect_reconfigure(m->d, &(struct detect_config){ .false_alarms_per_day = 1e5 });
	assert_int_equal(run_busy_units(m, 600, SIZE_MAX, 1, 0, 0), 0);
	assert_int_equal(run_busy_units(m, 8, 3, 1, 500, 50), 1);
	assert_int_equal(m->last.metric, METRIC_RUNNABLE);
	assert_int_equal(run_busy_units(m, 4, 3, 1, 0, 50), 0);
	assert_int_equal(run_busy_units(m, 8, 3, 1, 0, 20000000), 1);
	assert_int_equal(m->last.metric, METRIC_FAULTS_MINOR);
	assert_in_range(m->last.since_us, T0 + 611 * USEC_PER_SEC, T0 + 613 * USEC_PER_SEC);
	/* What comes while it goes on, and is no larger, is a part of it. */
	assert_int_equal(run_busy_units(m, 8, 5, 1, 500, 50), 1);
	assert_int_equal(run_busy_units(m, 8, 5, 1, 500, 20000000), 0);
}

/* On a machine on which nobody takes pages, and which is known for little more than a minute. */
static void test_a_storm_of_faults_where_nobody_faults_is_told(void **state)
{
	struct machine *m = *state;

	detect_reconfigure(m->d, &(struct detect_config){ .false_alarms_per_day = 1e5 });
	assert_int_equal(run_faulting_units(m, 75, 1, SIZE_MAX, 1, 0, 0), 0);
	assert_int_equal(run_faulting_units(m, 8, 1, 3, 1, 500, 0), 1);
	assert_int_equal(m->last.metric, METRIC_RUNNABLE);
	assert_int_equal(run_faulting_units(m, 4, 1, 3, 0.02, 0, 0), 0);
	assert_int_equal(run_faulting_units(m, 8, 1, 3, 1, 0, 20000000), 1);
	assert_int_equal(m->last.metric, METRIC_FAULTS_MINOR);
}

/* What a unit got of the CPUs and waited for them for n ticks, seconds a second. */
static void run_starving(struct machine *m, unsigned n, double got, double waited)
{
	const uint64_t values[METRIC_N] = { [METRIC_ON_CPU] = (uint64_t)(got * 1e9), [METRIC_RUNNABLE] = (uint64_t)(waited * 1e9) };

	while (n-- > 0) {
		struct detect_result r;
		uint64_t key;

		assert_int_equal(detect_add_total(m->d, 1, values), 0);
		begin(m);
		detect_totals(m->d, &key, &r);
		detect_tick_end(m->d);
	}
}

static void test_a_unit_that_waits_for_cpus_more_than_it_gets_starves(void **state)
{
	struct machine *m = *state;

	run_starving(m, 100, 0.1, 0.01);
	assert_false(detect_unit_starves(m->d, 1));
	run_starving(m, 8, 2, 2);
	assert_false(detect_unit_starves(m->d, 1));
	run_starving(m, 8, 2, 14);
	assert_true(detect_unit_starves(m->d, 1));
	assert_false(detect_unit_starves(m->d, 2));
	/* Over is over. */
	run_starving(m, 4, 0.1, 0.01);
	assert_false(detect_unit_starves(m->d, 1));
}

/* Where three wait for each CPU, who begins to compute waits for it as all do. */
static void test_a_unit_of_a_busy_machine_waits_as_others_do(void **state)
{
	const uint64_t others[METRIC_N] = { [METRIC_ON_CPU] = 2000000000, [METRIC_RUNNABLE] = 6000000000 };
	struct machine *m = *state;

	for (unsigned tick = 0; tick < 100; tick++) {
		assert_int_equal(detect_add_total(m->d, 2, others), 0);
		run_starving(m, 1, 0.001, 0.001);
	}
	for (unsigned tick = 0; tick < 4; tick++) {
		assert_int_equal(detect_add_total(m->d, 2, others), 0);
		run_starving(m, 1, 0.4, 1.6);
	}
	assert_false(detect_unit_starves(m->d, 1));
	run_starving(m, 4, 0.4, 6);
	assert_true(detect_unit_starves(m->d, 1));
}

/* What another unit did explains that this one waits for CPUs, and not that it takes them. */
static void test_what_explains_a_wait_does_not_hide_work(void **state)
{
	struct machine *m = *state;

	detect_reconfigure(m->d, &(struct detect_config){ .false_alarms_per_day = 1e5 });
	assert_int_equal(run_busy_units(m, 600, SIZE_MAX, 0, 0, 0), 0);
	assert_int_equal(run_busy_units(m, 8, 3, 30, 0, 0), 1);
	assert_int_equal(run_busy_units(m, 10, SIZE_MAX, 0, 0, 0), 0);
	assert_int_equal(run_busy_units(m, 8, 5, 20, 25, 0), 1);
	assert_int_equal(m->last.metric, METRIC_ON_CPU);
	assert_int_equal(run_busy_units(m, 10, SIZE_MAX, 0, 0, 0), 0);
	assert_int_equal(run_busy_units(m, 8, 7, 0.02, 25, 0), 0);
}

/* What was told and then withheld, as it came from where nothing is the matter, takes nothing of the budget. */
static void test_withheld_alarms_silence_no_others(void **state)
{
	uint64_t spike[METRIC_N] = { [METRIC_ON_CPU] = 5 * NSEC_PER_SEC, [METRIC_HITS] = 250, [METRIC_RUNNABLE] = 1500000 };
	struct detect_status status;
	struct machine *m = *state;

	run(m, 1800, SIZE_MAX, NULL);
	run(m, 1, 17, spike);
	assert_int_equal(m->alarms, 1);
	/* As many of its kind as a month's budget has room for. */
	for (unsigned i = 0; i < 30; i++) {
		struct weighed w = { .finding = &(struct finding){ .family = (uint8_t)m->last.family, .metric = METRIC_ON_CPU, .s = 30, .observed = 5e9f }, .p = 1e-12 };
		struct series_state other = { 0 };
		struct detect_result told;

		detect_tell(m->d, &other, &w, &told);
		detect_withhold(m->d, &told);
	}
	run(m, 5, 18, spike);
	assert_int_equal(m->alarms, 2);
	detect_get_status(m->d, &status);
	assert_int_equal(status.alarms, 2);
}

/* What comes every 20 seconds has not been silent for long if ticks are of ten seconds from now on, and is missed after as many of these. */
static void test_silences_are_of_ticks_as_they_were(void **state)
{
	struct tick_length lengths[TICK_LENGTHS] = { { 0, 1 } };
	struct population p = { 0 };
	struct tick_context c = { .seconds = 1, .trust = 1, .activity = 1, .lengths = lengths };
	const uint64_t nothing[METRIC_N] = { 0 }, usual[METRIC_N] = { [METRIC_ON_CPU] = 100000000, [METRIC_HITS] = 5 };
	static struct stack_series s;
	static struct findings f;
	unsigned found = 0;

	(void)state;
	memset(c.most, 0xff, sizeof(c.most));
	for (unsigned m = 0; m < SCORED_METRICS; m++)
		c.floor[m] = c.quantum[m] = c.window_quantum[m][0] = c.window_quantum[m][1] = 2e6f;
	for (unsigned i = 0; i < 7200; i++) {
		c.tick++;
		model_visit(&p, &c, &s, i % 20 ? nothing : usual, 0, &f);
	}
	assert_int_equal(s.state.gap_max, 20);
	lengths[1] = lengths[0];
	lengths[0] = (struct tick_length){ c.tick, 10 };
	c.seconds = 10;
	for (unsigned i = 0; i < 100; i++) {
		c.tick++;
		model_visit(&p, &c, &s, i % 2 ? nothing : usual, 0, &f);
	}
	assert_int_equal(s.state.gap_max, 2);
	for (unsigned i = 0; i < 10; i++) {
		c.tick++;
		model_visit(&p, &c, &s, nothing, 0, &f);
		for (size_t k = 0; k < f.n; k++)
			found += f.all[k].family == FAMILY_VANISHED;
	}
	assert_int_equal(found, 1);
}

/* A thousand alarms of one trouble are one. */
static void test_a_trouble_of_many_alarms_does_not_silence_others(void **state)
{
	uint64_t spike[METRIC_N] = { [METRIC_ON_CPU] = 5 * NSEC_PER_SEC, [METRIC_HITS] = 250, [METRIC_RUNNABLE] = 1500000 };
	struct machine *m = *state;

	run(m, 1800, SIZE_MAX, NULL);
	run(m, 5, 17, spike);
	assert_int_equal(m->alarms, 1);
	for (unsigned i = 0; i < 1000; i++)
		detect_same_trouble(m->d);
	run(m, 5, 18, spike);
	assert_int_equal(m->alarms, 2);
}

/* So many times as much as usual is sampled of all series. */
static void surge(struct machine *m, unsigned n, bool open, unsigned times)
{
	while (n-- > 0) {
		detect_tick_begin(m->d, &(struct detect_tick){ .time_us = T0 + m->tick++ * USEC_PER_SEC, .duration_ns = NSEC_PER_SEC, .load = 1, .gate_open = open, .online_cpus = 64 });
		for (size_t i = 0; i < SERIES; i++) {
			uint64_t values[METRIC_N], more[METRIC_N];

			usual(m, values);
			for (unsigned k = 1; k < times; k++) {
				usual(m, more);
				values[METRIC_ON_CPU] += more[METRIC_ON_CPU];
				values[METRIC_HITS] += more[METRIC_HITS];
			}
			feed(m, i, values, 0);
		}
		detect_tick_end(m->d);
	}
}

/* However usual it is that all do more with the gate open: that it lasts for longer than ever is nothing that one of them does. */
static void test_a_surge_that_all_share_is_none_of_theirs(void **state)
{
	struct machine *m = *state;
	const uint64_t spike[METRIC_N] = { [METRIC_ON_CPU] = 1000 * 20000000ULL, [METRIC_HITS] = 1000, [METRIC_RUNNABLE] = 1000000 };

	for (unsigned i = 0; i < 60; i++) {
		surge(m, 37, false, 1);
		surge(m, 3, true, 4);
	}
	assert_int_equal(m->alarms, 0);
	/* as after hours of it */
	m->d->g->stacks.common_base[METRIC_ON_CPU][1] = logf(4);
	surge(m, 60, true, 4);
	assert_int_equal(m->alarms, 0);
	run(m, 3, 18, spike);
	assert_int_equal(m->alarms, 1);
}

static void test_there_may_be_more_values_than_32_bits_count(void **state)
{
	struct machine *m = *state;
	const uint64_t spike[METRIC_N] = { [METRIC_ON_CPU] = 200 * 20000000ULL, [METRIC_HITS] = 200, [METRIC_RUNNABLE] = 1000000 };

	run(m, 2000, SERIES, NULL);
	for (unsigned i = 0; i < SCORED_METRICS; i++)
		m->d->g->stacks.quantum_n[i][0] = m->d->g->stacks.quantum_n[i][1] = UINT32_MAX - SERIES;
	run(m, 3, SERIES, NULL);
	assert_int_equal(m->alarms, 0);
	run(m, 3, 18, spike);
	assert_int_equal(m->alarms, 1);
	assert_int_equal(m->last_series, 18);
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
		cmocka_unit_test_setup_teardown(test_new_stack_that_takes_the_machine_is_told_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_comes_back_is_no_heavy_birth, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loss_is_no_drop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loss_hides_no_rise, setup, teardown),
		cmocka_unit_test(test_troubles_are_not_what_is_usual),
		cmocka_unit_test(test_calibration_claims_no_more_than_it_knows),
		cmocka_unit_test_setup_teardown(test_damaged_state_is_taken_as_new, setup, teardown),
		cmocka_unit_test_setup_teardown(test_impossible_numbers_never_alarm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ticks_of_another_length_are_usual_after_some, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_state_is_taken_as_new, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_budget_moves_the_threshold, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unit_that_takes_the_machine_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_short_use_of_the_machine_is_not_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_late_timer_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_late_by_chance_is_not_told, setup, teardown),
		cmocka_unit_test(test_a_long_absence_is_forgotten),
		cmocka_unit_test(test_a_stack_that_was_away_for_long_can_vanish_again),
		cmocka_unit_test(test_a_sum_follows_what_comes_by_and_by),
		cmocka_unit_test_setup_teardown(test_units_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads_that_wait_elsewhere_are_told_after_minutes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_same_in_a_stack_never_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_same_in_a_stack_as_old_as_its_process, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads_that_are_not_missed_elsewhere_have_not_moved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_another_trouble_of_a_unit_that_was_told_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_unit_that_waits_for_cpus_more_than_it_gets_starves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_unit_of_a_busy_machine_waits_as_others_do, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_smaller_trouble_after_another_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_storm_of_faults_where_nobody_faults_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_explains_a_wait_does_not_hide_work, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waits_that_were_there_at_the_beginning_do_not_grow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waits_found_at_a_start_are_no_news, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_stack_in_which_much_is_waited_at_times_is_usual, setup, teardown),
		cmocka_unit_test_setup_teardown(test_withheld_alarms_silence_no_others, setup, teardown),
		cmocka_unit_test(test_silences_are_of_ticks_as_they_were),
		cmocka_unit_test_setup_teardown(test_a_trouble_of_many_alarms_does_not_silence_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_surge_that_all_share_is_none_of_theirs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_there_may_be_more_values_than_32_bits_count, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
