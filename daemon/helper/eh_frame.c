/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <elf.h>

#include "eh_frame.h"

#define PROGRAM_HEADERS_MAX 256
#define SECTIONS_MAX 4096
#define SECTION_NAMES_MAX (1U << 20) /* bytes */

/* DW_EH_PE_: how an address is written, and what it is relative to. */
#define ENCODING_FORM 0x0f
#define ENCODING_BASE 0x70
#define ENCODING_PCREL 0x10
#define ENCODING_DATAREL 0x30
#define ENCODING_INDIRECT 0x80
#define ENCODING_OMITTED 0xff

struct image {
	int fd;
	Elf64_Ehdr header;
	Elf64_Phdr segments[PROGRAM_HEADERS_MAX];
};

static int read_at(int fd, void *buffer, size_t size, uint64_t offset)
{
	char *at = buffer;

	if (offset > INT64_MAX - size)
		return -EBADMSG;
	while (size > 0) {
		ssize_t n = pread(fd, at, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? negative_errno() : -EBADMSG;
		at += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int read_image(struct image *image)
{
	Elf64_Ehdr *h = &image->header;

	if (pread(image->fd, h, sizeof(*h), 0) != (ssize_t)sizeof(*h) || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 ||
	    h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != EM_X86_64 ||
	    (h->e_type != ET_EXEC && h->e_type != ET_DYN))
		return -ENOEXEC;
	if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum > PROGRAM_HEADERS_MAX)
		return -EBADMSG;
	return read_at(image->fd, image->segments, h->e_phnum * sizeof(Elf64_Phdr), h->e_phoff);
}

static int keep_segments(struct eh_frame *f, const struct image *image)
{
	for (size_t i = 0; i < image->header.e_phnum; i++) {
		const Elf64_Phdr *p = &image->segments[i];

		if (p->p_type != PT_LOAD || !(p->p_flags & PF_X) || p->p_filesz == 0)
			continue;
		if (f->n_segments == EH_FRAME_SEGMENTS_MAX)
			return -EFBIG;
		if (p->p_vaddr >= EH_FRAME_ADDRESS_MAX || p->p_filesz >= EH_FRAME_ADDRESS_MAX ||
		    p->p_offset >= EH_FRAME_ADDRESS_MAX)
			return -EBADMSG;
		f->segments[f->n_segments++] = (struct eh_segment){
			.offset = p->p_offset,
			.size = p->p_filesz,
			.address = p->p_vaddr,
		};
	}
	return 0;
}

static bool is_executable(const struct eh_frame *f, uint64_t start, uint64_t size)
{
	for (uint32_t i = 0; i < f->n_segments; i++) {
		const struct eh_segment *s = &f->segments[i];

		if (start >= s->address && start - s->address < s->size && size <= s->size - (start - s->address))
			return true;
	}
	return false;
}

uint64_t eh_frame_address(const struct eh_frame *f, const struct cursor *c)
{
	return f->address + (uint64_t)(c->at - f->bytes);
}

/* at: the address of c; data: what DATAREL is relative to, 0 when that has no meaning. */
static bool read_address(struct cursor *c, uint8_t encoding, uint64_t at, uint64_t data, uint64_t *ret)
{
	uint64_t value;

	switch (encoding & ENCODING_FORM) {
	case 0x00:
	case 0x04:
	case 0x0c: value = read_fixed(c, 8); break;
	case 0x01: value = read_uleb128(c); break;
	case 0x02: value = read_fixed(c, 2); break;
	case 0x03: value = read_fixed(c, 4); break;
	case 0x09: value = (uint64_t)read_sleb128(c); break;
	case 0x0a: value = (uint64_t)(int16_t)read_fixed(c, 2); break;
	case 0x0b: value = (uint64_t)(int32_t)read_fixed(c, 4); break;
	default: return false;
	}
	switch (encoding & ENCODING_BASE) {
	case 0: break;
	case ENCODING_PCREL: value += at; break;
	case ENCODING_DATAREL:
		if (data == 0)
			return false;
		value += data;
		break;
	default: return false;
	}
	*ret = value;
	return !c->bad;
}

bool eh_frame_read_address(const struct eh_frame *f, struct cursor *c, uint8_t encoding, uint64_t *ret)
{
	if (encoding & ENCODING_INDIRECT)
		return false;
	return read_address(c, encoding, eh_frame_address(f, c), 0, ret);
}

/* ---- where it is ---- */

struct place {
	uint64_t offset, address, size;
};

/* -ENODATA: no section of that name; the file may be stripped of its sections. */
static int find_by_section(const struct image *image, struct place *ret)
{
	const Elf64_Ehdr *h = &image->header;
	_cleanup_free_ Elf64_Shdr *sections = NULL;
	_cleanup_free_ char *names = NULL;
	uint64_t names_size;

	if (h->e_shnum == 0 || h->e_shnum > SECTIONS_MAX || h->e_shentsize != sizeof(Elf64_Shdr) ||
	    h->e_shstrndx >= h->e_shnum)
		return -ENODATA;
	sections = calloc(h->e_shnum, sizeof(*sections));
	if (!sections)
		return -ENOMEM;
	if (read_at(image->fd, sections, h->e_shnum * sizeof(*sections), h->e_shoff) < 0)
		return -ENODATA;
	names_size = sections[h->e_shstrndx].sh_size;
	if (names_size == 0 || names_size > SECTION_NAMES_MAX)
		return -ENODATA;
	names = malloc(names_size);
	if (!names)
		return -ENOMEM;
	if (read_at(image->fd, names, names_size, sections[h->e_shstrndx].sh_offset) < 0)
		return -ENODATA;
	names[names_size - 1] = '\0';

	for (size_t i = 0; i < h->e_shnum; i++) {
		const Elf64_Shdr *s = &sections[i];

		if (s->sh_name >= names_size || !streq(names + s->sh_name, ".eh_frame") || s->sh_type == SHT_NOBITS ||
		    s->sh_flags & SHF_COMPRESSED || s->sh_size == 0)
			continue;
		*ret = (struct place){ .offset = s->sh_offset, .address = s->sh_addr, .size = s->sh_size };
		return 0;
	}
	return -ENODATA;
}

/* .eh_frame_hdr, which has a segment of its own, says where .eh_frame begins; how long it is nobody says, but it can't
 * be longer than the rest of its segment. */
static int find_by_segment(const struct image *image, struct place *ret)
{
	const Elf64_Phdr *header = NULL;
	uint8_t bytes[12]; /* version, three encodings, the address */
	struct cursor c = cursor_of(bytes, sizeof(bytes));
	uint8_t version, encoding;
	uint64_t address;

	for (size_t i = 0; i < image->header.e_phnum && !header; i++)
		if (image->segments[i].p_type == PT_GNU_EH_FRAME)
			header = &image->segments[i];
	if (!header)
		return -ENODATA;
	if (read_at(image->fd, bytes, sizeof(bytes), header->p_offset) < 0)
		return -EBADMSG;
	version = (uint8_t)read_fixed(&c, 1);
	encoding = (uint8_t)read_fixed(&c, 1);
	if (encoding == ENCODING_OMITTED)
		return -ENODATA;
	(void)read_fixed(&c, 2);
	if (version != 1 || encoding & ENCODING_INDIRECT ||
	    !read_address(&c, encoding, header->p_vaddr + 4, header->p_vaddr, &address))
		return -EBADMSG;

	for (size_t i = 0; i < image->header.e_phnum; i++) {
		const Elf64_Phdr *p = &image->segments[i];

		if (p->p_type != PT_LOAD || address < p->p_vaddr || address - p->p_vaddr >= p->p_filesz)
			continue;
		*ret = (struct place){
			.offset = p->p_offset + (address - p->p_vaddr),
			.address = address,
			.size = p->p_filesz - (address - p->p_vaddr),
		};
		return 0;
	}
	return -EBADMSG;
}

static int read_section(struct eh_frame *f, const struct image *image, bool *ret_exact)
{
	struct place place;
	int r;

	r = find_by_section(image, &place);
	*ret_exact = r == 0;
	if (r == -ENODATA)
		r = find_by_segment(image, &place);
	if (r < 0)
		return r;
	if (place.address >= EH_FRAME_ADDRESS_MAX)
		return -EBADMSG;
	if (place.size > EH_FRAME_MAX) {
		if (*ret_exact)
			return -EFBIG;
		place.size = EH_FRAME_MAX;
	}
	f->address = place.address;
	f->size = place.size;
	f->bytes = malloc(f->size);
	if (!f->bytes)
		return -ENOMEM;
	return read_at(image->fd, f->bytes, f->size, place.offset);
}

/* ---- entries ---- */

/* What is in the entry at an offset, behind its length; its end is the entry's. False: it doesn't fit, or there is
 * nothing in it. */
static bool open_entry(const struct eh_frame *f, uint64_t offset, struct cursor *ret)
{
	struct cursor c = cursor_of(f->bytes + offset, f->size - offset);
	uint64_t length = read_fixed(&c, 4);

	if (length == UINT32_MAX)
		length = read_fixed(&c, 8);
	*ret = read_block(&c, length);
	return !c.bad && length >= 4;
}

static bool read_augmentation(const struct eh_frame *f, const char *letters, struct cursor c, struct cie *cie)
{
	for (; *letters; letters++)
		switch (*letters) {
		case 'R': cie->encoding = (uint8_t)read_fixed(&c, 1); break;
		case 'L': (void)read_fixed(&c, 1); break;
		case 'P': {
			/* Where the personality routine is, or where that is said: we only need its length. */
			uint8_t encoding = (uint8_t)read_fixed(&c, 1) & (uint8_t)~ENCODING_INDIRECT;
			uint64_t personality;

			if (!eh_frame_read_address(f, &c, encoding, &personality))
				return false;
			break;
		}
		case 'S': cie->is_signal_frame = true; break;
		default: return false;
		}
	return !c.bad;
}

static bool read_cie(const struct eh_frame *f, uint32_t offset, struct cie *ret)
{
	struct cie cie = {};
	const char *letters;
	struct cursor c;
	uint64_t version;

	if (offset >= f->size || !open_entry(f, offset, &c) || cursor_left(&c) > EH_FRAME_CIE_MAX ||
	    read_fixed(&c, 4) != 0)
		return false;
	version = read_fixed(&c, 1);
	letters = read_string(&c);
	if (!letters || (version != 1 && version != 3))
		return false;
	cie.code_factor = read_uleb128(&c);
	cie.data_factor = read_sleb128(&c);
	cie.return_register = version == 1 ? read_fixed(&c, 1) : read_uleb128(&c);
	if (*letters == 'z') {
		uint64_t size = read_uleb128(&c);

		cie.has_data = true;
		if (!read_augmentation(f, letters + 1, read_block(&c, size), &cie))
			return false;
	} else if (*letters) {
		return false;
	}
	cie.instructions = c;
	*ret = cie;
	return !c.bad;
}

const struct cie *eh_frame_cie(struct eh_frame *f, uint32_t offset)
{
	if (offset != f->cie_at) {
		f->cie_at = UINT64_MAX;
		if (!read_cie(f, offset, &f->cie))
			return NULL;
		f->cie_at = offset;
	}
	return &f->cie;
}

static bool read_fde(struct eh_frame *f, uint32_t cie_offset, struct cursor c, struct fde *ret)
{
	const struct cie *cie = eh_frame_cie(f, cie_offset);
	uint64_t start, size;

	if (!cie || !eh_frame_read_address(f, &c, cie->encoding, &start) ||
	    !read_address(&c, cie->encoding & ENCODING_FORM, 0, 0, &size))
		return false;
	if (cie->has_data) {
		uint64_t data_size = read_uleb128(&c);

		(void)read_block(&c, data_size);
	}
	/* Also those of functions that the linker has thrown away, which are left over at address 0. */
	if (c.bad || size == 0 || !is_executable(f, start, size))
		return false;
	*ret = (struct fde){
		.start = start,
		.end = start + size,
		.cie = cie_offset,
		.instructions = (uint32_t)(c.at - f->bytes),
		.instructions_end = (uint32_t)(c.end - f->bytes),
	};
	return true;
}

static int add_function(struct eh_frame *f, const struct fde *fde)
{
	if (f->n_functions == f->max_functions) {
		size_t max = MAX(2 * f->max_functions, (size_t)1024);
		struct fde *p = f->n_functions < EH_FRAME_FUNCTIONS_MAX
			? reallocarray(f->functions, max, sizeof(*p))
			: NULL;

		if (!p)
			return f->n_functions < EH_FRAME_FUNCTIONS_MAX ? -ENOMEM : -EFBIG;
		f->functions = p;
		f->max_functions = max;
	}
	f->functions[f->n_functions++] = *fde;
	return 0;
}

static int compare_functions(const void *a, const void *b)
{
	const struct fde *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->end < y->end) - (x->end > y->end);
}

/* exact: where it ends is known; else the first entry of no length ends it. */
static int read_functions(struct eh_frame *f, bool exact)
{
	uint64_t offset = 0;
	bool sorted = true;

	while (f->size - offset >= 4) {
		struct cursor c;
		struct fde fde;
		uint64_t field, id;

		if (!open_entry(f, offset, &c)) {
			/* Object files behind the one that ends the list may have entries, too. */
			if (!exact || memcmp(f->bytes + offset, "\0\0\0\0", 4) != 0)
				break;
			offset += 4;
			continue;
		}
		field = (uint64_t)(c.at - f->bytes);
		offset = (uint64_t)(c.end - f->bytes);
		id = read_fixed(&c, 4);
		if (id == 0)
			continue; /* a CIE: read when it is needed */
		if (id <= field && read_fde(f, (uint32_t)(field - id), c, &fde)) {
			int r = add_function(f, &fde);

			if (r < 0)
				return r;
			sorted = sorted &&
				(f->n_functions == 1 || compare_functions(&f->functions[f->n_functions - 2], &fde) <= 0);
		} else {
			f->n_skipped++;
		}
	}
	if (!exact && f->size == EH_FRAME_MAX && f->size - offset < 4)
		return -EFBIG;
	f->size = exact ? f->size : offset;
	if (f->n_functions == 0)
		return -ENODATA;
	if (!sorted)
		qsort(f->functions, f->n_functions, sizeof(*f->functions), compare_functions);
	return 0;
}

int eh_frame_load(struct eh_frame *f, int fd)
{
	struct image image = { .fd = fd };
	bool exact;
	int r;

	*f = (struct eh_frame){ .cie_at = UINT64_MAX };
	r = read_image(&image);
	if (r >= 0)
		r = keep_segments(f, &image);
	if (r >= 0)
		r = read_section(f, &image, &exact);
	return r < 0 ? r : read_functions(f, exact);
}

void eh_frame_free(struct eh_frame *f)
{
	free(f->bytes);
	free(f->functions);
}
