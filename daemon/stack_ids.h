/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What raw stacks, which the source knows by their addresses in this boot, are to the store: looked up once, and again while code in them that
 * was made at run time has no name. */
#pragma once

#include "idcache.h"
#include "incidents.h"
#include "store.h"
#include "tick_source.h"

struct stack_ids {
	struct store *store;
	struct incidents *incidents;
	const struct tick_source *source;
	struct idcache cache;
	uint64_t ticks;
	uint32_t unnamed, unnamed_turns; /* met in this tick; how many ticks it takes to look them all up */
};

/* One way in which a stack was met: a raw stack, whose addresses collect_frames() gives as long as the kernel map has them. */
struct stack_address {
	uint64_t raw_id;
	float weight; /* all that it did since it is known, in the units of its metrics */
};

/* All are borrowed. -ENOMEM. */
int stack_ids_init(struct stack_ids *s, struct store *store, struct incidents *incidents, const struct tick_source *source, uint32_t max_stacks);
void stack_ids_done(struct stack_ids *s);

void stack_ids_begin_tick(struct stack_ids *s);
/* It is asked for soon. */
void stack_ids_prefetch(struct stack_ids *s, uint64_t raw_id);
/* values: what it did now, or NULL. -EAGAIN: names are on their way. */
int stack_ids_find(struct stack_ids *s, uint64_t raw_id, const uint64_t *values, uint64_t *ret_stack_id, store_ref *ret);
/* Of a stack of the store, the heaviest first, at most max. ret_weight: of all, beyond max as well. */
size_t stack_ids_addresses(struct stack_ids *s, uint64_t stack_id, struct stack_address *ret, size_t max, double *ret_weight);
size_t stack_ids_size(const struct stack_ids *s);
