/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "state.h"

#define SETTLE_US (3 * USEC_PER_SEC) /* anomalies of one cause come within this; then it is told */
#define QUIET_TICKS 10
#define NORMAL_US (6 * 3600 * USEC_PER_SEC) /* what has lasted so long is how things are now */
#define BACK_SHARE 0.25              /* of the way from expected to worst */
/* What a function that is sampled seldom does shows over a minute, not in each tick. */
#define LATELY_TICKS 16
#define WORKS_SHARE 0.5              /* of the way back to expected */
#define TELLING_SHARE 0.1            /* of what has moved most: what has moved less may stay as it is */
#define ESCALATION 10.0
/* Sizes in CPUs' worth. */
#define SIZE_WARNING 0.2
#define SIZE_CRITICAL 2.0

#define MAX_CLASSES_MIN 8U
#define MAX_CLASSES_MAX 16384U /* the index has 16 bits */
#define MAX_INCIDENTS_MIN 16U
#define MAX_INCIDENTS_MAX 65536U

static size_t state_size(const struct cluster_config *config)
{
	return sizeof(struct state) + config->max_clusters * sizeof(struct class_state) + config->max_incidents * sizeof(struct incident_state);
}

/* The state is zeros. */
static void begin(struct clusters *c)
{
	c->state->magic = STATE_MAGIC;
	c->state->version = STATE_VERSION;
	c->state->size_mark = sizeof(struct state) + sizeof(struct class_state) * 7 + sizeof(struct incident_state) * 31;
	c->state->max_classes = c->config.max_clusters;
	c->state->max_incidents = c->config.max_incidents;
	classes_index(c);
}

int clusters_new(struct clusters **ret, const struct cluster_config *config)
{
	_cleanup_(clusters_freep) struct clusters *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	if (config->max_clusters < MAX_CLASSES_MIN || config->max_clusters > MAX_CLASSES_MAX || config->max_incidents < MAX_INCIDENTS_MIN ||
	    config->max_incidents > MAX_INCIDENTS_MAX)
		return -EINVAL;
	c->config = *config;
	c->size = state_size(config);
	c->state = calloc(1, c->size);
	c->order = calloc(config->max_clusters, sizeof(*c->order));
	for (c->n_leaves = 2; c->n_leaves < config->max_clusters;)
		c->n_leaves *= 2;
	c->keeps = calloc(c->n_leaves, sizeof(*c->keeps));
	c->least = calloc(2 * (size_t)c->n_leaves, sizeof(*c->least));
	if (!c->state || !c->order || !c->keeps || !c->least)
		return -ENOMEM;
	c->classes = (struct class_state *)(c->state + 1);
	c->incidents = (struct incident_state *)(c->classes + config->max_clusters);
	r = map64_new(&c->index, 32 * (size_t)config->max_clusters);
	if (r >= 0)
		r = map64_new(&c->by_id, config->max_clusters);
	if (r < 0)
		return r;
	begin(c);
	*ret = TAKE_PTR(c);
	return 0;
}

struct clusters *clusters_free(struct clusters *c)
{
	if (!c)
		return NULL;
	map64_free(c->index);
	map64_free(c->by_id);
	free(c->state);
	free(c->order);
	free(c->keeps);
	free(c->least);
	free(c);
	return NULL;
}

void clusters_learn_stack(struct clusters *c, const struct cluster_frame *frames, size_t n)
{
	rarity_learn(&c->state->rarity, frames, n);
}

uint64_t clusters_add(struct clusters *c, const struct cluster_anomaly *a, cluster_event_fn fn, void *userdata)
{
	c->state->anomalies++;
	return incident_join(c, a, fn, userdata)->i.id;
}

/* ---- the tick ---- */

static bool is_mostly_false(const struct class_state *class)
{
	return class->c.n_false > class->c.n_real;
}

static enum cluster_severity severity_of(const struct incident_state *s, const struct class_state *class)
{
	/* Who waits no more is none the worse for it. */
	double size = s->i.size - s->i.down[METRIC_BLOCKED] - s->i.down[METRIC_RUNNABLE];

	if (class && is_mostly_false(class))
		return CLUSTER_NOTICE;
	return size >= SIZE_CRITICAL ? CLUSTER_CRITICAL : size >= SIZE_WARNING ? CLUSTER_WARNING : CLUSTER_NOTICE;
}

