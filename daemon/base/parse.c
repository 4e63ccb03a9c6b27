/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base.h"

#include <ctype.h>
#include <locale.h>
#include <math.h>

int parse_u64(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t) (*s - '0'), &v))
			return -ERANGE;
	}
	*ret = v;
	return 0;
}

static locale_t c_locale(void)
{
	static locale_t locale;

	if (!locale)
		locale = newlocale(LC_ALL_MASK, "C", (locale_t) 0);
	return locale;
}

int parse_double(const char *s, double *ret)
{
	char *end;
	double v;

	/* strtod_l() would take leading blanks, hexadecimal numbers, "inf" and "nan". */
	if (strspn(s, "+-.0123456789eE") != strlen(s) || !*s)
		return -EINVAL;
	v = strtod_l(s, &end, c_locale());
	if (*end || end == s)
		return -EINVAL;
	if (!isfinite(v))
		return -ERANGE;
	*ret = v;
	return 0;
}

int parse_bool(const char *s, bool *ret)
{
	static const char *const yes[] = { "yes", "true", "on", "1" }, *const no[] = { "no", "false", "off", "0" };

	for (size_t i = 0; i < ELEMENTS_OF(yes); i++) {
		if (strcasecmp(s, yes[i]) == 0) {
			*ret = true;
			return 0;
		}
		if (strcasecmp(s, no[i]) == 0) {
			*ret = false;
			return 0;
		}
	}
	return -EINVAL;
}

int parse_size(const char *s, uint64_t *ret)
{
	static const char suffixes[] = "KMGT";
	_cleanup_free_ char *number = strdup(s);
	size_t n = strlen(s);
	uint64_t v;
	int shift = 0, r;

	if (!number)
		return -ENOMEM;
	if (n > 0 && number[n - 1] == 'B')
		number[--n] = 0;
	if (n > 0) {
		const char *suffix = strchr(suffixes, number[n - 1]);

		if (number[n - 1] && suffix) {
			shift = 10 * (suffix - suffixes + 1);
			number[--n] = 0;
		}
	}
	r = parse_u64(number, &v);
	if (r < 0)
		return r;
	if (v > UINT64_MAX >> shift)
		return -ERANGE;
	*ret = v << shift;
	return 0;
}

/* The units of systemd.time(7). */
static const struct {
	const char *name;
	uint64_t us;
} time_units[] = {
	{ "seconds", USEC_PER_SEC }, { "second", USEC_PER_SEC }, { "sec", USEC_PER_SEC }, { "s", USEC_PER_SEC },
	{ "minutes", 60 * USEC_PER_SEC }, { "minute", 60 * USEC_PER_SEC }, { "min", 60 * USEC_PER_SEC }, { "m", 60 * USEC_PER_SEC },
	{ "months", 2629800 * USEC_PER_SEC }, { "month", 2629800 * USEC_PER_SEC }, { "M", 2629800 * USEC_PER_SEC },
	{ "msec", USEC_PER_MSEC }, { "ms", USEC_PER_MSEC },
	{ "hours", 3600 * USEC_PER_SEC }, { "hour", 3600 * USEC_PER_SEC }, { "hr", 3600 * USEC_PER_SEC }, { "h", 3600 * USEC_PER_SEC },
	{ "days", 86400 * USEC_PER_SEC }, { "day", 86400 * USEC_PER_SEC }, { "d", 86400 * USEC_PER_SEC },
	{ "weeks", 604800 * USEC_PER_SEC }, { "week", 604800 * USEC_PER_SEC }, { "w", 604800 * USEC_PER_SEC },
	{ "years", 31557600 * USEC_PER_SEC }, { "year", 31557600 * USEC_PER_SEC }, { "y", 31557600 * USEC_PER_SEC },
	{ "usec", 1 }, { "us", 1 }, { "µs", 1 },
};

static int parse_time_unit(const char *s, size_t n, uint64_t *ret_us)
{
	if (n == 0) {
		*ret_us = USEC_PER_SEC;
		return 0;
	}
	for (size_t i = 0; i < ELEMENTS_OF(time_units); i++)
		if (strlen(time_units[i].name) == n && memcmp(time_units[i].name, s, n) == 0) {
			*ret_us = time_units[i].us;
			return 0;
		}
	return -EINVAL;
}

int parse_timespan(const char *s, uint64_t *ret_us)
{
	static const char blanks[] = " \t";
	uint64_t sum = 0;
	bool any = false;

	s += strspn(s, blanks);
	if (streq(s, "infinity")) {
		*ret_us = USEC_INFINITY;
		return 0;
	}
	for (;;) {
		char number[32];
		uint64_t unit_us;
		size_t n;
		double v;
		int r;

		s += strspn(s, blanks);
		if (!*s)
			break;
		n = strspn(s, "0123456789.");
		if (n == 0 || n >= sizeof(number))
			return -EINVAL;
		memcpy(number, s, n);
		number[n] = 0;
		r = parse_double(number, &v);
		if (r < 0)
			return r;
		s += n;
		s += strspn(s, blanks);
		n = strcspn(s, " \t0123456789.");
		r = parse_time_unit(s, n, &unit_us);
		if (r < 0)
			return r;
		s += n;
		v = v * unit_us + 0.5;
		if (v >= 9e18 || __builtin_add_overflow(sum, (uint64_t) v, &sum))
			return -ERANGE;
		any = true;
	}
	if (!any)
		return -EINVAL;
	*ret_us = sum;
	return 0;
}

