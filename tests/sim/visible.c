/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "visible.h"

#include <math.h>

#define TICKS_PER_DAY 86400.0
/* Metrics that may rise or fall. */
#define TROUBLES_OF_A_SERIES 8.0
#define LITTLE 1e-3 /* of a mean: no less is possible than that */

double visible_needed(unsigned series, double false_alarms_per_day)
{
	return log(TICKS_PER_DAY * TROUBLES_OF_A_SERIES * series / false_alarms_per_day);
}

double visible_counts(double n, double without, double with)
{
	if (with <= 0)
		return n > 0 ? -INFINITY : without;
	return n * log(with / without) - (with - without);
}

/* ln of the density at x of gamma noise of mean 1. */
static double density(double x, double shape)
{
	x = fmax(x, LITTLE);
	return shape * log(shape) - lgamma(shape) + (shape - 1) * log(x) - shape * x;
}

double visible_rate(double x, double mean, double shape, double more)
{
	return density((x - more) / mean, shape) - density(x / mean, shape);
}

double visible_times(double x, double mean, double shape, double times, double more)
{
	return density((x - more) / (mean * times), shape) - log(times) - density(x / mean, shape);
}

/* ln of the probability of n samples, whose mean is gamma distributed. */
static double mixed(double n, double mean, double shape)
{
	if (mean <= 0)
		return n > 0 ? -INFINITY : 0;
	return lgamma(n + shape) - lgamma(n + 1) - lgamma(shape) + shape * log(shape / (shape + mean)) + n * log(mean / (shape + mean));
}

double visible_samples(double n, double mean, double shape, double times, double more)
{
	double with = 0;

	if (more <= 0)
		return mixed(n, mean * times, shape) - mixed(n, mean, shape);
	for (double k = 0; k <= n; k++)
		with += exp(mixed(k, mean * times, shape) + (n - k) * log(more) - more - lgamma(n - k + 1));
	return log(fmax(with, 1e-300)) - mixed(n, mean, shape);
}
