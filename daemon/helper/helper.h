/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two small helper processes and how the daemon speaks to them (DESIGN section 10).
 *
 *   stackd ──seqpacket──▶ opener  keeps CAP_SYS_ADMIN, under seccomp; fixed requests, returns descriptors
 *          ──seqpacket──▶ parser  no capability, under seccomp; gets descriptors of ELF files, reads by pread
 *
 * Either may die at any time: requests then fail with -EPIPE, a new parser is started at once (it needs no
 * privilege), a dead opener is gone for good and costs new CPUs and uprobes only. A helper of its own, with a parser only and
 * only while it is asked something, reads DWARF: that takes seconds, for which names must not wait. */
#pragma once

#include "base.h"
#include "../../bpf/heap.h"
#include "../../bpf/unwind.h"

struct helper;

/* Forks both, before the daemon drops privileges and before it makes threads. */
int helper_start(struct helper **ret);
/* The parser alone, for which no privilege is needed. */
int helper_start_parser(struct helper **ret);
/* Without an opener, and with a parser from the first question on until helper_rest(). */
int helper_start_on_demand(struct helper **ret);
/* Ends a parser that was started on demand and has had nothing to do since it was asked for idle_ns. */
void helper_rest(struct helper *h, uint64_t idle_ns);
struct helper *helper_stop(struct helper *h); /* ends both; accepts NULL, returns NULL */
DEFINE_CLEANUP(struct helper *, helper_stop)

pid_t helper_opener_pid(const struct helper *h); /* 0 when it is gone */
pid_t helper_parser_pid(const struct helper *h);
uint64_t helper_parser_restarts(const struct helper *h);

/* ---- opener: synchronous, bounded by a time-out of 1 s ---- */

enum opener_event { OPENER_CPU_CLOCK, OPENER_FAULTS_MINOR, OPENER_FAULTS_MAJOR, OPENER_MAPPINGS, OPENER_UPROBE, OPENER_URETPROBE, OPENER_CYCLES, OPENER_SWITCHES, OPENER_WAKEUPS, OPENER_RUN_TIME };

/* Opens a disabled system-wide software perf event on one CPU, close-on-exec. freq: value is Hz, else it is
 * the period (ns for the CPU clock). OPENER_MAPPINGS samples nothing and is enabled: its ring tells of processes that begin,
 * execute and map code, with the time by CLOCK_MONOTONIC at the end of each record; value is the bytes in the ring at which its
 * descriptor becomes readable, freq false. Gives -EPIPE when the opener is gone, or what perf_event_open gave. */
int helper_open_perf_event(struct helper *h, enum opener_event event, int cpu, bool freq, uint64_t value,
			   int *ret_fd);
/* What a sample of helper_open_sampler()'s carries (perf_event_open(2)): with a copy of the stack, or without. The period isn't among it:
 * with that the kernel makes a sample of each page fault. */
#define OPENER_SAMPLE_TYPE (PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CALLCHAIN)
#define OPENER_SAMPLE_TYPE_COPY (OPENER_SAMPLE_TYPE | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER)
#define OPENER_SAMPLE_REGISTERS 0x1c0ULL /* rbp, rsp, rip, as asm/perf_regs.h of x86 numbers them */
#define OPENER_COPY_MAX 61440            /* bytes of a stack: with its callers a record has 64 KiB at most */

/* The same for an event that writes its samples into a ring, with callers, the time by CLOCK_MONOTONIC, and copy bytes of the user's
 * stack and its registers; copy is a multiple of 8, 0 for none. watermark: bytes in the ring at which its descriptor becomes readable.
 * OPENER_CPU_CLOCK, OPENER_CYCLES (hardware; freq only), the page faults, and OPENER_SWITCHES: there each switch is told of, too, by
 * PERF_RECORD_SWITCH_CPU_WIDE behind the sample, and each thread that begins or ends, with OPENER_SAMPLE_TYPE's thread, time and id behind
 * them; the idle task is left out. */
int helper_open_sampler(struct helper *h, enum opener_event event, int cpu, bool freq, uint64_t value, uint32_t copy, uint32_t watermark,
			int *ret_fd);