static void tell(const struct clusters *c, struct incident_state *s, enum cluster_event_kind event, uint64_t now_us, cluster_event_fn fn,
                 void *userdata)
{
	const struct class_state *class = class_get(c, s->i.cluster);

	if (event == CLUSTER_OPENED) {
		if (class && class->c.muted_until_us > now_us)
			return;
		s->told = 1;
	}
	/* What was not told of at first is not told of at last. */
	if (s->told && fn)
		fn(userdata, event, &s->i);
}

static double most_moved(const struct cluster_incident *i)
{
	double most = 0;

	for (size_t k = 0; k < CLUSTER_SERIES_MAX; k++)
		most = MAX(most, series_moved(&i->series[k]));
	return most;
}

/* Follows the series that moved most. Gives CLUSTER_BACK when they are back to what was expected of them: those that rose, as what fell because of
 * them is as a rule not back at once; all where nothing rose, or CLUSTER_ENDED if nobody is left to do it. */
static enum cluster_end observe_series(struct clusters *c, struct incident_state *s, cluster_observe_fn observe, void *userdata)
{
	double telling = TELLING_SHARE * most_moved(&s->i);
	bool back = true, fell_back = true, ended = false, rose = false;

	for (size_t k = 0; k < CLUSTER_SERIES_MAX; k++) {
		struct cluster_series *series = &s->i.series[k];
		double value;
		bool up = series->worst > series->expected;

		if (!series->id)
			continue;
		value = observe(userdata, &s->i, series);
		ended |= value == CLUSTER_NOBODY;
		if (!(value >= 0))
			continue;
		series->lately += (value - series->lately) / LATELY_TICKS;
		if (up && value > series->worst)
			incident_grow(c, s, series, value);
		if (series_moved(series) < telling)
			continue;
		rose |= up;
		if (up)
			back &= value <= series->expected + BACK_SHARE * (series->worst - series->expected);
		else
			fell_back &= series->lately >= series->worst + WORKS_SHARE * (series->expected - series->worst);
	}
	if (!rose && ended)
		return CLUSTER_ENDED;
	return (rose ? back : fell_back) ? CLUSTER_BACK : CLUSTER_GOES_ON;
}

/* Puts it into its cluster. */
static void settle(struct clusters *c, struct incident_state *s)
{
	struct class_state *class;

	s->settled = 1;
	s->i.opened_size = s->i.size;
	s->i.severity = severity_of(s, NULL);
	class_join(c, s);
	class = class_get(c, s->i.cluster);
	s->i.severity = severity_of(s, class);
}

void incident_close(struct clusters *c, struct incident_state *s, enum cluster_end end, uint64_t now_us, cluster_event_fn fn, void *userdata)
{
	if (!s->settled) {
		settle(c, s);
		if (end != CLUSTER_ENDED)
			tell(c, s, CLUSTER_OPENED, now_us, fn, userdata);
	}
	s->i.closed_us = now_us;
	s->i.end = end;
	tell(c, s, CLUSTER_CLOSED, now_us, fn, userdata);
}

static void follow(struct clusters *c, struct incident_state *s, uint64_t now_us, cluster_observe_fn observe, cluster_event_fn fn, void *userdata)
{
	enum cluster_end end = observe_series(c, s, observe, userdata);

	s->quiet_ticks = end == CLUSTER_BACK ? MIN(s->quiet_ticks + 1, QUIET_TICKS) : 0;
	if (!s->settled && now_us < s->i.opened_us + SETTLE_US)
		return;
	if (end == CLUSTER_ENDED) {
		incident_close(c, s, end, now_us, fn, userdata);
		return;
	}
	if (!s->settled) {
		settle(c, s);
		tell(c, s, CLUSTER_OPENED, now_us, fn, userdata);
	}
	if (!s->escalated && s->i.size >= ESCALATION * s->i.opened_size) {
		struct class_state *class;

		s->escalated = 1;
		class_join_again(c, s);
		class = class_get(c, s->i.cluster);
		s->i.severity = severity_of(s, class);
		if (class)
			class->c.severity = MAX(class->c.severity, s->i.severity);
		tell(c, s, CLUSTER_ESCALATED, now_us, fn, userdata);
	}
	if (s->quiet_ticks == QUIET_TICKS)
		incident_close(c, s, CLUSTER_BACK, now_us, fn, userdata);
	else if (now_us - s->i.last_us >= NORMAL_US)
		incident_close(c, s, CLUSTER_USUAL, now_us, fn, userdata);
}

