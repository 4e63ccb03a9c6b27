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

static const struct share_context alone = { .part = 0.5f };

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
		shares_tick(&u->u, &alone, u->tick, news, u->tests);
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
		shares_tick(&cpu.u, &(struct share_context){ .other = &faults.u, .part = 0.5f }, cpu.tick, news, cpu.tests);
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
	shares_tick(&u.u, &alone, u.tick, u.news, u.tests);
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

/* How far it has got so far says nothing of how far it goes: an excursion is learnt when it is over. One that goes on is learnt as it rises,
 * and what could not be told while it rose is no news as long as it stays where it is. */
static void test_an_excursion_is_learnt_once(void **state)
{
	struct share_news news[SHARE_CHANGE_N];
	float highest = 0, learnt[2] = { 0 };
	unsigned told = 0, times[2] = { 0 };
	struct unit u;

	(void)state;
	begin(&u);
	live(&u, USUAL, SAMPLES);
	for (unsigned i = 0; i < 200; i++) {
		bool burns = i < 4 || i >= 100;

		u.weights[2] = burns ? 4 : 1 / 3.0;
		u.tick++;
		for (unsigned k = 0; k < SAMPLES; k++) {
			uint64_t name = u.first[draw(&u)];

			shares_add(&u.u, u.tick, 100 + name, (uint64_t[]){ name, ROOT }, 2, 1);
		}
		shares_tick(&u.u, &alone, u.tick, news, u.tests);
		times[i >= 100] += news[SHARE_RISES].height > 0;
		learnt[i >= 100] = fmaxf(learnt[i >= 100], news[SHARE_RISES].height);
		if (i < 100)
			highest = fmaxf(highest, news[SHARE_RISES].s);
		told += i >= 110 && i < 160 && news[SHARE_RISES].s > 0;
	}
	assert_true(highest > 8);
	assert_int_equal(times[0], 1);
	assert_true(learnt[0] == highest);
	assert_in_range(told, 25, 50);
	assert_in_range(times[1], 1, 10);
	assert_true(learnt[1] > 4 * highest);
}

/* ---- the unit's CPU time ---- */

#define CPU ((float)NSEC_PER_SEC)

struct load {
	struct surplus s;
	uint64_t random;
	uint32_t tick;
	float most;
};

/* Around `mean` CPUs, by as much as half of it more or less, and `more`. Gives the last score. */
static float use(struct load *l, unsigned ticks, float mean, float more)
{
	float score = 0;

	while (ticks-- > 0) {
		l->random = l->random * 6364136223846793005ULL + 1442695040888963407ULL;
		score = surplus_tick(&l->s, ++l->tick, mean * CPU * (0.5f + (float)(l->random >> 40) / (1 << 24)) + more * CPU, mean * CPU, CPU / 100);
		l->most = fmaxf(l->most, score);
	}
	return score;
}

/* In a unit that did never so much: as improbable as experience is long, and no more. */
static void test_a_cpu_more(void **state)
{
	struct load l = { .random = 3 };

	(void)state;
	use(&l, 250, 0.3f, 0);
	assert_true(use(&l, 4, 0.3f, 1) == 0);
	l = (struct load){ .random = 3 };
	use(&l, USUAL, 0.3f, 0);
	assert_true(l.most < 3);
	assert_true(use(&l, 2, 0.3f, 1) > 7);
	assert_true(use(&l, 60, 0.3f, 1) <= logf(USUAL + 62));
	assert_true(surplus_valid(&l.s, l.tick));
	assert_false(surplus_valid(&l.s, l.tick - 1));
	/* Half a CPU is not one, and it is over at once. */
	assert_true(use(&l, 1, 0.3f, 0.4f) == 0);
	/* Whose work is noisy may have a CPU more by itself: it takes longer. */
	l = (struct load){ .random = 3 };
	use(&l, USUAL, 5, 0);
	assert_true(l.most < 6);
	assert_true(use(&l, 1, 5, 1) < 6);
	assert_true(use(&l, 30, 5, 1) > 6);
}

static void test_bursts_are_what_a_unit_does(void **state)
{
	struct load l = { .random = 3 }, told;
	float sum;

	(void)state;
	use(&l, 300, 0.2f, 0);
	assert_true(use(&l, 5, 0.2f, 2) > 5);
	told = l;
	for (unsigned i = 0; i < 40; i++) {
		use(&l, 95, 0.2f, 0);
		use(&l, 5, 0.2f, 2);
	}
	l.most = 0;
	use(&l, 95, 0.2f, 0);
	use(&l, 5, 0.2f, 2);
	assert_true(l.most < 6);
	/* What was told is none of that. */
	surplus_forget(&told.s);
	use(&told, 3000, 0.2f, 0);
	assert_true(use(&told, 5, 0.2f, 2) > 7);
	/* A tick that was not looked at ends it. */
	sum = told.s.now;
	told.tick++;
	use(&told, 1, 0.2f, 2);
	assert_true(told.s.now > 0 && told.s.now < sum / 2);
}

