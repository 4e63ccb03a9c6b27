/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes down what a source of ticks yields and answers, between it and the pipeline. */
#pragma once

#include "recording.h"
#include "tick_source.h"

struct recorder;

/* fd stays the caller's, and where it writes. */
int recorder_new(struct recorder **ret, int fd, const struct recording_config *config);
struct recorder *recorder_free(struct recorder *r);
DEFINE_CLEANUP(struct recorder *, recorder_free)

/* What the pipeline takes instead of source, whose parts must outlive it. */
struct tick_source recorder_source(struct recorder *r, const struct tick_source *source);
/* Around each tick of the pipeline: with what it is told for it, and what came of it. Negative errno: what was recorded can't be
 * written. */
void recorder_begin_tick(struct recorder *r, uint64_t now_us, const pid_t *own, size_t n_own);
int recorder_end_tick(struct recorder *r, const struct recording_digest *digest);
/* Ends the file. Gives how large it is. */
int recorder_finish(struct recorder *r, uint64_t *ret_bytes);
