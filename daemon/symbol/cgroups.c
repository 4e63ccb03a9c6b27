/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "cgroups.h"
#include "unit.h"

/* The type of kernfs' file handles; from the kernel's exportfs.h, and part of its interface since systemd
 * relies on it. */
#define HANDLE_KERNFS 0xfe

struct cgroups {
	int mount_fd;
	const char *mount;
	struct cgroup *slots;
	struct map64 *index; /* id → slot */
	uint32_t n, max;
};

static void find_mount(struct cgroups *c)
{
	static const char *const places[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };

	for (size_t i = 0; i < ELEMENTS_OF(places) && c->mount_fd < 0; i++) {
		struct statfs s;

		if (statfs(places[i], &s) < 0 || s.f_type != CGROUP2_SUPER_MAGIC)
			continue;
		c->mount = places[i];
		c->mount_fd = open(places[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
}

int cgroups_new(struct cgroups **ret, uint32_t max)
{
	_cleanup_(cgroups_freep) struct cgroups *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->mount_fd = -EBADF;
	c->max = max;
	c->slots = calloc(max, sizeof(*c->slots));
	if (!c->slots)
		return -ENOMEM;
	r = map64_new(&c->index, max);
	if (r < 0)
		return r;
	find_mount(c);
	*ret = TAKE_PTR(c);
	return 0;
}

struct cgroups *cgroups_free(struct cgroups *c)
{
	if (!c)
		return NULL;
	close_fd(c->mount_fd);
	free(c->slots);
	map64_free(c->index);
	free(c);
	return NULL;
}

/* Opens the directory by its file handle, which is its id, and asks the kernel for the name. */
static int read_path(const struct cgroups *c, uint64_t id, char *ret, size_t size)
{
	union {
		struct file_handle handle;
		char bytes[sizeof(struct file_handle) + sizeof(id)];
	} h = { .handle = { .handle_bytes = sizeof(id), .handle_type = HANDLE_KERNFS } };
	size_t prefix = strlen(c->mount);
	_cleanup_close_ int fd = -EBADF;
	char link[32], path[4096];
	ssize_t n;

	memcpy(h.handle.f_handle, &id, sizeof(id));
	fd = open_by_handle_at(c->mount_fd, &h.handle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return negative_errno();
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return negative_errno();
	path[n] = '\0';
	if (strncmp(path, c->mount, prefix) != 0 || (path[prefix] != '/' && path[prefix] != '\0'))
		return -ENOENT;
	copy_string(ret, size, path[prefix] == '\0' ? "/" : path + prefix);
	return 0;
}

const struct cgroup *cgroups_find(struct cgroups *c, uint64_t id)
{
	struct cgroup found = { .id = id };
	uint64_t slot;

	if (id == 0 || c->mount_fd < 0)
		return NULL;
	if (map64_get(c->index, id, &slot))
		return &c->slots[slot];
	if (read_path(c, id, found.path, sizeof(found.path)) < 0)
		return NULL;
	unit_from_cgroup(found.path, found.unit);
	if (c->n == c->max) { /* rare: ids are not reused, so this is thousands of cgroups later */
		map64_clear(c->index);
		c->n = 0;
	}
	c->slots[c->n] = found;
	(void)map64_put(c->index, id, c->n);
	return &c->slots[c->n++];
}
