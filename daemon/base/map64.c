/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Linear probing with backward-shift deletion (Knuth, TAOCP volume 3, 6.4, algorithm R): no tombstones, so
 * a table that lives for months does not slow down. */
#include "base.h"

struct slot {
	uint64_t key, value; /* key 0: free, so that a look-up touches one cache line; the entry of key 0 lies behind the others */
};

struct map64 {
	size_t size, max, mask;
	bool has_zero;
	struct slot *slots; /* mask + 2 */
};

/* Keys may be small integers or already hashes; either way the low bits must spread. */
static size_t home(const struct map64 *m, uint64_t key)
{
	key ^= key >> 32;
	key *= 0x9e3779b97f4a7c15ULL; /* Fibonacci hashing */
	return (key >> 20) & m->mask;
}

int map64_new(struct map64 **ret, size_t max_entries)
{
	_cleanup_(map64_freep) struct map64 *m = calloc(1, sizeof(*m));
	size_t n = 16;

	if (!m)
		return -ENOMEM;
	if (max_entries > SIZE_MAX / 64)
		return -EINVAL;
	while (n < max_entries + max_entries / 2) /* at most two thirds full */
		n *= 2;
	m->max = max_entries;
	m->mask = n - 1;
	m->slots = calloc(n + 1, sizeof(*m->slots));
	if (!m->slots)
		return -ENOMEM;
	*ret = TAKE_PTR(m);
	return 0;
}

struct map64 *map64_free(struct map64 *m)
{
	if (m) {
		free(m->slots);
		free(m);
	}
	return NULL;
}

/* Gives the entry's slot, or the one that it would get. */
static bool find(const struct map64 *m, uint64_t key, size_t *ret)
{
	size_t i = home(m, key);

	if (key == 0) {
		*ret = m->mask + 1;
		return m->has_zero;
	}
	for (; m->slots[i].key; i = (i + 1) & m->mask)
		if (m->slots[i].key == key) {
			*ret = i;
			return true;
		}
	*ret = i;
	return false;
}

bool map64_get(const struct map64 *m, uint64_t key, uint64_t *ret)
{
	size_t i;

	if (!find(m, key, &i))
		return false;
	if (ret)
		*ret = m->slots[i].value;
	return true;
}

uint64_t *map64_find(struct map64 *m, uint64_t key)
{
	size_t i;

	return find(m, key, &i) ? &m->slots[i].value : NULL;
}

int map64_put(struct map64 *m, uint64_t key, uint64_t value)
{
	size_t i;

	if (!find(m, key, &i)) {
		if (m->size >= m->max)
			return -ENOSPC;
		m->slots[i].key = key;
		m->has_zero |= key == 0;
		m->size++;
	}
	m->slots[i].value = value;
	return 0;
}

bool map64_remove(struct map64 *m, uint64_t key)
{
	size_t hole, i;

	if (!find(m, key, &hole))
		return false;
	m->size--;
	if (key == 0) {
		m->has_zero = false;
		return true;
	}
	for (i = (hole + 1) & m->mask; m->slots[i].key; i = (i + 1) & m->mask) {
		size_t h = home(m, m->slots[i].key);

		/* An entry may move back into the hole unless its home lies cyclically within (hole, i]. */
		if (((i - h) & m->mask) >= ((i - hole) & m->mask)) {
			m->slots[hole] = m->slots[i];
			hole = i;
		}
	}
	m->slots[hole].key = 0;
	return true;
}

void map64_clear(struct map64 *m)
{
	memset(m->slots, 0, (m->mask + 1) * sizeof(*m->slots));
	m->has_zero = false;
	m->size = 0;
}

void map64_prefetch(const struct map64 *m, uint64_t key)
{
	__builtin_prefetch(&m->slots[home(m, key)]);
}

size_t map64_size(const struct map64 *m)
{
	return m->size;
}

size_t map64_capacity(const struct map64 *m)
{
	return m->max;
}

bool map64_next(const struct map64 *m, size_t *cursor, uint64_t *ret_key, uint64_t *ret_value)
{
	for (; *cursor <= m->mask + 1; (*cursor)++) {
		const struct slot *slot = &m->slots[*cursor];

		if (slot->key || (*cursor > m->mask && m->has_zero)) {
			*ret_key = slot->key;
			*ret_value = slot->value;
			(*cursor)++;
			return true;
		}
	}
	return false;
}
