/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Our reading of .eh_frame against elfutils': wherever a rule of either begins, and at random addresses, a step from made-up
 * registers and memory must give the same caller. Then what is damaged: files, and tables.
 * With files as arguments those are compared, and nothing else is done. */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <gelf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "elf_unwind.h"
#include "helper.h"

#define TABLE_BYTES (64U << 20)
#define RANDOM_ADDRESSES 5000
/* Of the largest files only every n-th function is looked at. */
#define FUNCTIONS_LOOKED_AT 20000
/* Where the CFA is an expression it may depend on the address, so each is tried. */
#define EXPRESSION_ADDRESSES 1024
#define WRONG_SHOWN 10

enum { RBP = 6, RSP = 7, RIP = 16 };

/* ---- a step ---- */

struct registers {
	uint64_t rip, rsp, rbp;
};

enum step_kind { STEP_NONE, STEP_END, STEP_CALLER, STEP_UNSUPPORTED };

struct step {
	enum step_kind kind;
	struct registers caller;
	bool rbp_lost;
	bool simple; /* could be said in the most common form */
	bool by_expression;
};

static uint64_t memory_at(uint64_t address)
{
	return hash64(&address, sizeof(address), 1) >> 8;
}

static struct registers registers_at(uint64_t address)
{
	return (struct registers){ .rip = address,
				   .rsp = 0x7ffc00000000 + (memory_at(address) & 0xffff0),
				   .rbp = 0x7ffd00000000 + (memory_at(address + 1) & 0xffff0) };
}

/* ---- ours ---- */

struct table {
	const struct unwind_table_header *header;
	const struct unwind_table_page *pages;
	const struct unwind_rule *rules;
	const struct unwind_row *rows;
	size_t size;
};

static void find_parts(struct table *t)
{
	t->pages = (const void *)((const struct unwind_table_segment *)(t->header + 1) + t->header->n_segments);
	t->rules = (const void *)(t->pages + t->header->n_pages);
	t->rows = (const void *)(t->rules + t->header->n_rules);
}

static const struct unwind_rule *find_rule(const struct table *t, uint64_t address)
{
	uint64_t page = (address - t->header->first_address) >> UNWIND_PAGE_SHIFT;
	const struct unwind_row *rows;
	size_t low = 0, high;

	if (address < t->header->first_address || page >= t->header->n_pages || t->pages[page].n_rows == 0)
		return &t->rules[0];
	rows = t->rows + t->pages[page].first_row;
	high = t->pages[page].n_rows;
	while (high - low > 1) {
		size_t middle = (low + high) / 2;

		if (rows[middle].address <= (uint16_t)address)
			low = middle;
		else
			high = middle;
	}
	return &t->rules[rows[low].rule];
}

static struct step our_step(const struct table *t, uint64_t address)
{
	const struct unwind_rule *rule = find_rule(t, address);
	struct registers r = registers_at(address);
	struct step s = { .kind = STEP_CALLER };
	uint64_t cfa = 0;

	switch (rule->cfa) {
	case UNWIND_CFA_NONE:
	case UNWIND_CFA_FRAME_POINTER: return (struct step){ .kind = STEP_NONE }; /* not by .eh_frame */
	case UNWIND_CFA_END: return (struct step){ .kind = STEP_END };
	case UNWIND_CFA_RSP: cfa = r.rsp + (uint64_t)rule->cfa_offset; break;
	case UNWIND_CFA_RBP: cfa = r.rbp + (uint64_t)rule->cfa_offset; break;
	case UNWIND_CFA_PLT: cfa = r.rsp + 8 + ((int)(r.rip & 15) >= rule->cfa_offset ? 8 : 0); break;
	case UNWIND_CFA_AT_RSP: cfa = memory_at(r.rsp + (uint64_t)rule->cfa_offset); break;
	case UNWIND_CFA_AT_RSP_8: cfa = memory_at(r.rsp + (uint64_t)rule->cfa_offset) + 8; break;
	case UNWIND_CFA_AT_RBP: cfa = memory_at(r.rbp + (uint64_t)rule->cfa_offset); break;
	case UNWIND_CFA_SIGNAL:
		cfa = r.rsp + (uint64_t)rule->cfa_offset;
		s.caller = (struct registers){ .rip = memory_at(cfa + 8), .rsp = memory_at(cfa), .rbp = memory_at(cfa - 40) };
		return s;
	default: return (struct step){ .kind = STEP_UNSUPPORTED };
	}
	s.caller = (struct registers){ .rip = memory_at(cfa - 8), .rsp = cfa };
	switch (rule->rbp) {
	case UNWIND_RBP_SAME: s.caller.rbp = r.rbp; break;
	case UNWIND_RBP_AT_CFA: s.caller.rbp = memory_at(cfa + (uint64_t)rule->rbp_offset); break;
	case UNWIND_RBP_AT_RBP: s.caller.rbp = memory_at(r.rbp + (uint64_t)rule->rbp_offset); break;
	default: s.rbp_lost = true; break;
	}
	return s;
}

