/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How an arena of a given size is split. Derived from size and configuration alone, so that nothing about
 * bounds has to be believed from the arena. At 64 MiB and 512 bytes of detector state:
 *
 *   slices 32768, series 16384, stacks 24576, frames 32768, strings 40960, processes 16384: about 6 MiB
 *   detector state 8 MiB (at most a quarter), strings and frame lists 6 MiB, runs 1.3 MiB
 *   anomalies 2 MiB, gate changes 0.25 MiB, pins 8 MiB, block headers 0.7 MiB
 *   the rest in tiers: half of it 1-s blocks, a quarter each for the coarser ones */
#include "internal.h"

#define UNIT_BYTES (64 * 1024)
#define SERIES_MIN 16
#define PAYLOAD_MIN 128 /* bytes of payload for each block header in a ring, at the least */
#define PIN_BYTES 640   /* of the pins' share for each header: pinned ticks are busy ones */
#define PINS_MAX 12000  /* the two minutes around a hundred anomalies */

static const struct {
	uint32_t per_unit;
	uint32_t size;
} dict_sizes[DICTS] = {
	[DICT_STRINGS] = { 40, sizeof(struct string_record) },
	[DICT_FRAMES] = { 32, sizeof(struct frame_record) },
	[DICT_STACKS] = { 24, sizeof(struct stack_record) },
	[DICT_WORKLOADS] = { 2, sizeof(struct workload_record) },
	[DICT_PROCESSES] = { 16, sizeof(struct process_record) },
	[DICT_SERIES] = { 16, sizeof(struct series_record) },
	[DICT_SLICES] = { 32, sizeof(struct slice_record) },
};

static uint64_t place(struct section *ret, uint64_t at, uint64_t n, uint64_t record_size)
{
	ret->offset = (at + 63) & ~63ULL;
	ret->n = n;
	return ret->offset + n * record_size;
}

static uint64_t round_up_8(uint64_t n)
{
	return (n + 7) & ~7ULL;
}

static uint64_t place_dicts(struct layout *l, uint64_t at, uint64_t units, const struct store_config *config)
{
	uint64_t state = round_up_8(config->series_state_size);

	for (int i = 0; i < DICTS; i++) {
		uint64_t n = MIN(units * dict_sizes[i].per_unit, (uint64_t)REF_INDEX_MAX);

		if (i == DICT_SERIES)
			n = MIN(n, l->size / 4 / (state + dict_sizes[i].size));
		at = place(&l->dicts[i], at, n, dict_sizes[i].size);
	}
	at = place(&l->series_state, at, l->dicts[DICT_SERIES].n, state);
	at = place(&l->global_state, at, 1, round_up_8(config->global_state_size));
	return at;
}

static uint64_t place_ring(struct layout *l, int ring, uint64_t at, uint64_t bytes, uint64_t blocks)
{
	uint64_t n = MAX(MIN(blocks, bytes / (sizeof(struct block) + PAYLOAD_MIN)), 4U);
	uint64_t headers = n * sizeof(struct block);

	at = place(&l->ring_index[ring], at, n, sizeof(struct block));
	return place(&l->ring_bytes[ring], at, bytes > headers ? (bytes - headers) & ~7ULL : 0, 1);
}

int store_layout_compute(struct layout *ret, size_t size, const struct store_config *config)
{
	struct layout l;
	uint64_t units = size / UNIT_BYTES, at, rest;

	if (size < STORE_ARENA_MIN)
		return -EINVAL;
	for (int i = 0; i < STORE_TIERS; i++)
		if (config->tiers[i].step_s == 0 || config->tiers[i].keep_s < config->tiers[i].step_s ||
		    (i > 0 && config->tiers[i].step_s <= config->tiers[i - 1].step_s))
			return -EINVAL;
	if (config->slices_per_series == 0)
		return -EINVAL;

	memset(&l, 0, sizeof(l));
	l.version = STORE_LAYOUT_VERSION;
	l.size = size;
	l.record_sizes = sizeof(struct header) + sizeof(struct anomaly_record) + sizeof(struct block);
	for (int i = 0; i < STORE_TIERS; i++)
		l.config.tiers[i] = config->tiers[i];
	l.config.series_state_size = config->series_state_size;
	l.config.global_state_size = config->global_state_size;
	l.config.slices_per_series = config->slices_per_series;

	at = place_dicts(&l, sizeof(struct header), units, config);
	if (l.dicts[DICT_SERIES].n < SERIES_MIN)
		return -ENOSPC;
	l.pool.offset = (at + POOL_PAGE - 1) & ~(uint64_t)(POOL_PAGE - 1);
	l.pool.n = (size / 32 * 3) & ~(uint64_t)(POOL_PAGE - 1);
	at = l.pool.offset + l.pool.n;
	at = place(&l.open_waits, at, MIN(units * 8, (uint64_t)REF_INDEX_MAX), sizeof(struct open_wait));
	at = place(&l.runs, at, units * 16, sizeof(struct run));
	at = place(&l.anomalies, at, MAX(size / 32 / sizeof(struct anomaly_record), 16U),
	           sizeof(struct anomaly_record));
	at = place(&l.gates, at, MAX(size / 256 / sizeof(struct gate_record), 16U),
	           sizeof(struct gate_record));
	at = place_ring(&l, RING_PINS, at, size / 8, MIN(size / 8 / PIN_BYTES, (uint64_t)PINS_MAX));
	if (at + 8192 > size)
		return -ENOSPC;
	rest = size - at - 8192;
	for (int i = 0; i < STORE_TIERS; i++) {
		/* One more than is kept, because a header in use is never written over before the next
		 * commit. */
		uint64_t blocks = (uint64_t)config->tiers[i].keep_s / config->tiers[i].step_s + 2;

		at = place_ring(&l, i, at, i == 0 ? rest / 2 : rest / 4, blocks);
		if (l.ring_bytes[i].n < 8192)
			return -ENOSPC;
	}
	l.end = at;
	if (l.end > size)
		return -ENOSPC;
	*ret = l;
	return 0;
}

