/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The machine's totals as streams of numbers, a value each five minutes: what the marks of model.h don't see, since they forget neither the hour nor
 * the shape. A load at night that is usual at noon, a burst that does not come. univariate.h gives the surprise, and calibration makes a
 * probability of it, as of any other family's. */
#pragma once

#include "univariate.h"

#define STREAMS 4 /* on-cpu, runnable, page faults of both kinds; blocked is how many threads sleep */

struct streams {
	double seconds; /* of the five minutes that are not over, as far as they were measured */
	double sums[STREAMS];
	uint64_t time_us; /* realtime that goes on by what ticks take */
	uint32_t astray;  /* values for which the clock has said something else */
	struct univariate all[STREAMS];
};

/* Whether the memory may have been one, wherever it comes from. */
bool streams_valid(const struct streams *s);
