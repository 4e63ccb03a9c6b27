/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a descriptor of an ELF file to its unwind table as bpf/unwind.h draws it. Runs in the parser. */
#pragma once

#include "base.h"
#include "../../bpf/unwind.h"

/* 4 GiB of code from the first function to the last, all in one table. */
#define ELF_UNWIND_PAGES_MAX 65536U
/* What a row can name. */
#define ELF_UNWIND_RULES_MAX 65536U

/* Writes the table, of at most max_bytes, into table_fd, and gives its header. -ENOEXEC: not an ELF file of x86-64;
 * -ENODATA: it has no .eh_frame; -EBADMSG: damaged; -EFBIG: above max_bytes or another limit (eh_frame.h); -ENOMEM. An
 * .eh_frame that can be read in part gives a table that says how many functions are missing. */
int elf_unwind_write(int fd, int table_fd, uint64_t max_bytes, struct unwind_table_header *ret);
