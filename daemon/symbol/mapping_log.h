/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel said lately of processes that began, executed and mapped code: a ring of records, the oldest of which are written
 * over. Whoever wants to know what was mapped in a process that is gone asks for the moment in which it was seen.
 *
 *   ring   [ ... fork 12←7 | exec 12 | map 12 | map 12 | fork 15←7 | map 9 ... ]
 *                    └───────────┴────────┴───────┘ the records of a process are linked, from the latest to the first
 */
#pragma once

#include "base.h"
#include "maps.h"
#include "symbol.h"

struct mapping_log;

/* size: bytes, rounded down to a power of two; at least 4 KiB. */
int mapping_log_new(struct mapping_log **ret, size_t size);
struct mapping_log *mapping_log_free(struct mapping_log *l);
DEFINE_CLEANUP(struct mapping_log *, mapping_log_free)

/* Events may come a little out of order. Allocates nothing. */
void mapping_log_add(struct mapping_log *l, const struct symbols_mapping_event *event);

struct mapping_image {
	struct mappings mappings; /* made since base_ns, or all of them when base is 0; where that changed later, there is none */
	pid_t base;               /* a process that had the rest, at base_ns, before anything in the log; 0: none */
	uint64_t base_ns;
	pid_t parent;             /* 0: not known */
	char exe[256];            /* what was executed; "": what base had */
};

/* What a process had mapped while it was what it was at that moment (CLOCK_MONOTONIC): until it executed something else, or ended.
 * mapping_image_done() afterwards. -ENOENT: the log does not go back to the beginning of what it executed then. */
int mapping_log_image(struct mapping_log *l, pid_t pid, uint64_t time_ns, struct mapping_image *ret);
void mapping_image_done(struct mapping_image *image);
/* Whether the process executed something else since then, or another one has begun under its number. */
bool mapping_log_has_changed(struct mapping_log *l, pid_t pid, uint64_t since_ns);

/* Bytes of records that are still there, and the most. */
void mapping_log_get_usage(const struct mapping_log *l, uint64_t *ret_used, uint64_t *ret_max);
