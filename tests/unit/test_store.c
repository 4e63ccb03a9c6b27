/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <cmocka.h>

#include "base.h"

/* The files that allocate are compiled in, so that the nth allocation can be made to fail. */
static int allocations_left = -1;
static void *failing_calloc(size_t n, size_t size)
{
	if (allocations_left == 0)
		return NULL;
	if (allocations_left > 0)
		allocations_left--;
	return calloc(n, size);
}
#define calloc failing_calloc
#include "../../daemon/store/store.c"
#include "../../daemon/store/layout.c"
#undef calloc

#define ARENA (8UL << 20)
#define SMALL_ARENA (1UL << 20)
#define T0 1699999980000000ULL /* the beginning of a minute */
#define SECOND USEC_PER_SEC
#define PERIOD 20408163ULL

static const struct store_config config = {
	.tiers = { { 1, 60 }, { 10, 600 }, { 60, 3600 } },
	.series_state_size = 64,
	.global_state_size = 64,
	.slices_per_series = 8,
};

static uint64_t seed;

static uint64_t next_random(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 8) % below;
}

/* ---- a store to try things on ---- */

struct fixture {
	void *arena;
	size_t size;
	const struct store_config *config;
	struct store *s;
	uint64_t ticks; /* begun */
};

static struct fixture *fixture_configured(size_t size, const struct store_config *c)
{
	struct fixture *f = calloc(1, sizeof(*f));
	bool reused;

	assert_non_null(f);
	f->size = size;
	f->config = c;
	f->arena = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(f->arena, MAP_FAILED);
	assert_false(store_is_of(f->arena, size, c));
	assert_int_equal(store_open(&f->s, f->arena, size, c, &reused), 0);
	assert_false(reused);
	return f;
}

static struct fixture *fixture_new(size_t size)
{
	return fixture_configured(size, &config);
}

static void fixture_free(struct fixture *f)
{
	store_close(f->s);
	munmap(f->arena, f->size);
	free(f);
}

static void reopen(struct fixture *f)
{
	bool reused;

	f->s = store_close(f->s);
	assert_true(store_is_of(f->arena, f->size, f->config));
	assert_false(store_is_of(f->arena, 4 * f->size, f->config)); /* whatever it claims to be */
	assert_int_equal(store_open(&f->s, f->arena, f->size, f->config, &reused), 0);
	assert_true(reused);
}

static uint64_t now_us(const struct fixture *f)
{
	return T0 + f->ticks * SECOND;
}

static void begin(struct fixture *f)
{
	f->ticks++;
	assert_int_equal(store_tick_begin(f->s, now_us(f), NSEC_PER_SEC), 0);
}

static void commit(struct fixture *f)
{
	struct store_tick tick = {
		.time_us = now_us(f), .duration_ns = NSEC_PER_SEC, .load_milli = 500, .online_cpus = 2
	};

	assert_int_equal(store_tick_commit(f->s, &tick), 0);
}

static void idle(struct fixture *f, unsigned ticks)
{
	while (ticks-- > 0) {
		begin(f);
		commit(f);
	}
}

static int try_stack(struct store *s, uint64_t id, store_ref *ret)
{
	char name[32];
	struct store_frame frames[2] = { { .id = id * 2, .display = name, .object = "app", .kind = 1 },
	                                 { .id = 1, .display = "main", .object = "app", .kind = 1 } };

	snprintf(name, sizeof(name), "function_%llu", (unsigned long long)id);
	return store_intern_stack(s, id, frames, 2, false, ret);
}

static store_ref stack(struct store *s, uint64_t id)
{
	store_ref ref;

	assert_int_equal(try_stack(s, id, &ref), 0);
	return ref;
}

static int try_process(struct store *s, pid_t pid, uint32_t uid, store_ref *ret)
{
	struct store_process p = { .pid = pid,
		                   .exec_id = 1,
		                   .start_ns = (uint64_t)pid * 7,
		                   .uid = uid,
		                   .comm = "app",
		                   .exe = "/usr/bin/app",
		                   .unit = "app.service",
		                   .cgroup = "/system.slice/app.service" };

	return store_intern_process(s, &p, ret);
}

static store_ref process(struct store *s, pid_t pid, uint32_t uid)
{
	store_ref ref;

	assert_int_equal(try_process(s, pid, uid, &ref), 0);
	return ref;
}

static void add_hits(struct fixture *f, pid_t pid, uint32_t uid, uint64_t stack_id, uint64_t hits)
{
	uint64_t values[METRIC_N] = { [METRIC_ON_CPU] = hits * PERIOD, [METRIC_HITS] = hits };

	assert_int_equal(store_add(f->s, process(f->s, pid, uid), stack(f->s, stack_id), values), 0);
}

struct collected {
	struct {
		pid_t pid;
		uint64_t stack_id;
		uint64_t values[METRIC_N];
		uint64_t first_us, last_us;
		char comm[16];
	} rows[4096];
	size_t n;
	uint64_t sums[METRIC_N];
	struct store *s;
};

static struct collected collected;

