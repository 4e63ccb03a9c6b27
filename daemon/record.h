/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stackd record: a daemon of its own, without a socket, that writes down what it takes in. */
#pragma once

#include "manager.h"

/* argv[0] is "record"; defaults: what else the daemon is set to. Gives the exit status, and has said what went wrong. */
int record_main(int argc, char *argv[], const struct manager_options *defaults);
