/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sources of samples. Once a tick a source yields what was counted, and what was lost by cause,
 * to a sink. The manager joins the sink to the store; this room never sees it. There are two: BPF programs that count in the kernel
 * (bpf_source.h), and perf events whose samples are counted by the daemon (sampler.h), for kernels without BPF or BTF.
 *
 *   BPF programs ──count──▶ stacks (persistent: raw id → frames, evicted here when idle)
 *                 └───────▶ counts (double-buffered: raw id → values), totals (by process), losses
 *   task iterator ─────────▶ totals, waits that have not ended
 */
#pragma once

#include "base.h"

struct helper;  /* daemon/helper/helper.h: opens perf events after the privileges are dropped */
struct collect;

enum collect_source { COLLECT_AUTO, COLLECT_BPF, COLLECT_PERF };
enum collect_oncpu_source { ONCPU_PERF_EVENT, ONCPU_UPDATE_RQ_CLOCK };
enum collect_gate_mode { GATE_AUTO, GATE_FORCED_OPEN, GATE_FORCED_CLOSED };

struct collect_config {
	enum collect_source source;     /* COLLECT_AUTO: BPF, or perf events where it is refused */
	uint32_t copy_bytes;            /* of each stack, that perf samples carry for unwinding; 0: by frame pointers */
	enum collect_oncpu_source oncpu_source;
	uint32_t sample_hz;             /* on-CPU samples a second and CPU, gate open; 49 */
	uint32_t baseline_hz;           /* the same, gate closed; 5; 0 = nothing at all runs while closed */
	uint32_t fault_hz;              /* fault samples a second and CPU, gate open (freq mode, weighted) */
	uint32_t fault_baseline_hz;     /* the same, gate closed */
	uint32_t offcpu_stacks_per_sec; /* stacks walked a second and CPU at switches, beyond which waits are
	                                   sampled at random with weights; 0 = no limit */
	bool known_stacks;              /* a wait's stack that is known is not walked but now and then */
	uint32_t memory_stacks_per_sec; /* changes of memory walked a second and CPU, gate open, beyond which they are
	                                   drawn by their size; 0 = no limit */
	uint32_t memory_baseline_stacks_per_sec; /* the same, gate closed */
	double cpu_budget_closed;       /* share of the machine's CPU time that may be taken, gate closed; 1 = no limit */
	double cpu_budget_open;         /* the same, gate open */
	uint32_t heap_sample_bytes;     /* mean number of bytes between two samples of a watched heap; 0: all allocations */
	uint32_t max_heap_blocks;       /* sampled blocks of watched heaps that are not freed yet */
	double open_above;              /* runnable tasks per online CPU; 5.0 */
	double close_below;             /* 4.0 */
	uint64_t close_after_us;        /* load must stay below close_below this long */
	uint64_t cooldown_us;           /* least time between an automatic close and the next open */
	uint32_t max_stacks;            /* raw stacks in the kernel map */
	uint32_t max_counts;            /* stacks active in one tick */
	uint32_t max_processes;         /* processes active in one tick */
	uint32_t unwind_depth;          /* user frames at which a walk ends; 128 at most */
	uint32_t thread_waits_per_sec;  /* waits told by thread, of the whole machine, beyond which short ones are drawn; 0: none are told */
};

/* A process: pid alone is reused, and exec changes what its addresses mean. */
struct collect_process {
	pid_t pid;             /* tgid in the initial pid namespace */
	uint32_t exec_id;      /* low 32 bits of task->self_exec_id */
	uint64_t start_ns;     /* task->start_boottime of the leader, ns since boot */
	uint64_t cgroup_id;    /* cgroup v2 id (kernfs), 0 when unknown */
	uint32_t uid;          /* real uid in the initial user namespace */
	bool kernel_thread;
	char comm[16];
	uint64_t seen_ns;      /* CLOCK_MONOTONIC: a moment in which it was all this; no part of its identity */
};

enum collect_mapping_kind { COLLECT_FORKED, COLLECT_EXECUTED, COLLECT_MAPPED };

/* What the kernel said of a process's code as it happened. */
struct collect_mapping_event {
	enum collect_mapping_kind kind;
	pid_t pid;
	pid_t parent;     /* COLLECT_FORKED: has the same mappings at that moment */
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	const char *comm; /* COLLECT_EXECUTED: what it is called now */
	/* COLLECT_MAPPED: executable memory */
	uint64_t start, end, offset, inode;
	dev_t device;
	const char *path; /* as in /proc/PID/maps */
};

