/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flame.h"

#include "term.h"

#define IDS_FIRST 4096
#define SEED_FRAME 1
#define SEED_OBJECT 2

static const char *const kind_names[FLAME_KINDS] = {
	[FLAME_PROCESS] = "process", [FLAME_ON_CPU] = "on-cpu",   [FLAME_OFF_CPU] = "off-cpu",
	[FLAME_KERNEL] = "kernel",   [FLAME_LIBRARY] = "library", [FLAME_PROGRAM] = "program",
	[FLAME_JIT] = "jit",         [FLAME_UNKNOWN] = "unknown",
};

const char *flame_kind_to_string(enum flame_kind k)
{
	return kind_names[k];
}

/* "libc.so.6", "ld-linux-x86-64.so.2", "_json.cpython-311-x86_64-linux-gnu.so" */
static bool is_library(const char *object)
{
	const char *so = strstr(object, ".so");

	return streq(object, "[vdso]") || (so && (!so[3] || so[3] == '.'));
}

enum flame_kind flame_kind_of(const char *kind, const char *object)
{
	if (streq(kind, "kernel"))
		return FLAME_KERNEL;
	if (streq(kind, "jit"))
		return FLAME_JIT;
	if (!streq(kind, "user"))
		return FLAME_UNKNOWN;
	return is_library(object) ? FLAME_LIBRARY : FLAME_PROGRAM;
}

int flame_new(struct flame **ret, enum flame_shape shape)
{
	_cleanup_(flame_freep) struct flame *f = calloc(1, sizeof(*f));
	uint32_t all;
	int r;

	if (!f)
		return -ENOMEM;
	f->shape = shape;
	r = map64_new(&f->ids, IDS_FIRST);
	if (r < 0)
		return r;
	f->objects = calloc(1, sizeof(*f->objects));
	if (!f->objects)
		return -ENOMEM;
	f->objects_allocated = f->n_objects = 1;
	f->objects[0] = (struct flame_object) { strdup(""), strdup("") };
	if (!f->objects[0].name || !f->objects[0].build_id)
		return -ENOMEM;
	r = flame_intern(f, "all", "", FLAME_PROCESS, &all);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(f);
	return 0;
}

struct flame *flame_free(struct flame *f)
{
	if (!f)
		return NULL;
	for (size_t i = 0; i < f->n_frames; i++)
		free(f->frames[i].name);
	for (size_t i = 0; i < f->n_objects; i++) {
		free(f->objects[i].name);
		free(f->objects[i].build_id);
	}
	free(f->frames);
	free(f->objects);
	map64_free(f->ids);
	free(f->refs);
	free(f->stacks);
	free(f->nodes);
	free(f);
	return NULL;
}

/* Makes room for more behind the n that are there. */
static int reserve(void *array, size_t *allocated, size_t n, size_t more, size_t max, size_t element)
{
	void **p = array, *grown;
	size_t want;

	if (more > max - n)
		return -E2BIG;
	if (n + more <= *allocated)
		return 0;
	want = MIN(MAX(2 * *allocated, n + more), max);
	grown = reallocarray(*p, want, element);
	if (!grown)
		return -ENOMEM;
	*p = grown;
	*allocated = want;
	return 0;
}

#define RESERVE(array, allocated, n, more, max) \
	reserve(&(array), &(allocated), n, more, max, sizeof(*(array)))

static int remember(struct flame *f, uint64_t key, uint64_t value)
{
	_cleanup_(map64_freep) struct map64 *larger = NULL;
	uint64_t k, v;
	int r;

	r = map64_put(f->ids, key, value);
	if (r != -ENOSPC)
		return r;
	r = map64_new(&larger, 2 * map64_capacity(f->ids));
	for (size_t cursor = 0; r >= 0 && map64_next(f->ids, &cursor, &k, &v);)
		r = map64_put(larger, k, v);
	if (r >= 0)
		r = map64_put(larger, key, value);
	if (r < 0)
		return r;
	map64_free(f->ids);
	f->ids = TAKE_PTR(larger);
	return 0;
}

/* name as it is shown; the caller owns it. */
static int keep_name(struct flame *f, const char *name, char **ret)
{
	_cleanup_free_ char *escaped = text_escape(name, true);
	size_t size;

	if (!escaped)
		return -ENOMEM;
	size = strlen(escaped) + 1;
	if (size > FLAME_NAMES_MAX - f->name_bytes)
		return -E2BIG;
	f->name_bytes += size;
	*ret = TAKE_PTR(escaped);
	return 0;
}

static int intern_object(struct flame *f, const char *object, const char *build_id, uint32_t *ret)
{
	uint64_t key = hash64_string(object, *build_id ? hash64_string(build_id, SEED_OBJECT) : SEED_OBJECT), known;
	struct flame_object new = {};
	int r;

	if (!*object) {
		*ret = 0;
		return 0;
	}
	if (map64_get(f->ids, key, &known)) {
		*ret = known;
		return 0;
	}
	r = RESERVE(f->objects, f->objects_allocated, f->n_objects, 1, FLAME_FRAMES_MAX);
	if (r >= 0)
		r = keep_name(f, object, &new.name);
	if (r >= 0)
		r = keep_name(f, build_id, &new.build_id);
	if (r < 0) {
		free(new.name);
		return r;
	}
	f->objects[f->n_objects] = new;
	*ret = f->n_objects++;
	return remember(f, key, *ret);
}

