/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stackd record has written, through the daemon's own pipeline: it computes the same series and scores as the daemon that was
 * recorded. */
#pragma once

#include "folded.h"
#include "import_file.h"
#include "recording.h"
#include "source.h"

struct recorded;

struct recorded_options {
	double false_alarms_per_day; /* 0: as recorded */
	bool moments;                /* keep when samples were taken */
};

/* Opens it and makes room for what the recorded daemon had room for. source is borrowed. As recording_open(). */
int recorded_new(struct recorded **ret, struct source *source, const struct recorded_options *options, struct recording_error *ret_error);
struct recorded *recorded_free(struct recorded *r);
DEFINE_CLEANUP(struct recorded *, recorded_free)

/* All of it. -EBADMSG, with *ret_error: it is damaged; what came before stays. */
int recorded_run(struct recorded *r, struct recording_error *ret_error);

/* How the replay differs from what was recorded. */
struct recorded_status {
	uint64_t ticks;
	uint64_t series_differ, scores_differ; /* ticks */
	uint64_t first_us;                     /* realtime of the first of them */
	uint64_t unanswered;                   /* questions that the recorded daemon didn't ask */
	uint64_t samples, lost;
	uint64_t begin_us, end_us;             /* realtime, of all ticks */
};
void recorded_get_status(const struct recorded *r, struct recorded_status *ret);

/* Anomalies and incidents. */
int recorded_write_report(struct recorded *r, FILE *file);
/* Its stacks with their sums over all of it, of metric. */
int recorded_fold(struct recorded *r, enum metric metric, struct folded *folded);
/* What it has in memory, for import_write(). */
struct import_rooms recorded_rooms(struct recorded *r);
