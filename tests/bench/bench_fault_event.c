/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a perf event of minor faults costs each of them, sampled or not: a loop that maps fresh pages, with the event and without it in turn,
 * many times, so that a slow moment of the machine meets both. Needs root. */
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base.h"

#define TURNS 1000
#define PAGES 1024
#define CPUS_MAX 1024

enum condition { NO_EVENT, DISABLED, ENABLED, CONDITIONS };

static const char *const names[CONDITIONS] = { "no event", "an event, disabled", "an event, that samples none" };
static double cost[CONDITIONS][TURNS];

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static size_t open_events(enum condition c, int fds[static CPUS_MAX])
{
	long n = MIN(sysconf(_SC_NPROCESSORS_ONLN), (long)CPUS_MAX);
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_PAGE_FAULTS_MIN,
		.sample_period = 1ULL << 40,
		.disabled = c == DISABLED,
	};

	for (long cpu = 0; c != NO_EVENT && cpu < n; cpu++) {
		fds[cpu] = (int)syscall(SYS_perf_event_open, &attr, -1, (int)cpu, -1, PERF_FLAG_FD_CLOEXEC);
		if (fds[cpu] < 0) {
			fprintf(stderr, "perf_event_open on CPU %ld: %m\n", cpu);
			exit(1);
		}
	}
	return c == NO_EVENT ? 0 : (size_t)n;
}

/* ns a fault, of CPU time */
static double touch(volatile char *memory, size_t page)
{
	struct timespec from, to;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	for (size_t i = 0; i < PAGES; i++)
		memory[i * page] = 1;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	madvise((void *)memory, PAGES * page, MADV_DONTNEED);
	return ((double)(to.tv_sec - from.tv_sec) * NSEC_PER_SEC + (double)(to.tv_nsec - from.tv_nsec)) / PAGES;
}

int main(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	volatile char *memory = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fds[CPUS_MAX];

	if (memory == MAP_FAILED || madvise((void *)memory, PAGES * page, MADV_NOHUGEPAGE) < 0) {
		fprintf(stderr, "mmap: %m\n");
		return 1;
	}
	for (size_t turn = 0; turn < TURNS; turn++)
		for (size_t i = 0; i < CONDITIONS; i++) {
			enum condition c = (enum condition)((turn + i) % CONDITIONS);
			size_t n = open_events(c, fds);

			touch(memory, page); /* what the change itself left behind */
			cost[c][turn] = touch(memory, page);
			while (n-- > 0)
				close(fds[n]);
		}
	for (size_t c = 0; c < CONDITIONS; c++)
		qsort(cost[c], TURNS, sizeof(cost[c][0]), compare);
	for (size_t c = 0; c < CONDITIONS; c++)
		printf("%-28s %6.0f ns a fault (quartiles %.0f, %.0f), %.3f times\n", names[c], cost[c][TURNS / 2], cost[c][TURNS / 4],
		       cost[c][TURNS * 3 / 4], cost[c][TURNS / 2] / cost[NO_EVENT][TURNS / 2]);
	return 0;
}
