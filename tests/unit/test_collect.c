/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/perf_event.h>
#include <sys/sysmacros.h>
#include <cmocka.h>

#include "../../daemon/collect/internal.h"
#include "../../daemon/collect/proc_text.h"
#include "../../daemon/collect/sample_processes.h"
#include "../../daemon/collect/sample_stacks.h"
#include "../../daemon/collect/sample_tables.h"
#include "../../daemon/collect/sample_waits.h"

#define SECOND USEC_PER_SEC
#define T0 (1700000000 * SECOND) /* realtime at mono 0 */

/* ---- gate ---- */

static const struct collect_config config = {
	.open_above = 5, .close_below = 4, .close_after_us = 10 * SECOND, .cooldown_us = 3 * SECOND,
};

static struct gate_time at(double seconds)
{
	uint64_t us = (uint64_t)(seconds * 1e6);

	return (struct gate_time){ .mono_us = 1000 + us, .real_us = T0 + us };
}

static void assert_change(struct gate *g, bool open, double seconds, const char *cause)
{
	struct collect_gate_change change;

	assert_true(gate_take_change(g, &change));
	assert_int_equal(change.open, open);
	assert_int_equal(change.time_us, at(seconds).real_us);
	assert_string_equal(change.cause, cause);
}

static void assert_no_change(struct gate *g)
{
	struct collect_gate_change change;

	assert_false(gate_take_change(g, &change));
}

static void test_opens_and_closes(void **state _unused_)
{
	struct gate g;

	gate_init(&g, &config);
	assert_false(gate_tick(&g, at(0), 4.9));
	assert_false(gate_load_crossed(&g, at(0.5), 5.0)); /* above, not at */
	assert_true(gate_load_crossed(&g, at(0.6), 5.5));
	assert_false(gate_load_crossed(&g, at(0.7), 9));
	assert_change(&g, true, 0.6, "load");
	/* Between the thresholds it stays open, however long. */
	for (int i = 1; i < 100; i++)
		assert_false(gate_tick(&g, at(i), 4.5));
	/* Low, but not for long enough, twice. */
	for (int i = 100; i < 109; i++)
		assert_false(gate_tick(&g, at(i), 1));
	assert_false(gate_tick(&g, at(109), 4.1));
	for (int i = 110; i < 120; i++)
		assert_false(gate_tick(&g, at(i), 3.9));
	assert_true(gate_tick(&g, at(120), 3.9));
	assert_change(&g, false, 120, "load-low");
	assert_no_change(&g);
}

static void test_cools_down(void **state _unused_)
{
	uint64_t from;
	struct gate g;

	gate_init(&g, &config);
	g.close_after_us = 0;
	assert_true(gate_wants_crossing(&g, &from));
	assert_int_equal(from, 0);
	assert_true(gate_tick(&g, at(1), 8));
	assert_false(gate_wants_crossing(&g, &from));
	assert_true(gate_tick(&g, at(2), 0));
	assert_true(gate_wants_crossing(&g, &from));
	assert_int_equal(from, at(5).mono_us);
	assert_false(gate_load_crossed(&g, at(4.9), 50));
	assert_false(gate_pressed(&g, at(4.9), 0, "pressure-io"));
	assert_true(gate_load_crossed(&g, at(5), 50));
}

static void test_pressure(void **state _unused_)
{
	struct gate g;

	gate_init(&g, &config);
	assert_true(gate_pressed(&g, at(1), 0.1, "pressure-memory"));
	assert_change(&g, true, 1, "pressure-memory");
	/* Pressure that lasts holds it open against a low load. */
	for (int i = 2; i < 40; i++) {
		assert_false(gate_tick(&g, at(i), 0.1));
		if (i % 8 == 0)
			assert_false(gate_pressed(&g, at(i), 0.1, "pressure-memory"));
	}
	for (int i = 40; i < 60 && g.open; i++)
		gate_tick(&g, at(i), 0.1);
	assert_false(g.open);
}

static void test_override(void **state _unused_)
{
	struct gate g;

	gate_init(&g, &config);
	assert_true(gate_set(&g, at(1), 0, GATE_FORCED_OPEN, at(61).real_us));
	assert_change(&g, true, 1, "manual");
	for (int i = 2; i < 61; i++)
		assert_false(gate_tick(&g, at(i), 0));
	assert_true(gate_tick(&g, at(61), 0));
	assert_change(&g, false, 61, "manual-expired");
	assert_int_equal(g.mode, GATE_AUTO);

	/* Forced closed: neither load nor pressure opens it; when it ends, the load decides at once. */
	assert_false(gate_set(&g, at(70), 0, GATE_FORCED_CLOSED, USEC_INFINITY));
	assert_false(gate_load_crossed(&g, at(71), 100));
	assert_false(gate_pressed(&g, at(71), 100, "pressure-cpu"));
	assert_false(gate_tick(&g, at(72), 100));
	assert_true(gate_set(&g, at(73), 100, GATE_AUTO, 0));
	assert_change(&g, true, 73, "manual");
	assert_no_change(&g);
}

static void test_changes_are_bounded(void **state _unused_)
{
	struct gate g;

	gate_init(&g, &config);
	for (int i = 0; i < 3 * GATE_CHANGES_MAX; i++)
		gate_set(&g, at(i), 0, i % 2 ? GATE_FORCED_CLOSED : GATE_FORCED_OPEN, USEC_INFINITY);
	/* The newest are kept, in order. */
	for (int i = 2 * GATE_CHANGES_MAX; i < 3 * GATE_CHANGES_MAX; i++)
		assert_change(&g, i % 2 == 0, i, "manual");
	assert_no_change(&g);
}

