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

static bool any_of(const uint64_t values[static ROOM_METRICS])
{
	return values[0] | values[1] | values[2] | values[3];
}

static void add_to_room(struct accumulator *a, int k, uint32_t i, const uint64_t values[static ROOM_METRICS])
{
	uint64_t *sums = a->room[k].values[i];

	a->rooms[i] |= 1U << k;
	for (int at = 0; at < ROOM_METRICS; at++)
		sums[at] += values[at];
}

void store_accumulate(struct accumulator *a, uint32_t i, const uint64_t values[static METRIC_N])
{
	touch(a, i);
	for (int k = 0; a->rooms && k < ROOMS; k++) {
		uint64_t of_room[ROOM_METRICS];

		for (int at = 0; at < ROOM_METRICS; at++)
			of_room[at] = values[room_metrics[k][at]];
		if (any_of(of_room))
			add_to_room(a, k, i, of_room);
	}
	for (int k = 0; a->variances && k < VARIANCES; k++)
		a->variances[i][k] += (float)values[METRIC_BLOCKED + k];
}

void store_accumulator_add(struct accumulator *a, uint32_t to, const struct accumulator *from, uint32_t i)
{
	touch(a, to);
	for (int k = 0; a->rooms && k < ROOMS; k++)
		if (from->rooms[i] & 1U << k && any_of(from->room[k].values[i]))
			add_to_room(a, k, to, from->room[k].values[i]);
	for (int k = 0; a->variances && k < VARIANCES; k++)
		a->variances[to][k] += from->variances[i][k];
}

void store_accumulator_leave_over(struct accumulator *a, uint32_t i, const float residuals[static METRIC_N])
{
	for (uint32_t left = a->rooms ? a->rooms[i] : 0; left; left &= left - 1) {
		int k = __builtin_ctz(left);

		for (int at = 0; at < ROOM_METRICS; at++)
			a->room[k].residuals[i][at] = residuals[room_metrics[k][at]];
	}
}

/* Rooms in which nothing is left over either are empty. */
static void empty(struct accumulator *a, uint32_t i)
{
	uint8_t still = 0;

	for (uint32_t left = a->rooms ? a->rooms[i] : 0; left; left &= left - 1) {
		int k = __builtin_ctz(left);
		const float *residuals = a->room[k].residuals[i];

		memset(a->room[k].values[i], 0, sizeof(a->room[k].values[i]));
		if (residuals[0] != 0 || residuals[1] != 0 || residuals[2] != 0 || residuals[3] != 0)
			still |= (uint8_t)(1U << k);
	}
	if (a->rooms)
		a->rooms[i] = still;
	else
		memset(a->variances[i], 0, sizeof(a->variances[i]));
}

/* What was gathered for one that goes counts for another from here on, or for nobody (0). */
void store_accumulator_move(struct accumulator *a, uint32_t from, uint32_t to)
{
	if (to && is_touched(a, from))
		store_accumulator_add(a, to, a, from);
	for (uint32_t left = a->rooms ? a->rooms[from] : 0; left; left &= left - 1) {
		int k = __builtin_ctz(left);
		float *residuals = a->room[k].residuals[from];

		for (int at = 0; to && at < ROOM_METRICS; at++)
			a->room[k].residuals[to][at] += residuals[at];
		if (to)
			a->rooms[to] |= 1U << k;
		memset(residuals, 0, sizeof(a->room[k].residuals[from]));
	}
	a->touched[from / 64] &= ~(1ULL << from % 64);
	empty(a, from);
}

void store_accumulator_clear(struct accumulator *a)
{
	for (uint32_t w = 0; w < (a->max + 64) / 64; w++) {
		for (uint64_t bits = a->touched[w]; bits; bits &= bits - 1)
			empty(a, w * 64 + (uint32_t)__builtin_ctzll(bits));
		a->touched[w] = 0;
	}
}
