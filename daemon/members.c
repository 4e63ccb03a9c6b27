/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "members.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#define DEPTH_MAX 16        /* of control groups in one another */
#define DIRECTORIES_MAX 4096 /* that are looked into: what is beyond is left out */

struct walk {
	struct members *members;
	const char *unit;
	size_t directories;
	bool found; /* a control group of the unit */
};

int members_open(void)
{
	static const char *const places[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };

	for (size_t i = 0; i < ELEMENTS_OF(places); i++) {
		struct statfs s;
		int fd;

		if (statfs(places[i], &s) < 0 || s.f_type != CGROUP2_SUPER_MAGIC)
			continue;
		fd = open(places[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return fd < 0 ? negative_errno() : fd;
	}
	return -ENOENT;
}

static int open_directory(int parent, const char *name)
{
	return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* ---- processes ---- */

static void add_pid(struct members *m, pid_t pid)
{
	if (m->n < MEMBERS_MAX)
		m->pids[m->n++] = pid;
	else
		m->more = true;
}

/* One that is gone by now, or has threads only, is passed over. */
static void read_processes(struct walk *w, int directory)
{
	int fd = openat(directory, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	_cleanup_fclose_ FILE *f = fd < 0 ? NULL : fdopen(fd, "re");
	int pid;

	if (!f) {
		close_fd(fd);
		return;
	}
	while (fscanf(f, "%d", &pid) == 1)
		if (pid > 0) /* 0: of a PID namespace that is none of ours */
			add_pid(w->members, pid);
}

static int by_pid(const void *a, const void *b)
{
	const pid_t *p = a, *q = b;

	return *p < *q ? -1 : *p > *q;
}

static void sort(struct members *m)
{
	size_t kept = 0;

	qsort(m->pids, m->n, sizeof(m->pids[0]), by_pid);
	for (size_t i = 0; i < m->n; i++)
		if (kept == 0 || m->pids[kept - 1] != m->pids[i])
			m->pids[kept++] = m->pids[i];
	m->n = kept;
}

/* ---- control groups ---- */

typedef void (*child_fn)(struct walk *w, const char *name, int directory, unsigned depth);

static void for_each_child(struct walk *w, int directory, unsigned depth, child_fn fn)
{
	int fd = open_directory(directory, ".");
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		close_fd(fd);
		return;
	}
	while (depth < DEPTH_MAX && w->directories < DIRECTORIES_MAX && (e = readdir(d))) {
		_cleanup_close_ int child = -EBADF;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		child = open_directory(directory, e->d_name);
		if (child < 0)
			continue;
		w->directories++;
		fn(w, e->d_name, child, depth + 1);
	}
	closedir(d);
}

static void take_tree(struct walk *w, const char *name _unused_, int directory, unsigned depth)
{
	read_processes(w, directory);
	for_each_child(w, directory, depth, take_tree);
}

static bool has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n > m && streq(s + n - m, suffix);
}

static bool is_user_manager(const char *name)
{
	return strncmp(name, "user@", 5) == 0 && has_suffix(name, ".service");
}

/* Units lie in slices, those of users in the slices of their managers; these managers' own init.scope is no unit of its own. */
static void look_for_unit(struct walk *w, const char *name, int directory, unsigned depth)
{
	name += name[0] == '_'; /* escapes names that look like the kernel's files */
	if (streq(name, w->unit) && (depth == 1 || !streq(name, "init.scope"))) {
		w->found = true;
		take_tree(w, name, directory, depth);
	} else if (has_suffix(name, ".slice") || is_user_manager(name)) {
		for_each_child(w, directory, depth, look_for_unit);
	}
}

/* Without the "/" it begins with; -1 and errno as open(2). */
static int open_group(int cgroups, const char *path)
{
	return open_directory(cgroups, path[1] ? path + 1 : ".");
}

int members_find(int cgroups, const char *name, struct members *ret)
{
	struct walk w = { .members = ret, .unit = name };

	ret->n = 0;
	ret->more = false;
	if (name[0] == '/') {
		_cleanup_close_ int fd = open_group(cgroups, name);

		if (fd < 0)
			return negative_errno();
		take_tree(&w, name, fd, 0);
	} else {
		for_each_child(&w, cgroups, 0, look_for_unit);
		if (!w.found)
			return -ENOENT;
	}
	sort(ret);
	return 0;
}
