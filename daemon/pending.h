/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What waits for its names: raw stacks whose objects are still being read, and processes that could not be looked at yet, with what
 * they did meanwhile. Told to the store as soon as they are known, a tick or two late. Bounded. */
#pragma once

#include "base.h"
#include "collect.h"

struct pending_table;

struct pending {
	uint64_t key;   /* raw stack id, or a hash of the process; 0: dropped */
	bool total;     /* of a process, not of a stack */
	struct collect_process process;
	uint64_t values[METRIC_N], variances[METRIC_N];
	int64_t resident, anonymous; /* bytes, of a process */
	int threads;    /* that entered a lasting wait on this stack */
};

int pending_new(struct pending_table **ret, uint32_t max);
struct pending_table *pending_free(struct pending_table *t);
DEFINE_CLEANUP(struct pending_table *, pending_free)

/* The entry of key, or NULL. */
struct pending *pending_find(struct pending_table *t, uint64_t key);
/* The same, made if it isn't there, with key, process and total set; NULL when the table is full. No entry given before is valid any more. */
struct pending *pending_make(struct pending_table *t, uint64_t key, const struct collect_process *process, bool total);
void pending_drop(struct pending_table *t, struct pending *entry);
/* Moves what is left together, in its order, and gives back memory that a burst took. No entry given before is valid any more. */
void pending_close_gaps(struct pending_table *t);
/* Walks all entries, the oldest first: start with *cursor = 0; NULL at the end. The entry given last may be dropped meanwhile. */
struct pending *pending_next(struct pending_table *t, uint32_t *cursor);
uint32_t pending_count(const struct pending_table *t);
