/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a unit's samples are of: functions that burn, stop, are replaced; and what is none of that. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model.h"
#include "shares.h"

#define FUNCTIONS 8
#define SAMPLES 10  /* a tick */
#define ROOT 1000
#define USUAL 4000  /* ticks */
#define ENOUGH 25.0f /* s that the default budget asks for */

struct unit {
	struct unit_shares u;
	uint64_t random;
	uint32_t tick, told[SHARE_CHANGE_N], n;
	uint64_t first[FUNCTIONS]; /* names */
	double weights[FUNCTIONS];
	struct share_news news[SHARE_CHANGE_N]; /* the first that was enough */
	float most;
	uint32_t tests[SHARE_CHANGE_N];
};

static void begin(struct unit *u)
{
	*u = (struct unit){ .random = 7 };
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		u->first[i] = i + 1;
		u->weights[i] = 1 / (i + 1.0);
	}
}

static uint64_t function_of(const struct unit *u, enum share_change change)
{
	return u->u.keys[u->news[change].function - u->u.functions];
}

static unsigned draw(struct unit *u)
{
	double sum = 0, at;
	unsigned i = 0;

	for (unsigned k = 0; k < FUNCTIONS; k++)
		sum += u->weights[k];
	u->random = u->random * 6364136223846793005ULL + 1442695040888963407ULL;
	at = (double)(u->random >> 11) / (double)(1ULL << 53) * sum;
	while (i + 1 < FUNCTIONS && at >= u->weights[i])
		at -= u->weights[i++];
	return i;
}

/* Each sample is of one function, called by one that is on every stack. */
static void live(struct unit *u, unsigned ticks, unsigned samples)
{
	while (ticks-- > 0) {
		struct share_news news[SHARE_CHANGE_N];

		u->tick++;
		for (unsigned i = 0; i < samples; i++) {
			uint64_t name = u->first[draw(u)];

			shares_add(&u->u, u->tick, 100 + name, (uint64_t[]){ name, ROOT }, 2, 1);
		}
		shares_tick(&u->u, NULL, u->tick, news, u->tests);
		for (unsigned c = 0; c < SHARE_CHANGE_N; c++) {
			u->most = fmaxf(u->most, news[c].s);
			if (news[c].s < ENOUGH || u->told[c])
				continue;
			u->told[c] = u->tick;
			u->news[c] = news[c];
		}
	}
}

/* Half of the functions have other names from now on. */
static void live_and_deploy(struct unit *u)
{
	begin(u);
	live(u, USUAL, SAMPLES);
	for (unsigned i = 0; i < FUNCTIONS; i += 2)
		u->first[i] += 50;
}

/* Ten times as much to do, or a tenth, is none of its functions' doing. */
static void test_load_is_no_shift(void **state)
{
	struct unit u;

	(void)state;
	begin(&u);
	for (unsigned i = 0; i < 40; i++)
		live(&u, 200, i % 3 == 0 ? 1 : i % 3 == 1 ? SAMPLES : 10 * SAMPLES);
	assert_true(u.most < 16);
	assert_true(u.tests[SHARE_RISES] > 0 && u.tests[SHARE_FALLS] > 0 && u.tests[SHARE_TURNOVER] > 0);
	assert_true(shares_valid(&u.u, u.tick));
}

static void test_function_that_burns(void **state)
{
	struct unit u;

	(void)state;
	begin(&u);
	live(&u, USUAL, SAMPLES);
	u.weights[2] += 4;
	live(&u, 12, 2 * SAMPLES);
	assert_true(u.told[SHARE_RISES] > USUAL && u.told[SHARE_RISES] <= USUAL + 6);
	assert_int_equal(function_of(&u, SHARE_RISES), 3);
	assert_int_equal(u.news[SHARE_RISES].function->series, 103);
	assert_true(u.news[SHARE_RISES].usual < 0.2f && u.news[SHARE_RISES].share > 0.4f);
	assert_true(u.news[SHARE_RISES].since > USUAL);
	assert_int_equal(u.told[SHARE_TURNOVER], 0);
}

/* The others have little of a hundred times as many samples, and are as often there as ever. */
static void test_what_burns_stops_no_other(void **state)
{
	struct unit u;

	(void)state;
	begin(&u);
	live(&u, USUAL, SAMPLES);
	u.weights[2] += 270;
	live(&u, 4, 100 * SAMPLES);
	assert_int_equal(u.told[SHARE_RISES], USUAL + 1);
	assert_int_equal(u.told[SHARE_FALLS], 0);
}

