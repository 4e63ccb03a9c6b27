/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ListAnomalies. A call keeps the ids of what it has to send, never the anomalies: of those a few at a time are
 * read from the store's log. */
#include "internal.h"

#define DEFAULT_LIMIT 1000

struct anomalies {
	struct query query;
	int type;      /* -1: any */
	uint64_t *ids; /* in the order of sending */
	size_t n, next;
	uint64_t missed; /* not kept any more when their turn came */
};

static const char *const type_names[DETECT_TYPE_N] = {
	[DETECT_SPIKE] = "spike",         [DETECT_DROP] = "drop",
	[DETECT_LEVEL_SHIFT] = "level_shift", [DETECT_NEW_STACK] = "new_stack",
	[DETECT_VANISHED_STACK] = "vanished_stack",
	[DETECT_SLOW_GROWTH] = "slow_growth",
	[DETECT_COST_SHIFT] = "cost_shift",
	[DETECT_NEW_CODE] = "new_code",
};

static void anomalies_free(struct session *s _unused_, void *state)
{
	struct anomalies *a = state;

	query_done(&a->query);
	free(a->ids);
	free(a);
}

int parse_anomaly_type(const struct json *parameters)
{
	const char *type;

	if (json_get_string(parameters, "type", &type) <= 0)
		return -1;
	for (int i = 0; i < DETECT_TYPE_N; i++)
		if (streq(type_names[i], type))
			return i;
	return -1;
}

/* ---- what is kept ---- */

struct collecting {
	struct anomalies *anomalies;
	size_t limit;
};

static int collect_id(void *userdata, const struct store_anomaly *anomaly)
{
	struct collecting *c = userdata;
	struct anomalies *a = c->anomalies;

	if (a->n == c->limit)
		return 1;
	if (a->type >= 0 && a->type != (int)anomaly->type)
		return 0;
	a->ids[a->n++] = anomaly->id;
	return 0;
}

/* The newest limit of what is kept, newest first. */
static int collect_ids(struct store *store, struct anomalies *a, size_t limit)
{
	struct collecting c = { .anomalies = a, .limit = limit };
	int r;

	a->ids = calloc(MAX(limit, (size_t)1), sizeof(*a->ids));
	if (!a->ids)
		return -ENOMEM;
	r = store_visit_anomalies(store, &a->query.filter, collect_id, &c);
	return MIN(r, 0);
}

/* ---- sending ---- */

struct loading {
	struct anomaly_chunk *chunk;
	uint64_t least;
};

static int copy_anomaly(void *userdata, const struct store_anomaly *anomaly)
{
	struct loading *l = userdata;

	if (anomaly->id < l->least)
		return 1;
	for (size_t i = 0; i < l->chunk->n; i++)
		if (l->chunk->ids[i] == anomaly->id)
			l->chunk->anomalies[i] = *anomaly;
	return 0;
}

void anomaly_chunk_load(const struct api *a, uint32_t viewer_uid, struct anomaly_chunk *c)
{
	/* The viewer again: whatever happens to ids, nobody sees what isn't his. */
	const struct store_filter filter = { .until_us = USEC_INFINITY, .viewer_uid = viewer_uid };
	struct loading l = { .chunk = c, .least = UINT64_MAX };

	for (size_t i = 0; i < c->n; i++) {
		c->anomalies[i].id = 0;
		l.least = MIN(l.least, c->ids[i]);
	}
	if (c->n > 0)
		store_visit_anomalies(a->views.store, &filter, copy_anomaly, &l);
}

static void fill_chunk(struct session *s, struct anomalies *a, struct anomaly_chunk *c)
{
	c->n = MIN(a->n - a->next, (size_t)ANOMALY_CHUNK);
	for (size_t i = 0; i < c->n; i++)
		c->ids[i] = a->ids[a->next + i];
	anomaly_chunk_load(s->api, a->query.filter.viewer_uid, c);
}

