/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A ring that the kernel writes records into (perf_event_open(2), "MMAP layout"). */
#pragma once

#include <linux/perf_event.h>

#include "base.h"

#define PERF_RECORD_SIZE_MAX 65536U /* the header's size has 16 bits */

struct perf_ring {
	int fd;
	size_t size;                       /* bytes of data: a power of two of pages */
	struct perf_event_mmap_page *page; /* NULL: there is none; the data follow it */
};

#define PERF_RING_NONE { .fd = -EBADF }

/* The largest power of two from least to most of which so many fit into all bytes; least if none does. */
size_t perf_ring_size(size_t all, size_t least, size_t most, uint32_t n);

/* Takes the descriptor over when it succeeds. */
int perf_ring_map(struct perf_ring *ring, int fd, size_t size);
void perf_ring_close(struct perf_ring *ring);

/* Up to where the kernel has written. */
uint64_t perf_ring_head(const struct perf_ring *ring);

typedef void (*perf_ring_fn)(void *userdata, const struct perf_event_header *record);

/* Gives each record up to head to fn, aligned to 8 bytes, in scratch memory of PERF_RECORD_SIZE_MAX bytes. False: what is there are no
 * records, and all of it was let go. */
bool perf_ring_drain(struct perf_ring *ring, uint64_t head, void *scratch, perf_ring_fn fn, void *userdata);
