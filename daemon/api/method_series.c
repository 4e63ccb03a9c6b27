/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GetSeries: the course of everything that matches, step by step. */
#include "internal.h"

#define DEFAULT_WINDOW_US (15 * 60 * USEC_PER_SEC)
#define POINT_BOUND 1024 /* bytes: numbers only */

struct points {
	struct session *session;
	struct query *query;
	struct json_writer *writer;
	size_t n;
};

/* Gives 1 when the page is full. */
static int write_point(void *userdata, const struct store_point *point)
{
	struct points *p = userdata;
	struct json_writer *w = p->writer;

	if (page_full(p->session, json_writer_size(w), p->n++, POINT_BOUND))
		return 1;
	json_open_object(w);
	json_put_u64(w, "time_us", point->time_us);
	json_put_int(w, "step_s", point->step_s);
	json_put_bool(w, "gate_open", point->gate_open);
	json_put_float(w, "load", point->load_milli / 1000.0);
	json_put_u64(w, "lost", store_lost_of(point, METRIC_ALL_N));
	put_values(w, "values", point->values);
	json_close_object(w);
	p->query->filter.since_us = point->time_us;
	return 0;
}

int write_points(struct session *s, struct query *q, struct json_writer *w)
{
	struct points points = { .session = s, .query = q, .writer = w };

	return store_visit_points(s->api->views.store, &q->filter, write_point, &points);
}

struct series {
	struct query query; /* write_points() moves it on */
	struct window_sum window;
};

static void series_free(struct session *s _unused_, void *state)
{
	struct series *series = state;

	query_done(&series->query);
	free(series);
}

static enum produce_result series_produce(struct session *s)
{
	struct series *series = s->call.state;
	struct json_writer *w = session_reply_begin(s);
	int r;

	put_window(w, &series->window);
	json_key(w, "points");
	json_open_array(w);
	r = write_points(s, &series->query, w);
	json_close_array(w);
	if (r < 0) {
		session_failed(s, r);
		return PRODUCE_DONE;
	}
	return session_reply_end(s, r > 0) && r > 0 ? PRODUCE_MORE : PRODUCE_DONE;
}

void method_get_series(struct session *s, const struct json *parameters)
{
	struct series *series;
	struct query q;
	int r;

	if (!query_parse(s, parameters, DEFAULT_WINDOW_US, &q) || !query_stack(s, parameters, true, &q) ||
	    query_refuse_unknown(s, &q))
		return;
	series = calloc(1, sizeof(*series));
	if (!series) {
		session_failed(s, -ENOMEM);
		return;
	}
	session_produce(s, series_produce, series, series_free);
	r = query_copy(&q, &series->query);
	if (r >= 0)
		r = window_sum(s->api, &q, METRIC_ALL_N, &series->window);
	if (r < 0) {
		/* Answered already: nothing is left to produce. */
		session_failed(s, r);
		s->call.produce = NULL;
	}
}
