/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "timestamp.h"

#include <ctype.h>
#include <limits.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#define ZONEINFO "/usr/share/zoneinfo"
#define LATEST_S 253402300799LL /* the end of the year 9999 */

/* A time as written: the date and the time of the day, not yet tied to a zone. */
struct clock_reading {
	struct tm tm;
	uint32_t us;
	int weekday; /* -1: none was given */
};

enum zone_kind { ZONE_LOCAL, ZONE_OFFSET, ZONE_NAMED };

struct zone {
	enum zone_kind kind;
	int offset_s; /* east of Greenwich */
	int dst;      /* ZONE_LOCAL: -1, or which of the zone's two names was given */
	char name[64];
};

static int fail(const char **ret_reason, int r, const char *reason)
{
	*ret_reason = reason;
	return r;
}

/* ---- small scanners: each moves *p past what it took, and leaves it alone when it took nothing ---- */

static bool scan_digits(const char **p, size_t least, size_t most, int *ret)
{
	size_t n = strspn(*p, "0123456789");
	int v = 0;

	if (n < least || n > most)
		return false;
	for (size_t i = 0; i < n; i++)
		v = v * 10 + ((*p)[i] - '0');
	*p += n;
	*ret = v;
	return true;
}

/* ".123456": more than six digits are cut off, for microseconds are all that is kept. */
static bool scan_fraction(const char **p, uint32_t *ret_us)
{
	uint32_t us = 0, scale = 100000;
	size_t n;

	if (**p != '.' && **p != ',')
		return true;
	n = strspn(*p + 1, "0123456789");
	if (n == 0)
		return false;
	for (size_t i = 0; i < n; i++, scale /= 10)
		us += ((*p)[1 + i] - '0') * scale;
	*p += 1 + n;
	*ret_us = us;
	return true;
}

static bool scan_word(const char **p, const char *word)
{
	size_t n = strlen(word);

	if (strncasecmp(*p, word, n) != 0 || isalnum((unsigned char)(*p)[n]))
		return false;
	*p += n;
	return true;
}

static void skip_blanks(const char **p)
{
	*p += strspn(*p, " \t");
}

static int scan_weekday(const char **p)
{
	static const char *const days[] = { "Sunday",   "Monday", "Tuesday", "Wednesday",
		                            "Thursday", "Friday", "Saturday" };

	for (size_t i = 0; i < ELEMENTS_OF(days); i++) {
		char shorter[4] = { days[i][0], days[i][1], days[i][2] };

		if (scan_word(p, days[i]) || scan_word(p, shorter)) {
			*p += strspn(*p, ", \t");
			return i;
		}
	}
	return -1;
}

static int days_in_month(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap);
}

/* 0: no date here. */
static int scan_date(const char **p, struct tm *tm, const char **ret_reason)
{
	const char *q = *p;
	int year, month, day;
	size_t digits = strspn(q, "0123456789");

	if ((digits != 2 && digits != 4) || q[digits] != '-')
		return 0;
	if (!scan_digits(&q, 2, 4, &year) || *q++ != '-' || !scan_digits(&q, 1, 2, &month) || *q++ != '-' ||
	    !scan_digits(&q, 1, 2, &day))
		return fail(ret_reason, -EINVAL, "a date is written YYYY-MM-DD");
	if (digits == 2)
		year += year < 69 ? 2000 : 1900;
	if (year < 1970)
		return fail(ret_reason, -ERANGE, "the year must be 1970 or later");
	if (month < 1 || month > 12)
		return fail(ret_reason, -ERANGE, "the month must be from 1 to 12");
	if (day < 1 || day > days_in_month(year, month))
		return fail(ret_reason, -ERANGE, "there is no such day in that month");
	tm->tm_year = year - 1900;
	tm->tm_mon = month - 1;
	tm->tm_mday = day;
	*p = q;
	return 1;
}

