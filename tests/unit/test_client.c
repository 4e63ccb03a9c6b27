/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base.h"

#include <getopt.h>
#include <setjmp.h>
#include <time.h>

#include <cmocka.h>

#include "options.h"
#include "render_folded.h"
#include "screen.h"
#include "show.h"
#include "table.h"
#include "term.h"
#include "timestamp.h"

/* ---- keys ---- */

static void test_keys(void **state _unused_)
{
	static const struct {
		const char *bytes;
		size_t taken; /* 0: there may be more to come */
		int key;
	} cases[] = {
		{ "q", 1, 'q' },           { "q\x1b[A", 1, 'q' },     { "\n", 1, KEY_ENTER },      { "\b", 1, KEY_BACKSPACE },
		{ "\xc3", 1, 0xc3 },       { "\x1b[A", 3, KEY_UP },   { "\x1bOB", 3, KEY_DOWN },   { "\x1b[1;5C", 6, KEY_RIGHT },
		{ "\x1b[5~", 4, KEY_PAGE_UP }, { "\x1b[6~q", 4, KEY_PAGE_DOWN }, { "\x1b[1~", 4, KEY_HOME }, { "\x1bOF", 3, KEY_END },
		{ "\x1b[24~", 5, KEY_NONE },   { "\x1b[Z", 3, KEY_NONE },  { "\x1bq", 1, KEY_ESCAPE },
		{ "\x1b", 0, 0 },          { "\x1b[", 0, 0 },         { "\x1bO", 0, 0 },          { "\x1b[5", 0, 0 },
	};

	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		int key = -1;
		size_t taken = key_decode(cases[i].bytes, strlen(cases[i].bytes), &key);

		if (taken != cases[i].taken || (taken > 0 && key != cases[i].key))
			fail_msg("case %zu: key %d of %zu bytes", i, key, taken);
	}
	assert_int_equal(key_decode("", 0, &(int){ 0 }), 0);
}

/* ---- times ---- */

#define NOW 1795428000000000ULL /* Mon 2026-11-23 10:00:00 UTC */

static uint64_t parse_time(const char *s)
{
	const char *reason = NULL;
	uint64_t us = 0;
	int r = time_parse(s, NOW, &us, &reason);

	if (r < 0)
		fail_msg("\"%s\": %s", s, reason);
	return us;
}

static void use_zone(const char *zone)
{
	setenv("TZ", zone, true);
	tzset();
}

static void check_times(const char *zone, const char *const (*cases)[2], size_t n)
{
	use_zone(zone);
	for (size_t i = 0; i < n; i++) {
		uint64_t got = parse_time(cases[i][0]), want = strtod(cases[i][1], NULL) * 1e6 + 0.5;

		if (got != want)
			fail_msg("\"%s\" in %s is @%.6f, not @%.6f", cases[i][0], zone, got / 1e6,
			         want / 1e6);
	}
}

static void test_times_utc(void **state _unused_)
{
	static const char *const cases[][2] = {
		{ "now", "1795428000" },
		{ "today", "1795392000" },
		{ "yesterday", "1795305600" },
		{ "tomorrow", "1795478400" },
		{ "10m", "1795427400" },
		{ "1h 30min", "1795422600" },
		{ "2h", "1795420800" },
		{ "-5min", "1795427700" },
		{ "+1h", "1795431600" },
		{ "-5", "1795427995" },
		{ "5min ago", "1795427700" },
		{ "5min left", "1795428300" },
		{ "500ms ago", "1795427999.5" },
		{ "@1395716396", "1395716396" },
		{ "@1395716396.5", "1395716396.5" },
		{ "@0", "0" },
		{ "2026-11-23 10:00:00", "1795428000" },
		{ "2026-11-23 10:00", "1795428000" },
		{ "2026-11-23", "1795392000" },
		{ "26-11-23", "1795392000" },
		{ "Mon 2026-11-23 10:00:00", "1795428000" },
		{ "monday, 2026-11-23 10:00:00", "1795428000" },
		{ "10:00", "1795428000" },
		{ "9:05:07", "1795424707" },
		{ "  10:00  ", "1795428000" },
		{ "2026-11-23T10:00:00Z", "1795428000" },
		{ "2026-11-23t10:00:00z", "1795428000" },
		{ "2026-11-23T10:00:00.25Z", "1795428000.25" },
		{ "2026-11-23T10:00:00.123456789Z", "1795428000.123456" },
		{ "2026-11-23T11:00:00+01:00", "1795428000" },
		{ "2026-11-23T04:30:00-05:30", "1795428000" },
		{ "2026-11-23 11:00:00+0100", "1795428000" },
		{ "2026-11-23 10:00:00 UTC", "1795428000" },
		{ "2026-11-23 11:00:00 Europe/Berlin", "1795428000" },
		{ "today Pacific/Auckland", "1795345200" },
		{ "2016-12-31T23:59:60Z", "1483228800" },
		{ "2024-02-29", "1709164800" },
	};

	check_times("UTC", cases, ELEMENTS_OF(cases));
}

