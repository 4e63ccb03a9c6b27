/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this room share. */
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <pthread.h>

#include "budget.h"
#include "collect.h"
#include "gate.h"
#include "helper.h"
#include "perf_ring.h"
#include "../../bpf/heap.h"
#include "../../bpf/records.h"
#include "../../bpf/unwind_maps.h"

struct stackd_bpf;  /* stackd.skel.h */

_Static_assert((int)STACKD_METRICS == (int)METRIC_N && (int)STACKD_HITS == (int)METRIC_HITS &&
               (int)STACKD_ON_CPU == (int)METRIC_ON_CPU && (int)STACKD_BLOCKED == (int)METRIC_BLOCKED &&
               (int)STACKD_RUNNABLE == (int)METRIC_RUNNABLE &&
               (int)STACKD_FAULTS_MINOR == (int)METRIC_FAULTS_MINOR &&
               (int)STACKD_FAULTS_MAJOR == (int)METRIC_FAULTS_MAJOR &&
               (int)STACKD_BRK == (int)METRIC_BRK && (int)STACKD_MMAP == (int)METRIC_MMAP &&
               (int)STACKD_HEAP == (int)METRIC_HEAP && (int)STACKD_RSS == (int)METRIC_RSS &&
               (int)STACKD_FAULTS_FILE == (int)METRIC_FAULTS_FILE && (int)STACKD_KMEM == (int)METRIC_KMEM,
               "one enumeration on both sides");
_Static_assert(STACKD_KERNEL_FRAMES == COLLECT_KERNEL_FRAMES_MAX && STACKD_USER_FRAMES == COLLECT_USER_FRAMES_MAX,
               "one limit on both sides");

static inline struct gate_time gate_now(void)
{
	return (struct gate_time){ .mono_us = clock_monotonic_ns() / NSEC_PER_USEC, .real_us = clock_realtime_us() };
}

/* ---- kernel_text.c ---- */

/* A function of the kernel that is there for tracing only. */
struct hook {
	const char *name;
	uint64_t start, end; /* 0: unknown */
};

/* Fills in where these are, and the scheduling functions (.sched.text); 0: unknown. Reads /proc/kallsyms, which takes some milliseconds. */
void kernel_text_find(struct hook *hooks, size_t n_hooks, uint64_t *ret_sched_start, uint64_t *ret_sched_end);
/* Leaves out the frame of such a function and those inside it. Returns the new n. */
size_t frames_without_hook(uint64_t *frames, size_t n, const struct hook *hooks, size_t n_hooks);
/* Leaves out the kernel's way from the page fault to here, so that a stack is the same as that of a sampled fault; maybe all frames. */
size_t frames_without_fault(uint64_t *frames, size_t n, const struct hook *fault);
/* Leaves out the frames of a stack taken at a switch that the stack of a waiting thread doesn't have: our program's and
 * those of .sched.text, which the kernel skips there. So a wait has one stack, whoever walked it. Returns the new n. */
size_t frames_without_switch(uint64_t *frames, size_t n, uint64_t sched_start, uint64_t sched_end);

/* ---- programs.c: what this kernel lets us load and attach ---- */

enum oncpu_choice { ONCPU_BY_PERF, ONCPU_BY_FENTRY, ONCPU_BY_KPROBE };

enum heap_choice { HEAP_BY_SESSION, HEAP_BY_MULTI, HEAP_BY_EVENTS, HEAP_NOT_AT_ALL };

/* enum bpf_attach_type of kernels newer than the headers that we are built with. */
#define ATTACH_UPROBE_MULTI 48
#define ATTACH_UPROBE_SESSION 57

/* What the programs write for the daemon, in halves that are turned over by drain_flip(). */
struct halves {
	struct stackd_control *control;
	struct stackd_guard *guards;
	int counts[2], exits[2], losses; /* map descriptors, borrowed */
	struct stackd_wait_sum *wait_sums; /* mapped; NULL: there are none */
};

