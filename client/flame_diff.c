/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What changed: between two windows, processes, imports or files, before and during an anomaly or an incident. */
#include "flame_intake.h"
#include "flame_query.h"
#include "flame_scope.h"
#include "imports.h"

#define SETTLED_US (2 * USEC_PER_SEC) /* the last moments may not have been drained yet */

/* ---- two windows ---- */

/* lengths: of the windows; 0: it has none. */
static int make_comparable(struct flame *f, struct flame_meta *meta, const double lengths[static 2])
{
	if (lengths[0] <= 0 || lengths[1] <= 0 || lengths[0] == lengths[1])
		return 0;
	flame_scale(f, FLAME_BEFORE, lengths[1] / lengths[0]);
	return flame_meta_note(meta, "before is multiplied by %.4g, for windows of the same length", lengths[1] / lengths[0]);
}

/* Asks n questions of each window, the first of which the title tells. */
static bool diff_windows(struct flame **ret, struct flame_meta *meta, const struct options *o, size_t n,
                         const struct time_window windows[static 2], const char *what)
{
	_cleanup_(flame_freep) struct flame *f = NULL;
	struct provenance provenances[2];
	double lengths[2];
	int r;

	if (!flame_tell(flame_new(&f, FLAME_DIFF)))
		return false;
	for (size_t side = 0; side < 2; side++) {
		struct intake in = {};

		for (size_t i = 0; i < n; i++) {
			struct options window = o[i];

			window.given |= OPTION_RANGE;
			window.since_us = windows[side].since_us;
			window.until_us = windows[side].until_us;
			in = (struct intake) { .flame = f, .side = side };
			if (!intake_take(&in, &window))
				return false;
		}
		provenances[side] = in.provenance;
		lengths[side] = (double)in.provenance.until_us - in.provenance.since_us;
	}
	flame_set_window(meta, flame_metric(o), &provenances[FLAME_AFTER]);
	r = flame_set_title(meta, o, n - 1, what, FLAME_OF_ALL);
	if (r >= 0)
		r = flame_note_window(meta, "before: ", &provenances[FLAME_BEFORE]);
	if (r >= 0)
		r = flame_note_window(meta, "after: ", &provenances[FLAME_AFTER]);
	if (r >= 0)
		r = make_comparable(f, meta, lengths);
	return flame_tell(r) && flame_finish(ret, &f, meta);
}

static bool diff_of_windows(struct flame **ret, struct flame_meta *meta, const struct options *o)
{
	struct time_window windows[2];
	char what[FORMAT_MAX];
	const char *reason;

	if (parse_diff(o->diff, o->import ? o->now_us + SETTLED_US : o->now_us, &windows[0], &windows[1], &reason) < 0) {
		log_error("Can't take \"%s\" as --diff: %s.", o->diff, reason);
		return false;
	}
	snprintf(what, sizeof(what), "%s, before and after", metric_to_string(flame_metric(o)));
	return diff_windows(ret, meta, o, 1, windows, what);
}

/* ---- two processes ---- */

/* In one window. */
static bool diff_of_processes(struct flame **ret, struct flame_meta *meta, const struct options *o, const pid_t pids[static 2])
{
	_cleanup_(flame_freep) struct flame *f = NULL;
	struct options about = *o;
	struct intake in = {};
	char what[FORMAT_MAX];
	int r;

	flame_settle_window(&about);
	about.given |= OPTION_PID;
	if (!flame_tell(flame_new(&f, FLAME_DIFF)))
		return false;
	for (size_t side = 0; side < 2; side++) {
		about.pid = pids[side];
		in = (struct intake) { .flame = f, .side = side };
		if (!intake_take(&in, &about))
			return false;
	}
	flame_set_window(meta, flame_metric(o), &in.provenance);
	snprintf(what, sizeof(what), "%s, processes %d (before) and %d (after)", metric_to_string(flame_metric(o)), pids[0], pids[1]);
	r = flame_set_title(meta, o, 0, what, "");
	if (r >= 0)
		r = flame_note_window(meta, "", &in.provenance);
	return flame_tell(r) && flame_finish(ret, &f, meta);
}

