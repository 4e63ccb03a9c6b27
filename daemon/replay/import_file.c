/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "import_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <zstd.h>

#define PAGE 4096U
#define PAGES_END UINT32_MAX
#define LEVEL 3
#define CHUNK (128U << 10)
#define MAGIC_SIZE (sizeof(IMPORT_MAGIC) - 1)
/* Of the magic, what is the same in each version. */
#define MAGIC_COMMON (sizeof("stackd import ") - 1)

struct head {
	uint64_t line_hash;
	uint64_t size, image_size;
	uint64_t keep_s[STORE_TIERS], step_s[STORE_TIERS];
	uint64_t series_state_size, global_state_size, slices_per_series;
	uint64_t max_clusters, max_incidents;
	uint64_t n_moments, moments_since_us, moments_until_us;
};

/* As it is in the file. */
struct packed_moment {
	uint64_t time_us;
	uint32_t process, stack, weight_us, tid;
};

/* ---- writing ---- */

struct packer {
	ZSTD_CCtx *context;
	FILE *file;
	uint8_t out[CHUNK];
};

static void packer_free(struct packer *p)
{
	ZSTD_freeCCtx(p->context);
	free(p);
}
DEFINE_CLEANUP(struct packer *, packer_free)

static int pack(struct packer *p, const void *bytes, size_t size, ZSTD_EndDirective directive)
{
	ZSTD_inBuffer in = { .src = bytes, .size = size };
	size_t left;

	do {
		ZSTD_outBuffer out = { .dst = p->out, .size = sizeof(p->out) };

		left = ZSTD_compressStream2(p->context, &out, &in, directive);
		if (ZSTD_isError(left))
			return -ENOMEM;
		if (fwrite(p->out, 1, out.pos, p->file) != out.pos)
			return negative_errno();
	} while (in.pos < in.size || (directive == ZSTD_e_end && left > 0));
	return 0;
}

/* Which pages of the arena were ever written, from /proc/self/pagemap: most were not, and reading one makes it. Without that file all are
 * looked at. */
struct touched {
	int fd;
	uint64_t first, entries[512];
	size_t n;
};

static bool is_touched(struct touched *t, const uint8_t *page)
{
	const uint64_t present = 1ULL << 63, swapped = 1ULL << 62;
	uint64_t number = (uintptr_t)page / (uint64_t)sysconf(_SC_PAGESIZE);

	if (t->fd < 0)
		return true;
	if (number < t->first || number - t->first >= t->n) {
		ssize_t n = pread(t->fd, t->entries, sizeof(t->entries), (off_t)(number * sizeof(uint64_t)));

		if (n < (ssize_t)sizeof(uint64_t)) {
			t->fd = close_fd(t->fd);
			return true;
		}
		t->first = number;
		t->n = (size_t)n / sizeof(uint64_t);
	}
	return t->entries[number - t->first] & (present | swapped);
}

static bool is_zero(const uint8_t *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* Each page behind its number. */
static int pack_pages(struct packer *p, const struct import_rooms *rooms)
{
	const uint32_t end = PAGES_END;
	struct touched touched = { .fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) };
	const uint8_t *arena = rooms->arena;
	int r = 0;

	for (size_t at = 0; r >= 0 && at < rooms->size; at += PAGE) {
		size_t n = MIN((size_t)PAGE, rooms->size - at);
		uint32_t number = (uint32_t)(at / PAGE);

		if (!is_touched(&touched, arena + at) || is_zero(arena + at, n))
			continue;
		r = pack(p, &number, sizeof(number), ZSTD_e_continue);
		if (r >= 0)
			r = pack(p, arena + at, n, ZSTD_e_continue);
	}
	close_fd(touched.fd);
	return r < 0 ? r : pack(p, &end, sizeof(end), ZSTD_e_end);
}

struct packing {
	struct packer *packer; /* NULL: they are only counted */
	uint64_t n;
};

static int pack_moment(void *userdata, const struct moment *m)
{
	const struct packed_moment packed = { m->time_us, m->process, m->stack, (uint32_t)m->weight_us, m->tid };
	struct packing *p = userdata;

	p->n++;
	return p->packer ? pack(p->packer, &packed, sizeof(packed), ZSTD_e_continue) : 0;
}

static int pack_moments(struct packer *p, const struct import_rooms *rooms)
{
	struct packing packing = { .packer = p };

	return rooms->moments ? moments_visit(rooms->moments, 0, UINT64_MAX, pack_moment, &packing) : 0;
}

static void count_moments(const struct import_rooms *rooms, struct head *h)
{
	struct packing packing = {};

	if (!rooms->moments || !moments_range(rooms->moments, &h->moments_since_us, &h->moments_until_us))
		return;
	(void)moments_visit(rooms->moments, 0, UINT64_MAX, pack_moment, &packing);
	h->n_moments = packing.n;
}

