/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "call.h"
#include "show.h"
#include "show_stack.h"
#include "verbs.h"

static const struct table_column columns[] = {
	{ "BUILD ID" },
	{ "OBJECT", .shrink = true },
};

int verb_missing_debug(const struct options *o, char **args _unused_)
{
	_cleanup_(table_freep) struct table *t = show_table_new(o, columns, ELEMENTS_OF(columns));
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *files;
	struct fields f = {};

	if (!t || !call_joined(&reply, o, "ListMissingDebug", NULL))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	files = field_array(&f, reply, "files");
	for (size_t i = 0; i < json_length(files); i++) {
		table_cell(t, COLOUR_NONE, field_string(&f, json_at(files, i), "build_id"));
		table_cell(t, COLOUR_NONE, field_string(&f, json_at(files, i), "object"));
	}
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	return show_table(o, t, "files without debug information") ? EXIT_SUCCESS : EXIT_FAILURE;
}
