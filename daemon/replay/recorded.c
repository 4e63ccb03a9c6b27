/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "recorded.h"

#include <sys/mman.h>

#include "answers.h"
#include "pipeline.h"
#include "report_text.h"

#define STORE_SIZE_MIN (8U << 20)
#define STORE_SIZE_MAX (4ULL << 30) /* of a recording's; StoreSize= itself may be larger */
#define KEEP_MAX_S (10 * 366 * 86400U)
#define LINE_SIZE_MAX (64U << 10) /* of a folded stack */

struct recorded {
	struct recording_reader *reader;
	struct recording_config config;
	struct answers *answers;
	void *arena;
	struct store *store;
	struct store_config layout;
	struct detect *detect;
	struct incidents *incidents;
	struct moments *moments; /* NULL: not kept */
	struct pipeline *pipeline;
	bool other_budget; /* than recorded: scores differ */
	int failed;        /* while a tick was read */
	struct recording_error error;
	struct recording_digest digest; /* as recorded, of the tick */
	struct recorded_status status;
};

/* ---- the source ---- */

static int answer(struct recorded *r, const struct recording_item *item)
{
	return item->kind == RECORDING_PROCESS ? answers_add_process(r->answers, item->process)
					       : answers_add_stack(r->answers, item->stack);
}

static int tell(struct recorded *r, const struct recording_item *item, const struct collect_sink *sink, void *userdata)
{
	switch (item->kind) {
	case RECORDING_GATE:
		sink->gate(userdata, &item->gate);
		return 0;
	case RECORDING_SAMPLE:
		r->status.samples++;
		sink->sample(userdata, &item->sample);
		return 0;
	case RECORDING_WAIT:
		sink->wait(userdata, &item->wait);
		return 0;
	case RECORDING_TOTAL:
		sink->total(userdata, &item->total);
		return 0;
	case RECORDING_MEMORY:
		sink->memory(userdata, &item->memory);
		return 0;
	case RECORDING_MOMENT:
		sink->moment(userdata, &item->moment);
		return 0;
	case RECORDING_LOSS:
		r->status.lost += item->loss.n;
		sink->loss(userdata, item->loss.cause, item->loss.n);
		return 0;
	default:
		return -EBADMSG;
	}
}

static int misplaced(struct recorded *r, const char *what)
{
	r->error = (struct recording_error){ .offset = recording_offset(r->reader) };
	copy_string(r->error.what, sizeof(r->error.what), what);
	return -EBADMSG;
}

static void note_times(struct recorded *r, const struct collect_tick_info *info)
{
	uint64_t began = info->time_us - MIN(info->duration_ns / NSEC_PER_USEC, info->time_us);

	r->status.begin_us = r->status.ticks == 0 ? began : MIN(r->status.begin_us, began);
	r->status.end_us = MAX(r->status.end_us, info->time_us);
}

/* Of a tick that breaks off, what there is counts: the pipeline ends it as any other. */
static int tick(void *userdata, const struct collect_sink *sink, void *sink_userdata)
{
	struct recorded *r = userdata;
	struct recording_item item;
	bool begun = false;
	int e;

	while ((e = recording_next(r->reader, &item, &r->error)) > 0 && item.kind != RECORDING_DIGEST) {
		if (item.kind == RECORDING_PROCESS || item.kind == RECORDING_STACK) {
			e = answer(r, &item);
			if (e == -ENOSPC)
				e = misplaced(r, "more answers than one event can ask for");
		} else if (item.kind == RECORDING_BEGIN && !begun) {
			begun = true;
			note_times(r, &item.begin);
			sink->begin(sink_userdata, &item.begin);
			answers_end_event(r->answers);
		} else {
			e = begun ? tell(r, &item, sink, sink_userdata) : -EBADMSG;
			if (e < 0)
				e = misplaced(r, "a tick that doesn't begin or end where it should");
			answers_end_event(r->answers);
		}
		if (e < 0)
			break;
	}
	if (e == 0)
		e = misplaced(r, "it ends within a tick");
	if (e > 0 && !begun)
		e = misplaced(r, "a tick without a beginning");
	r->digest = e > 0 ? item.digest : (struct recording_digest){};
	r->failed = MIN(e, 0);
	return begun ? 0 : r->failed;
}

static int process(void *userdata, const struct collect_process *asked, const struct symbols_process **ret, uint64_t *ret_start_us)
{
	struct recorded *r = userdata;
	const struct recording_process *p = answers_process(r->answers, asked);

	if (!p) {
		r->status.unanswered++;
		return -EAGAIN;
	}
	*ret = &p->known;
	*ret_start_us = p->start_us;
	return p->result;
}

