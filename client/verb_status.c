/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <sys/utsname.h>

#include "gate.h"
#include "show.h"
#include "timestamp.h"
#include "verbs.h"

#define INDENT 13        /* where values begin: as wide as "  Anomalies: " */
#define WRAP_DEFAULT 100 /* columns, where stdout is no terminal */
#define REPORT_CHANGES 20

static void label(const char *name)
{
	printf("%*s: ", INDENT - 2, name);
}

/* Items one after the other, on as many lines as they need. */
struct flow {
	const struct term *term;
	size_t at;
};

static void flow_item(struct flow *f, enum colour colour, const char *text)
{
	_cleanup_free_ char *escaped = text_escape(text, f->term->utf8);
	size_t wrap = f->term->columns ? f->term->columns : WRAP_DEFAULT, width;

	if (!escaped)
		return;
	width = text_width(escaped);
	if (f->at > 0 && INDENT + f->at + 2 + width > wrap) {
		printf(",\n%*s", INDENT, "");
		f->at = 0;
	} else if (f->at > 0) {
		fputs(", ", stdout);
		f->at += 2;
	}
	printf("%s%s%s", term_colour(f->term, colour), escaped, colour ? term_reset(f->term) : "");
	f->at += width;
}

static void flow_end(struct flow *f, const char *if_empty)
{
	puts(f->at > 0 ? "" : if_empty);
}

static void show_head(const struct options *o, const struct json *s, struct fields *f)
{
	_cleanup_free_ char *version = text_escape(field_string(f, s, "version"), o->term.utf8),
	                    *kernel = text_escape(field_string(f, s, "kernel"), o->term.utf8);
	uint64_t started_us = field_int(f, s, "started_us");
	char when[FORMAT_MAX], ago[FORMAT_MAX];

	printf("%s%s%s stackd %s on Linux %s, %lld CPUs\n", term_colour(&o->term, COLOUR_GREEN),
	       o->term.utf8 ? "●" : "*", term_reset(&o->term), version ? version : "", kernel ? kernel : "",
	       field_int(f, s, "online_cpus"));
	label("Recording");
	printf("since %s; %s (pid %lld, opener %lld, parser %lld)\n", time_format_long(when, started_us),
	       time_format_relative(ago, started_us, field_int(f, s, "now_us")), field_int(f, s, "pid"),
	       field_int(f, s, "opener_pid"), field_int(f, s, "parser_pid"));
}

static void show_ticks(const struct options *o, const struct json *s, struct fields *f)
{
	char last[FORMAT_MAX], worst[FORMAT_MAX];
	int64_t missed = field_int(f, s, "ticks_missed");

	label("Ticks");
	printf("%lld, %s%lld missed%s; the last took %s, the worst of the last minute %s\n",
	       field_int(f, s, "ticks"), term_colour(&o->term, missed > 0 ? COLOUR_YELLOW : COLOUR_NONE),
	       (long long)missed, missed > 0 ? term_reset(&o->term) : "",
	       format_metric(last, METRIC_ON_CPU, field_int(f, s, "tick_cost_ns")),
	       format_metric(worst, METRIC_ON_CPU, field_int(f, s, "tick_cost_max_ns")));
}

static void show_collectors(const struct options *o, const struct json *s, struct fields *f)
{
	const struct json *rows = field_array(f, s, "collectors");

	label("Collectors");
	for (size_t i = 0; i < json_length(rows); i++) {
		_cleanup_free_ char *name = text_escape(field_string(f, json_at(rows, i), "name"),
		                                        o->term.utf8),
				    *source = text_escape(field_string(f, json_at(rows, i), "source"),
		                                          o->term.utf8);

		printf("%*s%s%s%s\n", i > 0 ? INDENT : 0, "", name ? name : "",
		       source && *source ? " by " : ": off", source ? source : "");
	}
	if (json_length(rows) == 0)
		puts("none");
}

/* What counts, why it is that, and of what it sees no stacks. */
static void show_source(const struct options *o, const struct json *s, struct fields *f)
{
	const struct json *rows = field_array(f, s, "unmeasured");
	_cleanup_free_ char *reason = text_escape(field_string(f, s, "source_reason"), o->term.utf8);
	const char *name;
	enum metric m;

	label("Source");
	printf("%s (%s)", field_string(f, s, "source"), reason ? reason : "");
	for (size_t i = 0; i < json_length(rows); i++)
		if (json_as_string(json_at(rows, i), &name) >= 0 && metric_from_string(name, &m) >= 0)
			printf("%s%s", i > 0 ? ", " : "; no stacks of ", metric_to_string(m));
	putchar('\n');
}

