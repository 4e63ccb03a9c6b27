/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When on-CPU samples were taken, and which threads waited: the programs note it in halves of a map, a stretch for each CPU, which is
 * mapped here. */
#include <sys/mman.h>

#include "internal.h"

/* A tick may come late. What a CPU has more in it is the loss moments-full. */
#define TICK_SECONDS 4
#define PER_CPU_LEAST 256
#define PER_CPU_MOST 4096

/* In a storm a CPU's unit of waits doubles with each of so many parts of the second half of its room. */
#define WAIT_PARTS_LOG2 4
#define WAIT_ROOM_SECONDS 3
#define WAIT_SHIFT_FIRST 20 /* 1 ms */
#define WAIT_SHIFT_LEAST 14 /* 16 us: what is shorter is mostly the switch itself */

uint32_t moments_per_cpu(const struct collect_config *config)
{
	return MIN(MAX(TICK_SECONDS * config->sample_hz, (uint32_t)PER_CPU_LEAST), (uint32_t)PER_CPU_MOST);
}

uint32_t moments_cpus(void)
{
	return (uint32_t)MIN(MAX(libbpf_num_possible_cpus(), 1), STACKD_CPUS_MAX);
}

uint32_t thread_waits_per_cpu(const struct collect_config *config)
{
	uint32_t wanted = WAIT_ROOM_SECONDS * config->thread_waits_per_sec / moments_cpus(), n = PER_CPU_LEAST;

	while (n < wanted && n < PER_CPU_MOST)
		n *= 2;
	return n;
}

uint64_t moments_clock_us(void)
{
	return clock_realtime_us() - clock_monotonic_ns() / NSEC_PER_USEC;
}

static int map_table(struct moment_table *t, int fd, const struct halves *h, uint32_t per_cpu)
{
	void *map;

	t->halves = h;
	t->cpus = moments_cpus();
	t->per_cpu = per_cpu;
	map = mmap(NULL, 2 * (size_t)t->cpus * t->per_cpu * sizeof *t->moments, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return negative_errno();
	t->moments = map;
	return 0;
}

int moment_table_open(struct moment_table *t, int fd, const struct halves *h, const struct collect_config *config)
{
	int r = map_table(t, fd, h, moments_per_cpu(config));

	if (r < 0)
		return r;
	h->control->moments_cpus = t->cpus;
	h->control->moments_per_cpu = t->per_cpu;
	return 0;
}

int moment_table_open_waits(struct moment_table *t, int fd, const struct halves *h, const struct collect_config *config)
{
	int r = map_table(t, fd, h, thread_waits_per_cpu(config));

	if (r < 0)
		return r;
	t->thread_waits = true;
	t->per_sec = config->thread_waits_per_sec;
	h->control->thread_waits_per_cpu = t->per_cpu;
	h->control->thread_wait_room_shift = (uint32_t)__builtin_ctz(t->per_cpu / 2) - WAIT_PARTS_LOG2;
	h->control->thread_wait_shift = t->per_sec ? WAIT_SHIFT_FIRST : 0;
	return 0;
}

void moment_table_close(struct moment_table *t)
{
	if (t->moments)
		munmap((void *)t->moments, 2 * (size_t)t->cpus * t->per_cpu * sizeof *t->moments);
	t->moments = NULL;
}

/* Toward as many as are wanted. Half as many come of a unit twice as long, or more. */
static void follow_rate(struct moment_table *t, uint64_t n, uint64_t wall_ns)
{
	uint64_t wanted = t->per_sec * MAX(wall_ns, NSEC_PER_USEC) / NSEC_PER_SEC;
	uint32_t *shift = &t->halves->control->thread_wait_shift;

	for (; n > wanted && *shift < STACKD_WAIT_SHIFT_MAX; n /= 2)
		(*shift)++;
	if (n < wanted / 4 && *shift > WAIT_SHIFT_LEAST)
		(*shift)--;
}

static void report(const struct stackd_moment *m, uint64_t latest_ns, uint64_t clock_us, const struct collect_sink *sink, void *userdata)
{
	uint64_t time_us = clock_us + MIN(m->time_ns, latest_ns) / NSEC_PER_USEC;
	char comm[sizeof(m->comm)];

	copy_string(comm, sizeof(comm), m->comm);
	if (m->metric != STACKD_WAIT_ENDED)
		sink->moment(userdata, &(struct collect_moment){ m->id, time_us, m->weight_ns, m->tid, comm, m->metric, m->drawn });
	else if (sink->thread_wait)
		sink->thread_wait(userdata, &(struct collect_thread_wait){ .what = COLLECT_WAIT_ENDS, .raw_id = m->id, .tid = m->tid });
}

void moment_table_report(struct moment_table *t, uint64_t wall_ns, const struct collect_sink *sink, void *userdata)
{
	uint32_t half = (t->halves->control->half & 1) ^ 1;
	uint64_t clock_us = moments_clock_us(), all = 0;
	/* What the iterator found, and what came while the halves were turned over, counts for the tick. */
	uint64_t latest_ns = t->thread_waits ? t->halves->control->tick_ns - NSEC_PER_USEC : UINT64_MAX;

	for (uint32_t cpu = 0; cpu < t->cpus; cpu++) {
		const struct stackd_moment *m = t->moments + (size_t)(half * t->cpus + cpu) * t->per_cpu;
		struct stackd_guard *guard = &t->halves->guards[cpu];
		uint32_t *count = t->thread_waits ? &guard->thread_waits[half] : &guard->moments[half], n = MIN(*count, t->per_cpu);

		for (uint32_t i = 0; sink->moment && i < n; i++)
			report(&m[i], latest_ns, clock_us, sink, userdata);
		*count = 0;
		all += n;
	}
	if (t->per_sec)
		follow_rate(t, all, wall_ns);
}