/* As soon as so many of its samples are missing, not before. */
static void test_function_that_stops(void **state)
{
	struct unit u;
	double share;

	(void)state;
	begin(&u);
	share = u.weights[1] / 2.7179;
	live(&u, USUAL, SAMPLES);
	u.weights[1] = 0;
	live(&u, 60, SAMPLES);
	assert_true(u.told[SHARE_FALLS] > USUAL);
	assert_true((u.told[SHARE_FALLS] - USUAL) * SAMPLES * share > ENOUGH / 2);
	assert_true((u.told[SHARE_FALLS] - USUAL) * SAMPLES * share < ENOUGH * 1.5);
	assert_int_equal(function_of(&u, SHARE_FALLS), 2);
	assert_true(u.news[SHARE_FALLS].share < 0.02f);
}

/* Its page faults are missed as well, which nobody would notice by themselves: half of the time is enough. */
static void test_function_that_stops_in_two_metrics(void **state)
{
	static struct unit cpu, faults;
	struct share_news news[SHARE_CHANGE_N];
	unsigned after = 0;

	(void)state;
	begin(&cpu);
	begin(&faults);
	live(&cpu, USUAL, SAMPLES);
	live(&faults, USUAL, SAMPLES);
	cpu.weights[1] = faults.weights[1] = 0;
	for (unsigned i = 1; i <= 60 && !after; i++) {
		live(&faults, 1, SAMPLES);
		cpu.tick++;
		for (unsigned k = 0; k < SAMPLES; k++) {
			uint64_t name = cpu.first[draw(&cpu)];

			shares_add(&cpu.u, cpu.tick, 100 + name, (uint64_t[]){ name, ROOT }, 2, 1);
		}
		shares_tick(&cpu.u, &faults.u, cpu.tick, news, cpu.tests);
		if (news[SHARE_FALLS].s >= ENOUGH)
			after = i;
	}
	assert_int_equal(faults.told[SHARE_FALLS], 0);
	assert_in_range(after, 1, 60);
	live(&faults, 60, SAMPLES);
	assert_true(faults.told[SHARE_FALLS] > USUAL);
	assert_true(after * 4 < (faults.told[SHARE_FALLS] - USUAL) * 3);
}

/* Seconds of it have as many samples as the minutes before: when it is over nothing has stopped, and nothing has come. */
static void test_end_of_a_burst_is_no_news(void **state)
{
	static const unsigned ages[] = { 90, USUAL };

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(ages); i++) {
		struct unit u;

		begin(&u);
		live(&u, ages[i], SAMPLES);
		u.first[0] = 99;
		u.weights[0] *= 150;
		live(&u, 8, 100 * SAMPLES);
		u.first[0] = 1;
		u.weights[0] /= 150;
		memset(u.told, 0, sizeof(u.told));
		live(&u, 300, SAMPLES);
		assert_int_equal(u.told[SHARE_RISES] | u.told[SHARE_FALLS] | u.told[SHARE_TURNOVER], 0);
	}
}

/* One event, and afterwards they are what is usual. */
static void test_deploy_is_one_turnover(void **state)
{
	struct unit u;

	(void)state;
	live_and_deploy(&u);
	live(&u, 1, SAMPLES);
	for (unsigned i = 0; i < 5 && !u.told[SHARE_TURNOVER]; i++)
		live(&u, 1, SAMPLES);
	assert_true(u.told[SHARE_TURNOVER] > USUAL);
	assert_true(function_of(&u, SHARE_TURNOVER) > 50 && function_of(&u, SHARE_TURNOVER) < ROOT);
	shares_turned_over(&u.u);
	u.most = 0;
	live(&u, USUAL, SAMPLES);
	assert_true(u.most < 16);
	assert_int_equal(u.told[SHARE_FALLS] + u.told[SHARE_RISES], 0);
	/* It may stop, as the old ones. */
	u.weights[0] = 0;
	live(&u, 20, SAMPLES);
	assert_true(u.told[SHARE_FALLS] > 2 * USUAL);
	assert_int_equal(function_of(&u, SHARE_FALLS), 51);
}

