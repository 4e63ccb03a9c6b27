/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Allocates, each kind in a function of its own, and says how many bytes of each function's are not freed at the end: by every
 * function of malloc's family, by a call inside of libc, through chains of realloc, freed by another thread and in a child; a
 * realloc that fails and one to nothing; then --threads threads at once, --n blocks each. Sums are whole MiB, which every rounding
 * on the way keeps. --mode many: --n MiB in blocks of all sizes, half of them freed. --mode turnover: --threads take and free blocks of all
 * sizes for --seconds, each at most 256 at a time, and in the end hold 16 of 64 KiB each. */
#include <sys/wait.h>

#include "workload.h"

#define KIB 1024UL
#define MIB (1024 * KIB)

static struct workload_options options = { .seconds = 1, .threads = 4, .n = 1024, .mode = "kinds" };
static void *volatile kept; /* the compiler must not do without an allocation */

static void *checked(void *p)
{
	if (!p)
		fail("malloc");
	kept = p;
	return p;
}

NAMED void *alloc_4k(void)
{
	void *p = checked(malloc(4 * KIB));

	KEEP_FRAME();
	return p;
}

NAMED void alloc_calloc(void)
{
	for (int i = 0; i < 256; i++)
		checked(calloc(16, KIB));
	KEEP_FRAME();
}

NAMED void alloc_posix_memalign(void)
{
	for (int i = 0; i < 64; i++) {
		void *p = NULL;

		if (posix_memalign(&p, 4096, 64 * KIB) != 0)
			fail("posix_memalign");
		checked(p);
	}
	KEEP_FRAME();
}

NAMED void alloc_aligned(void)
{
	for (int i = 0; i < 16; i++)
		checked(aligned_alloc(256, 64 * KIB));
	KEEP_FRAME();
}

NAMED void alloc_reallocarray(void)
{
	checked(reallocarray(NULL, 64, 32 * KIB));
	KEEP_FRAME();
}

NAMED void alloc_strdup(void)
{
	static char text[MIB];

	memset(text, 'x', sizeof(text) - 1);
	checked(strdup(text));
	KEEP_FRAME();
}

NAMED void *begin_chain(void)
{
	void *p = checked(malloc(64 * KIB));

	KEEP_FRAME();
	return p;
}

/* To 2 MiB. */
NAMED void go_on_with_chain(void *p)
{
	for (size_t size = 128 * KIB; size <= 2 * MIB; size *= 2)
		p = checked(realloc(p, size));
	KEEP_FRAME();
}

NAMED void *alloc_before_failure(void)
{
	void *p = checked(malloc(MIB));

	KEEP_FRAME();
	return p;
}

NAMED void fail_to_grow(void *p)
{
	volatile size_t size = 1UL << 50;

	if (realloc(p, size))
		fail("realloc of more than there is");
	KEEP_FRAME();
}

NAMED void *alloc_to_vanish(void)
{
	void *p = checked(malloc(MIB));

	KEEP_FRAME();
	return p;
}

NAMED void shrink_to_nothing(void *p)
{
	kept = realloc(p, 0);
	KEEP_FRAME();
}

static void *blocks[512];

NAMED void alloc_for_other(void)
{
	for (int i = 0; i < 256; i++)
		blocks[i] = checked(malloc(16 * KIB));
	KEEP_FRAME();
}

static void *free_half(void *unused __attribute__((unused)))
{
	for (int i = 0; i < 256; i += 2)
		free(blocks[i]);
	return NULL;
}

static void free_in_child(void)
{
	pid_t child = fork();

	if (child == 0) {
		for (int i = 1; i < 256; i += 2)
			free(blocks[i]);
		_exit(0);
	}
	if (child < 0 || waitpid(child, NULL, 0) != child)
		fail("fork");
}

NAMED void *thread_alloc(void)
{
	void *p = checked(malloc(2 * KIB));

	KEEP_FRAME();
	return p;
}

static void *thread(void *unused __attribute__((unused)))
{
	for (uint64_t i = 0; i < options.n; i++) {
		void *p = thread_alloc();

		if (i % 2)
			free(p);
	}
	return NULL;
}

static void run_thread(void *(*f)(void *))
{
	pthread_t t;

	if (pthread_create(&t, NULL, f, NULL) != 0)
		fail("pthread_create");
	pthread_join(t, NULL);
}