/* What one raw stack of one process did in this tick. */
struct collect_sample {
	uint64_t raw_id;  /* hash of process, exec and addresses; the frames are asked for by collect_frames() */
	struct collect_process process;
	uint64_t values[METRIC_N]; /* weights applied; units of enum metric */
	const uint64_t *variances; /* of METRIC_N values that are estimates, as store_add_variances() takes them; NULL: they are none */
};

/* Exact totals of one process over this tick, from the kernel's own accounts. Only processes that
 * ran, waited to run, or faulted in it. values[METRIC_HITS] is 0. */
struct collect_total {
	struct collect_process process;
	uint32_t threads;
	uint64_t values[METRIC_N];
};

/* How much more memory a process has than was told before: from nothing when it is first seen to nothing when it ends. */
struct collect_memory {
	struct collect_process process;
	int64_t resident;  /* bytes */
	int64_t anonymous; /* bytes that no file has, in memory or swapped out */
};

/* When an on-CPU sample was taken, or a wait or a part of it ended, of which collect_sample has the sum. */
struct collect_moment {
	uint64_t raw_id;
	uint64_t time_us;   /* realtime */
	uint64_t weight_ns;
	uint32_t tid;
	const char *comm;   /* the thread's, of 16 bytes at most; "": not known */
	enum metric metric; /* on-cpu, blocked or runnable */
	bool drawn;         /* a wait, which stands for others that are shorter */
};

/* Which thread is in a wait of collect_wait. */
struct collect_thread_wait {
	enum { COLLECT_WAIT_BEGINS, COLLECT_WAIT_ENDS, COLLECT_WAITS_END /* of all threads */ } what;
	uint64_t raw_id;
	uint32_t tid;
	struct collect_process process; /* where it begins */
	char comm[16];                  /* as well: the thread's */
};

/* A thread entered (+1) or left (-1) a wait that lasts across ticks on this stack. While it is in,
 * it adds the tick's length to METRIC_BLOCKED of the stack, without a sample. */
struct collect_wait {
	uint64_t raw_id;
	struct collect_process process;
	int threads;
};

struct collect_gate_change {
	uint64_t time_us;  /* realtime */
	bool open;
	double load;       /* runnable tasks per online CPU */
	const char *cause; /* "load", "load-low", "manual", "manual-expired", "pressure-cpu", ...: static string; "budget-...": the gate stays,
	                      what changes is how much is seen */
};

struct collect_tick_info {
	uint64_t time_us;      /* realtime at the end of the tick */
	uint64_t duration_ns;  /* since the last tick ended */
	double load;
	bool gate_open;        /* at the end of the tick; false where switches are left out, to keep a budget */
	uint32_t online_cpus;
	uint64_t drain_ns;     /* what draining cost */
	bool by_thread;        /* waits are told by thread */
};

/* Called in this order within one collect_tick(): mappings, begin, then gates, samples, waits, totals and losses in
 * any order, but moments after all samples, and threads' waits in the order of their time. Strings and structures are valid during the call only. */
struct collect_sink {
	/* The events of one process may come a little out of order. */
	void (*mapping)(void *userdata, const struct collect_mapping_event *event);
	void (*begin)(void *userdata, const struct collect_tick_info *info);
	void (*gate)(void *userdata, const struct collect_gate_change *change);
	void (*sample)(void *userdata, const struct collect_sample *sample);
	/* May be NULL: the raw id of a sample that comes a few samples later, for who wants to fetch what it needs into the cache. */
	void (*soon)(void *userdata, uint64_t raw_id);
	void (*wait)(void *userdata, const struct collect_wait *wait);
	void (*thread_wait)(void *userdata, const struct collect_thread_wait *wait); /* NULL: not wanted */
	void (*total)(void *userdata, const struct collect_total *total);
	void (*memory)(void *userdata, const struct collect_memory *memory); /* NULL: not wanted */
	void (*moment)(void *userdata, const struct collect_moment *moment); /* NULL: not wanted. In no order of time */
	/* cause is a static string such as "counts-full"; n > 0 samples or events lost in this tick */
	void (*loss)(void *userdata, const char *cause, uint64_t n);
};

#define COLLECT_KERNEL_FRAMES_MAX 48
#define COLLECT_USER_FRAMES_MAX 128

struct collect_frames {
	struct collect_process process;
	bool truncated; /* deeper than the limit, or the walk ended early */
	size_t n_kernel, n_user;
	uint64_t kernel[COLLECT_KERNEL_FRAMES_MAX]; /* innermost first */
	uint64_t user[COLLECT_USER_FRAMES_MAX];     /* innermost first */
};

