/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Takes --n minor faults, 80 % in one named function and the rest in another, evenly over --seconds. */
#include <sys/mman.h>

#include "workload.h"

#define ROUND_PAGES 500
#define MANY_OF_ROUND 400

static struct workload_options options = {.seconds = 10, .n = 100000};

NAMED void touch_many(volatile char *memory, size_t page, size_t n)
{
	for (size_t i = 0; i < n; i++)
		memory[i * page] = 1;
	KEEP_FRAME();
}

NAMED void touch_few(volatile char *memory, size_t page, size_t n)
{
	for (size_t i = 0; i < n; i++)
		memory[i * page] = 1;
	KEEP_FRAME();
}

NAMED void touch_round(char *memory, size_t page)
{
	touch_many(memory, page, MANY_OF_ROUND);
	touch_few(memory + MANY_OF_ROUND * page, page, ROUND_PAGES - MANY_OF_ROUND);
	if (madvise(memory, ROUND_PAGES * page, MADV_DONTNEED) < 0)
		fail("madvise");
}

static void sleep_until(uint64_t ns)
{
	struct timespec t = {.tv_sec = (time_t)(ns / SEC), .tv_nsec = (long)(ns % SEC)};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

int main(int argc, char **argv)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint64_t rounds, start;
	char *memory;

	workload_parse(argc, argv, &options);
	rounds = options.n / ROUND_PAGES;
	memory = mmap(NULL, ROUND_PAGES * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	if (madvise(memory, ROUND_PAGES * page, MADV_NOHUGEPAGE) < 0)
		fail("madvise");
	workload_ready(&options);
	start = wall_ns();
	for (uint64_t i = 0; i < rounds; i++) {
		sleep_until(start + (uint64_t)((double)i / (double)rounds * options.seconds * (double)SEC));
		touch_round(memory, page);
	}
	workload_result(&options, "\"faults\": {\"touch_many\": %llu, \"touch_few\": %llu}",
	                (unsigned long long)(rounds * MANY_OF_ROUND),
	                (unsigned long long)(rounds * (ROUND_PAGES - MANY_OF_ROUND)));
	return 0;
}