/* Berlin: forward at 2026-03-29 02:00 (CET), back at 2026-10-25 03:00 (CEST). */
static void test_times_across_clock_changes(void **state _unused_)
{
	static const char *const cases[][2] = {
		{ "2026-03-29 01:59:59", "1774745999" },
		{ "2026-03-29 02:30:00", "1774747800" }, /* there is none: 03:30 CEST */
		{ "2026-03-29 03:00:00", "1774746000" },
		{ "2026-10-25 02:30:00", "1792888200" }, /* twice: the first, CEST */
		{ "2026-10-25 02:30:00 CEST", "1792888200" },
		{ "2026-10-25 02:30:00 CET", "1792891800" },
		{ "2026-10-25 03:00:00", "1792893600" },
		{ "today", "1795388400" },
		{ "2026-07-01", "1782856800" },
		{ "2026-11-23 10:00:00 UTC", "1795428000" },
	};

	check_times("Europe/Berlin", cases, ELEMENTS_OF(cases));
}

/* Midnight itself is skipped in Cairo on 2026-04-24: the day begins at 01:00. And days of 23 and 25 hours
 * don't shift yesterday. */
static void test_days_across_clock_changes(void **state _unused_)
{
	static const char *const cairo[][2] = { { "2026-04-24", "1776981600" } };
	const uint64_t noon_after = 1792926000000000ULL; /* 2026-10-25 12:00 CET */
	const char *reason;
	uint64_t us;

	check_times("Africa/Cairo", cairo, ELEMENTS_OF(cairo));
	use_zone("Europe/Berlin");
	assert_int_equal(time_parse("today", noon_after, &us, &reason), 0);
	assert_int_equal(us, 1792879200000000ULL);
	assert_int_equal(time_parse("tomorrow", noon_after, &us, &reason), 0);
	assert_int_equal(us, 1792969200000000ULL);
	assert_int_equal(time_parse("yesterday", noon_after, &us, &reason), 0);
	assert_int_equal(us, 1792792800000000ULL);
}

static void test_named_zone_does_not_stick(void **state _unused_)
{
	use_zone("Europe/Berlin");
	parse_time("2026-11-23 11:00:00 Asia/Tokyo");
	assert_string_equal(getenv("TZ"), "Europe/Berlin");
	assert_int_equal(parse_time("2026-11-23 11:00:00"), NOW);
}

static void test_bad_times(void **state _unused_)
{
	static const char *const cases[] = {
		"",
		"   ",
		"10",
		"1.5",
		"tenminutes",
		"10 potatoes",
		"25:00",
		"10:60",
		"10:00:61",
		"10:",
		"1:2:3",
		"2026-13-01",
		"2026-00-10",
		"2026-02-30",
		"2025-02-29",
		"2026-11-31",
		"1969-12-31",
		"2026-11",
		"2026/11/23",
		"Tue 2026-11-23",
		"2026-11-23T",
		"2026-11-23T25:00Z",
		"2026-11-23 10:00:00 Nowhere/City",
		"2026-11-23 10:00:00 ../../etc/passwd",
		"2026-11-23T10:00:00+25:00",
		"2026-11-23T10:00:00Zoo",
		"@",
		"@-1",
		"@abc",
		"@1.",
		"@99999999999999999999",
		"@1795428000000",
		"-",
		"+",
		"- 5 foo",
		"ago",
		" ago",
		"5min agoo",
		"infinity",
		"-infinity",
		"+999999999999y",
		"-100y",
		"10:00:00.",
		"now now",
		"today tomorrow",
		"\x01",
		"2026-11-23 10:00:00 +",
		"99999999999999999999:00",
	};

	use_zone("UTC");
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		const char *reason = NULL;
		uint64_t us = 4711;

		if (time_parse(cases[i], NOW, &us, &reason) >= 0)
			fail_msg("\"%s\" was taken as @%.6f", cases[i], us / 1e6);
		assert_non_null(reason);
		assert_int_equal(us, 4711);
	}
}

