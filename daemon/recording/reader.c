/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format.h"

#include <zstd.h>

#include "source.h"

/* More than this at once is no machine's: a frame's or a tick's numbers are refused beyond. */
#define CPUS_MAX 65536
#define TICK_NS_MAX (3660 * 86400 * NSEC_PER_SEC) /* a machine may sleep for long */
#define THREADS_MAX 4194304 /* PID_MAX_LIMIT */

struct frame {
	uint64_t id;
	enum frame_kind kind;
	uint32_t display, object;
};

struct recording_reader {
	struct source *source;
	uint64_t n_blocks, offset; /* of the block */
	uint32_t version;
	uint64_t variances[METRIC_N]; /* of the sample that was given last */
	bool begun, ended;
	uint64_t n_ticks;
	const char *damage;        /* why the record can't be right; NULL: it can */

	/* Tables; each grows to RECORDING_TABLE_MAX entries. */
	char **strings;
	struct frame *frames;
	struct collect_process *processes;
	uint64_t *raws;
	size_t n_strings, n_frames, n_processes, n_raws;
	size_t max_strings, max_frames, max_processes, max_raws;
	size_t string_bytes;

	struct recording_process process; /* of the item */
	struct recording_stack stack;
	struct recording_moment last_moment;
	const uint8_t *at, *end;
	uint8_t block[RECORDING_BLOCK_MAX];
};

/* ---- errors ---- */

static int refuse(struct recording_reader *r, struct recording_error *error, const char *format, ...) _printf_(3, 4);
static int refuse(struct recording_reader *r, struct recording_error *error, const char *format, ...)
{
	va_list ap;

	error->offset = r->offset;
	va_start(ap, format);
	vsnprintf(error->what, sizeof(error->what), format, ap);
	va_end(ap);
	return -EBADMSG;
}

/* The first reason counts; fields behind it are 0. */
static void damaged(struct recording_reader *r, const char *why)
{
	if (!r->damage)
		r->damage = why;
}

/* ---- bytes ---- */

static uint64_t take(struct recording_reader *r)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
		uint8_t byte = *r->at++;

		v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return v;
	}
	damaged(r, "a number that has no end");
	return 0;
}

static uint64_t take_most(struct recording_reader *r, uint64_t most)
{
	uint64_t v = take(r);

	if (v <= most)
		return v;
	damaged(r, "a number that is larger than can be");
	return 0;
}

static int64_t take_signed(struct recording_reader *r)
{
	uint64_t v = take(r);

	return (int64_t)(v >> 1 ^ (0 - (v & 1)));
}

static int take_int(struct recording_reader *r)
{
	int64_t v = take_signed(r);

	if (v >= INT32_MIN && v <= INT32_MAX)
		return (int)v;
	damaged(r, "a number that is larger than can be");
	return 0;
}

static uint64_t take_word(struct recording_reader *r)
{
	uint64_t v;

	if ((size_t)(r->end - r->at) < sizeof(v)) {
		damaged(r, "it ends within a record");
		return 0;
	}
	memcpy(&v, r->at, sizeof(v));
	r->at += sizeof(v);
	return v;
}

/* Loads: what is no number, or below zero, would spoil all that is computed from it. */
static double take_double(struct recording_reader *r)
{
	uint64_t v = take_word(r);
	double d;

	memcpy(&d, &v, sizeof(d));
	if (d >= 0 && d <= 1e9)
		return d;
	damaged(r, "a number that can't be");
	return 0;
}

/* Points into the block; *ret_n bytes. */
static const char *take_bytes(struct recording_reader *r, size_t *ret_n)
{
	const char *text = (const char *)r->at;

	*ret_n = take_most(r, STRING_MAX);
	text = (const char *)r->at;
	if (*ret_n > (size_t)(r->end - r->at) || memchr(text, 0, *ret_n)) {
		damaged(r, "a string that is cut off, or has a zero in it");
		*ret_n = 0;
	}
	r->at += *ret_n;
	return text;
}

