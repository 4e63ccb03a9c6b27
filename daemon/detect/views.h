/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One stream of values seen in seven ways. Each view says by how much the newest value departs from what the stream
 * was, signed, in proportion to what it usually varies by; how rare such a departure is, is rarity.h's to say. A
 * value is looked at before it is learnt.
 *
 *     value ─┬─▶ fast           against the mean of the last 8
 *            ├─▶ difference     against the value before
 *            ├─▶ window         mean of the last 16, against the slow mean
 *            ├─▶ burst          logarithm of the variance of the last 16, against its mean
 *            ├─▶ shape          the last 8 as a vector, against those remembered
 *            ├─▶ range          beyond all values so far
 *            └─▶ season         against what this hour of the week usually has, mean of the last 12
 *
 * shape is the novelty of adaptive resonance (Carpenter, Grossberg 1987): a vector that resonates with none of the
 * remembered ones is new, and is remembered in place of the one that resonated least, whose count it inherits
 * (Space-Saving: Metwally et al. 2005). Distances are in terms of the range of all values so far. */
#pragma once

#include "base.h"

enum view {
	VIEW_FAST,
	VIEW_DIFFERENCE,
	VIEW_WINDOW,
	VIEW_BURST,
	VIEW_SHAPE,
	VIEW_RANGE,
	VIEW_SEASON,
	VIEW_N,
};
const char *view_to_string(enum view v);

#define VIEW_WINDOW_LENGTH 16
#define SHAPE_LENGTH 8
#define SHAPES 32
#define HOURS_OF_WEEK 168

/* A mean over the last so many values; over all of them while they are fewer. */
struct fading_mean {
	double mean;
	uint32_t n;
};

struct value_range {
	double low, high;
	bool known;
};

struct shape {
	double values[SHAPE_LENGTH];
	double count; /* of vectors that it stands for */
};

/* No pointer, so that the owner may move it, store it and bring it back. Zeroed memory is a stream without values. */
struct views {
	uint64_t n; /* values so far */
	double ring[VIEW_WINDOW_LENGTH];
	struct fading_mean slow, fast, deviation, step, log_variance, residual_smooth, residual_deviation;
	struct value_range range;
	uint32_t n_shapes;
	struct shape shapes[SHAPES];
	struct fading_mean week[HOURS_OF_WEEK];
};

/* Looks at a value, which is finite and of a magnitude of at most VIEW_VALUE_MAX, and learns it. ret[]: 0 = nothing
 * to see; what can't be compared for want of any variation so far is VIEW_INCOMPARABLE. */
#define VIEW_VALUE_MAX 1e150
#define VIEW_INCOMPARABLE 1e6
void views_add(struct views *w, uint64_t time_us, double value, double ret[static VIEW_N]);
/* Which of week[] a time is in. */
size_t views_hour(uint64_t time_us);
