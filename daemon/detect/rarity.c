/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "rarity.h"

#define OCTAVE_FIRST (-10)
/* So many events are the tail. While there are fewer, it begins with the first bin. */
#define TAIL_EVENTS 4.0f
#define TAIL_INDEX 0.3f
#define TAIL_INDEX_WEIGHT 4.0f /* in events */

/* Octaves are divided evenly, not by logarithm. */
static unsigned bin_of(double x)
{
	int octave;
	double part = frexp(x, &octave) * 2 - 1;
	long bin = (octave - 1 - OCTAVE_FIRST) * RARITY_BINS_PER_OCTAVE + (long)(part * RARITY_BINS_PER_OCTAVE);

	return (unsigned)MIN(MAX(bin, 0L), RARITY_BINS - 1L);
}

static double edge_of(unsigned bin)
{
	double part = (double)(bin % RARITY_BINS_PER_OCTAVE) / RARITY_BINS_PER_OCTAVE;

	return ldexp(1 + part, OCTAVE_FIRST + (int)(bin / RARITY_BINS_PER_OCTAVE));
}

static float in_bin(const struct event_rarity *r, unsigned bin)
{
	return r->above[bin] - (bin + 1 < RARITY_BINS ? r->above[bin + 1] : 0);
}

/* By the mean of ln of how far the tail's events are beyond its edge; the middle of a bin stands for what is in it. */
static void fit_tail(struct event_rarity *r)
{
	unsigned first = RARITY_BINS - 1;
	float sum = 0;

	while (first > 0 && r->above[first] < TAIL_EVENTS)
		first--;
	r->edge = (float)edge_of(first);
	r->beyond = r->above[first];
	for (unsigned b = first; b < RARITY_BINS && r->above[b] > 0; b++)
		sum += in_bin(r, b) * logf((float)edge_of(b) * (1 + 0.5f / RARITY_BINS_PER_OCTAVE) / r->edge);
	r->index = (sum + TAIL_INDEX_WEIGHT * TAIL_INDEX) / (r->beyond + TAIL_INDEX_WEIGHT);
}

double event_rarity_of(const struct event_rarity *r, double x)
{
	unsigned bin;

	if (r->edge > 0 && x > (double)r->edge)
		return ((double)r->beyond + 0.5) * pow(x / (double)r->edge, -1 / (double)r->index);
	bin = bin_of(x);
	return (double)(r->above[bin] - in_bin(r, bin) / 2) + 0.5;
}

void event_rarity_learn(struct event_rarity *r, double x, float fade)
{
	unsigned n = x > 0 ? bin_of(x) + 1 : 0;

	for (unsigned b = 0; b < RARITY_BINS; b++)
		r->above[b] = r->above[b] * fade + (b < n ? 1 : 0);
	fit_tail(r);
}
