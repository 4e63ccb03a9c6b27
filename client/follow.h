/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is told as it happens: the method Subscribe. */
#pragma once

#include "call.h"
#include "table.h"

/* Puts an event into rows of the table, or with --json prints it. */
typedef bool (*follow_event_fn)(const struct options *o, struct table *t, const struct json *event);

/* Asks for the newest 10 (-n) that are kept and for all that come, of "anomalies" or "incidents" only, and shows them until the
 * daemon stops, which is told, or nobody reads. Gives the exit status. */
int follow(const struct options *o, const char *only, struct table *t, follow_event_fn fn);
