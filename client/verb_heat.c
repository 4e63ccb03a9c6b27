/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flame_query.h"
#include "heat.h"
#include "output.h"
#include "show.h"
#include "timestamp.h"
#include "verbs.h"

#define WINDOW_US (600 * USEC_PER_SEC) /* of which the store surely keeps every second */
#define STEP_TEXT_US (50 * USEC_PER_MSEC) /* 20 lines fit any terminal */
#define STEP_PICTURE_US (20 * USEC_PER_MSEC)

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
static char *flame_command(const struct options *o, enum metric m, bool exact)
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
	if (exact)
		fputs(" --exact", file);
	return fclose(file) == 0 ? text_escape(text, o->term.utf8) : NULL;
}

static char *title_of(const struct options *o, enum metric m)
{
	const char *command = "stackctl flame --metric ";
	_cleanup_free_ char *words = flame_command(o, m, false);
	char *title;

	/* The options say best what was looked at. */
	return words && asprintf(&title, "%s over time", words + strlen(command)) >= 0 ? title : NULL;
}

/* What is looked into. */
struct pick {
	uint64_t since_us, until_us;
	bool hottest;    /* as nothing was said */
	uint64_t margin_us;
};

static bool is_in_map(const struct heat *h, const char *time, uint64_t since_us, uint64_t until_us)
{
	char begin[FORMAT_MAX], end[FORMAT_MAX];

	if (since_us >= h->begin_us && until_us <= heat_column_us(h, h->columns))
		return true;
	log_error("\"%s\" is not in the map, which is from %s to %s.", time, time_format(begin, h->begin_us),
	          time_format(end, heat_column_us(h, h->columns)));
	return false;
}

static void pick_column(const struct heat *h, size_t column, struct pick *ret)
{
	*ret = (struct pick) { MAX(heat_column_us(h, column), h->since_us), MIN(heat_column_us(h, column + 1), h->until_us), .margin_us = heat_margin_us(h) };
}

/* A time, whose column it is, or a window. */
static bool choose(const struct heat *h, const char *time, const struct options *o, struct pick *ret)
{
	const char *reason, *no_window;
	struct time_window w;
	uint64_t us;

	if (!time) {
		pick_column(h, h->hottest, ret);
		ret->hottest = true;
		return true;
	}
	if (time_parse(time, o->now_us, &us, &reason) >= 0) {
		if (!is_in_map(h, time, us, us + 1))
			return false;
		pick_column(h, (us - h->begin_us) / heat_column_span_us(h), ret);
		return true;
	}
	if (parse_window(time, o->now_us, &w, &no_window) < 0) {
		if (strchr(time, '/'))
			log_error("Can't take \"%s\" as a window: %s.", time, no_window);
		else
			log_error("Can't take \"%s\" as a time: %s.", time, reason);
		return false;
	}
	*ret = (struct pick) { w.since_us, w.until_us };
	return is_in_map(h, time, w.since_us, w.until_us);
}

static bool draw(const struct heat *h, const struct options *o, const char *command, const struct pick *picked)
{
	_cleanup_output_ struct output out = {};
	_cleanup_free_ char *title = title_of(o, h->metric);

	if (!title || !output_open(&out, o->output))
		return false;
	/* What could not be written is told by output_commit(). */
	heat_write_svg(h, title, command, picked->since_us, picked->until_us, out.file);
	return output_commit(&out);
}

static void print_window(const struct heat *h, const char *command, const struct pick *picked)
{
	unsigned long long from_us = picked->since_us, until_us = picked->until_us;
	double per_second = heat_window_rate(h, from_us, until_us);
	char from[FORMAT_MAX], until[FORMAT_MAX], rate[FORMAT_MAX];

	/* Those of stackd's steps are off by a part of a second that says nothing. */
	if (h->within) {
		time_format_exact(from, from_us);
		time_format_exact(until, until_us);
	} else {
		time_format(from, from_us);
		time_format(until, until_us);
	}
	printf("%s from %s to %s, %s:\n", picked->hottest ? "Most is" : "Picked:", from, until,
	       per_second < 0 ? "not recorded" : format_rate(rate, h->metric, per_second));
	from_us += picked->margin_us;
	until_us -= picked->margin_us;
	printf("%s --since @%llu.%06llu --until @%llu.%06llu -o flame.svg\n", command, from_us / USEC_PER_SEC, from_us % USEC_PER_SEC,
	       until_us / USEC_PER_SEC, until_us % USEC_PER_SEC);
}

