/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "random.h"

uint64_t random_u64(struct random *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

double random_uniform(struct random *r)
{
	return ((double)(random_u64(r) >> 11) + 0.5) / 9007199254740992.0;
}

double random_log_uniform(struct random *r, double a, double b)
{
	return a * pow(b / a, random_uniform(r));
}

double random_exponential(struct random *r, double mean)
{
	return -mean * log(random_uniform(r));
}

double random_normal(struct random *r)
{
	return sqrt(-2 * log(random_uniform(r))) * cos(2 * M_PI * random_uniform(r));
}

double random_gamma(struct random *r, double shape)
{
	/* Wilson and Hilferty's cube: close enough above a shape of 1 */
	double c = 1 - 1 / (9 * shape) + random_normal(r) / sqrt(9 * shape);

	return c > 0 ? c * c * c : 0;
}

uint64_t random_poisson(struct random *r, double mean)
{
	double p, limit;
	uint64_t n = 0;

	if (mean > 50) {
		double v = mean + sqrt(mean) * random_normal(r) + 0.5;

		return v > 0 ? (uint64_t)v : 0;
	}
	limit = exp(-mean);
	for (p = random_uniform(r); p > limit; p *= random_uniform(r))
		n++;
	return n;
}
