/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reader of perf.data: files made here byte by byte, whole, cut off and damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>

#include <cmocka.h>
#include <linux/perf_event.h>
#include <zstd.h>

#include "order.h"
#include "perfdata.h"

#define HEADER_SIZE 104
#define SAMPLED (PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD | \
		 PERF_SAMPLE_CALLCHAIN)
/* Each that linux/perf_event.h of Linux 6.1 knows. */
#define EVERYTHING ((1ULL << 25) - 1)
#define TYPE_FINISHED_ROUND 68
#define TYPE_COMPRESSED 81

struct image {
	uint8_t bytes[64 << 10];
	size_t n;
	bool swapped; /* as a machine with the other byte order writes it */
};

static void put(struct image *i, const void *bytes, size_t n)
{
	assert_true(i->n + n <= sizeof(i->bytes));
	memcpy(i->bytes + i->n, bytes, n);
	i->n += n;
}

/* Of any size, in the image's byte order. */
static void put_number(struct image *i, uint64_t v, size_t size)
{
	for (size_t k = 0; k < size; k++) {
		uint8_t byte = (uint8_t)(v >> 8 * (i->swapped ? size - 1 - k : k));

		put(i, &byte, 1);
	}
}

static void put_u16(struct image *i, uint16_t v)
{
	put_number(i, v, sizeof(v));
}

static void put_u32(struct image *i, uint32_t v)
{
	put_number(i, v, sizeof(v));
}

static void put_u64(struct image *i, uint64_t v)
{
	put_number(i, v, sizeof(v));
}

/* In place of what is there. */
static void set_number(struct image *i, size_t at, uint64_t v, size_t size)
{
	size_t n = i->n;

	i->n = at;
	put_number(i, v, size);
	i->n = n;
}

static uint64_t get_u64(const struct image *i, size_t at)
{
	uint64_t v;

	memcpy(&v, i->bytes + at, sizeof(v));
	return i->swapped ? __builtin_bswap64(v) : v;
}

static void put_string(struct image *i, const char *s)
{
	char room[256] = "";

	copy_string(room, sizeof(room), s);
	put(i, room, strlen(s) / 8 * 8 + 8);
}

static size_t begin_record(struct image *i, uint32_t type, uint16_t misc)
{
	put_u32(i, type);
	put_u16(i, misc);
	put_u16(i, 0);
	return i->n - sizeof(struct perf_event_header);
}

static void end_record(struct image *i, size_t at)
{
	set_number(i, at + offsetof(struct perf_event_header, size), i->n - at, sizeof(uint16_t));
}

/* What ends every record but samples: TID TIME CPU IDENTIFIER. */
static void put_trailer(struct image *i, uint32_t pid, uint64_t time, uint64_t id)
{
	put_u32(i, pid);
	put_u32(i, pid);
	put_u64(i, time);
	put_u64(i, 0);
	put_u64(i, id);
}

static void put_sample(struct image *i, uint64_t id, uint32_t pid, uint64_t time, uint64_t leaf, uint64_t caller)
{
	size_t at = begin_record(i, PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);

	put_u64(i, id);
	put_u64(i, leaf);
	put_u32(i, pid);
	put_u32(i, pid + 1);
	put_u64(i, time);
	put_u64(i, 3); /* CPU */
	put_u64(i, 1000 + id);
	put_u64(i, 3);
	put_u64(i, PERF_CONTEXT_USER);
	put_u64(i, leaf);
	put_u64(i, caller);
	end_record(i, at);
}

static void put_comm(struct image *i, uint32_t pid, const char *name, uint64_t time)
{
	size_t at = begin_record(i, PERF_RECORD_COMM, PERF_RECORD_MISC_COMM_EXEC);

	put_u32(i, pid);
	put_u32(i, pid);
	put_string(i, name);
	put_trailer(i, pid, time, time ? 7 : 0);
	end_record(i, at);
}