static void take_text(struct recording_reader *r, char *ret, size_t size)
{
	size_t n;
	const char *text = take_bytes(r, &n);

	snprintf(ret, size, "%.*s", (int)n, text);
}

/* ---- tables ---- */

#define GROW(r, table) grow_array((void **)&(r)->table, &(r)->max_##table, (r)->n_##table + 1, sizeof(*(r)->table))

static bool is_full(struct recording_reader *r, size_t n)
{
	if (n >= RECORDING_TABLE_MAX)
		damaged(r, "more strings, frames, processes or stacks than may be between two resets");
	return n >= RECORDING_TABLE_MAX;
}

static void reset(struct recording_reader *r)
{
	for (size_t i = 0; i < r->n_strings; i++)
		free(r->strings[i]);
	r->n_strings = r->n_frames = r->n_processes = r->n_raws = 0;
	r->string_bytes = 0;
}

static int add_string(struct recording_reader *r)
{
	size_t n;
	const char *text = take_bytes(r, &n);
	int e;

	r->string_bytes += n + 1;
	if (r->string_bytes > RECORDING_STRINGS_MAX)
		damaged(r, "more bytes of strings than may be between two resets");
	if (r->damage || is_full(r, r->n_strings))
		return 0;
	e = GROW(r, strings);
	if (e < 0)
		return e;
	r->strings[r->n_strings] = strndup(text, n);
	return r->strings[r->n_strings++] ? 0 : -ENOMEM;
}

static uint32_t take_reference(struct recording_reader *r, size_t n)
{
	uint64_t number = take(r);

	if (number < n)
		return (uint32_t)number;
	damaged(r, "it refers to what was not told");
	return UINT32_MAX;
}

static const char *take_string(struct recording_reader *r)
{
	uint32_t number = take_reference(r, r->n_strings);

	return number == UINT32_MAX ? "" : r->strings[number];
}

static int add_frame(struct recording_reader *r)
{
	struct frame f = { .id = take_word(r) };

	f.kind = (enum frame_kind)take_most(r, FRAME_UNKNOWN);
	f.display = take_reference(r, r->n_strings);
	f.object = take_reference(r, r->n_strings);
	if (r->damage || is_full(r, r->n_frames))
		return 0;
	if (GROW(r, frames) < 0)
		return -ENOMEM;
	r->frames[r->n_frames++] = f;
	return 0;
}

static int add_process(struct recording_reader *r)
{
	struct collect_process p = { .pid = take_int(r) };

	p.exec_id = (uint32_t)take_most(r, UINT32_MAX);
	p.start_ns = take(r);
	p.cgroup_id = take(r);
	p.uid = (uint32_t)take_most(r, UINT32_MAX);
	p.kernel_thread = take_most(r, 1);
	copy_string(p.comm, sizeof(p.comm), take_string(r));
	if (p.pid <= 0)
		damaged(r, "a process whose number can't be");
	if (r->damage || is_full(r, r->n_processes))
		return 0;
	if (GROW(r, processes) < 0)
		return -ENOMEM;
	r->processes[r->n_processes++] = p;
	return 0;
}

static int add_raw(struct recording_reader *r)
{
	uint64_t id = take_word(r);

	if (r->damage || is_full(r, r->n_raws))
		return 0;
	if (GROW(r, raws) < 0)
		return -ENOMEM;
	r->raws[r->n_raws++] = id;
	return 0;
}

static struct collect_process take_process(struct recording_reader *r)
{
	uint32_t number = take_reference(r, r->n_processes);

	return number == UINT32_MAX ? (struct collect_process){} : r->processes[number];
}

static uint64_t take_raw(struct recording_reader *r)
{
	uint32_t number = take_reference(r, r->n_raws);

	return number == UINT32_MAX ? 0 : r->raws[number];
}

/* ---- items ---- */

