/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "allocators.h"

static bool find(const char *name, struct allocator_function *ret)
{
	return allocator_find(name, strlen(name), ret);
}

static void test_names_of_allocators_are_known(void **state)
{
	static const struct {
		const char *name;
		struct allocator_function is;
	} cases[] = {
		{ "malloc", { HEAP_MALLOC, false, false } },
		{ "free", { HEAP_FREE, false, false } },
		{ "reallocarray", { HEAP_REALLOCARRAY, false, false } },
		{ "posix_memalign", { HEAP_POSIX_MEMALIGN, false, false } },
		{ "je_malloc", { HEAP_MALLOC, true, false } },
		{ "_rjem_sdallocx", { HEAP_FREE, true, false } },
		{ "tc_delete", { HEAP_FREE, true, false } },
		{ "mi_realloc_aligned", { HEAP_REALLOC, true, false } },
		{ "mi_calloc", { HEAP_CALLOC, true, false } },
		{ "mi_recalloc", { HEAP_REALLOCARRAY, true, false } },
		{ "mi_heap_malloc", { HEAP_ALIGNED, true, false } },
		{ "mi_heap_calloc", { HEAP_OF_CALLOC, true, false } },
		{ "mi_heap_rezalloc_aligned_at", { HEAP_OF_REALLOC, true, false } },
		{ "mi_heap_recalloc", { HEAP_OF_REALLOCARRAY, true, false } },
		{ "tc_deletearray_aligned_nothrow", { HEAP_FREE, true, false } },
		{ "_Znwm", { HEAP_MALLOC, false, true } },
		{ "_ZdaPvmSt11align_val_t", { HEAP_FREE, false, true } },
	};
	struct allocator_function f;

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		assert_true(find(cases[i].name, &f));
		assert_int_equal(f.call, cases[i].is.call);
		assert_int_equal(f.unmistakable, cases[i].is.unmistakable);
		assert_int_equal(f.cxx, cases[i].is.cxx);
	}
}

static void test_other_names_are_not(void **state)
{
	static const char *const names[] = { "", "m", "mallo", "mallocs", "freed", "my_malloc", "je_", "je__Znwm", "mi_mi_new", "tc_tc_new", "operator new", "cfreed" };
	struct allocator_function f;

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(names); i++)
		assert_false(find(names[i], &f));
	/* What follows the name in the table is no part of it. */
	assert_true(allocator_find("freedom", 4, &f));
}

#if defined(__x86_64__)
static size_t place(enum stackd_heap_call call, const char *code, size_t n)
{
	return allocator_probe_place(call, (const uint8_t *)code, n);
}

static void test_a_probe_is_put_where_it_costs_least(void **state)
{
	(void)state;
	/* glibc: test %rdi,%rdi; je */
	assert_int_equal(place(HEAP_FREE, "\x48\x85\xff\x0f\x84\xb0\x00\x00\x00\x55", 10), 3);
	assert_int_equal(place(HEAP_FREE, "\x48\x85\xff\x74\x10\x90", 6), 3);
	/* behind endbr64 */
	assert_int_equal(place(HEAP_FREE, "\xf3\x0f\x1e\xfa\x48\x85\xff\x74\x10\x90", 10), 7);
	/* Nothing else moves: what returns something, another register, another condition, code that ends too soon. */
	assert_int_equal(place(HEAP_REALLOC, "\x48\x85\xff\x74\x10\x90", 6), 0);
	assert_int_equal(place(HEAP_FREE, "\x48\x85\xf6\x74\x10\x90", 6), 0);
	assert_int_equal(place(HEAP_FREE, "\x48\x85\xff\x75\x10\x90", 6), 0);
	assert_int_equal(place(HEAP_FREE, "\x48\x85\xff\x90\x10\x90", 6), 0);
	assert_int_equal(place(HEAP_FREE, "\x48\x85\xff", 3), 0);
	assert_int_equal(place(HEAP_FREE, "\x48\x85\xff\x0f", 4), 0);
	assert_int_equal(place(HEAP_FREE, "", 0), 0);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_of_allocators_are_known),
		cmocka_unit_test(test_other_names_are_not),
#if defined(__x86_64__)
		cmocka_unit_test(test_a_probe_is_put_where_it_costs_least),
#endif
	};

	return cmocka_run_group_tests_name("allocators", tests, NULL, NULL);
}
