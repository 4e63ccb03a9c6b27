/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rarity.h"
#include "univariate.h"
#include "views.h"

#define STEP_US (300 * USEC_PER_SEC)
#define N 4000
#define WORTH_A_LOOK 0.5

struct stream {
	struct univariate *u;
	uint64_t time_us, rng;
};

static int setup(void **state)
{
	struct stream *s = calloc(1, sizeof(*s));

	s->u = calloc(1, sizeof(struct univariate));
	s->time_us = 1400000000 * USEC_PER_SEC;
	s->rng = 1;
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct stream *s = *state;

	free(s->u);
	free(s);
	return 0;
}

static double feed(struct stream *s, double value)
{
	s->time_us += STEP_US;
	return univariate_score(univariate_add(s->u, &univariate_default, s->time_us, value));
}

/* About normal, mean 0, deviation 1. */
static double noise(struct stream *s)
{
	double sum = 0;

	for (unsigned i = 0; i < 12; i++) {
		s->rng = s->rng * 6364136223846793005ULL + 1442695040888963407ULL;
		sum += (double)(s->rng >> 33) / (double)(1ULL << 31);
	}
	return sum - 6;
}

static double daily(const struct stream *s)
{
	return 10 * sin(2 * M_PI * (double)(s->time_us % (86400 * USEC_PER_SEC)) / (86400.0 * USEC_PER_SEC));
}

static double feed_usual(struct stream *s, unsigned n)
{
	double greatest = 0;

	for (unsigned i = 0; i < n; i++)
		greatest = MAX(greatest, feed(s, 100 + daily(s) + noise(s)));
	return greatest;
}

static double greatest_of(struct stream *s, double value, unsigned n)
{
	double greatest = 0;

	for (unsigned i = 0; i < n; i++)
		greatest = MAX(greatest, feed(s, value));
	return greatest;
}

static void test_what_is_usual_is_rarely_worth_a_look(void **state)
{
	struct stream *s = *state;
	unsigned looks = 0;

	for (unsigned i = 0; i < 20000; i++)
		looks += feed(s, 100 + daily(s) + noise(s)) >= WORTH_A_LOOK;
	assert_in_range(looks, 0, 10);
}

static void test_a_spike_a_drop_and_a_shift_are(void **state)
{
	struct stream *s = *state;
	double most;

	feed_usual(s, N);
	assert_true(feed(s, 200) >= WORTH_A_LOOK);
	feed_usual(s, 500);
	assert_true(feed(s, 0) >= WORTH_A_LOOK);
	feed_usual(s, 500);
	most = 0;
	for (unsigned i = 0; i < 20; i++)
		most = MAX(most, feed(s, 150 + daily(s) + noise(s)));
	assert_true(most >= WORTH_A_LOOK);
}

static void test_the_usual_at_the_wrong_hour_is(void **state)
{
	struct stream *s = *state;
	double most = 0;

	/* a week of days from 50 to 150, which then go the wrong way round: all values were seen before */
	for (unsigned i = 0; i < 7 * 288; i++)
		feed(s, 100 + 5 * daily(s) + noise(s));
	for (unsigned i = 0; i < 144; i++)
		most = MAX(most, feed(s, 100 - 5 * daily(s) + noise(s)));
	assert_true(most >= WORTH_A_LOOK);
}

