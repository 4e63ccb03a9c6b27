/* SPDX-License-Identifier: GPL-2.0-or-later */
/* incidents, clusters, mute, unmute, label, check. */
#include <math.h>

#include "follow.h"
#include "imports.h"
#include "show.h"
#include "show_difference.h"
#include "timestamp.h"
#include "verbs.h"

#define LABEL_WIDTH 11

static const struct table_column incident_columns[] = {
	{ "OPENED" },
	{ "LASTED", .right = true },
	{ "SEVERITY" },
	{ "NAME", .shrink = true, .least = 16 },
	{ "WHERE", .shrink = true, .least = 12 },
	{ "SIZE", .right = true },
	{ "CLUSTER" },
	{ "ID", .right = true },
};

/* Of what is told as it happens: wide enough for most, so that lines that come one by one stand below each other. */
static const struct table_column change_columns[] = {
	{ "TIME", .least = 15 },
	{ "CHANGE", .least = 6 },
	{ "LASTED", .right = true, .least = 18 },
	{ "SEVERITY", .least = 8 },
	{ "NAME", .shrink = true, .least = 24 },
	{ "WHERE", .shrink = true, .least = 16 },
	{ "SIZE", .right = true, .least = 6 },
	{ "CLUSTER", .least = 16 },
	{ "ID", .right = true },
};

static const struct table_column cluster_columns[] = {
	{ "COUNT", .right = true },
	{ "FIRST" },
	{ "LAST" },
	{ "SEVERITY" },
	{ "NAME", .shrink = true, .least = 16 },
	{ "WHERE", .shrink = true, .least = 12 },
	{ "REMEDY", .shrink = true, .least = 12 },
	{ "ID" },
};

static enum colour severity_colour(const char *severity)
{
	return streq(severity, "critical") ? COLOUR_RED : streq(severity, "warning") ? COLOUR_YELLOW : COLOUR_NONE;
}

/* "lock-contention": as options and files spell it. */
static char *kind_text(char buf[static FORMAT_MAX], const char *kind)
{
	copy_string(buf, FORMAT_MAX, kind);
	for (char *c = buf; *c; c++)
		*c = *c == '_' ? '-' : *c;
	return buf;
}

static char *format_lasted(char buf[static FORMAT_MAX], uint64_t now_us, const struct json *incident, struct fields *f)
{
	uint64_t opened = (uint64_t)field_int(f, incident, "opened_us"), closed = now_us;
	bool is_closed = json_get_u64(incident, "closed_us", &closed) > 0;
	char span[FORMAT_MAX];

	format_timespan(span, closed > opened ? (closed - opened) / USEC_PER_SEC * USEC_PER_SEC : 0);
	snprintf(buf, FORMAT_MAX, "%s%.40s", is_closed ? "" : "goes on, ", span);
	return buf;
}

/* "victim.service", "victim.service and 2 more" */
static char *format_where(char *buf, size_t size, const char *first, size_t others)
{
	if (others > 0)
		snprintf(buf, size, "%s and %zu more", first, others);
	else
		snprintf(buf, size, "%s", first);
	return buf;
}

static const char *name_of(const struct json *incident, char buf[static FORMAT_MAX], struct fields *f)
{
	const char *name = field_string(f, incident, "name");

	return *name ? name : kind_text(buf, field_string(f, incident, "kind"));
}

static struct table *table_for(const struct options *o, const struct table_column *columns, size_t n)
{
	struct table *t;

	if (table_new(&t, columns, n, &o->term, !o->no_legend, o->full) < 0) {
		log_error("Out of memory.");
		return NULL;
	}
	return t;
}

static void put_text(const struct options *o, const char *label, const char *text)
{
	_cleanup_free_ char *escaped = text_escape(text, o->term.utf8);

	printf("%*s: %s\n", LABEL_WIDTH, label, escaped ? escaped : "");
}

/* ---- incidents ---- */

/* What lists and changes have in common. */
static void add_state(struct table *t, const struct json *i, uint64_t now_us, struct fields *f)
{
	const struct json *workloads = field_array(f, i, "workloads");
	long long n = field_int(f, i, "workloads_count");
	const char *severity = field_string(f, i, "severity"), *cluster = "";
	char buf[FORMAT_MAX], where[256];

	table_cell(t, COLOUR_NONE, format_lasted(buf, now_us, i, f));
	table_cell(t, severity_colour(severity), severity);
	table_cell(t, COLOUR_BOLD, name_of(i, buf, f));
	table_cell(t, COLOUR_NONE,
	           format_where(where, sizeof(where), json_length(workloads) ? where_of(json_at(workloads, 0)) : "-", n > 1 ? (size_t)n - 1 : 0));
	table_cellf(t, COLOUR_NONE, "%.2f", field_float(f, i, "size"));
	json_get_string(i, "cluster", &cluster);
	table_cell(t, COLOUR_GREY, cluster);
	table_cellf(t, COLOUR_GREY, "%lld", field_int(f, i, "id"));
}

