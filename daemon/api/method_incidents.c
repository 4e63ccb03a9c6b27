/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Incidents and clusters: listed, shown, muted, labelled. Who doesn't see everything sees what is of his own processes alone. */
#include "internal.h"

#define DEFAULT_LIMIT 50

/* As the interface spells it. */
static const char *underscored(char buf[static 32], const char *name)
{
	copy_string(buf, 32, name);
	for (char *c = buf; *c; c++)
		*c = *c == '-' ? '_' : *c;
	return buf;
}

bool may_see_incident(const struct session *s, const struct cluster_incident *i)
{
	if (s->peer.privileged)
		return true;
	for (uint32_t k = 0; k < i->n_workloads; k++)
		if (k == CLUSTER_WORKLOADS_MAX || i->workloads[k].uid != s->peer.uid)
			return false;
	return i->n_workloads > 0;
}

/* What a class is known by comes from all of its incidents. */
static bool may_see_class(const struct session *s, const struct cluster_class *class)
{
	struct cluster_incident i;

	if (s->peer.privileged)
		return true;
	if (class->n_members == 0 || class->n_incidents > class->n_members)
		return false;
	for (size_t k = 0; k < class->n_members; k++)
		if (clusters_get_incident(s->api->views.clusters, class->members[k], &i) < 0 || !may_see_incident(s, &i))
			return false;
	return true;
}

/* ---- written ---- */

static void put_workloads(struct json_writer *w, const struct cluster_incident *i)
{
	json_key(w, "workloads");
	json_open_array(w);
	for (size_t k = 0; k < CLUSTER_WORKLOADS_MAX && i->workloads[k].id; k++) {
		const struct cluster_workload *l = &i->workloads[k];

		json_open_object(w);
		json_put_string(w, "unit", l->unit);
		json_put_string(w, "cgroup", l->cgroup);
		json_put_string(w, "exe", l->exe);
		json_put_string(w, "comm", l->comm);
		json_put_u64(w, "uid", l->uid);
		if (l->pid > 0)
			json_put_int(w, "pid", l->pid);
		json_close_object(w);
	}
	json_close_array(w);
}

static void put_moved(struct api *a, struct json_writer *w, const struct cluster_incident *i, struct stack *stack)
{
	json_key(w, "moved");
	json_open_array(w);
	for (size_t k = 0; k < CLUSTER_SERIES_MAX && i->series[k].id; k++) {
		const struct cluster_series *s = &i->series[k];

		get_stack(a, s->stack_id, stack);
		stack->n = MIN(stack->n, (size_t)INCIDENT_FRAMES_MAX);
		json_open_object(w);
		json_put_u64(w, "anomaly", s->anomaly_id);
		json_put_id(w, "stack", s->stack_id);
		put_metric(w, "metric", MIN(s->metric, METRIC_N - 1));
		put_finite(w, "expected", s->expected);
		put_finite(w, "worst", s->worst);
		put_frames(w, "frames", stack);
		json_close_object(w);
	}
	json_close_array(w);
}

void write_incident(struct api *a, struct json_writer *w, const struct cluster_incident *i, struct stack *stack)
{
	static const char *const labels[] = {
		[CLUSTER_UNLABELLED] = "unlabelled", [CLUSTER_REAL] = "real", [CLUSTER_FALSE] = "false",
	};
	const char *end = cluster_end_to_string(i->end);
	struct cluster_class class = {};
	char text[32];

	json_open_object(w);
	json_put_u64(w, "id", i->id);
	if (clusters_get_class(a->views.clusters, i->cluster, &class) == 0)
		json_put_id(w, "cluster", class.id);
	json_put_string(w, "name", class.name);
	json_put_string(w, "kind", underscored(text, cluster_kind_to_string(i->kind)));
	json_put_string(w, "severity", cluster_severity_to_string(i->severity));
	json_put_string(w, "label", labels[i->label]);
	json_put_bool(w, "muted", class.muted_until_us > clock_realtime_us());
	json_put_u64(w, "opened_us", i->opened_us);
	json_put_u64(w, "last_us", i->last_us);
	if (i->closed_us)
		json_put_u64(w, "closed_us", i->closed_us);
	if (end)
		json_put_string(w, "end", underscored(text, end));
	put_finite(w, "size", i->size);
	put_finite(w, "score", i->score);
	json_put_u64(w, "anomalies", i->n_anomalies);
	json_put_u64(w, "workloads_count", i->n_workloads);
	put_workloads(w, i);
	put_moved(a, w, i, stack);
	json_close_object(w);
}

