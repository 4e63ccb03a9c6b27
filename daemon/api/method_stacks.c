/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ListStacks and ListProcesses. */
#include "internal.h"

#define DEFAULT_WINDOW_US (15 * 60 * USEC_PER_SEC)
#define DEFAULT_LIMIT 50

static void put_head(struct session *s _unused_, struct listing *l, struct json_writer *w)
{
	put_window(w, &l->window);
}

static size_t load_stack(struct session *s, struct listing *l, size_t i)
{
	get_stack(s->api, l->table.rows[i].key, &l->stack);
	return stack_bound(&l->stack);
}

static void write_stack(struct session *s _unused_, struct listing *l, struct json_writer *w, size_t i)
{
	const struct row *row = &l->table.rows[i];

	json_open_object(w);
	json_put_id(w, "stack", row->key);
	put_frames(w, "frames", &l->stack);
	json_put_bool(w, "truncated", l->stack.truncated);
	put_values(w, "values", l->table.values[row->values]);
	put_standard_errors(w, l->table.variances[row->values]);
	json_close_object(w);
}

/* Those that have any of the metric: the table is sorted by how much. */
static size_t count_with_any(const struct table *t)
{
	size_t n = t->n;

	while (n > 0 && t->rows[n - 1].total == 0)
		n--;
	return n;
}

void method_list_stacks(struct session *s, const struct json *parameters)
{
	static const struct listing_ops ops = { "stacks", put_head, load_stack, write_stack, NULL };
	struct listing *l;
	enum metric metric;
	uint32_t limit;
	struct query q;
	int r;

	if (!parse_metric(s, parameters, &metric) || !parse_limit(s, parameters, 1, DEFAULT_LIMIT, &limit) ||
	    !query_parse(s, parameters, DEFAULT_WINDOW_US, &q) || !query_exact(s, parameters, metric, &q))
		return;
	l = listing_new(s, &ops);
	if (!l)
		return;
	l->metric = metric;
	l->table.with_values = true;
	r = query_sum(s, &q, metric, false, &l->table, NULL);
	listing_start(s, l, &q, r, count_with_any(&l->table), limit);
}

static size_t load_process(struct session *s _unused_, struct listing *l _unused_, size_t i _unused_)
{
	return PROCESS_BOUND;
}

static void write_process(struct session *s, struct listing *l, struct json_writer *w, size_t i)
{
	const struct row *row = &l->table.rows[i];
	struct store_process process;

	/* Reclaimed since: nothing says any more whose values these are. */
	if (store_get_process(s->api->views.store, row->key, &process) < 0)
		return;
	json_open_object(w);
	put_process(w, "process", &process);
	put_values(w, "values", l->table.values[row->values]);
	json_close_object(w);
}

static int add_process(void *userdata, const struct store_slice_sum *sum)
{
	return table_add(userdata, sum->process, "", 0, METRIC_ON_CPU, sum->values);
}

void method_list_processes(struct session *s, const struct json *parameters)
{
	static const struct listing_ops ops = { "processes", put_head, load_process, write_process, NULL };
	struct listing *l;
	uint32_t limit;
	struct query q;
	int r;

	if (!parse_limit(s, parameters, 1, DEFAULT_LIMIT, &limit) ||
	    !query_parse(s, parameters, DEFAULT_WINDOW_US, &q))
		return;
	l = listing_new(s, &ops);
	if (!l)
		return;
	l->metric = METRIC_ALL_N;
	l->table.limit = table_limit(s->api);
	l->table.with_values = true;
	r = store_visit_wall(s->api->views.store, &q.filter, add_process, &l->table);
	table_sort(&l->table);
	listing_start(s, l, &q, r, l->table.n, limit);
}
