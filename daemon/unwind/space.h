/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Places in a fixed number of units, one bit each: runs are taken and given back. Takes are next fit, so that one run costs about
 * its own length however full the space is. */
#pragma once

#include "base.h"

struct space {
	uint64_t *bits; /* 1: taken */
	uint32_t n, used, next;
	uint32_t boundary; /* no run crosses a multiple of it; 0: none */
};

int space_init(struct space *s, uint32_t n, uint32_t boundary);
void space_done(struct space *s);
/* The first unit of n in a row; -ENOSPC. n > 0. */
int64_t space_take(struct space *s, uint32_t n);
void space_give(struct space *s, uint32_t first, uint32_t n);
