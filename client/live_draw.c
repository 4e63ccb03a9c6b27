/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "live_top.h"

#include <math.h>

#include "show.h"
#include "show_stack.h"
#include "timestamp.h"

#define HEAD_LINES 3
#define REST_LINES 2       /* the columns' headers, the last line */
#define WAIT_TOLD_S 2      /* a call that is out for longer is told of */
#define NOTABLE_FACTOR 2   /* times as much, or as little, as usual is coloured */
#define NOTABLE_SHARE 0.05 /* when it is that much of the whole, or was: less may be a sample or two */

static const struct table_column function_columns[] = {
	{ "CHILDREN%", .right = true },
	{ "SELF%", .right = true, .least = 6 },
	{ "SELF", .right = true, .least = 10 },
	{ "DELTA", .right = true, .least = 11 },
	{ "FUNCTION", .shrink = true },
	{ "OBJECT", .shrink = true },
};

static const struct table_column stack_columns[] = {
	{ "SHARE", .right = true, .least = 6 },
	{ "VALUE", .right = true, .least = 10 },
	{ "DELTA", .right = true, .least = 11 },
	{ "FUNCTION AND CALLERS", .shrink = true },
};

size_t live_rows_visible(const struct live *l)
{
	return MAX(screen_lines(l->screen), HEAD_LINES + REST_LINES + 1U) - HEAD_LINES - REST_LINES;
}

/* ---- lines ---- */

/* A line as wide as the screen at most. text is escaped. */
static void put_line(const struct live *l, FILE *f, enum colour colour, const char *text)
{
	const struct term *term = &l->options.term;
	_cleanup_free_ char *cut = text_ellipsize(text, screen_columns(l->screen), term->utf8);

	fprintf(f, "%s%s%s\n", colour ? term_colour(term, colour) : "", cut ? cut : "",
	        colour ? term_reset(term) : "");
}

static void put_linef(const struct live *l, FILE *f, enum colour colour, const char *format, ...) _printf_(4, 5);
static void put_linef(const struct live *l, FILE *f, enum colour colour, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	put_line(l, f, colour, text ? text : "");
}

/* In reverse, from edge to edge, without the colours in it. */
static void put_reverse(const struct live *l, FILE *f, const char *line, size_t n)
{
	_cleanup_free_ char *plain = malloc(n + 1);
	size_t at = 0, width;

	if (!plain)
		return;
	for (size_t i = 0; i < n; i++) {
		if (line[i] == '\x1b')
			i += strcspn(line + i, "m");
		else
			plain[at++] = line[i];
	}
	plain[at] = 0;
	width = MIN(text_width(plain), (size_t)screen_columns(l->screen));
	fprintf(f, "\x1b[7m%s%*s\x1b[0m\n", plain, (int)(screen_columns(l->screen) - width), "");
}

/* ---- the head ---- */

static void put_head(const struct live *l, FILE *f)
{
	const struct top_rows *t = &l->rows;
	char at[FORMAT_MAX], span[FORMAT_MAX], total[FORMAT_MAX];

	if (t->until_us == 0) {
		put_line(l, f, COLOUR_BOLD, "stackctl top");
		fputc('\n', f);
		return;
	}
	put_linef(l, f, COLOUR_BOLD, "stackctl top - %s, last %s: load %.2f, gate open for %llu s, %llu lost",
	          time_format_short(at, t->until_us), format_timespan(span, t->until_us - t->since_us), t->load,
	          (unsigned long long)t->gate_open_s, (unsigned long long)t->lost);
	format_rate(total, t->metric, t->total / l->seconds);
	put_linef(l, f, COLOUR_NONE, "%s by %s, largest %s first; %s in all; %s%s", metric_to_string(t->metric),
	          t->by_stack ? "stack" : "function", t->by_stack && l->order == TOP_BY_SELF ? "value" : top_order_to_string(l->order),
	          total, l->usual.seconds > 0 ? "delta to the last " : "what is usual is not known yet",
	          l->usual.seconds > 0 ? format_timespan(span, l->usual.seconds * USEC_PER_SEC) : "");
}