static void put_mapping(struct image *i, uint32_t pid, uint64_t start, const char *path, uint64_t time)
{
	static const uint8_t identity[24] = { 20, 0, 0, 0, 0xab, 0xcd };
	size_t at = begin_record(i, PERF_RECORD_MMAP2, PERF_RECORD_MISC_USER | PERF_RECORD_MISC_MMAP_BUILD_ID);

	put_u32(i, pid);
	put_u32(i, pid);
	put_u64(i, start);
	put_u64(i, 0x1000);
	put_u64(i, 0x2000);
	put(i, identity, sizeof(identity));
	put_u32(i, PROT_READ | PROT_EXEC);
	put_u32(i, MAP_PRIVATE);
	put_string(i, path);
	put_trailer(i, pid, time, 7);
	end_record(i, at);
}

static void put_kernel_symbol(struct image *i, uint64_t start, const char *name, bool gone)
{
	size_t at = begin_record(i, PERF_RECORD_KSYMBOL, 0);

	put_u64(i, start);
	put_u32(i, 0x40);
	put_u16(i, PERF_RECORD_KSYMBOL_TYPE_BPF);
	put_u16(i, gone ? PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER : 0);
	put_string(i, name);
	put_trailer(i, 0, 60, 7);
	end_record(i, at);
}

static void put_switch(struct image *i, uint32_t tid, bool out)
{
	size_t at = begin_record(i, PERF_RECORD_SWITCH, out ? PERF_RECORD_MISC_SWITCH_OUT : 0);

	put_trailer(i, tid, 61, 7);
	end_record(i, at);
}

static void put_lost(struct image *i, uint32_t type, uint64_t n)
{
	size_t at = begin_record(i, type, 0);

	if (type == PERF_RECORD_LOST)
		put_u64(i, 7);
	put_u64(i, n);
	put_trailer(i, 0, 50, 7);
	end_record(i, at);
}

/* struct perf_event_attr with sample_id_all, the 19th of its bit-fields: compilers begin with the highest bit where the highest byte is first. */
static void put_attributes(struct image *i, uint64_t sample_type)
{
	size_t at = i->n;

	put_u32(i, PERF_TYPE_SOFTWARE);
	put_u32(i, sizeof(struct perf_event_attr));
	put_u64(i, PERF_COUNT_SW_TASK_CLOCK);
	put_u64(i, 2000); /* sample_period */
	put_u64(i, sample_type);
	put_u64(i, PERF_FORMAT_GROUP | PERF_FORMAT_ID | PERF_FORMAT_TOTAL_TIME_ENABLED);
	put_u64(i, i->swapped ? 1ULL << (63 - 18) : 1ULL << 18);
	i->n = at + sizeof(struct perf_event_attr);
	set_number(i, at + offsetof(struct perf_event_attr, sample_regs_user), 0x1ff, sizeof(uint64_t));
	set_number(i, at + offsetof(struct perf_event_attr, sample_regs_intr), 0xf, sizeof(uint64_t));
}

static void put_event(struct image *i, uint64_t sample_type, uint64_t ids_at, uint64_t n_ids)
{
	put_attributes(i, sample_type);
	put_u64(i, ids_at);
	put_u64(i, n_ids * sizeof(uint64_t));
}

static void put_magic(struct image *i)
{
	put_u64(i, 0x32454c4946524550); /* PERFILE2, or 2ELIFREP */
}

/* Header, ids (7 of the first event, 8 and 9 of the second), attributes; data begins where it ends. */
static void begin_file(struct image *i, bool swapped, uint64_t sample_type, size_t n_events)
{
	uint64_t entry = sizeof(struct perf_event_attr) + 16, ids_at = HEADER_SIZE, events_at = HEADER_SIZE + 3 * sizeof(uint64_t);

	*i = (struct image){ .swapped = swapped };
	put_magic(i);
	put_u64(i, HEADER_SIZE);
	put_u64(i, entry);
	put_u64(i, events_at);
	put_u64(i, n_events * entry);
	put_u64(i, events_at + n_events * entry);
	i->n = ids_at;
	for (uint64_t id = 7; id < 10; id++)
		put_u64(i, id);
	put_event(i, sample_type, ids_at, 1);
	if (n_events > 1)
		put_event(i, sample_type, ids_at + 8, 2);
}

