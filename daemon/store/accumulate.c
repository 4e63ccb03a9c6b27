/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "internal.h"

void store_accumulate(struct accumulator *a, uint32_t i, const uint64_t values[static METRIC_N])
{
	uint64_t *to = a->values[i];

	a->touched[i / 64] |= 1ULL << i % 64;
	for (int m = 0; m < METRIC_N; m++)
		to[m] += values[m];
}

/* What was gathered for one that goes counts for another from here on, or for nobody (0). */
void store_accumulator_move(struct accumulator *a, uint32_t from, uint32_t to)
{
	if (to && a->touched[from / 64] & 1ULL << from % 64)
		store_accumulate(a, to, a->values[from]);
	for (int m = 0; to && m < METRIC_N; m++)
		a->residuals[to][m] += a->residuals[from][m];
	a->touched[from / 64] &= ~(1ULL << from % 64);
	memset(a->values[from], 0, sizeof(a->values[from]));
	memset(a->residuals[from], 0, sizeof(a->residuals[from]));
}

void store_accumulator_clear(struct accumulator *a)
{
	for (uint32_t w = 0; w < (a->max + 64) / 64; w++) {
		for (uint64_t bits = a->touched[w]; bits; bits &= bits - 1) {
			uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(bits);

			memset(a->values[i], 0, sizeof(a->values[i]));
		}
		a->touched[w] = 0;
	}
}
