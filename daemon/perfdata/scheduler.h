/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the scheduler's tracepoints write. Pure. */
#pragma once

#include "cursor.h"
#include "perfdata.h"

/* Where a field lies, in bytes, and whether it has four of them or eight. */
struct sched_field {
	size_t offset;
	bool is_long;
};

struct sched_formats {
	struct sched_field prev_pid, prev_state, next_pid, woken, waking;
};

/* As 64-bit kernels have had them since 2.6.32. */
extern const struct sched_formats sched_default_formats;

/* Takes what the format files of the recorded kernel say (the text among a file's tracing data); what they don't say stays. */
void sched_read_formats(struct sched_formats *f, const char *text, size_t size);
/* event: its name, "sched:sched_switch". False: it is none of them, or too short. */
bool sched_parse(const struct sched_formats *f, const char *event, struct cursor raw, struct perfdata_sched *ret);