static uint64_t data_start(const struct image *i)
{
	return get_u64(i, 40);
}

static void end_data(struct image *i)
{
	set_number(i, 48, i->n - data_start(i), sizeof(uint64_t));
}

/* Features: build IDs, the host's name, the kernel's release, how many CPUs, the names of events. Their bits are longs of the machine, of
 * that many bytes. */
static void put_features(struct image *i, size_t size_of_long)
{
	static const uint64_t bits = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 12;
	static const uint8_t id[24] = { 1, 2, 3, [20] = 20 };
	uint64_t ends[5], at = i->n, record;

	set_number(i, 72, bits, size_of_long);
	i->n += sizeof(ends) * 2;
	record = begin_record(i, 0, 1U << 15 | PERF_RECORD_MISC_USER);
	put_u32(i, UINT32_MAX);
	put(i, id, sizeof(id));
	put_string(i, "/usr/bin/known");
	end_record(i, record);
	ends[0] = i->n;
	put_u32(i, 8);
	put_string(i, "host");
	ends[1] = i->n;
	put_u32(i, 16);
	put_string(i, "6.1.0-release");
	ends[2] = i->n;
	put_u32(i, 8); /* CPUs: that there are, online */
	put_u32(i, 6);
	ends[3] = i->n;
	put_u32(i, 2);
	put_u32(i, 8);
	for (unsigned e = 0; e < 2; e++) {
		put_u64(i, 0);
		put_u32(i, 1);
		put_u32(i, 16);
		put_string(i, e ? "page-faults" : "cpu-clock:u");
		put_u64(i, 7);
	}
	ends[4] = i->n;
	for (size_t k = 0; k < ELEMENTS_OF(ends); k++) {
		uint64_t begin = k == 0 ? at + sizeof(ends) * 2 : ends[k - 1];

		set_number(i, at + 16 * k, begin, sizeof(uint64_t));
		set_number(i, at + 16 * k + 8, ends[k] - begin, sizeof(uint64_t));
	}
}

/* Two CPUs in two rounds, of which the second one's records are written behind younger ones. */
static void make_whole(struct image *i, bool swapped)
{
	begin_file(i, swapped, SAMPLED, 2);
	put_comm(i, 100, "before", 0);
	put_sample(i, 7, 100, 30, 0x5010, 0x5020);
	put_sample(i, 8, 100, 40, 0x5011, 0x5020);
	put_comm(i, 100, "program", 10);
	put_mapping(i, 100, 0x5000, "/usr/bin/program", 20);
	end_record(i, begin_record(i, TYPE_FINISHED_ROUND, 0));
	put_sample(i, 9, 100, 35, 0x5012, 0x5020);
	put_lost(i, PERF_RECORD_LOST, 5);
	put_lost(i, PERF_RECORD_LOST_SAMPLES, 6);
	end_record(i, begin_record(i, TYPE_FINISHED_ROUND, 0));
	put_sample(i, 7, 100, 70, 0x5013, 0x5020);
	end_data(i);
	put_features(i, sizeof(uint64_t));
}

static void make_packable(struct image *i, bool swapped)
{
	begin_file(i, swapped, SAMPLED, 2);
	put_comm(i, 100, "program", 10);
	put_sample(i, 7, 100, 30, 0x5010, 0x5020);
	put_sample(i, 8, 100, 40, 0x5011, 0x5020);
	end_data(i);
}

/* ---- reading them ---- */

struct told {
	struct perfdata *file;
	struct source *source;
	struct perfdata_error error;
	int result; /* of opening, else of the last record */
	size_t n_samples, n_others;
	char text[4096];
};

static struct source *source_of(const void *bytes, size_t n, bool seekable)
{
	struct source *s = calloc(1, sizeof(*s));
	int pair[2];

