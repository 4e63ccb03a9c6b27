/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GetLines: where in the sources a stack's calls are; ListMissingDebug: what it lacks to say so. Before the first reply all that is not known yet is asked for, and waited
 * for. */
#include "internal.h"

#include "lines.h"

#define DEFAULT_WINDOW_US (15 * 60 * USEC_PER_SEC)
#define WAIT_MAX_NS (30 * NSEC_PER_SEC) /* what is not known by then is left out */
#define VARIANT_BOUND (WIRE_MESSAGE_MAX / 4)
#define PLACE_BOUND 8192 /* bytes of a place in a reply: its strings are of less than 512 bytes, six for each at worst */

struct missing {
	uint64_t file;
	int error;
	char object[128];
};

#define MISSING_MAX 64

struct lines_view {
	uint64_t stack_id, deadline_ns;
	size_t n, next;
	double weight; /* of all variants, also of those that are not sent */
	struct api_variant variants[API_VARIANTS_MAX];
	struct symbols_frame frames[SYMBOLS_FRAMES_MAX]; /* of the variant in hand */
	size_t n_frames;
	struct missing missing[MISSING_MAX];
	size_t n_missing;
	bool late; /* waited for long enough */
};

static void lines_view_free(struct session *s _unused_, void *state)
{
	free(state);
}

static struct symbols_process_key key_of(const struct api_variant *v)
{
	const struct collect_process *p = &v->frames.process;

	return (struct symbols_process_key){ p->pid, p->exec_id, p->start_ns, p->seen_ns };
}

static void note_missing(struct lines_view *v, const struct symbols_frame *frame, int error)
{
	struct missing *m = &v->missing[v->n_missing];

	for (size_t i = 0; i < v->n_missing; i++)
		if (v->missing[i].file == frame->file)
			return;
	if (v->n_missing == MISSING_MAX)
		return;
	*m = (struct missing){ .file = frame->file, .error = error };
	copy_string(m->object, sizeof(m->object), frame->object);
	v->n_missing++;
}

static const char *reason(int error)
{
	switch (error) {
	case -ENODATA: return "no debug information";
	case -ENOENT: return "the file can't be opened any more";
	case -EFBIG: return "too much debug information";
	case -ESTALE: return "debug information of another build";
	case -EAGAIN: return "not read in time";
	case -EBADMSG:
	case -ENOTRECOVERABLE:
	case -EPIPE: return "damaged debug information";
	default: return strerror(-error);
	}
}

/* Names the frames of a variant. -EAGAIN: names are on their way. */
static int resolve(struct session *s, struct lines_view *v, const struct api_variant *variant)
{
	const struct symbols_process_key key = key_of(variant);
	const struct collect_frames *f = &variant->frames;
	uint64_t stack_id;

	return symbols_resolve(s->api->views.symbols, &key, f->kernel, f->n_kernel, f->user, f->n_user, v->frames, &v->n_frames, &stack_id);
}

/* True when all that can be known of a variant is. */
static bool is_ready(struct session *s, struct lines_view *v, const struct api_variant *variant)
{
	const struct symbols_process_key key = key_of(variant);
	struct line_places places;
	bool ready = true;
	int r;

	r = resolve(s, v, variant);
	if (r < 0)
		return r != -EAGAIN;
	for (size_t i = 0; i < v->n_frames; i++)
		if (lines_find(s->api->views.lines, &key, &v->frames[i], &places) == -EAGAIN)
			ready = false;
	return ready;
}

static bool all_ready(struct session *s, struct lines_view *v)
{
	bool ready = true;

	for (size_t i = v->next; i < v->n; i++)
		ready = is_ready(s, v, &v->variants[i]) && ready;
	lines_ask(s->api->views.lines);
	return ready;
}

static void write_place(struct json_writer *w, const struct symbols_frame *frame, const struct line_place *place)
{
	json_open_object(w);
	json_put_string(w, "name", place && place->function ? place->function : frame->display);
	json_put_string(w, "object", frame->object);
	json_put_string(w, "kind", frame_kind_name(frame->kind));
	json_put_bool(w, "inlined", place && place->function);
	json_put_string(w, "file", place ? place->file : "");
	json_put_int(w, "line", place ? place->line : 0);
	json_close_object(w);
}

