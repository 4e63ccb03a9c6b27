/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the pipeline's ticks come from, and who answers what it asks about them: the machine, or a recording of one. */
#pragma once

#include "collect.h"
#include "symbol.h"

struct tick_source {
	/* Yields one tick, as collect_tick() does. */
	int (*tick)(void *userdata, const struct collect_sink *sink, void *sink_userdata);
	/* Who it is, as symbols_process() says, and when it started in realtime. */
	int (*process)(void *userdata, const struct collect_process *process, const struct symbols_process **ret, uint64_t *ret_start_us);
	/* The frames of a raw stack, as collect_frames() and symbols_resolve() give them. */
	int (*stack)(void *userdata, uint64_t raw_id, struct symbols_frame ret_frames[static SYMBOLS_FRAMES_MAX], size_t *ret_n,
		     uint64_t *ret_id, bool *ret_truncated);
	void *userdata;
};

struct unwind;

/* The machine. All are borrowed. */
struct live_source {
	struct collect *collect;
	struct symbols *symbols;
	struct unwind *unwind;
};

/* live must outlive it. */
struct tick_source live_source(struct live_source *live);