/* ---- theirs ---- */

/* False: an operation that we don't know, or a register that we haven't made up. */
static bool evaluate(const Dwarf_Op *ops, size_t n, const struct registers *r, uint64_t cfa, uint64_t *ret, bool *ret_value)
{
	uint64_t stack[32] = {};
	size_t depth = 0;

	*ret_value = false;
	for (size_t i = 0; i < n; i++) {
		unsigned atom = ops[i].atom, number = atom;
		uint64_t offset = ops[i].number;

		if (depth >= ELEMENTS_OF(stack) - 1)
			return false;
		if (atom == DW_OP_bregx || (atom >= DW_OP_breg0 && atom <= DW_OP_breg31)) {
			if (atom == DW_OP_bregx) {
				number = (unsigned)ops[i].number;
				offset = ops[i].number2;
			} else {
				number -= DW_OP_breg0;
			}
			if (number != RSP && number != RBP && number != RIP)
				return false;
			stack[depth++] = offset + (number == RSP ? r->rsp : number == RBP ? r->rbp : r->rip);
			continue;
		}
		if (atom >= DW_OP_lit0 && atom <= DW_OP_lit31) {
			stack[depth++] = atom - DW_OP_lit0;
			continue;
		}
		switch (atom) {
		case DW_OP_call_frame_cfa: stack[depth++] = cfa; continue;
		case DW_OP_stack_value: *ret_value = true; continue;
		case DW_OP_const1u:
		case DW_OP_const1s:
		case DW_OP_const2u:
		case DW_OP_const2s:
		case DW_OP_const4u:
		case DW_OP_const4s: stack[depth++] = ops[i].number; continue;
		}
		if (depth == 0)
			return false;
		switch (atom) {
		case DW_OP_deref: stack[depth - 1] = memory_at(stack[depth - 1]); continue;
		case DW_OP_plus_uconst: stack[depth - 1] += ops[i].number; continue;
		}
		if (depth == 1)
			return false;
		depth--;
		switch (atom) {
		case DW_OP_and: stack[depth - 1] &= stack[depth]; break;
		case DW_OP_plus: stack[depth - 1] += stack[depth]; break;
		case DW_OP_minus: stack[depth - 1] -= stack[depth]; break;
		case DW_OP_shl: stack[depth - 1] <<= stack[depth] & 63; break;
		case DW_OP_ge: stack[depth - 1] = (int64_t)stack[depth - 1] >= (int64_t)stack[depth]; break;
		default: return false;
		}
	}
	*ret = depth > 0 ? stack[depth - 1] : 0;
	return depth > 0;
}

enum value { VALUE_KNOWN, VALUE_UNDEFINED, VALUE_UNSUPPORTED };

static enum value caller_register(Dwarf_Frame *frame, int number, uint64_t own, const struct registers *r, uint64_t cfa,
				  uint64_t *ret, bool *ret_simple)
{
	Dwarf_Op memory[3], *ops;
	size_t n;
	bool is_value;

	assert_int_equal(dwarf_frame_register(frame, number, memory, &ops, &n), 0);
	*ret_simple = ops == memory || !ops;
	if (n == 0) {
		*ret = own;
		return ops ? VALUE_UNDEFINED : VALUE_KNOWN;
	}
	if (!evaluate(ops, n, r, cfa, ret, &is_value))
		return VALUE_UNSUPPORTED;
	if (!is_value)
		*ret = memory_at(*ret);
	*ret_simple = *ret_simple && !is_value;
	return VALUE_KNOWN;
}