/* ---- CPU lists ---- */

static void assert_cpus(const char *list, uint32_t n, uint32_t in, uint32_t out)
{
	struct cpu_set_bits set;

	assert_int_equal(cpus_parse(list, &set), 0);
	assert_int_equal(cpus_count(&set), n);
	assert_true(cpus_has(&set, in));
	assert_false(cpus_has(&set, out));
}

static void test_cpu_lists(void **state _unused_)
{
	struct cpu_set_bits set = { .bits = { 42 } };
	const char *bad[] = { "a", "0-", "-3", "3-1", "0,,2", "0,", "0-3x", "1 2", "0--2" };

	assert_cpus("0-1\n", 2, 1, 2);
	assert_cpus("0\n", 1, 0, 1);
	assert_cpus("0,2-3,64-127,4095\n", 68, 4095, 1);
	for (size_t i = 0; i < ELEMENTS_OF(bad); i++)
		assert_int_equal(cpus_parse(bad[i], &set), -EINVAL);
	assert_int_equal(cpus_parse("0-4096", &set), -ERANGE);
	assert_int_equal(set.bits[0], 42);
}

/* ---- rates and eviction ---- */

static void test_fault_periods(void **state _unused_)
{
	/* Where one sample a second is more than a hundredth, never a whole number of them in a second; 2 % off what was asked for at most. */
	for (uint32_t hz = 1; hz <= 88; hz++) {
		uint64_t period = perf_events_clock_period(hz);

		assert_true(NSEC_PER_SEC % period > period / 200 && NSEC_PER_SEC % period < period - period / 200);
		assert_true(period >= NSEC_PER_SEC / hz && period <= NSEC_PER_SEC / hz * 102 / 100);
	}
	assert_int_equal(perf_events_fault_period(0, 199, 31), 31);
	assert_int_equal(perf_events_fault_period(1000, 199, 31), 31);
	assert_int_equal(perf_events_fault_period(100000, 100, 31), 1001);
	assert_int_equal(perf_events_fault_period(1e18, 1, 31), 1000001);
	assert_int_equal(perf_events_fault_period(5000, 0, 1), 5001);
}

static void test_fault_windows(void **state _unused_)
{
	uint64_t values[METRIC_N] = { [METRIC_FAULTS_MINOR] = 300, [METRIC_FAULTS_MAJOR] = 100, [METRIC_FAULTS_FILE] = 200, [METRIC_ON_CPU] = 7 };
	uint64_t variances[METRIC_N] = { [METRIC_FAULTS_MINOR] = 300 * 30 };
	struct fault_scale scale;

	/* Few faults are seen all the time; of many so long that seeing them takes a 400th of a CPU; of very many for a 64th. */
	assert_true(faults_window(0, false) == 1);
	assert_true(faults_window(35000, false) == 1);
	assert_true(fabs(faults_window(400000, false) - 5.0 / 56) < 1e-9);
	assert_true(faults_window(1e9, false) == 1.0 / 64);
	/* While the gate is open a 200th, and an eighth of the time at least. */
	assert_true(faults_window(71000, true) == 1);
	assert_true(fabs(faults_window(400000, true) - 5.0 / 28) < 1e-9);
	assert_true(faults_window(1e9, true) == 1.0 / 8);
	/* The tick had ten times as many. */
	faults_scale(400, 4000, &(struct fault_part){ .window = 0.1 }, &scale);
	assert_true(scale.factor == 10 && scale.unseen == 0);
	faults_apply_scale(&scale, values, variances);
	assert_int_equal(values[METRIC_FAULTS_MINOR], 3000);
	assert_int_equal(values[METRIC_FAULTS_MAJOR], 100);
	assert_int_equal(values[METRIC_FAULTS_FILE], 1550); /* half of all, as before */
	assert_int_equal(values[METRIC_ON_CPU], 7);
	/* Samples of 31 each, ten times as much, and a window of a tenth that may have been in the burst or not. */
	assert_int_equal(variances[METRIC_FAULTS_MINOR], 900000 + 3000 * 3000 / 10 * 9);
	/* The account lacks some: nothing is made less. */
	faults_scale(400, 100, &(struct fault_part){ .window = 0.1 }, &scale);
	assert_true(scale.factor == 1 && scale.unseen == 0);
	/* But where the rest of a storm's tick was counted 64 times, as what was seen of it was a 64th. */
	faults_scale(400, 100, &(struct fault_part){ .window = 0.1, .weighted = true }, &scale);
	assert_true(scale.factor == 0.25 && scale.unseen == 0);
	/* None was sampled. */
	faults_scale(0, 4000, &(struct fault_part){ .window = 0.1 }, &scale);
	assert_true(scale.unseen == 4000);
	/* Nearly none: these few don't stand for the many that came outside of the window. */
	faults_scale(10, 4000, &(struct fault_part){ .window = 0.1 }, &scale);
	assert_true(scale.factor == 40 && scale.unseen == 3600);
}

