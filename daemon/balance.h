/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Conservation: what the stacks sum to, against the kernel's exact totals, over the last minute. Pure. */
#pragma once

#include "base.h"

#define BALANCE_TICKS 60

struct balance {
	struct balance_tick {
		uint64_t stacks[METRIC_N], exact[METRIC_N];
		bool off_cpu; /* the gate was open all through the tick: every switch was seen */
	} ticks[BALANCE_TICKS];
	size_t at;
	bool was_open;
};

void balance_begin_tick(struct balance *b, bool gate_open);
/* The gate changed within the tick: its off-CPU sums are of a part of it only. */
void balance_gate_changed(struct balance *b);
void balance_add_stack(struct balance *b, const uint64_t values[static METRIC_N]);
void balance_add_waits(struct balance *b, uint64_t blocked_ns);
void balance_add_exact(struct balance *b, const uint64_t values[static METRIC_N]);
/* Stacks / exact; negative when there was too little to tell. */
double balance_ratio(const struct balance *b, enum metric m);
