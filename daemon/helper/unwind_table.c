/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon's side of unwind tables. What the parser wrote has been made of hostile files, perhaps by them: it is checked
 * like a stranger's, after nobody can change it any more. */
#include <elf.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "helper.h"

#define ADDRESS_MAX (1ULL << 47) /* of user space */
#define PAGES_MAX (1U << 16)
#define RULES_MAX (1U << 16)
#define VDSO_MAX 65536
#define VDSO_PAGE 4096

int unwind_table_header_check(const struct unwind_table_header *h)
{
	if (h->magic != UNWIND_TABLE_MAGIC || h->version != UNWIND_TABLE_VERSION || h->reserved != 0 ||
	    h->n_segments > UNWIND_TABLE_SEGMENTS_MAX || h->n_pages > PAGES_MAX || h->n_rules == 0 ||
	    h->n_rules > RULES_MAX || h->first_address >= ADDRESS_MAX ||
	    h->first_address % (1U << UNWIND_PAGE_SHIFT) != 0)
		return -EBADMSG;
	return 0;
}

uint64_t unwind_table_size(const struct unwind_table_header *h)
{
	return sizeof(*h) + h->n_segments * sizeof(struct unwind_table_segment) +
		h->n_pages * sizeof(struct unwind_table_page) + h->n_rules * sizeof(struct unwind_rule) +
		(uint64_t)h->n_rows * sizeof(struct unwind_row);
}

static bool segment_is_valid(const struct unwind_table_segment *s)
{
	return s->offset < ADDRESS_MAX && s->size < ADDRESS_MAX && s->address < ADDRESS_MAX;
}

static bool rows_are_valid(const struct unwind_row *rows, uint32_t n, uint32_t n_rules)
{
	if (n > 0 && rows[0].address != 0)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (rows[i].rule >= n_rules || (i > 0 && rows[i].address <= rows[i - 1].address))
			return false;
	return true;
}

int unwind_table_check(const void *table, size_t size)
{
	const struct unwind_table_header *h = table;
	const struct unwind_table_segment *segments = (const void *)(h + 1);
	const struct unwind_table_page *pages;
	const struct unwind_rule *rules;
	const struct unwind_row *rows;
	uint32_t n_rows = 0;

	if (size < sizeof(*h) || unwind_table_header_check(h) < 0 || size != unwind_table_size(h))
		return -EBADMSG;
	pages = (const void *)(segments + h->n_segments);
	rules = (const void *)(pages + h->n_pages);
	rows = (const void *)(rules + h->n_rules);

	for (uint32_t i = 0; i < h->n_segments; i++)
		if (!segment_is_valid(&segments[i]))
			return -EBADMSG;
	if (rules[0].cfa != UNWIND_CFA_NONE)
		return -EBADMSG;
	for (uint32_t i = 0; i < h->n_rules; i++)
		if (rules[i].cfa >= UNWIND_CFA_N || rules[i].rbp >= UNWIND_RBP_N)
			return -EBADMSG;
	for (uint32_t i = 0; i < h->n_pages; i++) {
		if (pages[i].first_row != n_rows || pages[i].n_rows > h->n_rows - n_rows ||
		    !rows_are_valid(rows + n_rows, pages[i].n_rows, h->n_rules))
			return -EBADMSG;
		n_rows += pages[i].n_rows;
	}
	return n_rows == h->n_rows ? 0 : -EBADMSG;
}

/* A copy is what the parser can't change any more. Sealing the file against writing would do, too, but that waits until every CPU has
 * run some work, which on a busy machine takes seconds. */
int unwind_table_open(int table_fd, const struct unwind_table_header **ret, size_t *ret_size)
{
	struct unwind_table_header h;
	struct stat st;
	uint64_t size;
	void *table;
	int r;

	if (fstat(table_fd, &st) < 0)
		return negative_errno();
	if (pread(table_fd, &h, sizeof(h), 0) != sizeof(h) || unwind_table_header_check(&h) < 0)
		return -EBADMSG;
	size = unwind_table_size(&h);
	if (size > (uint64_t)st.st_size)
		return -EBADMSG;
	table = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (table == MAP_FAILED)
		return negative_errno();
	r = pread(table_fd, table, size, 0) != (ssize_t)size ? -EBADMSG : unwind_table_check(table, size);
	if (r < 0) {
		munmap(table, size);
		return r;
	}
	*ret = table;
	*ret_size = size;
	return 0;
}

/* Every 64-bit process has the same, and so have we. */
int vdso_image_fd(void)
{
	const Elf64_Ehdr *h = (const void *)getauxval(AT_SYSINFO_EHDR);
	_cleanup_close_ int fd = -EBADF;
	const Elf64_Phdr *p;
	size_t size = 0, sections;

	if (!h || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_ident[EI_CLASS] != ELFCLASS64)
		return -ENOENT;
	p = (const void *)((const char *)h + h->e_phoff);
	for (unsigned i = 0; i < h->e_phnum; i++)
		if (p[i].p_type == PT_LOAD)
			size = MAX(size, p[i].p_offset + p[i].p_filesz);
	/* The sections, which name the symbols, lie behind the segment, in what is left of its last page. */
	sections = h->e_shoff + (size_t)h->e_shnum * h->e_shentsize;
	if (sections <= (size + VDSO_PAGE - 1) / VDSO_PAGE * VDSO_PAGE)
		size = MAX(size, sections);
	if (size == 0 || size > VDSO_MAX)
		return -ENOENT;
	fd = memfd_create("vdso", MFD_CLOEXEC);
	if (fd < 0)
		return negative_errno();
	if (write(fd, h, size) != (ssize_t)size)
		return -EIO;
	return TAKE_FD(fd);
}
