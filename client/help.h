/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "options.h"

void help_show(const struct options *o);
