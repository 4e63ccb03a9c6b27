/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inlined functions in a flame graph: a stack is drawn as often as it was called from different places, by its shares. */
#pragma once

#include "flame.h"
#include "options.h"

struct json;

/* Stacks are asked about one by one, the largest first: no more than this. The others are drawn without inlined functions. */
#define FLAME_LINES_MAX 2000
#define FLAME_MISSING_MAX 8

struct flame_lines {
	size_t asked, left_out;
	char missing[FLAME_MISSING_MAX][64]; /* objects whose inlined functions are not known */
	size_t n_missing;
};

/* Adds a stack's value. path: what stands above its frames; room for FLAME_DEPTH_MAX ids, of which n are there. What is not known
 * of its calls comes back in *ret_rest, to be added as a plain stack. Negative errno; -EIO: told already. */
int flame_lines_add(struct flame_lines *l, struct flame *f, const struct options *o, uint64_t stack, uint32_t *path, size_t n,
                    enum flame_side side, int64_t value, int64_t *ret_rest);
/* What should be said of it, to the user and under the picture. */
int flame_lines_note(const struct flame_lines *l, struct flame_meta *meta, const struct options *o);