/* Probes attach points, loads and attaches, or opens the rings of perf events. Needs the full privileges of the start; everything after it
 * works with CAP_BPF and CAP_PERFMON, with the opener's help. Logs what it chose and why.
 * helper is borrowed. */
int collect_new(struct collect **ret, const struct collect_config *config, struct helper *helper);
struct collect *collect_free(struct collect *c);
DEFINE_CLEANUP(struct collect *, collect_free)

/* Drains everything since the last call into the sink. Call once a second. Negative errno only when
 * nothing could be drained; partial trouble is a loss. */
int collect_tick(struct collect *c, const struct collect_sink *sink, void *userdata);

/* Readable when so many mappings were made that they should be taken before the next tick; and takes them. */
int collect_mappings_fd(const struct collect *c);
void collect_mappings_dispatch(struct collect *c, const struct collect_sink *sink, void *userdata);

/* The frames of a raw stack; -ENOENT when it has been evicted. */
int collect_frames(struct collect *c, uint64_t raw_id, struct collect_frames *ret);

/* ---- what the programs unwind user stacks by; for daemon/unwind ---- */

struct stackd_unwind_key;     /* bpf/unwind_maps.h */
struct stackd_unwind_process;
struct stackd_unwind_slab;
struct stackd_unwind_tables;
struct stackd_unwind_wanted;

/* NULL where the programs follow frame pointers: not on x86-64. */
struct stackd_unwind_tables *collect_unwind_tables(struct collect *c);
/* Maps a slab of rows, which is made when it isn't there yet; let it go by collect_unwind_slab_done(). -EAGAIN: the kernel takes its time to
 * make it; ask again. */
int collect_unwind_slab(struct collect *c, uint32_t index, struct stackd_unwind_slab **ret);
void collect_unwind_slab_done(struct stackd_unwind_slab *slab);
/* NULL: nothing is known of it any more. */
int collect_unwind_set_process(struct collect *c, const struct stackd_unwind_key *key, const struct stackd_unwind_process *process);
/* Takes what the programs wanted since the last call; gives how many. */
size_t collect_unwind_wanted(struct collect *c, struct stackd_unwind_key *keys, struct stackd_unwind_wanted *wanted, size_t max);
/* Whether every CPU was seen outside of the programs in the last tick: what they could come to before it, none has now. */
bool collect_unwind_settled(const struct collect *c);

/* Readable when the gate changed in the kernel; then call collect_gate_dispatch() at once: it attaches
 * or detaches what the new state asks for. Changes are reported by the next tick's sink->gate. */
int collect_gate_fd(const struct collect *c);
int collect_gate_dispatch(struct collect *c);

/* Opens an automatic gate because something else than the load asks for it; cause is a static string such as "pressure-io". While the
 * cause lasts it must be told again before CloseAfter= is over, else a low load closes the gate. */
int collect_gate_open_for(struct collect *c, const char *cause);

/* GATE_AUTO ends an override. until_us: realtime deadline, USEC_INFINITY for none. */
int collect_gate_set(struct collect *c, enum collect_gate_mode mode, uint64_t until_us);

/* Walks of user stacks by how they ended: "complete", "frame-pointers", or why a walk ended early (bpf/unwind_maps.h). */
#define COLLECT_WALK_ENDS 10

struct collect_walks {
	const char *end;
	uint64_t n, n_last_tick; /* since start */
};

/* ---- heaps that are watched on request ---- */

#define COLLECT_HEAP_WATCHES 16 /* processes at a time */

/* A function of an allocator. */
struct collect_heap_function {
	uint64_t offset;     /* in its file */
	uint64_t start, end; /* in the process */
	unsigned call;       /* enum stackd_heap_call (bpf/heap.h) */
};

/* Whether the kernel takes the programs. */
bool collect_heap_is_possible(const struct collect *c);
/* Makes room for a process; 0: *ret_id names it from here on. -ENOSPC: COLLECT_HEAP_WATCHES are watched; -EOPNOTSUPP: the kernel
 * refused the programs. collect_heap_attach(), which may be called for each of its objects, has its calls counted; path opens the object.
 * Fails with what the kernel gave, -E2BIG for too many functions. What they allocate is noted from collect_heap_start() on. */
int collect_heap_begin(struct collect *c, pid_t pid, uint32_t *ret_id);
int collect_heap_attach(struct collect *c, uint32_t id, const char *path, const struct collect_heap_function *functions, size_t n);
int collect_heap_start(struct collect *c, uint32_t id);

