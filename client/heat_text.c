/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "heat.h"

#include <math.h>

#include "show.h"
#include "timestamp.h"

#define LABEL_WIDTH 7  /* columns before the map */
#define CLOCK_WIDTH 8  /* "10:00:00" */
#define CLOCK_EVERY 12 /* columns from one time below the map to the next */

size_t heat_columns_of(const struct term *term)
{
	return MAX(term->columns ? term->columns : HEAT_COLUMNS_PLAIN, LABEL_WIDTH + CLOCK_WIDTH + 2U) - LABEL_WIDTH - 1;
}

struct level {
	const char *utf8, *ascii;
	enum colour colour;
};

/* Nothing at all, then by quarters of the most. */
static const struct level *level_of(const struct heat *h, double rate)
{
	static const struct level unknown = { " ", " ", COLOUR_NONE }, none = { "·", ".", COLOUR_GREY }, some[] = {
		{ "░", "-", COLOUR_NONE },
		{ "▒", "+", COLOUR_NONE },
		{ "▓", "*", COLOUR_YELLOW },
		{ "█", "#", COLOUR_RED },
	};

	if (rate < 0)
		return &unknown;
	if (rate == 0)
		return &none;
	return &some[MIN((size_t)(rate / h->most * ELEMENTS_OF(some)), ELEMENTS_OF(some) - 1)];
}

static void print_row(const struct heat *h, const struct term *term, size_t row, FILE *file)
{
	enum colour colour = COLOUR_NONE;
	char offset[FORMAT_MAX];

	format_timespan(offset, row * h->cell_us);
	fprintf(file, "%*s ", LABEL_WIDTH, row == 0 ? "0" : offset);
	for (size_t c = 0; c < h->columns; c++) {
		const struct level *l = level_of(h, heat_rate(h, c, row));

		if (l->colour != colour)
			fprintf(file, "%s%s", colour ? term_reset(term) : "", l->colour ? term_colour(term, l->colour) : "");
		colour = l->colour;
		fputs(term->utf8 ? l->utf8 : l->ascii, file);
	}
	fprintf(file, "%s\n", colour ? term_reset(term) : "");
}

static char *clock_of(char buf[static FORMAT_MAX], uint64_t us)
{
	size_t n = strlen(time_format_short(buf, us));

	return buf + n - MIN(n, (size_t)CLOCK_WIDTH);
}

static void print_times(const struct heat *h, FILE *file)
{
	char buf[FORMAT_MAX];

	fprintf(file, "%*s ", LABEL_WIDTH, "");
	for (size_t c = 0; c == 0 || c + CLOCK_WIDTH <= h->columns; c += CLOCK_EVERY)
		fprintf(file, "%-*s", CLOCK_EVERY, clock_of(buf, heat_column_us(h, c)));
	fputc('\n', file);
}

static void print_mark(const struct heat *h, const struct term *term, uint64_t since_us, uint64_t until_us, FILE *file)
{
	size_t from = (since_us - h->begin_us) / heat_column_span_us(h), to = (until_us - 1 - h->begin_us) / heat_column_span_us(h);

	fprintf(file, "%*s%s", (int)(LABEL_WIDTH + 1 + from), "", term_colour(term, COLOUR_BOLD));
	for (size_t c = from; c <= MIN(to, h->columns - 1); c++)
		fputc('^', file);
	fprintf(file, "%s\n", term_reset(term));
}

void heat_print(const struct heat *h, const struct options *o, uint64_t since_us, uint64_t until_us, FILE *file)
{
	char span[FORMAT_MAX], step[FORMAT_MAX], most[FORMAT_MAX];

	if (!o->no_legend)
		fprintf(file, "%s, a column %s, a row %s of it; %s is %s\n\n", metric_to_string(h->metric),
		        format_timespan(span, heat_column_span_us(h)), format_timespan(step, h->cell_us),
		        o->term.utf8 ? "█" : "#", format_rate(most, h->metric, h->most));
	for (size_t r = 0; r < h->rows; r++)
		print_row(h, &o->term, r, file);
	print_mark(h, &o->term, since_us, until_us, file);
	print_times(h, file);
}
