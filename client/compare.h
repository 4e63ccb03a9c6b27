/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shares by function of two profilers' stacks. Pure. */
#pragma once

#include "flame.h"

enum compare_side { COMPARE_STACKD, COMPARE_PERF, COMPARE_SIDES };

struct compare_function {
	const char *name; /* of a frame; without the address where it has no name */
	double self[COMPARE_SIDES];
	double with_callees[COMPARE_SIDES]; /* of stacks that are whole */
};

struct comparison {
	struct compare_function *functions; /* the largest first */
	size_t n, allocated;
	uint64_t total[COMPARE_SIDES], whole[COMPARE_SIDES];
	char **names; /* that functions point to */
	size_t n_names;
	const char **roots; /* where stackd's whole stacks begin */
	size_t n_roots;
};

/* Adds stacks, which begin with a process: all of stackd's before any of perf's, since a stack of perf's is whole if it begins where one of
 * stackd's does that isn't marked as truncated. -ENOMEM. */
int compare_add(struct comparison *c, enum compare_side side, const struct flame *f);
/* Once, when all are there. */
void compare_finish(struct comparison *c);
void compare_done(struct comparison *c);
