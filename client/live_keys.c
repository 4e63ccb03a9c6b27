/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "live_top.h"

#define CTRL_U ('U' & 0x1f) /* erases a line, as in the terminal driver */

/* A digit each for the first nine and for off-CPU time, which is the last; those between are reached by < and >. */
static bool is_metric_key(int key)
{
	return key >= '0' && key <= '9';
}

static void set_metric(struct live *l, enum metric m)
{
	l->options.metric = m;
	live_ask_again(l, true);
}

static void set_order(struct live *l, enum top_order order)
{
	bool more = l->order == TOP_BY_SELF && order != TOP_BY_SELF;

	l->order = order;
	live_arrange(l);
	if (more)
		live_ask_again(l, false);
}

static void set_by(struct live *l, bool by_stack)
{
	l->options.by_stack = by_stack;
	l->selected = 0;
	live_ask_again(l, true);
}

static void change_filter(struct live *l, const char *text)
{
	live_set_filter(l, text, false);
	live_arrange(l);
	live_ask_again(l, false);
}

/* ---- a line that is typed ---- */

static void erase_character(char *text)
{
	size_t n = strlen(text);

	/* Bytes that go on with a character of UTF-8 are 10xxxxxx. */
	while (n > 0 && (text[n - 1] & 0xc0) == 0x80)
		n--;
	text[n > 0 ? n - 1 : 0] = 0;
}

static void type(struct live *l, int key)
{
	size_t n = strlen(l->input);

	switch (key) {
	case KEY_ENTER:
		l->typing = false;
		change_filter(l, l->input);
		break;
	case KEY_ESCAPE:
		l->typing = false;
		break;
	case KEY_BACKSPACE:
		erase_character(l->input);
		break;
	case CTRL_U:
		l->input[0] = 0;
		break;
	default:
		if (key >= ' ' && key < 0x100 && n + 1 < sizeof(l->input)) {
			l->input[n] = key;
			l->input[n + 1] = 0;
		}
	}
}

/* ---- moving ---- */

/* Moves *at within n by a key. False: it is none that moves. */
static bool move(size_t *at, size_t n, size_t page, int key)
{
	size_t last = n > 0 ? n - 1 : 0;

	switch (key) {
	case KEY_UP:
	case 'k':
		*at -= *at > 0;
		break;
	case KEY_DOWN:
	case 'j':
		++*at;
		break;
	case KEY_PAGE_UP:
		*at -= MIN(*at, page);
		break;
	case KEY_PAGE_DOWN:
		*at += page;
		break;
	case KEY_HOME:
		*at = 0;
		break;
	case KEY_END:
		*at = last;
		break;
	default:
		return false;
	}
	*at = MIN(*at, last);
	return true;
}

/* Into the row in hand: from a function to the stacks that it is in, from a stack to its frames. */
static void open_row(struct live *l)
{
	const struct top_row *row;

	if (l->selected >= l->n_shown)
		return;
	row = &l->rows.items[l->shown[l->selected]];
	if (l->rows.by_stack) {
		live_open_stack(l, row->stack);
		return;
	}
	live_set_filter(l, row->name, true);
	l->from_function = true;
	if (l->order == TOP_BY_CHILDREN)
		l->order = TOP_BY_SELF;
	set_by(l, true);
}

static void go_back(struct live *l)
{
	bool by_stack = l->options.by_stack && !l->from_function;

	if (!l->from_function && !*l->filter)
		return;
	l->from_function = false;
	change_filter(l, "");
	if (by_stack != l->options.by_stack)
		set_by(l, by_stack);
}

/* ---- pages ---- */

/* A text that is read, and left by any key that means nothing there. */
static bool page_key(struct live *l, int key)
{
	if (key == 'q')
		return false;
	/* How many lines there are is known when it is drawn. */
	if (!move(&l->scrolled, SIZE_MAX, live_rows_visible(l), key) && key != KEY_NONE)
		l->page = LIVE_ROWS;
	return true;
}

static bool row_key(struct live *l, int key)
{
	if (move(&l->selected, l->n_shown, live_rows_visible(l), key))
		return true;
	if (is_metric_key(key)) {
		set_metric(l, key == '0' ? METRIC_OFF_CPU : key - '1');
		return true;
	}
	switch (key) {
	case 'q':
		return false;
	case 'h':
	case '?':
		l->page = LIVE_HELP;
		l->scrolled = 0;
		break;
	case ' ':
	case 'f':
		l->frozen = !l->frozen;
		if (!l->frozen)
			live_ask_again(l, false);
		break;
	case KEY_TAB:
	case 't':
		l->from_function = false;
		live_set_filter(l, l->filter_whole ? "" : l->filter, false);
		if (l->order == TOP_BY_CHILDREN)
			l->order = TOP_BY_SELF;
		set_by(l, !l->options.by_stack);
		break;
	case '<':
		set_metric(l, (l->options.metric + METRIC_ALL_N - 1) % METRIC_ALL_N);
		break;
	case '>':
		set_metric(l, (l->options.metric + 1) % METRIC_ALL_N);
		break;
	case 's':
		set_order(l, TOP_BY_SELF);
		break;
	case 'c':
		/* What a stack has is its own. */
		set_order(l, l->options.by_stack ? TOP_BY_SELF : TOP_BY_CHILDREN);
		break;
	case 'd':
		set_order(l, TOP_BY_DELTA);
		break;
	case '/':
		l->typing = true;
		copy_string(l->input, sizeof(l->input), l->filter_whole ? "" : l->filter);
		break;
	case KEY_ENTER:
	case KEY_RIGHT:
		open_row(l);
		break;
	case KEY_ESCAPE:
	case KEY_LEFT:
	case KEY_BACKSPACE:
		go_back(l);
		break;
	}
	return true;
}

bool live_key(struct live *l, int key)
{
	free(l->message);
	l->message = NULL;
	if (l->typing) {
		type(l, key);
		return true;
	}
	return l->page == LIVE_ROWS ? row_key(l, key) : page_key(l, key);
}
