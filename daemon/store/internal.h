/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The arena's records, and the volatile indexes that are rebuilt from them on opening. Only what is declared
 * as "in the arena" outlives the process; counts of references, hash tables and accumulators are derived. */
#pragma once

#include "store.h"

#define STORE_LAYOUT_VERSION 13
#define STORE_ARENA_MIN (1024 * 1024)

/* Seeds that keep the hashes of different things apart. */
enum { SEED_STRING, SEED_PROCESS, SEED_SERIES, SEED_COMMIT, SEED_FRAME, SEED_STACK, SEED_BLOCK };

/* A ref is an index and the generation of what sits there, so that a stale ref is noticed. */
#define REF_INDEX_BITS 20
#define REF_INDEX_MAX ((1U << REF_INDEX_BITS) - 1)
#define REF_GENERATION_MASK ((1U << (32 - REF_INDEX_BITS)) - 1)

/* Rings of blocks: the tiers, and the pins, which are copies of blocks of the finest tier. */
#define RING_PINS STORE_TIERS
#define RINGS (STORE_TIERS + 1)

/* A block has values by slice, exact totals by process, and by slice the sampling variance of values that are estimates. */
enum { SECTION_SLICES, SECTION_PROCESSES, SECTION_VARIANCES, SECTIONS };

static inline bool section_is_of_slices(int section)
{
	return section != SECTION_PROCESSES;
}

/* ---- in the arena ---- */

/* What every dictionary record starts with. live is stored last when a record is made and cleared first when
 * it goes. */
struct entry {
	uint64_t hash;
	uint32_t used; /* tick of the last use */
	uint16_t generation;
	uint16_t live;
};

struct string_record {
	struct entry entry;
	uint32_t offset, size; /* in the pool; size counts the NUL */
	uint32_t cell, reserved; /* bytes of the pool's cell */
};

struct frame_record {
	struct entry entry; /* hash is the frame's id */
	uint32_t display, object, build_id;
	uint32_t kind;
	uint32_t check, reserved; /* of all that makes a frame */
	uint64_t address;
};

struct stack_record {
	struct entry entry; /* hash is the stack's id */
	uint32_t offset, n; /* frame indices in the pool */
	uint32_t truncated, cell;
	uint32_t check, reserved; /* of the frames' ids */
};

struct workload_record {
	struct entry entry;
	uint32_t unit, cgroup, exe, uid;
	uint32_t exe_is_comm;
	uint32_t other; /* process that stands for those not told apart; lives as long as this */
	uint32_t born;  /* tick in which the record was made */
	uint32_t reserved;
};

struct process_record {
	struct entry entry; /* hash of pid, exec_id and start */
	uint64_t start_ns, start_us;
	uint32_t pid, exec_id;
	uint32_t comm, workload;
	uint32_t born;          /* tick in which the record was made: older blocks mean someone else */
	uint32_t workload_born; /* since which the place belongs to processes of this workload, gone ones
	                           included */
	uint32_t superseded;    /* the same process under a former unit, cgroup or uid */
	uint32_t reserved;
};

struct series_record {
	struct entry entry; /* hash is the series' id */
	uint64_t first_seen_us;
	uint32_t workload, stack;
	uint32_t visited; /* tick of the last visit */
	uint32_t reserved;
};

/* A slice's place can pass to another process of the same series, or to another series. Blocks up to the tick
 * before born mean a former process of the series; blocks before series_born mean something that is gone. */
struct slice_record {
	struct entry entry;
	uint32_t process, series;
	uint32_t born, series_born;
};

/* A wait that is going on. What the open tick changes is kept beside what was committed. */
struct open_wait {
	uint32_t slice;
	uint32_t changed;              /* tick of the last change */
	uint32_t epoch;                /* of the opening of the store; older ones have ended */
	int32_t threads, prev_threads; /* prev: before the tick "changed" */
	uint32_t since, prev_since;    /* first tick with this many threads */
	uint32_t reserved;
	uint64_t from_ns, prev_from_ns; /* on the store's own clock: the sum of all ticks' durations */
	uint64_t from_us, prev_from_us;
};

/* A wait that ended or changed. */
struct run {
	uint32_t slice;
	uint32_t since; /* first tick, tells whether the slice still means the same */
	uint64_t from_ns, until_ns;
	uint64_t from_us, until_us;
	uint32_t threads, reserved;
};