static int collect(void *userdata, const struct store_slice_sum *sum)
{
	struct collected *c = userdata;
	struct store_process p;
	struct store_frame frames[2];
	bool truncated;
	size_t n;

	assert_true(c->n < ELEMENTS_OF(c->rows));
	assert_int_equal(store_get_process(c->s, sum->process, &p), 0);
	c->rows[c->n].pid = p.pid;
	copy_string(c->rows[c->n].comm, sizeof(c->rows[c->n].comm), p.comm);
	c->rows[c->n].stack_id = 0;
	if (sum->stack) {
		char name[32];

		assert_int_equal(
			store_get_stack(c->s, sum->stack, &c->rows[c->n].stack_id, &truncated, frames, 2, &n),
			0);
		/* A wrong stack is worse than none. */
		snprintf(name, sizeof(name), "function_%llu", (unsigned long long)c->rows[c->n].stack_id);
		assert_int_equal(n, 2);
		assert_string_equal(frames[0].display, name);
		assert_string_equal(frames[1].display, "main");
	}
	c->rows[c->n].first_us = sum->first_us;
	c->rows[c->n].last_us = sum->last_us;
	memcpy(c->rows[c->n].values, sum->values, sizeof(sum->values));
	for (int m = 0; m < METRIC_N; m++)
		c->sums[m] += sum->values[m];
	c->n++;
	return 0;
}

static struct collected *slices(struct store *s, const struct store_filter *filter)
{
	memset(&collected, 0, sizeof(collected));
	collected.s = s;
	assert_int_equal(store_visit_slices(s, filter, collect, &collected), 0);
	return &collected;
}

static struct collected *totals(struct store *s, const struct store_filter *filter)
{
	memset(&collected, 0, sizeof(collected));
	collected.s = s;
	assert_int_equal(store_visit_totals(s, filter, collect, &collected), 0);
	return &collected;
}

struct points {
	struct store_point rows[4096];
	size_t n;
	uint64_t sums[METRIC_N];
};

static struct points gathered;

static int gather(void *userdata, const struct store_point *point)
{
	struct points *p = userdata;

	assert_true(p->n < ELEMENTS_OF(p->rows));
	if (p->n > 0)
		assert_true(point->time_us > p->rows[p->n - 1].time_us);
	p->rows[p->n++] = *point;
	for (int m = 0; m < METRIC_N; m++)
		p->sums[m] += point->values[m];
	return 0;
}

static struct points *points(struct store *s, const struct store_filter *filter)
{
	memset(&gathered, 0, sizeof(gathered));
	assert_int_equal(store_visit_points(s, filter, gather, &gathered), 0);
	return &gathered;
}

#include "store_model.h"
#include "store_crash.h"

static void rounding_does_not_add_up(void **state)
{
	struct fixture *f = fixture_new(ARENA);
	const uint64_t value = 1000003; /* 2047 away from the nearest that is kept */

	(void)state;
	for (uint64_t t = 1; t <= 300; t++) {
		uint64_t got;

		begin(f);
		assert_int_equal(store_add(f->s, process(f->s, 5, 0), stack(f->s, 7),
		                           (uint64_t[METRIC_N]) { [METRIC_BLOCKED] = value }), 0);
		commit(f);
		got = slices(f->s, &(struct store_filter) {})->sums[METRIC_BLOCKED];
		/* Half a quantum of a minute, of ten seconds and of a second. */
		assert_true(got + 200000 > value * t && got < value * t + 200000);
		got = slices(f->s, &(struct store_filter){ .since_us = now_us(f) - 50 * SECOND })
		              ->sums[METRIC_BLOCKED];
		assert_true(got + 80000 > value * MIN(t, 50U) && got < value * MIN(t, 50U) + 80000);
	}
	fixture_free(f);
}

/* ---- processes that are not told apart ---- */

/* How sure estimates are: summed over all tiers, of the process that has them, and no points. */
static void variances_are_kept_beside_what_they_are_of(void **state _unused_)
{
	struct fixture *f = fixture_new(4 << 20);
	const uint64_t values[METRIC_N] = { [METRIC_BLOCKED] = 1000000 };
	const uint64_t variances[METRIC_N] = { [METRIC_BLOCKED] = 12345 };
	struct store_filter filter = { .viewer_uid = STORE_ANY_UID };
	struct store_status before, after;

	assert_int_equal(store_add_variances(f->s, 1, 1, variances), -EPERM);
	for (unsigned i = 0; i < 2000; i++) {
		begin(f);
		for (pid_t pid = 1; pid <= 2; pid++)
			assert_int_equal(store_add(f->s, process(f->s, pid, 0), stack(f->s, 1), values), 0);
		store_get_status(f->s, &before);
		if (i % 2)
			assert_int_equal(store_add_variances(f->s, process(f->s, 2, 0), stack(f->s, 1), variances), 0);
		commit(f);
		store_get_status(f->s, &after);
		if (after.evicted_blocks[0] == 0)
			assert_int_equal(after.points[0] - before.points[0], 2);
		if (i == 1234)
			reopen(f);
	}
	memset(&collected, 0, sizeof(collected));
	collected.s = f->s;
	assert_int_equal(store_visit_variances(f->s, &filter, collect, &collected), 0);
	assert_int_equal(collected.n, 1);
	assert_int_equal(collected.rows[0].pid, 2);
	assert_true(fabs((double)collected.rows[0].values[METRIC_BLOCKED] / (1000 * 12345.0) - 1) < 0.13);
	filter.pid = 1;
	collected.n = 0;
	assert_int_equal(store_visit_variances(f->s, &filter, collect, &collected), 0);
	assert_int_equal(collected.n, 0);
	fixture_free(f);
}