static void test_printed_times_read_back(void **state _unused_)
{
	static const char *const zones[] = { "UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu" };
	unsigned seed = 1;

	for (size_t i = 0; i < ELEMENTS_OF(zones); i++) {
		use_zone(zones[i]);
		for (int k = 0; k < 500; k++) {
			uint64_t us = (1000000000ULL + rand_r(&seed) % 1000000000) * USEC_PER_SEC, back;
			char buf[FORMAT_MAX], again[FORMAT_MAX];

			back = parse_time(time_format(buf, us));
			/* An hour that comes twice reads back as its first. */
			assert_true(back == us || back == us - 3600 * USEC_PER_SEC);
			assert_string_equal(time_format(again, back), buf);
			assert_int_equal(parse_time(time_format_long(buf, us)), us);
		}
	}
}

static void test_relative_times(void **state _unused_)
{
	char buf[FORMAT_MAX];

	assert_string_equal(time_format_relative(buf, NOW - 7384 * USEC_PER_SEC, NOW), "2h 3min ago");
	assert_string_equal(time_format_relative(buf, NOW + 5300000, NOW), "5s left");
	assert_string_equal(time_format_relative(buf, NOW - 1, NOW), "now");
}

/* ---- text ---- */

static void check_escape(const char *s, bool utf8, const char *want)
{
	_cleanup_free_ char *got = text_escape(s, utf8);

	assert_string_equal(got, want);
}

static void test_hostile_names_are_escaped(void **state _unused_)
{
	check_escape("plain name", true, "plain name");
	check_escape("\x1b[2J\x1b]0;gotcha\x07", true, "\\x1b[2J\\x1b]0;gotcha\\x07");
	check_escape("a\nb\tc\x7f", true, "a\\x0ab\\x09c\\x7f");
	check_escape("caf\xc3\xa9 \xe6\xbc\xa2", true, "caf\xc3\xa9 \xe6\xbc\xa2");
	check_escape("\xff\xfe ok \xc3", true, "\\xff\\xfe ok \\xc3");
	check_escape("\xc0\xaf", true, "\\xc0\\xaf");                     /* overlong */
	check_escape("\xed\xa0\x80", true, "\\xed\\xa0\\x80");            /* surrogate */
	check_escape("\xc2\x9b" "31m", true, "\\u009b31m");               /* CSI in eight bits */
	check_escape("\xe2\x80\xae" "gpj.exe", true, "\\u202egpj.exe");    /* right-to-left override */
	check_escape("zero\xe2\x80\x8bwidth", true, "zero\\u200bwidth");
	check_escape("\xf3\xa0\x81\x81tag", true, "\\U000e0041tag");
	check_escape("caf\xc3\xa9", false, "caf\\u00e9");
}

static void test_widths(void **state _unused_)
{
	assert_int_equal(text_width("abc"), 3);
	assert_int_equal(text_width("caf\xc3\xa9"), 4);
	assert_int_equal(text_width("\xe6\xbc\xa2\xe5\xad\x97"), 4);   /* two wide characters */
	assert_int_equal(text_width("e\xcc\x81"), 1);                  /* a combining accent */
}

static void check_cut(const char *s, size_t width, bool utf8, const char *want)
{
	_cleanup_free_ char *got = text_ellipsize(s, width, utf8);

	assert_string_equal(got, want);
	assert_true(text_width(got) <= width);
}

static void test_cutting_keeps_characters_whole(void **state _unused_)
{
	check_cut("abcdef", 6, true, "abcdef");
	check_cut("abcdef", 5, true, "abcd\xe2\x80\xa6");
	check_cut("abcdef", 5, false, "ab...");
	check_cut("\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2", 4, true, "\xe6\xbc\xa2\xe2\x80\xa6");
	check_cut("abcdef", 0, true, "");
	check_cut("abcdef", 2, false, "..");
}

/* ---- tables ---- */

static const struct table_column table_columns[] = {
	{ "NAME", .shrink = true },
	{ "N", .right = true },
	{ "LAST" },
};

