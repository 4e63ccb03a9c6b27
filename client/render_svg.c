/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layout as in Brendan Gregg's flamegraph.pl: the width of a frame is its share, callees lie on their caller, in
 * the order of their names, so that two pictures can be compared. */
#include "render_svg.h"

#include <math.h>

#include "xml.h"

#define ROW 17.0           /* pixels from one frame to the next */
#define FRAME_HEIGHT 16.0
#define MARGIN 10.0
#define LINE 18.0          /* of the notes */
#define HEAD 34.0          /* the title's */
#define FOOT 46.0          /* what is under the pointer, and the legend */
#define GLYPH 7.23         /* pixels of a character of 12 px, monospaced */
#define TITLE_GLYPH 10.24  /* of 17 px */
#define SEARCH_WIDTH 60.0  /* of that button, with the space before it */
#define PADDING 3.0
#define GAP 0.6            /* pixels between neighbours, where they are wide enough */
#define GAP_FROM 3.0
#define LEAST_PIXELS 0.1   /* narrower ones aren't shown */
#define THIN_PIXELS 10.0   /* a dashed edge would be all that is seen of a narrower one */

struct picture {
	const struct flame *flame;
	const struct flame_meta *meta;
	const struct svg_style *style;
	FILE *file;
	bool in_page;      /* title, notes and controls are the page's */
	uint64_t least;    /* of struct flame_node's width */
	size_t left_out;
	unsigned rows;
	double top, height, scale; /* scale: pixels of one unit of width */
};

/* ---- what is shown ---- */

size_t svg_choose(const struct flame *f, unsigned pixels, uint64_t *ret_width)
{
	double least = f->nodes[0].width * LEAST_PIXELS / pixels;

	for (;; least = MAX(2 * least, 1.0)) {
		uint64_t width = MAX((uint64_t)ceil(least), (uint64_t)1);
		size_t n = 1;

		/* Ends: sums saturate at INT64_MAX, above which there is "all" only. */
		for (size_t i = 1; i < f->n_nodes; i++)
			n += f->nodes[i].width >= width;
		if (n <= SVG_FRAMES_MAX) {
			*ret_width = width;
			return n;
		}
	}
}

/* ---- colours ---- */

struct hsl {
	double hue, saturation, lightness; /* degrees, 0..1, 0..1 */
};

