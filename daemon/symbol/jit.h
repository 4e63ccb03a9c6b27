/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a just-in-time compiler says what it made: /tmp/perf-PID.map, as the process sees both /tmp and its pid. */
#pragma once

#include "rooted.h"

/* Opens the map for reading: a regular file of the process's user or root. Nothing of the way there is a link. process_fd:
 * /proc/PID. */
int jit_map_open(int process_fd, may_block_fn may_block, void *userdata, struct stat *ret_stat);

/* From /proc/PID/status: its pid in the innermost namespace, and its effective user. Pure. */
int jit_parse_status(const char *text, int *ret_pid, uid_t *ret_uid);