static void put_remedy(const struct api *a, struct json_writer *w, const struct cluster_incident *i, const struct cluster_class *class)
{
	const struct remedies *remedies = a->actions.remedies(a->actions.userdata);
	const char *frames[CLUSTER_COMMON_MAX];
	char text[REMEDY_TEXT_MAX];
	struct remedy_case c;
	struct remedy remedy;

	incident_case(i, class, frames, &c);
	c.kind = class->kind;
	if (!remedies_find(remedies, &c, &remedy))
		return;
	json_key(w, "remedy");
	json_open_object(w);
	json_put_string(w, "id", remedy.id);
	json_put_string(w, "name", remedy_fill(text, remedy.name, &c));
	json_put_string(w, "explain", remedy.explain);
	json_key(w, "try");
	json_open_array(w);
	for (size_t k = 0; k < remedy.n_try; k++)
		if (remedy_fits(remedy.try[k], &c))
			json_write_string(w, remedy_fill(text, remedy.try[k], &c));
	json_close_array(w);
	json_close_object(w);
}

static void write_class(struct api *a, struct json_writer *w, const struct cluster_class *class)
{
	struct cluster_incident latest = {};
	uint64_t now = clock_realtime_us();
	char kind[32];

	json_open_object(w);
	json_put_id(w, "id", class->id);
	json_put_string(w, "name", class->name);
	json_put_string(w, "kind", underscored(kind, cluster_kind_to_string(class->kind)));
	json_put_string(w, "severity", cluster_severity_to_string(class->severity));
	json_put_u64(w, "incidents", class->n_incidents);
	json_put_u64(w, "first_us", class->first_us);
	json_put_u64(w, "last_us", class->last_us);
	json_put_bool(w, "muted", class->muted_until_us > now);
	if (class->muted_until_us > now && class->muted_until_us != UINT64_MAX)
		json_put_u64(w, "muted_until_us", class->muted_until_us);
	json_put_u64(w, "labelled_real", class->n_real);
	json_put_u64(w, "labelled_false", class->n_false);
	json_key(w, "evidence");
	json_open_array(w);
	for (unsigned axis = 0; axis < CLUSTER_METRICS; axis++) {
		enum metric m = axis == CLUSTER_MEMORY ? METRIC_RSS : (enum metric)axis;
		double decades = cluster_class_evidence(class, m, now);

		if (decades == 0)
			continue;
		json_open_object(w);
		put_metric(w, "metric", m);
		put_finite(w, "decades", decades);
		json_close_object(w);
	}
	json_close_array(w);
	json_key(w, "common");
	json_open_array(w);
	for (size_t k = 0; k < class->n_common; k++)
		json_write_string(w, class->common[k]);
	json_close_array(w);
	json_key(w, "members");
	json_open_array(w);
	for (size_t k = 0; k < class->n_members; k++) {
		struct cluster_incident i;

		if (clusters_get_incident(a->views.clusters, class->members[k], &i) < 0)
			continue;
		json_write_u64(w, i.id);
		if (!latest.id)
			latest = i;
	}
	json_close_array(w);
	json_key(w, "units");
	json_open_array(w);
	for (size_t k = 0; k < CLUSTER_WORKLOADS_MAX && latest.workloads[k].id; k++)
		json_write_string(w, latest.workloads[k].unit[0] ? latest.workloads[k].unit : latest.workloads[k].cgroup);
	json_close_array(w);
	put_remedy(a, w, &latest, class);
	json_close_object(w);
}

