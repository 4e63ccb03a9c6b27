/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a series does several times as much as it does as a rule, from a tick on that nobody knows: a sum, which needs no window.
 *
 *     samples h of a tick, where mu are usual ─▶ ln(likelihood with 4 times as many / with mu), negative binomial of shape k ─┐
 *     x times what is usual, of waits         ─▶ ln(likelihood with 4 times as much / with 1), gamma of shape k ──────────────┴▶ sum
 *
 * A sum that would be negative begins anew at 0 (Page 1954, "Continuous inspection schemes"): no test of that change is faster (Moustakides 1986).
 * By noise of that shape it comes to x in a part e^-x of the ticks at most (Lorden 1971). 1/k is the variance beyond that of counting, in terms of
 * the mean squared, which what has few samples is slow to show. What lasts, as bursts do, takes a sum further:
 *
 *     s = ln(n + 1) * sum / max(the highest that an earlier sum came to, ln(n + 1))       n: ticks at 0, and excursions
 *
 * Of a series that varies by more than noise does s is the less; its tail is a power law, which model.h has. An excursion is taken for noise when it is over, but not
 * one that was told. */
#pragma once

#include "base.h"

struct series_sum {
	float noise;      /* 1/k */
	uint16_t pending; /* what of it this excursion is to add, packed */
	uint16_t now;     /* fixed point */
	uint16_t times;   /* n */
	uint8_t peak;     /* of this excursion; fixed point, as the next */
	uint8_t most;     /* that one came to which has ended; fades */
};
_Static_assert(sizeof(struct series_sum) == 12, "each series keeps two");

/* A tick, and those before it that had nothing. */
struct sum_tick {
	float value, mean;   /* samples, or in terms of any unit */
	float usual;         /* at most so many times the mean may be usual now */
	float mean_ticks;    /* that the mean is of */
	uint32_t silent;     /* ticks before */
	bool counted;        /* it is samples */
};

void sum_new(struct series_sum *u);
/* Learns how the values vary, and not more. */
void sum_learn(struct series_sum *u, const struct sum_tick *t);
/* The same, and moves the sum. Gives s if it has risen, or 0 if that is below what is ever told. */
float sum_move(struct series_sum *u, const struct sum_tick *t);
/* What this excursion has is not noise. */
void sum_told(struct series_sum *u);
/* The mean is not what is usual until the sum is at 0 again. */
void sum_doubt(struct series_sum *u);
void sum_fade(struct series_sum *u, uint32_t hour);
bool sum_valid(const struct series_sum *u);
