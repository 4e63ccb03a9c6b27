/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pipeline.h"

#include "balance.h"
#include "moments.h"
#include "open_waits.h"
#include "pending.h"
#include "scoring.h"
#include "stack_ids.h"
#include "thread_waits.h"

/* Stacks whose objects the parser is still reading, and processes not looked at yet: a start on a busy machine has a few
 * hundred, two thousand new processes a second a few thousand. */
#define PENDING_MAX 16384
/* Pending stacks looked at each time that the parser answers: a fraction of a millisecond. */
#define ASK_AGAIN_MAX 64
#define TOTAL_SEED 0x746f74616c /* keeps the keys of totals apart from raw stack ids */
#define COST_TICKS 60 /* over which the worst tick is told */

struct pipeline {
	struct pipeline_rooms rooms;
	struct pipeline_config config;
	struct live_source live;
	struct tick_source source;

	struct stack_ids stacks;
	struct pending_table *pending;
	uint32_t ask_cursor; /* into pending */
	struct collect_process found; /* last, in this tick */
	store_ref found_ref;          /* 0: none was */
	struct waits *waits;
	struct scoring *scoring;

	struct store_tick tick;
	uint64_t samples, lost; /* of this tick; one event each, as losses are counted */
	uint64_t moments_until_us;
	bool by_thread; /* the source tells waits by thread */
	struct balance balance;
	uint64_t costs_ns[COST_TICKS];

	uint64_t ticks, ticks_missed;
	uint64_t cost_ns;
};

int pipeline_new(struct pipeline **ret, const struct pipeline_rooms *rooms, const struct pipeline_config *config)
{
	_cleanup_(pipeline_freep) struct pipeline *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->rooms = *rooms;
	p->config = *config;
	p->live = (struct live_source) { rooms->collect, rooms->symbols, rooms->unwind };
	p->source = config->source ? *config->source : live_source(&p->live);
	if ((r = stack_ids_init(&p->stacks, rooms->store, rooms->incidents, &p->source, config->max_stacks)) < 0 ||
	    (r = pending_new(&p->pending, PENDING_MAX)) < 0 || (r = waits_new(&p->waits, config->max_stacks)) < 0 ||
	    (r = scoring_new(&p->scoring, rooms->store, rooms->detect, rooms->incidents)) < 0)
		return r;
	scoring_set_own_pids(p->scoring, config->own_pids, config->n_own_pids);
	scoring_set_digest(p->scoring, config->digest);
	if (config->memory_bytes)
		scoring_set_memory(p->scoring, config->memory_bytes);
	*ret = TAKE_PTR(p);
	return 0;
}

struct pipeline *pipeline_free(struct pipeline *p)
{
	if (!p)
		return NULL;
	stack_ids_done(&p->stacks);
	scoring_free(p->scoring);
	waits_free(p->waits);
	pending_free(p->pending);
	free(p);
	return NULL;
}

void pipeline_set_own_pids(struct pipeline *p, const pid_t *pids, size_t n)
{
	scoring_set_own_pids(p->scoring, pids, n);
}

/* A wait whose stack could not be walked in this tick is walked in a later one, a total that is not scored is stored all the same, of faults
 * between windows there are none, switches that nobody looked at concern waits only, a mapping that was not told of is at most a name, and
 * heaps and the kernel's memory are a matter of their own: they take nothing from what the samples say. */
static bool is_apart_from_samples(const char *cause)
{
	return streq(cause, "wait-walk-limit") || streq(cause, "units-full") || streq(cause, "incidents-full") || streq(cause, "faults-unseen") ||
	       streq(cause, "totals-late") || streq(cause, "mappings-lost") || streq(cause, "switches-unseen") || streq(cause, "waits-undrawn") ||
	       streq(cause, "waits-forgotten") || streq(cause, "moments-full") || streq(cause, "thread-waits-full") ||
	       strncmp(cause, "heap-", 5) == 0 || strncmp(cause, "kernel-", 7) == 0;
}