	assert_non_null(s);
	if (seekable) {
		s->fd = memfd_create("perf.data", MFD_CLOEXEC);
		assert_int_equal(write(s->fd, bytes, n), n);
		assert_int_equal(lseek(s->fd, 0, SEEK_SET), 0);
		return s;
	}
	assert_int_equal(pipe(pair), 0);
	assert_int_equal(write(pair[1], bytes, n), n);
	close(pair[1]);
	s->fd = pair[0];
	return s;
}

static void tell(struct told *t, const char *format, ...) _printf_(2, 3);
static void tell(struct told *t, const char *format, ...)
{
	size_t n = strlen(t->text);
	va_list ap;

	va_start(ap, format);
	vsnprintf(t->text + n, sizeof(t->text) - n, format, ap);
	va_end(ap);
}

static void tell_record(struct told *t, const struct perfdata_record *r)
{
	switch (r->kind) {
	case PERFDATA_SAMPLE:
		tell(t, "%llu sample %u/%u event %u period %llu", (unsigned long long)r->time, r->pid, r->tid, r->sample.event,
		     (unsigned long long)r->sample.period);
		for (size_t i = 0; i < r->sample.n_chain; i++)
			if (r->sample.chain[i] < PERF_CONTEXT_MAX)
				tell(t, " %llx", (unsigned long long)r->sample.chain[i]);
		if (r->sample.carried.size > 0)
			tell(t, " carries %.*s ip %llx sp %llx bp %llx", (int)r->sample.carried.size, (const char *)r->sample.carried.stack,
			     (unsigned long long)r->sample.carried.ip, (unsigned long long)r->sample.carried.sp,
			     (unsigned long long)r->sample.carried.bp);
		t->n_samples++;
		break;
	case PERFDATA_COMM:
		tell(t, "%llu comm %u %s%s", (unsigned long long)r->time, r->tid, r->comm.name, r->comm.exec ? " exec" : "");
		break;
	case PERFDATA_MAPPING:
		tell(t, "%llu map %u %llx+%llx at %llx %s %zu:%02x%02x%s", (unsigned long long)r->time, r->pid,
		     (unsigned long long)r->mapping.start, (unsigned long long)r->mapping.size, (unsigned long long)r->mapping.offset,
		     r->mapping.path, r->mapping.build_id.size, r->mapping.build_id.bytes[0], r->mapping.build_id.bytes[1],
		     r->mapping.code ? " code" : "");
		break;
	case PERFDATA_KERNEL_SYMBOL:
		tell(t, "%llu symbol %llx+%llx %s%s", (unsigned long long)r->time, (unsigned long long)r->symbol.start,
		     (unsigned long long)r->symbol.size, r->symbol.name, r->symbol.gone ? " gone" : "");
		break;
	case PERFDATA_SWITCHED_IN:
		tell(t, "%llu in %u/%u", (unsigned long long)r->time, r->pid, r->tid);
		break;
	default:
		tell(t, "%llu %s %u/%u of %u", (unsigned long long)r->time, r->kind == PERFDATA_FORK ? "fork" : "exit", r->pid, r->tid,
		     r->fork.parent_pid);
	}
	tell(t, "\n");
	t->n_others += r->kind != PERFDATA_SAMPLE;
}

static void read_from(struct told *t, const void *bytes, size_t n, bool seekable)
{
	struct perfdata_record r;

	*t = (struct told){ .source = source_of(bytes, n, seekable) };
	t->result = perfdata_open(&t->file, t->source, &t->error);
	while (t->result >= 0 && (t->result = perfdata_next(t->file, &r, &t->error)) > 0)
		tell_record(t, &r);
}

static void close_told(struct told *t)
{
	perfdata_free(t->file);
	close(t->source->fd);
	free(t->source);
}

/* Each test is of a file as this machine writes it, and of one from a machine with the other byte order. */
static bool is_swapped(void **state)
{
	return *(const bool *)*state;
}

static const char whole[] = "0 comm 100 before exec\n"
			    "10 comm 100 program exec\n"
			    "20 map 100 5000+1000 at 2000 /usr/bin/program 20:abcd code\n"
			    "30 sample 100/101 event 0 period 1007 5010 5020\n"
			    "35 sample 100/101 event 1 period 1009 5012 5020\n"
			    "40 sample 100/101 event 1 period 1008 5011 5020\n"
			    "70 sample 100/101 event 0 period 1007 5013 5020\n";