static void test_waits_of_all_cpus_are_added_up(void **state _unused_)
{
	uint32_t of_half = wait_sums_entries() / 2, last = of_half - 1;
	struct stackd_wait_sum *map = calloc(2 * of_half, sizeof(*map));
	const uint64_t ids[] = { 5, 6, 7 };
	struct stackd_count counts[3] = { { .values[STACKD_BLOCKED] = 1 }, { .values[STACKD_RUNNABLE] = 2 } };
	struct wait_sums w = {};

	assert_return_code(wait_sums_init(&w), 0);
	map[of_half] = (struct stackd_wait_sum){ .id = 5, .blocked_ns = 10, .runnable_ns = 20, .candidate = 9 };
	map[of_half + last] = (struct stackd_wait_sum){ .id = 5, .blocked_ns = 100, .runnable_ns = 200 };
	map[of_half + 1] = (struct stackd_wait_sum){ .id = 6, .runnable_ns = 40 };
	map[0] = (struct stackd_wait_sum){ .id = 7, .blocked_ns = 1000 }; /* of the other half */
	assert_int_equal(wait_sums_take(&w, map, 1, ids, counts, 3), 0);
	assert_int_equal(counts[0].values[STACKD_BLOCKED], 111);
	assert_int_equal(counts[0].values[STACKD_RUNNABLE], 220);
	assert_int_equal(counts[1].values[STACKD_RUNNABLE], 42);
	assert_int_equal(counts[2].values[STACKD_BLOCKED], 0);
	/* Once; and what has no entry is told. */
	assert_int_equal(wait_sums_take(&w, map, 1, ids, counts, 3), 0);
	assert_int_equal(counts[0].values[STACKD_BLOCKED], 111);
	assert_int_equal(wait_sums_take(&w, map, 0, ids, counts, 2), 1);
	wait_sums_done(&w);
	free(map);
}

static void test_eviction(void **state _unused_)
{
	uint32_t before = UINT32_MAX;

	assert_int_equal(drain_idle_limit(8192, 16384, false), UINT32_MAX);
	assert_int_equal(drain_idle_limit(8192, 16384, true), UINT32_MAX);
	/* The fuller, the sooner; a process that has ended has no use for its stacks. */
	for (uint32_t used = 8193; used < 20000; used += 100) {
		uint32_t live = drain_idle_limit(used, 16384, false);

		assert_true(live <= before);
		assert_true(drain_idle_limit(used, 16384, true) < live);
		assert_true(live >= 3);
		before = live;
	}
}

static void test_switch_frames(void **state _unused_)
{
	/* program, bpf_trace_run, [__schedule, schedule], caller, [mutex_lock], syscall; [] is .sched.text, 100 to 199 */
	uint64_t frames[] = { 900, 10, 150, 199, 200, 100, 300 }, none[] = { 900, 10, 300 };

	assert_int_equal(frames_without_switch(frames, 7, 100, 200), 2);
	assert_int_equal(frames[0], 200);
	assert_int_equal(frames[1], 300);
	/* Where nothing of the scheduler is found, nothing is known to be ours. */
	assert_int_equal(frames_without_switch(none, 3, 100, 200), 3);
	assert_int_equal(frames_without_switch(none, 3, 0, 0), 3);
	assert_int_equal(none[0], 900);
}

static void test_frames_without_hook(void **state _unused_)
{
	const struct hook hooks[] = { { "unknown", 0, 0 }, { "hook", 100, 200 } };
	uint64_t frames[] = { 900, 150, 300, 400 }, none[] = { 99, 200, 0 }, only[] = { 100 };

	assert_int_equal(frames_without_hook(frames, 4, hooks, 2), 2);
	assert_int_equal(frames[0], 300);
	assert_int_equal(frames[1], 400);
	assert_int_equal(frames_without_hook(none, 3, hooks, 2), 3);
	assert_int_equal(frames_without_hook(only, 1, hooks, 2), 1);
	assert_int_equal(frames_without_hook(frames, 0, hooks, 2), 0);
}

static void test_frames_without_fault(void **state _unused_)
{
	const struct hook fault = { .name = "fault", .start = 100, .end = 110 }, unknown = { .name = "none" };
	uint64_t twice[] = { 1, 105, 2, 109, 3, 4 }, all[] = { 1, 2, 100 }, none[] = { 1, 110, 99 };

	assert_int_equal(frames_without_fault(twice, 6, &fault), 2);
	assert_int_equal(twice[0], 3);
	assert_int_equal(twice[1], 4);
	assert_int_equal(frames_without_fault(all, 3, &fault), 0);
	assert_int_equal(frames_without_fault(none, 3, &fault), 3);
	assert_int_equal(frames_without_fault(all, 3, &unknown), 3);
	assert_int_equal(frames_without_fault(none, 0, &fault), 0);
}

/* ---- totals and waits ---- */

static struct {
	struct collect_total totals[8];
	struct collect_wait waits[8];
	size_t n_totals, n_waits;
} seen;

static void on_total(void *userdata _unused_, const struct collect_total *total)
{
	assert_true(seen.n_totals < 8);
	seen.totals[seen.n_totals++] = *total;
}

static void on_wait(void *userdata _unused_, const struct collect_wait *wait)
{
	assert_true(seen.n_waits < 8);
	seen.waits[seen.n_waits++] = *wait;
}

static const struct collect_sink sink = { .total = on_total, .wait = on_wait };
static const struct stackd_process process = { .start_ns = 5, .tgid = 7, .exec_id = 1, .comm = "victim" };

static void report(struct threads *t)
{
	memset(&seen, 0, sizeof seen);
	threads_report(t, NSEC_PER_SEC, &sink, NULL);
}

