/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bounded tables of records in the arena, found through a volatile hash index: open addressing, linear
 * probing, at most half full, removal by shifting back. */
#include "internal.h"

static uint32_t home(const struct dict *d, uint64_t hash)
{
	return (uint32_t)((hash * 0x9e3779b97f4a7c15ULL) >> 32) & d->slot_mask;
}

uint32_t store_dict_find(const struct store *s, int dict, uint64_t hash, dict_equal_fn equal, const void *key)
{
	const struct dict *d = &s->dicts[dict];

	for (uint32_t at = home(d, hash); d->slots[at]; at = (at + 1) & d->slot_mask) {
		uint32_t i = d->slots[at];

		if (dict_entry(d, i)->hash == hash && (!equal || equal(s, i, key)))
			return i;
	}
	return 0;
}

uint32_t store_dict_take(struct store *s, int dict, uint64_t hash)
{
	struct dict *d = &s->dicts[dict];
	struct entry *e;
	uint32_t i;

	if (d->n_free == 0)
		return 0;
	i = d->free[--d->n_free];
	e = dict_entry(d, i);
	e->hash = hash;
	e->used = s->c.tick + 1;
	d->refs[i] = 0;
	return i;
}

void store_dict_untake(struct store *s, int dict, uint32_t i)
{
	struct dict *d = &s->dicts[dict];

	d->free[d->n_free++] = i;
}

void store_dict_index(struct store *s, int dict, uint32_t i)
{
	struct dict *d = &s->dicts[dict];
	uint32_t at = home(d, dict_entry(d, i)->hash);

	while (d->slots[at])
		at = (at + 1) & d->slot_mask;
	d->slots[at] = i;
}

void store_dict_publish(struct store *s, int dict, uint32_t i)
{
	__atomic_store_n(&dict_entry(&s->dicts[dict], i)->live, 1, __ATOMIC_RELEASE);
	s->dicts[dict].live++;
	store_dict_index(s, dict, i);
}

void store_dict_hide(struct store *s, int dict, uint32_t i)
{
	struct dict *d = &s->dicts[dict];
	uint32_t at = home(d, dict_entry(d, i)->hash), hole;

	while (d->slots[at] != i) {
		if (d->slots[at] == 0)
			return;
		at = (at + 1) & d->slot_mask;
	}
	hole = at;
	for (;;) {
		uint32_t want;

		at = (at + 1) & d->slot_mask;
		if (d->slots[at] == 0)
			break;
		want = home(d, dict_entry(d, d->slots[at])->hash);
		/* It may move into the hole when its home does not lie between the hole and where it is. */
		if (((at - want) & d->slot_mask) >= ((at - hole) & d->slot_mask)) {
			d->slots[hole] = d->slots[at];
			hole = at;
		}
	}
	d->slots[hole] = 0;
}

void store_dict_remove(struct store *s, int dict, uint32_t i)
{
	struct dict *d = &s->dicts[dict];
	struct entry *e = dict_entry(d, i);

	store_dict_hide(s, dict, i);
	__atomic_store_n(&e->live, 0, __ATOMIC_RELEASE);
	e->generation++;
	d->live--;
	d->free[d->n_free++] = i;
}
