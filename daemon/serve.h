/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stackd serve: answers for one recording, as the daemon does for the machine, whoever may connect to the listening socket that is its
 * standard input. Ends when its standard output is closed by whoever reads that. */
#pragma once

#include "base.h"

/* argv[0] is "serve". Gives the exit status, and has said what went wrong. */
int serve_main(int argc, char *argv[], const char *remedies_path);
