/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A bounded cache from raw stack ids (this boot, these addresses) to what the store calls them: two generations of a hash table.
 * When the young one is full it becomes the old one, and what was not asked for since then is forgotten. */
#pragma once

#include "base.h"

struct idcache {
	struct map64 *young, *old;
};

static inline void idcache_done(struct idcache *c)
{
	c->young = map64_free(c->young);
	c->old = map64_free(c->old);
}

static inline int idcache_init(struct idcache *c, size_t max_entries)
{
	int r = map64_new(&c->young, max_entries / 2);

	return r < 0 ? r : map64_new(&c->old, max_entries / 2);
}

static inline void idcache_put(struct idcache *c, uint64_t key, uint64_t value)
{
	if (map64_put(c->young, key, value) == -ENOSPC) {
		struct map64 *full = c->young;

		c->young = c->old;
		c->old = full;
		map64_clear(c->young);
		map64_put(c->young, key, value);
	}
}

/* Its value, to be changed in place; valid until the next call. NULL: it is not known. */
static inline uint64_t *idcache_find(struct idcache *c, uint64_t key)
{
	uint64_t *found = map64_find(c->young, key), value;

	if (found || !map64_get(c->old, key, &value))
		return found;
	idcache_put(c, key, value);
	return map64_find(c->young, key);
}

typedef void (*idcache_fn)(void *userdata, uint64_t key, uint64_t value);

static inline void idcache_visit(const struct idcache *c, idcache_fn fn, void *userdata)
{
	uint64_t key, value;
	size_t at = 0;

	while (map64_next(c->young, &at, &key, &value))
		fn(userdata, key, value);
	at = 0;
	while (map64_next(c->old, &at, &key, &value))
		if (!map64_get(c->young, key, NULL))
			fn(userdata, key, value);
}

/* For an idcache_find() that follows soon. */
static inline void idcache_prefetch(const struct idcache *c, uint64_t key)
{
	map64_prefetch(c->young, key);
}

static inline size_t idcache_size(const struct idcache *c)
{
	return map64_size(c->young) + map64_size(c->old);
}
