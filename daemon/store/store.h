/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bounded ring store: interned stacks, processes and workloads, and what each did in every tick.
 * Pure: it works in memory that the caller gives (a mapped memfd), does no I/O, and takes time as a
 * parameter.
 *
 *   arena ─┬─ header: magic, layout version, sizes, commit sequence
 *          ├─ dictionaries: strings, frames, stacks, workloads, processes, slices, series (+ detector state)
 *          ├─ tiers: one ring of tick blocks each; a block holds what was not zero (varint deltas)
 *          ├─ runs: waits that do not change, as (slice, from, until, threads), costing nothing a tick
 *          ├─ pins: copies of the blocks around anomalies, at most a quarter of the arena
 *          └─ logs: anomalies, gate changes
 *
 * Everything in it is reached by offsets and indices, never by pointers, and a tick appears to a reader whole
 * or not at all.
 *
 * Blocks keep a value's leading 8 bits: a single step's figure is exact below 256 and off by 1 in 512 at most
 * above. What rounding leaves over is carried into the same slice's next value, so that a sum over any window
 * is off by no more than one such rounding at either end of each stretch of a tier, however long the window
 * is. On-CPU time that is hits times the sampling period is exact as long as the hits are. The detector sees
 * the values as they were added. */
#pragma once

#include "base.h"

struct store;

#define STORE_TIERS 3
#define STORE_LOSS_CAUSES_MAX 24

struct store_tier_config {
	uint32_t step_s;  /* 1, 10, 60 */
	uint32_t keep_s;  /* 900, 14400, 172800 */
};

struct store_config {
	struct store_tier_config tiers[STORE_TIERS];
	uint32_t series_state_size; /* bytes of detector state kept with each series */
	uint32_t global_state_size; /* bytes of detector state kept once */
	uint32_t slices_per_series; /* processes told apart in one series; more are summed in the slice of
	                               process with pid 0, named after the workload's executable */
};

/* Opens or formats size bytes at arena (8-byte aligned, at least 1 MiB). An arena that holds a valid store of
 * the same layout, size and configuration is continued: uncommitted work is dropped, open runs end at the
 * last commit. *ret_reused says which. Damaged or foreign content is formatted anew. The arena stays the
 * caller's and must outlive the store. */
int store_open(struct store **ret, void *arena, size_t size, const struct store_config *config,
               bool *ret_reused);
/* Whether it begins as a store of that size and configuration: else store_open() would format it. Allocates nothing. */
bool store_is_of(const void *arena, size_t size, const struct store_config *config);
struct store *store_close(struct store *s);
DEFINE_CLEANUP(struct store *, store_close)

/* ---- writing; one tick at a time ---- */

/* Names an entry of a dictionary; 0 = none. A ref that was interned or found in the open tick is good until
 * its commit. Later it may be reclaimed: then it is refused with -ENOENT, it never means something else. */
typedef uint32_t store_ref;

struct store_frame {
	uint64_t id;
	const char *display;  /* "main", "[libc.so.6+0x2718a]" */
	const char *object;   /* "libc.so.6", "[kernel]" */
	uint8_t kind;         /* enum frame_kind of symbol/ */
	/* Of its object, where they are known. They go with the id: what a frame is interned with first stays. */
	const char *build_id; /* in hexadecimal; "" (NULL, when it is interned): not known */
	uint64_t address;     /* by the object's program headers: where the function begins, or the call is when none has a name;
	                         0: not known */
};

struct store_process {
	pid_t pid;
	uint32_t exec_id;
	uint64_t start_ns; /* since boot */
	uint64_t start_us; /* the same in realtime, for people: the store outlives boots; not part of the identity */
	uint32_t uid;
	const char *comm, *exe, *unit, *cgroup;
};

