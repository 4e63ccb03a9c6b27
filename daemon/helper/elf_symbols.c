/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <gelf.h>
#include <lzma.h>
#include <sys/stat.h>

#include "allocators.h"
#include "elf_minidebug.h"
#include "elf_plt.h"
#include "elf_symbols.h"
#include "symbol_pieces.h"

#define SEGMENTS_MAX 256
#define NOTES_MAX (1U << 20) /* bytes of one note segment */
#define PAGE_MAX 65536       /* largest page of the machines we know */

struct segment {
	uint64_t offset, size, address;
	bool executable;
};

struct elf_symbols {
	struct symbol_pieces pieces;
	size_t n_segments;
	struct segment segments[SEGMENTS_MAX];
	size_t build_id_size;
	uint8_t build_id[ELF_BUILD_ID_MAX];
	size_t n_allocators;
	struct elf_allocator allocators[ELF_ALLOCATORS_MAX];
	bool stripped;
	uint32_t link_crc;
	char link[ELF_LINK_MAX];
};

/* An ELF file that symbols come from: their names live in it until the table is made. */
struct image {
	Elf *elf;
	uint64_t size;
	size_t n_sections;
	bool *executable; /* by section */
	bool has_symtab;
	Elf_Scn *minidebug;
	void *memory; /* it lies in */
};

enum image_kind { IMAGE_FILE, IMAGE_MINIDEBUG, IMAGE_DEBUG, IMAGE_N };

struct loader {
	struct elf_symbols *table;
	struct image images[IMAGE_N];
	uint16_t machine;
	struct candidate *candidates;
	size_t n, max;
};

#define HEADER_SIZE (EI_NIDENT + 48)

/* libelf allocates by what the header says before it looks: refuse the two escapes into 32-bit counts, which
 * no file that is mapped into a process needs. */
static int check_header(const uint8_t h[static HEADER_SIZE])
{
	bool wide, big;
	uint64_t section_offset = 0;
	unsigned sections, segments, at;

	if (memcmp(h, ELFMAG, SELFMAG) != 0 || (h[EI_CLASS] != ELFCLASS32 && h[EI_CLASS] != ELFCLASS64) ||
	    (h[EI_DATA] != ELFDATA2LSB && h[EI_DATA] != ELFDATA2MSB))
		return -ENOEXEC;
	wide = h[EI_CLASS] == ELFCLASS64;
	big = h[EI_DATA] == ELFDATA2MSB;

	at = wide ? offsetof(Elf64_Ehdr, e_shoff) : offsetof(Elf32_Ehdr, e_shoff);
	for (unsigned i = 0; i < (wide ? 8 : 4); i++)
		section_offset |= h[at + i];
	at = wide ? offsetof(Elf64_Ehdr, e_shnum) : offsetof(Elf32_Ehdr, e_shnum);
	sections = big ? (h[at] << 8 | h[at + 1]) : (h[at + 1] << 8 | h[at]);
	at = wide ? offsetof(Elf64_Ehdr, e_phnum) : offsetof(Elf32_Ehdr, e_phnum);
	segments = big ? (h[at] << 8 | h[at + 1]) : (h[at + 1] << 8 | h[at]);
	return (sections == 0 && section_offset != 0) || segments == PN_XNUM ? -EBADMSG : 0;
}

/* libelf keeps its error numbers to itself; malloc's errno shines through. */
static int libelf_error(void)
{
	return errno == ENOMEM ? -ENOMEM : -EBADMSG;
}

static bool within(uint64_t offset, uint64_t size, uint64_t end)
{
	return offset <= end && size <= end - offset;
}

static size_t find_build_id(Elf_Data *data, uint8_t ret[static ELF_BUILD_ID_MAX])
{
	size_t offset = 0, name, descriptor;
	GElf_Nhdr note;

	while (data && (offset = gelf_getnote(data, offset, &note, &name, &descriptor)) > 0)
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof("GNU") && note.n_descsz > 0 &&
		    note.n_descsz <= ELF_BUILD_ID_MAX &&
		    memcmp((const char *)data->d_buf + name, "GNU", sizeof("GNU")) == 0) {
			memcpy(ret, (const char *)data->d_buf + descriptor, note.n_descsz);
			return note.n_descsz;
		}
	return 0;
}

