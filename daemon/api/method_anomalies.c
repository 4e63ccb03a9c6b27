/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ListAnomalies, once or as they come. A call keeps the ids of what it has to send, never the anomalies: of
 * those a few at a time are read from the store's log. */
#include "internal.h"

#define DEFAULT_LIMIT 1000
#define CHUNK 64 /* anomalies read at once */

struct anomalies {
	struct query query;
	bool has_type, follow;
	enum detect_type type;
	uint64_t *ids;                 /* in the order of sending */
	size_t n, next;
	uint64_t queue[API_QUEUE_MAX]; /* found since; a ring */
	size_t queue_start, queue_n;
	uint64_t missed;               /* since the last reply */
};

static const char *const type_names[DETECT_TYPE_N] = {
	[DETECT_SPIKE] = "spike",         [DETECT_DROP] = "drop",
	[DETECT_LEVEL_SHIFT] = "level_shift", [DETECT_NEW_STACK] = "new_stack",
	[DETECT_VANISHED_STACK] = "vanished_stack",
};

static void anomalies_free(struct session *s _unused_, void *state)
{
	struct anomalies *a = state;

	query_done(&a->query);
	free(a->ids);
	free(a);
}

/* ---- what matches ---- */

static bool unit_matches(const char *unit, const char *pattern)
{
	size_t n = strlen(pattern);

	return strncmp(unit, pattern, n) == 0 && (unit[n] == '\0' || streq(unit + n, ".service"));
}

static bool cgroup_matches(const char *cgroup, const char *pattern)
{
	size_t n = strlen(pattern);

	while (n > 0 && pattern[n - 1] == '/')
		n--;
	return strncmp(cgroup, pattern, n) == 0 && (cgroup[n] == '\0' || cgroup[n] == '/');
}

/* For what is found later; for what is kept the store does the same. */
static bool matches(const struct anomalies *a, const struct store_anomaly *anomaly)
{
	const struct store_filter *f = &a->query.filter;

	return (f->viewer_uid == STORE_ANY_UID || f->viewer_uid == anomaly->uid) &&
	       (!a->has_type || a->type == anomaly->type) && anomaly->time_us > f->since_us &&
	       (a->query.to_now || anomaly->time_us <= f->until_us) &&
	       (f->pid == 0 || f->pid == anomaly->pid) &&
	       (!f->unit || unit_matches(anomaly->unit, f->unit)) &&
	       (!f->cgroup || cgroup_matches(anomaly->cgroup, f->cgroup)) &&
	       (!f->comm || streq(anomaly->comm, f->comm)) && (!f->exe || streq(anomaly->exe, f->exe));
}

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
	if (a->has_type && a->type != anomaly->type)
		return 0;
	a->ids[a->n++] = anomaly->id;
	return 0;
}

/* The newest limit of what is kept, newest first, or oldest first to follow. */
static int collect_ids(struct store *store, struct anomalies *a, size_t limit)
{
	struct collecting c = { .anomalies = a, .limit = limit };
	int r;

	a->ids = calloc(MAX(limit, (size_t)1), sizeof(*a->ids));
	if (!a->ids)
		return -ENOMEM;
	r = store_visit_anomalies(store, &a->query.filter, collect_id, &c);
	if (r < 0)
		return r;
	for (size_t i = 0; a->follow && i < a->n / 2; i++) {
		uint64_t id = a->ids[i];

		a->ids[i] = a->ids[a->n - 1 - i];
		a->ids[a->n - 1 - i] = id;
	}
	return 0;
}

/* ---- sending ---- */

struct chunk {
	uint64_t ids[CHUNK], least;
	size_t n;
	struct store_anomaly anomalies[CHUNK]; /* id 0: not kept any more */
};

static int copy_anomaly(void *userdata, const struct store_anomaly *anomaly)
{
	struct chunk *c = userdata;

	if (anomaly->id < c->least)
		return 1;
	for (size_t i = 0; i < c->n; i++)
		if (c->ids[i] == anomaly->id)
			c->anomalies[i] = *anomaly;
	return 0;
}

/* The next ids to be sent: from the list first, then from the queue. */
static void fill_chunk(struct session *s, struct anomalies *a, struct chunk *c)
{
	/* The viewer again: whatever happens to ids, nobody sees what isn't his. */
	const struct store_filter filter = { .until_us = USEC_INFINITY,
	                                     .viewer_uid = a->query.filter.viewer_uid };

	*c = (struct chunk){ .least = UINT64_MAX };
	if (a->next < a->n)
		for (size_t i = a->next; i < a->n && c->n < CHUNK; i++)
			c->ids[c->n++] = a->ids[i];
	else
		for (size_t i = 0; i < a->queue_n && c->n < CHUNK; i++)
			c->ids[c->n++] = a->queue[(a->queue_start + i) % API_QUEUE_MAX];
	for (size_t i = 0; i < c->n; i++)
		c->least = MIN(c->least, c->ids[i]);
	if (c->n > 0)
		store_visit_anomalies(s->api->views.store, &filter, copy_anomaly, c);
}

