/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ring of samples' times: order, names that come late, what gives way, and what is complete. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <time.h>

#include "moments.h"

#define T0 (1000 * USEC_PER_SEC)
#define ENTRY 24 /* bytes */

struct seen {
	struct moment all[4096];
	size_t n, stop_after;
};

static int see(void *userdata, const struct moment *m)
{
	struct seen *s = userdata;

	s->all[s->n++] = *m;
	return s->n == s->stop_after ? 7 : 0;
}

static struct seen *visit(const struct moments *m, uint64_t since_us, uint64_t until_us)
{
	static struct seen seen;

	seen.n = seen.stop_after = 0;
	assert_int_equal(moments_visit(m, since_us, until_us, see, &seen), 0);
	for (size_t i = 1; i < seen.n; i++)
		assert_true(seen.all[i - 1].time_us <= seen.all[i].time_us);
	return &seen;
}

static struct moments *make(uint64_t n)
{
	struct moments *m;

	assert_int_equal(moments_new(&m, n * ENTRY), 0);
	return m;
}

/* The second after T0 + s s. */
static void end_second(struct moments *m, uint64_t s)
{
	moments_end_tick(m, T0 + s * USEC_PER_SEC, T0 + (s + 1) * USEC_PER_SEC);
}

static void test_window_is_exact(void **state _unused_)
{
	_cleanup_(moments_freep) struct moments *m = make(1000);
	uint64_t since, until;
	struct seen *s;

	assert_false(moments_range(m, &since, &until));
	moments_name(m, 11, 1, 101);
	moments_name(m, 22, 2, 202);
	/* As two CPUs have them: each in order. */
	for (uint64_t ms = 0; ms < 1000; ms += 100)
		moments_add(m, 11, T0 + ms * USEC_PER_MSEC, 20000 * NSEC_PER_USEC, 0, "");
	for (uint64_t ms = 50; ms < 1000; ms += 100)
		moments_add(m, 22, T0 + ms * USEC_PER_MSEC, 1499, 0, "");
	assert_int_equal(visit(m, 0, UINT64_MAX)->n, 0); /* the tick goes on */
	end_second(m, 0);
	assert_true(moments_range(m, &since, &until));
	assert_int_equal(since, T0);
	assert_int_equal(until, T0 + USEC_PER_SEC);
	s = visit(m, T0 + 100 * USEC_PER_MSEC, T0 + 200 * USEC_PER_MSEC);
	assert_int_equal(s->n, 2);
	assert_int_equal(s->all[0].time_us, T0 + 100 * USEC_PER_MSEC);
	assert_int_equal(s->all[0].process, 1);
	assert_int_equal(s->all[0].stack, 101);
	assert_int_equal(s->all[0].weight_us, 20000);
	assert_int_equal(s->all[1].time_us, T0 + 150 * USEC_PER_MSEC);
	assert_int_equal(s->all[1].stack, 202);
	assert_int_equal(s->all[1].weight_us, 1);
	assert_int_equal(visit(m, 0, UINT64_MAX)->n, 20);
	assert_int_equal(visit(m, T0 + 1, T0 + 1)->n, 0);
}

static void test_visit_stops(void **state _unused_)
{
	_cleanup_(moments_freep) struct moments *m = make(10);
	struct seen seen = { .stop_after = 2 };

	for (uint64_t i = 0; i < 5; i++)
		moments_add(m, 1, T0 + i, 1000, 0, "");
	end_second(m, 0);
	assert_int_equal(moments_visit(m, 0, UINT64_MAX, see, &seen), 7);
	assert_int_equal(seen.n, 2);
}

/* Names come some ticks later, or never; a name is of its tick only. */
static void test_late_names(void **state _unused_)
{
	_cleanup_(moments_freep) struct moments *m = make(100);
	struct moments_status status;
	struct seen *s;

	moments_add(m, 11, T0 + 1, 1000, 0, "");
	moments_add(m, 22, T0 + 2, 1000, 0, "");
	end_second(m, 0);
	s = visit(m, 0, UINT64_MAX);
	assert_int_equal(s->n, 2);
	assert_int_equal(s->all[0].stack, 0);
	assert_int_equal(s->all[0].process, 0);
	moments_name(m, 33, 3, 303);
	end_second(m, 1);
	moments_name(m, 11, 1, 101);
	end_second(m, 2);
	s = visit(m, 0, UINT64_MAX);
	assert_int_equal(s->all[0].stack, 101);
	assert_int_equal(s->all[0].process, 1);
	assert_int_equal(s->all[1].stack, 0);
	for (uint64_t t = 3; t < 60; t++)
		end_second(m, t);
	moments_name(m, 22, 2, 202);
	end_second(m, 60);
	assert_int_equal(visit(m, 0, UINT64_MAX)->all[1].stack, 0);
	moments_get_status(m, &status);
	assert_int_equal(status.used, 2);
	assert_int_equal(status.max, 100);
}

