/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "detect.h"
#include "growth.h"

#define MIB (1LL << 20)
#define LITTLE MIB
#define T0 1700000000000000ULL

/* ---- one level ---- */

struct level {
	struct growth g;
	uint32_t tick, tests;
	int64_t told;
	unsigned news;
	struct growth_news first; /* since forget() */
	uint32_t first_tick;
	float most, over, over_usual; /* the highest s; the highest of a growth that is over */
	unsigned growths; /* that are over */
};

static void forget(struct level *l)
{
	l->news = 0;
	l->most = l->over = 0;
	l->first = (struct growth_news){ 0 };
}

static void set(struct level *l, double bytes)
{
	struct growth_news news;
	int64_t now = (int64_t)bytes;

	growth_move(&l->g, now - l->told);
	l->told = now;
	growth_tick(&l->g, ++l->tick, LITTLE, &news, &l->tests);
	l->most = fmaxf(l->most, news.s);
	l->over = fmaxf(l->over, news.over);
	l->over_usual = fmaxf(l->over_usual, news.over_usual);
	l->growths += news.over > 0;
	if (news.s > 0 && l->news++ == 0) {
		l->first = news;
		l->first_tick = l->tick;
	}
}

static void hold(struct level *l, double bytes, unsigned ticks)
{
	while (ticks-- > 0)
		set(l, bytes);
}

static void test_steady_growth_is_news(void **state)
{
	struct level l = { 0 };
	uint32_t from;

	(void)state;
	hold(&l, 100 * MIB, 3000);
	assert_int_equal(l.news, 0);
	from = l.tick;
	for (unsigned i = 0; i < 400; i++)
		set(&l, 100 * MIB + 0.5 * MIB * i);
	assert_true(l.news > 0);
	/* sixteen blocks after the one in which it began */
	assert_true(l.first_tick - from <= 18 * 16);
	assert_true(l.first.s > 12);
	assert_true(fabs((double)l.first.rate / (0.5 * MIB) - 1) < 0.1);
	assert_true(l.first.begun >= from - 16 && l.first.begun <= from + 32);
	/* Each time it is a fiftieth more, so it is seldom; and an experience only when it is over. */
	assert_true(l.news < 8 && l.over == 0);
	assert_true(growth_rate(&l.g, l.tick) > 0.4 * MIB);
	hold(&l, 300 * MIB, 6 * 256);
	assert_true(growth_rate(&l.g, l.tick) == 0);
	assert_true(l.over == l.most);
}

/* Rows and windows of many lengths see it, and each of them ends at a time of its own. */
static void test_a_growth_is_one_experience(void **state)
{
	struct level l = { 0 };

	(void)state;
	hold(&l, 100 * MIB, 3000);
	for (unsigned i = 0; i < 1500; i++)
		set(&l, 100 * MIB + 0.5 * MIB * i);
	hold(&l, 850 * MIB, 1000);
	assert_int_equal(l.growths, 1);
	assert_true(l.over == l.most && l.over_usual == l.over);
	for (unsigned i = 0; i < 600; i++)
		set(&l, 850 * MIB + 2 * MIB * i);
	hold(&l, 2048 * MIB, 1000);
	assert_int_equal(l.growths, 2);
}

/* What a program needs when it is started is the more to be expected. */
static void test_start_is_little_experience(void **state)
{
	struct level l = { 0 };

	(void)state;
	hold(&l, 10 * MIB, 20);
	for (unsigned i = 0; i < 400; i++)
		set(&l, 10 * MIB + 2 * MIB * i);
	hold(&l, 810 * MIB, 1000);
	assert_int_equal(l.growths, 1);
	assert_true(l.over > 10 && l.over_usual > 0 && l.over_usual < 3);
}

static void test_little_growth_is_little_news(void **state)
{
	struct level l = { 0 };

	(void)state;
	hold(&l, 100 * MIB, 5000);
	for (unsigned i = 0; i < 3600; i++)
		set(&l, 100 * MIB + 1024.0 * i);
	assert_true(l.most < 10);
}

