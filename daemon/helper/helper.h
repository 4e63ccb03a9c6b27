/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two small helper processes and how the daemon speaks to them (DESIGN section 10).
 *
 *   stackd ──seqpacket──▶ opener  keeps CAP_SYS_ADMIN, under seccomp; fixed requests, returns descriptors
 *          ──seqpacket──▶ parser  no capability, under seccomp; gets descriptors of ELF files, reads by pread
 *
 * Either may die at any time: requests then fail with -EPIPE, a new parser is started at once (it needs no
 * privilege), a dead opener is gone for good and costs new CPUs and uprobes only. */
#pragma once

#include "base.h"

struct helper;

/* Forks both, before the daemon drops privileges and before it makes threads. */
int helper_start(struct helper **ret);
struct helper *helper_stop(struct helper *h); /* ends both; accepts NULL, returns NULL */
DEFINE_CLEANUP(struct helper *, helper_stop)

pid_t helper_opener_pid(const struct helper *h); /* 0 when it is gone */
pid_t helper_parser_pid(const struct helper *h);
uint64_t helper_parser_restarts(const struct helper *h);

/* ---- opener: synchronous, bounded by a time-out of 1 s ---- */

enum opener_event { OPENER_CPU_CLOCK, OPENER_FAULTS_MINOR, OPENER_FAULTS_MAJOR };

/* Opens a disabled system-wide software perf event on one CPU, close-on-exec. freq: value is Hz, else it is
 * the period (ns for the CPU clock). Gives -EPIPE when the opener is gone, or what perf_event_open gave. */
int helper_open_perf_event(struct helper *h, enum opener_event event, int cpu, bool freq, uint64_t value,
			   int *ret_fd);

/* ---- parser: asynchronous ---- */

#define PARSER_OFFSETS_MAX 256 /* per request */
#define PARSER_NAME_MAX 512    /* bytes, with the NUL */
#define PARSER_BUILD_ID_MAX 32

struct parser_symbol {
	uint64_t offset; /* as asked: offset into the file */
	uint64_t start;  /* file-independent virtual address where the covering symbol starts */
	uint64_t size;
	uint64_t address;                /* virtual address of the offset, by the program headers */
	uint64_t valid_start, valid_end; /* virtual addresses around address, in one segment, for which the
					    same answer holds */
	char name[PARSER_NAME_MAX]; /* "" when no symbol covers the address; else as in the symbol table */
};

struct parser_reply {
	uint64_t request; /* as given by parser_ask() */
	int error;        /* negative errno: not an ELF file, too large, damaged, or the parser died */
	uint8_t build_id[PARSER_BUILD_ID_MAX];
	size_t build_id_size;  /* 0 when the file has none */
	uint64_t content_hash; /* names an object without a build ID (else 0): hash of its size and some of
				  its content */
	size_t n;
	struct parser_symbol symbols[PARSER_OFFSETS_MAX];
};

/* Asks for the symbols at file offsets. object is the caller's stable key for the file (device, inode,
 * mtime): the parser caches by it. fd is borrowed (it is duplicated to the parser). Never blocks: -EAGAIN
 * when the queue is full or there is no parser at the moment, -ENOTRECOVERABLE when this object has killed
 * two parsers. */
int parser_ask(struct helper *h, uint64_t object, int fd, const uint64_t *offsets, size_t n,
	       uint64_t *ret_request);

/* Readable when replies wait or the parser died. */
int parser_fd(const struct helper *h);

/* Takes one reply; 0 when there is none now, 1 when *ret was filled. Starts a new parser if the old one died;
 * every request it had open gets a reply with error -EPIPE. The parser is killed when one request takes
 * longer than 10 s. */
int parser_next(struct helper *h, struct parser_reply *ret);
