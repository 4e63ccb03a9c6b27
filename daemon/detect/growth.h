/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that grows and is not given back: of how much of it a unit has, in all.
 *
 *   level ─▶ its least in every block of 16, 64 and 256 ticks ─▶ is each above the one before, 16 times in a row?
 *
 * What comes and goes does so within a block, or ends the row: a level that wanders without aim gets as far once in
 * 2^16 times. What was added since, above the highest level that an earlier growth came to before it ended (a cache that is
 * full, what a program needs once it has started), is compared with the most that any growth of this unit came to, or with what
 * is little to the machine, whichever is more:
 *
 *     s = ln(1 + n) * growth / most          n: stretches of 16 blocks that the unit has been seen for
 *
 * as long as the newer part of the growth is not much slower than the older: what fills itself slows down. */
#pragma once

#include "base.h"

/* A level that grows all the time has a row without end. So what was added in the last 256 ticks, in 8 blocks of 32 or 4 of 64, is compared with the
 * most that was added in as many, too. */
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
	float news;    /* the highest s while it grows */
	uint32_t blocks; /* in which it has grown, one after the other */
};

struct growth {
	int64_t level;       /* bytes */
	int64_t ended;       /* the highest level at which a growth has ended; fades */
	int64_t most;        /* that a growth came to which has ended; fades */
	uint32_t first;      /* tick; 0 = none yet */
	struct growth_row rows[GROWTH_SCALES];
	struct growth_window windows[GROWTH_WINDOWS];
};

struct growth_news {
	float s;
	float rate;     /* bytes a tick */
	uint32_t begun; /* tick */
};

/* Moves the level by so many bytes, without a tick. */
void growth_move(struct growth *g, int64_t change);
/* A tick. little: bytes, of the machine. Gives true when a row has come to an s that is half an octave higher than what its last news was
 * of; of several rows the longest one's. Adds to *tests each row that comes to GROWTH_BLOCKS. */
bool growth_tick(struct growth *g, uint32_t tick, int64_t little, struct growth_news *ret, uint32_t *tests);
/* Bytes a tick at which it grows, by the longest row that goes on; 0: it does not. Negative: it has not been seen for long enough. */
float growth_rate(const struct growth *g, uint32_t tick);
/* Whether it can be of a detector that is at this tick. */
bool growth_valid(const struct growth *g, uint32_t tick);
/* The level will be given anew, as after a restart. What was learnt stays. */
void growth_forget_level(struct growth *g);
