/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "frame_tables.h"

#include <sys/mman.h>

#include "helper.h"

#define WAIT_NS (30 * NSEC_PER_SEC)

struct table {
	bool asked;
	const struct unwind_table_header *header; /* NULL: there is none */
	size_t size;
	const struct unwind_table_segment *segments;
	const struct unwind_table_page *pages;
	const struct unwind_rule *rules;
	const struct unwind_row *rows;
};

struct frame_tables {
	struct names *names;
	struct helper *helper;
	struct table *tables; /* by file */
	size_t bytes;
	/* the question that is out */
	uint64_t request;
	bool answered;
	int error;
};

static void take_reply(void *userdata, const struct parser_reply *reply)
{
	struct frame_tables *t = userdata;

	if (reply->request != t->request)
		return; /* it was given up */
	t->answered = true;
	t->error = reply->error;
}

int frame_tables_new(struct frame_tables **ret, struct names *names, struct helper *helper)
{
	_cleanup_(frame_tables_freep) struct frame_tables *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->tables = calloc(NAMES_FILES_MAX, sizeof(*t->tables));
	if (!t->tables)
		return -ENOMEM;
	t->names = names;
	t->helper = helper;
	parser_route(helper, PARSER_UNWIND, take_reply, t);
	*ret = TAKE_PTR(t);
	return 0;
}

struct frame_tables *frame_tables_free(struct frame_tables *t)
{
	if (!t)
		return NULL;
	if (t->helper)
		parser_route(t->helper, PARSER_UNWIND, NULL, NULL);
	for (size_t i = 0; t->tables && i < NAMES_FILES_MAX; i++)
		if (t->tables[i].header)
			munmap((void *)t->tables[i].header, t->tables[i].size);
	free(t->tables);
	free(t);
	return NULL;
}

static int ask(struct frame_tables *t, uint64_t key, int fd, int table_fd)
{
	uint64_t end = clock_monotonic_ns() + WAIT_NS;
	int r;

	t->answered = false;
	while ((r = parser_ask_unwind(t->helper, key, fd, table_fd, FRAME_TABLE_MAX, &t->request)) == -EAGAIN && clock_monotonic_ns() < end)
		names_wait(t->names);
	while (r >= 0 && !t->answered && clock_monotonic_ns() < end)
		names_wait(t->names);
	return r < 0 ? r : t->answered ? t->error : -ETIMEDOUT;
}

static void make_table(struct frame_tables *t, struct table *table, uint64_t file, uint64_t offset)
{
	_cleanup_close_ int fd = -EBADF, table_fd = -EBADF;
	uint64_t key;

	table->asked = true;
	fd = t->bytes < FRAME_TABLES_MAX ? names_open_file(t->names, file, offset, &key) : -ENOSPC;
	table_fd = fd < 0 ? -EBADF : memfd_create("unwind-table", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (table_fd < 0 || ask(t, key, fd, table_fd) < 0 || unwind_table_open(table_fd, &table->header, &table->size) < 0) {
		table->header = NULL;
		return;
	}
	t->bytes += table->size;
	table->segments = (const void *)(table->header + 1);
	table->pages = (const void *)(table->segments + table->header->n_segments);
	table->rules = (const void *)(table->pages + table->header->n_pages);
	table->rows = (const void *)(table->rules + table->header->n_rules);
}

static const struct unwind_rule *find_rule(const struct table *t, uint64_t address)
{
	uint64_t page = (address - t->header->first_address) >> UNWIND_PAGE_SHIFT;
	const struct unwind_row *rows;
	size_t low = 0, high;

	if (address < t->header->first_address || page >= t->header->n_pages || t->pages[page].n_rows == 0)
		return &t->rules[0];
	rows = t->rows + t->pages[page].first_row;
	high = t->pages[page].n_rows;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (rows[middle].address <= (uint16_t)address)
			low = middle;
		else
			high = middle;
	}
	return &t->rules[rows[low].rule];
}

const struct unwind_rule *frame_tables_find(struct frame_tables *t, uint64_t file, uint64_t offset, uint64_t *ret_address)
{
	struct table *table = &t->tables[file];

	if (!table->asked)
		make_table(t, table, file, offset);
	if (!table->header)
		return NULL;
	for (uint32_t i = 0; i < table->header->n_segments; i++) {
		const struct unwind_table_segment *s = &table->segments[i];

		if (offset >= s->offset && offset - s->offset < s->size) {
			*ret_address = offset - s->offset + s->address;
			return find_rule(table, *ret_address);
		}
	}
	return NULL;
}
