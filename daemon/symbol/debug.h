/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where debug files are: by build ID in /usr/lib/debug/.build-id, by .gnu_debuglink beside the object, in .debug beside it, and
 * below /usr/lib/debug; by build ID also among what was fetched, in /var/cache/stackd/debug (gdb's manual, "Debugging information in separate files"). */
#pragma once

#include "objects.h"
#include "rooted.h"

/* Opens it for reading. The host's come first: by build ID they are as good as those in the process's root, which its owner may
 * have made. Only root and the object's owner are believed: a file of anybody else's is none. path: the object's as the
 * process sees it; process_fd: /proc/PID, or negative when it is gone. */
int debug_file_open(const struct object *object, const char *path, int process_fd, may_block_fn may_block, void *userdata);
/* What dwz moved out of several debug files into a common one, by its path as they have it ("../../.dwz/NAME"): the host's.
 * Whether it is the one that they mean is for the reader to see. */
int debug_common_open(const char *link);