static void test_oldest_give_way(void **state _unused_)
{
	_cleanup_(moments_freep) struct moments *m = make(10);
	uint64_t since, until;
	struct seen *s;

	for (uint64_t t = 0; t < 4; t++) {
		moments_name(m, 5, 1, 1);
		for (uint64_t i = 0; i < 4; i++)
			moments_add(m, 5, T0 + t * USEC_PER_SEC + i, 1000, 0, "");
		end_second(m, t);
	}
	s = visit(m, 0, UINT64_MAX);
	assert_int_equal(s->n, 10);
	assert_int_equal(s->all[0].time_us, T0 + USEC_PER_SEC + 2);
	/* It says so: all that was since then is there. */
	assert_true(moments_range(m, &since, &until));
	assert_int_equal(since, T0 + USEC_PER_SEC + 2);
	/* A tick with more than there is room for. */
	for (uint64_t i = 0; i < 25; i++)
		moments_add(m, 5, T0 + 4 * USEC_PER_SEC + 25 - i, 1000, 0, "");
	end_second(m, 4);
	assert_int_equal(visit(m, 0, UINT64_MAX)->n, 10);
}

static void test_gaps_and_clocks(void **state _unused_)
{
	_cleanup_(moments_freep) struct moments *m = make(100);
	uint64_t since, until;

	for (uint64_t t = 0; t < 3; t++) {
		moments_add(m, 5, T0 + t * USEC_PER_SEC + 500, 1000, 0, "");
		end_second(m, t);
	}
	/* A few milliseconds off are none. */
	moments_add(m, 5, T0 + 3 * USEC_PER_SEC - 300, 1000, 0, "");
	moments_end_tick(m, T0 + 3 * USEC_PER_SEC + 20 * USEC_PER_MSEC, T0 + 4 * USEC_PER_SEC);
	assert_true(moments_range(m, &since, &until));
	assert_int_equal(since, T0);
	assert_int_equal(visit(m, 0, UINT64_MAX)->n, 4);
	/* Suspended for a minute. */
	moments_add(m, 5, T0 + 64 * USEC_PER_SEC, 1000, 0, "");
	end_second(m, 63);
	assert_true(moments_range(m, &since, &until));
	assert_int_equal(since, T0 + 63 * USEC_PER_SEC);
	assert_int_equal(visit(m, 0, UINT64_MAX)->n, 1);
	/* The clock is set back. */
	moments_add(m, 5, T0 + 10 * USEC_PER_SEC + 1, 1000, 0, "");
	end_second(m, 10);
	assert_true(moments_range(m, &since, &until));
	assert_int_equal(since, T0 + 10 * USEC_PER_SEC);
	assert_int_equal(until, T0 + 11 * USEC_PER_SEC);
	assert_int_equal(visit(m, 0, UINT64_MAX)->n, 1);
}

/* Against a list that is searched through: random ticks of some CPUs in a ring that is often too small. */
static void test_random(void **state _unused_)
{
	static struct moment all[20000];
	_cleanup_(moments_freep) struct moments *m = make(700);
	uint64_t x = (uint64_t)time(NULL), since, until;
	size_t n = 0;

	print_message("# seed %llu\n", (unsigned long long)x);
	for (uint64_t t = 0; t < 60; t++) {
		for (size_t cpu = 0; cpu < 4; cpu++) {
			uint64_t at = T0 + t * USEC_PER_SEC;

			for (size_t i = x >> 33 & 63; i > 0; i--) {
				x = x * 6364136223846793005ULL + 1442695040888963407ULL;
				at += 1 + (x >> 40) % 15000;
				all[n++] = (struct moment){ .time_us = at, .stack = 1 + n % 50 };
				moments_name(m, n % 50 + 1000, 1, all[n - 1].stack);
				moments_add(m, n % 50 + 1000, at, 1000, 0, "");
			}
			x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		}
		end_second(m, t);
		assert_true(moments_range(m, &since, &until));
		for (size_t k = 0; k < 20; k++) {
			uint64_t from = since + (x >> 20) % (until - since), to = from + (x >> 35) % (until - from), in = 0;

			x = x * 6364136223846793005ULL + 1442695040888963407ULL;
			for (size_t i = 0; i < n; i++)
				in += all[i].time_us >= from && all[i].time_us < to;
			assert_int_equal(visit(m, from, to)->n, in);
		}
	}
}

static void test_threads(void **state _unused_)
{
	_cleanup_(moments_freep) struct moments *m = make(100);
	struct seen *s;

	moments_name(m, 11, 1, 101);
	moments_add(m, 11, T0 + 1, 1000, 7, "worker");
	moments_add(m, 11, T0 + 2, 1000, 8, "main");
	moments_add(m, 11, T0 + 3, 1000, 7, "renamed");
	end_second(m, 0);
	s = visit(m, 0, UINT64_MAX);
	assert_int_equal(s->n, 3);
	assert_int_equal(s->all[0].tid, 7);
	assert_int_equal(s->all[1].tid, 8);
	assert_string_equal(moments_thread(m, 7), "renamed");
	assert_string_equal(moments_thread(m, 8), "main");
	assert_string_equal(moments_thread(m, 9), "");
	/* Of two that have one place it is the later one's; the other one has no name rather than a wrong one. */
	moments_add(m, 11, T0 + USEC_PER_SEC + 1, 1000, 7 + 4096, "other");
	assert_string_equal(moments_thread(m, 7 + 4096), "other");
	assert_string_equal(moments_thread(m, 7), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_window_is_exact), cmocka_unit_test(test_visit_stops), cmocka_unit_test(test_late_names),
		cmocka_unit_test(test_oldest_give_way), cmocka_unit_test(test_gaps_and_clocks), cmocka_unit_test(test_random), cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