/* Each interns and gives the same ref for the same content; when room is needed, what was used longest ago is
 * reclaimed, and counted. Blocks that still mention it then count for its series' or workload's "other", or
 * not at all; never for what took its place. -ENOSPC only when nothing can be reclaimed. Looking up needs no
 * interning: 0 = not there. Processes have pid > 0; pid 0 stands for those that are not told apart. A stack
 * has at most 1024 frames, a string 4095 bytes; more of a string is cut. */
int store_intern_stack(struct store *s, uint64_t stack_id, const struct store_frame *frames, size_t n,
                       bool truncated, store_ref *ret);
int store_intern_process(struct store *s, const struct store_process *process, store_ref *ret);
store_ref store_find_stack(const struct store *s, uint64_t stack_id);
/* The stack's id, or 0 when the ref is stale. In an open tick the stack is not reclaimed before its end, as when found. */
uint64_t store_keep_stack(const struct store *s, store_ref stack);
store_ref store_find_process(const struct store *s, pid_t pid, uint32_t exec_id, uint64_t start_ns);

struct store_loss {
	char cause[32];
	uint64_t n;
};

/* What a loss takes something from: what was lost of one metric says nothing of another. */
enum store_lost {
	STORE_LOST_SAMPLES, /* all metrics */
	STORE_LOST_WAITS,
	STORE_LOST_MEMORY,  /* faults, and all that is counted in bytes */
	STORE_LOST_N,
	STORE_LOST_NOTHING = STORE_LOST_N, /* totals, names or alarms, but no sum of stacks */
};

struct store_tick {
	uint64_t time_us;      /* realtime at its end */
	uint64_t duration_ns;
	uint32_t load_milli;   /* 1000 x runnable tasks per CPU */
	uint32_t online_cpus;
	bool gate_open;
	size_t n_losses;
	struct store_loss losses[STORE_LOSS_CAUSES_MAX];
};

/* -EALREADY when one is open. What is added outside of a tick is refused with -EPERM. */
int store_tick_begin(struct store *s, uint64_t time_us, uint64_t duration_ns);
/* Adds to the slice (process, stack) in the open tick. Many calls for one slice add up. -ENOSPC is counted as
 * loss "store-full". */
int store_add(struct store *s, store_ref process, store_ref stack, const uint64_t values[static METRIC_N]);
/* How sure what was added is, where it is an estimate: the sampling variance of each metric in the square of its unit, in units of 1024 ns and
 * 1024 bytes where it counts these. It adds up as the values do, and is kept to an eighth. Known are those of blocked to mmap in enum metric;
 * others are left out, as is what has no slice. */
int store_add_variances(struct store *s, store_ref process, store_ref stack, const uint64_t variances[static METRIC_N]);
/* threads threads (may be negative: left) of this process entered the wait at this stack. While in, they add
 * duration_ns of each tick to METRIC_BLOCKED: of the tick in which they enter, not of that in which they
 * leave. Leaving what was not entered is ignored. */
int store_wait(struct store *s, store_ref process, store_ref stack, int threads);
/* The process's exact totals in this tick; kept apart from the stacks. */
int store_add_total(struct store *s, store_ref process, const uint64_t values[static METRIC_N]);

/* Visits every live series: in this tick not silent, or not silent within live_ticks before (values are then
 * 0), or with a wait that changed. values are sums over its slices, waits included. state is zeroed when the
 * series is new. */
struct store_series {
	store_ref ref;
	uint64_t id;               /* hash of workload and stack id: stable across restarts */
	store_ref stack;
	store_ref top_process; /* of the slice with the largest share of any metric in this tick; in a silent
	                        * one, of that last seen; never 0: pid 0 with the workload's uid, unit and exe
	                        * stands for those not told apart */
	uint64_t first_seen_us;
	uint32_t silent_ticks;     /* before this one, in which it was not visited */
	uint64_t values[METRIC_N];
	void *state;
};
typedef void (*store_series_fn)(void *userdata, const struct store_series *series);
/* What fn does to state stays even when the tick is never committed. */
void store_tick_visit(struct store *s, uint32_t live_ticks, store_series_fn fn, void *userdata);
/* What a series has in the open tick, as store_tick_visit() gives it. -ENOENT when there is no such series. */
int store_series_now(const struct store *s, uint64_t series_id, uint64_t ret[static METRIC_N]);
/* What the detector keeps of a series; NULL when there is no such series. */
const void *store_series_state(const struct store *s, uint64_t series_id);
void *store_global_state(struct store *s);

