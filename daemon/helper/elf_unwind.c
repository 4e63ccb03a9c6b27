/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <elf.h>

#include "elf_unwind.h"

#define PHDRS_MAX 256
#define FUNCTIONS_MAX (4U << 20)
#define PAGES_MAX 65535U      /* 4 GiB of code */
#define RULES_MAX 65535U
#define RULE_SLOTS (1U << 17) /* a power of two, twice the rules */
#define REMEMBERED_MAX 32     /* states; compilers nest two deep */
#define PADDING_MAX 15        /* what is between functions for alignment is never executed: no row says so */
#define ADDRESS_MAX (1ULL << 47)

enum { REG_RBP = 6, REG_RSP = 7, REG_RIP = 16 };

/* Call frame instructions (DW_CFA_) and operations of expressions (DW_OP_) by their standard numbers. */
enum {
	CFA_ADVANCE_LOC = 0x40, CFA_OFFSET = 0x80, CFA_RESTORE = 0xc0, CFA_NOP = 0x00, CFA_SET_LOC = 0x01, CFA_ADVANCE_LOC1 = 0x02,
	CFA_ADVANCE_LOC2 = 0x03, CFA_ADVANCE_LOC4 = 0x04, CFA_OFFSET_EXTENDED = 0x05, CFA_RESTORE_EXTENDED = 0x06,
	CFA_UNDEFINED = 0x07, CFA_SAME_VALUE = 0x08, CFA_REGISTER = 0x09, CFA_REMEMBER_STATE = 0x0a, CFA_RESTORE_STATE = 0x0b,
	CFA_DEF_CFA = 0x0c, CFA_DEF_CFA_REGISTER = 0x0d, CFA_DEF_CFA_OFFSET = 0x0e, CFA_DEF_CFA_EXPRESSION = 0x0f,
	CFA_EXPRESSION = 0x10, CFA_OFFSET_EXTENDED_SF = 0x11, CFA_DEF_CFA_SF = 0x12, CFA_DEF_CFA_OFFSET_SF = 0x13,
	CFA_VAL_OFFSET = 0x14, CFA_VAL_OFFSET_SF = 0x15, CFA_VAL_EXPRESSION = 0x16, CFA_GNU_ARGS_SIZE = 0x2e,
	CFA_GNU_NEGATIVE_OFFSET_EXTENDED = 0x2f,
};
enum { OP_DEREF = 0x06, OP_AND = 0x1a, OP_PLUS = 0x22, OP_PLUS_UCONST = 0x23, OP_SHL = 0x24, OP_GE = 0x2a, OP_LIT0 = 0x30, OP_BREG0 = 0x70 };

/* ---- reading, within bounds ---- */

struct cursor {
	const uint8_t *at, *end;
	bool bad; /* something was read beyond the end: all that was read is 0 */
};

static uint64_t read_fixed(struct cursor *c, size_t size)
{
	uint64_t value = 0;

	if ((size_t)(c->end - c->at) < size) {
		c->bad = true;
		c->at = c->end;
		return 0;
	}
	memcpy(&value, c->at, size);
	c->at += size;
	return value;
}

