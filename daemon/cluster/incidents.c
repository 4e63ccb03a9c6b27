/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which anomalies are one occurrence of one trouble. */
#include <math.h>

#include "state.h"

#define NEAR_US (10 * USEC_PER_SEC)  /* effects of one cause in several workloads begin within this */
#define SAME_US (30 * USEC_PER_SEC)  /* whatever moves in a workload so soon after belongs to it */
#define LATER_US (300 * USEC_PER_SEC) /* later only what looks like it does */
#define CAUSE_US (3 * USEC_PER_SEC)   /* a cause is seen at most so long after its first effect */
#define JOIN_MIN 0.6f
#define ALIKE 0.6f                    /* cosine of stacks */
/* What a CPU's worth is of what is not time. Faults a second: */
#define FAULTS_MINOR_CPU 10000.0
#define FAULTS_MAJOR_CPU 1000.0
#define MEMORY_CPU (double)(2 << 20) /* bytes a second: 7 GiB an hour */
#define MOVED_MIN 1e-6
#define OWN_SHARE 0.2 /* of what the workload moves that moves most: others are drawn in */
/* Another metric of a series that was told counts when it is so many times what is expected, and so much beside the one that was told. */
#define ALSO_TIMES 3.0
#define ALSO_SHARE 0.2
/* What is gone says less of the cause than what has come. */
#define DOWN_SHARE 0.3
/* "[libc.so.6+0x2718a]" is worth saying where there is nothing else. */
#define NAMELESS_SHARE 0.05f

static double cpus_worth(enum metric m, double per_second)
{
	double unit = m == METRIC_FAULTS_MINOR                  ? FAULTS_MINOR_CPU
	              : m == METRIC_FAULTS_MAJOR                ? FAULTS_MAJOR_CPU
	              : cluster_axis(m) == CLUSTER_MEMORY ? MEMORY_CPU
	                                                        : (double)NSEC_PER_SEC;

	return isfinite(per_second) ? per_second / unit : 0;
}

static uint64_t workload_id(const struct cluster_anomaly *a)
{
	uint64_t hash = hash64_string(a->exe, hash64_string(a->unit, a->uid));

	return hash ? hash : 1;
}

static bool has_workload(const struct incident_state *s, uint64_t id)
{
	for (uint32_t k = 0; k < s->i.n_workloads; k++)
		if (s->workloads[k] == id)
			return true;
	return false;
}

/* Of the workloads that it moves most, not one that is drawn in. */
static bool is_of(const struct incident_state *s, uint64_t id)
{
	const struct cluster_workload *w = s->i.workloads;

	for (size_t k = 0; k < CLUSTER_WORKLOADS_MAX && w[k].id; k++)
		if (w[k].id == id)
			return w[k].moved >= OWN_SHARE * w[0].moved;
	return false;
}

static bool has_executable(const struct cluster_incident *i, const char *exe)
{
	for (size_t k = 0; k < CLUSTER_WORKLOADS_MAX && i->workloads[k].id; k++)
		if (*exe && streq(i->workloads[k].exe, exe))
			return true;
	return false;
}

static bool has_series(const struct cluster_incident *i, uint64_t series_id)
{
	for (size_t k = 0; k < CLUSTER_SERIES_MAX; k++)
		if (i->series[k].id == series_id)
			return true;
	return false;
}

/* What was told as fallen does more than ever: whatever that is, it is not what it had stopped for. */
static bool rises_again(const struct cluster_incident *i, const struct cluster_anomaly *a)
{
	for (size_t k = 0; k < CLUSTER_SERIES_MAX; k++)
		if (i->series[k].id == a->series_id && i->series[k].metric == a->metric)
			return i->series[k].worst < i->series[k].expected && a->observed > a->expected;
	return false;
}

static bool waits_for_disk(const struct incident_state *s)
{
	const struct kind_evidence *e = &s->evidence;

	return e->up[METRIC_BLOCKED] > 0 && e->path_up[METRIC_BLOCKED][PATH_BLOCK_IO] > e->up[METRIC_BLOCKED] / 2;
}

/* Who waits for CPUs does not fault more because of that: what begins to when the waiting is there already is in a trouble of its own. Whose faults
 * take the CPUs begins with it, though it may be told later. */
