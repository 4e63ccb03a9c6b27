/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the daemon would have told of a recording: its stacks go through the store, the detector and the clusters, by ticks of a
 * second of the recording's own clock. */
#pragma once

#include "import_file.h"
#include "stack.h"

/* A recording that goes on for longer is cut there; one whose clock jumps by more than a gap goes on after it. */
#define REPORT_TICKS_MAX (14 * 86400U)
#define REPORT_GAP_MAX 3600U /* s */

/* A day, by default. Recordings are short against that: in a quarter of an hour one is to be expected. */
#define REPORT_FALSE_ALARMS 100
#define REPORT_EVENTS_MAX 16 /* told apart in the summary */

struct report;

struct report_config {
	double false_alarms_per_day;
	/* All of it is to be looked at later: there is room for many more stacks, of which seconds are kept for longer; what is of no metric
	 * is kept as hits, and what has no time as if it all were of one second. */
	bool keep;
	enum metric untimed; /* with keep: what the numbers of folded stacks are */
};

/* Takes 64 MiB for the store, or with keep as much as is used of 512. */
int report_new(struct report **ret, const struct report_config *config);
struct report *report_free(struct report *r);
DEFINE_CLEANUP(struct report *, report_free)

/* A stack_fn. Counts what says nothing of time: without a time or a metric. -E2BIG: the recording is longer than REPORT_TICKS_MAX. */
int report_add(void *userdata, const struct stack *stack);
/* Ends the last tick, after which nothing is added. -ENODATA: there was nothing to score. */
int report_end(struct report *r);

struct report_event {
	char name[64];
	uint64_t samples;
	enum metric metric;
};

struct report_summary {
	uint64_t samples, left_out; /* left_out: without a stack, or as report_add() says */
	uint64_t since_us, until_us; /* of the ticks, by the recording's clock */
	bool timed;                  /* it has a clock */
	struct report_event events[REPORT_EVENTS_MAX];
	size_t n_events;
};
void report_summarize(const struct report *r, struct report_summary *ret);
/* What it has in memory, for import_write(). */
struct import_rooms report_rooms(struct report *r);
/* As report_end(), and writes anomalies and incidents. */
int report_write(struct report *r, FILE *file);
