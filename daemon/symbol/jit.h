/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a just-in-time compiler says what it made: /tmp/perf-PID.map, as the process sees both /tmp and its pid. */
#pragma once

#include <sys/stat.h>

#include "base.h"

/* An O_PATH descriptor of the map, and what it is: a regular file of the process's user or root.
 * Nothing of the way there is a link, and nothing has been read of it. process_fd: /proc/PID. */
int jit_map_find(int process_fd, struct stat *ret_stat);
/* For reading; never waits. */
int jit_map_open(int path_fd);

/* From /proc/PID/status: its pid in the innermost namespace, and its effective user. Pure. */
int jit_parse_status(const char *text, int *ret_pid, uid_t *ret_uid);
