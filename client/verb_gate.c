/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "gate.h"
#include "show.h"
#include "timestamp.h"
#include "verbs.h"

static const struct table_column columns[] = {
	{ "TIME" },
	{ "STATE" },
	{ "LOAD", .right = true },
	{ "CAUSE" },
};

/* The newest change of the gate itself: others are of rates, for the budget. */
static const struct json *last_change(const struct json *history, struct fields *f)
{
	for (size_t i = 0; i < json_length(history); i++)
		if (strncmp(field_string(f, json_at(history, i), "cause"), "budget-", 7) != 0)
			return json_at(history, i);
	return NULL;
}

void gate_print(const struct options *o, const struct json *gate, const struct json *history,
                struct fields *f)
{
	bool open = field_bool(f, gate, "open");
	const char *mode = field_string(f, gate, "mode");
	_cleanup_free_ char *source = text_escape(field_string(f, gate, "source"), o->term.utf8),
			    *cause = NULL;
	char when[FORMAT_MAX], until[FORMAT_MAX] = "";
	const struct json *last = last_change(history, f);
	uint64_t until_us;

	if (last)
		cause = text_escape(field_string(f, last, "cause"), o->term.utf8);
	printf("%s%s%s", term_colour(&o->term, open ? COLOUR_GREEN : COLOUR_BOLD), open ? "open" : "closed",
	       term_reset(&o->term));
	if (last)
		printf(" (%s) since %s; %s", cause ? cause : "",
		       time_format_long(when, field_int(f, last, "time_us")),
		       time_format_relative(until, field_int(f, last, "time_us"), o->now_us));
	putchar('\n');
	if (streq(mode, "auto")) {
		printf("       Mode: auto, opens above %g, closes below %g\n",
		       field_float(f, gate, "open_above"), field_float(f, gate, "close_below"));
	} else {
		printf("       Mode: held %s", streq(mode, "open") ? "open" : "closed");
		if (json_get_u64(gate, "until_us", &until_us) == 1)
			printf(" until %s; %s", time_format_long(when, until_us),
			       time_format_relative(until, until_us, o->now_us));
		putchar('\n');
	}
	printf("       Load: %.2f runnable tasks per CPU (by %s)\n", field_float(f, gate, "load"),
	       source ? source : "");
}

static int show_history(const struct options *o, const struct json *history)
{
	_cleanup_(table_freep) struct table *t = NULL;
	size_t n = json_length(history);
	struct fields f = {};

	if (o->given & OPTION_LINES)
		n = MIN(n, (size_t)o->lines);
	if (table_new(&t, columns, ELEMENTS_OF(columns), &o->term, !o->no_legend, o->full) < 0)
		return EXIT_FAILURE;
	while (n-- > 0) {
		const struct json *change = json_at(history, n);
		char buf[FORMAT_MAX];
		bool open = field_bool(&f, change, "open");

		table_cell(t, COLOUR_NONE, time_format_short(buf, field_int(&f, change, "time_us")));
		table_cell(t, open ? COLOUR_GREEN : COLOUR_NONE, open ? "open" : "closed");
		table_cellf(t, COLOUR_NONE, "%.2f", field_float(&f, change, "load"));
		table_cell(t, COLOUR_NONE, field_string(&f, change, "cause"));
	}
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	return show_table(o, t, "changes") ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int show_gate(const struct options *o)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *gate, *history;
	struct fields f = {};

	if (!parameters)
		return EXIT_FAILURE;
	if (o->given & OPTION_SINCE)
		json_put_u64(parameters, "since_us", o->since_us);
	if (o->given & OPTION_UNTIL)
		json_put_u64(parameters, "until_us", o->until_us);
	if (!call_joined(&reply, o, "GetGate", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	gate = field_object(&f, reply, "gate");
	history = field_array(&f, reply, "history");
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	show_begin(o);
	printf("       Gate: ");
	/* The last change explains the state only when the history was not cut off. */
	gate_print(o, gate, o->given & OPTION_UNTIL ? NULL : history, &f);
	putchar('\n');
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	return show_history(o, history);
}

static int set_gate(const struct options *o, const char *mode)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *gate;
	struct fields f = {};

	if (!parameters)
		return EXIT_FAILURE;
	json_put_string(parameters, "mode", mode);
	if (o->given & OPTION_FOR)
		json_put_u64(parameters, "duration_us", o->for_us);
	if (!call_joined(&reply, o, "SetGate", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	gate = field_object(&f, reply, "gate");
	if (fields_are_good(&f) && !o->quiet) {
		printf("       Gate: ");
		gate_print(o, gate, NULL, &f);
	}
	return fields_are_good(&f) ? EXIT_SUCCESS : EXIT_FAILURE;
}

int verb_gate(const struct options *o, char **args)
{
	static const char *const modes[][2] = {
		{ "open", "open" }, { "close", "closed" }, { "closed", "closed" }, { "auto", "auto" }
	};

	if (!args[0]) {
		if (o->given & OPTION_FOR) {
			log_error("--for needs \"gate open\" or \"gate close\".");
			return EXIT_FAILURE;
		}
		return show_gate(o);
	}
	for (size_t i = 0; i < ELEMENTS_OF(modes); i++)
		if (streq(args[0], modes[i][0])) {
			if (o->given & (OPTION_RANGE | OPTION_LINES)) {
				log_error("\"stackctl gate %s\" does not take %s.", args[0],
				          option_name(o->given & (OPTION_RANGE | OPTION_LINES)));
				return EXIT_FAILURE;
			}
			if (streq(modes[i][1], "auto") && o->given & OPTION_FOR) {
				log_error("\"stackctl gate auto\" does not take --for: it is what the gate "
				          "goes back to.");
				return EXIT_FAILURE;
			}
			return set_gate(o, modes[i][1]);
		}
	log_error("Unknown state \"%s\" of the gate: open, close or auto.", args[0]);
	return EXIT_FAILURE;
}
