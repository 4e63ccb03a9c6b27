/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "arena.c"
#include "listen.c"

#include <setjmp.h>

#include <cmocka.h>

#define SIZE (4u << 20)

static char dir[] = "/tmp/stackd-test-XXXXXX";

static void path_of(char path[static 256], const char *name)
{
	snprintf(path, 256, "%s/%s", dir, name);
}

static void test_saved_and_loaded(void **state _unused_)
{
	struct arena a, b;
	struct stat st;
	char path[256];

	assert_int_equal(arena_open(&a, SIZE, -1, dir), 0);
	assert_string_equal(a.origin, "new");
	memset((uint8_t *) a.data + 10000, 0xab, 50000);
	((uint8_t *) a.data)[SIZE - 1] = 1;
	assert_int_equal(arena_save(&a, dir), 0);
	path_of(path, SAVED_NAME);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true(st.st_blocks * 512 < SIZE / 4); /* the zero pages take no room */

	assert_int_equal(arena_open(&b, SIZE, -1, dir), 0);
	assert_string_equal(b.origin, "saved by the last stop");
	assert_memory_equal(a.data, b.data, SIZE);
	/* A second start must not find what has been continued meanwhile. */
	assert_int_equal(stat(path, &st), -1);
	arena_close(&a);
	arena_close(&b);
}

static void test_other_size_is_not_loaded(void **state _unused_)
{
	struct arena a, b;
	char path[256];

	assert_int_equal(arena_open(&a, SIZE, -1, NULL), 0);
	memset(a.data, 1, SIZE);
	assert_int_equal(arena_save(&a, dir), 0);
	assert_int_equal(arena_open(&b, SIZE * 2, -1, dir), 0);
	assert_string_equal(b.origin, "new");
	assert_int_equal(((uint8_t *) b.data)[0], 0);
	arena_close(&a);
	arena_close(&b);
	path_of(path, SAVED_NAME);
	unlink(path);
}

static void test_kept_memfd_is_continued(void **state _unused_)
{
	struct arena a, b;

	assert_int_equal(arena_open(&a, SIZE, -1, NULL), 0);
	memset(a.data, 7, SIZE);
	assert_int_equal(arena_open(&b, SIZE, dup(a.memfd), NULL), 0);
	assert_string_equal(b.origin, "kept by the service manager");
	assert_int_equal(((uint8_t *) b.data)[SIZE / 2], 7);
	arena_close(&b);
	/* StoreSize= was changed: the kept one is let go. */
	assert_int_equal(arena_open(&b, SIZE * 2, dup(a.memfd), NULL), 0);
	assert_string_equal(b.origin, "new");
	arena_close(&b);
	arena_close(&a);
}

static void test_save_fails_cleanly(void **state _unused_)
{
	struct arena a;

	assert_int_equal(arena_open(&a, SIZE, -1, NULL), 0);
	assert_int_equal(arena_save(&a, "/nonexistent"), -ENOENT);
	arena_close(&a);
}

static void test_stale_socket_is_replaced(void **state _unused_)
{
	char path[256];
	int first, second, third;

	path_of(path, "sub/socket");
	assert_int_equal(listen_bind(path, &first), 0);
	assert_int_equal(listen_bind(path, &second), -EADDRINUSE);
	close(first); /* as a daemon that was killed leaves it */
	assert_int_equal(listen_bind(path, &third), 0);
	close(third);
	unlink(path);
	/* What isn't a socket is not ours to remove. */
	assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
	assert_int_equal(listen_bind(path, &third), -EADDRINUSE);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
	path_of(path, "sub");
	rmdir(path);
}

static int make_dir(void **state _unused_)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state _unused_)
{
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_saved_and_loaded),       cmocka_unit_test(test_other_size_is_not_loaded),
		cmocka_unit_test(test_kept_memfd_is_continued), cmocka_unit_test(test_save_fails_cleanly),
		cmocka_unit_test(test_stale_socket_is_replaced),
	};

	return cmocka_run_group_tests_name("arena", tests, make_dir, remove_dir);
}