static void all_kinds(void)
{
	pthread_t threads[64];
	void *some[512];

	for (int i = 0; i < 512; i++)
		some[i] = alloc_4k();
	for (int i = 0; i < 512; i += 2)
		free(some[i]);
	alloc_calloc();
	alloc_posix_memalign();
	alloc_aligned();
	alloc_reallocarray();
	alloc_strdup();
	go_on_with_chain(begin_chain());
	fail_to_grow(alloc_before_failure());
	shrink_to_nothing(alloc_to_vanish());
	alloc_for_other();
	run_thread(free_half);
	free_in_child();
	for (int i = 0; i < options.threads; i++)
		if (pthread_create(&threads[i], NULL, thread, NULL) != 0)
			fail("pthread_create");
	for (int i = 0; i < options.threads; i++)
		pthread_join(threads[i], NULL);
	workload_result(&options,
	                "\"heap\": {\"alloc_4k\": %lu, \"alloc_calloc\": %lu, \"alloc_posix_memalign\": %lu, \"alloc_aligned\": %lu, "
	                "\"alloc_reallocarray\": %lu, \"alloc_strdup\": %lu, \"begin_chain\": 0, \"go_on_with_chain\": %lu, "
	                "\"alloc_before_failure\": %lu, \"fail_to_grow\": 0, \"alloc_to_vanish\": 0, \"shrink_to_nothing\": 0, "
	                "\"alloc_for_other\": %lu, \"thread_alloc\": %lu}",
	                MIB, 4 * MIB, 4 * MIB, MIB, 2 * MIB, MIB, 2 * MIB, MIB, 2 * MIB, (unsigned long)options.threads * options.n * KIB);
}

NAMED void *alloc_many(size_t size)
{
	void *p = checked(malloc(size));

	KEEP_FRAME();
	return p;
}

NAMED void *alloc_large(size_t size)
{
	void *p = checked(malloc(size));

	KEEP_FRAME();
	return p;
}

static void many(void)
{
	size_t left = options.n * MIB, small = 0, large = 0;
	uint64_t random = 1;

	while (small + large < left) {
		size_t size;
		void *p;

		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		size = 16 + (random >> 33) % (random >> 63 ? 64 * KIB : 1 * KIB);
		p = size >= 2 * KIB ? alloc_large(size) : alloc_many(size);
		if (random >> 62 & 1)
			free(p);
		else if (size >= 2 * KIB)
			large += size;
		else
			small += size;
	}
	workload_result(&options, "\"heap\": {\"alloc_many\": %zu, \"alloc_large\": %zu}", small, large);
}

/* Half of the time inside of the allocator, for who looks at stacks meanwhile. */
NAMED void churn(void)
{
	while (!workload_over(&options))
		for (int i = 0; i < 1000; i++)
			free(checked(malloc(64 * KIB)));
	KEEP_FRAME();
}

NAMED void *take_any(size_t size)
{
	void *p = checked(malloc(size));

	KEEP_FRAME();
	return p;
}

NAMED void *take_last(void)
{
	void *p = checked(malloc(64 * KIB));

	KEEP_FRAME();
	return p;
}

NAMED void *turn_over(void *number)
{
	void *held[256] = { NULL };
	uint64_t random = (uintptr_t)number;

	while (!workload_over(&options)) {
		struct timespec t = { .tv_nsec = 2000000 };

		for (int i = 0; i < 20; i++) {
			size_t at;

			random = random * 6364136223846793005ULL + 1442695040888963407ULL;
			at = random >> 56;
			free(held[at]);
			held[at] = take_any(16 + (random >> 33) % (32 * KIB));
		}
		nanosleep(&t, NULL);
	}
	for (int i = 0; i < 256; i++)
		free(held[i]);
	for (int i = 0; i < 16; i++)
		take_last();
	return NULL;
}

static void turnover(void)
{
	pthread_t threads[64];

	for (int i = 0; i < options.threads; i++)
		if (pthread_create(&threads[i], NULL, turn_over, (void *)(uintptr_t)(i + 1)) != 0)
			fail("pthread_create");
	for (int i = 0; i < options.threads; i++)
		pthread_join(threads[i], NULL);
	workload_result(&options, "\"heap\": {\"take_any\": 0, \"take_last\": %lu}", (unsigned long)options.threads * MIB);
}

int main(int argc, char **argv)
{
	workload_parse(argc, argv, &options);
	if (options.threads < 1 || options.threads > 64)
		fail("threads");
	workload_ready(&options);
	if (strcmp(options.mode, "many") == 0) {
		many();
	} else if (strcmp(options.mode, "turnover") == 0) {
		turnover();
	} else if (strcmp(options.mode, "churn") == 0) {
		churn();
		workload_result(&options, "\"heap\": {}");
	} else {
		all_kinds();
	}
	return 0;
}
