/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the daemon would have told of a recording: its stacks go through the store, the detector and the clusters, by ticks of a
 * second of the recording's own clock. */
#pragma once

#include "stack.h"

/* A recording that goes on for longer is cut there; one whose clock jumps by more than a gap goes on after it. */
#define REPORT_TICKS_MAX (14 * 86400U)
#define REPORT_GAP_MAX 3600U /* s */

struct report;

struct report_config {
	double false_alarms_per_day;
};

/* Takes 64 MiB for the store. */
int report_new(struct report **ret, const struct report_config *config);
struct report *report_free(struct report *r);
DEFINE_CLEANUP(struct report *, report_free)

/* A stack_fn. Counts what says nothing of time: without a time or a metric. -E2BIG: the recording is longer than REPORT_TICKS_MAX. */
int report_add(void *userdata, const struct stack *stack);
/* Ends the last tick, and writes anomalies and incidents. -ENODATA: there was nothing to score. */
int report_write(struct report *r, FILE *file);
