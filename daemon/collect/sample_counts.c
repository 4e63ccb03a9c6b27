/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sample_counts.h"

struct moment {
	uint64_t raw_id, time_ns, weight_ns;
	uint32_t tid;
};

struct sample_counts {
	struct sample_count *counts;
	struct map64 *by_id;
	uint32_t n, peak;
	struct moment *moments;
	uint32_t n_moments, max_moments;
	uint64_t full, moments_full;
};

int sample_counts_new(struct sample_counts **ret, uint32_t max_counts, uint32_t max_moments)
{
	_cleanup_(sample_counts_freep) struct sample_counts *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->max_moments = max_moments;
	c->counts = calloc(max_counts, sizeof(*c->counts));
	c->moments = calloc(max_moments, sizeof(*c->moments));
	if (!c->counts || !c->moments)
		return -ENOMEM;
	r = map64_new(&c->by_id, max_counts);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

struct sample_counts *sample_counts_free(struct sample_counts *c)
{
	if (!c)
		return NULL;
	map64_free(c->by_id);
	free(c->counts);
	free(c->moments);
	free(c);
	return NULL;
}

struct sample_count *sample_counts_of(struct sample_counts *c, uint64_t raw_id, const struct collect_process *process)
{
	struct sample_count *count;
	uint64_t index;

	if (map64_get(c->by_id, raw_id, &index))
		return &c->counts[index];
	if (map64_put(c->by_id, raw_id, c->n) < 0) {
		c->full++;
		return NULL;
	}
	count = &c->counts[c->n++];
	*count = (struct sample_count){ .raw_id = raw_id, .process = *process };
	return count;
}

void sample_counts_moment(struct sample_counts *c, uint64_t raw_id, uint64_t time_ns, uint64_t weight_ns, uint32_t tid)
{
	if (c->n_moments == c->max_moments)
		c->moments_full++;
	else
		c->moments[c->n_moments++] = (struct moment){ raw_id, time_ns, weight_ns, tid };
}

uint64_t sample_counts_scale_faults(struct sample_counts *c, uint64_t exact, const struct fault_part *part)
{
	struct fault_scale scale;
	uint64_t seen = 0;

	for (uint32_t i = 0; i < c->n; i++)
		seen += c->counts[i].values[METRIC_FAULTS_MINOR];
	faults_scale(seen, exact, part, &scale);
	for (uint32_t i = 0; i < c->n; i++)
		faults_apply_scale(&scale, c->counts[i].values, c->counts[i].variances);
	return scale.unseen;
}

static void report_moments(struct sample_counts *c, const struct collect_sink *sink, void *userdata)
{
	uint64_t clock_us = moments_clock_us();

	for (uint32_t i = 0; sink->moment && i < c->n_moments; i++) {
		const struct moment *m = &c->moments[i];

		sink->moment(userdata, &(struct collect_moment){ m->raw_id, clock_us + m->time_ns / NSEC_PER_USEC, m->weight_ns, m->tid, "", METRIC_ON_CPU, false });
	}
	c->n_moments = 0;
}

void sample_counts_report(struct sample_counts *c, const struct collect_sink *sink, void *userdata)
{
	for (uint32_t i = 0; i < c->n; i++) {
		struct collect_sample sample = { .raw_id = c->counts[i].raw_id, .process = c->counts[i].process };

		memcpy(sample.values, c->counts[i].values, sizeof(sample.values));
		sample.variances = c->counts[i].variances;
		sink->sample(userdata, &sample);
	}
	c->peak = MAX(c->peak, c->n);
	c->n = 0;
	map64_clear(c->by_id);
	report_moments(c, sink, userdata);
}

void sample_counts_take_lost(struct sample_counts *c, uint64_t *ret_counts, uint64_t *ret_moments)
{
	*ret_counts = c->full;
	*ret_moments = c->moments_full;
	c->full = c->moments_full = 0;
}

uint32_t sample_counts_peak(const struct sample_counts *c)
{
	return c->peak;
}
