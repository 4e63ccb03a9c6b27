/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "internal.h"

static void start_empty(struct store *s)
{
	for (int k = 0; k < DICTS; k++) {
		struct dict *d = &s->dicts[k];

		for (uint32_t i = d->max; i > 0; i--)
			d->free[d->n_free++] = i;
	}
	for (uint32_t i = (uint32_t)s->layout.open_waits.n; i > 0; i--)
		s->wait_free[s->n_wait_free++] = i - 1;
}

bool store_is_of(const void *arena, size_t size, const struct store_config *config)
{
	struct layout l;

	return store_layout_compute(&l, size, config) >= 0 && store_header_fits(arena, &l);
}

int store_open(struct store **ret, void *arena, size_t size, const struct store_config *config,
               bool *ret_reused)
{
	_cleanup_(store_closep) struct store *s = NULL;
	bool reused;
	int k;

	if ((uintptr_t)arena % 8 != 0)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->arena = arena;
	s->header = arena;
	k = store_layout_compute(&s->layout, size, config);
	if (k < 0)
		return k;
	k = store_volatile_allocate(s);
	if (k < 0)
		return k;
	reused = store_recover(s);
	if (!reused) {
		/* What was looked at before the arena was found to be foreign is forgotten with the indexes.
		 */
		store_format(s);
		start_empty(s);
	}
	*ret = TAKE_PTR(s);
	*ret_reused = reused;
	return 0;
}

struct store *store_close(struct store *s)
{
	if (!s)
		return NULL;
	free(s->memory);
	free(s);
	return NULL;
}

void store_get_status(const struct store *s, struct store_status *ret)
{
	const struct layout *l = &s->layout;
	struct store_status st = {
		.size = l->size,
		.ticks = s->c.ticks,
		.newest_us = s->c.time_us,
		.stacks = s->dicts[DICT_STACKS].live,
		.stacks_max = s->dicts[DICT_STACKS].max,
		.processes = s->dicts[DICT_PROCESSES].live,
		.processes_max = s->dicts[DICT_PROCESSES].max,
		.series = s->dicts[DICT_SERIES].live,
		.series_max = s->dicts[DICT_SERIES].max,
		.slices = s->dicts[DICT_SLICES].live,
		.slices_max = s->dicts[DICT_SLICES].max,
		.strings = s->dicts[DICT_STRINGS].live,
		.strings_max = s->dicts[DICT_STRINGS].max,
		.runs = s->c.runs.n + (uint32_t)l->open_waits.n - s->n_wait_free,
		.runs_max = (uint32_t)(l->runs.n - l->runs.n / 4 + l->open_waits.n),
		.reclaimed_stacks = s->c.reclaimed_stacks,
		.reclaimed_processes = s->c.reclaimed_processes,
		.reclaimed_series = s->c.reclaimed_series,
		.reclaimed_slices = s->c.reclaimed_slices,
		.lost_runs = s->c.lost_runs,
		.full = s->c.full,
		.anomalies = s->c.anomalies.n,
		.anomalies_max = store_anomalies_max(s),
		.pins = s->c.rings[RING_PINS].n,
		.pin_bytes = s->c.rings[RING_PINS].bytes,
		.pin_bytes_max = l->ring_bytes[RING_PINS].n +
		                 l->ring_index[RING_PINS].n * sizeof(struct block),
	};

	st.used = sizeof(struct header) + s->pool.used + st.pin_bytes + s->c.runs.n * sizeof(struct run) +
	          s->c.anomalies.n * sizeof(struct anomaly_record) +
	          s->c.gates.n * sizeof(struct gate_record) +
	          (uint64_t)s->dicts[DICT_SERIES].live * l->config.series_state_size;
	for (int d = 0; d < DICTS; d++)
		st.used += (uint64_t)s->dicts[d].live * s->dicts[d].stride;
	for (int t = 0; t < STORE_TIERS; t++) {
		st.oldest_us[t] = s->c.rings[t].n > 0 ? store_block(s, t, 0)->begin_us : 0;
		st.points[t] = s->c.rings[t].points;
		st.bytes[t] = s->c.rings[t].bytes;
		st.evicted_blocks[t] = s->c.rings[t].evicted;
		st.used += st.bytes[t];
	}
	*ret = st;
}

size_t store_get_losses(const struct store *s, struct store_loss ret[static STORE_LOSS_CAUSES_MAX])
{
	memcpy(ret, s->c.losses, s->c.n_losses * sizeof(*ret));
	for (size_t i = 0; i < s->c.n_losses; i++)
		ret[i].cause[sizeof(ret[i].cause) - 1] = 0;
	return s->c.n_losses;
}
