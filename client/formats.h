/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base.h"

enum flame_format { FORMAT_FOLDED, FORMAT_SVG, FORMAT_HTML, FORMAT_SPEEDSCOPE, FORMAT_PPROF, FORMAT_D3, FORMATS };

int format_from_string(const char *s, enum flame_format *ret); /* -EINVAL */
/* By the end of a file's name: "x.speedscope.json". -EINVAL: it says nothing. */
int format_from_path(const char *path, enum flame_format *ret);