/* ---- what was saved: imports, files ---- */

/* One side of the difference. */
struct saved {
	const char *name;
	bool is_import;
	struct options about; /* what it is asked as, if it is an import */
	double length_us;     /* 0: it has no times */
};

static bool find_saved(struct saved *s, const struct options *o)
{
	s->is_import = import_exists(s->name);
	if (s->is_import) {
		s->about = *o;
		s->about.given |= OPTION_IMPORT;
		s->about.import = s->name;
		if (!import_choose(&s->about))
			return false;
		s->length_us = s->about.recorded_timed ? (double)(s->about.recorded_until_us - s->about.recorded_since_us) : 0;
		return true;
	}
	if (access(s->name, F_OK) == 0)
		return true;
	log_error("Can't take \"%s\" as --diff: a window is SINCE/UNTIL or SINCE/+SPAN, and \"%s\" is neither an import (see: stackctl import) nor a "
		  "file of folded stacks.", o->diff, s->name);
	return false;
}

/* Folded stacks say no objects, in an import neither; they are the recordings without times. */
static bool names_its_objects(const struct saved *s)
{
	return s->is_import && s->length_us > 0;
}

static int note_saved(struct flame_meta *meta, const char *prefix, const struct saved *s, const struct provenance *p)
{
	_cleanup_free_ char *name = text_escape(flame_base_name(s->name), true);
	char text[FORMAT_MAX];

	if (!name)
		return -ENOMEM;
	if (s->length_us == 0)
		return flame_meta_note(meta, "%s%s, which has no times, as it is", prefix, name);
	snprintf(text, sizeof(text), "%s%.*s: ", prefix, (int)(sizeof(text) - 16), name);
	return flame_note_window(meta, text, p);
}

/* A file has nothing but stacks. */
static bool filters_fit(const struct options *o, const struct saved sides[static 2])
{
	uint64_t refused = OPTION_FILTER | OPTION_STACK;

	if (sides[0].is_import && sides[1].is_import)
		return true;
	if (!sides[0].is_import && !sides[1].is_import)
		refused |= OPTION_METRIC;
	if (!(o->given & refused))
		return true;
	log_error("A saved file has no %s to choose by.", option_name(o->given & refused) + 2);
	return false;
}

static int set_title(struct flame_meta *meta, const struct options *o, const struct saved sides[static 2], bool of_files)
{
	_cleanup_free_ char *what = NULL;
	int n = asprintf(&what, "%s%s%s (before) and %s (after)", of_files ? "" : metric_to_string(flame_metric(o)), of_files ? "" : ", ",
			 flame_base_name(sides[0].name), flame_base_name(sides[1].name));

	if (n < 0)
		return -ENOMEM;
	if (!of_files)
		return flame_set_title(meta, o, 0, what, FLAME_OF_ALL);
	meta->title = text_escape(o->given & OPTION_TITLE ? o->title : what, true);
	return meta->title ? 0 : -ENOMEM;
}

static uint64_t sum_of(const struct flame *f, enum flame_side side)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < f->n_stacks; i++)
		sum += MIN(f->stacks[i].value[side], (uint64_t)INT64_MAX - sum);
	return sum;
}

/* Whoever asks of an import what it has none of would take all of the other side for new, or gone. */
static bool has_metric(const struct flame *f, const struct options *o, const struct saved sides[static 2])
{
	for (size_t side = 0; side < 2; side++)
		if (sides[side].is_import && !(o->given & (OPTION_FILTER | OPTION_STACK)) && sum_of(f, side) == 0) {
			log_error("There is nothing of %s in %s: choose another --metric.", metric_to_string(flame_metric(o)), sides[side].name);
			return false;
		}
	return true;
}

/* A file doesn't say what its values are; hits are the numbers that most have. */
static bool has_other_unit(const struct options *o, const struct saved sides[static 2])
{
	return sides[0].is_import != sides[1].is_import && flame_metric(o) != METRIC_HITS;
}