static void take_values(struct recording_reader *r, uint64_t ret[static METRIC_N])
{
	uint64_t there = take_most(r, (1U << METRIC_N) - 1);

	for (unsigned m = 0; m < METRIC_N; m++)
		ret[m] = there >> m & 1 ? (uint64_t)take_signed(r) : 0;
}

static void take_config(struct recording_reader *r, struct recording_config *c)
{
	if (take(r) > METRIC_N)
		damaged(r, "it has metrics that this version doesn't know");
	c->store_size = take_most(r, 1ULL << 40);
	for (size_t i = 0; i < ELEMENTS_OF(c->keep_us); i++)
		c->keep_us[i] = take(r);
	c->slices_per_series = take_most(r, 1U << 20);
	c->max_stacks = take_most(r, 1U << 24);
	c->max_clusters = take_most(r, 1U << 20);
	c->max_incidents = take_most(r, 1U << 20);
	c->memory_bytes = take(r);
	c->false_alarms_per_day = take_double(r);
	take_text(r, c->version, sizeof(c->version));
	take_text(r, c->kernel, sizeof(c->kernel));
	take_text(r, c->machine, sizeof(c->machine));
}

static void take_answer_process(struct recording_reader *r)
{
	struct recording_process *p = &r->process;
	uint64_t flags;

	*p = (struct recording_process){ .asked = take_process(r) };
	p->result = take_int(r);
	if (p->result < 0)
		return;
	p->known.uid = (uint32_t)take_most(r, UINT32_MAX);
	flags = take_most(r, 7);
	p->known.kernel_thread = flags & 1;
	p->known.identified = flags & 2;
	p->known.settled = flags & 4;
	copy_string(p->known.comm, sizeof(p->known.comm), take_string(r));
	copy_string(p->known.exe, sizeof(p->known.exe), take_string(r));
	copy_string(p->known.cgroup, sizeof(p->known.cgroup), take_string(r));
	copy_string(p->known.unit, sizeof(p->known.unit), take_string(r));
	p->start_us = take(r);
}

static void take_answer_stack(struct recording_reader *r)
{
	struct recording_stack *s = &r->stack;

	*s = (struct recording_stack){ .raw_id = take_raw(r) };
	s->result = take_int(r);
	if (s->result < 0)
		return;
	s->id = take_word(r);
	s->truncated = take_most(r, 1);
	s->n = take_most(r, SYMBOLS_FRAMES_MAX);
	for (size_t i = 0; i < s->n; i++) {
		uint32_t number = take_reference(r, r->n_frames);
		const struct frame *f;

		if (number == UINT32_MAX)
			return;
		f = &r->frames[number];
		s->frames[i] = (struct symbols_frame){
			.id = f->id,
			.kind = f->kind,
			.function = "",
			.display = r->strings[f->display],
			.object = r->strings[f->object],
		};
	}
}

static void take_tick(struct recording_reader *r, struct recording_item *ret)
{
	ret->tick.now_us = take(r);
	ret->tick.n_own = take_most(r, RECORDING_OWN_MAX);
	for (size_t i = 0; i < ret->tick.n_own; i++)
		ret->tick.own[i] = take_int(r);
	r->n_ticks++;
}

static void take_begin(struct recording_reader *r, struct collect_tick_info *info)
{
	info->time_us = take_most(r, INT64_MAX);
	info->duration_ns = take_most(r, TICK_NS_MAX);
	info->load = take_double(r);
	info->gate_open = take_most(r, 1);
	info->online_cpus = (uint32_t)take_most(r, CPUS_MAX);
	info->drain_ns = take(r);
	if (info->online_cpus == 0)
		damaged(r, "a machine without CPUs");
	r->last_moment = (struct recording_moment){ .time_us = info->time_us };
}

static void take_gate(struct recording_reader *r, struct collect_gate_change *g)
{
	g->time_us = take_most(r, INT64_MAX);
	g->open = take_most(r, 1);
	g->load = take_double(r);
	g->cause = take_string(r);
}

