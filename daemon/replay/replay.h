/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stackd replay: a recording of perf through the daemon's rooms, without a daemon and without privileges. */
#pragma once

#include "base.h"

/* argv[0] is "replay". Gives the exit status, and has said what went wrong. */
int replay_main(int argc, char *argv[]);