static struct head make_head(const char *line, const struct import_rooms *rooms, size_t image_size)
{
	struct head h = {
		.line_hash = hash64_string(line, 0),
		.size = rooms->size,
		.image_size = image_size,
		.series_state_size = rooms->layout.series_state_size,
		.global_state_size = rooms->layout.global_state_size,
		.slices_per_series = rooms->layout.slices_per_series,
		.max_clusters = rooms->max_clusters,
		.max_incidents = rooms->max_incidents,
	};

	for (size_t i = 0; i < STORE_TIERS; i++) {
		h.keep_s[i] = rooms->layout.tiers[i].keep_s;
		h.step_s[i] = rooms->layout.tiers[i].step_s;
	}
	count_moments(rooms, &h);
	return h;
}

int import_write(FILE *file, const char *line, const struct import_rooms *rooms)
{
	_cleanup_(packer_freep) struct packer *p = calloc(1, sizeof(*p));
	const void *image;
	struct head head;
	size_t image_size;
	int r;

	if (strlen(line) >= IMPORT_LINE_MAX)
		return -EFBIG;
	if (!p)
		return -ENOMEM;
	p->file = file;
	p->context = ZSTD_createCCtx();
	if (!p->context || ZSTD_isError(ZSTD_CCtx_setParameter(p->context, ZSTD_c_compressionLevel, LEVEL)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(p->context, ZSTD_c_checksumFlag, 1)))
		return -ENOMEM;
	clusters_image(rooms->clusters, &image, &image_size);
	head = make_head(line, rooms, image_size);
	fprintf(file, IMPORT_MAGIC "%s\n", line);
	r = pack(p, &head, sizeof(head), ZSTD_e_continue);
	if (r >= 0)
		r = pack(p, image, image_size, ZSTD_e_continue);
	if (r >= 0)
		r = pack_moments(p, rooms);
	if (r >= 0)
		r = pack_pages(p, rooms);
	if (r < 0)
		return r;
	return fflush(file) != 0 || ferror(file) ? negative_errno() : 0;
}

/* ---- reading ---- */

struct unpacker {
	ZSTD_DCtx *context;
	struct source *source;
	bool ended; /* the frame, whose checksum was right */
	size_t from, to;
	uint8_t bytes[CHUNK];
};

static void unpacker_free(struct unpacker *u)
{
	ZSTD_freeDCtx(u->context);
	free(u);
}
DEFINE_CLEANUP(struct unpacker *, unpacker_free)

static int unpack_more(struct unpacker *u)
{
	ZSTD_outBuffer out = { .dst = u->bytes, .size = sizeof(u->bytes) };

	while (out.pos == 0 && !u->ended) {
		ssize_t n = source_need(u->source, 1);
		ZSTD_inBuffer in;
		size_t left;

		if (n <= 0)
			return n < 0 ? (int)n : -EBADMSG;
		in = (ZSTD_inBuffer){ .src = source_at(u->source), .size = u->source->to - u->source->from };
		left = ZSTD_decompressStream(u->context, &out, &in);
		if (ZSTD_isError(left) || source_skip(u->source, in.pos) < 0)
			return -EBADMSG;
		u->ended = left == 0;
	}
	u->from = 0;
	u->to = out.pos;
	return 0;
}

static int unpack(struct unpacker *u, void *ret, size_t size)
{
	uint8_t *to = ret;

	while (size > 0) {
		size_t n = MIN(size, u->to - u->from);
		int r = n == 0 ? unpack_more(u) : 0;

		if (r < 0 || (n == 0 && u->to == 0))
			return r < 0 ? r : -EBADMSG;
		memcpy(to, u->bytes + u->from, n);
		u->from += n;
		to += n;
		size -= n;
	}
	return 0;
}

/* Nothing may follow. */
static int unpack_end(struct unpacker *u)
{
	int r = u->from < u->to ? -EBADMSG : unpack_more(u);

	if (r < 0)
		return r;
	return u->ended && u->to == 0 && source_need(u->source, 1) == 0 ? 0 : -EBADMSG;
}

static int unpack_pages(struct unpacker *u, struct import *i)
{
	uint64_t next = 0;

	for (;;) {
		uint32_t number;
		uint64_t at;
		int r = unpack(u, &number, sizeof(number));

		if (r < 0)
			return r;
		if (number == PAGES_END)
			return unpack_end(u);
		at = (uint64_t)number * PAGE;
		if (number < next || at >= i->size)
			return -EBADMSG;
		next = (uint64_t)number + 1;
		r = unpack(u, (uint8_t *)i->arena + at, MIN((uint64_t)PAGE, i->size - at));
		if (r < 0)
			return r;
	}
}

