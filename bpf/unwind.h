/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How to step from a frame to its caller, on x86-64: what an .eh_frame row boils down to, in the form that the programs
 * search and follow. The parser makes it (daemon/helper), the daemon loads it, the programs read it.
 *
 * The address space of an object (virtual addresses as its program headers have them) is cut into pages of 64 KiB, so that a
 * row needs only the low half of its address. A row holds from its address up to the next row's, the last one of a page up to
 * the page's end; what goes on over a page's start is repeated there, so a page that is not empty begins with a row at 0. */
#pragma once

#include <linux/types.h>

#define UNWIND_PAGE_SHIFT 16

struct unwind_row {
	__u16 address; /* low half */
	__u16 rule;    /* which struct unwind_rule; 0: UNWIND_CFA_NONE */
};
_Static_assert(sizeof(struct unwind_row) == 4, "shared with the programs");

/* Where the canonical frame address (the stack pointer before the call) is. The return address is at CFA - 8 except where said. */
enum unwind_cfa {
	UNWIND_CFA_NONE,        /* no function is here, as far as .eh_frame says */
	UNWIND_CFA_UNSUPPORTED, /* a rule that can't be written in this form: the walk ends, truncated */
	UNWIND_CFA_END,         /* the return address is undefined: outermost frame, the stack is complete */
	UNWIND_CFA_RSP,         /* rsp + cfa_offset */
	UNWIND_CFA_RBP,         /* rbp + cfa_offset */
	UNWIND_CFA_PLT,         /* rsp + 8, and 8 more where (rip & 15) >= cfa_offset */
	UNWIND_CFA_AT_RSP,      /* *(rsp + cfa_offset) */
	UNWIND_CFA_AT_RSP_8,    /* *(rsp + cfa_offset) + 8: assembler that keeps the old rsp in its frame */
	UNWIND_CFA_AT_RBP,      /* *(rbp + cfa_offset): functions that realign their stack */
	UNWIND_CFA_SIGNAL,      /* signal frame: rsp, rip, rbp are saved at rsp + cfa_offset, + 8, - 40 (struct sigcontext),
	                           and rip is where it was interrupted, not a return address */
	UNWIND_CFA_FRAME_POINTER, /* much code that .eh_frame says nothing of and that keeps frame pointers: made by a compiler
	                             of its own and linked in, as V8's built-in functions are */
	UNWIND_CFA_N,
};

/* Where the caller's rbp is. */
enum unwind_rbp {
	UNWIND_RBP_SAME,
	UNWIND_RBP_AT_CFA,      /* *(CFA + rbp_offset) */
	UNWIND_RBP_AT_RBP,      /* *(rbp + rbp_offset) */
	UNWIND_RBP_UNDEFINED,   /* not recoverable: following frames that need rbp end the walk */
	UNWIND_RBP_N,
};

struct unwind_rule {
	__u8 cfa; /* enum unwind_cfa */
	__u8 rbp; /* enum unwind_rbp */
	__s16 rbp_offset;
	__s32 cfa_offset;
};
_Static_assert(sizeof(struct unwind_rule) == 8, "shared with the programs");

/* What the parser writes into a memfd: header, segments, pages, rules, rows, each table right behind the one before.
 * Rule 0 is the one of UNWIND_CFA_NONE. */
#define UNWIND_TABLE_MAGIC 0x64776e75u
#define UNWIND_TABLE_VERSION 3u
#define UNWIND_TABLE_SEGMENTS_MAX 16

struct unwind_table_header {
	__u32 magic, version;
	__u64 first_address; /* of page 0, a multiple of 64 KiB */
	__u64 eh_frame_bytes;
	__u32 n_pages, n_rules, n_rows;
	__u32 n_functions;   /* FDEs that were read */
	__u32 n_unsupported; /* rows whose rule is UNWIND_CFA_UNSUPPORTED */
	__u32 n_skipped;     /* FDEs that could not be read */
	__u32 n_segments;
	__u32 reserved;      /* 0 */
};
_Static_assert(sizeof(struct unwind_table_header) == 56, "written by one process, read by another");

/* Executable PT_LOAD: how a mapping's file offset becomes a virtual address. */
struct unwind_table_segment {
	__u64 offset, size, address;
};
_Static_assert(sizeof(struct unwind_table_segment) == 24, "written by one process, read by another");

struct unwind_table_page {
	__u32 first_row; /* index into the rows: each page's follow those of the page before */
	__u32 n_rows;    /* 0: no function is here */
};
_Static_assert(sizeof(struct unwind_table_page) == 8, "written by one process, read by another");
