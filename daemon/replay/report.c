/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "report.h"

#include <sys/mman.h>

#include "cluster.h"
#include "detect.h"
#include "report_text.h"
#include "store.h"
#include "symbol.h"

/* As the daemon has them by default. */
#define STORE_SIZE (64U << 20)
#define SLICES_PER_SERIES 64
#define INCIDENTS_MAX 256
#define CLUSTERS_MAX 128
#define LIVE_TICKS 60
#define ANOMALIES_PER_TICK_MAX 64
#define TICK_NS NSEC_PER_SEC
/* Processes that stand for their programs when a program's total is told. */
#define PROGRAMS_MAX 1024
#define PROGRAM_SEED 0x70726f67
#define FRAMES_MAX 256 /* of a stack, for incidents */

struct program {
	uint64_t key;
	uint64_t tick, values[METRIC_N]; /* what it did in that tick */
	uint64_t most; /* of one metric or all, in the tick in which it was last there */
	struct store_series series; /* with most of it */
};

struct report {
	uint32_t cpus;
	void *arena;
	struct store *store;
	struct detect *detect;
	struct clusters *clusters;
	struct map64 *program_index; /* key → program */
	struct program *programs;
	size_t n_programs;
	uint64_t tick;      /* number of the open one, by the recording's clock; 0: none yet */
	uint64_t first_ns, last_ns, n_ticks, jumped;
	uint64_t busy_ns;   /* on-CPU in the open tick */
	uint64_t samples, unscored;
	size_t n_anomalies; /* of the tick */
	struct store_anomaly anomalies[ANOMALIES_PER_TICK_MAX];
	struct cluster_frame frames[FRAMES_MAX];
};

int report_new(struct report **ret, const struct report_config *config)
{
	const struct store_config store = {
		.tiers = { { 1, 900 }, { 10, 14400 }, { 60, 172800 } },
		.series_state_size = (uint32_t)detect_series_state_size(),
		.global_state_size = (uint32_t)detect_global_state_size(),
		.slices_per_series = SLICES_PER_SERIES,
	};
	const struct detect_config detect = { .false_alarms_per_day = config->false_alarms_per_day };
	const struct cluster_config cluster = { .max_clusters = CLUSTERS_MAX, .max_incidents = INCIDENTS_MAX };
	_cleanup_(report_freep) struct report *r = calloc(1, sizeof(*r));
	bool reused;
	int e;

	if (!r)
		return -ENOMEM;
	r->cpus = 1;
	r->arena = mmap(NULL, STORE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->arena == MAP_FAILED) {
		r->arena = NULL;
		return -ENOMEM;
	}
	r->programs = calloc(PROGRAMS_MAX, sizeof(*r->programs));
	if (!r->programs)
		return -ENOMEM;
	e = map64_new(&r->program_index, PROGRAMS_MAX);
	if (e >= 0)
		e = store_open(&r->store, r->arena, STORE_SIZE, &store, &reused);
	if (e >= 0)
		e = detect_new(&r->detect, &detect, store_global_state(r->store));
	if (e >= 0)
		e = clusters_new(&r->clusters, &cluster);
	if (e < 0)
		return e;
	*ret = TAKE_PTR(r);
	return 0;
}

struct report *report_free(struct report *r)
{
	if (!r)
		return NULL;
	clusters_free(r->clusters);
	detect_free(r->detect);
	store_close(r->store);
	map64_free(r->program_index);
	free(r->programs);
	if (r->arena)
		munmap(r->arena, STORE_SIZE);
	free(r);
	return NULL;
}

/* ---- a tick ---- */

static uint64_t program_key(const struct store_process *process)
{
	uint64_t key = hash64_string(process->exe, PROGRAM_SEED);

	return key ? key : 1;
}

static struct program *get_program(struct report *r, uint64_t key)
{
	struct program *p;
	uint64_t i;

	if (map64_get(r->program_index, key, &i))
		return &r->programs[i];
	if (r->n_programs == PROGRAMS_MAX || map64_put(r->program_index, key, r->n_programs) < 0)
		return NULL;
	p = &r->programs[r->n_programs++];
	p->key = key;
	return p;
}

static void note_anomaly(struct report *r, const struct store_series *series, const struct detect_result *result)
{
	struct store_anomaly *a = &r->anomalies[r->n_anomalies];
	struct store_process process;
	bool truncated;
	size_t depth;

	if (r->n_anomalies == ANOMALIES_PER_TICK_MAX)
		return;
	*a = (struct store_anomaly){
		.time_us = (r->tick + 1) * USEC_PER_SEC,
		.since_us = result->since_us,
		.type = (uint8_t)result->type,
		.metric = (uint8_t)result->metric,
		.score = result->score,
		.p_value = result->p_value,
		.observed = result->observed,
		.expected = result->expected,
		.series_id = series->id,
	};
	if (store_get_stack(r->store, series->stack, &a->stack_id, &truncated, NULL, 0, &depth) < 0 ||
	    store_get_process(r->store, series->top_process, &process) < 0)
		return; /* reclaimed since: there is nothing to show */
	r->n_anomalies++;
	a->pid = process.pid;
	copy_string(a->comm, sizeof(a->comm), process.comm);
	copy_string(a->exe, sizeof(a->exe), process.exe);
}

