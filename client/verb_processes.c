/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "show.h"
#include "timestamp.h"
#include "verbs.h"

static const struct table_column columns[] = {
	{ "PID", .right = true },
	{ "COMM" },
	{ "STARTED" },
	{ "UNIT", .shrink = true },
	{ "ON-CPU", .right = true },
	{ "BLOCKED", .right = true },
	{ "RUNNABLE", .right = true },
	{ "FAULTS-MINOR", .right = true },
	{ "FAULTS-MAJOR", .right = true },
};

static void add_row(struct table *t, const struct json *slice, struct fields *f)
{
	const struct json *process = field_object(f, slice, "process"),
			  *values = field_object(f, slice, "values");
	char buf[FORMAT_MAX];

	table_cell(t, COLOUR_BOLD, format_pid(buf, field_int(f, process, "pid")));
	table_cell(t, COLOUR_NONE, field_string(f, process, "comm"));
	table_cell(t, COLOUR_GREY, time_format_short(buf, field_int(f, process, "start_us")));
	table_cell(t, COLOUR_NONE, where_of(process));
	for (enum metric m = METRIC_ON_CPU; m <= METRIC_RUNNABLE; m++)
		table_cell(t, COLOUR_NONE, format_metric(buf, m, field_value(values, m)));
	for (enum metric m = METRIC_FAULTS_MINOR; m <= METRIC_FAULTS_MAJOR; m++)
		table_cell(t, COLOUR_NONE, format_count(buf, field_value(values, m)));
}

int verb_processes(const struct options *o, char **args _unused_)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(table_freep) struct table *t = NULL;
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *rows;
	struct fields f = {};

	if (!parameters)
		return EXIT_FAILURE;
	put_filter(parameters, o);
	put_limit(parameters, o);
	if (!call_joined(&reply, o, "ListProcesses", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	rows = field_array(&f, reply, "processes");
	if (!fields_are_good(&f) ||
	    table_new(&t, columns, ELEMENTS_OF(columns), &o->term, !o->no_legend, o->full) < 0)
		return EXIT_FAILURE;
	for (size_t i = 0; i < json_length(rows); i++)
		add_row(t, json_at(rows, i), &f);
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	return show_table(o, t, "processes") ? EXIT_SUCCESS : EXIT_FAILURE;
}
