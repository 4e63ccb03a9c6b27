/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "imports.h"
#include "show.h"
#include "show_stack.h"
#include "timestamp.h"
#include "verbs.h"

#define LABEL_WIDTH 11

static const struct table_column columns[] = {
	{ "NAME" },
	{ "FORMAT" },
	{ "BEGINS" },
	{ "LASTS", .right = true },
	{ "SAMPLES", .right = true },
	{ "STACKS", .right = true },
	{ "ANOMALIES", .right = true },
	{ "SIZE", .right = true },
	{ "SOURCE", .shrink = true },
};

/* The recording's own clock is shown as perf script prints it. */
static char *format_moment(char buf[static FORMAT_MAX], const char *clock, uint64_t us)
{
	if (streq(clock, "realtime"))
		return time_format(buf, us);
	if (streq(clock, "none"))
		snprintf(buf, FORMAT_MAX, "-");
	else
		snprintf(buf, FORMAT_MAX, "%llu.%06llu", (unsigned long long)(us / USEC_PER_SEC), (unsigned long long)(us % USEC_PER_SEC));
	return buf;
}

/* ---- all ---- */

static void add_row(struct table *t, const struct import_entry *e, struct fields *f)
{
	char buf[FORMAT_MAX];
	const char *clock;

	table_cell(t, COLOUR_BOLD, e->name);
	if (!e->about) {
		table_cell(t, COLOUR_RED, e->fault);
		for (size_t i = 2; i < ELEMENTS_OF(columns); i++)
			table_cell(t, COLOUR_NONE, "-");
		return;
	}
	clock = field_string(f, e->about, "clock");
	table_cell(t, COLOUR_NONE, field_string(f, e->about, "format"));
	table_cell(t, COLOUR_NONE, format_moment(buf, clock, (uint64_t)field_int(f, e->about, "since_us")));
	table_cell(t, COLOUR_NONE, streq(clock, "none") ? "-" : format_timespan(buf, (uint64_t)field_int(f, e->about, "until_us") -
										    (uint64_t)field_int(f, e->about, "since_us")));
	table_cell(t, COLOUR_NONE, format_count(buf, (uint64_t)field_int(f, e->about, "samples")));
	table_cell(t, COLOUR_NONE, format_count(buf, (uint64_t)field_int(f, e->about, "stacks")));
	table_cellf(t, COLOUR_NONE, "%lld", field_int(f, e->about, "anomalies"));
	table_cell(t, COLOUR_NONE, format_size(buf, e->size));
	table_cell(t, COLOUR_GREY, field_string(f, e->about, "source"));
}

static bool show_list(const struct options *o, const struct imports *all)
{
	_cleanup_(table_freep) struct table *t = show_table_new(o, columns, ELEMENTS_OF(columns));
	struct fields f = {};

	if (!t)
		return false;
	for (size_t i = 0; i < all->n; i++)
		add_row(t, &all->entries[i], &f);
	if (!fields_are_good(&f))
		return false;
	if (all->more && !o->quiet)
		log_warning("There are more than %d files with imports' names; the others are not shown.", IMPORTS_MAX);
	return show_table(o, t, "imports");
}

static bool show_list_json(const struct options *o, const struct imports *all)
{
	_cleanup_(json_writer_freep) struct json_writer *w = show_json_writer(o);

	if (!w)
		return false;
	json_open_object(w);
	json_key(w, "imports");
	json_open_array(w);
	for (size_t i = 0; i < all->n; i++) {
		json_open_object(w);
		json_put_string(w, "name", all->entries[i].name);
		json_put_u64(w, "size", all->entries[i].size);
		json_put_string(w, "fault", all->entries[i].fault);
		if (all->entries[i].about) {
			json_key(w, "import");
			json_write_value(w, all->entries[i].about);
		}
		json_close_object(w);
	}
	json_close_array(w);
	json_close_object(w);
	show_begin(o);
	return show_json_written(w);
}

