/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pending.h"

/* What a burst has left is given back from so many entries on. */
#define SPARE_MAX 256

struct pending_table {
	struct map64 *index; /* key -> entry */
	uint32_t max, n;     /* entries, the dropped ones among them */
	uint32_t dropped;
	uint32_t dirty;      /* entries beyond n up to here may take memory */
	struct pending entries[];
};

int pending_new(struct pending_table **ret, uint32_t max)
{
	_cleanup_(pending_freep) struct pending_table *t = calloc(1, sizeof(*t) + max * sizeof(t->entries[0]));
	int r;

	if (!t)
		return -ENOMEM;
	t->max = max;
	r = map64_new(&t->index, max);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

struct pending_table *pending_free(struct pending_table *t)
{
	if (t) {
		map64_free(t->index);
		free(t);
	}
	return NULL;
}

struct pending *pending_find(struct pending_table *t, uint64_t key)
{
	uint64_t at;

	return map64_get(t->index, key, &at) ? &t->entries[at] : NULL;
}

struct pending *pending_make(struct pending_table *t, uint64_t key, const struct collect_process *process, bool total)
{
	struct pending *entry = pending_find(t, key);

	if (entry)
		return entry;
	if (t->n == t->max)
		pending_close_gaps(t);
	if (t->n == t->max)
		return NULL;
	map64_put(t->index, key, t->n);
	entry = &t->entries[t->n++];
	*entry = (struct pending) { .key = key, .total = total, .process = *process };
	t->dirty = MAX(t->dirty, t->n);
	return entry;
}

void pending_drop(struct pending_table *t, struct pending *entry)
{
	map64_remove(t->index, entry->key);
	entry->key = 0;
	t->dropped++;
}

void pending_close_gaps(struct pending_table *t)
{
	uint32_t to = 0;

	for (uint32_t from = 0; t->dropped > 0 && from < t->n; from++) {
		if (!t->entries[from].key)
			continue;
		if (from != to) {
			t->entries[to] = t->entries[from];
			map64_put(t->index, t->entries[to].key, to);
		}
		to++;
	}
	t->n -= t->dropped;
	t->dropped = 0;
	if (t->dirty - t->n <= MAX(t->n, (uint32_t)SPARE_MAX))
		return;
	memory_give_back(&t->entries[t->n], (t->dirty - t->n) * sizeof(t->entries[0]));
	t->dirty = t->n;
}

struct pending *pending_next(struct pending_table *t, uint32_t *cursor)
{
	while (*cursor < t->n) {
		struct pending *entry = &t->entries[(*cursor)++];

		if (entry->key)
			return entry;
	}
	return NULL;
}

uint32_t pending_count(const struct pending_table *t)
{
	return t->n - t->dropped;
}
