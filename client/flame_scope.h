/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where and when to look for what changed in an anomaly or an incident. What goes wrong is told to the user here; the
 * functions then give false. */
#pragma once

#include "flame_query.h"
#include "wire.h"

#define SCOPE_PROGRAMS_MAX 8 /* as many as stackd tells of an incident */

struct flame_scope {
	struct time_window windows[2]; /* by enum flame_side */
	struct options about[SCOPE_PROGRAMS_MAX]; /* a question for each program; no process is in two of them */
	size_t n;
	char what[4 * FORMAT_MAX];
	struct json *root; /* owns the strings of about */
};

#define _cleanup_scope_ _cleanup_(flame_scope_done)
void flame_scope_done(struct flame_scope *s);

/* o->anomaly: the minute before it, and from its beginning to a minute after it was seen, in its program. */
bool scope_of_anomaly(struct flame_scope *ret, const struct options *o);
/* o->incident, or the latest of o->cluster: the minute before what moved most began to, and from then to its
 * end or now, in its programs, in that metric. */
bool scope_of_incident(struct flame_scope *ret, const struct options *o);
