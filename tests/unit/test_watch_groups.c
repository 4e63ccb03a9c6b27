/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which processes of a unit or control group are to be watched. The control groups are plain directories of the test's own, the processes
 * children that wait for their end. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "../../daemon/members.c"
#include "../../daemon/watch_groups.c"

#define CHILDREN 3

static char root[64];
static int root_fd;
static pid_t children[CHILDREN];
static struct watch_groups *groups;
static struct api_memory_watch watches[CHILDREN];

static void run(const char *format, ...) _printf_(1, 2);

static void run(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	assert_int_equal(system(command), 0);
}

/* A control group with these processes. */
static void put(const char *path, const char *pids)
{
	run("mkdir -p '%s%s' && printf '%%s' '%s' > '%s%s/cgroup.procs'", root, path, pids, root, path);
}

static void put_children(const char *path, int n)
{
	char text[128] = "";

	for (int i = 0; i < n; i++)
		sprintf(text + strlen(text), "%d\n", children[i]);
	put(path, text);
}

static int setup(void **state _unused_)
{
	copy_string(root, sizeof(root), "/tmp/test-groups-XXXXXX");
	assert_non_null(mkdtemp(root));
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < CHILDREN; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			execl("/bin/sleep", "sleep", "60", NULL);
			_exit(1);
		}
		watches[i] = (struct api_memory_watch){ .pid = children[i], .comm = "sleep", .state = API_MEMORY_BEGINS };
	}
	usleep(100000); /* they have executed by then */
	return watch_groups_new(&groups, root_fd);
}

