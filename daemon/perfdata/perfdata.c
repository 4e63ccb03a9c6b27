/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "internal.h"

int perfdata_open(struct perfdata **ret, struct source *source, struct perfdata_error *ret_error)
{
	_cleanup_(perfdata_freep) struct perfdata *p = calloc(1, sizeof(*p));
	int r;

	*ret_error = (struct perfdata_error){};
	if (!p)
		return -ENOMEM;
	p->source = source;
	p->sched = sched_default_formats;
	r = order_new(&p->order, PERFDATA_QUEUE_MAX);
	if (r >= 0)
		r = map64_new(&p->ids, PERFDATA_IDS_MAX);
	if (r >= 0)
		r = map64_new(&p->build_id_index, PERFDATA_BUILD_IDS_MAX);
	if (r >= 0)
		r = header_read(p, ret_error);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(p);
	return 0;
}

struct perfdata *perfdata_free(struct perfdata *p)
{
	if (!p)
		return NULL;
	order_free(p->order);
	map64_free(p->ids);
	map64_free(p->build_id_index);
	free(p->build_ids);
	free(p->current);
	packed_free(p->packed);
	free(p);
	return NULL;
}

static struct record_layout layout(const struct perfdata *p)
{
	return (struct record_layout){ .events = p->events, .n_events = p->n_events, .ids = p->ids, .swapped = p->swapped };
}

/* ---- records that are about the file ---- */

static int take_attributes(struct perfdata *p, const uint8_t *record, size_t size, uint64_t offset)
{
	struct cursor c = record_body(record, size, p->swapped);
	struct cursor begin = c;
	uint32_t attr_size;
	uint64_t id;
	int r;

	if (cursor_left(&c) < PERF_ATTR_SIZE_VER0 || !cursor_skip(&begin, offsetof(struct perf_event_attr, size)) ||
	    !cursor_u32(&begin, &attr_size))
		return perfdata_damaged(&p->error, offset, "attributes of an event that are too short");
	if (attr_size < PERF_ATTR_SIZE_VER0 || attr_size > cursor_left(&c))
		return perfdata_damaged(&p->error, offset, "attributes of an event that can't have %u bytes", attr_size);
	r = header_add_event(p, c.at, attr_size, offset, &p->error);
	(void)cursor_skip(&c, attr_size);
	while (r >= 0 && cursor_u64(&c, &id))
		r = header_add_id(p, id, p->n_events - 1, offset, &p->error);
	p->agrees = false;
	return r;
}

static int take_update(struct perfdata *p, const uint8_t *record, size_t size)
{
	enum { UPDATE_NAME = 2 };
	struct cursor c = record_body(record, size, p->swapped);
	uint64_t type, id;

	if (cursor_u64(&c, &type) && cursor_u64(&c, &id) && type == UPDATE_NAME && cursor_string(&c))
		header_name_event(p, id, cursor_string(&c));
	return 0;
}

static int take_feature(struct perfdata *p, const uint8_t *record, size_t size)
{
	struct cursor c = record_body(record, size, p->swapped);
	uint64_t feature;

	if (cursor_u64(&c, &feature))
		(void)header_add_feature(p, feature, c); /* names only */
	return 0;
}

/* Bytes behind the record that its size doesn't include. */
static int skip_behind(struct perfdata *p, const uint8_t *record, size_t size, uint64_t offset, bool is_trace)
{
	struct cursor c = record_body(record, size, p->swapped);
	uint32_t n32 = 0;
	uint64_t n = 0;
	int r;

	if (is_trace ? !cursor_u64(&c, &n) : !cursor_u32(&c, &n32))
		return perfdata_damaged(&p->error, offset, "a trace without its size");
	if (!is_trace) {
		n = (n32 + 7ULL) / 8 * 8;
		r = (int)source_need(p->source, MIN(n, (uint64_t)SOURCE_BUFFER));
		if (r < 0)
			return r;
		sched_read_formats(&p->sched, (const char *)source_at(p->source), (size_t)r);
	}
	r = source_skip(p->source, n);
	if (r == 0)
		return perfdata_damaged(&p->error, offset, "the file ends within a trace of %llu bytes", (unsigned long long)n);
	return r < 0 ? r : 0;
}

static void count_lost(struct perfdata *p, const uint8_t *record, size_t size, bool samples)
{
	struct cursor c = record_body(record, size, p->swapped);
	uint64_t lost;

	if (samples ? cursor_u64(&c, &lost) : cursor_skip(&c, sizeof(uint64_t)) && cursor_u64(&c, &lost)) {
		uint64_t *sum = samples ? &p->status.lost_samples : &p->status.lost;

		*sum += MIN(lost, UINT64_MAX - *sum);
	}
}

