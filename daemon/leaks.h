/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What watched heaps and the kernel hold, by the stack that allocated it: how much, how old, and whether it grows. Made of the census of the
 * blocks that the collectors take, which lasts a tick or some. */
#pragma once

#include "api.h"

struct leaks;
struct pipeline;
struct watches;

/* All are borrowed. */
int leaks_new(struct leaks **ret, struct collect *collect, struct pipeline *pipeline, const struct watches *watches);
struct leaks *leaks_free(struct leaks *l); /* accepts NULL, returns NULL */
DEFINE_CLEANUP(struct leaks *, leaks_free)

/* Once a tick, when none is open. now_us: realtime. */
void leaks_tick(struct leaks *l, uint64_t now_us);
/* How many stacks of processes are known to hold something, and for how many there is room. */
size_t leaks_count(const struct leaks *l, size_t *ret_max);
/* Those of a process, 0: of all: what grows first, the fastest before the others, then what holds most. Gives how many. */
size_t leaks_list(const struct leaks *l, pid_t pid, struct api_leak *ret, size_t max, struct api_leaks *ret_all);