static int stack(void *userdata, uint64_t raw_id, struct symbols_frame ret_frames[static SYMBOLS_FRAMES_MAX], size_t *ret_n,
		 uint64_t *ret_id, bool *ret_truncated)
{
	struct recorded *r = userdata;
	const struct recording_stack *s = answers_stack(r->answers, raw_id);

	if (!s) {
		r->status.unanswered++;
		return -EAGAIN;
	}
	if (s->result < 0)
		return s->result;
	memcpy(ret_frames, s->frames, s->n * sizeof(*ret_frames));
	*ret_n = s->n;
	*ret_id = s->id;
	*ret_truncated = s->truncated;
	return 0;
}

/* ---- the rooms ---- */

static uint32_t seconds(uint64_t us)
{
	return (uint32_t)MIN(us / USEC_PER_SEC, (uint64_t)KEEP_MAX_S);
}

static int make_rooms(struct recorded *r, const struct recorded_options *options)
{
	const struct recording_config *c = &r->config;
	const struct store_config layout = {
		.tiers = { { 1, seconds(c->keep_us[0]) }, { 10, seconds(c->keep_us[1]) }, { 60, seconds(c->keep_us[2]) } },
		.series_state_size = (uint32_t)detect_series_state_size(),
		.global_state_size = (uint32_t)detect_global_state_size(),
		.slices_per_series = (uint32_t)c->slices_per_series,
	};
	const struct detect_config detect = {
		.false_alarms_per_day = options->false_alarms_per_day > 0 ? options->false_alarms_per_day : c->false_alarms_per_day,
	};
	const struct incidents_config incidents = { .max_clusters = (uint32_t)c->max_clusters, .max_incidents = (uint32_t)c->max_incidents };
	const struct tick_source source = { .tick = tick, .process = process, .stack = stack, .userdata = r };
	const struct pipeline_config pipeline = {
		.max_stacks = (uint32_t)c->max_stacks, .source = &source, .digest = true, .memory_bytes = c->memory_bytes,
	};
	struct pipeline_rooms rooms;
	bool reused;
	int e;

	r->other_budget = detect.false_alarms_per_day != c->false_alarms_per_day;
	r->arena = mmap(NULL, c->store_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r->arena == MAP_FAILED) {
		r->arena = NULL;
		return -ENOMEM;
	}
	r->layout = layout;
	e = store_open(&r->store, r->arena, c->store_size, &layout, &reused);
	if (e >= 0)
		e = detect_new(&r->detect, &detect, store_global_state(r->store));
	if (e >= 0)
		e = incidents_new(&r->incidents, &incidents, r->store, NULL);
	if (e >= 0 && options->moments)
		e = moments_new(&r->moments, IMPORT_MOMENTS_SIZE);
	rooms = (struct pipeline_rooms){ .store = r->store, .detect = r->detect, .incidents = r->incidents, .moments = r->moments };
	if (e >= 0)
		e = pipeline_new(&r->pipeline, &rooms, &pipeline);
	return e;
}

/* As the configuration file allows. */
static bool is_possible(const struct recording_config *c)
{
	return c->store_size >= STORE_SIZE_MIN && c->store_size <= STORE_SIZE_MAX && c->store_size % 8 == 0 && c->slices_per_series >= 1 &&
		c->slices_per_series <= 1024 && c->max_stacks >= 1024 && c->max_stacks <= 1U << 20 && c->max_clusters >= 8 &&
		c->max_clusters <= 4096 && c->max_incidents >= 16 && c->max_incidents <= 65536 && c->false_alarms_per_day > 0 &&
		seconds(c->keep_us[0]) >= 1 && seconds(c->keep_us[1]) >= 10 && seconds(c->keep_us[2]) >= 60;
}

int recorded_new(struct recorded **ret, struct source *source, const struct recorded_options *options, struct recording_error *ret_error)
{
	_cleanup_(recorded_freep) struct recorded *r = calloc(1, sizeof(*r));
	struct recording_item item;
	int e;

	if (!r)
		return -ENOMEM;
	e = recording_open(&r->reader, source, ret_error);
	if (e >= 0)
		e = recording_next(r->reader, &item, ret_error);
	if (e < 0)
		return e;
	r->config = item.config;
	if (!is_possible(&r->config)) {
		copy_string(ret_error->what, sizeof(ret_error->what), "it was recorded with a configuration that can't be");
		return -EBADMSG;
	}
	e = answers_new(&r->answers);
	if (e >= 0)
		e = make_rooms(r, options);
	if (e < 0)
		return e;
	*ret = TAKE_PTR(r);
	return 0;
}

struct recorded *recorded_free(struct recorded *r)
{
	if (!r)
		return NULL;
	pipeline_free(r->pipeline);
	moments_free(r->moments);
	incidents_free(r->incidents);
	detect_free(r->detect);
	store_close(r->store);
	if (r->arena)
		munmap(r->arena, r->config.store_size);
	answers_free(r->answers);
	recording_reader_free(r->reader);
	free(r);
	return NULL;
}

/* ---- all of it ---- */

