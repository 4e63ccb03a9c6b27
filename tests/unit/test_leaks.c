/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What leaks and what only looks like it. The census is the test's; a second passes with each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../daemon/leaks.c"

#define KIB 1024
#define LEVELS_MAX 8

static struct api_memory_watch watched = { .id = 1, .pid = 7, .comm = "web", .state = API_MEMORY_WATCHED, .heap = 5 };
static struct collect_heap_stack census[LEVELS_MAX];
static size_t n_census;
static bool is_over; /* the census is */
static struct leaks *leaks;
static uint64_t now_us, seed;
static struct api_leak told[LEVELS_MAX];
static struct api_leaks all;
static size_t n_told;

bool collect_heap_census(struct collect *c _unused_, const struct collect_heap_stack **ret, size_t *ret_n, int64_t *ret_left_out)
{
	*ret = census;
	*ret_n = n_census;
	*ret_left_out = 0;
	return is_over;
}

/* Raw stacks from 100 on have no names; two of them in a row are one stack. */
int pipeline_stack_id(struct pipeline *p _unused_, uint64_t raw_id, uint64_t *ret)
{
	*ret = raw_id / 2;
	return raw_id < 100 ? 0 : -EAGAIN;
}

/* Of the kernel's raw stacks, those from 50 on are of another process. */
int collect_frames(struct collect *c _unused_, uint64_t raw_id, struct collect_frames *ret)
{
	*ret = (struct collect_frames){ .process = { .pid = raw_id < 50 ? 11 : 12 } };
	copy_string(ret->process.comm, sizeof(ret->process.comm), raw_id < 50 ? "one" : "two");
	return raw_id < 90 ? 0 : -ENOENT;
}

const struct api_memory_watch *watches_at(const struct watches *w _unused_, size_t i)
{
	return i == 0 ? &watched : NULL;
}

static int setup(void **state _unused_)
{
	now_us = 1000 * USEC_PER_SEC;
	seed = 1;
	n_census = 0;
	is_over = true;
	watched.state = API_MEMORY_WATCHED;
	return leaks_new(&leaks, NULL, NULL, NULL);
}

static int teardown(void **state _unused_)
{
	leaks = leaks_free(leaks);
	return 0;
}

static void hold(size_t i, uint64_t raw_id, int64_t bytes)
{
	census[i] = (struct collect_heap_stack){ .watch = 5, .raw_id = raw_id, .blocks = 1, .bytes = bytes, .older = { bytes / 2, bytes / 4, 1 } };
	n_census = MAX(n_census, i + 1);
}

static void second(void)
{
	now_us += USEC_PER_SEC;
	leaks_tick(leaks, now_us);
	n_told = leaks_list(leaks, 0, told, ELEMENTS_OF(told), &all);
}

static double draw(void)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (double)(seed >> 11) / (double)(1ULL << 53);
}

static void test_sums(void **state _unused_)
{
	struct api_leak few[1];

	n_told = leaks_list(leaks, 0, told, ELEMENTS_OF(told), &all);
	assert_int_equal(n_told, 0);
	assert_int_equal(all.counted_us, 0);
	hold(0, 2, 100);
	hold(1, 3, 60); /* the same stack */
	hold(2, 4, 170);
	hold(3, 100, 40);
	second();
	assert_int_equal(n_told, 2);
	assert_int_equal(told[0].stack_id, 2);
	assert_int_equal(told[1].stack_id, 1);
	assert_int_equal(told[1].bytes, 160);
	assert_int_equal(told[1].blocks, 2);
	assert_int_equal(told[1].older[0], 80);
	assert_int_equal(told[1].older[2], 2);
	assert_int_equal(told[1].pid, 7);
	assert_false(told[0].measured);
	assert_int_equal(all.bytes, 370);
	assert_int_equal(all.unnamed, 40);
	assert_int_equal(all.counted_us, now_us);
	assert_int_equal(leaks_list(leaks, 0, few, 1, &all), 1);
	assert_int_equal(few[0].stack_id, 2);
	assert_int_equal(leaks_list(leaks, 8, told, ELEMENTS_OF(told), &all), 0);
	/* Until the next census is over the last one holds. */
	is_over = false;
	hold(0, 2, 1000);
	second();
	assert_int_equal(told[1].bytes, 160);
	assert_int_equal(all.counted_us, now_us - USEC_PER_SEC);
	is_over = true;
	n_census = 1;
	second();
	assert_int_equal(n_told, 1);
	assert_int_equal(told[0].bytes, 1000);
	watched.state = API_MEMORY_ENDED;
	assert_int_equal(leaks_list(leaks, 0, told, ELEMENTS_OF(told), &all), 0);
}

