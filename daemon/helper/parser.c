/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parser: gets descriptors of ELF files, names what is at their offsets, and makes their unwind tables. It has no privilege, and
 * every file may be the one that was made to break it. */
#include <assert.h>
#include <malloc.h>
#include <stdalign.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "allocators.h"
#include "demangle.h"
#include "dwarf_lines.h"
#include "elf_symbols.h"
#include "elf_unwind.h"
#include "perf_map.h"
#include "protocol.h"

static_assert((int)ELF_LINK_MAX == (int)PARSER_LINK_MAX, "a debug file's name fits into a reply");

#define CACHE_BYTES_MAX (256ULL << 20)
#define CACHE_FILES_MAX 512
#define LINES_FILES_MAX 4

static_assert((int)DWARF_PLACES_MAX == (int)PARSER_PLACES_MAX, "all places fit into a reply");
static_assert((int)DWARF_ALT_MAX == (int)PARSER_PATH_MAX, "a path fits into a reply");
static_assert(PARSER_LINES_MAX * (1 + PARSER_PLACES_MAX * (sizeof(struct parser_reply_place) + PARSER_NAME_MAX + PARSER_PATH_MAX)) +
		      PARSER_PATH_MAX + sizeof(struct parser_reply_header) <= PARSER_REPLY_MAX,
	      "all lines fit into a reply");

static_assert((int)ELF_BUILD_ID_MAX == (int)PARSER_BUILD_ID_MAX, "a build ID fits into a reply");

struct file {
	uint64_t object;
	uint64_t used; /* when: counts requests */
	uint64_t content_hash;
	struct elf_symbols *symbols; /* both NULL: error says why */
	struct perf_map *perf_map;
	bool with_debug; /* or it was not its debug file */
	int error;
};

/* What was asked for lines last: reading all units of a file anew for each question would take longer than the answers. */
struct lines_file {
	uint64_t object; /* 0: free */
	bool with_debug, with_alt;
	struct dwarf_lines *lines; /* NULL: error says why */
	int error;
	int fds[PACKET_FDS_MAX];
};

struct parser {
	struct file files[CACHE_FILES_MAX];
	size_t n;
	struct lines_file lines[LINES_FILES_MAX]; /* the last one asked for first */
	uint64_t bytes, clock;
	struct parser_request_packet request;
	alignas(struct parser_reply_header) uint8_t reply[PARSER_REPLY_MAX];
};

static uint64_t file_bytes(const struct file *f)
{
	return (f->symbols ? elf_symbols_bytes(f->symbols) : 0) + (f->perf_map ? perf_map_bytes(f->perf_map) : 0);
}

static void evict(struct parser *p, struct file *f)
{
	p->bytes -= file_bytes(f);
	elf_symbols_free(f->symbols);
	perf_map_free(f->perf_map);
	*f = p->files[--p->n];
}

static void evict_oldest(struct parser *p)
{
	size_t oldest = 0;

	for (size_t i = 1; i < p->n; i++)
		if (p->files[i].used < p->files[oldest].used)
			oldest = i;
	evict(p, &p->files[oldest]);
}

static int load_names(struct file *f, enum parser_kind kind, const int *fds)
{
	return kind == PARSER_PERF_MAP ? perf_map_load(&f->perf_map, fds[0])
				       : elf_symbols_load(&f->symbols, fds[0], fds[1]);
}

static struct file *load_file(struct parser *p, const int *fds)
{
	enum parser_kind kind = p->request.header.kind;
	struct file f = { .object = p->request.header.object, .with_debug = fds[1] >= 0 };
	uint8_t build_id[ELF_BUILD_ID_MAX];

	f.error = load_names(&f, kind, fds);
	while (f.error == -ENOMEM && p->n > 0) {
		evict_oldest(p);
		f.error = load_names(&f, kind, fds);
	}
	/* Only where it is needed: on a cold disk these reads are seeks. */
	if ((!f.symbols || elf_symbols_build_id(f.symbols, build_id) == 0) &&
	    elf_content_hash(fds[0], &f.content_hash) < 0)
		f.content_hash = 0;

