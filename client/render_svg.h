/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A picture of a flame graph, with all that it needs in one file: nothing is fetched from anywhere. */
#pragma once

#include "flame.h"

#define SVG_WIDTH_DEFAULT 1200 /* pixels, as flamegraph.pl's */
#define SVG_WIDTH_LEAST 320
#define SVG_WIDTH_MOST 16384

/* The files of these names, as built in. */
extern const char flame_css[], flame_js[];

struct svg_style {
	unsigned width; /* pixels; a page's picture is as wide as its window */
	bool icicle;    /* callers above callees; else below */
};

/* Each gives -errno when file can't be written, else 0. */
int write_svg(const struct flame *f, const struct flame_meta *m, const struct svg_style *style, FILE *file);
int write_html(const struct flame *f, const struct flame_meta *m, const struct svg_style *style, FILE *file);

/* Frames that a picture shows: those at least *ret_width (of struct flame_node) wide, and "all"; at most
 * SVG_FRAMES_MAX of them, so that a viewer stays quick. */
#define SVG_FRAMES_MAX 16000
size_t svg_choose(const struct flame *f, unsigned pixels, uint64_t *ret_width);
