/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a file of folded stacks: what is taken makes a tree whose sums agree; what is written is read
 * back, and then written the same for ever. */
#include <assert.h>
#include <locale.h>

#include "read_folded.h"
#include "render_folded.h"
#include "render_svg.h"

const char flame_css[] = "", flame_js[] = "";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tree(const struct flame *f)
{
	uint64_t self[2] = {}, width = 0;

	assert(f->n_nodes > 0 && f->nodes[0].end == f->n_nodes);
	for (size_t i = 0; i < f->n_nodes; i++) {
		const struct flame_node *n = &f->nodes[i];

		assert(n->end > i && n->end <= f->n_nodes && n->depth <= FLAME_DEPTH_MAX);
		assert(n->width <= INT64_MAX && n->width >= n->self[0] && n->width >= n->self[1]);
		for (size_t k = i + 1; k < n->end; k = f->nodes[k].end)
			assert(f->nodes[k].depth == n->depth + 1 && f->nodes[k].width <= n->width);
		for (size_t side = 0; side < 2; side++)
			self[side] = MIN(self[side] + n->self[side], (uint64_t)INT64_MAX);
		width = MIN(width + MAX(n->self[0], n->self[1]), (uint64_t)INT64_MAX);
	}
	assert(self[0] == f->nodes[0].total[0] && self[1] == f->nodes[0].total[1] && width == f->nodes[0].width);
}

static struct flame *read_bytes(const void *data, size_t size)
{
	_cleanup_fclose_ FILE *file = fmemopen((void *)data, size, "r");
	_cleanup_(flame_freep) struct flame *f = NULL;
	struct folded_error error;

	assert(file && flame_new(&f, FLAME_PLAIN) == 0);
	if (read_folded_any(f, file, &error) < 0)
		return NULL;
	assert(flame_build(f) == 0);
	check_tree(f);
	return TAKE_PTR(f);
}

static char *write_text(const struct flame *f, size_t *ret_size)
{
	char *text = NULL;
	FILE *file = open_memstream(&text, ret_size);

	assert(file && write_folded(f, file) == 0 && fclose(file) == 0);
	return text;
}

static void check_written(const struct flame *f)
{
	_cleanup_free_ char *first = NULL, *second = NULL, *third = NULL;
	_cleanup_(flame_freep) struct flame *again = NULL, *last = NULL;
	size_t n_first, n_second, n_third;

	first = write_text(f, &n_first);
	again = read_bytes(first, n_first);
	/* A blank in a name is "_" when it is written, which may make two names one. */
	assert(again);
	second = write_text(again, &n_second);
	last = read_bytes(second, n_second);
	assert(last);
	third = write_text(last, &n_third);
	assert(n_second == n_third && memcmp(second, third, n_second) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct svg_style style = { .width = SVG_WIDTH_DEFAULT };
	static bool is_set_up;
	_cleanup_(flame_freep) struct flame *f = NULL;
	struct flame_meta meta = { .title = (char *)"fuzz", .unit = "", .metric = METRIC_ALL_N };
	FILE *null;

	if (!is_set_up)
		is_set_up = setlocale(LC_CTYPE, "C.UTF-8");
	if (size == 0)
		return 0;
	f = read_bytes(data, size);
	if (!f || f->nodes[0].width == 0)
		return 0;
	null = fopen("/dev/null", "w");
	assert(null && write_svg(f, &meta, &style, null) == 0);
	fclose(null);
	check_written(f);
	return 0;
}