static void test_records_come_in_the_order_of_their_time(void **state)
{
	struct perfdata_status s;
	struct image i;
	struct told t;

	make_whole(&i, is_swapped(state));
	read_from(&t, i.bytes, i.n, true);
	assert_int_equal(t.result, 0);
	assert_string_equal(t.text, whole);
	perfdata_get_status(t.file, &s);
	assert_int_equal(s.lost, 5);
	assert_int_equal(s.lost_samples, 6);
	assert_int_equal(s.samples, 4);
	assert_int_equal(s.unordered, 0);
	assert_false(s.unfinished);
	close_told(&t);
}

static void test_features(void **state)
{
	const struct perfdata_event *events;
	struct image i;
	struct told t;

	make_whole(&i, is_swapped(state));
	read_from(&t, i.bytes, i.n, true);
	assert_int_equal(perfdata_events(t.file, &events), 2);
	assert_string_equal(events[0].name, "cpu-clock:u");
	assert_string_equal(events[1].name, "page-faults");
	assert_string_equal(perfdata_kernel_release(t.file), "6.1.0-release");
	assert_int_equal(perfdata_cpus(t.file), 6);
	assert_int_equal(perfdata_build_id(t.file, "/usr/bin/known").size, 20);
	assert_int_equal(perfdata_build_id(t.file, "/usr/bin/known").bytes[2], 3);
	assert_int_equal(perfdata_build_id(t.file, "/usr/bin/other").size, 0);
	close_told(&t);
}

/* The bits of features are longs, in which a machine of 32 bits has them elsewhere. */
static void test_features_of_a_machine_of_32_bits(void **state _unused_)
{
	struct image i;
	struct told t;

	begin_file(&i, true, SAMPLED, 2);
	put_sample(&i, 7, 100, 30, 0x5010, 0x5020);
	end_data(&i);
	put_features(&i, sizeof(uint32_t));
	read_from(&t, i.bytes, i.n, true);
	assert_int_equal(t.result, 0);
	assert_string_equal(perfdata_kernel_release(t.file), "6.1.0-release");
	assert_int_equal(perfdata_build_id(t.file, "/usr/bin/known").size, 20);
	close_told(&t);
}

static void test_switches_and_the_kernels_symbols(void **state)
{
	struct image i;
	struct told t;

	begin_file(&i, is_swapped(state), SAMPLED, 1);
	put_kernel_symbol(&i, 0xffffffffc0000000, "bpf_prog_0123456789abcdef_name", false);
	put_switch(&i, 12, true);
	put_switch(&i, 13, false);
	put_kernel_symbol(&i, 0xffffffffc0000000, "bpf_prog_0123456789abcdef_name", true);
	end_data(&i);
	read_from(&t, i.bytes, i.n, true);
	assert_int_equal(t.result, 0);
	assert_string_equal(t.text, "60 symbol ffffffffc0000000+40 bpf_prog_0123456789abcdef_name\n"
				    "60 symbol ffffffffc0000000+40 bpf_prog_0123456789abcdef_name gone\n"
				    "61 in 13/13\n");
	close_told(&t);
}

/* perf record that was killed has not written how much data there is. */
static void test_without_an_end(void **state)
{
	const struct perfdata_event *events;
	struct perfdata_status s;
	struct image i;
	struct told t;
	size_t n;

	make_whole(&i, is_swapped(state));
	n = data_start(&i) + get_u64(&i, 48);
	memset(i.bytes + 48, 0, 8);
	read_from(&t, i.bytes, n, true);
	assert_int_equal(t.result, 0);
	assert_string_equal(t.text, whole);
	perfdata_get_status(t.file, &s);
	assert_true(s.unfinished);
	/* By its attributes: the names that perf was told are lost. */
	assert_int_equal(perfdata_events(t.file, &events), 2);
	assert_string_equal(events[0].name, "task-clock");
	close_told(&t);
}

