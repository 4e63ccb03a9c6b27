/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Allocates where accounts go wrong, and says how many bytes of each function's are not freed at the end: sizes that overflow,
 * rarer functions, C++'s new and delete, functions that only jemalloc or mimalloc have, blocks that a child frees and makes after fork, threads that end with blocks. */
#include <dlfcn.h>
#include <malloc.h>
#include <sys/wait.h>

#include "workload.h"

#define KIB 1024UL
#define MIB (1024 * KIB)

/* Of libstdc++: operator new, new[], delete, delete[]. */
void *_Znwm(size_t size);
void *_Znam(size_t size);
void _ZdlPv(void *p);
void _ZdaPv(void *p);

static struct workload_options options = { .seconds = 1, .threads = 4, .n = 64, .mode = "all" };
static void *volatile kept; /* the compiler must not do without an allocation */

static void *checked(void *p)
{
	if (!p)
		fail("malloc");
	kept = p;
	return p;
}

NAMED void *alloc_before_overflow(void)
{
	void *p = checked(malloc(MIB));

	KEEP_FRAME();
	return p;
}

/* The product is 2^64: 0 to who doesn't look. */
NAMED void overflow(void *p)
{
	volatile size_t n = 1UL << 32;

	if (reallocarray(p, n, n))
		fail("reallocarray of more than there is");
	KEEP_FRAME();
}

NAMED void alloc_new(void)
{
	void *p[16];

	for (int i = 0; i < 16; i++)
		p[i] = checked(i % 2 ? _Znwm(64 * KIB) : _Znam(64 * KIB));
	for (int i = 0; i < 8; i++)
		i % 2 ? _ZdlPv(p[i]) : _ZdaPv(p[i]);
	KEEP_FRAME();
}

NAMED void alloc_memalign(void)
{
	for (int i = 0; i < 16; i++)
		checked(memalign(512, 64 * KIB));
	KEEP_FRAME();
}

NAMED void alloc_valloc(void)
{
	for (int i = 0; i < 16; i++)
		checked(valloc(64 * KIB));
	KEEP_FRAME();
}

NAMED void alloc_pvalloc(void)
{
	for (int i = 0; i < 16; i++)
		checked(pvalloc(64 * KIB));
	KEEP_FRAME();
}

typedef void *heap_fn(void);
typedef void *heap_malloc_fn(void *heap, size_t size);
typedef void *heap_calloc_fn(void *heap, size_t n, size_t size);
typedef void *heap_realloc_fn(void *heap, void *p, size_t size);
typedef void *mallocx_fn(size_t size, int flags);
typedef void *rallocx_fn(void *p, size_t size, int flags);
typedef void dallocx_fn(void *p, int flags);

static heap_fn *default_heap;
static heap_malloc_fn *heap_malloc;
static heap_calloc_fn *heap_calloc;
static heap_realloc_fn *heap_realloc;
static mallocx_fn *mallocx;
static rallocx_fn *rallocx;
static dallocx_fn *dallocx;

/* Before the heap is watched: dlsym() allocates the text of an error. */
static void find_functions(void)
{
	default_heap = (heap_fn *)dlsym(RTLD_DEFAULT, "mi_heap_get_default");
	heap_malloc = (heap_malloc_fn *)dlsym(RTLD_DEFAULT, "mi_heap_malloc");
	heap_calloc = (heap_calloc_fn *)dlsym(RTLD_DEFAULT, "mi_heap_calloc");
	heap_realloc = (heap_realloc_fn *)dlsym(RTLD_DEFAULT, "mi_heap_realloc");
	mallocx = (mallocx_fn *)dlsym(RTLD_DEFAULT, "mallocx");
	rallocx = (rallocx_fn *)dlsym(RTLD_DEFAULT, "rallocx");
	dallocx = (dallocx_fn *)dlsym(RTLD_DEFAULT, "dallocx");
}

/* Gives how many bytes are not freed: none without mimalloc. */
NAMED size_t alloc_of_heap(void)
{
	void *heap;

	if (!default_heap || !heap_malloc || !heap_calloc || !heap_realloc)
		return 0;
	heap = default_heap();
	for (int i = 0; i < 8; i++) {
		checked(heap_realloc(heap, checked(heap_malloc(heap, 32 * KIB)), 64 * KIB));
		checked(heap_calloc(heap, 16, 4 * KIB));
	}
	KEEP_FRAME();
	return MIB;
}

/* The same without jemalloc. */
NAMED size_t alloc_extended(void)
{
	if (!mallocx || !rallocx || !dallocx)
		return 0;
	for (int i = 0; i < 16; i++) {
		checked(rallocx(checked(mallocx(32 * KIB, 0)), 64 * KIB, 0));
		dallocx(checked(mallocx(32 * KIB, 0)), 0);
	}
	KEEP_FRAME();
	return MIB;
}

static void *blocks[64];

NAMED void alloc_for_fork(void)
{
	for (int i = 0; i < 64; i++)
		blocks[i] = checked(malloc(64 * KIB));
	KEEP_FRAME();
}

/* Not the parent's. */
NAMED void alloc_in_child(void)
{
	for (int i = 0; i < 64; i++)
		checked(malloc(64 * KIB));
	KEEP_FRAME();
}

static void fork_and_free(void)
{
	pid_t child = fork();

	if (child == 0) {
		for (int i = 0; i < 64; i++)
			free(blocks[i]);
		alloc_in_child();
		_exit(0);
	}
	if (child < 0 || waitpid(child, NULL, 0) != child)
		fail("fork");
	for (int i = 0; i < 64; i += 2)
		free(blocks[i]);
}

NAMED void alloc_in_thread(void)
{
	for (uint64_t i = 0; i < options.n; i++)
		checked(malloc(4 * KIB));
	KEEP_FRAME();
}

static void *thread(void *unused __attribute__((unused)))
{
	alloc_in_thread();
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	size_t of_heap, extended;

	workload_parse(argc, argv, &options);
	if (options.threads < 1 || options.threads > 64)
		fail("threads");
	find_functions();
	workload_ready(&options);
	overflow(alloc_before_overflow());
	alloc_new();
	alloc_memalign();
	alloc_valloc();
	alloc_pvalloc();
	of_heap = alloc_of_heap();
	extended = alloc_extended();
	alloc_for_fork();
	fork_and_free();
	for (int i = 0; i < options.threads; i++)
		if (pthread_create(&threads[i], NULL, thread, NULL) != 0)
			fail("pthread_create");
	for (int i = 0; i < options.threads; i++)
		pthread_join(threads[i], NULL);
	workload_result(&options,
	                "\"heap\": {\"alloc_before_overflow\": %lu, \"overflow\": 0, \"alloc_new\": %lu, \"alloc_memalign\": %lu, "
	                "\"alloc_valloc\": %lu, \"alloc_pvalloc\": %lu, \"alloc_of_heap\": %lu, \"alloc_extended\": %lu, "
	                "\"alloc_for_fork\": %lu, \"alloc_in_child\": 0, \"alloc_in_thread\": %lu}",
	                MIB, 512 * KIB, MIB, MIB, MIB, of_heap, extended, 2 * MIB, (unsigned long)options.threads * options.n * 4 * KIB);
	return 0;
}