static int list(const struct options *o)
{
	struct imports all;
	bool good;

	if (!imports_list(&all))
		return EXIT_FAILURE;
	good = o->json != JSON_OFF ? show_list_json(o, &all) : show_list(o, &all);
	imports_done(&all);
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- one that was just read ---- */

static void show_samples(const struct json *about, struct fields *f)
{
	const struct json *events = field_array(f, about, "events");
	char buf[FORMAT_MAX];

	printf("%*s: %s", LABEL_WIDTH, "Samples", format_count(buf, (uint64_t)field_int(f, about, "samples")));
	for (size_t i = 0; i < json_length(events); i++) {
		const struct json *e = json_at(events, i);
		_cleanup_free_ char *name = text_escape(field_string(f, e, "event"), false);

		printf("%s%s%s%s as %s", i == 0 ? ", of which " : ", ", format_count(buf, (uint64_t)field_int(f, e, "samples")), name && *name ? " " : "",
		       name ?: "", field_string(f, e, "metric"));
	}
	printf("; %lld lost, %lld left out\n", field_int(f, about, "lost"), field_int(f, about, "left_out"));
}

static void show_metrics(const struct json *about, struct fields *f)
{
	const struct json *metrics = field_object(f, about, "metrics");
	const char *separator = "";

	printf("%*s: ", LABEL_WIDTH, "Metrics");
	for (enum metric m = 0; m < METRIC_N; m++) {
		uint64_t value = 0;
		char buf[FORMAT_MAX];

		if (json_get_u64(metrics, metric_to_string(m), &value) <= 0)
			continue;
		printf("%s%s %s", separator, metric_to_string(m), format_metric(buf, m, value));
		separator = ", ";
	}
	putchar('\n');
}

static void show_window_of(const struct json *about, struct fields *f)
{
	const char *clock = field_string(f, about, "clock");
	uint64_t since_us = (uint64_t)field_int(f, about, "since_us"), until_us = (uint64_t)field_int(f, about, "until_us");
	char since[FORMAT_MAX], until[FORMAT_MAX], span[FORMAT_MAX];

	if (streq(clock, "none"))
		printf("%*s: has no times\n", LABEL_WIDTH, "Window");
	else
		printf("%*s: %s to %s (%s)%s\n", LABEL_WIDTH, "Window", format_moment(since, clock, since_us), format_moment(until, clock, until_us),
		       format_timespan(span, until_us - since_us), streq(clock, "realtime") ? "" : ", by the recording's own clock");
}

static bool has_metric(const struct json *about, enum metric m)
{
	return json_get(json_get(about, "metrics"), metric_to_string(m));
}

static bool show_import(const struct options *o, const struct import_entry *e)
{
	_cleanup_free_ char *source = NULL, *damage = NULL;
	enum metric shown = METRIC_ON_CPU;
	struct fields f = {};
	const char *text = "";

	source = text_escape(field_string(&f, e->about, "source"), o->term.utf8);
	show_begin(o);
	printf("%*s: %s\n", LABEL_WIDTH, "Import", e->name);
	printf("%*s: %s (%s)\n", LABEL_WIDTH, "Source", source ?: "", field_string(&f, e->about, "format"));
	if (json_get_string(e->about, "damage", &text) > 0) {
		damage = text_escape(text, o->term.utf8);
		printf("%*s: %s; what came before is there\n", LABEL_WIDTH, "Damaged", damage ?: "");
	}
	show_window_of(e->about, &f);
	show_samples(e->about, &f);
	show_metrics(e->about, &f);
	printf("%*s: %lld of %lld processes\n", LABEL_WIDTH, "Stacks", field_int(&f, e->about, "stacks"), field_int(&f, e->about, "processes"));
	if (field_int(&f, e->about, "reclaimed") > 0)
		printf("%*s: %lld stacks or processes that there was no room for\n", LABEL_WIDTH, "Missing", field_int(&f, e->about, "reclaimed"));
	printf("%*s: %lld anomalies, %lld incidents\n", LABEL_WIDTH, "Found", field_int(&f, e->about, "anomalies"), field_int(&f, e->about, "incidents"));
	for (enum metric m = METRIC_N; m-- > 0;)
		if (has_metric(e->about, m) && !has_metric(e->about, shown))
			shown = m;
	printf("%*s: stackctl flame --import %s%s%s -o %s.svg\n", LABEL_WIDTH, "Picture", e->name, shown == METRIC_ON_CPU ? "" : " --metric ",
	       shown == METRIC_ON_CPU ? "" : metric_to_string(shown), e->name);
	return fields_are_good(&f);
}

static bool show_added(const struct options *o, const char *name)
{
	struct import_entry e;
	bool good;

	if (!import_look(name, &e))
		return false;
	good = o->json != JSON_OFF ? show_json(o, e.about) : show_import(o, &e);
	json_free(e.about);
	return good;
}

static int add(const struct options *o, const char *file)
{
	return import_add(o, file) && show_added(o, import_name(o, file)) ? EXIT_SUCCESS : EXIT_FAILURE;
}

int verb_import(const struct options *o, char **args)
{
	const uint64_t of_reading = OPTION_NAME | OPTION_METRIC | OPTION_EVENT;

	if (!(o->given & OPTION_REMOVE) && args[0])
		return add(o, args[0]);
	if (o->given & of_reading) {
		log_error("\"stackctl import\" without a file does not take %s.", option_name(o->given & of_reading));
		return EXIT_FAILURE;
	}
	if (!(o->given & OPTION_REMOVE))
		return list(o);
	if (args[0]) {
		log_error("--remove takes the name of an import, and no file.");
		return EXIT_FAILURE;
	}
	return import_remove(o->name) ? EXIT_SUCCESS : EXIT_FAILURE;
}
