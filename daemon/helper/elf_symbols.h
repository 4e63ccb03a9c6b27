/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pure part of the parser: from a descriptor of an ELF file to a table of functions. Reads by pread only
 * (libelf with ELF_C_READ never maps a file), and takes nothing that the file says on trust.
 *
 *   pieces, sorted, disjoint:   [from ........ from+length)  belongs to the symbol [start, start+size)
 *
 * A piece is where its symbol is the innermost one that covers an address; without nesting it is the whole
 * symbol. */
#pragma once

#include "base.h"

/* Larger files are refused as a whole: half a table would give wrong answers ("no symbol here"). */
#define ELF_FUNCTIONS_MAX (2U << 20)
#define ELF_SYMTAB_MAX (96ULL << 20) /* bytes of one symbol table; and of one string table: */
#define ELF_STRTAB_MAX (64ULL << 20)
#define ELF_NAME_MAX 4095 /* bytes of a (mangled) name; longer ones end in "..." */
#define ELF_BUILD_ID_MAX 32
#define ELF_LINK_MAX 96          /* bytes of the name of a debug file, with the NUL; longer ones are not looked for */
#define ELF_DEBUG_MAX (1ULL << 30) /* bytes of a debug file whose checksum is taken */

struct elf_symbols;

struct elf_symbol {
	uint64_t start, size; /* of the symbol; 0 when there is none */
	uint64_t address; /* of the offset, by the program headers; the offset itself when no segment holds it
			   */
	uint64_t valid_start, valid_end; /* addresses for which the same answer holds */
	const char *name; /* "" when no symbol covers the address; lives as long as the table */
};

/* Symbols of .symtab, .dynsym, and, without a .symtab, of the mini debug file in .gnu_debugdata; stubs of the PLT are
 * "NAME@plt". Names are as in the file: mangled.
 * debug_fd, if it is one, is taken for the debug file of a file without a .symtab, and its .symtab is read, too, if it has the
 * same build ID or, where one of them has none, the checksum of .gnu_debuglink.
 * -ENOEXEC: not an executable or shared ELF file; -EBADMSG: damaged; -EFBIG: above the limits; -ENOMEM. */
int elf_symbols_load(struct elf_symbols **ret, int fd, int debug_fd);
struct elf_symbols *elf_symbols_free(struct elf_symbols *t);
DEFINE_CLEANUP(struct elf_symbols *, elf_symbols_free)

size_t elf_symbols_bytes(const struct elf_symbols *t); /* of memory */
size_t elf_symbols_build_id(const struct elf_symbols *t, uint8_t ret[static ELF_BUILD_ID_MAX]);
/* True when it has no .symtab, and so might have a debug file; *ret_link is the name in .gnu_debuglink
 * or "". */
bool elf_symbols_is_stripped(const struct elf_symbols *t, const char **ret_link);
void elf_symbols_lookup(const struct elf_symbols *t, uint64_t offset, struct elf_symbol *ret);

/* A function of an allocator. */
struct elf_allocator {
	uint64_t offset, size; /* in the file */
	uint32_t call;         /* enum stackd_heap_call */
	bool cxx;              /* new or delete */
};
#define ELF_ALLOCATORS_MAX 128

/* Those of a file that is an allocator, or has one linked into it; gives how many. Without its .symtab a program hides them. */
size_t elf_symbols_allocators(const struct elf_symbols *t, struct elf_allocator ret[static ELF_ALLOCATORS_MAX]);

/* Names a file without a build ID: hash of its size, its first and last 64 KiB, and 64 blocks of 4 KiB spread
 * evenly over it. */
int elf_content_hash(int fd, uint64_t *ret);
