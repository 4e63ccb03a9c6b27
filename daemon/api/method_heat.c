/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GetHeat: on-CPU time by steps within seconds, second by second. */
#include "internal.h"

#define DEFAULT_WINDOW_US (15 * 60 * USEC_PER_SEC)
#define STEP_LEAST_US 1000
#define STEP_DEFAULT_US 20000
#define STEP_BOUND 128      /* bytes: numbers only */
#define SECONDS_AT_ONCE 120 /* on a large machine a second has thousands of samples */

struct heat_step {
	uint64_t on_cpu_us, hits;
};

struct heat {
	struct query query;  /* since_us moves on */
	struct window_sum window;
	bool any;            /* of the window is kept */
	uint64_t since_us, until_us, step_us;
	uint64_t second_us;  /* that the steps are of */
	bool any_in_second;
	struct heat_step steps[USEC_PER_SEC / STEP_LEAST_US];
};

static void heat_free(struct session *s _unused_, void *state)
{
	struct heat *h = state;

	query_done(&h->query);
	free(h);
}

static int add_moment(void *userdata, const struct moment *m)
{
	struct heat *h = userdata;
	struct heat_step *step = &h->steps[(m->time_us - h->second_us) / h->step_us];

	step->on_cpu_us += m->weight_us;
	step->hits++;
	h->any_in_second = true;
	return 0;
}

/* Writes the second that the query's window begins in, and moves that on. */
static int write_second(struct session *s, struct heat *h, struct json_writer *w, size_t *n)
{
	struct query second = h->query;
	int r;

	h->second_us = second.filter.since_us / USEC_PER_SEC * USEC_PER_SEC;
	second.filter.until_us = MIN(h->second_us + USEC_PER_SEC, h->until_us);
	memset(h->steps, 0, USEC_PER_SEC / h->step_us * sizeof(h->steps[0]));
	h->any_in_second = false;
	r = query_moments(s, &second, add_moment, h);
	for (size_t i = 0; r >= 0 && h->any_in_second && i < USEC_PER_SEC / h->step_us; i++) {
		if (h->steps[i].hits == 0)
			continue;
		json_open_object(w);
		json_put_u64(w, "time_us", h->second_us + i * h->step_us);
		json_put_u64(w, "on_cpu", h->steps[i].on_cpu_us * NSEC_PER_USEC);
		json_put_u64(w, "hits", h->steps[i].hits);
		json_close_object(w);
		++*n;
	}
	h->query.filter.since_us = second.filter.until_us;
	return r;
}

static enum produce_result heat_produce(struct session *s)
{
	struct heat *h = s->call.state;
	struct json_writer *w = session_reply_begin(s);
	size_t n = 0, seconds = 0, bound = USEC_PER_SEC / h->step_us * STEP_BOUND;
	bool more;
	int r = 0;

	put_window(w, &h->window);
	if (h->any) {
		json_put_u64(w, "since_us", h->since_us);
		json_put_u64(w, "until_us", h->until_us);
	}
	json_put_u64(w, "step_us", h->step_us);
	json_key(w, "steps");
	json_open_array(w);
	while (r >= 0 && h->any && h->query.filter.since_us < h->until_us && !page_full(s, json_writer_size(w), n, bound) &&
	       !(s->call.more && seconds == SECONDS_AT_ONCE) && json_writer_error(w) == 0) {
		r = write_second(s, h, w, &n);
		seconds++;
	}
	json_close_array(w);
	if (r < 0) {
		session_failed(s, r);
		return PRODUCE_DONE;
	}
	more = h->any && h->query.filter.since_us < h->until_us && json_writer_error(w) == 0;
	return session_reply_end(s, more) && more ? PRODUCE_MORE : PRODUCE_DONE;
}

static bool parse_step(struct session *s, const struct json *parameters, uint64_t *ret)
{
	int64_t step = STEP_DEFAULT_US;

	json_get_int(parameters, "step_us", &step);
	if (step < STEP_LEAST_US || step > (int64_t)USEC_PER_SEC || USEC_PER_SEC % (uint64_t)step != 0) {
		session_invalid_parameter(s, "step_us");
		return false;
	}
	*ret = step;
	return true;
}

/* What of the window is kept. */
static void clip(const struct moments *m, struct heat *h)
{
	struct store_filter *f = &h->query.filter;

	if (!m || !moments_range(m, &h->since_us, &h->until_us))
		return;
	h->since_us = MAX(h->since_us, f->since_us);
	h->until_us = MIN(h->until_us, f->until_us);
	h->any = h->since_us < h->until_us;
	f->since_us = h->since_us;
}

void method_get_heat(struct session *s, const struct json *parameters)
{
	uint64_t step;
	struct heat *h;
	struct query q;
	int r;

	if (!parse_step(s, parameters, &step) || !query_parse(s, parameters, DEFAULT_WINDOW_US, &q) ||
	    !query_stack(s, parameters, true, &q) || query_refuse_unknown(s, &q))
		return;
	h = calloc(1, sizeof(*h));
	if (!h) {
		session_failed(s, -ENOMEM);
		return;
	}
	session_produce(s, heat_produce, h, heat_free);
	h->step_us = step;
	r = query_copy(&q, &h->query);
	if (r >= 0)
		r = window_sum(s->api, &q, METRIC_ON_CPU, &h->window);
	if (r < 0) {
		/* Answered already: nothing is left to produce. */
		session_failed(s, r);
		s->call.produce = NULL;
		return;
	}
	clip(s->api->views.moments, h);
}
