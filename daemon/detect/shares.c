/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "shares.h"

#include <math.h>

/* In samples of the unit. */
#define MEMORY 4096.0f     /* of shares */
#define YOUNG 512.0f       /* a function is no longer that */
#define UNIT_YOUNG 2048.0f /* its functions are judged from then on */
#define SHARE_MISSED (1.0f / 64) /* what has less is not missed when it stops ... */
#define SHARE_LEAST (1.0f / 512) /* ... and what has less has been seen too seldom to say what it has */
#define SHARE_MOST 0.9f    /* what has more can't rise */
/* A share wanders by so much, as ln of its odds, without anything being the matter: a rise is measured from there on. */
#define WANDERS 0.15f
/* Of samples whose functions are young, until it is known. */
#define YOUNG_SHARE 0.25f
/* A sum of turnover from which on it explains what shares do. */
#define TURNED_OVER 10.0f
/* What a unit does beyond so many times its usual takes nothing from its functions but their part. */
#define BEYOND 2.0f
#define USUAL_TICKS 256.0f
/* In a tick with so many times its usual samples a unit learns nothing, nor grows older: seconds of a burst have as many as hours, and what is usual
 * is not what they are of. If it goes on, what is usual for the unit follows in half a minute. */
#define BURST 8.0f
/* A function that stops has that much less, but for a sample that is taken for it. */
#define STOPPED (1.0f / 32)
#define SHARE_LITTLE (1.0f / 2048) /* no share is taken for less, nor for that much less than all */
#define FADE_TICKS 86400.0f
#define PLAIN 6.0f         /* no s below is news */
#define HIGHER 1.19f       /* s that is learnt in an excursion: a quarter of an octave above the last */
/* An excursion is learnt when it is over, for what there is of it so far says nothing of how far the next will go. One that goes on for longer is learnt
 * as it rises, and no news unless it does. */
#define SOON 64 /* ticks */
#define SUM_MAX 1e6f

/* Where a function is: one that was not there takes the place of that with the fewest samples. */
static size_t find(struct unit_shares *u, uint64_t key)
{
	uint8_t *place = &u->places[key % SHARES_PLACES];
	size_t least = 0;

	if (u->keys[*place] == key)
		return *place;
	for (size_t i = 0; i < SHARES_FUNCTIONS; i++)
		if (u->keys[i] == key)
			return *place = (uint8_t)i;
	for (size_t i = 1; i < SHARES_FUNCTIONS; i++)
		least = u->counts[i] < u->counts[least] ? i : least;
	u->keys[least] = key;
	u->functions[least] = (struct function_share){ .born = u->samples };
	return *place = (uint8_t)least;
}

static bool is_young(const struct unit_shares *u, const struct function_share *f)
{
	return u->samples - f->born < YOUNG;
}

void shares_add(struct unit_shares *u, uint32_t tick, uint64_t series, const uint64_t *functions, size_t n, float samples)
{
	bool young = false;

	u->seen = tick;
	u->now += samples;
	for (size_t i = 0; i < n; i++) {
		size_t at = find(u, functions[i]);
		struct function_share *f = &u->functions[at];

		f->now += samples;
		u->counts[at] += samples;
		young |= is_young(u, f);
		if (f->series == series)
			f->lead = MIN(f->lead + samples, YOUNG);
		else if ((f->lead -= samples) <= 0) {
			f->series = series;
			f->lead = samples;
		}
	}
	if (young)
		u->young += samples;
}

/* c of n samples, where a share of p is usual and q would be otherwise. */
static float likelihood(float c, float n, float p, float q)
{
	return c * logf(q / p) + MAX(n - c, 0.0f) * logf((1 - q) / (1 - p));
}

static void forget_sum(struct share_sum *sum)
{
	sum->now = sum->peak = sum->height = 0;
}

static void learn(struct share_sum *sum, struct share_news *ret)
{
	if (sum->height <= 0)
		return;
	ret->height = MAX(ret->height, sum->height);
	sum->height = -sum->height;
}

/* c of n samples. */
static void move(struct share_sum *sum, uint32_t tick, float by, float c, float n, struct share_news *ret)
{
	if (sum->now <= 0) {
		sum->since = tick;
		sum->part = sum->all = 0;
	}
	sum->part += c;
	sum->all += n;
	sum->now = MIN(sum->now + by, SUM_MAX);
	sum->peak = MAX(sum->peak, sum->now);
	if (sum->now <= 0) {
		sum->most = MAX(sum->most, sum->peak);
		learn(sum, ret);
		forget_sum(sum);
	} else if (tick - sum->since >= SOON)
		learn(sum, ret);
	sum->most -= sum->most / FADE_TICKS;
}