static void test_totals(void **state _unused_)
{
	struct collect_config limits = { .max_processes = 2, .max_stacks = 2 };
	struct stackd_exit leaving = { .process = process, .on_cpu_ns = 100, .alive_ns = 1000 }, other = leaving;
	struct threads t;

	assert_int_equal(threads_init(&t, &limits), 0);
	threads_add_exit(&t, &leaving);
	threads_add_exit(&t, &leaving);
	for (uint32_t pid = 100; pid < 103; pid++) {
		other.process.tgid = pid;
		threads_add_exit(&t, &other);
	}
	report(&t);
	assert_int_equal(seen.n_totals, 2);
	assert_int_equal(t.lost_processes, 2);
	assert_int_equal(seen.totals[0].process.pid, 7);
	assert_string_equal(seen.totals[0].process.comm, "victim");
	assert_int_equal(seen.totals[0].values[METRIC_ON_CPU], 200);
	assert_int_equal(seen.totals[0].values[METRIC_BLOCKED], 2000 - 200);
	report(&t);
	assert_int_equal(seen.n_totals, 0);
	threads_done(&t);
}

static void test_waits(void **state _unused_)
{
	struct collect_config limits = { .max_processes = 2, .max_stacks = 2 };
	struct threads t;

	assert_int_equal(threads_init(&t, &limits), 0);
	threads_add_wait(&t, 11, &process, 1);
	threads_add_wait(&t, 11, &process, 1);
	threads_add_wait(&t, 22, &process, 1);
	threads_add_wait(&t, 33, &process, 1); /* no room */
	assert_int_equal(t.lost_waits, 1);
	report(&t);
	assert_int_equal(seen.n_waits, 2);
	assert_true(threads_waits_on(&t, 11) && threads_waits_on(&t, 22) && !threads_waits_on(&t, 33));
	report(&t);
	assert_int_equal(seen.n_waits, 0); /* an unchanged wait says nothing */
	threads_add_wait(&t, 11, &process, -1);
	threads_add_wait(&t, 22, &process, -1);
	report(&t);
	assert_int_equal(seen.n_waits, 2);
	assert_int_equal(seen.waits[0].threads + seen.waits[1].threads, -2);
	assert_true(threads_waits_on(&t, 11));
	assert_false(threads_waits_on(&t, 22));
	/* What was told as begun is told as ended. */
	threads_forget_waits(&t);
	report(&t);
	assert_int_equal(seen.n_waits, 1);
	assert_int_equal(seen.waits[0].raw_id, 11);
	assert_int_equal(seen.waits[0].threads, -1);
	threads_add_wait(&t, 33, &process, 1); /* the room is free again */
	threads_add_wait(&t, 44, &process, 1);
	report(&t);
	assert_int_equal(seen.n_waits, 2);
	/* One that goes takes nobody else with it. */
	threads_add_wait(&t, 33, &process, -1);
	report(&t);
	assert_true(threads_waits_on(&t, 44));
	threads_add_wait(&t, 44, &process, -1);
	report(&t);
	assert_int_equal(seen.n_waits, 1);
	assert_int_equal(seen.waits[0].raw_id, 44);
	assert_int_equal(t.n_waits, 0);
	threads_done(&t);
}

/* ---- mapping events ---- */

struct record {
	uint64_t words[64];
	size_t size;
};

static void begin_record(struct record *r, uint32_t type, uint16_t misc)
{
	const struct perf_event_header h = { .type = type, .misc = misc };

	memset(r, 0, sizeof *r);
	memcpy(r->words, &h, sizeof h);
	r->size = sizeof h;
}

static void add(struct record *r, const void *data, size_t n)
{
	memcpy((char *)r->words + r->size, data, n);
	r->size += n;
}

static void add_u32(struct record *r, uint32_t v)
{
	add(r, &v, sizeof v);
}

static void add_u64(struct record *r, uint64_t v)
{
	add(r, &v, sizeof v);
}

static int parse(struct record *r, struct collect_mapping_event *event, uint64_t *lost)
{
	((struct perf_event_header *)r->words)->size = (uint16_t)r->size;
	return mapping_event_parse(r->words, r->size, event, lost);
}

static void make_mmap2(struct record *r, uint32_t prot, uint64_t length, const char *path, size_t path_size)
{
	char padded[64] = "";

	begin_record(r, PERF_RECORD_MMAP2, PERF_RECORD_MISC_USER);
	add_u32(r, 12);
	add_u32(r, 13);
	add_u64(r, 0x1000);
	add_u64(r, length);
	add_u64(r, 0x200);
	add_u32(r, 8);
	add_u32(r, 1);
	add_u64(r, 77);
	add_u64(r, 1);
	add_u32(r, prot);
	add_u32(r, 2);
	strcpy(padded, path);
	add(r, padded, path_size);
	add_u64(r, 4242);
}

