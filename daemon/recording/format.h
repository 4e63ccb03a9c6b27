/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What writer and reader share: the bytes. */
#pragma once

#include "recording.h"

#define RECORDING_MAGIC "stackrec"

struct recording_header {
	char magic[8];
	uint32_t version;
	uint32_t reserved; /* 0 */
};

/* What the next moment of the tick is told from. The first: the tick's end, and zeros. */
struct recording_moment {
	uint64_t time_us, weight_ns, tid;
};

struct recording_block {
	uint32_t size, stored; /* bytes of records; that follow */
	uint64_t check;        /* hash64 of what follows, with the block's number */
};

/* The largest record: a string, or a stack's references. */
#define RECORD_SIZE_MAX 8192
#define STRING_MAX 4095

/* Types of records: what fills tables, then recording_kind from TYPE_KINDS on. */
enum {
	TYPE_RESET = 1,
	TYPE_STRING,        /* bytes */
	TYPE_FRAME,         /* id, kind, display, object */
	TYPE_NEW_PROCESS,   /* pid, exec_id, start_ns, cgroup_id, uid, kernel thread, comm */
	TYPE_RAW,           /* id */
	TYPE_KINDS = 16,
};
