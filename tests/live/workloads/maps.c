/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changes its address space, each change in a function of its own, and says by how many bytes each function did:
 * brk up and down, mmap, over what is mapped, munmap of a part and across a hole, mremap, calls that fail; then --threads
 * threads at once, --n times each. Sizes are whole MiB, which every rounding on the way keeps. */
#include <sys/mman.h>

#include "workload.h"

#define MIB (1024L * 1024)

static struct workload_options options = {.seconds = 1, .threads = 4, .n = 64};

static long checked(long r, const char *what)
{
	if (r < 0 && r > -4096) {
		errno = (int)-r;
		fail(what);
	}
	return r;
}

static inline __attribute__((always_inline)) long map(long address, long size, long flags)
{
#if defined(__x86_64__)
	register long r10 asm("r10") = MAP_PRIVATE | MAP_ANONYMOUS | flags;
	register long r8 asm("r8") = -1;
	register long r9 asm("r9") = 0;
	long ret;
	asm volatile("syscall" : "=a"(ret) : "a"(SYS_mmap), "D"(address), "S"(size), "d"(PROT_READ | PROT_WRITE), "r"(r10), "r"(r8), "r"(r9)
	             : "rcx", "r11", "memory");
	return ret;
#else
	return (long)mmap((void *)address, (size_t)size, PROT_READ | PROT_WRITE, (int)(MAP_PRIVATE | MAP_ANONYMOUS | flags), -1, 0);
#endif
}

#define UNMAP(address, size) checked(inline_syscall(SYS_munmap, address, size, 0, 0), "munmap")

NAMED void grow_brk(void)
{
	long now = inline_syscall(SYS_brk, 0, 0, 0, 0);

	if (inline_syscall(SYS_brk, now + 32 * MIB, 0, 0, 0) != now + 32 * MIB)
		fail("brk");
	KEEP_FRAME();
}

NAMED void shrink_brk(void)
{
	long now = inline_syscall(SYS_brk, 0, 0, 0, 0);

	if (inline_syscall(SYS_brk, now - 12 * MIB, 0, 0, 0) != now - 12 * MIB)
		fail("brk");
	KEEP_FRAME();
}

NAMED long map_64(void)
{
	long r = checked(map(0, 64 * MIB, 0), "mmap");

	KEEP_FRAME();
	return r;
}

/* 16 MiB, of which map_64() has mapped 12. */
NAMED void map_over(long address)
{
	checked(map(address - 4 * MIB, 16 * MIB, MAP_FIXED), "mmap");
	KEEP_FRAME();
}

NAMED void unmap_middle(long address)
{
	UNMAP(address + 16 * MIB, 16 * MIB);
	KEEP_FRAME();
}

/* 24 MiB, of which unmap_middle() left 8. */
NAMED void unmap_across_hole(long address)
{
	UNMAP(address + 12 * MIB, 24 * MIB);
	KEEP_FRAME();
}

NAMED long remap_grow(long address)
{
	long r = checked(inline_syscall(SYS_mremap, address, 8 * MIB, 40 * MIB, MREMAP_MAYMOVE), "mremap");

	KEEP_FRAME();
	return r;
}

NAMED void remap_shrink(long address)
{
	checked(inline_syscall(SYS_mremap, address, 40 * MIB, 20 * MIB, 0), "mremap");
	KEEP_FRAME();
}

NAMED void fail_to_map(void)
{
	if (map(0, 1L << 50, 0) > 0)
		fail("mmap of more than there is");
	KEEP_FRAME();
}

NAMED long thread_map(void)
{
	long r = checked(map(0, 2 * MIB, 0), "mmap");

	KEEP_FRAME();
	return r;
}

NAMED void thread_unmap(long address)
{
	UNMAP(address, MIB);
	KEEP_FRAME();
}

static void *churn(void *unused __attribute__((unused)))
{
	for (uint64_t i = 0; i < options.n; i++)
		thread_unmap(thread_map());
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	long address, place;

	workload_parse(argc, argv, &options);
	if (options.threads < 1 || options.threads > 64)
		fail("threads");
	/* Mappings are placed from the top down: this leaves nothing below map_64()'s that map_over() could hit. */
	place = checked(map(0, 256 * MIB, 0), "mmap");
	UNMAP(place, 256 * MIB);
	workload_ready(&options);
	grow_brk();
	shrink_brk();
	address = map_64();
	map_over(address);
	unmap_middle(address);
	unmap_across_hole(address);
	remap_shrink(remap_grow(address));
	fail_to_map();
	for (int i = 0; i < options.threads; i++)
		if (pthread_create(&threads[i], NULL, churn, NULL) != 0)
			fail("pthread_create");
	for (int i = 0; i < options.threads; i++)
		pthread_join(threads[i], NULL);
	workload_result(&options,
	                "\"brk\": {\"grow_brk\": %ld, \"shrink_brk\": %ld}, \"mmap\": {\"map_64\": %ld, \"map_over\": %ld, "
	                "\"unmap_middle\": %ld, \"unmap_across_hole\": %ld, \"remap_grow\": %ld, \"remap_shrink\": %ld, "
	                "\"fail_to_map\": 0, \"thread_map\": %ld, \"thread_unmap\": %ld}",
	                32 * MIB, -12 * MIB, 64 * MIB, 4 * MIB, -16 * MIB, -8 * MIB, 32 * MIB, -20 * MIB,
	                2 * MIB * (long)options.n * options.threads, -MIB * (long)options.n * options.threads);
	return 0;
}