static int teardown(void **state _unused_)
{
	for (int i = 0; i < CHILDREN; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
	groups = watch_groups_free(groups);
	close(root_fd);
	run("rm -rf %s", root);
	return 0;
}

static const struct api_memory_watch *became(void *userdata _unused_, pid_t pid)
{
	for (int i = 0; i < CHILDREN; i++)
		if (watches[i].pid == pid)
			return &watches[i];
	return NULL;
}

static void assert_found(const char *name, size_t n, ...)
{
	static struct members m;
	va_list args;

	assert_int_equal(members_find(root_fd, name, &m), 0);
	assert_int_equal(m.n, n);
	va_start(args, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(m.pids[i], va_arg(args, int));
	va_end(args);
}

static void units_are_found(void **state _unused_)
{
	static struct members m;

	put("/system.slice/shop.service", "7\n5\n5\n0\n");
	put("/system.slice/shop.service/worker", "9\n");
	put("/system.slice/system-db.slice/db@1.service", "11\n");
	put("/system.slice/_cpu.service", "12\n");
	put("/user.slice/user-1.slice/user@1.service/app.slice/editor.scope", "21\n");
	put("/user.slice/user-1.slice/user@1.service/init.scope", "22\n");
	put("/init.scope", "1\n");
	put("/system.slice/other.service/shop.service", "31\n"); /* no unit: below one */
	assert_found("shop.service", 3, 5, 7, 9);
	assert_found("db@1.service", 1, 11);
	assert_found("cpu.service", 1, 12);
	assert_found("editor.scope", 1, 21);
	assert_found("init.scope", 1, 1);
	assert_found("system-db.slice", 1, 11);
	assert_found("/system.slice/other.service", 1, 31);
	assert_found("/user.slice", 2, 21, 22);
	assert_int_equal(members_find(root_fd, "shop", &m), -ENOENT);
	assert_int_equal(members_find(root_fd, "/system.slice/none", &m), -ENOENT);
	run("mkdir %s/many && seq 1100 > %s/many/cgroup.procs", root, root);
	assert_int_equal(members_find(root_fd, "/many", &m), 0);
	assert_int_equal(m.n, MEMBERS_MAX);
	assert_true(m.more);
}

static size_t count_next(void)
{
	pid_t pid;
	size_t n = 0;

	while (watch_groups_next(groups, &pid))
		n++;
	return n;
}

static void each_is_tried_once(void **state _unused_)
{
	uint32_t id;
	pid_t pid;

	put_children("/system.slice/a.service", 2);
	assert_int_equal(watch_groups_ask(groups, "a.service", USEC_INFINITY, &children[1], 1, &id), 0);
	assert_true(watch_groups_next(groups, &pid));
	assert_int_equal(pid, children[0]); /* the other is our own */
	assert_false(watch_groups_next(groups, &pid));
	watch_groups_put_back(groups, children[0]);
	assert_int_equal(count_next(), 1);
	watch_groups_look(groups, 1, NULL, 0);
	assert_int_equal(count_next(), 0); /* the new one may be loading its libraries yet */
	watch_groups_look(groups, 1, NULL, 0);
	assert_int_equal(count_next(), 1);
	watch_groups_look(groups, 1, NULL, 0);
	assert_int_equal(count_next(), 0);
	assert_string_equal(watch_groups_wanting(groups, children[1])->name, "a.service");
	put_children("/system.slice/a.service", 1);
	watch_groups_look(groups, 1, NULL, 0);
	assert_null(watch_groups_wanting(groups, children[1]));
}

static void it_begins_when_all_are_settled(void **state _unused_)
{
	const struct api_memory_group *g;
	uint32_t id;

	put_children("/a", 3);
	assert_int_equal(watch_groups_ask(groups, "/a", USEC_INFINITY, NULL, 0, &id), 0);
	g = watch_groups_get(groups, id);
	assert_int_equal(count_next(), 3);
	watches[0].state = API_MEMORY_WATCHED;
	watches[1].state = API_MEMORY_ENDED;
	assert_false(watch_groups_settle(groups, false, became, NULL));
	assert_int_equal(g->state, API_MEMORY_BEGINS);
	watch_groups_put_back(groups, children[2]);
	assert_false(watch_groups_settle(groups, false, became, NULL)); /* it is to be tried yet */
	assert_true(watch_groups_settle(groups, true, became, NULL));
	assert_int_equal(g->state, API_MEMORY_WATCHED);
	assert_int_equal(g->processes, 3);
	assert_int_equal(g->watched, 1);
	assert_int_equal(g->left_out, 1);
}

static void it_is_refused_with_the_reason(void **state _unused_)
{
	uint32_t id;

	put_children("/a", 1);
	put_children("/b", 1);
	put("/c", "");
	assert_int_equal(watch_groups_ask(groups, "/a", USEC_INFINITY, NULL, 0, &id), 0);
	assert_int_equal(count_next(), 1);
	watches[0].state = API_MEMORY_ENDED;
	copy_string(watches[0].reason, sizeof(watches[0].reason), "so");
	assert_true(watch_groups_settle(groups, false, became, NULL));
	assert_non_null(strstr(watch_groups_get(groups, id)->reason, "(sleep): so"));
	assert_int_equal(watch_groups_ask(groups, "/b", USEC_INFINITY, NULL, 0, &id), 0);
	assert_true(watch_groups_settle(groups, true, became, NULL));
	assert_string_equal(watch_groups_get(groups, id)->reason, "16 processes are watched already");
	assert_int_equal(watch_groups_ask(groups, "/c", USEC_INFINITY, NULL, 0, &id), -ESRCH);
	assert_int_equal(watch_groups_ask(groups, "none.service", USEC_INFINITY, NULL, 0, &id), -ENOENT);
	assert_int_equal(watch_groups_stop(groups, "/a", ""), -ENOENT);
}

static void what_is_configured_outlasts_what_was_asked(void **state _unused_)
{
	static const char names[][WORKLOAD_NAME_SIZE] = { "a.service", "later.service" };
	uint32_t id;

	put_children("/system.slice/a.service", 1);
	assert_int_equal(watch_groups_ask(groups, "a.service", 10, NULL, 0, &id), 0);
	watch_groups_configure(groups, names, 2);
	watch_groups_look(groups, 20, NULL, 0);
	assert_int_equal(watch_groups_get(groups, id)->until_us, USEC_INFINITY);
	put_children("/system.slice/later.service", 2);
	watch_groups_look(groups, 20, NULL, 0);
	assert_int_equal(count_next(), 1); /* a process of both groups, of which one knows it for long */
	watch_groups_look(groups, 20, NULL, 0);
	assert_int_equal(count_next(), 1);
	watch_groups_configure(groups, names + 1, 1);
	watch_groups_look(groups, 20, NULL, 0);
	assert_string_equal(watch_groups_get(groups, id)->reason, "its time is over");
	watch_groups_configure(groups, NULL, 0);
	assert_string_equal(watch_groups_at(groups, 1)->reason, "WatchMemory= no longer names it");
	assert_null(watch_groups_wanting(groups, children[0]));
}

static void their_number_is_bounded(void **state _unused_)
{
	char name[32];
	uint32_t id;

	for (int i = 0; i <= API_MEMORY_GROUPS; i++) {
		snprintf(name, sizeof(name), "/g%d", i);
		put_children(name, 1);
		assert_int_equal(watch_groups_ask(groups, name, USEC_INFINITY, NULL, 0, &id), i < API_MEMORY_GROUPS ? 0 : -ENOSPC);
	}
	assert_int_equal(watch_groups_stop(groups, "/g3", "enough"), 0);
	assert_int_equal(watch_groups_ask(groups, name, USEC_INFINITY, NULL, 0, &id), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(units_are_found),
		TEST(each_is_tried_once),
		TEST(it_begins_when_all_are_settled),
		TEST(it_is_refused_with_the_reason),
		TEST(what_is_configured_outlasts_what_was_asked),
		TEST(their_number_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
