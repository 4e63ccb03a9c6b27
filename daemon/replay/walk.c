/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "walk.h"

struct walk {
	const struct perfdata_carried *carried;
	uint64_t ip, sp, bp;
	bool exact;   /* ip is where it goes on, not a return address */
	bool bp_lost;
};

static bool read_word(const struct walk *w, uint64_t at, uint64_t *ret)
{
	uint64_t offset = at - w->carried->sp;

	if (at < w->carried->sp || w->carried->size < sizeof(*ret) || offset > w->carried->size - sizeof(*ret))
		return false;
	memcpy(ret, w->carried->stack + offset, sizeof(*ret));
	return true;
}

static bool by_frame_pointer(struct walk *w)
{
	uint64_t bp, ip;

	if (w->bp_lost || w->bp < w->sp || !read_word(w, w->bp, &bp) || !read_word(w, w->bp + 8, &ip) || ip == 0)
		return false;
	w->sp = w->bp + 16;
	w->bp = bp;
	w->ip = ip;
	w->exact = false;
	return true;
}

/* struct sigcontext, from rbp to rip. */
static bool by_signal_frame(struct walk *w, int32_t offset)
{
	uint64_t at = w->sp + (uint64_t)(int64_t)offset, ip, sp, bp;

	if (!read_word(w, at, &sp) || !read_word(w, at + 8, &ip) || !read_word(w, at - 40, &bp))
		return false;
	*w = (struct walk){ .carried = w->carried, .ip = ip, .sp = sp, .bp = bp, .exact = true };
	return true;
}

/* Where the stack pointer was before the call. */
static bool find_cfa(const struct walk *w, const struct unwind_rule *rule, uint64_t *ret)
{
	uint64_t offset = (uint64_t)(int64_t)rule->cfa_offset;

	switch (rule->cfa) {
	case UNWIND_CFA_RSP:
		*ret = w->sp + offset;
		return true;
	case UNWIND_CFA_RBP:
		*ret = w->bp + offset;
		return !w->bp_lost;
	case UNWIND_CFA_PLT:
		*ret = w->sp + 8 + ((w->ip & 15) >= offset ? 8 : 0);
		return true;
	case UNWIND_CFA_AT_RSP:
		return read_word(w, w->sp + offset, ret);
	case UNWIND_CFA_AT_RSP_8:
		if (!read_word(w, w->sp + offset, ret))
			return false;
		*ret += 8;
		return true;
	case UNWIND_CFA_AT_RBP:
		return !w->bp_lost && read_word(w, w->bp + offset, ret);
	default:
		return false; /* the outermost, or one that no table can say */
	}
}

/* From a frame to the one that called it. False: that was the last one, or what it takes is not there. */
static bool by_rule(struct walk *w, const struct unwind_rule *rule)
{
	uint64_t cfa, ip, bp = w->bp, offset = (uint64_t)(int64_t)rule->rbp_offset;

	if (rule->cfa == UNWIND_CFA_SIGNAL)
		return by_signal_frame(w, rule->cfa_offset);
	if (!find_cfa(w, rule, &cfa) || cfa <= w->sp || !read_word(w, cfa - 8, &ip) || ip == 0)
		return false;
	if (rule->rbp == UNWIND_RBP_AT_CFA && !read_word(w, cfa + offset, &bp))
		return false;
	if (rule->rbp == UNWIND_RBP_AT_RBP && (w->bp_lost || !read_word(w, w->bp + offset, &bp)))
		return false;
	if (rule->rbp != UNWIND_RBP_SAME)
		w->bp_lost = rule->rbp == UNWIND_RBP_UNDEFINED;
	w->bp = bp;
	w->sp = cfa;
	w->ip = ip;
	w->exact = false;
	return true;
}

size_t walk_stack(struct frame_tables *tables, const struct tasks *tasks, uint32_t pid, const struct perfdata_carried *carried,
		  struct names_frame *ret, size_t max)
{
	struct walk w = { .carried = carried, .ip = carried->ip, .sp = carried->sp, .bp = carried->bp, .exact = true };
	size_t n = 0;
	bool more = true;

	while (more && n < max) {
		const struct unwind_rule *rule = NULL;
		struct names_frame *f = &ret[n];
		uint64_t address;

		*f = (struct names_frame){};
		if (tasks_find(tasks, pid, w.ip - !w.exact, &f->file, &f->offset))
			rule = f->file ? frame_tables_find(tables, f->file, f->offset, &address) : NULL;
		else if (n > 0 && !w.exact)
			break; /* a word that is no return address */
		n++;
		more = rule ? by_rule(&w, rule) : by_frame_pointer(&w);
	}
	return n;
}