/* 0: no time of the day here. */
static int scan_time_of_day(const char **p, struct clock_reading *c, const char **ret_reason)
{
	const char *q = *p;
	int hour, minute, second = 0;

	if (!scan_digits(&q, 1, 2, &hour) || *q != ':')
		return 0;
	q++;
	if (!scan_digits(&q, 2, 2, &minute))
		return fail(ret_reason, -EINVAL, "a time of the day is written HH:MM or HH:MM:SS");
	if (*q == ':') {
		q++;
		if (!scan_digits(&q, 2, 2, &second) || !scan_fraction(&q, &c->us))
			return fail(ret_reason, -EINVAL, "a time of the day is written HH:MM or HH:MM:SS");
	}
	if (hour > 23)
		return fail(ret_reason, -ERANGE, "the hour must be from 0 to 23");
	if (minute > 59)
		return fail(ret_reason, -ERANGE, "the minute must be from 0 to 59");
	if (second > 60)
		return fail(ret_reason, -ERANGE, "the second must be from 0 to 60");
	c->tm.tm_hour = hour;
	c->tm.tm_min = minute;
	c->tm.tm_sec = second;
	*p = q;
	return 1;
}

static bool scan_offset(const char **p, int *ret_s)
{
	const char *q = *p + 1;
	int hours, minutes = 0, sign = **p == '-' ? -1 : 1;

	if (**p != '+' && **p != '-')
		return false;
	if (!scan_digits(&q, 2, 2, &hours)) {
		/* "+0100" */
		if (!scan_digits(&q, 4, 4, &hours))
			return false;
		minutes = hours % 100;
		hours /= 100;
	} else if (*q == ':') {
		q++;
		if (!scan_digits(&q, 2, 2, &minutes))
			return false;
	}
	if (hours > 23 || minutes > 59)
		return false;
	*ret_s = sign * (hours * 3600 + minutes * 60);
	*p = q;
	return true;
}

