/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "growth.h"

#include <math.h>

static const uint32_t block_ticks[GROWTH_SCALES] = { 16, 64, 256 };

#define LEVEL_MAX (1LL << 60)      /* no machine has that much */
/* Programs that have just started fill their caches: the longer a unit is known, the more it is news, up to here. */
#define STRETCHES_YOUNG 8.0f
#define STRETCHES_MAX 512.0f
#define SLOWED 0.5                 /* what fills itself: the newer part's rate in proportion to the older's */
#define HIGHER 1.41f
#define GOES_ON_BLOCKS 4

static const struct window_scale {
	uint32_t ticks, blocks;
} window_scales[GROWTH_WINDOWS] = { { 32, 8 }, { 64, 4 } };

#define WINDOW_LEARNS 8             /* blocks until what lasts counts for twice as usual */
#define WINDOW_FADE_TICKS 14400.0   /* what a program needs when it has started is not what it needs later */
#define FADE_BLOCKS (86400.0 / 16) /* a day, in blocks of the shortest row */

static void end_row(struct growth *g, struct growth_row *row)
{
	if (row->blocks >= GROWTH_BLOCKS) {
		g->ended = MAX(g->ended, row->before);
		g->most = MAX(g->most, row->before - row->from);
	}
	row->blocks = 0;
	row->news = 0;
}

static void lengthen(struct growth_row *row, uint32_t tick, uint32_t block)
{
	if (row->blocks++ > 0)
		return;
	row->from = row->middle = row->before;
	row->begun = row->halved = tick - MIN(block, tick - 1);
}

static bool is_steady(const struct growth_row *row, uint32_t tick)
{
	double older = (double)(row->middle - row->from) / MAX(row->halved - row->begun, 1u);
	double newer = (double)(row->least - row->middle) / MAX(tick - row->halved, 1u);

	return newer >= SLOWED * older;
}

static bool is_doubled(const struct growth_row *row)
{
	return row->blocks >= GROWTH_BLOCKS / 2 && (row->blocks & (row->blocks - 1)) == 0;
}

static float score(const struct growth *g, const struct growth_row *row, uint32_t tick, uint32_t block, int64_t little)
{
	int64_t grown = row->least - MAX(row->from, g->ended), most = MAX(MAX(g->most, little), (int64_t)1);
	float stretches = MIN((float)(tick - g->first) / (float)(GROWTH_BLOCKS * block), STRETCHES_MAX);

	if (row->blocks < GROWTH_BLOCKS || grown <= 0 || !is_steady(row, tick))
		return 0;
	return logf(stretches + 1) * (float)grown / (float)most;
}

static bool end_block(struct growth *g, struct growth_row *row, uint32_t tick, uint32_t block, int64_t little, struct growth_news *ret,
		      uint32_t *tests)
{
	bool news;
	float s;

	if (row->least > row->before)
		lengthen(row, tick, block);
	else
		end_row(g, row);
	(*tests)++;
	s = score(g, row, tick, block, little);
	news = s > 0 && s >= HIGHER * row->news;
	if (news) {
		row->news = s;
		*ret = (struct growth_news){
			.s = s,
			.rate = (float)(row->least - row->from) / (float)(tick - row->begun),
			.begun = row->begun,
		};
	}
	if (is_doubled(row)) {
		row->middle = row->least;
		row->halved = tick;
	}
	row->before = row->least;
	row->least = g->level;
	return news;
}

static int64_t *back(struct growth_window *w, uint32_t block, uint32_t ago)
{
	return &w->leasts[(block - ago) % (GROWTH_WINDOW_BLOCKS + 1)];
}

/* What was added in the window, if it grew in each block and the newer half not much more slowly than the older. */
static int64_t added(const struct growth *g, struct growth_window *w, uint32_t block, uint32_t blocks)
{
	int64_t newest = *back(w, block, 0), middle = *back(w, block, blocks / 2), oldest = *back(w, block, blocks);

	if (w->blocks < blocks || (double)(newest - middle) < SLOWED * (double)(middle - oldest))
		return 0;
	return MAX(newest - MAX(oldest, g->ended), (int64_t)0);
}

static bool end_window_block(struct growth *g, struct growth_window *w, uint32_t tick, const struct window_scale *scale, int64_t little,
			     struct growth_news *ret)
{
	uint32_t block = tick / scale->ticks, length = scale->ticks * scale->blocks;
	float n = logf(MIN((float)(tick - g->first) / (float)length, STRETCHES_MAX) + 1);
	int64_t grown, most;
	float s = 0;

