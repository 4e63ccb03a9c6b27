/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "follow.h"

#include "show.h"

#define FOLLOW_LINES 10 /* that come first, as journalctl -f shows */

static struct json_writer *follow_parameters(const struct options *o, const char *only)
{
	struct json_writer *w = call_parameters();

	if (!w)
		return NULL;
	put_filter(w, o);
	json_put_string(w, "only", only);
	json_put_string(w, "type", o->type);
	if (o->given & OPTION_LINES)
		put_limit(w, o);
	else
		json_put_int(w, "limit", FOLLOW_LINES);
	return w;
}

static bool show_events(const struct options *o, const char *only, struct table *t, follow_event_fn fn, const struct json *reply)
{
	struct fields f = {};
	const struct json *events = field_array(&f, reply, "events");
	long long missed = field_int(&f, reply, "missed");

	if (!fields_are_good(&f))
		return false;
	for (size_t i = 0; i < json_length(events); i++)
		if (!fn(o, t, json_at(events, i)))
			return false;
	if (table_print(t, stdout) < 0)
		return false;
	if (missed > 0 && !o->quiet)
		log_warning("%lld %s were missed, for they came faster than they were read.", missed,
		            streq(only, "incidents") ? "changes of incidents" : only);
	return true;
}

int follow(const struct options *o, const char *only, struct table *t, follow_event_fn fn)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = follow_parameters(o, only);
	_cleanup_call_ struct call c = {};

	if (!parameters || !call_start(&c, o, "Subscribe", parameters, true, true))
		return EXIT_FAILURE;
	while (!c.done) {
		const struct json *reply;

		if (!call_next(&c, &reply))
			return c.done ? EXIT_SUCCESS : EXIT_FAILURE;
		if (!show_events(o, only, t, fn, reply))
			return EXIT_FAILURE;
		if (show_is_over())
			return EXIT_SUCCESS;
	}
	return EXIT_SUCCESS;
}