static void count_loss(struct pipeline *p, const char *cause, uint64_t n)
{
	struct store_loss *loss = p->tick.losses, *end = loss + p->tick.n_losses;

	if (!is_apart_from_samples(cause))
		p->lost += n;
	while (loss < end && !streq(loss->cause, cause))
		loss++;
	if (loss == end) {
		if (p->tick.n_losses == STORE_LOSS_CAUSES_MAX)
			loss--; /* more causes than there are names for: counted under the last one */
		else {
			p->tick.n_losses++;
			*loss = (struct store_loss) {};
			copy_string(loss->cause, sizeof(loss->cause), cause);
		}
	}
	loss->n += n;
}

/* ---- identity ---- */

/* -EAGAIN: who it is will be known in a tick or two. */
static int find_process(struct pipeline *p, const struct collect_process *process, store_ref *ret)
{
	const struct symbols_process *known;
	uint64_t start_us;
	int r;

	/* Most of a tick's stacks are of few processes, and come one after the other. */
	if (p->found_ref && p->found.pid == process->pid && p->found.exec_id == process->exec_id && p->found.start_ns == process->start_ns) {
		*ret = p->found_ref;
		return 0;
	}
	*ret = store_find_process(p->rooms.store, process->pid, process->exec_id, process->start_ns);
	if (*ret) {
		p->found = *process;
		p->found_ref = *ret;
		return 0;
	}
	r = p->source.process(p->source.userdata, process, &known, &start_us);
	if (r < 0)
		return r;
	if (!known->settled)
		return -EAGAIN;
	if (!known->identified)
		count_loss(p, "process-unknown", 1);
	return store_intern_process(p->rooms.store,
	                            &(struct store_process) {
	                                    .pid = process->pid,
	                                    .exec_id = process->exec_id,
	                                    .start_ns = process->start_ns,
	                                    .start_us = start_us,
	                                    .uid = known->uid,
	                                    .comm = known->comm,
	                                    .exe = known->exe,
	                                    .unit = known->unit,
	                                    .cgroup = known->cgroup,
	                            },
	                            ret);
}

/* ---- waits ---- */

static void begin_wait(struct pipeline *p, uint64_t raw_id, const struct collect_process *process, store_ref process_ref,
                       uint64_t stack_id, store_ref stack_ref, uint32_t threads)
{
	if (waits_full(p->waits, raw_id))
		count_loss(p, "waits-full", threads);
	else if (store_wait(p->rooms.store, process_ref, stack_ref, threads) < 0)
		count_loss(p, "store-full", threads);
	else
		waits_begin(p->waits, raw_id, process, stack_id, threads);
}

static void end_wait(struct pipeline *p, uint64_t raw_id, uint32_t threads)
{
	store_ref process_ref, stack_ref;
	struct wait w;

	threads = waits_end(p->waits, raw_id, threads, &w);
	if (threads == 0)
		return;
	process_ref = store_find_process(p->rooms.store, w.process.pid, w.process.exec_id, w.process.start_ns);
	stack_ref = store_find_stack(p->rooms.store, w.stack_id);
	if (process_ref && stack_ref)
		store_wait(p->rooms.store, process_ref, stack_ref, -(int) threads);
}

/* ---- into the open tick, or put off ---- */

static void put_off(struct pipeline *p, uint64_t key, bool total, const struct collect_process *process, const uint64_t *values,
                    const uint64_t *variances, int threads)
{
	struct pending *entry = pending_make(p->pending, key, process, total);

	if (!entry) {
		count_loss(p, "pending-full", 1);
		return;
	}
	for (size_t m = 0; values && m < METRIC_N; m++)
		entry->values[m] += values[m];
	for (size_t m = 0; variances && m < METRIC_N; m++)
		entry->variances[m] += variances[m];
	entry->threads += threads;
}

static const char *loss_cause(int error)
{
	return error == -ENOENT ? "frames-gone" : error == -ENOSPC ? "store-full" : "unidentified";
}