static void put_choice(const struct live *l, FILE *f)
{
	_cleanup_free_ char *filter = text_escape(l->filter, l->options.term.utf8);
	bool is_old = l->rows.metric != l->options.metric || l->rows.by_stack != l->options.by_stack;
	char rows[FORMAT_MAX];

	if (l->rows.until_us == 0) {
		fputc('\n', f);
		return;
	}
	if (l->rows.n < l->rows.limit)
		snprintf(rows, sizeof(rows), "%zu", l->n_shown);
	else
		snprintf(rows, sizeof(rows), l->n_shown < l->rows.n ? "%zu of the %zu largest" : "the %zu largest", l->n_shown, l->rows.n);
	put_linef(l, f, l->frozen ? COLOUR_YELLOW : COLOUR_NONE, "%s%s%s%s%s", rows,
	          !*l->filter ? "" : l->filter_whole ? " through " : " with ", filter ? filter : "", is_old ? " ..." : "",
	          l->frozen ? " - FROZEN" : "");
}

/* ---- rows ---- */

static void put_delta(struct table *t, const struct live *l, const struct top_row *row)
{
	double delta = top_row_delta(row, l->seconds), now = fabs(row->self / l->seconds), usual = fabs(row->usual);
	char rate[FORMAT_MAX], signed_rate[FORMAT_MAX + 1];
	enum colour colour = COLOUR_NONE;

	if (isnan(delta)) {
		table_cell(t, COLOUR_GREY, "-");
		return;
	}
	if (MAX(now, usual) >= NOTABLE_SHARE * fabs(l->rows.total / l->seconds))
		colour = now > NOTABLE_FACTOR * usual   ? COLOUR_RED
		         : usual > NOTABLE_FACTOR * now ? COLOUR_GREEN
		                                        : COLOUR_NONE;
	if (row->usual == 0 && row->self != 0) {
		table_cell(t, colour, "new");
		return;
	}
	snprintf(signed_rate, sizeof(signed_rate), "%c%s", delta < 0 ? '-' : '+', format_rate(rate, l->rows.metric, fabs(delta)));
	table_cell(t, colour, signed_rate);
}

static void put_row(struct table *t, const struct live *l, const struct top_row *row)
{
	/* What grew and what was released are no parts of a whole. */
	uint64_t whole = metric_is_signed(l->rows.metric) ? 0 : l->rows.total;
	char buf[FORMAT_MAX];

	table_cell(t, COLOUR_NONE, format_share(buf, row->total, whole));
	if (!l->rows.by_stack)
		table_cell(t, COLOUR_NONE, format_share(buf, row->self, whole));
	table_cell(t, COLOUR_NONE, format_rate(buf, l->rows.metric, row->self / l->seconds));
	put_delta(t, l, row);
	table_cell(t, row->kernel && !l->rows.by_stack ? COLOUR_YELLOW : COLOUR_NONE, row->name);
	if (!l->rows.by_stack)
		table_cell(t, COLOUR_GREY, row->object);
}

static int put_table(const struct live *l, FILE *f, size_t n)
{
	_cleanup_(table_freep) struct table *t = NULL;
	const struct options *o = &l->options;
	int r;

	r = l->rows.by_stack ? table_new(&t, stack_columns, ELEMENTS_OF(stack_columns), &o->term, !o->no_legend, false)
	                     : table_new(&t, function_columns, ELEMENTS_OF(function_columns), &o->term, !o->no_legend, false);
	if (r < 0)
		return r;
	for (size_t i = l->first; i < MIN(l->n_shown, l->first + n); i++)
		put_row(t, l, &l->rows.items[l->shown[i]]);
	return table_print(t, f);
}

/* Scrolls so that the row in hand is on the screen. */
static void scroll_rows(struct live *l, size_t visible)
{
	if (l->selected < l->first)
		l->first = l->selected;
	if (l->selected >= l->first + visible)
		l->first = l->selected - visible + 1;
	l->first = MIN(l->first, l->n_shown - MIN(l->n_shown, visible));
}

static size_t put_rows(struct live *l, FILE *f, size_t lines)
{
	size_t visible = live_rows_visible(l), size, selected, at = 0;
	_cleanup_free_ char *text = NULL;
	FILE *rows;

	scroll_rows(l, visible);
	if (l->n_shown == 0) {
		put_line(l, f, COLOUR_NONE, l->rows.until_us == 0 ? "" : "-- Nothing recorded --");
		return 1;
	}
	rows = open_memstream(&text, &size);
	if (!rows)
		return 0;
	if (put_table(l, rows, visible) < 0)
		l->n_shown = 0;
	fclose(rows);
	selected = l->selected - l->first + !l->options.no_legend;
	for (const char *line = text; *line && at < lines; at++) {
		size_t n = strcspn(line, "\n");

		if (at == selected)
			put_reverse(l, f, line, n);
		else
			fprintf(f, "%.*s\n", (int)n, line);
		line += n + (line[n] == '\n');
	}
	return at;
}

