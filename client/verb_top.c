/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "live_top.h"
#include "show.h"
#include "verbs.h"

static const struct table_column function_columns[] = {
	{ "CHILDREN%", .right = true },
	{ "SELF%", .right = true },
	{ "SELF", .right = true },
	{ "+/-", .right = true },
	{ "FUNCTION", .shrink = true },
	{ "OBJECT", .shrink = true },
};

static const struct table_column stack_columns[] = {
	{ "SHARE", .right = true },
	{ "VALUE", .right = true },
	{ "+/-", .right = true },
	{ "STACK" },
	{ "FUNCTION", .shrink = true },
	{ "OBJECT", .shrink = true },
};

static void add_row(struct table *t, bool by_stack, enum metric m, const struct json *row, uint64_t whole,
                    struct fields *f)
{
	const struct json *frame = field_object(f, row, "frame");
	char share[FORMAT_MAX], value[FORMAT_MAX];
	int64_t self = field_int(f, row, "self"), total = field_int(f, row, "total");
	const char *kind = field_string(f, frame, "kind");

	table_cell(t, COLOUR_NONE, format_share(share, total, whole));
	if (!by_stack)
		table_cell(t, COLOUR_NONE, format_share(share, self, whole));
	table_cell(t, COLOUR_NONE, format_metric(value, m, self));
	table_cell(t, COLOUR_GREY, format_uncertainty(value, self, standard_error_in(row, "self_standard_error")));
	if (by_stack)
		table_cell(t, COLOUR_GREY, field_string(f, row, "stack"));
	table_cell(t, streq(kind, "kernel") ? COLOUR_YELLOW : COLOUR_NONE, field_string(f, frame, "name"));
	table_cell(t, COLOUR_GREY, field_string(f, frame, "object"));
}

static int show_top(const struct options *o, const struct json *reply)
{
	_cleanup_(table_freep) struct table *t = NULL;
	const struct json *rows, *window;
	struct fields f = {};
	enum metric m;
	int64_t total;
	int r;

	m = field_metric(&f, reply, "metric");
	window = field_object(&f, reply, "window");
	total = field_int(&f, reply, "total");
	if (metric_is_signed(m)) /* what grew and what was released are no parts of a whole */
		total = 0;
	rows = field_array(&f, reply, "rows");
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	r = o->by_stack ? table_new(&t, stack_columns, ELEMENTS_OF(stack_columns), &o->term, !o->no_legend,
	                            o->full)
	                : table_new(&t, function_columns, ELEMENTS_OF(function_columns), &o->term,
	                            !o->no_legend, o->full);
	if (r < 0) {
		log_error("Can't print: %s.", strerror(-r));
		return EXIT_FAILURE;
	}
	for (size_t i = 0; i < json_length(rows); i++)
		add_row(t, o->by_stack, m, json_at(rows, i), total, &f);
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	show_window(o, m, window);
	return show_table(o, t, o->by_stack ? "stacks" : "functions") ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int print_top(const struct options *o)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(json_freep) struct json *reply = NULL;

	if (!parameters)
		return EXIT_FAILURE;
	if (o->given & OPTION_BY)
		json_put_string(parameters, "by", o->by_stack ? "stack" : "function");
	put_metric(parameters, o);
	put_filter(parameters, o);
	put_limit(parameters, o);
	if (!call_joined(&reply, o, "GetTop", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	return show_top(o, reply);
}

/* What is asked for once is printed once: a number of lines, a window that is over (an import's is), a document. */
int verb_top(const struct options *o, char **args _unused_)
{
	if (o->term.is_live && o->json == JSON_OFF && !(o->given & (OPTION_BATCH | OPTION_LINES | OPTION_UNTIL | OPTION_IMPORT)))
		return live_top(o);
	return print_top(o);
}
