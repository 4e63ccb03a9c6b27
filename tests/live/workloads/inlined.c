/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Three parts of its time in one function and one in another, both inlined into one that calls them on lines of its own. */
#include "workload.h"

static struct workload_options options = {.seconds = 10};

static inline __attribute__((always_inline)) void inlined_heavy(void)
{
	SPIN_CPU(15 * MSEC); /* heavy */
}

static inline __attribute__((always_inline)) void inlined_light(void)
{
	SPIN_CPU(5 * MSEC); /* light */
}

NAMED void both(void)
{
	inlined_heavy(); /* calls heavy */
	inlined_light(); /* calls light */
	KEEP_FRAME();
}

int main(int argc, char **argv)
{
	workload_parse(argc, argv, &options);
	workload_ready(&options);
	while (!workload_over(&options))
		both();
	workload_result(&options, "\"done\": 1");
	return 0;
}
