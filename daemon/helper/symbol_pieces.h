/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which function an address belongs to, where functions lie within each other and have aliases: the address space cut into
 * pieces that each belong to one. */
#pragma once

#include "elf_symbols.h"

struct piece {
	uint64_t from, start;
	uint32_t length, size;
	uint32_t name; /* offset into names */
};

struct symbol_pieces {
	struct piece *pieces;
	size_t n_pieces, max_pieces;
	char *names;
	size_t n_names, max_names;
};

/* A symbol while the table is made. */
struct candidate {
	uint64_t start;
	const char *name; /* in the string table, not terminated within length */
	uint32_t size;
	uint32_t stored; /* offset of its name + 1 once that is stored */
	uint16_t length;
	uint8_t rank;        /* smaller is better */
	uint8_t underscores; /* that its name begins with: fewer are better */
	bool cut, is_stub;
};

/* Sorts the candidates and fills the pieces, which are zero before. -ENOMEM. */
int symbol_pieces_cut(struct symbol_pieces *t, struct candidate *candidates, size_t n);

/* Sets name, start and size if a function holds the address, and narrows valid_start and valid_end to where the same holds. */
void symbol_pieces_find(const struct symbol_pieces *t, uint64_t address, struct elf_symbol *ret);

size_t symbol_pieces_bytes(const struct symbol_pieces *t);
void symbol_pieces_done(struct symbol_pieces *t);
