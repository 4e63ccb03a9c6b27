/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The machine's totals by hour and shape, through the detector's door. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "internal.h"

#define T0 1700000000000000ULL
#define TICK_SECONDS 30
#define HOUR (3600 / TICK_SECONDS)
#define DAY (24 * HOUR)
#define UNITS 5

/* UNITS units that share what the hour has: 0.4 CPUs at night, 2.4 at noon. */
struct machine {
	struct detect *d;
	struct global_state *global;
	uint64_t tick, rng;
	bool odd;      /* its counters run backwards, and its clock has jumped */
	double wander; /* of the load, from one tick to the next and back */
	struct detect_result last;
	uint64_t last_key;
};

static double uniform(struct machine *m)
{
	m->rng = m->rng * 6364136223846793005ULL + 1442695040888963407ULL;
	return (double)(m->rng >> 11) / (double)(1ULL << 53);
}

static int setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct detect_config config = { .false_alarms_per_day = 1 };

	m->global = calloc(1, detect_global_state_size());
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
	free(m);
	return 0;
}

static double usual(uint64_t tick)
{
	return 1.4 - cos(2 * M_PI * (double)(tick % DAY) / DAY);
}

/* cpus: 0: what is usual for the hour. Gives how often something was told. */
static unsigned run(struct machine *m, uint64_t n, double cpus)
{
	unsigned told = 0;

	while (n-- > 0) {
		struct detect_tick tick = {
			.time_us = T0 + m->tick * TICK_SECONDS * USEC_PER_SEC, .duration_ns = TICK_SECONDS * NSEC_PER_SEC, .online_cpus = 4,
		};
		struct detect_result result;
		uint64_t key;

		if (m->odd)
			tick.time_us = m->tick % 2 ? 0 : UINT64_MAX;
		m->wander = 0.98 * m->wander + 0.02 * (uniform(m) - 0.5);
		for (uint64_t unit = 1; unit <= UNITS; unit++) {
			double load = (cpus > 0 ? cpus : usual(m->tick)) * (1 + m->wander) * (0.8 + 0.4 * uniform(m)) / UNITS;
			uint64_t values[METRIC_N] = { [METRIC_ON_CPU] = m->odd ? (uint64_t)-unit : (uint64_t)(load * TICK_SECONDS * 1e9) };

			assert_int_equal(detect_add_total(m->d, unit, values), 0);
		}
		m->tick++;
		detect_tick_begin(m->d, &tick);
		if (detect_totals(m->d, &key, &result)) {
			told++;
			m->last = result;
			m->last_key = key;
		}
		detect_tick_end(m->d);
	}
	return told;
}

/* It is what noon has, and below the marks. */
static void test_noon_at_night_is_told(void **state)
{
	struct machine *m = *state;

	assert_int_equal(run(m, 14 * DAY, 0), 0);
	assert_int_equal(run(m, HOUR, 1.8), 1);
	assert_int_equal(m->last_key, 0);
	assert_int_equal(m->last.type, DETECT_LEVEL_SHIFT);
	assert_true(m->last.expected < 0.6e9);
	assert_true(m->last.observed > 1.6e9);
}

static void test_what_cant_be_hides_no_noon_at_night(void **state)
{
	struct machine *m = *state;

	assert_int_equal(run(m, 13 * DAY, 0), 0);
	m->odd = true;
	assert_int_equal(run(m, HOUR / 2, 0), 0);
	m->odd = false;
	assert_int_equal(run(m, DAY - HOUR / 2, 0), 0);
	assert_int_equal(run(m, HOUR, 1.8), 1);
	assert_int_equal(m->last_key, 0);
}

static void test_usual_days_are_not_told(void **state)
{
	struct machine *m = *state;

	assert_in_range(run(m, 28 * DAY, 0), 0, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_noon_at_night_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_cant_be_hides_no_noon_at_night, setup, teardown),
		cmocka_unit_test_setup_teardown(test_usual_days_are_not_told, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
