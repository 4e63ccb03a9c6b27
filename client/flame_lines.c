/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flame_lines.h"

#include "call.h"
#include "show_lines.h"

/* As stackcollapse-perf.pl marks them. */
#define INLINED_SUFFIX "_[i]"

static void note_missing(struct flame_lines *l, const struct json *missing)
{
	for (size_t i = 0; i < json_length(missing); i++) {
		const char *object = "";
		bool known = false;

		json_get_string(json_at(missing, i), "object", &object);
		for (size_t j = 0; j < l->n_missing && !known; j++)
			known = strncmp(l->missing[j], object, sizeof(l->missing[j]) - 1) == 0;
		if (!known && l->n_missing < FLAME_MISSING_MAX)
			copy_string(l->missing[l->n_missing++], sizeof(l->missing[0]), object);
	}
}

static int add_place(struct flame *f, const struct json *place, uint32_t *ret)
{
	const char *name = "", *object = "", *kind = "";
	_cleanup_free_ char *marked = NULL;
	bool inlined = false;

	json_get_string(place, "name", &name);
	json_get_string(place, "object", &object);
	json_get_string(place, "kind", &kind);
	json_get_bool(place, "inlined", &inlined);
	if (inlined && asprintf(&marked, "%s" INLINED_SUFFIX, name) < 0)
		return -ENOMEM;
	return flame_intern(f, marked ? marked : name, object, flame_kind_of(kind, object), ret);
}

static int add_variant(struct flame *f, const struct json *places, uint32_t *path, size_t n, enum flame_side side, int64_t value)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < json_length(places) && n <= FLAME_DEPTH_MAX; i++)
		r = add_place(f, json_at(places, i), &path[n++]);
	return r < 0 ? r : flame_add(f, path, n, side, value);
}

static void show_progress(const struct flame_lines *l, const struct options *o)
{
	if (!o->quiet && isatty(STDERR_FILENO) && l->asked % 20 == 0)
		fprintf(stderr, "\rReading source lines of stack %zu", l->asked);
}

int flame_lines_add(struct flame_lines *l, struct flame *f, const struct options *o, uint64_t stack, uint32_t *path, size_t n,
                    enum flame_side side, int64_t value, int64_t *ret_rest)
{
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *variants;
	int r = 0;

	*ret_rest = value;
	if (stack == 0 || l->asked == FLAME_LINES_MAX) {
		l->left_out++;
		return 0;
	}
	l->asked++;
	show_progress(l, o);
	if (!lines_of_stack(&reply, o, stack))
		return -EIO;
	note_missing(l, json_get(reply, "missing"));
	variants = json_get(reply, "variants");
	for (size_t i = 0; r >= 0 && i < json_length(variants); i++) {
		const struct json *variant = json_at(variants, i);
		double share = 0;
		int64_t part;

		json_get_float(variant, "share", &share);
		part = MIN((int64_t)((double)value * share + 0.5), *ret_rest);
		if (part <= 0)
			continue;
		*ret_rest -= part;
		r = add_variant(f, json_get(variant, "places"), path, n, side, part);
	}
	return r;
}

int flame_lines_note(const struct flame_lines *l, struct flame_meta *meta, const struct options *o)
{
	if (!o->quiet && isatty(STDERR_FILENO) && l->asked > 0)
		fputs("\r\033[K", stderr);
	for (size_t i = 0; i < l->n_missing && !o->quiet; i++)
		log_warning("Inlined functions of %s are not known: \"stackctl stacks ID --lines\" says why.", l->missing[i]);
	if (l->left_out > 0)
		return flame_meta_note(meta, "with inlined functions in the %zu largest stacks, without in %zu more", l->asked,
		                       l->left_out);
	return flame_meta_note(meta, "with inlined functions, by the shares of all that is known of each stack's calls");
}
