/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The detector itself, shared by detect.c (series of stacks, the tick's frame) and totals.c. */
#pragma once

#include "calibrate.h"

/* Of a unit: by how much waits are more than in the last minute, and by how much waits and what it wants of the CPUs are less; ns a second. */
struct moved {
	float more, less;
};

struct detect {
	struct detect_config config;
	struct global_state *g;
	struct detect_tick tick;
	struct tick_context context, total_context;
	bool scoring;  /* this tick is a measurement */
	unsigned astray; /* ticks one after the other that were of another length than usual */
	unsigned other_ticks; /* the same, of a length that is measured ... */
	float other_seconds;  /* ... and theirs */
	uint32_t cpus; /* online in this tick, or when that was known last */
	bool measured;  /* nothing that units did in this tick is but supposed */
	bool was_blank; /* in the tick before no unit used any CPU */
	uint32_t ticks; /* that were, since the detector was made */
	uint32_t live; /* series that were not silent in this tick */
	struct findings findings;
	detect_evidence_fn evidence; /* NULL: none */
	void *evidence_userdata;
	struct tail tails[FAMILIES];
	struct map64 *unit_by_key;                  /* index into g->units */
	uint64_t unit_values[TOTALS_MAX][METRIC_N]; /* what has been added in this tick */
	int64_t unit_memory[TOTALS_MAX];            /* the same of bytes */
	struct moved unit_moved[TOTALS_MAX];        /* of this tick's waits */
	struct map64 *shares_by_key;                /* index into g->shares */
	bool unit_told; /* of the unit of the series that is scored next, a short time ago: what its stacks do follows from that */
};

/* A finding, how improbable it is, and the decades by which it must be more so. */
struct weighed {
	const struct finding *finding; /* NULL: none */
	double p, evidence;
};

/* Learns of the visit's findings. Gives that which is furthest beyond what is told, or nearest to it where less may be enough. */
struct weighed detect_weigh(struct detect *d, struct series_state *s);
/* Whether a finding is news that the budget has room for. */
bool detect_may_tell(const struct detect *d, const struct series_state *s, const struct weighed *w);
void detect_tell(struct detect *d, struct series_state *s, const struct weighed *w, struct detect_result *ret);

void totals_load(struct detect *d); /* makes unit_by_key from the state */
void totals_prepare(struct detect *d);
/* Adds what the machine did in this tick to its streams, and scores them when five minutes are over. Gives true, with what was found, if
 * that is to be told. */
bool streams_visit(struct detect *d, const uint64_t sum[static METRIC_N], struct finding *ret, double *ret_p);
void waits_begin_unit(struct detect *d, size_t unit); /* before the tick's waits; after its totals were visited */
void functions_load(struct detect *d); /* makes shares_by_key from the state */
