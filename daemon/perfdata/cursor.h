/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes that are taken from the front, with a look at the end. */
#pragma once

#include "base.h"

struct cursor {
	const uint8_t *at, *end;
	bool swapped; /* numbers are in the other byte order */
};

static inline size_t cursor_left(const struct cursor *c)
{
	return (size_t)(c->end - c->at);
}

static inline bool cursor_skip(struct cursor *c, uint64_t n)
{
	if (n > cursor_left(c))
		return false;
	c->at += n;
	return true;
}

static inline bool cursor_take(struct cursor *c, void *to, size_t n)
{
	if (n > cursor_left(c))
		return false;
	memcpy(to, c->at, n);
	c->at += n;
	return true;
}

static inline bool cursor_u16(struct cursor *c, uint16_t *ret)
{
	bool taken = cursor_take(c, ret, sizeof(*ret));

	if (taken && c->swapped)
		*ret = __builtin_bswap16(*ret);
	return taken;
}

static inline bool cursor_u32(struct cursor *c, uint32_t *ret)
{
	bool taken = cursor_take(c, ret, sizeof(*ret));

	if (taken && c->swapped)
		*ret = __builtin_bswap32(*ret);
	return taken;
}

static inline bool cursor_u64(struct cursor *c, uint64_t *ret)
{
	bool taken = cursor_take(c, ret, sizeof(*ret));

	if (taken && c->swapped)
		*ret = __builtin_bswap64(*ret);
	return taken;
}

/* A string that ends before the end; NULL when there is none. */
static inline const char *cursor_string(const struct cursor *c)
{
	return memchr(c->at, 0, cursor_left(c)) ? (const char *)c->at : NULL;
}
