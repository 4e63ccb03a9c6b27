/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns every room and the event loop: start, ticks, reload, stop. */
#pragma once

#include "base.h"

struct manager_options {
	const char *config_path;
	bool config_optional;    /* a missing default file means the defaults */
	const char *socket_path; /* used when no socket was passed by the service manager */
	const char *state_dir;   /* NULL: nothing is saved */
	const char *remedies_path;
	bool foreground;
	int log_level;           /* -1: as LogLevel= says */
	int record_fd;           /* where all that is taken in is recorded, without a socket and without telling anybody; -EBADF: nowhere */
	uint64_t record_us;      /* for so long; USEC_INFINITY */
};

/* Runs until SIGTERM or SIGINT. Logs what went wrong; gives 0 or negative errno. */
int manager_run(const struct manager_options *options);
