/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the daemon loads for the programs to unwind by: unwind.h says how a table looks that an object gives, this how the tables
 * of all objects lie in the maps. The daemon writes (daemon/unwind), the programs read, and say whom they knew nothing of.
 *
 *   processes (hash: tgid, exec) → a run of mappings (start, end, object's address, first page) → pages (64 KiB each)
 *                                                             → a run of rows in a slab → rules (of all objects, without doubles)
 *
 * What a run holds is never changed while a program may come to it: a new one is made, the reference changed, and the old one's
 * place given away after every CPU has been seen outside of the programs once (stacks.bpf.h). */
#pragma once

#include "unwind.h"

#define STACKD_UNWIND_SLAB_ROWS (1u << 18) /* 1 MiB; a page's rows lie in one slab */
#define STACKD_UNWIND_SLABS_MAX 1024
#define STACKD_UNWIND_PAGES (1u << 16)     /* 4 GiB of code */
#define STACKD_UNWIND_MAPPINGS (1u << 15)
#define STACKD_UNWIND_RULES (1u << 14)
#define STACKD_UNWIND_OBJECTS 4096
#define STACKD_UNWIND_PROCESSES 4096
#define STACKD_UNWIND_WANTED 1024
#define STACKD_UNWIND_PROCESS_MAPPINGS_MAX 4096

struct stackd_unwind_slab {
	struct unwind_row rows[STACKD_UNWIND_SLAB_ROWS];
};

/* What object is for a mapping without a table: there will be none (code made at run time, say), or there may be one. */
#define STACKD_UNWIND_NEVER 0xfffeu
#define STACKD_UNWIND_NOT_YET 0xffffu

struct stackd_unwind_mapping {
	__u64 start, end;
	__u64 base;      /* where the first page of the object's table lies in this process */
	__u32 first_page;
	__u16 n_pages;
	__u16 object;
};
_Static_assert(sizeof(struct stackd_unwind_mapping) == 32, "shared with the daemon");

struct stackd_unwind_page {
	__u32 first_row; /* slab and place in it: slab * STACKD_UNWIND_SLAB_ROWS + row */
	__u32 n_rows;    /* 0: no function is here */
};

struct stackd_unwind_key {
	__u32 tgid, exec_id;
};

struct stackd_unwind_process {
	__u64 start_ns; /* of the leader, as in struct stackd_process */
	__u32 first_mapping, n_mappings;
};

/* A process of which something was missing when its stack was walked. */
struct stackd_unwind_wanted {
	__u64 start_ns;
	__u64 address;   /* in no mapping, or in an object without a table */
	__u64 count;     /* walks that wanted it since it was last asked for */
};

/* All that is not rows, in the programs' .bss, which is mapped into the daemon. */
struct stackd_unwind_tables {
	struct unwind_rule rules[STACKD_UNWIND_RULES];
	struct stackd_unwind_page pages[STACKD_UNWIND_PAGES];
	struct stackd_unwind_mapping mappings[STACKD_UNWIND_MAPPINGS]; /* of a process: by address */
	__u32 tick;                        /* counts ticks */
	__u32 used[STACKD_UNWIND_OBJECTS]; /* the tick in which the object's rows were needed last; written by the programs */
};

/* How a walk ended. */
enum stackd_unwind_end {
	STACKD_UNWIND_COMPLETE,
	STACKD_UNWIND_DEPTH,       /* deeper than UnwindDepth= */
	STACKD_UNWIND_PROCESS,     /* nothing was known of the process yet, or it is not one that we can walk: by frame pointers only */
	STACKD_UNWIND_MAPPING,     /* an address in no mapping that is known */
	STACKD_UNWIND_TABLE,       /* an object without a table, and no frame pointer to go on by */
	STACKD_UNWIND_ROW,         /* a table that says nothing of this address */
	STACKD_UNWIND_RULE,        /* a rule that is not supported, or needs a register that is not known */
	STACKD_UNWIND_READ,        /* the stack could not be read */
	STACKD_UNWIND_FRAME,       /* a frame that lies below the one it called */
	STACKD_UNWIND_ENDS,
};
