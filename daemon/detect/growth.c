/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "growth.h"

#include <math.h>

#define FELL_TICKS 64 /* less is a heap that is collected */
static const uint32_t block_ticks[GROWTH_SCALES] = { 16, FELL_TICKS, 256 };

#define LEVEL_MAX (1LL << 60)      /* no machine has that much */
#define STRETCH 256.0f             /* ticks */
#define STRETCHES_MAX 512.0f       /* the longer a unit is known, the more a growth is news, up to here */
#define STRETCHES_MIN 8.0f         /* but of what has just been seen first some growth is news, to a large budget */
#define OWN_PART (1.0f / 8)        /* of the time that it lasts a growth becomes news by itself */
#define SLOWED 0.5                 /* what fills itself: the newer part's rate in proportion to the older's */
#define HIGHER 1.02f
#define GOES_ON_BLOCKS 4
/* What grows in so large a part of the windows is never done. How much it adds is known this well. */
#define GROWS_PART 0.75f
#define GROWS_STRETCHES 8.0f
#define SPREAD_MIN 0.15f
#define SPREAD_YOUNG 1.5f
#define FAR 4.0f                   /* times the usual */

static const struct window_scale {
	uint32_t ticks, blocks;
} window_scales[GROWTH_WINDOWS] = { { 32, 8 }, { 64, 4 } };

#define WINDOW_LEARNS 8             /* blocks until what lasts counts for twice as usual */
#define WINDOW_FADE_TICKS 7200.0f  /* what a program needs when it has started is not what it needs later */
#define FADE_BLOCKS (86400.0 / 16) /* a day, in blocks of the shortest row */

static float ln_stretches(float n)
{
	return logf(MAX(MIN(n, STRETCHES_MAX), STRETCHES_MIN) + 1);
}

static void note(struct growth_news *ret, float *news, float s, int64_t grown, uint32_t ticks, uint32_t begun)
{
	if (s <= 0 || s < HIGHER * *news)
		return;
	*news = s;
	if (s <= ret->s)
		return;
	ret->s = s;
	ret->rate = (float)grown / (float)ticks;
	ret->begun = begun;
}

/* What of a growth was news in a row or a window that is over. */
struct ended {
	float s;
	uint32_t begun;
};

static void end_news(struct ended *ended, float *news, uint32_t begun)
{
	if (*news > 0) {
		ended->begun = ended->s > 0 ? MIN(ended->begun, begun) : begun;
		ended->s = MAX(ended->s, *news);
	}
	*news = 0;
}

static bool goes_on(const struct growth *g)
{
	bool news = false;

	for (unsigned i = 0; i < GROWTH_SCALES; i++)
		news |= g->rows[i].news > 0;
	for (unsigned i = 0; i < GROWTH_WINDOWS; i++)
		news |= g->windows[i].news > 0;
	return news;
}

static void tell_over(struct growth *g, struct growth_news *ret)
{
	ret->over = g->over;
	ret->over_usual = g->over_usual;
	g->over = g->over_usual = 0;
}

/* Of an s, as a growth that began so soon has it: by what was known of the unit, however little. */
static float known_part(const struct growth *g, uint32_t begun, uint32_t tick)
{
	float known = ((float)(begun - MIN(g->first, begun)) + OWN_PART * (float)(tick - begun)) / STRETCH;

	return known < STRETCHES_MIN ? logf(known + 1) / ln_stretches(known) : 1;
}

/* Rows and windows that have time in common are of the same growth. A long one may go on while others begin and end. */
static void end_growth(struct growth *g, uint32_t tick, const struct ended *ended, struct growth_news *ret)
{
	if (ended->s > 0) {
		if (ended->begun >= g->over_at)
			tell_over(g, ret);
		g->over = MAX(g->over, ended->s);
		g->over_usual = MAX(g->over_usual, ended->s * known_part(g, ended->begun, tick));
		g->over_at = tick;
	}
	if (!ret->over && !goes_on(g))
		tell_over(g, ret);
}

