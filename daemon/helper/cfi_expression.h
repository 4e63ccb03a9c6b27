/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The few DWARF expressions that .eh_frame of x86-64 uses over and over, recognised by their form. None is evaluated. */
#pragma once

#include "cfi.h"
#include "../../bpf/unwind.h"

/* "register + offset" and nothing more. */
bool cfi_expression_is_base(struct cursor expression, unsigned number, int64_t *ret_offset);
/* A CFA that is written as an expression: fills in cfa and cfa_offset. False: another form. */
bool cfi_expression_to_cfa(struct cursor expression, struct unwind_rule *rule);
