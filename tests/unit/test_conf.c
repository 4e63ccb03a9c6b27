/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "parser.h"
#include "table.h"

/* A directory with stackd.conf and stackd.conf.d of the test's own. */
struct fixture {
	char dir[64], path[96];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char drop_ins[128];

	copy_string(f->dir, sizeof(f->dir), "/tmp/test-conf-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/stackd.conf", f->dir);
	snprintf(drop_ins, sizeof(drop_ins), "%s.d", f->path);
	assert_int_equal(mkdir(drop_ins, 0755), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static void write_bytes(const char *path, const void *data, size_t size)
{
	_cleanup_fclose_ FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, size, file), size);
}

static void write_drop_in(struct fixture *f, const char *name, const char *text)
{
	char path[160];

	snprintf(path, sizeof(path), "%s.d/%s", f->path, name);
	write_bytes(path, text, strlen(text));
}

static struct conf load(struct fixture *f, const char *text)
{
	_cleanup_free_ char *error = NULL;
	struct conf c;
	int r;

	write_bytes(f->path, text, strlen(text));
	r = conf_load(f->path, false, &c, &error);
	if (r < 0)
		fail_msg("'%s' was refused: %s", text, error);
	return c;
}

/* Loading must fail with "FILE:LINE: reason", where FILE ends in name, and leave the target as it was. */
static void assert_refused_in(struct fixture *f, const char *name, const char *reason)
{
	_cleanup_free_ char *error = NULL;
	struct conf c, before;
	const char *found;

	memset(&c, 0xa5, sizeof(c));
	memcpy(&before, &c, sizeof(c));
	if (conf_load(f->path, false, &c, &error) >= 0)
		fail_msg("not refused: %s", reason);
	assert_memory_equal(&c, &before, sizeof(c));
	assert_non_null(error);
	assert_memory_equal(error, f->dir, strlen(f->dir));
	found = strstr(error, name);
	if (!found || !streq(found + strlen(name), reason))
		fail_msg("expected '...%s%s', got '%s'", name, reason, error);
}

static void assert_refused(struct fixture *f, const char *text, const char *reason)
{
	write_bytes(f->path, text, strlen(text));
	assert_refused_in(f, "stackd.conf", reason);
}

static void assert_same(const struct conf *a, const struct conf *b)
{
	for (size_t i = 0; i < n_conf_keys; i++)
		if (!conf_key_equal(conf_keys + i, a, b))
			fail_msg("%s= differs", conf_keys[i].name);
}

static void defaults_are_those_of_the_manual(void **state _unused_)
{
	struct conf c;

	memset(&c, 0x5a, sizeof(c));
	conf_defaults(&c);
	assert_float_equal(c.open_above, 5.0, 0);
	assert_float_equal(c.close_below, 4.0, 0);
	assert_int_equal(c.close_after_us, 10000000);
	assert_int_equal(c.cooldown_us, 2000000);
	assert_int_equal(c.baseline_hz, 5);
	assert_int_equal(c.n_pressures, 0);
	assert_false(c.update_rq_clock);
	assert_int_equal(c.sample_hz, 49);
	assert_int_equal(c.fault_hz, 199);
	assert_int_equal(c.fault_baseline_hz, 11);
	assert_int_equal(c.offcpu_stacks, 2000);
	assert_int_equal(c.memory_stacks, 100);
	assert_int_equal(c.memory_baseline_stacks, 20);
	assert_true(c.cpu_budget_closed == 1 && c.cpu_budget_open == 10);
	assert_int_equal(c.max_stacks, 16384);
	assert_int_equal(c.max_counts, 16384);
	assert_int_equal(c.max_processes, 16384);
	assert_int_equal(c.store_size, 64 << 20);
	assert_int_equal(c.keep_1s_us, 900ULL * USEC_PER_SEC);
	assert_int_equal(c.keep_10s_us, 4 * 3600ULL * USEC_PER_SEC);
	assert_int_equal(c.keep_1min_us, 48 * 3600ULL * USEC_PER_SEC);
	assert_int_equal(c.slices_per_series, 64);
	assert_true(c.save_on_stop);
	assert_float_equal(c.false_alarms_per_day, 1, 0);
	assert_int_equal(c.alert_burst, 20);
	assert_int_equal(c.alert_interval_us, 60 * USEC_PER_SEC);
	assert_int_equal(c.max_connections, 64);
	assert_int_equal(c.max_connections_uid, 16);
	assert_int_equal(c.subscriber_queue, 256);
	assert_int_equal(c.request_timeout_us, 30 * USEC_PER_SEC);
	assert_true(c.users_see_own);
	assert_int_equal(c.log_level, LOG_LEVEL_INFO);
}

