/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <time.h>

#include "internal.h"

/* A program takes microseconds; where CPUs are taken from us (a virtual machine) it may take until it runs again. */
#define SETTLE_SPINS 200
#define SETTLE_PAUSE_NS 20000
#define SETTLE_PAUSES 2000

/* The stacks of a process that has ended are kept until their frames have been asked for. */
#define ENDED_TICKS 1
#define ENDED_GENERATION_TICKS 8

/* Keys read a tick to find stacks that were kept and never counted on (a wait that didn't end while we looked). */
#define SWEEP_KEYS 256

#define FETCH_AHEAD 16 /* look-ups: memory takes as long as a few of them */

int drain_init(struct drain *d, const struct collect_config *config)
{
	*d = (struct drain){
		.max_counts = config->max_counts,
		.max_exits = config->max_processes,
		.max_stacks = config->max_stacks,
		.n_cpus = libbpf_num_possible_cpus(),
	};
	if (d->n_cpus < 0)
		return d->n_cpus;
	d->ids = calloc(d->max_counts, sizeof *d->ids);
	d->counts = calloc(d->max_counts, sizeof *d->counts);
	d->exit_keys = calloc(d->max_exits, sizeof *d->exit_keys);
	d->exits = calloc(d->max_exits, sizeof *d->exits);
	d->evictions = calloc(2 * (size_t)d->max_stacks, sizeof *d->evictions);
	d->per_cpu = calloc((size_t)d->n_cpus, sizeof *d->per_cpu);
	if (!d->ids || !d->counts || !d->exit_keys || !d->exits || !d->evictions || !d->per_cpu)
		return -ENOMEM;
	for (size_t i = 0; i < ELEMENTS_OF(d->ended); i++) {
		int r = map64_new(&d->ended[i], d->max_exits);

		if (r < 0)
			return r;
	}
	if (wait_sums_init(&d->wait_sums) < 0)
		return -ENOMEM;
	return map64_new(&d->last_seen, 2 * (size_t)d->max_stacks);
}

void drain_done(struct drain *d)
{
	free(d->ids);
	free(d->counts);
	free(d->exit_keys);
	free(d->exits);
	free(d->evictions);
	free(d->per_cpu);
	wait_sums_done(&d->wait_sums);
	for (size_t i = 0; i < ELEMENTS_OF(d->ended); i++)
		d->ended[i] = map64_free(d->ended[i]);
	d->last_seen = map64_free(d->last_seen);
}

/* Waits until every CPU was seen outside of our programs once; gives false when one wasn't in time. */
static bool settle(const struct stackd_guard *guards)
{
	uint32_t cpu = 0, pauses = 0, spins = 0;

	while (cpu < STACKD_CPUS_MAX) {
		if (__atomic_load_n(&guards[cpu].depth, __ATOMIC_ACQUIRE) == 0) {
			cpu++;
			continue;
		}
		if (++spins < SETTLE_SPINS)
			continue;
		if (++pauses > SETTLE_PAUSES)
			return false;
		nanosleep(&(struct timespec){ .tv_nsec = SETTLE_PAUSE_NS }, NULL);
	}
	return true;
}

/* Reads and empties a map into arrays. */
static int take_all(int fd, void *keys, size_t key_size, void *values, size_t value_size, uint32_t max,
                    uint32_t *ret_n)
{
	uint32_t n = 0;
	uint64_t cursor = 0; /* the kernel keeps a bucket's number here */
	bool started = false;

	while (n < max) {
		uint32_t count = max - n;
		int r = bpf_map_lookup_and_delete_batch(fd, started ? &cursor : NULL, &cursor, (char *)keys + n * key_size,
		                                        (char *)values + n * value_size, &count, NULL);

		if (r < 0 && errno != ENOENT)
			return negative_errno();
		n += count;
		started = true;
		if (r < 0)
			break;
	}
	*ret_n = n;
	return 0;
}

static void read_losses(struct drain *d, int fd)
{
	for (uint32_t cause = 0; cause < LOSS_N; cause++) {
		uint64_t sum = 0;

		if (bpf_map_lookup_elem(fd, &cause, d->per_cpu) < 0)
			continue;
		for (int cpu = 0; cpu < d->n_cpus; cpu++)
			sum += d->per_cpu[cpu];
		d->deltas[cause] = sum - d->losses[cause];
		d->losses[cause] = sum;
	}
}

