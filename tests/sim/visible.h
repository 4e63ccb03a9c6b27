/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When could a trouble be seen? One who knows exactly what the machine would do without it, and what it does with it, and
 * sees what the detector sees, adds up ln of the likelihood of the second over that of the first. By chance that sum comes from 0 to x before
 * e^x ticks have passed on average (Lorden 1971), for each trouble of each series that there might be; the budget says how often it may.
 * No test can do better (Moustakides 1986). A detector has to learn both from what it sees. */
#pragma once

/* The sum that is asked for. */
double visible_needed(unsigned series, double false_alarms_per_day);
/* ln of the likelihood ratio of seeing n where a mean of `with` would be with the trouble, and `without` without it. */
double visible_counts(double n, double without, double with);
/* The same of a rate that is mean times gamma noise of a shape, and plus `more` with the trouble. */
double visible_rate(double x, double mean, double shape, double more);
/* The same of a rate that is so many times as much with the trouble, plus more. */
double visible_times(double x, double mean, double shape, double times, double more);
/* The same of samples of such a rate: n of them, of which there are `mean` as a rule, with the trouble so many times as many, plus more. */
double visible_samples(double n, double mean, double shape, double times, double more);
