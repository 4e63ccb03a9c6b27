/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "packed.h"

#include <zstd.h>

struct packed {
	ZSTD_DCtx *context;
	uint8_t piece[64U << 10];
	ZSTD_inBuffer in;
	size_t from, to; /* of what is unpacked */
	uint8_t bytes[PACKED_BUFFER];
};

int packed_new(struct packed **ret)
{
	_cleanup_(packed_freep) struct packed *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->context = ZSTD_createDCtx();
	if (!p->context || ZSTD_isError(ZSTD_DCtx_setParameter(p->context, ZSTD_d_windowLogMax, PACKED_WINDOW_LOG)))
		return -ENOMEM;
	p->in.src = p->piece;
	*ret = TAKE_PTR(p);
	return 0;
}

struct packed *packed_free(struct packed *p)
{
	if (!p)
		return NULL;
	ZSTD_freeDCtx(p->context);
	free(p);
	return NULL;
}

void packed_put(struct packed *p, const void *bytes, size_t size)
{
	size = MIN(size, sizeof(p->piece));
	memcpy(p->piece, bytes, size);
	p->in.pos = 0;
	p->in.size = size;
}

ssize_t packed_need(struct packed *p, size_t n, const uint8_t **ret)
{
	while (p->to - p->from < n) {
		ZSTD_outBuffer out = { .dst = p->bytes, .size = sizeof(p->bytes) };
		size_t before = p->in.pos;

		memmove(p->bytes, p->bytes + p->from, p->to - p->from);
		p->to -= p->from;
		p->from = 0;
		out.pos = p->to;
		if (ZSTD_isError(ZSTD_decompressStream(p->context, &out, &p->in)))
			return -EBADMSG;
		if (out.pos == p->to && p->in.pos == before)
			break; /* all of the piece */
		p->to = out.pos;
	}
	*ret = p->bytes + p->from;
	return (ssize_t)MIN(n, p->to - p->from);
}

void packed_skip(struct packed *p, size_t n)
{
	p->from += n;
}