/* Adds values and waits of a raw stack to the open tick. Gives -EAGAIN when its names are not known yet. */
static int account(struct pipeline *p, uint64_t raw_id, const struct collect_process *process, const uint64_t *values, const uint64_t *variances,
                   int threads)
{
	store_ref process_ref, stack_ref;
	uint64_t stack_id;
	int r;

	r = find_process(p, process, &process_ref);
	if (r >= 0)
		r = stack_ids_find(&p->stacks, raw_id, values, &stack_id, &stack_ref);
	if (r >= 0 && values)
		r = store_add(p->rooms.store, process_ref, stack_ref, values);
	if (r >= 0 && variances)
		r = store_add_variances(p->rooms.store, process_ref, stack_ref, variances);
	if (r >= 0 && values && values[METRIC_ON_CPU] > 0 && p->rooms.moments)
		moments_name(p->rooms.moments, raw_id, process_ref, stack_ref);
	if (r >= 0 && p->rooms.thread_waits && (threads > 0 || (values && (values[METRIC_BLOCKED] > 0 || values[METRIC_RUNNABLE] > 0))))
		thread_waits_name(p->rooms.thread_waits, raw_id, process_ref, stack_ref);
	if (r >= 0 && threads > 0)
		begin_wait(p, raw_id, process, process_ref, stack_id, stack_ref, threads);
	if (r < 0 && r != -EAGAIN)
		count_loss(p, loss_cause(r), 1);
	return r;
}

static void account_or_put_off(struct pipeline *p, uint64_t raw_id, const struct collect_process *process, const uint64_t *values,
                               const uint64_t *variances, int threads)
{
	if (account(p, raw_id, process, values, variances, threads) == -EAGAIN)
		put_off(p, raw_id, false, process, values, variances, threads);
}

int pipeline_stack_id(struct pipeline *p, uint64_t raw_id, uint64_t *ret)
{
	store_ref stack_ref;

	return stack_ids_find(&p->stacks, raw_id, NULL, ret, &stack_ref);
}

static int account_total(struct pipeline *p, const struct collect_process *process, const uint64_t *values)
{
	store_ref process_ref;
	int r;

	r = find_process(p, process, &process_ref);
	if (r >= 0) {
		if (scoring_add_total(p->scoring, process_ref, values) < 0)
			count_loss(p, "units-full", 1);
		r = store_add_total(p->rooms.store, process_ref, values);
	}
	if (r < 0 && r != -EAGAIN)
		count_loss(p, loss_cause(r), 1);
	return r;
}

static int account_memory(struct pipeline *p, const struct collect_process *process, int64_t resident, int64_t anonymous)
{
	const uint64_t values[METRIC_N] = { [METRIC_RSS] = (uint64_t)resident };
	store_ref process_ref;
	int r;

	r = find_process(p, process, &process_ref);
	if (r >= 0) {
		if (scoring_add_memory(p->scoring, process_ref, anonymous) < 0)
			count_loss(p, "units-full", 1);
		r = store_add_total(p->rooms.store, process_ref, values);
	}
	if (r < 0 && r != -EAGAIN)
		count_loss(p, loss_cause(r), 1);
	return r;
}

static uint64_t total_key(const struct collect_process *process)
{
	const uint64_t key[] = { (uint32_t) process->pid | (uint64_t) process->exec_id << 32, process->start_ns };

	return hash64(key, sizeof(key), TOTAL_SEED);
}

static void retry_pending(struct pipeline *p)
{
	struct pending *entry;
	uint32_t cursor = 0;
	int r;

	while ((entry = pending_next(p->pending, &cursor))) {
		if (entry->threads > 0)
			entry->values[METRIC_BLOCKED] += entry->threads * p->tick.duration_ns;
		r = entry->total ? account_total(p, &entry->process, entry->values)
		                 : account(p, entry->key, &entry->process, entry->values, entry->variances, entry->threads);
		if (r != -EAGAIN && (entry->resident || entry->anonymous))
			account_memory(p, &entry->process, entry->resident, entry->anonymous);
		if (r != -EAGAIN)
			pending_drop(p->pending, entry);
	}
	pending_close_gaps(p->pending);
}

