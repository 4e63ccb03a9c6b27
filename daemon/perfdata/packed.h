/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compressed records (perf record -z): one zstd stream, cut into pieces wherever a record of the file was full. Records within may
 * begin in one piece and end in the next. */
#pragma once

#include "base.h"

#define PACKED_BUFFER (256U << 10) /* of what is unpacked and not taken yet */
#define PACKED_WINDOW_LOG 27       /* at most 128 MiB are kept to unpack the rest by: perf's highest level needs that much */

struct packed;

int packed_new(struct packed **ret);
struct packed *packed_free(struct packed *p);
DEFINE_CLEANUP(struct packed *, packed_free)

/* The next piece, which is copied, of at most 64 KiB; what was there before must have been unpacked. */
void packed_put(struct packed *p, const void *bytes, size_t size);
/* At least n bytes (at most PACKED_BUFFER) of what follows; fewer when that takes the next piece. -EBADMSG: not zstd, or damaged. */
ssize_t packed_need(struct packed *p, size_t n, const uint8_t **ret);
void packed_skip(struct packed *p, size_t n); /* what packed_need() gave */
