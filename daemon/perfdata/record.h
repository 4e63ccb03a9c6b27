/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One record's bytes to what they say. Pure. */
#pragma once

#include <linux/perf_event.h>

#include "cursor.h"
#include "perfdata.h"

/* Whether it can only be read when its event is known: more than one event may have written it. */
struct record_layout {
	const struct perfdata_event *events;
	size_t n_events;
	const struct map64 *ids; /* of events → index */
	bool swapped;            /* the records are in the other byte order */
};

/* The types that are not in linux/perf_event.h: perf's own, in the file only. */
enum {
	RECORD_OWN = 64, /* and beyond */
	RECORD_HEADER_ATTR = 64,
	RECORD_TRACING_DATA = 66,
	RECORD_BUILD_ID = 67,
	RECORD_FINISHED_ROUND = 68,
	RECORD_AUXTRACE = 71,
	RECORD_EVENT_UPDATE = 78,
	RECORD_FEATURE = 80,
	RECORD_COMPRESSED = 81,
	RECORD_COMPRESSED2 = 83,
};

/* bytes: at least those of a header. */
struct perf_event_header record_header(const void *bytes, bool swapped);
/* What follows the header of a record of that size. */
struct cursor record_body(const void *bytes, size_t size, bool swapped);

/* Whether all events' ids are at the same place in a record; else nobody can say whose a sample is. */
bool record_layout_agrees(const struct record_layout *l);

/* The time, of any type up to 63; 0 when it has none. -EBADMSG: too short. */
int record_time(const struct record_layout *l, const void *bytes, size_t size, uint64_t *ret);

/* bytes: the whole record, header and all; size is what the header says. chain: room for what a sample's chain has. 1; 0: nothing of
 * interest; -EBADMSG: damaged, with *ret_reason (static). */
int record_parse(const struct record_layout *l, const void *bytes, size_t size, uint64_t chain[static PERFDATA_CHAIN_MAX],
		 struct perfdata_record *ret, const char **ret_reason);

/* From a record or an entry of the table: a build ID, and the path behind it. NULL: damaged. */
const char *record_build_id(const void *bytes, size_t size, bool swapped, struct perfdata_build_id *ret);
