/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>

#include "elf_unwind.h"
#include "cfi_expression.h"

/* A power of two, twice the rules. */
#define RULE_SLOTS (2 * ELF_UNWIND_RULES_MAX)
#define FUNCTION_ALIGNMENT 16

/* Code without .eh_frame: less of it than this is somebody's assembler, which does with rbp what it likes. Of more it is looked
 * whether its functions begin as those do that keep frame pointers: one in each so many bytes at least. V8's have one in 840,
 * dav1d's assembler and libcrypto's tables none in a million. */
#define UNSAID_MIN (64U << 10)
#define UNSAID_MAX (64U << 20)
#define BYTES_PER_PROLOGUE_MAX 4096
#define CODE_CHUNK (64U << 10)

static_assert(EH_FRAME_SEGMENTS_MAX == UNWIND_TABLE_SEGMENTS_MAX, "they are written as they are read");

struct table {
	uint64_t max_rows;
	uint64_t first_address;
	struct unwind_table_page *pages;
	struct unwind_rule *rules;
	struct unwind_row *rows;
	size_t n_pages, n_rules, n_rows, max_pages, max_rules, allocated_rows;
	uint32_t *slots; /* hash of a rule: its index + 1 */
	uint16_t last_rule; /* of the last row */
};

/* What makes the rows of one function. */
struct function_rows {
	struct table *table;
	const struct cie *cie;
	uint64_t from, end; /* what of it has no rows yet */
};

/* ---- rows ---- */

static int find_rule(struct table *t, const struct unwind_rule *rule, uint16_t *ret)
{
	size_t slot = hash64(rule, sizeof(*rule), 0) % RULE_SLOTS;
	int r;

	for (; t->slots[slot] > 0; slot = (slot + 1) % RULE_SLOTS)
		if (memcmp(&t->rules[t->slots[slot] - 1], rule, sizeof(*rule)) == 0) {
			*ret = (uint16_t)(t->slots[slot] - 1);
			return 0;
		}
	if (t->n_rules == ELF_UNWIND_RULES_MAX)
		return -EFBIG;
	r = grow_array((void **)&t->rules, &t->max_rules, t->n_rules + 1, sizeof(*t->rules));
	if (r < 0)
		return r;
	*ret = (uint16_t)t->n_rules;
	t->rules[t->n_rules++] = *rule;
	t->slots[slot] = (uint32_t)t->n_rules;
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
	if (t->n_rows >= t->max_rows)
		return -EFBIG;
	r = grow_array((void **)&t->rows, &t->allocated_rows, t->n_rows + 1, sizeof(*t->rows));
	if (r < 0)
		return r;
	t->rows[t->n_rows++] = (struct unwind_row){ .address = address, .rule = rule };
	page->n_rows++;
	return 0;
}

/* Makes pages up to the one that holds the address. What goes on over a page's start is repeated there; a page that
 * nothing reaches into stays empty. */
static int open_page(struct table *t, uint64_t address)
{
	uint64_t wanted = ((address - t->first_address) >> UNWIND_PAGE_SHIFT) + 1;
	int r;

	if (wanted > ELF_UNWIND_PAGES_MAX)
		return -EFBIG;
	while (t->n_pages < wanted) {
		r = grow_array((void **)&t->pages, &t->max_pages, t->n_pages + 1, sizeof(*t->pages));
		if (r < 0)
			return r;
		t->pages[t->n_pages++] = (struct unwind_table_page){ .first_row = (uint32_t)t->n_rows };
		if (t->last_rule == 0 && (t->n_pages < wanted || (uint16_t)address == 0))
			continue;
		r = put_row(t, 0, t->last_rule);
		if (r < 0)
			return r;
	}
	return 0;
}

/* From this address on the rule holds. Addresses ascend. */
static int add_row(struct table *t, uint64_t address, const struct unwind_rule *rule)
{
	uint16_t index;
	int r;

	if (t->n_pages > 0 && memcmp(rule, &t->rules[t->last_rule], sizeof(*rule)) == 0)
		return 0;
	r = find_rule(t, rule, &index);
	if (r >= 0)
		r = open_page(t, address);
	if (r >= 0)
		r = put_row(t, (uint16_t)address, index);
	t->last_rule = index;
	return r;
}

/* ---- from what is said of a place to its rule ---- */

static const struct unwind_rule unsupported = { .cfa = UNWIND_CFA_UNSUPPORTED };

static void set_rbp(struct unwind_rule *rule, const struct cfi_column *c)
{
	int64_t offset = c->offset;

	switch (c->how) {
	case CFI_UNSAID:
	case CFI_SAME: rule->rbp = UNWIND_RBP_SAME; return;
	case CFI_AT_CFA: rule->rbp = UNWIND_RBP_AT_CFA; break;
	case CFI_EXPRESSION:
		rule->rbp = UNWIND_RBP_AT_RBP;
		if (!cfi_expression_is_base(c->expression, CFI_RBP, &offset))
			offset = INT64_MAX;
		break;
	default: offset = INT64_MAX; break;
	}
	if (offset == (int16_t)offset)
		rule->rbp_offset = (int16_t)offset;
	else
		rule->rbp = UNWIND_RBP_UNDEFINED;
}

