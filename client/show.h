/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What several verbs show in the same way. */
#pragma once

#include "call.h"
#include "table.h"

/* Starts the pager unless told not to. Call once something is there to print. */
void show_begin(const struct options *o);

/* Nothing to print any more: written out, or nobody reads it. */
bool show_is_over(void);

/* Call last: writes out, waits for the pager, and turns the status to failure when some of it couldn't be
 * written. A reader that has seen enough (head, less) is none. */
int show_finish(int status);

/* One JSON document, as --json says. */
bool show_json(const struct options *o, const struct json *v);
bool show_json_written(struct json_writer *w);
struct json_writer *show_json_writer(const struct options *o);

/* The table's rows, or "-- No WHAT --". */
bool show_table(const struct options *o, struct table *t, const char *what);

/* ---- figures ---- */

/* "1.80s/s", "3.1k faults/s": the metric's unit per second. */
char *format_rate(char buf[static FORMAT_MAX], enum metric m, double per_second);
/* "1 in 2e7": how rare chance makes a value of that probability; by the score where that is too small for a
 * double. */
char *format_odds(char buf[static FORMAT_MAX], double p_value, double score);
/* "12.3%"; "-" where there is no whole. */
char *format_share(char buf[static FORMAT_MAX], uint64_t part, uint64_t whole);
/* "12%": by how much of itself a value is off at most, in 19 of 20 cases; "-" where that is not known. */
char *format_uncertainty(char buf[static FORMAT_MAX], int64_t value, double standard_error);
/* The standard error in a row, as a reply has it; negative: it has none. */
double standard_error_in(const struct json *row, const char *key);
/* Of one of values, given the errors of these. */
double standard_error_of(const struct json *standard_errors, enum metric m);
/* "3.1k": a count for people. */
char *format_count(char buf[static FORMAT_MAX], uint64_t n);

/* A line of n small bars over values, the largest the highest. The caller frees; NULL when there is no
 * memory. */
char *sparkline(const double *values, size_t n, bool utf8);

/* ---- processes and frames ---- */

/* Those of a workload that are not told apart have pid 0: "(others)". */
char *format_pid(char buf[static FORMAT_MAX], int64_t pid);

/* "gzip[1234]", "gzip (others)"; "-" for NULL. */
char *format_process(char buf[static FORMAT_MAX], const struct json *process);
/* The unit; the cgroup where there is none; "-" where there is neither. */
const char *where_of(const struct json *object);

/* Of frames, outermost first, the name that tells most about where this metric comes from: for waits and
 * faults the innermost function of the program itself, else the innermost function that has a name and isn't
 * plumbing. "-" when there are no frames. */
const char *telling_function(const struct json *frames, enum metric m);

/* The window that was looked at, and what was lost in it, to stderr, with -v. */
void show_window(const struct options *o, enum metric m, const struct json *window);
