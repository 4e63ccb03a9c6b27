/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "follow.h"
#include "show.h"
#include "timestamp.h"
#include "verbs.h"

/* The widths that most lines need, so that lines that come one by one stand below each other. */
static const struct table_column columns[] = {
	{ "TIME", .least = 15 },
	{ "TYPE", .least = 11 },
	{ "METRIC", .least = 8 },
	{ "EXPECTED", .right = true, .least = 9 },
	{ "OBSERVED", .right = true, .least = 9 },
	{ "FUNCTION", .shrink = true, .least = 12 },
	{ "PROCESS", .shrink = true, .least = 12 },
	{ "UNIT", .shrink = true, .least = 12 },
	{ "CHANCE", .right = true, .least = 8 },
	{ "STACK" },
	{ "ID", .right = true },
};

static void add_row(struct table *t, const struct json *a, struct fields *f)
{
	enum metric m = field_metric(f, a, "metric");
	char buf[FORMAT_MAX], *underscore;

	table_cell(t, COLOUR_NONE, time_format_short(buf, field_int(f, a, "time_us")));
	copy_string(buf, sizeof(buf), field_string(f, a, "type"));
	while ((underscore = strchr(buf, '_')))
		*underscore = '-';
	table_cell(t, COLOUR_BOLD, buf);
	table_cell(t, COLOUR_NONE, metric_to_string(m));
	table_cell(t, COLOUR_NONE, format_rate(buf, m, field_float(f, a, "expected")));
	table_cell(t, COLOUR_BOLD, format_rate(buf, m, field_float(f, a, "observed")));
	table_cell(t, COLOUR_NONE, telling_function(field_array(f, a, "frames"), m));
	table_cell(t, COLOUR_NONE, format_process(buf, json_get(a, "process")));
	table_cell(t, COLOUR_NONE, where_of(a));
	table_cell(t, COLOUR_NONE,
	           format_odds(buf, field_float(f, a, "p_value"), field_float(f, a, "score")));
	table_cell(t, COLOUR_GREY, field_string(f, a, "stack"));
	table_cellf(t, COLOUR_GREY, "%lld", field_int(f, a, "id"));
}

/* ---- what is kept ---- */

static struct json_writer *anomalies_parameters(const struct options *o)
{
	struct json_writer *w = call_parameters();

	if (!w)
		return NULL;
	put_filter(w, o);
	json_put_string(w, "type", o->type);
	put_limit(w, o);
	return w;
}

/* The replies come newest first; people read the newest last. */
static bool add_rows(struct table *t, const struct replies *replies)
{
	for (size_t i = replies->n; i-- > 0;) {
		_cleanup_(json_freep) struct json *root = NULL;
		const struct json *reply, *rows;
		struct fields f = {};

		if (!replies_parse(replies, i, &root, &reply))
			return false;
		rows = field_array(&f, reply, "anomalies");
		for (size_t k = json_length(rows); k-- > 0;)
			add_row(t, json_at(rows, k), &f);
		if (!fields_are_good(&f))
			return false;
	}
	return true;
}

static bool write_json(const struct options *o, const struct replies *replies)
{
	_cleanup_(json_writer_freep) struct json_writer *w = show_json_writer(o);
	int64_t missed = 0;

	if (!w)
		return false;
	json_open_object(w);
	json_key(w, "anomalies");
	json_open_array(w);
	for (size_t i = replies->n; i-- > 0;) {
		_cleanup_(json_freep) struct json *root = NULL;
		const struct json *reply, *rows;
		int64_t n = 0;

		if (!replies_parse(replies, i, &root, &reply))
			return false;
		rows = json_get(reply, "anomalies");
		for (size_t k = json_length(rows); k-- > 0;)
			json_write_value(w, json_at(rows, k));
		json_get_int(reply, "missed", &n);
		missed += n;
	}
	json_close_array(w);
	json_put_int(w, "missed", missed);
	json_close_object(w);
	show_begin(o);
	return show_json_written(w);
}

static int list(const struct options *o, struct table *t)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = anomalies_parameters(o);
	_cleanup_replies_ struct replies replies = {};
	bool good;

	if (!parameters || !call_all(&replies, o, "ListAnomalies", parameters))
		return EXIT_FAILURE;
	if (o->json != JSON_OFF)
		good = write_json(o, &replies);
	else
		good = add_rows(t, &replies) && show_table(o, t, "anomalies");
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- those that come ---- */

/* With --json each anomaly is a document of its own. */
static bool show_event(const struct options *o, struct table *t, const struct json *event)
{
	struct fields f = {};
	const struct json *anomaly = field_object(&f, event, "anomaly");

	if (!fields_are_good(&f))
		return false;
	if (o->json != JSON_OFF)
		return show_json(o, anomaly);
	add_row(t, anomaly, &f);
	return fields_are_good(&f);
}

int verb_anomalies(const struct options *o, char **args _unused_)
{
	_cleanup_(table_freep) struct table *t = NULL;

	if (table_new(&t, columns, ELEMENTS_OF(columns), &o->term, !o->no_legend, o->full) < 0) {
		log_error("Out of memory.");
		return EXIT_FAILURE;
	}
	return o->given & OPTION_FOLLOW ? follow(o, "anomalies", t, show_event) : list(o, t);
}
