/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lasting waits that the store was told of, by raw stack id. The end of a wait must reach the very series that its beginning
 * reached, even when the process is gone and its names can't be read again; so it is remembered here. Bounded. */
#pragma once

#include "base.h"
#include "collect.h"

struct waits;

struct wait {
	uint64_t stack_id;
	struct collect_process process;
	uint32_t threads;
	uint32_t next_free;
};

int waits_new(struct waits **ret, uint32_t max_stacks);
struct waits *waits_free(struct waits *w);
DEFINE_CLEANUP(struct waits *, waits_free)

/* -ENOSPC when no further stack fits. */
int waits_begin(struct waits *w, uint64_t raw_id, const struct collect_process *process, uint64_t stack_id, uint32_t threads);
/* How many of threads were waiting there, 0..threads; *ret says where. 0: the beginning was lost, and counted then. */
uint32_t waits_end(struct waits *w, uint64_t raw_id, uint32_t threads, struct wait *ret);
/* Threads of this process in lasting waits. */
uint32_t waits_of_process(const struct waits *w, const struct collect_process *process);
/* Where threads wait at this raw stack; 0: none are known to. */
uint64_t waits_stack(const struct waits *w, uint64_t raw_id);
bool waits_full(const struct waits *w, uint64_t raw_id);
uint32_t waits_count(const struct waits *w);
uint32_t waits_max(const struct waits *w);
