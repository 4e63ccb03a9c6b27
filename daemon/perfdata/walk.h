/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Walks the stack that a sample carries (perf record --call-graph dwarf, daemon/collect's sampler), by unwind tables; by frame pointers
 * where a file has none. As bpf/unwind.bpf.h does in the kernel. x86-64. Pure. */
#pragma once

#include "perfdata.h"
#include "../../bpf/unwind_maps.h"

/* Finds the rule of an address; *ret_rule is NULL where its file has no table. False: the address is in no mapping that is known. */
typedef bool (*walk_find_fn)(void *userdata, uint64_t address, const struct unwind_rule **ret_rule);

struct walk_end {
	enum stackd_unwind_end end; /* STACKD_UNWIND_READ: beyond what was copied, too */
	bool frame_pointers;        /* one frame at least was left by its frame pointer */
};

/* Fills at most max addresses, innermost first: its own of the innermost, of others the one behind that to look up. Gives how many. */
size_t walk_stack(const struct perfdata_carried *carried, walk_find_fn find, void *userdata, uint64_t *ret, size_t max,
		  struct walk_end *ret_end);
