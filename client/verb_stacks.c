/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "show.h"
#include "timestamp.h"
#include "verbs.h"

#define SPARK_MAX 60     /* bars in a line */
#define SPARK_LEAST 10   /* fewer show nothing */
#define SPARK_BESIDE 44  /* columns that are left of it */
#define CALLERS_SHOWN 2  /* in a row of the list, behind the function */

static const struct table_column list_columns[] = {
	{ "STACK" },
	{ "VALUE", .right = true },
	{ "FUNCTION AND CALLERS", .shrink = true },
};

static const struct table_column frame_columns[] = {
	{ "#", .right = true },
	{ "FUNCTION", .shrink = true },
	{ "OBJECT", .shrink = true },
	{ "KIND" },
};

static const struct table_column value_columns[] = {
	{ "METRIC" },
	{ "SUM", .right = true },
	{ "MOST", .right = true },
	{ "SERIES" },
};

static const struct table_column slice_columns[] = {
	{ "PID", .right = true },
	{ "COMM" },
	{ "UNIT", .shrink = true },
	{ "ON-CPU", .right = true },
	{ "BLOCKED", .right = true },
	{ "RUNNABLE", .right = true },
	{ "FAULTS", .right = true },
	{ "STARTED" },
};

static struct table *new_table(const struct options *o, const struct table_column *columns, size_t n)
{
	struct table *t;

	if (table_new(&t, columns, n, &o->term, !o->no_legend, o->full) < 0) {
		log_error("Out of memory.");
		return NULL;
	}
	return t;
}

static bool print_table(struct table *t)
{
	int r = table_print(t, stdout);

	if (r < 0)
		log_error("Can't print: %s.", strerror(-r));
	return r == 0;
}

/* ---- the list ---- */

/* How many frames are left without those of the kernel; all where there are no others. */
static size_t without_kernel(const struct json *frames, struct fields *f)
{
	size_t n = json_length(frames);

	while (n > 0 && streq(field_string(f, json_at(frames, n - 1), "kind"), "kernel"))
		n--;
	return n > 0 ? n : json_length(frames);
}

/* "inner < caller < its caller". How the kernel came to change memory says little: there it begins with the program. */
static void add_names(struct table *t, enum metric m, const struct json *frames, bool truncated, struct fields *f)
{
	size_t n = metric_is_signed(m) ? without_kernel(frames, f) : json_length(frames);
	size_t shown = MIN(n, (size_t)CALLERS_SHOWN + 1), size;
	_cleanup_free_ char *text = NULL;
	_cleanup_fclose_ FILE *file = open_memstream(&text, &size);

	if (!file)
		return table_cell(t, COLOUR_NONE, "");
	for (size_t i = 0; i < shown; i++)
		fprintf(file, "%s%s", i > 0 ? " < " : "",
		        field_string(f, json_at(frames, n - 1 - i), "name"));
	if (n > shown)
		fprintf(file, " < %zu more", n - shown);
	if (truncated)
		fputs(" < [truncated]", file);
	fflush(file);
	table_cell(t, COLOUR_NONE, text);
}

