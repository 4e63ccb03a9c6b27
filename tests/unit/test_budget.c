/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machines whose costs answer to what the budget lowers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../daemon/collect/budget.h"

#define CPUS 2
#define STARTED 10 /* ticks that are not judged */

/* Of a tick of one second. */
struct load {
	double user_ns;    /* whatever the rates are */
	double walks_ns;   /* what goes with the rates */
	double switches_ns, maps_ns; /* to see them, walked or not */
};

static double cost(const struct budget *b, const struct load *l, bool open, struct budget_reading *ret)
{
	const struct budget_state *s = budget_state(b, open);
	double switches = s->left_out[BUDGET_SWITCHES] ? 0 : l->switches_ns, maps = s->left_out[BUDGET_MAPS] ? 0 : l->maps_ns;
	double walks = l->walks_ns * budget_factor(s->level);

	*ret = (struct budget_reading){
		.wall_ns = NSEC_PER_SEC,
		.cpus = CPUS,
		.open = open,
		.user_ns = (uint64_t)l->user_ns,
		.kernel_ns = (uint64_t)(walks + switches + maps),
		.events_ns = { [BUDGET_SWITCHES] = (uint64_t)switches, [BUDGET_MAPS] = (uint64_t)maps },
	};
	return (l->user_ns + walks + switches + maps) / CPUS / NSEC_PER_SEC;
}

struct outcome {
	double last;       /* share of the machine in the last tick */
	int changes;
	int twice_in_a_row; /* most ticks in a row that took more than twice the budget */
	const char *cause; /* of the last change */
};

static struct outcome run(struct budget *b, const struct load *l, bool open, int ticks)
{
	struct outcome o = { 0 };
	int in_a_row = 0;

	for (int i = 0; i < ticks; i++) {
		struct budget_reading reading;
		const char *cause;

		o.last = cost(b, l, open, &reading);
		in_a_row = o.last > 2 * budget_state(b, open)->share ? in_a_row + 1 : 0;
		o.twice_in_a_row = MAX(o.twice_in_a_row, in_a_row);
		budget_tick(b, &reading, &cause);
		o.changes += cause != NULL;
		o.cause = cause ?: o.cause;
	}
	return o;
}

static void start(struct budget *b)
{
	const struct load idle = { .user_ns = 2e6 };

	budget_init(b, 0.01, 0.1);
	assert_int_equal(run(b, &idle, false, STARTED).changes, 0);
}

static void test_lowers_rates(void **state _unused_)
{
	const struct load walks = { .user_ns = 20e6, .walks_ns = 900e6 }; /* 46 % of the machine */
	struct outcome o;
	struct budget b;

	start(&b);
	o = run(&b, &walks, true, 8);
	assert_true(o.twice_in_a_row <= 2 && o.last < 0.09);
	assert_string_equal(o.cause, "budget-lowered");
	for (size_t i = 0; i < BUDGET_EVENTS; i++)
		assert_false(budget_state(&b, true)->left_out[i]);
	/* a steady load has one level in the end */
	run(&b, &walks, true, 60);
	o = run(&b, &walks, true, 1000);
	assert_int_equal(o.changes, 0);
	assert_true(o.last > 0.04 && o.last < 0.09);
}

static void test_raises_them_again(void **state _unused_)
{
	const struct load walks = { .walks_ns = 900e6 }, few = { .walks_ns = 50e6 };
	struct outcome o;
	struct budget b;

	start(&b);
	run(&b, &walks, true, 10);
	assert_true(budget_state(&b, true)->level > 2);
	o = run(&b, &few, true, 60);
	assert_string_equal(o.cause, "budget-raised");
	assert_int_equal(budget_state(&b, true)->level, 0);
}

static void test_leaves_out_what_costs_unwalked(void **state _unused_)
{
	const struct load storm = { .switches_ns = 500e6, .walks_ns = 10e6, .maps_ns = 1e6 }, calm = { .walks_ns = 10e6, .switches_ns = 1e6 };
	const struct budget_state *s;
	struct outcome o;
	struct budget b;

	start(&b);
	s = budget_state(&b, true);
	o = run(&b, &storm, true, 4);
	assert_int_equal(o.twice_in_a_row, 2);
	assert_true(s->left_out[BUDGET_SWITCHES] && !s->left_out[BUDGET_MAPS]);
	assert_string_equal(o.cause, "budget-left-out");
	/* tried again after ever longer pauses, each time for two ticks at most */
	o = run(&b, &storm, true, 2000);
	assert_true(o.twice_in_a_row <= 2 && s->pause[BUDGET_SWITCHES] == 512);
	/* the storm is over */
	run(&b, &calm, true, 520);
	assert_true(!s->left_out[BUDGET_SWITCHES] && s->level == 0);
	/* and a later one is not held against it */
	run(&b, &calm, true, 64);
	run(&b, &storm, true, 3);
	assert_true(s->left_out[BUDGET_SWITCHES] && s->pause[BUDGET_SWITCHES] == 16);
}

