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

#define ALLOCATOR_CODE 16

/* How many bytes behind a function's beginning a probe costs least and sees the same. What the kernel emulates (branches, push; see
 * arch/x86/kernel/uprobes.c) takes a fifth of what it has executed elsewhere by a single step; so a free that begins by asking whether its
 * address is null is probed at the branch that follows, where neither the address nor the stack has changed. Calls that return something stay
 * where they are: their return address must lie on top of the stack. code: n bytes from the beginning on. */
size_t allocator_probe_place(enum stackd_heap_call call, const uint8_t *code, size_t n);
