/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the probes at the allocators take of the CPU time of those who call them. */
#pragma once

#include "collect.h"

struct watch_cost {
	uint64_t measured_ns, cpu_ns, calls; /* when it was looked at last, what had been used, how often it had called; 0: not yet */
};

/* pid may be API_MEMORY_KERNEL: then it is the machine's CPU time. calls: as of collect_heap_get_cost(). */
void watch_cost_begin(struct watch_cost *c, pid_t pid, uint64_t calls);
/* Since the last time: calls a second, what the probes took of the CPU time that was used (up to 1), and of a CPU.
 * false, and nothing is changed: that was less than a tick ago, or the process is gone. */
bool watch_cost_read(struct watch_cost *c, pid_t pid, const struct collect_heap_cost *now, double *ret_calls_per_s, double *ret_share, double *ret_probes_share);
