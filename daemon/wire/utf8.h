/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base.h"

/* Bytes of the well-formed UTF-8 sequence at s (1..4; overlong forms, surrogates and what is above U+10FFFF
 * are none), or 0. left: bytes there are, at least 1. */
size_t utf8_sequence(const unsigned char *s, size_t left);