/* Makes the tick part of the store: tiers, eviction, runs. tick->time_us and duration as given to
 * store_tick_begin(). */
int store_tick_commit(struct store *s, const struct store_tick *tick);

/* ---- anomalies and gate changes ---- */

struct store_anomaly {
	uint64_t id;           /* given by store_add_anomaly(): grows by one, survives restarts */
	uint64_t time_us;      /* when it was found */
	uint64_t since_us;     /* when it began */
	uint8_t type;          /* enum detect_type */
	uint8_t metric;        /* enum metric */
	bool gate_open;
	double score;          /* -log10 of the calibrated p-value */
	double p_value;
	double observed, expected; /* metric's unit per second */
	double load;
	uint64_t series_id, stack_id;
	uint32_t uid;
	pid_t pid;             /* the process with most of it; 0 = none */
	uint64_t process_start_us; /* realtime */
	char comm[16];
	char exe[256], unit[256], cgroup[256]; /* whole: one filters by them */
};
/* Keeps it and pins the ticks from a minute before to a minute after. Sets anomaly->id. */
int store_add_anomaly(struct store *s, struct store_anomaly *anomaly);

struct store_gate_change {
	uint64_t time_us;
	bool open;
	double load;
	char cause[32];
};
int store_add_gate_change(struct store *s, const struct store_gate_change *change);

/* ---- reading; any time between ticks ---- */

#define STORE_ANY_UID UINT32_MAX

/* NULL, 0 and STORE_ANY_UID match everything. The window is (since_us, until_us]; what the finest tier that
 * still holds a moment says is used for that moment, pins included. (Sums take a coarse block where it holds
 * the very same ticks.) */
struct store_filter {
	uint64_t since_us, until_us; /* realtime; until 0 = now */
	uint32_t viewer_uid;         /* sees only what runs under this uid */
	pid_t pid;
	/* unit: exact, ".service" may be left out; cgroup: the path or anything below it */
	const char *unit, *cgroup;
	const char *comm, *exe;      /* exe of a kernel thread: "[comm]" */
	uint64_t stack_id;           /* 0 = any */
	uint64_t series_id;          /* 0 = any */
};

struct store_slice_sum {
	store_ref process, stack;
	uint64_t series_id;
	/* over the window, ongoing waits included; for ticks partly inside the whole tick counts */
	uint64_t values[METRIC_N];
	/* beginning of the first and end of the last step in the window that mentions it */
	uint64_t first_us, last_us;
};
/* Visits every slice with something in the window, in no order. fn returns 0 to go on, else the visit ends
 * with that value. */
typedef int (*store_slice_fn)(void *userdata, const struct store_slice_sum *sum);
int store_visit_slices(struct store *s, const struct store_filter *filter, store_slice_fn fn, void *userdata);
/* The same for the variances of what is an estimate: in values, as store_add_variances() has them. */
int store_visit_variances(struct store *s, const struct store_filter *filter, store_slice_fn fn, void *userdata);
/* The same for the processes' exact totals; stack and series_id are 0, and are no filters. */
int store_visit_totals(struct store *s, const struct store_filter *filter, store_slice_fn fn, void *userdata);

/* The totals, and of the ticks in which a process did nothing, and so has none, what its threads waited in: so that on-CPU, blocked and
 * runnable come to the time that its threads were there. Of windows of which single ticks are not kept any more it is less than that if
 * what a process does changes within them. -ENOMEM. */
int store_visit_wall(struct store *s, const struct store_filter *filter, store_slice_fn fn, void *userdata);

