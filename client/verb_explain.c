/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "anomaly.h"
#include "imports.h"
#include "show_stack.h"
#include "timestamp.h"
#include "verbs.h"

/* What is shown of the series around it. Before a new or a late thing there is more to see. */
#define BEFORE_US (600 * USEC_PER_SEC)
#define AFTER_US (120 * USEC_PER_SEC)

struct story {
	uint64_t id;
	enum metric metric;
	const char *type, *function, *where;
	double observed, expected;
	uint64_t since_us, seen_us;
	char process[FORMAT_MAX];
};

static void print_what(const struct story *s)
{
	char observed[FORMAT_MAX], expected[FORMAT_MAX], since[FORMAT_MAX], span[FORMAT_MAX];
	const char *metric = metric_to_string(s->metric);

	format_rate(observed, s->metric, s->observed);
	format_rate(expected, s->metric, s->expected);
	if (streq(s->type, "new_stack"))
		printf("A stack that was not seen before has %s of %s", observed, metric);
	else if (streq(s->type, "vanished_stack"))
		printf("The stack is gone: it had %s of %s, now %s", expected, metric, observed);
	else if (streq(s->type, "slow_growth"))
		printf("Memory of its unit grows by %s and is not given back; of all its stacks this one took the most", observed);
	else if (streq(s->type, "cost_shift"))
		printf("More of what its unit does is this: %s of %s, where %s was usual", observed, metric, expected);
	else if (streq(s->type, "new_code"))
		printf("Functions that its unit did not have before have %s of %s; this is one of them", observed, metric);
	else if (streq(s->type, "level_shift"))
		printf("The level of %s has moved from %s to %s", metric, expected, observed);
	else
		printf("There is %s of %s where %s was to be expected", observed, metric, expected);
	printf(", since %s", time_format(since, s->since_us));
	if (s->seen_us > s->since_us)
		printf("; it was told %s later", format_timespan(span, s->seen_us - s->since_us));
	puts(".");
}

static void print_chance(const struct json *anomaly, struct fields *f)
{
	char odds[FORMAT_MAX];
	double score = field_float(f, anomaly, "score");

	format_odds(odds, field_float(f, anomaly, "p_value"), score);
	printf("By what this stack did before, chance alone does that %s times (score %.1f).\n", odds, score);
	printf("There were %.2f runnable tasks per CPU, and the gate was %s.\n", field_float(f, anomaly, "load"),
	       field_bool(f, anomaly, "gate_open") ? "open" : "closed");
}

/* The stack's reply for the time around the anomaly, in its workload only. */
static bool get_stack(const struct options *o, const struct json *anomaly, const struct story *s, struct json **ret, struct fields *f)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	struct options around = *o;
	uint64_t stack;

	if (!parameters || !parse_stack_id(field_string(f, anomaly, "stack"), &stack))
		return false;
	around.since_us = s->since_us - MIN(s->since_us, BEFORE_US);
	around.until_us = MIN(s->seen_us + AFTER_US, o->now_us);
	around.given |= OPTION_RANGE;
	around.exe = field_string(f, anomaly, "exe");
	if (*around.exe)
		around.given |= OPTION_EXE;
	json_put_id(parameters, "stack", stack);
	put_filter(parameters, &around);
	return call_joined(ret, o, "GetStack", parameters);
}

static bool is_of(const struct json *incident, uint64_t anomaly, struct fields *f)
{
	const struct json *moved = field_array(f, incident, "moved");

	for (size_t i = 0; i < json_length(moved); i++)
		if ((uint64_t)field_int(f, json_at(moved, i), "anomaly") == anomaly)
			return true;
	return false;
}

