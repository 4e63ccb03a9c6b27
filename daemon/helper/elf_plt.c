/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <gelf.h>

#include "elf_plt.h"

#define RELOCATIONS_BYTES_MAX (64ULL << 20) /* of a section; those of libxul take 40 */
#define CODE_BYTES_MAX (16ULL << 20)
#define SLOTS_MAX (1U << 20)

/* A relocated slot of the GOT. */
struct slot {
	uint64_t address;
	uint32_t symbol;
};

struct reader {
	Elf *elf;
	uint64_t file_size;
	uint16_t machine;
	size_t dynsym_index;
	Elf_Data *symbols, *strings;
	struct slot *slots;
	size_t n, max;
	elf_stub_fn fn;
	void *userdata;
};

static Elf_Data *section_data(const struct reader *p, Elf_Scn *section, uint64_t max)
{
	Elf_Data *data;
	GElf_Shdr h;

	if (!section || !gelf_getshdr(section, &h) || h.sh_type == SHT_NOBITS || h.sh_size > max ||
	    h.sh_offset > p->file_size || h.sh_size > p->file_size - h.sh_offset)
		return NULL;
	data = elf_getdata(section, NULL);
	return data && data->d_buf ? data : NULL;
}

static bool fills_slot(const struct reader *p, uint64_t type)
{
	return p->machine == EM_X86_64 ? type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT
				       : type == R_AARCH64_JUMP_SLOT || type == R_AARCH64_GLOB_DAT;
}

static int add_slots(struct reader *p, Elf_Data *data)
{
	size_t n = MIN(data->d_size / sizeof(Elf64_Rela), (size_t)INT32_MAX);

	for (size_t i = 0; i < n; i++) {
		GElf_Rela rela;

		if (!gelf_getrela(data, (int)i, &rela) || !fills_slot(p, GELF_R_TYPE(rela.r_info)))
			continue;
		if (p->n == p->max) {
			size_t max = p->max ? 2 * p->max : 256;
			struct slot *grown = max > SLOTS_MAX ? NULL : reallocarray(p->slots, max, sizeof(*grown));

			if (!grown)
				return max > SLOTS_MAX ? 0 : -ENOMEM;
			p->slots = grown;
			p->max = max;
		}
		p->slots[p->n++] =
			(struct slot){ .address = rela.r_offset, .symbol = (uint32_t)GELF_R_SYM(rela.r_info) };
	}
	return 0;
}

