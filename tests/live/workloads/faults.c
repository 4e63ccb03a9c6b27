/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Minor faults in pages of each kind, each in a function of its own, in rounds of --n pages over --seconds: memory of its own, shared
 * memory, a file's pages read, and a private copy of them written. --threads others map and unmap all the while, so that the lock of the
 * address space is busy. Counts by the kernel's own account of the thread. */
#include <fcntl.h>
#include <sys/mman.h>

#include "workload.h"

static struct workload_options options = {.seconds = 5, .n = 200};
static size_t size, page;
static bool over;

NAMED void touch_own(volatile char *memory)
{
	for (size_t at = 0; at < size; at += page)
		memory[at] = 1;
	KEEP_FRAME();
}

NAMED void touch_shared(volatile char *memory)
{
	for (size_t at = 0; at < size; at += page)
		memory[at] = 1;
	KEEP_FRAME();
}

NAMED void read_pages(const volatile char *memory)
{
	for (size_t at = 0; at < size; at += page)
		(void)memory[at];
	KEEP_FRAME();
}

NAMED void copy_pages(volatile char *memory)
{
	for (size_t at = 0; at < size; at += page)
		memory[at] = 1;
	KEEP_FRAME();
}

static unsigned long faults(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_THREAD, &usage) < 0)
		fail("getrusage");
	return (unsigned long)usage.ru_minflt;
}

static char *map(int flags, int fd)
{
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (memory == MAP_FAILED)
		fail("mmap");
	if (madvise(memory, size, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
		fail("madvise");
	return memory;
}

static void *keep_busy(void *unused __attribute__((unused)))
{
	struct timespec t = {.tv_nsec = 20000};

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		char *memory = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);

		munmap(memory, size);
		nanosleep(&t, NULL);
	}
	return NULL;
}

static int make_file(int fd)
{
	static char text[1 << 16];

	if (fd < 0)
		fail("open");
	for (size_t at = 0; at < size; at += sizeof(text))
		if (pwrite(fd, text, sizeof(text), (off_t)at) != sizeof(text))
			fail("pwrite");
	return fd;
}

int main(int argc, char **argv)
{
	unsigned long own = 0, shared = 0, read = 0, copied = 0, before;
	char name[] = "/var/tmp/stackd-faults-XXXXXX";
	pthread_t threads[16];
	int file, memfd;

	workload_parse(argc, argv, &options);
	if (options.threads < 0 || options.threads > 16)
		fail("threads");
	page = (size_t)sysconf(_SC_PAGESIZE);
	size = options.n * page;
	file = make_file(mkstemp(name));
	unlink(name);
	memfd = make_file(memfd_create("shared", MFD_CLOEXEC));
	workload_ready(&options);
	for (int i = 0; i < options.threads; i++)
		if (pthread_create(&threads[i], NULL, keep_busy, NULL) != 0)
			fail("pthread_create");
	while (!workload_over(&options)) {
		char *mine = map(MAP_PRIVATE | MAP_ANONYMOUS, -1), *ours = map(MAP_SHARED, memfd);
		char *text = map(MAP_PRIVATE, file), *copy = map(MAP_PRIVATE, file);
		struct timespec t = {.tv_nsec = 10000000};

		before = faults();
		touch_own(mine);
		own += faults() - before;
		before = faults();
		touch_shared(ours);
		shared += faults() - before;
		before = faults();
		read_pages(text);
		read += faults() - before;
		before = faults();
		copy_pages(copy);
		copied += faults() - before;
		munmap(mine, size);
		munmap(ours, size);
		munmap(text, size);
		munmap(copy, size);
		nanosleep(&t, NULL);
	}
	__atomic_store_n(&over, true, __ATOMIC_RELAXED);
	for (int i = 0; i < options.threads; i++)
		pthread_join(threads[i], NULL);
	workload_result(&options, "\"minor\": {\"touch_own\": %lu, \"touch_shared\": %lu, \"read_pages\": %lu, \"copy_pages\": %lu}", own, shared,
	                read, copied);
	return 0;
}
