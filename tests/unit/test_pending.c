/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "pending.c"

#define MANY 8192

static const struct collect_process somebody = { .pid = 7, .start_ns = 1 };

static struct pending_table *filled(void)
{
	struct pending_table *t = NULL;

	assert_return_code(pending_new(&t, MANY), 0);
	for (uint64_t key = 1; key <= MANY; key++)
		pending_make(t, key, &somebody, false)->values[0] = key;
	return t;
}

static size_t resident(struct pending_table *t)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 0;
	uintptr_t first = ((uintptr_t)t->entries + page - 1) / page * page, end = (uintptr_t)&t->entries[MANY] / page * page;
	unsigned char in_memory[MANY * sizeof(struct pending) / 4096 + 1];

	assert_int_equal(mincore((void *)first, end - first, in_memory), 0);
	for (size_t i = 0; i < (end - first) / page; i++)
		n += in_memory[i] & 1;
	return n * page;
}

static void test_each_is_walked_once_while_others_go(void **state)
{
	struct pending_table *t = filled();
	static bool seen[MANY + 1];
	struct pending *entry;
	uint32_t cursor = 0;
	uint64_t last = 0;

	(void)state;
	while ((entry = pending_next(t, &cursor))) {
		assert_int_equal(entry->values[0], entry->key);
		assert_false(seen[entry->key]);
		assert_true(entry->key > last);
		seen[entry->key] = true;
		last = entry->key;
		if (entry->key % 3)
			pending_drop(t, entry);
	}
	pending_close_gaps(t);
	for (uint64_t key = 1; key <= MANY; key++) {
		assert_true(seen[key]);
		entry = pending_find(t, key);
		assert_int_equal(!!entry, key % 3 == 0);
		assert_true(!entry || (entry->key == key && entry->values[0] == key));
	}
	assert_int_equal(pending_count(t), MANY / 3);
	cursor = 0;
	for (uint64_t key = 3; key <= MANY; key += 3)
		assert_int_equal(pending_next(t, &cursor)->key, key);
	assert_null(pending_next(t, &cursor));
	pending_free(t);
}

static void test_what_a_burst_took_is_given_back(void **state)
{
	struct pending_table *t = filled();

	(void)state;
	assert_null(pending_make(t, MANY + 1, &somebody, false));
	assert_true(resident(t) > MANY / 2 * sizeof(struct pending));
	for (uint64_t key = 1; key <= MANY; key++)
		if (key % 512)
			pending_drop(t, pending_find(t, key));
	pending_close_gaps(t);
	assert_int_equal(pending_count(t), MANY / 512);
	assert_true(resident(t) < MANY / 16 * sizeof(struct pending));
	for (uint64_t key = 512; key <= MANY; key += 512)
		assert_int_equal(pending_find(t, key)->values[0], key);
	assert_non_null(pending_make(t, MANY + 1, &somebody, false));
	pending_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_is_walked_once_while_others_go),
		cmocka_unit_test(test_what_a_burst_took_is_given_back),
	};

	return cmocka_run_group_tests_name("pending", tests, NULL, NULL);
}
