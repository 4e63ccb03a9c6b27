/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of kernel code of a recording, when its kernel's symbols are at hand: this is the kernel that was recorded, or perf has
 * kept them in ~/.debug. */
#pragma once

#include "perfdata.h"

struct kernel_names;

/* text: where the recording says that the kernel's code was linked to begin; 0: it doesn't say. It may be somewhere else since a
 * reboot. 0 with a table without names when there are none; -ENOMEM. */
int kernel_names_new(struct kernel_names **ret, const struct perfdata *p, uint64_t text);
struct kernel_names *kernel_names_free(struct kernel_names *k);
DEFINE_CLEANUP(struct kernel_names *, kernel_names_free)

/* NULL: it has none. */
const char *kernel_names_find(const struct kernel_names *k, uint64_t address);