struct collect_heap_cost {
	uint64_t calls;  /* that met a probe since some time */
	double probe_ns; /* that one takes, of CPU time, at least; measured when the first process begins, which takes some milliseconds */
};
/* -ENOENT: there is no such watch. */
int collect_heap_get_cost(struct collect *c, uint32_t id, struct collect_heap_cost *ret);
/* The process itself (pid, exec_id, start_ns), which the first tick after the beginning finds out; false: not yet. */
bool collect_heap_process(const struct collect *c, uint32_t id, struct collect_process *ret);
/* Whether it has executed another program since: nothing is noted of that. */
bool collect_heap_executed(const struct collect *c, uint32_t id);
/* The same for the kernel's own memory. With its id the functions above work, too, but attach and process. -EBUSY: it is watched;
 * -EOPNOTSUPP: the kernel lacks the tracepoints or refused the programs. collect_heap_get_cost() counts all allocations and releases. */
int collect_kmem_begin(struct collect *c, uint32_t *ret_id);
/* Takes the probes away and forgets the blocks. */
void collect_heap_end(struct collect *c, uint32_t id);

#define COLLECT_HEAP_AGES 3 /* older than a minute, ten minutes, an hour */

/* What blocks that are not freed yet hold for the stack that allocated them. */
struct collect_heap_stack {
	uint32_t watch;  /* id */
	uint32_t blocks; /* that were sampled */
	uint64_t raw_id;
	int64_t bytes;   /* that they stand for */
	int64_t older[COLLECT_HEAP_AGES]; /* of these */
};

/* Goes on counting them. Gives true when all have been counted, with *ret valid until the next call; *ret_left_out: bytes of stacks that
 * there was no room for. While nothing is watched it gives false. */
bool collect_heap_census(struct collect *c, const struct collect_heap_stack **ret, size_t *ret_n, int64_t *ret_left_out);

/* What stackd may cost, and costs: shares of the machine's CPU time. */
struct collect_budget {
	double allowed;              /* as the gate is; 1: no limit */
	double user, kernel;         /* in the last tick: the daemon and its helpers; programs and events */
	bool measured;               /* the kernel's part; else it is an estimate of events alone */
	bool judged;                 /* whether the last tick counts: the first don't */
	double rates;                /* what the configured rates are multiplied by, up to 1 */
	const char *left_out[3];     /* what is not seen at all: "switches", "address-spaces", "resident-memory"; NULL at the end, or before */
	size_t n_left_out;
	const char *cause;           /* of the last change, as in struct collect_gate_change; NULL: there was none */
	uint64_t changed_us;         /* realtime; 0 */
};

struct collect_status {
	const char *source;          /* "bpf", "perf" */
	const char *source_reason;   /* why it is that */
	uint32_t unmeasured;         /* bits of enum metric: of these it sees no stacks */
	const char *unwind_source;   /* what user stacks are walked by */
	uint32_t sampled_processes, sampled_processes_max; /* known by the source; 0 of BPF, where the kernel knows them */
	bool gate_open;
	enum collect_gate_mode gate_mode;
	uint64_t gate_until_us;      /* deadline of the override; USEC_INFINITY */
	double load;
	const char *load_source;     /* "pelt_cfs_tp", "update_rq_clock (fentry)", "/proc/loadavg", ... */
	const char *oncpu_source;    /* "perf_event cpu-clock 49 Hz", "update_rq_clock (kprobe)", ... */
	const char *offcpu_source;
	const char *faults_source;
	const char *memory_source;
	const char *rss_source;      /* with how many bytes came or went without a stack */
	const char *totals_source;
	uint32_t online_cpus;
	uint32_t stacks, stacks_max; /* raw stacks in the kernel map */
	uint32_t counts_peak, counts_max; /* most active in one tick */
	uint64_t map_bytes;          /* memory of the BPF maps, as fdinfo's memlock says */
	uint64_t program_ns;         /* run time of our programs since start; 0 when bpf_stats is off */
	const char *heap_source;     /* "uprobe session", ... */
	uint32_t heap_watches, heap_watches_max;
	uint32_t heap_blocks, heap_blocks_max;
	const char *kmem_source;
	uint32_t kernel_blocks, kernel_blocks_max;
	struct collect_walks walks[COLLECT_WALK_ENDS];
	struct collect_budget budget;
};
void collect_get_status(const struct collect *c, struct collect_status *ret);

/* Takes what can be changed while running (rates, gate); the maps' sizes stay. */
int collect_reconfigure(struct collect *c, const struct collect_config *config);
