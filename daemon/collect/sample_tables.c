/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/mman.h>

#include "sample_tables.h"

struct sample_tables {
	struct stackd_unwind_tables *shared;
	int slabs_fd;                     /* all slabs, one behind the other; what was never written takes no memory */
	const struct stackd_unwind_slab *slabs;
	struct map64 *process_by_key;
	struct stackd_unwind_process processes[STACKD_UNWIND_PROCESSES];
	uint32_t free_processes[STACKD_UNWIND_PROCESSES], n_free;
	struct map64 *wanted_by_key;
	struct stackd_unwind_key wanted_keys[STACKD_UNWIND_WANTED];
	struct stackd_unwind_wanted wanted[STACKD_UNWIND_WANTED];
	size_t n_wanted;
};

#define SLABS_SIZE (STACKD_UNWIND_SLABS_MAX * sizeof(struct stackd_unwind_slab))

int sample_tables_new(struct sample_tables **ret)
{
	_cleanup_(sample_tables_freep) struct sample_tables *t = calloc(1, sizeof *t);
	void *slabs;
	int r;

	if (!t)
		return -ENOMEM;
	t->slabs_fd = memfd_create("unwind-rows", MFD_CLOEXEC);
	if (t->slabs_fd < 0 || ftruncate(t->slabs_fd, SLABS_SIZE) < 0)
		return negative_errno();
	slabs = mmap(NULL, SLABS_SIZE, PROT_READ, MAP_SHARED, t->slabs_fd, 0);
	if (slabs == MAP_FAILED)
		return negative_errno();
	t->slabs = slabs;
	t->shared = calloc(1, sizeof *t->shared);
	if (!t->shared)
		return -ENOMEM;
	for (uint32_t i = 0; i < STACKD_UNWIND_PROCESSES; i++)
		t->free_processes[t->n_free++] = STACKD_UNWIND_PROCESSES - 1 - i;
	r = map64_new(&t->process_by_key, STACKD_UNWIND_PROCESSES);
	if (r >= 0)
		r = map64_new(&t->wanted_by_key, STACKD_UNWIND_WANTED);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

struct sample_tables *sample_tables_free(struct sample_tables *t)
{
	if (!t)
		return NULL;
	if (t->slabs)
		munmap((void *)t->slabs, SLABS_SIZE);
	close_fd(t->slabs_fd);
	map64_free(t->process_by_key);
	map64_free(t->wanted_by_key);
	free(t->shared);
	free(t);
	return NULL;
}

/* ---- for daemon/unwind ---- */

struct stackd_unwind_tables *sample_tables_shared(struct sample_tables *t)
{
#if defined(__x86_64__)
	return t->shared;
#else
	(void)t;
	return NULL;
#endif
}

int sample_tables_slab(struct sample_tables *t, uint32_t index, struct stackd_unwind_slab **ret)
{
	void *slab;

	if (index >= STACKD_UNWIND_SLABS_MAX)
		return -ERANGE;
	slab = mmap(NULL, sizeof(struct stackd_unwind_slab), PROT_READ | PROT_WRITE, MAP_SHARED, t->slabs_fd,
	            (off_t)(index * sizeof(struct stackd_unwind_slab)));
	if (slab == MAP_FAILED)
		return negative_errno();
	*ret = slab;
	return 0;
}

static uint64_t number_of(const struct stackd_unwind_key *key)
{
	return (uint64_t)key->tgid << 32 | key->exec_id;
}

int sample_tables_set_process(struct sample_tables *t, const struct stackd_unwind_key *key, const struct stackd_unwind_process *process)
{
	uint64_t slot;

	if (!map64_get(t->process_by_key, number_of(key), &slot)) {
		if (!process)
			return -ENOENT;
		if (t->n_free == 0)
			return -ENOSPC;
		slot = t->free_processes[--t->n_free];
		(void)map64_put(t->process_by_key, number_of(key), slot);
	}
	if (process) {
		t->processes[slot] = *process;
	} else {
		map64_remove(t->process_by_key, number_of(key));
		t->free_processes[t->n_free++] = (uint32_t)slot;
	}
	return 0;
}

size_t sample_tables_take_wanted(struct sample_tables *t, struct stackd_unwind_key *keys, struct stackd_unwind_wanted *wanted, size_t max)
{
	size_t n = MIN(t->n_wanted, max);

	memcpy(keys, t->wanted_keys, n * sizeof *keys);
	memcpy(wanted, t->wanted, n * sizeof *wanted);
	map64_clear(t->wanted_by_key);
	t->n_wanted = 0;
	return n;
}

/* ---- walking ---- */

static void want(struct sample_tables *t, const struct sample_owner *owner, uint64_t address)
{
	uint64_t slot = t->n_wanted;

	if (!map64_get(t->wanted_by_key, number_of(&owner->key), &slot)) {
		if (map64_put(t->wanted_by_key, number_of(&owner->key), slot) < 0)
			return; /* it is wanted again */
		t->n_wanted++;
		t->wanted_keys[slot] = owner->key;
		t->wanted[slot] = (struct stackd_unwind_wanted){};
	}
	t->wanted[slot].start_ns = owner->start_ns;
	t->wanted[slot].address = address;
	t->wanted[slot].count++;
}

static const struct stackd_unwind_process *find_process(const struct sample_tables *t, const struct sample_owner *owner)
{
	uint64_t slot;

	if (!map64_get(t->process_by_key, number_of(&owner->key), &slot) || t->processes[slot].start_ns != owner->start_ns)
		return NULL;
	return &t->processes[slot];
}

static const struct stackd_unwind_mapping *find_mapping(const struct sample_tables *t, const struct stackd_unwind_process *p, uint64_t address)
{
	const struct stackd_unwind_mapping *all = t->shared->mappings + p->first_mapping;
	uint32_t low = 0, high = p->n_mappings;

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (all[middle].start <= address)
			low = middle;
		else
			high = middle;
	}
	return p->n_mappings > 0 && address >= all[low].start && address < all[low].end ? &all[low] : NULL;
}