static void end_row(struct growth *g, struct growth_row *row, struct ended *ended)
{
	if (row->blocks >= GROWTH_BLOCKS) {
		g->ended = MAX(g->ended, row->before);
		/* What it needs once it has been started says nothing of how it goes on. */
		if (row->begun > g->first + GROWTH_BLOCKS)
			g->most = MAX(g->most, row->before - row->from);
	}
	row->blocks = 0;
	end_news(ended, &row->news, row->begun);
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

static float rise(int64_t added, int64_t most, int64_t little)
{
	return added > most ? logf((float)(added + little) / (float)(most + little)) : 0;
}

static float score(const struct growth *g, const struct growth_row *row, uint32_t tick, uint32_t block, int64_t little)
{
	int64_t grown = row->least - MAX(row->from, g->ended);
	float before = (float)(row->begun - MIN(g->first, row->begun)) + OWN_PART * (float)(tick - row->begun);

	if (row->blocks < GROWTH_BLOCKS || grown <= g->most || !is_steady(row, tick))
		return 0;
	return ln_stretches(before / (float)(GROWTH_BLOCKS * block)) * (1 + rise(grown, g->most, little));
}

static void end_block(struct growth *g, struct growth_row *row, uint32_t tick, uint32_t block, int64_t little, struct growth_news *ret,
		      struct ended *ended)
{
	if (row->least > row->before)
		lengthen(row, tick, block);
	else
		end_row(g, row, ended);
	if (block == FELL_TICKS && row->least < row->before / 2)
		g->fell = MAX(g->fell, row->before);
	note(ret, &row->news, score(g, row, tick, block, little), row->least - row->from, tick - row->begun, row->begun);
	if (is_doubled(row)) {
		row->middle = row->least;
		row->halved = tick;
	}
	row->before = row->least;
	row->least = g->level;
}

static int64_t *back(struct growth_window *w, uint32_t block, uint32_t ago)
{
	return &w->leasts[(block - ago) % (GROWTH_WINDOW_BLOCKS + 1)];
}

/* What was added in the window, if it grew in each block and the newer half not much more slowly than the older. */
static int64_t added(struct growth_window *w, uint32_t block, uint32_t blocks)
{
	int64_t newest = *back(w, block, 0), middle = *back(w, block, blocks / 2), oldest = *back(w, block, blocks);

	if (w->blocks < blocks || (double)(newest - middle) < SLOWED * (double)(middle - oldest))
		return 0;
	return newest - oldest;
}

static float score_window(const struct growth *g, struct growth_window *w, uint32_t block, uint32_t blocks, int64_t grown, float n,
			  int64_t little)
{
	int64_t beyond = grown - MAX(MAX(g->ended, g->fell) - *back(w, block, blocks), (int64_t)0), most = MAX(w->most, (int64_t)w->moves);
	float grew = MIN(n * w->grows, STRETCHES_MAX), own = rise(w->most, (int64_t)w->usual, little);
	float spread = MAX(own, SPREAD_MIN + SPREAD_YOUNG / (1 + grew / GROWS_STRETCHES));

	if (w->grows >= GROWS_PART)
		return ln_stretches(n) * rise(grown, w->most, little) / spread;
	if (beyond <= most)
		return 0;
	return MAX(ln_stretches(n) * (1 + rise(beyond, most, little)), logf(grew + 1) * rise(beyond, w->most, little) / spread);
}

static void learn_window(struct growth_window *w, uint32_t ticks, int64_t grown, int64_t moved, float windows, int64_t little)
{
	float known = MIN((float)grown, FAR * w->usual + (float)little), memory = MIN(windows + 1, WINDOW_FADE_TICKS / (float)ticks);

	w->moves += (MIN((float)llabs(moved), FAR * w->moves + (float)little) - w->moves) / memory;
	w->grows += ((float)(grown > 0) - w->grows) / memory;
	if (grown > 0)
		w->usual += (known - w->usual) / MIN(windows * w->grows + 1, memory);
	w->peak = MAX(w->peak, grown);
	/* What lasts is learnt slowly. */
	if (grown > w->most)
		w->most = MIN(grown, w->most + MAX(w->most, little) / WINDOW_LEARNS);
	w->most -= (int64_t)((float)w->most * (float)ticks / WINDOW_FADE_TICKS);
}

static void end_window_block(const struct growth *g, struct growth_window *w, uint32_t tick, const struct window_scale *scale, int64_t little,
			     struct growth_news *ret, struct ended *ended)
{
	uint32_t block = tick / scale->ticks, length = scale->ticks * scale->blocks, begun = tick - MIN((w->blocks + 1) * scale->ticks, tick);
	int64_t grown;
	float s = 0;

	w->blocks = w->least > *back(w, block, 1) ? w->blocks + 1 : 0;
	*back(w, block, 0) = w->least;
	w->least = g->level;
	grown = added(w, block, scale->blocks);
	if (!w->blocks) {
		w->most = MAX(w->most, w->peak);
		w->peak = 0;
		end_news(ended, &w->news, begun);
	}
	if (grown > 0)
		s = score_window(g, w, block, scale->blocks, grown, (float)(tick - g->first) / (float)length, little);
	learn_window(w, scale->ticks, grown, *back(w, block, 0) - *back(w, block, scale->blocks), (float)(tick - g->first) / (float)scale->ticks, little);
	note(ret, &w->news, s, grown, length, tick - length);
}

static void fade(struct growth *g)
{
	g->fell -= (int64_t)((double)MAX(g->fell - g->level, (int64_t)0) / FADE_BLOCKS);
	g->ended -= (int64_t)((double)MAX(g->ended - g->level, (int64_t)0) / FADE_BLOCKS);
	g->most -= (int64_t)((double)g->most / FADE_BLOCKS);
}

void growth_move(struct growth *g, int64_t change)
{
	change = MAX(MIN(change, (int64_t)LEVEL_MAX), (int64_t)-LEVEL_MAX);
	g->level = MAX(MIN(g->level + change, (int64_t)LEVEL_MAX), (int64_t)-LEVEL_MAX);
}

void growth_tick(struct growth *g, uint32_t tick, int64_t little, struct growth_news *ret, uint32_t *tests)
{
	struct ended ended = { 0 };

	*ret = (struct growth_news){ 0 };
	if (!g->first)
		g->first = tick;
	if (!g->begun) {
		g->begun = tick;
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
		if (tick % block_ticks[i] != 0)
			continue;
		end_block(g, row, tick, block_ticks[i], little, ret, &ended);
		(*tests)++;
	}
	for (unsigned i = 0; i < GROWTH_WINDOWS; i++) {
		struct growth_window *w = &g->windows[i];

		w->least = MIN(w->least, g->level);
		if (tick % window_scales[i].ticks != 0)
			continue;
		end_window_block(g, w, tick, &window_scales[i], little, ret, &ended);
		(*tests)++;
	}
	if (tick % block_ticks[0] != 0)
		return;
	end_growth(g, tick, &ended, ret);
	fade(g);
}

float growth_rate(const struct growth *g, uint32_t tick)
{
	if (!g->begun || tick - g->begun < GOES_ON_BLOCKS * block_ticks[0])
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
	if (!in_range(g->level) || !in_range(g->ended) || !in_range(g->most) || !in_range(g->fell) || g->first > tick || g->begun > tick || g->over_at > tick ||
	    !isfinite(g->over + g->over_usual) || (g->begun && !g->first))
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
		if (!in_range(w->least) || !in_range(w->most) || !in_range(w->peak) || !isfinite(w->news + w->usual + w->grows + w->moves))
			return false;
	}
	return true;
}

