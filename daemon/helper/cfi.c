/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cfi.h"

/* Instructions by their numbers (DWARF 5, 7.24). The first three have an operand in their low six bits. */
#define DW_CFA_OPERAND 0x3f
enum {
	DW_CFA_advance_loc = 0x40,
	DW_CFA_offset = 0x80,
	DW_CFA_restore = 0xc0,
	DW_CFA_nop = 0x00,
	DW_CFA_set_loc = 0x01,
	DW_CFA_advance_loc1 = 0x02,
	DW_CFA_advance_loc2 = 0x03,
	DW_CFA_advance_loc4 = 0x04,
	DW_CFA_offset_extended = 0x05,
	DW_CFA_restore_extended = 0x06,
	DW_CFA_undefined = 0x07,
	DW_CFA_same_value = 0x08,
	DW_CFA_register = 0x09,
	DW_CFA_remember_state = 0x0a,
	DW_CFA_restore_state = 0x0b,
	DW_CFA_def_cfa = 0x0c,
	DW_CFA_def_cfa_register = 0x0d,
	DW_CFA_def_cfa_offset = 0x0e,
	DW_CFA_def_cfa_expression = 0x0f,
	DW_CFA_expression = 0x10,
	DW_CFA_offset_extended_sf = 0x11,
	DW_CFA_def_cfa_sf = 0x12,
	DW_CFA_def_cfa_offset_sf = 0x13,
	DW_CFA_val_offset = 0x14,
	DW_CFA_val_offset_sf = 0x15,
	DW_CFA_val_expression = 0x16,
	DW_CFA_GNU_args_size = 0x2e,
	DW_CFA_GNU_negative_offset_extended = 0x2f,
};

static struct cfi_column *column(struct cfi_state *s, uint64_t number)
{
	switch (number) {
	case CFI_RBP: return &s->rbp;
	case CFI_RSP: return &s->rsp;
	case CFI_RIP: return &s->rip;
	default: return NULL;
	}
}

static void set_column(struct cfi_machine *m, uint64_t number, enum cfi_how how, int64_t offset)
{
	struct cfi_column *c = column(&m->now, number);

	if (c)
		*c = (struct cfi_column){ .how = how, .offset = offset };
}

static void set_column_expression(struct cfi_machine *m, uint64_t number, enum cfi_how how, struct cursor expression)
{
	struct cfi_column *c = column(&m->now, number);

	if (c)
		*c = (struct cfi_column){ .how = how, .expression = expression };
}

static void restore_column(struct cfi_machine *m, uint64_t number)
{
	struct cfi_column *c = column(&m->now, number);

	if (c)
		*c = *column(&m->initial, number);
}

static void define_cfa(struct cfi_machine *m, uint64_t number, int64_t offset)
{
	m->now.by_expression = false;
	m->now.cfa_register = number;
	m->now.cfa_offset = offset;
}

/* May wrap around: an offset that is out of range is seen as such when it becomes a rule. */
static int64_t factored(const struct cfi_machine *m, uint64_t n)
{
	return (int64_t)(n * (uint64_t)m->cie->data_factor);
}

static int advance_to(struct cfi_machine *m, uint64_t address)
{
	int r = 0;

	if (!m->row || address < m->address)
		return -EBADMSG;
	if (address > m->address)
		r = m->row(m->userdata, m->address, &m->now);
	m->address = address;
	return r;
}

static int advance(struct cfi_machine *m, uint64_t delta)
{
	uint64_t address;

	if (__builtin_mul_overflow(delta, m->cie->code_factor, &address) ||
	    __builtin_add_overflow(address, m->address, &address))
		return -EBADMSG;
	return advance_to(m, address);
}

static int set_location(struct cfi_machine *m, struct cursor *c)
{
	uint64_t address;

	if (!eh_frame_read_address(m->frame, c, m->cie->encoding, &address))
		return -EBADMSG;
	return advance_to(m, address);
}

static int remember(struct cfi_machine *m)
{
	if (m->n_remembered == CFI_REMEMBERED_MAX)
		return -EBADMSG;
	m->remembered[m->n_remembered++] = m->now;
	return 0;
}

static int recall(struct cfi_machine *m)
{
	if (m->n_remembered == 0)
		return -EBADMSG;
	m->now = m->remembered[--m->n_remembered];
	return 0;
}

