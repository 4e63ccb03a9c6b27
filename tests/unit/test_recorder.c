/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Recordings: a scripted machine through recorder and pipeline into a file, and back through the replay's pipeline. With FILE as its
 * argument, writes the recording that test_replay.py compares with its report. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "pipeline.h"
#include "recorded.h"
#include "recorder.h"

#define STORE_SIZE (8U << 20)
#define BEGIN_US (1600000000 * USEC_PER_SEC)
#define TICKS 240
#define TROUBLE 200 /* the tick in which it begins */
#define PROCESSES 12
#define STACKS 60 /* of which each process has its own */

/* ---- the machine ---- */

struct machine {
	uint64_t random;
	unsigned tick;
	unsigned asked_process[PROCESSES], asked_stack[STACKS];
	struct symbols_process known;
};

static uint64_t draw(struct machine *m, uint64_t below)
{
	m->random = m->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (m->random >> 33) % below;
}

static struct collect_process process_of(unsigned i)
{
	struct collect_process p = { .pid = (pid_t)(1000 + i), .exec_id = 1, .start_ns = 5000 + i, .cgroup_id = i / 2, .uid = 33 };

	snprintf(p.comm, sizeof(p.comm), "prog %u", i);
	return p;
}

static void sample(struct machine *m, const struct collect_sink *sink, void *userdata, unsigned stack, uint64_t on_cpu)
{
	struct collect_sample s = { .raw_id = 0x1234567800000000 + stack, .process = process_of(stack % PROCESSES) };

	s.values[METRIC_ON_CPU] = on_cpu;
	s.values[METRIC_HITS] = on_cpu / 10000000;
	s.values[METRIC_BLOCKED] = draw(m, 5) == 0 ? draw(m, 100000000) : 0;
	s.values[METRIC_MMAP] = draw(m, 9) == 0 ? 0 - draw(m, 1 << 20) : 0;
	sink->soon(userdata, s.raw_id);
	sink->sample(userdata, &s);
}

/* Of each stack that ran, in no order. */
static void moment(struct machine *m, const struct collect_sink *sink, void *userdata, unsigned stack, unsigned i)
{
	char comm[16];

	snprintf(comm, sizeof(comm), "thread %u", stack % 5);
	sink->moment(userdata, &(struct collect_moment){
		.raw_id = 0x1234567800000000 + stack,
		.time_us = BEGIN_US + m->tick * USEC_PER_SEC + (i * 370017 + stack * 10007) % USEC_PER_SEC,
		.weight_ns = 10000000 + i * 100,
		.tid = 1000 + 7 * (stack % PROCESSES) - i,
		.comm = comm,
	});
}

static int machine_tick(void *userdata, const struct collect_sink *sink, void *sink_userdata)
{
	struct machine *m = userdata;
	bool trouble = m->tick >= TROUBLE;
	uint64_t busy[PROCESSES] = {};
	bool ran[STACKS] = { [STACKS - 1] = trouble };

	sink->begin(sink_userdata, &(struct collect_tick_info){
		.time_us = BEGIN_US + (m->tick + 1) * USEC_PER_SEC + draw(m, 100),
		.duration_ns = NSEC_PER_SEC - 50000 + draw(m, 100000),
		.load = trouble ? 2.5 : 0.3,
		.gate_open = trouble,
		.online_cpus = 2,
	});
	if (m->tick == TROUBLE)
		sink->gate(sink_userdata, &(struct collect_gate_change){ .time_us = BEGIN_US, .open = true, .load = 5.5, .cause = "load" });
	for (unsigned stack = 0; stack < STACKS - 1; stack++)
		if (draw(m, 4) == 0 && stack <= m->tick) {
			uint64_t ns = (1 + draw(m, 3)) * 10000000;

			sample(m, sink, sink_userdata, stack, ns);
			busy[stack % PROCESSES] += ns;
			ran[stack] = true;
		}
	if (trouble) {
		sample(m, sink, sink_userdata, STACKS - 1, 1800000000);
		busy[(STACKS - 1) % PROCESSES] += 1800000000;
	}
	if (m->tick % 10 == 3)
		sink->wait(sink_userdata, &(struct collect_wait){ .raw_id = 0x1234567800000002, .process = process_of(2), .threads = 2 });
	if (m->tick % 10 == 8)
		sink->wait(sink_userdata, &(struct collect_wait){ .raw_id = 0x1234567800000002, .process = process_of(2), .threads = -2 });
	for (unsigned i = 0; i < PROCESSES; i++) {
		struct collect_total total = { .process = process_of(i), .threads = 1, .values = { [METRIC_ON_CPU] = busy[i] } };

		if (busy[i] > 0)
			sink->total(sink_userdata, &total);
		if (busy[i] > 0 && draw(m, 3) == 0)
			sink->memory(sink_userdata, &(struct collect_memory){
				.process = process_of(i), .resident = (int64_t)draw(m, 100000) - 30000, .anonymous = 4096 });
	}
	for (unsigned stack = 0; stack < STACKS; stack++)
		for (unsigned i = 0; i < 3 && ran[stack]; i++)
			moment(m, sink, sink_userdata, stack, i);
	if (draw(m, 20) == 0)
		sink->loss(sink_userdata, "counts-full", 1 + draw(m, 3));
	m->tick++;
	return 0;
}

