/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs and the daemon say to each other. Both sides include it; sizes are asserted. */
#pragma once

#include <linux/types.h>

#define STACKD_KERNEL_FRAMES 48
#define STACKD_USER_FRAMES 128
#define STACKD_CPUS_MAX 1024 /* a power of two; CPUs beyond share slots, which is right but slower */

/* The order of enum metric in daemon/base/base.h; asserted there. */
enum stackd_metric {
	STACKD_ON_CPU,
	STACKD_BLOCKED,
	STACKD_RUNNABLE,
	STACKD_FAULTS_MINOR,
	STACKD_FAULTS_MAJOR,
	STACKD_HITS,
	STACKD_BRK, /* from here to rss: signed, bytes */
	STACKD_MMAP,
	STACKD_HEAP,
	STACKD_RSS,
	STACKD_FAULTS_FILE,
	STACKD_KMEM,
	STACKD_METRICS,
};

#define STACKD_PROCESS_KTHREAD 1u

struct stackd_process {
	__u64 start_ns;  /* start_boottime of the leader */
	__u64 seen_ns;   /* CLOCK_MONOTONIC: a moment in which it was what the rest says */
	__u64 cgroup_id;
	__u32 tgid;
	__u32 exec_id;
	__u32 uid;
	__u32 flags;     /* STACKD_PROCESS_... */
	char comm[16];
};
_Static_assert(sizeof(struct stackd_process) == 56, "shared with the daemon");

#define STACKD_STACK_TRUNCATED 1u
#define STACKD_STACK_SWITCH 2u /* taken while switching, so that the innermost frames are ours and the scheduler's */
#define STACKD_STACK_FRAME_POINTERS 4u /* user frames were found by frame pointers, wholly or in part: they may lie */
#define STACKD_STACK_HOOK 8u /* taken in a function that is there for tracing only, which is left out with what is inside it */
#define STACKD_STACK_PAGES 16u /* taken where pages are counted: the way there from the fault is left out */
#define STACKD_STACK_END_SHIFT 8       /* from here on: enum stackd_unwind_end (unwind_maps.h) of the user part */
#define STACKD_STACK_OURS_SHIFT 16     /* from here on: how many of the innermost kernel frames are left out, as the way to our program */

/* Value of the stacks map; the key is the raw id. */
struct stackd_stack {
	struct stackd_process process;
	__u16 n_kernel, n_user;
	__u32 flags;     /* STACKD_STACK_... */
	__u64 kernel[STACKD_KERNEL_FRAMES]; /* innermost first, as user[] */
	__u64 user[STACKD_USER_FRAMES];     /* all but the innermost: the address behind the one in question, as a call leaves it */
};
_Static_assert(sizeof(struct stackd_stack) == 56 + 8 + 8 * (48 + 128), "shared with the daemon");

/* Of which metrics the sampling variance is known: of what was drawn with the probability p and counted as v, the sum of v^2 (1 - p). */
enum stackd_variance {
	STACKD_VARIANCE_BLOCKED, /* units of 1024 ns, as runnable */
	STACKD_VARIANCE_RUNNABLE,
	STACKD_VARIANCE_FAULTS_MINOR,
	STACKD_VARIANCE_FAULTS_MAJOR,
	STACKD_VARIANCE_BRK,     /* of 1024 bytes, as mmap */
	STACKD_VARIANCE_MMAP,
	STACKD_VARIANCES,
};
#define STACKD_VARIANCE_SHIFT 10

/* Value of the counts maps; the key is the raw id. */
struct stackd_count {
	struct stackd_process process;
	__u64 values[STACKD_METRICS];
	__s64 waits;     /* threads that exited out of a reported wait, negative */
	__u64 variances[STACKD_VARIANCES];
};
_Static_assert(sizeof(struct stackd_count) == 56 + 96 + 8 + 48, "shared with the daemon");

/* Value of the exits maps: what the threads of a process that exited in this tick had not yet been counted for. */
struct stackd_exit_key {
	__u64 start_ns;
	__u32 tgid;
	__u32 exec_id;
};
struct stackd_exit {
	struct stackd_process process;
	__u64 on_cpu_ns, runnable_ns, faults_minor, faults_major;
	__s64 resident, anonymous; /* as in stackd_thread */
	__u64 alive_ns;  /* sum over the threads of their time since the last tick, or since their start */
	__u32 ended;     /* no thread is left */
	__u32 pad;
};
_Static_assert(sizeof(struct stackd_exit) == 56 + 64, "shared with the daemon");

