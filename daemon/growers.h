/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which of a unit's stacks keeps the memory that it takes. What a function takes and gives back is counted for two stacks, of which one
 * only grows: so the tree of all stacks is followed from the outermost frame to where its net growth still goes on. */
#pragma once

#include "base.h"
#include "store.h"

#define GROWERS_MAX 1024 /* stacks */

struct growers;

int growers_new(struct growers **ret);
struct growers *growers_free(struct growers *g); /* accepts NULL, returns NULL */
DEFINE_CLEANUP(struct growers *, growers_free)

/* What a stack took less what it gave back, bytes, in a process. Of more than GROWERS_MAX those that moved least are left out. */
void growers_add(struct growers *g, const struct store_slice_sum *sum, int64_t bytes);
/* The stack that took most below the frame to which the growth can be followed. false: nothing grows. */
bool growers_find(struct growers *g, const struct store *store, struct store_series *ret);
