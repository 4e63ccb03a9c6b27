/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "show_stack.h"

#include <math.h>

#include "timestamp.h"

#define CALLERS_SHOWN 2  /* in a line, behind the function */
#define SPARK_MAX 60     /* bars in a line */
#define SPARK_LEAST 10   /* fewer show nothing */
#define SPARK_BESIDE 44  /* columns that are left of it */

static const struct table_column frame_columns[] = {
	{ "#", .right = true },
	{ "FUNCTION", .shrink = true },
	{ "OBJECT", .shrink = true },
	{ "KIND" },
};

static const struct table_column value_columns[] = {
	{ "METRIC" },
	{ "SUM", .right = true },
	{ "+/-", .right = true },
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

struct table *show_table_new(const struct options *o, const struct table_column *columns, size_t n)
{
	struct table *t;

	if (table_new(&t, columns, n, &o->term, !o->no_legend, o->full) < 0) {
		log_error("Out of memory.");
		return NULL;
	}
	return t;
}

static bool print_table(struct table *t, FILE *file)
{
	int r = table_print(t, file);

	if (r < 0)
		log_error("Can't print: %s.", strerror(-r));
	return r == 0;
}

/* How many frames are left without those of the kernel; all where there are no others. */
static size_t without_kernel(const struct json *frames, struct fields *f)
{
	size_t n = json_length(frames);

	while (n > 0 && streq(field_string(f, json_at(frames, n - 1), "kind"), "kernel"))
		n--;
	return n > 0 ? n : json_length(frames);
}

char *stack_names(enum metric m, const struct json *frames, bool truncated, struct fields *f)
{
	size_t n = metric_is_signed(m) && m != METRIC_KMEM ? without_kernel(frames, f) : json_length(frames);
	size_t shown = MIN(n, (size_t)CALLERS_SHOWN + 1), size;
	char *text = NULL;
	FILE *file = open_memstream(&text, &size);

	if (!file)
		return NULL;
	for (size_t i = 0; i < shown; i++)
		fprintf(file, "%s%s", i > 0 ? " < " : "",
		        field_string(f, json_at(frames, n - 1 - i), "name"));
	if (n > shown)
		fprintf(file, " < %zu more", n - shown);
	if (truncated)
		fputs(" < [truncated]", file);
	fclose(file);
	return text;
}

bool show_stack_frames(const struct options *o, const struct json *stack, struct fields *f, FILE *file)
{
	_cleanup_(table_freep) struct table *t = show_table_new(o, frame_columns, ELEMENTS_OF(frame_columns));
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
	return print_table(t, file);
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

bool show_stack_values(const struct options *o, const struct json *reply, struct fields *f, FILE *file)
{
	_cleanup_(table_freep) struct table *t = show_table_new(o, value_columns, ELEMENTS_OF(value_columns));
	const struct json *window = field_object(f, reply, "window"), *points = field_array(f, reply, "points");
	const struct json *stack = field_object(f, reply, "stack"), *values = field_object(f, stack, "values"),
			  *errors = field_object(f, stack, "standard_errors");
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
		table_cell(t, COLOUR_GREY, format_uncertainty(buf, (int64_t)field_value(values, m), standard_error_of(errors, m)));
		table_cell(t, COLOUR_NONE, format_rate(buf, m, most));
		table_cell(t, COLOUR_GREEN, spark ? spark : "");
	}
	return print_table(t, file);
}

bool show_stack_slices(const struct options *o, const struct json *reply, struct fields *f, FILE *file)
{
	_cleanup_(table_freep) struct table *t = show_table_new(o, slice_columns, ELEMENTS_OF(slice_columns));
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
	return print_table(t, file);
}
