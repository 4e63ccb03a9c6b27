/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine on a virtual clock: series of many kinds, a gate, daily load, loss, and faults of known truth,
 * given to the detector as the daemon would give them. */
#pragma once

#include "detect.h"

#define WORLD_LIVE_TICKS 60 /* a series is visited with zeros for so long after its last sign of life */

enum fault_kind {
	FAULT_SPIN,         /* one series burns a CPU */
	FAULT_BLOCKED,      /* one series' threads wait far longer */
	FAULT_STARVATION,   /* all series wait for a CPU, since a stack never seen has 60 tasks a CPU */
	FAULT_STORM,        /* one series takes page faults by the ten thousand */
	FAULT_VANISHED,     /* one regular series falls silent */
	FAULT_SHIFT,        /* one series does five times as much from now on */
	FAULT_NEW_SPIN,     /* a stack never seen burns all CPUs */
	FAULT_N,
};
const char *fault_to_string(enum fault_kind k);

struct fault {
	enum fault_kind kind;
	uint32_t series;    /* which one it hits; chosen by the world */
	uint64_t from, until; /* ticks */
	uint64_t found;     /* tick of the first alarm that it explains; 0 = none */
	uint64_t visible;   /* tick from which on it could be seen (visible.h); 0 = not yet */
	double evidence;    /* -ln of the odds that there is none */
};

struct world_config {
	uint64_t seed;
	uint32_t n_series;  /* lasting ones; short-lived ones come and go on top */
	double surge_every; /* mean ticks between surges of load, which open the gate; 0 = none */
	bool daily;         /* load goes up and down with the hours */
	bool lossy;         /* some ticks lose samples */
	bool units;         /* the detector is told of units, 50 or more series each, their exact totals and waits; not of functions: a program's
	                     * have its load in common, and series here don't */
	double false_alarms_per_day;
};

/* What detect said of one series in one tick. */
#define WORLD_TOTAL UINT32_MAX
struct scored {
	uint64_t tick;
	uint32_t series;  /* WORLD_TOTAL: it is of a unit, or of the machine */
	uint64_t unit;    /* 0: of the machine */
	struct detect_result result;
};
typedef void (*scored_fn)(void *userdata, const struct scored *scored);

struct world;
int world_new(struct world **ret, const struct world_config *config);
struct world *world_free(struct world *w);
DEFINE_CLEANUP(struct world *, world_free)

/* Decades of evidence that the detector asks for, by series: detect_set_evidence(). */
typedef double (*world_evidence_fn)(void *userdata, uint32_t series, enum metric metric, bool rises);
void world_set_evidence(struct world *w, world_evidence_fn fn, void *userdata);
/* Only for faults that a series of the kind concerned can have: picks it. Of more than 64 the oldest are over. */
void world_add_fault(struct world *w, struct fault *fault);
/* Whether an alarm is about the fault. */
bool world_explains(const struct world *w, const struct fault *f, const struct scored *s);
/* Runs one tick; fn is called for each alarm. */
void world_tick(struct world *w, scored_fn fn, void *userdata);
uint64_t world_now(const struct world *w);
/* Ends the detector and starts it anew in copies of its states at other addresses. */
void world_restart_detector(struct world *w);
const struct detect *world_detect(const struct world *w);
const char *world_series_kind(const struct world *w, uint32_t series);
bool world_gate_open(const struct world *w);
/* Of this tick, what a series does, what the detector knows of it, and its unit; for config.units. The series with most of a metric, of a unit or of
 * the machine (0). */
const uint64_t *world_values(const struct world *w, uint32_t series);
const void *world_state(const struct world *w, uint32_t series);
uint64_t world_unit(const struct world *w, uint32_t series);
uint32_t world_most(const struct world *w, uint64_t unit, enum metric metric);
/* A hash of every state that the detector keeps. */
uint64_t world_state_hash(const struct world *w);