static void test_mapping_records(void **state)
{
	struct collect_mapping_event e;
	struct record r;
	uint64_t lost = 0;

	(void)state;
	make_mmap2(&r, 5, 0x2000, "/usr/bin/true", 16);
	assert_int_equal(parse(&r, &e, &lost), 1);
	assert_int_equal(e.kind, COLLECT_MAPPED);
	assert_int_equal(e.pid, 12);
	assert_int_equal(e.time_ns, 4242);
	assert_int_equal(e.start, 0x1000);
	assert_int_equal(e.end, 0x3000);
	assert_int_equal(e.offset, 0x200);
	assert_int_equal(e.inode, 77);
	assert_int_equal(e.device, makedev(8, 1));
	assert_string_equal(e.path, "/usr/bin/true");
	make_mmap2(&r, 1, 0x2000, "/usr/share/data", 16);
	assert_int_equal(parse(&r, &e, &lost), 0); /* no code */

	begin_record(&r, PERF_RECORD_FORK, 0);
	for (unsigned i = 0; i < 4; i++)
		add_u32(&r, i == 1 ? 7 : 12);
	add_u64(&r, 99);
	add_u64(&r, 99);
	assert_int_equal(parse(&r, &e, &lost), 1);
	assert_int_equal(e.kind, COLLECT_FORKED);
	assert_int_equal(e.parent, 7);
	assert_int_equal(e.time_ns, 99);
	((uint32_t *)r.words)[3] = 12;
	assert_int_equal(parse(&r, &e, &lost), 0); /* a thread */

	begin_record(&r, PERF_RECORD_COMM, PERF_RECORD_MISC_COMM_EXEC);
	add_u32(&r, 12);
	add_u32(&r, 12);
	add(&r, "true\0\0\0", 8);
	add_u64(&r, 100);
	assert_int_equal(parse(&r, &e, &lost), 1);
	assert_int_equal(e.kind, COLLECT_EXECUTED);
	assert_int_equal(e.time_ns, 100);
	((struct perf_event_header *)r.words)->misc = 0;
	assert_int_equal(parse(&r, &e, &lost), 0); /* it only took another name */

	begin_record(&r, PERF_RECORD_LOST, 0);
	add_u64(&r, 1);
	add_u64(&r, 30);
	add_u64(&r, 100);
	assert_int_equal(parse(&r, &e, &lost), 0);
	assert_int_equal(lost, 30);
	begin_record(&r, 200, 0);
	assert_int_equal(parse(&r, &e, &lost), 0);
}

static void test_damaged_mapping_records(void **state)
{
	struct collect_mapping_event e;
	struct record r;
	uint64_t lost = 0;

	(void)state;
	make_mmap2(&r, 5, 0x2000, "/usr/bin/true/without/an/end-----", 32);
	assert_int_equal(parse(&r, &e, &lost), -EBADMSG); /* no NUL before the time */
	make_mmap2(&r, 5, 0, "/usr/bin/true", 16);
	assert_int_equal(parse(&r, &e, &lost), -EBADMSG);
	make_mmap2(&r, 5, UINT64_MAX, "/usr/bin/true", 16);
	assert_int_equal(parse(&r, &e, &lost), -EBADMSG);
	/* Cut off anywhere. */
	for (uint32_t type = PERF_RECORD_MMAP; type <= PERF_RECORD_MMAP2; type++)
		for (size_t size = 0; size <= 128; size++) {
			make_mmap2(&r, 5, 0x2000, "/usr/bin/true", 16);
			((struct perf_event_header *)r.words)->type = type;
			((struct perf_event_header *)r.words)->size = (uint16_t)size;
			mapping_event_parse(r.words, size, &e, &lost);
			assert_int_equal(mapping_event_parse(r.words, size + 8, &e, &lost), -EBADMSG);
		}
}

/* ---- the source without BPF ---- */

static void test_proc_texts(void **state)
{
	struct proc_stat stat;
	char path[64];
	uint32_t uid;

	(void)state;
	assert_int_equal(proc_stat_parse("7 (a) b) c) S 1 7 7 0 -1 4194560 1200 55 34 0 10 20 0 0 20 0 3 0 123456 1000000 789 18446744073709551615 1\n",
	                                 &stat), 0);
	assert_string_equal(stat.comm, "a) b) c");
	assert_false(stat.kernel_thread);
	assert_int_equal(stat.faults_minor, 1200);
	assert_int_equal(stat.faults_major, 34);
	assert_int_equal(stat.threads, 3);
	assert_int_equal(stat.start_ticks, 123456);
	assert_int_equal(stat.resident, 789);
	assert_int_equal(proc_stat_parse("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 1", &stat), 0);
	assert_true(stat.kernel_thread);
	assert_int_equal(proc_stat_parse("7 (cut) S 1 7 7", &stat), -EBADMSG);
	assert_int_equal(proc_stat_parse("7 )(", &stat), -EBADMSG);
	assert_int_equal(proc_uid_parse("Name:\tx\nUid:\t1000\t0\t0\t0\n", &uid), 0);
	assert_int_equal(uid, 1000);
	assert_int_equal(proc_uid_parse("Name:\tUid:\t5\n", &uid), -EBADMSG);
	assert_int_equal(proc_cgroup_parse("3:cpu:/old\n0::/system.slice/a.service\n", path, sizeof path), 0);
	assert_string_equal(path, "/system.slice/a.service");
	assert_int_equal(proc_cgroup_parse("3:cpu:/old\n", path, sizeof path), -ENOENT);
	assert_int_equal(proc_cgroup_parse("0::/system.slice/a.service\n", path, 8), -E2BIG);
}

static struct collect_frames frames_of(pid_t pid, size_t n_kernel, size_t n_user, uint64_t first)
{
	struct collect_frames f = { .process = { .pid = pid, .start_ns = 5 }, .n_kernel = n_kernel, .n_user = n_user };

	for (size_t i = 0; i < n_kernel; i++)
		f.kernel[i] = first + i;
	for (size_t i = 0; i < n_user; i++)
		f.user[i] = first + n_kernel + i;
	return f;
}

static void assert_same_frames(const struct collect_frames *a, const struct collect_frames *b)
{
	assert_int_equal(a->process.pid, b->process.pid);
	assert_int_equal(a->truncated, b->truncated);
	assert_int_equal(a->n_kernel, b->n_kernel);
	assert_int_equal(a->n_user, b->n_user);
	assert_memory_equal(a->kernel, b->kernel, a->n_kernel * sizeof a->kernel[0]);
	assert_memory_equal(a->user, b->user, a->n_user * sizeof a->user[0]);
}

