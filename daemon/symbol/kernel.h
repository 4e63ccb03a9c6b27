/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of kernel code, from /proc/kallsyms: functions of the kernel, its modules and BPF programs. */
#pragma once

#include "base.h"
#include "helper.h"

struct kernel_symbols;

struct kernel_symbol {
	const char *name;
	const char *module; /* "[ext4]", "[bpf]"; "[kernel]" for the kernel itself */
};

/* An empty table when the addresses are hidden from us: then nothing has a name. */
int kernel_symbols_read(struct kernel_symbols **ret, FILE *f);
struct kernel_symbols *kernel_symbols_free(struct kernel_symbols *k);
DEFINE_CLEANUP(struct kernel_symbols *, kernel_symbols_free)

uint32_t kernel_symbols_count(const struct kernel_symbols *k);
size_t kernel_symbols_bytes(const struct kernel_symbols *k);
/* The strings live as long as the table. */
bool kernel_symbols_find(const struct kernel_symbols *k, uint64_t address, struct kernel_symbol *ret);

/* Of the running kernel; gives how many bytes, 0: it is not known. */
size_t kernel_build_id(uint8_t ret[static PARSER_BUILD_ID_MAX]);

/* Code of the scheduler and of locks, which the kernel leaves out when it walks the stack of a task that
 * sleeps. */
bool kernel_symbols_is_sched(const struct kernel_symbols *k, uint64_t address);

/* Part of how our own programs were called, not of what the kernel did. */
bool kernel_symbol_is_plumbing(const char *name);
