/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this room share.
 *
 *   struct unwind ── processes[] ── items: mappings, each naming an object ──▶ objects[] ── table's pages, rules
 *                 └─ space: pages, rows (in blocks), rules, mappings; doomed: what is given away at the next tick */
#pragma once

#include "../../bpf/unwind_maps.h"
#include "collect.h"
#include "helper.h"
#include "space.h"
#include "symbol.h"
#include "unwind.h"

/* Rows are given out in blocks: 1 KiB. */
#define BLOCK_ROWS 256
#define SLAB_BLOCKS (STACKD_UNWIND_SLAB_ROWS / BLOCK_ROWS)

/* ---- tables.c: objects, and their tables in the maps ---- */

enum object_state {
	OBJECT_FREE,
	OBJECT_KNOWN,   /* no table */
	OBJECT_ASKED,   /* the parser makes one */
	OBJECT_LOADING, /* its pages are being copied */
	OBJECT_LOADED,
	OBJECT_FAILED,  /* there is none */
	OBJECT_STATES,
};

struct loaded {
	uint32_t first_page, n_pages;
	uint32_t n_rows;
	uint16_t *rules; /* global index of each of the table's rules */
	uint32_t n_rules;
};

struct object {
	uint64_t key; /* symbol.h */
	enum object_state state;
	uint32_t users;        /* mappings of it in processes[] */
	uint32_t retry_tick;   /* not asked for before */
	bool giant;
	/* OBJECT_ASKED and OBJECT_LOADING */
	uint64_t request;
	int table_fd;
	const struct unwind_table_header *table;
	size_t table_size;
	uint32_t pages_done;
	/* OBJECT_LOADING and OBJECT_LOADED */
	struct loaded loaded;
	uint64_t first_address;
	struct unwind_table_segment *segments;
	uint32_t n_segments;
};

struct tables {
	struct collect *collect;
	struct helper *helper;
	void (*changed)(void *userdata, uint32_t object);
	void *userdata;
	struct stackd_unwind_tables *shared; /* with the programs */
	struct object *objects;
	struct map64 *object_by_key;
	uint32_t n_in_state[OBJECT_STATES];
	struct space pages, blocks, rules;
	uint32_t *rule_users;  /* tables that have the rule */
	struct map64 *rule_by_value;
	struct loaded *doomed;
	size_t n_doomed, max_doomed;
	uint64_t rows, evictions, refused;
};

/* changed: an object got a table, lost it, or will have none: processes that map it must be told anew, before the next tick. */
int tables_init(struct tables *t, const struct unwind_config *config, struct collect *collect, struct helper *helper,
                void (*changed)(void *userdata, uint32_t object), void *userdata);
void tables_done(struct tables *t);
/* The object of this key, with one more user; -ENOSPC. */
int64_t tables_use(struct tables *t, uint64_t key);
void tables_unuse(struct tables *t, uint32_t object);
/* Whether asking makes sense now. needed: a walk has come to it. */
bool tables_wants(const struct tables *t, uint32_t object, bool needed);
/* Asks the parser for its table if that still makes sense; fd is borrowed. */
void tables_ask(struct tables *t, uint32_t object, int fd, bool needed);
void tables_take(struct tables *t, const struct parser_reply *reply);
/* Goes on loading what has been asked for, so much and no more. */
void tables_load(struct tables *t);
/* No program can come any more to what was taken from them before. */
void tables_settle(struct tables *t);
/* Fills in base, first_page, n_pages and object of a mapping, whose start and end are there. */
void tables_map(const struct tables *t, uint32_t object, uint64_t offset, struct stackd_unwind_mapping *mapping);
void tables_get_status(const struct tables *t, struct unwind_status *ret);