/* The same for every time that a thread is woken, with what the tracepoint writes and without callers. id: of sched_wakeup, as tracefs has it. */
#define OPENER_WAKEUP_SAMPLE_TYPE (PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_RAW)
int helper_open_wakeups(struct helper *h, uint32_t id, int cpu, uint32_t watermark, int *ret_fd);
/* The same for a uprobe, or a return probe, at an offset of a file in one process, disabled. type: of these events, as
 * /sys/bus/event_source/devices/uprobe/type has it. Distributions forbid them to whoever lacks CAP_SYS_ADMIN. */
int helper_open_uprobe(struct helper *h, int file, uint64_t offset, bool at_return, uint32_t type, pid_t pid, int *ret_fd);

/* As long as *ret_fd is open the kernel counts how long BPF programs run, which costs each run some ten nanoseconds. */
int helper_open_run_time(struct helper *h, int *ret_fd);

/* ---- parser: asynchronous ---- */

/* What it can be asked for. Each kind is asked by a function of its own; answers come in the order of the
 * questions, whatever their kind. */
enum parser_kind {
	PARSER_SYMBOLS,  /* parser_ask() */
	PARSER_UNWIND,   /* parser_ask_unwind() */
	PARSER_PERF_MAP, /* parser_ask_perf_map() */
	PARSER_LINES,    /* parser_ask_lines() */
	PARSER_ALLOCATORS, /* parser_ask_allocators() */
	PARSER_KIND_N,
};

#define PARSER_OFFSETS_MAX 256 /* per request */
#define PARSER_NAME_MAX 512    /* bytes, with the NUL */
#define PARSER_BUILD_ID_MAX 32
#define PARSER_LINK_MAX 96
#define PARSER_LINES_MAX 8     /* offsets per request for lines */
#define PARSER_PLACES_MAX 16   /* inlined into one another at one address */
#define PARSER_PATH_MAX 256    /* bytes of a source file's path, with the NUL */
#define PARSER_ALLOCATORS_MAX 128

struct parser_symbol {
	uint64_t offset; /* as asked: offset into the file */
	uint64_t start;  /* file-independent virtual address where the covering symbol starts */
	uint64_t size;
	uint64_t address;                /* virtual address of the offset, by the program headers */
	uint64_t valid_start, valid_end; /* virtual addresses around address, in one segment, for which the
					    same answer holds */
	char name[PARSER_NAME_MAX]; /* "" when no symbol covers the address; else demangled */
};

/* Where in the sources an address is: in this function at this line; inlined: it has no frame of its own. */
struct parser_place {
	bool inlined;
	uint32_t line; /* 0: not known */
	char function[PARSER_NAME_MAX]; /* "" when it is not inlined: the symbols name it */
	char file[PARSER_PATH_MAX];     /* "" when not known */
};

struct parser_lines {
	uint64_t offset; /* as asked */
	size_t n;        /* 0: nothing is known of it */
	struct parser_place places[PARSER_PLACES_MAX]; /* innermost first */
};

/* A function of an allocator. */
struct parser_allocator {
	uint64_t offset, size; /* in the file */
	uint32_t call;         /* enum stackd_heap_call (bpf/heap.h) */
	uint32_t reserved;     /* 0 */
};

struct parser_reply {
	uint64_t request; /* as given when it was asked */
	enum parser_kind kind;
	int error; /* negative errno: not an ELF file, too large, damaged, or the parser died */

	/* PARSER_SYMBOLS and PARSER_PERF_MAP; of other kinds they are 0 */
	uint8_t build_id[PARSER_BUILD_ID_MAX];
	size_t build_id_size;  /* 0 when the file has none */
	uint64_t content_hash; /* names an object without a build ID (else 0): hash of its size and some of
				  its content */
	/* Has no .symtab, and was read without a debug file: one with this build ID, or this name and the checksum that
	 * the parser looks at, would give more names. */
	bool wants_debug;
	char debug_link[PARSER_LINK_MAX]; /* a file's name, or "" */
	size_t n; /* of symbols or lines */
	char missing_alt[PARSER_PATH_MAX]; /* PARSER_LINES: of a file that inlined functions' names are in and that did not
					      come along, as the debug file has it; "" */
	union {
		struct parser_symbol symbols[PARSER_OFFSETS_MAX];
		struct parser_lines lines[PARSER_LINES_MAX];
		struct parser_allocator allocators[PARSER_ALLOCATORS_MAX]; /* PARSER_ALLOCATORS: n of them */
		struct unwind_table_header unwind; /* PARSER_UNWIND without an error: what the parser says of
						      the table, before unwind_table_open() has checked it */
	};
};

