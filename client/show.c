/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "show.h"

#include <math.h>
#include <poll.h>

#include "pager.h"
#include "timestamp.h"

#define JSON_OUTPUT_MAX (1024UL * 1024 * 1024) /* bytes of one document on stdout */

void show_begin(const struct options *o)
{
	if (!o->no_pager)
		pager_open();
}

/* errno of the write that failed: stdio keeps only that one did. */
static int write_errno;

bool show_is_over(void)
{
	errno = 0;
	if (fflush(stdout) != 0 && !write_errno)
		write_errno = errno;
	return ferror(stdout);
}

static bool reader_has_gone(void)
{
	struct pollfd stdout_fd = { .fd = STDOUT_FILENO };

	return write_errno == EPIPE || (poll(&stdout_fd, 1, 0) > 0 && stdout_fd.revents & POLLERR);
}

int show_finish(int status)
{
	if (show_is_over() && !reader_has_gone()) {
		log_error("Can't write to stdout: %s.",
		          write_errno ? strerror(write_errno) : "an earlier write failed");
		status = EXIT_FAILURE;
	}
	pager_close();
	return status;
}

struct json_writer *show_json_writer(const struct options *o)
{
	struct json_writer *w;

	if (json_writer_new(&w, JSON_OUTPUT_MAX) < 0) {
		log_error("Out of memory.");
		return NULL;
	}
	json_writer_set_pretty(w, o->json == JSON_PRETTY);
	return w;
}

bool show_json_written(struct json_writer *w)
{
	const char *text;
	size_t size;
	int r;

	r = json_writer_finish(w, &text, &size);
	if (r < 0) {
		log_error("Can't write JSON: %s.", strerror(-r));
		return false;
	}
	fwrite(text, 1, size, stdout);
	fputc('\n', stdout);
	return true;
}

bool show_json(const struct options *o, const struct json *v)
{
	_cleanup_(json_writer_freep) struct json_writer *w = show_json_writer(o);

	if (!w)
		return false;
	if (v) {
		json_write_value(w, v);
	} else {
		json_open_object(w);
		json_close_object(w);
	}
	show_begin(o);
	return show_json_written(w);
}

bool show_table(const struct options *o, struct table *t, const char *what)
{
	int r;

	if (table_rows(t) == 0) {
		if (!o->quiet)
			printf("-- No %s --\n", what);
		return true;
	}
	show_begin(o);
	r = table_print(t, stdout);
	if (r < 0)
		log_error("Can't print: %s.", strerror(-r));
	return r == 0;
}

/* ---- figures ---- */

char *format_count(char buf[static FORMAT_MAX], uint64_t n)
{
	char *blank;

	/* The metric's unit is what follows the blank. */
	format_metric(buf, METRIC_HITS, n);
	blank = strchr(buf, ' ');
	if (blank)
		*blank = 0;
	return buf;
}

char *format_rate(char buf[static FORMAT_MAX], enum metric m, double per_second)
{
	if (metric_is_signed(m))
		return strcat(format_metric(buf, m, (uint64_t)(int64_t)MAX(MIN(round(per_second), 1e18), -1e18)), "/s");
	if (!(per_second >= 0))
		per_second = 0;
	if (per_second < 10 && !streq(metric_unit(m), "ns"))
		snprintf(buf, FORMAT_MAX, "%.2g %s/s", per_second, metric_unit(m));
	else
		strcat(format_metric(buf, m, (uint64_t)MIN(per_second + 0.5, 1e18)), "/s");
	return buf;
}

char *format_odds(char buf[static FORMAT_MAX], double p_value, double score)
{
	double exponent, mantissa;

	if (p_value > 0)
		score = -log10(p_value);
	if (score < 4) {
		snprintf(buf, FORMAT_MAX, "1 in %.0f", pow(10, MAX(score, 0.0)));
		return buf;
	}
	exponent = floor(score);
	mantissa = round(pow(10, score - exponent));
	if (mantissa >= 10) {
		mantissa = 1;
		exponent++;
	}
	snprintf(buf, FORMAT_MAX, "1 in %.0fe%.0f", mantissa, exponent);
	return buf;
}

char *format_share(char buf[static FORMAT_MAX], uint64_t part, uint64_t whole)
{
	if (whole == 0)
		snprintf(buf, FORMAT_MAX, "-");
	else
		snprintf(buf, FORMAT_MAX, "%.1f%%", 100.0 * part / whole);
	return buf;
}

char *format_uncertainty(char buf[static FORMAT_MAX], int64_t value, double standard_error)
{
	double percent = 100 * 1.96 * standard_error / fabs((double)value);

	if (standard_error < 0 || value == 0)
		snprintf(buf, FORMAT_MAX, "-");
	else if (percent > 999)
		snprintf(buf, FORMAT_MAX, ">999%%");
	else
		snprintf(buf, FORMAT_MAX, "%.*f%%", percent > 0 && percent < 9.95, percent);
	return buf;
}

double standard_error_in(const struct json *row, const char *key)
{
	int64_t error;

	return json_get_int(row, key, &error) > 0 ? (double)error : -1;
}

