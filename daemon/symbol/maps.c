/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "maps.h"

static enum mapping_kind classify(const char *path, uint64_t inode)
{
	/* shared memory without a name is a file to the kernel only */
	static const char *const nameless[] = { "/dev/zero", "/SYSV", "/anon_hugepage" };

	if (streq(path, "[vdso]") || streq(path, "[vsyscall]") || streq(path, "[uprobes]"))
		return MAPPING_SPECIAL;
	if (path[0] != '/' || inode == 0)
		return MAPPING_ANONYMOUS;
	for (size_t i = 0; i < ELEMENTS_OF(nameless); i++)
		if (strncmp(path, nameless[i], strlen(nameless[i])) == 0)
			return MAPPING_ANONYMOUS;
	return MAPPING_FILE;
}

/* The kernel writes a newline in a path as \012. */
static char *copy_path(const char *path)
{
	size_t n = strcspn(path, "\n");
	char *copy = strndup(path, n), *to = copy;

	if (!copy)
		return NULL;
	if (n > strlen(" (deleted)") && streq(copy + n - strlen(" (deleted)"), " (deleted)"))
		copy[n - strlen(" (deleted)")] = '\0';
	if (!strchr(copy, '\\'))
		return copy;
	for (const char *from = copy; *from; to++) {
		bool newline = strncmp(from, "\\012", 4) == 0;

		*to = newline ? '\n' : *from;
		from += newline ? 4 : 1;
	}
	*to = '\0';
	return copy;
}

int mapping_make(const char *path, uint64_t start, uint64_t end, uint64_t offset, uint64_t inode, dev_t device, struct mapping *ret)
{
	*ret = (struct mapping){
		.start = start,
		.end = end,
		.offset = offset,
		.inode = inode,
		.device = device,
		.path = copy_path(path),
	};
	if (!ret->path)
		return -ENOMEM;
	ret->kind = classify(ret->path, inode);
	return 0;
}

int mapping_parse(const char *line, struct mapping *ret)
{
	unsigned long start, end, offset, inode;
	unsigned device_major, device_minor;
	char permissions[5];
	int at = 0;

	if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu%n", &start, &end, permissions, &offset, &device_major,
		   &device_minor, &inode, &at) < 7 ||
	    at == 0 || end <= start)
		return -EBADMSG;
	if (strlen(permissions) != 4)
		return -EBADMSG;
	if (permissions[2] != 'x')
		return 1;

	line += at;
	line += strspn(line, " ");
	return mapping_make(line, start, end, offset, inode, makedev(device_major, device_minor), ret);
}

static int reserve(struct mappings *m, size_t n)
{
	size_t max = MAX(m->max, (size_t)16);
	struct mapping *p;

	while (max < n)
		max *= 2;
	if (max == m->max)
		return 0;
	p = reallocarray(m->items, max, sizeof(*p));
	if (!p)
		return -ENOMEM;
	m->items = p;
	m->max = max;
	return 0;
}

/* Cuts [start, end) out of what is mapped. Room for one more was made: a mapping may fall apart in two. */
static int cut_out(struct mappings *all, uint64_t start, uint64_t end)
{
	size_t kept = 0, n = all->n;

	for (size_t i = 0; i < n; i++) {
		struct mapping *m = &all->items[i];

		if (m->start < start && m->end > end) {
			struct mapping rest = *m;

			rest.path = strdup(m->path);
			if (!rest.path)
				return -ENOMEM;
			rest.start = end;
			rest.offset += end - m->start;
			m->end = start;
			memmove(m + 2, m + 1, (n - i - 1) * sizeof(*m));
			m[1] = rest;
			all->n = n + 1;
			return 0;
		}
		if (m->start >= start && m->end <= end) {
			free(m->path);
			continue;
		}
		if (m->start < end && m->end > end) {
			m->offset += end - m->start;
			m->start = end;
		} else if (m->start < start && m->end > start) {
			m->end = start;
		}
		all->items[kept++] = *m;
	}
	all->n = kept;
	return 0;
}

int mappings_cut(struct mappings *all, uint64_t start, uint64_t end)
{
	int r = all->n + 1 > MAPPINGS_MAX ? -E2BIG : reserve(all, all->n + 1);

	return r < 0 ? r : cut_out(all, start, end);
}

int mappings_put(struct mappings *all, struct mapping *m)
{
	size_t at = 0;
	int r = all->n + 2 > MAPPINGS_MAX ? -E2BIG : reserve(all, all->n + 2);

	if (r >= 0)
		r = cut_out(all, m->start, m->end);
	if (r < 0) {
		free(m->path);
		return r;
	}
	while (at < all->n && all->items[at].start < m->start)
		at++;
	memmove(all->items + at + 1, all->items + at, (all->n - at) * sizeof(*m));
	all->items[at] = *m;
	all->n++;
	return 0;
}

