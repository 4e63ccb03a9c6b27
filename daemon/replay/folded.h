/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stacks as lines "comm;outermost;...;innermost", summed up. */
#pragma once

#include "base.h"

/* Of lines that differ; what comes beyond is counted only. */
#define FOLDED_LINES_MAX (1U << 20)
#define FOLDED_BYTES_MAX (256U << 20)

struct folded;

int folded_new(struct folded **ret);
struct folded *folded_free(struct folded *f);
DEFINE_CLEANUP(struct folded *, folded_free)

/* -ENOMEM. */
int folded_add(struct folded *f, const char *line, uint64_t value);
/* What was added that there was no room for. */
uint64_t folded_dropped(const struct folded *f);
/* In the order of their bytes, as sort(1) does in the C locale. -EIO and others of writing. */
int folded_write(struct folded *f, FILE *file);
