/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files of perf record (perf.data), of machines of either byte order, read as a stream: attributes and features first, then records in the
 * order of their time.
 * Layout: linux/perf_event.h, and tools/perf/Documentation/perf.data-file-format.txt of the kernel's source.
 *
 *   header ─ attributes, ids ─ data: records ... ─ features      a file
 *   header ─ records, of which some carry attributes, features   what perf record -o - writes
 *
 * Nothing in a file is believed: each count and size is checked against what there is, and memory is bounded by the limits below,
 * whatever the size of the file. */
#pragma once

#include "source.h"

#define PERFDATA_EVENTS_MAX 1024
#define PERFDATA_IDS_MAX 65536       /* of events: one for each CPU or thread */
#define PERFDATA_BUILD_IDS_MAX 65536 /* in the table of the file */
#define PERFDATA_QUEUE_MAX (64U << 20) /* bytes of records that wait for earlier ones of other CPUs */
#define PERFDATA_BUILD_ID_MAX 20
#define PERFDATA_RECORD_MAX 65535 /* bytes: their size has 16 bits */
#define PERFDATA_CHAIN_MAX (PERFDATA_RECORD_MAX / sizeof(uint64_t))

struct perfdata;

/* Where reading failed, and why. */
struct perfdata_error {
	uint64_t offset; /* bytes into the file */
	char what[160];
};

struct perfdata_event {
	char name[64]; /* "cpu-clock"; "event 3" when neither the file says nor its attributes */
	uint32_t hz; /* samples a second that were asked for; 0: one each so many events */
	uint64_t period; /* of samples that don't tell theirs */
	uint64_t sample_type, read_format, branch_sample_type, sample_regs_user, sample_regs_intr;
	bool sample_id_all;
};

struct perfdata_build_id {
	uint8_t bytes[PERFDATA_BUILD_ID_MAX];
	size_t size; /* 0: not known */
};

/* What a sample carries of a user stack, for unwinding it later (--call-graph dwarf). */
struct perfdata_carried {
	uint64_t ip, sp, bp;
	const uint8_t *stack; /* from sp on */
	size_t size;          /* 0: nothing, or of a machine that is not x86-64 */
};

enum perfdata_kind { PERFDATA_SAMPLE, PERFDATA_MAPPING, PERFDATA_COMM, PERFDATA_FORK, PERFDATA_EXIT, PERFDATA_SWITCHED_IN, PERFDATA_KERNEL_SYMBOL };

/* Strings and arrays are the reader's, until the next call. */
struct perfdata_record {
	enum perfdata_kind kind;
	uint64_t offset; /* bytes into the file */
	uint64_t time;   /* ns of the clock that was recorded with; 0: the file doesn't say */
	uint32_t pid, tid;
	union {
		struct {
			uint32_t event;
			bool kernel; /* where ip is */
			struct perfdata_carried carried;
			uint64_t ip, period;
			/* Innermost first, among markers of what follows (PERF_CONTEXT_KERNEL, ...); n 0 when it was
			 * recorded without. */
			const uint64_t *chain;
			size_t n_chain;
			const uint8_t *raw; /* what a tracepoint writes, in the file's byte order; see perfdata_sched() */
			size_t raw_size;
		} sample;
		struct {
			uint64_t start, size, offset; /* offset: bytes into the file that is mapped */
			bool kernel;                  /* the kernel or a module */
			bool code;                    /* executable */
			struct perfdata_build_id build_id;
			const char *path;
		} mapping;
		struct {
			const char *name;
			bool exec; /* it executed something: its mappings are gone */
		} comm;
		struct {
			uint32_t parent_pid, parent_tid;
			bool exec; /* what the parent maps is not the child's any more */
		} fork;
		struct {
			uint64_t start, size;
			bool gone;
			const char *name; /* of BPF programs: "bpf_prog_TAG_NAME" */
		} symbol;
	};
};

struct perfdata_status {
	uint64_t records, samples;
	uint64_t lost;         /* records that the kernel had no room for */
	uint64_t lost_samples; /* samples of which it only kept the number */
	uint64_t foreign_stacks; /* samples with a copy of their stack, which is of a machine that is not x86-64 and is left out */
	uint64_t unordered;    /* records that came later than the queue could hold back */
	bool unfinished;       /* perf record did not end properly: the file doesn't say where the records end, and has no features */
};

/* Reads the header and, where the file can be seeked in, the features. The source is borrowed, and at the file's begin. -EBADMSG:
 * not a perf.data file, or damaged, with *ret_error; other errors are those of read(2). */
int perfdata_open(struct perfdata **ret, struct source *source, struct perfdata_error *ret_error);
struct perfdata *perfdata_free(struct perfdata *p);
DEFINE_CLEANUP(struct perfdata *, perfdata_free)

/* 1: *ret is the next; 0: there are no more; else as perfdata_open(), after everything before the damage was given. Damaged
 * features are told after all records. */
int perfdata_next(struct perfdata *p, struct perfdata_record *ret, struct perfdata_error *ret_error);

size_t perfdata_events(const struct perfdata *p, const struct perfdata_event **ret);
/* "" when the file doesn't say. */
const char *perfdata_kernel_release(const struct perfdata *p);
/* Of the machine that were online; 0 when the file doesn't say. */
uint32_t perfdata_cpus(const struct perfdata *p);
/* By how many ns realtime was ahead of the clock of the records. False when the file doesn't say (perf record -k). */
bool perfdata_realtime(const struct perfdata *p, int64_t *ret_ahead_ns);
/* What the file's table says of an object. */
struct perfdata_build_id perfdata_build_id(const struct perfdata *p, const char *path);

/* What a sample of the scheduler's tracepoints says. */
enum perfdata_sched_kind { PERFDATA_SWITCH, PERFDATA_WAKEUP };

struct perfdata_sched {
	enum perfdata_sched_kind kind;
	bool runnable, dead;  /* of a switch: the thread that leaves the CPU could go on; it never will */
	uint32_t from, to;    /* threads that leave and get the CPU; to: the one that is woken */
};
/* False: it is a sample of something else, or shorter than that. */
bool perfdata_sched(const struct perfdata *p, const struct perfdata_record *sample, struct perfdata_sched *ret);
void perfdata_get_status(const struct perfdata *p, struct perfdata_status *ret);

/* Whether these first bytes (at least 8) are of such a file, of either byte order. */
bool perfdata_is_magic(const void *bytes);
