/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a unit uses a CPU more than it does as a rule: a thread that spins has one, and whatever else the unit does goes on beside it.
 *
 *     CPU time of a tick x ─▶ histogram of ln(x / mean), the density f ─▶ sum of ln(f(x - 1 CPU) / f(x)) ─▶ how seldom it comes so far
 *
 * The density is what the unit has shown, half a tick added to each bin (Krichevsky, Trofimov 1981, "The performance of universal encoding"): what was
 * never seen is as improbable as experience is long, and no more. The sum begins anew at 0 (Page 1954). What it comes to by itself, in a unit that has
 * bursts, is remembered: of excursions as high there were k in n ticks, so this one is worth ln(n / (k + 1)), which is bounded by ln n, since what has
 * not been in n ticks may come once in as many. */
#pragma once

#include "base.h"

#define SURPLUS_BINS 32
#define SURPLUS_HEIGHTS 8 /* 1, 2, 4, .. */

struct surplus {
	float ticks;              /* that it was looked at in */
	float bins[SURPLUS_BINS]; /* of these */
	float now;                /* the sum */
	float peak, lasts;        /* of this excursion: the highest, ticks */
	uint32_t last;            /* tick */
	float higher[SURPLUS_HEIGHTS]; /* ticks of excursions that came to such a height */
};

/* Learns a tick of x ns a second, where the mean is that and floor is little. Gives -ln of the probability that the unit comes by itself to
 * what it does. */
float surplus_tick(struct surplus *s, uint32_t tick, float x, float mean, float floor);
/* What a function that spins has of what others have as a rule, if it does in this tick; else half of it. */
float surplus_part(float x, float mean);
/* The excursion that is on is no measure of what the unit does by itself. */
void surplus_forget(struct surplus *s);
/* Whether it can be of a detector that is at this tick. */
bool surplus_valid(const struct surplus *s, uint32_t tick);
