/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which thread waited where: what lasts, what ends, what is cut to a window, whose names come late, and what has no room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "thread_waits.h"

#define T0 (1000 * USEC_PER_SEC)

static struct thread_waits *make(void)
{
	struct thread_waits *w;

	assert_int_equal(thread_waits_new(&w, 1000 * THREAD_WAITS_ENTRY), 0);
	return w;
}

static uint64_t second(uint64_t s)
{
	return T0 + s * USEC_PER_SEC;
}

static void end_second(struct thread_waits *w, uint64_t s)
{
	thread_waits_end_tick(w, second(s), second(s + 1));
}

struct sums {
	uint32_t tid;
	uint64_t blocked_us, runnable_us, unnamed_us, drawn_us;
	store_ref stack;
};

static int add(void *userdata, const struct moment *m)
{
	struct sums *s = userdata;

	if (m->tid != s->tid)
		return 0;
	*(m->metric == METRIC_BLOCKED ? &s->blocked_us : &s->runnable_us) += m->weight_us;
	s->unnamed_us += m->stack ? 0 : m->weight_us;
	s->drawn_us += m->drawn ? m->weight_us : 0;
	s->stack = m->stack;
	return 0;
}

static struct sums sums(const struct thread_waits *w, uint32_t tid, uint64_t since_us, uint64_t until_us)
{
	struct sums s = { .tid = tid };

	assert_int_equal(thread_waits_visit(w, since_us, until_us, add, &s), 0);
	return s;
}

static void test_what_lasts_is_cut_to_the_window(void **state _unused_)
{
	_cleanup_(thread_waits_freep) struct thread_waits *w = make();
	uint64_t since, until;

	assert_false(thread_waits_range(w, &since, &until));
	thread_waits_name(w, 7, 1, 70);
	assert_int_equal(thread_waits_begin(w, 7, 42, "sleeper", T0), 0);
	for (uint64_t s = 0; s < 6; s++)
		end_second(w, s);
	assert_true(thread_waits_range(w, &since, &until));
	assert_int_equal(since, T0);
	assert_int_equal(until, second(6));
	assert_int_equal(sums(w, 42, T0, second(6)).blocked_us, 6 * USEC_PER_SEC);
	assert_int_equal(sums(w, 42, second(1) + 1000, second(2) + 5000).blocked_us, USEC_PER_SEC + 4000);
	thread_waits_end(w, 7, 42, second(6));
	end_second(w, 6);
	end_second(w, 7);
	/* It is over, and not in the time after; windows before its end still have their part. */
	assert_int_equal(sums(w, 42, T0, second(8)).blocked_us, 6 * USEC_PER_SEC);
	assert_int_equal(sums(w, 42, second(1) + 1000, second(2) + 5000).blocked_us, USEC_PER_SEC + 4000);
	assert_int_equal(sums(w, 42, second(6), second(8)).blocked_us, 0);
	assert_int_equal(sums(w, 42, T0, second(8)).stack, 70);
	assert_string_equal(thread_waits_thread(w, 42), "sleeper");
}

static void test_others_count_where_they_ended(void **state _unused_)
{
	_cleanup_(thread_waits_freep) struct thread_waits *w = make();

	thread_waits_name(w, 7, 1, 70);
	thread_waits_add(w, 7, second(0) + 900000, METRIC_BLOCKED, 300000 * NSEC_PER_USEC, false, 42, "a");
	thread_waits_add(w, 7, second(0) + 950000, METRIC_RUNNABLE, 50000 * NSEC_PER_USEC, true, 42, "a");
	end_second(w, 0);
	assert_int_equal(sums(w, 42, second(0) + 800000, second(1)).blocked_us, 300000);
	assert_int_equal(sums(w, 42, second(0) + 800000, second(1)).runnable_us, 50000);
	assert_int_equal(sums(w, 42, second(0) + 800000, second(1)).drawn_us, 50000);
	assert_int_equal(sums(w, 42, second(0), second(0) + 900000).blocked_us, 0);
	assert_int_equal(sums(w, 43, T0, second(1)).blocked_us, 0);
}

