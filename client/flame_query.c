/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flame_query.h"

#include <sys/stat.h>

#include "flame_intake.h"
#include "read_folded.h"

#define DEFAULT_WINDOW_US (15 * 60 * USEC_PER_SEC) /* stackd's own */
#define SETTLED_US (2 * USEC_PER_SEC)              /* the last moments may not have been drained yet */
#define PROCESSES_MOST 10000                       /* as many as stackd gives */
#define PROGRESS_NS (100 * NSEC_PER_USEC * USEC_PER_MSEC)
#define WATCHED_BUFFER (64 * 1024)

/* ---- one window ---- */

bool flame_of_window(struct flame **ret, struct flame_meta *meta, const struct options *o)
{
	_cleanup_(flame_freep) struct flame *f = NULL;
	struct flame_lines lines = {};
	struct intake in = { .side = FLAME_VALUE, .lines = o->given & OPTION_INLINES ? &lines : NULL };
	int r;

	if (!flame_tell(flame_new(&f, FLAME_PLAIN)))
		return false;
	in.flame = f;
	if (!intake_take(&in, o))
		return false;
	flame_set_window(meta, flame_metric(o), &in.provenance);
	r = flame_set_title(meta, o, 0, metric_to_string(flame_metric(o)), FLAME_OF_ALL);
	if (r >= 0)
		r = flame_note_window(meta, "", &in.provenance);
	if (r >= 0 && in.lines)
		r = flame_lines_note(&lines, meta, o);
	return flame_tell(r) && flame_finish(ret, &f, meta);
}

/* ---- on-CPU and off-CPU ---- */

struct exacts {
	struct flame_exact *rows;
	size_t n;
};

static bool take_processes(struct flame *f, const struct options *o, struct exacts *ret)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *processes;
	struct fields fields = {};
	int r = 0;

	if (!parameters)
		return false;
	put_filter(parameters, o);
	json_put_int(parameters, "limit", PROCESSES_MOST);
	if (!call_joined(&reply, o, "ListProcesses", parameters))
		return false;
	processes = field_array(&fields, reply, "processes");
	ret->rows = calloc(json_length(processes) + 1, sizeof(*ret->rows));
	if (!ret->rows)
		return flame_tell(-ENOMEM);
	for (size_t i = 0; r >= 0 && i < json_length(processes); i++) {
		const struct json *slice = json_at(processes, i), *values = field_object(&fields, slice, "values");
		struct flame_exact *e = &ret->rows[ret->n++];

		e->on = field_value(values, METRIC_ON_CPU);
		e->off = field_value(values, METRIC_OFF_CPU);
		r = flame_intern(f, field_string(&fields, field_object(&fields, slice, "process"), "comm"), "",
		                 FLAME_PROCESS, &e->process);
	}
	if (ret->n == PROCESSES_MOST)
		log_warning("There were more than %d processes: the rest is as wide as its stacks say. Of a shorter window, a unit or a control group all are counted.",
		            PROCESSES_MOST);
	return fields_are_good(&fields) && flame_tell(r);
}

static int note_settled(struct flame_meta *meta, const struct flame_settled *s)
{
	char without[FORMAT_MAX], over[FORMAT_MAX], unknown[FORMAT_MAX];

	return flame_meta_note(meta, "wall time as the kernel counted it: %s without a stack, %s too much by stacks, "
	                             "%s of processes not counted",
	                       flame_format(without, meta, s->without_stack), flame_format(over, meta, s->over),
	                       flame_format(unknown, meta, s->unknown));
}

void flame_settle_window(struct options *o)
{
	if (!(o->given & OPTION_UNTIL))
		o->until_us = o->import ? o->recorded_until_us : o->now_us - SETTLED_US;
	if (!(o->given & OPTION_SINCE))
		o->since_us = o->import ? o->recorded_since_us : o->until_us - DEFAULT_WINDOW_US;
	o->given |= OPTION_RANGE;
}

