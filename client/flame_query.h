/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stacks for a flame graph, from stackd or from saved files. What goes wrong is told to the user here; the
 * functions then give false. The tree is built, and meta says where it is from. */
#pragma once

#include "flame.h"
#include "options.h"

struct json_writer;

/* Of a GetFlame, as the options ask for it. NULL: told. */
struct json_writer *flame_parameters(const struct options *o);

bool flame_of_window(struct flame **ret, struct flame_meta *meta, const struct options *o);
bool flame_of_hot_cold(struct flame **ret, struct flame_meta *meta, const struct options *o);
/* o->diff: "SINCE/UNTIL..SINCE/UNTIL", or a time span: the last and the one before. */
bool flame_of_windows(struct flame **ret, struct flame_meta *meta, const struct options *o);
/* As flame_scope.h says. */
bool flame_of_anomaly(struct flame **ret, struct flame_meta *meta, const struct options *o);
bool flame_of_incident(struct flame **ret, struct flame_meta *meta, const struct options *o);
bool flame_of_file(struct flame **ret, struct flame_meta *meta, const struct options *o, const char *path);
bool flame_of_files(struct flame **ret, struct flame_meta *meta, const struct options *o, const char *before,
                    const char *after);

struct time_window {
	uint64_t since_us, until_us;
};
/* -EINVAL with a reason (static string) that completes "Can't take "..." as --diff: ". */
int parse_diff(const char *s, uint64_t now_us, struct time_window *ret_before, struct time_window *ret_after,
               const char **ret_reason);
