/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "table.h"

#define TABLE_COLUMNS_MAX 16
#define SHRINK_LEAST 12 /* columns below which a shrunk text says nothing any more */

struct cell {
	char *text; /* escaped */
	enum colour colour;
};

struct table {
	const struct table_column *columns;
	size_t n_columns;
	const struct term *term;
	bool legend, full, header_printed;
	size_t widths[TABLE_COLUMNS_MAX];
	struct cell *cells;
	size_t n_cells, n_allocated;
	int error;
};

int table_new(struct table **ret, const struct table_column *columns, size_t n, const struct term *term,
              bool legend, bool full)
{
	struct table *t;

	if (n == 0 || n > TABLE_COLUMNS_MAX)
		return -EINVAL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->columns = columns;
	t->n_columns = n;
	t->term = term;
	t->legend = legend;
	t->full = full;
	for (size_t i = 0; i < n; i++)
		t->widths[i] = MAX(legend ? text_width(columns[i].header) : 0, (size_t)columns[i].least);
	*ret = t;
	return 0;
}

static void drop_cells(struct table *t)
{
	for (size_t i = 0; i < t->n_cells; i++)
		free(t->cells[i].text);
	t->n_cells = 0;
}

struct table *table_free(struct table *t)
{
	if (!t)
		return NULL;
	drop_cells(t);
	free(t->cells);
	free(t);
	return NULL;
}

void table_cell(struct table *t, enum colour colour, const char *text)
{
	char *escaped;

	if (t->error < 0)
		return;
	if (t->n_cells == t->n_allocated) {
		size_t n = MAX(2 * t->n_allocated, (size_t)64);
		struct cell *cells = reallocarray(t->cells, n, sizeof(*cells));

		if (!cells) {
			t->error = -ENOMEM;
			return;
		}
		t->cells = cells;
		t->n_allocated = n;
	}
	escaped = text_escape(text, t->term->utf8);
	if (!escaped) {
		t->error = -ENOMEM;
		return;
	}
	t->widths[t->n_cells % t->n_columns] = MAX(t->widths[t->n_cells % t->n_columns], text_width(escaped));
	t->cells[t->n_cells++] = (struct cell) { .text = escaped, .colour = colour };
}

void table_cellf(struct table *t, enum colour colour, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list args;
	int n;

	va_start(args, format);
	n = vasprintf(&text, format, args);
	va_end(args);
	if (n < 0) {
		text = NULL;
		t->error = -ENOMEM;
		return;
	}
	table_cell(t, colour, text);
}

size_t table_rows(const struct table *t)
{
	return t->n_cells / t->n_columns;
}

/* Takes columns from the widest of the texts that may be cut off until the rows fit. */
static void fit(const struct table *t, size_t widths[static TABLE_COLUMNS_MAX])
{
	size_t total = 2 * (t->n_columns - 1);

	for (size_t i = 0; i < t->n_columns; i++)
		total += widths[i] = t->widths[i];
	if (t->term->columns == 0 || t->full)
		return;
	while (total > t->term->columns) {
		size_t widest = SIZE_MAX;

		for (size_t i = 0; i < t->n_columns; i++)
			if (t->columns[i].shrink && (widest == SIZE_MAX || widths[i] > widths[widest]))
				widest = i;
		if (widest == SIZE_MAX || widths[widest] <= SHRINK_LEAST)
			return;
		widths[widest]--;
		total--;
	}
}

static int print_cell(const struct table *t, FILE *f, const size_t *widths, size_t column, const char *text,
                      enum colour colour)
{
	_cleanup_free_ char *cut = text_ellipsize(text, widths[column], t->term->utf8);
	bool right = t->columns[column].right, last = column + 1 == t->n_columns;
	int padding;

	if (!cut)
		return -ENOMEM;
	padding = widths[column] - text_width(cut);
	fprintf(f, "%s%*s%s%s%s%*s", column > 0 ? "  " : "", right ? padding : 0, "",
	        colour ? term_colour(t->term, colour) : "", cut, colour ? term_reset(t->term) : "",
	        right || last ? 0 : padding, "");
	if (last)
		fputc('\n', f);
	return 0;
}

static int print_rows(struct table *t, FILE *f)
{
	size_t widths[TABLE_COLUMNS_MAX];
	int r;

	fit(t, widths);
	if (t->legend && !t->header_printed && t->n_cells > 0) {
		t->header_printed = true;
		for (size_t i = 0; i < t->n_columns; i++) {
			r = print_cell(t, f, widths, i, t->columns[i].header, COLOUR_UNDERLINE);
			if (r < 0)
				return r;
		}
	}
	for (size_t i = 0; i < t->n_cells; i++) {
		r = print_cell(t, f, widths, i % t->n_columns, t->cells[i].text, t->cells[i].colour);
		if (r < 0)
			return r;
	}
	return 0;
}

int table_print(struct table *t, FILE *f)
{
	int r = t->error;

	if (r == 0)
		r = print_rows(t, f);
	drop_cells(t);
	t->error = 0;
	return r;
}
