/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the terminal can do, and text that can't harm it. */
#pragma once

#include "base.h"

struct term {
	bool colour;      /* $SYSTEMD_COLORS, $NO_COLOR, a terminal that isn't dumb */
	bool utf8;        /* what is printed may go beyond ASCII */
	bool is_terminal; /* stdout is one */
	bool is_live;     /* so is stdin, and the cursor can be moved */
	unsigned columns; /* 0 = as wide as it takes */
};

enum colour {
	COLOUR_NONE,
	COLOUR_BOLD,
	COLOUR_GREY,
	COLOUR_RED,
	COLOUR_YELLOW,
	COLOUR_GREEN,
	COLOUR_UNDERLINE
};

/* Also chooses the locale by which widths of characters are known. Call before the pager takes stdout. */
void term_setup(struct term *ret);

/* The escape sequence, or "" when there is no colour. */
const char *term_colour(const struct term *t, enum colour c);
const char *term_reset(const struct term *t);

/* Names come from processes and files, which may be hostile: everything that would move the cursor, change
 * what was printed before or turn the direction of writing becomes \x1b or \u202e, and so do invalid UTF-8
 * and, where the terminal isn't UTF-8, whatever is not ASCII. The caller frees the result; NULL when there is
 * no memory. */
char *text_escape(const char *s, bool utf8);

/* Columns that escaped text takes. */
size_t text_width(const char *s);

/* At most width columns of it, with a mark at the end where something was cut off. The caller frees; NULL
 * when there is no memory. */
char *text_ellipsize(const char *s, size_t width, bool utf8);