static void show_conservation(const struct options *o, const struct json *s, struct fields *f)
{
	const struct json *rows = field_array(f, s, "conservation");
	struct flow flow = { .term = &o->term };

	label("Accounted");
	for (size_t i = 0; i < json_length(rows); i++) {
		enum metric m = field_metric(f, json_at(rows, i), "metric");
		char text[FORMAT_MAX];

		snprintf(text, sizeof(text), "%s %.1f%%", metric_to_string(m),
		         100 * field_float(f, json_at(rows, i), "ratio"));
		flow_item(&flow, COLOUR_NONE, text);
	}
	flow_end(&flow, "nothing to compare in the last minute");
}

static void show_losses(const struct options *o, const struct json *s, struct fields *f)
{
	const struct json *rows = field_array(f, s, "losses");
	struct flow flow = { .term = &o->term };

	label("Losses");
	for (size_t i = 0; i < json_length(rows); i++) {
		int64_t n = field_int(f, json_at(rows, i), "count");
		char text[FORMAT_MAX * 2];

		snprintf(text, sizeof(text), "%lld %.64s", (long long)n,
		         field_string(f, json_at(rows, i), "cause"));
		if (n > 0)
			flow_item(&flow, COLOUR_YELLOW, text);
	}
	flow_end(&flow, "none");
}

static void show_limits(const struct options *o, const struct json *s, struct fields *f)
{
	const struct json *rows = field_array(f, s, "limits");
	struct flow flow = { .term = &o->term };

	label("Limits");
	for (size_t i = 0; i < json_length(rows); i++) {
		const struct json *row = json_at(rows, i);
		uint64_t used = field_int(f, row, "used"), max = field_int(f, row, "max");
		bool bytes = streq(field_string(f, row, "unit"), "bytes");
		char text[FORMAT_MAX * 4], a[FORMAT_MAX], b[FORMAT_MAX];

		if (max == 0) /* of what this source doesn't have */
			continue;
		snprintf(text, sizeof(text), "%.64s %s of %s", field_string(f, row, "name"),
		         bytes ? format_size(a, used) : format_count(a, used),
		         bytes ? format_size(b, max) : format_count(b, max));
		flow_item(&flow,
		          used >= max             ? COLOUR_RED
		          : used > max - max / 10 ? COLOUR_YELLOW
		                                  : COLOUR_NONE,
		          text);
	}
	flow_end(&flow, "none");
}

/* Whose heaps are watched, as far as one may know; nothing when none is. */
static void show_heaps(const struct options *o, const struct json *s, struct fields *f)
{
	const struct json *watches = json_get(s, "memory_watches"), *groups = json_get(s, "memory_groups");
	struct flow flow = { .term = &o->term };
	char text[FORMAT_MAX * 4];

	if (json_length(watches) == 0 && json_length(groups) == 0)
		return;
	label("Heaps");
	for (size_t i = 0; i < json_length(groups); i++) {
		const struct json *group = json_at(groups, i);
		_cleanup_free_ char *name = text_escape(where_of(group), o->term.utf8);

		snprintf(text, sizeof(text), "%.128s %lld of %lld processes", name ? name : "", (long long)field_int(f, group, "watched"),
		         (long long)field_int(f, group, "processes"));
		flow_item(&flow, field_int(f, group, "left_out") > 0 ? COLOUR_YELLOW : COLOUR_NONE, text);
	}
	for (size_t i = 0; i < json_length(watches); i++) {
		const struct json *watch = json_at(watches, i);
		_cleanup_free_ char *comm = text_escape(field_string(f, watch, "comm"), o->term.utf8), *unit = NULL;
		const char *of = "", *group = "";

		json_get_string(watch, "unit", &of);
		if (json_get_string(watch, "group", &group) > 0)
			continue;
		unit = text_escape(of, o->term.utf8);
		snprintf(text, sizeof(text), "%s[%lld]%s%.128s", comm ? comm : "", (long long)field_int(f, watch, "pid"), *of ? " of " : "",
		         unit ? unit : "");
		flow_item(&flow, COLOUR_NONE, text);
	}
	flow_end(&flow, "");
}

static void show_tiers(const struct json *s, struct fields *f)
{
	const struct json *rows = field_array(f, s, "tiers");

	label("Store");
	for (size_t i = 0; i < json_length(rows); i++) {
		const struct json *row = json_at(rows, i);
		char step[FORMAT_MAX], oldest[FORMAT_MAX], points[FORMAT_MAX], size[FORMAT_MAX];
		int64_t n = field_int(f, row, "points"), bytes = field_int(f, row, "bytes");
		uint64_t oldest_us;

		printf("%*s%s steps", i > 0 ? INDENT : 0, "",
		       format_timespan(step, field_int(f, row, "step_s") * USEC_PER_SEC));
		if (json_get_u64(row, "oldest_us", &oldest_us) == 1)
			printf(" since %s", time_format(oldest, oldest_us));
		printf(": %s points, %s", format_count(points, n), format_size(size, bytes));
		if (n > 0)
			printf(", %.2f bytes a point", (double)bytes / n);
		printf(", %lld blocks evicted\n", field_int(f, row, "evicted_blocks"));
	}
	if (json_length(rows) == 0)
		puts("none");
}