int mappings_copy(struct mappings *ret, const struct mappings *from)
{
	int r = reserve(ret, from->n);

	for (size_t i = 0; r >= 0 && i < from->n; i++) {
		ret->items[ret->n] = from->items[i];
		ret->items[ret->n].path = strdup(from->items[i].path);
		if (!ret->items[ret->n].path)
			return -ENOMEM;
		ret->n++;
	}
	return r;
}

int mappings_read(struct mappings *ret, FILE *f)
{
	_cleanup_(mappings_clear) struct mappings m = {};
	_cleanup_free_ char *line = NULL;
	size_t size = 0;

	while (m.n < MAPPINGS_MAX && getline(&line, &size, f) > 0) {
		struct mapping one;
		int r = mapping_parse(line, &one);

		if (r > 0)
			continue;
		if (r < 0)
			return r;
		r = reserve(&m, m.n + 1);
		if (r < 0) {
			free(one.path);
			return r;
		}
		m.items[m.n++] = one;
	}
	if (ferror(f))
		return negative_errno();
	*ret = m;
	m = (struct mappings){};
	return 0;
}

void mappings_clear(struct mappings *m)
{
	for (size_t i = 0; i < m->n; i++)
		free(m->items[i].path);
	free(m->items);
	*m = (struct mappings){};
}

struct mapping *mappings_find(const struct mappings *m, uint64_t address)
{
	size_t low = 0, high = m->n;

	while (low < high) { /* the first that ends behind the address */
		size_t middle = low + (high - low) / 2;

		if (m->items[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < m->n && m->items[low].start <= address ? &m->items[low] : NULL;
}

static bool is_remote(const char *type)
{
	static const char *const types[] = { "nfs",  "nfs4",     "cifs",   "smb3",   "9p",     "ceph", "afs",
					     "coda", "orangefs", "lustre", "beegfs", "autofs", "fuse" };

	for (size_t i = 0; i < ELEMENTS_OF(types); i++)
		if (streq(type, types[i]))
			return true;
	return strncmp(type, "fuse.", 5) == 0;
}

bool mountinfo_may_block(FILE *f, dev_t device)
{
	_cleanup_free_ char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, f) > 0) {
		const char *rest = strstr(line, " - ");
		unsigned device_major, device_minor;
		char type[64];

		if (rest && sscanf(line, "%*u %*u %u:%u", &device_major, &device_minor) == 2 &&
		    makedev(device_major, device_minor) == device && sscanf(rest, " - %63s", type) == 1)
			return is_remote(type);
	}
	return false;
}

/* btrfs and overlayfs show one device in maps and another in stat. */
static bool has_other_device(int fd)
{
	struct statfs s;

	return fstatfs(fd, &s) >= 0 && (s.f_type == BTRFS_SUPER_MAGIC || s.f_type == OVERLAYFS_SUPER_MAGIC);
}

/* From an O_PATH descriptor, which has no side effects on devices and FIFOs, to one that reads. */
static int reopen_regular(const struct mapping *m, int path_fd, bool exact)
{
	char link[32];
	struct stat st;
	int fd;

	if (fstat(path_fd, &st) < 0)
		return negative_errno();
	if (!S_ISREG(st.st_mode))
		return -ESTALE;
	if (!exact && (st.st_ino != m->inode || (st.st_dev != m->device && !has_other_device(path_fd))))
		return -ESTALE;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", path_fd);
	fd = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? negative_errno() : fd;
}

static int open_below(const struct mapping *m, int root_fd)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	_cleanup_close_ int fd = (int)syscall(SYS_openat2, root_fd, m->path, &how, sizeof(how));

	/* A service under RestrictSUIDSGID= has no openat2(). The paths in maps have no links in them any more, and it is
	 * checked that the file found is the one mapped. */
	if (fd < 0 && errno == ENOSYS && m->path[0] == '/')
		fd = openat(root_fd, m->path + 1, O_PATH | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? negative_errno() : reopen_regular(m, fd, false);
}

int mapping_open_path(const struct mapping *m, int process_fd)
{
	_cleanup_close_ int root = -EBADF, own_root = -EBADF;
	int fd;

	/* In another mount namespace the path is as seen from its root; in a chroot of ours as seen from
	 * ours. */
	root = openat(process_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root >= 0) {
		fd = open_below(m, root);
		if (fd >= 0)
			return fd;
	}
	own_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return own_root < 0 ? negative_errno() : open_below(m, own_root);
}

int mapping_open(const struct mapping *m, int process_fd)
{
	_cleanup_close_ int exact = -EBADF;
	char name[64];
	int fd;

	/* The mapped file itself, even when its path is gone or is another one's; needs
	 * CAP_CHECKPOINT_RESTORE. */
	snprintf(name, sizeof(name), "map_files/%lx-%lx", (unsigned long)m->start, (unsigned long)m->end);
	exact = openat(process_fd, name, O_PATH | O_CLOEXEC);
	if (exact >= 0) {
		fd = reopen_regular(m, exact, true);
		if (fd >= 0 || fd == -ESTALE)
			return fd;
	}

	return mapping_open_path(m, process_fd);
}
