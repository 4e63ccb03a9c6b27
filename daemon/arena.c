/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#define SAVED_NAME "arena"
#define SAVED_NEW_NAME ".arena.new"
#define COPY_CHUNK (1u << 20)
#define PAGE 4096u

static int map_memfd(struct arena *a)
{
	a->data = mmap(NULL, a->size, PROT_READ | PROT_WRITE, MAP_SHARED, a->memfd, 0);
	if (a->data == MAP_FAILED) {
		a->data = NULL;
		return negative_errno();
	}
	return 0;
}

static bool is_size(int fd, size_t size)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t) st.st_size == size;
}

/* Only what isn't zero is copied: the new memfd's other pages stay unallocated. */
static int load_saved(struct arena *a, const char *state_dir)
{
	_cleanup_close_ int dir = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;
	off_t at = 0, end;
	int r;

	if (dir < 0)
		return negative_errno();
	fd = openat(dir, SAVED_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return negative_errno();
	if (!is_size(fd, a->size))
		return -EMEDIUMTYPE;
	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		end = lseek(fd, at, SEEK_HOLE);
		if (end < 0)
			return negative_errno();
		while (at < end) {
			ssize_t n = pread(fd, (uint8_t *) a->data + at, MIN((size_t) (end - at), (size_t) COPY_CHUNK), at);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return n < 0 ? negative_errno() : -EIO;
			at += n;
		}
	}
	r = errno == ENXIO ? 0 : negative_errno(); /* ENXIO: no data beyond */
	if (r == 0 && unlinkat(dir, SAVED_NAME, 0) < 0)
		return negative_errno();
	return r;
}

int arena_open(struct arena *ret, size_t size, int kept_fd, const char *state_dir)
{
	struct arena a = { .memfd = -EBADF, .size = size, .origin = "new" };
	int r;

	if (kept_fd >= 0 && is_size(kept_fd, size)) {
		a.memfd = kept_fd;
		a.origin = "kept by the service manager";
		r = map_memfd(&a);
		if (r < 0)
			return r;
		*ret = a;
		return 0;
	}
	closep(&kept_fd);
	a.memfd = memfd_create("stackd-arena", MFD_CLOEXEC);
	if (a.memfd < 0)
		return negative_errno();
	r = ftruncate(a.memfd, size) < 0 ? negative_errno() : map_memfd(&a);
	if (r < 0) {
		arena_close(&a);
		return r;
	}
	if (state_dir) {
		r = load_saved(&a, state_dir);
		if (r == 0)
			a.origin = "saved by the last stop";
		else if (r != -ENOENT)
			log_warning("cannot read the saved store in %s: %s; starting with an empty one", state_dir,
			            r == -EMEDIUMTYPE ? "it has another size than StoreSize= asks for" : strerror(-r));
	}
	*ret = a;
	return 0;
}

void arena_close(struct arena *a)
{
	if (a->data)
		munmap(a->data, a->size);
	a->memfd = close_fd(a->memfd);
	a->data = NULL;
}

int arena_keep(const struct arena *a)
{
	return sd_pid_notify_with_fds(0, 0, "FDSTORE=1\nFDNAME=arena\nFDPOLL=0", &a->memfd, 1);
}

static bool is_zero(const uint8_t *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static int write_pages(const struct arena *a, int fd)
{
	const uint8_t *data = a->data;

	for (size_t at = 0; at < a->size; at += PAGE) {
		size_t n = MIN((size_t) PAGE, a->size - at);

		if (is_zero(data + at, n))
			continue;
		if (pwrite(fd, data + at, n, at) != (ssize_t) n)
			return negative_errno();
	}
	if (ftruncate(fd, a->size) < 0 || fsync(fd) < 0)
		return negative_errno();
	return 0;
}

int arena_save(const struct arena *a, const char *state_dir)
{
	_cleanup_close_ int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;
	int r;

	if (dir < 0)
		return negative_errno();
	fd = openat(dir, SAVED_NEW_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return negative_errno();
	r = write_pages(a, fd);
	if (r == 0 && renameat(dir, SAVED_NEW_NAME, dir, SAVED_NAME) < 0)
		r = negative_errno();
	if (r == 0 && fsync(dir) < 0)
		r = negative_errno();
	if (r < 0)
		unlinkat(dir, SAVED_NEW_NAME, 0);
	return r;
}
