/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cursor.h"
#include "reply.h"

void reply_fill(struct parser_reply *ret, const struct request *q, int error)
{
	ret->request = q->id;
	ret->kind = q->kind;
	ret->error = error;
	ret->build_id_size = ret->n = 0;
	ret->content_hash = 0;
	ret->wants_debug = false;
	ret->missing_alt[0] = '\0';
}

static int decode_symbols(const void *packet, size_t size, const struct request *q, struct parser_reply *ret)
{
	const struct parser_reply_header *p = packet;
	const struct parser_reply_entry *entries = (const struct parser_reply_entry *)(p + 1);
	const uint8_t *bytes = packet;
	size_t at = sizeof(*p);

	if (p->build_id_size > PARSER_BUILD_ID_MAX || p->wants_debug > 1 ||
	    !memchr(p->debug_link, '\0', PARSER_LINK_MAX) || strchr(p->debug_link, '/') || p->n != (p->error < 0 ? 0 : q->n) ||
	    size - at < p->n * sizeof(*entries))
		return -EBADMSG;
	at += p->n * sizeof(*entries);

	for (uint32_t i = 0; i < p->n; i++) {
		const struct parser_reply_entry *e = &entries[i];
		struct parser_symbol *s = &ret->symbols[i];

		if (e->name_size >= PARSER_NAME_MAX || size - at < e->name_size ||
		    memchr(bytes + at, '\0', e->name_size) || e->valid_start > e->address ||
		    e->valid_end <= e->address)
			return -EBADMSG;
		s->offset = q->offsets[i];
		s->start = e->start;
		s->size = e->size;
		s->address = e->address;
		s->valid_start = e->valid_start;
		s->valid_end = e->valid_end;
		memcpy(s->name, bytes + at, e->name_size);
		s->name[e->name_size] = '\0';
		at += e->name_size;
	}
	if (at != size)
		return -EBADMSG;

	memcpy(ret->build_id, p->build_id, sizeof(ret->build_id));
	ret->build_id_size = p->build_id_size;
	ret->content_hash = p->content_hash;
	ret->wants_debug = p->wants_debug;
	memcpy(ret->debug_link, p->debug_link, sizeof(ret->debug_link));
	ret->n = p->n;
	return 0;
}

static bool take_string(struct cursor *c, size_t size, char *ret, size_t max)
{
	struct cursor s = read_block(c, size);

	if (c->bad || size >= max || memchr(s.at, '\0', size))
		return false;
	memcpy(ret, s.at, size);
	ret[size] = '\0';
	return true;
}

static bool take_place(struct cursor *c, struct parser_place *ret)
{
	struct cursor fixed = read_block(c, sizeof(struct parser_reply_place));
	struct parser_reply_place p;

	if (c->bad)
		return false;
	memcpy(&p, fixed.at, sizeof(p));
	ret->inlined = p.inlined;
	ret->line = p.line;
	return p.inlined <= 1 && p.inlined == (p.function_size > 0) && take_string(c, p.function_size, ret->function, sizeof(ret->function)) &&
		take_string(c, p.file_size, ret->file, sizeof(ret->file));
}

static int decode_lines(const void *packet, size_t size, const struct request *q, struct parser_reply *ret)
{
	const struct parser_reply_header *p = packet;
	struct cursor c = cursor_of(p + 1, size - sizeof(*p)), counts = read_block(&c, p->n);

	if (c.bad || p->n != (p->error < 0 ? 0 : q->n))
		return -EBADMSG;
	for (uint32_t i = 0; i < p->n; i++) {
		struct parser_lines *l = &ret->lines[i];

		l->offset = q->offsets[i];
		l->n = read_fixed(&counts, 1);
		if (l->n > PARSER_PLACES_MAX)
			return -EBADMSG;
		for (size_t j = 0; j < l->n; j++)
			if (!take_place(&c, &l->places[j]))
				return -EBADMSG;
	}
	if (!take_string(&c, cursor_left(&c), ret->missing_alt, sizeof(ret->missing_alt)))
		return -EBADMSG;
	ret->n = p->n;
	return 0;
}

static int decode_unwind(const void *packet, size_t size, struct parser_reply *ret)
{
	const struct parser_reply_header *p = packet;

	if (size - sizeof(*p) != (p->error < 0 ? 0 : sizeof(ret->unwind)) || p->n != 0)
		return -EBADMSG;
	memcpy(&ret->unwind, p + 1, size - sizeof(*p));
	return p->error < 0 ? 0 : unwind_table_header_check(&ret->unwind);
}

static int decode_allocators(const void *packet, size_t size, struct parser_reply *ret)
{
	const struct parser_reply_header *p = packet;
	const struct parser_allocator *all = (const struct parser_allocator *)(p + 1);

	if (p->n > (p->error < 0 ? 0 : PARSER_ALLOCATORS_MAX) || size - sizeof(*p) != p->n * sizeof(*all))
		return -EBADMSG;
	for (uint32_t i = 0; i < p->n; i++)
		if (all[i].call == HEAP_NONE || all[i].call >= HEAP_CALLS || all[i].offset > INT64_MAX || all[i].size > UINT32_MAX)
			return -EBADMSG;
	memcpy(ret->allocators, all, p->n * sizeof(*all));
	ret->n = p->n;
	return 0;
}

int reply_decode(const void *packet, size_t size, const struct request *q, struct parser_reply *ret)
{
	const struct parser_reply_header *p = packet;

	if (size < sizeof(*p) || p->magic != HELPER_MAGIC_PARSER ||
	    p->request != q->id || p->kind != q->kind || p->error > 0)
		return -EBADMSG;
	reply_fill(ret, q, p->error);
	switch (q->kind) {
	case PARSER_SYMBOLS:
	case PARSER_PERF_MAP: return decode_symbols(packet, size, q, ret);
	case PARSER_UNWIND: return decode_unwind(packet, size, ret);
	case PARSER_LINES: return decode_lines(packet, size, q, ret);
	case PARSER_ALLOCATORS: return decode_allocators(packet, size, ret);
	case PARSER_KIND_N: break;
	}
	return -EBADMSG;
}