/* The header of a block; its payload lies in the ring's bytes. */
struct block {
	uint64_t checksum; /* of the rest of this and of the payload */
	uint64_t offset;   /* in the ring's bytes */
	uint32_t size;
	uint32_t first, last; /* ticks */
	uint32_t load_milli;  /* mean */
	uint64_t begin_us, end_us;
	uint64_t elapsed_ns, duration_ns; /* the store's own clock at the beginning; length */
	uint64_t lost[STORE_LOST_N];
	uint32_t sections[SECTIONS]; /* payload bytes of each */
	uint32_t points;
	uint16_t online_cpus;
	uint16_t gate_open;
	uint32_t reserved;
};

struct anomaly_record {
	uint64_t id, time_us, since_us;
	double score, p_value, observed, expected, load;
	uint64_t series_id, stack_id, process_start_us;
	uint32_t uid, pid;
	uint8_t type, metric, gate_open, reserved[5];
	char comm[16];
	char exe[256], unit[256], cgroup[256]; /* whole: one filters by them */
};

struct gate_record {
	uint64_t time_us;
	double load;
	uint32_t open, reserved;
	char cause[32];
};

struct ring_state {
	uint32_t first, n; /* in the index */
	uint64_t head;     /* where the next payload goes */
	uint64_t evicted;
	uint64_t points, bytes;
};

struct log_state {
	uint32_t first, n;
};

/* Everything that a commit changes at once. Two copies; the commit sequence says which one holds. */
struct commit {
	uint64_t checksum;
	uint64_t sequence;
	uint32_t tick, epoch;
	uint64_t time_us, elapsed_ns, ticks;
	uint64_t anomaly_id;
	uint64_t pin_until_us;
	struct ring_state rings[RINGS];
	struct log_state runs, anomalies, gates;
	uint64_t reclaimed_stacks, reclaimed_processes, reclaimed_series, reclaimed_slices, lost_runs, full;
	uint64_t n_losses;
	struct store_loss losses[STORE_LOSS_CAUSES_MAX];
};

struct section {
	uint64_t offset;
	uint64_t n; /* records, or bytes */
};

enum {
	DICT_STRINGS,
	DICT_FRAMES,
	DICT_STACKS,
	DICT_WORKLOADS,
	DICT_PROCESSES,
	DICT_SERIES,
	DICT_SLICES,
	DICTS,
};

struct layout {
	uint64_t version, size, record_sizes;
	struct store_config config;
	struct section dicts[DICTS];
	struct section series_state, global_state, pool, open_waits, runs, anomalies, gates;
	struct section ring_index[RINGS], ring_bytes[RINGS];
	uint64_t end;
};

struct header {
	char magic[8];
	uint64_t sequence; /* the one store that makes a tick visible */
	struct layout layout;
	struct commit commits[2];
};

/* ---- volatile ---- */

struct dict {
	unsigned char *base;
	uint32_t stride, max; /* records 1..max */
	uint32_t live;
	uint32_t *slots, slot_mask;
	uint32_t *free, n_free;
	uint32_t *refs;
};

#define POOL_PAGE 4096U
#define POOL_CLASSES 13

struct pool_page {
	uint32_t class; /* 0 = unused, else class + 1 */
	uint32_t used;
	uint32_t next, prev; /* pages of the class with room; page + 1 */
	uint64_t map[POOL_PAGE / 16 / 64];
};

struct pool {
	unsigned char *base;
	uint32_t n_pages;
	struct pool_page *pages;
	uint32_t partial[POOL_CLASSES], unused;
	uint64_t used;
};

#define VARIANCES (METRIC_MMAP - METRIC_BLOCKED + 1)

/* Metrics that mostly come together lie together, in rooms that take memory where they have something. */
#define ROOMS 3
#define ROOM_METRICS 4
static const uint8_t room_metrics[ROOMS][ROOM_METRICS] = {
	{ METRIC_ON_CPU, METRIC_BLOCKED, METRIC_RUNNABLE, METRIC_HITS },
	{ METRIC_FAULTS_MINOR, METRIC_FAULTS_MAJOR, METRIC_FAULTS_FILE, METRIC_RSS },
	{ METRIC_BRK, METRIC_MMAP, METRIC_HEAP, METRIC_KMEM },
};
_Static_assert(ROOMS * ROOM_METRICS == METRIC_N, "each metric has its place");

struct room {
	uint64_t (*values)[ROOM_METRICS];
	float (*residuals)[ROOM_METRICS]; /* what rounding left over, carried into the next block; of more than 2^24 as good as 24 bits make it */
};

