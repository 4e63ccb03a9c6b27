/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store.h"

#define ARENA (8UL << 20)
#define T0 1700000000000000ULL
#define SECOND 1000000ULL

static const struct store_config config = {
	.tiers = { { 1, 900 }, { 10, 14400 }, { 60, 172800 } },
	.series_state_size = 64,
	.global_state_size = 64,
	.slices_per_series = 64,
};

static void *arena_new(size_t size)
{
	void *a = aligned_alloc(4096, size);

	assert_non_null(a);
	memset(a, 0, size);
	return a;
}

static store_ref stack(struct store *s, uint64_t id)
{
	char name[32];
	struct store_frame frames[2] = { { .id = id * 2, .display = name, .object = "app" },
	                                 { .id = 1, .display = "main", .object = "app" } };
	store_ref ref;

	snprintf(name, sizeof(name), "f%llu", (unsigned long long)id);
	assert_int_equal(store_intern_stack(s, id, frames, 2, false, &ref), 0);
	return ref;
}

static store_ref process(struct store *s, pid_t pid, uint32_t uid)
{
	struct store_process p = { .pid = pid, .exec_id = 1, .start_ns = (uint64_t)pid * 7, .uid = uid, .comm = "app",
	                           .exe = "/usr/bin/app", .unit = "app.service", .cgroup = "/system.slice/app.service" };
	store_ref ref;

	assert_int_equal(store_intern_process(s, &p, &ref), 0);
	return ref;
}

static void commit(struct store *s, uint64_t time_us)
{
	struct store_tick tick = { .time_us = time_us, .duration_ns = NSEC_PER_SEC, .load_milli = 500, .online_cpus = 2 };

	assert_int_equal(store_tick_commit(s, &tick), 0);
}

static int add_up(void *userdata, const struct store_slice_sum *sum)
{
	uint64_t *values = userdata;

	for (int m = 0; m < METRIC_N; m++)
		values[m] += sum->values[m];
	return 0;
}

static void sums_survive_reopening(void **state)
{
	void *arena = arena_new(ARENA);
	struct store_filter all = {};
	uint64_t sums[METRIC_N] = {}, want = 0;
	struct store *s;
	bool reused;

	(void)state;
	assert_int_equal(store_open(&s, arena, ARENA, &config, &reused), 0);
	assert_false(reused);
	for (uint64_t i = 0; i < 200; i++) {
		uint64_t hits = i % 7;

		store_tick_begin(s, T0 + i * SECOND, NSEC_PER_SEC);
		assert_int_equal(store_add(s, process(s, 5, 0), stack(s, 77),
		                           (uint64_t[METRIC_N]) { [METRIC_ON_CPU] = hits * 20408163, [METRIC_HITS] = hits }), 0);
		want += hits * 20408163;
		commit(s, T0 + i * SECOND);
	}
	s = store_close(s);
	assert_int_equal(store_open(&s, arena, ARENA, &config, &reused), 0);
	assert_true(reused);
	assert_int_equal(store_visit_slices(s, &all, add_up, sums), 0);
	assert_int_equal(sums[METRIC_ON_CPU], want);
	store_close(s);
	free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_survive_reopening),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
