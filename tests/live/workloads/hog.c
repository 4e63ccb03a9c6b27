/* SPDX-License-Identifier: GPL-2.0-or-later */
/* --threads threads that start to compute all at once, to open the gate. Says when it let them go. */
#include <limits.h>

#include "workload.h"

static struct workload_options options = {.seconds = 10, .threads = 16};
static uint32_t go;

NAMED void spin_hog(void)
{
	SPIN_CPU(2 * MSEC);
}

static void *hog(void *userdata)
{
	uint64_t end = (uint64_t)(options.seconds * (double)SEC);

	(void)userdata;
	while (__atomic_load_n(&go, __ATOMIC_ACQUIRE) == 0)
		inline_syscall(SYS_futex, (long)&go, FUTEX_WAIT_PRIVATE, 0, 0);
	while (wall_ns() - workload_started_ns() < end)
		spin_hog();
	return NULL;
}

int main(int argc, char **argv)
{
	struct timespec settle = {.tv_nsec = 200 * MSEC};
	uint64_t released_us;
	pthread_t *threads;

	workload_parse(argc, argv, &options);
	threads = calloc((size_t)options.threads, sizeof(*threads));
	if (!threads)
		fail("calloc");
	for (int i = 0; i < options.threads; i++)
		if (pthread_create(&threads[i], NULL, hog, NULL) != 0)
			fail("pthread_create");
	nanosleep(&settle, NULL);
	workload_ready(&options);
	released_us = realtime_us();
	__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
	inline_syscall(SYS_futex, (long)&go, FUTEX_WAKE_PRIVATE, INT_MAX, 0);
	for (int i = 0; i < options.threads; i++)
		pthread_join(threads[i], NULL);
	workload_result(&options, "\"threads\": %d, \"released_us\": %llu", options.threads,
	                (unsigned long long)released_us);
	free(threads);
	return 0;
}
