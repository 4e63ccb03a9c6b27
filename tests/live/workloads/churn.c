/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starts --n short processes a second for --seconds: most only fork, compute and exit, every tenth runs a new
 * program. */
#include <sys/wait.h>

#include "workload.h"

#define ROUNDS_PER_SEC 50
#define EXEC_EVERY 10

static struct workload_options options = {.seconds = 60, .n = 2000};

NAMED void short_life(void)
{
	workload_sink = arithmetic(workload_sink);
}

static uint64_t children_cpu_ns(void)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * SEC +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

static void start_one(char **argv, uint64_t i)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid > 0)
		return;
	if (i % EXEC_EVERY == 0)
		execl("/proc/self/exe", argv[0], "--mode", "child", NULL);
	short_life();
	_exit(0);
}

int main(int argc, char **argv)
{
	uint64_t started = 0, late_rounds = 0, rounds;

	workload_parse(argc, argv, &options);
	if (options.mode && strcmp(options.mode, "child") == 0) {
		short_life();
		return 0;
	}
	workload_ready(&options);
	rounds = (uint64_t)(options.seconds * ROUNDS_PER_SEC);
	for (uint64_t round = 0; round < rounds; round++) {
		uint64_t due = workload_started_ns() + round * (SEC / ROUNDS_PER_SEC);
		struct timespec t = {.tv_sec = (time_t)(due / SEC), .tv_nsec = (long)(due % SEC)};

		if (wall_ns() > due + SEC)
			late_rounds++;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		for (uint64_t i = 0; i < options.n / ROUNDS_PER_SEC; i++)
			start_one(argv, started++);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	while (wait(NULL) > 0)
		;
	workload_result(&options, "\"processes\": %llu, \"late_rounds\": %llu, \"children_cpu_ns\": %llu",
	                (unsigned long long)started, (unsigned long long)late_rounds,
	                (unsigned long long)children_cpu_ns());
	return 0;
}
