/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is known of one stack, out of a reply to GetStack. The functions tell on stderr what goes wrong. */
#pragma once

#include "show.h"

/* NULL: told. */
struct table *show_table_new(const struct options *o, const struct table_column *columns, size_t n);

/* "inner < caller < its caller < 5 more". How the kernel came to change memory says little: there it begins with the program.
 * The caller frees; NULL when there is no memory. */
char *stack_names(enum metric m, const struct json *frames, bool truncated, struct fields *f);

/* Innermost first. */
bool show_stack_frames(const struct options *o, const struct json *stack, struct fields *f, FILE *file);
/* A line for each metric that there is, with its series. */
bool show_stack_values(const struct options *o, const struct json *reply, struct fields *f, FILE *file);
/* By process. */
bool show_stack_slices(const struct options *o, const struct json *reply, struct fields *f, FILE *file);
