/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "heat.h"
#include "output.h"
#include "show.h"
#include "timestamp.h"
#include "verbs.h"

#define WINDOW_US (600 * USEC_PER_SEC) /* of which the store surely keeps every second */

/* A word as a shell takes it. */
static void put_word(FILE *file, const char *s)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,";

	if (*s && s[strspn(s, plain)] == 0) {
		fputs(s, file);
		return;
	}
	fputc('\'', file);
	for (; *s; s++)
		if (*s == '\'')
			fputs("'\\''", file);
		else
			fputc(*s, file);
	fputc('\'', file);
}

static void put_option(FILE *file, const char *option, const char *value)
{
	if (!value)
		return;
	fprintf(file, " %s ", option);
	put_word(file, value);
}

/* What draws a flame graph of the same, but for its window; escaped, the caller frees. NULL: no memory. */
static char *flame_command(const struct options *o, enum metric m)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);

	if (!file)
		return NULL;
	fprintf(file, "stackctl flame --metric %s", metric_to_string(m));
	if (o->given & OPTION_PID)
		fprintf(file, " --pid %d", o->pid);
	put_option(file, "--unit", o->unit);
	put_option(file, "--cgroup", o->cgroup);
	put_option(file, "--comm", o->comm);
	put_option(file, "--exe", o->exe);
	put_option(file, "--import", o->import);
	if (o->given & OPTION_STACK)
		fprintf(file, " --stack %016llx", (unsigned long long)o->stack);
	return fclose(file) == 0 ? text_escape(text, o->term.utf8) : NULL;
}

static char *title_of(const struct options *o, enum metric m)
{
	const char *command = "stackctl flame --metric ";
	_cleanup_free_ char *words = flame_command(o, m);
	char *title;

	/* The options say best what was looked at. */
	return words && asprintf(&title, "%s over time", words + strlen(command)) >= 0 ? title : NULL;
}

static bool choose_column(const struct heat *h, const char *time, const struct options *o, size_t *ret)
{
	char begin[FORMAT_MAX], end[FORMAT_MAX];
	const char *reason;
	uint64_t us;

	*ret = h->hottest;
	if (!time)
		return true;
	if (time_parse(time, o->now_us, &us, &reason) < 0) {
		log_error("Can't take \"%s\" as a time: %s.", time, reason);
		return false;
	}
	if (us < h->begin_us || us >= heat_column_us(h, h->columns)) {
		log_error("\"%s\" is not in the map, which is from %s to %s.", time, time_format(begin, h->begin_us),
		          time_format(end, heat_column_us(h, h->columns)));
		return false;
	}
	*ret = (us - h->begin_us) / heat_column_span_us(h);
	return true;
}

static bool draw(const struct heat *h, const struct options *o, const char *command, size_t picked)
{
	_cleanup_output_ struct output out = {};
	_cleanup_free_ char *title = title_of(o, h->metric);

	if (!title || !output_open(&out, o->output))
		return false;
	/* What could not be written is told by output_commit(). */
	heat_write_svg(h, title, command, picked, out.file);
	return output_commit(&out);
}

static void print_window(const struct heat *h, const char *command, size_t column, bool hottest)
{
	unsigned long long from_us = heat_column_us(h, column), until_us = heat_column_us(h, column + 1);
	char from[FORMAT_MAX], until[FORMAT_MAX], rate[FORMAT_MAX];
	double per_second = heat_column_rate(h, column);

	printf("%s from %s to %s, %s:\n", hottest ? "Most is" : "Picked:", time_format(from, from_us), time_format(until, until_us),
	       per_second < 0 ? "not recorded" : format_rate(rate, h->metric, per_second));
	from_us += heat_margin_us(h);
	until_us -= heat_margin_us(h);
	printf("%s --since @%llu.%06llu --until @%llu.%06llu -o flame.svg\n", command, from_us / USEC_PER_SEC, from_us % USEC_PER_SEC,
	       until_us / USEC_PER_SEC, until_us % USEC_PER_SEC);
}

static int show(const struct options *o, const struct heat *h, const char *time)
{
	_cleanup_free_ char *command = flame_command(o, h->metric);
	size_t picked;

	if (!command) {
		log_error("Out of memory.");
		return EXIT_FAILURE;
	}
	if (!choose_column(h, time, o, &picked))
		return EXIT_FAILURE;
	if (o->output)
		return draw(h, o, command, picked) ? EXIT_SUCCESS : EXIT_FAILURE;
	show_begin(o);
	heat_print(h, o, picked, stdout);
	putchar('\n');
	if (time || h->most > 0)
		print_window(h, command, picked, !time);
	else
		puts("There is none of it in that time.");
	return EXIT_SUCCESS;
}

static int show_reply(const struct options *o, const struct json *reply, const char *time)
{
	_cleanup_(heat_freep) struct heat *h = NULL;
	enum metric m = o->given & OPTION_METRIC ? o->metric : METRIC_ON_CPU;
	struct fields f = {};
	int r;

	r = heat_new(&h, field_array(&f, reply, "points"), m, o->output ? HEAT_COLUMNS_SVG : heat_columns_of(&o->term), &f);
	if (!fields_are_good(&f))
		return EXIT_FAILURE;
	if (r == -ENODATA)
		log_error("Nothing is recorded of that time.");
	else if (r < 0)
		log_error("Can't make the map: %s.", strerror(-r));
	return r < 0 ? EXIT_FAILURE : show(o, h, time);
}

static bool options_fit(const struct options *o, const char *time)
{
	size_t n = o->output ? strlen(o->output) : 0;

	if (o->json != JSON_OFF && (o->output || time)) {
		log_error("--json gives stackd's own answer, and does not take %s.", o->output ? "--output" : "a time");
		return false;
	}
	if (n > 0 && !streq(o->output, "-") && (n < 5 || !streq(o->output + n - 4, ".svg"))) {
		log_error("A heat map is drawn as SVG only: let the name \"%s\" end with .svg.", o->output);
		return false;
	}
	return true;
}

int verb_heat(const struct options *o, char **args)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(json_freep) struct json *reply = NULL;
	struct options asked = *o;

	if (!parameters || !options_fit(o, args[0]))
		return EXIT_FAILURE;
	if (!(o->given & OPTION_SINCE) && !o->import) {
		asked.given |= OPTION_SINCE;
		asked.since_us = (o->given & OPTION_UNTIL ? o->until_us : o->now_us);
		asked.since_us -= MIN(asked.since_us, WINDOW_US);
	}
	put_filter(parameters, &asked);
	if (o->given & OPTION_STACK)
		json_put_id(parameters, "stack", o->stack);
	if (!call_joined(&reply, o, "GetSeries", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	return show_reply(o, reply, args[0]);
}