static bool faults_by_itself(const struct incident_state *s, const struct cluster_anomaly *a)
{
	const double *up = s->evidence.up;

	return (a->metric == METRIC_FAULTS_MINOR || a->metric == METRIC_FAULTS_MAJOR) && a->observed > a->expected &&
	       a->since_us > s->i.opened_us + CAUSE_US &&
	       up[METRIC_RUNNABLE] > up[METRIC_ON_CPU] + up[METRIC_BLOCKED] + up[METRIC_FAULTS_MINOR] + up[METRIC_FAULTS_MAJOR];
}

/* Whether what the incident moved was not back when the anomaly's excursion began. */
static bool went_on(const struct incident_state *s, const struct cluster_anomaly *a)
{
	return a->since_us + s->quiet_ticks * USEC_PER_SEC <= a->time_us;
}

/* Causes that cross from one workload to another: the CPUs and the disks are everyone's. What comes when the other is over is not its
 * effect, and what begins later than the waiting is not its cause. */
static bool shares_cause(const struct incident_state *s, const struct cluster_anomaly *a, uint32_t paths)
{
	const struct kind_evidence *e = &s->evidence;

	if (a->observed <= a->expected || !went_on(s, a))
		return false;
	if (a->metric == METRIC_RUNNABLE)
		return e->up[METRIC_ON_CPU] + e->up[METRIC_RUNNABLE] > e->up[METRIC_BLOCKED];
	if (a->metric == METRIC_ON_CPU)
		return e->up[METRIC_RUNNABLE] > MAX(2 * e->up[METRIC_ON_CPU], e->up[METRIC_BLOCKED]) && a->since_us <= s->i.opened_us + CAUSE_US;
	return a->metric == METRIC_BLOCKED && (paths & 1U << PATH_BLOCK_IO) && waits_for_disk(s);
}

/* Who is drawn in as it waits for a CPU does not wait for anything else because of that. */
static bool waits_by_itself(const struct incident_state *s, const struct cluster_anomaly *a, uint64_t workload)
{
	return a->metric == METRIC_BLOCKED && a->observed > a->expected && workload != s->i.workloads[0].id;
}

/* 0 to 1: how much the anomaly looks like part of the incident. */
static float affinity(const struct incident_state *s, const struct cluster_anomaly *a, const struct vector *stack, uint32_t paths,
                      uint64_t workload)
{
	uint64_t apart = a->time_us > s->i.last_us ? a->time_us - s->i.last_us : 0;
	bool before;
	float alike;

	if (rises_again(&s->i, a))
		return 0;
	if (has_series(&s->i, a->series_id))
		return 1;
	if (apart > LATER_US || faults_by_itself(s, a))
		return 0;
	alike = vector_cosine(stack, &s->stacks);
	before = a->observed <= a->expected || went_on(s, a);
	if (is_of(s, workload) && !waits_by_itself(s, a, workload) && before)
		return apart <= SAME_US ? MAX(0.8f, alike) : alike;
	if (has_workload(s, workload) && alike >= ALIKE)
		return alike;
	/* In another unit it is the same trouble only while that goes on. */
	if (!is_of(s, workload) && !before)
		return 0;
	if (has_executable(&s->i, a->exe) && alike >= ALIKE)
		return alike;
	if (apart > NEAR_US)
		return 0;
	return shares_cause(s, a, paths) ? MAX(0.65f, alike) : alike > ALIKE ? alike : 0;
}

static void give_way(struct clusters *c, uint64_t id, uint64_t now_us, cluster_event_fn fn, void *userdata)
{
	struct incident_state *s = incident_get(c, id);
	struct state *st = c->state;

	for (uint32_t k = 0; k < st->n_open; k++)
		if (st->open[k] == id) {
			memmove(st->open + k, st->open + k + 1, sizeof(st->open[0]) * (--st->n_open - k));
			st->gave_way++;
			break;
		}
	if (s)
		incident_close(c, s, CLUSTER_GAVE_WAY, now_us, fn, userdata);
}

static struct incident_state *open_incident(struct clusters *c, const struct cluster_anomaly *a, cluster_event_fn fn, void *userdata)
{
	struct state *st = c->state;
	struct incident_state *s = &c->incidents[++st->last_incident % st->max_incidents];

	if (st->n_open == CLUSTER_OPEN_MAX)
		give_way(c, st->open[0], a->time_us, fn, userdata);
	if (s->i.id && !s->i.closed_us)
		give_way(c, s->i.id, a->time_us, fn, userdata);
	*s = (struct incident_state){ .i = { .id = st->last_incident, .opened_us = a->time_us, .last_us = a->time_us } };
	st->open[st->n_open++] = s->i.id;
	return s;
}

