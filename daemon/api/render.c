/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The interface's types, written. */
#include "internal.h"

#include <float.h>
#include <math.h>

/* More than the bytes of a row or frame besides its names, and of what closes a reply. */
#define ROW_OVERHEAD 1024

void put_metric(struct json_writer *w, const char *key, enum metric m)
{
	json_put_string(w, key, metric_on_wire(m));
}

void put_standard_error(struct json_writer *w, const char *key, double variance)
{
	json_put_u64(w, key, (uint64_t)MIN(sqrt(variance) + 0.5, (double)(INT64_MAX / 2)));
}

void put_standard_errors(struct json_writer *w, const double variances[static METRIC_N])
{
	json_key(w, "standard_errors");
	json_open_object(w);
	for (enum metric m = 0; m < METRIC_N; m++)
		if (variances[m] > 0)
			put_standard_error(w, metric_on_wire(m), variances[m]);
	json_close_object(w);
}

void put_finite(struct json_writer *w, const char *key, double v)
{
	json_put_float(w, key, isnan(v) ? 0 : v > DBL_MAX ? DBL_MAX : v < -DBL_MAX ? -DBL_MAX : v);
}

void put_values(struct json_writer *w, const char *key, const uint64_t values[static METRIC_N])
{
	json_key(w, key);
	json_open_object(w);
	for (enum metric m = 0; m < METRIC_N; m++)
		if (metric_is_signed(m) && values[m] != 0)
			json_put_int(w, metric_on_wire(m), (int64_t)values[m]);
		else if (values[m] > 0)
			json_put_u64(w, metric_on_wire(m), values[m]);
	json_close_object(w);
}

bool page_full(const struct session *s, size_t size, size_t n, size_t bound)
{
	return s->call.more && n > 0 && (size >= API_PAGE_SIZE || size + bound > WIRE_MESSAGE_MAX);
}

/* ---- windows ---- */

struct window_state {
	struct window_sum *sum;
	double load_seconds;
	uint64_t seconds;
	enum metric metric;
};

static int add_point(void *userdata, const struct store_point *point)
{
	struct window_state *state = userdata;

	state->load_seconds += point->load_milli / 1000.0 * point->step_s;
	state->seconds += point->step_s;
	state->sum->gate_open_s += point->gate_open ? point->step_s : 0;
	state->sum->lost += store_lost_of(point, state->metric);
	return 0;
}

int window_sum(struct api *a, const struct query *q, enum metric metric, struct window_sum *ret)
{
	/* Only what a tick is as a whole: no series has this id, so that nothing is summed up for it. */
	const struct store_filter filter = {
		.since_us = q->filter.since_us,
		.until_us = q->filter.until_us,
		.viewer_uid = STORE_ANY_UID,
		.series_id = UINT64_MAX,
	};
	struct window_sum sum = { .since_us = q->filter.since_us, .until_us = q->filter.until_us };
	struct window_state state = { .sum = &sum, .metric = metric };
	int r;

	r = store_visit_points(a->views.store, &filter, add_point, &state);
	if (r < 0)
		return r;
	sum.load_mean = state.seconds > 0 ? state.load_seconds / state.seconds : 0;
	*ret = sum;
	return 0;
}

void put_window(struct json_writer *w, const struct window_sum *sum)
{
	json_key(w, "window");
	json_open_object(w);
	json_put_u64(w, "since_us", sum->since_us);
	json_put_u64(w, "until_us", sum->until_us);
	json_put_float(w, "load_mean", sum->load_mean);
	json_put_u64(w, "gate_open_s", sum->gate_open_s);
	json_put_u64(w, "lost", sum->lost);
	json_close_object(w);
}

/* ---- stacks ---- */

void get_stack(struct api *a, uint64_t stack_id, struct stack *ret)
{
	store_ref ref = store_find_stack(a->views.store, stack_id);
	size_t depth;

	if (ref &&
	    store_get_stack(a->views.store, ref, &ret->id, &ret->truncated, ret->frames,
	                    ELEMENTS_OF(ret->frames), &depth) >= 0 &&
	    depth > 0) {
		ret->truncated |= depth > ELEMENTS_OF(ret->frames);
		ret->n = MIN(depth, ELEMENTS_OF(ret->frames));
		return;
	}
	ret->id = stack_id;
	ret->truncated = true;
	ret->n = 1;
	ret->frames[0] =
		(struct store_frame){ .display = "[evicted]", .object = "[unknown]", .kind = FRAME_UNKNOWN };
}

size_t frame_bound(const struct store_frame *frame)
{
	/* A control character becomes six. */
	return 6 * (strlen(frame->display) + strlen(frame->object)) + ROW_OVERHEAD;
}

size_t stack_bound(const struct stack *stack)
{
	size_t n = ROW_OVERHEAD;

	for (size_t i = 0; i < stack->n; i++)
		n += frame_bound(&stack->frames[i]);
	return n;
}

const char *frame_kind_name(unsigned kind)
{
	static const char *const kinds[] = {
		[FRAME_KERNEL] = "kernel",
		[FRAME_USER] = "user",
		[FRAME_JIT] = "jit",
		[FRAME_UNKNOWN] = "unknown",
	};

	return kinds[MIN(kind, (unsigned)FRAME_UNKNOWN)];
}

void put_frame(struct json_writer *w, const struct store_frame *frame)
{
	json_put_string(w, "name", frame->display);
	json_put_string(w, "object", frame->object);
	json_put_string(w, "kind", frame_kind_name(frame->kind));
}

void write_frame(struct json_writer *w, const struct store_frame *frame)
{
	json_open_object(w);
	put_frame(w, frame);
	json_close_object(w);
}

void put_frames(struct json_writer *w, const char *key, const struct stack *stack)
{
	json_key(w, key);
	json_open_array(w);
	for (size_t i = stack->n; i-- > 0;)
		write_frame(w, &stack->frames[i]);
	json_close_array(w);
}

/* ---- processes ---- */

void put_process(struct json_writer *w, const char *key, const struct store_process *process)
{
	json_key(w, key);
	json_open_object(w);
	json_put_int(w, "pid", process->pid);
	json_put_u64(w, "start_us", process->start_us);
	json_put_int(w, "uid", process->uid);
	json_put_string(w, "comm", process->comm);
	json_put_string(w, "exe", process->exe);
	json_put_string(w, "unit", process->unit);
	json_put_string(w, "cgroup", process->cgroup);
	json_close_object(w);
}

/* ---- gate ---- */

void put_gate(struct api *a, struct json_writer *w, const char *key)
{
	static const char *const modes[] = {
		[GATE_AUTO] = "auto", [GATE_FORCED_OPEN] = "open", [GATE_FORCED_CLOSED] = "closed"
	};
	struct api_daemon_status daemon = { 0 };
	struct collect_status c = { 0 };

	a->actions.status(a->actions.userdata, &daemon);
	collect_get_status(a->views.collect, &c);
	json_key(w, key);
	json_open_object(w);
	json_put_bool(w, "open", c.gate_open);
	json_put_string(w, "mode", modes[c.gate_mode]);
	if (c.gate_mode != GATE_AUTO && c.gate_until_us != USEC_INFINITY)
		json_put_u64(w, "until_us", c.gate_until_us);
	put_finite(w, "load", c.load);
	put_finite(w, "open_above", daemon.open_above);
	put_finite(w, "close_below", daemon.close_below);
	json_put_string(w, "source", c.load_source ?: "");
	json_close_object(w);
}
