/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flame_intake.h"

#include "read_folded.h"
#include "render_folded.h"
#include "timestamp.h"

bool flame_tell(int r)
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

/* As read_folded() would. */
static int intern_saved(struct intake *in, const char *name, bool is_kernel, bool is_first, uint32_t *ret)
{
	_cleanup_free_ char *saved = folded_name(name, is_kernel ? FOLDED_KERNEL : "");
	enum flame_kind kind;

	if (!saved)
		return -ENOMEM;
	kind = folded_kind(saved, is_first);
	return flame_intern(in->flame, saved, "", kind, ret);
}

static int intern(struct intake *in, const char *name, enum flame_kind kind, uint32_t *ret)
{
	return in->as_saved ? intern_saved(in, name, kind == FLAME_KERNEL, kind == FLAME_PROCESS, ret)
			    : flame_intern(in->flame, name, "", kind, ret);
}

static int take_frame(struct intake *in, const struct json *frame, uint32_t *ret)
{
	const char *name = "", *object = "", *kind = "", *build_id = "";
	enum flame_kind k;
	int64_t address = 0;

	json_get_string(frame, "name", &name);
	json_get_string(frame, "object", &object);
	json_get_string(frame, "kind", &kind);
	json_get_string(frame, "build_id", &build_id);
	json_get_int(frame, "address", &address);
	k = flame_kind_of(kind, object);
	return in->as_saved ? intern(in, name, k, ret) : flame_intern_at(in->flame, name, object, build_id, (uint64_t)address, k, ret);
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
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = take_frame(in, json_at(frames, i), &in->ids[in->n_ids++]);
	return r;
}

static int take_stack(struct intake *in, const struct json *row)
{
	const struct json *frames = json_get(row, "frames");
	uint32_t path[FLAME_DEPTH_MAX + 1];
	_cleanup_free_ char *name = NULL;
	bool truncated = false;
	int64_t value = 0;
	uint64_t id = 0;
	size_t n = 1;
	int r;

	json_get_bool(row, "truncated", &truncated);
	if (json_get_int(row, "value", &value) != 1 || json_kind(frames) != JSON_ARRAY)
		return -EBADMSG;
	if (value <= 0)
		return 0;
	name = folded_row_name(row);
	if (!name)
		return -ENOMEM;
	r = intern(in, name, FLAME_PROCESS, &path[0]);
	if (r >= 0 && in->state == FLAME_ON_CPU)
		r = flame_intern(in->flame, "[on-CPU]", "", FLAME_ON_CPU, &path[n++]);
	if (r >= 0 && in->state == FLAME_OFF_CPU)
		r = flame_intern(in->flame, "[off-CPU]", "", FLAME_OFF_CPU, &path[n++]);
	if (r >= 0 && truncated)
		r = intern(in, "[truncated]", FLAME_UNKNOWN, &path[n++]);
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
	(void)json_get_int(reply, "drawn_ns", &in->provenance.drawn_ns);
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
	if (o->given & OPTION_FORMAT && o->format == FORMAT_PPROF)
		json_put_bool(w, "objects", true);
	if (o->given & OPTION_EXACT)
		json_put_bool(w, "exact", true);
	if (o->given & OPTION_THREADS)
		json_put_bool(w, "threads", true);
	if (o->given & OPTION_TID)
		json_put_int(w, "tid", o->tid);
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
		in->provenance.exact = o->given & OPTION_SAMPLES;
		in->provenance.waits = in->provenance.exact && flame_metric(o) != METRIC_ON_CPU && flame_metric(o) != METRIC_HITS;
		frames = field_array(&f, reply, "frames");
		stacks = field_array(&f, reply, "stacks");
		if (!fields_are_good(&f))
			return false;
		r = take_frames(in, frames);
		for (size_t i = 0; r >= 0 && i < json_length(stacks); i++)
			r = take_stack(in, json_at(stacks, i));
		if (!flame_tell(r))
			return false;
	}
	return true;
}

bool intake_take(struct intake *in, const struct options *o)
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
	if (o->import)
		fprintf(file, ", %s", o->import);
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
	if (o->given & OPTION_TID)
		fprintf(file, ", thread %d", o->tid);
	if (o->given & OPTION_THREADS)
		fputs(", by thread", file);
	if (o->given & OPTION_STACK)
		fprintf(file, ", stack %016llx", (unsigned long long)o->stack);
	if (fclose(file) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* more: programs beside the one of o */
int flame_set_title(struct flame_meta *meta, const struct options *o, size_t more, const char *what, const char *whose)
{
	_cleanup_free_ char *filter = filter_text(o), *title = NULL;
	char others[FORMAT_MAX] = "";

	if (!filter)
		return -ENOMEM;
	if (more > 0)
		snprintf(others, sizeof(others), " and %zu more", more);
	if (o->given & OPTION_TITLE)
		title = strdup(o->title);
	else if (asprintf(&title, "%s%s%s%s", what, *filter ? "" : whose, filter, others) < 0)
		title = NULL;
	if (!title)
		return -ENOMEM;
	meta->title = text_escape(title, true);
	return meta->title ? 0 : -ENOMEM;
}

int flame_note_window(struct flame_meta *meta, const char *prefix, const struct provenance *p)
{
	char *(*format)(char *, uint64_t) = p->exact ? time_format_exact : time_format;
	uint64_t length_us = p->until_us > p->since_us ? p->until_us - p->since_us : 0;
	const char *of = !p->exact ? "" : p->waits ? ", of what was noted by thread" : ", of samples taken in it alone";
	char since[FORMAT_MAX], until[FORMAT_MAX], span[FORMAT_MAX], drawn[FORMAT_MAX];
	int r;

	r = flame_meta_note(meta, "%s%s to %s (%s%s), load %.2f, gate open %lld s, %lld lost", prefix,
	                    format(since, p->since_us), format(until, p->until_us), format_timespan(span, length_us), of,
	                    p->load, p->gate_open_s, p->lost);
	if (r >= 0 && p->drawn_ns > 0)
		r = flame_meta_note(meta, "estimate: waits shorter than %s were drawn by their length",
		                    format_timespan(drawn, (uint64_t)p->drawn_ns / NSEC_PER_USEC));
	return r;
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

bool flame_finish(struct flame **ret, struct flame **f, struct flame_meta *meta)
{
	int r = flame_build(*f);

	if (r >= 0)
		r = note_total(meta, *f);
	if (!flame_tell(r))
		return false;
	*ret = TAKE_PTR(*f);
	return true;
}

void flame_set_window(struct flame_meta *meta, enum metric m, const struct provenance *p)
{
	meta->metric = m;
	meta->unit = metric_unit(m);
	meta->since_us = p->since_us;
	meta->until_us = MAX(p->until_us, p->since_us);
}

enum metric flame_metric(const struct options *o)
{
	return o->given & OPTION_METRIC ? o->metric : METRIC_ON_CPU;
}
