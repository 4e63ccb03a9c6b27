/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file that is there whole or not at all: written beside its place, then renamed. */
#pragma once

#include "base.h"

struct output {
	const char *path; /* NULL: stdout */
	char *temporary;  /* NULL: written in place, as it is no regular file (a pipe, /dev/null) */
	FILE *file;
};

/* path: NULL or "-" for stdout; lives as long as the output. Tells the user what goes wrong, as does the next. */
bool output_open(struct output *ret, const char *path);
/* Puts it in its place. */
bool output_commit(struct output *o);
/* Throws away what was not committed. */
void output_done(struct output *o);
#define _cleanup_output_ _cleanup_(output_done)
