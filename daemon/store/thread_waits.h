/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which thread waited where in the last minutes: the store tells processes apart only. In memory, gone when the daemon ends. Pure, as the store.
 *
 *   waits that last: while they go on      waits that are over, in order of their end: a ring as of moments.h
 *   one a thread, from when ───────end───▶ lasting: all of it     others: as they are, or drawn by their length
 */
#pragma once

#include "moments.h"

struct thread_waits;

#define THREAD_WAITS_ENTRY 24   /* bytes of a wait in the ring */
#define THREAD_WAITS_KEPT_S 300 /* so many are drawn that the ring holds those of five minutes */

/* A ring of so many bytes. */
int thread_waits_new(struct thread_waits **ret, uint64_t bytes);
struct thread_waits *thread_waits_free(struct thread_waits *w);
DEFINE_CLEANUP(struct thread_waits *, thread_waits_free)

/* Within a tick: what a raw stack is to the store. */
void thread_waits_name(struct thread_waits *w, uint64_t raw_id, store_ref process, store_ref stack);
/* A wait or a part of one that ended then. */
void thread_waits_add(struct thread_waits *w, uint64_t raw_id, uint64_t time_us, enum metric metric, uint64_t weight_ns, bool drawn, uint32_t tid,
                      const char *comm);
/* A thread is blocked, from then on and all the time until that ends. -ENOSPC: there is no room for one more thread. */
int thread_waits_begin(struct thread_waits *w, uint64_t raw_id, uint32_t tid, const char *comm, uint64_t from_us);
void thread_waits_end(struct thread_waits *w, uint64_t raw_id, uint32_t tid, uint64_t until_us);
void thread_waits_end_all(struct thread_waits *w, uint64_t until_us);
/* As moments_end_tick(). */
void thread_waits_end_tick(struct thread_waits *w, uint64_t begin_us, uint64_t end_us);

/* What is kept is complete between them. False: nothing is. */
bool thread_waits_range(const struct thread_waits *w, uint64_t *ret_since_us, uint64_t *ret_until_us);
/* Calls for each of which a part is in since_us <= time < until_us, in no order. A lasting one is cut to the window; another counts whole
 * when it ended in it. */
int thread_waits_visit(const struct thread_waits *w, uint64_t since_us, uint64_t until_us, moment_fn fn, void *userdata);
/* As moments_thread(). */
const char *thread_waits_thread(const struct thread_waits *w, uint32_t tid);

struct thread_waits_status {
	uint64_t used, max;       /* in the ring */
	uint32_t open, open_max;  /* threads */
};
void thread_waits_get_status(const struct thread_waits *w, struct thread_waits_status *ret);