static int compare_shares(struct flame *f, struct flame_meta *meta)
{
	uint64_t before = sum_of(f, FLAME_BEFORE), after = sum_of(f, FLAME_AFTER);

	if (before == 0 || after == 0)
		return 0;
	flame_scale(f, FLAME_BEFORE, (double)after / (double)before);
	return flame_meta_note(meta, "before is multiplied by %.4g, to compare shares: a file does not say its unit", (double)after / (double)before);
}

static bool diff_of_saved(struct flame **ret, struct flame_meta *meta, const struct options *o, struct saved sides[static 2])
{
	static const char *const prefixes[] = { "before: ", "after: " };
	bool of_files = !sides[0].is_import && !sides[1].is_import, without_unit;
	_cleanup_(flame_freep) struct flame *f = NULL;
	struct provenance provenances[2] = {};
	double lengths[2];
	int r;

	if (!filters_fit(o, sides) || !flame_tell(flame_new(&f, FLAME_DIFF)))
		return false;
	for (size_t side = 0; side < 2; side++) {
		struct intake in = { .flame = f, .side = side, .as_saved = !names_its_objects(&sides[0]) || !names_its_objects(&sides[1]) };
		struct saved *s = &sides[side];

		if (s->is_import ? !import_serve(&s->about) || !intake_take(&in, &s->about) : !flame_read_file(f, s->name, side, true))
			return false;
		provenances[side] = in.provenance;
		lengths[side] = s->length_us;
	}
	if (!has_metric(f, o, sides))
		return false;
	without_unit = of_files || (has_other_unit(o, sides) && !sides[FLAME_AFTER].is_import);
	meta->metric = without_unit ? METRIC_ALL_N : flame_metric(o);
	meta->unit = without_unit ? "" : metric_unit(meta->metric);
	r = set_title(meta, o, sides, of_files);
	for (size_t side = 0; r >= 0 && !of_files && side < 2; side++)
		r = note_saved(meta, prefixes[side], &sides[side], &provenances[side]);
	if (r >= 0)
		r = has_other_unit(o, sides) ? compare_shares(f, meta) : make_comparable(f, meta, lengths);
	return flame_tell(r) && flame_finish(ret, &f, meta);
}

static bool diff_of_names(struct flame **ret, struct flame_meta *meta, const struct options *o, const char *before, const char *after)
{
	struct saved sides[2] = { { .name = before }, { .name = after } };

	if (o->import) {
		log_error("--import and a --diff of imports can't be together: of one import it takes two windows, SINCE/UNTIL..SINCE/UNTIL.");
		return false;
	}
	return find_saved(&sides[0], o) && find_saved(&sides[1], o) && diff_of_saved(ret, meta, o, sides);
}

bool flame_of_diff(struct flame **ret, struct flame_meta *meta, const struct options *o, const char *file)
{
	struct saved files[2] = { { .name = o->diff }, { .name = file } };
	_cleanup_free_ char *before = NULL;
	const char *after;
	pid_t pids[2];
	int r;

	if (file)
		return diff_of_saved(ret, meta, o, files);
	if (parse_diff_pids(o->diff, pids) > 0)
		return diff_of_processes(ret, meta, o, pids);
	r = parse_diff_names(o->diff, &before, &after);
	if (r < 0)
		return flame_tell(r);
	return r > 0 ? diff_of_names(ret, meta, o, before, after) : diff_of_windows(ret, meta, o);
}

/* ---- an anomaly, an incident ---- */

bool flame_of_anomaly(struct flame **ret, struct flame_meta *meta, const struct options *o)
{
	_cleanup_scope_ struct flame_scope s = {};

	return scope_of_anomaly(&s, o) && diff_windows(ret, meta, s.about, s.n, s.windows, s.what);
}

bool flame_of_incident(struct flame **ret, struct flame_meta *meta, const struct options *o)
{
	_cleanup_scope_ struct flame_scope s = {};

	return scope_of_incident(&s, o) && diff_windows(ret, meta, s.about, s.n, s.windows, s.what);
}