static int list_stacks(const struct options *o)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(table_freep) struct table *t = NULL;
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *rows;
	enum metric m = o->given & OPTION_METRIC ? o->metric : METRIC_ON_CPU;
	struct fields f = {};

	if (!parameters)
		return EXIT_FAILURE;
	put_metric(parameters, o);
	put_filter(parameters, o);
	put_limit(parameters, o);
	if (!call_joined(&reply, o, "ListStacks", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	rows = field_array(&f, reply, "stacks");
	t = new_table(o, list_columns, ELEMENTS_OF(list_columns));
	if (!fields_are_good(&f) || !t)
		return EXIT_FAILURE;
	for (size_t i = 0; i < json_length(rows); i++) {
		const struct json *row = json_at(rows, i);
		uint64_t value = field_value(field_object(&f, row, "values"), m);
		char buf[FORMAT_MAX];

		table_cell(t, COLOUR_GREY, field_string(&f, row, "stack"));
		table_cell(t, COLOUR_NONE, format_metric(buf, m, value));
		add_names(t, m, field_array(&f, row, "frames"), field_bool(&f, row, "truncated"), &f);
	}
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	show_window(o, m, json_get(reply, "window"));
	return show_table(o, t, "stacks") ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- one stack ---- */

static bool show_frames(const struct options *o, const struct json *stack, struct fields *f)
{
	_cleanup_(table_freep) struct table *t = new_table(o, frame_columns, ELEMENTS_OF(frame_columns));
	const struct json *frames = field_array(f, stack, "frames");
	size_t n = json_length(frames);

	if (!t)
		return false;
	for (size_t i = 0; i < n; i++) {
		const struct json *frame = json_at(frames, n - 1 - i);
		const char *kind = field_string(f, frame, "kind");

		table_cellf(t, COLOUR_GREY, "%zu", i);
		table_cell(t, streq(kind, "kernel") ? COLOUR_YELLOW : COLOUR_NONE,
		           field_string(f, frame, "name"));
		table_cell(t, COLOUR_GREY, field_string(f, frame, "object"));
		table_cell(t, COLOUR_GREY, kind);
	}
	if (field_bool(f, stack, "truncated")) {
		table_cell(t, COLOUR_NONE, "");
		table_cell(t, COLOUR_YELLOW, "[truncated]");
		table_cell(t, COLOUR_NONE, "");
		table_cell(t, COLOUR_NONE, "");
	}
	return print_table(t);
}

static size_t spark_width(const struct term *term)
{
	size_t columns = term->columns ? term->columns : SPARK_BESIDE + SPARK_MAX;

	return MIN(MAX(columns, (size_t)SPARK_BESIDE + SPARK_LEAST) - SPARK_BESIDE, (size_t)SPARK_MAX);
}

/* The metric's rate per second in n equal parts of the window, without its sign. Steps are of different lengths; each counts in
 * every part that it reaches into. Gives the largest, with its sign. */
static double make_series(const struct json *points, enum metric m, uint64_t since_us, uint64_t until_us,
                          double ret[static SPARK_MAX], size_t n, struct fields *f)
{
	double covered[SPARK_MAX] = {}, part_us = (double)(until_us - since_us) / n, most = 0;

	memset(ret, 0, n * sizeof(*ret));
	for (size_t i = 0; i < json_length(points); i++) {
		const struct json *point = json_at(points, i);
		double step_us = (double)field_int(f, point, "step_s") * USEC_PER_SEC;
		double end = (double)field_int(f, point, "time_us") - since_us;
		double begin = MAX(end - step_us, 0.0), rate;
		uint64_t value;

		if (step_us <= 0 || end <= 0)
			continue;
		value = field_value(json_get(point, "values"), m);
		rate = metric_magnitude(m, value) / (step_us / USEC_PER_SEC);
		if (rate > fabs(most))
			most = metric_magnitude(m, value) == value ? rate : -rate;
		for (size_t k = MIN(begin / part_us, (double)n); k < n && k * part_us < end; k++) {
			double share = MIN(end, (k + 1) * part_us) - MAX(begin, k * part_us);

			ret[k] += rate * share;
			covered[k] += share;
		}
	}
	for (size_t k = 0; k < n; k++)
		ret[k] = covered[k] > 0 ? ret[k] / covered[k] : 0;
	return most;
}

static bool show_values(const struct options *o, const struct json *reply, const struct json *stack,
                        struct fields *f)
{
	_cleanup_(table_freep) struct table *t = new_table(o, value_columns, ELEMENTS_OF(value_columns));
	const struct json *window = field_object(f, reply, "window"), *points = field_array(f, reply, "points");
	const struct json *values = field_object(f, stack, "values");
	uint64_t since_us = field_int(f, window, "since_us"), until_us = field_int(f, window, "until_us");
	size_t width = spark_width(&o->term);

	if (!t || since_us >= until_us)
		return t;
	for (enum metric m = 0; m < METRIC_N; m++) {
		_cleanup_free_ char *spark = NULL;
		double series[SPARK_MAX], most;
		char buf[FORMAT_MAX];

		most = make_series(points, m, since_us, until_us, series, width, f);
		if (most == 0 && field_value(values, m) == 0)
			continue;
		spark = sparkline(series, width, o->term.utf8);
		table_cell(t, COLOUR_NONE, metric_to_string(m));
		table_cell(t, COLOUR_BOLD, format_metric(buf, m, field_value(values, m)));
		table_cell(t, COLOUR_NONE, format_rate(buf, m, most));
		table_cell(t, COLOUR_GREEN, spark ? spark : "");
	}
	return print_table(t);
}

static bool show_slices(const struct options *o, const struct json *reply, struct fields *f)
{
	_cleanup_(table_freep) struct table *t = new_table(o, slice_columns, ELEMENTS_OF(slice_columns));
	const struct json *slices = field_array(f, reply, "slices");

	if (!t)
		return false;
	for (size_t i = 0; i < json_length(slices); i++) {
		const struct json *process = field_object(f, json_at(slices, i), "process"),
		                  *values = field_object(f, json_at(slices, i), "values");
		char buf[FORMAT_MAX];

		table_cell(t, COLOUR_BOLD, format_pid(buf, field_int(f, process, "pid")));
		table_cell(t, COLOUR_NONE, field_string(f, process, "comm"));
		table_cell(t, COLOUR_NONE, where_of(process));
		for (enum metric m = METRIC_ON_CPU; m <= METRIC_RUNNABLE; m++)
			table_cell(t, COLOUR_NONE, format_metric(buf, m, field_value(values, m)));
		table_cell(t, COLOUR_NONE,
		           format_count(buf, field_value(values, METRIC_FAULTS_MINOR) +
		                                     field_value(values, METRIC_FAULTS_MAJOR)));
		table_cell(t, COLOUR_GREY, time_format_short(buf, field_int(f, process, "start_us")));
	}
	return print_table(t);
}

static int show_stack(const struct options *o, uint64_t id)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *stack, *window;
	char since[FORMAT_MAX], until[FORMAT_MAX];
	struct fields f = {};

	if (!parameters)
		return EXIT_FAILURE;
	json_put_id(parameters, "stack", id);
	put_filter(parameters, o);
	if (!call_joined(&reply, o, "GetStack", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	stack = field_object(&f, reply, "stack");
	window = field_object(&f, reply, "window");
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	show_begin(o);
	printf("Stack %016llx, from %s to %s\n\n", (unsigned long long)id,
	       time_format(since, field_int(&f, window, "since_us")),
	       time_format(until, field_int(&f, window, "until_us")));
	if (!show_frames(o, stack, &f))
		return EXIT_FAILURE;
	putchar('\n');
	if (!show_values(o, reply, stack, &f))
		return EXIT_FAILURE;
	putchar('\n');
	if (!show_slices(o, reply, &f))
		return EXIT_FAILURE;
	return fields_are_good(&f) ? EXIT_SUCCESS : EXIT_FAILURE;
}

int verb_stacks(const struct options *o, char **args)
{
	uint64_t id;

	if (!args[0])
		return list_stacks(o);
	if (!parse_stack_id(args[0], &id))
		return EXIT_FAILURE;
	if (o->given & (OPTION_METRIC | OPTION_LINES)) {
		log_error("\"stackctl stacks ID\" does not take %s.",
		          option_name(o->given & (OPTION_METRIC | OPTION_LINES)));
		return EXIT_FAILURE;
	}
	return show_stack(o, id);
}
