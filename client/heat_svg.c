/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "heat.h"

#include <math.h>

#include "show.h"
#include "timestamp.h"
#include "xml.h"

#define CELL_WIDTH 11  /* pixels */
#define CELL_HEIGHT 14
#define MARGIN 12
#define LEFT 70        /* of the map: the rows' labels */
#define TOP 62         /* of the map: title and note */
#define BOTTOM 74      /* times, command, hint */
#define LEAST_WIDTH 900
#define TIME_EVERY 10  /* columns */

static const char style[] =
	"#heat { font-family: \"DejaVu Sans Mono\", Menlo, Consolas, monospace; font-size: 12px; }\n"
	"#heat .background { fill: #fbfaf7; }\n"
	"#heat text { fill: #1c1c1c; white-space: pre; }\n"
	"#heat .title { font-size: 17px; font-weight: bold; }\n"
	"#heat .note { fill: #555; }\n"
	"#heat .right { text-anchor: end; }\n"
	"#heat .c { cursor: pointer; stroke: #fbfaf7; stroke-width: 1; }\n"
	"#heat .c:hover { stroke: #000; }\n"
	"#heat .c.picked { stroke: #1a5fb4; stroke-width: 2; }\n"
	"#heat #command { user-select: all; }\n";

static void put_text(FILE *f, const char *attributes, double x, double y, const char *text)
{
	fprintf(f, "<text %s x=\"%.0f\" y=\"%.0f\">", attributes, x, y);
	put_xml(f, text);
	fputs("</text>\n", f);
}

/* White is nothing, dark red the most; grey is not known. */
static void put_colour(const struct heat *h, FILE *f, double rate)
{
	static const double least[] = { 255, 247, 236 }, most[] = { 179, 0, 0 };
	double share = h->most > 0 ? rate / h->most : 0;

	if (rate < 0) {
		fputs("#d8d8d8", f);
		return;
	}
	fputc('#', f);
	for (size_t i = 0; i < ELEMENTS_OF(least); i++)
		fprintf(f, "%02x", (unsigned)lround(least[i] + share * (most[i] - least[i])));
}

static void put_cell(const struct heat *h, size_t column, size_t row, FILE *f)
{
	uint64_t at_us = heat_column_us(h, column) + row * h->cell_us;
	char at[FORMAT_MAX], text[FORMAT_MAX];
	double rate = heat_rate(h, column, row);

	fprintf(f, "<rect class=\"c\" data-us=\"%llu\" x=\"%zu\" y=\"%zu\" width=\"%d\" height=\"%d\" fill=\"",
	        (unsigned long long)at_us, LEFT + column * CELL_WIDTH, TOP + row * CELL_HEIGHT, CELL_WIDTH, CELL_HEIGHT);
	put_colour(h, f, rate);
	fprintf(f, "\"><title>%s: %s</title></rect>\n", time_format_exact(at, h->within ? at_us : at_us / USEC_PER_SEC * USEC_PER_SEC),
	        rate < 0 ? "not recorded" : format_rate(text, h->metric, rate));
}

static void put_labels(const struct heat *h, FILE *f)
{
	double bottom = TOP + h->rows * CELL_HEIGHT;
	char buf[FORMAT_MAX];

	for (size_t r = 0; r < h->rows; r += 5)
		put_text(f, "class=\"note right\"", LEFT - 6, TOP + r * CELL_HEIGHT + 11,
		         r == 0 ? "0" : format_timespan(buf, r * h->cell_us));
	for (size_t c = 0; c < h->columns; c += TIME_EVERY) {
		/* "Nov 23 10:00:00": what is above already says the day. */
		const char *clock = strrchr(time_format_short(buf, heat_column_us(h, c)), ' ');

		put_text(f, "class=\"note\"", LEFT + c * CELL_WIDTH, bottom + 15, clock ? clock + 1 : buf);
	}
}

static void put_head(const struct heat *h, const char *title, double width, FILE *f)
{
	char span[FORMAT_MAX], step[FORMAT_MAX], most[FORMAT_MAX], begin[FORMAT_MAX], end[FORMAT_MAX], note[8 * FORMAT_MAX];

	fprintf(f, "<rect class=\"background\" width=\"%.0f\" height=\"100%%\"/>\n", width);
	put_text(f, "class=\"title\"", MARGIN, 26, title);
	snprintf(note, sizeof(note), "%s to %s; a column %s, a row %s of it; white: none, dark: %s, grey: not recorded",
	         time_format(begin, h->begin_us), time_format(end, heat_column_us(h, h->columns)),
	         format_timespan(span, heat_column_span_us(h)), format_timespan(step, h->cell_us),
	         format_rate(most, h->metric, h->most));
	put_text(f, "class=\"note\"", MARGIN, 46, note);
}

int heat_write_svg(const struct heat *h, const char *title, const char *command, uint64_t since_us, uint64_t until_us, FILE *file)
{
	double width = MAX(LEFT + h->columns * CELL_WIDTH + MARGIN, (size_t)LEAST_WIDTH), bottom = TOP + h->rows * CELL_HEIGHT;

	fprintf(file,
	        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	        "<svg xmlns=\"http://www.w3.org/2000/svg\" id=\"heat\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
	        "data-cell=\"%llu\" data-margin=\"%llu\" data-since=\"%llu\" data-end=\"%llu\" data-from=\"%llu\" data-until=\"%llu\" data-command=\"",
	        width, bottom + BOTTOM, width, bottom + BOTTOM, (unsigned long long)h->cell_us,
	        (unsigned long long)heat_margin_us(h), (unsigned long long)h->since_us, (unsigned long long)h->until_us, (unsigned long long)since_us, (unsigned long long)until_us);
	put_xml(file, command);
	fputs("\">\n<title>", file);
	put_xml(file, title);
	fprintf(file, "</title>\n<style>\n%s</style>\n", style);
	put_head(h, title, width, file);
	for (size_t c = 0; c < h->columns; c++)
		for (size_t r = 0; r < h->rows; r++)
			put_cell(h, c, r, file);
	put_labels(h, file);
	put_text(file, "id=\"command\"", MARGIN, bottom + 40, "");
	put_text(file, "class=\"note\"", MARGIN, bottom + 60, "Click where a window begins, then where it ends.");
	fprintf(file, "<script><![CDATA[\n%s]]></script>\n</svg>\n", heat_js);
	return ferror(file) ? -EIO : 0;
}
