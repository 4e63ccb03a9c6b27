/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Units and control groups whose heaps are watched: which processes they have, and which of these are to be watched yet. A process that
 * was tried, whatever came of it, is not tried again before it executes another program. */
#pragma once

#include "api.h"

struct watch_groups;

/* cgroups: of members_open(), borrowed; negative: there is no cgroup v2. */
int watch_groups_new(struct watch_groups **ret, int cgroups);
struct watch_groups *watch_groups_free(struct watch_groups *g); /* accepts NULL, returns NULL */
DEFINE_CLEANUP(struct watch_groups *, watch_groups_free)

/* Begins one, or gives the one that there is a new end. -ENOSPC: there are API_MEMORY_GROUPS; -ENODEV: there is no cgroup v2;
 * -ENOENT: members_find(); -ESRCH: it has no process. */
int watch_groups_ask(struct watch_groups *g, const char *name, uint64_t until_us, const pid_t *own, size_t n_own, uint32_t *ret_id);
/* Begins those that are configured, and ends those that no longer are. They may not run yet. */
void watch_groups_configure(struct watch_groups *g, const char (*names)[WORKLOAD_NAME_SIZE], size_t n);
/* -ENOENT: it isn't watched. */
int watch_groups_stop(struct watch_groups *g, const char *name, const char *reason);
const struct api_memory_group *watch_groups_at(const struct watch_groups *g, size_t i); /* NULL beyond */
const struct api_memory_group *watch_groups_get(const struct watch_groups *g, uint32_t id); /* NULL: long over */

/* Looks who is in them now, and ends those whose time is over. own: stackd's processes, which are left out. */
void watch_groups_look(struct watch_groups *g, uint64_t now_us, const pid_t *own, size_t n_own);

/* The group that wants a process watched, the one that wants it longest; NULL: none does. */
const struct api_memory_group *watch_groups_wanting(const struct watch_groups *g, pid_t pid);

/* A process that is to be tried; false: there is none. It counts as tried in all groups from here on. */
bool watch_groups_next(struct watch_groups *g, pid_t *ret);
/* There was no room for it after all. */
void watch_groups_put_back(struct watch_groups *g, pid_t pid);

/* What became of a process, and which watch says so. */
typedef const struct api_memory_watch *(*watch_of_fn)(void *userdata, pid_t pid);

/* Brings up to date how many are watched. no_room: no more can be. Has those that begin go on, or end with the reason. Gives whether the
 * state of one has changed. */
bool watch_groups_settle(struct watch_groups *g, bool no_room, watch_of_fn watch_of, void *userdata);

/* What tells one program that a process executes from the next: its auxiliary vector is full of random addresses. 0: it has none, as kernel
 * threads and what has ended. */
uint64_t process_image(pid_t pid);