bool flame_of_hot_cold(struct flame **ret, struct flame_meta *meta, const struct options *o)
{
	static const enum metric metrics[] = { METRIC_ON_CPU, METRIC_OFF_CPU };
	static const enum flame_kind states[] = { FLAME_ON_CPU, FLAME_OFF_CPU };
	_cleanup_(flame_freep) struct flame *f = NULL;
	struct options window = *o;
	struct exacts exacts = {};
	struct flame_settled settled;
	struct intake in = {};
	bool good;
	int r;

	if (!flame_tell(flame_new(&f, FLAME_HOT_COLD)))
		return false;
	flame_settle_window(&window);
	window.given |= OPTION_METRIC;
	for (size_t i = 0; i < ELEMENTS_OF(metrics); i++) {
		in = (struct intake) { .flame = f, .side = FLAME_VALUE, .state = states[i] };
		window.metric = metrics[i];
		if (!intake_take(&in, &window))
			return false;
	}
	good = take_processes(f, &window, &exacts);
	r = good ? flame_settle(f, exacts.rows, exacts.n, &settled) : 0;
	free(exacts.rows);
	if (!good || !flame_tell(r))
		return false;
	flame_set_window(meta, METRIC_OFF_CPU, &in.provenance);
	r = flame_set_title(meta, o, 0, "on-cpu and off-cpu", FLAME_OF_ALL);
	if (r >= 0)
		r = flame_note_window(meta, "", &in.provenance);
	if (r >= 0)
		r = note_settled(meta, &settled);
	return flame_tell(r) && flame_finish(ret, &f, meta);
}

/* ---- a file ---- */

/* A file that takes long tells how far it is, on a terminal. */
struct watched {
	FILE *file;
	uint64_t size, at, told_ns;
	bool shown;
};

static ssize_t read_watched(void *userdata, char *bytes, size_t n)
{
	struct watched *w = userdata;
	uint64_t now_ns = clock_monotonic_ns();
	ssize_t r = read(fileno(w->file), bytes, n);

	w->at += r > 0 ? (uint64_t)r : 0;
	if (now_ns - w->told_ns >= PROGRESS_NS) {
		w->told_ns = now_ns;
		w->shown = true;
		/* Whatever is printed next takes its place. */
		fprintf(stderr, "Reading: %3.0f%%\r", 100.0 * (double)MIN(w->at, w->size) / (double)w->size);
	}
	return r;
}

static int close_watched(void *userdata)
{
	struct watched *w = userdata;

	if (w->shown)
		fputs("              \r", stderr);
	return fclose(w->file);
}

static FILE *open_watched(struct watched *w, const char *path)
{
	const cookie_io_functions_t functions = { .read = read_watched, .close = close_watched };
	FILE *file = fopen(path, "re"), *watched;
	struct stat st;

	if (!file || !isatty(STDERR_FILENO) || fstat(fileno(file), &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
		return file;
	*w = (struct watched) { .file = file, .size = (uint64_t)st.st_size, .told_ns = clock_monotonic_ns() };
	watched = fopencookie(w, "r", functions);
	if (watched)
		setvbuf(watched, NULL, _IOFBF, WATCHED_BUFFER);
	return watched ? watched : file;
}

bool flame_read_file(struct flame *f, const char *path, enum flame_side side, bool one_value)
{
	struct watched watched;
	_cleanup_fclose_ FILE *file = open_watched(&watched, path);
	struct folded_error error = {};
	int r;

	if (!file) {
		log_error("Can't read %s: %s.", path, strerror(errno));
		return false;
	}
	r = one_value ? read_folded(f, file, side, &error) : read_folded_any(f, file, &error);
	if (r == -EBADMSG)
		log_error("%s:%zu: no folded stack: %s.", path, error.line, error.reason);
	else if (r == -E2BIG)
		log_error("%s:%zu: there are more stacks than fit into one picture.", path, error.line);
	else if (r < 0)
		log_error("Can't read %s: %s.", path, strerror(-r));
	return r >= 0;
}

const char *flame_base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

bool flame_of_file(struct flame **ret, struct flame_meta *meta, const struct options *o, const char *path)
{
	_cleanup_(flame_freep) struct flame *f = NULL;
	const char *title = o->given & OPTION_TITLE ? o->title : flame_base_name(path);

	if (!flame_tell(flame_new(&f, FLAME_PLAIN)) || !flame_read_file(f, path, FLAME_VALUE, false))
		return false;
	meta->metric = METRIC_ALL_N;
	meta->unit = "";
	meta->title = text_escape(title, true);
	return flame_tell(meta->title ? 0 : -ENOMEM) && flame_finish(ret, &f, meta);
}
