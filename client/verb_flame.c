/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "render_folded.h"
#include "show.h"
#include "verbs.h"

static struct json_writer *flame_parameters(const struct options *o)
{
	struct json_writer *w = call_parameters();

	if (!w)
		return NULL;
	put_metric(w, o);
	put_filter(w, o);
	if (o->given & OPTION_STACK)
		json_put_id(w, "stack", o->stack);
	return w;
}

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
static bool print_page(struct folded *folded, const struct json *reply, size_t *n)
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
		r = folded_print(folded, json_at(stacks, i), stdout);
		(*n)++;
	}
	if (r == -EBADMSG)
		log_error("The answer of stackd has a stack whose frames it did not send: is it of another "
		          "version?");
	else if (r < 0)
		log_error("Can't print the stacks: %s.", strerror(-r));
	return r >= 0;
}

int verb_flame(const struct options *o, char **args _unused_)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = flame_parameters(o);
	_cleanup_(folded_freep) struct folded *folded = NULL;
	_cleanup_call_ struct call c = {};
	struct fields f = {};
	size_t n = 0;

	if (!parameters)
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		return flame_json(o, parameters);
	if (folded_new(&folded) < 0 || !call_start(&c, o, "GetFlame", parameters, true, false))
		return EXIT_FAILURE;
	for (bool first = true; !c.done; first = false) {
		const struct json *reply;

		if (!call_next(&c, &reply))
			return EXIT_FAILURE;
		if (first) {
			show_window(o, field_metric(&f, reply, "metric"), json_get(reply, "window"));
			if (!fields_are_good(&f))
				return EXIT_FAILURE;
			show_begin(o);
		}
		if (!print_page(folded, reply, &n))
			return EXIT_FAILURE;
		if (show_is_over())
			return EXIT_SUCCESS;
	}
	if (n == 0 && !o->quiet)
		log_notice("Nothing was recorded of that.");
	return EXIT_SUCCESS;
}
