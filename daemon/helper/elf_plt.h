/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stubs of the procedure linkage table have no symbols. Each jumps through a slot of the GOT, and a relocation says whose
 * address the linker puts there: so the code of .plt, .plt.sec (Intel CET) and .plt.got is decoded for its slots, which
 * holds for whatever layout a linker chose. x86-64 and arm64. */
#pragma once

#include <libelf.h>

#include "base.h"

struct elf_stub {
	uint64_t start;
	uint32_t size;
	const Elf_Data *strings;
	uint32_t name; /* offset into strings; not checked */
};

typedef int (*elf_stub_fn)(void *userdata, const struct elf_stub *stub);

/* Calls fn for each stub, and ends with the error that it gives, if any. What is damaged is left out. dynsym: its
 * section. */
int elf_plt_read(Elf *elf, uint64_t file_size, uint16_t machine, Elf_Scn *dynsym, elf_stub_fn fn, void *userdata);
