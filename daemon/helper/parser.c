/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parser: gets descriptors of ELF files, names what is at their offsets, and makes their unwind tables. It has no privilege, and
 * every file may be the one that was made to break it. */
#include <assert.h>
#include <malloc.h>
#include <stdalign.h>
#include <sys/time.h>

#include "demangle.h"
#include "elf_symbols.h"
#include "elf_unwind.h"
#include "perf_map.h"
#include "protocol.h"

static_assert((int)ELF_LINK_MAX == (int)PARSER_LINK_MAX, "a debug file's name fits into a reply");

#define CACHE_BYTES_MAX (256ULL << 20)
#define CACHE_FILES_MAX 512

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

struct parser {
	struct file files[CACHE_FILES_MAX];
	size_t n;
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
	case PARSER_UNWIND: return fds[1] >= 0 && q->header.n == 0 && size == sizeof(q->unwind);
	default: return false;
	}
}

/* Gives the size of the reply. */
static size_t answer(struct parser *p, const int *fds)
{
	struct parser_reply_header *h = (struct parser_reply_header *)p->reply;

	*h = (struct parser_reply_header){
		.magic = HELPER_MAGIC_PARSER,
		.kind = p->request.header.kind,
		.request = p->request.header.request,
	};
	return h->kind == PARSER_UNWIND ? make_unwind_table(p, fds[0], fds[1]) : find_symbols(p, fds);
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
