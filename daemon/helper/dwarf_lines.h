/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Source lines and inlined functions by DWARF, which elfutils' libdw reads: what `eu-addr2line -i` says of an address. Runs in a
 * parser only: files may be hostile, and reading a large one takes seconds. */
#pragma once

#include "base.h"

/* Larger ones are refused: bytes of all .debug_ sections of a file as they are when they are unpacked; and ranges of addresses in
 * its units. A browser's has a gigabyte, libstdc++'s 10 MB. */
#define DWARF_BYTES_MAX (256ULL << 20)
#define DWARF_RANGES_MAX (1U << 20)
/* Functions inlined into one another at one address; those further in are left out. */
#define DWARF_PLACES_MAX 16
#define DWARF_ALT_MAX 256

struct dwarf_lines;

struct dwarf_place {
	const char *function; /* that was inlined, mangled; NULL: the function that the object's symbols name */
	const char *file;     /* "" when it is not known */
	uint32_t line;        /* 0 when it is not known */
};

/* fd: the object; debug_fd: its debug file, or negative; alt_fd: what dwz moved out of either into a common file, or negative.
 * Borrowed, and must stay open. -ENODATA: neither file has DWARF; -ENOEXEC: no ELF file; -ESTALE: the debug file is another
 * object's; -EBADMSG: damaged; -EFBIG; -ENOMEM. */
int dwarf_lines_open(struct dwarf_lines **ret, int fd, int debug_fd, int alt_fd);
struct dwarf_lines *dwarf_lines_close(struct dwarf_lines *l);
DEFINE_CLEANUP(struct dwarf_lines *, dwarf_lines_close)

/* The common file that names lie in and that was not given or is another one: its path as the debug file has it. NULL: none. */
const char *dwarf_lines_missing_alt(const struct dwarf_lines *l);
/* Innermost first; the last one is the function itself. Gives how many; 0: nothing is known of the address. Strings live as long
 * as the lines. offset: into the object's file. */
size_t dwarf_lines_find(struct dwarf_lines *l, uint64_t offset, struct dwarf_place ret[static DWARF_PLACES_MAX]);
