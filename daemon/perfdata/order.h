/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records wait here for earlier ones. Each CPU has a ring; perf record writes one after the other, and at the end of each round
 * (PERF_RECORD_FINISHED_ROUND) everything is there that is older than the end of the round before. */
#pragma once

#include "base.h"

struct order;

struct ordered {
	uint64_t time, sequence, offset;
	size_t size;
	uint8_t bytes[]; /* the record */
};

/* At most max_bytes wait. */
int order_new(struct order **ret, size_t max_bytes);
struct order *order_free(struct order *o);
DEFINE_CLEANUP(struct order *, order_free)

/* -ENOMEM. Beyond max_bytes the oldest are due, whether others before them come or not. */
int order_put(struct order *o, uint64_t time, uint64_t offset, const void *bytes, size_t size);
void order_end_round(struct order *o);
void order_end(struct order *o);

/* The next that is due, which the caller frees; NULL when there is none. */
struct ordered *order_take(struct order *o);
uint64_t order_late(const struct order *o); /* how many came after one that is younger was taken */