/* ---- lists, page by page ---- */

struct ids {
	bool classes, open_only;
	size_t limit, n, next;
	const struct session *session;
	uint64_t *ids;
	struct stack stack; /* scratch */
};

static void ids_free(struct session *s _unused_, void *state)
{
	struct ids *l = state;

	free(l->ids);
	free(l);
}

/* False when it is gone, or the page is full. */
static bool write_one(struct session *s, struct ids *l, struct json_writer *w, size_t n)
{
	struct cluster_incident i;
	struct cluster_class class;

	if (page_full(s, json_writer_size(w), n, INCIDENT_BOUND))
		return false;
	if (l->classes && clusters_get_class(s->api->views.clusters, l->ids[l->next], &class) == 0)
		write_class(s->api, w, &class);
	else if (!l->classes && clusters_get_incident(s->api->views.clusters, l->ids[l->next], &i) == 0)
		write_incident(s->api, w, &i, &l->stack);
	l->next++;
	return true;
}

static enum produce_result ids_produce(struct session *s)
{
	struct ids *l = s->call.state;
	struct json_writer *w = session_reply_begin(s);
	bool continues;
	size_t n = 0;

	json_key(w, l->classes ? "clusters" : "incidents");
	json_open_array(w);
	while (l->next < l->n && write_one(s, l, w, n))
		n++;
	json_close_array(w);
	continues = l->next < l->n;
	return session_reply_end(s, continues) && continues ? PRODUCE_MORE : PRODUCE_DONE;
}

static int collect_incident(void *userdata, const struct cluster_incident *i)
{
	struct ids *l = userdata;

	if (l->n == l->limit)
		return 1;
	if ((!l->open_only || !i->closed_us) && may_see_incident(l->session, i))
		l->ids[l->n++] = i->id;
	return 0;
}

static int collect_class(void *userdata, const struct cluster_class *class)
{
	struct ids *l = userdata;

	if (l->n == l->limit)
		return 1;
	if (may_see_class(l->session, class))
		l->ids[l->n++] = class->id;
	return 0;
}

/* NULL when that has been answered. */
static struct ids *ids_new(struct session *s, bool classes, size_t limit)
{
	struct ids *l = calloc(1, sizeof(*l));

	if (l)
		l->ids = calloc(limit, sizeof(*l->ids));
	if (!l || !l->ids) {
		free(l);
		session_failed(s, -ENOMEM);
		return NULL;
	}
	l->classes = classes;
	l->limit = limit;
	l->session = s;
	return l;
}

static void no_incident(struct session *s, uint64_t id)
{
	char what[48];

	snprintf(what, sizeof(what), "incident %llu", (unsigned long long)id);
	session_error(s, "org.stackd.NotFound", "what", what);
}

static void no_cluster(struct session *s, uint64_t id)
{
	char what[48];

	snprintf(what, sizeof(what), "cluster %016llx", (unsigned long long)id);
	session_error(s, "org.stackd.NotFound", "what", what);
}

void method_list_incidents(struct session *s, const struct json *parameters)
{
	struct cluster_incident i;
	uint64_t id = 0;
	bool open = false;
	uint32_t limit;
	struct ids *l;

	json_get_bool(parameters, "open", &open);
	if (!parse_limit(s, parameters, 1, DEFAULT_LIMIT, &limit))
		return;
	if (json_get_u64(parameters, "id", &id) < 0) {
		session_invalid_parameter(s, "id");
		return;
	}
	if (id && (clusters_get_incident(s->api->views.clusters, id, &i) < 0 || !may_see_incident(s, &i))) {
		no_incident(s, id);
		return;
	}
	l = ids_new(s, false, limit);
	if (!l)
		return;
	l->open_only = open;
	if (id)
		l->ids[l->n++] = id;
	else
		clusters_visit_incidents(s->api->views.clusters, collect_incident, l);
	session_produce(s, ids_produce, l, ids_free);
}

