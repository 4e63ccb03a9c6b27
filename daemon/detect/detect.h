/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Online anomaly detection over many series: pure (state, now, values) -> scores. No threshold for anyone to
 * pick: each value's tail probability under the series' own model is calibrated over all series, and the
 * false-alarm budget decides what is told. No look-ahead, no training phase, O(1) a value, no allocation. */
#pragma once

#include "base.h"

/* Sizes of the state that the caller keeps: zeroed memory, 8-byte aligned, position-independent, valid across restarts. */
size_t detect_series_state_size(void);
size_t detect_global_state_size(void);

struct detect_config {
	double false_alarms_per_day; /* over all series; 1.0 */
};

enum detect_type {
	DETECT_SPIKE,
	DETECT_DROP,
	DETECT_LEVEL_SHIFT,
	DETECT_NEW_STACK,
	DETECT_VANISHED_STACK,
	DETECT_SLOW_GROWTH,
	DETECT_COST_SHIFT, /* a function has more of its unit's time */
	DETECT_NEW_CODE,   /* functions that were not there have much of it */
	DETECT_TYPE_N,
};
const char *detect_type_to_string(enum detect_type t); /* "spike", "drop", "level-shift", "new-stack", "vanished-stack", "slow-growth", "cost-shift", "new-code" */
int detect_type_from_string(const char *s, enum detect_type *ret);

/* What one tick has in common for all series. */
struct detect_tick {
	uint64_t time_us;      /* realtime */
	uint64_t duration_ns;
	double load;
	bool gate_open;
	uint32_t online_cpus;  /* 0: as many as in the tick before */
	double lost_fraction;  /* 0..1 of this tick's samples */
	uint64_t memory_bytes; /* that the machine has; 0: not known */
};

struct detect_result {
	enum detect_type type;
	enum metric metric;
	double p_value;        /* calibrated */
	double score;          /* -log10(p_value) */
	double margin;         /* decades by which it is less probable than it had to be */
	double observed, expected; /* metric's unit per second */
	uint64_t since_us;
	unsigned family;       /* of tests, whose part of the budget it is */
};

struct detect;
/* global is detect_global_state_size() bytes that outlive the detector. */
int detect_new(struct detect **ret, const struct detect_config *config, void *global);
struct detect *detect_free(struct detect *d);
DEFINE_CLEANUP(struct detect *, detect_free)
void detect_reconfigure(struct detect *d, const struct detect_config *config);

/* Adds to what a unit used in this tick, as the kernel counts it: exact, not sampled. To be called before
 * detect_tick_begin(). key: of the unit, the same after restarts, not 0. Gives -ENOSPC when more units did
 * something in this tick than are followed. */
int detect_add_total(struct detect *d, uint64_t key, const uint64_t values[static METRIC_N]);

/* So many bytes more, or less, of memory that can't be read from a file again has a unit now: from its first bytes on, so that the sum is
 * what it has. To be called as detect_add_total() is. */
int detect_add_memory(struct detect *d, uint64_t key, int64_t change);

/* What is known of a series from elsewhere: decades by which a finding of this metric must be less probable (> 0), or may be more
 * probable (< 0, at most DETECT_EVIDENCE_LOWERED), than the budget has it. Asked within detect_series(), of the series that it was called with, and only
 * of findings that are nearly or more than enough. */
#define DETECT_EVIDENCE_LOWERED 1.0
typedef double (*detect_evidence_fn)(void *userdata, enum metric metric, bool rises);
void detect_set_evidence(struct detect *d, detect_evidence_fn fn, void *userdata);

void detect_tick_begin(struct detect *d, const struct detect_tick *tick);
/* Scores what was added, by unit and for the machine as a whole, and learns it; once in each tick. Gives true,
 * with the unit's key (0: the machine's) and *ret filled, when it is to be told: at most one a tick, the one
 * that moved most. */
bool detect_totals(struct detect *d, uint64_t *ret_key, struct detect_result *ret);
/* The same of units' memory that grows and is not given back; the metric is METRIC_RSS, since_us when the growth began. */
bool detect_growth(struct detect *d, uint64_t *ret_key, struct detect_result *ret);
/* How much more a series waits than in the last minute, ns a second; negative: less. Asked before detect_series() of the same tick. */
double detect_wait_rise(const struct detect *d, const void *state, uint64_t blocked, uint32_t silent_ticks);
/* Adds that to its unit's, which detect_add_total() made known; of others nothing is followed. Of what is more only that counts which is beyond
 * what any tick of the series has shown. process_s: for how long the process has been
 * there that waits. One that has just been started waits where it did not, and nothing is wrong. */
void detect_add_wait(struct detect *d, uint64_t key, const void *state, uint64_t blocked, double rise, double process_s);
/* The same as detect_totals(), of threads that wait where they did not and are missed elsewhere; the metric is METRIC_BLOCKED. Once in each tick,
 * after all series. */
bool detect_moved_waits(struct detect *d, uint64_t *ret_key, struct detect_result *ret);
/* How fast the memory of a unit grows now, bytes a second; 0: it does not. */
double detect_growth_rate(const struct detect *d, uint64_t key);
/* Whether the unit waits for CPUs by more than twice as much more than usual as it gets more of them, or twice what is waited for them on this machine
 * as a rule, over the last 4 ticks, and by a fifth of a CPU at least. */
bool detect_unit_starves(const struct detect *d, uint64_t key);
/* What was told last turned out to be part of a trouble that was told before: it makes no other need to be less probable. */
void detect_same_trouble(struct detect *d);
/* Adds to what a unit's samples in this tick are of: what one series has, with the functions on its stack, each named once. To be called after
 * detect_tick_begin(), and before the detect_series() of that series: what its unit was told for explains what it does. */
void detect_add_functions(struct detect *d, uint64_t unit, uint64_t series, const uint64_t *functions, size_t n,
			  const uint64_t values[static METRIC_N]);
/* Scores what was added, and learns it; once in each tick, before its end. Gives true, with the series that has, or had, most of the function,
 * and *ret filled, when a function has more or less of its unit's time than ever, or functions that are new have much of it. */
bool detect_functions(struct detect *d, uint64_t *ret_series, struct detect_result *ret);
/* What detect_totals(), detect_growth(), detect_moved_waits() or detect_functions() gave is not told after all, as it turned out where it came from: counts it
 * as held back, and gives back what it took of the budget. */
void detect_withhold(struct detect *d, const struct detect_result *told);
/* Scores one series' values of this tick and learns them. silent_ticks: ticks before this one that had nothing and for which this was not called.
 * Gives true, and fills *ret, when the series is to be told as an anomaly. */
bool detect_series(struct detect *d, void *state, const uint64_t values[static METRIC_N], uint32_t silent_ticks, struct detect_result *ret);
/* What is expected of a series with that state, in the metric's unit per second; 0: nothing, or it is new. */
double detect_series_usual(const void *state, enum metric metric);
void detect_tick_end(struct detect *d);

struct detect_status {
	uint64_t scored;       /* values since the state was made */
	uint64_t alarms;       /* told */
	uint64_t suppressed;   /* improbable, but held back by the budget, the refractory period or labels */
	double threshold;      /* the score that a value needs now */
	double tests_per_day;
	uint32_t units, units_max; /* whose totals are followed */
};
void detect_get_status(const struct detect *d, struct detect_status *ret);