/* As perf record -o - writes: the attributes are records. */
static void test_from_a_pipe(void **state)
{
	struct image i = { .swapped = is_swapped(state) };
	struct told t;
	size_t at;

	put_magic(&i);
	put_u64(&i, 16);
	at = begin_record(&i, 64, 0);
	put_attributes(&i, SAMPLED);
	put_u64(&i, 7);
	end_record(&i, at);
	put_comm(&i, 100, "program", 10);
	put_sample(&i, 7, 100, 30, 0x5010, 0x5020);
	read_from(&t, i.bytes, i.n, false);
	assert_int_equal(t.result, 0);
	assert_string_equal(t.text, "10 comm 100 program exec\n30 sample 100/101 event 0 period 1007 5010 5020\n");
	close_told(&t);
	make_whole(&i, is_swapped(state));
	read_from(&t, i.bytes, i.n, false);
	assert_int_equal(t.result, -EBADMSG);
	assert_non_null(strstr(t.error.what, "pipe"));
	close_told(&t);
}

/* perf record -c: samples don't tell of how many events each is. */
static void test_a_fixed_period(void **state)
{
	struct image i;
	struct told t;
	size_t at;

	begin_file(&i, is_swapped(state), SAMPLED & ~(uint64_t)PERF_SAMPLE_PERIOD, 1);
	at = begin_record(&i, PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
	put_u64(&i, 7);
	put_u64(&i, 0x5010);
	put_u32(&i, 100);
	put_u32(&i, 101);
	put_u64(&i, 30);
	put_u64(&i, 3); /* CPU */
	put_u64(&i, 2); /* of callers */
	put_u64(&i, PERF_CONTEXT_USER);
	put_u64(&i, 0x5010);
	end_record(&i, at);
	end_data(&i);
	read_from(&t, i.bytes, i.n, true);
	assert_int_equal(t.result, 0);
	assert_string_equal(t.text, "30 sample 100/101 event 0 period 2000 5010\n");
	close_told(&t);
}

/* A sample with every field there is: what comes behind others is found, and one that is a byte short is refused. */
static void test_every_field_of_a_sample(void **state)
{
	struct perfdata_status s;
	struct image i;
	struct told t;
	size_t at;

	begin_file(&i, is_swapped(state), EVERYTHING & ~(uint64_t)PERF_SAMPLE_WEIGHT_STRUCT, 1);
	at = begin_record(&i, PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
	put_u64(&i, 7);      /* IDENTIFIER */
	put_u64(&i, 0x5010); /* IP */
	put_u32(&i, 100);
	put_u32(&i, 101);
	put_u64(&i, 30); /* TIME */
	put_u64(&i, 1);  /* ADDR */
	put_u64(&i, 7);  /* ID */
	put_u64(&i, 2);  /* STREAM_ID */
	put_u64(&i, 3);  /* CPU */
	put_u64(&i, 1007);
	put_u64(&i, 2); /* READ: two of a group, with the time enabled */
	for (unsigned k = 0; k < 5; k++)
		put_u64(&i, k);
	put_u64(&i, 2); /* CALLCHAIN */
	put_u64(&i, 0x5010);
	put_u64(&i, 0x5020);
	put_u32(&i, 12); /* RAW */
	put(&i, "raw raw raw ", 12);
	put_u64(&i, 1); /* BRANCH_STACK */
	for (unsigned k = 0; k < 3; k++)
		put_u64(&i, k);
	put_u64(&i, PERF_SAMPLE_REGS_ABI_64);
	for (unsigned k = 0; k < 9; k++)
		put_u64(&i, 0x100 + k); /* ax bx cx dx si di bp sp ip */
	put_u64(&i, 16); /* STACK_USER */
	put(&i, "sixteen bytes...", 16);
	put_u64(&i, 8);
	put_u64(&i, 1); /* WEIGHT, DATA_SRC, TRANSACTION */
	put_u64(&i, 1);
	put_u64(&i, 1);
	put_u64(&i, PERF_SAMPLE_REGS_ABI_NONE); /* REGS_INTR */
	for (unsigned k = 0; k < 4; k++)
		put_u64(&i, k); /* PHYS_ADDR, CGROUP, page sizes */
	put_u64(&i, 8);         /* AUX */
	put(&i, "aux aux ", 8);
	end_record(&i, at);
	end_data(&i);
	read_from(&t, i.bytes, i.n, true);
	assert_int_equal(t.result, 0);
	perfdata_get_status(t.file, &s);
	/* A stack of another machine can't be walked. */
	if (is_swapped(state)) {
		assert_string_equal(t.text, "30 sample 100/101 event 0 period 1007 5010 5020\n");
		assert_int_equal(s.foreign_stacks, 1);
	} else {
		assert_string_equal(t.text, "30 sample 100/101 event 0 period 1007 5010 5020 carries sixteen  ip 108 sp 107 bp 106\n");
		assert_int_equal(s.foreign_stacks, 0);
	}
	close_told(&t);

	i.n--;
	end_record(&i, at);
	end_data(&i);
	read_from(&t, i.bytes, i.n, true);
	assert_int_equal(t.result, -EBADMSG);
	assert_int_equal(t.error.offset, at);
	close_told(&t);
}

/* Wherever it ends: nothing else is told than what the whole file tells, and where it broke off. */
static void test_cut_off_anywhere(void **state)
{
	struct image i;
	struct told t;

	make_whole(&i, is_swapped(state));
	for (size_t n = 0; n < i.n; n++) {
		read_from(&t, i.bytes, n, true);
		assert_int_equal(t.result, -EBADMSG);
		for (char *rest = t.text, *line; (line = strsep(&rest, "\n"));)
			assert_non_null(strstr(whole, line));
		assert_true(t.error.offset <= i.n);
		assert_true(t.error.what[0] != '\0');
		/* Features lie behind the data: no sample is lost with them. */
		assert_true(n < data_start(&i) + get_u64(&i, 48) || t.n_samples == 4);
		close_told(&t);
	}
}

/* Any one bit turned over: it ends, with an error or without. */
static void test_any_bit_turned_over(void **state)
{
	struct image i;
	struct told t;

	make_whole(&i, is_swapped(state));
	for (size_t bit = 0; bit < 8 * i.n; bit++) {
		i.bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
		read_from(&t, i.bytes, i.n, true);
		assert_true(t.result == 0 || t.result == -EBADMSG);
		close_told(&t);
		i.bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
}

/* All records as one stream in pieces of n bytes, in which they begin and end anywhere. */
static void pack(struct image *i, size_t piece)
{
	static uint8_t packed[sizeof(i->bytes)];
	size_t start = data_start(i), n = ZSTD_compress(packed, sizeof(packed), i->bytes + start, get_u64(i, 48), 3);

	assert_false(ZSTD_isError(n));
	i->n = start;
	for (size_t at = 0; at < n; at += piece) {
		size_t record = begin_record(i, TYPE_COMPRESSED, 0);

		put(i, packed + at, MIN(piece, n - at));
		end_record(i, record);
	}
	end_data(i);
	put_features(i, sizeof(uint64_t));
}

static void test_compressed_records(void **state)
{
	static const size_t pieces[] = { 7, 64, 10000 };
	struct image i;
	struct told t;

	for (size_t k = 0; k < ELEMENTS_OF(pieces); k++) {
		make_packable(&i, is_swapped(state));
		pack(&i, pieces[k]);
		read_from(&t, i.bytes, i.n, true);
		assert_int_equal(t.result, 0);
		assert_string_equal(t.text, "10 comm 100 program exec\n30 sample 100/101 event 0 period 1007 5010 5020\n"
					    "40 sample 100/101 event 1 period 1008 5011 5020\n");
		close_told(&t);
	}
	/* Half of the last record's bytes: what comes before is told, then that it is damaged. */
	make_packable(&i, is_swapped(state));
	i.n -= 40;
	end_data(&i);
	pack(&i, 64);
	read_from(&t, i.bytes, i.n, true);
	assert_int_equal(t.result, -EBADMSG);
	assert_non_null(strstr(t.error.what, "end within one"));
	assert_int_equal(t.n_samples, 1);
	close_told(&t);
}

static void refused(struct image *i, size_t offset, const char *what)
{
	struct told t;

	read_from(&t, i->bytes, i->n, true);
	assert_int_equal(t.result, -EBADMSG);
	assert_int_equal(t.error.offset, offset);
	if (!strstr(t.error.what, what))
		fail_msg("'%s' does not say '%s'", t.error.what, what);
	close_told(&t);
}

static void test_refused_with_the_reason(void **state)
{
	struct image i;
	size_t at;

	make_whole(&i, is_swapped(state));
	memcpy(i.bytes, "PERFFILE", 8);
	refused(&i, 0, "older than Linux 3.2");
	memcpy(i.bytes, "NOT PERF", 8);
	refused(&i, 0, "not a file of perf record");

	begin_file(&i, is_swapped(state), SAMPLED, 2);
	put_sample(&i, 7, 100, 30, 1, 2);
	at = i.n;
	put_u64(&i, 0); /* a record of no bytes, which would never end */
	end_data(&i);
	refused(&i, at, "can't have 0 bytes");

	begin_file(&i, is_swapped(state), SAMPLED, 2);
	at = i.n;
	put_sample(&i, 77, 100, 30, 1, 2);
	end_data(&i);
	refused(&i, at, "an event that the file doesn't describe");

	begin_file(&i, is_swapped(state), SAMPLED, 2);
	at = begin_record(&i, TYPE_COMPRESSED, 0);
	put_u64(&i, 0);
	end_record(&i, at);
	end_data(&i);
	refused(&i, at, "can't be unpacked");

	/* Two events, and nothing in a record that says whose it is. */
	begin_file(&i, is_swapped(state), PERF_SAMPLE_IP | PERF_SAMPLE_TID, 2);
	at = i.n;
	put_sample(&i, 7, 100, 30, 1, 2);
	end_data(&i);
	refused(&i, at, "can't be told apart");
}

/* More than may wait: they come nevertheless, and what came too late is counted. */
static void test_the_queue_is_bounded(void **state _unused_)
{
	struct order *o;
	struct ordered *e;
	uint64_t last = 0;
	char bytes[64] = "";

	assert_int_equal(order_new(&o, 64 << 10), 0);
	for (uint64_t time = 1000; time > 0; time--)
		assert_int_equal(order_put(o, time, time, bytes, sizeof(bytes)), 0);
	for (size_t n = 0; (e = order_take(o)); n++, free(e)) {
		assert_true(e->time >= last);
		assert_true(n < 600);
		last = e->time;
	}
	assert_int_equal(order_put(o, 1, 1, bytes, sizeof(bytes)), 0);
	assert_int_equal(order_late(o), 1);
	order_free(o);
}

#define IN_BOTH_ORDERS(f) { #f, f, NULL, NULL, &native }, { #f "_of_the_other_byte_order", f, NULL, NULL, &foreign }

int main(void)
{
	static bool native = false, foreign = true;
	const struct CMUnitTest tests[] = {
		IN_BOTH_ORDERS(test_records_come_in_the_order_of_their_time),
		IN_BOTH_ORDERS(test_features),
		cmocka_unit_test(test_features_of_a_machine_of_32_bits),
		IN_BOTH_ORDERS(test_switches_and_the_kernels_symbols),
		IN_BOTH_ORDERS(test_without_an_end),
		IN_BOTH_ORDERS(test_from_a_pipe),
		IN_BOTH_ORDERS(test_a_fixed_period),
		IN_BOTH_ORDERS(test_every_field_of_a_sample),
		IN_BOTH_ORDERS(test_cut_off_anywhere),
		IN_BOTH_ORDERS(test_any_bit_turned_over),
		IN_BOTH_ORDERS(test_compressed_records),
		IN_BOTH_ORDERS(test_refused_with_the_reason),
		cmocka_unit_test(test_the_queue_is_bounded),
	};

	return cmocka_run_group_tests_name("perfdata", tests, NULL, NULL);
}
