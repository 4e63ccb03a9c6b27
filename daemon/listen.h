/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where clients connect, and what else the service manager passes at start. */
#pragma once

#include "base.h"

struct listen_fds {
	int socket; /* listening, or -EBADF */
	int arena;  /* the kept memfd, or -EBADF */
};

/* Takes what sd_listen_fds_with_names(3) offers and closes what it doesn't know. */
int listen_take_passed(struct listen_fds *ret);

/* Binds path (its directory is made if it isn't there) and listens. A socket left by a dead daemon is replaced;
 * -EADDRINUSE when a live one answers. */
int listen_bind(const char *path, int *ret);