static float s_of(const struct share_sum *sum, uint32_t ticks)
{
	float n = logf((float)ticks + 1);

	return n * sum->now / MAX(sum->most, n);
}

/* Gives s when it is news. */
static float news(struct share_sum *sum, float s)
{
	bool higher = s >= MAX(sum->height, -HIGHER * sum->height);

	if (s < PLAIN || !higher)
		return 0;
	sum->height = s;
	return s;
}

/* -ln of the probability of a product of two probabilities. */
static float product(float s, float other)
{
	return s > 0 && other > 0 ? MAX(s, s + other - log1pf(s + other)) : s;
}

/* s of a function's fall, if it is known. */
static float fall_of(const struct unit_shares *u, uint64_t key)
{
	size_t i = u->places[key % SHARES_PLACES];

	if (u->keys[i] != key)
		for (i = 0; i < SHARES_FUNCTIONS && u->keys[i] != key; i++)
			;
	return i < SHARES_FUNCTIONS ? s_of(&u->functions[i].falls, u->ticks) : 0;
}

static void note(struct share_news *ret, uint32_t tick, float s, const struct share_sum *sum, const struct function_share *f, float usual)
{
	if (s <= ret->s)
		return;
	ret->s = s;
	ret->function = f;
	ret->share = sum->part / sum->all;
	ret->usual = usual;
	ret->a_tick = sum->all / (float)(tick - sum->since + 1);
	ret->since = sum->since;
}

static float wandered(float p)
{
	return p / (p + (1 - p) * expf(-WANDERS));
}

static float bounded(float share)
{
	return MAX(MIN(share, 1 - SHARE_LITTLE), SHARE_LITTLE);
}

static bool is_burst(const struct unit_shares *u)
{
	return u->usual > 0 && u->now > BURST * u->usual;
}

static void visit_rise(struct unit_shares *u, const struct share_context *c, struct function_share *f, uint32_t tick, struct share_news *ret)
{
	float high = wandered(bounded(f->share)), s;

	if (f->share <= SHARE_MOST)
		move(&f->rises, tick, likelihood(f->now, u->now, high, high + (1 - high) * c->part), f->now, u->now, ret);
	s = s_of(&f->rises, u->ticks);
	note(ret, tick, news(&f->rises, s > 0 ? s + c->more : 0), &f->rises, f, f->share);
}

static void visit_fall(struct unit_shares *u, const struct share_context *c, size_t at, uint32_t tick, struct share_news *ret)
{
	struct function_share *f = &u->functions[at];
	float p = bounded(f->share), known = u->usual > 0 ? MIN(u->now, BEYOND * u->usual) : u->now, s;

	if (f->share >= SHARE_MISSED)
		move(&f->falls, tick, likelihood(f->now, known, p, p * STOPPED), f->now, known, ret);
	s = s_of(&f->falls, u->ticks);
	if (s > 0 && c->other)
		s = product(s, fall_of(c->other, u->keys[at]));
	note(ret, tick, news(&f->falls, s), &f->falls, f, f->share);
}

static void visit(struct unit_shares *u, const struct share_context *c, size_t at, uint32_t tick, struct share_news ret[static SHARE_CHANGE_N],
		  uint32_t tests[static SHARE_CHANGE_N])
{
	struct function_share *f = &u->functions[at];
	float part = MIN(f->now / u->now, 1.0f), learnt = u->samples - MAX(f->born, u->anew);

	if (learnt >= YOUNG && u->samples >= UNIT_YOUNG && f->share >= SHARE_LEAST) {
		tests[SHARE_RISES] += f->share <= SHARE_MOST;
		tests[SHARE_FALLS] += f->share >= SHARE_MISSED;
		visit_rise(u, c, f, tick, &ret[SHARE_RISES]);
		visit_fall(u, c, at, tick, &ret[SHARE_FALLS]);
	}
	if (!is_burst(u))
		f->share += (part - f->share) * MIN(u->now / MIN(MEMORY, learnt + u->now), 1.0f);
	f->now = 0;
}

static const struct function_share *youngest(const struct unit_shares *u)
{
	const struct function_share *best = NULL;

	for (size_t i = 0; i < SHARES_FUNCTIONS; i++) {
		const struct function_share *f = &u->functions[i];

		if (f->now > 0 && is_young(u, f) && (!best || f->now > best->now))
			best = f;
	}
	return best;
}

