/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store's memory: a memfd that systemd keeps while the daemon restarts (FDSTORE, sd_notify(3)), and a file in the
 * state directory that outlives a full stop. */
#pragma once

#include "base.h"

struct arena {
	int memfd;
	void *data;
	size_t size;
	const char *origin; /* "new", "kept by the service manager", "saved by the last stop": static string */
};

/* Takes the kept memfd if there is one of this size, else makes a new one and fills it from state_dir/arena if that fits.
 * state_dir may be NULL. The saved file is removed once read: it would be stale after a crash. */
int arena_open(struct arena *ret, size_t size, int kept_fd, const char *state_dir);
void arena_close(struct arena *a);

/* Hands the memfd to the service manager; does nothing without one. */
int arena_keep(const struct arena *a);

/* Writes state_dir/arena anew, atomically and without the pages that are all zero. */
int arena_save(const struct arena *a, const char *state_dir);