static void add_incident(const struct options *o, struct table *t, const struct json *i, struct fields *f)
{
	char buf[FORMAT_MAX];

	table_cell(t, COLOUR_NONE, time_format_short(buf, (uint64_t)field_int(f, i, "opened_us")));
	add_state(t, i, o->now_us, f);
}

static bool add_incidents(const struct options *o, struct table *t, const struct json *rows)
{
	struct fields f = {};

	/* People read the newest last. */
	for (size_t k = json_length(rows); k-- > 0;)
		add_incident(o, t, json_at(rows, k), &f);
	return fields_are_good(&f);
}

/* What the length alone does not say. */
static const char *reason_of_end(const struct json *incident)
{
	const char *end = "";

	json_get_string(incident, "end", &end);
	if (streq(end, "gave_way"))
		return "; it gave way to newer ones, as too many went on";
	if (streq(end, "ended"))
		return "; the program has ended";
	return streq(end, "usual") ? "; it has become usual" : "";
}

static void show_workload(const struct options *o, const struct json *w, struct fields *f)
{
	_cleanup_free_ char *text = NULL;
	int64_t pid = 0;
	char who[FORMAT_MAX];

	json_get_int(w, "pid", &pid);
	if (pid > 0)
		snprintf(who, sizeof(who), "%.20s[%lld]", field_string(f, w, "comm"), (long long)pid);
	else
		copy_string(who, sizeof(who), field_string(f, w, "comm"));
	if (asprintf(&text, "%s, %s, uid %lld", where_of(w), who, field_int(f, w, "uid")) >= 0)
		put_text(o, "Where", text);
}

static void show_moved(const struct options *o, const struct json *m, struct fields *f)
{
	_cleanup_free_ char *text = NULL;
	enum metric metric = field_metric(f, m, "metric");
	char expected[FORMAT_MAX], worst[FORMAT_MAX];

	format_rate(expected, metric, field_float(f, m, "expected"));
	format_rate(worst, metric, field_float(f, m, "worst"));
	if (asprintf(&text, "%s of %s from %s to %s (stack %s, anomaly %lld)", metric_to_string(metric),
	             telling_function(field_array(f, m, "frames"), metric), expected, worst, field_string(f, m, "stack"),
	             field_int(f, m, "anomaly")) >= 0)
		put_text(o, "Moved", text);
}

static bool show_incident(const struct options *o, const struct json *i)
{
	struct fields f = {};
	const struct json *workloads = field_array(&f, i, "workloads"), *moved = field_array(&f, i, "moved");
	const char *severity = field_string(&f, i, "severity"), *cluster = "in some seconds";
	char buf[FORMAT_MAX], when[FORMAT_MAX], words[IMPORT_WORDS_MAX];

	show_begin(o);
	printf("%*s: %s%lld%s\n", LABEL_WIDTH, "Incident", term_colour(&o->term, severity_colour(severity)), field_int(&f, i, "id"),
	       term_reset(&o->term));
	put_text(o, "Name", name_of(i, buf, &f));
	printf("%*s: %s\n", LABEL_WIDTH, "Kind", kind_text(buf, field_string(&f, i, "kind")));
	printf("%*s: %s, %.2f CPUs' worth, %lld anomalies\n", LABEL_WIDTH, "Severity", severity, field_float(&f, i, "size"),
	       field_int(&f, i, "anomalies"));
	printf("%*s: %s\n", LABEL_WIDTH, "Opened", time_format_long(when, (uint64_t)field_int(&f, i, "opened_us")));
	printf("%*s: %s%s\n", LABEL_WIDTH, "Lasted", format_lasted(buf, o->now_us, i, &f), reason_of_end(i));
	for (size_t k = 0; k < json_length(workloads); k++)
		show_workload(o, json_at(workloads, k), &f);
	for (size_t k = 0; k < json_length(moved); k++)
		show_moved(o, json_at(moved, k), &f);
	json_get_string(i, "cluster", &cluster);
	printf("%*s: %s\n", LABEL_WIDTH, "Cluster", cluster);
	printf("%*s: %s\n", LABEL_WIDTH, "Label", field_string(&f, i, "label"));
	printf("%*s: stackctl flame%s --incident %lld -o %lld.svg\n", LABEL_WIDTH, "Picture", import_words(o, words), field_int(&f, i, "id"), field_int(&f, i, "id"));
	return fields_are_good(&f);
}

