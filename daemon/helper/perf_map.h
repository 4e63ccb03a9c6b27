/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parser's reading of /tmp/perf-PID.map, in which a just-in-time compiler says where it put which function: lines of
 * "START SIZE NAME", in hexadecimal digits (tools/perf/Documentation/jit-interface.txt in Linux). Code is thrown away and its
 * memory used again, so where lines overlap the later one is right. */
#pragma once

#include "elf_symbols.h"

#define PERF_MAP_BYTES_MAX (64ULL << 20)
#define PERF_MAP_LINES_MAX (1U << 20)

struct perf_map;

/* -EFBIG: above the limits. Lines that are none are left out. */
int perf_map_load(struct perf_map **ret, int fd);
struct perf_map *perf_map_free(struct perf_map *m);
DEFINE_CLEANUP(struct perf_map *, perf_map_free)

size_t perf_map_bytes(const struct perf_map *m); /* of memory */
/* As elf_symbols_lookup(), where offset, address and the start of a function are addresses in the process. */
void perf_map_lookup(const struct perf_map *m, uint64_t address, struct elf_symbol *ret);
