/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <sys/stat.h>

#include "perf_map.h"

#define NOBODY UINT32_MAX

struct line {
	uint64_t start, end;
	const char *name;
};

/* From an edge to the next one the same line, or none, is right. */
struct edge {
	uint64_t address;
	uint32_t line;
};

struct perf_map {
	char *text;
	struct line *lines;
	size_t n_lines, max_lines, text_size;
	struct edge *edges;
	size_t n_edges;
};

struct perf_map *perf_map_free(struct perf_map *m)
{
	if (!m)
		return NULL;
	free(m->text);
	free(m->lines);
	free(m->edges);
	free(m);
	return NULL;
}

size_t perf_map_bytes(const struct perf_map *m)
{
	return sizeof(*m) + m->text_size + m->max_lines * sizeof(*m->lines) + m->n_edges * sizeof(*m->edges);
}

static int read_text(struct perf_map *m, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return negative_errno();
	if (!S_ISREG(st.st_mode))
		return -ENOEXEC;
	if ((uint64_t)st.st_size > PERF_MAP_BYTES_MAX)
		return -EFBIG;
	m->text = malloc((size_t)st.st_size + 1);
	if (!m->text)
		return -ENOMEM;
	while (m->text_size < (size_t)st.st_size) {
		ssize_t n = pread(fd, m->text + m->text_size, (size_t)st.st_size - m->text_size, (off_t)m->text_size);

		if (n < 0)
			return negative_errno();
		if (n == 0)
			break;
		m->text_size += (size_t)n;
	}
	m->text[m->text_size] = '\0';
	return 0;
}

static bool parse_line(char *text, struct line *ret)
{
	uint64_t start, size;
	char *at;

	if (!isxdigit((unsigned char)*text))
		return false;
	start = strtoull(text, &at, 16);
	if (*at != ' ' || !isxdigit((unsigned char)at[1]))
		return false;
	size = strtoull(at + 1, &at, 16);
	if (*at != ' ' || at[1] == '\0' || size == 0 || start > INT64_MAX || size > INT64_MAX - start)
		return false;
	*ret = (struct line){ .start = start, .end = start + size, .name = at + 1 };
	return true;
}

/* A last line without its end is still being written. */
static int read_lines(struct perf_map *m)
{
	for (char *line = m->text, *end; (end = memchr(line, '\n', m->text_size - (size_t)(line - m->text)));
	     line = end + 1) {
		struct line parsed;

		*end = '\0';
		if (!parse_line(line, &parsed))
			continue;
		if (m->n_lines == PERF_MAP_LINES_MAX)
			return -EFBIG;
		if (m->n_lines == m->max_lines) {
			size_t max = m->max_lines ? 2 * m->max_lines : 256;
			struct line *p = reallocarray(m->lines, max, sizeof(*p));

			if (!p)
				return -ENOMEM;
			m->lines = p;
			m->max_lines = max;
		}
		m->lines[m->n_lines++] = parsed;
	}
	return 0;
}

static int compare_edges(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

/* The last edge at or before the address; n when there is none. */
static size_t find_edge(const struct edge *edges, size_t n, uint64_t address)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (edges[middle].address <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 ? low - 1 : n;
}

/* The first edge at or behind i that no line has been given yet; what lies between leaps there at once the next time. */
static uint32_t next_free(uint32_t *next, uint32_t i)
{
	while (next[i] != i) {
		next[i] = next[next[i]];
		i = next[i];
	}
	return i;
}

/* From the last line to the first, each takes what is still free of its own. */
static int cut_at_edges(struct perf_map *m)
{
	_cleanup_free_ uint32_t *next = NULL;
	size_t n = 0;

	m->edges = reallocarray(NULL, 2 * m->n_lines + 1, sizeof(*m->edges));
	next = reallocarray(NULL, 2 * m->n_lines + 1, sizeof(*next));
	if (!m->edges || !next)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_lines; i++) {
		m->edges[2 * i] = (struct edge){ .address = m->lines[i].start, .line = NOBODY };
		m->edges[2 * i + 1] = (struct edge){ .address = m->lines[i].end, .line = NOBODY };
	}
	if (m->n_lines > 0)
		qsort(m->edges, 2 * m->n_lines, sizeof(*m->edges), compare_edges);
	for (size_t i = 0; i < 2 * m->n_lines; i++)
		if (n == 0 || m->edges[n - 1].address != m->edges[i].address)
			m->edges[n++] = m->edges[i];
	m->n_edges = n;

	for (uint32_t i = 0; i <= n; i++)
		next[i] = i;
	for (size_t i = m->n_lines; i-- > 0;) {
		const struct line *line = &m->lines[i];
		uint32_t at = (uint32_t)find_edge(m->edges, n, line->start);

		for (at = next_free(next, at); at < n && m->edges[at].address < line->end; at = next_free(next, at)) {
			m->edges[at].line = (uint32_t)i;
			next[at] = at + 1;
		}
	}
	return 0;
}

int perf_map_load(struct perf_map **ret, int fd)
{
	_cleanup_(perf_map_freep) struct perf_map *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	r = read_text(m, fd);
	if (r >= 0)
		r = read_lines(m);
	if (r >= 0)
		r = cut_at_edges(m);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

void perf_map_lookup(const struct perf_map *m, uint64_t address, struct elf_symbol *ret)
{
	size_t first = find_edge(m->edges, m->n_edges, address), behind = first == m->n_edges ? 0 : first + 1;
	uint32_t line = first == m->n_edges ? NOBODY : m->edges[first].line;

	*ret = (struct elf_symbol){ .address = address, .valid_start = 0, .valid_end = UINT64_MAX, .name = "" };
	if (first < m->n_edges)
		ret->valid_start = m->edges[first].address;
	if (behind < m->n_edges)
		ret->valid_end = m->edges[behind].address;
	if (line == NOBODY)
		return;
	ret->start = m->lines[line].start;
	ret->size = m->lines[line].end - m->lines[line].start;
	ret->name = m->lines[line].name;
}