int flame_intern(struct flame *f, const char *name, const char *object, enum flame_kind kind, uint32_t *ret)
{
	return flame_intern_at(f, name, object, "", 0, kind, ret);
}

int flame_intern_at(struct flame *f, const char *name, const char *object, const char *build_id, uint64_t address, enum flame_kind kind,
                    uint32_t *ret)
{
	struct flame_frame frame = { .kind = kind, .address = address };
	uint64_t key, known;
	int r;

	if (!*name)
		name = "[unknown]";
	r = intern_object(f, object, build_id, &frame.object);
	if (r < 0)
		return r;
	/* 64 bits tell names apart, as they tell stacks apart in stackd. */
	key = hash64_string(name, SEED_FRAME + ((uint64_t)frame.object << 8 | kind << 4));
	if (address)
		key = hash64(&address, sizeof(address), key);
	if (map64_get(f->ids, key, &known)) {
		*ret = known;
		return 0;
	}
	r = RESERVE(f->frames, f->frames_allocated, f->n_frames, 1, FLAME_FRAMES_MAX);
	if (r >= 0)
		r = keep_name(f, name, &frame.name);
	if (r < 0)
		return r;
	f->frames[f->n_frames] = frame;
	*ret = f->n_frames++;
	return remember(f, key, *ret);
}

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
	return b > INT64_MAX - MIN(a, (uint64_t)INT64_MAX) ? INT64_MAX : a + b;
}

int flame_add(struct flame *f, const uint32_t *frames, size_t n, enum flame_side side, uint64_t value)
{
	struct flame_stack *s;
	int r;

	if (n > FLAME_DEPTH_MAX) {
		n = FLAME_DEPTH_MAX;
		f->cut++;
	}
	r = RESERVE(f->refs, f->refs_allocated, f->n_refs, n, FLAME_REFS_MAX);
	if (r >= 0)
		r = RESERVE(f->stacks, f->stacks_allocated, f->n_stacks, 1, FLAME_STACKS_MAX);
	if (r < 0)
		return r;
	s = &f->stacks[f->n_stacks++];
	*s = (struct flame_stack) { .first = f->n_refs, .n = n };
	s->value[side] = MIN(value, (uint64_t)INT64_MAX);
	if (n > 0)
		memcpy(f->refs + f->n_refs, frames, n * sizeof(*frames));
	f->n_refs += n;
	return 0;
}

void flame_scale(struct flame *f, enum flame_side side, double factor)
{
	for (size_t i = 0; i < f->n_stacks; i++) {
		double scaled = f->stacks[i].value[side] * factor + 0.5;

		f->stacks[i].value[side] = scaled < (double)INT64_MAX ? (uint64_t)scaled : INT64_MAX;
	}
}

/* ---- order ---- */

static int compare_frames(const void *a, const void *b, void *userdata)
{
	const struct flame *f = userdata;
	const struct flame_frame *x = &f->frames[*(const uint32_t *)a], *y = &f->frames[*(const uint32_t *)b];
	int c = strcmp(x->name, y->name);

	if (c == 0 && x->kind != y->kind)
		c = x->kind < y->kind ? -1 : 1;
	if (c == 0)
		c = strcmp(f->objects[x->object].name, f->objects[y->object].name);
	if (c == 0)
		c = strcmp(f->objects[x->object].build_id, f->objects[y->object].build_id);
	return c ? c : (x->address > y->address) - (x->address < y->address);
}

static int compare_stacks(const void *a, const void *b, void *userdata)
{
	const struct flame *f = userdata;
	const struct flame_stack *x = a, *y = b;
	size_t n = MIN(x->n, y->n);

	for (size_t i = 0; i < n; i++) {
		uint32_t p = f->refs[x->first + i], q = f->refs[y->first + i];

		if (p != q)
			return p < q ? -1 : 1;
	}
	return (x->n > y->n) - (x->n < y->n);
}

/* Puts the frames in the order of their names, so that stacks are compared by numbers. */
static int order_frames(struct flame *f)
{
	_cleanup_free_ uint32_t *order = malloc(f->n_frames * sizeof(*order));
	_cleanup_free_ uint32_t *rank = malloc(f->n_frames * sizeof(*rank));
	struct flame_frame *frames = malloc(f->n_frames * sizeof(*frames));

	if (!order || !rank || !frames) {
		free(frames);
		return -ENOMEM;
	}
	for (size_t i = 0; i < f->n_frames; i++)
		order[i] = i;
	/* "all" stays the first. */
	qsort_r(order + 1, f->n_frames - 1, sizeof(*order), compare_frames, f);
	for (size_t i = 0; i < f->n_frames; i++) {
		rank[order[i]] = i;
		frames[i] = f->frames[order[i]];
	}
	free(f->frames);
	f->frames = frames;
	f->frames_allocated = f->n_frames;
	for (size_t i = 0; i < f->n_refs; i++)
		f->refs[i] = rank[f->refs[i]];
	/* Their numbers are others now: nothing can be interned any more. */
	map64_clear(f->ids);
	return 0;
}

