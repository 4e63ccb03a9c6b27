/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Takes memory into use and lets it go, each in a function of its own, and says how much of it became resident in each by its
 * size: fresh pages, by huge pages, pages of a file, copies of those; madvise, munmap of a part, brk down. Then --threads threads
 * at once, --n MiB each. "huge" is what the kernel says, which may have no huge pages. "all" is by how much VmRSS grew in the end. */
#include <sys/mman.h>

#include "workload.h"

#define MIB (1024L * 1024)
#define PAGE 4096
#define HUGE (2 * MIB)

static struct workload_options options = {.seconds = 1, .threads = 4, .n = 8};

static char *map(long size, int fd)
{
	char *r = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);

	if (r == MAP_FAILED)
		fail("mmap");
	return r;
}

/* Two hundredths of a second, once a MiB, when the whole takes ten seconds: sampled faults are so many a second. */
static void breathe(void)
{
	struct timespec t = {.tv_nsec = (long)(options.seconds * 2e6)};

	if (options.seconds >= 10)
		nanosleep(&t, NULL);
}

static inline __attribute__((always_inline)) void touch(volatile char *memory, long size)
{
	for (long at = 0; at < size; at += PAGE) {
		if (at % MIB == 0)
			breathe();
		memory[at] = 1;
	}
}

NAMED void touch_fresh(char *memory)
{
	touch(memory, 64 * MIB);
	KEEP_FRAME();
}

NAMED void touch_huge(volatile char *memory)
{
	for (long at = 0; at < 64 * MIB; at += HUGE)
		memory[at] = 1;
	KEEP_FRAME();
}

NAMED void read_file(const volatile char *memory)
{
	for (long at = 0; at < 32 * MIB; at += PAGE)
		(void)memory[at];
	KEEP_FRAME();
}

NAMED void copy_file(char *memory)
{
	touch(memory, 32 * MIB);
	KEEP_FRAME();
}

NAMED void advise_away(char *memory)
{
	if (inline_syscall(SYS_madvise, (long)memory, 24 * MIB, MADV_DONTNEED, 0))
		fail("madvise");
	KEEP_FRAME();
}

NAMED void unmap_part(char *memory)
{
	if (inline_syscall(SYS_munmap, (long)memory, 16 * MIB, 0, 0))
		fail("munmap");
	KEEP_FRAME();
}

NAMED void thread_touch(char *memory)
{
	touch(memory, (long)options.n * MIB);
	KEEP_FRAME();
}

static long resident(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	long kib = 0;
	char line[128];

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "VmRSS: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib * 1024;
}

static void *run(void *unused __attribute__((unused)))
{
	thread_touch(map((long)options.n * MIB, -1));
	return NULL;
}

static int make_file(void)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, 32 * MIB) < 0)
		fail("memfd");
	for (long at = 0; at < 32 * MIB; at += PAGE)
		if (pwrite(fd, "x", 1, at) != 1)
			fail("pwrite");
	return fd;
}

static void pause_a_little(void)
{
	struct timespec t = {.tv_nsec = (long)(options.seconds * 1e8)};

	nanosleep(&t, NULL);
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	long before, huge, all;
	char *fresh, *spare, *file, *aligned;
	int fd;

	workload_parse(argc, argv, &options);
	if (options.threads < 0 || options.threads > 64)
		fail("threads");
	fresh = map(64 * MIB, -1);
	spare = map(66 * MIB, -1);
	fd = make_file();
	file = map(32 * MIB, fd);
	aligned = (char *)(((uintptr_t)spare + HUGE - 1) & ~((uintptr_t)HUGE - 1));
	madvise(aligned, 64 * MIB, MADV_HUGEPAGE);
	madvise(fresh, 64 * MIB, MADV_NOHUGEPAGE);
	workload_ready(&options);
	all = resident();
	touch_fresh(fresh);
	pause_a_little();
	before = resident();
	touch_huge(aligned);
	huge = resident() - before;
	pause_a_little();
	read_file(file);
	copy_file(file);
	pause_a_little();
	advise_away(fresh + 32 * MIB);
	unmap_part(fresh);
	for (int i = 0; i < options.threads; i++)
		if (pthread_create(&threads[i], NULL, run, NULL) != 0)
			fail("pthread_create");
	for (int i = 0; i < options.threads; i++)
		pthread_join(threads[i], NULL);
	workload_result(&options,
	                "\"all\": %ld, \"rss\": {\"touch_fresh\": %ld, \"touch_huge\": %ld, \"read_file\": %ld, \"copy_file\": 0, "
	                "\"advise_away\": %ld, \"unmap_part\": %ld, \"thread_touch\": %ld}",
	                resident() - all, 64 * MIB, huge, 32 * MIB, -24 * MIB, -16 * MIB, (long)options.n * MIB * options.threads);
	return 0;
}