char *format_timespan(char buf[static FORMAT_MAX], uint64_t us)
{
	static const struct {
		const char *name;
		uint64_t us;
	} units[] = { { "d", 86400 * USEC_PER_SEC }, { "h", 3600 * USEC_PER_SEC }, { "min", 60 * USEC_PER_SEC } };
	size_t at = 0;
	int parts = 0;

	if (us == USEC_INFINITY) {
		snprintf(buf, FORMAT_MAX, "infinity");
		return buf;
	}
	if (us < USEC_PER_MSEC) {
		snprintf(buf, FORMAT_MAX, us ? "%uus" : "0", (unsigned) us);
		return buf;
	}
	if (us < USEC_PER_SEC) {
		snprintf(buf, FORMAT_MAX, "%.4gms", us / 1e3);
		return buf;
	}
	buf[0] = 0;
	for (size_t i = 0; i < ELEMENTS_OF(units) && parts < 2; i++) {
		if (us < units[i].us)
			continue;
		at += snprintf(buf + at, FORMAT_MAX - at, "%s%llu%s", at ? " " : "", (unsigned long long) (us / units[i].us), units[i].name);
		us %= units[i].us;
		parts++;
	}
	if (parts < 2 && us >= USEC_PER_MSEC) {
		if (parts)
			us -= us % USEC_PER_SEC;
		if (us)
			snprintf(buf + at, FORMAT_MAX - at, "%s%.4gs", at ? " " : "", us / 1e6);
	}
	return buf;
}

char *format_size(char buf[static FORMAT_MAX], uint64_t bytes)
{
	static const char suffixes[] = "BKMGTPE";
	double v = bytes;
	size_t i = 0;

	while (v >= 1023.5 && suffixes[i + 1]) {
		v /= 1024;
		i++;
	}
	snprintf(buf, FORMAT_MAX, i == 0 || v >= 99.95 ? "%.0f%c" : "%.1f%c", v, suffixes[i]);
	return buf;
}

/* ---- units and control groups ---- */

#define CGROUP_ROOT "/sys/fs/cgroup"

static const char *const unit_suffixes[] = {
	".service", ".scope",  ".socket",    ".mount", ".swap", ".slice",
	".target",  ".device", ".automount", ".timer", ".path",
};

static bool has_unit_suffix(const char *s)
{
	for (size_t i = 0; i < ELEMENTS_OF(unit_suffixes); i++) {
		size_t n = strlen(s), m = strlen(unit_suffixes[i]);

		if (n > m && streq(s + n - m, unit_suffixes[i]))
			return true;
	}
	return false;
}

bool is_unit_name(const char *s)
{
	const char *at = strchr(s, '@');

	if (s[0] == '@' || (at && at[1] == '.' && !strchr(at + 2, '.')))
		return false;
	for (const char *c = s; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr(":-_.\\@", *c))
			return false;
	return has_unit_suffix(s);
}

int parse_unit(const char *s, char ret[static WORKLOAD_NAME_SIZE])
{
	char name[WORKLOAD_NAME_SIZE];

	if (!*s || !copy_string(name, sizeof(name), s))
		return -EINVAL;
	if (!has_unit_suffix(name) && (size_t)snprintf(name, sizeof(name), "%s.service", s) >= sizeof(name))
		return -EINVAL;
	if (!is_unit_name(name))
		return -EINVAL;
	copy_string(ret, WORKLOAD_NAME_SIZE, name);
	return 0;
}

int parse_cgroup(const char *s, char ret[static WORKLOAD_NAME_SIZE])
{
	char path[WORKLOAD_NAME_SIZE];
	size_t n = strlen(CGROUP_ROOT);

	if (strncmp(s, CGROUP_ROOT, n) == 0 && (s[n] == '/' || !s[n]))
		s = s[n] ? s + n : "/";
	if (*s != '/' || !copy_string(path, sizeof(path), s))
		return -EINVAL;
	for (n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
		path[n - 1] = '\0';
	for (const char *c = path; c; c = strchr(c + 1, '/')) {
		size_t length = strcspn(c + 1, "/");

		if ((length == 1 && c[1] == '.') || (length == 2 && c[1] == '.' && c[2] == '.'))
			return -EINVAL;
	}
	copy_string(ret, WORKLOAD_NAME_SIZE, path);
	return 0;
}