/* Prints three rows, of which one is hostile and one wide; the caller frees. */
static char *print_rows(const struct term *term, bool legend)
{
	_cleanup_(table_freep) struct table *t = NULL;
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	assert_int_equal(table_new(&t, table_columns, ELEMENTS_OF(table_columns), term, legend, false), 0);
	table_cell(t, COLOUR_NONE, "plain");
	table_cellf(t, COLOUR_NONE, "%d", 1);
	table_cell(t, COLOUR_NONE, "x");
	table_cell(t, COLOUR_NONE,
	           "\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5"
	           "\xad\x97");
	table_cellf(t, COLOUR_NONE, "%d", 1000);
	table_cell(t, COLOUR_NONE, "");
	table_cell(t, COLOUR_RED, "\x1b[1m");
	table_cellf(t, COLOUR_NONE, "%d", 22);
	table_cell(t, COLOUR_NONE, "end");
	assert_int_equal(table_print(t, f), 0);
	assert_int_equal(table_rows(t), 0);
	fclose(f);
	return text;
}

static void test_table_lines_up_by_what_is_seen(void **state _unused_)
{
	static const struct term plain = { .utf8 = true }, narrow = { .utf8 = true, .columns = 24 },
				 colour = { .utf8 = true, .colour = true };
	_cleanup_free_ char *wide = print_rows(&plain, true), *cut = print_rows(&narrow, true),
			    *bare = print_rows(&plain, false), *coloured = print_rows(&colour, false);

	assert_string_equal(wide, "NAME                 N  LAST\n"
	                          "plain                1  x\n"
	                          "\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97"
	                          "\xe6\xbc\xa2\xe5\xad\x97  1000  \n"
	                          "\\x1b[1m             22  end\n");
	assert_string_equal(
		cut, "NAME             N  LAST\n"
		     "plain            1  x\n"
		     "\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe2\x80\xa6   1000  \n"
		     "\\x1b[1m         22  end\n");
	assert_null(strstr(bare, "NAME"));
	assert_non_null(strstr(coloured, "\x1b[0;1;31m\\x1b[1m\x1b[0m"));
}

static void test_rows_that_come_later_keep_the_columns(void **state _unused_)
{
	static const struct term plain = { .utf8 = true };
	_cleanup_(table_freep) struct table *t = NULL;
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	assert_int_equal(table_new(&t, table_columns, ELEMENTS_OF(table_columns), &plain, true, false), 0);
	for (int i = 0; i < 2; i++) {
		table_cell(t, COLOUR_NONE, i == 0 ? "long name" : "short");
		table_cell(t, COLOUR_NONE, "1");
		table_cell(t, COLOUR_NONE, "z");
		assert_int_equal(table_print(t, f), 0);
	}
	fclose(f);
	assert_string_equal(text, "NAME       N  LAST\nlong name  1  z\nshort      1  z\n");
}

/* ---- folded ---- */

static void check_folded(const char *name, const char *suffix, const char *want)
{
	_cleanup_free_ char *got = folded_name(name, suffix);

	assert_string_equal(got, want);
}

static void test_folded_names(void **state _unused_)
{
	check_folded("main", "", "main");
	check_folded("operator new(unsigned long)", "", "operator_new(unsigned_long)");
	check_folded("a;b", "", "a:b");
	check_folded("two\nlines\there", "", "two_lines_here");
	check_folded("", "", "[unknown]");
	check_folded("schedule", "_[k]", "schedule_[k]");
	check_folded("\x1b[0m", "", "\\x1b[0m");
	check_folded("name 42", "", "name_42");
}

/* Takes one reply's parameters and prints all of its stacks; the caller frees. */
static char *fold(const char *reply, int want)
{
	_cleanup_(folded_freep) struct folded *folded = NULL;
	_cleanup_(json_freep) struct json *root = NULL;
	const struct json *stacks;
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int r;

	assert_int_equal(json_parse(reply, strlen(reply), &root, NULL), 0);
	assert_int_equal(folded_new(&folded), 0);
	r = folded_add_frames(folded, json_get(root, "frames"));
	stacks = json_get(root, "stacks");
	for (size_t i = 0; r >= 0 && i < json_length(stacks); i++)
		r = folded_print(folded, json_at(stacks, i), f);
	fclose(f);
	assert_int_equal(r, want);
	return text;
}

#define FRAMES                                                                                               \
	"\"frames\":[{\"name\":\"main\",\"object\":\"a\",\"kind\":\"user\"},{\"name\":\"do "                 \
	"work\",\"object\":\"a\",\"kind\":\"user\"},"                                                        \
	"{\"name\":\"clear_page\",\"object\":\"[kernel]\",\"kind\":\"kernel\"}]"

