/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The section .gnu_debugdata, as Fedora and others put it into stripped files: an xz-compressed ELF file with a .symtab
 * of those functions that .dynsym doesn't have (gdb's manual, "Debugging information in a special section"). */
#pragma once

#include <libelf.h>

#include "base.h"

/* Bytes, compressed and not. Those of distributions are below 1 MiB; libxul's would take 10. */
#define MINIDEBUG_PACKED_MAX (16ULL << 20)
#define MINIDEBUG_MAX (64ULL << 20)

/* Unpacks it; the caller frees *ret. -EFBIG when it is or would get too large, -EBADMSG when it is damaged. */
int elf_minidebug_read(Elf_Scn *section, uint64_t file_size, void **ret, size_t *ret_size);
