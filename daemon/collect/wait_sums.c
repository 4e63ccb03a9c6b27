/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What waits added up to on each CPU, by stack: the programs write it in halves of a map, a stretch for each CPU, which is mapped here. */
#include <sys/mman.h>

#include "internal.h"

uint32_t wait_sums_entries(void)
{
	return 2 * moments_cpus() * STACKD_WAIT_SUMS;
}

struct stackd_wait_sum *wait_sums_map(int fd)
{
	void *map = mmap(NULL, wait_sums_entries() * sizeof(struct stackd_wait_sum), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return map == MAP_FAILED ? NULL : map;
}

void wait_sums_unmap(struct stackd_wait_sum *map)
{
	if (map)
		munmap(map, wait_sums_entries() * sizeof(*map));
}

int wait_sums_init(struct wait_sums *w)
{
	w->max = wait_sums_entries() / 2;
	w->sums = calloc(w->max, sizeof(*w->sums));
	return w->sums ? map64_new(&w->by_id, w->max) : -ENOMEM;
}

void wait_sums_done(struct wait_sums *w)
{
	free(w->sums);
	w->by_id = map64_free(w->by_id);
}

static void gather(struct wait_sums *w, struct stackd_wait_sum *of_cpu)
{
	uint64_t at;

	if (!map64_get(w->by_id, of_cpu->id, &at)) {
		at = w->n++;
		map64_put(w->by_id, of_cpu->id, at);
		w->sums[at] = (struct stackd_wait_sum){ .id = of_cpu->id };
	}
	w->sums[at].blocked_ns += of_cpu->blocked_ns;
	w->sums[at].runnable_ns += of_cpu->runnable_ns;
	of_cpu->id = of_cpu->candidate = 0;
}

uint32_t wait_sums_take(struct wait_sums *w, struct stackd_wait_sum *map, uint32_t half, const uint64_t *ids, struct stackd_count *counts, uint32_t n)
{
	uint32_t found = 0;
	uint64_t at;

	w->n = 0;
	for (uint32_t i = 0; map && i < w->max; i++)
		if (map[half * w->max + i].id)
			gather(w, &map[half * w->max + i]);
	for (uint32_t i = 0; found < w->n && i < n; i++) {
		if (!map64_get(w->by_id, ids[i], &at))
			continue;
		counts[i].values[STACKD_BLOCKED] += w->sums[at].blocked_ns;
		counts[i].values[STACKD_RUNNABLE] += w->sums[at].runnable_ns;
		found++;
	}
	map64_clear(w->by_id);
	return w->n - found;
}
