/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flame_query.h"

#include "call.h"
#include "flame_lines.h"
#include "flame_scope.h"
#include "read_folded.h"
#include "timestamp.h"

#define DEFAULT_WINDOW_US (15 * 60 * USEC_PER_SEC) /* stackd's own */
#define SETTLED_US (2 * USEC_PER_SEC)              /* the last moments may not have been drained yet */
#define PROCESSES_MOST 10000                       /* as many as stackd gives */

/* Of a reply, how its figures came about. */
struct provenance {
	uint64_t since_us, until_us;
	double load;
	long long gate_open_s, lost;
};

/* Where a reply's stacks go. */
struct intake {
	struct flame *flame;
	enum flame_side side;
	enum flame_kind state; /* FLAME_ON_CPU or FLAME_OFF_CPU puts that frame above the process; else none */
	uint32_t *ids;         /* by a reply's number of a frame */
	size_t n_ids, ids_allocated;
	struct provenance provenance;
	const struct options *options;
	struct flame_lines *lines; /* NULL: no inlined functions are asked for */
};

static bool tell(int r)
{
	if (r == -EBADMSG)
		log_error("The answer of stackd has a stack whose frames it did not send: is it of another "
		          "version?");
	else if (r == -E2BIG)
		log_error("There are more stacks than fit into one picture: ask for less with --since or a filter.");
	else if (r < 0 && r != -EIO)
		log_error("Can't sum up the stacks: %s.", strerror(-r));
	return r >= 0;
}

static int take_frames(struct intake *in, const struct json *frames)
{
	size_t n = json_length(frames);
	int r = 0;

	if (n > FLAME_FRAMES_MAX - in->n_ids)
		return -E2BIG;
	if (in->n_ids + n > in->ids_allocated) {
		size_t want = MAX(2 * in->ids_allocated, in->n_ids + n);
		uint32_t *ids = reallocarray(in->ids, want, sizeof(*ids));

		if (!ids)
			return -ENOMEM;
		in->ids = ids;
		in->ids_allocated = want;
	}
	for (size_t i = 0; r >= 0 && i < n; i++) {
		const struct json *frame = json_at(frames, i);
		const char *name = "", *object = "", *kind = "";

		json_get_string(frame, "name", &name);
		json_get_string(frame, "object", &object);
		json_get_string(frame, "kind", &kind);
		r = flame_intern(in->flame, name, object, flame_kind_of(kind, object), &in->ids[in->n_ids++]);
	}
	return r;
}

static int take_stack(struct intake *in, const struct json *row)
{
	const struct json *frames = json_get(row, "frames");
	uint32_t path[FLAME_DEPTH_MAX + 1];
	const char *comm = "";
	bool truncated = false;
	int64_t value = 0;
	uint64_t id = 0;
	size_t n = 1;
	int r;

	json_get_string(row, "comm", &comm);
	json_get_bool(row, "truncated", &truncated);
	if (json_get_int(row, "value", &value) != 1 || json_kind(frames) != JSON_ARRAY)
		return -EBADMSG;
	if (value <= 0)
		return 0;
	r = flame_intern(in->flame, comm, "", FLAME_PROCESS, &path[0]);
	if (r >= 0 && in->state == FLAME_ON_CPU)
		r = flame_intern(in->flame, "[on-CPU]", "", FLAME_ON_CPU, &path[n++]);
	if (r >= 0 && in->state == FLAME_OFF_CPU)
		r = flame_intern(in->flame, "[off-CPU]", "", FLAME_OFF_CPU, &path[n++]);
	if (r >= 0 && truncated)
		r = flame_intern(in->flame, "[truncated]", "", FLAME_UNKNOWN, &path[n++]);
	if (r >= 0 && in->lines) {
		if (json_get_id(row, "stack", &id) <= 0)
			return -EBADMSG;
		r = flame_lines_add(in->lines, in->flame, in->options, id, path, n, in->side, value, &value);
		if (r < 0 || value == 0)
			return r;
	}
	for (size_t i = 0; r >= 0 && i < json_length(frames) && n < ELEMENTS_OF(path); i++) {
		int64_t index;

		if (json_as_int(json_at(frames, i), &index) < 0 || index < 0 || (uint64_t)index >= in->n_ids)
			return -EBADMSG;
		path[n++] = in->ids[index];
	}
	return r < 0 ? r : flame_add(in->flame, path, n, in->side, value);
}

static void take_provenance(struct intake *in, const struct json *reply, struct fields *f)
{
	const struct json *window = field_object(f, reply, "window");

	in->provenance = (struct provenance) {
		.since_us = field_int(f, window, "since_us"),
		.until_us = field_int(f, window, "until_us"),
		.load = field_float(f, window, "load_mean"),
		.gate_open_s = field_int(f, window, "gate_open_s"),
		.lost = field_int(f, window, "lost"),
	};
}

