/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What people have said of clusters, as a text of its own: it outlives what a program has found out by itself, which is found out again.
 *
 *     stackd decisions 1
 *     0123456789abcdef 18446744073709551615 cpu-spin 2 0 1795827487000000 on-cpu=-0.500000
 *     sum 89abcdef01234567
 *
 * The cluster, until when it is muted (us; 0: it is not), the kind that it was given ("-": none), how often it was called real and false, as of when the
 * evidence that it needs is, and that evidence. */
#pragma once

#include "cluster.h"

/* Without the mutes that are over. The text is the caller's. */
int decisions_format(const struct clusters *c, uint64_t now_us, char **ret, size_t *ret_size);
/* Makes them hold. -EPROTO: of another version; -EBADMSG: damaged; nothing is changed then. Else how many there are. */
int decisions_parse(struct clusters *c, const char *text, size_t size);
