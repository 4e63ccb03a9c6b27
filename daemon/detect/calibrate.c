/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "calibrate.h"

#define BINS_PER_OCTAVE 8
#define BIN_SHIFT 20          /* of a float's bits: exponent and three bits of the mantissa */
#define BIN_FIRST (126u << 3) /* those bits of 0.5 */

/* The tail is fitted to the largest so many scores: fewer are noise, more are not yet tail. */
#define TAIL_COUNT 64.0
/* Prior of the tail index and its weight in scores. Scores are -ln p if a series' model is right; then the
 * index at the usual start of the tail (8 to 10) is about 0.1. This is heavier: caution until experience
 * says better. */
#define TAIL_INDEX 0.15
#define TAIL_INDEX_WEIGHT 16.0
/* The same for exponential tails, whose mean excess is 1 if the series' models are right. Stacks are of more kinds than
 * units, which makes their tail heavier. */
#define EXCESS_TOTALS 1.5
#define EXCESS_STACKS 5.0
/* Of what rises and falls in samples that are taken one by one: such a sum is -ln of a probability by itself (Lorden 1971). Page faults come in crowds. */
#define EXCESS_SAMPLES 1.0
#define EXCESS_SUMS 1.5
#define EXCESS_WEIGHT 16.0
/* Of units it is never believed to be less: what they do not do for hours is no measure of the first time that they do it. */
#define EXCESS_TOTALS_LEAST 1.0
/* Of units that always do something some are as even as clockwork and others have bursts, and the first burst of one that was even so far is
 * further out than all that the even ones have: their tails are mixtures. */
#define SHAPE_STEADY 0.08
/* The other gate state's experience counts for at most so many tests. */
#define BORROWED_MAX 1e6

/* Where tests are so few that the budget would admit anything: what happens once in a thousand times is no
 * anomaly. */
#define ALPHA_MAX 1e-3

/* Troubles in a day that a family is supposed to see: what is as rare among what is usual is as likely to be one. All families see a trouble in some days. */
#define TROUBLES 0.002
/* Alarms of one family in a day that are half believed to be what is usual after all. */
#define TOLD_OFTEN 24.0

/* Waits that have moved are two families for two kinds of trouble. Births have a Pareto tail, and what takes much is far out in it: they need the
 * budget least. */
#define SHARE_TOTALS 0.36
#define SHARE_MOVED 0.07
#define SHARE_SHARES 0.07
#define SHARE_GROWTH 0.04
#define SHARE_STREAM 0.02
#define SHARE_VANISHED 0.07
#define SHARE_BIRTHS 0.04
/* All but blocked; what falls, of on-CPU only; silences. */
#define TOTALS_FAMILIES (2 * (SCORED_METRICS - 1) * CHANNELS_UP + CHANNELS_UP + 1)
#define PART_OPEN 0.25 /* of the budget, for the ticks with the gate open */

static unsigned bin_of(float s)
{
	uint32_t bits;

	memcpy(&bits, &s, sizeof(bits));
	bits >>= BIN_SHIFT;
	if (bits < BIN_FIRST)
		return 0;
	return MIN(bits - BIN_FIRST, BINS - 1u);
}

static double bin_edge(unsigned bin)
{
	uint32_t bits = (BIN_FIRST + bin) << BIN_SHIFT;
	float s;

	memcpy(&s, &bits, sizeof(s));
	return (double)s;
}

/* Where p falls to alpha, inside the histogram. */
static double critical_in_bins(const struct tail *t, double alpha)
{
	for (unsigned b = 0; b < BINS; b++)
		if (t->above[b] <= alpha)
			return MAX(bin_edge(b), -log(alpha));
	return INFINITY;
}

/* Where p falls to alpha. */
static double critical_of(const struct tail *t, double alpha)
{
	if (t->p_floor > alpha)
		return INFINITY;
	if (t->p_from <= alpha)
		return critical_in_bins(t, alpha);
	if (t->shape > 0)
		return t->from + t->excess * expm1(t->shape * log(t->p_from / alpha)) / t->shape;
	if (t->excess > 0)
		return t->from + t->excess * log(t->p_from / alpha);
	return t->from * pow(t->p_from / alpha, t->index);
}

/* Mean of what the scores beyond a point have above it, shrunk to a prior. */
static double mean_excess(const double in_bin[static BINS], double beyond, const struct tail_prior *prior)
{
	double count = 0, sum = 0;

	for (unsigned b = bin_of((float)beyond); b < BINS; b++) {
		count += in_bin[b];
		sum += in_bin[b] * MAX((bin_edge(b) + bin_edge(b + 1)) / 2 - beyond, 0.0);
	}
	return MAX((sum + EXCESS_WEIGHT * prior->excess) / (count + EXCESS_WEIGHT), prior->least);
}