enum { HOOK_MAPS, HOOK_RSS, HOOK_FAULT, HOOKS };

struct programs {
	struct stackd_bpf *skel;
	struct halves halves;
	enum oncpu_choice oncpu;
	bool sleepable_iterator;
	bool load_by_timer;        /* no tracepoint shows the load: the daemon asks */
	bool exit_attached;
	const char *load_source;
	uint64_t sched_start, sched_end; /* the kernel's scheduling functions (.sched.text); 0: unknown */
	struct hook hooks[HOOKS];
	uint32_t known_places;     /* for stacks of waits that are known */
	struct bpf_link *switch_links[3];
	struct bpf_link *maps_links[2];
	bool maps_offered;         /* the kernel has tracepoints in the lock of an address space */
	bool maps_with_path;       /* of a cgroup, which they pass then */
	bool maps_cheap;           /* page faults do without that lock */
	enum heap_choice heap;
	bool kmem_offered;         /* the kernel has the tracepoints of its allocators, as we know them, and took the programs */
};

int programs_load(struct programs *p, const struct collect_config *config);
void programs_unload(struct programs *p);
/* sched_switch and what goes with it; attached only while the gate is open. */
int programs_attach_switch(struct programs *p);
void programs_detach_switch(struct programs *p);
/* The lock of address spaces, at which brk and mmap are seen. */
int programs_attach_maps(struct programs *p);
void programs_detach_maps(struct programs *p);
/* Every change of resident memory; costs at every page fault. -EOPNOTSUPP: the kernel doesn't tell. */
int programs_attach_rss(struct programs *p);
void programs_detach_rss(struct programs *p);
uint64_t programs_map_bytes(const struct programs *p);
/* Memory of one map, by its descriptor. */
uint64_t map_memlock(int fd);
uint64_t programs_run_ns(const struct programs *p);
/* Runs of our programs that the kernel skipped because one was running already, since start. */
uint64_t programs_skipped(const struct programs *p);
/* The same of those that see the kernel's memory. */
uint64_t programs_skipped_kmem(const struct programs *p);

/* ---- cpus.c ---- */

#define CPUS_MAX 4096

struct cpu_set_bits {
	uint64_t bits[CPUS_MAX / 64];
};

/* Parses "0-3,8,10-11". Gives -EINVAL for anything else, -ERANGE for a CPU beyond CPUS_MAX. */
int cpus_parse(const char *list, struct cpu_set_bits *ret);
int cpus_read(const char *path, struct cpu_set_bits *ret);
int cpus_online(struct cpu_set_bits *ret);
uint32_t cpus_count(const struct cpu_set_bits *set);

static inline bool cpus_has(const struct cpu_set_bits *set, uint32_t cpu)
{
	return cpu < CPUS_MAX && set->bits[cpu / 64] >> cpu % 64 & 1;
}

/* ---- perf_events.c: one set of events on each online CPU ---- */

struct perf_cpu;

struct perf_events {
	struct helper *helper;
	struct bpf_program *clock, *minor, *major; /* clock is NULL where update_rq_clock is used */
	struct perf_cpu *cpus;     /* by CPU number */
	uint32_t n_cpus;           /* possible CPUs */
	struct cpu_set_bits online;
	uint32_t clock_hz;         /* 0: disabled */
	uint64_t minor_period, major_period; /* every nth fault is sampled; 0: none */
	uint64_t failed;           /* events that could not be opened since the last tick */
	int fault_error, clock_error; /* why the first one failed */
};

int perf_events_open(struct perf_events *e, struct helper *helper, const struct programs *p, uint32_t n_cpus);
void perf_events_close(struct perf_events *e);
/* Takes the period, or the frequency, and enables the event; or disables it. */
void perf_event_set_rate(int fd, uint64_t value, bool on);
/* Whether one is enough above the other, or only one of them 0, to change a rate, which costs an interrupt on every CPU. */
bool perf_event_rates_differ(uint64_t a, uint64_t b);
void perf_events_set_clock(struct perf_events *e, uint32_t hz);
/* Every nth fault is sampled; 0: none. Then there is no event for minor ones, since it costs all of them something; what it counts later begins
 * anew, as control->fault_session says. */