	p->bytes += file_bytes(&f);
	while (p->n > 0 && (p->n == CACHE_FILES_MAX || p->bytes > CACHE_BYTES_MAX))
		evict_oldest(p);
	p->files[p->n] = f;
	return &p->files[p->n++];
}

static struct file *find_file(struct parser *p, const int *fds)
{
	struct file *f = NULL;

	for (size_t i = 0; i < p->n && !f; i++)
		if (p->files[i].object == p->request.header.object)
			f = &p->files[i];
	if (f && fds[1] >= 0 && !f->with_debug) {
		evict(p, f);
		f = NULL;
	}
	if (!f)
		f = load_file(p, fds);
	f->used = ++p->clock;
	return f;
}

static void find_symbol(const struct file *f, uint64_t offset, struct elf_symbol *ret)
{
	if (f->perf_map)
		perf_map_lookup(f->perf_map, offset, ret);
	else
		elf_symbols_lookup(f->symbols, offset, ret);
}

static size_t find_symbols(struct parser *p, const int *fds)
{
	const struct parser_request_packet *q = &p->request;
	const struct file *f = find_file(p, fds);
	struct parser_reply_header *h = (struct parser_reply_header *)p->reply;
	struct parser_reply_entry *entries = (struct parser_reply_entry *)(h + 1);
	size_t size;

	h->error = f->error;
	h->content_hash = f->content_hash;
	h->n = f->error < 0 ? 0 : q->header.n;
	if (f->symbols) {
		const char *link;

		h->build_id_size = (uint32_t)elf_symbols_build_id(f->symbols, h->build_id);
		h->wants_debug = elf_symbols_is_stripped(f->symbols, &link) && !f->with_debug &&
			(link[0] != '\0' || h->build_id_size > 0);
		copy_string(h->debug_link, sizeof(h->debug_link), link);
	}

	size = sizeof(*h) + h->n * sizeof(*entries);
	for (uint32_t i = 0; i < h->n; i++) {
		struct elf_symbol s;
		char name[PARSER_NAME_MAX];
		size_t length;

		find_symbol(f, q->offsets[i], &s);
		length = demangle(s.name, name, sizeof(name));
		entries[i] = (struct parser_reply_entry){
			.start = s.start,
			.size = s.size,
			.address = s.address,
			.valid_start = s.valid_start,
			.valid_end = s.valid_end,
			.name_size = (uint32_t)length,
		};
		memcpy(p->reply + size, name, length);
		size += length;
	}
	return size;
}

static_assert((int)ELF_ALLOCATORS_MAX == (int)PARSER_ALLOCATORS_MAX, "those of a file fit into a reply");

static struct parser_allocator place_probe(int file, const struct elf_allocator *a)
{
	uint8_t code[ALLOCATOR_CODE];
	ssize_t n = pread(file, code, sizeof(code), (off_t)a->offset);
	size_t place = n > 0 ? allocator_probe_place(a->call, code, (size_t)n) : 0;

	if (place >= a->size)
		place = 0;
	return (struct parser_allocator){ .offset = a->offset + place, .size = a->size - place, .call = a->call };
}

static size_t find_allocators(struct parser *p, const int *fds)
{
	const struct file *f = find_file(p, fds);
	struct parser_reply_header *h = (struct parser_reply_header *)p->reply;
	struct parser_allocator *all = (struct parser_allocator *)(h + 1);
	struct elf_allocator found[ELF_ALLOCATORS_MAX];

	h->error = f->error;
	if (f->symbols)
		h->n = (uint32_t)elf_symbols_allocators(f->symbols, found);
	for (uint32_t i = 0; i < h->n; i++)
		all[i] = place_probe(fds[0], &found[i]);
	return sizeof(*h) + h->n * sizeof(*all);
}

