/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "top_rows.h"

#include <math.h>

#include "show_stack.h"

#define KEY_SEED 1

/* ---- reading ---- */

static void free_row(struct top_row *row)
{
	free(row->name);
	free(row->object);
	free(row->frames);
}

void top_rows_done(struct top_rows *t)
{
	for (size_t i = 0; i < t->n; i++)
		free_row(&t->items[i]);
	free(t->items);
	*t = (struct top_rows) {};
}

static char *all_names(const struct json *frames, struct fields *f)
{
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);

	if (!file)
		return NULL;
	fputc('\n', file);
	for (size_t i = 0; i < json_length(frames); i++)
		fprintf(file, "%s\n%s\n", field_string(f, json_at(frames, i), "name"),
		        field_string(f, json_at(frames, i), "object"));
	fclose(file);
	return text;
}

static int read_stack(struct top_row *row, enum metric m, const struct json *from, struct fields *f)
{
	const struct json *frames = field_array(f, from, "frames");

	if (json_get_id(from, "stack", &row->stack) <= 0)
		f->bad = "stack";
	row->key = row->stack;
	row->name = stack_names(m, frames, false, f);
	row->object = strdup("");
	row->frames = all_names(frames, f);
	return row->name && row->object && row->frames ? 0 : -ENOMEM;
}

static int read_function(struct top_row *row, const struct json *frame, struct fields *f)
{
	row->name = strdup(field_string(f, frame, "name"));
	row->object = strdup(field_string(f, frame, "object"));
	if (!row->name || !row->object)
		return -ENOMEM;
	row->key = hash64_string(row->name, hash64_string(row->object, KEY_SEED));
	return 0;
}

static int add_row(struct top_rows *t, const struct json *from, struct fields *f)
{
	const struct json *frame = field_object(f, from, "frame");
	struct top_row row = {
		.self = field_int(f, from, "self"),
		.total = field_int(f, from, "total"),
		.kernel = streq(field_string(f, frame, "kind"), "kernel"),
		.usual = NAN,
	};
	int r;

	r = t->by_stack ? read_stack(&row, t->metric, from, f) : read_function(&row, frame, f);
	if (r < 0) {
		free_row(&row);
		return r;
	}
	t->items[t->n++] = row;
	return 0;
}

static void read_head(struct top_rows *t, const struct json *reply, struct fields *f)
{
	const struct json *window = field_object(f, reply, "window");

	t->metric = field_metric(f, reply, "metric");
	t->total = field_int(f, reply, "total");
	t->since_us = field_int(f, window, "since_us");
	t->until_us = field_int(f, window, "until_us");
	t->lost = field_int(f, window, "lost");
	t->gate_open_s = field_int(f, window, "gate_open_s");
	t->load = field_float(f, window, "load_mean");
}

static int read_reply(struct top_rows *t, const struct json *reply, struct fields *f)
{
	const struct json *rows = field_array(f, reply, "rows");
	struct top_row *items;
	int r = 0;

	if (f->bad || json_length(rows) == 0)
		return 0;
	items = reallocarray(t->items, t->n + json_length(rows), sizeof(*items));
	if (!items)
		return -ENOMEM;
	t->items = items;
	for (size_t i = 0; r >= 0 && i < json_length(rows); i++)
		r = add_row(t, json_at(rows, i), f);
	return r;
}

bool top_rows_read(struct top_rows *ret, const struct replies *replies, bool by_stack, size_t limit)
{
	_cleanup_top_rows_ struct top_rows t = { .by_stack = by_stack, .limit = limit };
	struct fields f = {};

	for (size_t i = 0; i < replies->n; i++) {
		_cleanup_(json_freep) struct json *root = NULL;
		const struct json *reply;

		if (!replies_parse(replies, i, &root, &reply))
			return false;
		if (i == 0)
			read_head(&t, reply, &f);
		if (read_reply(&t, reply, &f) < 0) {
			log_error("Out of memory.");
			return false;
		}
		if (!fields_are_good(&f))
			return false;
	}
	*ret = t;
	t = (struct top_rows) {};
	return true;
}

/* ---- what was usual ---- */

void top_usual_done(struct top_usual *u)
{
	map64_free(u->self);
	*u = (struct top_usual) {};
}

static uint64_t bits_of(double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof(bits));
	return bits;
}

static double double_of(uint64_t bits)
{
	double v;

	memcpy(&v, &bits, sizeof(v));
	return v;
}

int top_usual_set(struct top_usual *u, const struct top_rows *before, double seconds)
{
	int r;

	top_usual_done(u);
	r = map64_new(&u->self, MAX(before->n, (size_t)1));
	for (size_t i = 0; r >= 0 && i < before->n; i++) {
		const struct top_row *row = &before->items[i];
		/* Of two functions that can't be told apart nothing is known. */
		double self = map64_get(u->self, row->key, NULL) ? NAN : row->self / seconds;

		r = map64_put(u->self, row->key, bits_of(self));
	}
	if (r < 0)
		return r;
	u->seconds = seconds;
	u->whole = before->n < before->limit;
	return 0;
}

void top_rows_compare(struct top_rows *t, const struct top_usual *u)
{
	for (size_t i = 0; i < t->n; i++) {
		uint64_t bits;

		if (u->seconds > 0 && map64_get(u->self, t->items[i].key, &bits))
			t->items[i].usual = double_of(bits);
		else
			t->items[i].usual = u->seconds > 0 && u->whole ? 0 : NAN;
	}
}

double top_row_delta(const struct top_row *row, double seconds)
{
	return row->self / seconds - row->usual;
}

/* ---- which, and in which order ---- */

const char *top_order_to_string(enum top_order o)
{
	static const char *const names[TOP_ORDERS] = { "self", "children", "delta" };

	return names[o];
}

static bool passes(const struct top_row *row, const struct top_filter *filter)
{
	_cleanup_free_ char *lines = NULL;

	if (!*filter->text)
		return true;
	if (!row->frames)
		return strcasestr(row->name, filter->text) || strcasestr(row->object, filter->text);
	if (!filter->whole)
		return strcasestr(row->frames, filter->text);
	if (asprintf(&lines, "\n%s\n", filter->text) < 0) {
		lines = NULL;
		return false;
	}
	return strstr(row->frames, lines);
}

struct ranked {
	double rank;
	size_t index;
};

static int compare_ranked(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank > y->rank ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

static double rank_of(const struct top_row *row, enum top_order order, double seconds)
{
	double value = order == TOP_BY_SELF       ? row->self
	               : order == TOP_BY_CHILDREN ? row->total
	                                          : top_row_delta(row, seconds);

	return isnan(value) ? -1 : fabs(value);
}

int top_rows_arrange(const struct top_rows *t, enum top_order order, const struct top_filter *filter, double seconds,
                     size_t **ret, size_t *ret_n)
{
	_cleanup_free_ struct ranked *ranked = calloc(MAX(t->n, (size_t)1), sizeof(*ranked));
	size_t *indices = calloc(MAX(t->n, (size_t)1), sizeof(*indices)), n = 0;

	if (!ranked || !indices) {
		free(indices);
		return -ENOMEM;
	}
	for (size_t i = 0; i < t->n; i++)
		if (passes(&t->items[i], filter))
			ranked[n++] = (struct ranked) { .rank = rank_of(&t->items[i], order, seconds), .index = i };
	qsort(ranked, n, sizeof(*ranked), compare_ranked);
	for (size_t i = 0; i < n; i++)
		indices[i] = ranked[i].index;
	*ret = indices;
	*ret_n = n;
	return 0;
}
