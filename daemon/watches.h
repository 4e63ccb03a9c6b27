/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes whose heaps are watched, on request or as the configuration says, and the kernel's memory (pid API_MEMORY_KERNEL): finds the allocators among the files that a process has mapped, with the parser's
 * help, has the collectors attach to them, and ends it when its time is over, the process is, or somebody asks for it. */
#pragma once

#include "api.h"

struct helper;
struct watches;

/* stackd's processes, which no group has watched. */
void watches_set_own_pids(struct watches *w, const pid_t *pids, size_t n);
/* budget: percent of a process' CPU time that its probes may take, 100: no limit. */
void watches_set_budget(struct watches *w, uint32_t budget);

/* The rooms are borrowed. changed() is called when a watch has begun or ended. */
int watches_new(struct watches **ret, struct collect *collect, struct unwind *unwind, struct helper *helper, void (*changed)(void *userdata), void *userdata);
struct watches *watches_free(struct watches *w);
DEFINE_CLEANUP(struct watches *, watches_free)

/* Begins one, or prolongs the one that there is. 0: *ret_id is that of the watch, which may be over already: its reason says why.
 * -ENOSPC: too many are watched; -EOPNOTSUPP: this kernel can't do it. */
int watches_begin(struct watches *w, pid_t pid, uint64_t until_us, uint32_t by_uid, uint32_t *ret_id);
/* -ENOENT: it isn't watched. */
int watches_end(struct watches *w, pid_t pid, uint32_t by_uid);
/* The same for a unit or control group (members.h): its processes, and those that come, as far as there is room for them.
 * watch_groups_ask(); -EOPNOTSUPP: the kernel can't do it. */
int watches_begin_group(struct watches *w, const char *name, uint64_t until_us, uint32_t by_uid, uint32_t *ret_id);
int watches_end_group(struct watches *w, const char *name, uint32_t by_uid);
/* Those of the configuration, from now on. */
void watches_configure(struct watches *w, const char (*names)[WORKLOAD_NAME_SIZE], size_t n);
const struct api_memory_group *watches_group_at(const struct watches *w, size_t i);
/* Those that go on and some that ended lately, oldest first by id; valid until the next call of anything here. NULL beyond. */
const struct api_memory_watch *watches_at(const struct watches *w, size_t i);

/* The parser's answers to PARSER_ALLOCATORS; and what time brings, to be called once a second. */
struct parser_reply;
void watches_take(struct watches *w, const struct parser_reply *reply);
void watches_tick(struct watches *w);
