/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A worker thread allocates 4 KiB every 5 ms and never frees them; another keeps a cache of --n blocks, 16 KiB each, that is full
 * within a second and goes on to change one of them every 5 ms. Says how many bytes each holds at the end. */
#include "workload.h"

static struct workload_options options = { .seconds = 1, .n = 100 };
static void *volatile kept; /* the compiler must not do without an allocation */
static uint64_t leaked;

NAMED void leak_4k(void)
{
	void *p = malloc(4096);

	if (!p)
		fail("malloc");
	kept = p;
	leaked += 4096;
	KEEP_FRAME();
}

NAMED void *fill_cache(void)
{
	void *p = malloc(16384);

	if (!p)
		fail("malloc");
	kept = p;
	KEEP_FRAME();
	return p;
}

static void pause_5_ms(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 5 * MSEC }, NULL);
}

static void *leak(void *unused __attribute__((unused)))
{
	while (!workload_over(&options)) {
		leak_4k();
		pause_5_ms();
	}
	return NULL;
}

static void *cache(void *unused __attribute__((unused)))
{
	void **blocks = calloc(options.n, sizeof(*blocks));

	if (!blocks)
		fail("calloc");
	for (uint64_t i = 0; i < options.n; i++)
		blocks[i] = fill_cache();
	for (uint64_t i = 0; !workload_over(&options); i = (i + 1) % options.n) {
		free(blocks[i]);
		blocks[i] = fill_cache();
		pause_5_ms();
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[2];

	workload_parse(argc, argv, &options);
	workload_ready(&options);
	if (pthread_create(&threads[0], NULL, leak, NULL) != 0 || pthread_create(&threads[1], NULL, cache, NULL) != 0)
		fail("pthread_create");
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	workload_result(&options, "\"heap\": {\"leak_4k\": %lu, \"fill_cache\": %lu}", (unsigned long)leaked, (unsigned long)options.n * 16384);
	return 0;
}