/* ---- the tree ---- */

static int add_node(struct flame *f, uint32_t frame, size_t depth, bool cold)
{
	int r;

	r = RESERVE(f->nodes, f->nodes_allocated, f->n_nodes, 1, FLAME_NODES_MAX);
	if (r < 0)
		return r;
	f->nodes[f->n_nodes++] = (struct flame_node) { .frame = frame, .depth = depth, .cold = cold };
	f->depth = MAX(f->depth, (uint16_t)depth);
	return 0;
}

/* Stacks are sorted, so each shares a path with the one before, and what follows is new. */
static int add_path(struct flame *f, const struct flame_stack *s, uint32_t *path, size_t *depth)
{
	size_t same = 0;
	int r;

	while (same < s->n && same < *depth && f->nodes[path[same + 1]].frame == f->refs[s->first + same])
		same++;
	for (size_t i = same; i < s->n; i++) {
		uint32_t frame = f->refs[s->first + i];

		r = add_node(f, frame, i + 1,
		             f->nodes[path[i]].cold || f->frames[frame].kind == FLAME_OFF_CPU);
		if (r < 0)
			return r;
		path[i + 1] = f->n_nodes - 1;
	}
	*depth = s->n;
	for (size_t side = 0; side < 2; side++) {
		uint64_t *self = &f->nodes[path[s->n]].self[side];

		*self = add_saturating(*self, s->value[side]);
	}
	return 0;
}

/* From the leaves to the root: a node's callees are all behind it. */
static int sum_up(struct flame *f)
{
	_cleanup_free_ uint32_t *parents = malloc(f->n_nodes * sizeof(*parents));
	uint32_t path[FLAME_DEPTH_MAX + 1] = {};

	if (!parents)
		return -ENOMEM;
	for (size_t i = 1; i < f->n_nodes; i++) {
		parents[i] = path[f->nodes[i].depth - 1];
		path[f->nodes[i].depth] = i;
	}
	for (size_t i = f->n_nodes; i-- > 0;) {
		struct flame_node *n = &f->nodes[i], *parent = i > 0 ? &f->nodes[parents[i]] : NULL;

		for (size_t side = 0; side < 2; side++)
			n->total[side] = add_saturating(n->total[side], n->self[side]);
		n->width = add_saturating(n->width, MAX(n->self[0], n->self[1]));
		n->end = MAX(n->end, (uint32_t)i + 1);
		if (!parent)
			break;
		for (size_t side = 0; side < 2; side++)
			parent->total[side] = add_saturating(parent->total[side], n->total[side]);
		parent->width = add_saturating(parent->width, n->width);
		parent->end = MAX(parent->end, n->end);
	}
	return 0;
}

int flame_build(struct flame *f)
{
	uint32_t path[FLAME_DEPTH_MAX + 1] = {};
	size_t depth = 0;
	int r;

	r = order_frames(f);
	if (r < 0)
		return r;
	if (f->n_stacks > 0)
		qsort_r(f->stacks, f->n_stacks, sizeof(*f->stacks), compare_stacks, f);
	r = add_node(f, 0, 0, false);
	for (size_t i = 0; r >= 0 && i < f->n_stacks; i++)
		if (f->stacks[i].value[0] > 0 || f->stacks[i].value[1] > 0)
			r = add_path(f, &f->stacks[i], path, &depth);
	if (r < 0)
		return r;
	free(f->stacks);
	free(f->refs);
	f->stacks = NULL;
	f->refs = NULL;
	f->n_stacks = f->stacks_allocated = f->n_refs = f->refs_allocated = 0;
	return sum_up(f);
}

int flame_each_stack(const struct flame *f, flame_stack_fn fn, void *userdata)
{
	uint32_t path[FLAME_DEPTH_MAX + 1];
	int r = 0;

	for (size_t i = 0; r == 0 && i < f->n_nodes; i++) {
		const struct flame_node *n = &f->nodes[i];

		if (n->depth > 0)
			path[n->depth - 1] = i;
		if (n->self[0] > 0 || n->self[1] > 0)
			r = fn(userdata, f, path, n->depth);
	}
	return r;
}

/* ---- what is told beside ---- */

void flame_meta_done(struct flame_meta *m)
{
	free(m->title);
	for (size_t i = 0; i < m->n_notes; i++)
		free(m->notes[i]);
	m->title = NULL;
	m->n_notes = 0;
}

int flame_meta_note(struct flame_meta *m, const char *format, ...)
{
	va_list args;
	int r;

	if (m->n_notes == ELEMENTS_OF(m->notes))
		return -ENOSPC;
	va_start(args, format);
	r = vasprintf(&m->notes[m->n_notes], format, args);
	va_end(args);
	if (r < 0)
		return -ENOMEM;
	m->n_notes++;
	return 0;
}

char *flame_format(char buf[static FORMAT_MAX], const struct flame_meta *m, uint64_t value)
{
	return format_metric(buf, m->metric, value);
}
