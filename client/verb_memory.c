/* SPDX-License-Identifier: GPL-2.0-or-later */
/* watch-memory, unwatch-memory. */
#include "show.h"
#include "timestamp.h"
#include "verbs.h"

static const struct table_column columns[] = {
	{ "PID", .right = true },
	{ "COMM" },
	{ "STATE" },
	{ "SINCE" },
	{ "UNTIL" },
	{ "FUNCTIONS", .right = true },
	{ "CALLS/S", .right = true },
	{ "COST", .right = true },
	{ "REASON" },
};

static void add_time(struct table *t, const struct json *watch, const char *key, const char *absent)
{
	char buf[FORMAT_MAX];
	uint64_t us;

	table_cell(t, COLOUR_NONE, json_get_u64(watch, key, &us) > 0 ? time_format_short(buf, us) : absent);
}

static bool get_cost(const struct json *watch, double *ret_calls, double *ret_share)
{
	return json_get_float(watch, "calls_per_s", ret_calls) > 0 && json_get_float(watch, "share", ret_share) > 0;
}

static void add_cost(struct table *t, const struct json *watch)
{
	double calls, share;

	if (!get_cost(watch, &calls, &share)) {
		table_cell(t, COLOUR_GREY, "-");
		table_cell(t, COLOUR_GREY, "-");
		return;
	}
	table_cellf(t, COLOUR_NONE, "%.0f", calls);
	table_cellf(t, COLOUR_NONE, "%.1f%%", 100 * share);
}

static void add_watch(struct table *t, const struct json *watch, struct fields *f)
{
	const char *state = field_string(f, watch, "state"), *reason = "";
	bool ended = streq(state, "ended");
	char buf[FORMAT_MAX];

	json_get_string(watch, "reason", &reason);
	table_cell(t, COLOUR_NONE, format_pid(buf, field_int(f, watch, "pid")));
	table_cell(t, COLOUR_NONE, field_string(f, watch, "comm"));
	table_cell(t, ended ? COLOUR_GREY : COLOUR_GREEN, state);
	add_time(t, watch, "since_us", "-");
	add_time(t, watch, ended ? "ended_us" : "until_us", "-");
	table_cellf(t, COLOUR_NONE, "%lld", (long long)field_int(f, watch, "functions"));
	add_cost(t, watch);
	table_cell(t, COLOUR_NONE, *reason ? reason : "-");
}

static int list_watches(const struct options *o)
{
	_cleanup_(json_freep) struct json *reply = NULL;
	_cleanup_(table_freep) struct table *t = NULL;
	const struct json *watches;
	struct fields f = {};

	if (!call_joined(&reply, o, "ListMemoryWatches", NULL))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	watches = field_array(&f, reply, "watches");
	if (!fields_are_good(&f) || table_new(&t, columns, ELEMENTS_OF(columns), &o->term, !o->no_legend, o->full) < 0)
		return EXIT_FAILURE;
	for (size_t i = 0; i < json_length(watches); i++)
		add_watch(t, json_at(watches, i), &f);
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	show_begin(o);
	return show_table(o, t, "watched processes") ? EXIT_SUCCESS : EXIT_FAILURE;
}

int verb_watch_memory(const struct options *o, char **args)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = NULL;
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *watch;
	struct fields f = {};
	char buf[FORMAT_MAX];
	double calls, share;
	uint64_t until_us;

	(void)args;
	if (!(o->given & OPTION_PID)) {
		if (!(o->given & OPTION_FOR))
			return list_watches(o);
		log_error("--for needs --pid.");
		return EXIT_FAILURE;
	}
	parameters = call_parameters();
	if (!parameters)
		return EXIT_FAILURE;
	json_put_int(parameters, "pid", o->pid);
	if (o->given & OPTION_FOR)
		json_put_u64(parameters, "duration_us", o->for_us);
	if (!call_joined(&reply, o, "WatchMemory", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	watch = field_object(&f, reply, "watch");
	if (fields_are_good(&f) && !o->quiet) {
		_cleanup_free_ char *comm = text_escape(field_string(&f, watch, "comm"), o->term.utf8);

		printf("Watching the memory of %lld (%s), by %lld functions of its allocators, ", (long long)field_int(&f, watch, "pid"),
		       comm ? comm : "", (long long)field_int(&f, watch, "functions"));
		if (json_get_u64(watch, "until_us", &until_us) > 0)
			printf("until %s.\n", time_format_long(buf, until_us));
		else
			printf("as long as it lives.\n");
		if (get_cost(watch, &calls, &share))
			printf("It calls them %.0f times a second, for which the probes take %.1f%% of its CPU time.\n", calls, 100 * share);
		printf("\"stackctl stacks --metric=heap --pid=%lld\" lists what it holds, by who allocated it.\n", (long long)field_int(&f, watch, "pid"));
	}
	return fields_are_good(&f) ? EXIT_SUCCESS : EXIT_FAILURE;
}

int verb_unwatch_memory(const struct options *o, char **args)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = NULL;
	_cleanup_(json_freep) struct json *reply = NULL;

	(void)args;
	if (!(o->given & OPTION_PID)) {
		log_error("Which process? \"stackctl watch-memory\" lists those that are watched; name one by --pid.");
		return EXIT_FAILURE;
	}
	parameters = call_parameters();
	if (!parameters)
		return EXIT_FAILURE;
	json_put_int(parameters, "pid", o->pid);
	if (!call_joined(&reply, o, "UnwatchMemory", parameters))
		return EXIT_FAILURE;
	return o->json == JSON_OFF || show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
}
