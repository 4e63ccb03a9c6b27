/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The answers of a recording: those to the event that comes next, in their order, and the last ones to every question. */
#pragma once

#include "recording.h"

#define ANSWERS_QUEUE_MAX 131072 /* to one event: all that waited for names may ask again */
#define ANSWERS_KEPT_MAX 65536   /* of processes and stacks each; beyond, those kept are forgotten */

struct answers;

int answers_new(struct answers **ret);
struct answers *answers_free(struct answers *a);
DEFINE_CLEANUP(struct answers *, answers_free)

/* Copied. -ENOSPC: too many to one event. */
int answers_add_process(struct answers *a, const struct recording_process *p);
int answers_add_stack(struct answers *a, const struct recording_stack *s);
/* The event has been told. */
void answers_end_event(struct answers *a);

/* The answer to a question, good until the next call; NULL: it was never asked. */
const struct recording_process *answers_process(struct answers *a, const struct collect_process *process);
const struct recording_stack *answers_stack(struct answers *a, uint64_t raw_id);