static void put_colour(FILE *file, struct hsl c)
{
	double a = c.saturation * MIN(c.lightness, 1 - c.lightness);
	unsigned rgb[3];

	/* CSS Color 4, section 7.1 */
	for (size_t i = 0; i < ELEMENTS_OF(rgb); i++) {
		static const unsigned offsets[] = { 0, 8, 4 };
		double k = fmod(offsets[i] + c.hue / 30, 12);

		rgb[i] = lround(255 * (c.lightness - a * MAX(-1.0, MIN(MIN(k - 3, 9 - k), 1.0))));
	}
	fprintf(file, "#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
}

static const struct hsl kind_colours[FLAME_KINDS] = {
	[FLAME_PROCESS] = { 220, 0.08, 0.80 }, [FLAME_ON_CPU] = { 14, 0.75, 0.62 },
	[FLAME_OFF_CPU] = { 212, 0.65, 0.64 }, [FLAME_KERNEL] = { 30, 0.90, 0.64 },
	[FLAME_LIBRARY] = { 51, 0.80, 0.64 },  [FLAME_PROGRAM] = { 5, 0.74, 0.69 },
	[FLAME_JIT] = { 105, 0.45, 0.62 },     [FLAME_UNKNOWN] = { 290, 0.14, 0.78 },
};

/* Hot is warm, cold is blue; the kinds differ in hue and lightness. */
static const struct hsl cold_colours[FLAME_KINDS] = {
	[FLAME_OFF_CPU] = { 212, 0.65, 0.64 }, [FLAME_KERNEL] = { 218, 0.60, 0.70 },
	[FLAME_LIBRARY] = { 190, 0.50, 0.70 }, [FLAME_PROGRAM] = { 203, 0.62, 0.76 },
	[FLAME_JIT] = { 170, 0.42, 0.68 },     [FLAME_UNKNOWN] = { 220, 0.20, 0.80 },
};

/* White is unchanged; red: all of it is new; blue: all of it is gone. */
static struct hsl diff_colour(uint64_t before, uint64_t after)
{
	double most = MAX(before, after), share = most > 0 ? ((double)after - (double)before) / most : 0;

	return (struct hsl) { share >= 0 ? 4 : 214, 0.85, 0.96 - 0.34 * fabs(share) };
}

static struct hsl colour_of(const struct picture *p, size_t i)
{
	const struct flame_node *n = &p->flame->nodes[i];
	const struct flame_frame *frame = flame_frame_of(p->flame, i);
	uint64_t hash = hash64_string(frame->name, 0);
	struct hsl c;

	if (p->flame->shape == FLAME_DIFF)
		return diff_colour(n->total[FLAME_BEFORE], n->total[FLAME_AFTER]);
	c = p->flame->shape == FLAME_HOT_COLD && n->cold ? cold_colours[frame->kind]
							 : kind_colours[frame->kind];
	if (frame->kind < FLAME_KERNEL)
		return c;
	/* A function is of the same colour everywhere, and its neighbours mostly of another. */
	c.hue += (double)(hash % 13) - 6;
	c.lightness += ((double)(hash / 13 % 9) - 4) / 100;
	return c;
}

/* ---- frames ---- */

static double share_of(uint64_t part, uint64_t whole)
{
	return whole > 0 ? 100.0 * part / whole : 0;
}

static void put_tip(const struct picture *p, size_t i)
{
	const struct flame *f = p->flame;
	const struct flame_node *n = &f->nodes[i], *all = &f->nodes[0];
	const struct flame_frame *frame = flame_frame_of(f, i);
	char before[FORMAT_MAX], after[FORMAT_MAX];

	fputs("<title>", p->file);
	put_xml(p->file, frame->name);
	if (frame->object) {
		fputs(" (", p->file);
		put_xml(p->file, f->objects[frame->object].name);
		fputc(')', p->file);
	}
	flame_format(after, p->meta, n->total[FLAME_AFTER]);
	if (f->shape != FLAME_DIFF) {
		fprintf(p->file, ": %s, %.2f%%</title>", after,
		        share_of(n->total[FLAME_AFTER], all->total[FLAME_AFTER]));
		return;
	}
	fprintf(p->file, ": %s before (%.2f%%), %s after (%.2f%%)",
	        flame_format(before, p->meta, n->total[FLAME_BEFORE]),
	        share_of(n->total[FLAME_BEFORE], all->total[FLAME_BEFORE]), after,
	        share_of(n->total[FLAME_AFTER], all->total[FLAME_AFTER]));
	if (n->total[FLAME_AFTER] == 0)
		fputs(", gone", p->file);
	else if (n->total[FLAME_BEFORE] == 0)
		fputs(", new", p->file);
	else
		fprintf(p->file, ", %+.1f%%",
		        100.0 * ((double)n->total[FLAME_AFTER] / n->total[FLAME_BEFORE] - 1));
	fputs("</title>", p->file);
}

/* As much of the text as fits; the script does the same to names when widths change. */
static void put_label(const struct picture *p, const char *name, double pixels, double glyph)
{
	double room = (pixels - 2 * PADDING) / glyph;
	size_t fits = room > 0 ? (size_t)room : 0, n = 0, characters = 0;

	for (const char *s = name; *s; s++)
		characters += (*s & 0xc0) != 0x80;
	if (characters <= fits) {
		put_xml(p->file, name);
		return;
	}
	if (fits < 3)
		return;
	for (characters = 0; name[n]; n++) {
		characters += (name[n] & 0xc0) != 0x80;
		if (characters > fits - 1)
			break;
	}
	put_xml_n(p->file, name, n);
	fputs("…", p->file);
}

static double row_y(const struct picture *p, unsigned depth)
{
	return p->top + ROW * (p->style->icicle ? depth : p->rows - 1 - depth);
}

static void put_frame(const struct picture *p, size_t i, uint64_t at)
{
	const struct flame_node *n = &p->flame->nodes[i];
	const char *name = flame_frame_of(p->flame, i)->name;
	double x = MARGIN + at * p->scale, width = n->width * p->scale, y = row_y(p, n->depth);
	const char *class = "f";

	if (p->flame->shape == FLAME_DIFF && i > 0 && n->total[FLAME_AFTER] == 0)
		class = width < THIN_PIXELS ? "f gone thin" : "f gone";
	fprintf(p->file, "<g class=\"%s\" data-x=\"%llu\" data-w=\"%llu\" data-d=\"%u\" data-n=\"", class,
	        (unsigned long long)at, (unsigned long long)n->width, n->depth);
	put_xml(p->file, name);
	fputs("\">", p->file);
	put_tip(p, i);
	fprintf(p->file, "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.0f\" fill=\"", x, y,
	        width > GAP_FROM ? width - GAP : width, FRAME_HEIGHT);
	put_colour(p->file, colour_of(p, i));
	fprintf(p->file, "\"/><text x=\"%.2f\" y=\"%.1f\">", x + PADDING, y + 12);
	put_label(p, name, width, GLYPH);
	fputs("</text></g>\n", p->file);
}

/* Callees begin where their caller does, one after the other; what is left at the end is the caller's own. */
static void put_frames(const struct picture *p)
{
	const struct flame *f = p->flame;
	uint64_t next[FLAME_DEPTH_MAX + 2] = {}; /* by depth, where the next frame begins */

	fputs("<g id=\"frames\">\n", p->file);
	for (size_t i = 0; i < f->n_nodes;) {
		const struct flame_node *n = &f->nodes[i];
		uint64_t at = next[n->depth];

		next[n->depth] = at + n->width;
		next[n->depth + 1] = at;
		if (n->width < p->least && i > 0) {
			/* None of its callees is wider. */
			i = n->end;
			continue;
		}
		put_frame(p, i, at);
		i++;
	}
	fputs("</g>\n", p->file);
}

/* ---- around them ---- */

static void put_legend_item(const struct picture *p, double *x, double y, struct hsl colour, const char *name)
{
	fprintf(p->file, "<rect x=\"%.0f\" y=\"%.0f\" width=\"12\" height=\"12\" fill=\"", *x, y - 10);
	put_colour(p->file, colour);
	fprintf(p->file, "\"/><text x=\"%.0f\" y=\"%.0f\">%s</text>\n", *x + 17, y, name);
	*x += 17 + strlen(name) * GLYPH + 16;
}

static void put_legend(const struct picture *p, double y)
{
	static const char *const names[FLAME_KINDS] = {
		[FLAME_ON_CPU] = "on-CPU:",   [FLAME_OFF_CPU] = "off-CPU:", [FLAME_KERNEL] = "kernel",
		[FLAME_LIBRARY] = "library", [FLAME_PROGRAM] = "program",  [FLAME_JIT] = "JIT",
		[FLAME_UNKNOWN] = "unknown",
	};
	bool used[2][FLAME_KINDS] = {}; /* hot, cold */
	double x = MARGIN;

	fputs("<g class=\"legend\">\n", p->file);
	if (p->flame->shape == FLAME_DIFF) {
		put_legend_item(p, &x, y, diff_colour(1, 1), "unchanged");
		put_legend_item(p, &x, y, diff_colour(1, 2), "more than before");
		put_legend_item(p, &x, y, diff_colour(0, 1), "new");
		put_legend_item(p, &x, y, diff_colour(2, 1), "less");
		put_legend_item(p, &x, y, diff_colour(1, 0), "gone (dashed)");
	} else {
		for (size_t i = 0; i < p->flame->n_nodes; i++)
			used[p->flame->shape == FLAME_HOT_COLD && p->flame->nodes[i].cold][flame_frame_of(p->flame, i)->kind] = true;
		for (size_t cold = 0; cold < 2; cold++)
			for (enum flame_kind k = FLAME_ON_CPU; k < FLAME_KINDS; k++)
				if (used[cold][k])
					put_legend_item(p, &x, y, cold ? cold_colours[k] : kind_colours[k], names[k]);
	}
	fputs("</g>\n", p->file);
}

static void put_head(const struct picture *p)
{
	double width = p->style->width, y = HEAD + LINE * p->meta->n_notes + 8;

	/* Over the frames: the script keeps it in sight when a tall picture is scrolled. */
	fprintf(p->file, "<g id=\"head\">\n<rect class=\"background\" width=\"100%%\" height=\"%.0f\"/>\n", p->top - MARGIN / 2);
	fprintf(p->file, "<text class=\"title\" x=\"%.0f\" y=\"24\">", width / 2);
	put_label(p, p->meta->title, width, TITLE_GLYPH);
	fputs("</text>\n", p->file);
	for (size_t i = 0; i < p->meta->n_notes; i++) {
		fprintf(p->file, "<text class=\"note\" x=\"%.0f\" y=\"%.0f\">", width / 2,
		        HEAD + LINE * i + 8);
		put_label(p, p->meta->notes[i], width, GLYPH);
		fputs("</text>\n", p->file);
	}
	/* They do something only where the script runs, which shows them. */
	fprintf(p->file,
	        "<text class=\"button\" id=\"reset\" x=\"%.0f\" y=\"%.0f\">Reset zoom</text>\n"
	        "<text class=\"button\" id=\"flip\" x=\"%.0f\" y=\"%.0f\">Flip</text>\n"
	        "<text class=\"button right\" id=\"search\" x=\"%.0f\" y=\"%.0f\">Search</text>\n"
	        "<text class=\"right\" id=\"matched\" x=\"%.0f\" y=\"%.0f\"></text>\n</g>\n",
	        MARGIN, y, MARGIN + 90, y, width - MARGIN, y, width - MARGIN - SEARCH_WIDTH, y);
}

static void prepare(struct picture *p)
{
	size_t drawn = svg_choose(p->flame, p->style->width, &p->least);

	p->left_out = p->flame->n_nodes - drawn;
	for (size_t i = 0; i < p->flame->n_nodes; i++)
		if (p->flame->nodes[i].width >= p->least || i == 0)
			p->rows = MAX(p->rows, p->flame->nodes[i].depth + 1U);
	p->top = p->in_page ? MARGIN : HEAD + LINE * (p->meta->n_notes + 1) + MARGIN;
	p->height = p->top + ROW * p->rows + FOOT;
	p->scale = (p->style->width - 2 * MARGIN) / MAX(p->flame->nodes[0].width, (uint64_t)1);
}

static void put_picture(const struct picture *p)
{
	double bottom = p->top + ROW * p->rows;

	fprintf(p->file,
	        "<svg xmlns=\"http://www.w3.org/2000/svg\" id=\"flame\" width=\"%u\" height=\"%.0f\" viewBox=\"0 0 "
	        "%u %.0f\" data-rows=\"%u\" data-top=\"%.0f\" data-icicle=\"%d\" data-total=\"%llu\">\n",
	        p->style->width, p->height, p->style->width, p->height, p->rows, p->top, p->style->icicle,
	        (unsigned long long)p->flame->nodes[0].width);
	if (!p->in_page) {
		/* A viewer shows the first title as the document's. */
		fputs("<title>", p->file);
		put_xml(p->file, p->meta->title);
		fprintf(p->file, "</title>\n<style>\n%s</style>\n", flame_css);
	}
	fputs("<rect class=\"background\" width=\"100%\" height=\"100%\"/>\n", p->file);
	put_frames(p);
	if (!p->in_page)
		put_head(p);
	fprintf(p->file, "<text id=\"details\" x=\"%.0f\" y=\"%.0f\"></text>\n", MARGIN, bottom + 17);
	put_legend(p, bottom + 36);
	if (p->left_out > 0)
		fprintf(p->file,
		        "<text class=\"right quiet\" id=\"left-out\" x=\"%.0f\" y=\"%.0f\">%zu frame%s too narrow "
		        "to be shown</text>\n",
		        p->style->width - MARGIN, bottom + 36, p->left_out, p->left_out == 1 ? "" : "s");
	if (!p->in_page)
		fprintf(p->file, "<script><![CDATA[\n%s]]></script>\n", flame_js);
	fputs("</svg>\n", p->file);
}

int write_svg(const struct flame *f, const struct flame_meta *m, const struct svg_style *style, FILE *file)
{
	struct picture p = { .flame = f, .meta = m, .style = style, .file = file };

	prepare(&p);
	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", file);
	put_picture(&p);
	return ferror(file) ? -EIO : 0;
}

int write_html(const struct flame *f, const struct flame_meta *m, const struct svg_style *style, FILE *file)
{
	struct picture p = { .flame = f, .meta = m, .style = style, .file = file, .in_page = true };

	prepare(&p);
	/* The policy makes sure that a hostile name could fetch nothing even if it came to be taken for markup. */
	fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
	      "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n<title>",
	      file);
	put_xml(file, m->title);
	fprintf(file, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<header>\n<h1>", flame_css);
	put_xml(file, m->title);
	fputs("</h1>\n", file);
	for (size_t i = 0; i < m->n_notes; i++) {
		fputs("<p>", file);
		put_xml(file, m->notes[i]);
		fputs("</p>\n", file);
	}
	fputs("<div class=\"controls\">\n"
	      "<input type=\"search\" id=\"query\" placeholder=\"Search: a regular expression\" "
	      "aria-label=\"Search\" autocomplete=\"off\" spellcheck=\"false\">\n"
	      "<label><input type=\"checkbox\" id=\"case\"> match case</label>\n"
	      "<button type=\"button\" id=\"reset\">Reset zoom</button>\n"
	      "<button type=\"button\" id=\"flip\">Flip</button>\n"
	      "<output id=\"hits\"></output>\n</div>\n</header>\n<main>\n",
	      file);
	put_picture(&p);
	fprintf(file, "</main>\n<script>\n%s</script>\n</body>\n</html>\n", flame_js);
	return ferror(file) ? -EIO : 0;
}