static bool is_saved_at(const struct cfi_column *c, int64_t offset)
{
	int64_t o;

	return c->how == CFI_EXPRESSION && cfi_expression_is_base(c->expression, CFI_RSP, &o) && o == offset;
}

/* The frame that the kernel makes for a signal handler, as C libraries describe it: all registers are in a struct
 * sigcontext on the stack. */
static struct unwind_rule signal_rule(const struct cfi_state *s)
{
	struct unwind_rule rule = {};

	if (!s->by_expression || !cfi_expression_to_cfa(s->cfa_expression, &rule) || rule.cfa != UNWIND_CFA_AT_RSP ||
	    !is_saved_at(&s->rsp, rule.cfa_offset) || !is_saved_at(&s->rip, (int64_t)rule.cfa_offset + 8) ||
	    !is_saved_at(&s->rbp, (int64_t)rule.cfa_offset - 40))
		return unsupported;
	rule.cfa = UNWIND_CFA_SIGNAL;
	return rule;
}

static struct unwind_rule rule_of(const struct cfi_state *s, const struct cie *cie)
{
	struct unwind_rule rule = {};

	if (cie->return_register != CFI_RIP)
		return unsupported;
	if (s->rip.how == CFI_UNDEFINED)
		return (struct unwind_rule){ .cfa = UNWIND_CFA_END };
	if (cie->is_signal_frame)
		return signal_rule(s);
	if (s->rip.how != CFI_AT_CFA || s->rip.offset != -8)
		return unsupported;
	if (s->rsp.how != CFI_UNSAID && (s->rsp.how != CFI_CFA || s->rsp.offset != 0))
		return unsupported;
	if (s->by_expression) {
		if (!cfi_expression_to_cfa(s->cfa_expression, &rule))
			return unsupported;
	} else {
		if ((s->cfa_register != CFI_RSP && s->cfa_register != CFI_RBP) ||
		    s->cfa_offset != (int32_t)s->cfa_offset)
			return unsupported;
		rule.cfa = s->cfa_register == CFI_RSP ? UNWIND_CFA_RSP : UNWIND_CFA_RBP;
		rule.cfa_offset = (int32_t)s->cfa_offset;
	}
	set_rbp(&rule, &s->rbp);
	return rule;
}

static int take_state(void *userdata, uint64_t address, const struct cfi_state *state)
{
	struct function_rows *f = userdata;
	struct unwind_rule rule;

	if (address >= f->end)
		return 0; /* what lies behind a function is not about it */
	rule = rule_of(state, f->cie);
	f->from = MAX(f->from, address);
	return add_row(f->table, f->from, &rule);
}

/* ---- functions ---- */

/* from: where the one before has ended. What is damaged in it is unsupported from where it is. */
static int add_function(struct eh_frame *frame, struct table *t, const struct fde *fde, uint64_t from)
{
	struct function_rows f = { .table = t, .from = MAX(fde->start, from), .end = fde->end };
	struct cfi_machine m;
	uint64_t broken_at;
	int r = -EBADMSG;

	f.cie = eh_frame_cie(frame, fde->cie);
	m.address = fde->start;
	if (f.cie)
		r = cfi_run(&m, frame, f.cie, fde, take_state, &f);
	if (r != -EBADMSG)
		return r;
	frame->n_skipped++;
	broken_at = MAX(m.address, f.from);
	return broken_at < f.end ? add_row(t, broken_at, &unsupported) : 0;
}

/* push %rbp; mov %rsp,%rbp */
static const uint8_t prologue[] = { 0x55, 0x48, 0x89, 0xe5 };

static size_t count_prologues(const uint8_t *code, size_t size)
{
	const uint8_t *at = code;
	size_t n = 0;

	while ((at = memmem(at, size - (size_t)(at - code), prologue, sizeof(prologue)))) {
		at += sizeof(prologue);
		n++;
	}
	return n;
}

/* Whether the code from one address to another, both in one segment, looks as if it kept frame pointers. */
static bool keeps_frame_pointers(int fd, const struct eh_frame *frame, uint64_t from, uint64_t to)
{
	const struct eh_segment *segment = frame->segments, *end = segment + frame->n_segments;
	_cleanup_free_ uint8_t *code = NULL;
	size_t n = 0;

	if (to - from < UNSAID_MIN || to - from > UNSAID_MAX)
		return false;
	while (segment < end && (from < segment->address || to - segment->address > segment->size))
		segment++;
	if (segment == end)
		return false;
	code = malloc(CODE_CHUNK);
	for (uint64_t at = from; code && at < to; at += CODE_CHUNK) {
		ssize_t got = pread(fd, code, MIN(to - at, (uint64_t)CODE_CHUNK), (off_t)(segment->offset + (at - segment->address)));

		if (got <= 0)
			return false;
		n += count_prologues(code, (size_t)got);
	}
	return n >= (to - from) / BYTES_PER_PROLOGUE_MAX;
}