static bool is_zone_name(const char *s)
{
	char path[sizeof(ZONEINFO) + 64];
	struct stat st;

	if (!isupper((unsigned char)*s) || strstr(s, "..") ||
	    strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/") != strlen(s))
		return false;
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", ZONEINFO, s) >= sizeof(path))
		return false;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* Takes what is left as the zone; nothing is the local zone. */
static int scan_zone(const char *p, struct zone *ret, const char **ret_reason)
{
	struct zone z = { .kind = ZONE_LOCAL, .dst = -1 };

	skip_blanks(&p);
	tzset();
	if (!*p) {
		*ret = z;
		return 0;
	}
	if (scan_offset(&p, &z.offset_s) || scan_word(&p, "Z") || scan_word(&p, "UTC")) {
		if (*p)
			return fail(ret_reason, -EINVAL, "there is something behind the time zone");
		z.kind = ZONE_OFFSET;
	} else if (streq(p, tzname[0]) || streq(p, tzname[1])) {
		z.dst = !streq(p, tzname[0]);
	} else if (is_zone_name(p)) {
		z.kind = ZONE_NAMED;
		copy_string(z.name, sizeof(z.name), p);
	} else {
		return fail(ret_reason, -EINVAL, "what follows the time is no known time zone");
	}
	*ret = z;
	return 0;
}

/* ---- from a reading of the clock to a moment ---- */

static bool same_reading(const struct tm *a, const struct tm *b)
{
	return a->tm_year == b->tm_year && a->tm_mon == b->tm_mon && a->tm_mday == b->tm_mday &&
	       a->tm_hour == b->tm_hour && a->tm_min == b->tm_min && a->tm_sec == b->tm_sec;
}

/* mktime() with tm_isdst = -1 depends on the calls before it when a reading comes twice, so both cases are
 * tried. */
static time_t local_to_epoch(const struct tm *reading, int dst)
{
	time_t best = -1;

	for (int is_dst = 0; is_dst <= 1; is_dst++) {
		struct tm tm = *reading;
		time_t t;

		if (dst >= 0 && is_dst != dst)
			continue;
		tm.tm_isdst = is_dst;
		t = mktime(&tm);
		if (t != -1 && tm.tm_isdst == is_dst && same_reading(&tm, reading) &&
		    (best == -1 || t < best))
			best = t;
	}
	if (best == -1) {
		/* Skipped by a clock change: by standard time it is the moment that the old offset would have
		 * given. */
		struct tm tm = *reading;

		tm.tm_isdst = 0;
		best = mktime(&tm);
	}
	return best;
}

/* The TZ variable for as long as a named zone is needed. */
static int zone_enter(const char *name, char **ret_saved)
{
	const char *old = getenv("TZ");
	_cleanup_free_ char *saved = NULL;
	char value[72];

	if (old) {
		saved = strdup(old);
		if (!saved)
			return -ENOMEM;
	}
	snprintf(value, sizeof(value), ":%s", name);
	if (setenv("TZ", value, true) < 0)
		return negative_errno();
	tzset();
	*ret_saved = TAKE_PTR(saved);
	return 0;
}

static void zone_leave(const char *saved)
{
	if (saved)
		setenv("TZ", saved, true);
	else
		unsetenv("TZ");
	tzset();
}

static int today_in_zone(time_t now, const struct zone *z, struct tm *ret)
{
	time_t shifted = now + z->offset_s;

	return (z->kind == ZONE_OFFSET ? gmtime_r(&shifted, ret) : localtime_r(&now, ret)) ? 0 : -ERANGE;
}

static int reading_to_us(const struct clock_reading *c, const struct zone *z, uint64_t *ret_us,
                         const char **ret_reason)
{
	struct tm tm = c->tm;
	bool leap_second = tm.tm_sec == 60;
	time_t t;

	/* A leap second has no reading of its own in POSIX time. */
	if (leap_second)
		tm.tm_sec = 59;
	t = z->kind == ZONE_OFFSET ? timegm(&tm) - z->offset_s : local_to_epoch(&tm, z->dst);
	if (t < 0 || t > LATEST_S)
		return fail(ret_reason, -ERANGE, "it is before 1970 or after 9999");
	if (c->weekday >= 0) {
		struct tm day = { .tm_year = tm.tm_year, .tm_mon = tm.tm_mon, .tm_mday = tm.tm_mday };

		timegm(&day);
		if (day.tm_wday != c->weekday)
			return fail(ret_reason, -EINVAL, "that date is another day of the week");
	}
	*ret_us = (t + leap_second) * USEC_PER_SEC + c->us;
	return 0;
}

/* "today" and its like give a date by their distance from today; INT_MIN: not such a word. */
static int scan_day_word(const char **p)
{
	static const struct {
		const char *word;
		int days;
	} words[] = { { "today", 0 }, { "yesterday", -1 }, { "tomorrow", 1 } };

	for (size_t i = 0; i < ELEMENTS_OF(words); i++)
		if (scan_word(p, words[i].word))
			return words[i].days;
	return INT_MIN;
}

static int shift_date(struct tm *tm, int days)
{
	struct tm noon = {
		.tm_year = tm->tm_year, .tm_mon = tm->tm_mon, .tm_mday = tm->tm_mday + days, .tm_hour = 12
	};

	if (timegm(&noon) == -1)
		return -ERANGE;
	tm->tm_year = noon.tm_year;
	tm->tm_mon = noon.tm_mon;
	tm->tm_mday = noon.tm_mday;
	return 0;
}

static int parse_in_zone(const struct clock_reading *reading, bool has_date, int day_shift,
                         const struct zone *z, uint64_t now_us, uint64_t *ret_us, const char **ret_reason)
{
	struct clock_reading c = *reading;
	struct tm today;

	if (!has_date) {
		if (today_in_zone(now_us / USEC_PER_SEC, z, &today) < 0 || shift_date(&today, day_shift) < 0)
			return fail(ret_reason, -ERANGE, "it is out of range");
		c.tm.tm_year = today.tm_year;
		c.tm.tm_mon = today.tm_mon;
		c.tm.tm_mday = today.tm_mday;
	}
	return reading_to_us(&c, z, ret_us, ret_reason);
}

static int parse_absolute(const char *s, uint64_t now_us, uint64_t *ret_us, const char **ret_reason)
{
	struct clock_reading c = { .weekday = -1 };
	const char *p = s;
	int has_date, has_time = 0, day_shift, r;
	_cleanup_free_ char *saved = NULL;
	struct zone z;

	c.weekday = scan_weekday(&p);
	day_shift = scan_day_word(&p);
	has_date = day_shift != INT_MIN ? 0 : scan_date(&p, &c.tm, ret_reason);
	if (has_date < 0)
		return has_date;
	if (day_shift == INT_MIN) {
		if (has_date && (*p == 'T' || *p == 't')) {
			p++;
			has_time = scan_time_of_day(&p, &c, ret_reason);
			if (has_time == 0)
				return fail(ret_reason, -EINVAL, "a time of the day must follow the \"T\"");
		} else {
			skip_blanks(&p);
			has_time = scan_time_of_day(&p, &c, ret_reason);
		}
		if (has_time < 0)
			return has_time;
		if (!has_date && !has_time)
			return fail(ret_reason, -EINVAL,
				"expected such as \"10m\", \"-5min\", \"10:00\", \"2026-11-23 10:00:00\", "
				"\"today\" or \"@1795428000\", see systemd.time(7)");
	}
	r = scan_zone(p, &z, ret_reason);
	if (r < 0)
		return r;
	if (z.kind == ZONE_NAMED) {
		r = zone_enter(z.name, &saved);
		if (r < 0)
			return fail(ret_reason, r, "there is no memory");
	}
	r = parse_in_zone(&c, has_date, day_shift != INT_MIN ? day_shift : 0, &z, now_us, ret_us, ret_reason);
	if (z.kind == ZONE_NAMED)
		zone_leave(saved);
	return r;
}

/* ---- distances from now, and from the epoch ---- */

static int shift(uint64_t now_us, const char *span, bool back, uint64_t *ret_us, const char **ret_reason)
{
	uint64_t us;
	int r;

	r = parse_timespan(span, &us);
	if (r == -EINVAL)
		return fail(ret_reason, r,
		            "what follows the sign, or comes before \"ago\" or \"left\", is no time span "
		            "such as \"5min\" or \"1h 30min\"");
	if (r < 0 || us == USEC_INFINITY)
		return fail(ret_reason, -ERANGE, "the time span is too long");
	if (back ? us > now_us : us > LATEST_S * USEC_PER_SEC - now_us)
		return fail(ret_reason, -ERANGE, "it is before 1970 or after 9999");
	*ret_us = back ? now_us - us : now_us + us;
	return 0;
}

static int parse_epoch(const char *s, uint64_t *ret_us, const char **ret_reason)
{
	size_t n = strspn(s, "0123456789");
	const char *rest = s + n;
	uint32_t fraction = 0;
	char number[24];
	uint64_t t;

	if (n == 0 || n >= sizeof(number))
		return fail(ret_reason, -EINVAL, "\"@\" is followed by the seconds since 1970");
	memcpy(number, s, n);
	number[n] = 0;
	if (!scan_fraction(&rest, &fraction) || *rest)
		return fail(ret_reason, -EINVAL, "\"@\" is followed by the seconds since 1970");
	if (parse_u64(number, &t) < 0 || t > (uint64_t)LATEST_S)
		return fail(ret_reason, -ERANGE, "it is after 9999; \"@\" takes seconds");
	*ret_us = t * USEC_PER_SEC + fraction;
	return 0;
}

static bool cut_suffix(char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	if (n <= m || !streq(s + n - m, suffix))
		return false;
	s[n - m] = 0;
	return true;
}

int time_parse(const char *s, uint64_t now_us, uint64_t *ret_us, const char **ret_reason)
{
	_cleanup_free_ char *copy = NULL;
	uint64_t us;

	skip_blanks(&s);
	copy = strdup(s);
	if (!copy)
		return fail(ret_reason, -ENOMEM, "there is no memory");
	for (size_t n = strlen(copy); n > 0 && strchr(" \t", copy[n - 1]); n--)
		copy[n - 1] = 0;

	if (!*copy)
		return fail(ret_reason, -EINVAL, "it is empty");
	if (strcasecmp(copy, "now") == 0) {
		*ret_us = now_us;
		return 0;
	}
	if (*copy == '@')
		return parse_epoch(copy + 1, ret_us, ret_reason);
	if (*copy == '-' || *copy == '+')
		return shift(now_us, copy + 1, *copy == '-', ret_us, ret_reason);
	if (cut_suffix(copy, " ago"))
		return shift(now_us, copy, true, ret_us, ret_reason);
	if (cut_suffix(copy, " left"))
		return shift(now_us, copy, false, ret_us, ret_reason);
	if (strspn(copy, "0123456789.") == strlen(copy))
		return fail(ret_reason, -EINVAL,
		            "a bare number can mean many things; write \"10m\", \"10:00\" or \"@10\"");
	if (parse_timespan(copy, &us) != -EINVAL)
		return shift(now_us, copy, true, ret_us, ret_reason);
	return parse_absolute(copy, now_us, ret_us, ret_reason);
}

/* ---- writing ---- */

/* No machine has run for so long, nor is any clock of the day so far back. */
#define OWN_CLOCK_US (3650ULL * 24 * 3600 * USEC_PER_SEC)

/* Of a recording's own clock, which began when its machine did: shown as perf script prints it. */
static bool is_own_clock(uint64_t us)
{
	return us > 0 && us < OWN_CLOCK_US;
}

static char *format_local(char buf[static FORMAT_MAX], uint64_t us, const char *format)
{
	time_t t = us / USEC_PER_SEC;
	struct tm tm;

	if (is_own_clock(us))
		snprintf(buf, FORMAT_MAX, "%llu.%06llu", (unsigned long long)(us / USEC_PER_SEC), (unsigned long long)(us % USEC_PER_SEC));
	else if (us == 0 || !localtime_r(&t, &tm) || strftime(buf, FORMAT_MAX, format, &tm) == 0)
		snprintf(buf, FORMAT_MAX, "n/a");
	return buf;
}

char *time_format(char buf[static FORMAT_MAX], uint64_t us)
{
	return format_local(buf, us, "%Y-%m-%d %H:%M:%S");
}

char *time_format_exact(char buf[static FORMAT_MAX], uint64_t us)
{
	size_t n = strlen(time_format(buf, us));

	if (us % USEC_PER_SEC && !is_own_clock(us))
		snprintf(buf + n, FORMAT_MAX - n, us % USEC_PER_MSEC ? ".%06llu" : ".%03llu",
		         (unsigned long long)(us % USEC_PER_SEC / (us % USEC_PER_MSEC ? 1 : USEC_PER_MSEC)));
	return buf;
}

char *time_format_short(char buf[static FORMAT_MAX], uint64_t us)
{
	return format_local(buf, us, "%b %d %H:%M:%S");
}

char *time_format_long(char buf[static FORMAT_MAX], uint64_t us)
{
	return format_local(buf, us, "%a %Y-%m-%d %H:%M:%S %Z");
}

char *time_format_relative(char buf[static FORMAT_MAX], uint64_t us, uint64_t now_us)
{
	uint64_t distance = us > now_us ? us - now_us : now_us - us;
	char span[FORMAT_MAX];

	/* Below a minute seconds are enough for a person. */
	if (distance >= USEC_PER_SEC)
		distance -= distance % USEC_PER_SEC;
	if (distance < USEC_PER_SEC)
		snprintf(buf, FORMAT_MAX, "now");
	else
		snprintf(buf, FORMAT_MAX, "%.50s %s", format_timespan(span, distance),
		         us > now_us ? "left" : "ago");
	return buf;
}