/* Instructions about the CFA. False: it is none of them. */
static bool run_cfa(struct cfi_machine *m, struct cursor *c, uint64_t instruction)
{
	struct cfi_state *s = &m->now;
	uint64_t number;

	switch (instruction) {
	case DW_CFA_def_cfa:
		number = read_uleb128(c);
		define_cfa(m, number, (int64_t)read_uleb128(c));
		return true;
	case DW_CFA_def_cfa_sf:
		number = read_uleb128(c);
		define_cfa(m, number, factored(m, (uint64_t)read_sleb128(c)));
		return true;
	case DW_CFA_def_cfa_register: define_cfa(m, read_uleb128(c), s->cfa_offset); return true;
	case DW_CFA_def_cfa_offset: define_cfa(m, s->cfa_register, (int64_t)read_uleb128(c)); return true;
	case DW_CFA_def_cfa_offset_sf:
		define_cfa(m, s->cfa_register, factored(m, (uint64_t)read_sleb128(c)));
		return true;
	case DW_CFA_def_cfa_expression:
		number = read_uleb128(c);
		s->cfa_expression = read_block(c, number);
		s->by_expression = true;
		return true;
	default: return false;
	}
}

/* Instructions about a register; all begin with its number. False: it is none of them. */
static bool run_register(struct cfi_machine *m, struct cursor *c, uint64_t instruction)
{
	uint64_t number, size;

	switch (instruction) {
	case DW_CFA_offset_extended:
		number = read_uleb128(c);
		set_column(m, number, CFI_AT_CFA, factored(m, read_uleb128(c)));
		return true;
	case DW_CFA_offset_extended_sf:
		number = read_uleb128(c);
		set_column(m, number, CFI_AT_CFA, factored(m, (uint64_t)read_sleb128(c)));
		return true;
	case DW_CFA_GNU_negative_offset_extended:
		number = read_uleb128(c);
		set_column(m, number, CFI_AT_CFA, factored(m, 0 - read_uleb128(c)));
		return true;
	case DW_CFA_val_offset:
		number = read_uleb128(c);
		set_column(m, number, CFI_CFA, factored(m, read_uleb128(c)));
		return true;
	case DW_CFA_val_offset_sf:
		number = read_uleb128(c);
		set_column(m, number, CFI_CFA, factored(m, (uint64_t)read_sleb128(c)));
		return true;
	case DW_CFA_register:
		number = read_uleb128(c);
		(void)read_uleb128(c);
		set_column(m, number, CFI_OTHERWISE, 0);
		return true;
	case DW_CFA_expression:
	case DW_CFA_val_expression:
		number = read_uleb128(c);
		size = read_uleb128(c);
		set_column_expression(m, number,
				      instruction == DW_CFA_expression ? CFI_EXPRESSION : CFI_OTHERWISE,
				      read_block(c, size));
		return true;
	case DW_CFA_restore_extended: restore_column(m, read_uleb128(c)); return true;
	case DW_CFA_undefined: set_column(m, read_uleb128(c), CFI_UNDEFINED, 0); return true;
	case DW_CFA_same_value: set_column(m, read_uleb128(c), CFI_SAME, 0); return true;
	default: return false;
	}
}

static int run_instruction(struct cfi_machine *m, struct cursor *c)
{
	uint64_t instruction = read_fixed(c, 1), operand = instruction & DW_CFA_OPERAND;

	switch (instruction & (uint64_t)~DW_CFA_OPERAND) {
	case DW_CFA_advance_loc: return advance(m, operand);
	case DW_CFA_offset: set_column(m, operand, CFI_AT_CFA, factored(m, read_uleb128(c))); return 0;
	case DW_CFA_restore: restore_column(m, operand); return 0;
	}
	switch (instruction) {
	case DW_CFA_nop: return 0;
	case DW_CFA_set_loc: return set_location(m, c);
	case DW_CFA_advance_loc1: return advance(m, read_fixed(c, 1));
	case DW_CFA_advance_loc2: return advance(m, read_fixed(c, 2));
	case DW_CFA_advance_loc4: return advance(m, read_fixed(c, 4));
	case DW_CFA_remember_state: return remember(m);
	case DW_CFA_restore_state: return recall(m);
	case DW_CFA_GNU_args_size: (void)read_uleb128(c); return 0;
	default: return run_cfa(m, c, instruction) || run_register(m, c, instruction) ? 0 : -EBADMSG;
	}
}

static int run(struct cfi_machine *m, struct cursor c)
{
	int r = 0;

	while (r >= 0 && !cursor_at_end(&c))
		r = run_instruction(m, &c);
	return r >= 0 && c.bad ? -EBADMSG : r;
}

int cfi_run(struct cfi_machine *m, const struct eh_frame *f, const struct cie *cie, const struct fde *function,
	    int (*row)(void *userdata, uint64_t address, const struct cfi_state *state), void *userdata)
{
	int r;

	m->frame = f;
	m->cie = cie;
	m->now = (struct cfi_state){};
	m->n_remembered = 0;
	m->address = function->start;
	m->row = NULL;
	m->userdata = userdata;
	r = run(m, cie->instructions);
	if (r < 0)
		return r;
	m->initial = m->now;
	m->row = row;
	r = run(m, cursor_of(f->bytes + function->instructions, function->instructions_end - function->instructions));
	return r < 0 ? r : row(userdata, m->address, &m->now);
}
