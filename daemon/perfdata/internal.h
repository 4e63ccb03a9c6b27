/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reader's state, and what its files do for each other. */
#pragma once

#include "cursor.h"
#include "order.h"
#include "packed.h"
#include "record.h"
#include "scheduler.h"
#include "source.h"

struct perfdata {
	struct source *source;
	struct order *order;
	struct packed *packed; /* NULL: nothing was compressed yet */
	uint64_t packed_offset; /* of the piece */
	bool is_pipe;
	bool swapped; /* its numbers are in the other byte order */
	uint64_t data_start, data_end;
	uint64_t features[4]; /* bits */
	struct perfdata_event events[PERFDATA_EVENTS_MAX];
	size_t n_events;
	bool agrees; /* the events' layouts, since the last was added */
	struct map64 *ids;           /* of events → index */
	struct map64 *build_id_index; /* hash of the path → index */
	struct perfdata_build_id *build_ids;
	size_t n_build_ids, max_build_ids;
	char kernel_release[72];
	uint32_t cpus;
	bool knows_realtime;
	int64_t realtime_ahead_ns;
	struct sched_formats sched;
	bool is_other_machine; /* by the features: whose registers are not those of x86-64 */
	struct perfdata_status status;
	bool ended;
	int failed; /* what reading ended with */
	struct perfdata_error error, failure; /* of the last part that was read; of the first that failed */
	struct perfdata_error features_error; /* what is empty: nothing is wrong with them */
	struct ordered *current; /* what the caller has */
	uint64_t chain[PERFDATA_CHAIN_MAX];
	uint8_t unordered[PERFDATA_RECORD_MAX]; /* the caller's record when it didn't wait */
};

/* Gives -EBADMSG, and says so. */
int perfdata_damaged(struct perfdata_error *error, uint64_t offset, const char *format, ...) _printf_(3, 4);

/* Everything before the first record, and the features. */
int header_read(struct perfdata *p, struct perfdata_error *error);

/* Each takes what a part of the file says; offset: where it lies. */
int header_add_event(struct perfdata *p, const uint8_t *attr, size_t size, uint64_t offset, struct perfdata_error *error);
int header_add_id(struct perfdata *p, uint64_t id, size_t event, uint64_t offset, struct perfdata_error *error);
int header_add_build_id(struct perfdata *p, const uint8_t *record, size_t size);
/* A feature whose bytes are complete, or as much of it as a record has. */
int header_add_feature(struct perfdata *p, uint64_t feature, struct cursor c);
void header_name_event(struct perfdata *p, uint64_t id, const char *name);
