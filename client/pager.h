/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base.h"

/* Sends stdout (and stderr, when it is the same terminal) through a pager, as journalctl(1) does:
 * $SYSTEMD_PAGER, $PAGER, else less or more, only on a terminal. Without a pager everything goes on as
 * before. */
void pager_open(void);

/* Waits until the pager was left. */
void pager_close(void);