static void visit_turnover(struct unit_shares *u, uint32_t tick, float memory, struct share_news *ret, uint32_t *tests)
{
	float part = u->young / u->now, p = bounded(u->young_share);

	if (u->samples < YOUNG) {
		u->young_share = YOUNG_SHARE;
		u->young_from = 0;
	} else {
		*tests += u->samples >= UNIT_YOUNG;
		move(&u->turnover, tick, likelihood(part * u->now, u->now, p, p + (1 - p) / 4), part * u->now, u->now, ret);
		note(ret, tick, news(&u->turnover, s_of(&u->turnover, u->ticks)), &u->turnover, youngest(u), u->young_share);
		if (u->turnover.now >= TURNED_OVER)
			shares_forget(u);
		if (u->samples < UNIT_YOUNG)
			ret->s = ret->height = 0;
		if (!is_burst(u))
			u->young_share += (part - u->young_share) * memory;
	}
	u->young = 0;
}

/* Samples are counted from a later one. */
static void count_from_anew(struct unit_shares *u)
{
	float from = u->samples - 2 * MEMORY;

	u->samples -= from;
	u->anew = MAX(u->anew - from, 0.0f);
	u->young_from = MAX(u->young_from - from, 0.0f);
	for (size_t i = 0; i < SHARES_FUNCTIONS; i++)
		u->functions[i].born = MAX(u->functions[i].born - from, 0.0f);
}

void shares_tick(struct unit_shares *u, const struct share_context *c, uint32_t tick, struct share_news ret[static SHARE_CHANGE_N],
		 uint32_t tests[static SHARE_CHANGE_N])
{
	float memory;

	memset(ret, 0, SHARE_CHANGE_N * sizeof(*ret));
	if (u->now <= 0)
		return;
	memory = MIN(u->now / MIN(MEMORY, u->samples - u->young_from + u->now), 1.0f);
	u->ticks += u->ticks < UINT32_MAX;
	visit_turnover(u, tick, memory, &ret[SHARE_TURNOVER], &tests[SHARE_TURNOVER]);
	for (size_t i = 0; i < SHARES_FUNCTIONS && u->keys[i]; i++) {
		visit(u, c, i, tick, ret, tests);
		u->counts[i] -= u->counts[i] * memory;
	}
	if (!is_burst(u))
		u->samples += u->now;
	u->usual += (u->now - u->usual) / MIN((float)u->ticks, USUAL_TICKS);
	if (u->samples > SHARES_SAMPLES_MAX)
		count_from_anew(u);
	u->now = 0;
}

static bool sum_valid(const struct share_sum *s, uint32_t tick)
{
	return isfinite(s->now + s->peak + s->most + s->height) && s->now >= 0 && s->most >= 0 && s->since <= tick;
}

bool shares_valid(const struct unit_shares *u, uint32_t tick)
{
	if (u->anew > u->samples || u->young_from > u->samples || u->seen > tick || u->told > tick || !isfinite(u->value + u->rate + u->now + u->usual + u->young + u->young_share + u->samples + u->anew + u->young_from) || !sum_valid(&u->turnover, tick) ||
	    !surplus_valid(&u->surplus, tick))
		return false;
	for (size_t i = 0; i < SHARES_PLACES; i++)
		if (u->places[i] >= SHARES_FUNCTIONS)
			return false;
	for (size_t i = 0; i < SHARES_FUNCTIONS; i++) {
		const struct function_share *f = &u->functions[i];

		if (!isfinite(f->share + u->counts[i] + f->now + f->lead + f->born) || f->born > u->samples || !sum_valid(&f->rises, tick) || !sum_valid(&f->falls, tick))
			return false;
	}
	return true;
}

void shares_forget(struct unit_shares *u)
{
	u->anew = u->samples;
	for (size_t i = 0; i < SHARES_FUNCTIONS; i++) {
		forget_sum(&u->functions[i].rises);
		forget_sum(&u->functions[i].falls);
	}
}

void shares_turned_over(struct unit_shares *u)
{
	shares_forget(u);
	u->turnover.most = MAX(u->turnover.most, u->turnover.peak);
	forget_sum(&u->turnover);
	u->young_share = YOUNG_SHARE;
	u->young_from = u->samples - MIN(u->samples, YOUNG);
}