/* Records that are compressed, which read_packed() gives. */
static int take_piece(struct perfdata *p, const uint8_t *record, struct perf_event_header h, uint64_t offset)
{
	struct cursor c = record_body(record, h.size, p->swapped);
	uint64_t size = cursor_left(&c);

	if (h.type == RECORD_COMPRESSED2 && (!cursor_u64(&c, &size) || size > cursor_left(&c)))
		return perfdata_damaged(&p->error, offset, "compressed records that are not all there");
	if (!p->packed && packed_new(&p->packed) < 0)
		return -ENOMEM;
	packed_put(p->packed, c.at, size);
	p->packed_offset = offset;
	return 0;
}

/* 1: it is one that the caller may want. */
static int take_own(struct perfdata *p, const uint8_t *record, struct perf_event_header h, uint64_t offset)
{
	switch (h.type) {
	case RECORD_HEADER_ATTR:
		return take_attributes(p, record, h.size, offset);
	case RECORD_EVENT_UPDATE:
		return take_update(p, record, h.size);
	case RECORD_FEATURE:
		return take_feature(p, record, h.size);
	case RECORD_BUILD_ID:
		return header_add_build_id(p, record, h.size) < 0
			       ? perfdata_damaged(&p->error, offset, "a build ID without its path")
			       : 0;
	case RECORD_TRACING_DATA:
	case RECORD_AUXTRACE:
		return skip_behind(p, record, h.size, offset, h.type == RECORD_AUXTRACE);
	case RECORD_FINISHED_ROUND:
		order_end_round(p->order);
		return 0;
	case RECORD_COMPRESSED:
	case RECORD_COMPRESSED2:
		return take_piece(p, record, h, offset);
	case PERF_RECORD_LOST:
	case PERF_RECORD_LOST_SAMPLES:
		count_lost(p, record, h.size, h.type == PERF_RECORD_LOST_SAMPLES);
		return 0;
	case PERF_RECORD_SAMPLE:
	case PERF_RECORD_MMAP:
	case PERF_RECORD_MMAP2:
	case PERF_RECORD_COMM:
	case PERF_RECORD_FORK:
	case PERF_RECORD_EXIT:
	case PERF_RECORD_SWITCH:
	case PERF_RECORD_SWITCH_CPU_WIDE:
	case PERF_RECORD_KSYMBOL:
		return 1;
	default:
		return 0;
	}
}

/* ---- reading ---- */

/* As read_record(), of those that are compressed; 0: they go on in the next piece. */
static int read_packed(struct perfdata *p, struct perf_event_header *ret_header, uint8_t ret[static PERFDATA_RECORD_MAX], uint64_t *ret_offset)
{
	const uint8_t *bytes;
	ssize_t n = p->packed ? packed_need(p->packed, sizeof(*ret_header), &bytes) : 0;

	if (n == (ssize_t)sizeof(*ret_header)) {
		*ret_header = record_header(bytes, p->swapped);
		if (ret_header->size < sizeof(*ret_header) || ret_header->type >= RECORD_OWN)
			return perfdata_damaged(&p->error, p->packed_offset, "within compressed records one of type %u and %u bytes",
						ret_header->type, ret_header->size);
		n = packed_need(p->packed, ret_header->size, &bytes);
		if (n == ret_header->size) {
			memcpy(ret, bytes, ret_header->size);
			packed_skip(p->packed, ret_header->size);
			*ret_offset = p->packed_offset;
			return 1;
		}
	}
	return n < 0 ? perfdata_damaged(&p->error, p->packed_offset, "compressed records that can't be unpacked") : 0;
}

/* Nothing may be left of a record when there is no further piece. */
static int end_packed(struct perfdata *p)
{
	const uint8_t *bytes;

	return p->packed && packed_need(p->packed, 1, &bytes) > 0
		? perfdata_damaged(&p->error, p->packed_offset, "the compressed records end within one")
		: 0;
}

/* The next record: *ret, of ret_header->size bytes. 0: there are no more. */
static int read_record(struct perfdata *p, struct perf_event_header *ret_header, uint8_t ret[static PERFDATA_RECORD_MAX],
		       uint64_t *ret_offset)
{
	uint64_t offset = p->source->offset, left = p->data_end - offset;
	ssize_t n = read_packed(p, ret_header, ret, ret_offset);

	if (n != 0)
		return (int)n;
	if (left == 0)
		return end_packed(p);
	n = source_need(p->source, sizeof(*ret_header));
	if (n < 0)
		return (int)n;
	if (n == 0 && p->data_end == UINT64_MAX)
		return end_packed(p); /* a pipe's end, or where perf record was killed */
	if ((size_t)n < sizeof(*ret_header) || left < sizeof(*ret_header))
		return perfdata_damaged(&p->error, offset, "the file ends before its last record");
	*ret_header = record_header(source_at(p->source), p->swapped);
	if (ret_header->size < sizeof(*ret_header))
		return perfdata_damaged(&p->error, offset, "a record of type %u can't have %u bytes", ret_header->type, ret_header->size);
	if (ret_header->size > left)
		return perfdata_damaged(&p->error, offset, "a record of %u bytes where %llu are left", ret_header->size,
					(unsigned long long)left);
	n = source_need(p->source, ret_header->size);
	if (n < 0)
		return (int)n;
	if (n < ret_header->size)
		return perfdata_damaged(&p->error, offset, "the file ends within a record of %u bytes", ret_header->size);
	memcpy(ret, source_at(p->source), ret_header->size);
	(void)source_skip(p->source, ret_header->size);
	*ret_offset = offset;
	return 1;
}