static void missing_file_is_an_error_unless_optional(void **state)
{
	struct fixture *f = *state;
	struct conf c, defaults;
	char *error = NULL;

	conf_defaults(&defaults);
	assert_int_equal(conf_load(f->path, true, &c, &error), 0);
	assert_same(&c, &defaults);
	assert_refused_in(f, "stackd.conf", ": cannot be read: No such file or directory");

	write_drop_in(f, "a.conf", "[Gate]\nOpenAbove=7\n");
	assert_int_equal(conf_load(f->path, true, &c, &error), 0);
	assert_float_equal(c.open_above, 7, 0);
}

static void values_are_taken_in_their_units(void **state)
{
	struct conf c = load(*state, "[Gate]\n OpenAbove = 2.5 \nCloseBelow=2\nCloseAfter=1min 30s\nBaselineHz=0\n"
				     "# comment\n; another\n\n[Collect]\nOnCPUSource=update-rq-clock\nSampleHz=\t99\n"
				     "[Store]\nStoreSize=1G\nSaveOnStop=off\n[API]\nUsersSeeOwn=no\n[Log]\nLogLevel=debug");

	assert_float_equal(c.open_above, 2.5, 0);
	assert_float_equal(c.close_below, 2, 0);
	assert_int_equal(c.close_after_us, 90 * USEC_PER_SEC);
	assert_int_equal(c.baseline_hz, 0);
	assert_true(c.update_rq_clock);
	assert_int_equal(c.sample_hz, 99);
	assert_int_equal(c.store_size, 1 << 30);
	assert_false(c.save_on_stop);
	assert_false(c.users_see_own);
	assert_int_equal(c.log_level, LOG_LEVEL_DEBUG);
}

static void both_ends_of_a_range_belong_to_it(void **state)
{
	struct fixture *f = *state;

	assert_float_equal(load(f, "[Gate]\nOpenAbove=1000\n").open_above, 1000, 0);
	assert_float_equal(load(f, "[Gate]\nOpenAbove=0.1\n").open_above, 0.1, 0);
	assert_int_equal(load(f, "[Store]\nStoreSize=8M\n").store_size, 8 << 20);
	assert_int_equal(load(f, "[Gate]\nCloseAfter=1h\n").close_after_us, 3600 * USEC_PER_SEC);
	assert_refused(f, "[Gate]\nCloseAfter=3601\n", ":2: CloseAfter=: '3601' is not a time span from 0 to 1h");
	assert_refused(f, "[Store]\nStoreSize=8191K\n", ":2: StoreSize=: '8191K' is not a size from 8M to 16G");
	assert_refused(f, "[Gate]\nOpenAbove=1000.1\n", ":2: OpenAbove=: '1000.1' is not a number from 0.1 to 1000");
	assert_refused(f, "[Gate]\nBaselineHz=101\n", ":2: BaselineHz=: '101' is not a whole number from 0 to 100");
	/* Would be 5 if it were cut to 32 bits. */
	assert_refused(f, "[Gate]\nBaselineHz=4294967301\n", ":2: BaselineHz=: '4294967301' is not a whole number from 0 to 100");
}