/* ret_from, ret_to: the addresses for which the same is said. */
static struct step their_step(Dwarf_CFI *cfi, uint64_t address, uint64_t *ret_from, uint64_t *ret_to)
{
	const struct registers r = registers_at(address);
	struct step s = { .kind = STEP_CALLER };
	_cleanup_free_ Dwarf_Frame *frame = NULL;
	Dwarf_Op *ops;
	size_t n;
	uint64_t cfa;
	bool ignored, simple_rip, simple_rbp;
	enum value value;

	*ret_from = address;
	*ret_to = address + 1;
	if (dwarf_cfi_addrframe(cfi, address, &frame) != 0)
		return (struct step){ .kind = STEP_NONE };
	(void)dwarf_frame_info(frame, ret_from, ret_to, &ignored);
	if (dwarf_frame_cfa(frame, &ops, &n) != 0)
		return (struct step){ .kind = STEP_UNSUPPORTED };
	s.by_expression = n > 1;

	if (n == 0 || !evaluate(ops, n, &r, 0, &cfa, &ignored)) {
		/* an outermost frame's is not asked for */
		value = caller_register(frame, RIP, 0, &r, 0, &s.caller.rip, &simple_rip);
		return (struct step){ .kind = value == VALUE_UNDEFINED ? STEP_END : STEP_UNSUPPORTED };
	}
	value = caller_register(frame, RIP, 0, &r, cfa, &s.caller.rip, &simple_rip);
	if (value != VALUE_KNOWN)
		return (struct step){ .kind = value == VALUE_UNDEFINED ? STEP_END : STEP_UNSUPPORTED };
	if (caller_register(frame, RSP, r.rsp, &r, cfa, &s.caller.rsp, &ignored) != VALUE_KNOWN)
		return (struct step){ .kind = STEP_UNSUPPORTED };
	value = caller_register(frame, RBP, r.rbp, &r, cfa, &s.caller.rbp, &simple_rbp);
	s.rbp_lost = value != VALUE_KNOWN;
	s.simple = n == 1 && simple_rip && simple_rbp;
	return s;
}

/* ---- comparing ---- */

struct object {
	const char *path;
	struct table table;
	Dwarf_CFI *cfi;
	size_t compared, unsupported, rbp_lost, padding, wrong;
};

static bool is_padding(const struct object *o, uint64_t address)
{
	uint64_t next = (address / 16 + 1) * 16, ignored;

	return their_step(o->cfi, next, &ignored, &ignored).kind != STEP_NONE;
}

static bool agree(struct object *o, uint64_t address, const struct step *ours, const struct step *theirs)
{
	if (theirs->kind == STEP_NONE && ours->kind != STEP_NONE) {
		o->padding++;
		return is_padding(o, address);
	}
	if (ours->kind == STEP_UNSUPPORTED) {
		o->unsupported++;
		return !theirs->simple;
	}
	if (ours->kind != theirs->kind)
		return false;
	if (ours->kind != STEP_CALLER)
		return true;
	if (ours->caller.rip != theirs->caller.rip || ours->caller.rsp != theirs->caller.rsp)
		return false;
	if (ours->rbp_lost) {
		o->rbp_lost++;
		return theirs->rbp_lost || !theirs->simple;
	}
	return !theirs->rbp_lost && ours->caller.rbp == theirs->caller.rbp;
}

