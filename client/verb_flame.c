/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flame_intake.h"
#include "flame_query.h"
#include "output.h"
#include "render_folded.h"
#include "render_svg.h"
#include "render_viewers.h"
#include "show.h"
#include "verbs.h"

/* One document of the shape of a single reply. */
static int flame_json(const struct options *o, struct json_writer *parameters)
{
	_cleanup_(json_writer_freep) struct json_writer *w = show_json_writer(o);
	_cleanup_replies_ struct replies replies = {};

	if (!w || !call_all(&replies, o, "GetFlame", parameters) || !replies_join(&replies, w))
		return EXIT_FAILURE;
	show_begin(o);
	return show_json_written(w) ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Prints the stacks of one reply; gives how many in *n. */
static bool print_page(struct folded *folded, const struct json *reply, FILE *file, size_t *n)
{
	const struct json *frames, *stacks;
	struct fields f = {};
	int r;

	frames = field_array(&f, reply, "frames");
	stacks = field_array(&f, reply, "stacks");
	if (!fields_are_good(&f))
		return false;
	r = folded_add_frames(folded, frames);
	for (size_t i = 0; r >= 0 && i < json_length(stacks); i++) {
		r = folded_print(folded, json_at(stacks, i), file);
		(*n)++;
	}
	if (r == -EBADMSG)
		log_error("The answer of stackd has a stack whose frames it did not send: is it of another "
		          "version?");
	else if (r < 0)
		log_error("Can't print the stacks: %s.", strerror(-r));
	return r >= 0;
}

/* As the replies come, since there may be many. */
static bool stream_folded(const struct options *o, FILE *file, size_t *n)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = flame_parameters(o);
	_cleanup_(folded_freep) struct folded *folded = NULL;
	_cleanup_call_ struct call c = {};
	struct fields f = {};

	if (!parameters || folded_new(&folded) < 0 || !call_start(&c, o, "GetFlame", parameters, true, false))
		return false;
	for (bool first = true; !c.done; first = false) {
		const struct json *reply;

		if (!call_next(&c, &reply))
			return false;
		if (first) {
			show_window(o, field_metric(&f, reply, "metric"), json_get(reply, "window"));
			if (!fields_are_good(&f))
				return false;
			if (file == stdout)
				show_begin(o);
		}
		if (!print_page(folded, reply, file, n))
			return false;
		if (file == stdout && show_is_over())
			return true;
	}
	return true;
}

static int flame_folded(const struct options *o)
{
	_cleanup_output_ struct output out = {};
	size_t n = 0;

	if (!output_open(&out, o->output) || !stream_folded(o, out.file, &n))
		return EXIT_FAILURE;
	if (n == 0 && out.path) {
		log_error("Nothing was recorded of that: there is nothing to write.");
		return EXIT_FAILURE;
	}
	if (n == 0 && !o->quiet)
		log_notice("Nothing was recorded of that.");
	return output_commit(&out) ? EXIT_SUCCESS : EXIT_FAILURE;
}

static bool read_flame(struct flame **ret, struct flame_meta *meta, const struct options *o, const char *file)
{
	if (o->given & OPTION_DIFF)
		return flame_of_diff(ret, meta, o, file);
	if (file)
		return flame_of_file(ret, meta, o, file);
	if (o->given & OPTION_ANOMALY)
		return flame_of_anomaly(ret, meta, o);
	if (o->given & (OPTION_INCIDENT | OPTION_CLUSTER))
		return flame_of_incident(ret, meta, o);
	if (o->given & OPTION_HOT_COLD)
		return flame_of_hot_cold(ret, meta, o);
	return flame_of_window(ret, meta, o);
}

static int write_flame(const struct flame *f, const struct flame_meta *meta, const struct options *o,
                       enum flame_format format, FILE *file)
{
	struct svg_style style = { .width = o->width, .icicle = o->given & OPTION_ICICLE };

	switch (format) {
	case FORMAT_SVG:
		return write_svg(f, meta, &style, file);
	case FORMAT_HTML:
		return write_html(f, meta, &style, file);
	case FORMAT_SPEEDSCOPE:
		return write_speedscope(f, meta, file);
	case FORMAT_PPROF:
		return write_pprof(f, meta, file);
	case FORMAT_D3:
		return write_d3(f, meta, file);
	default:
		return write_folded(f, file);
	}
}

