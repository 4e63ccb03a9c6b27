/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A heat map of a metric over time: columns go on in time, and the rows of each are its parts, the first at the top; so what
 * recurs makes a pattern, and a column is a window to look into. (Brendan Gregg's subsecond-offset heat map, by the steps that
 * stackd keeps, which are of a second at least.) */
#pragma once

#include "call.h"

struct heat_cell {
	double sum, covered_s; /* of the metric, whichever way it went; of time of which stackd knows */
};

struct heat {
	enum metric metric;
	uint64_t begin_us;  /* of the first column */
	uint32_t cell_s;
	size_t rows, columns;
	struct heat_cell *cells; /* by column, then row */
	double most;        /* the highest rate of a cell */
	size_t hottest;     /* the column with most */
};

/* points: of a reply to GetSeries. columns_max: as many as there is room for. -ENODATA: nothing is known of the window.
 * -EBADMSG: *f says what is wrong. */
int heat_new(struct heat **ret, const struct json *points, enum metric m, size_t columns_max, struct fields *f);
struct heat *heat_free(struct heat *h);
DEFINE_CLEANUP(struct heat *, heat_free)

/* The metric's unit per second; -1: nothing is known of that time. */
double heat_rate(const struct heat *h, size_t column, size_t row);
double heat_column_rate(const struct heat *h, size_t column);
/* When a column begins; that of h->columns is when the last one ends. */
uint64_t heat_column_us(const struct heat *h, size_t column);
uint64_t heat_column_span_us(const struct heat *h);
/* By how much a window is shorter at both ends than what it is for. A tick of which any part is in a window counts whole, and
 * ticks are not quite as long as each other: so nothing of the neighbours is in it. */
uint64_t heat_margin_us(const struct heat *h);

/* How many columns there is room for. */
#define HEAT_COLUMNS_PLAIN 120 /* of a line that is for no terminal */
size_t heat_columns_of(const struct term *term);
/* picked: the column that is marked. */
void heat_print(const struct heat *h, const struct options *o, size_t picked, FILE *file);

/* A picture in which two clicks pick a window. title and command are escaped; command: "stackctl flame --metric on-cpu", to
 * which the picture adds the window; at first the picked column's. -EIO. */
#define HEAT_COLUMNS_SVG 110
int heat_write_svg(const struct heat *h, const char *title, const char *command, size_t picked, FILE *file);

extern const char heat_js[]; /* the file of this name, as built in */
