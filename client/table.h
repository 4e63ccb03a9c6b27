/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Columns aligned by what the terminal shows, as systemctl prints them. */
#pragma once

#include "term.h"

struct table;

struct table_column {
	const char *header;
	bool right;      /* numbers */
	bool shrink;     /* is cut off first when the terminal is too narrow */
	unsigned least;  /* columns to keep, so that rows printed later line up */
};

/* columns must outlive the table. legend: print the header. full: cut nothing off. */
int table_new(struct table **ret, const struct table_column *columns, size_t n, const struct term *term,
              bool legend, bool full);
struct table *table_free(struct table *t);
DEFINE_CLEANUP(struct table *, table_free)

/* The next cell, row after row; text is escaped. An error sticks and is told by table_print(). */
void table_cell(struct table *t, enum colour colour, const char *text);
void table_cellf(struct table *t, enum colour colour, const char *format, ...) _printf_(3, 4);

size_t table_rows(const struct table *t);

/* Prints the rows that are in hand and drops them. The header comes with the first rows only; widths only
 * grow. */
int table_print(struct table *t, FILE *f);