struct store_point {
	uint64_t time_us;      /* end of the step */
	uint32_t step_s;       /* 1, 10 or 60 */
	bool gate_open;        /* at any time within */
	uint32_t load_milli;   /* mean */
	uint64_t values[METRIC_N]; /* sums over everything that matches the filter */
	uint64_t lost[STORE_LOST_N];
};
/* What of it concerns a metric; METRIC_ALL_N: all. */
static inline uint64_t store_lost_of(const struct store_point *point, enum metric metric)
{
	bool any = metric >= METRIC_ALL_N, waits = metric == METRIC_BLOCKED || metric == METRIC_RUNNABLE || metric == METRIC_OFF_CPU;
	uint64_t sum = point->lost[STORE_LOST_SAMPLES];

	if (any || waits)
		sum += point->lost[STORE_LOST_WAITS];
	if (any || (!waits && metric != METRIC_ON_CPU && metric != METRIC_HITS))
		sum += point->lost[STORE_LOST_MEMORY];
	return sum;
}
/* Visits every step of the window, oldest first; steps without anything too. */
typedef int (*store_point_fn)(void *userdata, const struct store_point *point);
int store_visit_points(struct store *s, const struct store_filter *filter, store_point_fn fn, void *userdata);

/* Newest first, until fn returns something else than 0. filter: window (of time_us), viewer, pid, unit,
 * cgroup, comm, exe, stack, series. */
typedef int (*store_anomaly_fn)(void *userdata, const struct store_anomaly *anomaly);
int store_visit_anomalies(const struct store *s, const struct store_filter *filter, store_anomaly_fn fn,
                          void *userdata);
typedef int (*store_gate_fn)(void *userdata, const struct store_gate_change *change);
int store_visit_gate(const struct store *s, uint64_t since_us, uint64_t until_us, store_gate_fn fn,
                     void *userdata);

/* Whether a process is one of the filter's; the filter's window, stack and series don't matter. One that was reclaimed is nobody's: it is
 * only of a filter that asks for nothing. */
bool store_process_matches(const struct store *s, const struct store_filter *filter, store_ref process);

/* Strings point into the arena: valid until the next write. Gives -ENOENT for a ref that was reclaimed. */
int store_get_process(const struct store *s, store_ref process, struct store_process *ret);
/* Fills at most max frames, in the order in which they were given; ret_n is the stack's depth. */
int store_get_stack(const struct store *s, store_ref stack, uint64_t *ret_stack_id, bool *ret_truncated,
                    struct store_frame *ret_frames, size_t max, size_t *ret_n);
/* The ids of its frames alone, at most max, for who needs no names; gives how many. 0 for a ref that was reclaimed. */
size_t store_get_frame_ids(const struct store *s, store_ref stack, uint64_t *ret, size_t max);

struct store_status {
	uint64_t size, used;           /* bytes */
	uint64_t ticks;                /* committed since the arena was formatted */
	uint64_t oldest_us[STORE_TIERS], newest_us;
	uint64_t points[STORE_TIERS], bytes[STORE_TIERS]; /* non-zero values held and the bytes they take */
	uint64_t evicted_blocks[STORE_TIERS];
	uint32_t stacks, stacks_max, processes, processes_max, series, series_max, slices, slices_max, runs,
		runs_max, strings, strings_max;
	uint64_t reclaimed_stacks, reclaimed_processes, reclaimed_series, reclaimed_slices;
	uint64_t lost_runs;            /* waits that ended and found no room */
	uint64_t full;                 /* additions refused for lack of room */
	uint32_t anomalies, anomalies_max, pins; /* pins: ticks kept */
	uint64_t pin_bytes, pin_bytes_max;
};
void store_get_status(const struct store *s, struct store_status *ret);
/* Losses by cause since the arena was formatted. */
size_t store_get_losses(const struct store *s, struct store_loss ret[static STORE_LOSS_CAUSES_MAX]);
