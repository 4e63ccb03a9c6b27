/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How rare is it that one quantity gets as large as this? By experience, which fades: the greatest of every so many
 * values is one event (block maxima, so that what lasts counts once, and an event is not compared with itself), and a
 * histogram says how many events as large are remembered. Beyond the largest few, where counting says little, a
 * Pareto tail goes on (Hill 1975, its index shrunk to a prior).
 *
 * The answer is an expected number of events, not a probability: what is as rare as the rarest in memory is alike
 * in a long stream and in a short one, and the number of records grows with the logarithm of a stream's length. */
#pragma once

#include "base.h"

#define RARITY_BINS_PER_OCTAVE 4
#define RARITY_OCTAVES 22 /* from 2^-10 */
#define RARITY_BINS (RARITY_BINS_PER_OCTAVE * RARITY_OCTAVES)

struct event_rarity {
	float above[RARITY_BINS];  /* events in this bin or a higher one */
	float edge, index, beyond; /* the tail: from where, its index, the events in it */
};

/* Remembered events that are as large as x, which is > 0, and half an event for x itself. Zeroed memory is one that
 * remembers nothing. */
double event_rarity_of(const struct event_rarity *r, double x);
/* Learns a block, of which x was the greatest value and fade is what it leaves of those before; x = 0: nothing happened
 * in it. */
void event_rarity_learn(struct event_rarity *r, double x, float fade);
