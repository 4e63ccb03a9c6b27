/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Points in time as systemd.time(7) writes them. Pure but for the zone files of tzset(3). */
#pragma once

#include "base.h"

/* Takes "2026-11-23 10:00:00", "10:00", "today", "yesterday", "tomorrow", "now" (each with an optional
 * weekday before, and "UTC", the local zone's or an IANA name behind), RFC 3339, "@epoch[.fraction]",
 * "-5min", "+1h", "5min ago", "5min left", and as stackd's own addition a bare time span: "10m" is ten
 * minutes ago.
 *
 * Local times that a clock change skips count as if the clock had not been changed; of those that come twice
 * the first is meant. -EINVAL and -ERANGE come with a reason (static string) that completes "Can't take "..."
 * as a time: ". */
int time_parse(const char *s, uint64_t now_us, uint64_t *ret_us, const char **ret_reason);

/* "2026-11-23 10:00:00", in local time: what time_parse() takes back. */
char *time_format(char buf[static FORMAT_MAX], uint64_t us);
char *time_format_exact(char buf[static FORMAT_MAX], uint64_t us); /* with what it is beyond the second */
/* "Nov 23 10:00:00", as journalctl(1) prints it. */
char *time_format_short(char buf[static FORMAT_MAX], uint64_t us);
/* The first with the weekday before and the zone's name behind. */
char *time_format_long(char buf[static FORMAT_MAX], uint64_t us);
/* "2h 3min ago", "5s left", "now". */
char *time_format_relative(char buf[static FORMAT_MAX], uint64_t us, uint64_t now_us);
