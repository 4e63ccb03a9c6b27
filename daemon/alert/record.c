/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The record says what happened where; the line of this file that sends it is no news. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "record.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

void record_clear(struct record *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->fields[i].iov_base);
	r->n = 0;
	r->failed = false;
}

static void add_bytes(struct record *r, char *bytes, int size)
{
	if (size < 0 || r->n == RECORD_FIELDS_MAX) {
		r->failed = true;
		if (size >= 0)
			free(bytes);
		return;
	}
	r->fields[r->n++] = (struct iovec){ .iov_base = bytes, .iov_len = (size_t)size };
}

void record_add(struct record *r, const char *name, const char *value)
{
	char *field = NULL;
	int size;

	if (!value || !*value)
		return;
	size = asprintf(&field, "%s=%s", name, value);
	add_bytes(r, field, size);
}

void record_addf(struct record *r, const char *name, const char *format, ...)
{
	char value[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(value, sizeof(value), format, ap);
	va_end(ap);
	record_add(r, name, value);
}

/* libsystemd takes the lack of a journal for success, and blocks while the journal's queue is full. */
static int journal_ready(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };

	if (fd < 0)
		return negative_errno();
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return errno == ECONNREFUSED || errno == ENOTDIR ? -ENOENT : negative_errno();
	/* A datagram socket is writable when its peer's queue has room. */
	if (poll(&poll_fd, 1, 0) < 0)
		return negative_errno();
	return poll_fd.revents & POLLOUT ? 0 : -EAGAIN;
}

int record_send(const struct record *r)
{
	int e;

	if (r->failed)
		return -ENOMEM;
	e = journal_ready();
	if (e < 0)
		return e;
	return sd_journal_sendv(r->fields, (int)r->n);
}

/* The function at the top of the stack. For waits that is always the scheduler; who called it says more. */
static void top_function(const char *folded, char *buf, size_t size)
{
	static const char *const scheduler[] = { "schedule",         "__schedule",     "io_schedule",
						 "preempt_schedule", "__cond_resched", "do_nanosleep" };
	const char *end = folded + strlen(folded);

	for (;;) {
		const char *begin = end;
		bool skip = false;

		while (begin > folded && begin[-1] != ';')
			begin--;
		for (size_t i = 0; i < ELEMENTS_OF(scheduler); i++)
			skip |= begin > folded && strncmp(begin, scheduler[i], strlen(scheduler[i])) == 0;
		if (!skip) {
			snprintf(buf, size, "%.*s", (int)MIN(end - begin, (ptrdiff_t)size - 1), begin);
			return;
		}
		end = begin - 1;
	}
}

static char *format_rate(char buf[static FORMAT_MAX], enum metric m, double per_second)
{
	/* also false for NaN */
	uint64_t value = per_second > 0 ? per_second < 1e18 ? (uint64_t)per_second : (uint64_t)1e18 : 0;
	size_t at;

	format_metric(buf, m, value);
	at = strlen(buf);
	snprintf(buf + at, FORMAT_MAX - at, "/s");
	return buf;
}

static void format_odds(char *buf, size_t size, double p)
{
	double odds = p > 0 ? 1 / p : INFINITY;
	char scientific[32];
	int exponent = 0;

	if (!isfinite(odds)) {
		snprintf(buf, size, "beyond all odds");
		return;
	}
	if (odds < 9999.5) {
		snprintf(buf, size, "one in %.0f", odds);
		return;
	}
	/* printf rounds 9.7e4 up to 1e+05; its exponent in our spelling */
	snprintf(scientific, sizeof(scientific), "%.0e", odds);
	sscanf(strchr(scientific, 'e') + 1, "%d", &exponent);
	snprintf(buf, size, "one in %ce%d", scientific[0], exponent);
}

static const char *place_of(const struct alert_anomaly *a)
{
	return a->unit && *a->unit       ? a->unit
	       : a->cgroup && *a->cgroup ? a->cgroup
	       : a->exe && *a->exe       ? a->exe
					 : "unknown";
}

