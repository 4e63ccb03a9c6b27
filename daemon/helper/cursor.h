/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading values from bytes that belong to others: never beyond their end. Little-endian, as the files that we read are. */
#pragma once

#include "base.h"

/* No value has more than 64 bits, so none is longer; a longer one is there to keep its reader busy. */
#define LEB128_BYTES_MAX 10

struct cursor {
	const uint8_t *at, *end;
	bool bad; /* something was read beyond the end, or made no sense: from then on everything is 0 */
};

static inline struct cursor cursor_of(const void *bytes, size_t size)
{
	return (struct cursor){ .at = bytes, .end = (const uint8_t *)bytes + size };
}

static inline bool cursor_at_end(const struct cursor *c)
{
	return c->at == c->end;
}

static inline size_t cursor_left(const struct cursor *c)
{
	return (size_t)(c->end - c->at);
}

static inline void cursor_spoil(struct cursor *c)
{
	c->bad = true;
	c->at = c->end;
}

/* 1, 2, 4 or 8 bytes. */
static inline uint64_t read_fixed(struct cursor *c, size_t size)
{
	uint64_t value = 0;

	if (cursor_left(c) < size) {
		cursor_spoil(c);
		return 0;
	}
	memcpy(&value, c->at, size);
	c->at += size;
	return value;
}

/* LEB128 (DWARF 5, 7.6); gives the last byte, too. */
static inline uint64_t read_leb128(struct cursor *c, unsigned *ret_shift, uint8_t *ret_last)
{
	uint64_t value = 0;
	unsigned shift = 0;
	uint8_t byte;

	do {
		byte = (uint8_t)read_fixed(c, 1);
		if (shift == 7 * LEB128_BYTES_MAX) {
			cursor_spoil(c);
			return 0;
		}
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	*ret_shift = shift;
	*ret_last = byte;
	return value;
}

static inline uint64_t read_uleb128(struct cursor *c)
{
	unsigned shift;
	uint8_t last;

	return read_leb128(c, &shift, &last);
}

static inline int64_t read_sleb128(struct cursor *c)
{
	unsigned shift = 64;
	uint8_t last = 0;
	uint64_t value = read_leb128(c, &shift, &last);

	if (shift < 64 && last & 0x40)
		value |= ~UINT64_C(0) << shift;
	return (int64_t)value;
}

/* The next bytes as a cursor of their own. */
static inline struct cursor read_block(struct cursor *c, uint64_t size)
{
	struct cursor block = { .at = c->at, .end = c->at };

	if (size > cursor_left(c)) {
		cursor_spoil(c);
		return block;
	}
	c->at += size;
	block.end = c->at;
	return block;
}

/* A string; NULL when its end isn't there. */
static inline const char *read_string(struct cursor *c)
{
	const char *s = (const char *)c->at;
	const uint8_t *end = memchr(c->at, '\0', cursor_left(c));

	if (!end) {
		cursor_spoil(c);
		return NULL;
	}
	c->at = end + 1;
	return s;
}