static void test_folded_lines(void **state _unused_)
{
	_cleanup_free_ char *text = fold("{" FRAMES ",\"stacks\":["
	                                 "{\"stack\":\"0123456789abcdef\",\"value\":5,\"truncated\":false,"
	                                 "\"comm\":\"my prog\",\"frames\":[0,1,2]},"
	                                 "{\"stack\":\"0123456789abcdee\",\"value\":7,\"truncated\":true,"
	                                 "\"comm\":\"x\",\"frames\":[1]},"
	                                 "{\"stack\":\"0123456789abcded\",\"value\":0,\"truncated\":false,"
	                                 "\"comm\":\"x\",\"frames\":[0]}]}",
	                                 0);

	assert_string_equal(text, "my_prog;main;do_work;clear_page_[k] 5\nx;[truncated];do_work 7\n");
}

static void test_folded_refuses_frames_that_did_not_come(void **state _unused_)
{
	static const char *const indices[] = { "[0,3]", "[-1]", "[\"0\"]", "{}", "[0.5]", "null" };

	for (size_t i = 0; i < ELEMENTS_OF(indices); i++) {
		_cleanup_free_ char *text = NULL;
		char reply[512];

		snprintf(reply, sizeof(reply),
		         "{" FRAMES
		         ",\"stacks\":[{\"value\":5,\"truncated\":false,\"comm\":\"x\",\"frames\":%s}]}",
		         indices[i]);
		text = fold(reply, -EBADMSG);
		assert_string_equal(text, "");
	}
}

/* ---- figures and names ---- */

static void test_odds(void **state _unused_)
{
	char buf[FORMAT_MAX];

	assert_string_equal(format_odds(buf, 5e-8, 7.3), "1 in 2e7");
	assert_string_equal(format_odds(buf, 0.01, 2), "1 in 100");
	assert_string_equal(format_odds(buf, 9.6e-8, 7), "1 in 1e7");
	assert_string_equal(format_odds(buf, 0, 400), "1 in 1e400");
	assert_string_equal(format_odds(buf, 1, 0), "1 in 1");
}

static void test_rates(void **state _unused_)
{
	char buf[FORMAT_MAX];

	assert_string_equal(format_rate(buf, METRIC_ON_CPU, 1.8e9), "1.80s/s");
	assert_string_equal(format_rate(buf, METRIC_BLOCKED, 0), "0ns/s");
	assert_string_equal(format_rate(buf, METRIC_FAULTS_MINOR, 3100), "3.10k faults/s");
	assert_string_equal(format_rate(buf, METRIC_FAULTS_MAJOR, 0.25), "0.25 faults/s");
	assert_string_equal(format_rate(buf, METRIC_ON_CPU, -1), "0ns/s");
	assert_string_equal(format_rate(buf, METRIC_BRK, -4096), "-4.00KiB/s");
}

static void test_sparkline(void **state _unused_)
{
	static const double values[] = { 0, 0.001, 4, 8 };
	_cleanup_free_ char *bars = sparkline(values, ELEMENTS_OF(values), true),
			    *ascii = sparkline(values, ELEMENTS_OF(values), false);

	assert_string_equal(bars, " \xe2\x96\x81\xe2\x96\x84\xe2\x96\x88");
	assert_string_equal(ascii, " .=@");
}

static void check_telling(const char *frames, enum metric m, const char *want)
{
	_cleanup_(json_freep) struct json *root = NULL;
	_cleanup_free_ char *text = NULL;

	assert_true(asprintf(&text, "{\"frames\":[%s]}", frames) > 0);
	assert_int_equal(json_parse(text, strlen(text), &root, NULL), 0);
	assert_string_equal(telling_function(json_get(root, "frames"), m), want);
}

#define FRAME(name, object, kind) "{\"name\":\"" name "\",\"object\":\"" object "\",\"kind\":\"" kind "\"}"