static void score(void *userdata, const struct store_series *series)
{
	struct report *r = userdata;
	struct detect_result result;
	struct store_process process;
	struct program *p = NULL;
	uint64_t sum = 0;

	for (size_t m = 0; m < METRIC_N; m++)
		sum += metric_is_signed((enum metric)m) ? 0 : series->values[m];
	if (store_get_process(r->store, series->top_process, &process) == 0)
		p = get_program(r, program_key(&process));
	if (p && sum > 0 && (p->tick != r->tick || sum > p->most)) {
		p->tick = r->tick;
		p->most = sum;
		p->series = *series;
	}
	if (detect_series(r->detect, series->state, series->values, series->silent_ticks, &result))
		note_anomaly(r, series, &result);
}

/* The stack with most of what the program does, or did last, stands for it; of the machine as a whole that of the program which does
 * most. */
static void note_total(struct report *r, uint64_t key, const struct detect_result *result)
{
	const struct program *best = NULL;

	for (size_t i = 0; i < r->n_programs; i++) {
		const struct program *p = &r->programs[i];

		if (p->most > 0 && (key == 0 || p->key == key) &&
		    (!best || p->tick > best->tick || (p->tick == best->tick && p->most > best->most)))
			best = p;
	}
	if (best)
		note_anomaly(r, &best->series, result);
}

static void score_all(struct report *r)
{
	uint32_t cpus = r->cpus;
	const struct detect_tick tick = {
		.time_us = (r->tick + 1) * USEC_PER_SEC,
		.duration_ns = TICK_NS,
		.load = (double)r->busy_ns / (double)TICK_NS / cpus,
		.online_cpus = cpus,
	};
	struct detect_result result;
	uint64_t key;
	bool told;

	for (size_t i = 0; i < r->n_programs; i++) {
		struct program *p = &r->programs[i];
		uint64_t any = 0;

		for (size_t m = 0; m < METRIC_N; m++)
			any |= p->values[m];
		if (any)
			(void)detect_add_total(r->detect, p->key, p->values);
		memset(p->values, 0, sizeof(p->values));
	}
	detect_tick_begin(r->detect, &tick);
	told = detect_totals(r->detect, &key, &result);
	store_tick_visit(r->store, LIVE_TICKS, score, r);
	if (told)
		note_total(r, key, &result);
	detect_tick_end(r->detect);
}

static double observe(void *userdata, const struct cluster_incident *incident _unused_, const struct cluster_series *series)
{
	const struct report *r = userdata;
	uint64_t values[METRIC_N];

	return store_series_now(r->store, series->id, values) < 0 ? -1 : (double)values[series->metric];
}

static void ignore_event(void *userdata _unused_, enum cluster_event_kind event _unused_, const struct cluster_incident *incident _unused_)
{
}

static size_t stack_frames(struct report *r, uint64_t stack_id)
{
	struct store_frame stored[FRAMES_MAX];
	bool truncated;
	uint64_t id;
	size_t n;

	if (store_get_stack(r->store, store_find_stack(r->store, stack_id), &id, &truncated, stored, FRAMES_MAX, &n) < 0)
		return 0;
	n = MIN(n, (size_t)FRAMES_MAX);
	for (size_t i = 0; i < n; i++)
		r->frames[i] = (struct cluster_frame){
			.function = stored[i].display,
			.object = stored[i].object,
			.kernel = stored[i].kind == FRAME_KERNEL,
		};
	return n;
}

static void group(struct report *r, struct store_anomaly *a)
{
	if (store_add_anomaly(r->store, a) < 0)
		return;
	clusters_add(r->clusters, &(struct cluster_anomaly){
		.id = a->id,
		.time_us = a->time_us,
		.since_us = a->since_us,
		.type = a->type,
		.series_id = a->series_id,
		.stack_id = a->stack_id,
		.metric = a->metric,
		.fresh = a->expected <= 0,
		.observed = a->observed,
		.expected = a->expected,
		.score = a->score,
		.pid = a->pid,
		.unit = a->unit,
		.cgroup = a->cgroup,
		.exe = a->exe,
		.comm = a->comm,
		.n_frames = stack_frames(r, a->stack_id),
		.frames = r->frames,
	});
}

static int end_tick(struct report *r)
{
	const struct store_tick tick = {
		.time_us = (r->tick + 1) * USEC_PER_SEC, .duration_ns = TICK_NS, .online_cpus = r->cpus
	};

	r->n_anomalies = 0;
	score_all(r);
	for (size_t i = 0; i < r->n_anomalies; i++)
		group(r, &r->anomalies[i]);
	clusters_tick(r->clusters, tick.time_us, observe, ignore_event, r);
	r->n_ticks++;
	r->busy_ns = 0;
	return store_tick_commit(r->store, &tick);
}

