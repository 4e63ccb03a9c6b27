/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs the call frame instructions of a function (DWARF 5, 6.4.2 and 6.4.3, with the extensions of GNU) as far as
 * unwinding needs them: where the frame is, and where the caller's rip, rsp and rbp are. x86-64. */
#pragma once

#include "eh_frame.h"

/* States that may be remembered at a time; compilers nest them two deep. */
#define CFI_REMEMBERED_MAX 32

/* Columns, by the numbers of the psABI. */
enum { CFI_RBP = 6, CFI_RSP = 7, CFI_RIP = 16 };

/* What is said of the caller's value of a register. */
enum cfi_how {
	CFI_UNSAID,     /* nothing: by the psABI the callee has kept rbp, and rsp is the CFA */
	CFI_SAME,       /* it is in the register */
	CFI_UNDEFINED,  /* it is lost */
	CFI_AT_CFA,     /* *(CFA + offset) */
	CFI_CFA,        /* CFA + offset */
	CFI_EXPRESSION, /* *(expression) */
	CFI_OTHERWISE,
};

struct cfi_column {
	enum cfi_how how;
	int64_t offset;
	struct cursor expression;
};

struct cfi_state {
	/* The CFA is register + offset, or an expression. */
	bool by_expression;
	uint64_t cfa_register;
	int64_t cfa_offset;
	struct cursor cfa_expression;
	struct cfi_column rip, rsp, rbp;
};

struct cfi_machine {
	const struct eh_frame *frame;
	const struct cie *cie;
	struct cfi_state now, initial, remembered[CFI_REMEMBERED_MAX];
	size_t n_remembered;
	uint64_t address; /* from which on now holds */
	/* Called for each address from which on a state holds, in ascending order; NULL while what functions have in
	 * common is run, which has no addresses. A negative result ends the run. */
	int (*row)(void *userdata, uint64_t address, const struct cfi_state *state);
	void *userdata;
};

/* Runs all of a function; cie: its own, from f. -EBADMSG: an instruction makes no sense, where m->address says; what was
 * said before holds. */
int cfi_run(struct cfi_machine *m, const struct eh_frame *f, const struct cie *cie, const struct fde *function,
	    int (*row)(void *userdata, uint64_t address, const struct cfi_state *state), void *userdata);
