/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What perf has recorded, whichever form it has. */
#pragma once

#include "source.h"
#include "stack.h"

#define MAGIC_SIZE 8 /* bytes by which a form is known */

/* Tells fn each stack. Negative errno, with more in *ret_error; what came before stays told. */
int read_stacks(struct source *source, const struct stack_options *options, stack_fn fn, void *userdata, struct stack_error *ret_error,
		struct stack_origin *ret_origin);
/* In a message. */
void tell_stack_error(const char *path, int r, const struct stack_error *error);