static void advance(struct anomalies *a)
{
	if (a->next < a->n) {
		a->next++;
	} else {
		a->queue_start = (a->queue_start + 1) % API_QUEUE_MAX;
		a->queue_n--;
	}
}

static bool anything_left(const struct anomalies *a)
{
	return a->next < a->n || a->queue_n > 0;
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

static void write_anomaly(struct json_writer *w, const struct store_anomaly *a,
                          const struct stack *stack)
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
static bool write_chunk(struct session *s, struct anomalies *a, struct json_writer *w, const struct chunk *c,
                        struct stack *stack, size_t *n)
{
	for (size_t i = 0; i < c->n; i++) {
		if (c->anomalies[i].id == 0) {
			a->missed++;
			advance(a);
			continue;
		}
		get_stack(s->api, c->anomalies[i].stack_id, stack);
		if (json_writer_error(w) < 0 ||
		    page_full(s, json_writer_size(w), *n, stack_bound(stack) + 2 * PROCESS_BOUND))
			return false;
		write_anomaly(w, &c->anomalies[i], stack);
		advance(a);
		(*n)++;
	}
	return true;
}

static int write_chunks(struct session *s, struct anomalies *a, struct json_writer *w)
{
	_cleanup_free_ struct stack *stack = malloc(sizeof(*stack));
	_cleanup_free_ struct chunk *c = malloc(sizeof(*c));
	size_t n = 0;

	if (!c || !stack)
		return -ENOMEM;
	do
		fill_chunk(s, a, c);
	while (write_chunk(s, a, w, c, stack, &n) && anything_left(a));
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
	continues = a->follow || anything_left(a);
	if (!session_reply_end(s, continues) || !continues)
		return PRODUCE_DONE;
	return anything_left(a) ? PRODUCE_MORE : PRODUCE_WAIT;
}

void anomalies_publish(struct api *api, const struct store_anomaly *anomaly)
{
	for (struct session *s = api->sessions; s; s = s->next) {
		struct anomalies *a = s->call.state;

		if (s->call.produce != anomalies_produce || !a->follow || !matches(a, anomaly))
			continue;
		if (a->queue_n == API_QUEUE_MAX) {
			a->queue_start = (a->queue_start + 1) % API_QUEUE_MAX;
			a->queue_n--;
			a->missed++;
			api->status.dropped++;
		}
		a->queue[(a->queue_start + a->queue_n++) % API_QUEUE_MAX] = anomaly->id;
		if (s->waiting)
			session_wake(s);
	}
}

uint32_t anomalies_subscribers(const struct api *api)
{
	uint32_t n = 0;

	for (const struct session *s = api->sessions; s; s = s->next)
		n += s->call.produce == anomalies_produce && ((struct anomalies *)s->call.state)->follow;
	return n;
}

static int fill(struct session *s, const struct json *parameters, struct anomalies *a, const struct query *q,
                uint32_t limit)
{
	const char *type;
	int r;

	json_get_bool(parameters, "follow", &a->follow);
	a->has_type = json_get_string(parameters, "type", &type) > 0;
	while (a->has_type && a->type + 1 < DETECT_TYPE_N && !streq(type_names[a->type], type))
		a->type++;
	r = query_copy(q, &a->query);
	if (r < 0 || limit == 0)
		return r;
	return collect_ids(s->api->views.store, a, limit);
}

void method_list_anomalies(struct session *s, const struct json *parameters)
{
	bool follow = false;
	struct anomalies *a;
	struct query q;
	uint32_t limit;
	int r;

	json_get_bool(parameters, "follow", &follow);
	if (follow && !s->call.more) {
		session_error(s, "org.varlink.service.ExpectedMore", NULL, NULL);
		return;
	}
	if (!parse_limit(s, parameters, 0, DEFAULT_LIMIT, &limit) ||
	    !query_parse(s, parameters, USEC_INFINITY, &q))
		return;
	a = calloc(1, sizeof(*a));
	if (!a) {
		session_failed(s, -ENOMEM);
		return;
	}
	session_produce(s, anomalies_produce, a, anomalies_free);
	r = fill(s, parameters, a, &q, limit);
	if (r < 0)
		session_failed(s, r);
	/* Answered already: nothing is left to produce. */
	if (r < 0 || (a->n == 0 && !a->follow && query_refuse_unknown(s, &q)))
		s->call.produce = NULL;
}