/* One line of the task iterator: a thread about which there is something to say. */
struct stackd_thread {
	struct stackd_process process;
	__u64 on_cpu_ns, runnable_ns, faults_minor, faults_major; /* since the last tick */
	__s64 resident;  /* pages that its process has more of, in memory: of the leader's line */
	__s64 anonymous; /* the same of those that no file has, swapped out or not */
	__u64 unborn_ns; /* the part of the tick before this thread started */
	__u64 wait_id;   /* raw id of the wait that it entered (+1) or left (-1) */
	__s32 wait_delta;
	__u32 live;      /* live threads of its process */
	__u32 tid;
	__u32 pad;
	char comm[16];   /* the thread's, where it entered or left a wait */
};
_Static_assert(sizeof(struct stackd_thread) == 56 + 64 + 8 + 24, "shared with the daemon");

/* Sent through the ring buffer when what the daemon waits for happens in the middle of a tick. */
enum stackd_notice_kind {
	STACKD_NOTICE_LOAD,   /* the load crosses the threshold of an armed gate */
	STACKD_NOTICE_FAULTS, /* this tick had as many minor faults as a whole one may have with the event that samples them */
};
struct stackd_notice {
	__u32 kind;      /* STACKD_NOTICE_... */
	__u32 running;   /* tasks, with a load */
};

/* What waits of one stack that a CPU ended in a tick add up to, beside the counts, which have an entry of it: an element of the map wait_sums, whose
 * place is its raw id's. Other CPUs don't write there. */
#define STACKD_WAIT_SUMS 64 /* of a CPU in each half; a power of two */
struct stackd_wait_sum {
	__u64 id;        /* 0: free */
	__u64 blocked_ns, runnable_ns;
	__u64 candidate; /* another one that came here last: the second time in a row it takes the place */
};

enum stackd_loss {
	LOSS_COUNTS_FULL,
	LOSS_STACKS_FULL,
	LOSS_EXITS_FULL,
	LOSS_TASK_STORAGE,    /* a task without a place for its state */
	LOSS_STACK_FAILED,    /* bpf_get_stack() gave nothing */
	LOSS_WALK_LIMIT,      /* long waits whose stack waits for the next tick's budget */
	LOSS_WAKEUP_UNSEEN,   /* a wait whose wake-up fell into the opening of the gate */
	LOSS_SAMPLE_GAP,      /* samples cut down to the most that one may stand for */
	LOSS_SEQUENCE,        /* the iterator's output had no room */
	LOSS_HEAP_BLOCKS,     /* blocks of watched heaps that had no room */
	LOSS_HEAP_STACK,      /* allocations of watched heaps whose stack could not be walked: more at once on a CPU than there is room for */
	LOSS_FAULT_MAPPING,   /* sampled faults whose mapping could not be looked at: the CPU's next sample stands for them, too */
	LOSS_KMEM_BLOCKS,     /* the same of the kernel's memory */
	LOSS_KMEM_NESTED,     /* allocations by the kernel while our program was at another one on the same CPU: interrupts', or our own */
	LOSS_KMEM_UNSEEN,     /* blocks that were allocated again without having been seen freed: taken off then */
	LOSS_MOMENTS,         /* on-CPU samples that count, but whose moment had no room */
	LOSS_THREAD_WAITS,    /* the same of waits that were drawn for their thread */
	LOSS_N,
};

