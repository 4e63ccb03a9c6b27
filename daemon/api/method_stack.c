/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GetStack: one stack over time and by process. First the slices, then the points, page by page. */
#include "internal.h"

#define DEFAULT_WINDOW_US (15 * 60 * USEC_PER_SEC)

struct view {
	struct query query;      /* write_points() moves it on */
	struct window_sum window;
	struct table processes;
	uint64_t values[METRIC_N];
	double variances[METRIC_N]; /* of these */
	size_t next;             /* process to be sent */
	struct stack stack;
};

static void view_free(struct session *s, void *state)
{
	struct view *v = state;

	s->api->rows -= v->processes.n;
	table_done(&v->processes);
	query_done(&v->query);
	free(v);
}

static int add_slice(void *userdata, const struct store_slice_sum *sum)
{
	struct view *v = userdata;
	double variances[METRIC_N];

	for (enum metric m = 0; m < METRIC_N; m++)
		v->values[m] += sum->values[m];
	query_variances_of_hits(sum->values, variances);
	for (enum metric m = 0; m < METRIC_N; m++)
		v->variances[m] += variances[m];
	return table_add(&v->processes, sum->process, "", 0, METRIC_ON_CPU, sum->values);
}

static int add_variances(void *userdata, const struct store_slice_sum *sum)
{
	struct view *v = userdata;
	double variances[METRIC_N];

	query_variances(sum->values, variances);
	for (enum metric m = 0; m < METRIC_N; m++)
		v->variances[m] += variances[m];
	return 0;
}

static void put_stack(struct view *v, struct json_writer *w)
{
	json_key(w, "stack");
	json_open_object(w);
	json_put_id(w, "stack", v->stack.id);
	put_frames(w, "frames", &v->stack);
	json_put_bool(w, "truncated", v->stack.truncated);
	put_values(w, "values", v->values);
	put_standard_errors(w, v->variances);
	json_close_object(w);
}

static void write_slice(struct session *s, struct view *v, struct json_writer *w)
{
	const struct row *row = &v->processes.rows[v->next++];
	struct store_process process;

	if (store_get_process(s->api->views.store, row->key, &process) < 0)
		return;
	json_open_object(w);
	put_process(w, "process", &process);
	put_values(w, "values", v->processes.values[row->values]);
	json_close_object(w);
}

static enum produce_result view_produce(struct session *s)
{
	struct view *v = s->call.state;
	struct json_writer *w = session_reply_begin(s);
	int r = 1;

	put_window(w, &v->window);
	/* Anew for each page: the names are the store's. */
	get_stack(s->api, v->query.filter.stack_id, &v->stack);
	put_stack(v, w);
	json_key(w, "slices");
	json_open_array(w);
	for (size_t n = 0; v->next < v->processes.n && !page_full(s, json_writer_size(w), n, PROCESS_BOUND);
	     n++)
		write_slice(s, v, w);
	json_close_array(w);
	json_key(w, "points");
	json_open_array(w);
	if (v->next == v->processes.n)
		r = write_points(s, &v->query, w);
	json_close_array(w);
	if (r < 0) {
		session_failed(s, r);
		return PRODUCE_DONE;
	}
	return session_reply_end(s, r > 0) && r > 0 ? PRODUCE_MORE : PRODUCE_DONE;
}

static int view_fill(struct session *s, struct view *v, const struct query *q)
{
	int r;

	r = query_copy(q, &v->query);
	if (r < 0)
		return r;
	v->processes = (struct table){ .limit = table_limit(s->api), .with_values = true };
	r = store_visit_slices(s->api->views.store, &q->filter, add_slice, v);
	s->api->rows += v->processes.n;
	if (r >= 0)
		r = store_visit_variances(s->api->views.store, &q->filter, add_variances, v);
	if (r < 0)
		return r;
	table_sort(&v->processes);
	return window_sum(s->api, q, METRIC_ALL_N, &v->window);
}

void method_get_stack(struct session *s, const struct json *parameters)
{
	struct query q;
	struct view *v;
	int r;

	if (!query_parse(s, parameters, DEFAULT_WINDOW_US, &q) || !query_stack(s, parameters, false, &q))
		return;
	v = calloc(1, sizeof(*v));
	if (!v) {
		session_failed(s, -ENOMEM);
		return;
	}
	session_produce(s, view_produce, v, view_free);
	r = view_fill(s, v, &q);
	if (r < 0)
		session_failed(s, r);
	/* Answered already: nothing is left to produce. */
	if (r < 0 || (v->processes.n == 0 && query_refuse_unknown(s, &q)))
		s->call.produce = NULL;
}
