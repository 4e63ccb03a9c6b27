/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stackd replay --import: what was recorded, read once, as a file that stackd serve answers from. */
#pragma once

#include "source.h"
#include "stack.h"

struct import_options {
	const char *path;
	struct stack_options stack;
	enum metric untimed; /* what the numbers of folded stacks are */
	double false_alarms_per_day; /* 0: as many as there may be by default, or as recorded */
};

/* Says what is wrong. A file that is damaged is imported up to there, if there is anything before the damage. Writes nothing to file when it
 * fails, but for errors of writing. Tells on stderr how far it is, if that is a terminal. */
int import_recording(struct source *source, const struct import_options *options, FILE *file);
