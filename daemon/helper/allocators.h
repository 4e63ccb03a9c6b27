/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The functions of the allocators that we know: those of C libraries, jemalloc, tcmalloc, mimalloc. */
#pragma once

#include "base.h"
#include "../../bpf/heap.h"

struct allocator_function {
	enum stackd_heap_call call;
	bool unmistakable; /* nothing else has such a name, so that a local symbol will do (of a static library, hidden) */
	bool cxx;          /* an operator: one of an allocator allocates, one of C++'s own library calls malloc */
};

/* Whether this is the name of one, which need not be terminated. */
bool allocator_find(const char *name, size_t length, struct allocator_function *ret);