static void values_of_the_wrong_type_are_refused(void **state)
{
	struct fixture *f = *state;

	assert_refused(f, "\n\n[Gate]\nOpenAbove=abc\n", ":4: OpenAbove=: 'abc' is not a number from 0.1 to 1000");
	assert_refused(f, "[Gate]\nOpenAbove=nan\n", ":2: OpenAbove=: 'nan' is not a number from 0.1 to 1000");
	assert_refused(f, "[Gate]\nBaselineHz=-1\n", ":2: BaselineHz=: '-1' is not a whole number from 0 to 100");
	assert_refused(f, "[Collect]\nOnCPUSource=perf\n", ":2: OnCPUSource=: 'perf' is not perf-event or update-rq-clock");
	assert_refused(f, "[Store]\nSaveOnStop=maybe\n", ":2: SaveOnStop=: 'maybe' is not yes or no");
	assert_refused(f, "[Log]\nLogLevel=7\n", ":2: LogLevel=: '7' is not error, warning, notice, info or debug");
	assert_refused(f, "[Gate]\nCloseAfter=5 parsecs\n", ":2: CloseAfter=: '5 parsecs' is not a time span from 0 to 1h");
	assert_refused(f, "[Gate]\nCloseAfter=infinity\n", ":2: CloseAfter=: 'infinity' is not a time span from 0 to 1h");
}

static void decimal_point_is_a_point_in_every_locale(void **state)
{
	struct fixture *f = *state;

	setlocale(LC_ALL, "de_DE.UTF-8");
	assert_float_equal(load(f, "[Gate]\nOpenAbove=2.5\n").open_above, 2.5, 0);
	assert_refused(f, "[Gate]\nOpenAbove=2,5\n", ":2: OpenAbove=: '2,5' is not a number from 0.1 to 1000");
	setlocale(LC_ALL, "C");
}

static void misspelled_names_get_a_suggestion(void **state)
{
	struct fixture *f = *state;

	assert_refused(f, "[Gate]\nOpenAbov=3\n", ":2: unknown key 'OpenAbov', did you mean OpenAbove= in [Gate]?");
	assert_refused(f, "[Gate]\nopenabove=3\n", ":2: unknown key 'openabove', did you mean OpenAbove= in [Gate]?");
	assert_refused(f, "[Detect]\nFalseAlarmPerDay=3\n", ":2: unknown key 'FalseAlarmPerDay', did you mean FalseAlarmsPerDay= in [Detect]?");
	assert_refused(f, "[Gate]\nColour=3\n", ":2: unknown key 'Colour'");
	assert_refused(f, "[Gat]\n", ":1: unknown section 'Gat', did you mean [Gate]?");
	assert_refused(f, "[Service]\n", ":1: unknown section 'Service'");
	assert_refused(f, "[]\n", ":1: unknown section ''");
}

static void keys_outside_their_section_are_refused(void **state)
{
	struct fixture *f = *state;

	assert_refused(f, "OpenAbove=3\n", ":1: OpenAbove= stands before any section, it belongs in [Gate]");
	assert_refused(f, "[Log]\nOpenAbove=3\n", ":2: OpenAbove= stands in [Log], it belongs in [Gate]");
}

static void broken_lines_are_refused(void **state)
{
	struct fixture *f = *state;

	assert_refused(f, "[Gate]\nOpenAbove 3\n",
		       ":2: 'OpenAbove 3' has no '=' (a line is Key=value, [Section], or a comment after '#')");
	assert_refused(f, "[Gate\n", ":1: '[Gate' does not end in ']'");
	assert_refused(f, "[\n", ":1: '[' does not end in ']'");
	assert_refused(f, "[Gate]\n=3\n", ":2: unknown key ''");
	/* Terminal escapes do not reach the terminal. */
	assert_refused(f, "[Gate]\nOpenAbove=\033[31m\xff\n",
		       ":2: OpenAbove=: '\\x1b[31m\\xff' is not a number from 0.1 to 1000");
}

static void nul_bytes_are_refused(void **state)
{
	struct fixture *f = *state;
	static const char text[] = "[Gate]\nOpenAbove=3\0\n";

	write_bytes(f->path, text, sizeof(text) - 1);
	assert_refused_in(f, "stackd.conf", ":2: line has a NUL byte: this is not a text file");
}

