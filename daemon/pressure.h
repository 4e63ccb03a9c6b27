/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PSI triggers as further openers of the gate (Documentation/accounting/psi.rst). */
#pragma once

#include "base.h"
#include "conf.h"

struct pressure;

/* Opens the triggers that conf asks for; needs CAP_SYS_RESOURCE for windows that are not a multiple of 2 s. A trigger that
 * can't be opened (a kernel without PSI) is warned about and left out. */
int pressure_new(struct pressure **ret, const struct conf *conf);
struct pressure *pressure_free(struct pressure *p);
DEFINE_CLEANUP(struct pressure *, pressure_free)

int pressure_fd(const struct pressure *p); /* readable when a trigger fired */
/* The cause of one trigger that fired, "pressure-io-full": static for the life of p. NULL when there is none left. */
const char *pressure_next(struct pressure *p);
