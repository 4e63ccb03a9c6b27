/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What top shows: the rows of a reply to GetTop, what they were before, and which of them in which order. */
#pragma once

#include "call.h"

#define TOP_ROWS_MAX LINES_ALL

struct top_row {
	uint64_t key;   /* the same from reply to reply */
	uint64_t stack; /* by stack: its id */
	char *name;     /* by function: its name; by stack: the innermost functions */
	char *object;   /* by stack: empty */
	char *frames;   /* by stack: "\nNAME\nOBJECT\nNAME\nOBJECT\n" of all of them; else NULL */
	bool kernel;
	int64_t self, total; /* over the window */
	double usual;   /* self a second before the window; NAN: not known */
};

struct top_rows {
	struct top_row *items;
	size_t n;
	bool by_stack;
	enum metric metric;
	uint64_t since_us, until_us, lost, gate_open_s;
	double load;
	int64_t total; /* of everything that matches, also of what is no row here */
	size_t limit;  /* how many were asked for: when there are as many, there may be others */
};

/* Takes the replies to a call of GetTop apart. Tells what is wrong and gives false. */
bool top_rows_read(struct top_rows *ret, const struct replies *replies, bool by_stack, size_t limit);
void top_rows_done(struct top_rows *t);
#define _cleanup_top_rows_ _cleanup_(top_rows_done)

/* What was usual before: self by key, over some time. */
struct top_usual {
	struct map64 *self;
	double seconds; /* 0: nothing is known */
	bool whole;     /* what is not in self was zero */
};

/* before: rows of the time before, seconds long. Negative errno. */
int top_usual_set(struct top_usual *u, const struct top_rows *before, double seconds);
void top_usual_done(struct top_usual *u);
/* Sets the usual of each row. */
void top_rows_compare(struct top_rows *t, const struct top_usual *u);

/* How far from what is usual, a second; NAN: not known. seconds: of the window. */
double top_row_delta(const struct top_row *row, double seconds);

enum top_order { TOP_BY_SELF, TOP_BY_CHILDREN, TOP_BY_DELTA, TOP_ORDERS };
const char *top_order_to_string(enum top_order o);

/* What rows are chosen by. text: anywhere in the name or the object of a function, or of any function of a stack, without case.
 * whole: stacks with a function of exactly this name. "": all. */
struct top_filter {
	const char *text;
	bool whole;
};

/* The indices of the rows that pass, the largest first, whatever its sign; what is not known comes last. The caller frees
 * *ret. -ENOMEM. */
int top_rows_arrange(const struct top_rows *t, enum top_order order, const struct top_filter *filter, double seconds,
                     size_t **ret, size_t *ret_n);
