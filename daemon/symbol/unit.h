/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a cgroup's path to the systemd unit that it belongs to, as sd_pid_get_unit(3) and
 * sd_pid_get_user_unit(3) find it. Pure. */
#pragma once

#include "base.h"

#define UNIT_NAME_SIZE 256

/* The unit of the system manager; inside a user manager (user@UID.service) the user's unit instead, unless
 * that is the manager's own init.scope. "" when the path is in no unit. */
void unit_from_cgroup(const char *path, char ret[static UNIT_NAME_SIZE]);

/* Picks the path out of /proc/PID/cgroup: the unified hierarchy's, or when that one is not in use systemd's
 * own; else "/". */
void cgroup_from_proc(const char *text, char *ret, size_t size);