static void show_costs(const struct json *s, struct fields *f)
{
	int64_t cpu_ns = field_int(f, s, "cpu_ns");
	double lived_us = (double)field_int(f, s, "now_us") - field_int(f, s, "started_us");
	char resident[FORMAT_MAX], maps[FORMAT_MAX], cpu[FORMAT_MAX];

	label("Memory");
	printf("%s resident, %s of %s\n", format_size(resident, field_int(f, s, "resident_bytes")),
	       format_size(maps, field_int(f, s, "map_bytes")), streq(field_string(f, s, "source"), "perf") ? "rings" : "BPF maps");
	label("CPU");
	printf("%s", format_metric(cpu, METRIC_ON_CPU, cpu_ns));
	if (lived_us > 0)
		printf(", %.2f%% of one CPU since the start", 100.0 * cpu_ns / NSEC_PER_USEC / lived_us);
	putchar('\n');
	label("Names");
	printf("%lld frames looked up, %lld without a name; parser restarts: %lld\n",
	       field_int(f, s, "frames_resolved"), field_int(f, s, "frames_unnamed"),
	       field_int(f, s, "parser_restarts"));
}

/* What it costs against what it may, and what is lowered for that. */
static void show_budget(const struct options *o, const struct json *s, struct fields *f)
{
	const struct json *b = field_object(f, s, "budget"), *left_out = field_array(f, b, "left_out");
	double allowed = field_float(f, b, "allowed"), user = field_float(f, b, "user"), kernel = field_float(f, b, "kernel");
	double rates = field_float(f, b, "rates");
	bool lowered = rates < 1 || json_length(left_out) > 0;
	const char *cause = "", *name;
	uint64_t changed_us;
	char when[FORMAT_MAX];

	label("Budget");
	if (allowed < 1)
		printf("%.2f%% of all CPUs taken of %g%%", 100 * (user + kernel), 100 * allowed);
	else
		printf("%.2f%% of all CPUs taken, no limit", 100 * (user + kernel));
	printf(" (daemon and helpers %.2f%%, in the kernel %.2f%%%s); ", 100 * user, 100 * kernel,
	       field_bool(f, b, "kernel_measured") ? "" : ", not measured");
	if (!field_bool(f, b, "judged"))
		fputs("not judged yet, as it has just started", stdout);
	else if (!lowered)
		fputs("nothing lowered", stdout);
	else
		printf("%srates times %.3f%s", term_colour(&o->term, COLOUR_YELLOW), rates, term_reset(&o->term));
	for (size_t i = 0; i < json_length(left_out); i++)
		if (json_as_string(json_at(left_out, i), &name) >= 0)
			printf("%s%.64s", i > 0 ? ", " : "; not seen: ", name);
	json_get_string(b, "cause", &cause);
	if (*cause && json_get_u64(b, "changed_us", &changed_us) == 1) {
		_cleanup_free_ char *escaped = text_escape(cause, o->term.utf8);

		printf("; %s %s", escaped ? escaped : "", time_format(when, changed_us));
	}
	putchar('\n');
}

/* Whether walks reach the root, and what they do it by. */
static void show_walks(const struct options *o, const struct json *s, struct fields *f)
{
	const struct json *rows = field_array(f, s, "walks");
	struct flow flow = { .term = &o->term };
	int64_t total = 0;
	char count[FORMAT_MAX];

	for (size_t i = 0; i < json_length(rows); i++)
		total += field_int(f, json_at(rows, i), "count");
	label("Stacks");
	for (size_t i = 0; i < json_length(rows); i++) {
		int64_t n = field_int(f, json_at(rows, i), "count");
		char text[FORMAT_MAX * 2];

		snprintf(text, sizeof(text), "%.64s %.2f%%", field_string(f, json_at(rows, i), "end"),
		         100.0 * n / MAX(total, (int64_t)1));
		if (n > 0)
			flow_item(&flow, COLOUR_NONE, text);
	}
	flow_end(&flow, "none walked yet");
	label("Unwinding");
	printf("%lld objects with %s rows, %lld waiting, %lld without a table; %lld evicted, %lld refused\n",
	       field_int(f, s, "unwind_objects"), format_count(count, field_int(f, s, "unwind_rows")),
	       field_int(f, s, "unwind_objects_waiting"), field_int(f, s, "unwind_objects_failed"),
	       field_int(f, s, "unwind_evictions"), field_int(f, s, "unwind_refused"));
}

