/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "compare.h"

/* Frames of one name are one function: the first of them stands for all. */
struct named {
	const char *name;
	uint32_t frame;
};

struct adding {
	struct comparison *to;
	enum compare_side side;
	uint64_t *self, *with_callees; /* by frame */
	uint32_t *last_stack;          /* by frame: in which it was counted last, plus 1 */
	const char **names;            /* by frame */
	uint32_t *functions;           /* by frame: the frame that stands for it */
	uint32_t stack;
	int error;
};

static void add_root(struct comparison *c, const char *name)
{
	const char **more;

	for (size_t i = 0; i < c->n_roots; i++)
		if (streq(c->roots[i], name))
			return;
	more = reallocarray(c->roots, c->n_roots + 1, sizeof(*more));
	if (!more)
		return; /* perf's stacks from there count as not whole */
	c->roots = more;
	c->roots[c->n_roots++] = name;
}

static bool is_root(const struct comparison *c, const char *name)
{
	for (size_t i = 0; i < c->n_roots; i++)
		if (streq(c->roots[i], name))
			return true;
	return false;
}

/* path begins with the process. */
static bool is_whole(struct adding *a, const char *outermost)
{
	if (a->side == COMPARE_PERF)
		return is_root(a->to, outermost);
	if (streq(outermost, "[truncated]"))
		return false;
	add_root(a->to, outermost);
	return true;
}

static int add_stack(void *userdata, const struct flame *f, const uint32_t *path, size_t n)
{
	struct adding *a = userdata;
	uint64_t value = f->nodes[path[n - 1]].self[FLAME_VALUE];

	a->stack++;
	a->to->total[a->side] += value;
	a->self[f->nodes[path[n - 1]].frame] += value;
	if (n < 2 || !is_whole(a, a->names[f->nodes[path[1]].frame]))
		return 0;
	a->to->whole[a->side] += value;
	for (size_t i = 1; i < n; i++) {
		uint32_t frame = a->functions[f->nodes[path[i]].frame];

		if (a->last_stack[frame] != a->stack)
			a->with_callees[frame] += value;
		a->last_stack[frame] = a->stack;
	}
	return 0;
}

/* "[libc.so.6+0x2718a]" is "[libc.so.6]": the two may give another address of the same code. */
static char *plain_name(const char *name)
{
	const char *plus = name[0] == '[' ? strstr(name, "+0x") : NULL;
	char *plain = NULL;

	if (!plus)
		return strdup(name);
	return asprintf(&plain, "%.*s]", (int)(plus - name), name) < 0 ? NULL : plain;
}

/* Sums become shares in compare_finish(): all flames of a side are one whole. */
static int keep(struct comparison *c, const struct adding *a, size_t n)
{
	struct compare_function *more = reallocarray(c->functions, c->n + n, sizeof(*more));

	if (!more)
		return -ENOMEM;
	c->functions = more;
	for (size_t i = 0; i < n; i++) {
		struct compare_function f = { .name = a->names[i] };

		f.self[a->side] = (double)a->self[i];
		f.with_callees[a->side] = (double)a->with_callees[i];
		c->functions[c->n++] = f;
	}
	return 0;
}

static int keep_names(struct comparison *c, const struct flame *f, const char **ret)
{
	char **more = reallocarray(c->names, c->n_names + f->n_frames, sizeof(*more));

	if (!more)
		return -ENOMEM;
	c->names = more;
	for (size_t i = 0; i < f->n_frames; i++) {
		char *name = plain_name(f->frames[i].name);

		if (!name)
			return -ENOMEM;
		ret[i] = c->names[c->n_names++] = name;
	}
	return 0;
}

static int by_named(const void *a, const void *b)
{
	return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static int find_functions(const char *const *names, size_t n, uint32_t *ret)
{
	_cleanup_free_ struct named *sorted = calloc(n + 1, sizeof(*sorted));

	if (!sorted)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		sorted[i] = (struct named){ names[i], i };
	qsort(sorted, n, sizeof(*sorted), by_named);
	for (size_t i = 0; i < n; i++)
		ret[sorted[i].frame] = i > 0 && streq(sorted[i].name, sorted[i - 1].name) ? ret[sorted[i - 1].frame] : sorted[i].frame;
	return 0;
}

int compare_add(struct comparison *c, enum compare_side side, const struct flame *f)
{
	_cleanup_free_ uint64_t *self = calloc(f->n_frames + 1, sizeof(*self)), *with_callees = calloc(f->n_frames + 1, sizeof(*with_callees));
	_cleanup_free_ uint32_t *last_stack = calloc(f->n_frames + 1, sizeof(*last_stack)), *functions = calloc(f->n_frames + 1, sizeof(*functions));
	_cleanup_free_ const char **names = calloc(f->n_frames + 1, sizeof(*names));
	struct adding a = { .to = c, .side = side, .self = self, .with_callees = with_callees, .last_stack = last_stack, .names = names,
		            .functions = functions };
	int r = self && with_callees && last_stack && functions && names ? keep_names(c, f, names) : -ENOMEM;

	if (r >= 0)
		r = find_functions(names, f->n_frames, functions);
	if (r >= 0)
		r = flame_each_stack(f, add_stack, &a);
	return r < 0 ? r : keep(c, &a, f->n_frames);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct compare_function *)a)->name, ((const struct compare_function *)b)->name);
}

static double largest(const struct compare_function *f)
{
	return MAX(MAX(f->self[COMPARE_STACKD], f->self[COMPARE_PERF]), MAX(f->with_callees[COMPARE_STACKD], f->with_callees[COMPARE_PERF]));
}

static int by_share(const void *a, const void *b)
{
	const struct compare_function *f = a, *g = b;
	double x = MAX(f->self[COMPARE_STACKD], f->self[COMPARE_PERF]), y = MAX(g->self[COMPARE_STACKD], g->self[COMPARE_PERF]);

	if (x < y || x > y)
		return x < y ? 1 : -1;
	x = largest(f);
	y = largest(g);
	return x < y ? 1 : x > y ? -1 : by_name(a, b);
}

void compare_finish(struct comparison *c)
{
	size_t kept = 0;

	qsort(c->functions, c->n, sizeof(*c->functions), by_name);
	for (size_t i = 0; i < c->n; i++) {
		struct compare_function *last = kept > 0 ? &c->functions[kept - 1] : NULL;

		if (!last || !streq(last->name, c->functions[i].name)) {
			c->functions[kept++] = c->functions[i];
			continue;
		}
		for (enum compare_side s = 0; s < COMPARE_SIDES; s++) {
			last->self[s] += c->functions[i].self[s];
			last->with_callees[s] += c->functions[i].with_callees[s];
		}
	}
	c->n = kept;
	for (size_t i = 0; i < kept; i++)
		for (enum compare_side s = 0; s < COMPARE_SIDES; s++) {
			c->functions[i].self[s] /= (double)MAX(c->total[s], (uint64_t)1);
			c->functions[i].with_callees[s] /= (double)MAX(c->whole[s], (uint64_t)1);
		}
	qsort(c->functions, kept, sizeof(*c->functions), by_share);
}

void compare_done(struct comparison *c)
{
	for (size_t i = 0; i < c->n_names; i++)
		free(c->names[i]);
	free(c->names);
	free(c->roots);
	free(c->functions);
	*c = (struct comparison){};
}
