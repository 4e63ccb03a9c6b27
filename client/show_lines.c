/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "show_lines.h"

#include "show.h"
#include "show_stack.h"

#define WAYS_MAX 64 /* as many as stackd gives */

static const struct table_column columns[] = {
	{ "#", .right = true },
	{ "FUNCTION", .shrink = true },
	{ "SOURCE", .shrink = true },
	{ "OBJECT", .shrink = true },
};

bool lines_of_stack(struct json **ret, const struct options *o, uint64_t stack)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();

	if (!parameters)
		return false;
	json_put_id(parameters, "stack", stack);
	put_filter(parameters, o);
	return call_joined(ret, o, "GetLines", parameters);
}

static void add_place(struct table *t, size_t number, const struct json *place, struct fields *f)
{
	const char *file = field_string(f, place, "file"), *name = field_string(f, place, "name");
	long long line = field_int(f, place, "line");
	_cleanup_free_ char *function = NULL, *source = NULL;
	bool inlined = field_bool(f, place, "inlined");
	char text[FORMAT_MAX];

	snprintf(text, sizeof(text), "%zu", number);
	table_cell(t, COLOUR_GREY, text);
	if (asprintf(&function, "%s%s", name, inlined ? " (inlined)" : "") < 0)
		function = NULL;
	table_cell(t, inlined ? COLOUR_GREY : COLOUR_NONE, function ? function : "");
	if (asprintf(&source, line > 0 ? "%s:%lld" : "%s", file, line) < 0)
		source = NULL;
	table_cell(t, COLOUR_NONE, source ? source : "");
	table_cell(t, COLOUR_GREY, field_string(f, place, "object"));
}

static bool is_same_place(const struct json *a, const struct json *b, struct fields *f)
{
	return field_int(f, a, "line") == field_int(f, b, "line") && streq(field_string(f, a, "name"), field_string(f, b, "name")) &&
	       streq(field_string(f, a, "file"), field_string(f, b, "file"));
}

/* Other addresses, but the same lines of the same functions. */
static bool are_same(const struct json *a, const struct json *b, struct fields *f)
{
	const struct json *x = field_array(f, a, "places"), *y = field_array(f, b, "places");

	if (json_length(x) != json_length(y))
		return false;
	for (size_t i = 0; i < json_length(x); i++)
		if (!is_same_place(json_at(x, i), json_at(y, i), f))
			return false;
	return true;
}

struct way {
	const struct json *variant;
	double share;
};

static size_t merge(struct way ways[static WAYS_MAX], const struct json *variants, struct fields *f)
{
	size_t n = 0;

	for (size_t i = 0; i < json_length(variants); i++) {
		const struct json *variant = json_at(variants, i);
		size_t at = 0;

		while (at < n && !are_same(ways[at].variant, variant, f))
			at++;
		if (at == WAYS_MAX)
			continue;
		if (at == n)
			ways[n++] = (struct way){ .variant = variant };
		ways[at].share += field_float(f, variant, "share");
	}
	return n;
}

static int compare_shares(const void *a, const void *b)
{
	const struct way *x = a, *y = b;

	return x->share > y->share ? -1 : x->share < y->share;
}

static bool show_way(const struct options *o, const struct way *way, bool first, struct fields *f)
{
	_cleanup_(table_freep) struct table *t = show_table_new(o, columns, ELEMENTS_OF(columns));
	const struct json *places = field_array(f, way->variant, "places");
	size_t frames = 0;
	int r;

	if (!t || !fields_are_good(f))
		return false;
	printf("%s%.1f %% of it this way:\n\n", first ? "" : "\n", 100 * way->share);
	for (size_t i = json_length(places); i-- > 0;)
		add_place(t, frames++, json_at(places, i), f);
	r = fields_are_good(f) ? table_print(t, stdout) : -EBADMSG;
	if (r < 0)
		log_error("Can't print: %s.", strerror(-r));
	return r >= 0;
}

bool show_lines(const struct options *o, const struct json *reply)
{
	struct fields f = {};
	const struct json *variants = field_array(&f, reply, "variants"), *missing = field_array(&f, reply, "missing");
	struct way ways[WAYS_MAX];
	size_t n;

	if (!fields_are_good(&f))
		return false;
	n = merge(ways, variants, &f);
	qsort(ways, n, sizeof(*ways), compare_shares);
	if (n == 0)
		puts("stackd has no addresses of this stack: they are kept for as long as it is met now and then.");
	for (size_t i = 0; i < n; i++)
		if (!show_way(o, &ways[i], i == 0, &f))
			return false;
	for (size_t i = 0; i < json_length(missing) && !o->quiet; i++) {
		const struct json *m = json_at(missing, i);
		_cleanup_free_ char *object = text_escape(field_string(&f, m, "object"), o->term.utf8);

		if (i == 0)
			putchar('\n');
		printf("No lines of %s: %s.\n", object ? object : "", field_string(&f, m, "reason"));
	}
	return fields_are_good(&f);
}
