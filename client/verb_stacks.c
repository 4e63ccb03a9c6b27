/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "show.h"
#include "show_stack.h"
#include "timestamp.h"
#include "verbs.h"

#define CALLERS_SHOWN 2  /* in a row of the list, behind the function */

static const struct table_column list_columns[] = {
	{ "STACK" },
	{ "VALUE", .right = true },
	{ "FUNCTION AND CALLERS", .shrink = true },
};

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
	t = show_table_new(o, list_columns, ELEMENTS_OF(list_columns));
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
	if (!show_stack_frames(o, stack, &f))
		return EXIT_FAILURE;
	putchar('\n');
	if (!show_stack_values(o, reply, &f))
		return EXIT_FAILURE;
	putchar('\n');
	if (!show_stack_slices(o, reply, &f))
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