static void many_processes_of_one_series_are_summed(void **state)
{
	struct fixture *f = fixture_new(ARENA);
	struct store_filter all = {}, one = { .pid = 3 };
	struct collected *c;
	bool others = false;

	(void)state;
	begin(f);
	for (pid_t pid = 1; pid <= 30; pid++)
		add_hits(f, pid, 1000, 7, 1);
	commit(f);
	c = slices(f->s, &all);
	assert_int_equal(c->n, config.slices_per_series + 1);
	assert_int_equal(c->sums[METRIC_HITS], 30);
	for (size_t i = 0; i < c->n; i++) {
		if (c->rows[i].pid != 0)
			continue;
		others = true;
		assert_string_equal(c->rows[i].comm, "app");
		assert_int_equal(c->rows[i].values[METRIC_HITS], 30 - config.slices_per_series);
	}
	assert_true(others);
	assert_int_equal(slices(f->s, &(struct store_filter) { .comm = "app" })->sums[METRIC_HITS], 30);
	assert_int_equal(slices(f->s, &one)->n, 1);

	/* Places of processes that have been silent pass on; what they did counts for the others then. */
	idle(f, 100);
	begin(f);
	add_hits(f, 99, 1000, 7, 5);
	commit(f);
	c = slices(f->s, &all);
	assert_int_equal(c->n, config.slices_per_series + 1);
	assert_int_equal(c->sums[METRIC_HITS], 35);
	assert_int_equal(slices(f->s, &(struct store_filter) { .pid = 99 })->sums[METRIC_HITS], 5);
	fixture_free(f);
}

/* ---- pressure ---- */

static uint64_t hits_of(uint64_t stack_id)
{
	return stack_id % 5 + 1;
}

static pid_t pid_of(uint64_t stack_id)
{
	return (pid_t)(stack_id % 11 + 1);
}

static void reclaiming_never_gives_a_wrong_stack(void **state)
{
	struct fixture *f = fixture_new(SMALL_ARENA);
	static uint64_t expected[20000];
	struct store_status st;
	uint64_t refused = 0;

	(void)state;
	memset(expected, 0, sizeof(expected));
	for (uint64_t base = 0; base < 19000; base += 45) {
		begin(f);
		for (uint64_t id = base + 1; id <= base + 60; id++) {
			uint64_t values[METRIC_N] = { [METRIC_HITS] = hits_of(id) };
			store_ref p, st_ref;

			if (try_process(f->s, pid_of(id), 1000, &p) < 0 || try_stack(f->s, id, &st_ref) < 0 ||
			    store_add(f->s, p, st_ref, values) < 0)
				refused++;
			else
				expected[id] += hits_of(id);
		}
		commit(f);
		if (base % 900 == 0)
			reopen(f);
		struct collected *c = slices(f->s, &(struct store_filter) {});

		assert_true(c->n >= 60);
		for (size_t i = 0; i < c->n; i++) {
			if (c->rows[i].pid != 0)
				assert_int_equal(c->rows[i].pid, pid_of(c->rows[i].stack_id));
			assert_true(c->rows[i].values[METRIC_HITS] <= expected[c->rows[i].stack_id]);
			assert_true(c->rows[i].values[METRIC_HITS] % hits_of(c->rows[i].stack_id) == 0);
		}
	}
	store_get_status(f->s, &st);
	assert_int_equal(refused, 0);
	assert_true(st.reclaimed_stacks > 10000);
	assert_true(st.reclaimed_slices > 10000);
	assert_true(st.stacks <= st.stacks_max && st.slices <= st.slices_max);
	fixture_free(f);
}

static void what_finds_no_room_is_counted(void **state)
{
	struct fixture *f = fixture_new(SMALL_ARENA);
	struct store_loss losses[STORE_LOSS_CAUSES_MAX];
	struct store_status st;
	uint64_t refused = 0, kept = 0;
	store_ref p, stack_ref;

	(void)state;
	store_get_status(f->s, &st);
	begin(f);
	for (uint64_t id = 1; id <= 2 * st.stacks_max; id++) {
		if (try_stack(f->s, id, &stack_ref) < 0)
			continue;
		for (pid_t pid = 1; pid <= 3; pid++) {
			assert_int_equal(try_process(f->s, pid, 1000, &p), 0);
			int r = store_add(f->s, p, stack_ref, (uint64_t[METRIC_N]) { [METRIC_HITS] = 1 });

			assert_true(r == 0 || r == -ENOSPC);
			refused += r == -ENOSPC;
			kept += r == 0;
		}
	}
	commit(f);
	assert_true(refused > 0);
	assert_int_equal(slices(f->s, &(struct store_filter) {})->sums[METRIC_HITS], kept);
	assert_int_equal(store_get_losses(f->s, losses), 1);
	assert_string_equal(losses[0].cause, "store-full");
	assert_int_equal(losses[0].n, refused);
	/* Later there is room again. */
	idle(f, 2);
	begin(f);
	add_hits(f, 77, 1000, 123456, 1);
	commit(f);
	assert_int_equal(slices(f->s, &(struct store_filter) { .stack_id = 123456 })->sums[METRIC_HITS], 1);
	fixture_free(f);
}

static void stale_refs_are_noticed(void **state)
{
	struct fixture *f = fixture_new(SMALL_ARENA);
	store_ref old, p;
	struct store_frame frame;
	bool truncated;
	uint64_t id;
	size_t n;

	(void)state;
	begin(f);
	old = stack(f->s, 1);
	commit(f);
	assert_int_equal(store_keep_stack(f->s, old), 1);
	for (uint64_t i = 2; i < 2000; i++) {
		begin(f);
		stack(f->s, i);
		commit(f);
	}
	assert_int_equal(store_find_stack(f->s, 1), 0);
	assert_int_equal(store_keep_stack(f->s, old), 0);
	assert_int_equal(store_get_stack(f->s, old, &id, &truncated, &frame, 1, &n), -ENOENT);
	assert_int_equal(store_get_frame_ids(f->s, old, &id, 1), 0);
	begin(f);
	p = process(f->s, 1, 0);
	assert_int_equal(store_add(f->s, p, old, (uint64_t[METRIC_N]) { 1 }), -ENOENT);
	commit(f);
	fixture_free(f);
}