/* ---- pages ---- */

static void write_help(FILE *f)
{
	fputs("Functions or stacks with most of a metric, of the last seconds, a second.\n\n"
	      "  1 ... 9 0  Metric: on-cpu, blocked, runnable, faults-minor, faults-major, hits,\n"
	      "             brk, mmap, heap, off-cpu\n"
	      "  < >        The metric before, the next one\n"
	      "  Tab t      By stack, by function\n"
	      "  s c d      Largest first by self, by children, by delta\n"
	      "  /          Only what has this text in its name or object; empty: all\n"
	      "  Space f    Freeze, and go on\n"
	      "  Up Down j k, Page keys, Home, End\n"
	      "  Enter      Open: the stacks that a function is in; a stack's frames and series\n"
	      "  Escape     Back\n"
	      "  q Ctrl-C   Leave\n\n"
	      "DELTA is how much more or less it is than in the time before the window, a second. \"new\": there\n"
	      "was nothing. \"-\": not known, as stackd has not run for a minute before, or as it was not among\n"
	      "the largest then. Red and green: twice as much, or half.\n",
	      f);
}

static void write_stack(const struct live *l, FILE *f)
{
	const struct json *reply = json_get(l->opened, "parameters"), *stack, *window;
	char since[FORMAT_MAX], until[FORMAT_MAX];
	struct fields fields = {};

	stack = field_object(&fields, reply, "stack");
	window = field_object(&fields, reply, "window");
	fprintf(f, "Stack %016llx, from %s to %s\n\n", (unsigned long long)l->opened_stack,
	        time_format(since, field_int(&fields, window, "since_us")),
	        time_format(until, field_int(&fields, window, "until_us")));
	show_stack_frames(&l->options, stack, &fields, f);
	fputc('\n', f);
	show_stack_values(&l->options, reply, &fields, f);
	fputc('\n', f);
	show_stack_slices(&l->options, reply, &fields, f);
}

static size_t put_page(struct live *l, FILE *f, size_t lines)
{
	_cleanup_free_ char *text = NULL;
	size_t size, n = 0, at = 0;
	FILE *page = open_memstream(&text, &size);

	if (!page)
		return 0;
	if (l->page == LIVE_HELP)
		write_help(page);
	else
		write_stack(l, page);
	fclose(page);
	for (const char *p = text; *p; p++)
		n += *p == '\n';
	l->scrolled = MIN(l->scrolled, n - MIN(n, lines));
	for (const char *line = text; *line; line += strcspn(line, "\n") + 1, at++)
		if (at >= l->scrolled && at < l->scrolled + lines)
			fprintf(f, "%.*s\n", (int)strcspn(line, "\n"), line);
	return MIN(n - l->scrolled, lines);
}

/* ---- the whole ---- */

static void put_last(const struct live *l, FILE *f)
{
	uint64_t waited_s = (clock_monotonic_ns() - l->asked_ns) / NSEC_PER_SEC;

	if (l->typing) {
		_cleanup_free_ char *input = text_escape(l->input, l->options.term.utf8);

		put_linef(l, f, COLOUR_BOLD, "Filter: %s_", input ? input : "");
	} else if (l->message) {
		put_line(l, f, COLOUR_RED, l->message);
	} else if (l->asking != LIVE_NOTHING && waited_s >= WAIT_TOLD_S) {
		put_linef(l, f, COLOUR_RED, "Waiting for stackd for %llu s", (unsigned long long)waited_s);
	} else {
		put_line(l, f, COLOUR_GREY,
		         l->page == LIVE_ROWS ? "q leave  h help  Enter open  Tab stacks/functions  < > metric  s c d order  / filter  Space freeze"
		                              : "q leave  Escape back");
	}
}

void live_draw(struct live *l)
{
	_cleanup_free_ char *text = NULL;
	size_t size, lines, used;
	FILE *f;

	l->options.term.columns = screen_columns(l->screen);
	lines = MAX(screen_lines(l->screen), 2U) - 1;
	f = open_memstream(&text, &size);
	if (!f)
		return;
	if (l->page == LIVE_ROWS) {
		put_head(l, f);
		put_choice(l, f);
		used = HEAD_LINES + put_rows(l, f, lines - MIN(lines, (size_t)HEAD_LINES));
	} else {
		used = put_page(l, f, lines);
	}
	for (; used < lines; used++)
		fputc('\n', f);
	put_last(l, f);
	if (fclose(f) == 0)
		screen_draw(l->screen, text);
}