static void crlf_and_byte_order_mark_are_taken(void **state)
{
	struct conf c = load(*state, "\xef\xbb\xbf[Gate]\r\nOpenAbove=3\r\n\r\n");

	assert_float_equal(c.open_above, 3, 0);
}

static void sizes_of_lines_and_files_are_bounded(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *text = malloc(CONF_FILE_MAX + 1);
	struct conf c;
	char *error = NULL;

	memset(text, '#', CONF_FILE_MAX + 1);
	write_bytes(f->path, text, CONF_LINE_MAX);
	assert_int_equal(conf_load(f->path, false, &c, &error), 0);
	write_bytes(f->path, text, CONF_LINE_MAX + 1);
	assert_refused_in(f, "stackd.conf", ":1: line is longer than 1024 bytes");

	memset(text, '\n', CONF_FILE_MAX + 1);
	write_bytes(f->path, text, CONF_FILE_MAX);
	assert_int_equal(conf_load(f->path, false, &c, &error), 0);
	write_bytes(f->path, text, CONF_FILE_MAX + 1);
	assert_refused_in(f, "stackd.conf", ": larger than 65536 bytes");
}

static void long_values_are_cut_in_the_error(void **state)
{
	struct fixture *f = *state;
	char text[512], reason[256];

	snprintf(text, sizeof(text), "[Gate]\nOpenAbove=%0300d\n", 0);
	snprintf(reason, sizeof(reason), ":2: OpenAbove=: '%064d...' is not a number from 0.1 to 1000", 0);
	assert_refused(f, text, reason);
}

static void last_word_counts(void **state)
{
	struct fixture *f = *state;
	struct conf c;

	c = load(f, "[Gate]\nOpenAbove=3\nOpenAbove=7\n");
	assert_float_equal(c.open_above, 7, 0);
	c = load(f, "[Gate]\nOpenAbove=3\n[Log]\n[Gate]\nOpenAbove=\n");
	assert_float_equal(c.open_above, 5, 0);
	assert_float_equal(c.close_below, 4, 0);
}

static void drop_ins_are_read_in_the_order_of_their_names(void **state)
{
	struct fixture *f = *state;
	struct conf c;
	char link[160];

	write_drop_in(f, "20-b.conf", "[Gate]\nOpenAbove=20\n");
	write_drop_in(f, "10-a.conf", "[Gate]\nOpenAbove=10\n[Collect]\nSampleHz=10\n");
	write_drop_in(f, "30.conf.bak", "garbage\n");
	write_drop_in(f, ".40.conf", "garbage\n");
	snprintf(link, sizeof(link), "%s.d/50-masked.conf", f->path);
	assert_int_equal(symlink("/dev/null", link), 0);
	c = load(f, "[Gate]\nOpenAbove=1\n[Collect]\nFaultHz=7\n");
	assert_float_equal(c.open_above, 20, 0);
	assert_int_equal(c.sample_hz, 10);
	assert_int_equal(c.fault_hz, 7);

	/* Each file starts outside of any section. */
	write_drop_in(f, "60.conf", "OpenAbove=3\n");
	assert_refused_in(f, "stackd.conf.d/60.conf", ":1: OpenAbove= stands before any section, it belongs in [Gate]");
}

static void special_files_are_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkfifo(f->path, 0600), 0);
	assert_refused_in(f, "stackd.conf", ": not a regular file");
	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(mkdir(f->path, 0700), 0);
	assert_refused_in(f, "stackd.conf", ": not a regular file");
}