static void test_full_cache_is_known(void **state)
{
	struct level l = { 0 };

	(void)state;
	for (unsigned i = 0; i < 2000; i++)
		set(&l, 10 * MIB + 0.2 * MIB * i);
	hold(&l, 410 * MIB, 2000);
	/* The program is restarted, and fills its cache again, more slowly. */
	hold(&l, 0, 100);
	forget(&l);
	for (unsigned i = 0; i < 3900; i++)
		set(&l, 10 * MIB + 0.1 * MIB * i);
	hold(&l, 400 * MIB, 1000);
	assert_int_equal(l.news, 0);
	/* What goes on beyond that is news. */
	for (unsigned i = 0; i < 3000; i++)
		set(&l, 400 * MIB + 0.5 * MIB * i);
	assert_true(l.news > 0);
}

/* In less time than a row has. */
static void test_quickly_full_cache_is_known(void **state)
{
	struct level l = { 0 };

	(void)state;
	for (unsigned run = 0; run < 8; run++) {
		hold(&l, 0, 7);
		for (unsigned i = 0; i < 8000; i++)
			set(&l, 200 * MIB + 500 * MIB * fmin(i / 190.0, 1) + i % 3 * 0.1 * MIB);
		assert_true(l.most < 8);
	}
}

static void test_what_slows_down_fills_itself(void **state)
{
	struct level l = { 0 };

	(void)state;
	hold(&l, 10 * MIB, 100);
	for (unsigned i = 0; i < 5000; i++)
		set(&l, 10 * MIB + 500 * MIB * (1 - exp(-(double)i / 100)));
	assert_int_equal(l.news, 0);
}

/* What has grown since it was seen first has nothing to be compared with: only when it goes on for very long it is news. */
static void test_filling_from_the_start_is_no_leak_yet(void **state)
{
	struct level l = { 0 };

	(void)state;
	for (unsigned i = 0; i < 5400; i++)
		set(&l, 10 * MIB + 0.2 * MIB * i);
	assert_true(l.most < 20);
	for (unsigned i = 5400; i < 86400; i++)
		set(&l, 10 * MIB + 0.2 * MIB * i);
	assert_true(l.most > 25);
}

/* A heap that is collected every hour grows faster: long before it is above where it has been. */
static void test_steeper_sawtooth_is_news(void **state)
{
	struct level l = { 0 };
	uint32_t from;
	double level = 0;

	(void)state;
	for (unsigned i = 0; i < 86400; i++) {
		if (i == 3700)
			forget(&l);
		set(&l, level = i % 3700 ? level + 0.5 * MIB * (1 + 0.1 * sin(i / 700.0)) : 100 * MIB);
	}
	assert_true(l.most < 12);
	forget(&l);
	from = l.tick;
	for (unsigned i = 0; i < 320; i++)
		set(&l, level += 1.3 * MIB);
	assert_true(l.most > 15 && l.first_tick - from <= 300);
	assert_true(level < 1900 * MIB);
}

/* One that is collected so often that it does not grow in half of the windows: by how much it does when it does is known as well. */
static void test_leak_in_what_is_collected_often(void **state)
{
	struct level l = { 0 };
	uint32_t from;

	(void)state;
	for (unsigned i = 0; i < 21600; i++)
		set(&l, 100 * MIB + 0.04 * MIB * (i % 600));
	assert_true(l.most < 10);
	forget(&l);
	from = l.tick;
	for (unsigned i = 21600; i < 21900; i++)
		set(&l, 100 * MIB + 0.04 * MIB * (i % 600) + 0.8 * MIB * (i - 21600));
	assert_true(l.news > 0 && l.first_tick - from <= 300 && l.most > 25);
}

