/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stacks of the sampler by raw id: a ring of words, in which what is oldest is written over. A stack that is seen again after that is
 * written again, so that only who asks late misses it. */
#pragma once

#include "collect.h"

struct sample_stacks;

/* Keeps max_stacks at most, and fewer when they are deeper than usual. */
int sample_stacks_new(struct sample_stacks **ret, uint32_t max_stacks);
struct sample_stacks *sample_stacks_free(struct sample_stacks *s);
DEFINE_CLEANUP(struct sample_stacks *, sample_stacks_free)

/* The raw id: of process (pid, exec_id, start_ns), frames and truncated. */
uint64_t sample_stacks_put(struct sample_stacks *s, const struct collect_frames *frames);
/* -ENOENT: it isn't there any more. */
int sample_stacks_get(const struct sample_stacks *s, uint64_t raw_id, struct collect_frames *ret);

size_t sample_stacks_count(const struct sample_stacks *s);
size_t sample_stacks_bytes(const struct sample_stacks *s);
