/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the parser's packets to what the daemon is told. */
#pragma once

#include "protocol.h"

/* What the parser was asked. */
struct request {
	uint64_t id, object;
	enum parser_kind kind;
	size_t n;
	uint64_t offsets[PARSER_OFFSETS_MAX];
};

/* Begins a reply to a request: with an error, or to be filled in. */
void reply_fill(struct parser_reply *ret, const struct request *q, int error);
/* The answer to a request, in a packet of size bytes that nobody has looked at. -EBADMSG: it is none. */
int reply_decode(const void *packet, size_t size, const struct request *q, struct parser_reply *ret);
