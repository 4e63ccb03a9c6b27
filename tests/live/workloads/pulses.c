/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Burns a CPU in one function for the first 200 ms of each second by the clock, in another for the next 200 ms, and sleeps for the rest. */
#include "workload.h"

#define FIRST_US 200000
#define SECOND_US 400000

static struct workload_options options = {.seconds = 10};

/* In line, as cpu_ns(). */
static inline __attribute__((always_inline)) uint64_t within_second_us(void)
{
	struct timespec t;

	inline_syscall(SYS_clock_gettime, CLOCK_REALTIME, (long)&t, 0, 0);
	return (uint64_t)t.tv_nsec / 1000;
}

NAMED void pulse_first(void)
{
	while (within_second_us() < FIRST_US)
		workload_sink = arithmetic(workload_sink);
}

NAMED void pulse_second(void)
{
	uint64_t us;

	while ((us = within_second_us()) >= FIRST_US && us < SECOND_US)
		workload_sink = arithmetic(workload_sink);
}

int main(int argc, char **argv)
{
	uint64_t first = 0, second = 0, before;

	workload_parse(argc, argv, &options);
	workload_ready(&options);
	while (!workload_over(&options)) {
		before = cpu_ns();
		pulse_first();
		first += cpu_ns() - before;
		before = cpu_ns();
		pulse_second();
		second += cpu_ns() - before;
		usleep((useconds_t)(1000000 - within_second_us()));
	}
	workload_result(&options, "\"on_cpu\": {\"pulse_first\": %llu, \"pulse_second\": %llu}", (unsigned long long)first,
	                (unsigned long long)second);
	return 0;
}