static size_t make_unwind_table(struct parser *p, int fd, int table_fd)
{
	struct parser_reply_header *h = (struct parser_reply_header *)p->reply;
	struct unwind_table_header table = {};

	h->error = elf_unwind_write(fd, table_fd, p->request.unwind.max_bytes, &table);
	/* The symbols that are kept take the memory that it needs. */
	while (h->error == -ENOMEM && p->n > 0) {
		evict_oldest(p);
		h->error = elf_unwind_write(fd, table_fd, p->request.unwind.max_bytes, &table);
	}
	malloc_trim(0); /* it took several times the table's size */
	if (h->error < 0)
		return sizeof(*h);
	memcpy(h + 1, &table, sizeof(table));
	return sizeof(*h) + sizeof(table);
}

/* ---- lines ---- */

static void forget_lines(struct lines_file *f)
{
	dwarf_lines_close(f->lines);
	for (size_t i = 0; f->object && i < PACKET_FDS_MAX; i++)
		close_fd(f->fds[i]);
	*f = (struct lines_file){};
}

/* Takes the descriptors over. */
static void open_lines(struct parser *p, int fds[static PACKET_FDS_MAX], bool with_debug, bool with_alt)
{
	struct lines_file f = { .object = p->request.header.object, .with_debug = with_debug, .with_alt = with_alt };

	for (size_t i = 0; i < PACKET_FDS_MAX; i++)
		f.fds[i] = TAKE_FD(fds[i]);
	forget_lines(&p->lines[LINES_FILES_MAX - 1]);
	f.error = dwarf_lines_open(&f.lines, f.fds[0], with_debug ? f.fds[1] : -EBADF, with_alt ? f.fds[2] : -EBADF);
	memmove(p->lines + 1, p->lines, (LINES_FILES_MAX - 1) * sizeof(*p->lines));
	p->lines[0] = f;
}

/* Asked for with a file that was not there before, it is opened anew. */
static struct lines_file *find_lines(struct parser *p, int fds[static PACKET_FDS_MAX], bool with_debug, bool with_alt)
{
	for (size_t i = 0; i < LINES_FILES_MAX; i++) {
		struct lines_file f = p->lines[i];

		if (f.object != p->request.header.object)
			continue;
		if (f.with_debug < with_debug || f.with_alt < with_alt) {
			forget_lines(&p->lines[i]);
			memmove(p->lines + i, p->lines + i + 1, (LINES_FILES_MAX - 1 - i) * sizeof(*p->lines));
			p->lines[LINES_FILES_MAX - 1] = (struct lines_file){};
			break;
		}
		memmove(p->lines + 1, p->lines, i * sizeof(*p->lines));
		p->lines[0] = f;
		return p->lines;
	}
	open_lines(p, fds, with_debug, with_alt);
	return p->lines;
}

static uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t size)
{
	memcpy(at, bytes, size);
	return at + size;
}

/* The end of a long path says more than its beginning. */
static const char *end_of_path(const char *path)
{
	size_t length = strlen(path);

	return length < PARSER_PATH_MAX ? path : path + length - (PARSER_PATH_MAX - 1);
}

static uint8_t *put_place(uint8_t *at, const struct dwarf_place *place)
{
	char function[PARSER_NAME_MAX];
	const char *file = end_of_path(place->file);
	size_t length = place->function ? demangle(place->function, function, sizeof(function)) : 0;
	struct parser_reply_place p = {
		.line = place->line,
		.inlined = length > 0,
		.function_size = (uint16_t)length,
		.file_size = (uint16_t)strlen(file),
	};

	at = put_bytes(at, &p, sizeof(p));
	at = put_bytes(at, function, p.function_size);
	return put_bytes(at, file, p.file_size);
}