/* The rule of an address in a mapping that has a table; that of no function where the table has none. */
static const struct unwind_rule *find_row(const struct sample_tables *t, const struct stackd_unwind_mapping *m, uint64_t address)
{
	uint64_t offset = address - m->base;
	const struct stackd_unwind_page *page;
	const struct unwind_row *rows;
	uint32_t low = 0, high;

	if (offset >> UNWIND_PAGE_SHIFT >= m->n_pages)
		return &t->shared->rules[0];
	page = &t->shared->pages[m->first_page + (offset >> UNWIND_PAGE_SHIFT)];
	if (page->n_rows == 0)
		return &t->shared->rules[0];
	rows = t->slabs[page->first_row / STACKD_UNWIND_SLAB_ROWS].rows + page->first_row % STACKD_UNWIND_SLAB_ROWS;
	high = page->n_rows;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (rows[middle].address <= (uint16_t)offset)
			low = middle;
		else
			high = middle;
	}
	return &t->shared->rules[rows[low].rule];
}

struct walker {
	struct sample_tables *tables;
	const struct sample_owner *owner;
	const struct stackd_unwind_process *process;
};

static bool find_rule(void *userdata, uint64_t address, const struct unwind_rule **ret_rule)
{
	struct walker *w = userdata;
	const struct stackd_unwind_mapping *m = find_mapping(w->tables, w->process, address);

	if (!m || m->object == STACKD_UNWIND_NOT_YET)
		want(w->tables, w->owner, address);
	if (!m)
		return false;
	if (m->object < STACKD_UNWIND_OBJECTS) {
		w->tables->shared->used[m->object] = w->tables->shared->tick;
		*ret_rule = find_row(w->tables, m, address);
	}
	return true;
}

bool sample_tables_walk(struct sample_tables *t, const struct sample_owner *owner, const struct sample_owner *parent,
                        const struct perfdata_carried *carried, uint64_t *ret, size_t max, size_t *ret_n, struct walk_end *ret_end)
{
	struct walker w = { t, owner, find_process(t, owner) };

	if (!w.process && parent) {
		w.process = find_process(t, parent);
		w.owner = w.process ? parent : owner;
	}
	if (!w.process) {
		want(t, owner, carried->ip);
		return false;
	}
	*ret_n = walk_stack(carried, find_rule, &w, ret, max, ret_end);
	return true;
}
