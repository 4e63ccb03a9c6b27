/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base.h"

#include <setjmp.h>
#include <time.h>

#include <cmocka.h>

static void test_timespan(void **state _unused_)
{
	static const struct {
		const char *text;
		uint64_t us;
	} good[] = {
		{ "5", 5000000 }, { "10m", 600000000 }, { "1h 30min", 5400000000 }, { "1h30min", 5400000000 },
		{ "2.5s", 2500000 }, { "12ms", 12000 }, { "7us", 7 }, { " 1 d ", 86400000000 }, { "1w", 604800000000 },
		{ "0", 0 }, { "infinity", USEC_INFINITY },
	};
	static const char *const bad[] = { "", " ", "m", "10x", "-5", "1..2s", "10mm", "1e3", "nan", "10 m x" };
	uint64_t us;

	for (size_t i = 0; i < ELEMENTS_OF(good); i++) {
		assert_int_equal(parse_timespan(good[i].text, &us), 0);
		assert_true(us == good[i].us);
	}
	for (size_t i = 0; i < ELEMENTS_OF(bad); i++) {
		us = 42;
		assert_int_equal(parse_timespan(bad[i], &us), -EINVAL);
		assert_true(us == 42);
	}
	assert_int_equal(parse_timespan("99999999999999999y", &us), -ERANGE);
}

static void test_numbers(void **state _unused_)
{
	uint64_t u;
	double d;
	bool b;

	assert_int_equal(parse_u64("18446744073709551615", &u), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(parse_u64("18446744073709551616", &u), -ERANGE);
	assert_int_equal(parse_u64("-1", &u), -EINVAL);
	assert_int_equal(parse_u64("", &u), -EINVAL);
	assert_int_equal(parse_u64("1 ", &u), -EINVAL);
	assert_int_equal(parse_double("5.25", &d), 0);
	assert_true(d == 5.25);
	assert_int_equal(parse_double("nan", &d), -EINVAL);
	assert_int_equal(parse_double("0x10", &d), -EINVAL);
	assert_int_equal(parse_double("1e999", &d), -ERANGE);
	assert_int_equal(parse_double(".", &d), -EINVAL);
	assert_int_equal(parse_size("64M", &u), 0);
	assert_true(u == 64 << 20);
	assert_int_equal(parse_size("1", &u), 0);
	assert_true(u == 1);
	assert_int_equal(parse_size("M", &u), -EINVAL);
	assert_int_equal(parse_size("99999999T", &u), -ERANGE);
	assert_int_equal(parse_bool("Yes", &b), 0);
	assert_true(b);
	assert_int_equal(parse_bool("maybe", &b), -EINVAL);
}

static void test_format(void **state _unused_)
{
	char buf[FORMAT_MAX];

	assert_string_equal(format_timespan(buf, 0), "0");
	assert_string_equal(format_timespan(buf, 12000), "12ms");
	assert_string_equal(format_timespan(buf, 2500000), "2.5s");
	assert_string_equal(format_timespan(buf, 5400000000), "1h 30min");
	assert_string_equal(format_timespan(buf, 61000000), "1min 1s");
	assert_string_equal(format_timespan(buf, USEC_INFINITY), "infinity");
	assert_string_equal(format_size(buf, 64 << 20), "64.0M");
	assert_string_equal(format_size(buf, 512), "512B");
	assert_string_equal(format_metric(buf, METRIC_ON_CPU, 1250000000), "1.25s");
	assert_string_equal(format_metric(buf, METRIC_ON_CPU, 999), "999ns");
	assert_string_equal(format_metric(buf, METRIC_FAULTS_MINOR, 3100), "3.10k faults");
	assert_string_equal(format_metric(buf, METRIC_MMAP, 512), "512B");
	assert_string_equal(format_metric(buf, METRIC_MMAP, (uint64_t)-12 << 20), "-12.0MiB");
	assert_string_equal(format_metric(buf, METRIC_BRK, (uint64_t)1 << 50), "1024TiB");
	assert_string_equal(format_metric(buf, METRIC_BRK, (uint64_t)INT64_MIN), "-8388608TiB");
}

static void test_metric_names(void **state _unused_)
{
	enum metric m;

	for (unsigned i = 0; i < METRIC_ALL_N; i++) {
		assert_int_equal(metric_from_string(metric_to_string(i), &m), 0);
		assert_int_equal(m, i);
	}
	assert_int_equal(metric_from_string("faults_major", &m), 0);
	assert_int_equal(m, METRIC_FAULTS_MAJOR);
	assert_int_equal(metric_from_string("on-cp", &m), -EINVAL);
	assert_int_equal(metric_from_string("on-cpux", &m), -EINVAL);
	assert_null(metric_to_string(METRIC_ALL_N));
}

/* Against a plain array over many random insertions, replacements and removals in a small key space. */
static void test_map64(void **state _unused_)
{
	enum { KEYS = 300, MAX_ENTRIES = 200 };
	_cleanup_(map64_freep) struct map64 *m = NULL;
	uint64_t model[KEYS], v, k;
	bool in[KEYS] = {};
	size_t n = 0, cursor = 0, walked = 0;
	unsigned seed = time(NULL);

	print_message("# seed %u\n", seed);
	srand(seed);
	assert_int_equal(map64_new(&m, MAX_ENTRIES), 0);
	for (int i = 0; i < 200000; i++) {
		unsigned key = rand() % KEYS;

		if (rand() % 5 < 2) {
			assert_int_equal(map64_remove(m, key * 64), in[key]);
			n -= in[key];
			in[key] = false;
		} else {
			int r = map64_put(m, key * 64, i);

			assert_int_equal(r, !in[key] && n == MAX_ENTRIES ? -ENOSPC : 0);
			if (r == 0) {
				n += !in[key];
				in[key] = true;
				model[key] = i;
			}
		}
		assert_int_equal(map64_size(m), n);
		key = rand() % KEYS;
		assert_int_equal(map64_get(m, key * 64, &v), in[key]);
		if (in[key])
			assert_true(v == model[key]);
	}
	while (map64_next(m, &cursor, &k, &v)) {
		assert_true(in[k / 64] && model[k / 64] == v);
		walked++;
	}
	assert_int_equal(walked, n);
}

static void test_read_small_file(void **state _unused_)
{
	_cleanup_free_ char *text = NULL;
	size_t size;

	assert_int_equal(read_small_file(-1, "/proc/self/stat", 4096, &text, &size), 0);
	assert_int_equal(strlen(text), size);
	assert_int_equal(read_small_file(-1, "/proc/self/maps", 8, &text, &size), -EFBIG);
	assert_int_equal(read_small_file(-1, "/nonexistent", 8, &text, &size), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timespan), cmocka_unit_test(test_numbers), cmocka_unit_test(test_format),
		cmocka_unit_test(test_metric_names), cmocka_unit_test(test_map64), cmocka_unit_test(test_read_small_file),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