/* Blocks of any length, and empty ones, go round in the finest tier's bytes many times. */
static void rings_wrap_in_order(void **state)
{
	struct store_config longer = config;
	struct fixture *f;
	struct store_status st;

	(void)state;
	longer.tiers[0].keep_s = 300;
	f = fixture_configured(SMALL_ARENA, &longer);
	for (uint64_t t = 1; t <= 400; t++) {
		uint64_t n = t % 3 ? 300 + next_random(200) : 0, want = 0;
		static uint64_t hits[512];

		begin(f);
		for (uint64_t i = 0; i < n; i++) {
			uint64_t values[METRIC_N] = { next_random(1 << 30), next_random(1 << 30),
				                      next_random(1 << 20), next_random(1 << 20),
				                      next_random(1 << 20), 1 };

			assert_int_equal(store_add(f->s, process(f->s, 1 + (pid_t)(i % 4), 0),
			                           stack(f->s, 1 + i / 4), values),
			                 0);
		}
		commit(f);
		hits[t] = n;
		for (uint64_t k = t > 15 ? t - 15 : 0; k <= t; k++)
			want += hits[k];
		assert_int_equal(slices(f->s, &(struct store_filter){ .since_us = now_us(f) - 16 * SECOND })
		                         ->sums[METRIC_HITS],
		                 want);
		if (t % 50 == 0)
			reopen(f);
	}
	store_get_status(f->s, &st);
	assert_true(st.newest_us - st.oldest_us[0] < 250 * SECOND); /* by bytes, not by age */
	fixture_free(f);
}

/* Builds and shells start thousands of processes that do the same: no room is lost to them, and no sum. */
static void churn_of_processes_keeps_the_sums(void **state)
{
	struct fixture *f = fixture_new(ARENA);
	struct store_filter all = {};
	struct store_status st;
	pid_t pid = 0;

	(void)state;
	for (unsigned t = 0; t < 58; t++) {
		begin(f);
		for (unsigned i = 0; i < 500; i++) {
			pid++;
			add_hits(f, pid, 1000, 1 + i % 20, 1);
			assert_int_equal(
				store_add_total(f->s, process(f->s, pid, 1000), (uint64_t[METRIC_N]){ 64 }),
				0);
		}
		commit(f);
	}
	assert_int_equal(slices(f->s, &all)->sums[METRIC_HITS], 58 * 500);
	assert_int_equal(points(f->s, &all)->sums[METRIC_HITS], 58 * 500);
	store_get_status(f->s, &st);
	assert_int_equal(st.full, 0);
	assert_true(st.reclaimed_processes > 0);
	/* The finest blocks may mention processes whose records are free just now. */
	assert_true(totals(f->s, &all)->sums[METRIC_ON_CPU] > 58 * 500 * 64 / 100 * 90);
	assert_true(collected.sums[METRIC_ON_CPU] < 58 * 500 * 64 / 100 * 101);
	fixture_free(f);
}

static void add_blocked(struct fixture *f, pid_t pid, double seconds)
{
	uint64_t values[METRIC_N] = { [METRIC_ON_CPU] = NSEC_PER_SEC / 1024, [METRIC_BLOCKED] = (uint64_t)(seconds * NSEC_PER_SEC) };

	assert_int_equal(store_add_total(f->s, process(f->s, pid, 0), values), 0);
}

static double blocked_of(struct store *s, const struct store_filter *filter, pid_t pid)
{
	memset(&collected, 0, sizeof(collected));
	collected.s = s;
	assert_int_equal(store_visit_wall(s, filter, collect, &collected), 0);
	for (size_t i = 0; i < collected.n; i++)
		if (collected.rows[i].pid == pid)
			return (double)collected.rows[i].values[METRIC_BLOCKED] / NSEC_PER_SEC;
	return -1;
}

/* Process 5 does something in the first and in the last of seven ticks, 6 has one of two threads that does in each, 7 does nothing. */
static void wall_time_has_ticks_in_which_a_process_only_waits(void **state)
{
	struct fixture *f = fixture_new(SMALL_ARENA);
	struct store_filter all = { .since_us = T0 - SECOND }, one;

	(void)state;
	for (int tick = 1; tick <= 7; tick++) {
		begin(f);
		if (tick == 1 || tick == 7)
			add_blocked(f, 5, 0.75);
		add_blocked(f, 6, 1.5);
		if (tick == 4) {
			const uint64_t memory[METRIC_N] = { [METRIC_RSS] = 4096 };

			assert_int_equal(store_add_total(f->s, process(f->s, 5, 0), memory), 0);
		}
		if (tick == 1) {
			assert_int_equal(store_wait(f->s, process(f->s, 6, 0), stack(f->s, 1), 1), 0);
			assert_int_equal(store_wait(f->s, process(f->s, 7, 0), stack(f->s, 1), 2), 0);
		}
		if (tick == 2 || tick == 7)
			assert_int_equal(store_wait(f->s, process(f->s, 5, 0), stack(f->s, 1), tick == 2 ? 1 : -1), 0);
		commit(f);
	}
	assert_float_equal(blocked_of(f->s, &all, 5), 0.75 + 5 + 0.75, 0.01);
	assert_float_equal(blocked_of(f->s, &all, 6), 7 * 1.5, 0.01);
	assert_float_equal(blocked_of(f->s, &all, 7), 7 * 2, 0.01);
	one = (struct store_filter) { .since_us = T0 + 3 * SECOND, .until_us = T0 + 5 * SECOND, .pid = 5 };
	assert_float_equal(blocked_of(f->s, &one, 5), 2, 0.01);
	assert_float_equal(blocked_of(f->s, &one, 7), -1, 0);
	/* Where only steps of several ticks are kept, a wait is not counted beside a total that has it. */
	idle(f, 3000);
	all.until_us = T0 + 7 * SECOND;
	assert_in_range((uint64_t)(100 * blocked_of(f->s, &all, 5)), 490, 660);
	assert_in_range((uint64_t)(100 * blocked_of(f->s, &all, 6)), 1040, 6000);
	fixture_free(f);
}