void growth_forget_level(struct growth *g)
{
	struct growth new = { .ended = g->ended, .most = g->most, .fell = g->fell, .first = g->first };

	for (unsigned i = 0; i < GROWTH_WINDOWS; i++) {
		new.windows[i].most = g->windows[i].most;
		new.windows[i].usual = g->windows[i].usual;
		new.windows[i].grows = g->windows[i].grows;
		new.windows[i].moves = g->windows[i].moves;
	}
	*g = new;
}

/* Windows of as many ticks add as much as ever in the time; what has been added in those that are not over says nothing of it. */
void growth_change_length(struct growth *g, float times)
{
	for (unsigned i = 0; i < GROWTH_SCALES; i++) {
		g->rows[i].blocks = 0;
		g->rows[i].news = 0;
	}
	for (unsigned i = 0; i < GROWTH_WINDOWS; i++) {
		struct growth_window *w = &g->windows[i];

		w->most = (int64_t)MIN((double)w->most * (double)times, (double)LEVEL_MAX);
		w->peak = (int64_t)MIN((double)w->peak * (double)times, (double)LEVEL_MAX);
		w->usual *= times;
		w->moves *= times;
		w->news = 0;
		w->blocks = 0;
		w->least = g->level;
		for (unsigned k = 0; k <= GROWTH_WINDOW_BLOCKS; k++)
			w->leasts[k] = g->level;
	}
}
