/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that grows and is not given back: of how much of it a unit has, in all.
 *
 *   level ─┬▶ its least in every block of 16, 64 and 256 ticks ─▶ is each above the one before, 16 times in a row?
 *          └▶ in 8 blocks of 32 and 4 of 64 ticks ─▶ what was added in these 256 ticks, if each is above the one before?
 *
 * What comes and goes does so within a block, or ends the row: a level that wanders without aim gets as far once in
 * 2^16 times. What was added, above the highest level that an earlier growth came to before it ended (a cache that is
 * full, what a program needs once it has started), is compared with the most that any growth of this unit came to:
 *
 *     s = ln(1 + n) * (1 + ln((added + little) / (most + little)))
 *
 * little: to the machine. n: stretches of as many ticks for which the unit had been seen before, of which the most is. What has grown since
 * it was seen first has nothing before it, since programs that have just started fill their caches; but n is taken for 8 at least.
 * And only as long as the newer part of the growth is not much slower than the older: what fills itself slows down.
 *
 * Memory that grows most of the time, as a heap does until it is collected, is never done growing. By how much it does in 256 ticks is
 * compared with what it usually does:
 *
 *     s = ln(1 + n) * ln(added / most) / max(ln(most / usual), spread)           little added to each
 *
 * So is by how much one grows that does so in some windows only, n being these; it is news by whichever is more.
 *
 * A growth that is over is one experience, of the highest s that it had in any row or window; and where it began before the unit was known for 8
 * stretches, of an s with as many as it was known for: else what programs need when they are started would be taken for what
 * known ones do now and then. */
#pragma once

#include "base.h"

/* A level that grows all the time has a row without end: windows tell when it grows faster. */
#define GROWTH_WINDOWS 2
#define GROWTH_WINDOW_BLOCKS 8
#define GROWTH_SCALES 3
#define GROWTH_BLOCKS 16 /* in a row */

struct growth_row {
	int64_t least;          /* of the block that is not over, bytes */
	int64_t before;         /* of the last one that is */
	int64_t from, middle;   /* where the row began; where it was at the last doubling of its length */
	uint32_t begun, halved; /* in which ticks that was */
	uint32_t blocks;        /* that it has; 0: the last one did not grow */
	float news;             /* the highest s in this row that was news */
};

struct growth_window {
	int64_t least; /* of the block that is not over */
	int64_t leasts[GROWTH_WINDOW_BLOCKS + 1]; /* of those that are, a ring */
	int64_t most;  /* that was added in such a window; fades */
	int64_t peak;  /* the same while it grows */
	float usual;   /* mean of what is added in those that grow, bytes */
	float grows;   /* the part of them that do */
	float moves;   /* mean of by how much the level changes in one, up or down */
	float news;    /* the highest s while it grows */
	uint32_t blocks; /* in which it has grown, one after the other */
};

struct growth {
	int64_t level;       /* bytes */
	int64_t ended;       /* the highest level at which a growth has ended; fades */
	int64_t most;        /* that a growth came to which has ended; fades */
	int64_t fell;        /* the highest level from which it fell by more than half, as when a program is started anew; fades */
	uint32_t first;      /* tick in which it was seen first; 0 = not yet */
	uint32_t begun;      /* tick from which on its level is known; 0 = it is not */
	float over;          /* the highest s of the growth that has ended last, as long as a part of it may go on */
	float over_usual;    /* the same, as growth_news has it */
	uint32_t over_at;    /* tick in which its last part so far has ended */
	struct growth_row rows[GROWTH_SCALES];
	struct growth_window windows[GROWTH_WINDOWS];
};

struct growth_news {
	float s;        /* 0: none */
	float rate;     /* bytes a tick */
	uint32_t begun; /* tick */
	float over;     /* the highest s of a growth that is over; 0: none is */
	float over_usual; /* what that is by what was known of the unit when it began: less than that, where it has just been seen first */
};

/* Moves the level by so many bytes, without a tick. */
void growth_move(struct growth *g, int64_t change);
/* A tick. little: bytes, of the machine. It is news when a row or a window has come to an s that is a fiftieth higher than what its last news was of; of
 * several the highest. Adds to *tests. */
void growth_tick(struct growth *g, uint32_t tick, int64_t little, struct growth_news *ret, uint32_t *tests);
/* Bytes a tick at which it grows, by the longest row that goes on; 0: it does not. Negative: it has not been seen for long enough. */
float growth_rate(const struct growth *g, uint32_t tick);
/* Whether it can be of a detector that is at this tick. */
bool growth_valid(const struct growth *g, uint32_t tick);
/* Ticks are so many times as long from now on. */
void growth_change_length(struct growth *g, float times);
/* The level will be given anew, as after a restart. What was learnt stays. */
void growth_forget_level(struct growth *g);