/* Whatever is there is what was put, and the latest always are. */
static void test_sampled_stacks(void **state)
{
	enum { KEPT = 1024, PUT = 20000, LATEST = 100 };
	_cleanup_(sample_stacks_freep) struct sample_stacks *s = NULL;
	struct collect_frames put, got;
	static uint64_t ids[PUT];
	size_t there = 0;

	(void)state;
	assert_int_equal(sample_stacks_new(&s, KEPT), 0);
	for (unsigned i = 0; i < PUT; i++) {
		put = frames_of((pid_t)(1 + i % 7), i % 49, i % 129, 1000 * i);
		ids[i] = sample_stacks_put(s, &put);
		assert_int_equal(sample_stacks_put(s, &put), ids[i]);
		assert_true(sample_stacks_count(s) <= KEPT);
	}
	for (unsigned i = 0; i < PUT; i++) {
		put = frames_of((pid_t)(1 + i % 7), i % 49, i % 129, 1000 * i);
		if (sample_stacks_get(s, ids[i], &got) < 0) {
			assert_true(i < PUT - LATEST);
			continue;
		}
		there++;
		assert_same_frames(&got, &put);
	}
	assert_int_equal(there, sample_stacks_count(s));
	/* The same addresses, of another process, or not to their end, are another stack; kernel and user aren't mixed up. */
	put = frames_of(1, 2, 2, 7);
	ids[0] = sample_stacks_put(s, &put);
	put = frames_of(2, 2, 2, 7);
	ids[1] = sample_stacks_put(s, &put);
	put = frames_of(1, 1, 3, 7);
	ids[2] = sample_stacks_put(s, &put);
	put = frames_of(1, 2, 2, 7);
	put.truncated = true;
	ids[3] = sample_stacks_put(s, &put);
	for (unsigned i = 0; i < 4; i++)
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(ids[i], ids[j]);
}

/* ---- waits of the sampler ---- */

struct waited {
	uint64_t blocked, runnable;
	uint32_t weight;
	int lasting, told; /* now; and how often anything was said of it */
};

static void add_passed(void *userdata, uint64_t raw_id, const struct collect_process *whose, uint64_t blocked_ns, uint64_t runnable_ns,
                       uint32_t weight)
{
	struct waited *w = (struct waited *)userdata + raw_id;

	(void)whose;
	w->blocked += blocked_ns;
	w->runnable += runnable_ns;
	w->weight = weight;
}

static void add_wait(void *userdata, const struct collect_wait *wait)
{
	struct waited *w = (struct waited *)userdata + wait->raw_id;

	w->lasting += wait->threads;
	w->told++;
}

/* A thread leaves CPU 0 at from, with a stack of that id. */
static void leave(struct sample_waits *w, uint32_t tid, uint64_t raw_id, uint32_t weight, bool preempted, uint64_t from)
{
	const struct collect_process left = { .pid = 7 };

	sample_waits_drawn(w, 0, tid, raw_id, &left, weight);
	sample_waits_out(w, 0, tid, preempted, from);
}

static void test_sampled_waits(void **state)
{
	_cleanup_(sample_waits_freep) struct sample_waits *w = NULL;
	struct waited all[9] = {};
	const struct collect_sink waits_sink = { .wait = add_wait };
	const struct sample_waits_reader reader = { add_passed, all, &waits_sink, all };
	struct sample_waits_lost lost;

	(void)state;
	assert_int_equal(sample_waits_new(&w, 2), 0);
	/* What one CPU says comes before what another says of an earlier time. */
	sample_waits_in(w, 1, 500);
	sample_waits_woken(w, 1, 400);
	leave(w, 1, 1, 3, false, 100);
	leave(w, 2, 2, 1, true, 100);
	sample_waits_woken(w, 2, 150);
	sample_waits_in(w, 2, 300);
	leave(w, 3, 3, 3, false, 200);          /* goes on for three ticks */
	sample_waits_ended(w, 4, 100);
	leave(w, 4, 4, 1, false, 200);          /* never comes back */
	sample_waits_out(w, 1, 5, false, 200);  /* was not drawn, and lasts */
	sample_waits_drawn(w, 1, 6, 6, &(struct collect_process){ .pid = 7 }, 1);
	sample_waits_out(w, 1, 7, false, 300);  /* somebody else's stack is not its own */
	leave(w, 8, 8, 1, false, 3 * NSEC_PER_SEC);   /* comes after what is settled */
	sample_waits_settle(w, NSEC_PER_SEC, add_passed, all);
	assert_int_equal(all[1].blocked, 900);
	assert_int_equal(all[1].runnable, 300);
	assert_int_equal(all[1].weight, 3);
	assert_int_equal(all[2].blocked, 0);
	assert_int_equal(all[2].runnable, 200);
	sample_waits_report(w, 0, NSEC_PER_SEC, &reader);
	assert_int_equal(all[3].told, 0);
	sample_waits_report(w, NSEC_PER_SEC, 2 * NSEC_PER_SEC, &reader);
	assert_int_equal(all[3].lasting, 1);
	assert_int_equal(all[3].blocked, NSEC_PER_SEC - 200);
	sample_waits_report(w, 2 * NSEC_PER_SEC, 3 * NSEC_PER_SEC, &reader);
	assert_int_equal(all[3].told, 1);
	sample_waits_woken(w, 3, 3 * NSEC_PER_SEC + 40);
	sample_waits_in(w, 3, 3 * NSEC_PER_SEC + 100);
	sample_waits_in(w, 8, 3 * NSEC_PER_SEC + 100);
	sample_waits_settle(w, 4 * NSEC_PER_SEC, add_passed, all);
	sample_waits_report(w, 3 * NSEC_PER_SEC, 4 * NSEC_PER_SEC, &reader);
	assert_int_equal(all[3].lasting, 0);
	assert_int_equal(all[3].blocked, NSEC_PER_SEC - 200 + 40); /* the ticks between are the store's */
	assert_int_equal(all[3].runnable, 60);
	assert_int_equal(all[8].blocked, 100);
	assert_int_equal(all[4].blocked + all[6].blocked + (uint64_t)all[4].told + (uint64_t)all[6].told, 0);
	lost = sample_waits_take_lost(w);
	assert_int_equal(lost.undrawn, 1);
	assert_int_equal(lost.forgotten + lost.full, 0);
	assert_int_equal(sample_waits_count(w), 0);
}