/* An incident keeps the anomalies that moved most; of the others nothing is said. */
static bool print_incident(const struct options *o, uint64_t anomaly)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *incidents;
	struct fields f = {};

	if (!parameters)
		return false;
	json_put_int(parameters, "limit", LINES_ALL);
	if (!call_joined(&reply, o, "ListIncidents", parameters))
		return false;
	incidents = field_array(&f, reply, "incidents");
	for (size_t i = 0; i < json_length(incidents); i++) {
		const struct json *incident = json_at(incidents, i);
		const char *cluster = "";

		if (!is_of(incident, anomaly, &f))
			continue;
		json_get_string(incident, "cluster", &cluster);
		printf("It is part of incident %lld, \"%s\" (%lld anomalies).", (long long)field_int(&f, incident, "id"),
		       field_string(&f, incident, "name"), (long long)field_int(&f, incident, "anomalies"));
		if (*cluster)
			printf(" What to do: stackctl clusters %s", cluster);
		putchar('\n');
		break;
	}
	return fields_are_good(&f);
}

static bool print_series(const struct options *o, const struct json *anomaly, const struct story *s, struct fields *f)
{
	_cleanup_(json_freep) struct json *reply = NULL;
	char since[FORMAT_MAX], until[FORMAT_MAX];
	const struct json *window, *stack;

	if (!get_stack(o, anomaly, s, &reply, f))
		return false;
	window = field_object(f, reply, "window");
	stack = field_object(f, reply, "stack");
	if (!fields_are_good(f))
		return false;
	printf("\nThe stack, from %s to %s:\n\n", time_format(since, field_int(f, window, "since_us")),
	       time_format(until, field_int(f, window, "until_us")));
	if (!show_stack_values(o, reply, f, stdout))
		return false;
	putchar('\n');
	if (!show_stack_frames(o, stack, f, stdout))
		return false;
	putchar('\n');
	return show_stack_slices(o, reply, f, stdout);
}

static bool explain(const struct options *o, const struct json *anomaly, uint64_t id)
{
	char words[IMPORT_WORDS_MAX];
	struct fields f = {};
	struct story s = {
		.id = id,
		.metric = field_metric(&f, anomaly, "metric"),
		.type = field_string(&f, anomaly, "type"),
		.where = where_of(anomaly),
		.observed = field_float(&f, anomaly, "observed"),
		.expected = field_float(&f, anomaly, "expected"),
		.since_us = field_int(&f, anomaly, "since_us"),
		.seen_us = field_int(&f, anomaly, "time_us"),
	};

	s.function = telling_function(field_array(&f, anomaly, "frames"), s.metric);
	format_process(s.process, json_get(anomaly, "process"));
	if (!fields_are_good(&f))
		return false;
	show_begin(o);
	printf("Anomaly %llu: %s of %s in %s, %s\n\n", (unsigned long long)id, metric_to_string(s.metric), s.function, s.process, s.where);
	print_what(&s);
	print_chance(anomaly, &f);
	if (!print_incident(o, id) || !print_series(o, anomaly, &s, &f))
		return false;
	printf("\nBefore and during it, as a picture: stackctl flame%s --anomaly %llu -o anomaly-%llu.svg\n", import_words(o, words), (unsigned long long)id,
	       (unsigned long long)id);
	return fields_are_good(&f);
}

int verb_explain(const struct options *o, char **args)
{
	_cleanup_(json_freep) struct json *root = NULL;
	const struct json *list, *anomaly;
	struct fields f = {};
	uint64_t id;

	if (!args[0]) {
		log_error("Which anomaly? \"stackctl explain\" takes its number; see: stackctl anomalies");
		return EXIT_FAILURE;
	}
	if (parse_u64(args[0], &id) < 0) {
		log_error("\"%s\" is no anomaly's number; see: stackctl anomalies", args[0]);
		return EXIT_FAILURE;
	}
	if (!anomalies_list(o, &root, &list))
		return EXIT_FAILURE;
	anomaly = anomaly_wanted(list, id, &f);
	if (!anomaly)
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, anomaly) ? EXIT_SUCCESS : EXIT_FAILURE;
	return explain(o, anomaly, id) ? EXIT_SUCCESS : EXIT_FAILURE;
}
