/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pure part of the parser that makes unwind tables: from a descriptor of an ELF file to a table as bpf/unwind.h draws it.
 * Reads by pread only, and takes nothing that the file says on trust. Call frame information is read as the DWARF standard
 * (version 5, 6.4) and the Linux Standard Base (core, "Exception Frames") describe it. x86-64. */
#pragma once

#include "base.h"
#include "../../bpf/unwind.h"

/* Larger .eh_frame are refused; the largest that we have met (a browser's) has 30 MB. */
#define ELF_EH_FRAME_MAX (96ULL << 20)

/* Writes the table, of at most max_bytes, into table_fd, and gives its header. -ENOEXEC: not an ELF file of x86-64; -ENODATA: it has no .eh_frame;
 * -EBADMSG: damaged; -EFBIG: above the limits; -ENOMEM. */
int elf_unwind_write(int fd, int table_fd, uint64_t max_bytes, struct unwind_table_header *ret);