static void take_moment(struct recording_reader *r, struct collect_moment *m)
{
	struct recording_moment *last = &r->last_moment;

	m->raw_id = take_raw(r);
	last->time_us += (uint64_t)take_signed(r);
	last->weight_ns += (uint64_t)take_signed(r);
	last->tid += (uint64_t)take_signed(r);
	m->comm = take_string(r);
	if (last->time_us > INT64_MAX || last->weight_ns > TICK_NS_MAX || last->tid > UINT32_MAX)
		damaged(r, "a moment that can't be");
	m->time_us = last->time_us;
	m->weight_ns = last->weight_ns;
	m->tid = (uint32_t)last->tid;
}

static void take_digest(struct recording_reader *r, struct recording_digest *d)
{
	d->series = take_word(r);
	d->scores = take_word(r);
	d->n_series = take(r);
	d->n_anomalies = take(r);
}

static void take_item(struct recording_reader *r, enum recording_kind kind, struct recording_item *ret)
{
	*ret = (struct recording_item){ .kind = kind };
	switch (kind) {
	case RECORDING_CONFIG:
		take_config(r, &ret->config);
		break;
	case RECORDING_TICK:
		take_tick(r, ret);
		break;
	case RECORDING_PROCESS:
		take_answer_process(r);
		ret->process = &r->process;
		break;
	case RECORDING_STACK:
		take_answer_stack(r);
		ret->stack = &r->stack;
		break;
	case RECORDING_BEGIN:
		take_begin(r, &ret->begin);
		break;
	case RECORDING_GATE:
		take_gate(r, &ret->gate);
		break;
	case RECORDING_SAMPLE:
		ret->sample.raw_id = take_raw(r);
		ret->sample.process = take_process(r);
		take_values(r, ret->sample.values);
		if (r->version > 2)
			take_values(r, r->variances);
		ret->sample.variances = r->version > 2 ? r->variances : NULL;
		break;
	case RECORDING_WAIT:
		ret->wait.raw_id = take_raw(r);
		ret->wait.process = take_process(r);
		ret->wait.threads = take_int(r);
		if (ret->wait.threads < -THREADS_MAX || ret->wait.threads > THREADS_MAX)
			damaged(r, "more threads than can be");
		break;
	case RECORDING_TOTAL:
		ret->total.process = take_process(r);
		ret->total.threads = (uint32_t)take_most(r, UINT32_MAX);
		take_values(r, ret->total.values);
		break;
	case RECORDING_MEMORY:
		ret->memory.process = take_process(r);
		ret->memory.resident = take_signed(r);
		ret->memory.anonymous = take_signed(r);
		break;
	case RECORDING_MOMENT:
		take_moment(r, &ret->moment);
		break;
	case RECORDING_LOSS:
		ret->loss.cause = take_string(r);
		ret->loss.n = take(r);
		break;
	case RECORDING_DIGEST:
		take_digest(r, &ret->digest);
		break;
	case RECORDING_END:
		ret->n_ticks = take(r);
		if (ret->n_ticks != r->n_ticks)
			damaged(r, "it has another number of ticks than its end says");
		break;
	}
}

/* ---- blocks ---- */

