/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a symbol's name to what a programmer calls it: C++ (Itanium) and Rust (legacy and v0), by libiberty, whose
 * demangler is the one of perf, gdb and binutils. Parameters and return types are left out, as perf does. Runs in the
 * parser only: names come from files that may be hostile. */
#pragma once

#include "base.h"

/* Writes at most size - 1 bytes and a NUL; what is longer ends in "...". A name that isn't mangled is copied.
 * "@plt" and clone suffixes (".cold", ".part.0") stay. Gives the length. */
size_t demangle(const char *name, char *ret, size_t size);