static int compare_slots(const void *a, const void *b)
{
	const struct slot *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

static int put_stub(struct reader *p, uint64_t start, size_t size, uint64_t slot_address)
{
	const struct slot wanted = { .address = slot_address },
			  *slot = p->n > 0 ? bsearch(&wanted, p->slots, p->n, sizeof(wanted), compare_slots) : NULL;
	struct elf_stub stub = { .start = start, .size = (uint32_t)size, .strings = p->strings };
	GElf_Sym symbol;

	if (!slot || slot->symbol == 0 || slot->symbol > INT32_MAX || start > INT64_MAX ||
	    !gelf_getsym(p->symbols, (int)slot->symbol, &symbol))
		return 0;
	stub.name = symbol.st_name;
	return p->fn(p->userdata, &stub);
}

static uint32_t read_32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool has_bytes(const uint8_t *p, size_t size, size_t at, const char *bytes, size_t n)
{
	return size - at >= n && memcmp(p + at, bytes, n) == 0;
}

/* [endbr64] [mov $number, %r11d] [bnd] jmp *slot(%rip). The first is Intel CET's, the second mold's. */
static bool decode_x86_64(const uint8_t *code, size_t size, uint64_t address, uint64_t *ret_slot)
{
	size_t at = 0;

	if (has_bytes(code, size, at, "\xf3\x0f\x1e\xfa", 4))
		at += 4;
	if (has_bytes(code, size, at, "\x41\xbb", 2) && size - at >= 6)
		at += 6;
	if (has_bytes(code, size, at, "\xf2", 1))
		at += 1;
	if (!has_bytes(code, size, at, "\xff\x25", 2) || size - at < 6)
		return false;
	*ret_slot = address + at + 6 + (uint64_t)(int64_t)(int32_t)read_32(code + at + 2);
	return true;
}

/* jmp *slot(%rip); xchg %ax, %ax */
static bool is_short_stub(const uint8_t *code)
{
	return memcmp(code, "\xff\x25", 2) == 0 && memcmp(code + 6, "\x66\x90", 2) == 0;
}

static int scan_x86_64(struct reader *p, const uint8_t *code, size_t size, uint64_t address)
{
	/* .plt.got of files without CET has stubs of 8 bytes; all others have 16. */
	for (size_t at = 0, step; at + 8 <= size; at += step) {
		uint64_t slot;
		int r;

		step = size - at < 16 || is_short_stub(code + at) ? 8 : 16;
		if (!decode_x86_64(code + at, MIN(step, size - at), address + at, &slot))
			continue;
		r = put_stub(p, address + at, step, slot);
		if (r < 0)
			return r;
	}
	return 0;
}

#define A64_BTI_C 0xd503245fU
#define A64_BR_X17 0xd61f0220U
#define A64_STUB_WORDS_MAX 6

/* [bti c]; adrp x16, slot; ldr x17, [x16, slot]; ...; br x17 */
static int scan_aarch64(struct reader *p, const uint8_t *code, size_t size, uint64_t address)
{
	for (size_t at = 0; at + 8 <= size; at += 4) {
		uint32_t adrp = read_32(code + at), ldr = read_32(code + at + 4);
		size_t start = at, end = at + 8;
		int64_t pages;
		int r;

		if ((adrp & 0x9f00001fU) != 0x90000010U || (ldr & 0xffc003ffU) != 0xf9400211U)
			continue;
		pages = (int64_t)((uint64_t)((adrp >> 5 & 0x7ffffU) << 2 | (adrp >> 29 & 3)) << 43) >> 43;
		if (at >= 4 && read_32(code + at - 4) == A64_BTI_C)
			start -= 4;
		while (end + 4 <= size && end - start < 4 * (A64_STUB_WORDS_MAX - 1) &&
		       read_32(code + end) != A64_BR_X17)
			end += 4;
		if (end + 4 > size || read_32(code + end) != A64_BR_X17)
			continue;
		r = put_stub(p, address + start, end + 4 - start,
			     ((address + at) & ~4095ULL) + (uint64_t)pages * 4096 + (uint64_t)(ldr >> 10 & 0xfff) * 8);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_slots(struct reader *p)
{
	Elf_Scn *section = NULL;
	GElf_Shdr h;

	while ((section = elf_nextscn(p->elf, section))) {
		Elf_Data *data;
		int r;

		if (!gelf_getshdr(section, &h) || h.sh_type != SHT_RELA || h.sh_link != p->dynsym_index)
			continue;
		data = section_data(p, section, RELOCATIONS_BYTES_MAX);
		r = data ? add_slots(p, data) : 0;
		if (r < 0)
			return r;
	}
	if (p->n > 0)
		qsort(p->slots, p->n, sizeof(*p->slots), compare_slots);
	return 0;
}

static int read_stubs(struct reader *p)
{
	Elf_Scn *section = NULL;
	size_t names;
	GElf_Shdr h;

	if (elf_getshdrstrndx(p->elf, &names) < 0)
		return 0;
	while ((section = elf_nextscn(p->elf, section))) {
		const char *name;
		Elf_Data *data;
		int r;

		if (!gelf_getshdr(section, &h) || h.sh_type != SHT_PROGBITS || !(h.sh_flags & SHF_EXECINSTR))
			continue;
		name = elf_strptr(p->elf, names, h.sh_name);
		if (!name || strncmp(name, ".plt", 4) != 0)
			continue;
		data = section_data(p, section, CODE_BYTES_MAX);
		if (!data)
			continue;
		r = p->machine == EM_X86_64 ? scan_x86_64(p, data->d_buf, data->d_size, h.sh_addr)
					    : scan_aarch64(p, data->d_buf, data->d_size, h.sh_addr);
		if (r < 0)
			return r;
	}
	return 0;
}

int elf_plt_read(Elf *elf, uint64_t file_size, uint16_t machine, Elf_Scn *dynsym, elf_stub_fn fn, void *userdata)
{
	struct reader p = {
		.elf = elf,
		.file_size = file_size,
		.machine = machine,
		.dynsym_index = elf_ndxscn(dynsym),
		.fn = fn,
		.userdata = userdata,
	};
	GElf_Shdr h;
	int r;

	if ((machine != EM_X86_64 && machine != EM_AARCH64) || gelf_getclass(elf) != ELFCLASS64 ||
	    !gelf_getshdr(dynsym, &h))
		return 0;
	/* read_symbols() has looked at their sizes */
	p.symbols = section_data(&p, dynsym, UINT64_MAX);
	p.strings = section_data(&p, elf_getscn(elf, h.sh_link), UINT64_MAX);
	if (!p.symbols || !p.strings)
		return 0;
	r = read_slots(&p);
	if (r >= 0)
		r = read_stubs(&p);
	free(p.slots);
	return r;
}