static void test_gate_has_two_budgets(void **state _unused_)
{
	const struct load load = { .user_ns = 15e6, .walks_ns = 40e6 }; /* 2.75 % */
	struct budget b;

	start(&b);
	assert_int_equal(run(&b, &load, true, 20).changes, 0);
	run(&b, &load, false, 20);
	assert_true(budget_state(&b, false)->level > 0 && budget_state(&b, true)->level == 0);
	assert_int_equal(run(&b, &load, true, 20).changes, 0);
}

/* What a start takes, in which all names are new, changes nothing and is said not to count. */
static void test_the_first_ticks_do_not_count(void **state _unused_)
{
	const struct budget_reading r = { .wall_ns = NSEC_PER_SEC, .cpus = 2, .user_ns = NSEC_PER_SEC };
	const char *cause;
	struct budget b;

	budget_init(&b, 0.01, 0.1);
	for (int i = 0; i < 10; i++) {
		assert_false(budget_tick(&b, &r, &cause));
		assert_false(budget_judges(&b));
	}
	assert_true(budget_tick(&b, &r, &cause));
	assert_true(budget_judges(&b));
}

/* On a large machine one thread is no share worth mentioning, and yet it must keep its ticks. */
static void test_one_thread_is_bounded(void **state _unused_)
{
	struct budget_reading r = { .wall_ns = NSEC_PER_SEC, .cpus = 256, .user_ns = 700 * (NSEC_PER_SEC / 1000) };
	const char *cause;
	struct budget b;

	start(&b);
	assert_true(budget_tick(&b, &r, &cause));
	assert_string_equal(cause, "budget-lowered");
}

static void test_no_limit(void **state _unused_)
{
	const struct load load = { .user_ns = 900e6, .walks_ns = 900e6, .switches_ns = 100e6 };
	struct outcome o;
	struct budget b;

	budget_init(&b, 1, 1);
	o = run(&b, &load, true, 100);
	assert_int_equal(o.changes, 0);
	/* lifted while something is lowered */
	start(&b);
	run(&b, &load, true, 20);
	assert_true(budget_state(&b, true)->level > 0);
	budget_configure(&b, 1, 1);
	assert_int_equal(budget_state(&b, true)->level, 0);
}

static void test_rates(void **state _unused_)
{
	const struct collect_config config = {
		.sample_hz = 49, .baseline_hz = 0, .fault_hz = 199, .fault_baseline_hz = 11,
		.offcpu_stacks_per_sec = 0, .memory_stacks_per_sec = 100, .memory_baseline_stacks_per_sec = 20, .max_stacks = 7,
	};
	struct collect_config lowered;
	struct budget_state s = { 0 };

	budget_lower(&s, &config, &lowered);
	assert_memory_equal(&lowered, &config, sizeof(config));
	s.level = 4;
	budget_lower(&s, &config, &lowered);
	assert_int_equal(lowered.sample_hz, 12);
	assert_int_equal(lowered.baseline_hz, 0); /* the strict gate stays strict */
	assert_int_equal(lowered.offcpu_stacks_per_sec, 65536); /* there was no limit */
	assert_int_equal(lowered.memory_stacks_per_sec, 25);
	assert_int_equal(lowered.max_stacks, 7);
	s.level = 12;
	budget_lower(&s, &config, &lowered);
	assert_int_equal(lowered.sample_hz, 1); /* never 0, which would be none, or no limit */
	assert_int_equal(lowered.memory_baseline_stacks_per_sec, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lowers_rates),
		cmocka_unit_test(test_raises_them_again),
		cmocka_unit_test(test_leaves_out_what_costs_unwalked),
		cmocka_unit_test(test_gate_has_two_budgets),
		cmocka_unit_test(test_the_first_ticks_do_not_count),
		cmocka_unit_test(test_one_thread_is_bounded),
		cmocka_unit_test(test_no_limit),
		cmocka_unit_test(test_rates),
	};

	return cmocka_run_group_tests_name("budget", tests, NULL, NULL);
}