	w->blocks = w->least > *back(w, block, 1) ? w->blocks + 1 : 0;
	*back(w, block, 0) = w->least;
	w->least = g->level;
	grown = added(g, w, block, scale->blocks);
	if (!w->blocks) {
		w->most = MAX(w->most, w->peak);
		w->peak = 0;
		w->news = 0;
	}
	most = MAX(w->most, little);
	if (grown > 0)
		s = n * (float)grown / (float)MAX(most, (int64_t)1);
	/* What lasts is learnt slowly. */
	w->peak = MAX(w->peak, grown);
	if (grown > w->most)
		w->most = MIN(grown, w->most + most / WINDOW_LEARNS);
	w->most -= (int64_t)((double)w->most * scale->ticks / WINDOW_FADE_TICKS);
	if (s <= 0 || s < HIGHER * w->news)
		return false;
	w->news = s;
	*ret = (struct growth_news){ .s = s, .rate = (float)grown / (float)length, .begun = tick - length };
	return true;
}

static void fade(struct growth *g)
{
	g->ended -= (int64_t)((double)MAX(g->ended - g->level, (int64_t)0) / FADE_BLOCKS);
	g->most -= (int64_t)((double)g->most / FADE_BLOCKS);
}

void growth_move(struct growth *g, int64_t change)
{
	change = MAX(MIN(change, (int64_t)LEVEL_MAX), (int64_t)-LEVEL_MAX);
	g->level = MAX(MIN(g->level + change, (int64_t)LEVEL_MAX), (int64_t)-LEVEL_MAX);
}

bool growth_tick(struct growth *g, uint32_t tick, int64_t little, struct growth_news *ret, uint32_t *tests)
{
	bool news = false;

	if (!g->first) {
		g->first = tick;
		for (unsigned i = 0; i < GROWTH_SCALES; i++)
			g->rows[i].least = g->rows[i].before = g->level;
		for (unsigned i = 0; i < GROWTH_WINDOWS; i++) {
			struct growth_window *w = &g->windows[i];

			w->least = g->level;
			for (unsigned k = 0; k <= GROWTH_WINDOW_BLOCKS; k++)
				w->leasts[k] = g->level;
		}
	}
	for (unsigned i = 0; i < GROWTH_SCALES; i++) {
		struct growth_row *row = &g->rows[i];

		row->least = MIN(row->least, g->level);
		if (tick % block_ticks[i] == 0)
			news |= end_block(g, row, tick, block_ticks[i], little, ret, tests);
	}
	for (unsigned i = 0; i < GROWTH_WINDOWS; i++) {
		struct growth_window *w = &g->windows[i];
		struct growth_news of_window;

		w->least = MIN(w->least, g->level);
		if (tick % window_scales[i].ticks != 0)
			continue;
		(*tests)++;
		if (end_window_block(g, w, tick, &window_scales[i], little, &of_window) && (!news || of_window.s > ret->s)) {
			*ret = of_window;
			news = true;
		}
	}
	if (tick % block_ticks[0] == 0)
		fade(g);
	return news;
}

float growth_rate(const struct growth *g, uint32_t tick)
{
	if (!g->first || tick - g->first < GOES_ON_BLOCKS * block_ticks[0])
		return -1;
	for (unsigned i = GROWTH_SCALES; i-- > 0;) {
		const struct growth_row *row = &g->rows[i];

		if (row->blocks >= GOES_ON_BLOCKS)
			return (float)(row->before - row->from) / (float)MAX(tick - tick % block_ticks[i] - row->begun, 1u);
	}
	return 0;
}

static bool in_range(int64_t level)
{
	return level >= -LEVEL_MAX && level <= LEVEL_MAX;
}

bool growth_valid(const struct growth *g, uint32_t tick)
{
	if (!in_range(g->level) || !in_range(g->ended) || !in_range(g->most) || g->first > tick)
		return false;
	for (unsigned i = 0; i < GROWTH_SCALES; i++) {
		const struct growth_row *row = &g->rows[i];

		if (!in_range(row->least) || !in_range(row->before) || !in_range(row->from) || !in_range(row->middle) || row->begun > tick ||
		    row->halved > tick || row->halved < row->begun || !isfinite(row->news))
			return false;
	}
	for (unsigned i = 0; i < GROWTH_WINDOWS; i++) {
		const struct growth_window *w = &g->windows[i];

		for (unsigned k = 0; k <= GROWTH_WINDOW_BLOCKS; k++)
			if (!in_range(w->leasts[k]))
				return false;
		if (!in_range(w->least) || !in_range(w->most) || !in_range(w->peak) || !isfinite(w->news))
			return false;
	}
	return true;
}

void growth_forget_level(struct growth *g)
{
	struct growth new = { .ended = g->ended, .most = g->most };

	for (unsigned i = 0; i < GROWTH_WINDOWS; i++)
		new.windows[i].most = g->windows[i].most;
	*g = new;
}