static int check_layout(struct perfdata *p, uint64_t offset)
{
	struct record_layout l = layout(p);

	if (p->agrees)
		return 0;
	if (p->n_events == 0)
		return perfdata_damaged(&p->error, offset, "records before any event was described");
	if (!record_layout_agrees(&l))
		return perfdata_damaged(&p->error, offset, "several events whose records can't be told apart");
	p->agrees = true;
	return 0;
}

/* 1: p->unordered is to be given now; 0: go on; negative: the end, for which -ENODATA is the regular one. */
static int read_one(struct perfdata *p, size_t *ret_size, uint64_t *ret_offset)
{
	struct perf_event_header h = {};
	struct record_layout l;
	uint64_t time;
	int r;

	r = read_record(p, &h, p->unordered, ret_offset);
	if (r <= 0)
		return r < 0 ? r : -ENODATA;
	p->status.records++;
	r = take_own(p, p->unordered, h, *ret_offset);
	if (r <= 0)
		return r;
	r = check_layout(p, *ret_offset);
	if (r < 0)
		return r;
	l = layout(p);
	if (record_time(&l, p->unordered, h.size, &time) < 0)
		return perfdata_damaged(&p->error, *ret_offset, "a record of type %u that is too short for its time", h.type);
	*ret_size = h.size;
	if (time == 0)
		return 1;
	return order_put(p->order, time, *ret_offset, p->unordered, h.size);
}

static int parse(struct perfdata *p, const void *bytes, size_t size, uint64_t offset, struct perfdata_record *ret)
{
	struct record_layout l = layout(p);
	const char *reason;
	int r = record_parse(&l, bytes, size, p->chain, ret, &reason);

	ret->offset = offset;
	if (r < 0)
		return perfdata_damaged(&p->error, offset, "%s", reason);
	p->status.samples += ret->kind == PERFDATA_SAMPLE;
	/* No x86-64 has the other byte order. */
	if (ret->kind == PERFDATA_SAMPLE && ret->sample.carried.size > 0 && (p->is_other_machine || p->swapped)) {
		ret->sample.carried.size = 0;
		p->status.foreign_stacks++;
	}
	return r;
}

int perfdata_next(struct perfdata *p, struct perfdata_record *ret, struct perfdata_error *ret_error)
{
	int r = 0;

	for (;;) {
		uint64_t offset = 0;
		size_t size = 0;

		free(p->current);
		p->current = order_take(p->order);
		if (p->current) {
			r = parse(p, p->current->bytes, p->current->size, p->current->offset, ret);
		} else if (p->ended) {
			*ret_error = p->failure;
			return p->failed;
		} else {
			r = read_one(p, &size, &offset);
			if (r > 0)
				r = parse(p, p->unordered, size, offset, ret);
		}
		if (r > 0)
			return r;
		if (r == -ENODATA && p->features_error.what[0]) {
			p->error = p->features_error;
			r = -EBADMSG;
		}
		if (r < 0 && r != -ENODATA && p->failed == 0) {
			p->failed = r;
			p->failure = p->error;
		}
		if (r < 0) { /* what waits comes all the same */
			p->ended = true;
			order_end(p->order);
		}
	}
}

size_t perfdata_events(const struct perfdata *p, const struct perfdata_event **ret)
{
	*ret = p->events;
	return p->n_events;
}

const char *perfdata_kernel_release(const struct perfdata *p)
{
	return p->kernel_release;
}

bool perfdata_realtime(const struct perfdata *p, int64_t *ret_ahead_ns)
{
	*ret_ahead_ns = p->realtime_ahead_ns;
	return p->knows_realtime;
}

uint32_t perfdata_cpus(const struct perfdata *p)
{
	return p->cpus;
}

void perfdata_get_status(const struct perfdata *p, struct perfdata_status *ret)
{
	*ret = p->status;
	ret->unordered = order_late(p->order);
}

bool perfdata_sched(const struct perfdata *p, const struct perfdata_record *sample, struct perfdata_sched *ret)
{
	struct cursor raw;

	if (!sample->sample.raw)
		return false;
	raw = (struct cursor){ sample->sample.raw, sample->sample.raw + sample->sample.raw_size, p->swapped };
	return sched_parse(&p->sched, p->events[sample->sample.event].name, raw, ret);
}
