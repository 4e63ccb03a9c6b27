/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Recordings of what the machine yielded: ticks as the pipeline gets them from the collectors, and the answers it got about processes and
 * stacks, so that they replay anywhere, without the machine, its files and its kernel.
 *
 *   header: "stackrec", version
 *   blocks: size of the records in it, size as stored, checksum ─ zstd
 *     records: type, fields (varints, mostly)
 *       config, once
 *       tick ─ (what the tables lack, answers, event) ... ─ digest      for each tick
 *       end, with the number of ticks
 *
 * Strings, frames, processes and raw stacks are written once and referred to by number from then on, until a reset empties these tables.
 * Moments are told by what differs from the one before in the tick. The answers come before the event for which the pipeline asked for them. Nothing in a file is believed. */
#pragma once

#include "collect.h"
#include "symbol.h"

struct source; /* daemon/perfdata/source.h */

/* To be raised when a record changes, and when enum metric or enum frame_kind changes otherwise than at its end. */
#define RECORDING_VERSION 3
#define RECORDING_VERSION_OLDEST 1 /* that is read: had no moments; 2 had no variances */
#define RECORDING_BLOCK_MAX (128U << 10) /* bytes of records in a block */
/* Entries of the tables: of strings, frames, processes, raw stacks each. */
#define RECORDING_TABLE_MAX (1U << 17)
#define RECORDING_STRINGS_MAX (64U << 20) /* bytes */
#define RECORDING_OWN_MAX 4

/* What the recorded daemon was set to, as far as its series and scores depend on it. */
struct recording_config {
	uint64_t store_size;
	uint64_t keep_us[3];     /* tiers of 1 s, 10 s, 1 min */
	uint64_t slices_per_series, max_stacks, max_clusters, max_incidents;
	uint64_t memory_bytes;   /* of the machine */
	double false_alarms_per_day;
	char version[32], kernel[72], machine[32];
};

/* What came of a tick, to be compared. */
struct recording_digest {
	uint64_t series;    /* hash over live series and their values */
	uint64_t scores;    /* hash over the detector's state of each, and what it told */
	uint64_t n_series, n_anomalies;
};

enum recording_kind {
	RECORDING_CONFIG,
	RECORDING_TICK,
	RECORDING_PROCESS, /* an answer */
	RECORDING_STACK,   /* an answer */
	RECORDING_BEGIN,
	RECORDING_GATE,
	RECORDING_SAMPLE,
	RECORDING_WAIT,
	RECORDING_TOTAL,
	RECORDING_MEMORY,
	RECORDING_LOSS,
	RECORDING_DIGEST,
	RECORDING_END,
	RECORDING_MOMENT,
};

/* Who somebody is, as an answer has it. */
struct recording_process {
	struct collect_process asked;
	int result;          /* 0, or negative: there is no answer, and known is not filled */
	uint64_t start_us;   /* realtime */
	struct symbols_process known;
};

struct recording_stack {
	uint64_t raw_id;
	int result;
	bool truncated;
	uint64_t id;
	size_t n;
	struct symbols_frame frames[SYMBOLS_FRAMES_MAX]; /* id, kind, display, object */
};

/* Strings and pointers are the reader's, until the next call. */
struct recording_item {
	enum recording_kind kind;
	union {
		struct recording_config config;
		struct {
			uint64_t now_us;
			pid_t own[RECORDING_OWN_MAX];
			size_t n_own;
		} tick;
		const struct recording_process *process;
		const struct recording_stack *stack;
		struct collect_tick_info begin;
		struct collect_gate_change gate;
		struct collect_sample sample;
		struct collect_wait wait;
		struct collect_total total;
		struct collect_memory memory;
		struct collect_moment moment;
		struct {
			const char *cause;
			uint64_t n;
		} loss;
		struct recording_digest digest;
		uint64_t n_ticks; /* end */
	};
};

/* ---- writing ---- */

struct recording_writer;

/* Writes the header to fd, which stays the caller's, and config. Negative errno of write(2). */
int recording_writer_new(struct recording_writer **ret, int fd, const struct recording_config *config);
struct recording_writer *recording_writer_free(struct recording_writer *w);
DEFINE_CLEANUP(struct recording_writer *, recording_writer_free)
/* Keeps what couldn't be written as recording_writer_end_tick() and recording_writer_finish() tell it. */
void recording_write(struct recording_writer *w, const struct recording_item *item);
/* Writes out what there is. Negative errno of this or any write before. */
int recording_writer_end_tick(struct recording_writer *w, const struct recording_digest *digest);
int recording_writer_finish(struct recording_writer *w);
uint64_t recording_writer_bytes(const struct recording_writer *w);

/* ---- reading ---- */

struct recording_reader;

struct recording_error {
	uint64_t offset; /* bytes into the file: of the block */
	char what[160];
};

bool recording_is_magic(const void *bytes); /* 8 of them */
/* source is borrowed, and at the file's begin. -EBADMSG, with *ret_error: no recording, of another version, damaged; else those of read(2). */
int recording_open(struct recording_reader **ret, struct source *source, struct recording_error *ret_error);
struct recording_reader *recording_reader_free(struct recording_reader *r);
DEFINE_CLEANUP(struct recording_reader *, recording_reader_free)
/* 1: *ret is the next, config first; 0: there are no more, behind an end; else as recording_open(). */
int recording_next(struct recording_reader *r, struct recording_item *ret, struct recording_error *ret_error);
/* Of the block that the last item is from. */
uint64_t recording_offset(const struct recording_reader *r);
