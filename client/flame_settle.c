/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stacks attribute time by samples and by chance; the kernel counts it. A picture of wall time shows what was
 * counted: too much is scaled down, and what is missing has a frame of its own. */
#include "flame.h"

enum { ON, OFF, STATES };

struct group {
	bool known;
	uint64_t exact[STATES], seen[STATES];
	uint64_t passed[STATES]; /* of seen, while scaling */
};

static enum flame_kind state_of(const struct flame *f, const struct flame_stack *s)
{
	return s->n >= 2 ? f->frames[f->refs[s->first + 1]].kind : FLAME_UNKNOWN;
}

static void see(struct flame *f, struct group *groups)
{
	for (size_t i = 0; i < f->n_stacks; i++) {
		const struct flame_stack *s = &f->stacks[i];
		enum flame_kind state = state_of(f, s);

		if (state == FLAME_ON_CPU || state == FLAME_OFF_CPU)
			groups[f->refs[s->first]].seen[state == FLAME_OFF_CPU] += s->value[FLAME_VALUE];
	}
}

/* Each stack gets the difference of two rounded sums, so that together they are exact. */
static uint64_t scale(struct group *g, int state, uint64_t value)
{
	uint64_t before = (unsigned __int128)g->passed[state] * g->exact[state] / g->seen[state];

	g->passed[state] += value;
	return (uint64_t)((unsigned __int128)g->passed[state] * g->exact[state] / g->seen[state]) - before;
}

static void scale_down(struct flame *f, struct group *groups)
{
	for (size_t i = 0; i < f->n_stacks; i++) {
		struct flame_stack *s = &f->stacks[i];
		enum flame_kind kind = state_of(f, s);
		struct group *g = s->n > 0 ? &groups[f->refs[s->first]] : NULL;
		int state = kind == FLAME_OFF_CPU;

		if ((kind == FLAME_ON_CPU || kind == FLAME_OFF_CPU) && g->known &&
		    g->seen[state] > g->exact[state])
			s->value[FLAME_VALUE] = scale(g, state, s->value[FLAME_VALUE]);
	}
}

static int fill(struct flame *f, struct group *groups, size_t n, struct flame_settled *settled)
{
	uint32_t path[3], states[STATES];
	int r;

	r = flame_intern(f, "[on-CPU]", "", FLAME_ON_CPU, &states[ON]);
	if (r >= 0)
		r = flame_intern(f, "[off-CPU]", "", FLAME_OFF_CPU, &states[OFF]);
	if (r >= 0)
		r = flame_intern(f, "[no stack]", "", FLAME_UNKNOWN, &path[2]);
	for (size_t i = 0; r >= 0 && i < n; i++)
		for (int state = ON; r >= 0 && state < STATES; state++) {
			const struct group *g = &groups[i];

			if (!g->known) {
				settled->unknown += g->seen[state];
				continue;
			}
			if (g->seen[state] >= g->exact[state]) {
				settled->over += g->seen[state] - g->exact[state];
				continue;
			}
			path[0] = i;
			path[1] = states[state];
			r = flame_add(f, path, ELEMENTS_OF(path), FLAME_VALUE, g->exact[state] - g->seen[state]);
			settled->without_stack += g->exact[state] - g->seen[state];
		}
	return r;
}

int flame_settle(struct flame *f, const struct flame_exact *exact, size_t n, struct flame_settled *ret)
{
	size_t n_frames = f->n_frames;
	_cleanup_free_ struct group *groups = calloc(n_frames, sizeof(*groups));
	struct flame_settled settled = {};
	int r;

	if (!groups)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct group *g = &groups[exact[i].process];

		g->known = true;
		g->exact[ON] += exact[i].on;
		g->exact[OFF] += exact[i].off;
	}
	see(f, groups);
	scale_down(f, groups);
	r = fill(f, groups, n_frames, &settled);
	if (r >= 0)
		*ret = settled;
	return r;
}
