/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What bpf/unwind_maps.h says, in the daemon's own memory: the unwind tables that the sampler walks copied stacks by. daemon/unwind loads
 * them as it does for the programs. */
#pragma once

#include "collect.h"
#include "walk.h"

struct sample_tables;

int sample_tables_new(struct sample_tables **ret);
struct sample_tables *sample_tables_free(struct sample_tables *t);
DEFINE_CLEANUP(struct sample_tables *, sample_tables_free)

/* As the functions collect_unwind_... */
struct stackd_unwind_tables *sample_tables_shared(struct sample_tables *t);
int sample_tables_slab(struct sample_tables *t, uint32_t index, struct stackd_unwind_slab **ret);
int sample_tables_set_process(struct sample_tables *t, const struct stackd_unwind_key *key, const struct stackd_unwind_process *process);
size_t sample_tables_take_wanted(struct sample_tables *t, struct stackd_unwind_key *keys, struct stackd_unwind_wanted *wanted, size_t max);

/* Whose stack it is. */
struct sample_owner {
	struct stackd_unwind_key key;
	uint64_t start_ns;
};

/* Walks the copy that a sample carries, and notes what was missing for it. parent: the same mappings are its, as it has executed nothing
 * yet; or NULL. False: nothing is known of the process, and nothing was walked. */
bool sample_tables_walk(struct sample_tables *t, const struct sample_owner *owner, const struct sample_owner *parent,
                        const struct perfdata_carried *carried, uint64_t *ret, size_t max, size_t *ret_n, struct walk_end *ret_end);