int drain_flip(struct drain *d, const struct halves *h)
{
	uint32_t old = h->control->half & 1;
	int r, r2;

	__atomic_store_n(&h->control->half, old ^ 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!settle(h->guards))
		d->unsettled++;
	d->n_counts = d->n_exits = 0;
	r = take_all(h->counts[old], d->ids, sizeof *d->ids, d->counts, sizeof *d->counts, d->max_counts, &d->n_counts);
	r2 = take_all(h->exits[old], d->exit_keys, sizeof *d->exit_keys, d->exits, sizeof *d->exits, d->max_exits, &d->n_exits);
	d->counts_peak = MAX(d->counts_peak, d->n_counts);
	read_losses(d, h->losses);
	d->deltas[LOSS_COUNTS_FULL] += wait_sums_take(&d->wait_sums, h->wait_sums, old, d->ids, d->counts, d->n_counts);
	return r < 0 ? r : r2;
}

uint32_t drain_idle_limit(uint32_t used, uint32_t max, bool process_ended)
{
	if (used <= max / 2)
		return UINT32_MAX;
	if (process_ended)
		return ENDED_TICKS;
	if (used <= max / 4 * 3)
		return IDLE_TICKS;
	if (used <= max / 8 * 7)
		return IDLE_TICKS / 4;
	return IDLE_TICKS / 20;
}

/* A process in 32 bits: two that share them let each other's stacks go a little early. */
static uint32_t process_mark(uint64_t start_ns, uint32_t tgid)
{
	const uint64_t identity[] = { start_ns, tgid };

	return (uint32_t)hash64(identity, sizeof identity, 0);
}

static uint64_t seen_value(uint32_t tick, uint32_t mark)
{
	return (uint64_t)tick << 32 | mark;
}

static bool has_ended(const struct drain *d, uint32_t mark)
{
	return map64_get(d->ended[0], mark, NULL) || map64_get(d->ended[1], mark, NULL);
}

static void note_ended(struct drain *d)
{
	if (d->tick % ENDED_GENERATION_TICKS == 0) {
		struct map64 *older = d->ended[1];

		map64_clear(older);
		d->ended[1] = d->ended[0];
		d->ended[0] = older;
	}
	for (uint32_t i = 0; i < d->n_exits; i++)
		if (d->exits[i].ended)
			map64_put(d->ended[0], process_mark(d->exit_keys[i].start_ns, d->exit_keys[i].tgid), d->tick);
}

/* Goes on through the keys of the stacks map, a few a tick, and notes those that no count has named yet. */
static void sweep(struct drain *d, int fd)
{
	for (uint32_t i = 0; i < SWEEP_KEYS; i++) {
		uint64_t key;

		if (bpf_map_get_next_key(fd, d->sweep_started ? &d->sweep_cursor : NULL, &key) < 0) {
			d->sweep_started = false;
			return;
		}
		d->sweep_cursor = key;
		d->sweep_started = true;
		if (!map64_get(d->last_seen, key, NULL))
			map64_put(d->last_seen, key, seen_value(d->tick, 0));
	}
}

bool drain_is_tight(const struct drain *d)
{
	return map64_size(d->last_seen) + d->n_counts + SWEEP_KEYS > d->max_stacks / 2;
}

/* Those that are gone already end a batch. */
static void delete_stacks(int fd, const uint64_t *ids, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t count = n - i;

		if (bpf_map_delete_batch(fd, ids + i, &count, NULL) == 0)
			return;
		if (errno == ENOENT)
			i += count;
		else
			bpf_map_delete_elem(fd, &ids[i]);
	}
}

/* last_seen has room for every stack that the kernel's map can hold, and for as many that were counted on but not kept. */
void drain_evict(struct drain *d, int stacks_fd, const struct threads *t, const struct map64 *held)
{
	uint64_t id, seen;
	uint32_t used, live_limit, ended_limit, n = 0;
	size_t cursor = 0;

	d->tick++;
	note_ended(d);
	for (uint32_t i = 0; i < d->n_counts; i++) {
		const struct stackd_process *process = &d->counts[i].process;

		if (i + FETCH_AHEAD < d->n_counts)
			map64_prefetch(d->last_seen, d->ids[i + FETCH_AHEAD]);
		map64_put(d->last_seen, d->ids[i], seen_value(d->tick, process_mark(process->start_ns, process->tgid)));
	}
	sweep(d, stacks_fd);
	used = (uint32_t)map64_size(d->last_seen);
	live_limit = drain_idle_limit(used, d->max_stacks, false);
	ended_limit = drain_idle_limit(used, d->max_stacks, true);
	if (ended_limit == UINT32_MAX)
		return;
	while (map64_next(d->last_seen, &cursor, &id, &seen)) {
		uint32_t idle = d->tick - (uint32_t)(seen >> 32);

		if (idle > ended_limit && (idle > live_limit || has_ended(d, (uint32_t)seen)) && !threads_waits_on(t, id) &&
		    !(held && map64_get(held, id, NULL)))
			d->evictions[n++] = id;
	}
	delete_stacks(stacks_fd, d->evictions, n);
	for (uint32_t i = 0; i < n; i++)
		map64_remove(d->last_seen, d->evictions[i]);
}