void pipeline_names_arrived(struct pipeline *p)
{
	struct symbols_frame frames[SYMBOLS_FRAMES_MAX];
	struct collect_frames raw;
	uint64_t stack_id;
	size_t n;

	for (unsigned i = 0; i < ASK_AGAIN_MAX && pending_count(p->pending) > 0; i++) {
		struct pending *entry = pending_next(p->pending, &p->ask_cursor);
		struct symbols_process_key key;

		if (!entry) {
			p->ask_cursor = 0;
			return;
		}
		if (entry->total || collect_frames(p->rooms.collect, entry->key, &raw) < 0)
			continue;
		key = (struct symbols_process_key) { raw.process.pid, raw.process.exec_id, raw.process.start_ns, raw.process.seen_ns };
		/* For the questions that it asks: what it gives is taken at the next tick. */
		symbols_resolve(p->rooms.symbols, &key, raw.kernel, raw.n_kernel, raw.user, raw.n_user, frames, &n, &stack_id);
	}
}

/* ---- the sink ---- */

static void sink_begin(void *userdata, const struct collect_tick_info *info)
{
	struct pipeline *p = userdata;

	p->tick = (struct store_tick) {
		.time_us = info->time_us,
		.duration_ns = info->duration_ns,
		.load_milli = info->load * 1000,
		.online_cpus = info->online_cpus,
		.gate_open = info->gate_open,
	};
	p->moments_until_us = info->time_us - info->drain_ns / NSEC_PER_USEC;
	p->by_thread = info->by_thread;
	p->samples = p->lost = 0;
	p->found_ref = 0;
	stack_ids_begin_tick(&p->stacks);
	balance_begin_tick(&p->balance, info->gate_open);
	store_tick_begin(p->rooms.store, info->time_us, info->duration_ns);
	retry_pending(p);
}

static void sink_gate(void *userdata, const struct collect_gate_change *change)
{
	struct pipeline *p = userdata;
	struct store_gate_change stored = { .time_us = change->time_us, .open = change->open, .load = change->load };

	copy_string(stored.cause, sizeof(stored.cause), change->cause);
	store_add_gate_change(p->rooms.store, &stored);
	if (strncmp(change->cause, "budget-", 7) != 0)
		alert_gate(p->rooms.alert, change->time_us, change->open, change->load, change->cause);
	balance_gate_changed(&p->balance);
}

static void sink_sample(void *userdata, const struct collect_sample *sample)
{
	struct pipeline *p = userdata;

	p->samples += MAX(sample->values[METRIC_HITS], 1u);
	balance_add_stack(&p->balance, sample->values);
	account_or_put_off(p, sample->raw_id, &sample->process, sample->values, sample->variances, 0);
}

static void sink_mapping(void *userdata, const struct collect_mapping_event *event)
{
	static const enum symbols_mapping_kind kinds[] = {
		[COLLECT_FORKED] = SYMBOLS_FORKED, [COLLECT_EXECUTED] = SYMBOLS_EXECUTED, [COLLECT_MAPPED] = SYMBOLS_MAPPED
	};
	struct pipeline *p = userdata;

	symbols_mapping_event(p->rooms.symbols, &(struct symbols_mapping_event){
		.kind = kinds[event->kind],
		.pid = event->pid,
		.parent = event->parent,
		.time_ns = event->time_ns,
		.start = event->start,
		.end = event->end,
		.offset = event->offset,
		.inode = event->inode,
		.device = event->device,
		.path = event->path,
	});
}

static void sink_soon(void *userdata, uint64_t raw_id)
{
	struct pipeline *p = userdata;

	stack_ids_prefetch(&p->stacks, raw_id);
}

