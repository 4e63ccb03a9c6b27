/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From nonconformity to probability by experience, and from the budget to the probability that is told.
 *
 * A family's scores over all series go into a log-spaced histogram that forgets with a half-life of two
 * days. Beyond its well-populated part an exponential tail is fitted by its mean excess, shrunk to a prior: s
 * is a logarithm, so that this is a power law of what was measured. Births and deaths of stacks, whose s is no
 * logarithm, have a Pareto tail (Hill's estimator, shrunk to a prior). A gate state that has seen little
 * borrows from the other.
 *
 * The budget is a bound on the expected number of false alarms a day (the per-family error rate: Spjotvoll
 * 1972), spent at a constant rate: each family has its share, of which a part is for the gate open, and a
 * test is told when p <= share / (the family's tests a day). By linearity of expectation this holds whatever the dependence between series and
 * ticks, of which there is plenty; the online procedures for the false discovery rate (LORD++, Ramdas et
 * al. 2017; SAFFRON, Ramdas et al. 2018) need conditionally valid p-values, and bound a proportion, which
 * is not what FalseAlarmsPerDay= promises. From them comes one thing: while alarms come fast, each further
 * one must be that much less probable. */
#pragma once

#include "model.h"

struct tail {
	double n;              /* tests that this rests on */
	double from, p_from;   /* where the fitted tail begins */
	double index;          /* p = p_from * (s / from)^(-1 / index) */
	double excess;         /* if > 0, p = p_from * exp((from - s) / excess) instead ... */
	double shape;          /* ... or, if > 0, p_from * (1 + shape * (s - from) / excess)^(-1 / shape), as heavy as a mixture of such tails */
	double p_floor;        /* no less can be claimed from n tests */
	double alpha, critical; /* p and s at which a test is told */
	double doubt;          /* p of a score that is as likely to be a trouble's as of what is usual: set by the caller */
	double critical_least;  /* s at which it is when evidence is lowered by DETECT_EVIDENCE_LOWERED */
	double above[BINS];    /* p of each bin's lower edge */
};

/* What is supposed of a family's tail. */
struct tail_prior {
	double excess; /* mean excess of an exponential tail before experience; 0: it is Pareto's */
	double least;  /* no less is believed */
	double shape;  /* how much heavier than exponential it is */
};

/* measured: how often it was looked for, where that is no test when there was nothing; 0: a test each time. */
void calibrate_prepare(struct tail *t, const struct family_state *f, bool gate_open, const struct tail_prior *prior, double measured, double alpha);
double calibrate_p(const struct tail *t, double s);
/* See struct tail. tests_per_day: as for calibrate_alpha(). */
double calibrate_doubt(double tests_per_day);
/* Adds a score to the histogram, a score that is no more likely to be of what is usual than of a trouble (the local false discovery rate: Efron et al.
 * 2001) the less so, and no higher than what is told; the tests, most of them without a score, are counted in n by the caller.
 * together: scores of the tail that come at the same time are one event seen in many series, and the k-th
 * counts 1/k. */
void calibrate_learn(struct family_state *f, bool gate_open, const struct tail *t, bool together, float s);
void calibrate_forget(struct family_state *f, double factor);
struct tail_prior calibrate_prior(unsigned family);
/* The family's share of the budget, in both states of the gate. */
double calibrate_share(unsigned family);
/* Share of the budget, a test. tests_per_day: that the family has in this state of the gate. Either state has its
 * part of the budget, so that the few ticks in which a machine is in trouble are not paid for by all those in
 * which it is not. */
double calibrate_alpha(unsigned family, bool gate_open, double false_alarms_per_day, double tests_per_day);