static void frames_keep_their_objects(void **state)
{
	struct fixture *f = fixture_new(SMALL_ARENA);
	struct store_frame frames[] = { { .id = 1, .display = "main", .object = "app", .build_id = "0123abcd", .address = 0x1130 },
	                                { .id = 2, .display = "[unknown]", .object = "[unknown]" } },
			   back[2];
	bool truncated;
	store_ref ref;
	uint64_t id;
	size_t n;

	(void)state;
	begin(f);
	assert_int_equal(store_intern_stack(f->s, 7, frames, 2, false, &ref), 0);
	commit(f);
	for (int i = 0; i < 2; i++) {
		ref = store_find_stack(f->s, 7);
		assert_int_equal(store_get_stack(f->s, ref, &id, &truncated, back, 2, &n), 0);
		assert_string_equal(back[0].build_id, "0123abcd");
		assert_int_equal(back[0].address, 0x1130);
		assert_string_equal(back[1].build_id, "");
		assert_int_equal(back[1].address, 0);
		reopen(f);
	}
	fixture_free(f);
}

static void long_names_make_room_for_each_other(void **state)
{
	struct fixture *f = fixture_new(SMALL_ARENA);
	static char name[4000];

	(void)state;
	for (uint64_t id = 1; id <= 300; id++) {
		struct store_frame frame = { .id = id, .display = name, .object = "app" }, back;
		uint64_t got_id, ids[2];
		store_ref ref;
		bool truncated;
		size_t n;

		memset(name, 'a', sizeof(name) - 1);
		snprintf(name, 32, "%llu", (unsigned long long)id);
		name[strlen(name)] = '_';
		begin(f);
		assert_int_equal(store_intern_stack(f->s, id, &frame, 1, true, &ref), 0);
		assert_int_equal(store_get_stack(f->s, ref, &got_id, &truncated, &back, 1, &n), 0);
		assert_true(got_id == id && truncated && n == 1);
		assert_string_equal(back.display, name);
		assert_int_equal(store_get_frame_ids(f->s, ref, ids, 2), 1);
		assert_true(ids[0] == id);
		commit(f);
	}
	fixture_free(f);
}

/* ---- pins ---- */

static void keep_ticks_around_an_anomaly(size_t size, uint64_t *ret_hits)
{
	struct fixture *f = fixture_new(size);
	struct store_filter around = { .since_us = T0 + 110 * SECOND, .until_us = T0 + 190 * SECOND };
	struct store_anomaly a = { .comm = "app" };
	struct store_status st;

	for (unsigned i = 1; i <= 1500; i++) {
		begin(f);
		add_hits(f, 5, 1000, 7, i % 3);
		add_hits(f, 6, 1000, 1000 + i, 1); /* never the same stack twice */
		if (i == 150) {
			a.time_us = now_us(f);
			assert_int_equal(store_add_anomaly(f->s, &a), 0);
		}
		commit(f);
		if (i == 170 || i == 900)
			reopen(f);
	}
	assert_int_equal(points(f->s, &around)->n, 80);
	for (size_t i = 0; i < 80; i++) {
		assert_int_equal(gathered.rows[i].step_s, 1);
		assert_int_equal(gathered.rows[i].values[METRIC_HITS], (111 + i) % 3 + 1);
	}
	assert_int_equal(slices(f->s, &around)->n, 81);
	store_get_status(f->s, &st);
	assert_true(st.pins >= 120 && st.pins <= 122);
	assert_true(st.pin_bytes <= st.pin_bytes_max && st.pin_bytes_max <= size / 4);
	*ret_hits = slices(f->s, &(struct store_filter) {})->sums[METRIC_HITS];
	assert_int_equal(points(f->s, &(struct store_filter) {})->sums[METRIC_HITS], *ret_hits);
	fixture_free(f);
}

static void anomalies_keep_the_ticks_around_them(void **state)
{
	uint64_t hits;

	(void)state;
	keep_ticks_around_an_anomaly(ARENA, &hits);
	assert_int_equal(hits, 3000); /* and what lies between pins and coarse blocks */
	/* With too little room for all the stacks, those of the pinned ticks stay. */
	keep_ticks_around_an_anomaly(2 * SMALL_ARENA, &hits);
	assert_true(hits < 3000);
}

static void pins_are_bounded(void **state)
{
	struct fixture *f = fixture_new(SMALL_ARENA);
	struct store_status st;

	(void)state;
	for (unsigned i = 1; i <= 3000; i++) {
		begin(f);
		for (uint64_t k = 0; k < 20; k++)
			add_hits(f, 5, 1000, 1 + (i / 10 + k) % 2000, 1 + k);
		if (i % 7 == 0)
			assert_int_equal(
				store_add_anomaly(f->s, &(struct store_anomaly){ .time_us = now_us(f) }), 0);
		commit(f);
	}
	store_get_status(f->s, &st);
	assert_true(st.pin_bytes <= SMALL_ARENA / 4);
	assert_true(st.anomalies > 0 && st.anomalies <= st.anomalies_max);
	fixture_free(f);
}

/* ---- waits ---- */