/* Known from the third question on, the fourth process never. */
static int machine_process(void *userdata, const struct collect_process *p, const struct symbols_process **ret, uint64_t *ret_start_us)
{
	struct machine *m = userdata;
	unsigned i = (unsigned)p->pid - 1000, asked = m->asked_process[i]++;

	m->known = (struct symbols_process){ .uid = p->uid, .identified = i != 4, .settled = asked > 1 };
	copy_string(m->known.comm, sizeof(m->known.comm), p->comm);
	snprintf(m->known.exe, sizeof(m->known.exe), "/usr/bin/prog%u", i);
	snprintf(m->known.cgroup, sizeof(m->known.cgroup), "/system.slice/s%u.service", i / 2);
	snprintf(m->known.unit, sizeof(m->known.unit), "s%u.service", i / 2);
	*ret = &m->known;
	*ret_start_us = BEGIN_US - 1000 * i + asked; /* the clocks are read each time */
	return asked == 0 ? -EAGAIN : 0;
}

static int machine_stack(void *userdata, uint64_t raw_id, struct symbols_frame frames[static SYMBOLS_FRAMES_MAX], size_t *ret_n,
			 uint64_t *ret_id, bool *ret_truncated)
{
	static char names[STACKS][16];
	struct machine *m = userdata;
	unsigned i = (unsigned)raw_id;

	if (m->asked_stack[i]++ < i % 3)
		return -EAGAIN;
	if (i % 20 == 19 && i != STACKS - 1)
		return -ENOENT;
	snprintf(names[i], sizeof(names[i]), i == STACKS - 1 ? "retry_forever" : "work_%u", i);
	frames[0] = (struct symbols_frame){ .id = 100 + i, .kind = FRAME_USER, .function = names[i], .object = "prog", .display = names[i] };
	frames[1] = (struct symbols_frame){ .id = 7, .kind = FRAME_USER, .function = "main", .object = "prog", .display = "main" };
	*ret_n = 2;
	*ret_id = 7000 + i;
	*ret_truncated = i == 5;
	return 0;
}

static void ignore(void *userdata _unused_, const struct store_anomaly *anomaly _unused_)
{
}

struct seen {
	struct moments *moments;
	unsigned n;
	struct moment all[TICKS * STACKS * 3];
};

static int see(void *userdata, const struct moment *m)
{
	struct seen *s = userdata;

	struct moment *to = &s->all[s->n++];

	/* Into zeroes, as all of it is compared, what lies between its parts included. */
	to->time_us = m->time_us;
	to->process = m->process;
	to->stack = m->stack;
	to->weight_us = m->weight_us;
	to->tid = m->tid;
	to->metric = m->metric;
	to->drawn = m->drawn;
	to->lasting = m->lasting;
	return 0;
}