static void show_findings(const struct json *s, struct fields *f)
{
	char chance[FORMAT_MAX];
	double a_day = field_float(f, s, "false_alarms_per_day"), threshold = field_float(f, s, "score_threshold");

	label("Anomalies");
	printf("%lld found, %lld suppressed; %g false alarm%s a day allowed, ", field_int(f, s, "anomalies"),
	       field_int(f, s, "anomalies_suppressed"), a_day, fabs(a_day - 1) < 1e-9 ? "" : "s");
	if (threshold > 0)
		printf("told from %s\n", format_odds(chance, 0, threshold));
	else
		puts("nothing scored yet");
	label("Journal");
	printf("%lld sent, %lld suppressed\n", field_int(f, s, "journal_sent"),
	       field_int(f, s, "journal_suppressed"));
	label("Clients");
	printf("calls: %lld, errors: %lld, messages dropped: %lld\n", field_int(f, s, "calls"),
	       field_int(f, s, "errors"), field_int(f, s, "messages_dropped"));
}

static bool show_status(const struct options *o, const struct json *s, const struct json *history)
{
	struct fields f = {};
	const struct json *gate = field_object(&f, s, "gate");

	if (!fields_are_good(&f))
		return false;
	show_head(o, s, &f);
	label("Gate");
	gate_print(o, gate, history, &f);
	show_ticks(o, s, &f);
	show_source(o, s, &f);
	show_collectors(o, s, &f);
	show_conservation(o, s, &f);
	show_losses(o, s, &f);
	show_limits(o, s, &f);
	show_heaps(o, s, &f);
	show_tiers(s, &f);
	show_costs(s, &f);
	show_budget(o, s, &f);
	show_walks(o, s, &f);
	show_findings(s, &f);
	return fields_are_good(&f);
}

/* ---- for a bug report ---- */

/* PRETTY_NAME of os-release(5). */
static void find_system(char ret[static FORMAT_MAX])
{
	_cleanup_fclose_ FILE *f = fopen("/etc/os-release", "re");
	char line[256], name[FORMAT_MAX];

	copy_string(ret, FORMAT_MAX, "unknown");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "PRETTY_NAME=\"%63[^\"\n]", name) == 1 ||
		    sscanf(line, "PRETTY_NAME=%63[^\"\n]", name) == 1) {
			copy_string(ret, FORMAT_MAX, name);
			return;
		}
}

static void write_client(struct json_writer *w)
{
	struct utsname u = {};
	char system[FORMAT_MAX];

	uname(&u);
	find_system(system);
	json_key(w, "client");
	json_open_object(w);
	json_put_string(w, "version", STACKD_VERSION);
	json_put_string(w, "system", system);
	json_put_string(w, "kernel", u.release);
	json_put_string(w, "kernel_version", u.version);
	json_put_string(w, "machine", u.machine);
	json_close_object(w);
}

/* Everything in one document. */
static bool write_report(const struct options *o, const struct json *status, const struct json *gate)
{
	_cleanup_(json_writer_freep) struct json_writer *w = show_json_writer(o);
	const struct json *history = json_get(gate, "history");

	if (!w)
		return false;
	json_open_object(w);
	write_client(w);
	json_key(w, "status");
	json_write_value(w, status);
	json_key(w, "gate_history");
	json_open_array(w);
	for (size_t i = 0; i < MIN(json_length(history), (size_t)REPORT_CHANGES); i++)
		json_write_value(w, json_at(history, i));
	json_close_array(w);
	json_close_object(w);
	return show_json_written(w);
}

int verb_status(const struct options *o, char **args _unused_)
{
	_cleanup_(json_freep) struct json *reply = NULL, *gate = NULL;
	const struct json *status;
	bool report = o->given & OPTION_REPORT;
	struct options pretty = *o;
	struct fields f = {};

	if (!call_joined(&reply, o, "GetStatus", NULL))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF && !report)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	status = field_object(&f, reply, "status");
	if (!fields_are_good(&f) || !call_joined(&gate, o, "GetGate", NULL))
		return EXIT_FAILURE;
	show_begin(o);
	if (o->json != JSON_OFF)
		return write_report(o, status, gate) ? EXIT_SUCCESS : EXIT_FAILURE;
	if (!show_status(o, status, json_get(gate, "history")))
		return EXIT_FAILURE;
	if (!report)
		return EXIT_SUCCESS;
	putchar('\n');
	pretty.json = JSON_PRETTY;
	return write_report(&pretty, status, gate) ? EXIT_SUCCESS : EXIT_FAILURE;
}
