/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "univariate.h"

/* In values. */
#define BLOCK 32    /* what is over sooner is one event */
#define WARM_UP 100 /* these aren't scored, since nothing is known yet */
#define HALF_LIFE_SHORT 1000.0
#define HALF_LIFE_LONG 4000.0
/* Surprise is 0 when 10^3 such events are remembered, which is more than there can be. */
#define SURPRISE_ZERO 3.0
/* What a thousandth of an event is: no view alone, nor its first departure ever, may speak for all. */
#define SURPRISE_MAX 6.0
#define WORTH_A_LOOK 2.0

const struct univariate_config univariate_default = {
	.views = (1u << VIEW_N) - 1,
	.memories = (1u << UNIVARIATE_MEMORIES) - 1,
	.apart = true,
	.calibrated = true,
	.refractory = 100,
	.escalation = 0.2,
};

static double surprise_of_events(double events)
{
	return MIN(MAX(SURPRISE_ZERO - log10(events), 0.0), SURPRISE_MAX);
}

static double surprise_of_view(const struct univariate *u, const struct univariate_config *c, enum view v, double x)
{
	enum univariate_side side = x > 0 ? UNIVARIATE_RISE : UNIVARIATE_FALL;
	double sum = 0, n = 0;

	if (x == 0)
		return 0;
	x = fabs(x);
	if (!c->calibrated)
		return MAX(log10(x) + 1, 0.0);
	for (unsigned m = 0; m < UNIVARIATE_MEMORIES; m++) {
		if (!(c->memories & 1u << m))
			continue;
		sum += surprise_of_events(event_rarity_of(&u->rarities[v][m][UNIVARIATE_EITHER], x));
		n++;
		if (c->apart) {
			sum += surprise_of_events(event_rarity_of(&u->rarities[v][m][side], x));
			n++;
		}
	}
	return n > 0 ? sum / n : 0;
}

static double surprise_of_all(const struct univariate *u, const struct univariate_config *c, const double departures[static VIEW_N])
{
	double sum = 0, n = 0;

	for (unsigned v = 0; v < VIEW_N; v++) {
		if (!(c->views & 1u << v))
			continue;
		sum += surprise_of_view(u, c, v, departures[v]);
		n++;
	}
	return n > 0 ? sum / n : 0;
}

static void learn_block(struct univariate *u)
{
	const float fades[UNIVARIATE_MEMORIES] = {
		(float)exp2(-BLOCK / HALF_LIFE_SHORT),
		(float)exp2(-BLOCK / HALF_LIFE_LONG),
	};

	for (unsigned v = 0; v < VIEW_N; v++)
		for (unsigned m = 0; m < UNIVARIATE_MEMORIES; m++)
			for (unsigned s = 0; s < UNIVARIATE_SIDES; s++)
				event_rarity_learn(&u->rarities[v][m][s], u->greatest[v][s], fades[m]);
}

static void learn(struct univariate *u, const double departures[static VIEW_N])
{
	for (unsigned v = 0; v < VIEW_N; v++) {
		u->greatest[v][UNIVARIATE_RISE] = MAX(u->greatest[v][UNIVARIATE_RISE], departures[v]);
		u->greatest[v][UNIVARIATE_FALL] = MAX(u->greatest[v][UNIVARIATE_FALL], -departures[v]);
		u->greatest[v][UNIVARIATE_EITHER] = MAX(u->greatest[v][UNIVARIATE_EITHER], fabs(departures[v]));
	}
	if (++u->in_block < BLOCK)
		return;
	if (u->views.n > WARM_UP)
		learn_block(u);
	memset(u->greatest, 0, sizeof(u->greatest));
	u->in_block = 0;
}

/* Lets through what nothing has come before lately, and what is more than that was. */
static double refrain(struct univariate *u, const struct univariate_config *c, double surprise)
{
	bool free_to = u->since == 0 || u->since >= c->refractory;

	if (surprise > (free_to ? 0 : u->peak + c->escalation)) {
		u->peak = surprise;
		u->since = 1;
		return surprise;
	}
	if (u->since > 0 && u->since < c->refractory)
		u->since++;
	return 0;
}

double univariate_add(struct univariate *u, const struct univariate_config *c, uint64_t time_us, double value)
{
	double departures[VIEW_N];

	if (!isfinite(value) || fabs(value) > VIEW_VALUE_MAX)
		return 0;
	views_add(&u->views, time_us, value, departures);
	u->surprise = u->views.n > WARM_UP ? surprise_of_all(u, c, departures) : 0;
	learn(u, departures);
	return refrain(u, c, u->surprise);
}

double univariate_score(double surprise)
{
	return surprise > 0 ? 1 / (1 + pow(10, WORTH_A_LOOK - surprise)) : 0;
}