static void close_below_follows_open_above(void **state)
{
	struct fixture *f = *state;
	struct conf c;

	c = load(f, "[Gate]\nOpenAbove=2\n");
	assert_float_equal(c.close_below, 1.6, 1e-9);
	c = load(f, "[Gate]\nOpenAbove=2\nCloseBelow=2\n");
	assert_float_equal(c.close_below, 2, 0);
	assert_refused(f, "[Gate]\nCloseBelow=6\n",
		       ":2: CloseBelow=: '6' is above OpenAbove=, which is 5: the gate would close as it opens");
	assert_refused(f, "[Gate]\nCloseBelow=3\nOpenAbove=2\n",
		       ":2: CloseBelow=: '3' is above OpenAbove=, which is 2: the gate would close as it opens");

	/* Said in the file, but taken back by a drop-in. */
	write_drop_in(f, "a.conf", "[Gate]\nCloseBelow=\n");
	c = load(f, "[Gate]\nCloseBelow=3\nOpenAbove=2\n");
	assert_float_equal(c.close_below, 1.6, 1e-9);
}

#define PRESSURE_REASON \
	" is not a resource (cpu, io, memory), some or full (cpu: only some), a stall and a window of 500ms to 10s, as \"io full 200ms 1s\""

static void pressures_are_a_list(void **state)
{
	struct fixture *f = *state;
	struct conf c;

	c = load(f, "[Gate]\nOpenOnPressure=io full 200ms 1s\nOpenOnPressure=cpu\tsome  1s 2s\nOpenOnPressure=io full 100ms 500ms\n");
	assert_int_equal(c.n_pressures, 2);
	assert_string_equal(c.pressures[0].resource, "io");
	assert_true(c.pressures[0].full);
	assert_int_equal(c.pressures[0].stall_us, 100000);
	assert_int_equal(c.pressures[0].window_us, 500000);
	assert_string_equal(c.pressures[1].resource, "cpu");
	assert_false(c.pressures[1].full);

	c = load(f, "[Gate]\nOpenOnPressure=io full 200ms 1s\nOpenOnPressure=\nOpenOnPressure=memory some 1s 2s\n");
	assert_int_equal(c.n_pressures, 1);
	assert_string_equal(c.pressures[0].resource, "memory");

	assert_refused(f, "[Gate]\nOpenOnPressure=io full 200ms\n", ":2: OpenOnPressure=: 'io full 200ms'" PRESSURE_REASON);
	assert_refused(f, "[Gate]\nOpenOnPressure=io full 2s 1s\n", ":2: OpenOnPressure=: 'io full 2s 1s'" PRESSURE_REASON);
	assert_refused(f, "[Gate]\nOpenOnPressure=io full 0 1s\n", ":2: OpenOnPressure=: 'io full 0 1s'" PRESSURE_REASON);
	assert_refused(f, "[Gate]\nOpenOnPressure=io full 1s 11s\n", ":2: OpenOnPressure=: 'io full 1s 11s'" PRESSURE_REASON);
	assert_refused(f, "[Gate]\nOpenOnPressure=cpu full 1s 2s\n", ":2: OpenOnPressure=: 'cpu full 1s 2s'" PRESSURE_REASON);
	assert_refused(f, "[Gate]\nOpenOnPressure=irq full 1s 2s\n", ":2: OpenOnPressure=: 'irq full 1s 2s'" PRESSURE_REASON);
	assert_refused(f, "[Gate]\nOpenOnPressure=io full 1s 2s 3s\n", ":2: OpenOnPressure=: 'io full 1s 2s 3s'" PRESSURE_REASON);
}

static void restart_needed_names_the_keys(void **state)
{
	struct fixture *f = *state;
	struct conf before, after;
	char *names;

	conf_defaults(&before);
	after = load(f, "[Gate]\nOpenAbove=3\n[Collect]\nSampleHz=99\n[Store]\nSaveOnStop=no\n");
	assert_int_equal(conf_restart_needed(&before, &after, &names), 0);
	assert_string_equal(names, "");
	free(names);

	after = load(f, "[Gate]\nOpenOnPressure=io full 1s 2s\n[Collect]\nMaxStacks=2048\n[Store]\nStoreSize=128M\n");
	assert_int_equal(conf_restart_needed(&before, &after, &names), 0);
	assert_string_equal(names, "OpenOnPressure= MaxStacks= StoreSize=");
	free(names);
}

#define WATCHES_REASON " is not a list of units or absolute paths of control groups, as \"nginx.service /system.slice/a.scope\", 16 at most"

