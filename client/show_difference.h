/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "options.h"

/* The stacks of a cluster's latest incident that changed most, folded: before it and during it, as flame --cluster has all. Says so when nothing of that
 * time is kept any more. */
void show_difference(const struct options *o, uint64_t cluster);