static uint64_t blocked(struct fixture *f, uint64_t from_tick, uint64_t until_tick)
{
	struct store_filter w = { .since_us = T0 + from_tick * SECOND, .until_us = T0 + until_tick * SECOND };
	uint64_t sum = slices(f->s, &w)->sums[METRIC_BLOCKED];

	assert_int_equal(points(f->s, &w)->sums[METRIC_BLOCKED], sum);
	return sum / NSEC_PER_SEC;
}

static void waits_count_while_they_last(void **state)
{
	struct fixture *f = fixture_new(ARENA);
	struct store_status st;

	(void)state;
	for (unsigned i = 1; i <= 50; i++) {
		begin(f);
		if (i == 10)
			store_wait(f->s, process(f->s, 5, 0), stack(f->s, 7), 3);
		if (i == 20)
			store_wait(f->s, process(f->s, 5, 0), stack(f->s, 7), -2);
		if (i == 30)
			store_wait(f->s, process(f->s, 5, 0), stack(f->s, 7), -1);
		if (i == 40) /* enters and leaves at once */
			for (int k = -1; k <= 1; k++)
				store_wait(f->s, process(f->s, 5, 0), stack(f->s, 7), k);
		if (i == 41)
			store_wait(f->s, process(f->s, 5, 0), stack(f->s, 7), -1);
		commit(f);
		if (i == 25) {
			assert_int_equal(blocked(f, 0, 25), 36);
			assert_int_equal(blocked(f, 15, 22), 4 * 3 + 3); /* ticks 16..19 at 3, 20..22 at 1 */
		}
	}
	assert_int_equal(blocked(f, 0, 50), 10 * 3 + 10 + 1);
	assert_int_equal(blocked(f, 0, 9), 0);
	assert_int_equal(blocked(f, 9, 10), 3);
	assert_int_equal(blocked(f, 29, 39), 0);
	idle(f, 300);
	assert_int_equal(blocked(f, 0, 60), 41);
	store_get_status(f->s, &st);
	assert_int_equal(st.runs, 3);

	/* What still goes on when the store is left ends with its last tick. */
	begin(f);
	store_wait(f->s, process(f->s, 5, 0), stack(f->s, 7), 2);
	commit(f);
	idle(f, 4);
	begin(f);
	store_wait(f->s, process(f->s, 5, 0), stack(f->s, 7), 5); /* not committed */
	f->ticks--;
	reopen(f);
	idle(f, 5);
	assert_int_equal(blocked(f, 60, 400), 10);
	fixture_free(f);
}

/* ---- who sees what ---- */

static int count_anomalies(void *userdata, const struct store_anomaly *a)
{
	assert_int_equal(a->uid, 1000);
	++*(unsigned *)userdata;
	return 0;
}

static void viewers_see_only_their_own(void **state)
{
	struct fixture *f = fixture_new(ARENA);
	struct store_filter mine = { .viewer_uid = 1000 };
	unsigned n = 0;

	(void)state;
	for (unsigned i = 1; i <= 200; i++) {
		begin(f);
		for (uint32_t uid = 1000; uid < 1003; uid++) {
			/* More processes than are told apart, so that sums over "other" are there too. */
			for (pid_t pid = 1; pid <= 12; pid++)
				add_hits(f, pid + (pid_t)uid * 100, uid, 7, uid - 999);
			store_add_total(f->s, process(f->s, 1 + (pid_t)uid * 100, uid),
			                (uint64_t[METRIC_N]){ uid - 999 });
			if (i == 50)
				store_wait(f->s, process(f->s, 1 + (pid_t)uid * 100, uid), stack(f->s, 7),
				           (int)uid - 999);
			if (i == 100)
				store_add_anomaly(
					f->s, &(struct store_anomaly){ .time_us = now_us(f), .uid = uid });
		}
		commit(f);
	}
	assert_int_equal(slices(f->s, &mine)->sums[METRIC_HITS], 12 * 200);
	assert_int_equal(collected.sums[METRIC_BLOCKED], 151 * NSEC_PER_SEC);
	for (size_t i = 0; i < collected.n; i++)
		assert_true(collected.rows[i].pid == 0 || collected.rows[i].pid / 100 == 1000);
	assert_int_equal(points(f->s, &mine)->sums[METRIC_HITS], 12 * 200);
	assert_int_equal(gathered.sums[METRIC_BLOCKED], 151 * NSEC_PER_SEC);
	assert_int_equal(totals(f->s, &mine)->sums[METRIC_ON_CPU], 200);
	assert_int_equal(collected.n, 1);
	store_visit_anomalies(f->s, &mine, count_anomalies, &n);
	assert_int_equal(n, 1);
	assert_int_equal(slices(f->s, &(struct store_filter) { .viewer_uid = 1003 })->n, 0);
	assert_int_equal(slices(f->s, &(struct store_filter) { .viewer_uid = 1000, .pid = 100101 })->n, 0);
	assert_int_equal(
		slices(f->s, &(struct store_filter){ .viewer_uid = STORE_ANY_UID })->sums[METRIC_HITS],
		12 * 200 * 6);
	fixture_free(f);
}

/* A kernel thread's name stands for its executable, slash and all. */
static void others_of_kernel_threads_have_their_name(void **state)
{
	struct fixture *f = fixture_new(ARENA);
	struct store_process p = { .exec_id = 1, .comm = "kworker/0:1-events" };
	store_ref ref;

	(void)state;
	begin(f);
	for (p.pid = 1; p.pid <= 30; p.pid++) {
		assert_int_equal(store_intern_process(f->s, &p, &ref), 0);
		store_add(f->s, ref, stack(f->s, 8), (uint64_t[METRIC_N]) { [METRIC_HITS] = 1 });
	}
	commit(f);
	assert_int_equal(slices(f->s, &(struct store_filter) { .comm = "kworker/0:1-eve" })->sums[METRIC_HITS],
	                 30 - config.slices_per_series);
	fixture_free(f);
}

