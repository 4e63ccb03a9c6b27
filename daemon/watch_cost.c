/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "watch_cost.h"

#include <fcntl.h>
#include <time.h>

#include "api.h"

#define MEASURE_NS (NSEC_PER_SEC - NSEC_PER_SEC / 8) /* a tick, which may come early */
#define SHARE_MAX 0.99                               /* something is left for the process */
#define STAT_SIZE_MAX (1 << 20)                      /* of /proc/stat */

/* What all CPUs have worked, from /proc/stat: user, nice, system, not idle and iowait, irq, softirq. 0: it can't be read. */
static uint64_t cpu_time_of_machine(void)
{
	_cleanup_free_ char *text = NULL;
	unsigned long long user, nice, system, irq, softirq;

	if (read_small_file(AT_FDCWD, "/proc/stat", STAT_SIZE_MAX, &text, NULL) < 0 ||
	    sscanf(text, "cpu %llu %llu %llu %*u %*u %llu %llu", &user, &nice, &system, &irq, &softirq) != 5)
		return 0;
	return (user + nice + system + irq + softirq) * (NSEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* The CPU time of a process, as clock_getcpuclockid(3) has it; 0: it is gone. */
static uint64_t cpu_time(pid_t pid)
{
	struct timespec t;
	clockid_t clock;

	if (pid == API_MEMORY_KERNEL)
		return cpu_time_of_machine();
	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) < 0)
		return 0;
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

void watch_cost_begin(struct watch_cost *c, pid_t pid, uint64_t calls)
{
	*c = (struct watch_cost){ .measured_ns = clock_monotonic_ns(), .cpu_ns = cpu_time(pid), .calls = calls };
}

bool watch_cost_read(struct watch_cost *c, pid_t pid, const struct collect_heap_cost *now, double *ret_calls_per_s, double *ret_share, double *ret_probes_share)
{
	uint64_t now_ns = clock_monotonic_ns(), cpu_ns = cpu_time(pid);
	double calls = (double)(now->calls - c->calls), elapsed_ns = (double)(now_ns - c->measured_ns), probes_ns = calls * now->probe_ns, used_ns;

	if (now_ns - c->measured_ns < MEASURE_NS || !cpu_ns)
		return false;
	used_ns = MAX((double)(cpu_ns - MIN(cpu_ns, c->cpu_ns)), probes_ns);
	*ret_calls_per_s = calls * (double)NSEC_PER_SEC / elapsed_ns;
	*ret_share = used_ns > 0 ? MIN(probes_ns / used_ns, SHARE_MAX) : 0;
	*ret_probes_share = probes_ns / elapsed_ns;
	*c = (struct watch_cost){ .measured_ns = now_ns, .cpu_ns = cpu_ns, .calls = now->calls };
	return true;
}