/* Gives the end of the addresses for which theirs says the same. */
static uint64_t compare_at(struct object *o, uint64_t address)
{
	uint64_t from, to;
	struct step theirs = their_step(o->cfi, address, &from, &to), ours = our_step(&o->table, address);
	uint64_t last = theirs.by_expression ? MIN(to, address + EXPRESSION_ADDRESSES) : address + 1;

	for (uint64_t a = address; a < last; a++) {
		if (a > address) {
			theirs = their_step(o->cfi, a, &from, &to);
			ours = our_step(&o->table, a);
		}
		o->compared++;
		if (!agree(o, a, &ours, &theirs) && o->wrong++ < WRONG_SHOWN)
			print_message("# %s: %#lx: ours %d %lx %lx %lx%s, theirs %d %lx %lx %lx%s\n", o->path,
				      (unsigned long)a, ours.kind, (unsigned long)ours.caller.rip,
				      (unsigned long)ours.caller.rsp, (unsigned long)ours.caller.rbp,
				      ours.rbp_lost ? " (lost)" : "", theirs.kind, (unsigned long)theirs.caller.rip,
				      (unsigned long)theirs.caller.rsp, (unsigned long)theirs.caller.rbp,
				      theirs.rbp_lost ? " (lost)" : "");
	}
	return to;
}

static void compare_function(struct object *o, uint64_t start, uint64_t end)
{
	for (uint64_t address = start; address < end;) {
		uint64_t next = compare_at(o, address);

		if (next > address + 1 && next <= end)
			compare_at(o, next - 1);
		address = MAX(next, address + 1);
	}
}

static void compare_rows(struct object *o, size_t stride)
{
	const struct table *t = &o->table;

	for (uint32_t page = 0; page < t->header->n_pages; page++)
		for (uint32_t i = page % stride; i < t->pages[page].n_rows; i += (uint32_t)stride) {
			uint64_t address = t->header->first_address + ((uint64_t)page << UNWIND_PAGE_SHIFT) +
				t->rows[t->pages[page].first_row + i].address;

			compare_at(o, address);
			compare_at(o, address - 1);
		}
}

/* All functions that elfutils finds in .eh_frame. */
static size_t compare_functions(struct object *o, Elf *elf, size_t stride)
{
	Elf_Scn *section = NULL;
	size_t names, n = 0;
	GElf_Shdr h;

	assert_int_equal(elf_getshdrstrndx(elf, &names), 0);
	while ((section = elf_nextscn(elf, section))) {
		Elf_Data *data;
		Dwarf_Off at = 0, next;
		Dwarf_CFI_Entry entry;

		gelf_getshdr(section, &h);
		if (!streq(elf_strptr(elf, names, h.sh_name), ".eh_frame"))
			continue;
		data = elf_getdata(section, NULL);
		for (int r; (r = dwarf_next_cfi((const unsigned char *)elf_getident(elf, NULL), data, true, at, &next, &entry)) <= 0;
		     at = next) {
			int32_t relative;
			uint32_t size;
			uint64_t start;

			if (r < 0 || dwarf_cfi_cie_p(&entry))
				continue;
			/* pcrel, sdata4: what linkers write; the others are compared by their rows alone */
			memcpy(&relative, entry.fde.start, 4);
			memcpy(&size, entry.fde.start + 4, 4);
			start = h.sh_addr + (uint64_t)(entry.fde.start - (const uint8_t *)data->d_buf) + (uint64_t)(int64_t)relative;
			if (n++ % stride == 0)
				compare_function(o, start, start + size);
		}
	}
	return n;
}

static void compare_random(struct object *o)
{
	const struct unwind_table_segment *s = (const void *)(o->table.header + 1);

	for (uint32_t i = 0; i < o->table.header->n_segments; i++)
		for (size_t j = 0; j < RANDOM_ADDRESSES; j++)
			compare_at(o, s[i].address + (uint64_t)random() % s[i].size);
}

static void compare_object(const char *path, int fd, double max_unsupported)
{
	_cleanup_close_ int table_fd = memfd_create("table", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct object o = { .path = path };
	struct unwind_table_header header;
	size_t functions, stride;
	Elf *elf;

	assert_int_equal(elf_unwind_write(fd, table_fd, TABLE_BYTES, &header), 0);
	assert_int_equal(unwind_table_open(table_fd, &o.table.header, &o.table.size), 0);
	find_parts(&o.table);

	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ, NULL);
	assert_non_null(elf);
	o.cfi = dwarf_getcfi_elf(elf);
	assert_non_null(o.cfi);

	stride = header.n_functions / FUNCTIONS_LOOKED_AT + 1;
	functions = compare_functions(&o, elf, stride);
	compare_rows(&o, stride);
	compare_random(&o);
	print_message("# %s: %u functions, %u rows, %u rules, %u skipped; compared %zu addresses: %zu unsupported, "
		      "%zu without rbp, %zu padding, %zu wrong\n",
		      path, header.n_functions, header.n_rows, header.n_rules, header.n_skipped, o.compared, o.unsupported,
		      o.rbp_lost, o.padding, o.wrong);
	assert_int_equal(o.wrong, 0);
	assert_int_equal(header.n_functions, functions);
	assert_int_equal(header.n_skipped, 0);
	assert_true((double)header.n_unsupported <= max_unsupported * (double)header.n_rows);
	dwarf_cfi_end(o.cfi);
	elf_end(elf);
	munmap((void *)o.table.header, o.table.size);
}