void method_list_clusters(struct session *s, const struct json *parameters)
{
	uint32_t limit;
	struct ids *l;

	if (!parse_limit(s, parameters, 1, DEFAULT_LIMIT, &limit))
		return;
	l = ids_new(s, true, limit);
	if (!l)
		return;
	clusters_visit_classes(s->api->views.clusters, collect_class, l);
	session_produce(s, ids_produce, l, ids_free);
}

/* ---- one ---- */

/* The class of the parameter "cluster"; false when that has been answered. */
static bool find_class(struct session *s, const struct json *parameters, struct cluster_class *ret)
{
	uint64_t id;

	if (json_get_id(parameters, "cluster", &id) <= 0) {
		session_invalid_parameter(s, "cluster");
		return false;
	}
	if (clusters_get_class(s->api->views.clusters, id, ret) < 0 || !may_see_class(s, ret)) {
		no_cluster(s, id);
		return false;
	}
	return true;
}

static void put_class(struct session *s, struct json_writer *w, const struct cluster_class *class)
{
	json_key(w, "cluster");
	write_class(s->api, w, class);
}

void method_get_cluster(struct session *s, const struct json *parameters)
{
	_cleanup_free_ struct stack *stack = NULL;
	struct cluster_class class;
	struct json_writer *w;

	if (!find_class(s, parameters, &class))
		return;
	stack = malloc(sizeof(*stack));
	if (!stack) {
		session_failed(s, -ENOMEM);
		return;
	}
	w = session_reply_begin(s);
	put_class(s, w, &class);
	json_key(w, "incidents");
	json_open_array(w);
	for (size_t k = 0; k < class.n_members; k++) {
		struct cluster_incident i;

		if (clusters_get_incident(s->api->views.clusters, class.members[k], &i) == 0)
			write_incident(s->api, w, &i, stack);
	}
	json_close_array(w);
	session_reply_end(s, false);
}

void method_mute_cluster(struct session *s, const struct json *parameters)
{
	uint64_t until = UINT64_MAX;
	struct cluster_class class;
	int64_t duration = 0;
	int r;

	if (!find_class(s, parameters, &class))
		return;
	r = json_get_int(parameters, "duration_us", &duration);
	if (r > 0)
		until = duration > 0 ? clock_realtime_us() + (uint64_t)duration : 0;
	if (duration < 0) {
		session_invalid_parameter(s, "duration_us");
		return;
	}
	clusters_mute(s->api->views.clusters, class.id, until);
	clusters_get_class(s->api->views.clusters, class.id, &class);
	put_class(s, session_reply_begin(s), &class);
	session_reply_end(s, false);
}

void method_label_incident(struct session *s, const struct json *parameters)
{
	_cleanup_free_ struct stack *stack = malloc(sizeof(*stack));
	const char *label = "", *kind_text;
	enum cluster_kind kind;
	struct cluster_incident i;
	struct detect_status detect;
	struct json_writer *w;
	bool has_kind = json_get_string(parameters, "kind", &kind_text) > 0;
	uint64_t id = 0;

	json_get_string(parameters, "label", &label);
	if (has_kind && cluster_kind_from_string(kind_text, &kind) < 0) {
		session_invalid_parameter(s, "kind");
		return;
	}
	if (json_get_u64(parameters, "id", &id) <= 0) {
		session_invalid_parameter(s, "id");
		return;
	}
	if (!stack) {
		session_failed(s, -ENOMEM);
		return;
	}
	detect_get_status(s->api->views.detect, &detect);
	if (clusters_label(s->api->views.clusters, id,
	                   streq(label, "real")    ? CLUSTER_REAL
	                   : streq(label, "false") ? CLUSTER_FALSE
	                                           : CLUSTER_UNLABELLED,
	                   has_kind ? &kind : NULL, detect.threshold, clock_realtime_us()) < 0) {
		no_incident(s, id);
		return;
	}
	clusters_get_incident(s->api->views.clusters, id, &i);
	w = session_reply_begin(s);
	json_key(w, "incident");
	write_incident(s->api, w, &i, stack);
	session_reply_end(s, false);
}
