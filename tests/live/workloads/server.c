/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Behaves like a small service: its threads wait for the next request and ask a backend, at a steady pace and
 * cheaply. On SIGUSR1 their next calls to the backend go on without end, on SIGUSR2 they are let out. */
#include <signal.h>

#include "workload.h"

#define REQUEST_INTERVAL_NS (20 * MSEC)
#define REQUEST_COST_NS (MSEC / 5)

static struct workload_options options = {.seconds = 600, .threads = 2};
static volatile sig_atomic_t caught;
static uint64_t caught_us;

NAMED void ask_backend(uint64_t ns)
{
	uint64_t begin = cpu_ns();

	do {
		workload_sink = arithmetic(workload_sink);
	} while (cpu_ns() - begin < ns || caught);
}

NAMED void handle_request(uint64_t ns)
{
	ask_backend(ns);
	KEEP_FRAME();
}

NAMED void wait_for_request(uint64_t ns)
{
	struct timespec t = {.tv_sec = (time_t)(ns / SEC), .tv_nsec = (long)(ns % SEC)};

	inline_syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, (long)&t, 0);
	KEEP_FRAME();
}

static void *serve(void *userdata)
{
	unsigned int seed = (unsigned int)(uintptr_t)userdata + 1;
	uint64_t next = wall_ns();

	while (!workload_over(&options)) {
		wait_for_request(next);
		/* between three quarters and five quarters of the mean */
		handle_request(REQUEST_COST_NS * (75 + (uint64_t)rand_r(&seed) % 51) / 100);
		next += REQUEST_INTERVAL_NS;
		/* requests that came meanwhile have gone elsewhere */
		if (next < wall_ns())
			next = wall_ns();
	}
	return NULL;
}

static void on_signal(int signal)
{
	caught = signal == SIGUSR1;
	if (caught)
		caught_us = realtime_us();
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	pthread_t *threads;

	workload_parse(argc, argv, &options);
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
	threads = calloc((size_t)options.threads, sizeof(*threads));
	if (!threads)
		fail("calloc");
	workload_ready(&options);
	for (int i = 0; i < options.threads; i++)
		if (pthread_create(&threads[i], NULL, serve, (void *)(uintptr_t)i) != 0)
			fail("pthread_create");
	for (int i = 0; i < options.threads; i++)
		pthread_join(threads[i], NULL);
	workload_result(&options, "\"caught_us\": %llu", (unsigned long long)caught_us);
	free(threads);
	return 0;
}
