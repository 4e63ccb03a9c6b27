/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "growers.h"

#define FRAMES_MAX 176
#define GOES_ON 0.5 /* of a frame's net growth, that one of those which it calls must have */

struct grower {
	store_ref stack, process;
	uint64_t series_id;
	int64_t bytes;
	uint32_t depth;
	uint64_t frames[FRAMES_MAX]; /* ids, outermost first */
};

struct growers {
	size_t n;
	struct grower all[GROWERS_MAX];
};

int growers_new(struct growers **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

struct growers *growers_free(struct growers *g)
{
	free(g);
	return NULL;
}

static uint64_t magnitude(int64_t bytes)
{
	return bytes < 0 ? 0 - (uint64_t)bytes : (uint64_t)bytes;
}

void growers_add(struct growers *g, const struct store_slice_sum *sum, int64_t bytes)
{
	size_t at = g->n;

	if (g->n < GROWERS_MAX)
		g->n++;
	else {
		at = 0;
		for (size_t i = 1; i < g->n; i++)
			if (magnitude(g->all[i].bytes) < magnitude(g->all[at].bytes))
				at = i;
		if (magnitude(bytes) <= magnitude(g->all[at].bytes))
			return;
	}
	g->all[at].stack = sum->stack;
	g->all[at].process = sum->process;
	g->all[at].series_id = sum->series_id;
	g->all[at].bytes = bytes;
}

static void read_frames(struct grower *w, const struct store *store)
{
	struct store_frame frames[FRAMES_MAX];
	bool truncated;
	uint64_t id;
	size_t n;

	w->depth = 0;
	if (store_get_stack(store, w->stack, &id, &truncated, frames, FRAMES_MAX, &n) < 0)
		return;
	w->depth = (uint32_t)MIN(n, (size_t)FRAMES_MAX);
	for (uint32_t i = 0; i < w->depth; i++)
		w->frames[i] = frames[w->depth - 1 - i].id;
}

/* Puts those that go on by this frame first. Gives how many they are. */
static size_t go_on(struct growers *g, size_t n, uint32_t depth, uint64_t frame)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		struct grower swap;

		if (g->all[i].depth <= depth || g->all[i].frames[depth] != frame)
			continue;
		swap = g->all[kept];
		g->all[kept++] = g->all[i];
		g->all[i] = swap;
	}
	return kept;
}

static int64_t net_of(const struct growers *g, size_t n, uint32_t depth, uint64_t frame)
{
	int64_t net = 0;

	for (size_t i = 0; i < n; i++)
		if (g->all[i].depth > depth && g->all[i].frames[depth] == frame)
			net += g->all[i].bytes;
	return net;
}

bool growers_find(struct growers *g, const struct store *store, struct store_series *ret)
{
	size_t n = g->n, most = 0;
	int64_t net = 0;

	for (size_t i = 0; i < n; i++) {
		read_frames(&g->all[i], store);
		net += g->all[i].bytes;
	}
	if (net <= 0)
		return false;
	for (uint32_t depth = 0; depth < FRAMES_MAX; depth++) {
		int64_t best = 0;
		uint64_t frame = 0;

		for (size_t i = 0; i < n; i++) {
			int64_t of_frame;

			if (g->all[i].depth <= depth || g->all[i].bytes <= 0 || g->all[i].frames[depth] == frame)
				continue;
			of_frame = net_of(g, n, depth, g->all[i].frames[depth]);
			if (of_frame > best) {
				best = of_frame;
				frame = g->all[i].frames[depth];
			}
		}
		if ((double)best < GOES_ON * (double)net)
			break;
		net = best;
		n = go_on(g, n, depth, frame);
	}
	for (size_t i = 1; i < n; i++)
		if (g->all[i].bytes > g->all[most].bytes)
			most = i;
	*ret = (struct store_series){ .id = g->all[most].series_id, .stack = g->all[most].stack, .top_process = g->all[most].process };
	return g->all[most].bytes > 0;
}