static void compare_path(const char *path, double max_unsupported)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		print_message("# %s is not here\n", path);
		return;
	}
	compare_object(path, fd, max_unsupported);
}

static void test_libraries(void **state _unused_)
{
	compare_path("/lib/x86_64-linux-gnu/libc.so.6", 0.01);
	compare_path("/lib64/ld-linux-x86-64.so.2", 0.03);
	compare_path("/usr/lib/x86_64-linux-gnu/libcrypto.so.3", 0.04);
	compare_path("/usr/lib/x86_64-linux-gnu/libstdc++.so.6", 0.01);
	compare_path("/usr/lib/x86_64-linux-gnu/libsqlite3.so.0", 0.01);
	compare_path("/usr/lib/x86_64-linux-gnu/libgcc_s.so.1", 0.02);
}

static void test_programs(void **state _unused_)
{
	compare_path("/proc/self/exe", 0.01);
	compare_path("/bin/bash", 0.01);
	compare_path("/usr/bin/python3", 0.01);
	compare_path("/usr/bin/perl", 0.01);
	compare_path("/usr/lib/systemd/systemd", 0.01);
	compare_path("/usr/lib/gcc/x86_64-linux-gnu/12/cc1", 0.01);
	compare_path("/usr/libexec/gcc/x86_64-linux-gnu/14/cc1", 0.01);
}

static void test_vdso(void **state _unused_)
{
	_cleanup_close_ int fd = vdso_image_fd();

	assert_true(fd >= 0);
	compare_object("[vdso]", fd, 0.2);
}

/* ---- code without .eh_frame ---- */

extern const uint8_t __executable_start[], code_with_frame_pointers[], code_without[], little_code_with_frame_pointers[];

/* Between functions that .eh_frame knows: 128 KiB of functions that keep frame pointers, as many of nothing like it, and less
 * than it takes to say which of the two something is. */
__asm__(".text\n"
	"	.cfi_startproc\n ret\n .cfi_endproc\n .p2align 4\n"
	"code_with_frame_pointers:\n"
	"	.rept 1024\n push %rbp\n mov %rsp, %rbp\n .fill 122, 1, 0x90\n pop %rbp\n ret\n .endr\n"
	"	.cfi_startproc\n ret\n .cfi_endproc\n .p2align 4\n"
	"code_without:\n"
	"	.rept 1024\n push %rbp\n .fill 125, 1, 0x90\n pop %rbp\n ret\n .endr\n"
	"	.cfi_startproc\n ret\n .cfi_endproc\n .p2align 4\n"
	"little_code_with_frame_pointers:\n"
	"	.rept 256\n push %rbp\n mov %rsp, %rbp\n .fill 122, 1, 0x90\n pop %rbp\n ret\n .endr\n"
	"	.cfi_startproc\n ret\n .cfi_endproc\n");

static enum unwind_cfa cfa_in(const struct table *t, const uint8_t *code, size_t offset)
{
	return (enum unwind_cfa)find_rule(t, (uint64_t)(code - __executable_start) + offset)->cfa;
}

