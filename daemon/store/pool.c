/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Strings and frame lists: pages of cells of one size each. Which cells are taken is volatile; opening claims
 * what the records point to. */
#include "internal.h"

static const uint16_t class_size[POOL_CLASSES] = { 16,  32,  48,  64,   96,   128, 192,
	                                           256, 384, 512, 1024, 2048, 4096 };

static int class_of(size_t size)
{
	for (int i = 0; i < POOL_CLASSES; i++)
		if (size <= class_size[i])
			return i;
	return -1;
}

static uint32_t cells_of(int class)
{
	return POOL_PAGE / class_size[class];
}

static void list_add(struct pool *p, int class, uint32_t page)
{
	struct pool_page *pg = &p->pages[page];

	pg->prev = 0;
	pg->next = p->partial[class];
	if (pg->next)
		p->pages[pg->next - 1].prev = page + 1;
	p->partial[class] = page + 1;
}

static void list_remove(struct pool *p, int class, uint32_t page)
{
	struct pool_page *pg = &p->pages[page];

	if (pg->prev)
		p->pages[pg->prev - 1].next = pg->next;
	else
		p->partial[class] = pg->next;
	if (pg->next)
		p->pages[pg->next - 1].prev = pg->prev;
}

static uint32_t take_cell(struct pool *p, uint32_t page)
{
	struct pool_page *pg = &p->pages[page];
	int class = (int)pg->class - 1;

	for (uint32_t i = 0; i < cells_of(class); i++) {
		if (pg->map[i / 64] & 1ULL << i % 64)
			continue;
		pg->map[i / 64] |= 1ULL << i % 64;
		if (++pg->used == cells_of(class))
			list_remove(p, class, page);
		p->used += class_size[class];
		return page * POOL_PAGE + i * class_size[class];
	}
	return POOL_NONE;
}

/* Pages without content are found by going round: rare enough, because a page serves many cells. */
static bool new_page(struct pool *p, int class)
{
	for (uint32_t n = 0; n < p->n_pages; n++) {
		uint32_t page = (p->unused + n) % p->n_pages;

		if (p->pages[page].class != 0)
			continue;
		p->unused = page + 1;
		p->pages[page] = (struct pool_page) { .class = (uint32_t)class + 1 };
		list_add(p, class, page);
		return true;
	}
	return false;
}

uint32_t store_pool_allocate(struct pool *p, size_t size)
{
	int class = class_of(size);

	if (class < 0)
		return POOL_NONE;
	if (!p->partial[class] && !new_page(p, class)) {
		/* A larger cell is better than none. */
		while (class < POOL_CLASSES && !p->partial[class])
			class++;
		if (class == POOL_CLASSES)
			return POOL_NONE;
	}
	return take_cell(p, p->partial[class] - 1);
}

void store_pool_free(struct pool *p, uint32_t offset)
{
	uint32_t page = offset / POOL_PAGE;
	struct pool_page *pg = &p->pages[page];
	int class = (int)pg->class - 1;
	uint32_t cell = offset % POOL_PAGE / class_size[class];

	pg->map[cell / 64] &= ~(1ULL << cell % 64);
	p->used -= class_size[class];
	if (pg->used-- == cells_of(class))
		list_add(p, class, page);
	if (pg->used == 0) {
		list_remove(p, class, page);
		pg->class = 0;
	}
}

bool store_pool_claim(struct pool *p, uint32_t offset, uint32_t cell_size)
{
	uint32_t page = offset / POOL_PAGE, cell;
	struct pool_page *pg;
	int class = class_of(cell_size);

	if (class < 0 || class_size[class] != cell_size || page >= p->n_pages)
		return false;
	pg = &p->pages[page];
	if (pg->class == 0) {
		*pg = (struct pool_page) { .class = (uint32_t)class + 1 };
		list_add(p, class, page);
	}
	cell = offset % POOL_PAGE / cell_size;
	if ((int)pg->class - 1 != class || offset % POOL_PAGE % cell_size != 0 || cell >= cells_of(class) ||
	    pg->map[cell / 64] & 1ULL << cell % 64)
		return false;
	pg->map[cell / 64] |= 1ULL << cell % 64;
	if (++pg->used == cells_of(class))
		list_remove(p, class, page);
	p->used += cell_size;
	return true;
}

uint32_t store_pool_cell_size(const struct pool *p, uint32_t offset)
{
	return class_size[p->pages[offset / POOL_PAGE].class - 1];
}
