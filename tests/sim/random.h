/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Randomness that is the same anywhere: splitmix64, and what is made from it. */
#pragma once

#include "base.h"

struct random {
	uint64_t state; /* the seed */
};

uint64_t random_u64(struct random *r);
double random_uniform(struct random *r); /* in (0, 1) */
double random_log_uniform(struct random *r, double a, double b);
double random_exponential(struct random *r, double mean);
double random_normal(struct random *r);
double random_gamma(struct random *r, double shape); /* mean 1, variance 1/shape */
uint64_t random_poisson(struct random *r, double mean);