/* Looks at what the views give, so that none is there in vain. */
static void test_each_view_sees_its_own(void **state)
{
	struct stream *s = *state;
	struct views *w = calloc(1, sizeof(*w));
	double seen[VIEW_N], most_before = 0, most = 0;

	assert_non_null(w);
	for (unsigned i = 0; i < N; i++) {
		s->time_us += STEP_US;
		/* spikes now and then, so that the range is known */
		views_add(w, s->time_us, 100 + (i % 500 == 499 ? 50 : 0) + noise(s), seen);
		if (i > N / 2 && i % 500 > 20 && i % 500 < 499)
			most_before = MAX(most_before, seen[VIEW_BURST]);
	}
	/* within the range, but the variance is another */
	for (unsigned i = 0; i < 16; i++) {
		s->time_us += STEP_US;
		views_add(w, s->time_us, 100 + (i % 2 ? 20 : -1) + noise(s), seen);
		most = MAX(most, seen[VIEW_BURST]);
	}
	assert_true(most > most_before + 1);
	/* a step up: what the last value, the last 8 and 16 were, and the hour usually is, is less */
	for (unsigned i = 0; i < 600; i++) {
		s->time_us += STEP_US;
		views_add(w, s->time_us, 100 + noise(s), seen);
	}
	views_add(w, s->time_us, 140, seen);
	assert_true(seen[VIEW_DIFFERENCE] > 3);
	assert_true(seen[VIEW_FAST] > 3);
	assert_true(seen[VIEW_SEASON] > 0);
	for (unsigned i = 0; i < 7; i++)
		views_add(w, s->time_us, 140, seen);
	assert_true(seen[VIEW_WINDOW] > 3);
	assert_true(seen[VIEW_SEASON] > 3);
	assert_true(seen[VIEW_SHAPE] > 0.05);
	assert_float_equal(seen[VIEW_RANGE], 0, 0);
	views_add(w, s->time_us, 300, seen);
	assert_true(seen[VIEW_RANGE] > 1);
	views_add(w, s->time_us, 0, seen);
	assert_true(seen[VIEW_RANGE] < -0.3 && seen[VIEW_DIFFERENCE] < -3);
	free(w);
}

static void test_spikes_that_recur_are_soon_usual(void **state)
{
	struct stream *s = *state;
	unsigned looks = 0;

	for (unsigned i = 0; i < N; i++)
		looks += feed(s, i % 50 == 0 ? 200 : 100 + noise(s)) >= WORTH_A_LOOK && i > N / 2;
	assert_int_equal(looks, 0);
}

static void test_an_excursion_is_told_once(void **state)
{
	struct stream *s = *state;
	unsigned looks = 0;

	feed_usual(s, N);
	for (unsigned i = 0; i < 90; i++)
		looks += feed(s, 300 + noise(s)) >= WORTH_A_LOOK;
	assert_in_range(looks, 1, 6); /* and as often as it gets much more surprising */
}

static void test_constants_are_silent(void **state)
{
	struct stream *s = *state;
	static const double constants[] = { 0, 1, -3, 0.1, 1e-300, 1e100, 4503599627370497.0 };

	for (size_t i = 0; i < ELEMENTS_OF(constants); i++) {
		memset(s->u, 0, sizeof(struct univariate));
		assert_float_equal(greatest_of(s, constants[i], 2000), 0, 0);
	}
}

static void test_the_first_change_of_a_constant_is_worth_a_look(void **state)
{
	struct stream *s = *state;

	greatest_of(s, 5, 2000);
	assert_true(greatest_of(s, 6, 3) >= WORTH_A_LOOK);
}

static void test_one_value_is_silent(void **state)
{
	assert_float_equal(feed(*state, 1e9), 0, 0);
}

static void test_what_is_no_number_is_silent_and_not_learnt(void **state)
{
	static const double bad[] = { NAN, -NAN, INFINITY, -INFINITY, DBL_MAX, -DBL_MAX };
	struct stream *s = *state;
	_cleanup_free_ void *before = malloc(sizeof(struct univariate));

	feed_usual(s, N);
	assert_non_null(before);
	memcpy(before, s->u, sizeof(struct univariate));
	for (size_t i = 0; i < ELEMENTS_OF(bad); i++)
		assert_float_equal(feed(s, bad[i]), 0, 0);
	assert_memory_equal(before, s->u, sizeof(struct univariate));
}

static void test_gaps_and_clocks_that_jump_are_silent(void **state)
{
	struct stream *s = *state;
	double most = 0;

	for (unsigned i = 0; i < N; i++)
		feed(s, 100 + noise(s));
	s->time_us += 3600 * USEC_PER_SEC;
	for (unsigned i = 0; i < 20; i++)
		most = MAX(most, feed(s, 100 + noise(s)));
	s->time_us -= 400 * 86400 * USEC_PER_SEC;
	for (unsigned i = 0; i < 20; i++)
		most = MAX(most, feed(s, 100 + noise(s)));
	s->time_us = 0;
	for (unsigned i = 0; i < 20; i++)
		most = MAX(most, feed(s, 100 + noise(s)));
	s->time_us = UINT64_MAX - 100 * STEP_US;
	for (unsigned i = 0; i < 20; i++)
		most = MAX(most, feed(s, 100 + noise(s)));
	assert_true(most < WORTH_A_LOOK);
}

