/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unwind tables of the files of a recording (bpf/unwind.h), made by the parser when they are first needed. */
#pragma once

#include "names.h"
#include "../../bpf/unwind.h"

#define FRAME_TABLE_MAX (64U << 20)   /* bytes of one */
#define FRAME_TABLES_MAX (512U << 20) /* of all: files that come later have none */

struct frame_tables;

int frame_tables_new(struct frame_tables **ret, struct names *names, struct helper *helper);
struct frame_tables *frame_tables_free(struct frame_tables *t);
DEFINE_CLEANUP(struct frame_tables *, frame_tables_free)

/* The rule at an offset into a file; NULL: the file has no table. Waits for the parser, for some seconds at most. */
const struct unwind_rule *frame_tables_find(struct frame_tables *t, uint64_t file, uint64_t offset, uint64_t *ret_address);