/* A deploy that is not told, as others before it, explains that functions are gone all the same. */
static void test_turnover_explains_what_is_gone(void **state)
{
	struct unit u;

	(void)state;
	live_and_deploy(&u);
	live(&u, 600, SAMPLES);
	assert_true(u.told[SHARE_TURNOVER] > USUAL);
	assert_int_equal(u.told[SHARE_FALLS], 0);
}

/* It was so before: a phase that comes every hour is news only once. */
static void test_what_recurs_is_known(void **state)
{
	struct unit u;
	float first;

	(void)state;
	begin(&u);
	live(&u, USUAL, SAMPLES);
	u.weights[5] += 4;
	live(&u, 40, SAMPLES);
	first = u.most;
	u.weights[5] -= 4;
	live(&u, USUAL, SAMPLES);
	u.most = 0;
	u.weights[5] += 4;
	live(&u, 40, SAMPLES);
	assert_true(first > 3 * ENOUGH);
	assert_true(u.most < ENOUGH);
}

/* More functions than there is room for: those that are often on its stacks are kept. */
static void test_many_functions(void **state)
{
	struct unit u;

	(void)state;
	begin(&u);
	for (unsigned i = 0; i < USUAL; i++) {
		live(&u, 1, SAMPLES);
		shares_add(&u.u, u.tick + 1, 1, (uint64_t[]){ 100000 + i }, 1, 0.01f);
	}
	u.weights[0] = 0;
	u.told[SHARE_FALLS] = 0;
	live(&u, 20, SAMPLES);
	assert_int_equal(function_of(&u, SHARE_FALLS), 1);
	assert_true(shares_valid(&u.u, u.tick));
}

static void test_what_cant_be_is_not_taken(void **state)
{
	struct unit u;
	struct unit_shares v;

	(void)state;
	begin(&u);
	live(&u, 1000, SAMPLES);
	shares_add(&u.u, ++u.tick, 1, (uint64_t[]){ 1 }, 1, 1e30f);
	shares_tick(&u.u, NULL, u.tick, u.news, u.tests);
	assert_true(shares_valid(&u.u, u.tick));
	assert_false(shares_valid(&u.u, u.tick - 1));
	v = u.u;
	v.functions[3].share = NAN;
	assert_false(shares_valid(&v, u.tick));
	v = u.u;
	v.functions[3].falls.now = -1;
	assert_false(shares_valid(&v, u.tick));
	v = u.u;
	v.functions[0].born = v.samples + 1;
	assert_false(shares_valid(&v, u.tick));
}

/* ---- in the detector ---- */

static unsigned told_of(struct detect *d, uint64_t *tick, unsigned ticks, uint64_t burns, uint64_t units, struct detect_result *ret, uint64_t *ret_series)
{
	struct detect_tick t = { .duration_ns = NSEC_PER_SEC, .online_cpus = 4 };
	unsigned n = 0;

	while (ticks-- > 0) {
		t.time_us = 1700000000000000ULL + ++*tick * USEC_PER_SEC;
		detect_tick_begin(d, &t);
		for (uint64_t unit = 1; unit <= units; unit++)
			for (uint64_t f = 1; f <= 4; f++) {
				uint64_t values[METRIC_N] = { [METRIC_HITS] = f + (burns == f && unit == 3 ? 20 : 0) };

				values[METRIC_ON_CPU] = values[METRIC_HITS] * 10000000;
				detect_add_functions(d, unit, unit * 100 + f, (uint64_t[]){ f, ROOT }, 2, values);
			}
		n += detect_functions(d, ret_series, ret);
		detect_tick_end(d);
	}
	return n;
}

static void test_detector_tells_of_one_series(void **state)
{
	void *global = calloc(1, detect_global_state_size());
	struct detect_result result = { 0 };
	uint64_t tick = 0, series = 0;
	struct detect *d;

	(void)state;
	assert_int_equal(detect_new(&d, &(struct detect_config){ .false_alarms_per_day = 1 }, global), 0);
	assert_int_equal(told_of(d, &tick, 7200, 0, 10, &result, &series), 0);
	assert_int_equal(told_of(d, &tick, 300, 2, 10, &result, &series), 1);
	assert_int_equal(series, 302);
	assert_int_equal(result.type, DETECT_COST_SHIFT);
	assert_int_equal(result.metric, METRIC_ON_CPU);
	assert_true(result.observed > 2 * result.expected && result.p_value < 1e-6);
	/* It is the same after a restart, and more units than there is room for push out the oldest. */
	detect_free(d);
	assert_int_equal(detect_new(&d, &(struct detect_config){ .false_alarms_per_day = 1 }, global), 0);
	assert_int_equal(told_of(d, &tick, 100, 2, 10, &result, &series), 0);
	assert_int_equal(told_of(d, &tick, 100, 0, 2 * SHARES_UNITS, &result, &series), 0);
	detect_free(d);
	free(global);
}

