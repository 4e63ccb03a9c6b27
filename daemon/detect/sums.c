/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sums.h"

#include <math.h>

#include "packed.h"

#define TIMES 4.0f
#define LN_TIMES 1.3862944f
#define STEPS 512.0f     /* of a sum */
#define MOST 127.0f      /* what has come to that has come to anything */
#define PEAK_STEPS 2.0f
#define PLAIN 6.0f       /* below this nothing is told */
#define YOUNG 64.0f      /* times after which s is half believed */
/* 1/k before it is known: an exponential distribution's, or of a rate that is so distributed. */
#define NOISE 1.0f
#define NOISE_LEAST 0.02f
#define NOISE_MOST 256.0f
/* What varies by more has bursts. */
#define NOISE_FITS 2.0f
#define FADES 24u        /* hours */
#define TOLD 0xffff

void sum_new(struct series_sum *u)
{
	*u = (struct series_sum){ .noise = NOISE };
}

static float log_likelihood(const struct sum_tick *t, float k, float value)
{
	float mean = t->mean * t->usual;

	if (t->counted)
		return k * logf((k + mean) / (k + TIMES * mean)) + value * (LN_TIMES + logf((k + mean) / (k + TIMES * mean)));
	return k * (value / mean * (1 - 1 / TIMES) - LN_TIMES);
}

static void end_excursion(struct series_sum *u)
{
	u->most = MAX(u->most, u->peak);
	if (u->pending != TOLD)
		u->noise = MIN(u->noise + unpack(u->pending), NOISE_MOST);
	u->peak = 0;
	u->now = u->pending = 0;
}

static void count(struct series_sum *u)
{
	u->times += u->times < UINT16_MAX;
}

static void move(struct series_sum *u, float by)
{
	float now = MIN((float)u->now / STEPS + by, MOST);

	if (now * STEPS < 0.5f) {
		end_excursion(u);
		count(u);
		return;
	}
	u->now = (uint16_t)(now * STEPS + 0.5f);
	u->peak = MAX(u->peak, (uint8_t)ceilf(now * PEAK_STEPS));
}

void sum_learn(struct series_sum *u, const struct sum_tick *t)
{
	float d = t->value / t->mean - 1, weight = 1, by, rate;
	float y = d * d;

	if (t->counted) {
		weight += 1 / (t->mean * t->mean);
		y -= t->value / (t->mean * t->mean);
	}
	rate = 1 / (weight + t->mean_ticks);
	/* Nothing is as far from its mean as the mean from nothing. */
	if (t->silent)
		u->noise += (1 - u->noise) * MIN(rate * (float)t->silent, 1.0f);
	by = rate * (MIN(y, NOISE_MOST * weight) - u->noise);
	if (!u->now || by < 0)
		u->noise = MAX(MIN(u->noise + by, NOISE_MOST), 0.0f);
	else if (u->pending != TOLD)
		u->pending = pack(unpack(u->pending) + by);
}

static float score(const struct series_sum *u)
{
	float times = u->times, n = logf(times + 1), now = (float)u->now / STEPS, s;

	if (now < PLAIN || !u->times)
		return 0;
	s = n * now / MAX((float)u->most / PEAK_STEPS, n) * times / (times + YOUNG);
	return u->noise > NOISE_FITS ? s * NOISE_FITS / u->noise : s;
}

float sum_move(struct series_sum *u, const struct sum_tick *t)
{
	float k = 1 / MAX(u->noise, NOISE_LEAST), by;
	bool rises = false;

	if (u->now && t->silent)
		move(u, (float)t->silent * log_likelihood(t, k, 0));
	/* What is not even usual would lower it. */
	if (u->now || t->value > t->mean * t->usual) {
		by = log_likelihood(t, k, t->value);
		rises = by > 0;
		move(u, by);
	} else if (t->value > 0)
		count(u);
	sum_learn(u, t);
	return rises ? score(u) : 0;
}

void sum_told(struct series_sum *u)
{
	if (u->now)
		u->pending = TOLD;
}

void sum_doubt(struct series_sum *u)
{
	u->times = 0;
}

bool sum_valid(const struct series_sum *u)
{
	return u->noise >= 0 && u->noise <= NOISE_MOST && (float)u->now <= MOST * STEPS;
}

void sum_fade(struct series_sum *u, uint32_t hour)
{
	/* By a step a day at least, where that is none in an hour. */
	uint8_t by = (uint8_t)(u->most / FADES + (hour % FADES == 0));

	u->most -= MIN(by, u->most);
}
