/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Troubles of known truth in many machines: how many are told, how soon, and what else is. */
#pragma once

#include "machine.h"

struct truth {
	unsigned begun, told;
	unsigned on_time;      /* told within 5 ticks of being visible (machine_visible()), slow ones within 5 minutes of their beginning */
	unsigned visible;      /* how many were, at all */
	unsigned visible_median, delay_median; /* ticks from its beginning until it was visible, and told */
	unsigned alarms;       /* of the befallen program, or explained by it, in all troubles */
	unsigned others;       /* of others, in the time of the trouble */
};

struct truth_run {
	struct truth troubles[TROUBLE_N];
	unsigned quiet_alarms; /* in the time before the troubles, but for those that tell of a deploy which there was */
	unsigned deploys, deploy_alarms; /* in that time, and what was told of them */
	double quiet_days;
};

#define TRUTH_MACHINES_MAX 1000

/* Watches n machines, made from seeds from `seed` on, for history ticks each, then lets every trouble befall a copy
 * of each for 300 ticks. Asserts nothing. Gives negative errno. */
int truth_run(struct truth_run *ret, uint64_t seed, unsigned n, unsigned history, double false_alarms_per_day);