/* Outermost first: of each frame its own function, then what was inlined into it. */
static void write_places(struct session *s, struct lines_view *v, struct json_writer *w, const struct api_variant *variant)
{
	const struct symbols_process_key key = key_of(variant);

	json_key(w, "places");
	json_open_array(w);
	for (size_t i = v->n_frames; i-- > 0 && json_writer_size(w) + PLACE_BOUND < WIRE_MESSAGE_MAX;) {
		const struct symbols_frame *frame = &v->frames[i];
		struct line_places places;
		int r = lines_find(s->api->views.lines, &key, frame, &places);

		if (r < 0)
			note_missing(v, frame, r);
		if (r < 0 || places.n == 0)
			write_place(w, frame, NULL);
		for (size_t j = r < 0 ? 0 : places.n; j-- > 0;)
			write_place(w, frame, &places.places[j]);
	}
	json_close_array(w);
}

static void write_variant(struct session *s, struct lines_view *v, struct json_writer *w)
{
	const struct api_variant *variant = &v->variants[v->next++];

	if (resolve(s, v, variant) < 0)
		return;
	json_open_object(w);
	json_put_float(w, "share", v->weight > 0 ? MIN(variant->weight / v->weight, 1.0) : 0);
	write_places(s, v, w, variant);
	json_close_object(w);
}

static enum produce_result lines_produce(struct session *s)
{
	struct lines_view *v = s->call.state;
	struct json_writer *w;
	bool more;

	v->late = v->late || clock_monotonic_ns() > v->deadline_ns;
	if (!v->late && !all_ready(s, v))
		return PRODUCE_WAIT;
	w = session_reply_begin(s);
	json_put_id(w, "stack", v->stack_id);
	json_key(w, "variants");
	json_open_array(w);
	for (size_t n = 0; v->next < v->n && !page_full(s, json_writer_size(w), n, VARIANT_BOUND); n++)
		write_variant(s, v, w);
	json_close_array(w);
	more = v->next < v->n;
	json_key(w, "missing");
	json_open_array(w);
	for (size_t i = 0; !more && i < v->n_missing; i++) {
		json_open_object(w);
		json_put_string(w, "object", v->missing[i].object);
		json_put_string(w, "reason", reason(v->missing[i].error));
		json_close_object(w);
	}
	json_close_array(w);
	return session_reply_end(s, more) && more ? PRODUCE_MORE : PRODUCE_DONE;
}

void lines_arrived(struct api *a)
{
	for (struct session *s = a->sessions; s; s = s->next)
		if (s->call.produce == lines_produce && s->waiting)
			session_wake(s);
}

/* Keeps what the caller may see and asked for; then the shares are of that. */
static void filter_variants(struct lines_view *v, const struct query *q)
{
	size_t kept = 0;
	double weight = 0;

	for (size_t i = 0; i < v->n; i++) {
		const struct collect_process *p = &v->variants[i].frames.process;

		if ((q->filter.viewer_uid != STORE_ANY_UID && p->uid != q->filter.viewer_uid) ||
		    (q->filter.pid != 0 && p->pid != q->filter.pid))
			continue;
		weight += v->variants[i].weight;
		v->variants[kept++] = v->variants[i];
	}
	if (kept < v->n)
		v->weight = weight;
	v->n = kept;
}

static int note_slice(void *userdata, const struct store_slice_sum *sum _unused_)
{
	*(bool *)userdata = true;
	return 1;
}

void method_get_lines(struct session *s, const struct json *parameters)
{
	struct lines_view *v;
	bool visible = false;
	struct query q;
	int r;

	if (!query_parse(s, parameters, DEFAULT_WINDOW_US, &q) || !query_stack(s, parameters, false, &q))
		return;
	r = store_visit_slices(s->api->views.store, &q.filter, note_slice, &visible);
	if (r < 0) {
		session_failed(s, r);
		return;
	}
	if (!visible && query_refuse_unknown(s, &q))
		return;
	v = calloc(1, sizeof(*v));
	if (!v) {
		session_failed(s, -ENOMEM);
		return;
	}
	v->stack_id = q.filter.stack_id;
	v->deadline_ns = clock_monotonic_ns() + WAIT_MAX_NS;
	if (visible)
		v->n = s->api->actions.variants(s->api->actions.userdata, v->stack_id, v->variants, &v->weight);
	filter_variants(v, &q);
	session_produce(s, lines_produce, v, lines_view_free);
}

static void put_file(void *userdata, const char *name, const char *build_id)
{
	struct json_writer *w = userdata;

	json_open_object(w);
	json_put_string(w, "object", name);
	json_put_string(w, "build_id", build_id);
	json_close_object(w);
}

void method_list_missing_debug(struct session *s, const struct json *parameters _unused_)
{
	struct json_writer *w = session_reply_begin(s);

	json_key(w, "files");
	json_open_array(w);
	symbols_visit_without_debug(s->api->views.symbols, put_file, w);
	json_close_array(w);
	session_reply_end(s, false);
}