/* It grows all the time, ever more slowly: one row without end. What it begins to add is news as soon as it is much for 256 ticks. */
static void test_leak_in_what_creeps(void **state)
{
	struct level l = { 0 };
	uint32_t from;

	(void)state;
	for (unsigned i = 0; i < 30000; i++)
		set(&l, 200 * MIB + 150 * MIB * log1p((double)i / 300));
	forget(&l);
	from = l.tick;
	for (unsigned i = 0; i < 320; i++)
		set(&l, 200 * MIB + 150 * MIB * log1p((30000.0 + i) / 300) + 0.8 * MIB * i);
	assert_true(l.news > 0);
	assert_true(l.first_tick - from <= 160 && l.first.s > 20);
	assert_true((double)l.first.rate > 0.05 * MIB);
}

/* A garbage collector's, in front of a leak that is small beside it. */
static void test_leak_below_a_sawtooth(void **state)
{
	struct level l = { 0 };

	(void)state;
	for (unsigned i = 0; i < 20000; i++)
		set(&l, 200 * MIB + 300 * MIB * (i % 47) / 47.0);
	assert_true(l.first.s < 3);
	forget(&l);
	for (unsigned i = 0; i < 8000; i++)
		set(&l, 200 * MIB + 300 * MIB * (i % 47) / 47.0 + 0.1 * MIB * i);
	assert_true(l.news > 0 && l.first.s > 0);
	assert_true(fabs((double)l.first.rate / (0.1 * MIB) - 1) < 0.2);
}

static void test_aimless_wandering_is_no_news(void **state)
{
	struct level l = { 0 };
	uint64_t random = 42;
	double level = 1024 * MIB, most = 0;

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		level = fmax(level + MIB * ((double)(random >> 33) / (1u << 30) - 1), 0);
		set(&l, level);
		most = fmax(most, (double)l.most);
		forget(&l);
	}
	/* a steady leak of one of its steps a tick has 25 after a day */
	assert_true(most < 15);
}

static void test_what_cant_be_is_not_taken(void **state)
{
	struct level l = { 0 };
	struct growth g;

	(void)state;
	growth_move(&l.g, INT64_MAX);
	growth_move(&l.g, INT64_MAX);
	growth_move(&l.g, INT64_MIN);
	growth_move(&l.g, INT64_MIN);
	hold(&l, 1, 100);
	assert_true(growth_valid(&l.g, l.tick));
	assert_false(growth_valid(&l.g, 0));
	g = l.g;
	g.rows[1].news = NAN;
	assert_false(growth_valid(&g, l.tick));
	g = l.g;
	g.rows[2].least = INT64_MIN;
	assert_false(growth_valid(&g, l.tick));
	g = l.g;
	g.rows[0].halved = l.tick + 1;
	assert_false(growth_valid(&g, l.tick));
}

/* ---- in the detector: units, the budget ---- */

struct units {
	struct detect *d;
	void *global;
	uint64_t tick, alarms, key;
	struct detect_result told;
};

static int setup(void **state)
{
	struct units *u = calloc(1, sizeof(*u));

	u->global = calloc(1, detect_global_state_size());
	assert_int_equal(detect_new(&u->d, &(struct detect_config){ .false_alarms_per_day = 1 }, u->global), 0);
	*state = u;
	return 0;
}

static int teardown(void **state)
{
	struct units *u = *state;

	detect_free(u->d);
	free(u->global);
	free(u);
	return 0;
}

static void reopen(struct units *u)
{
	u->d = detect_free(u->d);
	assert_int_equal(detect_new(&u->d, &(struct detect_config){ .false_alarms_per_day = 1 }, u->global), 0);
}

/* Twenty units; unit 7 has so much more in each tick. */
static void live(struct units *u, unsigned ticks, int64_t leak)
{
	struct detect_tick tick = { .duration_ns = NSEC_PER_SEC, .online_cpus = 4, .memory_bytes = 16ULL << 30 };
	struct detect_result result;
	uint64_t key;

	while (ticks-- > 0) {
		tick.time_us = T0 + ++u->tick * USEC_PER_SEC;
		for (uint64_t k = 1; k <= 20; k++)
			assert_int_equal(detect_add_memory(u->d, k, u->tick % 2 ? 4096 * (int64_t)k : -4096 * (int64_t)k), 0);
		assert_int_equal(detect_add_memory(u->d, 7, leak), 0);
		detect_tick_begin(u->d, &tick);
		detect_totals(u->d, &key, &result);
		if (detect_growth(u->d, &key, &result)) {
			u->alarms++;
			u->key = key;
			u->told = result;
		}
		detect_tick_end(u->d);
	}
}

