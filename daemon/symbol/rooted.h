/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening files that somebody else may have laid out, below a directory such as /proc/PID/root. */
#pragma once

#include <sys/stat.h>

#include "base.h"

/* Whether a device's file system may let a look-up wait for ever. */
typedef bool (*may_block_fn)(void *userdata, dev_t device);

/* An O_PATH descriptor of a regular file, and what it is. Goes a step at a time: no link is followed (it would lead out of that
 * root), and of each directory it is asked first whether a look-up in it might wait. path is relative; "." and ".." don't
 * occur in it. */
int rooted_find(int root_fd, const char *path, may_block_fn may_block, void *userdata, struct stat *ret_stat);
/* For reading; never waits. */
int rooted_open(int path_fd);
