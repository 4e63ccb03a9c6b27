/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stacks of a perf.data file. */
#pragma once

#include "stack.h"

struct helper;
struct source;

/* Calls fn for each sample, also for those before a damage. -EBADMSG with *ret_error: damaged; -ENOENT with *ret_error: no such
 * event. Tells by log_warning() what is missing from the recording; how much of that was lost and whose clock it has is in
 * *ret_origin, whatever is returned. */
int perf_file_read(struct source *source, struct helper *helper, const struct stack_options *options, stack_fn fn, void *userdata,
		   struct stack_error *ret_error, struct stack_origin *ret_origin);
