/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When the gate is open: a state machine without I/O. Times are parameters, in microseconds: mono never jumps, real is for people
 * and for deadlines that people set. */
#pragma once

#include "collect.h"

#define GATE_CHANGES_MAX 32

struct gate_time {
	uint64_t mono_us, real_us;
};

struct gate {
	double open_above, close_below;
	uint64_t close_after_us, cooldown_us;
	enum collect_gate_mode mode;
	uint64_t until_us;      /* realtime end of an override, USEC_INFINITY */
	bool open;
	uint64_t low_since_us;  /* mono; 0: the load is not low */
	uint64_t closed_us;     /* mono time of the last automatic close; 0: none */
	size_t n_changes;       /* not yet taken by gate_take_change() */
	struct collect_gate_change changes[GATE_CHANGES_MAX];
};

void gate_init(struct gate *g, const struct collect_config *config);
void gate_configure(struct gate *g, const struct collect_config *config);

/* Each gives whether the gate opened or closed. */
bool gate_load_crossed(struct gate *g, struct gate_time now, double load);               /* the kernel saw a crossing */
bool gate_pressed(struct gate *g, struct gate_time now, double load, const char *cause); /* something else asks to open */
bool gate_tick(struct gate *g, struct gate_time now, double load);                       /* mean load since the last tick */
bool gate_set(struct gate *g, struct gate_time now, double load, enum collect_gate_mode mode, uint64_t until_us);

/* Whether the kernel should look for a crossing, and from which time (mono) on. */
bool gate_wants_crossing(const struct gate *g, uint64_t *ret_from_us);

/* The oldest change that has not been taken; false when there is none. */
bool gate_take_change(struct gate *g, struct collect_gate_change *ret);