/* The one that has moved least gives way to a new one that moves more. */
static void add_workload(struct incident_state *s, const struct cluster_anomaly *a, uint64_t id, double moved)
{
	struct cluster_workload *w = s->i.workloads, new = { .id = id, .uid = a->uid, .pid = a->pid };
	size_t at = 0;

	if (s->i.n_workloads < CLUSTER_WORKLOADS_TOLD_APART && !has_workload(s, id))
		s->workloads[s->i.n_workloads++] = id;
	while (at < CLUSTER_WORKLOADS_MAX - 1 && w[at].id && w[at].id != id)
		at++;
	if (w[at].id != id) {
		if (w[at].id && w[at].moved >= moved)
			return;
		copy_string(new.unit, sizeof(new.unit), a->unit);
		copy_string(new.cgroup, sizeof(new.cgroup), a->cgroup);
		copy_string(new.exe, sizeof(new.exe), a->exe);
		copy_string(new.comm, sizeof(new.comm), a->comm);
		w[at] = new;
	}
	w[at].moved += moved;
	for (; at > 0 && w[at].moved > w[at - 1].moved; at--) {
		struct cluster_workload swap = w[at];

		w[at] = w[at - 1];
		w[at - 1] = swap;
	}
}

double series_moved(const struct cluster_series *s)
{
	return s->id ? fabs(cpus_worth(s->metric, s->worst - s->expected)) : 0;
}

/* Gives how much more has moved than was known. */
static double add_series(struct cluster_incident *i, const struct cluster_anomaly *a, enum metric m, double observed, double expected,
                         uint32_t paths)
{
	struct cluster_series new = {
		.id = a->series_id,
		.stack_id = a->stack_id,
		.metric = (uint8_t)m,
		.type = a->type,
		.fresh = a->fresh,
		.paths = paths,
		.anomaly_id = a->id,
		.since_us = a->since_us,
		.expected = expected,
		.worst = observed,
		.lately = observed,
	};
	double moved = series_moved(&new);
	size_t least = 0;

	for (size_t k = 0; k < CLUSTER_SERIES_MAX; k++) {
		struct cluster_series *s = &i->series[k];

		if (s->id == a->series_id && s->metric == m) {
			double before = series_moved(s);

			if (moved <= before)
				return 0;
			s->worst = s->lately = observed;
			return moved - before;
		}
		if (series_moved(s) < series_moved(&i->series[least]))
			least = k;
	}
	i->n_series++;
	if (!i->series[least].id || series_moved(&i->series[least]) < moved)
		i->series[least] = new;
	for (size_t k = least; k > 0 && series_moved(&i->series[k]) > series_moved(&i->series[k - 1]); k--) {
		struct cluster_series swap = i->series[k];

		i->series[k] = i->series[k - 1];
		i->series[k - 1] = swap;
	}
	return moved;
}

static void add_name(struct incident_state *s, const struct cluster_frame *frame, float weight)
{
	uint32_t feature = vector_frame_feature(frame), least = 0;
	char name[CLUSTER_FRAME_NAME_MAX];

	/* What is everywhere tells nothing, and what has no name little. */
	if (!(weight > 0))
		return;
	if (vector_frame_name(name, frame)[0] == '[')
		weight *= NAMELESS_SHARE;
	for (uint32_t k = 0; k < s->n_names; k++) {
		if (s->name_features[k] == feature) {
			s->name_weights[k] += weight;
			return;
		}
		if (s->name_weights[k] < s->name_weights[least])
			least = k;
	}
	if (s->n_names < CLUSTER_COMMON_MAX)
		least = s->n_names++;
	else if (s->name_weights[least] >= weight)
		return;
	copy_string(s->names[least], sizeof(s->names[least]), name);
	s->name_features[least] = feature;
	s->name_weights[least] = weight;
}

static void add_evidence(struct incident_state *s, enum metric m, bool up, double moved, uint32_t paths, bool fresh)
{
	struct kind_evidence *e = &s->evidence;
	unsigned axis = cluster_axis(m);

	s->i.size += moved;
	if (!up) {
		e->down[axis] += moved;
		s->i.down[axis] += moved;
		return;
	}
	e->up[axis] += moved;
	s->i.up[axis] += moved;
	for (enum path p = 0; p < PATH_N; p++)
		if (paths & 1U << p)
			e->path_up[axis][p] += moved;
	if (fresh)
		e->fresh_up += moved;
}