/* After a loss nothing is made up, and what lasted is told to be over. */
static void test_sampled_waits_forgotten(void **state)
{
	_cleanup_(sample_waits_freep) struct sample_waits *w = NULL;
	struct waited all[2] = {};
	const struct collect_sink waits_sink = { .wait = add_wait };
	const struct sample_waits_reader reader = { add_passed, all, &waits_sink, all };

	(void)state;
	assert_int_equal(sample_waits_new(&w, 1), 0);
	leave(w, 1, 1, 1, false, 100);
	sample_waits_settle(w, NSEC_PER_SEC, add_passed, all);
	sample_waits_report(w, NSEC_PER_SEC, 2 * NSEC_PER_SEC, &reader);
	assert_int_equal(all[1].lasting, 1);
	sample_waits_forget(w);
	sample_waits_in(w, 1, 5 * NSEC_PER_SEC);
	sample_waits_settle(w, 6 * NSEC_PER_SEC, add_passed, all);
	sample_waits_report(w, 5 * NSEC_PER_SEC, 6 * NSEC_PER_SEC, &reader);
	assert_int_equal(all[1].lasting, 0);
	assert_int_equal(all[1].blocked, NSEC_PER_SEC - 100);
	assert_int_equal(sample_waits_take_lost(w).forgotten, 1);
	/* As many as there is room for; the rest is counted. */
	for (uint32_t i = 0; i < SAMPLE_WAITS_MAX + 10; i++)
		leave(w, 1 + i, 1, 1, false, 7 * NSEC_PER_SEC);
	assert_int_equal(sample_waits_take_lost(w).full, 10);
	sample_waits_settle(w, 8 * NSEC_PER_SEC, add_passed, all);
	assert_int_equal(sample_waits_count(w), SAMPLE_WAITS_MAX);
}

static const struct sample_owner owner = { { 12, 3 }, 99 };

/* One mapping, of code whose functions keep nothing but the return address on the stack, and one without a table. */
static void load_tables(struct sample_tables *t)
{
	struct stackd_unwind_tables *shared = sample_tables_shared(t);
	struct stackd_unwind_process p = { .start_ns = owner.start_ns, .first_mapping = 5, .n_mappings = 2 };
	struct stackd_unwind_slab *slab;

	shared->mappings[5] = (struct stackd_unwind_mapping){ 0x10000, 0x20000, 0x10000, 7, 1, 3 };
	shared->mappings[6] = (struct stackd_unwind_mapping){ .start = 0x30000, .end = 0x40000, .object = STACKD_UNWIND_NOT_YET };
	shared->pages[7] = (struct stackd_unwind_page){ STACKD_UNWIND_SLAB_ROWS + 4, 3 };
	shared->rules[1] = (struct unwind_rule){ .cfa = UNWIND_CFA_RSP, .cfa_offset = 8 };
	shared->rules[2] = (struct unwind_rule){ .cfa = UNWIND_CFA_END };
	assert_int_equal(sample_tables_slab(t, 1, &slab), 0);
	slab->rows[4] = (struct unwind_row){ 0, 0 };
	slab->rows[5] = (struct unwind_row){ 0x100, 1 };
	slab->rows[6] = (struct unwind_row){ 0x800, 2 };
	collect_unwind_slab_done(slab);
	assert_int_equal(sample_tables_slab(t, STACKD_UNWIND_SLABS_MAX, &slab), -ERANGE);
	assert_int_equal(sample_tables_set_process(t, &owner.key, &p), 0);
}

static size_t walk(struct sample_tables *t, const struct sample_owner *who, const struct sample_owner *parent, const uint64_t *stack, size_t n,
                   struct walk_end *ret_end, uint64_t *ret)
{
	const struct perfdata_carried carried = { .ip = 0x10140, .sp = 0x7000, .stack = (const uint8_t *)stack, .size = n * sizeof *stack };
	size_t n_frames = 0;

	return sample_tables_walk(t, who, parent, &carried, ret, 16, &n_frames, ret_end) ? n_frames : 0;
}