/* Sums by slice or process until they are written as a block. */
struct accumulator {
	uint32_t max;
	uint64_t *touched; /* bit map */
	uint8_t *rooms;    /* of each the rooms that may have something, as bits; NULL: variances are gathered */
	struct room room[ROOMS];
	float (*variances)[VARIANCES]; /* from METRIC_BLOCKED on: no others are known */
};

/* What was gathered for one since it was last written, and where residuals isn't NULL what is left over of what was written before. Gives those metrics of
 * which there may be something, as bits; only they are set. */
static inline uint32_t store_gathered(const struct accumulator *a, uint32_t i, uint64_t values[static METRIC_N], float *residuals)
{
	uint32_t metrics = 0;

	if (a->variances) {
		for (int k = 0; k < VARIANCES; k++)
			values[METRIC_BLOCKED + k] = (uint64_t)a->variances[i][k];
		for (int k = 0; residuals && k < VARIANCES; k++)
			residuals[METRIC_BLOCKED + k] = 0;
		return ((1U << VARIANCES) - 1) << METRIC_BLOCKED;
	}
	for (uint32_t left = a->rooms[i]; left; left &= left - 1) {
		int k = __builtin_ctz(left);

		for (int at = 0; at < ROOM_METRICS; at++) {
			uint8_t m = room_metrics[k][at];

			metrics |= 1U << m;
			values[m] = a->room[k].values[i][at];
			if (residuals)
				residuals[m] = a->room[k].residuals[i][at];
		}
	}
	return metrics;
}

/* A tier's step that is being gathered. */
struct step {
	struct accumulator sections[SECTIONS];
	struct block block; /* ticks, times, load so far; last == 0 when empty */
	uint64_t number;    /* time / step */
	uint64_t load_sum;
};

/* A block that a query uses. */
struct piece {
	uint32_t ring, position;
};

struct sum {
	uint64_t values[METRIC_N];
	uint64_t first_us, last_us;
};

struct store {
	unsigned char *arena;
	size_t size;
	struct header *header;
	struct layout layout;
	struct commit c; /* being worked on */

	struct dict dicts[DICTS];
	struct pool pool;

	uint32_t *slice_next;  /* slices of one series */
	uint32_t *slice_wait;  /* open wait + 1 */
	uint32_t *slice_pins;  /* pinned blocks that mention it */
	uint32_t *series_first, *series_other, *series_live;
	uint32_t *live, n_live; /* series that store_tick_visit() looks at */
	uint32_t *live_position;
	int32_t *series_wait;
	uint32_t *series_wait_changed;
	uint64_t (*series_values)[METRIC_N];
	uint32_t *series_tick; /* tick of series_values */
	uint32_t *process_pins;

	struct step steps[STORE_TIERS];
	uint32_t *wait_free, n_wait_free;
	uint32_t *wait_changed, n_wait_changed; /* in the open tick */

	struct entry_codes *codes;
	unsigned char *scratch; /* one encoded block */
	size_t scratch_size;
	struct sum *sums;      /* by slice or process, for queries */
	struct piece *cover;   /* blocks of a query */
	uint64_t *piece_waits; /* what waits add to each */
	uint32_t cover_max;
	uint32_t *match_from; /* a slice or process that matches counts from this tick on; UINT32_MAX =
	                         doesn't */

	bool in_tick;
	uint64_t tick_time_us, tick_duration_ns;
	uint64_t tick_full;
	uint32_t added; /* the slice that was added to last; 0: none */
	bool flushed_early[STORE_TIERS];
	uint32_t exhausted[DICTS]; /* tick in which no room could be made */
	void *memory;
};

static inline void *store_at(const struct store *s, uint64_t offset)
{
	return s->arena + offset;
}

static inline struct entry *dict_entry(const struct dict *d, uint32_t i)
{
	return (struct entry *)(d->base + (size_t)i * d->stride);
}

#define DICT_RECORD(name, type, dict)                                            \
	static inline struct type *name(const struct store *s, uint32_t i)       \
	{                                                                        \
		return (struct type *)dict_entry(&s->dicts[dict], i);            \
	}
