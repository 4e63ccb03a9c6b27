/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the samples and waits of a tick add up to, by stack, and when the on-CPU samples were. Bounded; what has no room is counted. */
#pragma once

#include "internal.h"

struct sample_count {
	uint64_t raw_id;
	struct collect_process process;
	uint64_t values[METRIC_N], variances[METRIC_N];
};

struct sample_counts;

int sample_counts_new(struct sample_counts **ret, uint32_t max_counts, uint32_t max_moments);
struct sample_counts *sample_counts_free(struct sample_counts *c); /* accepts NULL, returns NULL */
DEFINE_CLEANUP(struct sample_counts *, sample_counts_free)

/* Where what a stack did is added; NULL: there is no room. */
struct sample_count *sample_counts_of(struct sample_counts *c, uint64_t raw_id, const struct collect_process *process);
/* Notes when this was, CLOCK_MONOTONIC. */
void sample_counts_moment(struct sample_counts *c, uint64_t raw_id, uint64_t time_ns, uint64_t weight_ns, uint32_t tid);
/* Brings minor faults that were seen in a part of the tick to as many as there were. Gives those for which nothing stands. */
uint64_t sample_counts_scale_faults(struct sample_counts *c, uint64_t exact, const struct fault_part *part);
/* Gives all to the sink and begins anew. */
void sample_counts_report(struct sample_counts *c, const struct collect_sink *sink, void *userdata);
/* Samples and moments that had no room since the last call. */
void sample_counts_take_lost(struct sample_counts *c, uint64_t *ret_counts, uint64_t *ret_moments);
/* The most in a tick so far. */
uint32_t sample_counts_peak(const struct sample_counts *c);
