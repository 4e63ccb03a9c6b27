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

static inline bool idcache_get(struct idcache *c, uint64_t key, uint64_t *ret)
{
	if (map64_get(c->young, key, ret))
		return true;
	if (!map64_get(c->old, key, ret))
		return false;
	idcache_put(c, key, *ret);
	return true;
}

/* For an idcache_get() that follows soon. */
static inline void idcache_prefetch(const struct idcache *c, uint64_t key)
{
	map64_prefetch(c->young, key);
}

static inline size_t idcache_size(const struct idcache *c)
{
	return map64_size(c->young) + map64_size(c->old);
}
