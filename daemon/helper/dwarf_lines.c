/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwelf.h>
#include <gelf.h>

#include "dwarf_lines.h"

#define SEGMENTS_MAX 16

/* What a unit says is its own. */
struct range {
	uint64_t start, end;
	Dwarf_Off unit; /* of its DIE */
};

struct dwarf_lines {
	Elf *object, *debug, *alt;
	Dwarf *dwarf, *alt_dwarf;
	GElf_Phdr segments[SEGMENTS_MAX];
	size_t n_segments;
	struct range *ranges;
	size_t n_ranges, max_ranges;
	char missing_alt[DWARF_ALT_MAX];
};

/* ---- files ---- */

static int open_elf(Elf **ret, int fd)
{
	elf_version(EV_CURRENT);
	*ret = elf_begin(fd, ELF_C_READ, NULL);
	return *ret && elf_kind(*ret) == ELF_K_ELF ? 0 : -ENOEXEC;
}

static int read_segments(struct dwarf_lines *l)
{
	size_t n;

	if (elf_getphdrnum(l->object, &n) < 0)
		return -EBADMSG;
	for (size_t i = 0; i < n && l->n_segments < SEGMENTS_MAX; i++) {
		GElf_Phdr *p = &l->segments[l->n_segments];

		if (!gelf_getphdr(l->object, (int)i, p))
			return -EBADMSG;
		l->n_segments += p->p_type == PT_LOAD && p->p_flags & PF_X;
	}
	return 0;
}

/* -ENODATA: it has no DWARF. */
static int check_size(Elf *elf)
{
	uint64_t bytes = 0;
	Elf_Scn *section = NULL;
	bool has_units = false;
	size_t names;

	if (elf_getshdrstrndx(elf, &names) < 0)
		return -EBADMSG;
	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr h;
		GElf_Chdr packed;
		const char *name = gelf_getshdr(section, &h) ? elf_strptr(elf, names, h.sh_name) : NULL;

		if (!name || (strncmp(name, ".debug_", 7) != 0 && strncmp(name, ".zdebug_", 8) != 0) || h.sh_type == SHT_NOBITS)
			continue;
		has_units = has_units || streq(name, ".debug_info") || streq(name, ".zdebug_info");
		bytes += h.sh_flags & SHF_COMPRESSED && gelf_getchdr(section, &packed) ? packed.ch_size : h.sh_size;
		if (bytes > DWARF_BYTES_MAX || h.sh_size > DWARF_BYTES_MAX)
			return -EFBIG;
	}
	return has_units ? 0 : -ENODATA;
}

/* By build ID, where both have one. */
static bool is_debug_of(Elf *debug, Elf *object)
{
	const void *own, *other;
	ssize_t n = dwelf_elf_gnu_build_id(object, &own), m = dwelf_elf_gnu_build_id(debug, &other);

	return n <= 0 || m <= 0 || (n == m && memcmp(own, other, (size_t)n) == 0);
}

static void attach_alt(struct dwarf_lines *l, int fd)
{
	const char *path;
	const void *wanted, *found;
	ssize_t n = dwelf_dwarf_gnu_debugaltlink(l->dwarf, &path, &wanted);

	if (n <= 0)
		return;
	copy_string(l->missing_alt, sizeof(l->missing_alt), path);
	if (fd < 0 || open_elf(&l->alt, fd) < 0 || check_size(l->alt) < 0 || dwelf_elf_gnu_build_id(l->alt, &found) != n ||
	    memcmp(found, wanted, (size_t)n) != 0)
		return;
	l->alt_dwarf = dwarf_begin_elf(l->alt, DWARF_C_READ, NULL);
	if (!l->alt_dwarf)
		return;
	dwarf_setalt(l->dwarf, l->alt_dwarf);
	l->missing_alt[0] = '\0';
}

/* ---- units ---- */

