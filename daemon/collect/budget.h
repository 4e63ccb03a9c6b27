/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stackd may cost, and what is lowered so that it doesn't cost more: a state machine without I/O. Once a tick it takes what was
 * measured and answers with a level of rates, and with kinds of events that are not to be seen at all.
 *
 *   level     every rate (samples and stacks a second) is multiplied by 2^(-level/2): each sample then stands for more
 *   left out  where seeing an event costs too much even when its stack isn't walked: the program is taken away
 *
 * A tick that took 0.9 of the budget or more lowers, to what would have taken 0.6; ticks below half of it raise, a level at a time. In between
 * nothing changes, so that a steady load has one level. What is left out is tried again after a while, which doubles each time that it
 * was in vain. The open and the closed gate have a state each. */
#pragma once

#include "collect.h"

enum budget_events { BUDGET_SWITCHES, BUDGET_MAPS, BUDGET_RSS, BUDGET_EVENTS };

struct budget_reading {
	uint64_t wall_ns;      /* the tick's length */
	uint32_t cpus;
	bool open;             /* the gate, at the end of the tick */
	uint64_t user_ns;      /* CPU time of the daemon */
	uint64_t helpers_ns;   /* of its helpers */
	uint64_t kernel_ns;    /* of programs and events, in whatever they interrupted */
	uint64_t events_ns[BUDGET_EVENTS]; /* of kernel_ns: what would not be there without them */
};

struct budget_state {
	double share;          /* of the machine that may be taken, 0 to 1; 1 or more: no limit */
	uint32_t level;
	bool left_out[BUDGET_EVENTS];
	uint32_t wait[BUDGET_EVENTS];  /* ticks until it is tried again */
	uint32_t pause[BUDGET_EVENTS]; /* how long the next wait is */
	uint32_t tried[BUDGET_EVENTS]; /* ticks since it was tried last */
	uint32_t over, calm;   /* ticks in a row */
};

struct budget {
	struct budget_state states[2]; /* gate closed, open */
	bool open;             /* which of them is in force */
	uint32_t ticks;
	double used, user, kernel; /* shares of the machine in the last tick */
};

void budget_init(struct budget *b, double closed, double open);
/* Shares of the machine. */
void budget_configure(struct budget *b, double closed, double open);
/* Whether anything changes. *ret_cause: a static string such as "budget-lowered", NULL when only the gate changed. */
bool budget_tick(struct budget *b, const struct budget_reading *r, const char **ret_cause);
/* What is in force for the gate as it is. */
const struct budget_state *budget_state(const struct budget *b, bool open);
/* Whether the last tick counts: the first don't. */
bool budget_judges(const struct budget *b);
/* What rates are multiplied by. */
double budget_factor(uint32_t level);
/* The configuration with its rates lowered: at least 1 where they were not 0. */
void budget_lower(const struct budget_state *s, const struct collect_config *from, struct collect_config *ret);
