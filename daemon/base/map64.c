/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Linear probing with backward-shift deletion (Knuth, TAOCP volume 3, 6.4, algorithm R): no tombstones, so
 * a table that lives for months does not slow down.
 *
 * Keys are spread over the whole table, so that a few would touch all of a large one's pages. So it begins small and doubles, up to what
 * max_entries need. All sizes have their place in memory that is reserved at the beginning: that of n slots begins at slot n. Growing can't fail, and
 * pages that were never written cost nothing. */
#include <sys/mman.h>

#include "base.h"

#define FIRST_SLOTS 16
#define MMAP_BYTES (128UL << 10) /* not by malloc(), which would write zeros into what was used before */

struct slot {
	uint64_t key, value; /* key 0: free, so that a look-up touches one cache line */
};

struct map64 {
	size_t size, max, mask;
	bool has_zero;
	struct slot *slots;    /* mask + 1 */
	struct slot *reserved; /* the first is the entry of key 0, which is no other's */
	size_t reserved_bytes;
};

/* Keys may be small integers or already hashes; either way the low bits must spread. */
static size_t home(const struct map64 *m, uint64_t key)
{
	key ^= key >> 32;
	key *= 0x9e3779b97f4a7c15ULL; /* Fibonacci hashing */
	return (key >> 20) & m->mask;
}

/* At most two thirds full. */
static bool is_room(size_t slots, size_t entries)
{
	return slots >= entries + entries / 2;
}

static int reserve(struct map64 *m, size_t bytes)
{
	void *memory = bytes < MMAP_BYTES ? calloc(1, bytes)
	                                  : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (!memory || memory == MAP_FAILED)
		return -ENOMEM;
	m->reserved = memory;
	m->reserved_bytes = bytes;
	return 0;
}

int map64_new(struct map64 **ret, size_t max_entries)
{
	_cleanup_(map64_freep) struct map64 *m = calloc(1, sizeof(*m));
	size_t n = FIRST_SLOTS;
	int r;

	if (!m)
		return -ENOMEM;
	if (max_entries > SIZE_MAX / 128)
		return -EINVAL;
	while (!is_room(n, max_entries))
		n *= 2;
	m->max = max_entries;
	m->mask = FIRST_SLOTS - 1;
	r = reserve(m, 2 * n * sizeof(*m->reserved));
	if (r < 0)
		return r;
	m->slots = m->reserved + FIRST_SLOTS;
	*ret = TAKE_PTR(m);
	return 0;
}

struct map64 *map64_free(struct map64 *m)
{
	if (!m)
		return NULL;
	if (m->reserved_bytes < MMAP_BYTES)
		free(m->reserved);
	else
		munmap(m->reserved, m->reserved_bytes);
	free(m);
	return NULL;
}

/* Gives the entry's slot, or the one that it would get. */
static bool find(const struct map64 *m, uint64_t key, struct slot **ret)
{
	size_t i = home(m, key);

	if (key == 0) {
		*ret = m->reserved;
		return m->has_zero;
	}
	while (m->slots[i].key && m->slots[i].key != key)
		i = (i + 1) & m->mask;
	*ret = &m->slots[i];
	return m->slots[i].key == key;
}

static void grow(struct map64 *m)
{
	struct slot *old = m->slots, *to;
	size_t n = m->mask + 1;

	m->slots = m->reserved + 2 * n;
	m->mask = 2 * n - 1;
	for (size_t i = 0; i < n; i++)
		if (old[i].key) {
			find(m, old[i].key, &to);
			*to = old[i];
		}
	memory_give_back(old, n * sizeof(*old));
}

bool map64_get(const struct map64 *m, uint64_t key, uint64_t *ret)
{
	struct slot *slot;

	if (!find(m, key, &slot))
		return false;
	if (ret)
		*ret = slot->value;
	return true;
}

uint64_t *map64_find(struct map64 *m, uint64_t key)
{
	struct slot *slot;

	return find(m, key, &slot) ? &slot->value : NULL;
}

int map64_put(struct map64 *m, uint64_t key, uint64_t value)
{
	struct slot *slot;

	if (!find(m, key, &slot)) {
		if (m->size >= m->max)
			return -ENOSPC;
		if (!is_room(m->mask + 1, m->size + 1)) {
			grow(m);
			find(m, key, &slot);
		}
		slot->key = key;
		m->has_zero |= key == 0;
		m->size++;
	}
	slot->value = value;
	return 0;
}

bool map64_remove(struct map64 *m, uint64_t key)
{
	struct slot *found;
	size_t hole, i;

	if (!find(m, key, &found))
		return false;
	m->size--;
	if (key == 0) {
		m->has_zero = false;
		return true;
	}
	hole = (size_t)(found - m->slots);
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
	while (*cursor <= m->mask + 1) {
		size_t at = (*cursor)++;
		const struct slot *slot = at <= m->mask ? &m->slots[at] : m->reserved;

		if (at <= m->mask ? slot->key != 0 : m->has_zero) {
			*ret_key = slot->key;
			*ret_value = slot->value;
			return true;
		}
	}
	return false;
}
