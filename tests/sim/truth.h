/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Troubles of known truth in many machines: how many are told, how soon, and what else is. */
#pragma once

#include "machine.h"

struct truth {
	unsigned begun, told;
	unsigned on_time;      /* told within what issue and manual promise for it: 5 ticks, slow ones 5 minutes */
	unsigned delay_median; /* ticks */
	unsigned alarms;       /* of the befallen program, or explained by it, in all troubles */
	unsigned others;       /* of others, in the time of the trouble */
};

struct truth_run {
	struct truth troubles[TROUBLE_N];
	unsigned quiet_alarms; /* in the time before the troubles */
	double quiet_days;
};

#define TRUTH_MACHINES_MAX 1000

/* Watches n machines, made from seeds from `seed` on, for history ticks each, then lets every trouble befall a copy
 * of each for 300 ticks. Asserts nothing. Gives negative errno. */
int truth_run(struct truth_run *ret, uint64_t seed, unsigned n, unsigned history, double false_alarms_per_day);
