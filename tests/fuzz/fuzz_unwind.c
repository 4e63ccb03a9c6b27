/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as an ELF file, and as an .eh_frame in a sound one: a table is made that passes the daemon's check, or none. Then
 * any bytes as a table: the check reads nothing that is not there. */
#include <assert.h>
#include <elf.h>
#include <sys/mman.h>

#include "elf_unwind.h"
#include "helper.h"

#define TABLE_MAX (4U << 20)
#define CODE_SIZE (1U << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int file_fd = -1;

static void make_table(void)
{
	_cleanup_close_ int table_fd = memfd_create("table", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	const struct unwind_table_header *table;
	struct unwind_table_header header;
	size_t size;

	if (ftruncate(table_fd, TABLE_MAX) < 0)
		abort();
	if (elf_unwind_write(file_fd, table_fd, TABLE_MAX, &header) < 0)
		return;
	assert(unwind_table_open(table_fd, &table, &size) == 0);
	assert(memcmp(table, &header, sizeof(header)) == 0);
	munmap((void *)table, size);
}

static void write_file(const void *data, size_t size, off_t offset)
{
	if (pwrite(file_fd, data, size, offset) != (ssize_t)size)
		abort();
}

/* The bytes lie at CODE_SIZE + 16, in the file as in memory, and the code that they are about before them. */
static void make_file(const uint8_t *data, size_t size)
{
	struct {
		Elf64_Ehdr header;
		Elf64_Phdr segments[3];
	} file = {
		.header = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			    .e_type = ET_DYN,
			    .e_machine = EM_X86_64,
			    .e_phoff = sizeof(Elf64_Ehdr),
			    .e_phentsize = sizeof(Elf64_Phdr),
			    .e_phnum = 3 },
		.segments = { { .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_filesz = CODE_SIZE },
			      { .p_type = PT_LOAD,
				.p_flags = PF_R,
				.p_offset = CODE_SIZE,
				.p_vaddr = CODE_SIZE,
				.p_filesz = size + 16 },
			      { .p_type = PT_GNU_EH_FRAME, .p_offset = CODE_SIZE, .p_vaddr = CODE_SIZE, .p_filesz = 12 } },
	};
	/* version 1, the address of .eh_frame relative to its own, no search table */
	static const uint8_t eh_frame_header[16] = { 1, 0x1b, 0xff, 0xff, 12 };

	write_file(&file, sizeof(file), 0);
	write_file(eh_frame_header, sizeof(eh_frame_header), CODE_SIZE);
	write_file(data, size, CODE_SIZE + 16);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ void *copy = malloc(size + 1);

	if (file_fd < 0)
		file_fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (!copy || ftruncate(file_fd, 0) < 0)
		abort();
	write_file(data, size, 0);
	make_table();
	if (ftruncate(file_fd, 0) < 0)
		abort();
	make_file(data, size);
	make_table();

	memcpy(copy, data, size);
	(void)unwind_table_check(copy, size);
	return 0;
}
