/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A heat map of a metric over time: columns go on in time, and the rows of each are its parts, the first at the top; so what
 * recurs makes a pattern, and a column is a window to look into. (Brendan Gregg's subsecond-offset heat map: a column is a second of samples,
 * as long as stackd remembers when they were taken; else as many steps of a second, ten or sixty, as make a whole.) */
#pragma once

#include "call.h"

struct heat_cell {
	double sum, covered_s; /* of the metric, whichever way it went; of time of which stackd knows */
};

struct heat {
	enum metric metric;
	uint64_t begin_us;  /* of the first column */
	uint64_t cell_us;
	bool within;        /* seconds: of samples' times, so that a window may begin and end anywhere */
	size_t rows, columns;
	uint64_t since_us, until_us; /* what is known: the first and the last column may reach beyond */
	struct heat_cell *cells; /* by column, then row */
	double most;        /* the highest rate of a cell */
	size_t hottest;     /* the column with most */
};

/* points: of a reply to GetSeries. columns_max: as many as there is room for. -ENODATA: nothing is known of the window.
 * -EBADMSG: *f says what is wrong. */
int heat_new(struct heat **ret, const struct json *points, enum metric m, size_t columns_max, struct fields *f);
/* The same of a reply to GetHeat, within seconds; of more than there is room for, the last. metric: on-cpu or hits. */
int heat_new_within(struct heat **ret, const struct json *reply, enum metric m, size_t columns_max, struct fields *f);
struct heat *heat_free(struct heat *h);
DEFINE_CLEANUP(struct heat *, heat_free)

/* The metric's unit per second; -1: nothing is known of that time. */
double heat_rate(const struct heat *h, size_t column, size_t row);
double heat_window_rate(const struct heat *h, uint64_t since_us, uint64_t until_us); /* of the cells in it */
/* When a column begins; that of h->columns is when the last one ends. */
uint64_t heat_column_us(const struct heat *h, size_t column);
uint64_t heat_column_span_us(const struct heat *h);
/* By how much a window is shorter at both ends than what it is for. A tick of which any part is in a window counts whole, and
 * ticks are not quite as long as each other: so nothing of the neighbours is in it. */
uint64_t heat_margin_us(const struct heat *h);

/* How many columns there is room for. */
#define HEAT_COLUMNS_PLAIN 120 /* of a line that is for no terminal */
size_t heat_columns_of(const struct term *term);
/* since_us, until_us: a window in the map, whose columns are marked. */
void heat_print(const struct heat *h, const struct options *o, uint64_t since_us, uint64_t until_us, FILE *file);

/* A picture in which two clicks pick a window. title and command are escaped; command: "stackctl flame --metric on-cpu", to
 * which the picture adds the window; at first that of since_us and until_us. -EIO. */
#define HEAT_COLUMNS_SVG 110
#define HEAT_SECONDS_SVG 300 /* within seconds, when it is asked for: 15,000 cells of 20 ms */
int heat_write_svg(const struct heat *h, const char *title, const char *command, uint64_t since_us, uint64_t until_us, FILE *file);

extern const char heat_js[]; /* the file of this name, as built in */