static void filters_select(void **state)
{
	struct fixture *f = fixture_new(ARENA);
	struct store_process p = {
		.pid = 8, .exec_id = 1, .uid = 0, .comm = "kworker/0", .exe = "", .unit = "", .cgroup = "/x"
	};
	store_ref ref;

	(void)state;
	begin(f);
	add_hits(f, 5, 1000, 7, 3);
	assert_int_equal(store_intern_process(f->s, &p, &ref), 0);
	store_add(f->s, ref, stack(f->s, 8), (uint64_t[METRIC_N]) { [METRIC_HITS] = 2 });
	commit(f);
	assert_int_equal(slices(f->s, &(struct store_filter) { .unit = "app" })->sums[METRIC_HITS], 3);
	assert_int_equal(slices(f->s, &(struct store_filter){ .unit = "app.service" })->sums[METRIC_HITS], 3);
	assert_int_equal(slices(f->s, &(struct store_filter) { .unit = "ap" })->n, 0);
	assert_int_equal(slices(f->s, &(struct store_filter){ .cgroup = "/system.slice" })->sums[METRIC_HITS],
	                 3);
	assert_int_equal(slices(f->s, &(struct store_filter) { .cgroup = "/system" })->n, 0);
	assert_int_equal(slices(f->s, &(struct store_filter) { .cgroup = "/" })->sums[METRIC_HITS], 5);
	assert_int_equal(slices(f->s, &(struct store_filter) { .exe = "[kworker/0]" })->sums[METRIC_HITS], 2);
	assert_int_equal(slices(f->s, &(struct store_filter) { .comm = "kworker/0" })->sums[METRIC_HITS], 2);
	assert_int_equal(slices(f->s, &(struct store_filter) { .pid = 8 })->sums[METRIC_HITS], 2);
	assert_int_equal(slices(f->s, &(struct store_filter) { .stack_id = 7 })->sums[METRIC_HITS], 3);
	assert_int_equal(store_get_process(f->s, ref, &p), 0);
	assert_string_equal(p.exe, "");
	fixture_free(f);
}

static void odd_windows_are_empty(void **state)
{
	struct fixture *f = fixture_new(ARENA);
	static const struct store_filter windows[] = {
		{ .since_us = T0 + 30 * SECOND, .until_us = T0 + 30 * SECOND },
		{ .since_us = T0 + 30 * SECOND, .until_us = T0 + 10 * SECOND },
		{ .since_us = T0 + 3000 * SECOND },
		{ .since_us = T0 + 3000 * SECOND, .until_us = UINT64_MAX },
		{ .since_us = UINT64_MAX },
		{ .until_us = 1 },
		{ .since_us = 1, .until_us = T0 - 10 * SECOND },
	};

	(void)state;
	assert_int_equal(slices(f->s, &(struct store_filter) {})->n, 0);
	assert_int_equal(points(f->s, &(struct store_filter) {})->n, 0);
	for (unsigned i = 1; i <= 100; i++) {
		begin(f);
		add_hits(f, 5, 1000, 7, 1);
		commit(f);
	}
	for (size_t i = 0; i < ELEMENTS_OF(windows); i++) {
		assert_int_equal(slices(f->s, &windows[i])->n, 0);
		assert_int_equal(points(f->s, &windows[i])->n, 0);
		assert_int_equal(totals(f->s, &windows[i])->n, 0);
	}
	/* A tick that is partly inside counts whole. */
	assert_int_equal(slices(f->s, &(struct store_filter){ .since_us = T0 + 70 * SECOND + 1,
	                                                      .until_us = T0 + 70 * SECOND + 2 })
	                         ->sums[METRIC_HITS],
	                 1);
	fixture_free(f);
}

/* ---- the detector's view ---- */

struct seen {
	unsigned n;
	struct store_series last;
};

static void see(void *userdata, const struct store_series *series)
{
	struct seen *seen = userdata;

	seen->n++;
	seen->last = *series;
	++*(uint64_t *)series->state;
}

static void live_series_are_visited(void **state)
{
	struct fixture *f = fixture_new(ARENA);
	struct seen seen = {};
	uint64_t id;

	(void)state;
	for (unsigned i = 1; i <= 40; i++) {
		begin(f);
		if (i == 1 || i == 30) {
			add_hits(f, 5, 1000, 7, 1);
			add_hits(f, 6, 1000, 7, 4);
		}
		if (i == 35)
			store_wait(f->s, process(f->s, 5, 1000), stack(f->s, 7), 2);
		seen.n = 0;
		store_tick_visit(f->s, 3, see, &seen);
		assert_int_equal(seen.n, i <= 4 || (i >= 30 && i <= 33) || (i >= 35 && i <= 38));
		if (i == 1 || i == 30) {
			struct store_process p;

			assert_int_equal(seen.last.values[METRIC_HITS], 5);
			assert_int_equal(store_get_process(f->s, seen.last.top_process, &p), 0);
			assert_int_equal(p.pid, 6);
			assert_int_equal(seen.last.silent_ticks, i == 30 ? 25 : 0);
			assert_int_equal(seen.last.first_seen_us, T0 + SECOND);
			id = seen.last.id;
		}
		if (i == 2) {
			assert_int_equal(seen.last.values[METRIC_HITS], 0);
			assert_true(seen.last.top_process == process(f->s, 5, 1000) ||
			            seen.last.top_process == process(f->s, 6, 1000));
		}
		if (i == 36)
			assert_int_equal(seen.last.values[METRIC_BLOCKED], 2 * NSEC_PER_SEC);
		commit(f);
		if (i == 20)
			reopen(f);
	}
	assert_int_equal(*(uint64_t *)seen.last.state, 12);
	assert_int_equal(seen.last.id, id);
	fixture_free(f);
}