double standard_error_of(const struct json *standard_errors, enum metric m)
{
	switch (m) {
	case METRIC_HEAP:
	case METRIC_RSS:
	case METRIC_KMEM:
		return -1;
	case METRIC_OFF_CPU: /* of the same draws */
		return standard_error_of(standard_errors, METRIC_BLOCKED) + standard_error_of(standard_errors, METRIC_RUNNABLE);
	case METRIC_FAULTS_FILE:
	case METRIC_FAULTS_ANON:
		return hypot(standard_error_of(standard_errors, METRIC_FAULTS_MINOR), standard_error_of(standard_errors, METRIC_FAULTS_MAJOR));
	default:
		return MAX(standard_error_in(standard_errors, metric_on_wire(m)), 0.0);
	}
}

char *sparkline(const double *values, size_t n, bool utf8)
{
	static const char *const bars[] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	static const char *const ascii[] = { " ", ".", ":", "-", "=", "+", "*", "#", "@" };
	const size_t levels = ELEMENTS_OF(bars) - 1;
	double most = 0;
	char *line, *p;

	line = p = malloc(n * strlen(bars[levels]) + 1);
	if (!line)
		return NULL;
	for (size_t i = 0; i < n; i++)
		most = MAX(most, values[i]);
	for (size_t i = 0; i < n; i++) {
		/* Only what is zero shows nothing. */
		size_t level = values[i] > 0 ? MAX((size_t)1, (size_t)lround(values[i] / most * levels)) : 0;

		p = stpcpy(p, utf8 ? bars[level] : ascii[level]);
	}
	*p = 0;
	return line;
}

/* ---- processes and frames ---- */

char *format_pid(char buf[static FORMAT_MAX], int64_t pid)
{
	if (pid == 0)
		snprintf(buf, FORMAT_MAX, "(others)");
	else
		snprintf(buf, FORMAT_MAX, "%lld", (long long)pid);
	return buf;
}

char *format_process(char buf[static FORMAT_MAX], const struct json *process)
{
	const char *comm = "";
	int64_t pid = 0;

	json_get_string(process, "comm", &comm);
	json_get_int(process, "pid", &pid);
	if (!process)
		snprintf(buf, FORMAT_MAX, "-");
	else if (pid == 0)
		snprintf(buf, FORMAT_MAX, "%.40s (others)", comm);
	else
		snprintf(buf, FORMAT_MAX, "%.40s[%lld]", comm, (long long)pid);
	return buf;
}

const char *where_of(const struct json *object)
{
	const char *unit = "", *cgroup = "";

	json_get_string(object, "unit", &unit);
	json_get_string(object, "cgroup", &cgroup);
	return *unit ? unit : *cgroup ? cgroup : "-";
}

static bool begins_with_any(const char *s, const char *const *prefixes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strncmp(s, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

/* The way into the kernel and to the scheduler, on every stack of its kind. */
static bool is_plumbing(const char *name)
{
	static const char *const prefixes[] = {
		"__schedule", "schedule", "io_schedule", "preempt_schedule", "finish_task_switch",
		"entry_SYSCALL", "do_syscall_", "el0", "el1h", "asm_exc_", "asm_sysvec_", "ret_from_fork",
		"kthread",
	};

	return begins_with_any(name, prefixes, ELEMENTS_OF(prefixes));
}

/* The C library and the loader wait and fault on behalf of those who call them. */
static bool is_runtime(const char *object)
{
	static const char *const prefixes[] = { "libc.so", "libc-",     "libpthread", "ld-linux",
		                                "ld-musl", "libstdc++", "[vdso]" };

	return begins_with_any(object, prefixes, ELEMENTS_OF(prefixes));
}

struct frame_view {
	const char *name, *object, *kind;
};

static struct frame_view view_of(const struct json *frame)
{
	struct frame_view f = { "", "", "unknown" };

	json_get_string(frame, "name", &f.name);
	json_get_string(frame, "object", &f.object);
	json_get_string(frame, "kind", &f.kind);
	return f;
}

static bool is_named(const struct frame_view *f)
{
	return *f->name && *f->name != '[';
}

const char *telling_function(const struct json *frames, enum metric m)
{
	bool of_program = m != METRIC_ON_CPU && m != METRIC_HITS;
	const char *own = NULL, *user = NULL, *any = NULL, *innermost = "-";
	size_t n = json_length(frames);

	for (size_t i = n; i-- > 0;) {
		struct frame_view f = view_of(json_at(frames, i));
		bool is_kernel = streq(f.kind, "kernel");

		if (i == n - 1 && *f.name)
			innermost = f.name;
		if (!is_named(&f))
			continue;
		if (!any && !(is_kernel && is_plumbing(f.name)))
			any = f.name;
		if (!user && !is_kernel)
			user = f.name;
		if (!own && !is_kernel && !is_runtime(f.object))
			own = f.name;
	}
	if (of_program && (own || user))
		return own ? own : user;
	return any ? any : innermost;
}

void show_window(const struct options *o, enum metric m, const struct json *window)
{
	char since[FORMAT_MAX], until[FORMAT_MAX];
	struct fields f = {};

	if (!o->verbose || !window)
		return;
	fprintf(stderr, "%s from %s to %s, gate open for %lld s, mean load %.2f, %lld lost\n",
	        metric_to_string(m), time_format(since, field_int(&f, window, "since_us")),
	        time_format(until, field_int(&f, window, "until_us")), field_int(&f, window, "gate_open_s"),
	        field_float(&f, window, "load_mean"), field_int(&f, window, "lost"));
}