static int show(const struct options *o, const struct heat *h, const char *time)
{
	_cleanup_free_ char *command = flame_command(o, h->metric, h->within);
	struct pick picked;

	if (!command) {
		log_error("Out of memory.");
		return EXIT_FAILURE;
	}
	if (!choose(h, time, o, &picked))
		return EXIT_FAILURE;
	if (o->output)
		return draw(h, o, command, &picked) ? EXIT_SUCCESS : EXIT_FAILURE;
	show_begin(o);
	heat_print(h, o, picked.since_us, picked.until_us, stdout);
	putchar('\n');
	if (time || h->most > 0)
		print_window(h, command, &picked);
	else
		puts("There is none of it in that time.");
	return EXIT_SUCCESS;
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

static enum metric metric_of(const struct options *o)
{
	return o->given & OPTION_METRIC ? o->metric : METRIC_ON_CPU;
}

/* Since span_us before its end, when nothing was said. */
static struct json_writer *parameters_of(const struct options *o, uint64_t span_us)
{
	struct json_writer *parameters = call_parameters();
	struct options asked = *o;

	if (!parameters)
		return NULL;
	if (!(o->given & OPTION_SINCE) && span_us > 0) {
		asked.given |= OPTION_SINCE;
		asked.since_us = (o->given & OPTION_UNTIL ? o->until_us : o->now_us);
		asked.since_us -= MIN(asked.since_us, span_us);
	}
	put_filter(parameters, &asked);
	if (o->given & OPTION_STACK)
		json_put_id(parameters, "stack", o->stack);
	return parameters;
}

static int show_map(const struct options *o, const struct heat *h, int r, const struct fields *f, const char *time)
{
	if (!fields_are_good(f))
		return EXIT_FAILURE;
	if (r == -ENODATA)
		log_error("Nothing is recorded of that time.");
	else if (r < 0)
		log_error("Can't make the map: %s.", strerror(-r));
	return r < 0 ? EXIT_FAILURE : show(o, h, time);
}

/* ---- by the seconds that stackd keeps ---- */

static int heat_by_seconds(const struct options *o, const char *time)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = parameters_of(o, o->import ? 0 : WINDOW_US);
	_cleanup_(json_freep) struct json *reply = NULL;
	_cleanup_(heat_freep) struct heat *h = NULL;
	struct fields f = {};
	int r;

	if (!parameters || !call_joined(&reply, o, "GetSeries", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	r = heat_new(&h, field_array(&f, reply, "points"), metric_of(o), o->output ? HEAT_COLUMNS_SVG : heat_columns_of(&o->term), &f);
	return show_map(o, h, r, &f, time);
}

/* ---- within seconds ---- */

static bool has_times(const struct options *o)
{
	return (!o->import || o->recorded_timed) && (metric_of(o) == METRIC_ON_CPU || metric_of(o) == METRIC_HITS);
}

static size_t seconds_most(const struct options *o)
{
	return o->output ? HEAT_SECONDS_SVG : heat_columns_of(&o->term);
}

/* Those of the window that was asked for, or of all of the import; 0: as many as there is room for. */
static uint64_t seconds_asked(const struct options *o)
{
	uint64_t until_us = o->given & OPTION_UNTIL ? o->until_us : o->now_us;
	uint64_t since_us = o->given & OPTION_SINCE ? o->since_us : o->import ? o->recorded_since_us : until_us;

	return (until_us - MIN(until_us, since_us) + USEC_PER_SEC - 1) / USEC_PER_SEC;
}

/* Whether within seconds it is, or will be tried. *ret_must: as it was asked for. False: it can't be. */
static bool choose_way(const struct options *o, bool *ret_within, bool *ret_must)
{
	bool must = o->given & OPTION_STEP && o->step_us < USEC_PER_SEC, fits = seconds_asked(o) <= seconds_most(o);

	*ret_must = must;
	*ret_within = must || (!(o->given & OPTION_STEP) && has_times(o) && fits);
	if (must && !has_times(o))
		log_error(o->import && !o->recorded_timed ? "The samples of this import have no times."
		                                          : "Of other metrics than on-cpu and hits whole seconds are kept: leave --step out.");
	else if (must && !fits)
		log_error("There is room for %zu seconds only: look at less of the time, or leave --step out.", seconds_most(o));
	else
		return true;
	return false;
}

static int heat_within(const struct options *o, const char *time, bool must)
{
	/* A second that has only begun has a column, too. */
	uint64_t span_s = (o->output ? HEAT_COLUMNS_SVG : seconds_most(o)) - 1;
	_cleanup_(json_writer_freep) struct json_writer *parameters = parameters_of(o, o->import ? 0 : span_s * USEC_PER_SEC);
	_cleanup_(json_freep) struct json *reply = NULL;
	_cleanup_(heat_freep) struct heat *h = NULL;
	struct fields f = {};
	int r;

	if (!parameters)
		return EXIT_FAILURE;
	json_put_u64(parameters, "step_us", o->given & OPTION_STEP ? o->step_us : o->output ? STEP_PICTURE_US : STEP_TEXT_US);
	if (!call_joined(&reply, o, "GetHeat", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return show_json(o, reply) ? EXIT_SUCCESS : EXIT_FAILURE;
	r = heat_new_within(&h, reply, metric_of(o), seconds_most(o), &f);
	/* What is older stackd still knows by seconds. */
	if (r == -ENODATA && !must)
		return heat_by_seconds(o, time);
	return show_map(o, h, r, &f, time);
}

int verb_heat(const struct options *o, char **args)
{
	bool within, must;

	if (!options_fit(o, args[0]) || !choose_way(o, &within, &must))
		return EXIT_FAILURE;
	return within ? heat_within(o, args[0], must) : heat_by_seconds(o, args[0]);
}
