/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "call.h"

/* The gate's state, mode and load, in the lines that follow a label of 13 columns. history: newest first;
 * NULL when not known. */
void gate_print(const struct options *o, const struct json *gate, const struct json *history,
                struct fields *f);