void clusters_tick(struct clusters *c, uint64_t now_us, cluster_observe_fn observe, cluster_event_fn fn, void *userdata)
{
	struct state *st = c->state;
	uint32_t kept = 0;

	for (uint32_t k = 0; k < st->n_open; k++) {
		struct incident_state *s = incident_get(c, st->open[k]);

		if (s)
			follow(c, s, now_us, observe, fn, userdata);
		if (s && !s->i.closed_us)
			st->open[kept++] = st->open[k];
	}
	st->n_open = kept;
}

/* ---- questions ---- */

struct incident_state *incident_get(const struct clusters *c, uint64_t id)
{
	struct incident_state *s = &c->incidents[id % c->state->max_incidents];

	return id && s->i.id == id ? s : NULL;
}

struct class_state *class_get(const struct clusters *c, uint64_t id)
{
	uint64_t number;

	for (uint32_t k = 0; k < c->state->n_aliases; k++)
		if (c->state->aliases[k].from == id)
			id = c->state->aliases[k].to;
	return map64_get(c->by_id, id, &number) ? &c->classes[number] : NULL;
}

int clusters_visit_incidents(const struct clusters *c, cluster_incident_fn fn, void *userdata)
{
	uint64_t last = c->state->last_incident, n = MIN(last, (uint64_t)c->state->max_incidents);

	for (uint64_t id = last; id > last - n; id--) {
		const struct incident_state *s = incident_get(c, id);
		int r = s ? fn(userdata, &s->i) : 0;

		if (r != 0)
			return r;
	}
	return 0;
}

static int compare_classes(const void *a, const void *b, void *userdata)
{
	const struct class_state *classes = userdata;
	const struct cluster_class *x = &classes[*(const uint32_t *)a].c, *y = &classes[*(const uint32_t *)b].c;

	if (x->n_incidents != y->n_incidents)
		return x->n_incidents < y->n_incidents ? 1 : -1;
	return (x->last_us < y->last_us) - (x->last_us > y->last_us);
}

int clusters_visit_classes(const struct clusters *c, cluster_class_fn fn, void *userdata)
{
	uint32_t n = c->state->n_classes;

	for (uint32_t i = 0; i < n; i++)
		c->order[i] = i;
	qsort_r(c->order, n, sizeof(*c->order), compare_classes, c->classes);
	for (uint32_t i = 0; i < n; i++) {
		int r = fn(userdata, &c->classes[c->order[i]].c);

		if (r != 0)
			return r;
	}
	return 0;
}

int clusters_get_incident(const struct clusters *c, uint64_t id, struct cluster_incident *ret)
{
	const struct incident_state *s = incident_get(c, id);

	if (!s)
		return -ENOENT;
	*ret = s->i;
	return 0;
}

int clusters_get_class(const struct clusters *c, uint64_t id, struct cluster_class *ret)
{
	const struct class_state *class = class_get(c, id);

	if (!class)
		return -ENOENT;
	*ret = class->c;
	return 0;
}

int clusters_mute(struct clusters *c, uint64_t class_id, uint64_t until_us)
{
	struct class_state *class = class_get(c, class_id);

	if (!class)
		return -ENOENT;
	class->c.muted_until_us = until_us;
	class_weigh(c, class);
	c->decided++;
	return 0;
}

void clusters_unmute_all(struct clusters *c)
{
	for (uint32_t k = 0; k < c->state->n_classes; k++) {
		c->classes[k].c.muted_until_us = 0;
		class_weigh(c, &c->classes[k]);
	}
}

void clusters_get_status(const struct clusters *c, struct clusters_status *ret)
{
	const struct state *st = c->state;

	*ret = (struct clusters_status){
		.incidents = (uint32_t)MIN(st->last_incident, (uint64_t)st->max_incidents),
		.incidents_max = st->max_incidents,
		.open = st->n_open,
		.classes = st->n_classes,
		.classes_max = st->max_classes,
		.anomalies = st->anomalies,
		.merged = st->merged,
		.split = st->split,
		.forgotten = st->forgotten,
		.gave_way = st->gave_way,
		.stacks_learnt = st->rarity.n_stacks,
		.decisions = c->decided,
	};
}

/* ---- the image ---- */

static uint64_t image_hash(const struct state *st, size_t size)
{
	size_t from = offsetof(struct state, version);

	return hash64((const char *)st + from, size - from, STATE_MAGIC);
}

