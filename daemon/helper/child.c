/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "child.h"
#include "protocol.h"

#define KILL_TIMEOUT_MS 100

_Noreturn static void child_main(enum child_kind kind, int socket, pid_t parent, uid_t uid, gid_t gid)
{
	struct helper_hello hello = { .magic = HELPER_MAGIC_HELLO };

	hello.error = confine(kind, socket, parent, uid, gid);
	if (packet_send(socket, &hello, sizeof(hello), 0, NULL, 0) >= 0 && hello.error == 0) {
		if (kind == CHILD_OPENER)
			opener_run(socket);
		else
			parser_run(socket);
	}
	_exit(hello.error == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

int child_spawn(struct child *ret, enum child_kind kind, uid_t uid, gid_t gid)
{
	_cleanup_close_ int ours = -EBADF, theirs = -EBADF;
	pid_t parent = getpid(), pid;
	int pair[2], pidfd;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return negative_errno();
	ours = pair[0];
	theirs = pair[1];

	pid = fork();
	if (pid < 0)
		return negative_errno();
	if (pid == 0)
		child_main(kind, theirs, parent, uid, gid);

	pidfd = pidfd_open(pid, 0);
	if (pidfd < 0) {
		int r = negative_errno();

		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return r;
	}
	*ret = (struct child){ .pid = pid, .pidfd = pidfd, .fd = TAKE_FD(ours) };
	return 0;
}

static bool ended_within(const struct child *c, int timeout_ms)
{
	struct pollfd p = { .fd = c->pidfd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) > 0;
}

bool child_alive(const struct child *c)
{
	return c->pid > 0 && !ended_within(c, 0);
}

void child_kill(const struct child *c)
{
	if (c->pid > 0)
		(void)pidfd_send_signal(c->pidfd, SIGKILL, NULL, 0);
}

int child_end(struct child *c, int timeout_ms)
{
	int status = -1;

	if (c->pid <= 0)
		return -1;

	c->fd = close_fd(c->fd); /* its main loop ends here */
	if (!ended_within(c, timeout_ms)) {
		child_kill(c);
		(void)ended_within(
			c, KILL_TIMEOUT_MS); /* one that can't be killed any faster is left to its fate */
	}
	if (waitpid(c->pid, &status, WNOHANG) != c->pid)
		status = -1;
	c->pidfd = close_fd(c->pidfd);
	c->pid = 0;
	return status;
}