/* ret: when samples were taken, as the pipeline that was recorded would keep it. */
static void record(int fd, unsigned ticks, struct seen *ret)
{
	const struct recording_config config = {
		.store_size = STORE_SIZE, .keep_us = { 900 * USEC_PER_SEC, 14400 * USEC_PER_SEC, 172800 * USEC_PER_SEC }, .slices_per_series = 64,
		.max_stacks = 1024, .max_clusters = 16, .max_incidents = 16, .memory_bytes = 1ULL << 30, .false_alarms_per_day = 1000,
		.version = "0", .kernel = "6.1.0", .machine = "x86_64",
	};
	const struct store_config store_config = {
		.tiers = { { 1, 900 }, { 10, 14400 }, { 60, 172800 } },
		.series_state_size = (uint32_t)detect_series_state_size(),
		.global_state_size = (uint32_t)detect_global_state_size(),
		.slices_per_series = 64,
	};
	const struct incidents_config incidents_config = { .max_clusters = 16, .max_incidents = 16 };
	const struct detect_config detect_config = { .false_alarms_per_day = 1000 };
	static const pid_t own[] = { 1003, 0 };
	struct machine machine = { .random = 42 };
	struct tick_source source = { machine_tick, machine_process, machine_stack, &machine };
	struct pipeline_config pipeline_config = { .max_stacks = 1024, .digest = true, .memory_bytes = config.memory_bytes, .source = &source };
	struct pipeline_rooms rooms = {};
	struct pipeline *pipeline;
	struct recorder *recorder;
	void *arena = aligned_alloc(8, STORE_SIZE);
	uint64_t bytes;
	bool reused;

	memset(arena, 0, STORE_SIZE);
	assert_int_equal(store_open(&rooms.store, arena, STORE_SIZE, &store_config, &reused), 0);
	assert_int_equal(detect_new(&rooms.detect, &detect_config, store_global_state(rooms.store)), 0);
	assert_int_equal(incidents_new(&rooms.incidents, &incidents_config, rooms.store, NULL), 0);
	assert_int_equal(recorder_new(&recorder, fd, &config), 0);
	if (ret) {
		assert_int_equal(moments_new(&ret->moments, sizeof(ret->all)), 0);
		rooms.moments = ret->moments;
	}
	source = recorder_source(recorder, &source);
	assert_int_equal(pipeline_new(&pipeline, &rooms, &pipeline_config), 0);
	pipeline_set_own_pids(pipeline, own, ELEMENTS_OF(own));
	for (unsigned i = 0; i < ticks; i++) {
		uint64_t now_us = BEGIN_US + (i + 1) * USEC_PER_SEC;
		struct recording_digest digest;

		recorder_begin_tick(recorder, now_us, own, ELEMENTS_OF(own));
		assert_int_equal(pipeline_tick(pipeline, now_us, ignore, NULL), 0);
		pipeline_get_digest(pipeline, &digest);
		assert_int_equal(recorder_end_tick(recorder, &digest), 0);
	}
	assert_int_equal(recorder_finish(recorder, &bytes), 0);
	if (ret)
		assert_int_equal(moments_visit(ret->moments, 0, UINT64_MAX, see, ret), 0);
	pipeline_free(pipeline);
	recorder_free(recorder);
	incidents_free(rooms.incidents);
	detect_free(rooms.detect);
	store_close(rooms.store);
	free(arena);
}

/* ---- files ---- */

static struct source *source_of(int fd)
{
	struct source *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->fd = fd;
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return s;
}