DICT_RECORD(store_string, string_record, DICT_STRINGS)
DICT_RECORD(store_frame_at, frame_record, DICT_FRAMES)
DICT_RECORD(store_stack_at, stack_record, DICT_STACKS)
DICT_RECORD(store_workload_at, workload_record, DICT_WORKLOADS)
DICT_RECORD(store_process_at, process_record, DICT_PROCESSES)
DICT_RECORD(store_series_at, series_record, DICT_SERIES)
DICT_RECORD(store_slice_at, slice_record, DICT_SLICES)

static inline bool dict_has(const struct dict *d, uint32_t i)
{
	return i > 0 && i <= d->max && dict_entry(d, i)->live == 1;
}

static inline store_ref dict_ref(const struct dict *d, uint32_t i)
{
	return i | (uint32_t)(dict_entry(d, i)->generation & REF_GENERATION_MASK) << REF_INDEX_BITS;
}

/* The record's index, or 0 for a ref that is stale or was never given. */
static inline uint32_t dict_resolve(const struct dict *d, store_ref ref)
{
	uint32_t i = ref & REF_INDEX_MAX;

	return dict_has(d, i) && dict_ref(d, i) == ref ? i : 0;
}

/* Whom an entry of a block whose last tick is given counts for: its place may have passed to someone else
 * since. 0 = to nobody who is known any more. */
static inline uint32_t store_process_target(const struct store *s, uint32_t i, uint32_t tick)
{
	const struct process_record *r = store_process_at(s, i);

	if (tick >= r->born && r->entry.live == 1)
		return i;
	/* One that is gone counts for the others of its workload as long as that lives. */
	return tick >= r->workload_born && dict_has(&s->dicts[DICT_WORKLOADS], r->workload) &&
	                       store_workload_at(s, r->workload)->born <= r->workload_born
	               ? store_workload_at(s, r->workload)->other
	               : 0;
}

static inline uint32_t store_slice_target(const struct store *s, uint32_t i, uint32_t tick)
{
	const struct slice_record *r = store_slice_at(s, i);

	if (r->entry.live != 1 || tick < r->series_born)
		return 0;
	return tick >= r->born ? i : s->series_other[r->series];
}

static inline uint32_t store_entry_target(const struct store *s, int section, uint32_t i, uint32_t tick)
{
	return section_is_of_slices(section) ? store_slice_target(s, i, tick) : store_process_target(s, i, tick);
}

/* layout.c */
int store_layout_compute(struct layout *ret, size_t size, const struct store_config *config);
int store_volatile_allocate(struct store *s);

/* dict.c: bounded tables with a volatile hash index */
typedef bool (*dict_equal_fn)(const struct store *s, uint32_t i, const void *key);
uint32_t store_dict_find(const struct store *s, int dict, uint64_t hash, dict_equal_fn equal,
                         const void *key);
uint32_t store_dict_take(struct store *s, int dict, uint64_t hash); /* not live yet; 0 = full */
void store_dict_publish(struct store *s, int dict, uint32_t i);
void store_dict_untake(struct store *s, int dict, uint32_t i);
void store_dict_remove(struct store *s, int dict, uint32_t i);
void store_dict_hide(struct store *s, int dict, uint32_t i); /* out of the hash index only */
void store_dict_index(struct store *s, int dict, uint32_t i);

/* pool.c: bytes of strings and stacks in the arena */
#define POOL_NONE UINT32_MAX
uint32_t store_pool_allocate(struct pool *p, size_t size);
void store_pool_free(struct pool *p, uint32_t offset);
/* on opening; false = not possible */
bool store_pool_claim(struct pool *p, uint32_t offset, uint32_t cell_size);
uint32_t store_pool_cell_size(const struct pool *p, uint32_t offset);

/* intern.c */
uint32_t store_frame_check(const struct store *s, const struct frame_record *r);
uint32_t store_stack_check(const struct store *s, const struct stack_record *r);
uint64_t store_workload_hash(const struct store *s, uint32_t unit, uint32_t cgroup, uint32_t exe,
                             uint32_t uid);
uint64_t store_process_hash(pid_t pid, uint32_t exec_id, uint64_t start_ns, uint32_t other);
const char *store_string_text(const struct store *s, uint32_t i);
int store_intern_string(struct store *s, const char *text, uint32_t *ret);
void store_string_unref(struct store *s, uint32_t i);
void store_stack_drop(struct store *s, uint32_t i);
void store_frame_unref(struct store *s, uint32_t i);
void store_process_drop(struct store *s, uint32_t i);
void store_workload_unref(struct store *s, uint32_t i);

/* reclaim.c */
bool store_make_room(struct store *s, int dict);
bool store_accumulated(const struct store *s, int section, uint32_t i);

