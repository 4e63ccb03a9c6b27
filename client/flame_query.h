/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stacks for a flame graph, from stackd or from saved files. What goes wrong is told to the user here; the
 * functions then give false. The tree is built, and meta says where it is from. */
#pragma once

#include "flame.h"
#include "options.h"

bool flame_of_window(struct flame **ret, struct flame_meta *meta, const struct options *o);
bool flame_of_hot_cold(struct flame **ret, struct flame_meta *meta, const struct options *o);
/* o->diff: "SINCE/UNTIL..SINCE/UNTIL", or a time span: the last and the one before it; or "A..B", each the name of an import or of a file of
 * folded stacks. With file, o->diff is one, too. */
bool flame_of_diff(struct flame **ret, struct flame_meta *meta, const struct options *o, const char *file);
/* As flame_scope.h says. */
bool flame_of_anomaly(struct flame **ret, struct flame_meta *meta, const struct options *o);
bool flame_of_incident(struct flame **ret, struct flame_meta *meta, const struct options *o);
bool flame_of_file(struct flame **ret, struct flame_meta *meta, const struct options *o, const char *path);

/* Adds the stacks of a file to one side; one_value: it may have no two. */
bool flame_read_file(struct flame *f, const char *path, enum flame_side side, bool one_value);
/* What follows the last slash. */
const char *flame_base_name(const char *path);

/* The window of several calls, which has ended when the first is made: what wasn't given is stackd's own default, or all of an import. */
void flame_settle_window(struct options *o);

struct time_window {
	uint64_t since_us, until_us;
};
/* "SINCE/UNTIL" or "SINCE/+SPAN"; as parse_diff(). */
int parse_window(const char *s, uint64_t now_us, struct time_window *ret, const char **ret_reason);
/* -EINVAL with a reason (static string) that completes "Can't take "..." as --diff: ". */
int parse_diff(const char *s, uint64_t now_us, struct time_window *ret_before, struct time_window *ret_after,
               const char **ret_reason);
/* "pid:A..pid:B". 1; 0: it is none. */
int parse_diff_pids(const char *s, pid_t ret[static 2]);
/* "A..B", of which at least one has no slash, as windows have. 1: *ret_after points into s, and the caller frees *ret_before; 0: it is none. */
int parse_diff_names(const char *s, char **ret_before, const char **ret_after);
