/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The data's way through the rooms, once a tick: collect -> symbol -> store -> detect -> incidents -> alert. */
#pragma once

#include "alert.h"
#include "base.h"
#include "collect.h"
#include "detect.h"
#include "incidents.h"
#include "scoring.h"
#include "stack_ids.h"
#include "store.h"
#include "symbol.h"
#include "recording.h"
#include "tick_source.h"
#include "unwind.h"

struct pipeline;

struct pipeline_rooms {
	struct collect *collect;
	struct symbols *symbols;
	struct unwind *unwind;
	struct store *store;
	struct detect *detect;
	struct alert *alert;
	struct incidents *incidents;
	struct moments *moments; /* NULL: when samples were taken is not kept */
	struct thread_waits *thread_waits; /* NULL: which threads waited is not kept */
};

struct pipeline_config {
	uint32_t max_stacks;   /* raw stacks in the kernel map: sizes the cache of raw ids and the open waits */
	pid_t own_pids[SCORING_OWN_PIDS_MAX]; /* stackd and its helpers: recorded, never scored */
	size_t n_own_pids;
	const struct tick_source *source; /* copied; NULL: the machine, through the rooms */
	bool digest;           /* keep one of each tick */
	uint64_t memory_bytes; /* that the machine has; 0: this one's */
};

/* The rooms are borrowed. With another source than the machine only store, detect and incidents are needed. */
int pipeline_new(struct pipeline **ret, const struct pipeline_rooms *rooms, const struct pipeline_config *config);
struct pipeline *pipeline_free(struct pipeline *p);
DEFINE_CLEANUP(struct pipeline *, pipeline_free)

/* The parser restarts under another pid. */
void pipeline_set_own_pids(struct pipeline *p, const pid_t *pids, size_t n);

typedef void (*pipeline_anomaly_fn)(void *userdata, const struct store_anomaly *anomaly);

/* One tick: drains, identifies, stores, scores, groups, tells, commits, and then gives each anomaly to fn. now_us: realtime. */
int pipeline_tick(struct pipeline *p, uint64_t now_us, pipeline_anomaly_fn fn, void *userdata);

/* What came of the last tick, when config->digest is set. */
void pipeline_get_digest(const struct pipeline *p, struct recording_digest *ret);

/* Call when collect_mappings_fd() is readable. */
void pipeline_take_mappings(struct pipeline *p);

/* Call when the parser has answered, between ticks: asks at once for further names that pending stacks need, so that a backlog is
 * worked off at the parser's pace and not at the ticks'. */
void pipeline_names_arrived(struct pipeline *p);

/* The store's id of a raw stack. -EAGAIN: its names are not known yet. */
int pipeline_stack_id(struct pipeline *p, uint64_t raw_id, uint64_t *ret);

/* Of a stack of the store, the heaviest first, at most max. ret_weight: of all, beyond max as well. */
size_t pipeline_addresses(struct pipeline *p, uint64_t stack_id, struct stack_address *ret, size_t max, double *ret_weight);

struct pipeline_status {
	uint64_t ticks, ticks_missed;
	uint64_t last_tick_us;                 /* realtime */
	uint32_t last_series;                  /* live series in the last tick */
	uint64_t cost_ns, cost_max_ns;         /* of the last tick; of the worst within a minute */
	double conservation[METRIC_N];         /* sum over stacks / exact total over the last minute; negative: too little to tell */
	uint32_t pending, pending_max;         /* stacks that wait for their names */
	uint32_t cached_stacks, cached_stacks_max;
	uint32_t waits, waits_max;             /* stacks with threads in waits that last */
};
void pipeline_get_status(const struct pipeline *p, struct pipeline_status *ret);
