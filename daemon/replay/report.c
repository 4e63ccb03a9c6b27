/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "report.h"

#include <sys/mman.h>

#include "detect.h"
#include "incidents.h"
#include "moments.h"
#include "report_text.h"
#include "scoring.h"
#include "store.h"
#include "symbol.h"

/* As the daemon has them by default. */
#define STORE_SIZE (64U << 20)
#define SLICES_PER_SERIES 64
/* Of what is to be looked at later. */
#define KEPT_SIZE (512U << 20)
#define KEPT_SLICES_PER_SERIES 1024
#define UNTIMED_TICK 1
#define INCIDENTS_MAX 256
#define CLUSTERS_MAX 128
#define TICK_NS NSEC_PER_SEC

struct report {
	struct report_config config;
	struct store_config layout;
	size_t size;
	uint32_t cpus;
	void *arena;
	struct store *store;
	struct moments *moments; /* with keep */
	struct detect *detect;
	struct incidents *incidents;
	struct scoring *scoring;
	uint64_t tick;      /* number of the open one, by the recording's clock; 0: none yet */
	uint64_t first_ns, last_ns, n_ticks, jumped;
	uint64_t busy_ns;   /* on-CPU in the open tick */
	uint64_t samples, unscored, units_full;
	bool timed;
	struct report_event events[REPORT_EVENTS_MAX];
	size_t n_events;
	char first[METRIC_N][STACK_EVENT_SIZE]; /* events that tell a metric */
};

static struct store_config store_layout(bool keep)
{
	struct store_config c = {
		.tiers = { { 1, 900 }, { 10, 14400 }, { 60, 172800 } },
		.series_state_size = (uint32_t)detect_series_state_size(),
		.global_state_size = (uint32_t)detect_global_state_size(),
		.slices_per_series = SLICES_PER_SERIES,
	};

	if (keep) {
		c.tiers[0].keep_s = 4 * 3600;
		c.tiers[1].keep_s = 2 * 86400;
		c.tiers[2].keep_s = REPORT_TICKS_MAX;
		c.slices_per_series = KEPT_SLICES_PER_SERIES;
	}
	return c;
}

int report_new(struct report **ret, const struct report_config *config)
{
	const struct detect_config detect = { .false_alarms_per_day = config->false_alarms_per_day };
	const struct incidents_config incidents = { .max_clusters = CLUSTERS_MAX, .max_incidents = INCIDENTS_MAX };
	_cleanup_(report_freep) struct report *r = calloc(1, sizeof(*r));
	bool reused;
	int e;

	if (!r)
		return -ENOMEM;
	r->config = *config;
	r->layout = store_layout(config->keep);
	r->size = config->keep ? KEPT_SIZE : STORE_SIZE;
	r->cpus = 1;
	r->arena = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r->arena == MAP_FAILED) {
		r->arena = NULL;
		return -ENOMEM;
	}
	/* It is touched here and there: with huge pages kilobytes would become megabytes. Kernels without any refuse. */
	(void)madvise(r->arena, r->size, MADV_NOHUGEPAGE);
	e = store_open(&r->store, r->arena, r->size, &r->layout, &reused);
	if (e >= 0)
		e = detect_new(&r->detect, &detect, store_global_state(r->store));
	if (e >= 0)
		e = incidents_new(&r->incidents, &incidents, r->store, NULL);
	if (e >= 0 && config->keep)
		e = moments_new(&r->moments, IMPORT_MOMENTS_SIZE);
	if (e >= 0)
		e = scoring_new(&r->scoring, r->store, r->detect, r->incidents);
	if (e < 0)
		return e;
	*ret = TAKE_PTR(r);
	return 0;
}

struct report *report_free(struct report *r)
{
	if (!r)
		return NULL;
	scoring_free(r->scoring);
	incidents_free(r->incidents);
	detect_free(r->detect);
	moments_free(r->moments);
	store_close(r->store);
	if (r->arena)
		munmap(r->arena, r->size);
	free(r);
	return NULL;
}

/* ---- a tick ---- */

