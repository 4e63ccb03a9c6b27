/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From cgroup ids to paths and units: what is left to say of a process that died before /proc could be read.
 */
#pragma once

#include "base.h"

struct cgroups;

struct cgroup {
	uint64_t id;
	char path[256];
	char unit[256];
};

int cgroups_new(struct cgroups **ret, uint32_t max);
struct cgroups *cgroups_free(struct cgroups *c);
DEFINE_CLEANUP(struct cgroups *, cgroups_free)

/* By the kernel's own id (cgroup v2), also of a cgroup that is empty by now; what was found once is kept
 * after it is gone. NULL when it isn't known, or there is no cgroup v2. Valid until the next call. */
const struct cgroup *cgroups_find(struct cgroups *c, uint64_t id);