void clusters_image(struct clusters *c, const void **ret, size_t *ret_size)
{
	c->state->hash = image_hash(c->state, c->size);
	*ret = c->state;
	*ret_size = c->size;
}

/* The hash finds damage; this finds what was made to pass it. */
static bool is_sound(const struct state *st, size_t size)
{
	const struct class_state *classes = (const struct class_state *)(st + 1);
	const struct incident_state *incidents = (const struct incident_state *)(classes + st->max_classes);

	if (st->n_classes > st->max_classes || st->n_open > CLUSTER_OPEN_MAX || st->n_aliases > ALIASES_MAX || size < sizeof(*st))
		return false;
	for (uint32_t k = 0; k < st->max_classes; k++) {
		const struct class_state *s = &classes[k];

		if (s->c.kind >= CLUSTER_KIND_N || s->c.severity >= CLUSTER_SEVERITY_N || s->c.n_members > CLUSTER_MEMBERS_MAX ||
		    s->c.n_common > CLUSTER_COMMON_MAX || s->centre.n > VECTOR_MAX || s->n_recent > RECENT_MAX || s->next_recent >= RECENT_MAX ||
		    memchr(s->c.name, 0, sizeof(s->c.name)) == NULL || !isfinite(s->mass) || s->kind_given > CLUSTER_KIND_N)
			return false;
		for (unsigned m = 0; m < CLUSTER_METRICS; m++)
			if (!(s->c.evidence[m] >= CLUSTER_EVIDENCE_LEAST && s->c.evidence[m] <= CLUSTER_EVIDENCE_MOST))
				return false;
		for (size_t i = 0; i < CLUSTER_COMMON_MAX; i++)
			if (!memchr(s->c.common[i], 0, sizeof(s->c.common[i])))
				return false;
		for (size_t i = 0; i < RECENT_MAX; i++)
			if (s->recent[i].n > VECTOR_MAX)
				return false;
	}
	for (uint32_t k = 0; k < st->max_incidents; k++) {
		const struct incident_state *s = &incidents[k];

		if (s->i.kind >= CLUSTER_KIND_N || s->i.severity >= CLUSTER_SEVERITY_N || s->i.label > CLUSTER_FALSE || s->i.end >= CLUSTER_END_N || s->stacks.n > VECTOR_MAX ||
		    s->n_names > CLUSTER_COMMON_MAX || s->i.n_workloads > CLUSTER_WORKLOADS_TOLD_APART || !isfinite(s->i.size) || !isfinite(s->label_step) || (s->i.id && s->i.id % st->max_incidents != k))
			return false;
		for (size_t i = 0; i < CLUSTER_COMMON_MAX; i++)
			if (!memchr(s->names[i], 0, sizeof(s->names[i])))
				return false;
		for (size_t i = 0; i < CLUSTER_WORKLOADS_MAX; i++)
			if (!memchr(s->i.workloads[i].unit, 0, sizeof(s->i.workloads[i].unit)) ||
			    !memchr(s->i.workloads[i].cgroup, 0, sizeof(s->i.workloads[i].cgroup)) ||
			    !memchr(s->i.workloads[i].exe, 0, sizeof(s->i.workloads[i].exe)) ||
			    !memchr(s->i.workloads[i].comm, 0, sizeof(s->i.workloads[i].comm)))
				return false;
		for (size_t i = 0; i < CLUSTER_SERIES_MAX; i++)
			if (s->i.series[i].metric >= METRIC_N || s->i.series[i].metric == METRIC_HITS)
				return false;
	}
	return true;
}

int clusters_load(struct clusters *c, const void *image, size_t size)
{
	_cleanup_free_ struct state *st = NULL;

	if (size < sizeof(*st))
		return -EBADMSG;
	/* Aligned, and out of anyone's reach. */
	st = malloc(size);
	if (!st)
		return -ENOMEM;
	memcpy(st, image, size);
	if (st->magic != STATE_MAGIC)
		return -EBADMSG;
	if (st->version != STATE_VERSION || st->size_mark != c->state->size_mark || st->max_classes != c->config.max_clusters ||
	    st->max_incidents != c->config.max_incidents || size != c->size)
		return -EPROTO;
	if (st->hash != image_hash(st, size) || !is_sound(st, size))
		return -EBADMSG;
	memcpy(c->state, st, size);
	classes_index(c);
	return 0;
}
