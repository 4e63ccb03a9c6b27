/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "walk.h"

struct walk {
	const struct perfdata_carried *carried;
	uint64_t ip, sp, bp;
	bool exact;   /* ip is where it goes on, not a return address */
	bool bp_lost;
	struct walk_end end;
};

/* False, for a step that leads no further. */
static bool stop(struct walk *w, enum stackd_unwind_end end)
{
	w->end.end = end;
	return false;
}

static bool read_word(const struct walk *w, uint64_t at, uint64_t *ret)
{
	uint64_t offset = at - w->carried->sp;

	if (at < w->carried->sp || w->carried->size < sizeof(*ret) || offset > w->carried->size - sizeof(*ret))
		return false;
	memcpy(ret, w->carried->stack + offset, sizeof(*ret));
	return true;
}

static bool by_frame_pointer(struct walk *w, enum stackd_unwind_end otherwise)
{
	uint64_t bp, ip;

	w->end.frame_pointers = true;
	if (w->bp_lost || w->bp < w->sp || !read_word(w, w->bp, &bp) || !read_word(w, w->bp + 8, &ip))
		return stop(w, otherwise);
	if (ip == 0)
		return stop(w, STACKD_UNWIND_COMPLETE);
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
		return stop(w, STACKD_UNWIND_READ);
	w->ip = ip;
	w->sp = sp;
	w->bp = bp;
	w->exact = true;
	w->bp_lost = false;
	return true;
}

/* Where the stack pointer was before the call. */
static bool find_cfa(struct walk *w, const struct unwind_rule *rule, uint64_t *ret)
{
	uint64_t offset = (uint64_t)(int64_t)rule->cfa_offset, saved;

	switch (rule->cfa) {
	case UNWIND_CFA_RSP:
		*ret = w->sp + offset;
		return true;
	case UNWIND_CFA_RBP:
		*ret = w->bp + offset;
		return !w->bp_lost || stop(w, STACKD_UNWIND_RULE);
	case UNWIND_CFA_PLT:
		*ret = w->sp + 8 + ((w->ip & 15) >= offset ? 8 : 0);
		return true;
	case UNWIND_CFA_AT_RSP:
	case UNWIND_CFA_AT_RSP_8:
		if (!read_word(w, w->sp + offset, &saved))
			return stop(w, STACKD_UNWIND_READ);
		*ret = saved + (rule->cfa == UNWIND_CFA_AT_RSP_8 ? 8 : 0);
		return true;
	case UNWIND_CFA_AT_RBP:
		if (w->bp_lost)
			return stop(w, STACKD_UNWIND_RULE);
		return read_word(w, w->bp + offset, ret) || stop(w, STACKD_UNWIND_READ);
	case UNWIND_CFA_END:
		return stop(w, STACKD_UNWIND_COMPLETE);
	case UNWIND_CFA_NONE:
		return stop(w, STACKD_UNWIND_ROW);
	default:
		return stop(w, STACKD_UNWIND_RULE);
	}
}

static bool find_bp(struct walk *w, const struct unwind_rule *rule, uint64_t cfa)
{
	uint64_t offset = (uint64_t)(int64_t)rule->rbp_offset;

	if (rule->rbp == UNWIND_RBP_SAME)
		return true;
	if (rule->rbp == UNWIND_RBP_UNDEFINED) {
		w->bp_lost = true;
		return true;
	}
	if (rule->rbp == UNWIND_RBP_AT_RBP && w->bp_lost)
		return stop(w, STACKD_UNWIND_RULE);
	w->bp_lost = false;
	return read_word(w, (rule->rbp == UNWIND_RBP_AT_CFA ? cfa : w->bp) + offset, &w->bp) || stop(w, STACKD_UNWIND_READ);
}

/* From a frame to the one that called it. False: that was the last one, or what it takes is not there. */
static bool by_rule(struct walk *w, const struct unwind_rule *rule)
{
	uint64_t cfa, ip;

	if (rule->cfa == UNWIND_CFA_FRAME_POINTER)
		return by_frame_pointer(w, STACKD_UNWIND_ROW);
	if (rule->cfa == UNWIND_CFA_SIGNAL)
		return by_signal_frame(w, rule->cfa_offset);
	if (!find_cfa(w, rule, &cfa))
		return false;
	if (cfa <= w->sp)
		return stop(w, STACKD_UNWIND_FRAME);
	if (!read_word(w, cfa - 8, &ip))
		return stop(w, STACKD_UNWIND_READ);
	if (ip == 0)
		return stop(w, STACKD_UNWIND_COMPLETE);
	if (!find_bp(w, rule, cfa))
		return false;
	w->sp = cfa;
	w->ip = ip;
	w->exact = false;
	return true;
}

size_t walk_stack(const struct perfdata_carried *carried, walk_find_fn find, void *userdata, uint64_t *ret, size_t max,
		  struct walk_end *ret_end)
{
	struct walk w = { .carried = carried, .ip = carried->ip, .sp = carried->sp, .bp = carried->bp, .exact = true };
	size_t n = 0;
	bool more = true;

	w.end.end = STACKD_UNWIND_DEPTH;
	while (more && n < max) {
		const struct unwind_rule *rule = NULL;
		bool found = find(userdata, w.ip - !w.exact, &rule), signal = rule && rule->cfa == UNWIND_CFA_SIGNAL;

		if (!found && n > 0 && !w.exact) {
			w.end.end = STACKD_UNWIND_MAPPING; /* a word that is no return address */
			break;
		}
		ret[n] = w.ip + (n > 0 && (w.exact || signal));
		n++;
		more = rule ? by_rule(&w, rule) : by_frame_pointer(&w, found ? STACKD_UNWIND_TABLE : STACKD_UNWIND_MAPPING);
	}
	*ret_end = w.end;
	return n;
}
