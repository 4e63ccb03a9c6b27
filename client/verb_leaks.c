/* SPDX-License-Identifier: GPL-2.0-or-later */
/* leaks: what watched heaps, and the kernel, hold. */
#include "show.h"
#include "show_stack.h"
#include "timestamp.h"
#include "verbs.h"

static const struct table_column columns[] = {
	{ "STACK" },
	{ "HELD", .right = true },
	{ "BLOCKS", .right = true },
	{ "PER MIN", .right = true },
	{ "GROWS" },
	{ ">1MIN", .right = true },
	{ ">10MIN", .right = true },
	{ ">1H", .right = true },
	{ "KIND" },
	{ "PROCESS" },
	{ "ALLOCATED BY", .shrink = true },
};

static void add_bytes(struct table *t, const struct json *leak, const char *key, struct fields *f)
{
	char buf[FORMAT_MAX];

	table_cell(t, COLOUR_NONE, format_metric(buf, METRIC_HEAP, (uint64_t)field_int(f, leak, key)));
}

static void add_growth(struct table *t, const struct json *leak)
{
	char buf[FORMAT_MAX];
	int64_t per_minute;
	bool grows = false;

	if (json_get_int(leak, "per_minute", &per_minute) <= 0 || json_get_bool(leak, "grows", &grows) <= 0) {
		table_cell(t, COLOUR_GREY, "-");
		table_cell(t, COLOUR_GREY, "-");
		return;
	}
	table_cell(t, COLOUR_NONE, format_metric(buf, METRIC_HEAP, (uint64_t)per_minute));
	table_cell(t, grows ? COLOUR_RED : COLOUR_NONE, grows ? "yes" : "no");
}

static void add_leak(struct table *t, const struct json *leak, struct fields *f)
{
	bool kernel = streq(field_string(f, leak, "kind"), "kernel");
	_cleanup_free_ char *names = NULL;

	table_cell(t, COLOUR_GREY, field_string(f, leak, "stack"));
	add_bytes(t, leak, "bytes", f);
	table_cellf(t, COLOUR_NONE, "%lld", (long long)field_int(f, leak, "blocks"));
	add_growth(t, leak);
	add_bytes(t, leak, "older_1min", f);
	add_bytes(t, leak, "older_10min", f);
	add_bytes(t, leak, "older_1h", f);
	table_cell(t, COLOUR_NONE, kernel ? "kernel" : "process");
	table_cellf(t, COLOUR_NONE, "%s[%lld]", field_string(f, leak, "comm"), (long long)field_int(f, leak, "pid"));
	names = stack_names(kernel ? METRIC_KMEM : METRIC_HEAP, field_array(f, leak, "frames"), field_bool(f, leak, "truncated"), f);
	table_cell(t, COLOUR_NONE, names ? names : "");
}

/* Whose memory would be looked at: without any an empty list would look like good news. The kernel's is held for any process. */
static bool is_any_watched(const struct options *o, bool *ret)
{
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *watches;
	struct fields f = {};

	*ret = false;
	if (!call_joined(&reply, o, "ListMemoryWatches", NULL))
		return false;
	watches = field_array(&f, reply, "watches");
	for (size_t i = 0; i < json_length(watches); i++) {
		const struct json *watch = json_at(watches, i);

		*ret |= streq(field_string(&f, watch, "state"), "watched") &&
		        (!(o->given & OPTION_PID) || field_int(&f, watch, "pid") == o->pid || streq(field_string(&f, watch, "kind"), "kernel"));
	}
	return fields_are_good(&f);
}

static void show_sums(const struct json *reply, struct fields *f)
{
	char held[FORMAT_MAX], part[FORMAT_MAX], when[FORMAT_MAX];
	int64_t unnamed = field_int(f, reply, "unnamed"), left_out = field_int(f, reply, "left_out");
	uint64_t counted_us;

	if (json_get_u64(reply, "counted_us", &counted_us) <= 0) {
		puts("Nothing has been counted yet; that takes some seconds.");
		return;
	}
	printf("%s held by all that is watched, counted %s", format_metric(held, METRIC_HEAP, (uint64_t)field_int(f, reply, "bytes")),
	       time_format(when, counted_us));
	if (unnamed)
		printf("; %s by stacks whose names are not known yet", format_metric(part, METRIC_HEAP, (uint64_t)unnamed));
	if (left_out)
		printf("; %s by stacks that there was no room for", format_metric(part, METRIC_HEAP, (uint64_t)left_out));
	puts(".\n");
}

int verb_leaks(const struct options *o, char **args _unused_)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(table_freep) struct table *t = NULL;
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *leaks;
	struct fields f = {};
	bool watched;

	if (!parameters || !is_any_watched(o, &watched))
		return EXIT_FAILURE;
	if (!watched) {
		if (o->given & OPTION_PID)
			log_error("The heap of process %lld is not watched: \"stackctl watch-memory --pid=%lld\" begins it.", (long long)o->pid, (long long)o->pid);
		else
			log_error("No heap is watched: \"stackctl watch-memory --pid=PID\" begins it, or that of the kernel's memory with --kernel.");
		return EXIT_FAILURE;
	}
	if (o->given & OPTION_PID)
		json_put_int(parameters, "pid", o->pid);
	put_limit(parameters, o);
	if (!call_joined(&reply, o, "ListLeaks", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	leaks = field_array(&f, reply, "leaks");
	t = show_table_new(o, columns, ELEMENTS_OF(columns));
	if (!fields_are_good(&f) || !t)
		return EXIT_FAILURE;
	for (size_t i = 0; i < json_length(leaks); i++)
		add_leak(t, json_at(leaks, i), &f);
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	show_begin(o);
	show_sums(reply, &f);
	return fields_are_good(&f) && show_table(o, t, "stacks") ? EXIT_SUCCESS : EXIT_FAILURE;
}