/* slices.c */
uint64_t store_slice_hash(uint32_t process, uint32_t stack);
uint64_t store_series_hash(const struct store *s, uint32_t workload, uint32_t stack);
uint32_t store_slice_get(struct store *s, uint32_t process, uint32_t stack);
void store_slice_drop(struct store *s, uint32_t i);
void store_series_drop(struct store *s, uint32_t i);
void store_slice_link(struct store *s, uint32_t i);
void store_live_add(struct store *s, uint32_t series);
void store_live_remove(struct store *s, uint32_t series);

/* accumulate.c */
void store_accumulate(struct accumulator *a, uint32_t i, const uint64_t values[static METRIC_N]);
/* What is carried on to the next block; of the metrics that store_gathered() gave. */
void store_accumulator_leave_over(struct accumulator *a, uint32_t i, const float residuals[static METRIC_N]);
/* What was gathered for one is added to another, or in another accumulator of the kind. */
void store_accumulator_add(struct accumulator *a, uint32_t to, const struct accumulator *from, uint32_t i);
void store_accumulator_move(struct accumulator *a, uint32_t from, uint32_t to);
void store_accumulator_clear(struct accumulator *a);

/* codec.c: a section is a list of (index, values) */
#define SECTION_COMMON 3

/* Codes from base on that fit in so many bits. */
struct code_range {
	uint16_t base;
	uint16_t width;
};

struct section_reader {
	const unsigned char *data;
	uint64_t position, limit; /* bits */
	uint64_t values_at;
	uint32_t left, index, max, shape;
	uint64_t period;
	struct code_range range[2][METRIC_N];
	uint32_t common[SECTION_COMMON], common_bits[SECTION_COMMON];
	uint8_t rice, mantissa;
};

/* An entry while it is being encoded. */
struct entry_codes {
	uint32_t index;
	uint32_t shape; /* 0 = nothing to write */
	uint32_t code[METRIC_N];
};

size_t store_section_bound(uint32_t max);
size_t store_section_encode(struct accumulator *a, unsigned mantissa, struct entry_codes *codes,
                            unsigned char *out, uint32_t *points);
int store_section_open(struct section_reader *r, const unsigned char *data, size_t size, uint32_t max);
bool store_section_next(struct section_reader *r, uint32_t *ret_index);
void store_section_add(const struct section_reader *r, uint64_t sums[static METRIC_N]);

/* ring.c */
struct block *store_block(const struct store *s, int ring, uint32_t position); /* 0 = oldest */
const unsigned char *store_block_payload(const struct store *s, int ring, const struct block *b);
uint64_t store_block_checksum(const struct store *s, int ring, const struct block *b);
uint64_t store_block_end(const struct block *b);
bool store_block_plausible(const struct store *s, int ring, const struct block *b);
int store_ring_append(struct store *s, int ring, struct block *b, const unsigned char *payload);
void store_ring_evict(struct store *s, int ring);
int store_block_reader(const struct store *s, int ring, const struct block *b, int section,
                       struct section_reader *ret);
void store_pin(struct store *s, uint64_t time_us);
void store_pin_newest(struct store *s);
void store_pin_count(struct store *s, const struct block *b, int delta);

/* waits.c */
int store_wait_change(struct store *s, uint32_t slice, int threads);
int32_t store_wait_threads(const struct store *s, uint32_t slice);
void store_waits_commit(struct store *s);
void store_run_append(struct store *s, const struct run *run);
struct run *store_run(const struct store *s, uint32_t position);
struct open_wait *store_open_wait(const struct store *s, uint32_t i);

/* log.c */
#define LOG_NONE UINT32_MAX
uint32_t store_log_slot(struct log_state *l, const struct log_state *published, uint64_t size);
const struct commit *store_published(const struct store *s);

uint32_t store_anomalies_max(const struct store *s);

/* query.c */
bool store_unit_matches(const char *pattern, const char *unit); /* NULL matches all */
bool store_cgroup_matches(const char *path, const char *cgroup);

/* commit.c */
void store_commit_publish(struct store *s);
uint64_t store_commit_checksum(const struct commit *c);
int store_step_flush(struct store *s, int tier);
void store_step_replay(struct store *s, int tier, const struct block *b);

/* recover.c */
bool store_header_fits(const struct header *h, const struct layout *l);
bool store_recover(struct store *s);
void store_format(struct store *s);