static void take_build_id(struct elf_symbols *t, Elf_Data *data)
{
	if (t->build_id_size == 0)
		t->build_id_size = find_build_id(data, t->build_id);
}

static int read_segments(struct loader *l)
{
	const struct image *file = &l->images[IMAGE_FILE];
	size_t n;

	if (elf_getphdrnum(file->elf, &n) < 0)
		return -EBADMSG;
	for (size_t i = 0; i < n; i++) {
		GElf_Phdr p;

		if (!gelf_getphdr(file->elf, (int)i, &p))
			return -EBADMSG;
		if (p.p_type == PT_LOAD && p.p_filesz > 0 && within(p.p_offset, p.p_filesz, file->size)) {
			if (p.p_vaddr > INT64_MAX || l->table->n_segments == SEGMENTS_MAX)
				return -EBADMSG;
			l->table->segments[l->table->n_segments++] = (struct segment){
				.offset = p.p_offset,
				.size = p.p_filesz,
				.address = p.p_vaddr,
				.executable = p.p_flags & PF_X,
			};
		} else if (p.p_type == PT_NOTE && p.p_filesz <= NOTES_MAX &&
			   within(p.p_offset, p.p_filesz, file->size)) {
			take_build_id(l->table,
				      elf_getdata_rawchunk(file->elf, (int64_t)p.p_offset, p.p_filesz,
							   p.p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR));
		}
	}
	return 0;
}

#define RANK_STUB 3 /* a function that is where a stub is found is no stub */

static int rank(unsigned char binding)
{
	return binding == STB_WEAK ? 1 : binding == STB_LOCAL ? 2 : 0;
}

/* The same name with and without "@VERSION" (.symtab has it, .dynsym keeps it elsewhere) is one function. */
static size_t name_length(const char *name, size_t length)
{
	const char *at = length > 1 ? memchr(name + 1, '@', length - 1) : NULL;

	return at ? (size_t)(at - name) : length;
}

/* False when it has none that is worth having. */
static bool take_name(struct candidate *c, const Elf_Data *strings, size_t at)
{
	size_t room, length;

	if (at >= strings->d_size)
		return false;
	c->name = (const char *)strings->d_buf + at;
	room = strings->d_size - at;
	length = strnlen(c->name, MIN(room, (size_t)ELF_NAME_MAX + 1));
	if (length == room || length == 0)
		return false; /* runs out of its string table; or nameless */
	c->cut = length > ELF_NAME_MAX;
	length = name_length(c->name, MIN(length, (size_t)ELF_NAME_MAX));
	c->cut = c->cut && length == ELF_NAME_MAX;
	c->length = (uint16_t)length;
	c->underscores = (uint8_t)MIN(strspn(c->name, "_"), (size_t)UINT8_MAX);
	return true;
}

static int add_candidate(struct loader *l, const struct candidate *c)
{
	int r;

	if (l->n == ELF_FUNCTIONS_MAX)
		return -EFBIG;
	r = grow_array((void **)&l->candidates, &l->max, l->n + 1, sizeof(*l->candidates));
	if (r < 0)
		return r;
	l->candidates[l->n++] = *c;
	return 0;
}

/* Aliases are one function. */
static void note_allocator(struct elf_symbols *t, const struct candidate *c, const GElf_Sym *sym)
{
	struct allocator_function f;

	if (GELF_ST_TYPE(sym->st_info) != STT_FUNC || !allocator_find(c->name, c->length, &f) ||
	    (GELF_ST_BIND(sym->st_info) == STB_LOCAL && !f.unmistakable) || t->n_allocators == ELF_ALLOCATORS_MAX)
		return;
	for (size_t i = 0; i < t->n_allocators; i++)
		if (t->allocators[i].offset == c->start) {
			t->allocators[i].cxx &= f.cxx;
			return;
		}
	t->allocators[t->n_allocators++] = (struct elf_allocator){ .offset = c->start, .size = c->size, .call = f.call, .cxx = f.cxx };
}