static int draw(const struct options *given, enum flame_format format, const char *file)
{
	_cleanup_(flame_freep) struct flame *f = NULL;
	_cleanup_(flame_meta_done) struct flame_meta meta = {};
	_cleanup_output_ struct output out = {};
	struct options options = *given;
	const struct options *o = &options;
	int r;

	/* What there is to ask for depends on it. */
	options.given |= OPTION_FORMAT;
	options.format = format;
	if (!read_flame(&f, &meta, o, file))
		return EXIT_FAILURE;
	if (f->nodes[0].width == 0) {
		log_error("Nothing was recorded of that: there is nothing to draw.");
		return EXIT_FAILURE;
	}
	if (o->verbose)
		for (size_t i = 0; i < meta.n_notes; i++)
			fprintf(stderr, "%s\n", meta.notes[i]);
	if (!output_open(&out, o->output))
		return EXIT_FAILURE;
	r = write_flame(f, &meta, o, format, out.file);
	/* What stdio couldn't write is told by output_commit(), or by show_finish(). */
	if (r < 0 && r != -EIO)
		log_error("Can't write %s: %s.", out.path ? out.path : "to stdout", strerror(-r));
	return (r >= 0 || r == -EIO) && output_commit(&out) ? EXIT_SUCCESS : EXIT_FAILURE;
}

static bool choose_format(const struct options *o, enum flame_format *ret)
{
	bool to_file = o->output && !streq(o->output, "-");

	*ret = o->format;
	if (o->given & OPTION_FORMAT)
		;
	else if (!to_file)
		*ret = FORMAT_FOLDED;
	else if (format_from_path(o->output, ret) < 0) {
		log_error("The name \"%s\" does not say a format: let it end with .folded, .txt, .svg, .html, "
		          ".speedscope.json, .pb.gz or .json, or use --format.", o->output);
		return false;
	}
	if (*ret == FORMAT_PPROF && !to_file && o->term.is_terminal) {
		log_error("A pprof profile is not for terminals: write it to a file with -o FILE.pb.gz.");
		return false;
	}
	return true;
}

/* Tells of two options that can't be together: the first of a, and the first of b, when there is one of each. */
static bool exclude(const struct options *o, uint64_t a, uint64_t b)
{
	if (!(o->given & a) || !(o->given & b))
		return true;
	log_error("%s and %s can't be together.", option_name(o->given & a), option_name(o->given & b));
	return false;
}

static bool options_fit(const struct options *o, const char *file)
{
	static const uint64_t from_stackd = OPTION_FILTER | OPTION_SAMPLES | OPTION_METRIC | OPTION_STACK | (OPTION_CHANGED & ~OPTION_DIFF) | OPTION_HOT_COLD | OPTION_INLINES | OPTION_IMPORT;
	static const uint64_t drawn = OPTION_PICTURE | OPTION_CHANGED | OPTION_HOT_COLD | OPTION_INLINES;

	pid_t pids[2];
	/* The window is not what differs. */
	bool between_processes = o->given & OPTION_DIFF && !file && parse_diff_pids(o->diff, pids) > 0;

	if (file && o->given & from_stackd) {
		log_error("A saved file has no %s to choose by.", option_name(o->given & from_stackd) + 2);
		return false;
	}
	if (o->json != JSON_OFF && (file || o->given & drawn)) {
		log_error("--json gives stackd's own answer, and does not take %s.",
		          file ? "a file" : option_name(o->given & drawn));
		return false;
	}
	return exclude(o, OPTION_DIFF, OPTION_CHANGED & ~OPTION_DIFF) &&
	       exclude(o, OPTION_ANOMALY, OPTION_INCIDENT | OPTION_CLUSTER) &&
	       exclude(o, OPTION_INCIDENT, OPTION_CLUSTER) &&
	       exclude(o, OPTION_CHANGED, between_processes ? OPTION_PID | OPTION_HOT_COLD : OPTION_RANGE | OPTION_HOT_COLD) &&
	       exclude(o, OPTION_INLINES, OPTION_CHANGED | OPTION_HOT_COLD) &&
	       exclude(o, OPTION_SAMPLES, (OPTION_CHANGED & ~OPTION_DIFF) | OPTION_HOT_COLD) &&
	       exclude(o, OPTION_HOT_COLD, OPTION_METRIC | OPTION_STACK);
}

int verb_flame(const struct options *o, char **args)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = NULL;
	enum flame_format format;

	if (!options_fit(o, args[0]))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF) {
		parameters = flame_parameters(o);
		return parameters ? flame_json(o, parameters) : EXIT_FAILURE;
	}
	if (!choose_format(o, &format))
		return EXIT_FAILURE;
	if (format == FORMAT_FOLDED && !args[0] && !(o->given & (OPTION_CHANGED | OPTION_HOT_COLD | OPTION_INLINES)))
		return flame_folded(o);
	return draw(o, format, args[0]);
}
