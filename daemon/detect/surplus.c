/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "surplus.h"

#include <math.h>

#define CPU ((float)NSEC_PER_SEC)
#define LEAST (0.95f * CPU) /* a thread that spins has that much of it: accounts are read while time goes on */
#define BIN_WIDTH 0.2f      /* of ln; a factor of 24 in both directions */
#define UNSEEN 0.5f         /* ticks */
#define YOUNG 256.0f        /* ticks: nothing is said before */
#define MEMORY 86400.0f     /* ticks; what is older counts half */
#define LASTS_MOST 32.0f    /* ticks of an excursion that count: a load that stays is one event, and soon what is usual */
/* Part of what others have that a function which spins takes. */
#define PART 0.5f
#define PART_LEAST 0.25f
#define PART_MOST 0.9f /* some samples are of others, or not understood */

static float place_of(float x, float mean, float floor)
{
	float place = logf((x + floor) / (mean + floor)) / BIN_WIDTH + SURPLUS_BINS / 2;

	return MIN(MAX(place, 0.0f), SURPLUS_BINS - 1.001f);
}

/* But for a factor that is the same for all x. */
static float density(const struct surplus *s, float x, float mean, float floor)
{
	float place = place_of(x, mean, floor), part = place - floorf(place);
	const float *bin = &s->bins[(size_t)place];

	return ((1 - part) * bin[0] + part * bin[1] + UNSEEN) / (x + floor);
}

static void learn(struct surplus *s, float x, float mean, float floor)
{
	float place = place_of(x, mean, floor), part = place - floorf(place);
	float *bin = &s->bins[(size_t)place];

	bin[0] += 1 - part;
	bin[1] += part;
	if (++s->ticks <= MEMORY)
		return;
	s->ticks /= 2;
	for (size_t i = 0; i < SURPLUS_BINS; i++)
		s->bins[i] /= 2;
	for (size_t i = 0; i < SURPLUS_HEIGHTS; i++)
		s->higher[i] /= 2;
}

static void end_excursion(struct surplus *s)
{
	for (size_t i = 0; i < SURPLUS_HEIGHTS && s->peak >= (float)(1u << i); i++)
		s->higher[i] += MIN(s->lasts, LASTS_MOST);
	surplus_forget(s);
}

/* -ln of the part of all ticks that are of excursions which come to the next height. */
static float rarity(const struct surplus *s, size_t height)
{
	return logf(s->ticks / (s->higher[MIN(height, SURPLUS_HEIGHTS - 1u)] + 1));
}

static float score(const struct surplus *s)
{
	float height, low, high;

	if (s->now < 1)
		return 0;
	height = MIN(log2f(s->now), SURPLUS_HEIGHTS - 1.0f);
	low = rarity(s, (size_t)height);
	high = rarity(s, (size_t)height + 1);
	return MAX(MIN(low + (high - low) * (height - floorf(height)), s->now), 0.0f);
}

float surplus_tick(struct surplus *s, uint32_t tick, float x, float mean, float floor)
{
	bool more = x >= LEAST && s->ticks >= YOUNG;

	if (!more || tick - s->last > 1)
		end_excursion(s);
	if (more) {
		float others = MAX(x - CPU * MAX(roundf((x - mean) / CPU), 1.0f), 0.0f);

		s->now = MAX(s->now + logf(density(s, others, mean, floor) / density(s, x, mean, floor)), 0.0f);
		s->peak = MAX(s->peak, s->now);
		s->lasts++;
		if (s->now <= 0)
			end_excursion(s);
	}
	s->last = tick;
	learn(s, x, mean, floor);
	return score(s);
}

float surplus_part(float x, float mean)
{
	return x - mean < CPU / 2 ? PART : MAX(MIN(CPU / x, PART_MOST), PART_LEAST);
}

void surplus_forget(struct surplus *s)
{
	s->now = s->peak = s->lasts = 0;
}

bool surplus_valid(const struct surplus *s, uint32_t tick)
{
	float sum = s->ticks + s->now + s->peak + s->lasts;

	for (size_t i = 0; i < SURPLUS_BINS; i++) {
		sum += s->bins[i];
		if (s->bins[i] < 0)
			return false;
	}
	for (size_t i = 0; i < SURPLUS_HEIGHTS; i++) {
		sum += s->higher[i];
		if (s->higher[i] < 0)
			return false;
	}
	return isfinite(sum) && s->ticks >= 0 && s->last <= tick;
}
