/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a perf-map: what it says is what the last line that covers an address says. */
#include <assert.h>
#include <sys/mman.h>

#include "perf_map.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_address(const struct perf_map *m, uint64_t address)
{
	const char *expected = "";
	struct elf_symbol s;

	for (size_t i = 0; i < m->n_lines; i++)
		if (address >= m->lines[i].start && address < m->lines[i].end)
			expected = m->lines[i].name;
	perf_map_lookup(m, address, &s);
	assert(s.name[0] == '\0' ? expected[0] == '\0' : s.name == expected);
	assert(s.valid_start <= address && address < s.valid_end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(perf_map_freep) struct perf_map *m = NULL;
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	if (perf_map_load(&m, fd) < 0)
		return 0;
	for (size_t i = 0; i < MIN(m->n_lines, (size_t)64); i++) {
		check_address(m, m->lines[i].start);
		check_address(m, m->lines[i].start - (m->lines[i].start > 0));
		check_address(m, m->lines[i].end);
		check_address(m, m->lines[i].end - 1);
	}
	return 0;
}
