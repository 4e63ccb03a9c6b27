/* SPDX-License-Identifier: GPL-2.0-or-later */
/* watch-memory, unwatch-memory. */
#include "show.h"
#include "timestamp.h"
#include "verbs.h"

static const struct table_column columns[] = {
	{ "KIND" },
	{ "PID", .right = true },
	{ "COMM" },
	{ "UNIT" },
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

/* The unit, else the control group for whose sake it is watched. */
static const char *whereabouts(const struct json *watch)
{
	const char *unit = "", *group = "";

	json_get_string(watch, "unit", &unit);
	json_get_string(watch, "group", &group);
	return *unit ? unit : *group ? group : "-";
}

static void add_watch(struct table *t, const struct json *watch, struct fields *f)
{
	const char *state = field_string(f, watch, "state"), *kind = field_string(f, watch, "kind"), *reason = "";
	bool ended = streq(state, "ended");
	char buf[FORMAT_MAX];

	json_get_string(watch, "reason", &reason);
	table_cell(t, COLOUR_NONE, kind);
	if (streq(kind, "kernel")) {
		table_cell(t, COLOUR_GREY, "-");
		table_cell(t, COLOUR_GREY, "-");
		table_cell(t, COLOUR_GREY, "-");
	} else {
		table_cell(t, COLOUR_NONE, format_pid(buf, field_int(f, watch, "pid")));
		table_cell(t, COLOUR_NONE, field_string(f, watch, "comm"));
		table_cell(t, COLOUR_NONE, whereabouts(watch));
	}
	table_cell(t, ended ? COLOUR_GREY : COLOUR_GREEN, state);
	add_time(t, watch, "since_us", "-");
	add_time(t, watch, ended ? "ended_us" : "until_us", "-");
	table_cellf(t, COLOUR_NONE, "%lld", (long long)field_int(f, watch, "functions"));
	add_cost(t, watch);
	table_cell(t, COLOUR_NONE, *reason ? reason : "-");
}

static bool show_watches(const struct options *o, const struct json *watches)
{
	_cleanup_(table_freep) struct table *t = NULL;
	struct fields f = {};

	if (table_new(&t, columns, ELEMENTS_OF(columns), &o->term, !o->no_legend, o->full) < 0)
		return false;
	for (size_t i = 0; i < json_length(watches); i++)
		add_watch(t, json_at(watches, i), &f);
	return fields_are_good(&f) && show_table(o, t, "watched processes");
}

/* ---- units and control groups ---- */

/* "nginx.service: 2 of 3 processes watched, 1 beyond the limit, until ..." */
static void show_group(const struct options *o, const struct json *group, struct fields *f)
{
	int64_t left_out = field_int(f, group, "left_out");
	_cleanup_free_ char *name = text_escape(where_of(group), o->term.utf8), *reason = NULL;
	const char *why = "";
	char when[FORMAT_MAX];
	uint64_t until_us;

	json_get_string(group, "reason", &why);
	reason = text_escape(why, o->term.utf8);
	printf("%s: ", name ? name : "");
	if (streq(field_string(f, group, "state"), "ended")) {
		printf("no longer watched: %s.\n", reason ? reason : "");
		return;
	}
	printf("%lld of %lld processes watched", (long long)field_int(f, group, "watched"), (long long)field_int(f, group, "processes"));
	if (left_out > 0)
		printf(", no room for %lld", (long long)left_out);
	if (json_get_u64(group, "until_us", &until_us) > 0)
		printf(", until %s", time_format_long(when, until_us));
	puts(field_bool(f, group, "configured") ? ", as WatchMemory= says." : ".");
}

static int list_watches(const struct options *o)
{
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *watches, *groups;
	struct fields f = {};

	if (!call_joined(&reply, o, "ListMemoryWatches", NULL))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	watches = field_array(&f, reply, "watches");
	groups = field_array(&f, reply, "groups");
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	show_begin(o);
	for (size_t i = 0; i < json_length(groups); i++)
		show_group(o, json_at(groups, i), &f);
	if (json_length(groups) > 0)
		putchar('\n');
	return fields_are_good(&f) && show_watches(o, watches) ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- begin and end ---- */

/* A process, or the kernel. */
static bool tell_watch(const struct options *o, const struct json *reply)
{
	struct fields f = {};
	const struct json *watch = field_object(&f, reply, "watch");
	_cleanup_free_ char *comm = text_escape(field_string(&f, watch, "comm"), o->term.utf8);
	bool kernel = streq(field_string(&f, watch, "kind"), "kernel");
	long long functions = field_int(&f, watch, "functions"), pid = field_int(&f, watch, "pid");
	char buf[FORMAT_MAX];
	double calls, share;
	uint64_t until_us;

	if (!fields_are_good(&f))
		return false;
	if (kernel)
		printf("Watching the kernel's memory, by %lld functions of its allocators, ", functions);
	else
		printf("Watching the memory of %lld (%s), by %lld functions of its allocators, ", pid, comm ? comm : "", functions);
	if (json_get_u64(watch, "until_us", &until_us) > 0)
		printf("until %s.\n", time_format_long(buf, until_us));
	else
		printf("as long as %s.\n", kernel ? "stackd runs" : "it lives");
	if (get_cost(watch, &calls, &share) && kernel)
		printf("They are called %.0f times a second, for which the probes take %.1f%% of the CPU time that is used.\n", calls, 100 * share);
	else if (get_cost(watch, &calls, &share))
		printf("It calls them %.0f times a second, for which the probes take %.1f%% of its CPU time.\n", calls, 100 * share);
	if (kernel)
		printf("\"stackctl stacks --metric=kmem\" lists what it holds, by who allocated it.\n");
	else
		printf("\"stackctl stacks --metric=heap --pid=%lld\" lists what it holds, by who allocated it.\n", pid);
	return true;
}

static bool tell_group(const struct options *o, const struct json *reply)
{
	struct fields f = {};
	const struct json *group = field_object(&f, reply, "group"), *watches = field_array(&f, reply, "watches");
	_cleanup_free_ char *name = text_escape(where_of(group), o->term.utf8);

	if (!fields_are_good(&f))
		return false;
	printf("Watching the memory of ");
	show_group(o, group, &f);
	puts("What is started there later is watched, too.");
	printf("\"stackctl stacks --metric=heap --%s=%s\" lists what they hold, by who allocated it.\n\n",
	       o->given & OPTION_UNIT ? "unit" : "cgroup", name ? name : "");
	return fields_are_good(&f) && show_watches(o, watches);
}

#define OPTION_WHOSE (OPTION_PID | OPTION_UNIT | OPTION_CGROUP | OPTION_KERNEL)

/* Of the four, one; NULL after saying so. */
static struct json_writer *target_parameters(const struct options *o)
{
	uint64_t given = o->given & OPTION_WHOSE;
	struct json_writer *w;

	if (given & (given - 1)) {
		log_error("Of --pid, --unit, --cgroup and --kernel, one only.");
		return NULL;
	}
	w = call_parameters();
	if (!w)
		return NULL;
	if (given & OPTION_PID)
		json_put_int(w, "pid", o->pid);
	if (given & OPTION_KERNEL)
		json_put_bool(w, "kernel", true);
	json_put_string(w, "unit", o->unit);
	json_put_string(w, "cgroup", o->cgroup);
	return w;
}

int verb_watch_memory(const struct options *o, char **args _unused_)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = NULL;
	_cleanup_(json_freep) struct json *reply = NULL;

	if (!(o->given & OPTION_WHOSE)) {
		if (!(o->given & OPTION_FOR))
			return list_watches(o);
		log_error("--for needs --pid, --unit, --cgroup or --kernel.");
		return EXIT_FAILURE;
	}
	parameters = target_parameters(o);
	if (!parameters)
		return EXIT_FAILURE;
	if (o->given & OPTION_FOR)
		json_put_u64(parameters, "duration_us", o->for_us);
	if (!call_joined(&reply, o, "WatchMemory", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	if (o->quiet)
		return EXIT_SUCCESS;
	return (o->given & (OPTION_PID | OPTION_KERNEL) ? tell_watch(o, reply) : tell_group(o, reply)) ? EXIT_SUCCESS : EXIT_FAILURE;
}

int verb_unwatch_memory(const struct options *o, char **args _unused_)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = NULL;
	_cleanup_(json_freep) struct json *reply = NULL;

	if (!(o->given & OPTION_WHOSE)) {
		log_error("Whose? \"stackctl watch-memory\" lists what is watched; name a process by --pid, or --unit, --cgroup or --kernel.");
		return EXIT_FAILURE;
	}
	parameters = target_parameters(o);
	if (!parameters)
		return EXIT_FAILURE;
	if (!call_joined(&reply, o, "UnwatchMemory", parameters))
		return EXIT_FAILURE;
	return o->json == JSON_OFF || show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
}