static uint64_t read_uleb(struct cursor *c)
{
	uint64_t value = 0, byte;
	unsigned shift = 0;

	do {
		byte = read_fixed(c, 1);
		if (shift < 64)
			value |= (byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	return value;
}

static int64_t read_sleb(struct cursor *c)
{
	uint64_t value = 0, byte;
	unsigned shift = 0;

	do {
		byte = read_fixed(c, 1);
		if (shift < 64)
			value |= (byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	if (shift < 64 && byte & 0x40)
		value |= ~UINT64_C(0) << shift;
	return (int64_t)value;
}

static struct cursor read_block(struct cursor *c, uint64_t size)
{
	struct cursor block = { c->at, c->at, false };

	if (size > (uint64_t)(c->end - c->at)) {
		c->bad = true;
		c->at = c->end;
		return block;
	}
	c->at += size;
	block.end = c->at;
	return block;
}

/* ---- the file ---- */

struct section {
	uint64_t address, size;
	uint8_t *bytes;
};

struct image {
	size_t n_phdrs;
	Elf64_Phdr phdrs[PHDRS_MAX];
};

static int read_at(int fd, void *buffer, size_t size, uint64_t offset)
{
	char *at = buffer;

	while (size > 0) {
		ssize_t n = pread(fd, at, size, (off_t)offset);

		if (n <= 0)
			return n < 0 ? negative_errno() : -EBADMSG;
		at += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int read_image(int fd, struct image *image)
{
	Elf64_Ehdr h;

	if (pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) || memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 ||
	    h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_ident[EI_DATA] != ELFDATA2LSB || h.e_machine != EM_X86_64 ||
	    (h.e_type != ET_EXEC && h.e_type != ET_DYN))
		return -ENOEXEC;
	if (h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phnum > PHDRS_MAX || h.e_phoff > INT64_MAX)
		return -EBADMSG;
	image->n_phdrs = h.e_phnum;
	return read_at(fd, image->phdrs, h.e_phnum * sizeof(Elf64_Phdr), h.e_phoff);
}

/* The segment in whose part of the file the address is. */
static const Elf64_Phdr *find_segment(const struct image *image, uint64_t address)
{
	for (size_t i = 0; i < image->n_phdrs; i++) {
		const Elf64_Phdr *p = &image->phdrs[i];

		if (p->p_type == PT_LOAD && address >= p->p_vaddr && address - p->p_vaddr < p->p_filesz &&
		    p->p_offset <= INT64_MAX && p->p_filesz <= INT64_MAX - p->p_offset && p->p_vaddr < ADDRESS_MAX)
			return p;
	}
	return NULL;
}

#define ENCODING_OMITTED 0xff
#define ENCODING_PCREL 0x10
#define ENCODING_DATAREL 0x30

/* A pointer as DW_EH_PE_... encodes it, read at address `at`. False: an encoding that no file of ours uses. */
static bool read_pointer(struct cursor *c, uint8_t encoding, uint64_t at, uint64_t data, uint64_t *ret)
{
	uint64_t value;

	switch (encoding & 0x0f) {
	case 0x00: case 0x04: case 0x0c: value = read_fixed(c, 8); break;
	case 0x01: value = read_uleb(c); break;
	case 0x02: value = read_fixed(c, 2); break;
	case 0x03: value = read_fixed(c, 4); break;
	case 0x09: value = (uint64_t)read_sleb(c); break;
	case 0x0a: value = (uint64_t)(int16_t)read_fixed(c, 2); break;
	case 0x0b: value = (uint64_t)(int32_t)read_fixed(c, 4); break;
	default: return false;
	}
	switch (encoding & 0xf0) {
	case 0: break;
	case ENCODING_PCREL: value += at; break;
	case ENCODING_DATAREL: value += data; break;
	default: return false;
	}
	*ret = value;
	return !c->bad;
}

/* .eh_frame is found by way of .eh_frame_hdr, which says where it begins; it ends with an entry of no length, or its segment. */
static int read_eh_frame(int fd, const struct image *image, struct section *ret)
{
	const Elf64_Phdr *header = NULL, *segment;
	uint8_t bytes[12] = {};
	struct cursor c = { bytes, bytes + sizeof(bytes), false };
	uint64_t address, size;
	uint8_t encoding;
	int r;

	for (size_t i = 0; i < image->n_phdrs; i++)
		if (image->phdrs[i].p_type == PT_GNU_EH_FRAME)
			header = &image->phdrs[i];
	if (!header)
		return -ENODATA;
	if (header->p_offset > INT64_MAX || read_at(fd, bytes, sizeof(bytes), header->p_offset) < 0 || read_fixed(&c, 1) != 1)
		return -EBADMSG;
	encoding = (uint8_t)read_fixed(&c, 1);
	(void)read_fixed(&c, 2);
	if (encoding == ENCODING_OMITTED)
		return -ENODATA;
	if (!read_pointer(&c, encoding, header->p_vaddr + 4, header->p_vaddr, &address))
		return -EBADMSG;
	segment = find_segment(image, address);
	if (!segment)
		return -EBADMSG;
	size = segment->p_filesz - (address - segment->p_vaddr);
	*ret = (struct section){ .address = address, .size = MIN(size, ELF_EH_FRAME_MAX) };
	ret->bytes = malloc(ret->size);
	if (!ret->bytes)
		return -ENOMEM;
	r = read_at(fd, ret->bytes, ret->size, segment->p_offset + (address - segment->p_vaddr));
	if (r < 0)
		free(ret->bytes);
	return r;
}

/* ---- entries ---- */

struct cie {
	uint64_t code_factor;
	int64_t data_factor;
	uint64_t return_register;
	uint8_t encoding;
	bool augmented; /* FDEs have augmentation data */
	bool signal;
	struct cursor instructions;
};

struct function {
	uint64_t start, end;
	uint64_t cie; /* offsets into the section */
	uint64_t instructions, instructions_end;
};

enum kept { KEPT_SAME, KEPT_UNDEFINED, KEPT_AT_CFA, KEPT_EXPRESSION, KEPT_OTHERWISE };

struct saved {
	enum kept kept;
	int64_t offset;
	struct cursor expression;
};

struct state {
	uint64_t cfa_register;
	int64_t cfa_offset;
	struct cursor cfa_expression; /* used when by_expression */
	bool by_expression;
	struct saved rbp, rip;
};

/* What runs call frame instructions. */
struct machine {
	struct state now, initial, remembered[REMEMBERED_MAX];
	size_t n_remembered;
	uint64_t address, end;
	struct table *table; /* NULL: the common part is run, which makes no rows */
};

struct reader {
	struct section section;
	struct function *functions;
	size_t n_functions, max_functions;
	uint32_t n_skipped;
	uint64_t bytes;     /* how much of the section there was */
	uint64_t cie_offset; /* of the one read last; UINT64_MAX: none */
	struct cie cie;
	struct machine machine;
};

/* The entry at an offset, without its length. Gives its end, or 0 for the last one. */
static uint64_t entry_at(const struct reader *r, uint64_t offset, struct cursor *ret)
{
	struct cursor c = { r->section.bytes + offset, r->section.bytes + r->section.size, false };
	uint64_t length = read_fixed(&c, 4);

	if (length == UINT32_MAX)
		length = read_fixed(&c, 8);
	if (c.bad || length < 4 || length > (uint64_t)(c.end - c.at))
		return 0;
	c.end = c.at + length;
	*ret = c;
	return (uint64_t)(c.end - r->section.bytes);
}

static bool read_augmentation(struct cie *cie, const char *letters, struct cursor c, uint64_t address)
{
	uint64_t personality;

	for (; *letters; letters++)
		switch (*letters) {
		case 'R': cie->encoding = (uint8_t)read_fixed(&c, 1); break;
		case 'L': (void)read_fixed(&c, 1); break;
		case 'S': cie->signal = true; break;
		case 'B': break;
		case 'P': {
			uint8_t encoding = (uint8_t)read_fixed(&c, 1);

			if (!read_pointer(&c, encoding & 0x7f, address, 0, &personality))
				return false;
			break;
		}
		default: return false;
		}
	return !c.bad;
}

static bool read_cie(struct reader *r, uint64_t offset)
{
	struct cie cie = {};
	struct cursor c;
	uint64_t version;
	const char *letters;

	if (offset == r->cie_offset)
		return true;
	if (offset >= r->section.size || !entry_at(r, offset, &c) || read_fixed(&c, 4) != 0)
		return false;
	version = read_fixed(&c, 1);
	letters = (const char *)c.at;
	c.at = memchr(c.at, 0, (size_t)(c.end - c.at));
	if (!c.at || (version != 1 && version != 3))
		return false;
	c.at++;
	cie.code_factor = read_uleb(&c);
	cie.data_factor = read_sleb(&c);
	cie.return_register = version == 1 ? read_fixed(&c, 1) : read_uleb(&c);
	if (*letters == 'z') {
		struct cursor data = read_block(&c, read_uleb(&c));

		cie.augmented = true;
		if (!read_augmentation(&cie, letters + 1, data, r->section.address + (uint64_t)(data.at - r->section.bytes)))
			return false;
	} else if (*letters) {
		return false;
	}
	if (c.bad)
		return false;
	cie.instructions = c;
	r->cie = cie;
	r->cie_offset = offset;
	return true;
}

static int add_function(struct reader *r, const struct function *f)
{
	if (r->n_functions == FUNCTIONS_MAX)
		return -EFBIG;
	if (r->n_functions == r->max_functions) {
		size_t max = r->max_functions ? 2 * r->max_functions : 1024;
		struct function *p = reallocarray(r->functions, max, sizeof(*p));

		if (!p)
			return -ENOMEM;
		r->functions = p;
		r->max_functions = max;
	}
	r->functions[r->n_functions++] = *f;
	return 0;
}

/* What isn't understood is skipped and counted. */
static int read_fde(struct reader *r, struct cursor c, uint64_t cie_offset)
{
	uint64_t at = r->section.address + (uint64_t)(c.at - r->section.bytes), size;
	struct function f = { .cie = cie_offset };

	if (!read_cie(r, cie_offset) || !read_pointer(&c, r->cie.encoding, at, 0, &f.start) ||
	    !read_pointer(&c, r->cie.encoding & 0x0f, 0, 0, &size))
		goto skip;
	if (r->cie.augmented)
		(void)read_block(&c, read_uleb(&c));
	/* Functions that the linker has thrown away are left over at 0. */
	if (c.bad || f.start == 0 || size == 0 || f.start >= ADDRESS_MAX || size >= ADDRESS_MAX)
		goto skip;
	f.end = f.start + size;
	f.instructions = (uint64_t)(c.at - r->section.bytes);
	f.instructions_end = (uint64_t)(c.end - r->section.bytes);
	return add_function(r, &f);
skip:
	r->n_skipped++;
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct function *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

static int read_functions(struct reader *r)
{
	uint64_t offset = 0, next;
	struct cursor c;

	r->cie_offset = UINT64_MAX;
	while (offset < r->section.size && (next = entry_at(r, offset, &c)) > 0) {
		uint64_t field = (uint64_t)(c.at - r->section.bytes), id = read_fixed(&c, 4);

		if (id != 0 && id <= field) {
			int error = read_fde(r, c, field - id);

			if (error < 0)
				return error;
		}
		offset = next;
	}
	r->bytes = offset;
	if (r->n_functions == 0)
		return -ENODATA;
	qsort(r->functions, r->n_functions, sizeof(*r->functions), by_start);
	return 0;
}

/* ---- the table ---- */

struct table {
	uint64_t first_address, max_rows;
	struct unwind_table_page *pages;
	uint32_t n_pages, max_pages;
	struct unwind_rule *rules;
	uint32_t n_rules, max_rules;
	uint32_t *slots; /* hash of a rule → its index + 1 */
	struct unwind_row *rows;
	uint32_t n_rows, max_rows_allocated;
	uint16_t last_rule;
	uint32_t n_unsupported;
};

static int grow(void **array, uint32_t *max, uint32_t need, size_t element)
{
	uint32_t wanted = MAX(*max, 256u);
	void *p;

	if (need <= *max)
		return 0;
	while (wanted < need)
		wanted *= 2;
	p = reallocarray(*array, wanted, element);
	if (!p)
		return -ENOMEM;
	*array = p;
	*max = wanted;
	return 0;
}

static int find_rule(struct table *t, const struct unwind_rule *rule, uint16_t *ret)
{
	uint32_t slot = (uint32_t)hash64(rule, sizeof(*rule), 0) % RULE_SLOTS;
	int r;

	for (; t->slots[slot]; slot = (slot + 1) % RULE_SLOTS)
		if (memcmp(&t->rules[t->slots[slot] - 1], rule, sizeof(*rule)) == 0) {
			*ret = (uint16_t)(t->slots[slot] - 1);
			return 0;
		}
	if (t->n_rules == RULES_MAX)
		return -EFBIG;
	r = grow((void **)&t->rules, &t->max_rules, t->n_rules + 1, sizeof(*t->rules));
	if (r < 0)
		return r;
	t->rules[t->n_rules] = *rule;
	t->slots[slot] = ++t->n_rules;
	*ret = (uint16_t)(t->n_rules - 1);
	return 0;
}

static int put_row(struct table *t, uint16_t address, uint16_t rule)
{
	struct unwind_table_page *page = &t->pages[t->n_pages - 1];
	int r;

	if (page->n_rows > 0 && t->rows[t->n_rows - 1].address == address) {
		t->rows[t->n_rows - 1].rule = rule;
		return 0;
	}
	if (t->n_rows == t->max_rows)
		return -EFBIG;
	r = grow((void **)&t->rows, &t->max_rows_allocated, t->n_rows + 1, sizeof(*t->rows));
	if (r < 0)
		return r;
	if (page->n_rows == 0)
		page->first_row = t->n_rows;
	t->rows[t->n_rows++] = (struct unwind_row){ address, rule };
	page->n_rows++;
	return 0;
}

/* Makes pages up to the one that holds the address; what goes on over a page's start is repeated there. */
static int open_page(struct table *t, uint64_t address)
{
	uint64_t wanted = ((address - t->first_address) >> UNWIND_PAGE_SHIFT) + 1;
	int r;

	if (wanted > PAGES_MAX)
		return -EFBIG;
	while (t->n_pages < wanted) {
		r = grow((void **)&t->pages, &t->max_pages, t->n_pages + 1, sizeof(*t->pages));
		if (r < 0)
			return r;
		t->pages[t->n_pages++] = (struct unwind_table_page){ .first_row = t->n_rows };
		/* A page that nothing reaches into stays empty. */
		if (t->last_rule != 0 || (t->n_pages == wanted && (address & 0xffff) != 0)) {
			r = put_row(t, 0, t->last_rule);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* From this address on the rule holds. Addresses ascend. */
static int add_row(struct table *t, uint64_t address, const struct unwind_rule *rule)
{
	uint16_t index;
	int r;

	r = find_rule(t, rule, &index);
	if (r < 0)
		return r;
	if (index == t->last_rule && t->n_pages > 0)
		return 0;
	r = open_page(t, address);
	if (r < 0)
		return r;
	if (rule->cfa == UNWIND_CFA_UNSUPPORTED)
		t->n_unsupported++;
	r = put_row(t, (uint16_t)address, index);
	t->last_rule = index;
	return r;
}

/* ---- instructions ---- */

static struct saved *saved_register(struct state *s, uint64_t number)
{
	return number == REG_RBP ? &s->rbp : number == REG_RIP ? &s->rip : NULL;
}

static void save(struct state *s, uint64_t number, struct saved how)
{
	struct saved *saved = saved_register(s, number);

	if (saved)
		*saved = how;
}

/* "register + offset" and nothing more. */
static bool is_base(struct cursor *c, int number, int64_t *ret)
{
	if (read_fixed(c, 1) != (uint64_t)(OP_BREG0 + number))
		return false;
	*ret = read_sleb(c);
	return !c->bad;
}

/* How linkers describe their stubs: the first instruction pushes nothing yet, what comes after the push has 8 more. */
static bool is_plt(struct cursor c, int32_t *ret)
{
	int64_t offset;
	uint64_t limit;

	if (!is_base(&c, REG_RSP, &offset) || offset != 8 || !is_base(&c, REG_RIP, &offset) || offset != 0 ||
	    read_fixed(&c, 1) != OP_LIT0 + 15 || read_fixed(&c, 1) != OP_AND)
		return false;
	limit = read_fixed(&c, 1) - OP_LIT0;
	if (limit > 15 || read_fixed(&c, 1) != OP_GE || read_fixed(&c, 1) != OP_LIT0 + 3 || read_fixed(&c, 1) != OP_SHL ||
	    read_fixed(&c, 1) != OP_PLUS || c.bad || c.at != c.end)
		return false;
	*ret = (int32_t)limit;
	return true;
}

static struct unwind_rule unsupported(void)
{
	return (struct unwind_rule){ .cfa = UNWIND_CFA_UNSUPPORTED };
}

/* Fills in cfa and cfa_offset; false: it can't be written so. */
static bool cfa_from_expression(struct cursor c, struct unwind_rule *rule)
{
	struct cursor start = c;
	int64_t offset;

	if (is_plt(c, &rule->cfa_offset)) {
		rule->cfa = UNWIND_CFA_PLT;
		return true;
	}
	if (is_base(&c, REG_RBP, &offset)) {
		if (read_fixed(&c, 1) != OP_DEREF || c.bad || c.at != c.end)
			return false;
		rule->cfa = UNWIND_CFA_AT_RBP;
	} else {
		c = start;
		if (!is_base(&c, REG_RSP, &offset) || read_fixed(&c, 1) != OP_DEREF || c.bad)
			return false;
		rule->cfa = UNWIND_CFA_AT_RSP;
		if (c.at != c.end) {
			if (read_fixed(&c, 1) != OP_PLUS_UCONST || read_uleb(&c) != 8 || c.bad || c.at != c.end)
				return false;
			rule->cfa = UNWIND_CFA_AT_RSP_8;
		}
	}
	rule->cfa_offset = (int32_t)offset;
	return offset == (int32_t)offset;
}

static void rbp_from_saved(const struct saved *saved, struct unwind_rule *rule)
{
	struct cursor c = saved->expression;
	int64_t offset = saved->offset;

	rule->rbp = UNWIND_RBP_UNDEFINED;
	if (saved->kept == KEPT_SAME)
		rule->rbp = UNWIND_RBP_SAME;
	else if (saved->kept == KEPT_AT_CFA && offset == (int16_t)offset)
		rule->rbp = UNWIND_RBP_AT_CFA;
	else if (saved->kept == KEPT_EXPRESSION && is_base(&c, REG_RBP, &offset) && c.at == c.end && offset == (int16_t)offset)
		rule->rbp = UNWIND_RBP_AT_RBP;
	if (rule->rbp == UNWIND_RBP_AT_CFA || rule->rbp == UNWIND_RBP_AT_RBP)
		rule->rbp_offset = (int16_t)offset;
}

/* The frame that the kernel makes for a signal handler, as C libraries describe it: all registers are in struct sigcontext. */
static struct unwind_rule signal_rule(const struct state *s)
{
	struct unwind_rule rule = { .cfa = UNWIND_CFA_SIGNAL };
	struct cursor cfa = s->cfa_expression, rip = s->rip.expression;
	int64_t rsp_at, rip_at;

	if (!s->by_expression || s->rip.kept != KEPT_EXPRESSION || !is_base(&cfa, REG_RSP, &rsp_at) ||
	    read_fixed(&cfa, 1) != OP_DEREF || cfa.bad || cfa.at != cfa.end || !is_base(&rip, REG_RSP, &rip_at) || rip.at != rip.end ||
	    rsp_at != (int32_t)rsp_at || rip_at != rsp_at + 8)
		return unsupported();
	rule.cfa_offset = (int32_t)rsp_at;
	return rule;
}

static struct unwind_rule rule_of(const struct state *s, const struct cie *cie)
{
	struct unwind_rule rule = {};

	if (s->rip.kept == KEPT_UNDEFINED)
		return (struct unwind_rule){ .cfa = UNWIND_CFA_END };
	if (cie->signal)
		return signal_rule(s);
	if (cie->return_register != REG_RIP || s->rip.kept != KEPT_AT_CFA || s->rip.offset != -8)
		return unsupported();
	if (s->by_expression) {
		if (!cfa_from_expression(s->cfa_expression, &rule))
			return unsupported();
	} else if ((s->cfa_register == REG_RSP || s->cfa_register == REG_RBP) && s->cfa_offset == (int32_t)s->cfa_offset) {
		rule.cfa = s->cfa_register == REG_RSP ? UNWIND_CFA_RSP : UNWIND_CFA_RBP;
		rule.cfa_offset = (int32_t)s->cfa_offset;
	} else {
		return unsupported();
	}
	rbp_from_saved(&s->rbp, &rule);
	return rule;
}

static int advance(struct reader *r, uint64_t to)
{
	struct machine *m = &r->machine;
	struct unwind_rule rule;
	int error = 0;

	if (!m->table || to < m->address)
		return -EBADMSG;
	if (to > m->address && m->address < m->end) {
		rule = rule_of(&m->now, &r->cie);
		error = add_row(m->table, m->address, &rule);
	}
	m->address = to;
	return error;
}

static void define_cfa(struct state *s, uint64_t number, int64_t offset)
{
	s->cfa_register = number;
	s->cfa_offset = offset;
	s->by_expression = false;
}

/* May wrap around: an offset that is out of range then is seen as such when it becomes a rule. */
static int64_t factored(uint64_t n, const struct cie *cie)
{
	return (int64_t)(n * (uint64_t)cie->data_factor);
}

static int run_extended(struct reader *r, struct cursor *c, uint64_t op)
{
	const struct cie *cie = &r->cie;
	struct machine *m = &r->machine;
	struct state *s = &m->now;
	uint64_t number;
	struct saved *saved;

	switch (op) {
	case CFA_NOP: break;
	case CFA_SET_LOC: {
		uint64_t to, at = r->section.address + (uint64_t)(c->at - r->section.bytes);

		return read_pointer(c, cie->encoding, at, 0, &to) ? advance(r, to) : -EBADMSG;
	}
	case CFA_ADVANCE_LOC1: return advance(r, m->address + read_fixed(c, 1) * cie->code_factor);
	case CFA_ADVANCE_LOC2: return advance(r, m->address + read_fixed(c, 2) * cie->code_factor);
	case CFA_ADVANCE_LOC4: return advance(r, m->address + read_fixed(c, 4) * cie->code_factor);
	case CFA_OFFSET_EXTENDED:
		number = read_uleb(c);
		save(s, number, (struct saved){ .kept = KEPT_AT_CFA, .offset = factored(read_uleb(c), cie) });
		break;
	case CFA_OFFSET_EXTENDED_SF:
		number = read_uleb(c);
		save(s, number, (struct saved){ .kept = KEPT_AT_CFA, .offset = factored((uint64_t)read_sleb(c), cie) });
		break;
	case CFA_GNU_NEGATIVE_OFFSET_EXTENDED:
		number = read_uleb(c);
		save(s, number, (struct saved){ .kept = KEPT_AT_CFA, .offset = factored(0 - read_uleb(c), cie) });
		break;
	case CFA_RESTORE_EXTENDED:
		number = read_uleb(c);
		saved = saved_register(&m->initial, number);
		if (saved)
			save(s, number, *saved);
		break;
	case CFA_UNDEFINED: save(s, read_uleb(c), (struct saved){ .kept = KEPT_UNDEFINED }); break;
	case CFA_SAME_VALUE: save(s, read_uleb(c), (struct saved){ .kept = KEPT_SAME }); break;
	case CFA_REGISTER:
	case CFA_VAL_OFFSET:
		number = read_uleb(c);
		(void)read_uleb(c);
		save(s, number, (struct saved){ .kept = KEPT_OTHERWISE });
		break;
	case CFA_VAL_OFFSET_SF:
		number = read_uleb(c);
		(void)read_sleb(c);
		save(s, number, (struct saved){ .kept = KEPT_OTHERWISE });
		break;
	case CFA_REMEMBER_STATE:
		if (m->n_remembered == REMEMBERED_MAX)
			return -EBADMSG;
		m->remembered[m->n_remembered++] = *s;
		break;
	case CFA_RESTORE_STATE:
		if (m->n_remembered == 0)
			return -EBADMSG;
		*s = m->remembered[--m->n_remembered];
		break;
	case CFA_DEF_CFA:
		number = read_uleb(c);
		define_cfa(s, number, (int64_t)read_uleb(c));
		break;
	case CFA_DEF_CFA_SF:
		number = read_uleb(c);
		define_cfa(s, number, factored((uint64_t)read_sleb(c), cie));
		break;
	case CFA_DEF_CFA_REGISTER: define_cfa(s, read_uleb(c), s->cfa_offset); break;
	case CFA_DEF_CFA_OFFSET: define_cfa(s, s->cfa_register, (int64_t)read_uleb(c)); break;
	case CFA_DEF_CFA_OFFSET_SF: define_cfa(s, s->cfa_register, factored((uint64_t)read_sleb(c), cie)); break;
	case CFA_DEF_CFA_EXPRESSION:
		s->cfa_expression = read_block(c, read_uleb(c));
		s->by_expression = true;
		break;
	case CFA_EXPRESSION:
		number = read_uleb(c);
		save(s, number, (struct saved){ .kept = KEPT_EXPRESSION, .expression = read_block(c, read_uleb(c)) });
		break;
	case CFA_VAL_EXPRESSION:
		number = read_uleb(c);
		(void)read_block(c, read_uleb(c));
		save(s, number, (struct saved){ .kept = KEPT_OTHERWISE });
		break;
	case CFA_GNU_ARGS_SIZE: (void)read_uleb(c); break;
	default: return -EBADMSG;
	}
	return 0;
}

/* -EBADMSG: an instruction that makes no sense. */
static int run(struct reader *r, struct cursor c)
{
	const struct cie *cie = &r->cie;
	struct machine *m = &r->machine;
	int error = 0;

	while (error == 0 && c.at < c.end && !c.bad) {
		uint64_t op = read_fixed(&c, 1), low = op & 0x3f;

		switch (op & 0xc0) {
		case CFA_ADVANCE_LOC: error = advance(r, m->address + low * cie->code_factor); break;
		case CFA_OFFSET:
			save(&m->now, low, (struct saved){ .kept = KEPT_AT_CFA, .offset = factored(read_uleb(&c), cie) });
			break;
		case CFA_RESTORE: {
			const struct saved *saved = saved_register(&m->initial, low);

			if (saved)
				save(&m->now, low, *saved);
			break;
		}
		default: error = run_extended(r, &c, op); break;
		}
	}
	return error < 0 ? error : c.bad ? -EBADMSG : 0;
}

/* Rows of one function. What is damaged in it is unsupported from where it is. */
static int add_function_rows(struct reader *r, struct table *t, const struct function *f, uint64_t from)
{
	struct machine *m = &r->machine;
	const struct cursor instructions = { r->section.bytes + f->instructions, r->section.bytes + f->instructions_end, false };
	struct unwind_rule rule = unsupported();
	int error;

	if (!read_cie(r, f->cie))
		return -EBADMSG;
	m->now = m->initial = (struct state){};
	m->n_remembered = 0;
	m->address = f->start;
	m->end = f->end;
	m->table = NULL;
	error = run(r, r->cie.instructions);
	if (error == 0) {
		m->initial = m->now;
		m->table = t;
		m->address = MAX(f->start, from);
		if (from > f->start) /* it overlaps the one before: such tables are rare, and not believed there */
			return add_row(t, from, &rule);
		error = run(r, instructions);
	}
	if (error == -EBADMSG) {
		r->n_skipped++;
		return m->address < f->end ? add_row(t, m->address, &rule) : 0;
	}
	return error < 0 ? error : advance(r, MAX(f->end, m->address));
}

static int make_rows(struct reader *r, struct table *t)
{
	static const struct unwind_rule none = { .cfa = UNWIND_CFA_NONE };
	uint64_t end = 0;
	uint16_t index;
	int error;

	t->slots = calloc(RULE_SLOTS, sizeof(*t->slots));
	if (!t->slots)
		return -ENOMEM;
	error = find_rule(t, &none, &index);
	t->first_address = r->functions[0].start & ~UINT64_C(0xffff);
	for (size_t i = 0; error == 0 && i < r->n_functions; i++) {
		const struct function *f = &r->functions[i];

		if (f->end <= end)
			continue;
		if (end > 0 && f->start > end + PADDING_MAX)
			error = add_row(t, end, &none);
		if (error == 0)
			error = add_function_rows(r, t, f, end);
		end = f->end;
	}
	return error < 0 ? error : add_row(t, end, &none);
}

/* ---- writing ---- */

static int write_at(int fd, const void *data, size_t size, uint64_t *offset)
{
	const char *at = data;

	while (size > 0) {
		ssize_t n = pwrite(fd, at, size, (off_t)*offset);

		if (n <= 0)
			return n < 0 ? negative_errno() : -EIO;
		at += n;
		*offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int write_table(int fd, const struct reader *r, const struct table *t, const struct image *image, uint64_t max_bytes,
		       struct unwind_table_header *ret)
{
	struct unwind_table_segment segments[UNWIND_TABLE_SEGMENTS_MAX];
	struct unwind_table_header h = {
		.magic = UNWIND_TABLE_MAGIC,
		.version = UNWIND_TABLE_VERSION,
		.first_address = t->first_address,
		.eh_frame_bytes = r->bytes,
		.n_pages = t->n_pages,
		.n_rules = t->n_rules,
		.n_rows = t->n_rows,
		.n_functions = (uint32_t)r->n_functions,
		.n_unsupported = t->n_unsupported,
		.n_skipped = r->n_skipped,
	};
	uint64_t offset = 0;
	int error;

	for (size_t i = 0; i < image->n_phdrs && h.n_segments < UNWIND_TABLE_SEGMENTS_MAX; i++) {
		const Elf64_Phdr *p = &image->phdrs[i];

		if (p->p_type == PT_LOAD && p->p_flags & PF_X && p->p_filesz > 0 && p->p_vaddr < ADDRESS_MAX &&
		    p->p_filesz < ADDRESS_MAX && p->p_offset < ADDRESS_MAX)
			segments[h.n_segments++] = (struct unwind_table_segment){ p->p_offset, p->p_filesz, p->p_vaddr };
	}
	if (sizeof(h) + h.n_segments * sizeof(segments[0]) + h.n_pages * sizeof(*t->pages) + h.n_rules * sizeof(*t->rules) +
		    (uint64_t)h.n_rows * sizeof(*t->rows) > max_bytes)
		return -EFBIG;
	*ret = h;
	error = write_at(fd, &h, sizeof(h), &offset);
	if (error == 0)
		error = write_at(fd, segments, h.n_segments * sizeof(segments[0]), &offset);
	if (error == 0)
		error = write_at(fd, t->pages, t->n_pages * sizeof(*t->pages), &offset);
	if (error == 0)
		error = write_at(fd, t->rules, t->n_rules * sizeof(*t->rules), &offset);
	return error < 0 ? error : write_at(fd, t->rows, t->n_rows * sizeof(*t->rows), &offset);
}

int elf_unwind_write(int fd, int table_fd, uint64_t max_bytes, struct unwind_table_header *ret)
{
	struct reader r = {};
	struct table t = { .max_rows = MIN(max_bytes / sizeof(struct unwind_row), (uint64_t)INT32_MAX) };
	struct image image;
	int error;

	error = read_image(fd, &image);
	if (error == 0)
		error = read_eh_frame(fd, &image, &r.section);
	if (error < 0)
		return error;
	error = read_functions(&r);
	if (error == 0)
		error = make_rows(&r, &t);
	if (error == 0)
		error = write_table(table_fd, &r, &t, &image, max_bytes, ret);
	free(r.section.bytes);
	free(r.functions);
	free(t.pages);
	free(t.rules);
	free(t.slots);
	free(t.rows);
	return error;
}