void perf_events_set_minor_faults(struct perf_events *e, uint64_t period);
void perf_events_set_major_faults(struct perf_events *e, uint64_t period);
/* Nanoseconds between two samples of so many a second; 0 gives that of 1. A little more than that, to be out of step with the second. */
uint64_t perf_events_clock_period(uint32_t hz);
/* The n that gives about hz samples a second at this rate of faults, at least `least`. */
uint64_t perf_events_fault_period(double faults_per_sec, uint32_t hz, uint64_t least);
/* Opens events on CPUs that came, closes those of CPUs that went. Gives whether anything changed. */
bool perf_events_follow_cpus(struct perf_events *e);

/* ---- faults.c: when page faults are sampled ---- */

#define FAULT_EVENT_NS 70.0 /* what the event costs each fault, sampled or not */

/* How much of a tick was seen. */
struct fault_part {
	double window;             /* the least part of it, up to 1 */
	bool weighted;             /* what was seen after a storm began is counted for what was not seen already */
};

struct faults {
	struct perf_events *events;
	struct stackd_control *control;
	int timer_fd;              /* when a window begins, or ends */
	double window;             /* share of a tick in which minor faults are seen; 1: always */
	uint64_t period;           /* of minor faults, while they are seen */
	bool seen, full;
	uint32_t budget;           /* samples walked, of a CPU and tick */
	uint32_t windows, windows_left; /* in a tick; with the one that goes on */
	double part_s, window_s;   /* what each of them has of the time, and its own length, seconds */
	double after_s;            /* from the end of the last one to that of its part */
	struct fault_part part;    /* of the current tick, so far */
};

/* The same for who looks at the time again and again, and has no timer of its own. */
struct fault_window {
	double share;              /* of the tick */
	uint64_t from_ns, until_ns;
};
/* At a tick's begin. */
void fault_window_begin(struct fault_window *w, double share, uint64_t now_ns);
bool fault_window_sees(const struct fault_window *w, uint64_t now_ns);

/* Of what was drawn as one of so many and counted as this many ns, as store_add_variances() takes it. */
static inline uint64_t variance_of_drawn(uint64_t counted_ns, uint32_t one_of)
{
	uint64_t counted = MIN(counted_ns >> STACKD_VARIANCE_SHIFT, 1ULL << 28), square = counted * counted;

	return square - square / MAX(one_of, 1U);
}

/* What brings the counts of a tick that was seen in part to all of its faults. */
struct fault_scale {
	double factor, window;
	uint64_t unseen;           /* faults for which nothing stands */
};

/* The part of a tick in which so many faults a second of the whole machine are to be seen, up to 1. full: the gate is open. */
double faults_window(double faults_per_sec, bool full);
/* seen: faults that the samples of this part of the tick stand for, of exact that there were. */
void faults_scale(uint64_t seen, uint64_t exact, const struct fault_part *part, struct fault_scale *ret);
void faults_apply_scale(const struct fault_scale *scale, uint64_t values[static METRIC_N], uint64_t variances[static METRIC_N]);
int faults_init(struct faults *f, struct perf_events *events, struct stackd_control *control);
void faults_done(struct faults *f);
/* hz: samples a second and CPU, 0: none. Rates: faults a second and CPU in the last tick. full: at any price. Begins a tick. */
void faults_set_rates(struct faults *f, uint32_t hz, bool full, double minor_rate, double major_rate, uint32_t cpus);
/* timer_fd is readable. */
void faults_timer(struct faults *f);
/* The programs tell that the tick has had many faults already. */
void faults_storm(struct faults *f, uint64_t now_ns);
/* How much of the tick was seen since the last call. */
struct fault_part faults_take_part(struct faults *f);

/* ---- run_time.c: what our programs cost ---- */

