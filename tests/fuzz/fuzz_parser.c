/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as an ELF file: the table must be made or refused, and what it says must be consistent. */
#include <assert.h>
#include <sys/mman.h>

#include "demangle.h"
#include "elf_symbols.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_offset(const struct elf_symbols *t, uint64_t offset)
{
	struct elf_symbol s, edge;
	char name[512];
	size_t length;

	elf_symbols_lookup(t, offset, &s);
	assert(s.valid_start <= s.address && s.address < s.valid_end);
	assert(strlen(s.name) <= ELF_NAME_MAX);
	length = demangle(s.name, name, sizeof(name));
	assert(length < sizeof(name) && length == strlen(name));
	if (s.name[0] == '\0') {
		assert(s.start == 0 && s.size == 0);
	} else {
		assert(s.address - s.start < s.size);
		assert(s.valid_start >= s.start && s.valid_end - s.start <= s.size);
	}

	/* the same answer at both ends of what it claims */
	if (s.address - s.valid_start <= offset) {
		elf_symbols_lookup(t, offset - (s.address - s.valid_start), &edge);
		assert(edge.start == s.start && streq(edge.name, s.name));
	}
	elf_symbols_lookup(t, offset + (s.valid_end - 1 - s.address), &edge);
	assert(edge.start == s.start && streq(edge.name, s.name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(elf_symbols_freep) struct elf_symbols *t = NULL;
	uint8_t build_id[ELF_BUILD_ID_MAX];
	static int fd = -1;
	uint64_t hash;

	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();

	if (elf_content_hash(fd, &hash) < 0)
		abort();
	if (elf_symbols_load(&t, fd, fd) < 0)
		return 0;
	assert(elf_symbols_build_id(t, build_id) <= sizeof(build_id));
	for (uint64_t offset = 0; offset < size + 32; offset += 1 + size / 128)
		check_offset(t, offset);
	check_offset(t, INT64_MAX); /* parser_ask() takes no larger ones */
	return 0;
}