static void watches_are_a_list(void **state)
{
	struct fixture *f = *state;
	struct conf c = load(f, "[Collect]\nWatchMemory=nginx  a@1.service\tnginx.service\nWatchMemory=/sys/fs/cgroup/x.slice/ /\n"), other;
	char text[512] = "[Collect]\nWatchMemory=";

	assert_int_equal(c.n_watches, 4);
	assert_string_equal(c.watches[0], "nginx.service");
	assert_string_equal(c.watches[1], "a@1.service");
	assert_string_equal(c.watches[2], "/x.slice");
	assert_string_equal(c.watches[3], "/");
	other = load(f, "[Collect]\nWatchMemory=a\nWatchMemory=\n");
	assert_int_equal(other.n_watches, 0);
	for (int i = 0; i < CONF_WATCHES_MAX; i++)
		sprintf(text + strlen(text), "u%d ", i);
	assert_int_equal(load(f, text).n_watches, CONF_WATCHES_MAX);

	assert_refused(f, "[Collect]\nWatchMemory=a b/c\n", ":2: WatchMemory=: 'a b/c'" WATCHES_REASON);
	assert_refused(f, "[Collect]\nWatchMemory=/a/../b\n", ":2: WatchMemory=: '/a/../b'" WATCHES_REASON);
	assert_refused(f, "[Collect]\nWatchMemory=getty@.service\n", ":2: WatchMemory=: 'getty@.service'" WATCHES_REASON);
	assert_refused(f, "[Collect]\nWatchMemory=a b c d e f g h i j k l m n o p q\n",
	               ":2: WatchMemory=: 'a b c d e f g h i j k l m n o p q'" WATCHES_REASON);
}

static char *read_source(const char *path)
{
	char root[4096], full[8192], *text;

	/* This file's path as the compiler was given it: from the build directory, where tests run. */
	copy_string(root, sizeof(root), __FILE__);
	*strstr(root, "tests/unit/") = 0;
	snprintf(full, sizeof(full), "%s%s", root, path);
	assert_int_equal(read_small_file(AT_FDCWD, full, 1 << 20, &text, NULL), 0);
	return text;
}

/* Makes one line of a paragraph: a comment's marks, roff's requests and escapes go, and every blank is one space. */
static char *flatten(const char *text, size_t n, const char *comment)
{
	char *flat = malloc(n + 1), *out = flat;

	for (size_t i = 0; i < n; i++) {
		bool line_start = i == 0 || text[i - 1] == '\n';

		if (line_start && text[i] == *comment && *comment == '#')
			i++;
		else if (line_start && text[i] == '.')
			i += strcspn(text + i, " ");
		if (text[i] == '\\')
			continue;
		if (strchr(" \n\t", text[i])) {
			if (out > flat && out[-1] != ' ')
				*out++ = ' ';
		} else
			*out++ = text[i];
	}
	*out = 0;
	return flat;
}

static void assert_documents(const struct conf_key *key, const char *paragraph, const char *where)
{
	char expects[CONF_EXPECT_MAX];
	const char *found;
	bool restart = strstr(paragraph, "Takes effect at the next start.");

	conf_key_expects(key, expects);
	found = strcasestr(paragraph, expects);
	if (!found || !strchr(" .,", found[strlen(expects)]))
		fail_msg("%s: %s= does not say '%s': %s", where, key->name, expects, paragraph);
	if (restart != key->restart)
		fail_msg("%s: %s= is wrong about when it takes effect", where, key->name);
}

