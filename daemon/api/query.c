/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parameters to queries. The types are checked by then; what is left are ranges. */
#include "internal.h"

uint64_t query_now_us(const struct api *a)
{
	return a->config.until_us > 0 ? a->config.until_us : clock_realtime_us();
}

bool query_window(struct session *s, const struct json *object, const char *prefix,
                  uint64_t default_window_us, struct query *q)
{
	const struct api_config *config = &s->api->config;
	uint64_t now = query_now_us(s->api), since, until;
	char field[IDL_FIELD_MAX];
	bool has_since, has_until;
	struct json_writer *w;
	int r;

	r = json_get_u64(object, "since_us", &since);
	has_since = r > 0;
	if (r < 0) {
		snprintf(field, sizeof(field), "%ssince_us", prefix);
		session_invalid_parameter(s, field);
		return false;
	}
	r = json_get_u64(object, "until_us", &until);
	has_until = r > 0;
	if (r < 0) {
		snprintf(field, sizeof(field), "%suntil_us", prefix);
		session_invalid_parameter(s, field);
		return false;
	}
	if (has_since && has_until && since > until) {
		w = session_error_begin(s, "org.stackd.InvalidRange");
		json_put_u64(w, "since_us", since);
		json_put_u64(w, "until_us", until);
		session_error_end(s);
		return false;
	}
	if (config->until_us > 0)
		default_window_us = config->until_us - config->since_us;
	/* To the store 0 means now; nothing is that old either. */
	q->filter.until_us = !has_until ? MAX(now, has_since ? since : 0) : MAX(until, 1U);
	q->filter.since_us =
		has_since ? since : q->filter.until_us - MIN(q->filter.until_us, default_window_us);
	q->to_now = !has_until;
	return true;
}

bool query_parse(struct session *s, const struct json *parameters, uint64_t default_window_us,
                 struct query *ret)
{
	const struct json *filter = json_get(parameters, "filter");
	struct query q = { 0 };
	int64_t pid = 0;

	q.filter.viewer_uid = s->peer.privileged ? STORE_ANY_UID : s->peer.uid;
	if (json_get_int(filter, "pid", &pid) > 0 && (pid < 1 || pid > INT32_MAX)) {
		session_invalid_parameter(s, "filter.pid");
		return false;
	}
	q.filter.pid = pid;
	json_get_string(filter, "unit", &q.filter.unit);
	json_get_string(filter, "cgroup", &q.filter.cgroup);
	json_get_string(filter, "comm", &q.filter.comm);
	json_get_string(filter, "exe", &q.filter.exe);
	if (!query_window(s, filter, "filter.", default_window_us, &q))
		return false;
	*ret = q;
	return true;
}

/* Where nobody tells faults in files from others, "anonymous" would be all of them. */
static bool is_unmeasured(const struct session *s, enum metric m)
{
	struct collect_status c = { 0 };

	if (m != METRIC_FAULTS_ANON || !s->api->views.collect)
		return false;
	collect_get_status(s->api->views.collect, &c);
	return c.unmeasured >> m & 1;
}

bool parse_metric(struct session *s, const struct json *parameters, enum metric *ret)
{
	const char *name;

	if (json_get_string(parameters, "metric", &name) <= 0)
		*ret = METRIC_ON_CPU;
	else if (metric_from_string(name, ret) < 0) {
		session_invalid_parameter(s, "metric");
		return false;
	}
	if (is_unmeasured(s, *ret)) {
		session_error(s, "org.stackd.NotFound", "what", "faults-anon: this source (see status) does not tell faults apart");
		return false;
	}
	return true;
}

bool parse_limit(struct session *s, const struct json *parameters, uint32_t least, uint32_t fallback,
                 uint32_t *ret)
{
	int64_t limit = fallback;

	json_get_int(parameters, "limit", &limit);
	if (limit < least || limit > API_LIMIT_MAX) {
		session_invalid_parameter(s, "limit");
		return false;
	}
	*ret = limit;
	return true;
}

