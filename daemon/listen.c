/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "listen.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

static void free_names(char **names)
{
	for (char **n = names; n && *n; n++)
		free(*n);
	free(names);
}
DEFINE_CLEANUP(char **, free_names)

int listen_take_passed(struct listen_fds *ret)
{
	struct listen_fds fds = { .socket = -EBADF, .arena = -EBADF };
	_cleanup_(free_namesp) char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (streq(names[i], "arena") && fds.arena < 0)
			fds.arena = fd;
		else if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) > 0 && fds.socket < 0)
			fds.socket = fd;
		else
			close(fd);
	}
	*ret = fds;
	return 0;
}

static int make_parent(const char *path)
{
	_cleanup_free_ char *parent = strdup(path);
	char *slash;

	if (!parent)
		return -ENOMEM;
	slash = strrchr(parent, '/');
	if (!slash || slash == parent)
		return 0;
	*slash = 0;
	return mkdir(parent, 0755) < 0 && errno != EEXIST ? negative_errno() : 0;
}

int listen_bind(const char *path, int *ret)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int r;

	if (fd < 0)
		return negative_errno();
	if (!copy_string(address.sun_path, sizeof(address.sun_path), path))
		return -ENAMETOOLONG;
	r = make_parent(path);
	if (r < 0)
		return r;
	if (bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0) {
		_cleanup_close_ int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		struct stat st;

		if (errno != EADDRINUSE)
			return negative_errno();
		if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode) || probe < 0 ||
		    connect(probe, (struct sockaddr *) &address, sizeof(address)) == 0 || errno != ECONNREFUSED)
			return -EADDRINUSE;
		if (unlink(path) < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
			return negative_errno();
	}
	/* Whoever connects is told apart by SO_PEERCRED: everyone may ask, and sees what is theirs. */
	if (chmod(path, 0666) < 0 || listen(fd, SOMAXCONN) < 0)
		return negative_errno();
	*ret = TAKE_FD(fd);
	return 0;
}