static void test_walk_of_a_copy(void **state)
{
	const uint64_t whole[] = { 0x10200, 0x10300, 0x10900 }, leads_out[] = { 0x30500 }, nowhere[] = { 0x50000 };
	const struct sample_owner child = { { 13, 0 }, 120 };
	_cleanup_(sample_tables_freep) struct sample_tables *t = NULL;
	struct stackd_unwind_key keys[4];
	struct stackd_unwind_wanted wanted[4];
	uint64_t got[16];
	struct walk_end end;

	(void)state;
	assert_int_equal(sample_tables_new(&t), 0);
	if (!sample_tables_shared(t))
		skip();
	assert_int_equal(walk(t, &owner, NULL, whole, 3, &end, got), 0);
	assert_int_equal(sample_tables_take_wanted(t, keys, wanted, 4), 1); /* it is wanted, once taken no longer */
	assert_int_equal(keys[0].tgid, 12);
	assert_int_equal(wanted[0].address, 0x10140);
	assert_int_equal(sample_tables_take_wanted(t, keys, wanted, 4), 0);
	load_tables(t);
	assert_int_equal(walk(t, &owner, NULL, whole, 3, &end, got), 4);
	assert_int_equal(end.end, STACKD_UNWIND_COMPLETE);
	assert_false(end.frame_pointers);
	assert_int_equal(got[0], 0x10140);
	assert_int_equal(got[3], 0x10900);
	assert_int_equal(walk(t, &owner, NULL, whole, 2, &end, got), 3);
	assert_int_equal(end.end, STACKD_UNWIND_READ); /* the copy ends there */
	assert_int_equal(sample_tables_take_wanted(t, keys, wanted, 4), 0);
	assert_int_equal(walk(t, &owner, NULL, leads_out, 1, &end, got), 2);
	assert_int_equal(end.end, STACKD_UNWIND_TABLE);
	assert_int_equal(sample_tables_take_wanted(t, keys, wanted, 4), 1);
	assert_int_equal(wanted[0].address, 0x304ff);
	assert_int_equal(walk(t, &owner, NULL, nowhere, 1, &end, got), 1);
	assert_int_equal(end.end, STACKD_UNWIND_MAPPING);
	/* A child that has executed nothing has its parent's mappings; the process that had the pid before had others. */
	assert_int_equal(walk(t, &child, &owner, whole, 3, &end, got), 4);
	assert_int_equal(walk(t, &(struct sample_owner){ owner.key, 98 }, NULL, whole, 3, &end, got), 0);
	assert_int_equal(sample_tables_set_process(t, &owner.key, NULL), 0);
	assert_int_equal(walk(t, &owner, NULL, whole, 3, &end, got), 0);
	assert_int_equal(sample_tables_set_process(t, &owner.key, NULL), -ENOENT);
}

/* This process, a fork of it that nobody can look at any more, and an exec. */
static void test_sampled_processes(void **state)
{
	_cleanup_(sample_processes_freep) struct sample_processes *p = NULL;
	uint64_t now = clock_monotonic_ns();
	const pid_t gone = 4194305; /* beyond what the kernel gives out */
	struct collect_process self, got;
	struct sample_owner parent;

	(void)state;
	assert_int_equal(sample_processes_new(&p, 8), 0);
	assert_true(sample_processes_find(p, getpid(), now, &self, &parent));
	assert_int_equal(self.uid, getuid());
	assert_int_equal(parent.key.tgid, 0);
	assert_false(sample_processes_find(p, gone, now, &got, &parent));

	sample_processes_event(p, &(struct collect_mapping_event){ .kind = COLLECT_FORKED, .pid = gone, .parent = getpid(), .time_ns = now });
	assert_true(sample_processes_find(p, gone, now + 1, &got, &parent));
	assert_string_equal(got.comm, self.comm);
	assert_int_equal(got.uid, self.uid);
	assert_int_equal(parent.key.tgid, getpid());
	assert_int_equal(parent.start_ns, self.start_ns);
	assert_false(sample_processes_find(p, gone, now - 1, &got, &parent)); /* that had the pid before */

	sample_processes_event(p, &(struct collect_mapping_event){ .kind = COLLECT_EXECUTED, .pid = gone, .comm = "other", .time_ns = now + 100 });
	assert_true(sample_processes_find(p, gone, now + 200, &got, &parent));
	assert_string_equal(got.comm, "other");
	assert_true(got.exec_id > 0);
	assert_int_equal(parent.key.tgid, 0);
	assert_true(sample_processes_find(p, gone, now + 50, &got, &parent)); /* before it did */
	assert_string_equal(got.comm, self.comm);
	assert_int_equal(got.exec_id, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_opens_and_closes),
		cmocka_unit_test(test_cools_down),
		cmocka_unit_test(test_pressure),
		cmocka_unit_test(test_override),
		cmocka_unit_test(test_changes_are_bounded),
		cmocka_unit_test(test_cpu_lists),
		cmocka_unit_test(test_fault_periods),
		cmocka_unit_test(test_fault_windows),
		cmocka_unit_test(test_waits_of_all_cpus_are_added_up),
		cmocka_unit_test(test_eviction),
		cmocka_unit_test(test_switch_frames),
		cmocka_unit_test(test_frames_without_hook),
		cmocka_unit_test(test_frames_without_fault),
		cmocka_unit_test(test_totals),
		cmocka_unit_test(test_waits),
		cmocka_unit_test(test_mapping_records),
		cmocka_unit_test(test_damaged_mapping_records),
		cmocka_unit_test(test_proc_texts),
		cmocka_unit_test(test_sampled_stacks),
		cmocka_unit_test(test_sampled_waits),
		cmocka_unit_test(test_sampled_waits_forgotten),
		cmocka_unit_test(test_walk_of_a_copy),
		cmocka_unit_test(test_sampled_processes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
