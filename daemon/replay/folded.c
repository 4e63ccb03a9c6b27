/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "folded.h"

struct line {
	char *text;
	uint64_t value;
};

struct folded {
	struct map64 *index; /* hash of the text → line */
	struct line *lines;
	size_t n, max, bytes;
	uint64_t dropped;
};

int folded_new(struct folded **ret)
{
	_cleanup_(folded_freep) struct folded *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	r = map64_new(&f->index, FOLDED_LINES_MAX);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(f);
	return 0;
}

struct folded *folded_free(struct folded *f)
{
	if (!f)
		return NULL;
	for (size_t i = 0; i < f->n; i++)
		free(f->lines[i].text);
	free(f->lines);
	map64_free(f->index);
	free(f);
	return NULL;
}

static void add(uint64_t *sum, uint64_t value)
{
	*sum += MIN(value, UINT64_MAX - *sum);
}

static int append(struct folded *f, const char *text, uint64_t key, uint64_t value)
{
	size_t size = strlen(text) + 1;

	if (f->n == FOLDED_LINES_MAX || f->bytes + size > FOLDED_BYTES_MAX) {
		add(&f->dropped, value);
		return 0;
	}
	if (f->n == f->max) {
		size_t max = f->max ? 2 * f->max : 1024;
		struct line *more = reallocarray(f->lines, max, sizeof(*more));

		if (!more)
			return -ENOMEM;
		f->lines = more;
		f->max = max;
	}
	f->lines[f->n] = (struct line){ .text = strdup(text), .value = value };
	if (!f->lines[f->n].text)
		return -ENOMEM;
	f->bytes += size;
	return map64_put(f->index, key, f->n++);
}

int folded_add(struct folded *f, const char *line, uint64_t value)
{
	uint64_t key = hash64_string(line, 0), at;

	if (!map64_get(f->index, key, &at))
		return append(f, line, key, value);
	add(&f->lines[at].value, value);
	return 0;
}

uint64_t folded_dropped(const struct folded *f)
{
	return f->dropped;
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct line *)a)->text, ((const struct line *)b)->text);
}

int folded_write(struct folded *f, FILE *file)
{
	map64_clear(f->index); /* lines change places */
	if (f->n > 0)
		qsort(f->lines, f->n, sizeof(*f->lines), compare);
	for (size_t i = 0; i < f->n; i++)
		fprintf(file, "%s %llu\n", f->lines[i].text, (unsigned long long)f->lines[i].value);
	return fflush(file) != 0 || ferror(file) ? negative_errno() : 0;
}