static void shipped_file_agrees_with_the_table(void **state _unused_)
{
	_cleanup_free_ char *text = read_source("conf/stackd.conf");
	const char *at = text, *section = "";

	for (size_t i = 0; i < n_conf_keys; i++) {
		const struct conf_key *key = conf_keys + i;
		_cleanup_free_ char *paragraph = NULL;
		char line[128];
		const char *found;

		if (!streq(section, key->section)) {
			section = key->section;
			snprintf(line, sizeof(line), "\n[%s]\n", section);
			at = strstr(at, line);
			if (!at)
				fail_msg("[%s] is not there, or not in order", section);
			at += strlen(line);
		}
		snprintf(line, sizeof(line), "\n#%s=%s\n", key->name, key->value);
		found = strstr(at, line);
		if (!found)
			fail_msg("'#%s=%s' is not there, or not in order", key->name, key->value);
		paragraph = flatten(at, (size_t) (found - at), "#");
		assert_documents(key, paragraph, "conf/stackd.conf");
		at = found + strlen(line);
		assert_null(strchr(paragraph, '[')); /* no stray section between */
	}
	assert_int_equal(strspn(at, "\n"), strlen(at));
}

static void shipped_file_changes_nothing(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *text = read_source("conf/stackd.conf");
	struct conf c, defaults;

	conf_defaults(&defaults);
	c = load(f, text);
	assert_same(&c, &defaults);

	/* With every default uncommented it says the same again. */
	for (size_t i = 0; i < n_conf_keys; i++) {
		char line[64], *found;

		snprintf(line, sizeof(line), "\n#%s=", conf_keys[i].name);
		found = strstr(text, line);
		found[1] = ' ';
	}
	c = load(f, text);
	assert_same(&c, &defaults);
}

static void manual_agrees_with_the_table(void **state _unused_)
{
	_cleanup_free_ char *text = read_source("docs/stackd.conf.5");
	const char *at = text, *section = "";

	for (size_t i = 0; i < n_conf_keys; i++) {
		const struct conf_key *key = conf_keys + i;
		_cleanup_free_ char *paragraph = NULL;
		char line[128];
		const char *next;

		if (!streq(section, key->section)) {
			section = key->section;
			snprintf(line, sizeof(line), "\n.SH [%s] SECTION\n", section);
			at = strcasestr(at, line);
			if (!at)
				fail_msg("[%s] is not there, or not in order", section);
		}
		snprintf(line, sizeof(line), "\n.TP\n.I %s=\n", key->name);
		at = strstr(at, line);
		if (!at)
			fail_msg("%s= is not there, or not in order", key->name);
		at += strlen(line);
		next = MIN(strstr(at, "\n.TP\n") ?: at + strlen(at), strstr(at, "\n.SH ") ?: at + strlen(at));
		paragraph = flatten(at, (size_t) (next - at), ".");
		assert_documents(key, paragraph, "docs/stackd.conf.5");
		snprintf(line, sizeof(line), "Defaults to %s", *key->value ? key->value : "none");
		next = strstr(paragraph, line);
		if (!next || !(streq(next + strlen(line), ".") || strncmp(next + strlen(line), ". ", 2) == 0 ||
			       strncmp(next + strlen(line), ", ", 2) == 0))
			fail_msg("%s= does not say '%s': %s", key->name, line, paragraph);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_those_of_the_manual),
		TEST(missing_file_is_an_error_unless_optional),
		TEST(values_are_taken_in_their_units),
		TEST(both_ends_of_a_range_belong_to_it),
		TEST(values_of_the_wrong_type_are_refused),
		TEST(decimal_point_is_a_point_in_every_locale),
		TEST(misspelled_names_get_a_suggestion),
		TEST(keys_outside_their_section_are_refused),
		TEST(broken_lines_are_refused),
		TEST(nul_bytes_are_refused),
		TEST(crlf_and_byte_order_mark_are_taken),
		TEST(sizes_of_lines_and_files_are_bounded),
		TEST(long_values_are_cut_in_the_error),
		TEST(last_word_counts),
		TEST(drop_ins_are_read_in_the_order_of_their_names),
		TEST(special_files_are_refused),
		TEST(close_below_follows_open_above),
		TEST(pressures_are_a_list),
		TEST(watches_are_a_list),
		TEST(restart_needed_names_the_keys),
		cmocka_unit_test(shipped_file_agrees_with_the_table),
		TEST(shipped_file_changes_nothing),
		cmocka_unit_test(manual_agrees_with_the_table),
	};

	return cmocka_run_group_tests_name("conf", tests, NULL, NULL);
}