static int new_file(void)
{
	int fd = memfd_create("recording", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* Gives what recorded_new() or recorded_run() did. */
static int replay(int fd, struct recorded_status *ret, struct recording_error *ret_error)
{
	const struct recorded_options options = {};
	struct source *source = source_of(fd);
	struct recorded *r = NULL;
	int e = recorded_new(&r, source, &options, ret_error);

	*ret = (struct recorded_status){};
	if (e >= 0) {
		e = recorded_run(r, ret_error);
		recorded_get_status(r, ret);
	}
	recorded_free(r);
	free(source);
	return e;
}

/* ---- tests ---- */

static void test_a_replay_is_the_same(void **state _unused_)
{
	_cleanup_close_ int fd = new_file();
	struct recorded_status status;
	struct recording_error error;

	record(fd, TICKS, NULL);
	assert_int_equal(replay(fd, &status, &error), 0);
	assert_int_equal(status.ticks, TICKS);
	assert_int_equal(status.series_differ, 0);
	assert_int_equal(status.scores_differ, 0);
	assert_int_equal(status.unanswered, 0);
	assert_int_equal(status.first_us, 0);
}

static void test_moments_are_the_same(void **state _unused_)
{
	const struct recorded_options options = { .moments = true };
	static struct seen before, after;
	_cleanup_close_ int fd = new_file();
	struct recorded_status status;
	struct recording_error error;
	struct recorded *r;
	struct source *source;
	uint64_t since[2], until[2];
	unsigned named = 0;

	record(fd, 60, &before);
	assert_true(before.n > 60 * STACKS / 4);
	for (unsigned i = 0; i < before.n; i++)
		named += before.all[i].stack != 0;
	assert_true(named > before.n / 2);
	source = source_of(fd);
	assert_int_equal(recorded_new(&r, source, &options, &error), 0);
	assert_int_equal(recorded_run(r, &error), 0);
	after.moments = recorded_rooms(r).moments;
	assert_non_null(after.moments);
	assert_int_equal(moments_visit(after.moments, 0, UINT64_MAX, see, &after), 0);
	assert_int_equal(after.n, before.n);
	assert_memory_equal(after.all, before.all, before.n * sizeof(before.all[0]));
	assert_true(moments_range(before.moments, &since[0], &until[0]) && moments_range(after.moments, &since[1], &until[1]));
	assert_true(since[0] == since[1] && until[0] == until[1]);
	for (uint32_t tid = 980; tid < 1100; tid++)
		assert_string_equal(moments_thread(after.moments, tid), moments_thread(before.moments, tid));
	recorded_free(r);
	free(source);
	moments_free(before.moments);
	assert_int_equal(replay(fd, &status, &error), 0);
	assert_int_equal(status.series_differ + status.scores_differ, 0);
}

/* Reads from one and writes to the other; change: of a sample's values, once. */
static void copy(int from, int to, bool change)
{
	struct source *source = source_of(from);
	struct recording_reader *reader;
	struct recording_writer *writer;
	struct recording_error error;
	struct recording_item item;
	unsigned n = 0;

	assert_int_equal(recording_open(&reader, source, &error), 0);
	assert_int_equal(recording_next(reader, &item, &error), 1);
	assert_int_equal(item.kind, RECORDING_CONFIG);
	assert_int_equal(recording_writer_new(&writer, to, &item.config), 0);
	while (recording_next(reader, &item, &error) > 0 && item.kind != RECORDING_END) {
		if (item.kind == RECORDING_SAMPLE && n++ == 100 && change)
			item.sample.values[METRIC_ON_CPU] += 5000000;
		if (item.kind == RECORDING_DIGEST)
			assert_int_equal(recording_writer_end_tick(writer, &item.digest), 0);
		else
			recording_write(writer, &item);
	}
	assert_int_equal(recording_writer_finish(writer), 0);
	assert_true(n > 100);
	recording_writer_free(writer);
	recording_reader_free(reader);
	free(source);
}

static void test_a_change_is_noticed(void **state _unused_)
{
	_cleanup_close_ int first = new_file(), same = new_file(), other = new_file();
	struct recorded_status status;
	struct recording_error error;

	record(first, 50, NULL);
	copy(first, same, false);
	assert_int_equal(replay(same, &status, &error), 0);
	assert_int_equal(status.series_differ + status.scores_differ, 0);
	copy(first, other, true);
	assert_int_equal(replay(other, &status, &error), 0);
	assert_int_equal(status.ticks, 50);
	assert_true(status.series_differ >= 1);
	assert_true(status.scores_differ > status.series_differ); /* the detector remembers */
	assert_true(status.first_us > BEGIN_US && status.first_us < BEGIN_US + 50 * USEC_PER_SEC);
}

static void test_cut_off_anywhere(void **state _unused_)
{
	_cleanup_close_ int fd = new_file();
	struct recorded_status status;
	struct recording_error error;
	off_t size;

	record(fd, 12, NULL);
	size = lseek(fd, 0, SEEK_END);
	for (off_t n = size - 1; n >= 0; n -= n > size - 40 ? 1 : 97) {
		assert_int_equal(ftruncate(fd, n), 0);
		assert_int_equal(replay(fd, &status, &error), -EBADMSG);
		assert_true(error.offset <= (uint64_t)n && error.what[0]);
		assert_int_equal(status.series_differ, 0);
	}
	assert_int_equal(status.ticks, 0);
}

static void test_any_bit_turned_over(void **state _unused_)
{
	_cleanup_close_ int fd = new_file();
	struct recorded_status status;
	struct recording_error error;
	off_t size;

	record(fd, 4, NULL);
	size = lseek(fd, 0, SEEK_END);
	for (off_t at = 0; at < size; at += at < 200 ? 1 : 53) {
		uint8_t byte;

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= (uint8_t)(1 << at % 8);
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		assert_int_equal(replay(fd, &status, &error), -EBADMSG);
		/* What says that it is older is found out where a record makes no sense as such. */
		assert_true(error.offset <= (uint64_t)at || at == 8);
		byte ^= (uint8_t)(1 << at % 8);
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	assert_int_equal(replay(fd, &status, &error), 0);
}

/* More raw stacks than the tables hold: they are emptied, and what follows is as it was written. */
static void test_tables_that_fill(void **state _unused_)
{
	const struct recording_config config = { .version = "1.2" };
	_cleanup_close_ int fd = new_file();
	const unsigned n = 2 * RECORDING_TABLE_MAX + 1000;
	struct recording_writer *writer;
	struct recording_reader *reader;
	struct recording_error error;
	struct recording_item item;
	struct source *source;

	assert_int_equal(recording_writer_new(&writer, fd, &config), 0);
	for (unsigned i = 0; i < n; i++) {
		item = (struct recording_item){ .kind = RECORDING_SAMPLE, .sample = { .raw_id = i * 3ULL, .process = process_of(i % 7) } };
		item.sample.values[METRIC_BLOCKED] = i;
		item.sample.values[METRIC_HEAP] = 0ULL - i;
		item.sample.variances = i % 2 ? item.sample.values : NULL;
		recording_write(writer, &item);
	}
	assert_int_equal(recording_writer_finish(writer), 0);
	recording_writer_free(writer);
	source = source_of(fd);
	assert_int_equal(recording_open(&reader, source, &error), 0);
	assert_int_equal(recording_next(reader, &item, &error), 1);
	assert_string_equal(item.config.version, "1.2");
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(recording_next(reader, &item, &error), 1);
		assert_int_equal(item.kind, RECORDING_SAMPLE);
		assert_int_equal(item.sample.raw_id, i * 3ULL);
		assert_int_equal(item.sample.process.pid, 1000 + i % 7);
		assert_string_equal(item.sample.process.comm, process_of(i % 7).comm);
		assert_true(item.sample.values[METRIC_BLOCKED] == i && item.sample.values[METRIC_HEAP] == 0ULL - i);
		assert_int_equal(item.sample.variances[METRIC_BLOCKED], i % 2 ? i : 0);
	}
	assert_int_equal(recording_next(reader, &item, &error), 1);
	assert_int_equal(item.kind, RECORDING_END);
	assert_int_equal(recording_next(reader, &item, &error), 0);
	recording_reader_free(reader);
	free(source);
}

static void test_a_full_disk(void **state _unused_)
{
	const struct recording_config config = {};
	const struct recording_digest digest = {};
	_cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	_cleanup_close_ int fd = new_file();
	struct recording_writer *writer;

	assert_int_equal(recording_writer_new(&writer, full, &config), -ENOSPC);
	assert_int_equal(recording_writer_new(&writer, fd, &config), 0);
	assert_true(dup2(full, fd) >= 0);
	assert_int_equal(recording_writer_end_tick(writer, &digest), -ENOSPC);
	for (unsigned i = 0; i < 300000; i++) /* nothing piles up */
		recording_write(writer, &(struct recording_item){ .kind = RECORDING_LOSS, .loss = { "x", i } });
	assert_int_equal(recording_writer_finish(writer), -ENOSPC);
	recording_writer_free(writer);
}

static void test_refused(void **state _unused_)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *what;
	} files[] = {
		{ "", 0, "ends within its header" },
		{ "stackrec\1\0\0\0", 12, "ends within its header" },
		{ "PERFILE2\1\0\0\0\0\0\0\0", 16, "not a recording" },
		{ "stackrec\4\0\0\0\0\0\0\0", 16, "version 4; this stackd reads versions 1 to 3" },
		{ "stackrec\0\0\0\0\0\0\0\0", 16, "version 0" },
		{ "stackrec\2\0\0\0\0\0\0\0", 16, "cut off" },
		{ "stackrec\1\0\0\0\0\0\0\0", 16, "cut off" },
		{ "stackrec\1\0\0\0\0\0\0\0\377\377\377\377\1\0\0\0\0\0\0\0\0\0\0\0", 32, "can't have 4294967295 bytes" },
		{ "stackrec\1\0\0\0\0\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0x", 33, "checksum" },
	};

	for (size_t i = 0; i < ELEMENTS_OF(files); i++) {
		_cleanup_close_ int fd = new_file();
		struct recorded_status status;
		struct recording_error error;

		assert_int_equal(write(fd, files[i].bytes, files[i].n), files[i].n);
		assert_int_equal(replay(fd, &status, &error), -EBADMSG);
		assert_non_null(strstr(error.what, files[i].what));
	}
}

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_replay_is_the_same), cmocka_unit_test(test_moments_are_the_same),
		cmocka_unit_test(test_a_change_is_noticed),  cmocka_unit_test(test_cut_off_anywhere),
		cmocka_unit_test(test_any_bit_turned_over),  cmocka_unit_test(test_tables_that_fill),
		cmocka_unit_test(test_a_full_disk),          cmocka_unit_test(test_refused),
	};

	if (argc == 2) {
		_cleanup_close_ int fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

		record(fd, TICKS, NULL);
		return EXIT_SUCCESS;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