/* What is between functions for their alignment is never executed, and needs no row. */
static bool is_padding(uint64_t from, uint64_t to)
{
	return to % FUNCTION_ALIGNMENT == 0 && to - from < FUNCTION_ALIGNMENT;
}

static int make_rows(struct eh_frame *frame, struct table *t, int fd)
{
	static const struct unwind_rule none = { .cfa = UNWIND_CFA_NONE }, frame_pointer = { .cfa = UNWIND_CFA_FRAME_POINTER };
	uint64_t end = 0;
	uint16_t index;
	int r;

	t->slots = calloc(RULE_SLOTS, sizeof(*t->slots));
	if (!t->slots)
		return -ENOMEM;
	r = find_rule(t, &none, &index);
	t->first_address = frame->functions[0].start & ~((UINT64_C(1) << UNWIND_PAGE_SHIFT) - 1);
	for (size_t i = 0; r >= 0 && i < frame->n_functions; i++) {
		const struct fde *fde = &frame->functions[i];

		/* Two that are about one address contradict each other; the first one wins. */
		if (fde->start < end)
			frame->n_skipped++;
		if (fde->end <= end)
			continue;
		if (end > 0 && fde->start > end && !is_padding(end, fde->start))
			r = add_row(t, end, keeps_frame_pointers(fd, frame, end, fde->start) ? &frame_pointer : &none);
		if (r >= 0)
			r = add_function(frame, t, fde, end);
		end = fde->end;
	}
	if (r >= 0)
		r = add_row(t, end, &none);
	return r;
}

/* ---- writing ---- */

static int write_at(int fd, const void *data, size_t size, uint64_t *offset)
{
	const char *at = data;

	while (size > 0) {
		ssize_t n = pwrite(fd, at, size, (off_t)*offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? negative_errno() : -EIO;
		at += n;
		*offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static uint32_t count_unsupported(const struct table *t)
{
	uint32_t n = 0;

	for (size_t i = 0; i < t->n_rows; i++)
		n += t->rules[t->rows[i].rule].cfa == UNWIND_CFA_UNSUPPORTED;
	return n;
}

static int write_table(int fd, const struct eh_frame *frame, const struct table *t, uint64_t max_bytes,
		       struct unwind_table_header *ret)
{
	struct unwind_table_segment segments[UNWIND_TABLE_SEGMENTS_MAX];
	const struct {
		const void *data;
		size_t size;
	} parts[] = {
		{ ret, sizeof(*ret) },
		{ segments, frame->n_segments * sizeof(*segments) },
		{ t->pages, t->n_pages * sizeof(*t->pages) },
		{ t->rules, t->n_rules * sizeof(*t->rules) },
		{ t->rows, t->n_rows * sizeof(*t->rows) },
	};
	uint64_t total = 0, offset = 0;
	int r = 0;

	*ret = (struct unwind_table_header){
		.magic = UNWIND_TABLE_MAGIC,
		.version = UNWIND_TABLE_VERSION,
		.first_address = t->first_address,
		.eh_frame_bytes = frame->size,
		.n_pages = (uint32_t)t->n_pages,
		.n_rules = (uint32_t)t->n_rules,
		.n_rows = (uint32_t)t->n_rows,
		.n_functions = (uint32_t)frame->n_functions,
		.n_unsupported = count_unsupported(t),
		.n_skipped = frame->n_skipped,
		.n_segments = frame->n_segments,
	};
	for (uint32_t i = 0; i < frame->n_segments; i++)
		segments[i] = (struct unwind_table_segment){
			.offset = frame->segments[i].offset,
			.size = frame->segments[i].size,
			.address = frame->segments[i].address,
		};
	for (size_t i = 0; i < ELEMENTS_OF(parts); i++)
		total += parts[i].size;
	if (total > max_bytes)
		return -EFBIG;
	for (size_t i = 0; r >= 0 && i < ELEMENTS_OF(parts); i++)
		r = write_at(fd, parts[i].data, parts[i].size, &offset);
	return r;
}

int elf_unwind_write(int fd, int table_fd, uint64_t max_bytes, struct unwind_table_header *ret)
{
	struct table t = { .max_rows = MIN(max_bytes / sizeof(struct unwind_row), (uint64_t)INT32_MAX) };
	struct eh_frame frame;
	int r;

	r = eh_frame_load(&frame, fd);
	if (r >= 0)
		r = make_rows(&frame, &t, fd);
	if (r >= 0)
		r = write_table(table_fd, &frame, &t, max_bytes, ret);
	eh_frame_free(&frame);
	free(t.pages);
	free(t.rules);
	free(t.slots);
	free(t.rows);
	return r;
}
