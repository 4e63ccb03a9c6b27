/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "allocators.h"

#define ALLOCATOR_NAME_MAX 34

enum name_kind {
	NAME_C,        /* also with an allocator's prefix */
	NAME_PREFIXED, /* as it is */
	NAME_CXX,
};

static const struct {
	const char *name;
	enum stackd_heap_call call;
	enum name_kind kind;
} functions[] = {
	{ "malloc", HEAP_MALLOC, NAME_C },
	{ "calloc", HEAP_CALLOC, NAME_C },
	{ "realloc", HEAP_REALLOC, NAME_C },
	{ "reallocarray", HEAP_REALLOCARRAY, NAME_C },
	{ "posix_memalign", HEAP_POSIX_MEMALIGN, NAME_C },
	{ "aligned_alloc", HEAP_ALIGNED, NAME_C },
	{ "memalign", HEAP_ALIGNED, NAME_C },
	{ "valloc", HEAP_MALLOC, NAME_C },
	{ "pvalloc", HEAP_MALLOC, NAME_C },
	{ "free", HEAP_FREE, NAME_C },
	{ "cfree", HEAP_FREE, NAME_C },
	{ "free_sized", HEAP_FREE, NAME_C },
	{ "free_aligned_sized", HEAP_FREE, NAME_C },
	/* jemalloc */
	{ "mallocx", HEAP_MALLOC, NAME_C },
	{ "rallocx", HEAP_REALLOC, NAME_C },
	{ "dallocx", HEAP_FREE, NAME_C },
	{ "sdallocx", HEAP_FREE, NAME_C },
	/* mimalloc */
	{ "mi_malloc_small", HEAP_MALLOC, NAME_PREFIXED },
	{ "mi_zalloc", HEAP_MALLOC, NAME_PREFIXED },
	{ "mi_zalloc_small", HEAP_MALLOC, NAME_PREFIXED },
	{ "mi_malloc_aligned", HEAP_MALLOC, NAME_PREFIXED },
	{ "mi_malloc_aligned_at", HEAP_MALLOC, NAME_PREFIXED },
	{ "mi_zalloc_aligned", HEAP_MALLOC, NAME_PREFIXED },
	{ "mi_zalloc_aligned_at", HEAP_MALLOC, NAME_PREFIXED },
	{ "mi_new", HEAP_MALLOC, NAME_PREFIXED },
	{ "mi_new_nothrow", HEAP_MALLOC, NAME_PREFIXED },
	{ "mi_new_aligned", HEAP_MALLOC, NAME_PREFIXED },
	{ "mi_new_aligned_nothrow", HEAP_MALLOC, NAME_PREFIXED },
	{ "mi_mallocn", HEAP_CALLOC, NAME_PREFIXED },
	{ "mi_calloc_aligned", HEAP_CALLOC, NAME_PREFIXED },
	{ "mi_calloc_aligned_at", HEAP_CALLOC, NAME_PREFIXED },
	{ "mi_new_n", HEAP_CALLOC, NAME_PREFIXED },
	{ "mi_reallocf", HEAP_REALLOC, NAME_PREFIXED },
	{ "mi_realloc_aligned", HEAP_REALLOC, NAME_PREFIXED },
	{ "mi_realloc_aligned_at", HEAP_REALLOC, NAME_PREFIXED },
	{ "mi_rezalloc", HEAP_REALLOC, NAME_PREFIXED },
	{ "mi_rezalloc_aligned", HEAP_REALLOC, NAME_PREFIXED },
	{ "mi_rezalloc_aligned_at", HEAP_REALLOC, NAME_PREFIXED },
	{ "mi_new_realloc", HEAP_REALLOC, NAME_PREFIXED },
	{ "mi_reallocn", HEAP_REALLOCARRAY, NAME_PREFIXED },
	{ "mi_recalloc", HEAP_REALLOCARRAY, NAME_PREFIXED },
	{ "mi_recalloc_aligned", HEAP_REALLOCARRAY, NAME_PREFIXED },
	{ "mi_recalloc_aligned_at", HEAP_REALLOCARRAY, NAME_PREFIXED },
	{ "mi_aligned_recalloc", HEAP_REALLOCARRAY, NAME_PREFIXED },
	{ "mi_aligned_offset_recalloc", HEAP_REALLOCARRAY, NAME_PREFIXED },
	{ "mi_new_reallocn", HEAP_REALLOCARRAY, NAME_PREFIXED },
	{ "mi_free_size", HEAP_FREE, NAME_PREFIXED },
	{ "mi_free_aligned", HEAP_FREE, NAME_PREFIXED },
	{ "mi_free_size_aligned", HEAP_FREE, NAME_PREFIXED },
	/* its heaps */
	{ "mi_heap_malloc", HEAP_ALIGNED, NAME_PREFIXED },
	{ "mi_heap_malloc_small", HEAP_ALIGNED, NAME_PREFIXED },
	{ "mi_heap_zalloc", HEAP_ALIGNED, NAME_PREFIXED },
	{ "mi_heap_malloc_aligned", HEAP_ALIGNED, NAME_PREFIXED },
	{ "mi_heap_malloc_aligned_at", HEAP_ALIGNED, NAME_PREFIXED },
	{ "mi_heap_zalloc_aligned", HEAP_ALIGNED, NAME_PREFIXED },
	{ "mi_heap_zalloc_aligned_at", HEAP_ALIGNED, NAME_PREFIXED },
	{ "mi_heap_alloc_new", HEAP_ALIGNED, NAME_PREFIXED },
	{ "mi_heap_calloc", HEAP_OF_CALLOC, NAME_PREFIXED },
	{ "mi_heap_mallocn", HEAP_OF_CALLOC, NAME_PREFIXED },
	{ "mi_heap_calloc_aligned", HEAP_OF_CALLOC, NAME_PREFIXED },
	{ "mi_heap_calloc_aligned_at", HEAP_OF_CALLOC, NAME_PREFIXED },
	{ "mi_heap_alloc_new_n", HEAP_OF_CALLOC, NAME_PREFIXED },
	{ "mi_heap_realloc", HEAP_OF_REALLOC, NAME_PREFIXED },
	{ "mi_heap_reallocf", HEAP_OF_REALLOC, NAME_PREFIXED },
	{ "mi_heap_realloc_aligned", HEAP_OF_REALLOC, NAME_PREFIXED },
	{ "mi_heap_realloc_aligned_at", HEAP_OF_REALLOC, NAME_PREFIXED },
	{ "mi_heap_rezalloc", HEAP_OF_REALLOC, NAME_PREFIXED },
	{ "mi_heap_rezalloc_aligned", HEAP_OF_REALLOC, NAME_PREFIXED },
	{ "mi_heap_rezalloc_aligned_at", HEAP_OF_REALLOC, NAME_PREFIXED },
	{ "mi_heap_reallocn", HEAP_OF_REALLOCARRAY, NAME_PREFIXED },
	{ "mi_heap_recalloc", HEAP_OF_REALLOCARRAY, NAME_PREFIXED },
	{ "mi_heap_recalloc_aligned", HEAP_OF_REALLOCARRAY, NAME_PREFIXED },
	{ "mi_heap_recalloc_aligned_at", HEAP_OF_REALLOCARRAY, NAME_PREFIXED },
	/* tcmalloc */
	{ "tc_malloc_skip_new_handler", HEAP_MALLOC, NAME_PREFIXED },
	{ "tc_new", HEAP_MALLOC, NAME_PREFIXED },
	{ "tc_new_nothrow", HEAP_MALLOC, NAME_PREFIXED },
	{ "tc_new_aligned", HEAP_MALLOC, NAME_PREFIXED },
	{ "tc_new_aligned_nothrow", HEAP_MALLOC, NAME_PREFIXED },
	{ "tc_newarray", HEAP_MALLOC, NAME_PREFIXED },
	{ "tc_newarray_nothrow", HEAP_MALLOC, NAME_PREFIXED },
	{ "tc_newarray_aligned", HEAP_MALLOC, NAME_PREFIXED },
	{ "tc_newarray_aligned_nothrow", HEAP_MALLOC, NAME_PREFIXED },
	{ "tc_delete", HEAP_FREE, NAME_PREFIXED },
	{ "tc_delete_nothrow", HEAP_FREE, NAME_PREFIXED },
	{ "tc_delete_sized", HEAP_FREE, NAME_PREFIXED },
	{ "tc_delete_aligned", HEAP_FREE, NAME_PREFIXED },
	{ "tc_delete_aligned_nothrow", HEAP_FREE, NAME_PREFIXED },
	{ "tc_delete_sized_aligned", HEAP_FREE, NAME_PREFIXED },
	{ "tc_deletearray", HEAP_FREE, NAME_PREFIXED },
	{ "tc_deletearray_nothrow", HEAP_FREE, NAME_PREFIXED },
	{ "tc_deletearray_sized", HEAP_FREE, NAME_PREFIXED },
	{ "tc_deletearray_aligned", HEAP_FREE, NAME_PREFIXED },
	{ "tc_deletearray_aligned_nothrow", HEAP_FREE, NAME_PREFIXED },
	{ "tc_deletearray_sized_aligned", HEAP_FREE, NAME_PREFIXED },
	/* new and delete: plain, nothrow, aligned, sized */
	{ "_Znwm", HEAP_MALLOC, NAME_CXX },
	{ "_Znam", HEAP_MALLOC, NAME_CXX },
	{ "_ZnwmRKSt9nothrow_t", HEAP_MALLOC, NAME_CXX },
	{ "_ZnamRKSt9nothrow_t", HEAP_MALLOC, NAME_CXX },
	{ "_ZnwmSt11align_val_t", HEAP_MALLOC, NAME_CXX },
	{ "_ZnamSt11align_val_t", HEAP_MALLOC, NAME_CXX },
	{ "_ZnwmSt11align_val_tRKSt9nothrow_t", HEAP_MALLOC, NAME_CXX },
	{ "_ZnamSt11align_val_tRKSt9nothrow_t", HEAP_MALLOC, NAME_CXX },
	{ "_ZdlPv", HEAP_FREE, NAME_CXX },
	{ "_ZdaPv", HEAP_FREE, NAME_CXX },
	{ "_ZdlPvm", HEAP_FREE, NAME_CXX },
	{ "_ZdaPvm", HEAP_FREE, NAME_CXX },
	{ "_ZdlPvRKSt9nothrow_t", HEAP_FREE, NAME_CXX },
	{ "_ZdaPvRKSt9nothrow_t", HEAP_FREE, NAME_CXX },
	{ "_ZdlPvSt11align_val_t", HEAP_FREE, NAME_CXX },
	{ "_ZdaPvSt11align_val_t", HEAP_FREE, NAME_CXX },
	{ "_ZdlPvmSt11align_val_t", HEAP_FREE, NAME_CXX },
	{ "_ZdaPvmSt11align_val_t", HEAP_FREE, NAME_CXX },
	{ "_ZdlPvSt11align_val_tRKSt9nothrow_t", HEAP_FREE, NAME_CXX },
	{ "_ZdaPvSt11align_val_tRKSt9nothrow_t", HEAP_FREE, NAME_CXX },
};