bool query_stack(struct session *s, const struct json *parameters, bool absent_ok, struct query *q)
{
	int r = json_get_id(parameters, "stack", &q->filter.stack_id);

	/* To the store 0 means any. */
	if (r < 0 || (r == 0 && !absent_ok) || (r > 0 && q->filter.stack_id == 0)) {
		session_invalid_parameter(s, "stack");
		return false;
	}
	return true;
}

int query_copy(const struct query *q, struct query *ret)
{
	const char *const from[] = { q->filter.unit, q->filter.cgroup, q->filter.comm, q->filter.exe };
	char *to[ELEMENTS_OF(from)] = { NULL };

	for (size_t i = 0; i < ELEMENTS_OF(from); i++) {
		if (!from[i])
			continue;
		to[i] = strdup(from[i]);
		if (!to[i]) {
			while (i-- > 0)
				free(to[i]);
			return -ENOMEM;
		}
	}
	*ret = *q;
	ret->filter.unit = to[0];
	ret->filter.cgroup = to[1];
	ret->filter.comm = to[2];
	ret->filter.exe = to[3];
	return 0;
}

void query_done(struct query *q)
{
	free((char *)q->filter.unit);
	free((char *)q->filter.cgroup);
	free((char *)q->filter.comm);
	free((char *)q->filter.exe);
	*q = (struct query){ 0 };
}

/* ---- what there is at all ---- */

static int stop_at_first(void *userdata _unused_, const struct store_slice_sum *sum _unused_)
{
	return 1;
}

static bool is_known(struct session *s, const struct query *q, pid_t pid, uint64_t stack_id)
{
	const struct store_filter filter = {
		.until_us = query_now_us(s->api),
		.viewer_uid = q->filter.viewer_uid,
		.pid = pid,
		.stack_id = stack_id,
	};
	struct store *store = s->api->views.store;

	if (store_visit_slices(store, &filter, stop_at_first, NULL) != 0)
		return true;
	if (stack_id)
		return s->peer.privileged && store_find_stack(store, stack_id) != 0;
	return store_visit_totals(store, &filter, stop_at_first, NULL) != 0;
}

bool query_refuse_unknown(struct session *s, const struct query *q)
{
	char what[64] = "";

	if (q->filter.pid && !is_known(s, q, q->filter.pid, 0))
		snprintf(what, sizeof(what), "process %d", q->filter.pid);
	else if (q->filter.stack_id && !is_known(s, q, 0, q->filter.stack_id))
		snprintf(what, sizeof(what), "stack %016llx", (unsigned long long)q->filter.stack_id);
	else
		return false;
	session_error(s, "org.stackd.NotFound", "what", what);
	return true;
}

/* ---- moments ---- */

static bool kept_range(struct session *s, const struct query *q, uint64_t *ret_since_us, uint64_t *ret_until_us)
{
	const struct api_views *views = &s->api->views;

	if (q->waits)
		return views->thread_waits && thread_waits_range(views->thread_waits, ret_since_us, ret_until_us);
	return views->moments && moments_range(views->moments, ret_since_us, ret_until_us);
}

static void refuse_exact(struct session *s, const struct query *q, const char *reason)
{
	struct json_writer *w = session_error_begin(s, "org.stackd.NotKept");
	uint64_t since, until;

	json_put_string(w, "reason", reason);
	if (kept_range(s, q, &since, &until)) {
		json_put_u64(w, "since_us", since);
		json_put_u64(w, "until_us", until);
	}
	session_error_end(s);
}

static bool is_waiting(enum metric metric)
{
	return metric == METRIC_BLOCKED || metric == METRIC_RUNNABLE || metric == METRIC_OFF_CPU;
}

