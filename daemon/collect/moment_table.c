/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When on-CPU samples were taken: the programs note it in halves of one map, a stretch for each CPU, which is mapped here. */
#include <sys/mman.h>

#include "internal.h"

/* A tick may come late. What a CPU has more in it is the loss moments-full. */
#define TICK_SECONDS 4
#define PER_CPU_LEAST 256
#define PER_CPU_MOST 4096

uint32_t moments_per_cpu(const struct collect_config *config)
{
	return MIN(MAX(TICK_SECONDS * config->sample_hz, (uint32_t)PER_CPU_LEAST), (uint32_t)PER_CPU_MOST);
}

uint32_t moments_cpus(void)
{
	return (uint32_t)MIN(MAX(libbpf_num_possible_cpus(), 1), STACKD_CPUS_MAX);
}

uint64_t moments_clock_us(void)
{
	return clock_realtime_us() - clock_monotonic_ns() / NSEC_PER_USEC;
}

int moment_table_open(struct moment_table *t, int fd, const struct halves *h, const struct collect_config *config)
{
	void *map;

	t->halves = h;
	t->cpus = moments_cpus();
	t->per_cpu = moments_per_cpu(config);
	map = mmap(NULL, 2 * (size_t)t->cpus * t->per_cpu * sizeof *t->moments, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return negative_errno();
	t->moments = map;
	h->control->moments_cpus = t->cpus;
	h->control->moments_per_cpu = t->per_cpu;
	return 0;
}

void moment_table_close(struct moment_table *t)
{
	if (t->moments)
		munmap((void *)t->moments, 2 * (size_t)t->cpus * t->per_cpu * sizeof *t->moments);
	t->moments = NULL;
}

void moment_table_report(struct moment_table *t, const struct collect_sink *sink, void *userdata)
{
	uint32_t half = (t->halves->control->half & 1) ^ 1;
	uint64_t clock_us = moments_clock_us();

	for (uint32_t cpu = 0; cpu < t->cpus; cpu++) {
		const struct stackd_moment *m = t->moments + (size_t)(half * t->cpus + cpu) * t->per_cpu;
		uint32_t n = MIN(t->halves->guards[cpu].moments[half], t->per_cpu);

		for (uint32_t i = 0; sink->moment && i < n; i++) {
			char comm[sizeof(m[i].comm)];

			copy_string(comm, sizeof(comm), m[i].comm);
			sink->moment(userdata, &(struct collect_moment){ m[i].id, clock_us + m[i].time_ns / NSEC_PER_USEC, m[i].weight_ns, m[i].tid, comm });
		}
		t->halves->guards[cpu].moments[half] = 0;
	}
}
