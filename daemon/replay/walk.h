/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Walks the stack that a sample of perf record --call-graph dwarf carries, by unwind tables; by frame pointers where a file has none.
 * As bpf/unwind.bpf.h does in the kernel. x86-64. */
#pragma once

#include "frame_tables.h"
#include "perfdata.h"
#include "tasks.h"

/* Fills at most max frames, innermost first: file and offset, which is in the call for callers. Gives how many. */
size_t walk_stack(struct frame_tables *tables, const struct tasks *tasks, uint32_t pid, const struct perfdata_carried *carried,
		  struct names_frame *ret, size_t max);