static void ignore_anomaly(void *userdata _unused_, const struct store_anomaly *anomaly _unused_)
{
}

static void compare(struct recorded *r, uint64_t now_us)
{
	struct recording_digest ours;
	bool series, scores;

	pipeline_get_digest(r->pipeline, &ours);
	series = ours.series != r->digest.series || ours.n_series != r->digest.n_series;
	scores = !r->other_budget && (ours.scores != r->digest.scores || ours.n_anomalies != r->digest.n_anomalies);
	if ((series || scores) && r->status.first_us == 0)
		r->status.first_us = now_us;
	r->status.series_differ += series;
	r->status.scores_differ += scores;
}

int recorded_run(struct recorded *r, struct recording_error *ret_error)
{
	struct recording_item item;
	int e;

	*ret_error = (struct recording_error){};
	while ((e = recording_next(r->reader, &item, &r->error)) > 0 && item.kind != RECORDING_END) {
		if (item.kind != RECORDING_TICK) {
			e = misplaced(r, "something that belongs to no tick");
			break;
		}
		pipeline_set_own_pids(r->pipeline, item.tick.own, item.tick.n_own);
		e = pipeline_tick(r->pipeline, item.tick.now_us, ignore_anomaly, NULL);
		if (e >= 0)
			e = r->failed;
		if (e < 0)
			break;
		r->status.ticks++;
		compare(r, item.tick.now_us);
	}
	if (e < 0)
		*ret_error = r->error;
	return MIN(e, 0);
}

void recorded_get_status(const struct recorded *r, struct recorded_status *ret)
{
	*ret = r->status;
}

int recorded_write_report(struct recorded *r, FILE *file)
{
	fprintf(file, "%llu ticks in %.0f s, recorded by stackd %s on Linux %s (%s)\n", (unsigned long long)r->status.ticks,
		(double)(r->status.end_us - r->status.begin_us) / (double)USEC_PER_SEC, r->config.version, r->config.kernel, r->config.machine);
	return report_text_write(file, r->store, incidents_clusters(r->incidents));
}

/* Longer than an import may tell of, which takes weeks in which next to nothing runs: then there are none. */
static struct moments *moments_of_import(const struct recorded *r)
{
	uint64_t since_us, until_us;

	return r->moments && moments_range(r->moments, &since_us, &until_us) && until_us - since_us <= IMPORT_MOMENTS_SPAN_MAX ? r->moments
															       : NULL;
}

struct import_rooms recorded_rooms(struct recorded *r)
{
	return (struct import_rooms){
		.arena = r->arena,
		.size = r->config.store_size,
		.layout = r->layout,
		.max_clusters = (uint32_t)r->config.max_clusters,
		.max_incidents = (uint32_t)r->config.max_incidents,
		.store = r->store,
		.moments = moments_of_import(r),
		.clusters = incidents_clusters(r->incidents),
	};
}

/* ---- folded ---- */

struct folding {
	struct recorded *r;
	enum metric metric;
	struct folded *folded;
	int failed;
	char line[LINE_SIZE_MAX];
};

static size_t put_name(struct folding *f, size_t n, const char *name)
{
	bool is_comm = n == 0;

	if (!is_comm && n < sizeof(f->line) - 1)
		f->line[n++] = ';';
	for (; *name && n < sizeof(f->line) - 1; name++)
		f->line[n++] = *name == ';' ? ':' : is_comm && *name == ' ' ? '_' : (unsigned char)*name < ' ' ? '?' : *name;
	f->line[n] = '\0';
	return n;
}

static int fold(void *userdata, const struct store_slice_sum *sum)
{
	struct folding *f = userdata;
	struct store_frame frames[SYMBOLS_FRAMES_MAX];
	struct store_process process;
	uint64_t value = metric_value(sum->values, f->metric), id;
	bool truncated;
	size_t n, at;

	if (value == 0 || (metric_is_signed(f->metric) && (int64_t)value < 0) ||
	    store_get_process(f->r->store, sum->process, &process) < 0 ||
	    store_get_stack(f->r->store, sum->stack, &id, &truncated, frames, ELEMENTS_OF(frames), &n) < 0)
		return 0;
	at = put_name(f, 0, process.comm[0] ? process.comm : "?");
	for (size_t i = MIN(n, ELEMENTS_OF(frames)); i-- > 0;)
		at = put_name(f, at, frames[i].display);
	f->failed = folded_add(f->folded, f->line, value);
	return f->failed;
}

int recorded_fold(struct recorded *r, enum metric metric, struct folded *folded)
{
	const struct store_filter filter = { .since_us = r->status.begin_us, .until_us = r->status.end_us, .viewer_uid = STORE_ANY_UID };
	_cleanup_free_ struct folding *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->r = r;
	f->metric = metric;
	f->folded = folded;
	(void)store_visit_slices(r->store, &filter, fold, f);
	return f->failed;
}
