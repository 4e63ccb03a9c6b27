/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A recording that was read, as a file from which it is answered later (stackd serve) without being read again: the store and the
 * clusters as they lay in memory.
 *
 *   "stackd import 2\n" ─ what it is, a line of JSON ─ zstd frame with a checksum: head, clusters, when samples were taken, the arena's pages
 *   that are not zero
 *
 * The first two lines are for whoever lists such files; client/imports.c reads them. */
#pragma once

#include "cluster.h"
#include "moments.h"
#include "source.h"
#include "store.h"

#define IMPORT_MAGIC "stackd import 2\n"
#define IMPORT_LINE_MAX (64U << 10)        /* of JSON, its end included */
#define IMPORT_ARENA_MAX (4ULL << 30)      /* as the store of a recording may have */
#define IMPORT_MOMENTS_SIZE (64U << 20)    /* of those that are kept: 2.8 million samples */
#define IMPORT_MOMENTS_MAX (4U << 20)
#define IMPORT_MOMENTS_SPAN_MAX (15 * 86400 * USEC_PER_SEC) /* longer than any recording */
#define IMPORT_CLUSTERS_SIZE_MAX (512U << 20) /* the most that there may be take 377 MiB */

struct import_rooms {
	void *arena;
	size_t size;
	struct store_config layout; /* of the arena */
	uint32_t max_clusters, max_incidents;
	struct store *store;
	struct moments *moments; /* NULL, or without any: nothing is known within seconds */
	struct clusters *clusters;
};

/* Writes it, with that line, which has no end of its own, and has fsync()ed nothing. Negative errno of writing; -EFBIG: the line is too long. */
int import_write(FILE *file, const char *line, const struct import_rooms *rooms);

bool import_is_magic(const void *bytes, size_t size);

/* One that was read; arena, image and moments are the caller's to free with import_done(). */
struct import {
	char *line;
	void *arena;
	size_t size;
	struct store_config layout;
	uint32_t max_clusters, max_incidents;
	void *image; /* clusters_load() */
	size_t image_size;
	struct moments *moments; /* NULL: none */
};
/* -EBADMSG: it is no import, or damaged; -EPROTO: of another version. */
int import_read(struct source *source, struct import *ret);
void import_done(struct import *i);
