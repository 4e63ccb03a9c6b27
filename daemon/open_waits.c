/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "open_waits.h"

#define NO_WAIT UINT32_MAX

struct waits {
	struct map64 *index;   /* raw id -> entry */
	struct map64 *threads; /* process hash -> threads */
	uint32_t max, free;
	uint32_t used;         /* no entry at or beyond this was ever used */
	struct wait entries[];
};

int waits_new(struct waits **ret, uint32_t max_stacks)
{
	_cleanup_(waits_freep) struct waits *w = calloc(1, sizeof(*w) + max_stacks * sizeof(w->entries[0]));
	int r;

	if (!w)
		return -ENOMEM;
	w->max = max_stacks;
	w->free = NO_WAIT;
	if ((r = map64_new(&w->index, max_stacks)) < 0 || (r = map64_new(&w->threads, max_stacks)) < 0)
		return r;
	*ret = TAKE_PTR(w);
	return 0;
}

struct waits *waits_free(struct waits *w)
{
	if (w) {
		map64_free(w->index);
		map64_free(w->threads);
		free(w);
	}
	return NULL;
}

static uint64_t process_hash(const struct collect_process *process)
{
	const uint64_t key[] = { (uint32_t) process->pid | (uint64_t) process->exec_id << 32, process->start_ns };

	return hash64(key, sizeof(key), 0);
}

static void change_threads(struct waits *w, const struct collect_process *process, int64_t threads)
{
	uint64_t hash = process_hash(process), n = 0;

	map64_get(w->threads, hash, &n);
	n += threads;
	if (n == 0)
		map64_remove(w->threads, hash);
	else
		map64_put(w->threads, hash, n); /* no more processes than stacks: it fits */
}

bool waits_full(const struct waits *w, uint64_t raw_id)
{
	return w->free == NO_WAIT && w->used == w->max && !map64_get(w->index, raw_id, NULL);
}

int waits_begin(struct waits *w, uint64_t raw_id, const struct collect_process *process, uint64_t stack_id, uint32_t threads)
{
	uint64_t at;

	if (waits_full(w, raw_id))
		return -ENOSPC;
	if (!map64_get(w->index, raw_id, &at)) {
		if (w->free != NO_WAIT) {
			at = w->free;
			w->free = w->entries[at].next_free;
		} else {
			at = w->used++;
		}
		w->entries[at] = (struct wait) { .stack_id = stack_id, .process = *process };
		map64_put(w->index, raw_id, at);
	}
	w->entries[at].threads += threads;
	change_threads(w, process, threads);
	return 0;
}

uint32_t waits_end(struct waits *w, uint64_t raw_id, uint32_t threads, struct wait *ret)
{
	struct wait *entry;
	uint64_t at;

	if (!map64_get(w->index, raw_id, &at))
		return 0;
	entry = &w->entries[at];
	threads = MIN(threads, entry->threads);
	*ret = *entry;
	change_threads(w, &entry->process, -(int64_t) threads);
	entry->threads -= threads;
	if (entry->threads == 0) {
		map64_remove(w->index, raw_id);
		entry->next_free = w->free;
		w->free = at;
	}
	return threads;
}

uint64_t waits_stack(const struct waits *w, uint64_t raw_id)
{
	uint64_t at;

	return map64_get(w->index, raw_id, &at) ? w->entries[at].stack_id : 0;
}

uint32_t waits_of_process(const struct waits *w, const struct collect_process *process)
{
	uint64_t n = 0;

	map64_get(w->threads, process_hash(process), &n);
	return n;
}

uint32_t waits_count(const struct waits *w)
{
	return map64_size(w->index);
}

uint32_t waits_max(const struct waits *w)
{
	return w->max;
}