/* Everything that the daemon tells the programs, in one structure of the object's .bss, mapped into the daemon. */
struct stackd_control {
	__u32 half;              /* which half of the double-buffered maps is written */
	__u32 wait_epoch;        /* a wait reported in an earlier epoch counts as not reported */
	__u32 session;           /* accounts taken in an earlier session are not continued */
	__u32 create_only;       /* the iterator only makes places for the tasks' states */
	__u64 tick_ns;           /* CLOCK_MONOTONIC, the end of this tick, set before the iterator runs */
	__u64 last_tick_ns;      /* the end of the tick before */
	__u64 awake_ns;          /* since when somebody looks; waits from before are accounted from here on */
	__u64 walks_until_ns;    /* the iterator walks no further stack after this */
	__u32 walks_left;
	__u32 learn_run_queues;  /* the iterator notes where each CPU's run queue is */
	/* on-CPU */
	__u64 period_ns;         /* of the CPU clock now */
	__u64 gap_ns;            /* the most that a sample may stand for */
	/* off-CPU */
	__u32 walk_budget;       /* stacks walked a window and CPU before sampling starts; 0 = all */
	__u32 waits_lost;        /* set by the programs: the end of a reported wait could not be told */
	__u32 known_every;       /* of the waits whose stack is known already one in so many is walked all the same, to see; 0: all are walked */
	__u32 known_generation;  /* what is known of another one is forgotten */
	__u32 known_mask;        /* of the places for known stacks */
	/* gate */
	__u32 gate_armed;        /* 1: tell when the load crosses; the programs clear it */
	__u32 online_cpus;
	__u64 gate_armed_after_ns;
	__u64 open_above_milli;  /* runnable tasks per online CPU, in thousandths */
	__u64 gate_interval_ns;  /* the load is evaluated at most this often */
	__u64 gate_evaluated_ns; /* written by the programs, as what follows */
	__u64 running_ns;        /* integral of runnable tasks over time */
	__u32 running;           /* runnable tasks at the last evaluation */
	__u32 run_queues;        /* of how many CPUs the run queue is known */
	__u32 possible_cpus;
	__u32 stack_depth;       /* frames at which the kernel ends a walk */
	__u32 unwind_depth;      /* user frames at which a walk ends; at most STACKD_USER_FRAMES */
	/* memory */
	__u32 memory_budget;     /* stacks walked a second and CPU before changes are drawn by their size; 0 = all */
	__u32 fault_budget;      /* faults walked a second and CPU before half of them are left to those that follow */
	__u32 fault_session;     /* the events' counts begin anew with each */
	__u32 fault_times;       /* minor ones are taken so many times, as what is seen of this tick's rest stands for all of it */
	__u32 memory_session;    /* what was noted of an address space in an earlier session is not continued */
	__u32 page_size;
	__u32 rss_by_event;      /* every change of resident memory is seen; else what sampled faults and unmapping show */
	__u64 faults_most;       /* after so many minor ones the programs tell, once, and set it to 0; 0: they don't */
	__u64 faults_seen;       /* so far, written by the programs */
	__s64 rss_elsewhere;     /* bytes of resident memory that came less those that went by nobody's stack, written by the programs */
	/* The run queues' clock less CLOCK_MONOTONIC: the most that this tick has seen, and what the last tick gave. A stale clock
	 * only makes it less. 0: not known. */
	__s64 clock_ahead_seen_ns, clock_ahead_ns;
	/* moments */
	__u32 moments_cpus;      /* for so many there is room, one after the other in each half of the table */
	__u32 moments_per_cpu;   /* in a tick */
	__u32 thread_waits_per_cpu;   /* a power of two */
	__u32 thread_wait_shift;      /* waits shorter than 1 << this many ns are drawn by their length, to be told by thread; 0: none are told */
	__u32 thread_wait_room_shift; /* from half of the places on, each time that 1 << this many are taken in a tick, it is one more */
};

#define STACKD_WAIT_ENDED STACKD_METRICS /* in place of the metric: the thread exited out of a reported wait */
#define STACKD_WAIT_SHIFT_MAX 36         /* 69 s */

/* When an on-CPU sample was taken, or a wait or a part of it ended: an element of the maps moments and thread_waits. */
struct stackd_moment {
	__u64 id;        /* raw id of its stack */
	__u64 time_ns;   /* CLOCK_MONOTONIC */
	__u64 weight_ns;
	__u32 tid;
	__u16 metric;
	__u16 drawn;     /* stands for shorter waits, too */
	char comm[16];   /* the thread's */
};
_Static_assert(sizeof(struct stackd_moment) == 48, "shared with the daemon");

/* One a CPU: waits that began, and what the known stacks did for them. */
struct stackd_known {
	__u64 found;         /* the stack was known */
	__u64 walked;        /* a stack was walked, as it was not known or to see */
	__u64 checked, wrong; /* was known and walked; the walk gave another one */
	__u64 checked_waits, wrong_waits; /* the same, weighted */
};

/* One a CPU, on a cache line of its own. A program is between enter and leave while depth is not 0. */
struct stackd_guard {
	__u64 depth;
	__u32 moments[2]; /* of this CPU in either half of the table */
	__u32 thread_waits[2];
	__u64 pad[5];
};
