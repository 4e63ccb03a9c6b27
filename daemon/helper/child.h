/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A confined child process of the daemon. */
#pragma once

#include "base.h"

enum child_kind { CHILD_OPENER, CHILD_PARSER };

struct child {
	pid_t pid; /* 0 = none */
	int pidfd; /* kills only this process, whoever has reaped it meanwhile */
	int fd;    /* our end of the socket pair */
};

#define CHILD_NONE                                      \
	{                                               \
		.pid = 0, .pidfd = -EBADF, .fd = -EBADF \
	}

/* uid and gid: what the parser becomes when it is started as root. */
int child_spawn(struct child *ret, enum child_kind kind, uid_t uid, gid_t gid);
bool child_alive(const struct child *c);
void child_kill(const struct child *c);
/* Reaps it, waiting at most timeout_ms for its end, then kills it. Gives the wait status, or -1 when somebody
 * else has taken it. */
int child_end(struct child *c, int timeout_ms);

/* In the child: gives up everything that kind doesn't need. */
int confine(enum child_kind kind, int socket, pid_t parent, uid_t uid, gid_t gid);
