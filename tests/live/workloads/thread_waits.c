/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A thread for each kind of wait: sleeps of 0.1, 2, 30 and 400 ms, one sleep of all the time, and two that share a CPU. Each tells how long it was
 * blocked and how long it waited for a CPU, which the kernel books. */
#include "workload.h"

static struct workload_options options = { .seconds = 10 };

struct account {
	uint64_t sleep_us; /* 0: it computes, UINT64_MAX: one sleep */
	pthread_t thread;
	int tid;
	uint64_t blocked, runnable;
};

static struct account accounts[] = { { .sleep_us = 100 }, { .sleep_us = 2000 }, { .sleep_us = 30000 }, { .sleep_us = 400000 },
	                             { .sleep_us = UINT64_MAX }, { .sleep_us = 0 }, { .sleep_us = 0 } };
#define THREADS (sizeof(accounts) / sizeof(*accounts))

static pthread_barrier_t barrier;

NAMED void sleep_for(uint64_t ns)
{
	struct timespec t = { .tv_sec = (time_t)(ns / SEC), .tv_nsec = (long)(ns % SEC) };

	inline_syscall(SYS_nanosleep, (long)&t, 0, 0, 0);
	KEEP_FRAME();
}

NAMED void compete(void)
{
	pin_to_cpu(0);
	while (!workload_over(&options))
		workload_sink = arithmetic(workload_sink);
}

NAMED void *wait_in_thread(void *userdata)
{
	struct account *a = userdata;
	uint64_t wall, cpu, delay;

	a->tid = (int)syscall(SYS_gettid);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	wall = wall_ns();
	cpu = cpu_ns();
	delay = run_delay_ns();
	if (a->sleep_us == 0)
		compete();
	else if (a->sleep_us == UINT64_MAX)
		sleep_for((uint64_t)(options.seconds * (double)SEC));
	else
		while (!workload_over(&options))
			sleep_for(a->sleep_us * 1000);
	a->runnable = run_delay_ns() - delay;
	a->blocked = wall_ns() - wall - (cpu_ns() - cpu) - a->runnable;
	return NULL;
}

int main(int argc, char **argv)
{
	char text[1024];
	size_t n = 0;

	workload_parse(argc, argv, &options);
	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (size_t i = 0; i < THREADS; i++)
		if (pthread_create(&accounts[i].thread, NULL, wait_in_thread, &accounts[i]) != 0)
			fail("pthread_create");
	pthread_barrier_wait(&barrier);
	workload_ready(&options);
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(accounts[i].thread, NULL);
	for (size_t i = 0; i < THREADS; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s{\"tid\": %d, \"sleep_us\": %lld, \"blocked\": %llu, \"runnable\": %llu}", i > 0 ? ", " : "",
		                      accounts[i].tid, (long long)accounts[i].sleep_us, (unsigned long long)accounts[i].blocked,
		                      (unsigned long long)accounts[i].runnable);
	workload_result(&options, "\"threads\": [%s]", text);
	return 0;
}