static void test_code_that_is_not_told_of(void **state _unused_)
{
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC),
			    table_fd = memfd_create("table", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct unwind_table_header header;
	struct table t;

	assert_int_equal(elf_unwind_write(fd, table_fd, TABLE_BYTES, &header), 0);
	assert_int_equal(unwind_table_open(table_fd, &t.header, &t.size), 0);
	find_parts(&t);
	for (size_t i = 0; i < 128U << 10; i += 1000) {
		assert_int_equal(cfa_in(&t, code_with_frame_pointers, i), UNWIND_CFA_FRAME_POINTER);
		assert_int_equal(cfa_in(&t, code_without, i), UNWIND_CFA_NONE);
		if (i < 32U << 10)
			assert_int_equal(cfa_in(&t, little_code_with_frame_pointers, i), UNWIND_CFA_NONE);
	}
	munmap((void *)t.header, t.size);
}

/* ---- damaged files ---- */

static struct {
	union {
		Elf64_Ehdr header;
		uint8_t bytes[16 << 20];
	};
	size_t size;
} copy;

static void read_self(void)
{
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, copy.bytes, sizeof(copy.bytes));

	assert_true(n > 0 && (size_t)n < sizeof(copy.bytes));
	copy.size = (size_t)n;
}

/* The copy's table; its header is at the beginning of the memory. The caller unmaps it. */
static int table_of_copy(const struct unwind_table_header **ret, size_t *ret_size)
{
	_cleanup_close_ int fd = memfd_create("file", MFD_CLOEXEC),
			    table_fd = memfd_create("table", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct unwind_table_header header;
	int r;

	assert_int_equal(write(fd, copy.bytes, copy.size), copy.size);
	r = elf_unwind_write(fd, table_fd, TABLE_BYTES, &header);
	return r < 0 ? r : unwind_table_open(table_fd, ret, ret_size);
}

static const Elf64_Shdr *section_of_copy(const char *name)
{
	const Elf64_Shdr *sections = (const void *)(copy.bytes + copy.header.e_shoff);
	const char *names = (const char *)copy.bytes + sections[copy.header.e_shstrndx].sh_offset;

	for (size_t i = 0; i < copy.header.e_shnum; i++)
		if (streq(names + sections[i].sh_name, name))
			return &sections[i];
	fail_msg("no section %s", name);
	return NULL;
}

static void test_without_sections(void **state _unused_)
{
	const struct unwind_table_header *whole, *stripped;
	size_t whole_size, stripped_size;

	read_self();
	assert_int_equal(table_of_copy(&whole, &whole_size), 0);
	copy.header.e_shoff = copy.header.e_shnum = copy.header.e_shstrndx = 0;
	assert_int_equal(table_of_copy(&stripped, &stripped_size), 0);
	assert_true(stripped_size == whole_size);
	assert_int_equal(stripped->n_functions, whole->n_functions);
	assert_memory_equal(stripped + 1, whole + 1, whole_size - sizeof(*whole));
	munmap((void *)whole, whole_size);
	munmap((void *)stripped, stripped_size);
}

static void test_without_eh_frame(void **state _unused_)
{
	const struct unwind_table_header *table;
	Elf64_Phdr *segments;
	size_t size;

	read_self();
	copy.header.e_shoff = copy.header.e_shnum = copy.header.e_shstrndx = 0;
	segments = (void *)(copy.bytes + copy.header.e_phoff);
	for (size_t i = 0; i < copy.header.e_phnum; i++)
		if (segments[i].p_type == PT_GNU_EH_FRAME)
			segments[i].p_type = PT_NULL;
	assert_int_equal(table_of_copy(&table, &size), -ENODATA);
	copy.header.e_machine = EM_AARCH64;
	assert_int_equal(table_of_copy(&table, &size), -ENOEXEC);
}

/* An instruction that doesn't exist costs its own function, and no other. */
static void test_damaged_functions(void **state _unused_)
{
	const struct unwind_table_header *whole, *damaged;
	size_t whole_size, damaged_size, broken = 0;
	const Elf64_Shdr *section;
	uint8_t *at;

	read_self();
	assert_int_equal(table_of_copy(&whole, &whole_size), 0);
	section = section_of_copy(".eh_frame");
	at = copy.bytes + section->sh_offset;
	for (uint32_t length; (memcpy(&length, at, 4), length) > 0; at += 4 + length) {
		uint32_t id;

		memcpy(&id, at + 4, 4);
		if (id != 0 && length > 20 && broken < 5) {
			at[4 + 4 + 8 + 1] = 0x3f; /* behind the length: its CIE, its addresses, no data */
			broken++;
		}
	}
	assert_int_equal(broken, 5);
	assert_int_equal(table_of_copy(&damaged, &damaged_size), 0);
	assert_int_equal(damaged->n_skipped, whole->n_skipped + 5);
	assert_int_equal(damaged->n_functions, whole->n_functions);
	assert_in_range(damaged->n_unsupported, whole->n_unsupported + 1, whole->n_unsupported + 5);
	munmap((void *)whole, whole_size);
	munmap((void *)damaged, damaged_size);
}

/* ---- damaged tables ---- */

static void test_refused_tables(void **state _unused_)
{
	struct {
		struct unwind_table_header header;
		struct unwind_table_segment segment;
		struct unwind_table_page pages[2];
		struct unwind_rule rules[2];
		struct unwind_row rows[3];
	} t;

	for (int i = 0; i < 20; i++) {
		size_t size = offsetof(__typeof__(t), rows) + sizeof(t.rows);

		memset(&t, 0, sizeof(t));
		t.header = (struct unwind_table_header){ .magic = UNWIND_TABLE_MAGIC,
							 .version = UNWIND_TABLE_VERSION,
							 .first_address = 0x10000,
							 .n_segments = 1,
							 .n_pages = 2,
							 .n_rules = 2,
							 .n_rows = 3 };
		t.segment = (struct unwind_table_segment){ 0x1000, 0x1000, 0x11000 };
		t.pages[0] = (struct unwind_table_page){ 0, 2 };
		t.pages[1] = (struct unwind_table_page){ 2, 1 };
		t.rules[1] = (struct unwind_rule){ .cfa = UNWIND_CFA_RSP, .cfa_offset = 8 };
		t.rows[1] = (struct unwind_row){ 0x100, 1 };
		switch (i) {
		case 1: t.header.magic++; break;
		case 2: t.header.version++; break;
		case 3: t.header.reserved = 1; break;
		case 4: t.header.first_address++; break;
		case 5: t.header.first_address = 1ULL << 47; break;
		case 6: t.header.n_pages = UINT32_MAX; break;
		case 7: t.header.n_rows = UINT32_MAX; break;
		case 8: t.header.n_rows = 2; break;
		case 9: t.segment.address = 1ULL << 47; break;
		case 10: t.pages[1].first_row = 3; break;
		case 11: t.pages[1].first_row = 1; break; /* shared rows: checking them would take for ever */
		case 12: t.pages[1].n_rows = 2; break;
		case 13: t.pages[1].n_rows = 0; break;
		case 14: t.rules[0].cfa = UNWIND_CFA_RSP; break;
		case 15: t.rules[1].cfa = UNWIND_CFA_N; break;
		case 16: t.rules[1].rbp = UNWIND_RBP_N; break;
		case 17: t.rows[1].rule = 2; break;
		case 18: t.rows[1].address = 0; break;
		case 19: t.rows[2].address = 1; break;
		}
		if (unwind_table_check(&t, size) != (i == 0 ? 0 : -EBADMSG))
			fail_msg("case %d", i);
		for (size_t cut = 0; i == 0 && cut < size; cut++)
			assert_int_equal(unwind_table_check(&t, cut), -EBADMSG);
	}
}

static char **named;

static void test_named(void **state _unused_)
{
	for (char **path = named; *path; path++)
		compare_path(*path, 1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest one[] = { cmocka_unit_test(test_named) };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_libraries),
		cmocka_unit_test(test_programs),
		cmocka_unit_test(test_vdso),
		cmocka_unit_test(test_code_that_is_not_told_of),
		cmocka_unit_test(test_without_sections),
		cmocka_unit_test(test_without_eh_frame),
		cmocka_unit_test(test_damaged_functions),
		cmocka_unit_test(test_refused_tables),
	};

	srandom(20240607);
	if (argc > 1) {
		named = argv + 1;
		return cmocka_run_group_tests_name("unwind tables", one, NULL, NULL);
	}
	return cmocka_run_group_tests_name("unwind tables", tests, NULL, NULL);
}
