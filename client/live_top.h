/* SPDX-License-Identifier: GPL-2.0-or-later */
/* top on a terminal: what its files share.
 *
 *   live_top.c ──asks──▶ top_rows ──▶ live_draw.c ──▶ screen
 *       ▲                                               │ keys
 *       └──────────────── live_keys.c ◀─────────────────┘
 */
#pragma once

#include "screen.h"
#include "top_rows.h"

#define LIVE_INPUT_MAX 64 /* bytes of a filter that is typed */

enum live_page { LIVE_ROWS, LIVE_STACK, LIVE_HELP };

/* The call that is out. They follow each other, from the third that has grown old on. */
enum live_asking {
	LIVE_NOTHING,
	LIVE_STATUS, /* since when there is anything recorded */
	LIVE_USUAL,  /* the rows of the time before */
	LIVE_NOW,    /* the rows of the window */
	LIVE_OPENED, /* one stack */
};

struct live {
	struct options options; /* as given, but for what keys change */
	struct screen *screen;

	struct call call;
	struct replies replies;
	enum live_asking asking;
	uint32_t limit; /* of rows that were asked for */
	uint64_t asked_ns, due_ns; /* by clock_monotonic_ns(): when the call went out; when the next round begins */

	uint64_t delay_us, span_us; /* between two rounds; of the window */
	uint64_t until_us;          /* the end of the window */
	uint64_t recorded_us;       /* since when the store has something */
	uint64_t started_us;        /* since when it has all, but for losses */
	bool frozen;

	struct top_usual usual;
	uint64_t usual_due_ns; /* 0: at once */
	struct top_rows rows;
	double seconds; /* of the window, as far as recorded */

	enum top_order order;
	char *filter;
	bool filter_whole;
	bool from_function; /* back leads to the functions */
	size_t *shown, n_shown, selected, first; /* indices of rows; of shown: the row in hand, and the one at the top */

	bool typing;
	char input[LIVE_INPUT_MAX];

	enum live_page page;
	struct json *opened; /* the reply to GetStack */
	uint64_t opened_stack;
	size_t scrolled;     /* lines of the page that are above the screen */
	char *message;       /* what went wrong last, escaped; NULL: nothing */
};

/* Runs until it is left; gives the exit status, or ends by the signal that ends it. */
int live_top(const struct options *o);

/* ---- live_top.c, for what keys change ---- */

/* What is asked for has become another: begins a round at once. usual: what was usual has to be found anew too. */
void live_ask_again(struct live *l, bool usual);
/* Asks for a stack, to open it when the answer comes. */
void live_open_stack(struct live *l, uint64_t stack);
/* Chooses the rows again, out of those that are there. */
void live_arrange(struct live *l);
/* Takes text over; NULL counts as "". whole as in struct top_filter. */
void live_set_filter(struct live *l, const char *text, bool whole);

/* ---- live_keys.c ---- */

/* False: the user leaves. */
bool live_key(struct live *l, int key);

/* ---- live_draw.c ---- */

void live_draw(struct live *l);
/* How many rows there is room for. */
size_t live_rows_visible(const struct live *l);