static size_t find_lines_of_all(struct parser *p, int fds[static PACKET_FDS_MAX])
{
	struct parser_reply_header *h = (struct parser_reply_header *)p->reply;
	uint8_t *counts = (uint8_t *)(h + 1), *at = counts;
	struct stat of[PACKET_FDS_MAX] = {};
	const char *missing;
	struct lines_file *f;

	for (size_t i = 0; i < PACKET_FDS_MAX; i++)
		if (fstat(fds[i], &of[i]) < 0)
			h->error = negative_errno();
	if (h->error < 0)
		return sizeof(*h);
	f = find_lines(p, fds, of[1].st_ino != of[0].st_ino || of[1].st_dev != of[0].st_dev,
		       of[2].st_ino != of[0].st_ino || of[2].st_dev != of[0].st_dev);
	h->error = f->error;
	if (h->error < 0)
		return sizeof(*h);
	h->n = p->request.header.n;
	at += h->n;
	for (uint32_t i = 0; i < h->n; i++) {
		struct dwarf_place places[DWARF_PLACES_MAX];

		counts[i] = (uint8_t)dwarf_lines_find(f->lines, p->request.offsets[i], places);
		for (size_t j = 0; j < counts[i]; j++)
			at = put_place(at, &places[j]);
	}
	missing = dwarf_lines_missing_alt(f->lines);
	if (missing)
		at = put_bytes(at, missing, strlen(missing));
	return (size_t)(at - p->reply);
}

static bool request_is_valid(const struct parser_request_packet *q, size_t size, const int *fds)
{
	if (size < sizeof(q->header) || q->header.magic != HELPER_MAGIC_PARSER || fds[0] < 0)
		return false;
	size -= sizeof(q->header);
	switch (q->header.kind) {
	case PARSER_SYMBOLS:
	case PARSER_PERF_MAP:
		return (fds[1] < 0 || q->header.kind == PARSER_SYMBOLS) && q->header.n >= 1 && q->header.n <= PARSER_OFFSETS_MAX &&
			size == q->header.n * sizeof(q->offsets[0]);
	case PARSER_LINES:
		return fds[PACKET_FDS_MAX - 1] >= 0 && q->header.n >= 1 && q->header.n <= PARSER_LINES_MAX &&
			size == q->header.n * sizeof(q->offsets[0]);
	case PARSER_ALLOCATORS: return fds[1] < 0 && q->header.n == 0 && size == 0;
	case PARSER_UNWIND: return fds[1] >= 0 && q->header.n == 0 && size == sizeof(q->unwind);
	default: return false;
	}
}

/* Gives the size of the reply. */
static size_t answer(struct parser *p, int fds[static PACKET_FDS_MAX])
{
	struct parser_reply_header *h = (struct parser_reply_header *)p->reply;

	*h = (struct parser_reply_header){
		.magic = HELPER_MAGIC_PARSER,
		.kind = p->request.header.kind,
		.request = p->request.header.request,
	};
	switch (h->kind) {
	case PARSER_UNWIND: return make_unwind_table(p, fds[0], fds[1]);
	case PARSER_LINES: return find_lines_of_all(p, fds);
	case PARSER_ALLOCATORS: return find_allocators(p, fds);
	default: return find_symbols(p, fds);
	}
}

static void set_watchdog(time_t seconds)
{
	struct itimerval timer = { .it_value.tv_sec = seconds };

	(void)setitimer(ITIMER_REAL, &timer, NULL);
}

void parser_run(int socket)
{
	struct parser *p = calloc(1, sizeof(*p)); /* the kernel frees it: this returns to _exit() */

	if (!p)
		return;
	for (;;) {
		int fds[PACKET_FDS_MAX];
		ssize_t n = packet_receive(socket, &p->request, sizeof(p->request), 0, fds, PACKET_FDS_MAX);
		size_t size;

		/* The daemon sends no malformed request: whoever did is not the daemon. */
		if (n <= 0 || !request_is_valid(&p->request, (size_t)n, fds))
			return;
		set_watchdog(PARSER_TIMER_S);
		size = answer(p, fds);
		set_watchdog(0);
		for (size_t i = 0; i < PACKET_FDS_MAX; i++)
			close_fd(fds[i]);
		if (packet_send(socket, p->reply, size, 0, NULL, 0) < 0)
			return;
	}
}
