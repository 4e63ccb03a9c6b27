/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "show.h"
#include "show_lines.h"
#include "show_stack.h"
#include "timestamp.h"
#include "verbs.h"

static const struct table_column list_columns[] = {
	{ "STACK" },
	{ "VALUE", .right = true },
	{ "+/-", .right = true },
	{ "FUNCTION AND CALLERS", .shrink = true },
};

/* ---- the list ---- */

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
	if (o->given & OPTION_EXACT)
		json_put_bool(parameters, "exact", true);
	if (!call_joined(&reply, o, "ListStacks", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	rows = field_array(&f, reply, "stacks");
	t = show_table_new(o, list_columns, ELEMENTS_OF(list_columns));
	if (!fields_are_good(&f) || !t)
		return EXIT_FAILURE;
	for (size_t i = 0; i < json_length(rows); i++) {
		const struct json *row = json_at(rows, i);
		uint64_t value = field_value(field_object(&f, row, "values"), m);
		_cleanup_free_ char *names = NULL;
		char buf[FORMAT_MAX];

		table_cell(t, COLOUR_GREY, field_string(&f, row, "stack"));
		table_cell(t, COLOUR_NONE, format_metric(buf, m, value));
		table_cell(t, COLOUR_GREY, format_uncertainty(buf, (int64_t)value, standard_error_of(field_object(&f, row, "standard_errors"), m)));
		names = stack_names(m, field_array(&f, row, "frames"), field_bool(&f, row, "truncated"), &f);
		table_cell(t, COLOUR_NONE, names ? names : "");
	}
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	show_window(o, m, json_get(reply, "window"));
	return show_table(o, t, "stacks") ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- one stack ---- */

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
	if (!show_stack_frames(o, stack, &f, stdout))
		return EXIT_FAILURE;
	putchar('\n');
	if (!show_stack_values(o, reply, &f, stdout))
		return EXIT_FAILURE;
	putchar('\n');
	if (!show_stack_slices(o, reply, &f, stdout))
		return EXIT_FAILURE;
	return fields_are_good(&f) ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int show_sources(const struct options *o, uint64_t id)
{
	_cleanup_(json_freep) struct json *reply = NULL;

	if (!lines_of_stack(&reply, o, id))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	show_begin(o);
	return show_lines(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
}

int verb_stacks(const struct options *o, char **args)
{
	uint64_t id;

	if (!args[0] && o->given & OPTION_SOURCES) {
		log_error("\"stackctl stacks --lines\" takes a stack, whose lines it shows, or a number: how many to list.");
		return EXIT_FAILURE;
	}
	if (!args[0])
		return list_stacks(o);
	if (!parse_stack_id(args[0], &id))
		return EXIT_FAILURE;
	if (o->given & (OPTION_METRIC | OPTION_LINES)) {
		log_error("\"stackctl stacks ID\" does not take %s.",
		          option_name(o->given & (OPTION_METRIC | OPTION_LINES)));
		return EXIT_FAILURE;
	}
	return o->given & OPTION_SOURCES ? show_sources(o, id) : show_stack(o, id);
}
