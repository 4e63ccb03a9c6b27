/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Watched heaps: what the daemon, its parser and the programs say to each other. heap.bpf.c draws how it works. */
#pragma once

#include <linux/types.h>

#include "records.h"

/* How an allocator's function is called, and so what is to be read where. */
enum stackd_heap_call {
	HEAP_NONE,
	HEAP_MALLOC,         /* (size) */
	HEAP_CALLOC,         /* (n, size) */
	HEAP_ALIGNED,        /* (alignment or heap, size) */
	HEAP_POSIX_MEMALIGN, /* (&address, alignment, size), gives an error number */
	HEAP_OF_CALLOC,      /* (heap, n, size) */
	/* what is given an address first */
	HEAP_REALLOC,        /* (address, size) */
	HEAP_REALLOCARRAY,   /* (address, n, size) */
	HEAP_FREE,           /* (address) */
	/* and second */
	HEAP_OF_REALLOC,      /* (heap, address, size) */
	HEAP_OF_REALLOCARRAY, /* (heap, address, n, size) */
	HEAP_CALLS,
};

#define STACKD_HEAP_WATCHES 16 /* a power of two */
#define STACKD_HEAP_RANGES 256 /* functions of one process */

/* What a probe's cookie says: whose it is, and what it stands on. */
#define STACKD_HEAP_COOKIE(id, slot, call) ((__u64)(id) << 32 | (__u64)(slot) << 8 | (call))

/* The odds that an allocation is drawn, 1 - exp(-size / mean), in 2^-32, at steps of a 64th of the mean. */
#define STACKD_HEAP_STEPS_SHIFT 6
#define STACKD_HEAP_ODDS ((16 << STACKD_HEAP_STEPS_SHIFT) + 1) /* beyond 16 times the mean all are taken */
#define STACKD_HEAP_MEAN_MAX (64 << 20)                        /* so that nothing overflows */

struct stackd_heap_range {
	__u64 start, end;
};

struct stackd_heap_watch {
	__u32 id;        /* of the watch that has this slot; 0: none */
	__u32 n_ranges;
	__u64 start_ns;  /* of the process, as in struct stackd_process; 0: the task iterator has not come to it yet */
	__u64 execution; /* of the process, plus 1; the iterator or the first probe notes it */
	__u32 executed;  /* it has executed something else: nothing is noted any more */
	__u32 counts;    /* its calls are counted only */
	__u32 tgid;
	__u32 pad;
	struct stackd_heap_range ranges[STACKD_HEAP_RANGES]; /* of the functions with probes, in its address space */
};

/* In the object's .bss, written by the daemon. */
struct stackd_heap {
	__u64 mean;      /* bytes between two samples; 0 or 1: all are taken */
	__u64 steps;     /* of the odds, by bytes: 2^(32 + STEPS_SHIFT) / mean */
	__u32 odds[STACKD_HEAP_ODDS];
	__u32 learning;  /* the iterator is to look for processes of watches */
	struct stackd_heap_watch watches[STACKD_HEAP_WATCHES];
};

/* Of a CPU: how often probes were met, by the watch's slot. */
struct stackd_heap_calls {
	__u64 n[STACKD_HEAP_WATCHES];
};

/* The kernel's own memory, in the same way. In the object's .bss, written by the daemon. */
struct stackd_kmem {
	__u32 id;        /* of the watch, one of those of the heaps; 0: none */
	__u32 counts;    /* calls are counted only */
	__u32 tgid;      /* whose calls are noted all the same, while it is measured what that takes; 0: nobody's */
	__u32 pad;
	/* kthreadd, as the task iterator finds it: whose is what interrupts allocate on a CPU that is idle */
	struct stackd_process nobody;
};

/* Of a CPU. */
struct stackd_kmem_slot {
	__u64 calls;     /* that were seen */
	__u32 busy, pad; /* a block is being noted */
};

/* Blocks that were drawn and are not freed yet. */
struct stackd_heap_key {
	__u64 address;
	__u32 watch;     /* id */
	__u32 pad;
};
struct stackd_heap_block {
	__u64 stack;     /* raw id */
	__s64 weight;    /* bytes that it stands for */
	__u64 born_ns;   /* CLOCK_MONOTONIC */
};
