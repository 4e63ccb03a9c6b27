/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs. Each tells the user itself what goes wrong and gives the exit status. */
#pragma once

#include "options.h"

int verb_status(const struct options *o, char **args);
int verb_anomalies(const struct options *o, char **args);
int verb_incidents(const struct options *o, char **args);
int verb_clusters(const struct options *o, char **args);
int verb_mute(const struct options *o, char **args);
int verb_unmute(const struct options *o, char **args);
int verb_label(const struct options *o, char **args);
int verb_check(const struct options *o, char **args);
int verb_flame(const struct options *o, char **args);
int verb_heat(const struct options *o, char **args);
int verb_top(const struct options *o, char **args);
int verb_explain(const struct options *o, char **args);
int verb_stacks(const struct options *o, char **args);
int verb_gate(const struct options *o, char **args);
int verb_compare_perf(const struct options *o, char **args);
int verb_leaks(const struct options *o, char **args);
int verb_watch_memory(const struct options *o, char **args);
int verb_unwatch_memory(const struct options *o, char **args);
int verb_missing_debug(const struct options *o, char **args);
int verb_processes(const struct options *o, char **args);
int verb_import(const struct options *o, char **args);
