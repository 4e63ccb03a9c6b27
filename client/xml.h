/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base.h"

/* Text as XML takes it in elements and attributes; s is UTF-8 that text_escape() has gone over. n: at most so many bytes. */
void put_xml(FILE *file, const char *s);
void put_xml_n(FILE *file, const char *s, size_t n);