/* Length of the UTF-8 sequence at s; 0 when there is none. */
static size_t utf8_length(const unsigned char *s)
{
	size_t n = s[0] < 0x80                   ? 1
		   : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
		   : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
		   : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
						 : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

/* Processes name themselves: what would break the line, or make journalctl show "[blob data]", becomes
 * "?". */
static void make_printable(char *message)
{
	for (unsigned char *s = (unsigned char *)message; *s;) {
		size_t n = utf8_length(s);

		if (n == 0 || *s < 0x20 || *s == 0x7f) {
			*s++ = '?';
			continue;
		}
		s += n;
	}
}

char *record_anomaly_message(const struct alert_anomaly *a)
{
	char observed[FORMAT_MAX], expected[FORMAT_MAX], odds[64], function[128], who[64] = "";
	const char *metric = metric_to_string(a->metric), *comm = a->comm && *a->comm ? a->comm : "?";
	char *message = NULL;
	int n;

	format_rate(observed, a->metric, a->observed);
	format_rate(expected, a->metric, a->expected);
	format_odds(odds, sizeof(odds), a->p_value);
	top_function(a->folded && *a->folded ? a->folded : "[unknown]", function, sizeof(function));
	if (a->pid > 0)
		snprintf(who, sizeof(who), " (%s, pid %d)", comm, (int)a->pid);
	if (streq(a->type, "new-stack"))
		n = asprintf(&message, "new stack: %s of %s in %s%s is %s, %s", metric, function, place_of(a),
			     who, observed, odds);
	else if (streq(a->type, "vanished-stack"))
		n = asprintf(&message, "%s in %s%s fell silent, its usual %s was %s, %s", function,
			     place_of(a), who, metric, expected, odds);
	else if (streq(a->type, "cost-shift"))
		n = asprintf(&message, "more of what %s%s does is %s: %s rose from %s to %s, %s", place_of(a), who, function, metric, expected, observed, odds);
	else if (streq(a->type, "new-code"))
		n = asprintf(&message, "new code in %s%s: functions that were not there have %s of its %s, one is %s, %s", place_of(a), who, observed, metric,
			     function, odds);
	else if (streq(a->type, "slow-growth"))
		n = asprintf(&message, "memory of %s%s grows by %s, by what is allocated in %s, %s", place_of(a), who, observed, function, odds);
	else
		n = asprintf(&message, "%s of %s in %s%s %s from %s to %s, %s", metric, function, place_of(a),
			     who, a->observed < a->expected ? "fell" : "rose", expected, observed, odds);
	if (n < 0)
		return NULL;
	make_printable(message);
	return message;
}

/* Nothing where what moved is back. */
static const char *reason_of_end(const char *end)
{
	if (end && streq(end, "gave-way"))
		return ": it gave way to newer ones, as too many went on";
	if (end && streq(end, "ended"))
		return ": the program has ended";
	return end && streq(end, "usual") ? ": it has become usual" : "";
}

char *record_incident_message(const struct alert_incident *i)
{
	_cleanup_free_ char *what = record_anomaly_message(&i->anomaly);
	const char *name = i->name && *i->name ? i->name : i->kind;
	char lasted[FORMAT_MAX], *message = NULL;
	unsigned long long id = i->id;
	int n = -1;

	if (!what)
		return NULL;
	if (i->event == ALERT_OPENED)
		n = asprintf(&message, "incident %llu, %s: %s", id, name, what);
	else if (i->event == ALERT_ESCALATED)
		n = asprintf(&message, "incident %llu, %s, has grown tenfold: %s", id, name, what);
	else {
		format_timespan(lasted, i->closed_us > i->opened_us ? i->closed_us - i->opened_us : 0);
		n = asprintf(&message, "incident %llu, %s, is over after %s%s", id, name, lasted, reason_of_end(i->end));
	}
	if (n < 0)
		return NULL;
	make_printable(message);
	return message;
}
