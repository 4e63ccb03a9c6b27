/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which processes are in a systemd unit or a control group now, by the files of cgroup v2. */
#pragma once

#include "base.h"

#define MEMBERS_MAX 1024 /* processes that are told */

struct members {
	pid_t pids[MEMBERS_MAX]; /* each once, in order */
	size_t n;
	bool more; /* than there is room for */
};

/* The directory of cgroup v2; the caller closes it. -ENOENT: there is none. */
int members_open(void);

/* name: of a control group, as parse_cgroup() gives it, whose children count as well; or of a unit, as parse_unit() does, of the system's
 * manager and of users'. -ENOENT: there is no such control group, or none of the unit, which doesn't run. */
int members_find(int cgroups, const char *name, struct members *ret);