static void sink_wait(void *userdata, const struct collect_wait *wait)
{
	struct pipeline *p = userdata;
	struct pending *entry;

	if (wait->threads > 0) {
		account_or_put_off(p, wait->raw_id, &wait->process, NULL, NULL, wait->threads);
		return;
	}
	entry = pending_find(p->pending, wait->raw_id);
	if (entry && entry->threads > 0)
		entry->threads = MAX(entry->threads + wait->threads, 0);
	else
		end_wait(p, wait->raw_id, -wait->threads);
}

static void sink_total(void *userdata, const struct collect_total *total)
{
	struct pipeline *p = userdata;

	balance_add_exact(&p->balance, total->values);
	/* Only of processes that have totals: those that did nothing but wait have none to compare with. */
	balance_add_waits(&p->balance, waits_of_process(p->waits, &total->process) * p->tick.duration_ns);
	if (account_total(p, &total->process, total->values) == -EAGAIN)
		put_off(p, total_key(&total->process), true, &total->process, total->values, NULL, 0);
}

static void sink_memory(void *userdata, const struct collect_memory *memory)
{
	struct pipeline *p = userdata;
	struct pending *entry;

	if (account_memory(p, &memory->process, memory->resident, memory->anonymous) != -EAGAIN)
		return;
	entry = pending_make(p->pending, total_key(&memory->process), &memory->process, true);
	if (entry) {
		entry->resident += memory->resident;
		entry->anonymous += memory->anonymous;
	} else {
		count_loss(p, "pending-full", 1);
	}
}

static void sink_loss(void *userdata, const char *cause, uint64_t n)
{
	count_loss(userdata, cause, n);
}

static void sink_moment(void *userdata, const struct collect_moment *moment)
{
	struct pipeline *p = userdata;

	if (moment->metric != METRIC_ON_CPU && p->rooms.thread_waits)
		thread_waits_add(p->rooms.thread_waits, moment->raw_id, moment->time_us, moment->metric, moment->weight_ns, moment->drawn, moment->tid,
		                 moment->comm);
	else if (moment->metric == METRIC_ON_CPU && p->rooms.moments)
		moments_add(p->rooms.moments, moment->raw_id, moment->time_us, moment->weight_ns, moment->tid, moment->comm);
}

static uint64_t moments_since_us(const struct pipeline *p)
{
	return p->moments_until_us - p->tick.duration_ns / NSEC_PER_USEC;
}

/* As the store has it: from the beginning of the tick in which it is told to that of the tick in which it is over. */
static void sink_thread_wait(void *userdata, const struct collect_thread_wait *wait)
{
	struct pipeline *p = userdata;
	struct thread_waits *waits = p->rooms.thread_waits;
	store_ref process_ref = 0, stack_ref = 0;
	uint64_t stack_id;

	if (!waits)
		return;
	switch (wait->what) {
	case COLLECT_WAITS_END:
		thread_waits_end_all(waits, moments_since_us(p));
		break;
	case COLLECT_WAIT_ENDS:
		thread_waits_end(waits, wait->raw_id, wait->tid, moments_since_us(p));
		break;
	case COLLECT_WAIT_BEGINS:
		/* Where others wait already, nothing else may name it in this tick. */
		stack_id = waits_stack(p->waits, wait->raw_id);
		if (stack_id) {
			process_ref = store_find_process(p->rooms.store, wait->process.pid, wait->process.exec_id, wait->process.start_ns);
			stack_ref = store_find_stack(p->rooms.store, stack_id);
		}
		if (process_ref && stack_ref)
			thread_waits_name(waits, wait->raw_id, process_ref, stack_ref);
		if (thread_waits_begin(waits, wait->raw_id, wait->tid, wait->comm, moments_since_us(p)) < 0)
			count_loss(p, "thread-waits-full", 1);
		break;
	}
}

