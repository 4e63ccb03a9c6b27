/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the scheduler's tracepoints write. Pure. */
#pragma once

#include "perfdata.h"

/* Where the fields lie, in bytes. */
struct sched_formats {
	size_t prev_pid, prev_state, next_pid, woken, waking;
};

/* As the kernel has had them since 2.6.32. */
extern const struct sched_formats sched_default_formats;

/* Takes what the format files of the recorded kernel say (the text among a file's tracing data); what they don't say stays. */
void sched_read_formats(struct sched_formats *f, const char *text, size_t size);
/* event: its name, "sched:sched_switch". False: it is none of them, or too short. */
bool sched_parse(const struct sched_formats *f, const char *event, const uint8_t *raw, size_t size, struct perfdata_sched *ret);
