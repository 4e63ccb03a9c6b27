/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "internal.h"

static void touch(struct accumulator *a, uint32_t i)
{
	a->touched[i / 64] |= 1ULL << i % 64;
}

static bool is_touched(const struct accumulator *a, uint32_t i)
{
	return a->touched[i / 64] & 1ULL << i % 64;
}

void store_accumulate(struct accumulator *a, uint32_t i, const uint64_t values[static METRIC_N])
{
	touch(a, i);
	for (int m = 0; a->values && m < METRIC_N; m++)
		a->values[i][m] += values[m];
	for (int k = 0; a->variances && k < VARIANCES; k++)
		a->variances[i][k] += (float)values[METRIC_BLOCKED + k];
}

void store_accumulator_add(struct accumulator *a, uint32_t to, const struct accumulator *from, uint32_t i)
{
	touch(a, to);
	for (int m = 0; a->values && m < METRIC_N; m++)
		a->values[to][m] += from->values[i][m];
	for (int k = 0; a->variances && k < VARIANCES; k++)
		a->variances[to][k] += from->variances[i][k];
}

static void empty(struct accumulator *a, uint32_t i)
{
	if (a->values)
		memset(a->values[i], 0, sizeof(a->values[i]));
	else
		memset(a->variances[i], 0, sizeof(a->variances[i]));
}

/* What was gathered for one that goes counts for another from here on, or for nobody (0). */
void store_accumulator_move(struct accumulator *a, uint32_t from, uint32_t to)
{
	if (to && is_touched(a, from))
		store_accumulator_add(a, to, a, from);
	for (int m = 0; to && a->residuals && m < METRIC_N; m++)
		a->residuals[to][m] += a->residuals[from][m];
	a->touched[from / 64] &= ~(1ULL << from % 64);
	empty(a, from);
	if (a->residuals)
		memset(a->residuals[from], 0, sizeof(a->residuals[from]));
}

void store_accumulator_clear(struct accumulator *a)
{
	for (uint32_t w = 0; w < (a->max + 64) / 64; w++) {
		for (uint64_t bits = a->touched[w]; bits; bits &= bits - 1)
			empty(a, w * 64 + (uint32_t)__builtin_ctzll(bits));
		a->touched[w] = 0;
	}
}