static void write_process(struct json_writer *w, const struct store_anomaly *a)
{
	const struct store_process process = {
		.pid = a->pid, .start_us = a->process_start_us, .uid = a->uid,
		.comm = a->comm, .exe = a->exe, .unit = a->unit, .cgroup = a->cgroup,
	};

	if (a->pid > 0)
		put_process(w, "process", &process);
}

void write_anomaly(struct json_writer *w, const struct store_anomaly *a, const struct stack *stack)
{
	json_open_object(w);
	json_put_u64(w, "id", a->id);
	json_put_u64(w, "time_us", a->time_us);
	json_put_u64(w, "since_us", a->since_us);
	json_put_string(w, "type", type_names[MIN(a->type, DETECT_TYPE_N - 1)]);
	put_metric(w, "metric", MIN(a->metric, METRIC_ALL_N - 1));
	put_finite(w, "score", a->score);
	put_finite(w, "p_value", a->p_value);
	put_finite(w, "observed", a->observed);
	put_finite(w, "expected", a->expected);
	put_finite(w, "load", a->load);
	json_put_bool(w, "gate_open", a->gate_open);
	json_put_id(w, "series", a->series_id);
	json_put_id(w, "stack", a->stack_id);
	write_process(w, a);
	json_put_string(w, "unit", a->unit);
	json_put_string(w, "cgroup", a->cgroup);
	json_put_string(w, "exe", a->exe);
	put_frames(w, "frames", stack);
	json_close_object(w);
}

/* False when the page is full; *n counts the rows in it. */
static bool write_chunk(struct session *s, struct anomalies *a, struct json_writer *w, const struct anomaly_chunk *c,
                        struct stack *stack, size_t *n)
{
	for (size_t i = 0; i < c->n; i++) {
		if (c->anomalies[i].id == 0) {
			a->missed++;
			a->next++;
			continue;
		}
		get_stack(s->api, c->anomalies[i].stack_id, stack);
		if (json_writer_error(w) < 0 ||
		    page_full(s, json_writer_size(w), *n, anomaly_bound(stack)))
			return false;
		write_anomaly(w, &c->anomalies[i], stack);
		a->next++;
		(*n)++;
	}
	return true;
}

static int write_chunks(struct session *s, struct anomalies *a, struct json_writer *w)
{
	_cleanup_free_ struct stack *stack = malloc(sizeof(*stack));
	_cleanup_free_ struct anomaly_chunk *c = malloc(sizeof(*c));
	size_t n = 0;

	if (!c || !stack)
		return -ENOMEM;
	do
		fill_chunk(s, a, c);
	while (write_chunk(s, a, w, c, stack, &n) && a->next < a->n);
	return 0;
}

static enum produce_result anomalies_produce(struct session *s)
{
	struct anomalies *a = s->call.state;
	struct json_writer *w = session_reply_begin(s);
	bool continues;
	int r;

	json_key(w, "anomalies");
	json_open_array(w);
	r = write_chunks(s, a, w);
	if (r < 0) {
		session_failed(s, r);
		return PRODUCE_DONE;
	}
	json_close_array(w);
	json_put_u64(w, "missed", a->missed);
	a->missed = 0;
	continues = a->next < a->n;
	return session_reply_end(s, continues) && continues ? PRODUCE_MORE : PRODUCE_DONE;
}

void method_list_anomalies(struct session *s, const struct json *parameters)
{
	struct anomalies *a;
	struct query q;
	uint32_t limit;
	int r;

	if (!parse_limit(s, parameters, 0, DEFAULT_LIMIT, &limit) ||
	    !query_parse(s, parameters, USEC_INFINITY, &q))
		return;
	a = calloc(1, sizeof(*a));
	if (!a) {
		session_failed(s, -ENOMEM);
		return;
	}
	a->type = parse_anomaly_type(parameters);
	session_produce(s, anomalies_produce, a, anomalies_free);
	r = query_copy(&q, &a->query);
	if (r >= 0)
		r = collect_ids(s->api->views.store, a, limit);
	if (r < 0)
		session_failed(s, r);
	/* Answered already: nothing is left to produce. */
	if (r < 0 || (a->n == 0 && query_refuse_unknown(s, &q)))
		s->call.produce = NULL;
}
