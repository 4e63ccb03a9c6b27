/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format.h"

#include <zstd.h>

#define ZSTD_LEVEL 3
/* What one item may add to the strings: names and objects of all frames. */
#define STRINGS_AN_ITEM (2 * SYMBOLS_FRAMES_MAX + 8)
#define PROCESS_SEED 0x70726f63
#define FRAME_SEED 0x6672616d

struct recording_writer {
	int fd, failed;
	uint64_t bytes, n_blocks, n_ticks;
	struct map64 *strings, *frames, *processes, *raws; /* hash → number */
	size_t string_bytes;
	struct recording_moment last_moment;
	ZSTD_CCtx *zstd;
	size_t n;
	uint8_t block[RECORDING_BLOCK_MAX];
	uint8_t stored[sizeof(struct recording_block) + ZSTD_COMPRESSBOUND(RECORDING_BLOCK_MAX)];
};

/* ---- bytes ---- */

static int write_all(struct recording_writer *w, const void *data, size_t size)
{
	const uint8_t *at = data;

	while (size > 0) {
		ssize_t n = write(w->fd, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return negative_errno();
		at += n;
		size -= (size_t)n;
		w->bytes += (uint64_t)n;
	}
	return 0;
}

static void flush(struct recording_writer *w)
{
	struct recording_block head = { .size = (uint32_t)w->n };
	size_t stored;

	if (w->n == 0 || w->failed < 0)
		return;
	stored = ZSTD_compressCCtx(w->zstd, w->stored + sizeof(head), sizeof(w->stored) - sizeof(head), w->block, w->n, ZSTD_LEVEL);
	if (ZSTD_isError(stored)) {
		w->failed = -ENOMEM;
		return;
	}
	head.stored = (uint32_t)stored;
	head.check = hash64(w->stored + sizeof(head), stored, w->n_blocks++);
	memcpy(w->stored, &head, sizeof(head));
	w->failed = write_all(w, w->stored, sizeof(head) + stored);
	w->n = 0;
}

static void begin(struct recording_writer *w, unsigned type)
{
	if (w->n > sizeof(w->block) - RECORD_SIZE_MAX)
		flush(w);
	if (w->failed < 0)
		w->n = 0;
	w->block[w->n++] = (uint8_t)type;
}

static void put(struct recording_writer *w, uint64_t v)
{
	while (v >= 0x80) {
		w->block[w->n++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	w->block[w->n++] = (uint8_t)v;
}

/* Small ones of either sign are short. */
static void put_signed(struct recording_writer *w, int64_t v)
{
	put(w, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
}

static void put_word(struct recording_writer *w, uint64_t v)
{
	memcpy(w->block + w->n, &v, sizeof(v));
	w->n += sizeof(v);
}

static void put_double(struct recording_writer *w, double d)
{
	uint64_t v;

	memcpy(&v, &d, sizeof(v));
	put_word(w, v);
}

static void put_bytes(struct recording_writer *w, const char *text)
{
	size_t n = MIN(strlen(text), (size_t)STRING_MAX);

	put(w, n);
	memcpy(w->block + w->n, text, n);
	w->n += n;
}

/* ---- tables ---- */

static void reset(struct recording_writer *w)
{
	begin(w, TYPE_RESET);
	map64_clear(w->strings);
	map64_clear(w->frames);
	map64_clear(w->processes);
	map64_clear(w->raws);
	w->string_bytes = 0;
}

/* For one item, whatever it is. */
static void make_room(struct recording_writer *w)
{
	if (map64_size(w->strings) + STRINGS_AN_ITEM > RECORDING_TABLE_MAX ||
	    map64_size(w->frames) + SYMBOLS_FRAMES_MAX > RECORDING_TABLE_MAX || map64_size(w->processes) + 1 > RECORDING_TABLE_MAX ||
	    map64_size(w->raws) + 1 > RECORDING_TABLE_MAX || w->string_bytes + STRINGS_AN_ITEM * (STRING_MAX + 1) > RECORDING_STRINGS_MAX)
		reset(w);
}

static uint64_t add(struct map64 *table, uint64_t key)
{
	uint64_t number = map64_size(table);

	(void)map64_put(table, key, number); /* make_room() has seen to it */
	return number;
}

static uint64_t string(struct recording_writer *w, const char *text)
{
	uint64_t key = hash64(text, strnlen(text, STRING_MAX), 0), number;

	if (map64_get(w->strings, key, &number))
		return number;
	begin(w, TYPE_STRING);
	put_bytes(w, text);
	w->string_bytes += strnlen(text, STRING_MAX) + 1;
	return add(w->strings, key);
}

static uint64_t frame(struct recording_writer *w, const struct symbols_frame *f)
{
	uint64_t display = string(w, f->display), object = string(w, f->object), number;
	const uint64_t content[] = { f->id, (uint64_t)f->kind, display, object };
	uint64_t key = hash64(content, sizeof(content), FRAME_SEED);

	if (map64_get(w->frames, key, &number))
		return number;
	begin(w, TYPE_FRAME);
	put_word(w, f->id);
	put(w, (uint64_t)f->kind);
	put(w, display);
	put(w, object);
	return add(w->frames, key);
}

/* As of when it was seen is no part of it: it is asked for and told by name only. */
static uint64_t process(struct recording_writer *w, const struct collect_process *p)
{
	uint64_t comm = string(w, p->comm), number;
	const uint64_t content[] = { (uint64_t)p->pid, p->exec_id, p->start_ns, p->cgroup_id, p->uid, p->kernel_thread, comm };
	uint64_t key = hash64(content, sizeof(content), PROCESS_SEED);

	if (map64_get(w->processes, key, &number))
		return number;
	begin(w, TYPE_NEW_PROCESS);
	put_signed(w, p->pid);
	put(w, p->exec_id);
	put(w, p->start_ns);
	put(w, p->cgroup_id);
	put(w, p->uid);
	put(w, p->kernel_thread);
	put(w, comm);
	return add(w->processes, key);
}

static uint64_t raw(struct recording_writer *w, uint64_t id)
{
	uint64_t number;

	if (map64_get(w->raws, id, &number))
		return number;
	begin(w, TYPE_RAW);
	put_word(w, id);
	return add(w->raws, id);
}

/* ---- items ---- */

static void begin_item(struct recording_writer *w, enum recording_kind kind)
{
	begin(w, TYPE_KINDS + kind);
}

/* Which of them are not zero, and those. */
static void put_values(struct recording_writer *w, const uint64_t values[static METRIC_N])
{
	uint64_t there = 0;

	for (unsigned m = 0; m < METRIC_N; m++)
		there |= (uint64_t)(values[m] != 0) << m;
	put(w, there);
	for (unsigned m = 0; m < METRIC_N; m++)
		if (values[m] != 0)
			put_signed(w, (int64_t)values[m]);
}

static void write_config(struct recording_writer *w, const struct recording_config *c)
{
	begin_item(w, RECORDING_CONFIG);
	put(w, METRIC_N);
	put(w, c->store_size);
	for (size_t i = 0; i < ELEMENTS_OF(c->keep_us); i++)
		put(w, c->keep_us[i]);
	put(w, c->slices_per_series);
	put(w, c->max_stacks);
	put(w, c->max_clusters);
	put(w, c->max_incidents);
	put(w, c->memory_bytes);
	put_double(w, c->false_alarms_per_day);
	put_bytes(w, c->version);
	put_bytes(w, c->kernel);
	put_bytes(w, c->machine);
}

static void write_process(struct recording_writer *w, const struct recording_process *p)
{
	const struct symbols_process *k = &p->known;
	uint64_t asked = process(w, &p->asked), comm = 0, exe = 0, cgroup = 0, unit = 0;

	if (p->result >= 0) {
		comm = string(w, k->comm);
		exe = string(w, k->exe);
		cgroup = string(w, k->cgroup);
		unit = string(w, k->unit);
	}
	begin_item(w, RECORDING_PROCESS);
	put(w, asked);
	put_signed(w, p->result);
	if (p->result < 0)
		return;
	put(w, k->uid);
	put(w, (uint64_t)k->kernel_thread | (uint64_t)k->identified << 1 | (uint64_t)k->settled << 2);
	put(w, comm);
	put(w, exe);
	put(w, cgroup);
	put(w, unit);
	put(w, p->start_us);
}

static void write_stack(struct recording_writer *w, const struct recording_stack *s)
{
	uint64_t asked = raw(w, s->raw_id), frames[SYMBOLS_FRAMES_MAX];

	for (size_t i = 0; s->result >= 0 && i < s->n; i++)
		frames[i] = frame(w, &s->frames[i]);
	begin_item(w, RECORDING_STACK);
	put(w, asked);
	put_signed(w, s->result);
	if (s->result < 0)
		return;
	put_word(w, s->id);
	put(w, s->truncated);
	put(w, s->n);
	for (size_t i = 0; i < s->n; i++)
		put(w, frames[i]);
}

static void write_tick(struct recording_writer *w, const struct recording_item *item)
{
	begin_item(w, RECORDING_TICK);
	put(w, item->tick.now_us);
	put(w, item->tick.n_own);
	for (size_t i = 0; i < item->tick.n_own; i++)
		put_signed(w, item->tick.own[i]);
	w->n_ticks++;
}

static void write_begin(struct recording_writer *w, const struct collect_tick_info *info)
{
	begin_item(w, RECORDING_BEGIN);
	put(w, info->time_us);
	put(w, info->duration_ns);
	put_double(w, info->load);
	put(w, info->gate_open);
	put(w, info->online_cpus);
	put(w, info->drain_ns);
	w->last_moment = (struct recording_moment){ .time_us = info->time_us };
}

static void write_gate(struct recording_writer *w, const struct collect_gate_change *g)
{
	uint64_t cause = string(w, g->cause);

	begin_item(w, RECORDING_GATE);
	put(w, g->time_us);
	put(w, g->open);
	put_double(w, g->load);
	put(w, cause);
}

static void write_sample(struct recording_writer *w, const struct collect_sample *s)
{
	static const uint64_t exact[METRIC_N];
	uint64_t who = process(w, &s->process), where = raw(w, s->raw_id);

	begin_item(w, RECORDING_SAMPLE);
	put(w, where);
	put(w, who);
	put_values(w, s->values);
	put_values(w, s->variances ? s->variances : exact);
}

static void write_wait(struct recording_writer *w, const struct collect_wait *wait)
{
	uint64_t who = process(w, &wait->process), where = raw(w, wait->raw_id);

	begin_item(w, RECORDING_WAIT);
	put(w, where);
	put(w, who);
	put_signed(w, wait->threads);
}

static void write_total(struct recording_writer *w, const struct collect_total *t)
{
	uint64_t who = process(w, &t->process);

	begin_item(w, RECORDING_TOTAL);
	put(w, who);
	put(w, t->threads);
	put_values(w, t->values);
}

static void write_memory(struct recording_writer *w, const struct collect_memory *m)
{
	uint64_t who = process(w, &m->process);

	begin_item(w, RECORDING_MEMORY);
	put(w, who);
	put_signed(w, m->resident);
	put_signed(w, m->anonymous);
}

static void write_moment(struct recording_writer *w, const struct collect_moment *m)
{
	uint64_t where = raw(w, m->raw_id), comm = string(w, m->comm);
	struct recording_moment *last = &w->last_moment;

	begin_item(w, RECORDING_MOMENT);
	put(w, where);
	put_signed(w, (int64_t)(m->time_us - last->time_us));
	put_signed(w, (int64_t)(m->weight_ns - last->weight_ns));
	put_signed(w, (int64_t)(m->tid - last->tid));
	put(w, comm);
	*last = (struct recording_moment){ m->time_us, m->weight_ns, m->tid };
}

static void write_loss(struct recording_writer *w, const char *cause, uint64_t n)
{
	uint64_t number = string(w, cause);

	begin_item(w, RECORDING_LOSS);
	put(w, number);
	put(w, n);
}

static void write_digest(struct recording_writer *w, const struct recording_digest *d)
{
	begin_item(w, RECORDING_DIGEST);
	put_word(w, d->series);
	put_word(w, d->scores);
	put(w, d->n_series);
	put(w, d->n_anomalies);
}

void recording_write(struct recording_writer *w, const struct recording_item *item)
{
	make_room(w);
	switch (item->kind) {
	case RECORDING_CONFIG:
		write_config(w, &item->config);
		break;
	case RECORDING_TICK:
		write_tick(w, item);
		break;
	case RECORDING_PROCESS:
		write_process(w, item->process);
		break;
	case RECORDING_STACK:
		write_stack(w, item->stack);
		break;
	case RECORDING_BEGIN:
		write_begin(w, &item->begin);
		break;
	case RECORDING_GATE:
		write_gate(w, &item->gate);
		break;
	case RECORDING_SAMPLE:
		write_sample(w, &item->sample);
		break;
	case RECORDING_WAIT:
		write_wait(w, &item->wait);
		break;
	case RECORDING_TOTAL:
		write_total(w, &item->total);
		break;
	case RECORDING_MEMORY:
		write_memory(w, &item->memory);
		break;
	case RECORDING_MOMENT:
		write_moment(w, &item->moment);
		break;
	case RECORDING_LOSS:
		write_loss(w, item->loss.cause, item->loss.n);
		break;
	case RECORDING_DIGEST:
		write_digest(w, &item->digest);
		break;
	case RECORDING_END:
		begin_item(w, RECORDING_END);
		put(w, item->n_ticks);
		break;
	}
}

int recording_writer_end_tick(struct recording_writer *w, const struct recording_digest *digest)
{
	recording_write(w, &(struct recording_item){ .kind = RECORDING_DIGEST, .digest = *digest });
	flush(w);
	return w->failed;
}

int recording_writer_finish(struct recording_writer *w)
{
	recording_write(w, &(struct recording_item){ .kind = RECORDING_END, .n_ticks = w->n_ticks });
	flush(w);
	return w->failed;
}

uint64_t recording_writer_bytes(const struct recording_writer *w)
{
	return w->bytes;
}

int recording_writer_new(struct recording_writer **ret, int fd, const struct recording_config *config)
{
	const struct recording_header header = { .magic = RECORDING_MAGIC, .version = RECORDING_VERSION };
	_cleanup_(recording_writer_freep) struct recording_writer *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->fd = fd;
	w->zstd = ZSTD_createCCtx();
	if (!w->zstd)
		return -ENOMEM;
	if ((r = map64_new(&w->strings, RECORDING_TABLE_MAX)) < 0 || (r = map64_new(&w->frames, RECORDING_TABLE_MAX)) < 0 ||
	    (r = map64_new(&w->processes, RECORDING_TABLE_MAX)) < 0 || (r = map64_new(&w->raws, RECORDING_TABLE_MAX)) < 0 ||
	    (r = write_all(w, &header, sizeof(header))) < 0)
		return r;
	recording_write(w, &(struct recording_item){ .kind = RECORDING_CONFIG, .config = *config });
	*ret = TAKE_PTR(w);
	return 0;
}

struct recording_writer *recording_writer_free(struct recording_writer *w)
{
	if (!w)
		return NULL;
	map64_free(w->strings);
	map64_free(w->frames);
	map64_free(w->processes);
	map64_free(w->raws);
	ZSTD_freeCCtx(w->zstd);
	free(w);
	return NULL;
}