/* With --json each change is a document of its own. */
static bool show_change(const struct options *o, struct table *t, const struct json *event)
{
	struct fields f = {};
	const struct json *incident = field_object(&f, event, "incident");
	const char *change = field_string(&f, event, "change");
	uint64_t time_us = (uint64_t)field_int(&f, event, "time_us");
	char buf[FORMAT_MAX];

	if (!fields_are_good(&f))
		return false;
	if (o->json != JSON_OFF)
		return show_json(o, event);
	table_cell(t, COLOUR_NONE, time_format_short(buf, time_us));
	table_cell(t, COLOUR_BOLD, change);
	add_state(t, incident, MAX(o->now_us, time_us), &f);
	return fields_are_good(&f);
}

static int follow_incidents(const struct options *o)
{
	_cleanup_(table_freep) struct table *t = table_for(o, change_columns, ELEMENTS_OF(change_columns));

	return t ? follow(o, "incidents", t, show_change) : EXIT_FAILURE;
}

int verb_incidents(const struct options *o, char **args)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(json_freep) struct json *reply = NULL;
	_cleanup_(table_freep) struct table *t = NULL;
	const struct json *rows;
	struct fields f = {};
	uint64_t id;

	if (!parameters || (args[0] && !parse_incident_id(args[0], &id)))
		return EXIT_FAILURE;
	if (o->given & OPTION_FOLLOW && args[0]) {
		log_error("--follow shows what becomes of all incidents: it takes no ID.");
		return EXIT_FAILURE;
	}
	if (o->given & OPTION_FOLLOW)
		return follow_incidents(o);
	if (args[0])
		json_put_u64(parameters, "id", id);
	put_limit(parameters, o);
	if (!call_joined(&reply, o, "ListIncidents", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	rows = field_array(&f, reply, "incidents");
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	if (args[0])
		return show_incident(o, json_at(rows, 0)) ? EXIT_SUCCESS : EXIT_FAILURE;
	t = table_for(o, incident_columns, ELEMENTS_OF(incident_columns));
	if (!t || !add_incidents(o, t, rows))
		return EXIT_FAILURE;
	return show_table(o, t, "incidents") ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- clusters ---- */

static void add_cluster(struct table *t, const struct json *c, struct fields *f)
{
	const struct json *units = field_array(f, c, "units"), *remedy = json_get(c, "remedy");
	const char *severity = field_string(f, c, "severity"), *unit = "-";
	char buf[FORMAT_MAX], where[256];

	json_as_string(json_at(units, 0), &unit);
	table_cellf(t, COLOUR_BOLD, "%lld", field_int(f, c, "incidents"));
	table_cell(t, COLOUR_NONE, time_format_short(buf, (uint64_t)field_int(f, c, "first_us")));
	table_cell(t, COLOUR_NONE, time_format_short(buf, (uint64_t)field_int(f, c, "last_us")));
	table_cell(t, field_bool(f, c, "muted") ? COLOUR_GREY : severity_colour(severity), field_bool(f, c, "muted") ? "muted" : severity);
	table_cell(t, COLOUR_BOLD, field_string(f, c, "name"));
	table_cell(t, COLOUR_NONE, format_where(where, sizeof(where), unit, json_length(units) > 1 ? json_length(units) - 1 : 0));
	table_cell(t, COLOUR_NONE, remedy ? field_string(f, remedy, "name") : "-");
	table_cell(t, COLOUR_GREY, field_string(f, c, "id"));
}

static int list_clusters(const struct options *o)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(json_freep) struct json *reply = NULL;
	_cleanup_(table_freep) struct table *t = table_for(o, cluster_columns, ELEMENTS_OF(cluster_columns));
	const struct json *rows;
	struct fields f = {};

	if (!parameters || !t)
		return EXIT_FAILURE;
	put_limit(parameters, o);
	if (!call_joined(&reply, o, "ListClusters", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	rows = field_array(&f, reply, "clusters");
	for (size_t k = 0; k < json_length(rows); k++)
		add_cluster(t, json_at(rows, k), &f);
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	return show_table(o, t, "clusters") ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void show_list(const struct options *o, const char *label, const struct json *list)
{
	for (size_t k = 0; k < json_length(list); k++) {
		const char *text = "";

		json_as_string(json_at(list, k), &text);
		put_text(o, k == 0 ? label : "", text);
	}
}

/* What labels have changed. */
static void show_evidence(const struct json *list, struct fields *f)
{
	for (size_t k = 0; k < json_length(list); k++) {
		const char *metric = metric_to_string(field_metric(f, json_at(list, k), "metric"));
		double decades = field_float(f, json_at(list, k), "decades"), times = pow(10, fabs(decades));

		if (decades > 0)
			printf("%*s: alarms of %s are told when %.*f times less probable than others\n", LABEL_WIDTH, "Evidence", metric, times < 10, times);
		else
			printf("%*s: alarms of %s are told even when %.*f times as probable as others\n", LABEL_WIDTH, "Evidence", metric, times < 10, times);
	}
}

static bool show_cluster(const struct options *o, const struct json *c)
{
	struct fields f = {};
	const struct json *remedy = json_get(c, "remedy");
	const char *severity = field_string(&f, c, "severity");
	char buf[FORMAT_MAX], until[FORMAT_MAX], words[IMPORT_WORDS_MAX];
	uint64_t until_us;

	printf("%*s: %s%s%s\n", LABEL_WIDTH, "Cluster", term_colour(&o->term, severity_colour(severity)), field_string(&f, c, "id"),
	       term_reset(&o->term));
	put_text(o, "Name", field_string(&f, c, "name"));
	printf("%*s: %s, %s\n", LABEL_WIDTH, "Kind", kind_text(buf, field_string(&f, c, "kind")), severity);
	printf("%*s: %lld, the first %s", LABEL_WIDTH, "Incidents", field_int(&f, c, "incidents"),
	       time_format_long(buf, (uint64_t)field_int(&f, c, "first_us")));
	printf(", the last %s\n", time_format_long(buf, (uint64_t)field_int(&f, c, "last_us")));
	printf("%*s: %lld real, %lld false\n", LABEL_WIDTH, "Labelled", field_int(&f, c, "labelled_real"), field_int(&f, c, "labelled_false"));
	show_evidence(field_array(&f, c, "evidence"), &f);
	if (field_bool(&f, c, "muted"))
		printf("%*s: until %s\n", LABEL_WIDTH, "Muted", json_get_u64(c, "muted_until_us", &until_us) > 0 ? time_format_long(until, until_us) : "unmuted");
	show_list(o, "Where", field_array(&f, c, "units"));
	show_list(o, "Functions", field_array(&f, c, "common"));
	printf("%*s: stackctl flame%s --cluster %s -o cluster.svg\n", LABEL_WIDTH, "Picture", import_words(o, words), field_string(&f, c, "id"));
	if (remedy) {
		put_text(o, "Remedy", field_string(&f, remedy, "name"));
		put_text(o, "", field_string(&f, remedy, "explain"));
		show_list(o, "Try", field_array(&f, remedy, "try"));
	}
	putchar('\n');
	return fields_are_good(&f);
}

int verb_clusters(const struct options *o, char **args)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = NULL;
	_cleanup_(json_freep) struct json *reply = NULL;
	_cleanup_(table_freep) struct table *t = NULL;
	const struct json *cluster, *rows;
	struct fields f = {};
	uint64_t id;

	if (!args[0])
		return list_clusters(o);
	if (o->given & OPTION_LINES) {
		log_error("\"stackctl clusters ID\" does not take --lines.");
		return EXIT_FAILURE;
	}
	parameters = call_parameters();
	if (!parameters || !parse_cluster_id(args[0], &id))
		return EXIT_FAILURE;
	json_put_id(parameters, "cluster", id);
	if (!call_joined(&reply, o, "GetCluster", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	cluster = field_object(&f, reply, "cluster");
	rows = field_array(&f, reply, "incidents");
	t = table_for(o, incident_columns, ELEMENTS_OF(incident_columns));
	if (!fields_are_good(&f) || !t)
		return EXIT_FAILURE;
	show_begin(o);
	if (!show_cluster(o, cluster) || !add_incidents(o, t, rows) || !show_table(o, t, "incidents"))
		return EXIT_FAILURE;
	if (json_length(rows) > 0)
		show_difference(o, id);
	return EXIT_SUCCESS;
}

/* ---- what people say of them ---- */

static int set_mute(const struct options *o, char **args, bool mute)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *cluster;
	struct fields f = {};
	uint64_t id;

	if (!args[0]) {
		log_error("Which cluster? \"stackctl clusters\" lists them.");
		return EXIT_FAILURE;
	}
	if (!parameters || !parse_cluster_id(args[0], &id))
		return EXIT_FAILURE;
	json_put_id(parameters, "cluster", id);
	if (!mute)
		json_put_u64(parameters, "duration_us", 0);
	else if (o->given & OPTION_FOR)
		json_put_u64(parameters, "duration_us", o->for_us);
	if (!call_joined(&reply, o, "MuteCluster", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	cluster = field_object(&f, reply, "cluster");
	if (fields_are_good(&f) && !o->quiet)
		show_cluster(o, cluster);
	return fields_are_good(&f) ? EXIT_SUCCESS : EXIT_FAILURE;
}

int verb_mute(const struct options *o, char **args)
{
	return set_mute(o, args, true);
}

int verb_unmute(const struct options *o, char **args)
{
	return set_mute(o, args, false);
}

/* As stackd takes it; NULL, and the reason is logged, when there is no such kind. */
static char *parse_kind(char *kind)
{
	static const char *const kinds[] = {
		"cpu_spin",       "lock_contention", "io_stall",     "run_queue_starvation", "memory_pressure", "fault_storm", "network_wait",
		"interrupt_load", "stopped_work",    "new_code_path", "slow_down",            "waiting",         "memory_leak",
	};
	char text[FORMAT_MAX];

	for (char *c = kind; *c; c++)
		*c = *c == '-' ? '_' : *c;
	for (size_t k = 0; k < ELEMENTS_OF(kinds); k++)
		if (streq(kind, kinds[k]))
			return kind;
	log_error("Unknown kind \"%s\": one of cpu-spin, lock-contention, io-stall, run-queue-starvation, memory-pressure, fault-storm, network-wait, "
		  "interrupt-load, stopped-work, new-code-path, slow-down, waiting, memory-leak.",
		  kind_text(text, kind));
	return NULL;
}

int verb_label(const struct options *o, char **args)
{
	static const char *const labels[] = { "real", "false", "unlabelled" };
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *incident;
	bool known = false;
	struct fields f = {};
	uint64_t id;

	if (!args[0] || !args[1]) {
		log_error("Which incident, and what of it? \"stackctl label INCIDENT real|false [KIND]\".");
		return EXIT_FAILURE;
	}
	if (!parameters || !parse_incident_id(args[0], &id))
		return EXIT_FAILURE;
	for (size_t k = 0; k < ELEMENTS_OF(labels); k++)
		known |= streq(labels[k], args[1]);
	if (!known) {
		log_error("Unknown label \"%s\": real, false or unlabelled.", args[1]);
		return EXIT_FAILURE;
	}
	json_put_u64(parameters, "id", id);
	json_put_string(parameters, "label", args[1]);
	if (args[2]) {
		if (!parse_kind(args[2]))
			return EXIT_FAILURE;
		json_put_string(parameters, "kind", args[2]);
	}
	if (!call_joined(&reply, o, "LabelIncident", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	incident = field_object(&f, reply, "incident");
	if (fields_are_good(&f) && !o->quiet)
		show_incident(o, incident);
	return fields_are_good(&f) ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- check ---- */

/* As monitoring plug-ins answer: a line with figures behind "|", and 0 ok, 1 warning, 2 critical, 3 unknown. */
int verb_check(const struct options *o, char **args _unused_)
{
	enum { OK, WARNING, CRITICAL, UNKNOWN };
	static const char *const texts[] = { "OK", "WARNING", "CRITICAL" };
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(json_freep) struct json *reply = NULL;
	_cleanup_free_ char *name = NULL;
	const struct json *rows;
	struct fields f = {};
	int worst = OK, counts[3] = {};

	if (!parameters)
		return UNKNOWN;
	json_put_bool(parameters, "open", true);
	json_put_int(parameters, "limit", LINES_ALL);
	if (!call_joined(&reply, o, "ListIncidents", parameters)) {
		puts("STACKD UNKNOWN - stackd does not answer");
		return UNKNOWN;
	}
	rows = field_array(&f, reply, "incidents");
	for (size_t k = 0; k < json_length(rows); k++) {
		const struct json *i = json_at(rows, k);
		const char *severity = field_string(&f, i, "severity");
		int is = streq(severity, "critical") ? CRITICAL : streq(severity, "warning") ? WARNING : OK;
		char buf[FORMAT_MAX];

		if (field_bool(&f, i, "muted"))
			continue;
		counts[is]++;
		if (!name || is > worst) {
			free(name);
			name = text_escape(name_of(i, buf, &f), false);
		}
		worst = MAX(worst, is);
	}
	if (!fields_are_good(&f)) {
		puts("STACKD UNKNOWN - stackd's answer is not understood");
		return UNKNOWN;
	}
	printf("STACKD %s - %s%s | critical=%d warning=%d notice=%d\n", texts[worst], name ? "goes on: " : "no incident goes on", name ? name : "",
	       counts[CRITICAL], counts[WARNING], counts[OK]);
	return worst;
}