static int read_block(struct recording_reader *r, struct recording_error *error)
{
	struct recording_block head;
	ssize_t n;

	r->offset = r->source->offset;
	n = source_need(r->source, sizeof(head));
	if (n < 0)
		return (int)n;
	if (n < (ssize_t)sizeof(head))
		return refuse(r, error, n == 0 ? "the recording has no end: it was cut off" : "the file ends within the head of a block");
	memcpy(&head, source_at(r->source), sizeof(head));
	if (head.size == 0 || head.size > sizeof(r->block) || head.stored > ZSTD_COMPRESSBOUND(RECORDING_BLOCK_MAX))
		return refuse(r, error, "a block can't have %u bytes, stored as %u", head.size, head.stored);
	(void)source_skip(r->source, sizeof(head));
	n = source_need(r->source, head.stored);
	if (n < 0)
		return (int)n;
	if (n < (ssize_t)head.stored)
		return refuse(r, error, "the file ends within a block");
	if (hash64(source_at(r->source), head.stored, r->n_blocks) != head.check)
		return refuse(r, error, "a block is damaged: its checksum is wrong");
	if (ZSTD_decompress(r->block, sizeof(r->block), source_at(r->source), head.stored) != head.size)
		return refuse(r, error, "a block can't be unpacked");
	(void)source_skip(r->source, head.stored);
	r->n_blocks++;
	r->at = r->block;
	r->end = r->block + head.size;
	return 0;
}

/* 1: *ret is one; 0: it was for the tables. */
static int take_record(struct recording_reader *r, struct recording_item *ret)
{
	uint8_t type = *r->at++;

	switch (type) {
	case TYPE_RESET:
		reset(r);
		return 0;
	case TYPE_STRING:
		return add_string(r);
	case TYPE_FRAME:
		return add_frame(r);
	case TYPE_NEW_PROCESS:
		return add_process(r);
	case TYPE_RAW:
		return add_raw(r);
	}
	if (type < TYPE_KINDS || type > TYPE_KINDS + (r->version > 1 ? RECORDING_MOMENT : RECORDING_END)) {
		damaged(r, "a record of a kind that there is none of");
		return 0;
	}
	take_item(r, (enum recording_kind)(type - TYPE_KINDS), ret);
	if (!r->damage && (ret->kind == RECORDING_CONFIG) == r->begun)
		damaged(r, r->begun ? "it begins a second time" : "it doesn't begin with its configuration");
	r->begun = true;
	return 1;
}

int recording_next(struct recording_reader *r, struct recording_item *ret, struct recording_error *error)
{
	int e = 0;

	*error = (struct recording_error){};
	if (r->ended)
		return 0;
	while (e == 0) {
		while (e == 0 && r->at == r->end)
			if ((e = read_block(r, error)) < 0)
				return e;
		e = take_record(r, ret);
		if (r->damage)
			return refuse(r, error, "the block that begins there: %s", r->damage);
	}
	r->ended = e > 0 && ret->kind == RECORDING_END;
	return e;
}

uint64_t recording_offset(const struct recording_reader *r)
{
	return r->offset;
}

/* ---- the file ---- */

bool recording_is_magic(const void *bytes)
{
	return memcmp(bytes, RECORDING_MAGIC, 8) == 0;
}

int recording_open(struct recording_reader **ret, struct source *source, struct recording_error *error)
{
	_cleanup_(recording_reader_freep) struct recording_reader *r = calloc(1, sizeof(*r));
	struct recording_header header;
	ssize_t n;

	*error = (struct recording_error){};
	if (!r)
		return -ENOMEM;
	r->source = source;
	n = source_need(source, sizeof(header));
	if (n < 0)
		return (int)n;
	if (n < (ssize_t)sizeof(header))
		return refuse(r, error, "the file ends within its header");
	memcpy(&header, source_at(source), sizeof(header));
	if (!recording_is_magic(header.magic))
		return refuse(r, error, "not a recording of stackd");
	if (header.version < RECORDING_VERSION_OLDEST || header.version > RECORDING_VERSION || header.reserved != 0)
		return refuse(r, error, "a recording of version %u; this stackd reads versions %u to %u", header.version,
			      RECORDING_VERSION_OLDEST, RECORDING_VERSION);
	r->version = header.version;
	(void)source_skip(source, sizeof(header));
	*ret = TAKE_PTR(r);
	return 0;
}

struct recording_reader *recording_reader_free(struct recording_reader *r)
{
	if (!r)
		return NULL;
	reset(r);
	free(r->strings);
	free(r->frames);
	free(r->processes);
	free(r->raws);
	free(r);
	return NULL;
}