/* What the kernel holds is told by the process for which it allocated. */
static void test_kernel(void **state _unused_)
{
	watched.pid = API_MEMORY_KERNEL;
	hold(0, 2, 100);
	hold(1, 3, 60); /* the same stack and process */
	hold(2, 60, 50);
	hold(3, 90, 7); /* its frames are gone, its name is known still */
	second();
	assert_int_equal(n_told, 3);
	assert_int_equal(told[0].bytes, 160);
	for (size_t i = 0; i < n_told; i++)
		assert_true(told[i].kernel);
	assert_int_equal(told[0].pid, 11);
	assert_string_equal(told[0].comm, "one");
	assert_int_equal(told[1].pid, 12);
	assert_int_equal(told[1].bytes, 50);
	assert_int_equal(told[2].pid, 0);
	assert_int_equal(leaks_list(leaks, 12, told, ELEMENTS_OF(told), &all), 1);
	/* The same stack of two processes is two. */
	n_census = 0;
	hold(0, 48, 5);
	hold(1, 50, 5);
	second();
	assert_int_equal(n_told, 2);
	watched.pid = 7;
}

/* What grows is told first, the fastest before the others, though it holds less. */
static void test_order(void **state _unused_)
{
	struct api_leak few[2];

	for (int i = 1; i <= 90; i++) {
		hold(0, 2, 1 << 30);
		hold(1, 4, i * 10 * KIB);
		hold(2, 6, 1 << 20);
		hold(3, 8, i * 20 * KIB);
		hold(4, 10, 1 << 29);
		second();
	}
	assert_int_equal(n_told, 5);
	for (size_t i = 0; i < n_told; i++) {
		static const uint64_t order[] = { 4, 2, 1, 5, 3 };

		assert_int_equal(told[i].stack_id, order[i]);
		assert_true(told[i].measured);
		assert_int_equal(told[i].grows, i < 2);
	}
	assert_int_equal(leaks_list(leaks, 0, few, 2, &all), 2);
	assert_int_equal(few[0].stack_id, 4);
	assert_int_equal(few[1].stack_id, 2);
}

/* 800 KiB a second, as far as it is sampled: a block in 512 KiB on average. */
static void test_leak(void **state _unused_)
{
	int64_t bytes = 0;

	for (int i = 1; i <= 170; i++) {
		for (int k = 0; k < 200; k++)
			bytes += draw() < 1.0 / 128 ? 512 * KIB : 0;
		hold(0, 2, bytes);
		second();
	}
	assert_true(told[0].grows);
	assert_in_range((uint64_t)told[0].per_minute, 48000 * KIB * 2 / 3, 48000 * KIB * 4 / 3);
}

/* While it is filled it grows, and soon after that it doesn't any more. */
static void test_cache(void **state _unused_)
{
	for (int i = 1; i <= 600; i++) {
		hold(0, 2, MIN(i, 100) * 800 * KIB + (i > 100 ? i % 2 * 16 * KIB : 0));
		second();
		if (i == 95)
			assert_true(told[0].grows);
		if (i > 150)
			assert_false(told[0].grows);
	}
	assert_in_range((uint64_t)(told[0].per_minute + 64 * KIB), 0, 128 * KIB);
}

/* Each block lives for 40 seconds; one in 64 is sampled. */
static void test_noise(void **state _unused_)
{
	static int64_t born[40];
	unsigned grew = 0;
	int64_t bytes = 0;

	memset(born, 0, sizeof(born));
	for (unsigned i = 0; i < 20000; i++) {
		bytes -= born[i % 40];
		born[i % 40] = 0;
		for (int k = 0; k < 200; k++)
			born[i % 40] += draw() < 1.0 / 64 ? 256 * KIB : 0;
		bytes += born[i % 40];
		hold(0, 2, bytes);
		second();
		grew += i > 300 && told[0].grows;
	}
	assert_in_range(grew, 0, 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sums, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kernel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leak, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cache, setup, teardown),
		cmocka_unit_test_setup_teardown(test_noise, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
