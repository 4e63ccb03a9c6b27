/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "growers.c"

/* A stack is its number's decimal digits, outermost first; each is a frame. */
int store_get_stack(const struct store *s, store_ref stack, uint64_t *ret_stack_id, bool *ret_truncated, struct store_frame *frames, size_t max,
                    size_t *ret_n)
{
	(void)s;
	(void)max;
	if (stack == 404)
		return -ENOENT;
	*ret_stack_id = stack;
	*ret_truncated = false;
	for (*ret_n = 0; stack > 0; stack /= 10)
		frames[(*ret_n)++] = (struct store_frame){ .id = stack % 10 };
	return 0;
}

static struct growers *took(const int64_t (*stacks)[2], size_t n)
{
	struct growers *g;

	assert_int_equal(growers_new(&g), 0);
	for (size_t i = 0; i < n; i++)
		growers_add(g, &(struct store_slice_sum){ .stack = (store_ref)stacks[i][0], .series_id = (uint64_t)stacks[i][0] * 10, .process = 7 }, stacks[i][1]);
	return g;
}

static store_ref found(const int64_t (*stacks)[2], size_t n)
{
	struct growers *g = took(stacks, n);
	struct store_series series = { 0 };
	bool any = growers_find(g, NULL, &series);

	growers_free(g);
	if (!any)
		return 0;
	assert_int_equal(series.id, series.stack * 10);
	assert_int_equal(series.top_process, 7);
	return series.stack;
}

static void test_who_keeps_it_is_found_among_those_that_give_it_back(void **state)
{
	/* 1 main, 2 work, 3 use_briefly, 4 malloc, 5 free, 6 keep */
	const int64_t stacks[][2] = { { 12346, 900 }, { 12354, -895 }, { 1264, 100 }, { 1265, 0 }, { 127, 3 } };

	(void)state;
	assert_int_equal(found(stacks, ELEMENTS_OF(stacks)), 1264);
}

static void test_growth_in_many_places_is_followed_as_far_as_it_goes(void **state)
{
	const int64_t stacks[][2] = { { 1231, 30 }, { 1232, 31 }, { 1233, 32 }, { 1234, 33 }, { 19, 40 } };

	(void)state;
	/* 123 has 126 of 166, none of its callees half of that. */
	assert_int_equal(found(stacks, ELEMENTS_OF(stacks)), 1234);
}

static void test_what_is_given_back_is_none(void **state)
{
	const int64_t stacks[][2] = { { 12, 100 }, { 13, -100 } }, gone[][2] = { { 404, 100 } };

	(void)state;
	assert_int_equal(found(stacks, ELEMENTS_OF(stacks)), 0);
	assert_int_equal(found(stacks, 0), 0);
	/* A stack that was reclaimed meanwhile still is the one that grew. */
	assert_int_equal(found(gone, 1), 404);
}

static void test_too_many_leave_out_the_least(void **state)
{
	static int64_t stacks[GROWERS_MAX + 100][2];

	(void)state;
	for (int64_t i = 0; i < GROWERS_MAX + 100; i++) {
		stacks[i][0] = 100000 + i;
		stacks[i][1] = i + 1;
	}
	assert_int_equal(found(stacks, ELEMENTS_OF(stacks)), 100000 + GROWERS_MAX + 99);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_keeps_it_is_found_among_those_that_give_it_back),
		cmocka_unit_test(test_growth_in_many_places_is_followed_as_far_as_it_goes),
		cmocka_unit_test(test_what_is_given_back_is_none),
		cmocka_unit_test(test_too_many_leave_out_the_least),
	};

	return cmocka_run_group_tests_name("growers", tests, NULL, NULL);
}