static int add_symbol(struct loader *l, const struct image *image, const GElf_Sym *sym, const Elf_Data *strings)
{
	unsigned type = GELF_ST_TYPE(sym->st_info);
	struct candidate c = { .start = sym->st_value, .rank = (uint8_t)rank(GELF_ST_BIND(sym->st_info)) };

	if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE)
		return 0;
	if (sym->st_shndx == SHN_UNDEF || sym->st_shndx >= image->n_sections || !image->executable[sym->st_shndx])
		return 0;
	if (sym->st_size == 0 || sym->st_size > UINT32_MAX || sym->st_value > INT64_MAX)
		return 0;
	if (l->machine == EM_ARM && type == STT_FUNC)
		c.start &= ~1ULL; /* the bit says Thumb */
	c.size = (uint32_t)sym->st_size;
	if (!take_name(&c, strings, sym->st_name))
		return 0;
	note_allocator(l->table, &c, sym);
	return add_candidate(l, &c);
}

static int read_symbols(struct loader *l, const struct image *image, Elf_Scn *section, const GElf_Shdr *header)
{
	size_t entry = gelf_fsize(image->elf, ELF_T_SYM, 1, EV_CURRENT), n;
	Elf_Scn *string_section = elf_getscn(image->elf, header->sh_link);
	Elf_Data *data, *strings;
	GElf_Shdr string_header;

	if (header->sh_entsize != entry || !within(header->sh_offset, header->sh_size, image->size))
		return -EBADMSG;
	if (!string_section || !gelf_getshdr(string_section, &string_header) ||
	    string_header.sh_type != SHT_STRTAB ||
	    !within(string_header.sh_offset, string_header.sh_size, image->size))
		return -EBADMSG;
	if (header->sh_size > ELF_SYMTAB_MAX || string_header.sh_size > ELF_STRTAB_MAX)
		return -EFBIG;

	errno = 0;
	data = elf_getdata(section, NULL);
	strings = elf_getdata(string_section, NULL);
	if (!data || !strings)
		return libelf_error();
	if (!data->d_buf || !strings->d_buf)
		return 0;

	n = MIN(data->d_size / entry, (size_t)INT32_MAX);
	for (size_t i = 1; i < n; i++) {
		GElf_Sym sym;
		int r;

		if (!gelf_getsym(data, (int)i, &sym))
			return -EBADMSG;
		r = add_symbol(l, image, &sym, strings);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_stub(void *userdata, const struct elf_stub *stub)
{
	struct candidate c = { .start = stub->start, .size = stub->size, .rank = RANK_STUB, .is_stub = true };

	return take_name(&c, stub->strings, stub->name) ? add_candidate(userdata, &c) : 0;
}

/* A name, padded to four bytes, and a checksum. */
static void read_link(struct loader *l, Elf_Scn *section, const GElf_Shdr *h)
{
	struct elf_symbols *t = l->table;
	Elf_Data *data = h->sh_size <= ELF_LINK_MAX + 8 ? elf_rawdata(section, NULL) : NULL;
	const uint8_t *crc;
	size_t n;

	if (!data || !data->d_buf)
		return;
	n = strnlen(data->d_buf, data->d_size);
	if (n == 0 || n >= ELF_LINK_MAX || (n / 4 + 1) * 4 + 4 > data->d_size || memchr(data->d_buf, '/', n))
		return;
	memcpy(t->link, data->d_buf, n);
	crc = (const uint8_t *)data->d_buf + (n / 4 + 1) * 4;
	t->link_crc = (uint32_t)crc[0] | (uint32_t)crc[1] << 8 | (uint32_t)crc[2] << 16 | (uint32_t)crc[3] << 24;
}

static int read_sections(struct loader *l, enum image_kind kind)
{
	struct image *image = &l->images[kind];
	Elf_Scn *section = NULL, *tables[2] = {}; /* .symtab, .dynsym: the linker makes one of each */
	GElf_Shdr headers[2], h;
	size_t names = 0;

	if (elf_getshdrnum(image->elf, &image->n_sections) < 0)
		return -EBADMSG;
	image->executable = calloc(MAX(image->n_sections, (size_t)1), sizeof(bool));
	if (!image->executable)
		return -ENOMEM;
	(void)elf_getshdrstrndx(image->elf, &names);

	while ((section = elf_nextscn(image->elf, section))) {
		size_t index = elf_ndxscn(section), which;

		if (!gelf_getshdr(section, &h) || index >= image->n_sections)
			return -EBADMSG;
		image->executable[index] = h.sh_flags & SHF_EXECINSTR;
		if (kind == IMAGE_FILE && h.sh_type == SHT_NOTE && h.sh_size <= NOTES_MAX &&
		    within(h.sh_offset, h.sh_size, image->size))
			take_build_id(l->table, elf_getdata(section, NULL));
		if (h.sh_type == SHT_PROGBITS && !(h.sh_flags & SHF_ALLOC)) {
			const char *name = elf_strptr(image->elf, names, h.sh_name);

			if (name && streq(name, ".gnu_debugdata"))
				image->minidebug = section;
			if (name && kind == IMAGE_FILE && streq(name, ".gnu_debuglink"))
				read_link(l, section, &h);
		}
		if (h.sh_type != SHT_SYMTAB && h.sh_type != SHT_DYNSYM)
			continue;
		which = h.sh_type == SHT_DYNSYM;
		if (!tables[which]) {
			tables[which] = section;
			headers[which] = h;
		}
	}
	image->has_symtab = tables[0];
	for (size_t i = 0; i < ELEMENTS_OF(tables); i++) {
		int r = tables[i] ? read_symbols(l, image, tables[i], &headers[i]) : 0;

		if (r < 0)
			return r;
	}
	return kind == IMAGE_FILE && tables[1]
		? elf_plt_read(image->elf, image->size, l->machine, tables[1], add_stub, l)
		: 0;
}

/* Half a table would say of what is in the other half that it has no name. */
static int read_all_or_nothing(struct loader *l, enum image_kind kind)
{
	size_t before = l->n;
	int r = read_sections(l, kind);

	if (r < 0)
		l->n = before;
	return r == -ENOMEM ? r : 0;
}

/* More names, if they are there and well-formed; without them those of the file are still right. */
static int load_minidebug(struct loader *l)
{
	struct image *file = &l->images[IMAGE_FILE], *mini = &l->images[IMAGE_MINIDEBUG];
	size_t size;
	int r;

	if (file->has_symtab || !file->minidebug)
		return 0;
	r = elf_minidebug_read(file->minidebug, file->size, &mini->memory, &size);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	if (size < HEADER_SIZE || check_header(mini->memory) < 0)
		return 0;
	mini->size = size;
	errno = 0;
	mini->elf = elf_memory(mini->memory, size);
	if (!mini->elf || elf_kind(mini->elf) != ELF_K_ELF)
		return libelf_error() == -ENOMEM ? -ENOMEM : 0;
	return read_all_or_nothing(l, IMAGE_MINIDEBUG);
}

static bool has_build_id(const struct elf_symbols *t, const struct image *debug, bool *ret_other)
{
	uint8_t id[ELF_BUILD_ID_MAX];
	Elf_Scn *section = NULL;
	GElf_Shdr h;

	*ret_other = false;
	while ((section = elf_nextscn(debug->elf, section))) {
		size_t n;

		if (!gelf_getshdr(section, &h) || h.sh_type != SHT_NOTE || h.sh_size > NOTES_MAX ||
		    !within(h.sh_offset, h.sh_size, debug->size))
			continue;
		n = find_build_id(elf_getdata(section, NULL), id);
		if (n == 0)
			continue;
		*ret_other = n != t->build_id_size || memcmp(id, t->build_id, n) != 0;
		return !*ret_other;
	}
	return false;
}

static bool has_checksum(int fd, uint64_t size, uint32_t expected)
{
	static uint8_t buffer[256 << 10];
	uint32_t crc = 0;

	for (uint64_t at = 0; at < size;) {
		ssize_t n = pread(fd, buffer, sizeof(buffer), (off_t)at);

		if (n <= 0)
			return false;
		crc = lzma_crc32(buffer, (size_t)n, crc);
		at += (uint64_t)n;
	}
	return crc == expected;
}

/* As load_minidebug(). */
static int load_debug(struct loader *l, int fd)
{
	struct image *debug = &l->images[IMAGE_DEBUG];
	const struct elf_symbols *t = l->table;
	uint8_t start[HEADER_SIZE];
	struct stat st;
	bool other;

	if (l->images[IMAGE_FILE].has_symtab || fd < 0)
		return 0;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    pread(fd, start, sizeof(start), 0) != (ssize_t)sizeof(start) || check_header(start) < 0)
		return 0;
	debug->size = (uint64_t)st.st_size;
	errno = 0;
	debug->elf = elf_begin(fd, ELF_C_READ, NULL);
	if (!debug->elf || elf_kind(debug->elf) != ELF_K_ELF)
		return libelf_error() == -ENOMEM ? -ENOMEM : 0;
	if (!has_build_id(t, debug, &other) &&
	    ((other && t->build_id_size > 0) || t->link[0] == '\0' || debug->size > ELF_DEBUG_MAX ||
	     !has_checksum(fd, debug->size, t->link_crc)))
		return 0;
	return read_all_or_nothing(l, IMAGE_DEBUG);
}

static int load(struct loader *l, int fd, int debug_fd)
{
	struct image *file = &l->images[IMAGE_FILE];
	uint8_t start[HEADER_SIZE];
	GElf_Ehdr header;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return negative_errno();
	if (!S_ISREG(st.st_mode) || pread(fd, start, sizeof(start), 0) != (ssize_t)sizeof(start))
		return -ENOEXEC;
	file->size = (uint64_t)st.st_size;
	r = check_header(start);
	if (r < 0)
		return r;

	elf_version(EV_CURRENT);
	errno = 0;
	file->elf = elf_begin(fd, ELF_C_READ, NULL);
	if (!file->elf)
		return libelf_error();
	if (elf_kind(file->elf) != ELF_K_ELF || !gelf_getehdr(file->elf, &header) ||
	    (header.e_type != ET_EXEC && header.e_type != ET_DYN))
		return -ENOEXEC;
	l->machine = header.e_machine;

	r = read_segments(l);
	if (r >= 0)
		r = read_sections(l, IMAGE_FILE);
	l->table->stripped = !file->has_symtab;
	if (r >= 0)
		r = load_debug(l, debug_fd);
	if (r >= 0)
		r = load_minidebug(l);
	if (r < 0)
		return r;
	return symbol_pieces_cut(&l->table->pieces, l->candidates, l->n);
}

int elf_symbols_load(struct elf_symbols **ret, int fd, int debug_fd)
{
	_cleanup_(elf_symbols_freep) struct elf_symbols *t = calloc(1, sizeof(*t));
	struct loader l = { .table = t };
	int r;

	if (!t)
		return -ENOMEM;
	r = load(&l, fd, debug_fd);
	for (size_t i = 0; i < IMAGE_N; i++) {
		elf_end(l.images[i].elf);
		free(l.images[i].executable);
		free(l.images[i].memory);
	}
	free(l.candidates);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

struct elf_symbols *elf_symbols_free(struct elf_symbols *t)
{
	if (!t)
		return NULL;
	symbol_pieces_done(&t->pieces);
	free(t);
	return NULL;
}

size_t elf_symbols_bytes(const struct elf_symbols *t)
{
	return sizeof(*t) + symbol_pieces_bytes(&t->pieces);
}

/* By address until here; false: no segment holds it. */
static bool to_offset(const struct elf_symbols *t, uint64_t address, uint64_t *ret)
{
	for (size_t i = 0; i < t->n_segments; i++) {
		const struct segment *s = &t->segments[i];

		if (s->executable && address >= s->address && address - s->address < s->size) {
			*ret = address - s->address + s->offset;
			return true;
		}
	}
	return false;
}

size_t elf_symbols_allocators(const struct elf_symbols *t, struct elf_allocator ret[static ELF_ALLOCATORS_MAX])
{
	bool allocates = false;
	size_t n = 0;

	for (size_t i = 0; i < t->n_allocators; i++)
		allocates |= !t->allocators[i].cxx && t->allocators[i].call != HEAP_FREE;
	for (size_t i = 0; allocates && i < t->n_allocators; i++) {
		ret[n] = t->allocators[i];
		if (to_offset(t, t->allocators[i].offset, &ret[n].offset))
			n++;
	}
	return n;
}

size_t elf_symbols_build_id(const struct elf_symbols *t, uint8_t ret[static ELF_BUILD_ID_MAX])
{
	memcpy(ret, t->build_id, t->build_id_size);
	return t->build_id_size;
}

bool elf_symbols_is_stripped(const struct elf_symbols *t, const char **ret_link)
{
	*ret_link = t->link;
	return t->stripped;
}

/* Mappings are whole pages, so an executable one may show a little more than its segment holds; that little
 * is only looked at when no segment holds the offset itself. */
static const struct segment *find_segment(const struct elf_symbols *t, uint64_t offset, uint64_t *ret_from,
					  uint64_t *ret_to)
{
	for (int pass = 0; pass < 3; pass++)
		for (size_t i = 0; i < t->n_segments; i++) {
			const struct segment *s = &t->segments[i];
			uint64_t from = s->offset, to = s->offset + s->size, slack;

			if (s->executable != (pass != 1))
				continue;
			if (pass == 2) {
				slack = MIN(from % PAGE_MAX, s->address);
				from -= slack;
				to += PAGE_MAX;
			}
			if (offset < from || offset >= to)
				continue;
			*ret_from = pass == 2 ? offset : from;
			*ret_to = pass == 2 ? offset + 1 : to;
			return s;
		}
	return NULL;
}

void elf_symbols_lookup(const struct elf_symbols *t, uint64_t offset, struct elf_symbol *ret)
{
	uint64_t from = 0, to = 0, a;
	const struct segment *s = find_segment(t, offset, &from, &to);

	*ret = (struct elf_symbol){
		.address = offset, .valid_start = offset, .valid_end = offset + 1, .name = ""
	};
	if (!s)
		return;

	a = s->address + offset - s->offset;
	ret->address = a;
	ret->valid_start = s->address + from - s->offset;
	ret->valid_end = s->address + to - s->offset;

	symbol_pieces_find(&t->pieces, a, ret);
}

#define HASH_ENDS 65536
#define HASH_BLOCK 4096
#define HASH_BLOCKS 64

int elf_content_hash(int fd, uint64_t *ret)
{
	_cleanup_free_ uint8_t *buffer = malloc(HASH_ENDS);
	struct stat st;
	uint64_t h, size;

	if (!buffer)
		return -ENOMEM;
	if (fstat(fd, &st) < 0)
		return negative_errno();
	size = (uint64_t)st.st_size;
	h = hash64(&size, sizeof(size), 0);
	for (unsigned i = 0; i < HASH_BLOCKS + 2; i++) {
		size_t block = i < 2 ? HASH_ENDS : HASH_BLOCK;
		uint64_t at = i == 0 ? 0
			: i == 1     ? size - MIN(size, (uint64_t)HASH_ENDS)
				     : size / HASH_BLOCKS * (i - 2);
		ssize_t n = pread(fd, buffer, block, (off_t)at);

		if (n < 0)
			return negative_errno();
		h = hash64(buffer, (size_t)n, h);
	}
	*ret = h;
	return 0;
}