bool query_exact(struct session *s, const struct json *parameters, enum metric metric, struct query *q)
{
	bool has_since = json_get(json_get(parameters, "filter"), "since_us") != NULL;
	bool on_cpu = metric == METRIC_ON_CPU || metric == METRIC_HITS;
	uint64_t since, until;

	json_get_bool(parameters, "exact", &q->exact);
	q->exact |= q->threads || q->tid;
	if (!q->exact)
		return true;
	q->waits = is_waiting(metric) && (q->threads || q->tid);
	if (!on_cpu && !is_waiting(metric) && (q->threads || q->tid)) {
		refuse_exact(s, q, "of memory and page faults the sums by process are kept, and not by thread");
		return false;
	}
	if (!on_cpu && !q->waits) {
		refuse_exact(s, q, "of other metrics than on-cpu whole seconds of processes are kept");
		return false;
	}
	if (q->waits && !s->api->views.thread_waits) {
		refuse_exact(s, q, "this recording has sums of waits by process, and not by thread");
		return false;
	}
	if (!q->waits && !s->api->views.moments) {
		refuse_exact(s, q, "this recording has whole seconds only");
		return false;
	}
	if (!kept_range(s, q, &since, &until)) {
		refuse_exact(s, q, "there is nothing yet");
		return false;
	}
	if (q->to_now)
		q->filter.until_us = until;
	if (!has_since)
		q->filter.since_us = MIN(MAX(q->filter.since_us, since), q->filter.until_us);
	if (q->filter.since_us < since || q->filter.until_us > until) {
		refuse_exact(s, q, "of that window whole seconds of processes are kept, if any");
		return false;
	}
	return true;
}

bool query_threads(struct session *s, const struct json *parameters, struct query *q)
{
	int64_t tid = 0;

	json_get_bool(parameters, "threads", &q->threads);
	if (json_get_int(parameters, "tid", &tid) > 0 && (tid < 1 || tid > INT32_MAX)) {
		session_invalid_parameter(s, "tid");
		return false;
	}
	q->tid = (uint32_t)tid;
	return true;
}

struct matching {
	struct store *store;
	const struct store_filter *filter;
	store_ref stack;   /* 0: any */
	uint32_t tid;      /* 0: any */
	store_ref process; /* of the moment before */
	bool matches;      /* it did */
	moment_fn fn;
	void *userdata;
};

static int match_moment(void *userdata, const struct moment *m)
{
	struct matching *x = userdata;

	if (x->filter->stack_id && (!x->stack || m->stack != x->stack))
		return 0;
	if (x->tid && m->tid != x->tid)
		return 0;
	if (!x->process || m->process != x->process)
		x->matches = store_process_matches(x->store, x->filter, m->process);
	x->process = m->process;
	return x->matches ? x->fn(x->userdata, m) : 0;
}

int query_moments(struct session *s, const struct query *q, moment_fn fn, void *userdata)
{
	struct store *store = s->api->views.store;
	struct matching x = {
		.store = store,
		.filter = &q->filter,
		.tid = q->tid,
		.stack = q->filter.stack_id ? store_find_stack(store, q->filter.stack_id) : 0,
		.fn = fn,
		.userdata = userdata,
	};

	if (q->waits)
		return thread_waits_visit(s->api->views.thread_waits, q->filter.since_us, q->filter.until_us, match_moment, &x);
	return moments_visit(s->api->views.moments, q->filter.since_us, q->filter.until_us, match_moment, &x);
}

/* ---- sums ---- */

static uint64_t stack_id_of(const struct store *store, store_ref stack)
{
	struct store_frame none;
	bool truncated;
	uint64_t id;
	size_t n;

	return store_get_stack(store, stack, &id, &truncated, &none, 0, &n) < 0 ? 0 : id;
}

struct adding {
	struct store *store;
	struct table *table;
	enum metric metric;
	bool by_comm;
	bool threads;                  /* they are told apart */
	const struct moments *moments;
	const struct thread_waits *waits; /* of which they are, or NULL */
	uint64_t drawn_us; /* the longest wait that stands for shorter ones */
};

void query_variances_of_hits(const uint64_t values[static METRIC_N], double ret[static METRIC_N])
{
	double on_cpu = (double)values[METRIC_ON_CPU], hits = (double)values[METRIC_HITS];

	memset(ret, 0, METRIC_N * sizeof(*ret));
	ret[METRIC_ON_CPU] = hits > 0 ? on_cpu * on_cpu / hits : 0;
	ret[METRIC_HITS] = hits;
}