/* Asks for the symbols at file offsets. object is the caller's stable key for the file (device, inode,
 * mtime): the parser caches by it. fd is borrowed (it is duplicated to the parser). Never blocks: -EAGAIN
 * when the queue is full or there is no parser at the moment, -ENOTRECOVERABLE when this object has killed
 * two parsers with questions of this kind. */
int parser_ask(struct helper *h, uint64_t object, int fd, const uint64_t *offsets, size_t n,
	       uint64_t *ret_request);

/* The same with the object's debug file, of which the parser makes sure that it is its; also borrowed. */
int parser_ask_with_debug(struct helper *h, uint64_t object, int fd, int debug_fd, const uint64_t *offsets, size_t n,
			  uint64_t *ret_request);

/* Asks for what a perf-map says of addresses in its process: as parser_ask(), where offsets are addresses. */
int parser_ask_perf_map(struct helper *h, uint64_t object, int fd, const uint64_t *addresses, size_t n,
			uint64_t *ret_request);

/* Asks for the source lines at file offsets of an object, at most PARSER_LINES_MAX; debug_fd and alt_fd (the common file that dwz
 * makes) may be negative. The reply's error is -ENODATA when there is no DWARF in the object nor in a debug file, -ESTALE when the
 * debug file is another object's, -EFBIG when there is too much of it; else as parser_ask(). */
int parser_ask_lines(struct helper *h, uint64_t object, int fd, int debug_fd, int alt_fd, const uint64_t *offsets, size_t n,
		     uint64_t *ret_request);
/* Asks which functions of an allocator the file has: as parser_ask(). */
int parser_ask_allocators(struct helper *h, uint64_t object, int fd, uint64_t *ret_request);

/* Asks for the unwind table of an object (bpf/unwind.h), to be written into table_fd: a new, empty memfd that may be
 * sealed. It is given max_bytes here and can't get larger. Both descriptors are borrowed. The reply's error is
 * -ENODATA when the file has no .eh_frame, -ENOEXEC when it is not of this machine, -EFBIG when the table is larger
 * than max_bytes; else as parser_ask(), which says what this gives, too. */
int parser_ask_unwind(struct helper *h, uint64_t object, int fd, int table_fd, uint64_t max_bytes,
		      uint64_t *ret_request);

/* Copies what the parser wrote, and checks all of it; the caller unmaps *ret. */
int unwind_table_open(int table_fd, const struct unwind_table_header **ret, size_t *ret_size);
/* -EBADMSG: not a table of that many bytes that could be followed without care. The first looks at the header alone. */
int unwind_table_header_check(const struct unwind_table_header *h);
int unwind_table_check(const void *table, size_t size);
/* How many bytes a table with such a (checked) header has. */
uint64_t unwind_table_size(const struct unwind_table_header *h);
/* The [vdso] of the running kernel's 64-bit processes as a file that can be asked for; the caller closes it. */
int vdso_image_fd(void);

/* Replies of one kind go to fn, called by parser_next(), instead of being returned by it. */
typedef void (*parser_reply_fn)(void *userdata, const struct parser_reply *reply);
void parser_route(struct helper *h, enum parser_kind kind, parser_reply_fn fn, void *userdata);

/* Readable when replies wait or the parser died. */
int parser_fd(const struct helper *h);

/* Takes one reply that is not routed elsewhere; 0 when there is none now, 1 when *ret was filled. Starts a new parser if the old one died;
 * every request it had open gets a reply with error -EPIPE. The parser is killed when one request takes
 * longer than 10 s. */
int parser_next(struct helper *h, struct parser_reply *ret);
