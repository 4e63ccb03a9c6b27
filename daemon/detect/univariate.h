/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Anomalies of one stream of numbers, of which nothing is known: no threshold, no training, no look-ahead, O(1) a
 * value, 20 KiB. The machine's totals are such streams (streams.h); the series of stacks, of which there are tens of thousands, have
 * model.h instead. What the two have in common and what not: docs/detection.md.
 *
 *     value ─▶ 7 views (views.h) ─▶ each calibrated by its own events (rarity.h), by rises and falls apart and together,
 *     in a short and a long memory ─▶ -log10 of the events as large that are remembered, its mean over all ─▶ refractory
 *
 * The mean over views is a product of what are not quite p-values (Fisher 1925), not the least of them: what is really out
 * of the ordinary is so in many ways, while each alone is fooled by something. Views depend on one another, hence the
 * mean, and no claim that it is a probability. */
#pragma once

#include "rarity.h"
#include "views.h"

#define UNIVARIATE_MEMORIES 2 /* of what was usual */
#define UNIVARIATE_SHORT (1u << 0)
#define UNIVARIATE_LONG (1u << 1)

struct univariate_config {
	uint32_t views;      /* mask of enum view */
	uint32_t memories;   /* mask of UNIVARIATE_SHORT, UNIVARIATE_LONG */
	bool apart;          /* rises are compared with rises, falls with falls, too */
	bool calibrated;     /* by events; else departures are taken as they are, as log10 */
	uint32_t refractory; /* values */
	double escalation;   /* by how much a surprise must exceed the last one within these */
};
extern const struct univariate_config univariate_default;

enum univariate_side { UNIVARIATE_RISE, UNIVARIATE_FALL, UNIVARIATE_EITHER, UNIVARIATE_SIDES };

/* Zeroed memory is a stream without values. No pointer, so that the owner may move it, store it and bring it back. */
struct univariate {
	struct views views;
	struct event_rarity rarities[VIEW_N][UNIVARIATE_MEMORIES][UNIVARIATE_SIDES];
	double greatest[VIEW_N][UNIVARIATE_SIDES]; /* of the block that is not over */
	uint32_t in_block;
	uint32_t since; /* values since a surprise was let through, up to the refractory period; 0 = none was */
	double peak;    /* that surprise */
	double surprise; /* of the newest value, let through or not */
};

/* Scores a value against those before, then learns it. Gives surprise: 0 for what is usual, about 2 for what is
 * worth a look; 0 for values that are no numbers or beyond 1e150, which are not learnt; 0 within the refractory
 * period unless it escalates. */
double univariate_add(struct univariate *u, const struct univariate_config *c, uint64_t time_us, double value);
/* Maps surprise to 0..1, 1/2 at what is worth a look; monotonic. */
double univariate_score(double surprise);