#define RUN_TIME_PROGRAMS_MAX 48

struct run_time_program {
	int fd;                    /* borrowed */
	enum budget_events events; /* BUDGET_EVENTS: none of them */
	uint64_t began_ns;         /* run time when the window began */
};

struct run_time {
	struct helper *helper;
	struct run_time_program programs[RUN_TIME_PROGRAMS_MAX];
	size_t n;
	int timer_fd;              /* when a window begins, or ends */
	int stats_fd;              /* while it is open the kernel counts */
	uint64_t began_ns;
	uint32_t pause;            /* ticks without a window */
	int error;
	/* of the last window: CPUs' worth */
	bool measured;
	double share, events[BUDGET_EVENTS];
};

int run_time_init(struct run_time *t, const struct programs *p, struct helper *helper);
void run_time_done(struct run_time *t);
/* timer_fd is readable. */
void run_time_timer(struct run_time *t);
/* Begins a tick. */
void run_time_tick(struct run_time *t);

/* ---- mapping_events.c: what the kernel says of processes' code ---- */

struct mapping_events {
	struct helper *helper;
	struct perf_ring *rings; /* by CPU number */
	uint32_t n_cpus, ring_size;
	int epoll_fd;
	int error;                  /* why the first one could not be opened */
	void *record;               /* scratch */
	uint64_t lost;
};

/* No ring is open yet. Free with mapping_events_close() whatever this gives. */
int mapping_events_open(struct mapping_events *e, struct helper *helper, uint32_t n_cpus);
void mapping_events_close(struct mapping_events *e);
void mapping_events_follow_cpus(struct mapping_events *e, const struct cpu_set_bits *online);
void mapping_events_drain(struct mapping_events *e, const struct collect_sink *sink, void *userdata);
/* Records that were lost, or made no sense, since the last call. */
uint64_t mapping_events_take_lost(struct mapping_events *e);
uint64_t mapping_events_bytes(const struct mapping_events *e);
/* 1: *ret is filled, its path points into the record; 0: a record that says nothing to us, or adds to *lost; -EBADMSG. The record is aligned
 * to 8 bytes. */
int mapping_event_parse(const void *record, size_t size, struct collect_mapping_event *ret, uint64_t *lost);

/* ---- unwind_maps.c: what the programs unwind user stacks by ---- */

/* A thread that waits for the kernel to take a slab. */
struct slab_maker {
	pthread_t thread;
	bool running;              /* it has not been joined */
	int outer;                 /* map descriptor, borrowed */
	uint32_t index;
	int fd;                    /* its result: the slab, or negative errno */
};

struct unwind_maps {
	struct slab_maker maker;
	int slabs[STACKD_UNWIND_SLABS_MAX]; /* descriptors, -EBADF: not made yet */
	struct collect_walks walks[COLLECT_WALK_ENDS];
};
_Static_assert(COLLECT_WALK_ENDS == STACKD_UNWIND_ENDS + 1, "by frame pointers is one more");

void unwind_name_ends(struct collect_walks walks[static COLLECT_WALK_ENDS]);
void unwind_maps_init(struct unwind_maps *m);
/* While the programs' maps are there. */
void unwind_maps_done(struct unwind_maps *m);
/* -EAGAIN: it is not there yet, and will be. */
int unwind_maps_slab(struct unwind_maps *m, const struct bpf_map *outer, uint32_t index, struct stackd_unwind_slab **ret);
/* per_cpu: scratch, one a possible CPU. */
void unwind_maps_count_walks(struct unwind_maps *m, const struct bpf_map *map, uint64_t *per_cpu, int n_cpus);
size_t unwind_maps_take_wanted(const struct bpf_map *map, struct stackd_unwind_key *keys, struct stackd_unwind_wanted *wanted,
                               size_t max);

/* ---- known.c: how far what is known of stacks is believed ---- */

struct known {
	struct stackd_control *control;
	bool wanted;
	struct stackd_known *per_cpu;   /* scratch */
	struct stackd_known sum, tick;  /* since start, and of the last tick */
	uint32_t ticks_left;            /* in doubt, or off */
};

