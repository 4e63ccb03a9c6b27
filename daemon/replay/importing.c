/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "importing.h"

#include <sys/stat.h>

#include "reading.h"
#include "recorded.h"
#include "report.h"
#include "wire.h"

#define PROGRESS_NS (50 * NSEC_PER_USEC * USEC_PER_MSEC)
#define DAMAGE_MAX 256

/* ---- how far it is ---- */

struct progress {
	uint64_t size; /* 0: nobody is told */
	uint64_t told_ns;
	bool shown;
};

static void show_progress(void *userdata, uint64_t offset)
{
	struct progress *p = userdata;
	uint64_t now_ns = clock_monotonic_ns();

	if (now_ns - p->told_ns < PROGRESS_NS)
		return;
	p->told_ns = now_ns;
	p->shown = true;
	/* Whatever is printed next takes its place. */
	fprintf(stderr, "Reading: %3.0f%%\r", 100 * (double)MIN(offset, p->size) / (double)p->size);
}

static void begin_progress(struct progress *p, struct source *source)
{
	struct stat st;

	*p = (struct progress){ .told_ns = clock_monotonic_ns() };
	if (!isatty(STDERR_FILENO) || fstat(source->fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
		return;
	p->size = (uint64_t)st.st_size;
	source->on_read = show_progress;
	source->userdata = p;
}

static void end_progress(struct progress *p, struct source *source)
{
	source->on_read = NULL;
	if (p->shown)
		fputs("              \r", stderr);
}

/* ---- what it is, in a line ---- */

struct about {
	const char *path, *format, *clock;
	char damage[DAMAGE_MAX]; /* "": none */
	uint64_t samples, left_out, lost, since_us, until_us;
	const struct report_event *events;
	size_t n_events;
};

struct sums {
	uint64_t values[METRIC_N];
};

static int add_slice(void *userdata, const struct store_slice_sum *slice)
{
	struct sums *s = userdata;

	for (enum metric m = 0; m < METRIC_N; m++)
		s->values[m] += metric_magnitude(m, slice->values[m]);
	return 0;
}

static void put_metric_key(struct json_writer *w, const char *key, enum metric m)
{
	json_put_string(w, key, metric_to_string(m));
}

static void put_events(struct json_writer *w, const struct about *about)
{
	json_key(w, "events");
	json_open_array(w);
	for (size_t i = 0; i < about->n_events; i++) {
		json_open_object(w);
		json_put_string(w, "event", about->events[i].name);
		put_metric_key(w, "metric", about->events[i].metric);
		json_put_u64(w, "samples", about->events[i].samples);
		json_close_object(w);
	}
	json_close_array(w);
}

static void put_metrics(struct json_writer *w, const struct about *about, struct store *store)
{
	const struct store_filter all = { .since_us = about->since_us, .until_us = about->until_us, .viewer_uid = STORE_ANY_UID };
	struct sums sums = {};

	(void)store_visit_slices(store, &all, add_slice, &sums);
	json_key(w, "metrics");
	json_open_object(w);
	for (enum metric m = 0; m < METRIC_N; m++)
		if (sums.values[m] > 0)
			json_put_u64(w, metric_to_string(m), sums.values[m]);
	json_close_object(w);
}

static void put_about(struct json_writer *w, const struct about *about, const struct import_rooms *rooms)
{
	_cleanup_free_ char *whole = realpath(about->path, NULL);
	struct clusters_status clusters;
	struct store_status store;

	store_get_status(rooms->store, &store);
	clusters_get_status(rooms->clusters, &clusters);
	json_open_object(w);
	json_put_string(w, "source", whole ?: about->path);
	json_put_string(w, "format", about->format);
	json_put_u64(w, "imported_us", clock_realtime_us());
	json_put_string(w, "clock", about->clock);
	json_put_u64(w, "since_us", about->since_us);
	json_put_u64(w, "until_us", about->until_us);
	if (about->damage[0])
		json_put_string(w, "damage", about->damage);
	json_put_u64(w, "samples", about->samples);
	json_put_u64(w, "left_out", about->left_out);
	json_put_u64(w, "lost", about->lost);
	put_events(w, about);
	put_metrics(w, about, rooms->store);
	json_put_u64(w, "stacks", store.stacks);
	json_put_u64(w, "processes", store.processes);
	json_put_u64(w, "reclaimed", store.reclaimed_series + store.reclaimed_slices + store.full);
	json_put_u64(w, "anomalies", store.anomalies);
	json_put_u64(w, "incidents", clusters.incidents);
	json_put_u64(w, "clusters", clusters.classes);
	json_close_object(w);
}

static int write_import(FILE *file, const struct about *about, const struct import_rooms *rooms)
{
	_cleanup_(json_writer_freep) struct json_writer *w = NULL;
	const char *line;
	size_t size;
	int r = json_writer_new(&w, IMPORT_LINE_MAX);

	if (r < 0)
		return r;
	put_about(w, about, rooms);
	r = json_writer_finish(w, &line, &size);
	if (r >= 0)
		r = import_write(file, line, rooms);
	if (r < 0)
		log_error("can't write the import: %s", strerror(-r));
	return r;
}

/* ---- what perf writes ---- */

/* What came before a damage is imported; any other failure is one of all. */
static int take_damage(const struct import_options *o, int r, const struct stack_error *error, struct about *about)
{
	if (r >= 0)
		return 0;
	if (r == -E2BIG)
		snprintf(about->damage, sizeof(about->damage), "longer than %u days", REPORT_TICKS_MAX / 86400);
	else if (r == -EBADMSG)
		snprintf(about->damage, sizeof(about->damage), error->is_line ? "line %llu: %s" : "at byte %llu: %s",
			 (unsigned long long)error->place, error->what);
	else
		return r;
	if (about->samples == 0)
		return r;
	log_warning("%s: %s; what came before is imported", o->path, about->damage);
	return 0;
}

static int import_stacks(struct source *source, const struct import_options *o, FILE *file)
{
	const struct report_config config = {
		.false_alarms_per_day = o->false_alarms_per_day > 0 ? o->false_alarms_per_day : REPORT_FALSE_ALARMS,
		.keep = true,
		.untimed = o->untimed,
	};
	_cleanup_(report_freep) struct report *report = NULL;
	struct report_summary summary;
	struct import_rooms rooms;
	struct stack_error error = {};
	struct stack_origin origin = {};
	struct progress progress;
	struct about about = { .path = o->path };
	int r = report_new(&report, &config);

	if (r < 0) {
		log_error("can't make room for a history: %s", strerror(-r));
		return r;
	}
	begin_progress(&progress, source);
	r = read_stacks(source, &o->stack, report_add, report, &error, &origin);
	end_progress(&progress, source);
	report_summarize(report, &summary);
	about.samples = summary.samples;
	r = take_damage(o, r, &error, &about);
	if (r < 0) {
		tell_stack_error(o->path, r, &error);
		return r;
	}
	r = report_end(report);
	if (r == -ENODATA)
		log_error("%s: there are no samples in it", o->path);
	else if (r < 0)
		log_error("%s: %s", o->path, strerror(-r));
	if (r < 0)
		return r;
	about.format = origin.format;
	about.clock = !summary.timed ? "none" : origin.realtime ? "realtime" : "recording";
	about.left_out = summary.left_out;
	about.lost = origin.lost;
	about.since_us = summary.since_us;
	about.until_us = summary.until_us;
	about.events = summary.events;
	about.n_events = summary.n_events;
	rooms = report_rooms(report);
	return write_import(file, &about, &rooms);
}

/* ---- what stackd record writes ---- */

static int run_recorded(const struct import_options *o, struct recorded *recorded, struct about *about)
{
	struct recording_error error = {};
	struct recorded_status s;
	int r = recorded_run(recorded, &error);

	recorded_get_status(recorded, &s);
	if (r == -EBADMSG && s.ticks > 0) {
		snprintf(about->damage, sizeof(about->damage), "at byte %llu: %s", (unsigned long long)error.offset, error.what);
		log_warning("%s: %s; what came before is imported", o->path, about->damage);
		r = 0;
	}
	if (r >= 0 && s.ticks == 0) {
		log_error("%s: there are no samples in it", o->path);
		return -ENODATA;
	}
	if (r == -EBADMSG)
		log_error("%s: at byte %llu: %s", o->path, (unsigned long long)error.offset, error.what);
	else if (r < 0)
		log_error("%s: %s", o->path, strerror(-r));
	about->samples = s.samples;
	about->lost = s.lost;
	about->since_us = s.begin_us;
	about->until_us = s.end_us;
	return r;
}

static int import_recorded(struct source *source, const struct import_options *o, FILE *file)
{
	const struct recorded_options options = { .false_alarms_per_day = o->false_alarms_per_day, .moments = true };
	struct about about = { .path = o->path, .format = "stackd record", .clock = "realtime" };
	_cleanup_(recorded_freep) struct recorded *recorded = NULL;
	struct recording_error error = {};
	struct import_rooms rooms;
	struct progress progress;
	int r = recorded_new(&recorded, source, &options, &error);

	if (r == -EBADMSG)
		log_error("%s: at byte %llu: %s", o->path, (unsigned long long)error.offset, error.what);
	else if (r < 0)
		log_error("%s: %s", o->path, strerror(-r));
	if (r < 0)
		return r;
	begin_progress(&progress, source);
	r = run_recorded(o, recorded, &about);
	end_progress(&progress, source);
	if (r < 0)
		return r;
	rooms = recorded_rooms(recorded);
	return write_import(file, &about, &rooms);
}

int import_recording(struct source *source, const struct import_options *options, FILE *file)
{
	ssize_t n = source_need(source, MAGIC_SIZE);

	if (n < 0) {
		log_error("%s: %s", options->path, strerror((int)-n));
		return (int)n;
	}
	if (n < MAGIC_SIZE || !recording_is_magic(source_at(source)))
		return import_stacks(source, options, file);
	if (options->stack.event || options->untimed != METRIC_HITS) {
		log_error("%s: what stackd record writes has metrics, no events, and all of them are imported", options->path);
		return -EINVAL;
	}
	return import_recorded(source, options, file);
}
