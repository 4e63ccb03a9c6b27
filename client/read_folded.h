/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads saved folded stacks: "comm;outermost;...;innermost value", a line each. Also takes what
 * stackcollapse-perf.pl and its kin write, and difffolded.pl's two values ("stack before after"). */
#pragma once

#include "flame.h"

struct folded_error {
	size_t line;        /* from 1 */
	const char *reason; /* static */
};

/* Adds the stacks of file, which must have one value each, to one side. -EBADMSG, and ret_error: a line is none of
 * these. -E2BIG: more than struct flame takes. -EIO and others: it can't be read. */
int read_folded(struct flame *f, FILE *file, enum flame_side side, struct folded_error *ret_error);
/* Takes one value or two, as the first line has; with two f becomes a FLAME_DIFF. */
int read_folded_any(struct flame *f, FILE *file, struct folded_error *ret_error);

/* What marks functions of the kernel: as stackcollapse-perf.pl --kernel does. */
#define FOLDED_KERNEL "_[k]"
/* By what stackcollapse-perf.pl --kernel and --jit, and stackctl, put behind a name, of which FOLDED_KERNEL is taken off. first: the stack has
 * more. */
enum flame_kind folded_kind(char *name, bool first);
