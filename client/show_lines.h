/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where in the sources a stack's calls are. */
#pragma once

#include "call.h"

/* Asks stackd; the caller frees *ret, one reply as GetLines gives it. */
bool lines_of_stack(struct json **ret, const struct options *o, uint64_t stack);
/* Shows each of the ways in which the stack was met, its innermost place first, and of what there is nothing to show. */
bool show_lines(const struct options *o, const struct json *reply);
