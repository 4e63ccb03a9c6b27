/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define ARRAY_LEAST 64 /* elements */

int grow_array(void **array, size_t *max, size_t need, size_t element)
{
	size_t wanted = MAX(*max, (size_t)ARRAY_LEAST);
	void *p;

	if (need <= *max)
		return 0;
	while (wanted < need)
		wanted *= 2;
	p = reallocarray(*array, wanted, element);
	if (!p)
		return -ENOMEM;
	*array = p;
	*max = wanted;
	return 0;
}

bool copy_string(char *dst, size_t size, const char *src)
{
	size_t n = strnlen(src, size);
	bool fits = n < size;

	if (!fits)
		n = size - 1;
	memcpy(dst, src, n);
	dst[n] = 0;
	return fits;
}

int close_fd(int fd)
{
	closep(&fd);
	return -EBADF;
}

int read_small_file(int dir_fd, const char *path, size_t max, char **ret, size_t *ret_size)
{
	_cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	_cleanup_free_ char *data = NULL;
	size_t size = 0, allocated = 0;

	if (fd < 0)
		return negative_errno();
	for (;;) {
		ssize_t n;

		if (allocated - size < 2) {
			size_t want = MIN(MAX(allocated * 2, (size_t) 4096), max + 2);
			char *p;

			if (size > max)
				return -EFBIG;
			p = realloc(data, want);
			if (!p)
				return -ENOMEM;
			data = p;
			allocated = want;
		}
		n = read(fd, data + size, allocated - size - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return negative_errno();
		if (n == 0)
			break;
		size += n;
	}
	if (size > max)
		return -EFBIG;
	data[size] = 0;
	*ret = TAKE_PTR(data);
	if (ret_size)
		*ret_size = size;
	return 0;
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

uint64_t clock_realtime_us(void)
{
	return clock_ns(CLOCK_REALTIME) / NSEC_PER_USEC;
}

uint64_t clock_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t clock_boottime_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

uint64_t process_cpu_ns(pid_t pid)
{
	struct timespec ts;
	clockid_t id;

	if (pid <= 0 || clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &ts) < 0)
		return 0;
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t hash64(const void *data, size_t size, uint64_t seed)
{
	return XXH3_64bits_withSeed(data, size, seed);
}

void memory_give_back(void *memory, size_t size)
{
#ifdef MADV_DONTNEED_LOCKED
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = ((uintptr_t)memory + page - 1) & ~(page - 1), end = ((uintptr_t)memory + size) & ~(page - 1);

	if (first < end)
		(void)madvise((void *)first, end - first, MADV_DONTNEED_LOCKED);
#else
	(void)memory;
	(void)size;
#endif
}