static const char *const prefixes[] = { "je_", "_rjem_", "tc_", "mi_" };

static bool is_name(const char *known, const char *name, size_t length)
{
	return strlen(known) == length && memcmp(known, name, length) == 0;
}

static bool find(const char *name, size_t length, bool prefixed, struct allocator_function *ret)
{
	for (size_t i = 0; i < ELEMENTS_OF(functions); i++)
		if ((!prefixed || functions[i].kind == NAME_C) && is_name(functions[i].name, name, length)) {
			*ret = (struct allocator_function){
				.call = functions[i].call,
				.unmistakable = prefixed || functions[i].kind == NAME_PREFIXED,
				.cxx = functions[i].kind == NAME_CXX,
			};
			return true;
		}
	return false;
}

bool allocator_find(const char *name, size_t length, struct allocator_function *ret)
{
	/* Most names are none of these, and files have hundreds of thousands. */
	if (length < 4 || length > ALLOCATOR_NAME_MAX || !strchr("mcrpavfdsjt_", name[0]))
		return false;
	for (size_t i = 0; i < ELEMENTS_OF(prefixes); i++) {
		size_t n = strlen(prefixes[i]);

		if (length > n && memcmp(name, prefixes[i], n) == 0 && find(name + n, length - n, true, ret))
			return true;
	}
	return find(name, length, false, ret);
}

#if defined(__x86_64__)
static bool begins(const uint8_t *code, size_t n, const char *with, size_t length)
{
	return n >= length && memcmp(code, with, length) == 0;
}

size_t allocator_probe_place(enum stackd_heap_call call, const uint8_t *code, size_t n)
{
	size_t at = begins(code, n, "\xf3\x0f\x1e\xfa", 4) ? 4 : 0; /* endbr64 */

	if (call != HEAP_FREE || !begins(code + at, n - at, "\x48\x85\xff", 3)) /* test %rdi,%rdi */
		return 0;
	at += 3;
	/* je, near or far */
	return begins(code + at, n - at, "\x74", 1) || begins(code + at, n - at, "\x0f\x84", 2) ? at : 0;
}
#else
size_t allocator_probe_place(enum stackd_heap_call call _unused_, const uint8_t *code _unused_, size_t n _unused_)
{
	return 0;
}
#endif
