/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GetTop: by stack, or by function with self and children as perf report has them. */
#include "internal.h"

#define DEFAULT_WINDOW_US (10 * USEC_PER_SEC)
#define DEFAULT_LIMIT 20

struct function {
	struct store_frame frame; /* the names are the store's, in what is sent our own */
	int64_t self, total;
	double self_variance, total_variance;
	size_t seen; /* the last stack that it was counted for, from 1 */
};

/* A listing's state when it is by function. */
struct functions {
	struct function *items;
	size_t n, size;
	struct numbers numbers;
};

static int get_function(struct functions *f, const struct store_frame *frame, struct function **ret)
{
	struct function *items;
	uint64_t number;
	int r;

	r = numbers_add(&f->numbers, frame->id, &number);
	if (r < 0)
		return r;
	if (r > 0 && f->n == f->size) {
		items = reallocarray(f->items, MAX(f->size * 2, (size_t)256), sizeof(*items));
		if (!items)
			return -ENOMEM;
		f->items = items;
		f->size = MAX(f->size * 2, (size_t)256);
	}
	if (r > 0)
		f->items[f->n++] = (struct function){ .frame = *frame };
	*ret = &f->items[number];
	return 0;
}

/* However often a function is in a stack, the stack counts for it once. */
static int add_stack(struct functions *f, const struct stack *stack, int64_t value, double variance, size_t number)
{
	struct function *function;
	int r;

	for (size_t i = 0; i < stack->n; i++) {
		r = get_function(f, &stack->frames[i], &function);
		if (r < 0)
			return r;
		if (i == 0) {
			function->self += value;
			function->self_variance += variance;
		}
		if (function->seen != number) {
			function->total += value;
			function->total_variance += variance;
		}
		function->seen = number;
	}
	return 0;
}

static int compare_functions(const void *a, const void *b)
{
	const struct function *x = a, *y = b;

	if (magnitude(x->self) != magnitude(y->self))
		return magnitude(x->self) > magnitude(y->self) ? -1 : 1;
	if (magnitude(x->total) != magnitude(y->total))
		return magnitude(x->total) > magnitude(y->total) ? -1 : 1;
	return strcmp(x->frame.display, y->frame.display);
}

static void functions_done(struct functions *f)
{
	numbers_done(&f->numbers);
	free(f->items);
}

static void free_functions(struct listing *l)
{
	struct functions *f = l->state;

	for (size_t i = 0; f && i < f->n; i++) {
		free((char *)f->items[i].frame.display);
		free((char *)f->items[i].frame.object);
	}
	if (f)
		functions_done(f);
	free(f);
}

/* The first n, with names of their own: the store may be written to before they are sent. */
static int keep_functions(const struct functions *all, size_t n, struct listing *l)
{
	struct functions *f;

	l->state = f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->items = calloc(MAX(n, (size_t)1), sizeof(*f->items));
	if (!f->items)
		return -ENOMEM;
	for (; f->n < n; f->n++) {
		struct function *to = &f->items[f->n];
		char *display = strdup(all->items[f->n].frame.display),
		     *object = strdup(all->items[f->n].frame.object);

		if (!display || !object) {
			free(display);
			free(object);
			return -ENOMEM;
		}
		*to = all->items[f->n];
		to->frame.display = display;
		to->frame.object = object;
	}
	return 0;
}

/* The listing's table by stack becomes its functions. */
static int by_function(struct session *s, struct listing *l, uint32_t limit)
{
	struct functions f = { .numbers.max = API_ROWS_MAX };
	int r = 0;

	for (size_t i = 0; r >= 0 && i < l->table.n; i++) {
		get_stack(s->api, l->table.rows[i].key, &l->stack);
		r = add_stack(&f, &l->stack, l->table.rows[i].total, l->table.rows[i].variance, i + 1);
	}
	if (r >= 0 && f.n > 0)
		qsort(f.items, f.n, sizeof(*f.items), compare_functions);
	if (r >= 0)
		r = keep_functions(&f, MIN(f.n, (size_t)limit), l);
	functions_done(&f);
	return r;
}

static void put_head(struct session *s _unused_, struct listing *l, struct json_writer *w)
{
	put_metric(w, "metric", l->metric);
	put_window(w, &l->window);
	json_put_int(w, "total", l->table.total);
}

static void put_amounts(struct json_writer *w, const struct table *t, const struct function *f)
{
	json_put_int(w, "self", f->self);
	json_put_int(w, "total", f->total);
	if (t->no_variances)
		return;
	put_standard_error(w, "self_standard_error", f->self_variance);
	put_standard_error(w, "total_standard_error", f->total_variance);
}

static size_t load_function(struct session *s _unused_, struct listing *l, size_t i)
{
	return frame_bound(&((const struct functions *)l->state)->items[i].frame);
}

static void write_function(struct session *s _unused_, struct listing *l, struct json_writer *w, size_t i)
{
	const struct functions *f = l->state;

	json_open_object(w);
	json_put_string(w, "stack", "");
	json_key(w, "frame");
	write_frame(w, &f->items[i].frame);
	json_key(w, "frames");
	json_open_array(w);
	json_close_array(w);
	put_amounts(w, &l->table, &f->items[i]);
	json_close_object(w);
}

static size_t load_stack(struct session *s, struct listing *l, size_t i)
{
	get_stack(s->api, l->table.rows[i].key, &l->stack);
	/* Its innermost frame is in the row twice. */
	return stack_bound(&l->stack) + frame_bound(&l->stack.frames[0]);
}

static void write_stack(struct session *s _unused_, struct listing *l, struct json_writer *w, size_t i)
{
	const struct row *row = &l->table.rows[i];

	json_open_object(w);
	json_put_id(w, "stack", row->key);
	json_key(w, "frame");
	write_frame(w, &l->stack.frames[0]);
	put_frames(w, "frames", &l->stack);
	put_amounts(w, &l->table, &(struct function){ .self = row->total, .total = row->total, .self_variance = row->variance, .total_variance = row->variance });
	json_close_object(w);
}

void method_get_top(struct session *s, const struct json *parameters)
{
	static const struct listing_ops functions = { "rows", put_head, load_function, write_function,
	                                              free_functions };
	static const struct listing_ops stacks = { "rows", put_head, load_stack, write_stack, NULL };
	const char *by = "function";
	struct listing *l;
	enum metric metric;
	uint32_t limit;
	struct query q;
	bool by_stack;
	size_t n;
	int r;

	json_get_string(parameters, "by", &by);
	by_stack = streq(by, "stack");
	if (!parse_metric(s, parameters, &metric) || !parse_limit(s, parameters, 1, DEFAULT_LIMIT, &limit) ||
	    !query_parse(s, parameters, DEFAULT_WINDOW_US, &q))
		return;
	l = listing_new(s, by_stack ? &stacks : &functions);
	if (!l)
		return;
	l->metric = metric;
	r = query_sum(s, &q, metric, false, &l->table, NULL);
	if (r >= 0 && !by_stack)
		r = by_function(s, l, limit);
	n = r < 0 ? 0 : by_stack ? l->table.n : ((struct functions *)l->state)->n;
	listing_start(s, l, &q, r, n, limit);
}
