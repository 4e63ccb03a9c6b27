/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stacks as text: what perf script prints, or folded ones ("comm;outermost;...;innermost value"). */
#pragma once

#include "stack.h"

struct source;

/* Calls fn for each stack. With *ret_error: -EBADMSG, neither of them; -ENOENT, no sample is of the event that is asked for. */
int perf_text_read(struct source *source, const struct stack_options *options, stack_fn fn, void *userdata, struct stack_error *ret_error,
		   struct stack_origin *ret_origin);
