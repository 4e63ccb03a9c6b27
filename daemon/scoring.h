/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a tick has that is out of the ordinary: the store's live series and the units' totals through the detector, and for a total
 * the stack that stands for it. */
#pragma once

#include "base.h"
#include "detect.h"
#include "incidents.h"
#include "store.h"

struct scoring;

#define SCORING_OWN_PIDS_MAX 4

/* All are borrowed. */
int scoring_new(struct scoring **ret, struct store *store, struct detect *detect, struct incidents *incidents);
struct scoring *scoring_free(struct scoring *s);
DEFINE_CLEANUP(struct scoring *, scoring_free)

/* stackd and its helpers: recorded, never scored. At most SCORING_OWN_PIDS_MAX. */
void scoring_set_own_pids(struct scoring *s, const pid_t *pids, size_t n);
/* What a process did in the open tick, to its unit's total. Negative: there are too many units. */
int scoring_add_total(struct scoring *s, store_ref process, const uint64_t values[static METRIC_N]);
/* The same of its anonymous memory: bytes that it has more. */
int scoring_add_memory(struct scoring *s, store_ref process, int64_t change);
/* Before a tick is opened, when the store can be asked for what was: looks for the stacks of totals that have none now. */
void scoring_look_back(struct scoring *s, uint64_t now_us);
/* Scores the open tick. lost_fraction: of its samples. Gives how many anomalies; *ret is valid until the next tick. */
size_t scoring_tick(struct scoring *s, const struct store_tick *tick, double lost_fraction, struct store_anomaly **ret);
/* In the last tick. */
uint32_t scoring_live_series(const struct scoring *s);
uint32_t scoring_anomalies(const struct scoring *s);

/* Bytes of memory that the machine has: of this one, which is taken unless another is said. */
uint64_t scoring_machine_memory(void);
void scoring_set_memory(struct scoring *s, uint64_t bytes);
/* Hashes of the last tick: over the live series and their values, and over the detector's state of each and what is told. They cost reading
 * all of it, so they are made when it is asked for. */
void scoring_set_digest(struct scoring *s, bool on);
void scoring_get_digest(const struct scoring *s, uint64_t *ret_series, uint64_t *ret_scores);