static int copy_anomaly(void *userdata, const struct store_anomaly *a)
{
	*(struct store_anomaly *)userdata = *a;
	return 1;
}

/* One asks for the slices of an anomaly's program by them. */
static void names_of_an_anomalys_program_are_whole(void **state)
{
	struct fixture *f = fixture_new(ARENA);
	struct store_anomaly a = { .time_us = T0, .score = 5 }, read = {};
	const struct store_filter all = { .until_us = UINT64_MAX, .viewer_uid = STORE_ANY_UID };

	(void)state;
	memset(a.exe, 'e', sizeof(a.exe) - 1);
	memset(a.unit, 'u', sizeof(a.unit) - 1);
	memset(a.cgroup, 'c', sizeof(a.cgroup) - 1);
	assert_int_equal(sizeof(a.exe), 256);
	assert_int_equal(store_add_anomaly(f->s, &a), 0);
	store_visit_anomalies(f->s, &all, copy_anomaly, &read);
	assert_string_equal(read.exe, a.exe);
	assert_string_equal(read.unit, a.unit);
	assert_string_equal(read.cgroup, a.cgroup);
	fixture_free(f);
}

/* ---- opening ---- */

static void ids_of_anomalies_grow_across_restarts(void **state)
{
	struct fixture *f = fixture_new(ARENA);
	struct store_anomaly a = { .time_us = T0, .comm = "app", .exe = "/usr/bin/app", .score = 7.5 };

	(void)state;
	for (uint64_t i = 1; i <= 40; i++) {
		assert_int_equal(store_add_anomaly(f->s, &a), 0);
		assert_int_equal(a.id, i);
		reopen(f);
	}
	fixture_free(f);
}

static void arenas_that_are_too_small_are_refused(void **state)
{
	struct store *s = NULL;
	struct store_config big = config;
	bool reused;
	void *arena = aligned_alloc(4096, SMALL_ARENA);

	(void)state;
	assert_int_equal(store_open(&s, arena, 4096, &config, &reused), -EINVAL);
	assert_int_equal(store_open(&s, arena, 0, &config, &reused), -EINVAL);
	assert_int_equal(store_open(&s, (char *)arena + 1, SMALL_ARENA - 8, &config, &reused), -EINVAL);
	big.global_state_size = 2 * SMALL_ARENA;
	assert_int_equal(store_open(&s, arena, SMALL_ARENA, &big, &reused), -ENOSPC);
	big = config;
	big.tiers[1].step_s = 1;
	assert_int_equal(store_open(&s, arena, SMALL_ARENA, &big, &reused), -EINVAL);
	assert_null(s);
	free(arena);
}

static void failing_allocations_change_nothing(void **state)
{
	struct fixture *f = fixture_new(ARENA);
	struct store *s;
	int r, n = 0;
	bool reused;

	(void)state;
	begin(f);
	add_hits(f, 5, 1000, 7, 3);
	commit(f);
	f->s = store_close(f->s);
	do {
		s = NULL;
		allocations_left = n++;
		r = store_open(&s, f->arena, f->size, &config, &reused);
		allocations_left = -1;
		assert_true(r == 0 || (r == -ENOMEM && !s));
	} while (r < 0);
	assert_true(n > 1 && reused);
	f->s = s;
	assert_int_equal(slices(f->s, &(struct store_filter) {})->sums[METRIC_HITS], 3);
	fixture_free(f);
}

int main(void)
{
	const char *given = getenv("SEED");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_equal_the_model),
		cmocka_unit_test(rounding_does_not_add_up),
		cmocka_unit_test(variances_are_kept_beside_what_they_are_of),
		cmocka_unit_test(many_processes_of_one_series_are_summed),
		cmocka_unit_test(reclaiming_never_gives_a_wrong_stack),
		cmocka_unit_test(what_finds_no_room_is_counted),
		cmocka_unit_test(stale_refs_are_noticed),
		cmocka_unit_test(rings_wrap_in_order),
		cmocka_unit_test(churn_of_processes_keeps_the_sums),
		cmocka_unit_test(wall_time_has_ticks_in_which_a_process_only_waits),
		cmocka_unit_test(frames_keep_their_objects),
cmocka_unit_test(long_names_make_room_for_each_other),
		cmocka_unit_test(anomalies_keep_the_ticks_around_them),
		cmocka_unit_test(pins_are_bounded),
		cmocka_unit_test(waits_count_while_they_last),
		cmocka_unit_test(viewers_see_only_their_own),
		cmocka_unit_test(others_of_kernel_threads_have_their_name),
		cmocka_unit_test(filters_select),
		cmocka_unit_test(odd_windows_are_empty),
		cmocka_unit_test(live_series_are_visited),
		cmocka_unit_test(a_crash_between_calls_loses_no_committed_tick),
		cmocka_unit_test(kill_9_loses_no_committed_tick),
		cmocka_unit_test(damaged_arenas_are_survived),
		cmocka_unit_test(damaged_blocks_are_dropped),
		cmocka_unit_test(foreign_arenas_are_formatted),
		cmocka_unit_test(names_of_an_anomalys_program_are_whole),
		cmocka_unit_test(ids_of_anomalies_grow_across_restarts),
		cmocka_unit_test(arenas_that_are_too_small_are_refused),
		cmocka_unit_test(failing_allocations_change_nothing),
	};

	seed = given ? strtoull(given, NULL, 0) : clock_realtime_us() | 1;
	printf("# SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