static void test_telling_function(void **state _unused_)
{
	static const char wait[] =
		FRAME("main", "prog", "user") "," FRAME("wait_for_disk", "prog", "user") "," FRAME(
			"read", "libc.so.6",
			"user") "," FRAME("do_syscall_64", "[kernel]",
	                                  "kernel") "," FRAME("io_schedule", "[kernel]",
	                                                      "kernel") "," FRAME("__schedule", "[kernel]",
	                                                                          "kernel");

	check_telling(wait, METRIC_BLOCKED, "wait_for_disk");
	check_telling(FRAME("main", "prog", "user") "," FRAME("memcpy", "libc.so.6", "user"), METRIC_ON_CPU,
	              "memcpy");
	check_telling(FRAME("main", "prog", "user") "," FRAME("[prog+0x12]", "prog", "user"), METRIC_ON_CPU,
	              "main");
	check_telling(FRAME("[prog+0x12]", "prog", "user"), METRIC_ON_CPU, "[prog+0x12]");
	check_telling(FRAME("kthread", "[kernel]",
	                    "kernel") "," FRAME("worker_thread", "[kernel]",
	                                        "kernel") "," FRAME("schedule", "[kernel]", "kernel"),
	              METRIC_BLOCKED, "worker_thread");
	check_telling("", METRIC_ON_CPU, "-");
}

/* ---- options ---- */

static bool parse(struct options *o, const char *const *words, size_t n)
{
	char *argv[16] = { (char *) "stackctl" };
	int first;

	for (size_t i = 0; i < n; i++)
		argv[1 + i] = (char *) words[i];
	optind = 0;
	return options_parse(o, n + 1, argv, &first);
}

static void test_options(void **state _unused_)
{
	static const char *const good[] = { "flame",
		                            "--pid",
		                            "12",
		                            "-m",
		                            "faults_minor",
		                            "--since=1h",
		                            "--cgroup=/sys/fs/cgroup/system.slice",
		                            "--json=short" };
	struct options o;

	unsetenv("STACKD_SOCKET");
	assert_true(parse(&o, good, ELEMENTS_OF(good)));
	assert_int_equal(o.pid, 12);
	assert_int_equal(o.metric, METRIC_FAULTS_MINOR);
	assert_string_equal(o.cgroup, "/system.slice");
	assert_int_equal(o.json, JSON_SHORT);
	assert_int_equal(o.given, OPTION_PID | OPTION_METRIC | OPTION_SINCE | OPTION_CGROUP);
	assert_string_equal(o.socket, "/run/stackd/org.stackd");
}

static void test_bad_options_change_nothing(void **state _unused_)
{
	static const char *const bad[][3] = {
		{ "--pid", "0" },
		{ "--pid", "-1" },
		{ "--pid", "4194305" },
		{ "--pid", "12x" },
		{ "--metric", "cpu" },
		{ "--type", "odd" },
		{ "--stack", "123" },
		{ "--stack", "0123456789abcdeg" },
		{ "--by", "me" },
		{ "--lines", "0" },
		{ "--lines=many" },
		{ "-nmany" },
		{ "--for", "0" },
		{ "--for", "soon" },
		{ "--json=xml" },
		{ "--since", "10" },
		{ "--unit", "" },
		{ "--cgroup", "x" },
		{ "--nonsense" },
		{ "--since=10m", "--until=20m" },
		{ "--until", "25:00" },
	};
	int saved = dup(STDERR_FILENO);

	assert_non_null(freopen("/dev/null", "w", stderr));
	for (size_t i = 0; i < ELEMENTS_OF(bad); i++) {
		struct options o = { .pid = 4711 };

		if (parse(&o, bad[i], bad[i][1] ? 2 : 1))
			fail_msg("%s %s was taken", bad[i][0], bad[i][1] ? bad[i][1] : "");
		assert_int_equal(o.pid, 4711);
	}
	fflush(stderr);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
}

static int set_up(void **state _unused_)
{
	struct term t;

	term_setup(&t);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_times_utc),
		cmocka_unit_test(test_times_across_clock_changes),
		cmocka_unit_test(test_days_across_clock_changes),
		cmocka_unit_test(test_named_zone_does_not_stick),
		cmocka_unit_test(test_bad_times),
		cmocka_unit_test(test_printed_times_read_back),
		cmocka_unit_test(test_relative_times),
		cmocka_unit_test(test_hostile_names_are_escaped),
		cmocka_unit_test(test_widths),
		cmocka_unit_test(test_cutting_keeps_characters_whole),
		cmocka_unit_test(test_table_lines_up_by_what_is_seen),
		cmocka_unit_test(test_rows_that_come_later_keep_the_columns),
		cmocka_unit_test(test_folded_names),
		cmocka_unit_test(test_folded_lines),
		cmocka_unit_test(test_folded_refuses_frames_that_did_not_come),
		cmocka_unit_test(test_odds),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_sparkline),
		cmocka_unit_test(test_telling_function),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_bad_options_change_nothing),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
