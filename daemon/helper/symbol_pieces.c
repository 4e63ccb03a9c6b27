/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "symbol_pieces.h"

static int compare_candidates(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	int c;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	if (x->underscores != y->underscores)
		return x->underscores < y->underscores ? -1 : 1;
	if (x->length != y->length)
		return x->length < y->length ? -1 : 1;
	c = memcmp(x->name, y->name, x->length);
	if (c != 0)
		return c;
	/* the same name twice (.symtab and .dynsym): the larger size, so that the order is total */
	return x->size == y->size ? 0 : x->size > y->size ? -1 : 1;
}

static int store_name(struct symbol_pieces *t, struct candidate *c)
{
	static const char stub_suffix[] = "@plt";
	size_t suffix = c->is_stub ? strlen(stub_suffix) : 0, length = MIN(c->length, ELF_NAME_MAX - suffix);
	char *name;
	int r;

	if (c->stored)
		return 0;
	r = grow_array((void **)&t->names, &t->max_names, t->n_names + length + suffix + 1, 1);
	if (r < 0)
		return r;
	name = t->names + t->n_names;
	memcpy(name, c->name, length);
	if (c->cut)
		memset(name + length - 3, '.', 3);
	memcpy(name + length, stub_suffix, suffix);
	name[length + suffix] = '\0';
	c->stored = (uint32_t)t->n_names + 1;
	t->n_names += length + suffix + 1;
	return 0;
}

static int add_piece(struct symbol_pieces *t, struct candidate *c, uint64_t from, uint64_t to)
{
	int r = store_name(t, c);

	if (r < 0)
		return r;
	r = grow_array((void **)&t->pieces, &t->max_pieces, t->n_pieces + 1, sizeof(*t->pieces));
	if (r < 0)
		return r;
	t->pieces[t->n_pieces++] = (struct piece){
		.from = from,
		.length = (uint32_t)(to - from),
		.start = c->start,
		.size = c->size,
		.name = c->stored - 1,
	};
	return 0;
}

/* Sweeps over the sorted symbols with a stack of those that are open; on top is the one that started last,
 * which is the one that an address belongs to. */
int symbol_pieces_cut(struct symbol_pieces *t, struct candidate *candidates, size_t n)
{
	uint64_t position = 0;
	size_t depth = 0;
	_cleanup_free_ uint32_t *open = reallocarray(NULL, MAX(n, (size_t)1), sizeof(*open));

	if (!open)
		return -ENOMEM;
	if (n > 0)
		qsort(candidates, n, sizeof(*candidates), compare_candidates);
	for (size_t i = 0; i <= n; i++) {
		uint64_t next = i < n ? candidates[i].start : UINT64_MAX;

		if (i > 0 && i < n && next == candidates[i - 1].start)
			continue; /* an alias; the first is the best */
		while (depth > 0 && position < next) {
			struct candidate *top = &candidates[open[depth - 1]];
			uint64_t end = top->start + top->size;

			if (end > position) {
				int r = add_piece(t, top, position, MIN(end, next));

				if (r < 0)
					return r;
				position = MIN(end, next);
			}
			if (end <= next)
				depth--;
		}
		position = next;
		if (i < n)
			open[depth++] = (uint32_t)i;
	}
	return 0;
}

void symbol_pieces_find(const struct symbol_pieces *t, uint64_t address, struct elf_symbol *ret)
{
	size_t low = 0, high = t->n_pieces;

	while (low < high) { /* the first piece that starts after it */
		size_t middle = low + (high - low) / 2;

		if (t->pieces[middle].from <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < t->n_pieces)
		ret->valid_end = MIN(ret->valid_end, t->pieces[low].from);
	if (low > 0) {
		const struct piece *p = &t->pieces[low - 1];

		if (address - p->from < p->length) {
			ret->start = p->start;
			ret->size = p->size;
			ret->name = t->names + p->name;
			ret->valid_start = MAX(ret->valid_start, p->from);
			ret->valid_end = MIN(ret->valid_end, p->from + p->length);
		} else {
			ret->valid_start = MAX(ret->valid_start, p->from + p->length);
		}
	}
}

size_t symbol_pieces_bytes(const struct symbol_pieces *t)
{
	return t->max_pieces * sizeof(*t->pieces) + t->max_names;
}

void symbol_pieces_done(struct symbol_pieces *t)
{
	free(t->pieces);
	free(t->names);
}