static void test_names_come_late(void **state _unused_)
{
	_cleanup_(thread_waits_freep) struct thread_waits *w = make();
	struct sums s;

	assert_int_equal(thread_waits_begin(w, 7, 42, "a", T0), 0);
	assert_int_equal(thread_waits_begin(w, 8, 43, "b", T0), 0);
	end_second(w, 0);
	s = sums(w, 42, T0, second(1));
	assert_int_equal(s.unnamed_us, USEC_PER_SEC);
	thread_waits_end(w, 8, 43, second(1)); /* before it has a name */
	thread_waits_name(w, 7, 1, 70);
	end_second(w, 1);
	s = sums(w, 42, T0, second(2));
	assert_int_equal(s.unnamed_us, 0);
	assert_int_equal(s.blocked_us, 2 * USEC_PER_SEC);
	assert_int_equal(s.stack, 70);
	assert_int_equal(sums(w, 43, T0, second(2)).unnamed_us, USEC_PER_SEC);
	thread_waits_name(w, 8, 2, 80);
	end_second(w, 2);
	assert_int_equal(sums(w, 43, T0, second(3)).unnamed_us, 0);
	assert_int_equal(sums(w, 43, T0, second(3)).stack, 80);
}

/* The number of a thread that ended is another one's; ends that were lost don't make waits that go on for ever. */
static void test_ends_that_are_lost(void **state _unused_)
{
	_cleanup_(thread_waits_freep) struct thread_waits *w = make();
	struct thread_waits_status status;

	thread_waits_name(w, 7, 1, 70);
	thread_waits_name(w, 8, 2, 80);
	assert_int_equal(thread_waits_begin(w, 7, 42, "a", T0), 0);
	end_second(w, 0);
	thread_waits_name(w, 8, 2, 80);
	thread_waits_end(w, 8, 42, second(1)); /* not of this wait */
	end_second(w, 1);
	assert_int_equal(sums(w, 42, T0, second(2)).blocked_us, 2 * USEC_PER_SEC);
	thread_waits_name(w, 8, 2, 80);
	assert_int_equal(thread_waits_begin(w, 8, 42, "a", second(2)), 0);
	end_second(w, 2);
	assert_int_equal(sums(w, 42, T0, second(3)).blocked_us, 3 * USEC_PER_SEC);
	assert_int_equal(sums(w, 42, second(2), second(3)).stack, 80);
	thread_waits_end_all(w, second(3));
	end_second(w, 3);
	thread_waits_get_status(w, &status);
	assert_int_equal(status.open, 0);
	assert_int_equal(status.used, 2);
	assert_int_equal(sums(w, 42, T0, second(4)).blocked_us, 3 * USEC_PER_SEC);
}

static void test_room_is_bounded_and_used_again(void **state _unused_)
{
	_cleanup_(thread_waits_freep) struct thread_waits *w = make();
	struct thread_waits_status status;

	thread_waits_get_status(w, &status);
	for (uint32_t tid = 1; tid <= status.open_max; tid++)
		assert_int_equal(thread_waits_begin(w, 7, tid, "a", T0), 0);
	assert_int_equal(thread_waits_begin(w, 7, status.open_max + 1, "a", T0), -ENOSPC);
	thread_waits_name(w, 7, 1, 70);
	end_second(w, 0);
	assert_int_equal(sums(w, status.open_max, T0, second(1)).blocked_us, USEC_PER_SEC);
	thread_waits_end(w, 7, 5, second(1));
	assert_int_equal(thread_waits_begin(w, 7, status.open_max + 1, "a", second(1)), 0);
	end_second(w, 1);
	assert_int_equal(sums(w, 5, T0, second(2)).blocked_us, USEC_PER_SEC);
	assert_int_equal(sums(w, status.open_max + 1, T0, second(2)).blocked_us, USEC_PER_SEC);
	thread_waits_get_status(w, &status);
	assert_int_equal(status.open, status.open_max);
}

/* A wait of a day has more microseconds than an entry has bits for. */
static void test_long_waits(void **state _unused_)
{
	_cleanup_(thread_waits_freep) struct thread_waits *w = make();
	uint64_t day = 86400 * USEC_PER_SEC;

	thread_waits_name(w, 7, 1, 70);
	assert_int_equal(thread_waits_begin(w, 7, 42, "a", T0), 0);
	thread_waits_end_tick(w, T0, T0 + day);
	thread_waits_end(w, 7, 42, T0 + day);
	thread_waits_end_tick(w, T0 + day, T0 + day + USEC_PER_SEC);
	assert_int_equal(sums(w, 42, T0, T0 + 2 * day).blocked_us, day);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_lasts_is_cut_to_the_window),
		cmocka_unit_test(test_others_count_where_they_ended),
		cmocka_unit_test(test_names_come_late),
		cmocka_unit_test(test_ends_that_are_lost),
		cmocka_unit_test(test_room_is_bounded_and_used_again),
		cmocka_unit_test(test_long_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