/* Places for stacks, a power of two. */
uint32_t known_places(int n_cpus);
void known_init(struct known *k, struct stackd_control *control, uint32_t places);
void known_set(struct known *k, bool wanted);
void known_done(struct known *k);
/* What is known may not hold any more. Before the flip of a tick in which stacks may be evicted; after a change of what walks go by. */
void known_forget(struct known *k);
/* Reads what the programs counted. Gives how many waits were counted on a wrong stack in this tick, as far as the checked ones tell. */
uint64_t known_tick(struct known *k, int fd, int n_cpus);
/* Looks more often, or turns it off, after a tick in which too much was wrong. */
void known_judge(struct known *k, const struct stackd_known *tick);
void known_describe(const struct known *k, char *buf, size_t size);

/* ---- heap.c: probes in the allocators of watched processes ---- */

struct heap_link {
	int fd;                    /* of a link to many functions, or -EBADF */
	struct bpf_link *one;      /* or of a link to one */
};

struct heap_probes {
	uint32_t id;               /* 0: free */
	pid_t pid;
	struct heap_link *links;
	size_t n_links, max_links;
};

/* Where blocks are noted. */
enum { BLOCKS_OF_HEAPS, BLOCKS_OF_KERNEL, BLOCKS_N };

/* heap_census.c */
struct heap_census {
	const int *blocks; /* BLOCKS_N map descriptors, borrowed; negative: there is none now */
	unsigned at;       /* of these */
	struct collect_heap_stack *stacks;
	struct map64 *index;
	size_t n;
	int64_t left_out;
	uint32_t cursor;   /* the kernel keeps a bucket's number here */
	bool under_way, started;
};

int heap_census_init(struct heap_census *c, const int blocks[static BLOCKS_N]);
void heap_census_done(struct heap_census *c);
void heap_census_begin(struct heap_census *c);
void heap_census_add(struct heap_census *c, uint64_t now_ns, const struct stackd_heap_key *key, const struct stackd_heap_block *block);
/* Reads some; true: all have been read, and the next step begins anew. */
bool heap_census_step(struct heap_census *c);

struct heap {
	const struct programs *programs;
	struct helper *helper;
	struct heap_census census;
	struct stackd_heap *shared; /* with the programs */
	int blocks[BLOCKS_N];       /* map descriptors; that of the kernel's is struct kmem's */
	uint32_t max_blocks, last_id;
	struct heap_probes probes[STACKD_HEAP_WATCHES];
	struct map64 *held;         /* raw ids of stacks that blocks refer to */
	int calls;                  /* map descriptor, borrowed */
	double probe_ns;            /* that a probe takes; 0: not measured yet */
};

int heap_init(struct heap *h, const struct programs *p, struct helper *helper, uint32_t max_blocks);
void heap_done(struct heap *h);
/* The mean number of bytes between two samples; 0: everything is taken. */
void heap_set_mean(struct heap *h, uint32_t bytes);
/* The stacks that must be kept, as their blocks are; NULL: none. Valid until the next call. */
const struct map64 *heap_held(struct heap *h);
/* How many blocks are noted, and how many processes watched. */
uint32_t heap_count_blocks(const struct heap *h);
uint32_t heap_count_kernel_blocks(const struct heap *h);
/* Names a watch. */
uint32_t heap_next_id(struct heap *h);
uint32_t heap_count_watches(const struct heap *h);
const char *heap_source(const struct heap *h);
/* As collect_heap_begin() and what follows. */
int heap_begin(struct heap *h, pid_t pid, uint32_t *ret_id);
int heap_attach(struct heap *h, uint32_t id, const char *path, const struct collect_heap_function *functions, size_t n);
bool heap_process(const struct heap *h, uint32_t id, struct collect_process *ret);
/* The iterator has been through all tasks. */
void heap_learned(struct heap *h);
bool heap_executed(const struct heap *h, uint32_t id);
int heap_start(struct heap *h, uint32_t id);
int heap_get_cost(struct heap *h, uint32_t id, struct collect_heap_cost *ret);
/* heap_cost.c; slot: its place in probes[] */
void heap_learn_cost(struct heap *h); /* how long a probe takes, unless that is known; needs a free place in probes[] */
void heap_cost(struct heap *h, uint32_t slot, struct collect_heap_cost *ret);
void heap_end(struct heap *h, uint32_t id);

