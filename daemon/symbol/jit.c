/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>

#include "jit.h"

#define STATUS_MAX 16384

static const char *find_field(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? at + strlen(name) : NULL;
}

int jit_parse_status(const char *text, int *ret_pid, uid_t *ret_uid)
{
	const char *pids = find_field(text, "\nNSpid:"), *uids = find_field(text, "\nUid:");
	unsigned uid;
	int n, pid = 0;

	if (!pids || !uids || sscanf(uids, "%*u %u", &uid) != 1)
		return -EBADMSG;
	/* one for each namespace that it is in, the innermost last */
	for (int next; pids[strspn(pids, "\t ")] != '\n' && sscanf(pids, "%d%n", &next, &n) == 1; pids += n)
		pid = next;
	if (pid <= 0)
		return -EBADMSG;
	*ret_pid = pid;
	*ret_uid = uid;
	return 0;
}

int jit_map_open(int process_fd, may_block_fn may_block, void *userdata, struct stat *ret_stat)
{
	_cleanup_close_ int root = -EBADF, fd = -EBADF;
	_cleanup_free_ char *status = NULL;
	char path[32];
	struct stat st;
	uid_t uid;
	int pid, r;

	r = read_small_file(process_fd, "status", STATUS_MAX, &status, NULL);
	if (r >= 0)
		r = jit_parse_status(status, &pid, &uid);
	if (r < 0)
		return r;
	root = openat(process_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return negative_errno();
	snprintf(path, sizeof(path), "tmp/perf-%d.map", pid);
	fd = rooted_find(root, path, may_block, userdata, &st);
	if (fd < 0)
		return fd;
	/* In /tmp anybody can put a file under that name; a hard link to another's gives it away, too. */
	if (st.st_nlink > 1 || (st.st_uid != uid && st.st_uid != 0))
		return -EPERM;
	*ret_stat = st;
	return rooted_open(fd);
}
