/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GetFlame: summed up once, then sent page by page. Each frame is sent once; rows refer to it by its number.
 */
#include "internal.h"

#define DEFAULT_WINDOW_US (15 * 60 * USEC_PER_SEC)
#define FRAMES_MAX (256 * 1024)  /* different frames in one answer; the rest is "[truncated]" */
#define FRAME_OVERHEAD 64        /* bytes of a frame in a reply besides its names */
#define OBJECT_OVERHEAD 128      /* of its build ID and address besides that */
#define TRUNCATED_KEY 0

struct flame {
	enum metric metric;
	bool objects;             /* frames come with what is known of theirs */
	struct window_sum window;
	uint64_t drawn_ns;        /* waits that are shorter were drawn; 0: none */
	struct table table;
	size_t next;              /* row to be sent; n is the overflow row */
	struct numbers numbers;
	struct store_frame *fresh; /* frames that this reply introduces; their names are the store's */
	size_t n_fresh, fresh_size, fresh_bytes;
	struct stack stack;
};

static const struct store_frame truncated_frame = { .display = "[truncated]",
                                                    .object = "[unknown]",
                                                    .kind = FRAME_UNKNOWN };

static void flame_free(struct session *s, void *state)
{
	struct flame *f = state;

	s->api->rows -= f->table.n;
	table_done(&f->table);
	numbers_done(&f->numbers);
	free(f->fresh);
	free(f);
}

static int introduce(struct flame *f, const struct store_frame *frame)
{
	struct store_frame *fresh;

	if (f->n_fresh == f->fresh_size) {
		fresh = reallocarray(f->fresh, MAX(f->fresh_size * 2, (size_t)256), sizeof(*fresh));
		if (!fresh)
			return -ENOMEM;
		f->fresh = fresh;
		f->fresh_size = MAX(f->fresh_size * 2, (size_t)256);
	}
	f->fresh[f->n_fresh++] = *frame;
	f->fresh_bytes += json_string_size(frame->display) + json_string_size(frame->object) + FRAME_OVERHEAD + (f->objects ? OBJECT_OVERHEAD : 0);
	return 0;
}

static int number_of(struct flame *f, const struct store_frame *frame, uint64_t *ret)
{
	int r;

	f->numbers.max = FRAMES_MAX;
	r = numbers_add(&f->numbers, frame->id, ret);
	if (r == -ENOSPC) {
		frame = &truncated_frame;
		f->numbers.max = FRAMES_MAX + 1;
		r = numbers_add(&f->numbers, TRUNCATED_KEY, ret);
	}
	return r > 0 ? introduce(f, frame) : r;
}

static void write_fresh(const struct flame *f, struct json_writer *w, const struct store_frame *frame)
{
	json_open_object(w);
	put_frame(w, frame);
	if (f->objects && frame->build_id && *frame->build_id)
		json_put_string(w, "build_id", frame->build_id);
	if (f->objects && frame->address > 0 && frame->address <= INT64_MAX)
		json_put_u64(w, "address", frame->address);
	json_close_object(w);
}

static int write_row(struct flame *f, struct json_writer *w, const struct row *row)
{
	uint64_t number;
	int r;

	json_open_object(w);
	json_put_id(w, "stack", row->key);
	json_put_int(w, "value", row->total);
	json_put_bool(w, "truncated", f->stack.truncated);
	json_put_string(w, "comm", row->comm);
	if (row->tid)
		json_put_int(w, "tid", row->tid);
	if (!f->table.no_variances)
		put_standard_error(w, "standard_error", row->variance);
	json_key(w, "frames");
	json_open_array(w);
	for (size_t i = f->stack.n; i-- > 0;) {
		r = number_of(f, &f->stack.frames[i], &number);
		if (r < 0)
			return r;
		json_write_u64(w, number);
	}
	json_close_array(w);
	json_close_object(w);
	return 0;
}

static int write_overflow(struct flame *f, struct json_writer *w)
{
	uint64_t number;
	int r;

	f->numbers.max = FRAMES_MAX + 1;
	r = numbers_add(&f->numbers, TRUNCATED_KEY, &number);
	if (r > 0)
		r = introduce(f, &truncated_frame);
	if (r < 0)
		return r;
	json_open_object(w);
	json_put_id(w, "stack", 0);
	json_put_int(w, "value", f->table.overflow);
	json_put_bool(w, "truncated", true);
	json_put_string(w, "comm", "");
	json_key(w, "frames");
	json_open_array(w);
	json_write_u64(w, number);
	json_close_array(w);
	json_close_object(w);
	return 0;
}

static int write_rows(struct session *s, struct flame *f, struct json_writer *w)
{
	int r = 0;

	for (size_t n = 0; r >= 0 && f->next < f->table.n && json_writer_error(w) == 0; n++) {
		get_stack(s->api, f->table.rows[f->next].key, &f->stack);
		if (page_full(s, json_writer_size(w) + f->fresh_bytes, n, stack_bound(&f->stack)))
			return 0;
		r = write_row(f, w, &f->table.rows[f->next++]);
	}
	/* It fits after any page: these end at less than half of what a message may have, or after one row.
	 */
	if (r >= 0 && f->next == f->table.n && f->table.overflow != 0) {
		r = write_overflow(f, w);
		f->next++;
	}
	return r;
}

static enum produce_result flame_produce(struct session *s)
{
	struct flame *f = s->call.state;
	struct json_writer *w = session_reply_begin(s);
	bool more;
	int r;

	put_metric(w, "metric", f->metric);
	put_window(w, &f->window);
	json_put_int(w, "total", f->table.total);
	if (f->drawn_ns)
		json_put_u64(w, "drawn_ns", f->drawn_ns);
	json_key(w, "stacks");
	json_open_array(w);
	f->n_fresh = f->fresh_bytes = 0;
	r = write_rows(s, f, w);
	if (r < 0) {
		session_failed(s, r);
		return PRODUCE_DONE;
	}
	json_close_array(w);
	json_key(w, "frames");
	json_open_array(w);
	for (size_t i = 0; i < f->n_fresh; i++)
		write_fresh(f, w, &f->fresh[i]);
	json_close_array(w);
	more = f->next < f->table.n + (f->table.overflow != 0);
	return session_reply_end(s, more) && more ? PRODUCE_MORE : PRODUCE_DONE;
}

void method_get_flame(struct session *s, const struct json *parameters)
{
	struct flame *f;
	struct query q;
	enum metric metric;
	int r;

	if (!parse_metric(s, parameters, &metric) || !query_parse(s, parameters, DEFAULT_WINDOW_US, &q) ||
	    !query_stack(s, parameters, true, &q) || !query_threads(s, parameters, &q) || !query_exact(s, parameters, metric, &q))
		return;
	f = calloc(1, sizeof(*f));
	if (!f) {
		session_failed(s, -ENOMEM);
		return;
	}
	session_produce(s, flame_produce, f, flame_free);
	f->metric = metric;
	json_get_bool(parameters, "objects", &f->objects);
	r = query_sum(s, &q, metric, true, &f->table, &f->drawn_ns);
	s->api->rows += f->table.n;
	if (r >= 0)
		r = window_sum(s->api, &q, metric, &f->window);
	if (r < 0)
		session_failed(s, r);
	/* Answered already: nothing is left to produce. */
	if (r < 0 || (f->table.n == 0 && query_refuse_unknown(s, &q)))
		s->call.produce = NULL;
}
