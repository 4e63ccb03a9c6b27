/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The whole terminal as one picture that is drawn again and again, with keys, until it is given back as it was. */
#pragma once

#include "base.h"

struct screen;

/* Keys beyond those that are a byte of text. */
enum key {
	KEY_NONE = 0, /* a sequence that means nothing here */
	KEY_TAB = '\t',
	KEY_ENTER = '\n',
	KEY_ESCAPE = 0x1b,
	KEY_BACKSPACE = 0x7f,
	KEY_UP = 0x100,
	KEY_DOWN,
	KEY_LEFT,
	KEY_RIGHT,
	KEY_HOME,
	KEY_END,
	KEY_PAGE_UP,
	KEY_PAGE_DOWN,
};

enum screen_event {
	SCREEN_TIMEOUT,
	SCREEN_KEY,
	SCREEN_READABLE, /* the descriptor that was asked for */
	SCREEN_REDRAW,   /* another size, or the terminal is ours again after a stop */
	SCREEN_END,      /* a signal ends the program, or the terminal is gone */
};

/* Takes the terminal on stdin and stdout. The signals that concern it (WINCH, TSTP, CONT, INT, QUIT, TERM, HUP) are blocked
 * until screen_close() and arrive as events; what is written to stderr is kept until then. Negative errno. */
int screen_open(struct screen **ret);
/* Gives the terminal back, then writes what stderr was told. Accepts NULL, returns NULL. */
struct screen *screen_close(struct screen *s);
DEFINE_CLEANUP(struct screen *, screen_close)

unsigned screen_columns(const struct screen *s);
unsigned screen_lines(const struct screen *s);

/* Waits until timeout_us from now at most. fd: also for this descriptor; -1: for none. *ret_key is set with SCREEN_KEY. */
enum screen_event screen_wait(struct screen *s, int fd, uint64_t timeout_us, int *ret_key);
/* The signal that ended it, 0 when there was none. */
int screen_signal(const struct screen *s);

/* Shows lines of text that end in '\n', as many as there is room for; what is too wide is not shown. */
void screen_draw(struct screen *s, const char *text);

/* What stderr was told since the last time, without the final newline; it won't be written any more. "" when nothing was;
 * the caller frees; NULL when there is no memory. */
char *screen_take_messages(struct screen *s);

/* The key that n bytes begin with. Gives how many of them it takes, 0 when they may be the beginning of a longer sequence. */
size_t key_decode(const char *bytes, size_t n, int *ret);
