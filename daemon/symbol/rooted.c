/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/sysmacros.h>

#include "rooted.h"

static int check_device(int fd, may_block_fn may_block, void *userdata)
{
	struct statx st;

	/* Without asking the file system's server. */
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) < 0)
		return negative_errno();
	return may_block(userdata, makedev(st.stx_dev_major, st.stx_dev_minor)) ? -EREMOTE : 0;
}

int rooted_find(int root_fd, const char *path, may_block_fn may_block, void *userdata, struct stat *ret_stat)
{
	_cleanup_close_ int fd = openat(root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return negative_errno();
	for (const char *at = path; *at;) {
		size_t n = strcspn(at, "/");
		char name[256];
		int next;

		if (n == 0) {
			at++;
			continue;
		}
		if (n >= sizeof(name) || (at[0] == '.' && (n == 1 || (n == 2 && at[1] == '.'))))
			return -EINVAL;
		r = check_device(fd, may_block, userdata);
		if (r < 0)
			return r;
		memcpy(name, at, n);
		name[n] = '\0';
		next = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return negative_errno();
		close(fd);
		fd = next;
		at += n;
	}
	r = check_device(fd, may_block, userdata);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return negative_errno();
	if (!S_ISREG(st.st_mode))
		return -ESTALE;
	*ret_stat = st;
	return TAKE_FD(fd);
}

int rooted_open(int path_fd)
{
	char link[32];
	int fd;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", path_fd);
	fd = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? negative_errno() : fd;
}
