/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs unwind user stacks by: asks the parser for the unwind tables of what runs, and loads them into the programs'
 * maps (bpf/unwind_maps.h), in a memory of fixed size.
 *
 *   programs ──wanted──▶ processes ── mappings (symbol/) ──▶ objects ──▶ parser ──table──▶ pages, rows, rules
 *            ◀── a run of mappings for each process, naming the objects' tables ──────────────┘
 *
 * An object (a file) is loaded once for all processes, when a walk came to it and found no table; when there is no room, what the
 * programs have not needed for longest goes. Places are given away a tick after the last reference to them is gone, when
 * no program can be at them any more. */
#pragma once

#include "base.h"

struct collect;
struct helper;
struct parser_reply;
struct symbols;
struct symbols_process_key;
struct unwind;

struct unwind_config {
	uint64_t table_size; /* bytes of rows; a multiple of 1 MiB */
};

/* The rooms are borrowed. */
int unwind_new(struct unwind **ret, const struct unwind_config *config, struct collect *collect, struct symbols *symbols,
               struct helper *helper);
struct unwind *unwind_free(struct unwind *u);
DEFINE_CLEANUP(struct unwind *, unwind_free)

/* Once a tick, right after collect_tick(): takes what the programs wanted, gives places away, goes on loading. */
void unwind_tick(struct unwind *u);

/* Takes the parser's answers that are about tables (PARSER_UNWIND). */
void unwind_take(struct unwind *u, const struct parser_reply *reply);

/* The mappings of a process are no longer what they were, or it is new: reads them at the next tick, before its stacks show that
 * something is missing. */
void unwind_process_changed(struct unwind *u, const struct symbols_process_key *key);

/* Whether the stacks of a process can be walked as well as they ever will: its mappings are known, and each file's table is loaded or
 * there is none. */
bool unwind_is_ready(const struct unwind *u, const struct symbols_process_key *key);

struct unwind_status {
	uint32_t processes, processes_max;
	uint32_t objects;       /* loaded */
	uint32_t failed;        /* objects that have no table, or none that could be read */
	uint32_t waiting;       /* asked for, or being loaded */
	uint64_t rows;
	uint64_t bytes, bytes_max; /* of rows, with what rounding up takes */
	uint32_t pages, pages_max, rules, rules_max, mappings, mappings_max;
	uint64_t evictions;     /* objects that had to make room, since start */
	uint64_t refused;       /* objects for which no room could be made, since start */
};
void unwind_get_status(const struct unwind *u, struct unwind_status *ret);