static int end_tick(struct report *r)
{
	const struct store_tick tick = {
		.time_us = (r->tick + 1) * USEC_PER_SEC,
		.duration_ns = TICK_NS,
		.online_cpus = r->cpus,
		.load_milli = (uint32_t)(1000 * r->busy_ns / TICK_NS / r->cpus),
	};
	struct store_anomaly *anomalies;
	size_t n = scoring_tick(r->scoring, &tick, 0, &anomalies);

	if (r->moments)
		moments_end_tick(r->moments, tick.time_us - USEC_PER_SEC, tick.time_us);

	for (size_t i = 0; i < n; i++)
		if (store_add_anomaly(r->store, &anomalies[i]) >= 0 && !incidents_add(r->incidents, &anomalies[i]))
			detect_same_trouble(r->detect);
	(void)incidents_tick(r->incidents, &tick);
	r->n_ticks++;
	r->busy_ns = 0;
	return store_tick_commit(r->store, &tick);
}

static int begin_tick(struct report *r, uint64_t tick)
{
	r->tick = tick;
	scoring_look_back(r->scoring, (tick + 1) * USEC_PER_SEC);
	return store_tick_begin(r->store, (tick + 1) * USEC_PER_SEC, TICK_NS);
}

/* Seconds in which nothing was sampled are ticks, too. */
static int go_on_to(struct report *r, uint64_t tick)
{
	int e = 0;

	if (r->tick == 0)
		return begin_tick(r, tick);
	if (tick > r->tick + REPORT_GAP_MAX) {
		r->jumped++;
		e = end_tick(r);
		return e < 0 ? e : begin_tick(r, tick);
	}
	while (e >= 0 && r->tick < tick) {
		if (r->n_ticks == REPORT_TICKS_MAX)
			return -E2BIG;
		e = end_tick(r);
		if (e >= 0)
			e = begin_tick(r, r->tick + 1);
	}
	return e;
}

/* ---- a sample ---- */

static int intern_stack(struct report *r, const struct stack *stack, store_ref *ret)
{
	struct store_frame frames[STACK_FRAMES_MAX];
	uint64_t ids[STACK_FRAMES_MAX], id;
	int e;

	for (size_t i = 0; i < stack->n; i++) {
		const struct names_frame *f = &stack->frames[i];

		ids[i] = hash64_string(f->name, hash64_string(f->object, 0));
		frames[i] = (struct store_frame){
			.id = ids[i],
			.display = f->name,
			.object = f->object,
			.kind = streq(f->object, "[kernel]") ? FRAME_KERNEL : f->object[0] ? FRAME_USER : FRAME_UNKNOWN,
			.build_id = f->build_id,
			.address = f->symbol,
		};
	}
	id = hash64(ids, stack->n * sizeof(*ids), 0);
	*ret = store_find_stack(r->store, id);
	if (*ret)
		return 0;
	e = store_intern_stack(r->store, id, frames, stack->n, false, ret);
	if (e >= 0)
		incidents_learn_stack(r->incidents, frames, stack->n);
	return e;
}

/* Of folded stacks only the name is known: all of one name are one process. */
static int intern_process(struct report *r, const struct stack *stack, struct store_process *ret, store_ref *ret_ref)
{
	bool known = stack->process_comm;

	*ret = (struct store_process){
		.pid = MAX((pid_t)stack->pid, 1), /* 0, the idle task, is nobody to the store */
		.start_ns = known ? stack->begun_ns : hash64_string(stack->comm, 0),
		.comm = known ? stack->process_comm : stack->comm,
		.exe = stack->exe ?: "",
		.unit = "",
		.cgroup = "",
	};
	return store_intern_process(r->store, ret, ret_ref);
}

static void count_event(struct report *r, const struct stack *stack, enum metric metric)
{
	const char *name = stack->event ?: "";
	size_t i = 0;

	while (i < r->n_events && !(r->events[i].metric == metric && streq(r->events[i].name, name)))
		i++;
	if (i == REPORT_EVENTS_MAX)
		return;
	if (i == r->n_events) {
		copy_string(r->events[i].name, sizeof(r->events[i].name), name);
		r->events[i].metric = metric;
		r->n_events++;
	}
	r->events[i].samples++;
}

/* False: it counts for nothing. */
static bool measure(struct report *r, const struct stack *stack, uint64_t values[static METRIC_N], enum metric *ret)
{
	bool folded = !stack->event, counts = stack->metric < METRIC_N && !stack_tells_twice(r->first[stack->metric], stack);

	if (stack->n == 0 || (!r->config.keep && (stack->time_ns == 0 || !counts)))
		return false;
	*ret = folded ? r->config.untimed : counts ? stack->metric : METRIC_HITS;
	values[*ret] = folded || *ret == METRIC_HITS ? stack->value : stack->amount;
	/* As the daemon has them: the detector is told by them how much a figure rests on. */
	if (*ret == METRIC_ON_CPU && !folded)
		values[METRIC_HITS] = 1;
	return true;
}