void query_variances(const uint64_t variances[static METRIC_N], double ret[static METRIC_N])
{
	for (enum metric m = 0; m < METRIC_N; m++)
		ret[m] = (double)variances[m] * (m == METRIC_FAULTS_MINOR || m == METRIC_FAULTS_MAJOR ? 1 : 1 << 20);
}

/* The second part of the key of its row; buf: of its process. */
static const char *comm_of(const struct adding *a, uint32_t tid, const struct store_slice_sum *sum, struct store_process *buf)
{
	const char *comm = "";

	if (a->threads)
		comm = a->waits ? thread_waits_thread(a->waits, tid) : moments_thread(a->moments, tid);
	return a->by_comm && !comm[0] && store_get_process(a->store, sum->process, buf) >= 0 ? buf->comm : comm;
}

/* id: of its stack, 0 when that is not kept any more. */
static int add_sum(struct adding *a, uint64_t id, uint32_t tid, const struct store_slice_sum *sum)
{
	struct store_process process;
	const char *comm = comm_of(a, tid, sum, &process);
	double variances[METRIC_N];
	int r;

	r = table_add(a->table, id, comm, a->threads ? tid : 0, a->metric, sum->values);
	if (r < 0 || sum->values[METRIC_HITS] == 0)
		return r;
	query_variances_of_hits(sum->values, variances);
	table_add_variances(a->table, id, comm, a->threads ? tid : 0, a->metric, variances);
	return 0;
}

static int add_variances(void *userdata, const struct store_slice_sum *sum)
{
	const struct adding *a = userdata;
	struct store_process process;
	double variances[METRIC_N];

	query_variances(sum->values, variances);
	table_add_variances(a->table, stack_id_of(a->store, sum->stack), comm_of(a, 0, sum, &process), 0, a->metric, variances);
	return 0;
}

static int add_slice(void *userdata, const struct store_slice_sum *sum)
{
	struct adding *a = userdata;
	uint64_t id = stack_id_of(a->store, sum->stack);

	if (id == 0 || (metric_value(sum->values, a->metric) == 0 && !a->table->with_values))
		return 0;
	return add_sum(a, id, 0, sum);
}

static int add_moment(void *userdata, const struct moment *m)
{
	struct store_slice_sum sum = { .process = m->process, .stack = m->stack };
	struct adding *a = userdata;

	sum.values[m->metric] = m->weight_us * NSEC_PER_USEC;
	sum.values[METRIC_HITS] = m->metric == METRIC_ON_CPU;
	if (metric_value(sum.values, a->metric) == 0)
		return 0;
	if (m->drawn)
		a->drawn_us = MAX(a->drawn_us, m->weight_us);
	return add_sum(a, stack_id_of(a->store, m->stack), m->tid, &sum);
}

int query_sum(struct session *s, const struct query *q, enum metric metric, bool by_comm, struct table *t, uint64_t *ret_drawn_ns)
{
	struct adding a = {
		.store = s->api->views.store,
		.table = t,
		.metric = metric,
		.by_comm = by_comm,
		.threads = q->threads,
		.moments = s->api->views.moments,
		.waits = q->waits ? s->api->views.thread_waits : NULL,
	};
	int r;

	t->limit = table_limit(s->api);
	t->no_variances = q->waits || metric == METRIC_HEAP || metric == METRIC_RSS || metric == METRIC_KMEM;
	r = q->exact ? query_moments(s, q, add_moment, &a) : store_visit_slices(a.store, &q->filter, add_slice, &a);
	if (r >= 0 && !q->exact)
		r = store_visit_variances(a.store, &q->filter, add_variances, &a);
	if (r < 0)
		return r;
	table_sort(t);
	if (ret_drawn_ns)
		*ret_drawn_ns = a.drawn_us * NSEC_PER_USEC;
	return 0;
}
