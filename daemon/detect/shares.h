/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a unit's samples of a metric are of: the share of them that each function on its stacks has. Shares say what a unit does apart from
 * how much it does: they stay when its load changes, and move when one function burns, is called no more, or is replaced.
 *
 *     samples of a tick ─▶ each function's part c of n ─┬─▶ rises: sums of ln(likelihood with a part of what it lacks / with its share)
 *                                                       ├─▶ falls: the same with next to nothing of it
 *                       part that is of young functions └─▶ turnover: the same with a quarter more of them
 *
 * Sums that would be negative begin anew at 0 (Page 1954, "Continuous inspection schemes"), which finds a change of that size as soon as
 * anything can (Moustakides 1986) and of others nearly so, without a window to choose. Such a sum is -ln of the probability to get so far
 * by chance from where it began; what a function's shares do by themselves takes them further:
 *
 *     s = ln(n + 1) * sum / max(the highest that an earlier sum came to, ln(n + 1))      n: ticks with samples of the unit
 *
 * What rises is the more out of the ordinary the more out of it the unit's CPU time is in the same ticks (surplus.h), which has its say apart: -ln of a
 * product of two probabilities.
 *
 * A unit has the functions that are most often on its stacks (Space-Saving: Metwally, Agrawal, El Abbadi 2005). Functions are young
 * for their first samples of the unit; a unit is, too. Time is counted in samples: a unit that does nothing doesn't age. */
#pragma once

#include "surplus.h"

#define SHARES_FUNCTIONS 24 /* of a unit */
#define SHARES_PLACES 64
#define SHARES_UNITS 128    /* times metrics; the one whose last sample is oldest makes room */

struct share_sum {
	float now;      /* 0: as ever */
	float peak;     /* of this excursion */
	float most;     /* that one came to which has ended; fades */
	float height;   /* the highest s in this excursion; negative: it was given to be learnt */
	float part, all; /* samples since it began: the function's, the unit's */
	uint32_t since; /* tick in which that was */
};

struct function_share {
	uint64_t series; /* that has most of it of late */
	float lead;      /* samples by which it has */
	float share;     /* mean, 0..1 */
	float now;       /* samples of this tick */
	float born;      /* the unit's samples then */
	struct share_sum rises, falls;
};

struct unit_shares {
	uint64_t key;     /* of unit and metric; 0 = free */
	uint64_t unit;
	uint32_t of;      /* which metric: its owner's to say */
	float value, rate; /* of that: of this tick, and mean; the owner's, too */
	struct surplus surplus; /* of on-CPU time; the owner's, too */
	uint32_t seen;    /* tick of the last sample */
	uint32_t told;    /* tick of the last alarm; 0 = none */
	float samples;    /* so far; at most SHARES_SAMPLES_MAX */
	float anew;       /* since so many the shares are learnt anew */
	uint32_t ticks;   /* that had some */
	float now;        /* samples of this tick */
	float usual;      /* samples of a tick that has some, mean */
	float young;      /* of these, with a young function */
	float young_share;
	float young_from; /* samples since which that is a mean */
	struct share_sum turnover;
	uint8_t places[SHARES_PLACES]; /* by the low bits of a function's key: where it was last */
	/* Of the functions, apart from the rest of each, since a function that is not there is looked for among all. */
	uint64_t keys[SHARES_FUNCTIONS]; /* 0 = free */
	float counts[SHARES_FUNCTIONS];  /* samples, fading; of a free one 0 */
	struct function_share functions[SHARES_FUNCTIONS];
};

/* Far below what a float counts by ones. */
#define SHARES_SAMPLES_MAX (1u << 22)

enum share_change { SHARE_RISES, SHARE_FALLS, SHARE_TURNOVER, SHARE_CHANGE_N };

/* What was news in a tick: of each kind the most improbable. */
struct share_news {
	float s; /* 0: none */
	float height; /* the highest that an excursion came to, to be learnt; 0: none */
	const struct function_share *function; /* of turnover the young one with most samples */
	float share, usual; /* of the samples since it began: what it has, and what it had before */
	float a_tick;       /* these samples, in a tick */
	uint32_t since;
};

/* Adds samples of this tick that had these functions on their stacks, each named once. */
void shares_add(struct unit_shares *u, uint32_t tick, uint64_t series, const uint64_t *functions, size_t n, float samples);
/* What else is known of a unit in a tick. */
struct share_context {
	const struct unit_shares *other; /* its samples of another metric, NULL: there are none; a function that is missed in both is so much the more improbable */
	float more; /* -ln of the probability that the unit uses as much as it does; 0: as ever */
	float part; /* of what others have, that a function has now which rises */
};
/* Scores a unit's tick, if it had samples, and learns it. Adds to tests, of each kind. */
void shares_tick(struct unit_shares *u, const struct share_context *c, uint32_t tick, struct share_news ret[static SHARE_CHANGE_N],
		 uint32_t tests[static SHARE_CHANGE_N]);
/* Whether it can be of a detector that is at this tick. */
bool shares_valid(const struct unit_shares *u, uint32_t tick);
/* What its functions' shares were is of use no more: they are learnt anew. */
void shares_forget(struct unit_shares *u);
/* Its turnover was told: that it goes on is no news. */
void shares_turned_over(struct unit_shares *u);