/* ---- volatile memory: one allocation, carved twice: first to know its size, then for real ---- */

struct carver {
	unsigned char *base;
	size_t used;
};

static void *carve(struct carver *c, size_t n, size_t size)
{
	void *p = c->base ? c->base + c->used : NULL;

	c->used += (n * size + 63) & ~(size_t)63;
	return p;
}

static void carve_accumulator(struct accumulator *a, struct carver *c, uint32_t max, bool variances)
{
	a->max = max;
	a->touched = carve(c, (max + 64) / 64, sizeof(uint64_t));
	if (variances) {
		a->variances = carve(c, max + 1, sizeof(*a->variances));
		return;
	}
	a->rooms = carve(c, max + 1, sizeof(*a->rooms));
	for (int k = 0; k < ROOMS; k++) {
		a->room[k].values = carve(c, max + 1, sizeof(*a->room[k].values));
		a->room[k].residuals = carve(c, max + 1, sizeof(*a->room[k].residuals));
	}
}

static void carve_dict(struct store *s, int i, struct carver *c)
{
	struct dict *d = &s->dicts[i];
	uint32_t n_slots = 64;

	d->base = (unsigned char *)store_at(s, s->layout.dicts[i].offset) - dict_sizes[i].size;
	d->stride = dict_sizes[i].size;
	d->max = (uint32_t)s->layout.dicts[i].n;
	while (n_slots < 2 * d->max)
		n_slots *= 2;
	d->slots = carve(c, n_slots, sizeof(*d->slots));
	d->slot_mask = n_slots - 1;
	d->free = carve(c, d->max, sizeof(*d->free));
	d->refs = carve(c, d->max + 1, sizeof(*d->refs));
}

static void carve_all(struct store *s, struct carver *c)
{
	uint32_t slices, series, processes;

	for (int i = 0; i < DICTS; i++)
		carve_dict(s, i, c);
	slices = s->dicts[DICT_SLICES].max;
	series = s->dicts[DICT_SERIES].max;
	processes = s->dicts[DICT_PROCESSES].max;

	s->pool.base = store_at(s, s->layout.pool.offset);
	s->pool.n_pages = (uint32_t)(s->layout.pool.n / POOL_PAGE);
	s->pool.pages = carve(c, s->pool.n_pages + 1, sizeof(*s->pool.pages));
	s->slice_next = carve(c, slices + 1, sizeof(*s->slice_next));
	s->slice_wait = carve(c, slices + 1, sizeof(*s->slice_wait));
	s->slice_pins = carve(c, slices + 1, sizeof(*s->slice_pins));
	s->series_first = carve(c, series + 1, sizeof(*s->series_first));
	s->series_other = carve(c, series + 1, sizeof(*s->series_other));
	s->series_live = carve(c, series + 1, sizeof(*s->series_live));
	s->live = carve(c, series + 1, sizeof(*s->live));
	s->live_position = carve(c, series + 1, sizeof(*s->live_position));
	s->series_wait = carve(c, series + 1, sizeof(*s->series_wait));
	s->series_wait_changed = carve(c, series + 1, sizeof(*s->series_wait_changed));
	s->series_values = carve(c, series + 1, sizeof(*s->series_values));
	s->series_tick = carve(c, series + 1, sizeof(*s->series_tick));
	s->process_pins = carve(c, processes + 1, sizeof(*s->process_pins));
	for (int t = 0; t < STORE_TIERS; t++) {
		carve_accumulator(&s->steps[t].sections[SECTION_SLICES], c, slices, false);
		carve_accumulator(&s->steps[t].sections[SECTION_PROCESSES], c, processes, false);
		carve_accumulator(&s->steps[t].sections[SECTION_VARIANCES], c, slices, true);
	}
	s->wait_free = carve(c, s->layout.open_waits.n, sizeof(*s->wait_free));
	s->wait_changed = carve(c, s->layout.open_waits.n, sizeof(*s->wait_changed));
	s->codes = carve(c, MAX(slices, processes) + 1, sizeof(*s->codes));
	s->scratch_size = 2 * store_section_bound(slices) + store_section_bound(processes);
	s->scratch = carve(c, s->scratch_size, 1);
	s->sums = carve(c, MAX(slices, processes) + 1, sizeof(*s->sums));
	s->cover_max = 0;
	for (int r = 0; r < RINGS; r++)
		s->cover_max += (uint32_t)s->layout.ring_index[r].n;
	s->cover = carve(c, s->cover_max, sizeof(*s->cover));
	s->piece_waits = carve(c, s->cover_max, sizeof(*s->piece_waits));
	s->match_from = carve(c, MAX(slices, processes) + 1, sizeof(*s->match_from));
}

int store_volatile_allocate(struct store *s)
{
	struct carver c = {};

	carve_all(s, &c);
	s->memory = calloc(1, c.used + 64);
	if (!s->memory)
		return -ENOMEM;
	c = (struct carver) { .base = s->memory };
	carve_all(s, &c);
	return 0;
}
