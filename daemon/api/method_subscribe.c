/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Subscribe: anomalies and what becomes of incidents, as it happens. A call keeps the ids of what it has to send, in a ring of
 * SubscriberQueue= places: whoever reads too slowly misses the oldest, and is told how many. */
#include "internal.h"

struct event {
	uint64_t id, time_us;
	bool of_incident;
	uint8_t change; /* of an incident, enum change */
};

enum change { CHANGE_KEPT, CHANGE_OPENED, CHANGE_GREW, CHANGE_CLOSED };

struct subscription {
	const struct session *session;
	struct query query;
	bool anomalies, incidents; /* asked for */
	int type;                  /* of anomalies; -1: any */
	struct event *kept;        /* what was there before, oldest first; NULL: sent */
	size_t n_kept, next_kept, limit;
	size_t size, start, n;     /* of the ring that follows */
	uint64_t missed;           /* since the last reply */
	struct event queue[];
};

static void subscription_free(struct session *s _unused_, void *state)
{
	struct subscription *u = state;

	query_done(&u->query);
	free(u->kept);
	free(u);
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

static bool time_matches(const struct query *q, uint64_t time_us)
{
	return time_us > q->filter.since_us && (q->to_now || time_us <= q->filter.until_us);
}

static bool program_matches(const struct store_filter *f, pid_t pid, const char *unit, const char *cgroup, const char *comm,
                            const char *exe)
{
	return (f->pid == 0 || f->pid == pid) && (!f->unit || unit_matches(unit, f->unit)) &&
	       (!f->cgroup || cgroup_matches(cgroup, f->cgroup)) && (!f->comm || streq(comm, f->comm)) &&
	       (!f->exe || streq(exe, f->exe));
}

/* For what is found later; of what is kept the store picks by the filter. */
static bool anomaly_matches(const struct subscription *u, const struct store_anomaly *a)
{
	const struct store_filter *f = &u->query.filter;

	return u->anomalies && (f->viewer_uid == STORE_ANY_UID || f->viewer_uid == a->uid) &&
	       (u->type < 0 || u->type == (int)a->type) && time_matches(&u->query, a->time_us) &&
	       program_matches(f, a->pid, a->unit, a->cgroup, a->comm, a->exe);
}

/* By any of its programs that are kept by name. */
static bool incident_matches(const struct subscription *u, const struct cluster_incident *i, uint64_t time_us)
{
	if (!u->incidents || !may_see_incident(u->session, i) || !time_matches(&u->query, time_us))
		return false;
	for (size_t k = 0; k < CLUSTER_WORKLOADS_MAX && i->workloads[k].id; k++) {
		const struct cluster_workload *w = &i->workloads[k];

		if (program_matches(&u->query.filter, w->pid, w->unit, w->cgroup, w->comm, w->exe))
			return true;
	}
	return false;
}

/* ---- what was there before ---- */

struct collecting {
	struct subscription *subscription;
	size_t n; /* of this kind */
};

static int collect_anomaly(void *userdata, const struct store_anomaly *a)
{
	struct collecting *c = userdata;
	struct subscription *u = c->subscription;

	if (c->n == u->limit)
		return 1;
	if (u->type >= 0 && u->type != (int)a->type)
		return 0;
	u->kept[u->n_kept++] = (struct event){ .id = a->id, .time_us = a->time_us };
	c->n++;
	return 0;
}

static int collect_incident(void *userdata, const struct cluster_incident *i)
{
	struct collecting *c = userdata;
	struct subscription *u = c->subscription;

	if (c->n == u->limit)
		return 1;
	if (!incident_matches(u, i, i->opened_us))
		return 0;
	u->kept[u->n_kept++] = (struct event){ .id = i->id, .time_us = i->opened_us, .of_incident = true, .change = CHANGE_KEPT };
	c->n++;
	return 0;
}

static int compare_events(const void *a, const void *b)
{
	const struct event *x = a, *y = b;

	if (x->time_us != y->time_us)
		return x->time_us < y->time_us ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static int collect_kept(struct session *s, struct subscription *u)
{
	const struct api_views *views = &s->api->views;
	int r = 0;

	if (u->limit == 0)
		return 0;
	u->kept = calloc(2 * u->limit, sizeof(*u->kept));
	if (!u->kept)
		return -ENOMEM;
	if (u->anomalies)
		r = store_visit_anomalies(views->store, &u->query.filter, collect_anomaly, &(struct collecting){ .subscription = u });
	if (u->incidents && r >= 0)
		clusters_visit_incidents(views->clusters, collect_incident, &(struct collecting){ .subscription = u });
	qsort(u->kept, u->n_kept, sizeof(*u->kept), compare_events);
	return MIN(r, 0);
}

/* ---- sending ---- */

static size_t events_left(const struct subscription *u)
{
	return u->kept ? u->n_kept - u->next_kept : u->n;
}

static const struct event *event_at(const struct subscription *u, size_t i)
{
	return u->kept ? &u->kept[u->next_kept + i] : &u->queue[(u->start + i) % u->size];
}

static void advance(struct subscription *u)
{
	if (!u->kept) {
		u->start = (u->start + 1) % u->size;
		u->n--;
	} else if (++u->next_kept == u->n_kept) {
		free(u->kept);
		u->kept = NULL;
	}
}

struct scratch {
	struct anomaly_chunk chunk;
	struct stack stack;
	struct cluster_incident incident;
};

static void begin_event(struct json_writer *w, const struct event *e)
{
	json_open_object(w);
	json_put_u64(w, "time_us", e->time_us);
}

static void write_incident_event(struct session *s, struct subscription *u, struct json_writer *w, const struct event *e,
                                 struct scratch *x)
{
	static const char *const changes[] = {
		[CHANGE_KEPT] = "kept", [CHANGE_OPENED] = "opened", [CHANGE_GREW] = "grew", [CHANGE_CLOSED] = "closed",
	};

	if (clusters_get_incident(s->api->views.clusters, e->id, &x->incident) < 0) {
		u->missed++;
		return;
	}
	/* Somebody else's program may have become a part of it. */
	if (!may_see_incident(s, &x->incident))
		return;
	begin_event(w, e);
	json_put_string(w, "change", changes[e->change]);
	json_key(w, "incident");
	write_incident(s->api, w, &x->incident, &x->stack);
	json_close_object(w);
}

static void write_anomaly_event(struct subscription *u, struct json_writer *w, const struct event *e, const struct store_anomaly *a,
                                const struct stack *stack)
{
	if (a->id == 0) {
		u->missed++;
		return;
	}
	begin_event(w, e);
	json_key(w, "anomaly");
	write_anomaly(w, a, stack);
	json_close_object(w);
}

/* Gives the bytes that it takes at most. The stack of an anomaly is in x then. */
static size_t load_event(struct session *s, const struct store_anomaly *a, struct scratch *x)
{
	if (!a)
		return INCIDENT_BOUND;
	if (a->id == 0)
		return 0;
	get_stack(s->api, a->stack_id, &x->stack);
	return anomaly_bound(&x->stack);
}

/* Writes a chunk's worth of events. False when the page is full; *n counts the events in it. */
static bool write_chunk(struct session *s, struct subscription *u, struct json_writer *w, struct scratch *x, size_t *n)
{
	size_t count = MIN(events_left(u), (size_t)ANOMALY_CHUNK), next = 0;

	x->chunk.n = 0;
	for (size_t i = 0; i < count; i++)
		if (!event_at(u, i)->of_incident)
			x->chunk.ids[x->chunk.n++] = event_at(u, i)->id;
	anomaly_chunk_load(s->api, u->query.filter.viewer_uid, &x->chunk);
	for (size_t i = 0; i < count; i++) {
		const struct event e = *event_at(u, 0);
		const struct store_anomaly *a = e.of_incident ? NULL : &x->chunk.anomalies[next++];

		if (json_writer_error(w) < 0 || page_full(s, json_writer_size(w), *n, load_event(s, a, x)))
			return false;
		if (a)
			write_anomaly_event(u, w, &e, a, &x->stack);
		else
			write_incident_event(s, u, w, &e, x);
		advance(u);
		(*n)++;
	}
	return true;
}

static enum produce_result subscription_produce(struct session *s)
{
	_cleanup_free_ struct scratch *x = malloc(sizeof(*x));
	struct subscription *u = s->call.state;
	struct json_writer *w;
	size_t n = 0;

	if (!x) {
		session_failed(s, -ENOMEM);
		return PRODUCE_DONE;
	}
	w = session_reply_begin(s);
	json_key(w, "events");
	json_open_array(w);
	while (events_left(u) > 0 && write_chunk(s, u, w, x, &n))
		;
	json_close_array(w);
	json_put_u64(w, "missed", u->missed);
	u->missed = 0;
	if (!session_reply_end(s, true))
		return PRODUCE_DONE;
	return events_left(u) > 0 ? PRODUCE_MORE : PRODUCE_WAIT;
}

/* ---- what happens ---- */

static struct subscription *subscription_of(const struct session *s)
{
	return s->call.produce == subscription_produce ? s->call.state : NULL;
}

static void enqueue(struct session *s, struct subscription *u, const struct event *e)
{
	if (u->n == u->size) {
		u->start = (u->start + 1) % u->size;
		u->n--;
		u->missed++;
		s->api->status.dropped++;
	}
	u->queue[(u->start + u->n++) % u->size] = *e;
	if (s->waiting)
		session_wake(s);
}

void subscribers_tell_anomaly(struct api *api, const struct store_anomaly *anomaly)
{
	for (struct session *s = api->sessions; s; s = s->next) {
		struct subscription *u = subscription_of(s);

		if (u && anomaly_matches(u, anomaly))
			enqueue(s, u, &(struct event){ .id = anomaly->id, .time_us = anomaly->time_us });
	}
}

void subscribers_tell_incident(struct api *api, enum cluster_event_kind event, const struct cluster_incident *incident,
                               uint64_t time_us)
{
	static const uint8_t changes[] = {
		[CLUSTER_OPENED] = CHANGE_OPENED, [CLUSTER_ESCALATED] = CHANGE_GREW, [CLUSTER_CLOSED] = CHANGE_CLOSED,
	};

	for (struct session *s = api->sessions; s; s = s->next) {
		struct subscription *u = subscription_of(s);

		if (u && incident_matches(u, incident, time_us))
			enqueue(s, u, &(struct event){ .id = incident->id, .time_us = time_us, .of_incident = true,
			                               .change = changes[event] });
	}
}

uint32_t subscribers_count(const struct api *api, uint32_t *ret_waiting)
{
	uint32_t n = 0, waiting = 0;

	for (const struct session *s = api->sessions; s; s = s->next) {
		const struct subscription *u = subscription_of(s);

		if (!u)
			continue;
		n++;
		waiting = MAX(waiting, (uint32_t)u->n);
	}
	*ret_waiting = waiting;
	return n;
}

void method_subscribe(struct session *s, const struct json *parameters)
{
	size_t size = s->api->config.subscriber_queue;
	const char *only = "";
	struct subscription *u;
	struct query q;
	uint32_t limit;
	int r;

	if (!s->call.more) {
		session_error(s, "org.varlink.service.ExpectedMore", NULL, NULL);
		return;
	}
	if (!parse_limit(s, parameters, 0, 0, &limit) || !query_parse(s, parameters, USEC_INFINITY, &q))
		return;
	u = calloc(1, sizeof(*u) + size * sizeof(*u->queue));
	if (!u) {
		session_failed(s, -ENOMEM);
		return;
	}
	json_get_string(parameters, "only", &only);
	u->session = s;
	u->anomalies = !streq(only, "incidents");
	u->incidents = !streq(only, "anomalies");
	u->type = parse_anomaly_type(parameters);
	u->limit = limit;
	u->size = size;
	session_produce(s, subscription_produce, u, subscription_free);
	r = query_copy(&q, &u->query);
	if (r >= 0)
		r = collect_kept(s, u);
	if (u->n_kept == 0) {
		free(u->kept);
		u->kept = NULL;
	}
	if (r < 0) {
		session_failed(s, r);
		s->call.produce = NULL;
	}
}
