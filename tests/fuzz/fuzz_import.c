/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as an import; and as a list of changes to what is inside of one, whose line and checksums are then made right again: it is refused,
 * or read as it says, and what was read is opened as stackd serve opens it. A change is a place (in the head, or anywhere), a length, and bytes. */
#include <assert.h>
#include <sys/mman.h>
#include <zstd.h>

#include "import_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA (1U << 20) /* the least */
#define INSIDE_MAX (1U << 20)
#define HEAD_SIZE (19 * sizeof(uint64_t)) /* and a little */
#define LINE "{}"

static struct source source;
static volatile uint64_t sum; /* all has been read */
static uint8_t whole[INSIDE_MAX]; /* inside of an import of a few ticks */
static size_t n_whole;

static void write_source(const void *bytes, size_t n, size_t at)
{
	if (pwrite(source.fd, bytes, n, (off_t)at) != (ssize_t)n || ftruncate(source.fd, (off_t)(at + n)) < 0)
		abort();
}

/* ---- one that is good ---- */

static void write_ticks(struct store *s)
{
	static const struct store_frame frames[] = { { .id = 1, .display = "function", .object = "app" }, { .id = 2, .display = "main", .object = "app" } };
	static const struct store_process process = { .pid = 1, .exec_id = 1, .comm = "app", .exe = "/usr/bin/app", .unit = "app.service", .cgroup = "/a" };
	const uint64_t values[METRIC_N] = { 20408163, 100003 };

	for (uint64_t t = 0; t < 3; t++) {
		const struct store_tick tick = { .time_us = 1700000000000000 + t * USEC_PER_SEC, .duration_ns = NSEC_PER_SEC, .online_cpus = 2 };
		store_ref process_ref, stack;

		assert(store_tick_begin(s, tick.time_us, tick.duration_ns) >= 0);
		assert(store_intern_process(s, &process, &process_ref) >= 0);
		assert(store_intern_stack(s, 100, frames, ELEMENTS_OF(frames), false, &stack) >= 0);
		store_add(s, process_ref, stack, values);
		store_tick_commit(s, &tick);
	}
}

static void unpack_whole(const char *bytes, size_t size)
{
	ZSTD_DCtx *context = ZSTD_createDCtx();
	ZSTD_inBuffer in = { .src = bytes + sizeof(IMPORT_MAGIC LINE), .size = size - sizeof(IMPORT_MAGIC LINE) };
	ZSTD_outBuffer out = { .dst = whole, .size = sizeof(whole) };

	assert(context && ZSTD_decompressStream(context, &out, &in) == 0);
	n_whole = out.pos;
	ZSTD_freeDCtx(context);
}

static void make_whole(void)
{
	static uint64_t arena[ARENA / sizeof(uint64_t)];
	static const struct cluster_config clusters_config = { .max_clusters = 8, .max_incidents = 16 };
	struct import_rooms rooms = {
		.arena = arena,
		.size = sizeof(arena),
		.layout = { .tiers = { { 1, 30 }, { 10, 100 }, { 60, 600 } }, .series_state_size = 64, .global_state_size = 64, .slices_per_series = 4 },
		.max_clusters = clusters_config.max_clusters,
		.max_incidents = clusters_config.max_incidents,
	};
	char *bytes = NULL;
	size_t size;
	FILE *file = open_memstream(&bytes, &size);
	bool reused;

	assert(file && store_open(&rooms.store, arena, sizeof(arena), &rooms.layout, &reused) >= 0);
	assert(clusters_new(&rooms.clusters, &clusters_config) >= 0);
	write_ticks(rooms.store);
	assert(moments_new(&rooms.moments, 4096) >= 0);
	moments_add_named(rooms.moments, &(struct moment){ .time_us = 1700000000000000, .process = 1, .stack = 1, .weight_us = 20000 });
	moments_end_tick(rooms.moments, 1699999999000000, 1700000002000000);
	assert(import_write(file, LINE, &rooms) == 0 && fclose(file) == 0);
	moments_free(rooms.moments);
	unpack_whole(bytes, size);
	free(bytes);
	clusters_free(rooms.clusters);
	store_close(rooms.store);
}

/* ---- reading ---- */

static int read_moment(void *userdata, const struct moment *m)
{
	struct store_process process;

	sum += m->weight_us + (store_get_process(userdata, m->process, &process) >= 0) + (store_keep_stack(userdata, m->stack) > 0);
	return 0;
}

static void open_rooms(const struct import *i)
{
	const struct cluster_config config = { .max_clusters = i->max_clusters, .max_incidents = i->max_incidents };
	_cleanup_(clusters_freep) struct clusters *c = NULL;
	struct store *s = NULL;
	bool reused;

	if (store_open(&s, i->arena, i->size, &i->layout, &reused) >= 0 && reused && clusters_new(&c, &config) >= 0)
		sum += clusters_load(c, i->image, i->image_size) >= 0;
	if (s && i->moments)
		moments_visit(i->moments, 0, UINT64_MAX, read_moment, s);
	store_close(s);
}

static int read_all(void)
{
	struct import i;
	int r;

	assert(source_seek(&source, 0) == 0);
	r = import_read(&source, &i);
	assert(r == 0 || r == -EBADMSG || r == -EPROTO || r == -ENOMEM);
	if (r < 0)
		return r;
	assert(i.line && strlen(i.line) < IMPORT_LINE_MAX && !strchr(i.line, '\n'));
	assert(i.arena && i.size > 0 && i.size <= IMPORT_ARENA_MAX && i.image && i.image_size > 0);
	for (size_t k = 0; k < i.image_size; k++)
		sum += ((const uint8_t *)i.image)[k];
	open_rooms(&i);
	import_done(&i);
	return 0;
}

static int read_inside(const uint8_t *inside, size_t n)
{
	static const char lines[] = IMPORT_MAGIC LINE "\n";
	static uint8_t packed[ZSTD_COMPRESSBOUND(INSIDE_MAX)];

	write_source(lines, sizeof(lines) - 1, 0);
	write_source(packed, ZSTD_compress(packed, sizeof(packed), inside, n, 1), sizeof(lines) - 1);
	return read_all();
}

static void change(uint8_t *inside, const uint8_t *data, size_t size)
{
	struct {
		uint32_t place;
		uint8_t n, in_head;
	} c;

	for (; size > sizeof(c); data += sizeof(c) + c.n, size -= sizeof(c) + c.n) {
		memcpy(&c, data, sizeof(c));
		c.n = (uint8_t)MIN((size_t)c.n, size - sizeof(c));
		c.place %= c.in_head & 1 ? HEAD_SIZE : n_whole;
		memcpy(inside + c.place, data + sizeof(c), MIN((size_t)c.n, n_whole - c.place));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t inside[INSIDE_MAX];
	const uint64_t line_hash = hash64_string(LINE, 0);

	if (source.fd <= 0) {
		source.fd = memfd_create("fuzz", MFD_CLOEXEC);
		make_whole();
		assert(read_inside(whole, n_whole) == 0);
	}
	write_source(data, size, 0);
	read_all();
	if (size < 2)
		return 0;
	memcpy(inside, whole, n_whole);
	change(inside, data + 1, size - 1);
	memcpy(inside, &line_hash, sizeof(line_hash));
	/* The first byte says how much of it there is: mostly all. */
	read_inside(inside, data[0] < 64 ? n_whole * data[0] / 64 : n_whole);
	return 0;
}