static bool is_possible(const struct head *h)
{
	for (size_t i = 0; i < STORE_TIERS; i++)
		if (h->keep_s[i] > UINT32_MAX || h->step_s[i] > UINT32_MAX)
			return false;
	return h->size > 0 && h->size <= IMPORT_ARENA_MAX && h->size % 8 == 0 && h->image_size > 0 &&
		h->image_size <= IMPORT_CLUSTERS_SIZE_MAX && h->series_state_size <= UINT32_MAX && h->global_state_size <= UINT32_MAX &&
		h->slices_per_series <= UINT32_MAX && h->max_clusters >= 8 && h->max_clusters <= 4096 && h->max_incidents >= 16 &&
		h->max_incidents <= 65536 && h->n_moments <= IMPORT_MOMENTS_MAX &&
		(h->n_moments == 0 || (h->moments_since_us < h->moments_until_us &&
		                       h->moments_until_us - h->moments_since_us <= IMPORT_MOMENTS_SPAN_MAX));
}

static int take_head(struct import *i, const struct head *h)
{
	if (h->line_hash != hash64_string(i->line, 0) || !is_possible(h))
		return -EBADMSG;
	i->size = h->size;
	i->image_size = h->image_size;
	i->max_clusters = (uint32_t)h->max_clusters;
	i->max_incidents = (uint32_t)h->max_incidents;
	i->layout = (struct store_config){
		.series_state_size = (uint32_t)h->series_state_size,
		.global_state_size = (uint32_t)h->global_state_size,
		.slices_per_series = (uint32_t)h->slices_per_series,
	};
	for (size_t t = 0; t < STORE_TIERS; t++)
		i->layout.tiers[t] = (struct store_tier_config){ (uint32_t)h->step_s[t], (uint32_t)h->keep_s[t] };
	i->image = malloc(i->image_size);
	i->arena = mmap(NULL, i->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (i->arena == MAP_FAILED)
		i->arena = NULL;
	else
		(void)madvise(i->arena, i->size, MADV_NOHUGEPAGE); /* as report.c */
	return i->image && i->arena ? 0 : -ENOMEM;
}

static int unpack_moments(struct unpacker *u, struct import *i, const struct head *h)
{
	int r = h->n_moments > 0 ? moments_new(&i->moments, h->n_moments * sizeof(struct packed_moment)) : 0;

	for (uint64_t n = 0; r >= 0 && n < h->n_moments; n++) {
		struct packed_moment m;

		r = unpack(u, &m, sizeof(m));
		if (r >= 0)
			moments_add_named(i->moments, &(struct moment){ .time_us = m.time_us, .process = m.process, .stack = m.stack, .weight_us = m.weight_us, .tid = m.tid });
	}
	if (r >= 0 && i->moments)
		moments_end_tick(i->moments, h->moments_since_us, h->moments_until_us);
	return r;
}

static int read_lines(struct source *source, struct import *i)
{
	ssize_t n = source_need(source, MAGIC_SIZE);
	char *line;
	int r;

	if (n < 0)
		return (int)n;
	if (!import_is_magic(source_at(source), (size_t)n))
		return n >= (ssize_t)MAGIC_COMMON && memcmp(source_at(source), IMPORT_MAGIC, MAGIC_COMMON) == 0 ? -EPROTO : -EBADMSG;
	(void)source_skip(source, MAGIC_SIZE);
	r = source_line(source, IMPORT_LINE_MAX, &line);
	if (r <= 0)
		return r < 0 ? r : -EBADMSG;
	i->line = strdup(line);
	return i->line ? 0 : -ENOMEM;
}

static int read_all(struct source *source, struct import *i)
{
	_cleanup_(unpacker_freep) struct unpacker *u = calloc(1, sizeof(*u));
	struct head head;
	int r;

	if (!u)
		return -ENOMEM;
	u->source = source;
	u->context = ZSTD_createDCtx();
	if (!u->context)
		return -ENOMEM;
	r = read_lines(source, i);
	if (r >= 0)
		r = unpack(u, &head, sizeof(head));
	if (r >= 0)
		r = take_head(i, &head);
	if (r >= 0)
		r = unpack(u, i->image, i->image_size);
	if (r >= 0)
		r = unpack_moments(u, i, &head);
	if (r >= 0)
		r = unpack_pages(u, i);
	/* Before anything is allocated by what it claims to be. */
	return r < 0 || store_is_of(i->arena, i->size, &i->layout) ? r : -EPROTO;
}

bool import_is_magic(const void *bytes, size_t size)
{
	return size >= MAGIC_SIZE && memcmp(bytes, IMPORT_MAGIC, MAGIC_SIZE) == 0;
}

int import_read(struct source *source, struct import *ret)
{
	struct import i = {};
	int r = read_all(source, &i);

	if (r < 0) {
		import_done(&i);
		return r;
	}
	*ret = i;
	return 0;
}

void import_done(struct import *i)
{
	if (i->arena)
		munmap(i->arena, i->size);
	moments_free(i->moments);
	free(i->image);
	free(i->line);
	*i = (struct import){};
}
