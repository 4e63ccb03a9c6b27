/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When each on-CPU sample of the last minutes was taken: what the store, whose finest step is a tick, does not keep; and in another one when
 * waits ended, which thread_waits.h keeps. A ring in memory of
 * its own, in order of time, which is gone when the daemon ends. Pure, as the store.
 *
 *   … | oldest ─▶ of ticks that are over ─▶ | of this tick, not sorted yet
 *                         └─ the last of them may wait for their names, as what pipeline.c puts off does
 */
#pragma once

#include "store.h"

struct moments;

struct moment {
	uint64_t time_us;         /* realtime */
	store_ref process, stack; /* 0: that could not be said, or had no room; may be stale */
	uint64_t weight_us;
	uint32_t tid;
	enum metric metric; /* on-cpu, blocked or runnable */
	bool drawn;         /* it stands for shorter ones, too */
	bool lasting;       /* blocked all the time before time_us, tick after tick */
};

/* A ring of so many bytes, in which so many raw stacks may be named in a tick. */
int moments_new(struct moments **ret, uint64_t bytes);
int moments_new_named(struct moments **ret, uint64_t bytes, size_t names_max);
struct moments *moments_free(struct moments *m);
DEFINE_CLEANUP(struct moments *, moments_free)

/* Within a tick, in any order: what a raw stack is to the store, and that it was met. */
void moments_name(struct moments *m, uint64_t raw_id, store_ref process, store_ref stack);
void moments_add(struct moments *m, uint64_t raw_id, uint64_t time_us, uint64_t weight_ns, uint32_t tid, const char *comm);
/* A wait, without its process and stack, which are the raw id's. */
void moments_add_wait(struct moments *m, uint64_t raw_id, const struct moment *wait, const char *comm);
/* The same of one whose stack is known, and of a thread without a name. */
void moments_add_named(struct moments *m, const struct moment *moment);
/* The tick, which began and ended then, is over. When there is a gap before it, or the clock was set back, what was before is forgotten. */
void moments_end_tick(struct moments *m, uint64_t begin_us, uint64_t end_us);
/* What this tick's raw stack is; false: it has not been named in it. */
bool moments_get_name(const struct moments *m, uint64_t raw_id, store_ref *ret_process, store_ref *ret_stack);
void moments_set_thread(struct moments *m, uint32_t tid, const char *comm);

/* What is kept is complete between them. False: nothing is. */
bool moments_range(const struct moments *m, uint64_t *ret_since_us, uint64_t *ret_until_us);
/* Calls for each of since_us <= time_us < until_us, the oldest first, until fn gives something else than 0, which it gives then. */
typedef int (*moment_fn)(void *userdata, const struct moment *moment);
int moments_visit(const struct moments *m, uint64_t since_us, uint64_t until_us, moment_fn fn, void *userdata);

/* What a thread was called when it was met last; "": that is not known, or of so many threads not kept. */
const char *moments_thread(const struct moments *m, uint32_t tid);

struct moments_status {
	uint64_t used, max; /* moments */
};
void moments_get_status(const struct moments *m, struct moments_status *ret);