static void test_surplus_that_cant_be_is_not_taken(void **state)
{
	struct load l = { .random = 3 };
	struct surplus s;

	(void)state;
	use(&l, USUAL, 0.3f, 0);
	surplus_tick(&l.s, ++l.tick, 1e30f, 0.3f * CPU, CPU / 100);
	surplus_tick(&l.s, ++l.tick, 0, 0, CPU / 100);
	assert_true(surplus_valid(&l.s, l.tick));
	s = l.s;
	s.bins[3] = -1;
	assert_false(surplus_valid(&s, l.tick));
	s = l.s;
	s.higher[0] = NAN;
	assert_false(surplus_valid(&s, l.tick));
	/* A day of a load is half forgotten on the next. */
	use(&l, 3 * 86400, 0.3f, 0);
	assert_true(l.s.ticks <= 86400);
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

/* A unit whose function 2 burns `more` samples of 10 ms a tick, `exact` CPUs of which are in its total;
 * Gives after how many ticks that was told; 0: it was not. */
static unsigned spin(unsigned ticks, uint64_t more, double exact)
{
	void *global = calloc(1, detect_global_state_size());
	struct detect_result result;
	unsigned found = 0;
	uint64_t key, random = 5;
	struct detect *d;

	assert_int_equal(detect_new(&d, &(struct detect_config){ .false_alarms_per_day = 1 }, global), 0);
	for (unsigned tick = 1; tick <= 7200 + ticks; tick++) {
		bool burns = tick > 7200;

		for (uint64_t unit = 1; unit <= 5; unit++) {
			random = random * 6364136223846793005ULL + 1442695040888963407ULL;
			detect_add_total(d, unit, (uint64_t[METRIC_N]){ [METRIC_ON_CPU] = (uint64_t)((0.3 + (double)(random >> 40) / (1 << 25) +
								       (burns && unit == 3 ? exact : 0)) * (double)NSEC_PER_SEC) });
		}
		detect_tick_begin(d, &(struct detect_tick){ .time_us = 1700000000000000ULL + tick * USEC_PER_SEC, .duration_ns = NSEC_PER_SEC, .online_cpus = 4 });
		(void)detect_totals(d, &key, &result);
		for (uint64_t unit = 1; unit <= 5; unit++)
			for (uint64_t f = 1; f <= 3; f++) {
				uint64_t values[METRIC_N] = { [METRIC_HITS] = 1 + (burns && unit == 3 && f == 2 ? more : 0) };

				values[METRIC_ON_CPU] = values[METRIC_HITS] * 200000000;
				detect_add_functions(d, unit, unit * 100 + f, (uint64_t[]){ f, ROOT }, 2, values);
			}
		if (detect_functions(d, &key, &result) && !found) {
			assert_true(burns);
			found = tick - 7200;
			assert_int_equal(result.type, DETECT_COST_SHIFT);
			assert_int_equal(key, 302);
		}
		detect_tick_end(d);
	}
	detect_free(d);
	free(global);
	return found;
}

/* Half as long as its samples alone would have to say so. */
static void test_a_spin_is_told_by_samples_and_by_time(void **state)
{
	unsigned with = spin(60, 5, 1), without = spin(60, 5, 0);

	(void)state;
	print_message("# told after %u ticks, without the total after %u\n", with, without);
	assert_in_range(with, 1, 8);
	assert_true(without >= with + 4);
	/* More work alone is none of its functions' doing. */
	assert_int_equal(spin(60, 0, 1), 0);
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
		cmocka_unit_test(test_an_excursion_is_learnt_once),
		cmocka_unit_test(test_a_cpu_more),
		cmocka_unit_test(test_bursts_are_what_a_unit_does),
		cmocka_unit_test(test_surplus_that_cant_be_is_not_taken),
		cmocka_unit_test(test_a_spin_is_told_by_samples_and_by_time),
		cmocka_unit_test(test_what_cant_be_is_not_taken),
		cmocka_unit_test(test_detector_tells_of_one_series),
		cmocka_unit_test(test_a_trouble_of_the_unit_is_no_measure_of_its_functions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
