/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "show_difference.h"

#include <math.h>

#include "flame_query.h"
#include "imports.h"
#include "render_folded.h"

#define SHOWN_MAX 10

struct line {
	const char *text; /* "stack before after" */
	double change;
};

static int compare(const void *a, const void *b)
{
	const struct line *x = a, *y = b;

	return x->change != y->change ? (x->change < y->change) - (x->change > y->change) : strcmp(x->text, y->text);
}

/* The two numbers at its end. */
static double change_of(const char *text)
{
	const char *after = strrchr(text, ' '), *before = after;

	while (before && before > text && before[-1] != ' ')
		before--;
	return after && before ? fabs(strtod(after, NULL) - strtod(before, NULL)) : 0;
}

/* Takes the text apart; gives how many lines there are, and at most as many as there is room for. */
static size_t split(char *text, struct line *lines, size_t room)
{
	char *save = NULL;
	size_t n = 0;

	for (char *line = strtok_r(text, "\n", &save); line && n < room; line = strtok_r(NULL, "\n", &save))
		lines[n++] = (struct line){ line, change_of(line) };
	return n;
}

static void show_lines(const struct options *o, char *text, uint64_t cluster)
{
	_cleanup_free_ struct line *lines = NULL;
	char words[IMPORT_WORDS_MAX];
	size_t n = 0;

	for (const char *c = text; *c; c++)
		n += *c == '\n';
	lines = calloc(n + 1, sizeof(*lines));
	if (!lines)
		return;
	n = split(text, lines, n);
	qsort(lines, n, sizeof(*lines), compare);
	for (size_t k = 0; k < MIN(n, (size_t)SHOWN_MAX); k++)
		puts(lines[k].text);
	if (n > SHOWN_MAX)
		printf("and %zu more: stackctl flame%s --cluster %016llx\n", n - SHOWN_MAX, import_words(o, words), (unsigned long long)cluster);
}

void show_difference(const struct options *o, uint64_t cluster)
{
	_cleanup_(flame_freep) struct flame *f = NULL;
	_cleanup_(flame_meta_done) struct flame_meta meta = {};
	_cleanup_free_ char *text = NULL;
	struct options about = *o;
	size_t size;
	FILE *file;
	int r;

	about.given = (o->given & OPTION_IMPORT) | OPTION_CLUSTER;
	about.cluster = cluster;
	if (!flame_of_incident(&f, &meta, &about))
		return;
	if (f->nodes[0].width == 0) {
		puts("\nOf what its stacks did then nothing is kept any more.");
		return;
	}
	file = open_memstream(&text, &size);
	if (!file)
		return;
	r = write_folded(f, file);
	if (fclose(file) != 0 || r < 0 || size == 0)
		return;
	printf("\nWhat changed most: %s\n", meta.title);
	show_lines(o, text, cluster);
}