struct json_writer *flame_parameters(const struct options *o)
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

static bool take_replies(struct intake *in, const struct options *o)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = flame_parameters(o);
	_cleanup_call_ struct call c = {};
	struct fields f = {};

	if (!parameters || !call_start(&c, o, "GetFlame", parameters, true, false))
		return false;
	for (bool first = true; !c.done; first = false) {
		const struct json *reply, *frames, *stacks;
		int r;

		if (!call_next(&c, &reply))
			return false;
		if (first)
			take_provenance(in, reply, &f);
		frames = field_array(&f, reply, "frames");
		stacks = field_array(&f, reply, "stacks");
		if (!fields_are_good(&f))
			return false;
		r = take_frames(in, frames);
		for (size_t i = 0; r >= 0 && i < json_length(stacks); i++)
			r = take_stack(in, json_at(stacks, i));
		if (!tell(r))
			return false;
	}
	return true;
}

static bool take(struct intake *in, const struct options *o)
{
	bool good;

	in->options = o;
	good = take_replies(in, o);

	free(in->ids);
	in->ids = NULL;
	return good;
}

/* ---- what is told beside ---- */

/* "unit backup.service, pid 12"; "all processes". The caller frees; NULL when there is no memory. */
static char *filter_text(const struct options *o)
{
	size_t size;
	char *text = NULL;
	FILE *file = open_memstream(&text, &size);

	if (!file)
		return NULL;
	if (o->given & OPTION_UNIT)
		fprintf(file, ", %s", o->unit);
	if (o->given & OPTION_CGROUP)
		fprintf(file, ", cgroup %s", o->cgroup);
	if (o->given & OPTION_EXE)
		fprintf(file, ", %s", o->exe);
	if (o->given & OPTION_COMM)
		fprintf(file, ", %s", o->comm);
	if (o->given & OPTION_PID)
		fprintf(file, ", pid %d", o->pid);
	if (o->given & OPTION_STACK)
		fprintf(file, ", stack %016llx", (unsigned long long)o->stack);
	if (fclose(file) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* more: programs beside the one of o */
static int set_title(struct flame_meta *meta, const struct options *o, size_t more, const char *what)
{
	_cleanup_free_ char *filter = filter_text(o), *title = NULL;
	char others[FORMAT_MAX] = "";

	if (!filter)
		return -ENOMEM;
	if (more > 0)
		snprintf(others, sizeof(others), " and %zu more", more);
	if (o->given & OPTION_TITLE)
		title = strdup(o->title);
	else if (asprintf(&title, "%s%s%s%s", what, *filter ? "" : ", all processes", filter, others) < 0)
		title = NULL;
	if (!title)
		return -ENOMEM;
	meta->title = text_escape(title, true);
	return meta->title ? 0 : -ENOMEM;
}

static int note_window(struct flame_meta *meta, const char *prefix, const struct provenance *p)
{
	uint64_t length_us = p->until_us > p->since_us ? p->until_us - p->since_us : 0;
	char since[FORMAT_MAX], until[FORMAT_MAX], span[FORMAT_MAX];

	return flame_meta_note(meta, "%s%s to %s (%s), load %.2f, gate open %lld s, %lld lost", prefix,
	                       time_format(since, p->since_us), time_format(until, p->until_us),
	                       format_timespan(span, length_us), p->load, p->gate_open_s, p->lost);
}

/* The total, and what doesn't show. */
static int note_total(struct flame_meta *meta, const struct flame *f)
{
	char before[FORMAT_MAX], after[FORMAT_MAX], cut[FORMAT_MAX] = "";

	flame_format(after, meta, f->nodes[0].total[FLAME_AFTER]);
	if (f->cut > 0)
		snprintf(cut, sizeof(cut), "; %zu stacks cut at %d frames", f->cut, FLAME_DEPTH_MAX);
	if (f->shape != FLAME_DIFF)
		return flame_meta_note(meta, "total %s%s", after, cut);
	return flame_meta_note(meta, "total %s before, %s after%s",
	                       flame_format(before, meta, f->nodes[0].total[FLAME_BEFORE]), after, cut);
}

static bool finish(struct flame **ret, struct flame **f, struct flame_meta *meta)
{
	int r = flame_build(*f);

	if (r >= 0)
		r = note_total(meta, *f);
	if (!tell(r))
		return false;
	*ret = TAKE_PTR(*f);
	return true;
}

static void set_window(struct flame_meta *meta, enum metric m, const struct provenance *p)
{
	meta->metric = m;
	meta->unit = metric_unit(m);
	meta->since_us = p->since_us;
	meta->until_us = MAX(p->until_us, p->since_us);
}

static enum metric metric_of(const struct options *o)
{
	return o->given & OPTION_METRIC ? o->metric : METRIC_ON_CPU;
}

/* ---- one window ---- */

bool flame_of_window(struct flame **ret, struct flame_meta *meta, const struct options *o)
{
	_cleanup_(flame_freep) struct flame *f = NULL;
	struct flame_lines lines = {};
	struct intake in = { .side = FLAME_VALUE, .lines = o->given & OPTION_INLINES ? &lines : NULL };
	int r;

	if (!tell(flame_new(&f, FLAME_PLAIN)))
		return false;
	in.flame = f;
	if (!take(&in, o))
		return false;
	set_window(meta, metric_of(o), &in.provenance);
	r = set_title(meta, o, 0, metric_to_string(metric_of(o)));
	if (r >= 0)
		r = note_window(meta, "", &in.provenance);
	if (r >= 0 && in.lines)
		r = flame_lines_note(&lines, meta, o);
	return tell(r) && finish(ret, &f, meta);
}

/* ---- on-CPU and off-CPU ---- */

struct exacts {
	struct flame_exact *rows;
	size_t n;
};

static bool take_processes(struct flame *f, const struct options *o, struct exacts *ret)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *processes;
	struct fields fields = {};
	int r = 0;

	if (!parameters)
		return false;
	put_filter(parameters, o);
	json_put_int(parameters, "limit", PROCESSES_MOST);
	if (!call_joined(&reply, o, "ListProcesses", parameters))
		return false;
	processes = field_array(&fields, reply, "processes");
	ret->rows = calloc(json_length(processes) + 1, sizeof(*ret->rows));
	if (!ret->rows)
		return tell(-ENOMEM);
	for (size_t i = 0; r >= 0 && i < json_length(processes); i++) {
		const struct json *slice = json_at(processes, i), *values = field_object(&fields, slice, "values");
		struct flame_exact *e = &ret->rows[ret->n++];

		e->on = field_value(values, METRIC_ON_CPU);
		e->off = field_value(values, METRIC_OFF_CPU);
		r = flame_intern(f, field_string(&fields, field_object(&fields, slice, "process"), "comm"), "",
		                 FLAME_PROCESS, &e->process);
	}
	return fields_are_good(&fields) && tell(r);
}

static int note_settled(struct flame_meta *meta, const struct flame_settled *s)
{
	char without[FORMAT_MAX], over[FORMAT_MAX], unknown[FORMAT_MAX];

	return flame_meta_note(meta, "wall time as the kernel counted it: %s without a stack, %s too much by stacks, "
	                             "%s of processes not counted",
	                       flame_format(without, meta, s->without_stack), flame_format(over, meta, s->over),
	                       flame_format(unknown, meta, s->unknown));
}

bool flame_of_hot_cold(struct flame **ret, struct flame_meta *meta, const struct options *o)
{
	static const enum metric metrics[] = { METRIC_ON_CPU, METRIC_OFF_CPU };
	static const enum flame_kind states[] = { FLAME_ON_CPU, FLAME_OFF_CPU };
	_cleanup_(flame_freep) struct flame *f = NULL;
	struct options window = *o;
	struct exacts exacts = {};
	struct flame_settled settled;
	struct intake in = {};
	bool good;
	int r;

	if (!tell(flame_new(&f, FLAME_HOT_COLD)))
		return false;
	/* The calls are of one window, which has ended when the first is made. */
	if (!(o->given & OPTION_UNTIL))
		window.until_us = o->now_us - SETTLED_US;
	if (!(o->given & OPTION_SINCE))
		window.since_us = window.until_us - DEFAULT_WINDOW_US;
	window.given |= OPTION_RANGE | OPTION_METRIC;
	for (size_t i = 0; i < ELEMENTS_OF(metrics); i++) {
		in = (struct intake) { .flame = f, .side = FLAME_VALUE, .state = states[i] };
		window.metric = metrics[i];
		if (!take(&in, &window))
			return false;
	}
	good = take_processes(f, &window, &exacts);
	r = good ? flame_settle(f, exacts.rows, exacts.n, &settled) : 0;
	free(exacts.rows);
	if (!good || !tell(r))
		return false;
	set_window(meta, METRIC_OFF_CPU, &in.provenance);
	r = set_title(meta, o, 0, "on-cpu and off-cpu");
	if (r >= 0)
		r = note_window(meta, "", &in.provenance);
	if (r >= 0)
		r = note_settled(meta, &settled);
	return tell(r) && finish(ret, &f, meta);
}

/* ---- two windows ---- */

/* Asks n questions of each window, the first of which the title tells. */
static bool diff_windows(struct flame **ret, struct flame_meta *meta, const struct options *o, size_t n,
                         const struct time_window windows[static 2], const char *what)
{
	_cleanup_(flame_freep) struct flame *f = NULL;
	struct provenance provenances[2];
	double lengths[2];
	int r;

	if (!tell(flame_new(&f, FLAME_DIFF)))
		return false;
	for (size_t side = 0; side < 2; side++) {
		struct intake in = {};

		for (size_t i = 0; i < n; i++) {
			struct options window = o[i];

			window.given |= OPTION_RANGE;
			window.since_us = windows[side].since_us;
			window.until_us = windows[side].until_us;
			in = (struct intake) { .flame = f, .side = side };
			if (!take(&in, &window))
				return false;
		}
		provenances[side] = in.provenance;
		lengths[side] = (double)in.provenance.until_us - in.provenance.since_us;
	}
	set_window(meta, metric_of(o), &provenances[FLAME_AFTER]);
	r = set_title(meta, o, n - 1, what);
	if (r >= 0)
		r = note_window(meta, "before: ", &provenances[FLAME_BEFORE]);
	if (r >= 0)
		r = note_window(meta, "after: ", &provenances[FLAME_AFTER]);
	if (r >= 0 && lengths[0] > 0 && lengths[1] > 0 && lengths[0] != lengths[1]) {
		flame_scale(f, FLAME_BEFORE, lengths[1] / lengths[0]);
		r = flame_meta_note(meta, "before is multiplied by %.4g, for windows of the same length",
		                    lengths[1] / lengths[0]);
	}
	return tell(r) && finish(ret, &f, meta);
}

bool flame_of_windows(struct flame **ret, struct flame_meta *meta, const struct options *o)
{
	struct time_window windows[2];
	char what[FORMAT_MAX];
	const char *reason;

	if (parse_diff(o->diff, o->now_us, &windows[0], &windows[1], &reason) < 0) {
		log_error("Can't take \"%s\" as --diff: %s.", o->diff, reason);
		return false;
	}
	snprintf(what, sizeof(what), "%s, before and after", metric_to_string(metric_of(o)));
	return diff_windows(ret, meta, o, 1, windows, what);
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

/* ---- files ---- */

static bool read_file(struct flame *f, const char *path, enum flame_side side, bool one_value)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	struct folded_error error = {};
	int r;

	if (!file) {
		log_error("Can't read %s: %s.", path, strerror(errno));
		return false;
	}
	r = one_value ? read_folded(f, file, side, &error) : read_folded_any(f, file, &error);
	if (r == -EBADMSG)
		log_error("%s:%zu: no folded stack: %s.", path, error.line, error.reason);
	else if (r == -E2BIG)
		log_error("%s:%zu: there are more stacks than fit into one picture.", path, error.line);
	else if (r < 0)
		log_error("Can't read %s: %s.", path, strerror(-r));
	return r >= 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

bool flame_of_file(struct flame **ret, struct flame_meta *meta, const struct options *o, const char *path)
{
	_cleanup_(flame_freep) struct flame *f = NULL;
	const char *title = o->given & OPTION_TITLE ? o->title : base_name(path);

	if (!tell(flame_new(&f, FLAME_PLAIN)) || !read_file(f, path, FLAME_VALUE, false))
		return false;
	meta->metric = METRIC_ALL_N;
	meta->unit = "";
	meta->title = text_escape(title, true);
	return tell(meta->title ? 0 : -ENOMEM) && finish(ret, &f, meta);
}

bool flame_of_files(struct flame **ret, struct flame_meta *meta, const struct options *o, const char *before,
                    const char *after)
{
	_cleanup_(flame_freep) struct flame *f = NULL;
	_cleanup_free_ char *title = NULL;

	if (!tell(flame_new(&f, FLAME_DIFF)) || !read_file(f, before, FLAME_BEFORE, true) ||
	    !read_file(f, after, FLAME_AFTER, true))
		return false;
	if (o->given & OPTION_TITLE)
		title = strdup(o->title);
	else if (asprintf(&title, "%s (before) and %s (after)", base_name(before), base_name(after)) < 0)
		title = NULL;
	meta->metric = METRIC_ALL_N;
	meta->unit = "";
	meta->title = title ? text_escape(title, true) : NULL;
	return tell(meta->title ? 0 : -ENOMEM) && finish(ret, &f, meta);
}