static void test_growing_unit_is_told_once(void **state)
{
	struct units *u = *state;
	uint64_t from;

	live(u, 7200, 0);
	assert_int_equal(u->alarms, 0);
	assert_true(detect_growth_rate(u->d, 7) == 0);
	from = u->tick;
	live(u, 320, 800 << 10);
	assert_int_equal(u->alarms, 1);
	assert_int_equal(u->key, 7);
	assert_int_equal(u->told.type, DETECT_SLOW_GROWTH);
	assert_int_equal(u->told.metric, METRIC_RSS);
	assert_true(fabs(u->told.observed / (800 << 10) - 1) < 0.1);
	assert_true(u->told.since_us >= T0 + (from - 16) * USEC_PER_SEC && u->told.since_us <= T0 + (from + 40) * USEC_PER_SEC);
	/* It goes on for hours: the same trouble. */
	live(u, 7200, 800 << 10);
	assert_int_equal(u->alarms, 1);
	assert_true(fabs(detect_growth_rate(u->d, 7) / (800 << 10) - 1) < 0.1);
	assert_true(detect_growth_rate(u->d, 8) == 0 && detect_growth_rate(u->d, 999) == 0);
}

/* The daemon is restarted: the level comes anew, and is no growth; what goes on is as it was until it is known again. */
static void test_restart_is_no_growth(void **state)
{
	struct units *u = *state;

	live(u, 7200, 0);
	reopen(u);
	live(u, 1, 2048 * MIB);
	live(u, 4000, 0);
	assert_int_equal(u->alarms, 0);
	live(u, 400, 800 << 10);
	assert_int_equal(u->alarms, 1);
	reopen(u);
	live(u, 1, 2048 * MIB);
	assert_true(detect_growth_rate(u->d, 7) > 0);
	live(u, 200, 0);
	assert_true(detect_growth_rate(u->d, 7) == 0);
}

static void test_units_are_bounded(void **state)
{
	struct units *u = *state;
	unsigned refused = 0;

	for (uint64_t k = 1; k <= 1000; k++)
		refused += detect_add_memory(u->d, k, 4096) == -ENOSPC;
	assert_true(refused > 0);
	live(u, 10, 0);
	assert_int_equal(detect_add_memory(u->d, 5000, INT64_MAX), 0);
	assert_int_equal(detect_add_memory(u->d, 5000, INT64_MAX), 0);
	live(u, 10, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steady_growth_is_news),
		cmocka_unit_test(test_a_growth_is_one_experience),
		cmocka_unit_test(test_start_is_little_experience),
		cmocka_unit_test(test_little_growth_is_little_news),
		cmocka_unit_test(test_full_cache_is_known),
		cmocka_unit_test(test_quickly_full_cache_is_known),
		cmocka_unit_test(test_what_slows_down_fills_itself),
		cmocka_unit_test(test_filling_from_the_start_is_no_leak_yet),
		cmocka_unit_test(test_steeper_sawtooth_is_news),
		cmocka_unit_test(test_leak_in_what_is_collected_often),
		cmocka_unit_test(test_leak_in_what_creeps),
		cmocka_unit_test(test_leak_below_a_sawtooth),
		cmocka_unit_test(test_aimless_wandering_is_no_news),
		cmocka_unit_test(test_what_cant_be_is_not_taken),
		cmocka_unit_test_setup_teardown(test_growing_unit_is_told_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart_is_no_growth, setup, teardown),
		cmocka_unit_test_setup_teardown(test_units_are_bounded, setup, teardown),
	};

	return cmocka_run_group_tests_name("growth", tests, NULL, NULL);
}