int report_add(void *userdata, const struct stack *stack)
{
	struct report *r = userdata;
	store_ref process_ref, stack_ref;
	struct store_process process;
	uint64_t values[METRIC_N] = {};
	enum metric metric;
	int e;

	if (!measure(r, stack, values, &metric)) {
		r->unscored++;
		return 0;
	}
	r->timed |= stack->time_ns > 0;
	e = go_on_to(r, MAX(stack->time_ns / TICK_NS, (uint64_t)UNTIMED_TICK));
	if (e < 0)
		return e;
	count_event(r, stack, metric);
	r->cpus = MAX(r->cpus, stack->cpus);
	e = intern_process(r, stack, &process, &process_ref);
	if (e >= 0)
		e = intern_stack(r, stack, &stack_ref);
	if (e >= 0)
		e = store_add(r->store, process_ref, stack_ref, values);
	if (e >= 0 && r->config.keep)
		e = store_add_total(r->store, process_ref, values);
	if (e < 0 && e != -ENOSPC)
		return e;
	if (e >= 0 && r->moments && metric == METRIC_ON_CPU && stack->time_ns > 0)
		moments_add_named(r->moments, &(struct moment){
			.time_us = stack->time_ns / NSEC_PER_USEC,
			.process = process_ref,
			.stack = stack_ref,
			.weight_us = (uint32_t)MIN(values[METRIC_ON_CPU] / NSEC_PER_USEC, (uint64_t)UINT32_MAX),
		});
	if (e >= 0 && scoring_add_total(r->scoring, process_ref, values) < 0)
		r->units_full++;
	r->busy_ns += values[METRIC_ON_CPU];
	r->first_ns = r->samples == 0 ? stack->time_ns : r->first_ns;
	r->last_ns = MAX(r->last_ns, stack->time_ns);
	r->samples++;
	return 0;
}

/* ---- the end ---- */

int report_end(struct report *r)
{
	if (r->unscored > 0)
		log_warning(r->config.keep ? "%llu samples are left out: they have no stack"
					   : "%llu samples are not scored: they have no time, no stack, or an event that is none of CPU time, waits and page faults, or tells what another one does",
			    (unsigned long long)r->unscored);
	if (r->samples == 0)
		return -ENODATA;
	if (r->units_full > 0)
		log_warning("there were too many programs: the totals of some are not scored");
	if (r->jumped > 0)
		log_warning("the recording's clock jumps %llu times by more than %u s", (unsigned long long)r->jumped, REPORT_GAP_MAX);
	return end_tick(r);
}

int report_write(struct report *r, FILE *file)
{
	int e = report_end(r);

	if (e < 0)
		return e;
	fprintf(file, "%llu samples in %.0f s, from %.3f to %.3f of the recording's clock\n", (unsigned long long)r->samples,
		(double)(r->last_ns - r->first_ns) / (double)NSEC_PER_SEC, (double)r->first_ns / (double)NSEC_PER_SEC,
		(double)r->last_ns / (double)NSEC_PER_SEC);
	return report_text_write(file, r->store, incidents_clusters(r->incidents));
}

void report_summarize(const struct report *r, struct report_summary *ret)
{
	*ret = (struct report_summary){
		.samples = r->samples,
		.left_out = r->unscored,
		.since_us = MAX(r->first_ns / TICK_NS, (uint64_t)UNTIMED_TICK) * USEC_PER_SEC,
		.until_us = (r->tick + 1) * USEC_PER_SEC,
		.timed = r->timed,
		.n_events = r->n_events,
	};
	memcpy(ret->events, r->events, sizeof(ret->events));
}

struct import_rooms report_rooms(struct report *r)
{
	return (struct import_rooms){
		.arena = r->arena,
		.size = r->size,
		.layout = r->layout,
		.max_clusters = CLUSTERS_MAX,
		.max_incidents = INCIDENTS_MAX,
		.store = r->store,
		.moments = r->moments,
		.clusters = incidents_clusters(r->incidents),
	};
}