static int add_range(struct dwarf_lines *l, uint64_t start, uint64_t end, Dwarf_Off unit)
{
	if (start >= end)
		return 0;
	if (l->n_ranges == DWARF_RANGES_MAX)
		return -EFBIG;
	if (l->n_ranges == l->max_ranges) {
		size_t wanted = MAX(2 * l->max_ranges, (size_t)256);
		struct range *ranges = reallocarray(l->ranges, wanted, sizeof(*ranges));

		if (!ranges)
			return -ENOMEM;
		l->ranges = ranges;
		l->max_ranges = wanted;
	}
	l->ranges[l->n_ranges++] = (struct range){ start, end, unit };
	return 0;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Compilers may leave .debug_aranges out, so the units themselves are asked. */
static int read_units(struct dwarf_lines *l)
{
	Dwarf_CU *unit = NULL;
	Dwarf_Die die;
	int r = 0;

	while (r >= 0 && dwarf_get_units(l->dwarf, unit, &unit, NULL, NULL, &die, NULL) == 0) {
		Dwarf_Addr base, start, end;
		ptrdiff_t at = 0;

		if (dwarf_tag(&die) != DW_TAG_compile_unit && dwarf_tag(&die) != DW_TAG_skeleton_unit)
			continue;
		while (r >= 0 && (at = dwarf_ranges(&die, at, &base, &start, &end)) > 0)
			r = add_range(l, start, end, dwarf_dieoffset(&die));
	}
	if (l->n_ranges > 0)
		qsort(l->ranges, l->n_ranges, sizeof(*l->ranges), compare_ranges);
	return r;
}

static bool find_unit(const struct dwarf_lines *l, uint64_t address, Dwarf_Die *ret)
{
	size_t low = 0, high = l->n_ranges;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (l->ranges[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 && address < l->ranges[low - 1].end && dwarf_offdie(l->dwarf, l->ranges[low - 1].unit, ret);
}

/* ---- open and close ---- */

static int open_files(struct dwarf_lines *l, int fd, int debug_fd)
{
	int r;

	r = open_elf(&l->object, fd);
	if (r >= 0)
		r = read_segments(l);
	if (r >= 0)
		r = check_size(l->object);
	if (r >= 0)
		l->dwarf = dwarf_begin_elf(l->object, DWARF_C_READ, NULL);
	if (r != -ENODATA || debug_fd < 0)
		return r < 0 ? r : l->dwarf ? 0 : -EBADMSG;
	r = open_elf(&l->debug, debug_fd);
	if (r >= 0 && !is_debug_of(l->debug, l->object))
		r = -ESTALE;
	if (r >= 0)
		r = check_size(l->debug);
	if (r >= 0)
		l->dwarf = dwarf_begin_elf(l->debug, DWARF_C_READ, NULL);
	return r < 0 ? r : l->dwarf ? 0 : -EBADMSG;
}

int dwarf_lines_open(struct dwarf_lines **ret, int fd, int debug_fd, int alt_fd)
{
	_cleanup_(dwarf_lines_closep) struct dwarf_lines *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	r = open_files(l, fd, debug_fd);
	if (r < 0)
		return r;
	attach_alt(l, alt_fd);
	r = read_units(l);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(l);
	return 0;
}

struct dwarf_lines *dwarf_lines_close(struct dwarf_lines *l)
{
	if (!l)
		return NULL;
	dwarf_end(l->dwarf);
	dwarf_end(l->alt_dwarf);
	elf_end(l->object);
	elf_end(l->debug);
	elf_end(l->alt);
	free(l->ranges);
	free(l);
	return NULL;
}

const char *dwarf_lines_missing_alt(const struct dwarf_lines *l)
{
	return l->missing_alt[0] ? l->missing_alt : NULL;
}

/* ---- one address ---- */

static bool to_address(const struct dwarf_lines *l, uint64_t offset, uint64_t *ret)
{
	for (size_t i = 0; i < l->n_segments; i++) {
		const GElf_Phdr *p = &l->segments[i];

		if (offset >= p->p_offset && offset - p->p_offset < p->p_filesz) {
			*ret = offset - p->p_offset + p->p_vaddr;
			return true;
		}
	}
	return false;
}

static void read_line(Dwarf_Die *unit, uint64_t address, struct dwarf_place *ret)
{
	Dwarf_Line *line = dwarf_getsrc_die(unit, address);
	const char *file = line ? dwarf_linesrc(line, NULL, NULL) : NULL;
	int number = 0;

	*ret = (struct dwarf_place){ .file = file ? file : "" };
	if (line && dwarf_lineno(line, &number) == 0 && number > 0)
		ret->line = (uint32_t)number;
}

static uint64_t read_number(Dwarf_Die *die, unsigned name)
{
	Dwarf_Attribute attribute;
	Dwarf_Word value;

	return dwarf_attr(die, name, &attribute) && dwarf_formudata(&attribute, &value) == 0 ? value : 0;
}

static void read_call(Dwarf_Die *unit, Dwarf_Die *inlined, struct dwarf_place *ret)
{
	uint64_t file = read_number(inlined, DW_AT_call_file), line = read_number(inlined, DW_AT_call_line);
	const char *path = NULL;
	Dwarf_Files *files;
	size_t n;

	if (dwarf_getsrcfiles(unit, &files, &n) == 0 && file < n)
		path = dwarf_filesrc(files, file, NULL, NULL);
	*ret = (struct dwarf_place){ .file = path ? path : "", .line = line <= INT32_MAX ? (uint32_t)line : 0 };
}

static const char *name_of(Dwarf_Die *die)
{
	static const unsigned linkage[] = { DW_AT_linkage_name, DW_AT_MIPS_linkage_name };
	const char *name = NULL;

	for (size_t i = 0; i < ELEMENTS_OF(linkage) && !name; i++) {
		Dwarf_Attribute attribute;

		if (dwarf_attr_integrate(die, linkage[i], &attribute))
			name = dwarf_formstring(&attribute);
	}
	if (!name)
		name = dwarf_diename(die);
	return name ? name : "[inlined]";
}

/* The innermost DIE of code that holds the address and then, outwards, those around it. The caller frees *ret. */
static int scopes_of(Dwarf_Die *unit, uint64_t address, Dwarf_Die **ret)
{
	Dwarf_Die *scopes = NULL, innermost;
	int n = dwarf_getscopes(unit, address, &scopes);

	if (n <= 0)
		return 0;
	/* Behind an inlined function come the scopes of its definition; those of its call are asked for by the DIE. */
	innermost = scopes[0];
	free(scopes);
	n = dwarf_getscopes_die(&innermost, ret);
	return MAX(n, 0);
}

size_t dwarf_lines_find(struct dwarf_lines *l, uint64_t offset, struct dwarf_place ret[static DWARF_PLACES_MAX])
{
	_cleanup_free_ Dwarf_Die *scopes = NULL;
	struct dwarf_place place;
	size_t places = 0;
	uint64_t address;
	Dwarf_Die unit;
	int n;

	if (!to_address(l, offset, &address) || !find_unit(l, address, &unit))
		return 0;
	read_line(&unit, address, &place);
	n = scopes_of(&unit, address, &scopes);
	for (int i = 0; i < n && dwarf_tag(&scopes[i]) != DW_TAG_subprogram; i++) {
		if (dwarf_tag(&scopes[i]) != DW_TAG_inlined_subroutine)
			continue;
		if (places == DWARF_PLACES_MAX - 1)
			memmove(ret, ret + 1, --places * sizeof(*ret));
		place.function = name_of(&scopes[i]);
		ret[places++] = place;
		read_call(&unit, &scopes[i], &place);
	}
	ret[places++] = place;
	return places;
}