void calibrate_prepare(struct tail *t, const struct family_state *f, bool gate_open, const struct tail_prior *prior, double measured, double alpha)
{
	double other = f->n[!gate_open], borrowed = other > BORROWED_MAX ? BORROWED_MAX / other : 1;
	double count = 0, sum = 0, from_sum = 0, from_count = 0;
	double in_bin[BINS];
	unsigned from = 0;

	t->alpha = alpha;
	t->n = f->n[gate_open] + borrowed * other;
	for (unsigned b = 0; b < BINS; b++)
		in_bin[b] = (double)f->bins[gate_open][b] + borrowed * (double)f->bins[!gate_open][b];
	for (unsigned b = BINS; b-- > 0;) {
		/* sum over the scores of ln(s / this bin's edge), the middle of the bin standing for what
		 * is in it */
		sum += count * (M_LN2 / BINS_PER_OCTAVE) + in_bin[b] * (M_LN2 / BINS_PER_OCTAVE / 2);
		count += in_bin[b];
		/* One more score, unseen, beyond every bin: an empty histogram claims nothing. */
		t->above[b] = (count + 1) / (t->n + 1);
		if (from_count < TAIL_COUNT && in_bin[b] > 0) {
			from = b;
			from_count = count;
			from_sum = sum;
		}
	}
	t->p_from = t->above[from];
	t->from = bin_edge(from);
	/* Until there is experience, a score is at most as surprising as the series' model has it. */
	if (from_count < TAIL_COUNT)
		t->from = MAX(t->from, -log(t->p_from));
	t->index = (from_sum + TAIL_INDEX_WEIGHT * TAIL_INDEX) / (from_count + TAIL_INDEX_WEIGHT);
	t->shape = prior->shape;
	t->excess = prior->excess > 0 ? mean_excess(in_bin, t->from, prior) : 0;
	/* How far n tests may be extrapolated: to n^-2. Some minutes of a small machine reach the default budget, seconds don't. What could have
	 * been there as often as not has been seen for longer than its tests say. */
	t->p_floor = 1 / ((t->n + 1) * (MAX(t->n, measured) + 1));
	t->critical = critical_of(t, alpha);
	t->critical_least = critical_of(t, alpha * pow(10, DETECT_EVIDENCE_LOWERED));
}

double calibrate_p(const struct tail *t, double s)
{
	if (s < bin_edge(0))
		return 1;
	if (s < t->from)
		return MIN(MAX(t->above[bin_of((float)s)], exp(-s)), 1.0);
	if (t->shape > 0)
		return MIN(MAX(t->p_from * pow(1 + t->shape * (s - t->from) / t->excess, -1 / t->shape), t->p_floor), 1.0);
	if (t->excess > 0)
		return MIN(MAX(t->p_from * exp((t->from - s) / t->excess), t->p_floor), 1.0);
	return MIN(MAX(t->p_from * pow(s / t->from, -1 / t->index), t->p_floor), 1.0);
}

double calibrate_doubt(double tests_per_day)
{
	return TROUBLES / MAX(tests_per_day, 1.0);
}

/* How much a score of the tail says of what is usual: as much as it is likely to be of that and not of a trouble; but what is told ever again is usual. */
static double usual_part(const struct family_state *f, const struct tail *t, double s)
{
	double p = calibrate_p(t, s);

	return MAX(p / (p + t->doubt), f->told / (f->told + TOLD_OFTEN));
}

void calibrate_learn(struct family_state *f, bool gate_open, const struct tail *t, bool together, float s)
{
	double weight = 1;

	if ((double)s >= t->from) {
		weight = usual_part(f, t, (double)s);
		if (together)
			weight /= 1 + f->recent++;
	}
	s = (float)MIN((double)s, t->critical);
	if (s >= 0.5f)
		f->bins[gate_open][bin_of(s)] += (float)weight;
}

void calibrate_forget(struct family_state *f, double factor)
{
	for (unsigned g = 0; g < 2; g++) {
		f->n[g] *= factor;
		for (unsigned b = 0; b < BINS; b++)
			f->bins[g][b] *= (float)factor;
	}
}

double calibrate_share(unsigned family)
{
	if (family == FAMILY_GROWTH)
		return SHARE_GROWTH;
	if (family == FAMILY_STREAM)
		return SHARE_STREAM;
	if (family_is_moved(family))
		return SHARE_MOVED / MOVED_CHANNELS;
	if (family >= FAMILY_SHARES)
		return SHARE_SHARES / (SHARED_N * SHARE_CHANGE_N);
	if (family_is_total(family))
		return SHARE_TOTALS / TOTALS_FAMILIES;
	if (family == FAMILY_VANISHED)
		return SHARE_VANISHED;
	if (family_channel(family) >= CHANNEL_BIRTH)
		return SHARE_BIRTHS / (SCORED_METRICS * BIRTH_CHANNELS);
	return (1 - SHARE_TOTALS - SHARE_SHARES - SHARE_MOVED - SHARE_GROWTH - SHARE_STREAM - SHARE_VANISHED - SHARE_BIRTHS) /
	       (SCORED_METRICS * CHANNEL_SUM + SUM_N);
}

double calibrate_alpha(unsigned family, bool gate_open, double false_alarms_per_day, double tests_per_day)
{
	double share = calibrate_share(family) * (gate_open ? PART_OPEN : 1 - PART_OPEN);

	return MIN(false_alarms_per_day * share / MAX(tests_per_day, 1.0), ALPHA_MAX);
}

struct tail_prior calibrate_prior(unsigned family)
{
	bool steady = family >= family_of_total(TOTAL_STEADY_RISES, 0, 0) && family < FAMILY_UNIT_SILENT;

	if (family == FAMILY_STREAM)
		return (struct tail_prior){ .excess = EXCESS_TOTALS };
	if (family == family_of_share(SHARED_ON_CPU, SHARE_RISES) || family == family_of_share(SHARED_ON_CPU, SHARE_FALLS))
		return (struct tail_prior){ .excess = EXCESS_SAMPLES, .least = EXCESS_TOTALS_LEAST };
	if (family_is_total(family))
		return (struct tail_prior){ .excess = EXCESS_TOTALS, .least = EXCESS_TOTALS_LEAST, .shape = steady ? SHAPE_STEADY : 0 };
	if (family_is_sum(family))
		return (struct tail_prior){ .excess = EXCESS_SUMS, .least = EXCESS_TOTALS_LEAST };
	return (struct tail_prior){ .excess = family_is_birth_or_death(family) ? 0 : EXCESS_STACKS };
}