static void test_scores_stay_in_their_bounds_whatever_comes(void **state)
{
	struct stream *s = *state;

	for (unsigned i = 0; i < 20000; i++) {
		double x = ldexp(noise(s), (int)(s->rng >> 54) - 512), score = feed(s, i % 3 ? x : trunc(x));

		assert_true(score >= 0 && score <= 1);
	}
}

/* Powers of two change no digit. */
static void test_scale_and_offset_do_not_matter(void **state)
{
	struct stream *s = *state;
	_cleanup_free_ struct univariate *scaled = calloc(1, sizeof(struct univariate));
	_cleanup_free_ struct univariate *moved = calloc(1, sizeof(struct univariate));

	assert_non_null(scaled);
	assert_non_null(moved);
	for (unsigned i = 0; i < N; i++) {
		/* multiples of 1/16, so that adding a whole number loses nothing */
		double x = round(16 * (daily(s) + noise(s) + (i % 700 == 699 ? 40 : 0))) / 16, score = feed(s, x), other;

		other = univariate_score(univariate_add(scaled, &univariate_default, s->time_us, ldexp(x, 70)));
		assert_float_equal(other, score, 0);
		other = univariate_score(univariate_add(moved, &univariate_default, s->time_us, x + 4096));
		assert_float_equal(other, score, 1e-3);
	}
}

static void test_a_state_that_was_moved_goes_on(void **state)
{
	struct stream *s = *state;
	_cleanup_free_ struct univariate *copy = malloc(sizeof(struct univariate));

	assert_non_null(copy);
	feed_usual(s, N);
	memcpy(copy, s->u, sizeof(struct univariate));
	for (unsigned i = 0; i < 1000; i++) {
		double x = 100 + noise(s) + (i % 333 ? 0 : 60), score = feed(s, x);

		assert_float_equal(univariate_score(univariate_add(copy, &univariate_default, s->time_us, x)), score, 0);
	}
}

static void test_events_are_counted(void **state _unused_)
{
	struct event_rarity r = { 0 };

	/* ten events, of 1 to 10: as large as 4.1 are six or seven, and half an event is what is asked for */
	for (unsigned i = 1; i <= 10; i++)
		event_rarity_learn(&r, i, 1);
	assert_true(event_rarity_of(&r, 0.5) > 10 && event_rarity_of(&r, 0.5) <= 10.5);
	assert_true(event_rarity_of(&r, 4.1) >= 6 && event_rarity_of(&r, 4.1) <= 7.5);
	/* beyond the largest it becomes ever rarer */
	assert_true(event_rarity_of(&r, 20) < 1.5);
	assert_true(event_rarity_of(&r, 200) < event_rarity_of(&r, 20) / 50);
	/* blocks in which nothing happened make what happened fade, and are no events */
	for (unsigned i = 0; i < 10; i++)
		event_rarity_learn(&r, 0, 0.5f);
	assert_true(event_rarity_of(&r, 0.5) < 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_usual_is_rarely_worth_a_look, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_spike_a_drop_and_a_shift_are, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_usual_at_the_wrong_hour_is, setup, teardown),
		cmocka_unit_test_setup_teardown(test_each_view_sees_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spikes_that_recur_are_soon_usual, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_excursion_is_told_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_constants_are_silent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_first_change_of_a_constant_is_worth_a_look, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_value_is_silent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_no_number_is_silent_and_not_learnt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gaps_and_clocks_that_jump_are_silent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scores_stay_in_their_bounds_whatever_comes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scale_and_offset_do_not_matter, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_state_that_was_moved_goes_on, setup, teardown),
		cmocka_unit_test(test_events_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
