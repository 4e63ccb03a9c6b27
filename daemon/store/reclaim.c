/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making room in a dictionary: what was used longest ago goes first, a sixteenth of the table at a time, so
 * that the pass over the table is paid for by many additions. Nothing that the open tick uses goes. */
#include "internal.h"

#define BATCH_PART 16
#define AGE_BUCKETS 256

bool store_accumulated(const struct store *s, int section, uint32_t i)
{
	for (int t = 0; t < STORE_TIERS; t++)
		if (s->steps[t].sections[section].touched[i / 64] & 1ULL << i % 64)
			return true;
	return false;
}

static bool can_drop(const struct store *s, int dict, uint32_t i)
{
	const struct dict *d = &s->dicts[dict];

	if (!dict_has(d, i) || dict_entry(d, i)->used > s->c.tick)
		return false;
	switch (dict) {
	case DICT_SLICES:
		return !s->slice_wait[i] && !s->slice_pins[i] && !store_accumulated(s, SECTION_SLICES, i);
	case DICT_PROCESSES:
		return d->refs[i] == 0 && !s->process_pins[i] && store_process_at(s, i)->pid != 0;
	default:
		return d->refs[i] == 0;
	}
}

static void drop(struct store *s, int dict, uint32_t i)
{
	switch (dict) {
	case DICT_STACKS:
		store_stack_drop(s, i);
		s->c.reclaimed_stacks++;
		break;
	case DICT_PROCESSES:
		store_process_drop(s, i);
		s->c.reclaimed_processes++;
		break;
	case DICT_SERIES:
		store_series_drop(s, i);
		s->c.reclaimed_series++;
		break;
	case DICT_SLICES:
		store_slice_drop(s, i);
		s->c.reclaimed_slices++;
		break;
	}
}

/* The age from which on enough candidates are old, found by counting ages in buckets. */
static uint32_t find_cutoff(const struct store *s, int dict, uint32_t batch)
{
	const struct dict *d = &s->dicts[dict];
	uint32_t counts[AGE_BUCKETS] = {}, oldest = UINT32_MAX, width, sum = 0;

	for (uint32_t i = 1; i <= d->max; i++)
		if (can_drop(s, dict, i))
			oldest = MIN(oldest, dict_entry(d, i)->used);
	if (oldest == UINT32_MAX)
		return UINT32_MAX;
	width = (s->c.tick - oldest) / AGE_BUCKETS + 1;
	for (uint32_t i = 1; i <= d->max; i++)
		if (can_drop(s, dict, i))
			counts[(dict_entry(d, i)->used - oldest) / width]++;
	for (uint32_t k = 0; k < AGE_BUCKETS; k++) {
		sum += counts[k];
		if (sum >= batch)
			return oldest + (k + 1) * width - 1;
	}
	return s->c.tick;
}

static uint32_t drop_oldest(struct store *s, int dict)
{
	struct dict *d = &s->dicts[dict];
	uint32_t batch = MAX(d->max / BATCH_PART, 1U), dropped = 0, cutoff = find_cutoff(s, dict, batch);

	if (cutoff == UINT32_MAX)
		return 0;
	for (uint32_t i = 1; i <= d->max && dropped < batch; i++) {
		if (!can_drop(s, dict, i) || dict_entry(d, i)->used > cutoff)
			continue;
		drop(s, dict, i);
		dropped++;
	}
	return dropped;
}

/* Steps that are being gathered hold slices; written ahead of time they let go of them. */
static bool flush_steps(struct store *s)
{
	bool any = false;

	for (int t = 1; t < STORE_TIERS; t++) {
		if (s->flushed_early[t] || s->steps[t].block.last == 0)
			continue;
		s->flushed_early[t] = true;
		store_step_flush(s, t);
		any = true;
	}
	return any;
}

/* A quarter of the pins, the oldest. */
static bool drop_pins(struct store *s)
{
	uint32_t n = (s->c.rings[RING_PINS].n + 3) / 4;

	for (uint32_t k = 0; k < n; k++)
		store_ring_evict(s, RING_PINS);
	return n > 0;
}

static bool slices_make_room(struct store *s)
{
	for (;;) {
		if (drop_oldest(s, DICT_SLICES) > 0)
			return true;
		if (!flush_steps(s) && !drop_pins(s))
			return false;
	}
}

static bool make_room(struct store *s, int dict)
{
	switch (dict) {
	case DICT_SLICES:
		return slices_make_room(s);
	case DICT_SERIES:
		return drop_oldest(s, DICT_SERIES) > 0 ||
		       (slices_make_room(s) && drop_oldest(s, DICT_SERIES) > 0);
	case DICT_PROCESSES:
	case DICT_WORKLOADS:
		if (drop_oldest(s, DICT_PROCESSES) > 0)
			return true;
		if (dict == DICT_WORKLOADS && drop_oldest(s, DICT_SERIES) > 0)
			return true;
		return slices_make_room(s);
	default: /* strings and frames go with the stacks and processes */
		if (drop_oldest(s, DICT_STACKS) > 0 || drop_oldest(s, DICT_SERIES) > 0)
			return true;
		if (dict == DICT_STRINGS && drop_oldest(s, DICT_PROCESSES) > 0)
			return true;
		return slices_make_room(s);
	}
}

/* Looking in vain costs a pass over the tables: once a tick is enough, since a tick only takes more into use.
 */
bool store_make_room(struct store *s, int dict)
{
	if (s->exhausted[dict] == s->c.tick + 1)
		return false;
	if (make_room(s, dict))
		return true;
	s->exhausted[dict] = s->c.tick + 1;
	return false;
}