/* Ten units, of which the third's function 2 burns `burns` samples of 10 ms a tick, and all its functions `all`, which then wait for CPUs. Gives after
 * how many ticks something was told of it, by its total or by its functions; 0: nothing was. */
static unsigned trouble(struct detect *d, uint64_t *tick, unsigned ticks, uint64_t burns, uint64_t all, bool *ret_total)
{
	struct detect_tick t = { .duration_ns = NSEC_PER_SEC, .online_cpus = 4 };
	struct detect_result result;
	unsigned found = 0;
	uint64_t key;

	for (unsigned i = 1; i <= ticks; i++) {
		t.time_us = 1700000000000000ULL + ++*tick * USEC_PER_SEC;
		for (uint64_t unit = 1; unit <= 10; unit++)
			detect_add_total(d, unit,
					 (uint64_t[METRIC_N]){ [METRIC_ON_CPU] = (10 + (unit == 3 ? 4 * all : 0)) * 10000000,
							       [METRIC_RUNNABLE] = 1000000 + (unit == 3 ? all * NSEC_PER_SEC : 0) });
		detect_tick_begin(d, &t);
		if (detect_totals(d, &key, &result) && !found) {
			found = i;
			*ret_total = true;
		}
		for (uint64_t unit = 1; unit <= 10; unit++)
			for (uint64_t f = 1; f <= 4; f++) {
				uint64_t values[METRIC_N] = { [METRIC_HITS] = f + (unit == 3 ? all + (f == 2 ? burns : 0) : 0) };

				values[METRIC_ON_CPU] = values[METRIC_HITS] * 10000000;
				detect_add_functions(d, unit, unit * 100 + f, (uint64_t[]){ f, ROOT }, 2, values);
			}
		if (detect_functions(d, &key, &result) && !found) {
			found = i;
			*ret_total = false;
		}
		detect_tick_end(d);
	}
	return found;
}

/* What a function did while its unit was in a trouble that was told is not what it does by itself. */
static void test_a_trouble_of_the_unit_is_no_measure_of_its_functions(void **state)
{
	void *global = calloc(1, detect_global_state_size());
	uint64_t tick = 0;
	struct detect *d;
	bool total = false;

	(void)state;
	assert_int_equal(detect_new(&d, &(struct detect_config){ .false_alarms_per_day = 1 }, global), 0);
	assert_int_equal(trouble(d, &tick, 7200, 0, 0, &total), 0);
	assert_in_range(trouble(d, &tick, 10, 0, 60, &total), 1, 5);
	assert_true(total);
	assert_int_equal(trouble(d, &tick, 300, 200, 0, &total), 0);
	assert_int_equal(trouble(d, &tick, 7200, 0, 0, &total), 0);
	assert_in_range(trouble(d, &tick, 60, 8, 0, &total), 1, 30);
	assert_false(total);
	detect_free(d);
	free(global);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_load_is_no_shift),
		cmocka_unit_test(test_function_that_burns),
		cmocka_unit_test(test_what_burns_stops_no_other),
		cmocka_unit_test(test_function_that_stops),
		cmocka_unit_test(test_function_that_stops_in_two_metrics),
		cmocka_unit_test(test_end_of_a_burst_is_no_news),
		cmocka_unit_test(test_deploy_is_one_turnover),
		cmocka_unit_test(test_turnover_explains_what_is_gone),
		cmocka_unit_test(test_what_recurs_is_known),
		cmocka_unit_test(test_many_functions),
		cmocka_unit_test(test_what_cant_be_is_not_taken),
		cmocka_unit_test(test_detector_tells_of_one_series),
		cmocka_unit_test(test_a_trouble_of_the_unit_is_no_measure_of_its_functions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