static const struct collect_sink sink = {
	.mapping = sink_mapping,
	.begin = sink_begin,
	.gate = sink_gate,
	.sample = sink_sample,
	.soon = sink_soon,
	.wait = sink_wait,
	.total = sink_total,
	.memory = sink_memory,
	.moment = sink_moment,
	.thread_wait = sink_thread_wait,
	.loss = sink_loss,
};

void pipeline_take_mappings(struct pipeline *p)
{
	collect_mappings_dispatch(p->rooms.collect, &sink, p);
}

size_t pipeline_addresses(struct pipeline *p, uint64_t stack_id, struct stack_address *ret, size_t max, double *ret_weight)
{
	return stack_ids_addresses(&p->stacks, stack_id, ret, max, ret_weight);
}

/* ---- the tick ---- */

int pipeline_tick(struct pipeline *p, uint64_t now_us, pipeline_anomaly_fn fn, void *userdata)
{
	uint64_t began_ns = clock_monotonic_ns(), gave_way;
	struct store_anomaly *anomalies;
	size_t n;
	int r;

	scoring_look_back(p->scoring, now_us);
	r = p->source.tick(p->source.userdata, &sink, p);
	if (r < 0)
		return r;
	if (p->rooms.moments)
		moments_end_tick(p->rooms.moments, moments_since_us(p), p->moments_until_us);
	if (p->rooms.thread_waits && p->by_thread)
		thread_waits_end_tick(p->rooms.thread_waits, moments_since_us(p), p->moments_until_us);
	n = scoring_tick(p->scoring, &p->tick, p->lost ? (double) p->lost / (p->lost + p->samples) : 0, &anomalies);
	for (size_t i = 0; i < n; i++)
		if (store_add_anomaly(p->rooms.store, &anomalies[i]) >= 0 && !incidents_add(p->rooms.incidents, &anomalies[i]))
			detect_same_trouble(p->rooms.detect);
	gave_way = incidents_tick(p->rooms.incidents, &p->tick);
	if (gave_way > 0)
		count_loss(p, "incidents-full", gave_way);
	r = store_tick_commit(p->rooms.store, &p->tick);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		fn(userdata, &anomalies[i]);
	alert_tick(p->rooms.alert, now_us);

	/* Ticks are a second long: one that took from 1.5 to 2.5 s stands for two, of which one was missed. */
	if (p->ticks > 0)
		p->ticks_missed += (p->tick.duration_ns + NSEC_PER_SEC / 2) / NSEC_PER_SEC > 1
		                           ? (p->tick.duration_ns + NSEC_PER_SEC / 2) / NSEC_PER_SEC - 1
		                           : 0;
	p->cost_ns = clock_monotonic_ns() - began_ns;
	p->costs_ns[p->ticks++ % COST_TICKS] = p->cost_ns;
	return 0;
}

void pipeline_get_digest(const struct pipeline *p, struct recording_digest *ret)
{
	scoring_get_digest(p->scoring, &ret->series, &ret->scores);
	ret->n_series = scoring_live_series(p->scoring);
	ret->n_anomalies = scoring_anomalies(p->scoring);
}

void pipeline_get_status(const struct pipeline *p, struct pipeline_status *ret)
{
	*ret = (struct pipeline_status) {
		.ticks = p->ticks,
		.ticks_missed = p->ticks_missed,
		.last_tick_us = p->tick.time_us,
		.last_series = scoring_live_series(p->scoring),
		.cost_ns = p->cost_ns,
		.pending = pending_count(p->pending),
		.pending_max = PENDING_MAX,
		.cached_stacks = stack_ids_size(&p->stacks),
		.cached_stacks_max = 4 * p->config.max_stacks,
		.waits = waits_count(p->waits),
		.waits_max = waits_max(p->waits),
	};
	for (size_t i = 0; i < COST_TICKS; i++)
		ret->cost_max_ns = MAX(ret->cost_max_ns, p->costs_ns[i]);
	for (enum metric m = 0; m < METRIC_N; m++)
		ret->conservation[m] = balance_ratio(&p->balance, m);
}
