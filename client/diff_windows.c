/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flame_query.h"
#include "imports.h"
#include "timestamp.h"

/* Samples of the last moments may not have been drained yet. */
#define SETTLED_US (2 * USEC_PER_SEC)

/* Zones' names have slashes, too, so any of them may be the one. */
int parse_window(const char *s, uint64_t now_us, struct time_window *ret, const char **ret_reason)
{
	*ret_reason = "a window is SINCE/UNTIL or SINCE/+SPAN";
	for (const char *slash = strchr(s, '/'); slash; slash = strchr(slash + 1, '/')) {
		_cleanup_free_ char *since = strndup(s, slash - s);
		const char *until = slash + 1, *reason;
		struct time_window w;
		uint64_t span_us;

		if (!since)
			return -ENOMEM;
		if (time_parse(since, now_us, &w.since_us, &reason) < 0)
			continue;
		if (*until == '+') {
			if (parse_timespan(until + 1, &span_us) < 0 || span_us > INT64_MAX - w.since_us)
				continue;
			w.until_us = w.since_us + span_us;
		} else if (time_parse(until, now_us, &w.until_us, &reason) < 0) {
			continue;
		}
		if (w.since_us >= w.until_us) {
			*ret_reason = "a window ends before it begins";
			return -EINVAL;
		}
		if (w.since_us > now_us) {
			*ret_reason = "a window begins in the future";
			return -EINVAL;
		}
		*ret = w;
		return 0;
	}
	return -EINVAL;
}

static int parse_span(const char *s, uint64_t now_us, struct time_window *ret_before,
                      struct time_window *ret_after, const char **ret_reason)
{
	uint64_t span_us, end_us = now_us - SETTLED_US;

	*ret_reason = "it is neither two windows (SINCE/UNTIL..SINCE/UNTIL), nor two imports (NAME..NAME), nor two processes (pid:A..pid:B), nor a time "
		      "span (5min); two files are two arguments";
	if (parse_timespan(s, &span_us) < 0 || span_us == 0 || span_us > end_us / 2)
		return -EINVAL;
	*ret_before = (struct time_window) { end_us - 2 * span_us, end_us - span_us };
	*ret_after = (struct time_window) { end_us - span_us, end_us };
	return 0;
}

int parse_diff(const char *s, uint64_t now_us, struct time_window *ret_before, struct time_window *ret_after,
               const char **ret_reason)
{
	const char *dots = strstr(s, "..");
	_cleanup_free_ char *before = NULL;
	int r;

	if (!dots)
		return parse_span(s, now_us, ret_before, ret_after, ret_reason);
	before = strndup(s, dots - s);
	if (!before)
		return -ENOMEM;
	r = parse_window(before, now_us, ret_before, ret_reason);
	return r < 0 ? r : parse_window(dots + 2, now_us, ret_after, ret_reason);
}

/* A process of that number, and nothing behind it. */
static bool parse_pid(const char *s, pid_t *ret)
{
	uint64_t pid;

	if (parse_u64(s, &pid) < 0 || pid == 0 || pid > PID_LIMIT)
		return false;
	*ret = (pid_t)pid;
	return true;
}

int parse_diff_pids(const char *s, pid_t ret[static 2])
{
	static const char key[] = "pid:";
	const char *dots = strstr(s, "..");
	char before[16];
	pid_t pids[2];

	if (!dots || strncmp(s, key, sizeof(key) - 1) != 0 || strncmp(dots + 2, key, sizeof(key) - 1) != 0)
		return 0;
	s += sizeof(key) - 1;
	if ((size_t)(dots - s) >= sizeof(before))
		return 0;
	snprintf(before, sizeof(before), "%.*s", (int)(dots - s), s);
	if (!parse_pid(before, &pids[0]) || !parse_pid(dots + 2 + sizeof(key) - 1, &pids[1]))
		return 0;
	memcpy(ret, pids, sizeof(pids));
	return 1;
}

/* Paths may have dots, too, which names of imports have no two of. */
int parse_diff_names(const char *s, char **ret_before, const char **ret_after)
{
	for (const char *dots = strstr(s, ".."); dots; dots = strstr(dots + 1, "..")) {
		_cleanup_free_ char *before = strndup(s, dots - s);
		const char *after = dots + 2;
		bool one, other;

		if (!before)
			return -ENOMEM;
		one = import_name_is_valid(before);
		other = import_name_is_valid(after);
		if ((one && (other || strchr(after, '/'))) || (other && strchr(before, '/'))) {
			*ret_before = TAKE_PTR(before);
			*ret_after = after;
			return 1;
		}
	}
	return 0;
}
