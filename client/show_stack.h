/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is known of one stack, out of a reply to GetStack. The functions print, and tell on stderr what went wrong. */
#pragma once

#include "show.h"

/* NULL: told. */
struct table *show_table_new(const struct options *o, const struct table_column *columns, size_t n);

/* Innermost first. */
bool show_stack_frames(const struct options *o, const struct json *stack, struct fields *f);
/* A line for each metric that there is, with its series. */
bool show_stack_values(const struct options *o, const struct json *reply, struct fields *f);
/* By process. */
bool show_stack_slices(const struct options *o, const struct json *reply, struct fields *f);
