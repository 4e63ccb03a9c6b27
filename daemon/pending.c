/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pending.h"

#define NO_ENTRY UINT32_MAX

struct pending_table {
	struct map64 *index; /* key -> entry */
	uint32_t max, free;
	uint32_t used;       /* no entry at or beyond this was ever used */
	struct pending entries[];
};

int pending_new(struct pending_table **ret, uint32_t max)
{
	_cleanup_(pending_freep) struct pending_table *t = calloc(1, sizeof(*t) + max * sizeof(t->entries[0]));
	int r;

	if (!t)
		return -ENOMEM;
	t->max = max;
	t->free = NO_ENTRY;
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
	uint32_t at;

	if (entry)
		return entry;
	if (t->free != NO_ENTRY) {
		at = t->free;
		t->free = t->entries[at].next_free;
	} else if (t->used < t->max)
		at = t->used++;
	else
		return NULL;
	entry = &t->entries[at];
	*entry = (struct pending) { .key = key, .total = total, .process = *process };
	map64_put(t->index, key, at);
	return entry;
}

void pending_drop(struct pending_table *t, struct pending *entry)
{
	map64_remove(t->index, entry->key);
	entry->key = 0;
	entry->next_free = t->free;
	t->free = entry - t->entries;
	if (map64_size(t->index) > 0)
		return;
	/* A burst is over. */
	memory_give_back(t->entries, t->used * sizeof(t->entries[0]));
	t->free = NO_ENTRY;
	t->used = 0;
}

struct pending *pending_next(struct pending_table *t, uint32_t *cursor)
{
	while (map64_size(t->index) > 0 && *cursor < t->used) {
		struct pending *entry = &t->entries[(*cursor)++];

		if (entry->key)
			return entry;
	}
	return NULL;
}

uint32_t pending_count(const struct pending_table *t)
{
	return map64_size(t->index);
}