/* ---- kmem.c: the kernel's memory ---- */

enum { KMEM_KMALLOC, KMEM_CACHE_ALLOC, KMEM_KFREE, KMEM_CACHE_FREE, KMEM_HOOKS };

struct kmem {
	const struct programs *programs;
	struct heap *heap;          /* whose census goes through the kernel's blocks, too */
	struct stackd_kmem *shared; /* with the programs */
	uint32_t id;                /* 0: not watched */
	uint32_t max_blocks;
	struct bpf_link *links[KMEM_HOOKS];
	int slots;                  /* map descriptor, borrowed */
	double probe_ns;            /* that a call takes more; 0: not measured yet */
};

void kmem_init(struct kmem *k, const struct programs *p, struct heap *h, uint32_t max_blocks);
void kmem_done(struct kmem *k);
/* As collect_kmem_begin() and what follows; id has been compared. */
int kmem_begin(struct kmem *k, uint32_t *ret_id);
void kmem_start(struct kmem *k);
void kmem_get_cost(struct kmem *k, struct collect_heap_cost *ret);
void kmem_end(struct kmem *k);
const char *kmem_source(const struct kmem *k);
/* Of the table, while it is there. */
uint64_t kmem_map_bytes(const struct kmem *k);

/* ---- threads.c: the iterator's lines, totals and waits ---- */

struct total_slot {
	struct stackd_process process;
	uint32_t live;
	uint64_t on_cpu_ns, runnable_ns, faults_minor, faults_major;
	int64_t resident, anonymous; /* pages */
	uint64_t alive_ns;         /* of threads that exited */
	uint64_t unborn_ns;        /* of threads that started */
};

struct wait_slot {
	struct stackd_process process;
	uint64_t raw_id;
	int64_t threads;           /* in the wait now, as reported */
	int64_t pending;           /* not reported yet */
};

struct thread_event {
	struct stackd_process process;
	uint64_t raw_id;
	uint32_t tid;
	bool begins;
	char comm[16];
};

struct threads {
	struct total_slot *totals;
	struct map64 *total_by_key;
	uint32_t n_totals, max_totals;
	struct wait_slot *waits;
	struct map64 *wait_by_id;
	uint32_t n_waits, max_waits;
	uint64_t lost_processes, lost_waits;
	uint64_t faults_minor, faults_major; /* of all processes in the last tick */
	char *buffer;
	struct thread_event *events; /* which threads entered and left waits in this tick */
	uint32_t n_events;
	bool forgotten;              /* all that were told of before are over */
	uint64_t lost_events;
};

/* Waits that begin have half of the places, so that there is room for the ends. */
#define THREAD_EVENTS_MAX 65536


int threads_init(struct threads *t, const struct collect_config *config);
void threads_done(struct threads *t);
/* Runs the iterator and takes its lines. */
int threads_visit(struct threads *t, const struct programs *p);
void threads_add_exit(struct threads *t, const struct stackd_exit *exit);
void threads_add_wait(struct threads *t, uint64_t raw_id, const struct stackd_process *process, int64_t threads);
/* Takes back every wait: the programs report those that last again. */
void threads_forget_waits(struct threads *t);
bool threads_waits_on(const struct threads *t, uint64_t raw_id);
/* Gives totals and waits to the sink and starts anew. */
/* Minor faults of all processes since the last report. */
uint64_t threads_faults_minor(const struct threads *t);
void threads_report(struct threads *t, uint64_t wall_ns, const struct collect_sink *sink, void *userdata);
/* Tells which threads entered and left waits, after those. */
void threads_report_events(struct threads *t, const struct collect_sink *sink, void *userdata);