static int begin_tick(struct report *r, uint64_t tick)
{
	r->tick = tick;
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

/* What an event counts: "cpu-clock:u" is cpu-clock. False: nothing that is scored. */
static bool measure(const struct stack *stack, enum metric *ret_metric, uint64_t *ret_value)
{
	static const struct {
		const char *event;
		enum metric metric;
	} events[] = {
		{ "cpu-clock", METRIC_ON_CPU },      { "task-clock", METRIC_ON_CPU },     { "page-faults", METRIC_FAULTS_MINOR },
		{ "faults", METRIC_FAULTS_MINOR },   { "minor-faults", METRIC_FAULTS_MINOR }, { "major-faults", METRIC_FAULTS_MAJOR },
	};
	size_t n = strcspn(stack->event, ":");

	for (size_t i = 0; i < ELEMENTS_OF(events); i++)
		if (strlen(events[i].event) == n && strncmp(stack->event, events[i].event, n) == 0) {
			*ret_metric = events[i].metric;
			*ret_value = stack->period;
			return true;
		}
	/* So many samples a second of a CPU that is busy. */
	if ((n == 6 && strncmp(stack->event, "cycles", n) == 0) || strncmp(stack->event, "cpu-cycles", 10) == 0) {
		*ret_metric = METRIC_ON_CPU;
		*ret_value = stack->hz ? NSEC_PER_SEC / stack->hz : 0;
		return stack->hz > 0;
	}
	return false;
}

static int intern_stack(struct report *r, const struct stack *stack, store_ref *ret)
{
	struct store_frame frames[STACK_FRAMES_MAX];
	struct cluster_frame learnt[FRAMES_MAX];
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
		};
		if (i < FRAMES_MAX)
			learnt[i] = (struct cluster_frame){ f->name, f->object, frames[i].kind == FRAME_KERNEL };
	}
	id = hash64(ids, stack->n * sizeof(*ids), 0);
	*ret = store_find_stack(r->store, id);
	if (*ret)
		return 0;
	e = store_intern_stack(r->store, id, frames, stack->n, false, ret);
	if (e >= 0)
		clusters_learn_stack(r->clusters, learnt, MIN(stack->n, (size_t)FRAMES_MAX));
	return e;
}

static int intern_process(struct report *r, const struct stack *stack, struct store_process *ret, store_ref *ret_ref)
{
	*ret = (struct store_process){
		.pid = MAX((pid_t)stack->pid, 1), /* 0, the idle task, is nobody to the store */
		.start_ns = stack->begun_ns,
		.comm = stack->process_comm,
		.exe = stack->exe,
		.unit = "",
		.cgroup = "",
	};
	return store_intern_process(r->store, ret, ret_ref);
}

int report_add(void *userdata, const struct stack *stack)
{
	struct report *r = userdata;
	store_ref process_ref, stack_ref;
	struct store_process process;
	uint64_t values[METRIC_N] = {}, value;
	struct program *p;
	enum metric metric;
	int e;

	if (!stack->event || stack->time_ns == 0 || stack->n == 0 || !measure(stack, &metric, &value)) {
		r->unscored++;
		return 0;
	}
	e = go_on_to(r, MAX(stack->time_ns / TICK_NS, (uint64_t)1));
	if (e < 0)
		return e;
	values[metric] = value;
	r->cpus = MAX(r->cpus, stack->cpus);
	e = intern_process(r, stack, &process, &process_ref);
	if (e >= 0)
		e = intern_stack(r, stack, &stack_ref);
	if (e >= 0)
		e = store_add(r->store, process_ref, stack_ref, values);
	if (e < 0 && e != -ENOSPC)
		return e;
	p = get_program(r, program_key(&process));
	if (p)
		p->values[metric] += value;
	if (metric == METRIC_ON_CPU)
		r->busy_ns += value;
	r->first_ns = r->samples == 0 ? stack->time_ns : r->first_ns;
	r->last_ns = MAX(r->last_ns, stack->time_ns);
	r->samples++;
	return 0;
}

/* ---- the end ---- */

int report_write(struct report *r, FILE *file)
{
	int e;

	if (r->unscored > 0)
		log_warning("%llu samples are not scored: they have no time, no stack, or an event that is none of CPU time and page faults",
			    (unsigned long long)r->unscored);
	if (r->samples == 0)
		return -ENODATA;
	e = end_tick(r);
	if (e < 0)
		return e;
	if (r->jumped > 0)
		log_warning("the recording's clock jumps %llu times by more than %u s", (unsigned long long)r->jumped, REPORT_GAP_MAX);
	fprintf(file, "%llu samples in %.0f s, from %.3f to %.3f of the recording's clock\n", (unsigned long long)r->samples,
		(double)(r->last_ns - r->first_ns) / (double)NSEC_PER_SEC, (double)r->first_ns / (double)NSEC_PER_SEC,
		(double)r->last_ns / (double)NSEC_PER_SEC);
	return report_text_write(file, r->store, r->clusters);
}
