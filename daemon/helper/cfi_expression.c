/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cfi_expression.h"

/* Operations by their numbers (DWARF 5, 7.7.1). */
enum {
	DW_OP_deref = 0x06,
	DW_OP_and = 0x1a,
	DW_OP_plus = 0x22,
	DW_OP_plus_uconst = 0x23,
	DW_OP_shl = 0x24,
	DW_OP_ge = 0x2a,
	DW_OP_lit0 = 0x30,
	DW_OP_breg0 = 0x70,
};

static bool read_operation(struct cursor *c, unsigned operation)
{
	return read_fixed(c, 1) == operation && !c->bad;
}

static bool read_base(struct cursor *c, unsigned number, int64_t *ret_offset)
{
	if (!read_operation(c, DW_OP_breg0 + number))
		return false;
	*ret_offset = read_sleb128(c);
	return !c->bad;
}

bool cfi_expression_is_base(struct cursor c, unsigned number, int64_t *ret_offset)
{
	return read_base(&c, number, ret_offset) && cursor_at_end(&c);
}

/* How linkers describe all of their stubs at once: rsp + 8 + ((rip & 15) >= limit) << 3. The instructions from limit on
 * come after a push. */
static bool is_plt(struct cursor c, int32_t *ret_limit)
{
	int64_t offset;
	uint64_t limit;

	if (!read_base(&c, CFI_RSP, &offset) || offset != 8 || !read_base(&c, CFI_RIP, &offset) || offset != 0 ||
	    !read_operation(&c, DW_OP_lit0 + 15) || !read_operation(&c, DW_OP_and))
		return false;
	limit = read_fixed(&c, 1) - DW_OP_lit0;
	if (limit > 15 || !read_operation(&c, DW_OP_ge) || !read_operation(&c, DW_OP_lit0 + 3) ||
	    !read_operation(&c, DW_OP_shl) || !read_operation(&c, DW_OP_plus) || !cursor_at_end(&c))
		return false;
	*ret_limit = (int32_t)limit;
	return true;
}

/* "*(register + offset)", and what is left behind it. */
static bool is_dereferenced(struct cursor *c, unsigned number, int32_t *ret_offset)
{
	int64_t offset;

	if (!read_base(c, number, &offset) || !read_operation(c, DW_OP_deref) || offset != (int32_t)offset)
		return false;
	*ret_offset = (int32_t)offset;
	return true;
}

bool cfi_expression_to_cfa(struct cursor expression, struct unwind_rule *rule)
{
	struct cursor c = expression;

	if (is_plt(c, &rule->cfa_offset)) {
		rule->cfa = UNWIND_CFA_PLT;
		return true;
	}
	if (is_dereferenced(&c, CFI_RBP, &rule->cfa_offset)) {
		rule->cfa = UNWIND_CFA_AT_RBP;
		return cursor_at_end(&c);
	}
	c = expression;
	if (!is_dereferenced(&c, CFI_RSP, &rule->cfa_offset))
		return false;
	rule->cfa = UNWIND_CFA_AT_RSP;
	if (cursor_at_end(&c))
		return true;
	rule->cfa = UNWIND_CFA_AT_RSP_8;
	return read_operation(&c, DW_OP_plus_uconst) && read_uleb128(&c) == 8 && !c.bad && cursor_at_end(&c);
}