/* ---- moment_table.c: when samples were taken, and which threads waited ---- */

struct moment_table {
	const struct halves *halves;
	const struct stackd_moment *moments; /* mapped */
	uint32_t cpus, per_cpu;
	uint32_t per_sec;  /* how many are wanted; 0: all */
	bool thread_waits; /* it is the table of waits */
};

/* What one CPU may have in a tick. */
uint32_t moments_per_cpu(const struct collect_config *config);
uint32_t moments_cpus(void);
/* CLOCK_REALTIME less CLOCK_MONOTONIC. */
uint64_t moments_clock_us(void);
uint32_t thread_waits_per_cpu(const struct collect_config *config);
int moment_table_open(struct moment_table *t, int fd, const struct halves *h, const struct collect_config *config);
/* The same of threads' waits. */
int moment_table_open_waits(struct moment_table *t, int fd, const struct halves *h, const struct collect_config *config);
void moment_table_close(struct moment_table *t);
/* Of the half that is not written; empties it. */
void moment_table_report(struct moment_table *t, uint64_t wall_ns, const struct collect_sink *sink, void *userdata);

/* ---- wait_sums.c: what waits added up to on each CPU ---- */

struct wait_sums {
	struct map64 *by_id;       /* → its place in sums */
	struct stackd_wait_sum *sums;
	uint32_t n, max;
};

/* How many the map has. */
uint32_t wait_sums_entries(void);
/* Maps it. Gives NULL, and sets errno, on failure. */
struct stackd_wait_sum *wait_sums_map(int fd);
void wait_sums_unmap(struct stackd_wait_sum *map);
int wait_sums_init(struct wait_sums *w);
void wait_sums_done(struct wait_sums *w);
/* Takes what a half of the map has, and adds it to the counts of these ids. Gives how many stacks it had that are not among them. */
uint32_t wait_sums_take(struct wait_sums *w, struct stackd_wait_sum *map, uint32_t half, const uint64_t *ids, struct stackd_count *counts, uint32_t n);

/* ---- drain.c: the double-buffered maps, and which stacks are kept ---- */

#define IDLE_TICKS 60

struct drain {
	uint64_t *ids;
	struct stackd_count *counts;
	uint32_t n_counts, max_counts, counts_peak;
	struct stackd_exit_key *exit_keys;
	struct stackd_exit *exits;
	uint32_t n_exits, max_exits;
	struct map64 *last_seen;   /* raw id → tick and process, see seen_value() */
	struct map64 *ended[2];    /* processes that ended lately; two generations */
	uint64_t *evictions;       /* scratch */
	uint32_t max_stacks;
	uint32_t tick;
	uint64_t sweep_cursor;
	bool sweep_started;
	uint64_t losses[LOSS_N];   /* as last read */
	uint64_t deltas[LOSS_N];
	uint64_t *per_cpu;         /* scratch, one a possible CPU */
	struct wait_sums wait_sums; /* of the last tick */
	int n_cpus;
	uint64_t unsettled;        /* flips that did not settle in time */
};

int drain_init(struct drain *d, const struct collect_config *config);
void drain_done(struct drain *d);
/* Turns the halves over and reads the one that was written until now. */
int drain_flip(struct drain *d, const struct halves *h);
/* Marks what was seen and evicts idle stacks when the map fills up. */
/* held: raw ids that stay, or NULL. */
void drain_evict(struct drain *d, int stacks_fd, const struct threads *t, const struct map64 *held);
/* Whether that would let go of anything. */
bool drain_is_tight(const struct drain *d);
/* How many ticks a stack may be idle before it goes, when `used` of `max` are used; UINT32_MAX: as long as it likes. */
uint32_t drain_idle_limit(uint32_t used, uint32_t max, bool process_ended);

void process_from_record(struct collect_process *ret, const struct stackd_process *process);