/* What began small may turn out to be something else. The class that it is in learns of it. */
static void decide_kind(struct clusters *c, struct incident_state *s)
{
	enum cluster_kind kind = kind_of(&s->evidence), before = s->i.kind;
	struct class_state *class = class_get(c, s->i.cluster);

	if (kind == before || s->i.label != CLUSTER_UNLABELLED || (class && class->kind_given))
		return;
	s->i.kind = kind;
	if (!class)
		return;
	class->votes[before] = MAX(class->votes[before] - 1, 0.0f);
	class->votes[kind]++;
	class_settle_kind(class);
}

void incident_grow(struct clusters *c, struct incident_state *s, struct cluster_series *series, double value)
{
	enum metric m = (enum metric)series->metric;
	bool up = value > series->expected;
	double before = series_moved(series);

	series->worst = series->lately = value;
	add_evidence(s, m, up, MAX(series_moved(series) - before, 0), series->paths, series->fresh);
	decide_kind(c, s);
}

/* A series is told by one of its metrics. What has risen beside it says what kind of trouble it is: faults, and not just time. */
static void add_others(struct incident_state *s, const struct cluster_anomaly *a, double moved, uint32_t paths)
{
	for (enum metric m = 0; m < METRIC_HITS; m++) {
		double observed = a->also[m].observed, expected = a->also[m].expected;

		if (m == a->metric || !(observed > ALSO_TIMES * expected) || cpus_worth(m, observed - expected) < ALSO_SHARE * moved)
			continue;
		add_evidence(s, m, true, add_series(&s->i, a, m, observed, expected, paths), paths, a->fresh);
	}
}

/* A unit may wait for CPUs as long as the machine is busy. What gets more of them than it waits for, as far as its own waits are known, is not
 * what suffers from that. */
static bool is_starved(const struct cluster_anomaly *a)
{
	double waits = a->also[METRIC_RUNNABLE].observed;

	return a->starves && !(a->metric == METRIC_ON_CPU && waits > 0 && waits < a->also[METRIC_ON_CPU].observed);
}

/* Others may suffer for longer than it lasts, one after the other: on a busy machine that would have no end. What does the same does not suffer. */
static void goes_on(struct incident_state *s, const struct cluster_anomaly *a, uint64_t workload, const struct vector *stack)
{
	if (s->i.n_workloads > 0 && !is_of(s, workload) && !has_series(&s->i, a->series_id) && vector_cosine(stack, &s->stacks) < ALIKE)
		return;
	s->i.last_us = MAX(s->i.last_us, a->time_us);
	s->quiet_ticks = 0;
}

struct incident_state *incident_join(struct clusters *c, const struct cluster_anomaly *a, cluster_event_fn fn, void *userdata)
{
	uint32_t paths = kind_paths(a->frames, a->n_frames) | (is_starved(a) ? 1U << PATH_STARVES : 0);
	uint64_t workload = workload_id(a);
	struct incident_state *best = NULL;
	float best_affinity = JOIN_MIN, mass;
	struct vector stack;
	double moved;

	vector_of_stack(&stack, &c->state->rarity, a->frames, a->n_frames);
	for (uint32_t k = 0; k < c->state->n_open; k++) {
		struct incident_state *s = incident_get(c, c->state->open[k]);
		float is = s ? affinity(s, a, &stack, paths, workload) : 0;

		if (is >= best_affinity && s) {
			best = s;
			best_affinity = is;
		}
	}
	if (!best)
		best = open_incident(c, a, fn, userdata);

	best->i.n_anomalies++;
	goes_on(best, a, workload, &stack);
	best->i.score = MAX(best->i.score, isfinite(a->score) ? a->score : 0);
	moved = MAX(add_series(&best->i, a, a->metric, a->observed, a->expected, paths), MOVED_MIN);
	add_workload(best, a, workload, moved);
	add_evidence(best, a->metric, a->observed > a->expected, moved, paths, a->fresh);
	add_others(best, a, moved, paths);

	mass = (float)(a->observed > a->expected ? moved : moved * DOWN_SHARE);
	vector_mix(&best->stacks, &best->stacks, best->mass / (best->mass + mass), &stack, mass / (best->mass + mass));
	best->mass += mass;
	for (size_t k = 0; k < a->n_frames; k++)
		add_name(best, &a->frames[k], mass * vector_frame_weight(&c->state->rarity, &a->frames[k], k, a->n_frames));
	decide_kind(c, best);
	return best;
}
