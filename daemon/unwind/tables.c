/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/mman.h>
#include <sys/stat.h>

#include "internal.h"

/* Tables that the parser is asked for at a time: names wait behind them. */
#define ASKED_MAX 16
/* A file that is larger may take the parser a second. */
#define GIANT_BYTES (32 << 20)
/* Rows copied at a time, 4 MiB: about a millisecond. */
#define LOAD_ROWS (1u << 20)
/* What was needed within so many ticks is not thrown out for something else, or both would come and go. */
#define EVICT_IDLE_TICKS 10
/* After that many ticks an object that found no room, or whose parser died, is asked for again. */
#define RETRY_TICKS 60

/* Of every table; what has no place among the rules is not supported. */
#define RULE_NONE 0
#define RULE_UNSUPPORTED 1

static void set_state(struct tables *t, struct object *o, enum object_state state)
{
	t->n_in_state[o->state]--;
	t->n_in_state[state]++;
	o->state = state;
}

static uint64_t rule_value(const struct unwind_rule *rule)
{
	uint64_t value;

	memcpy(&value, rule, sizeof value);
	return value;
}

static void reserve_rule(struct tables *t, uint32_t index, enum unwind_cfa cfa)
{
	struct unwind_rule rule = { .cfa = cfa };

	(void)space_take(&t->rules, 1);
	t->rule_users[index] = 1;
	t->shared->rules[index] = rule;
	(void)map64_put(t->rule_by_value, rule_value(&rule), index);
}

int tables_init(struct tables *t, const struct unwind_config *config, struct collect *collect, struct helper *helper,
                void (*changed)(void *userdata, uint32_t object), void *userdata)
{
	uint64_t slabs = config->table_size / sizeof(struct stackd_unwind_slab);
	int r;

	*t = (struct tables){ .collect = collect, .helper = helper, .changed = changed, .userdata = userdata };
	if (slabs == 0 || slabs > STACKD_UNWIND_SLABS_MAX)
		return -EINVAL;
	t->shared = collect_unwind_tables(collect);
	t->n_in_state[OBJECT_FREE] = STACKD_UNWIND_OBJECTS;
	t->objects = calloc(STACKD_UNWIND_OBJECTS, sizeof *t->objects);
	t->rule_users = calloc(STACKD_UNWIND_RULES, sizeof *t->rule_users);
	if (!t->objects || !t->rule_users)
		return -ENOMEM;
	for (uint32_t i = 0; i < STACKD_UNWIND_OBJECTS; i++)
		t->objects[i].table_fd = -EBADF;
	if ((r = map64_new(&t->object_by_key, STACKD_UNWIND_OBJECTS)) < 0 ||
	    (r = map64_new(&t->rule_by_value, STACKD_UNWIND_RULES)) < 0 || (r = space_init(&t->pages, STACKD_UNWIND_PAGES, 0)) < 0 ||
	    (r = space_init(&t->rules, STACKD_UNWIND_RULES, 0)) < 0 ||
	    (r = space_init(&t->blocks, (uint32_t)slabs * SLAB_BLOCKS, SLAB_BLOCKS)) < 0)
		return r;
	if (!t->shared)
		return 0;
	reserve_rule(t, RULE_NONE, UNWIND_CFA_NONE);
	reserve_rule(t, RULE_UNSUPPORTED, UNWIND_CFA_UNSUPPORTED);
	return 0;
}

static void drop_table(struct object *o)
{
	if (o->table)
		munmap((void *)o->table, o->table_size);
	o->table = NULL;
	o->table_fd = close_fd(o->table_fd);
}

void tables_done(struct tables *t)
{
	for (uint32_t i = 0; t->objects && i < STACKD_UNWIND_OBJECTS; i++) {
		drop_table(&t->objects[i]);
		free(t->objects[i].segments);
		free(t->objects[i].loaded.rules);
	}
	for (size_t i = 0; i < t->n_doomed; i++)
		free(t->doomed[i].rules);
	free(t->doomed);
	free(t->objects);
	free(t->rule_users);
	map64_free(t->object_by_key);
	map64_free(t->rule_by_value);
	space_done(&t->pages);
	space_done(&t->rules);
	space_done(&t->blocks);
}

/* ---- objects ---- */

/* An object that no process maps, and that has no table. */
static struct object *find_unused(struct tables *t)
{
	for (uint32_t i = 0; i < STACKD_UNWIND_OBJECTS; i++) {
		struct object *o = &t->objects[i];

		if (o->users == 0 && (o->state == OBJECT_FREE || o->state == OBJECT_KNOWN || o->state == OBJECT_FAILED))
			return o;
	}
	return NULL;
}

int64_t tables_use(struct tables *t, uint64_t key)
{
	struct object *o;
	uint64_t index;

	if (map64_get(t->object_by_key, key, &index)) {
		t->objects[index].users++;
		return (int64_t)index;
	}
	o = find_unused(t);
	if (!o)
		return -ENOSPC;
	if (o->state != OBJECT_FREE)
		map64_remove(t->object_by_key, o->key);
	set_state(t, o, OBJECT_KNOWN);
	*o = (struct object){ .key = key, .state = OBJECT_KNOWN, .users = 1, .table_fd = -EBADF };
	(void)map64_put(t->object_by_key, key, (uint64_t)(o - t->objects));
	return o - t->objects;
}

void tables_unuse(struct tables *t, uint32_t object)
{
	t->objects[object].users--;
}

/* ---- what a table takes, and giving it back ---- */

static uint32_t blocks_of(uint32_t n_rows)
{
	return (n_rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
}

static void give_back(struct tables *t, struct loaded *l)
{
	for (uint32_t i = l->first_page; i < l->first_page + l->n_pages; i++) {
		struct stackd_unwind_page *page = &t->shared->pages[i];

		if (page->n_rows > 0)
			space_give(&t->blocks, page->first_row / BLOCK_ROWS, blocks_of(page->n_rows));
		*page = (struct stackd_unwind_page){};
	}
	if (l->n_pages > 0)
		space_give(&t->pages, l->first_page, l->n_pages);
	for (uint32_t i = 0; i < l->n_rules; i++)
		if (--t->rule_users[l->rules[i]] == 0) {
			map64_remove(t->rule_by_value, rule_value(&t->shared->rules[l->rules[i]]));
			space_give(&t->rules, l->rules[i], 1);
		}
	free(l->rules);
	*l = (struct loaded){};
}

void tables_settle(struct tables *t)
{
	for (size_t i = 0; i < t->n_doomed; i++)
		give_back(t, &t->doomed[i]);
	t->n_doomed = 0;
}

static int doom(struct tables *t, struct loaded *l)
{
	if (t->n_doomed == t->max_doomed) {
		size_t max = t->max_doomed ? 2 * t->max_doomed : 16;
		struct loaded *p = reallocarray(t->doomed, max, sizeof *p);

		if (!p)
			return -ENOMEM;
		t->doomed = p;
		t->max_doomed = max;
	}
	t->doomed[t->n_doomed++] = *l;
	*l = (struct loaded){};
	return 0;
}

/* Throws out the table that the programs haven't needed for longest. Its place is free after the next tick. */
static int evict_one(struct tables *t)
{
	struct object *oldest = NULL;
	uint32_t oldest_idle = EVICT_IDLE_TICKS, index;

	for (uint32_t i = 0; i < STACKD_UNWIND_OBJECTS; i++) {
		uint32_t idle = t->shared->tick - t->shared->used[i];

		if (t->objects[i].state == OBJECT_LOADED && idle > oldest_idle) {
			oldest = &t->objects[i];
			oldest_idle = idle;
		}
	}
	if (!oldest)
		return -ENOSPC;
	index = (uint32_t)(oldest - t->objects);
	t->rows -= oldest->loaded.n_rows;
	if (doom(t, &oldest->loaded) < 0) {
		t->rows += oldest->loaded.n_rows;
		return -ENOMEM;
	}
	free(oldest->segments);
	oldest->segments = NULL;
	oldest->n_segments = 0;
	set_state(t, oldest, OBJECT_KNOWN);
	t->evictions++;
	t->changed(t->userdata, index);
	return 0;
}

/* ---- asking ---- */

/* What no walk has come to yet is asked for when nothing else is; giants are asked for alone, and when a walk has come to them. */
bool tables_wants(const struct tables *t, uint32_t object, bool needed)
{
	const struct object *o = &t->objects[object];
	uint32_t asked = t->n_in_state[OBJECT_ASKED];

	return o->state == OBJECT_KNOWN && t->shared->tick >= o->retry_tick && (needed || !o->giant) &&
	       asked < (needed && !o->giant ? ASKED_MAX : 1);
}

static void put_off(struct tables *t, struct object *o)
{
	set_state(t, o, OBJECT_KNOWN);
	o->retry_tick = t->shared->tick + RETRY_TICKS;
}

static void fail(struct tables *t, struct object *o)
{
	drop_table(o);
	set_state(t, o, OBJECT_FAILED);
	t->changed(t->userdata, (uint32_t)(o - t->objects));
}

void tables_ask(struct tables *t, uint32_t object, int fd, bool needed)
{
	struct object *o = &t->objects[object];
	uint64_t max = (uint64_t)t->blocks.n * BLOCK_ROWS * sizeof(struct unwind_row);
	struct stat st;
	int r;

	o->giant = fstat(fd, &st) == 0 && st.st_size > GIANT_BYTES;
	if (!tables_wants(t, object, needed))
		return;

	o->table_fd = memfd_create("unwind-table", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (o->table_fd < 0)
		return;
	r = parser_ask_unwind(t->helper, o->key, fd, o->table_fd, max, &o->request);
	if (r < 0) {
		drop_table(o);
		if (r != -EAGAIN)
			fail(t, o);
		return;
	}
	set_state(t, o, OBJECT_ASKED);
}

/* ---- loading ---- */

/* The global index of a rule, with one more user. */
static uint16_t take_rule(struct tables *t, const struct unwind_rule *rule)
{
	uint64_t index;
	int64_t taken;

	if (!map64_get(t->rule_by_value, rule_value(rule), &index)) {
		taken = space_take(&t->rules, 1);
		index = taken < 0 ? RULE_UNSUPPORTED : (uint64_t)taken;
		if (taken >= 0) {
			t->shared->rules[index] = *rule;
			(void)map64_put(t->rule_by_value, rule_value(rule), index);
		}
	}
	t->rule_users[index]++;
	return (uint16_t)index;
}

static const struct unwind_table_segment *segments_of(const struct unwind_table_header *h)
{
	return (const void *)(h + 1);
}

static const struct unwind_table_page *pages_of(const struct unwind_table_header *h)
{
	return (const void *)(segments_of(h) + h->n_segments);
}

static const struct unwind_rule *rules_of(const struct unwind_table_header *h)
{
	return (const void *)(pages_of(h) + h->n_pages);
}

static const struct unwind_row *rows_of(const struct unwind_table_header *h)
{
	return (const void *)(rules_of(h) + h->n_rules);
}

/* -ENOSPC: there may be room after the next tick. */
static int begin_loading(struct tables *t, struct object *o)
{
	const struct unwind_table_header *h = o->table;
	int64_t first_page;

	if (h->n_pages == 0)
		return -ENODATA;
	if (h->n_pages > UINT16_MAX || h->n_rules > UINT16_MAX)
		return -E2BIG;
	first_page = space_take(&t->pages, h->n_pages);
	if (first_page < 0)
		return (int)first_page;
	o->loaded.rules = calloc(MAX(h->n_rules, 1u), sizeof *o->loaded.rules);
	o->segments = calloc(MAX(h->n_segments, 1u), sizeof *o->segments);
	if (!o->loaded.rules || !o->segments) {
		space_give(&t->pages, (uint32_t)first_page, h->n_pages);
		free(o->loaded.rules);
		o->loaded.rules = NULL;
		return -ENOMEM;
	}
	o->loaded.first_page = (uint32_t)first_page;
	o->loaded.n_pages = h->n_pages;
	for (uint32_t i = 0; i < h->n_rules; i++)
		o->loaded.rules[o->loaded.n_rules++] = take_rule(t, &rules_of(h)[i]);
	memcpy(o->segments, segments_of(h), h->n_segments * sizeof *o->segments);
	o->n_segments = h->n_segments;
	o->first_address = h->first_address;
	return 0;
}

static int load_page(struct tables *t, struct object *o, uint32_t i)
{
	const struct unwind_table_page *from = &pages_of(o->table)[i];
	const struct unwind_row *rows = rows_of(o->table) + from->first_row;
	struct stackd_unwind_slab *slab;
	uint32_t first_row;
	int64_t block;
	int r;

	if (from->n_rows == 0)
		return 0;
	block = space_take(&t->blocks, blocks_of(from->n_rows));
	if (block < 0)
		return (int)block;
	first_row = (uint32_t)block * BLOCK_ROWS;
	r = collect_unwind_slab(t->collect, first_row / STACKD_UNWIND_SLAB_ROWS, &slab);
	if (r < 0) {
		space_give(&t->blocks, (uint32_t)block, blocks_of(from->n_rows));
		return r;
	}
	for (uint32_t j = 0; j < from->n_rows; j++)
		slab->rows[first_row % STACKD_UNWIND_SLAB_ROWS + j] = (struct unwind_row){
			.address = rows[j].address,
			.rule = o->loaded.rules[rows[j].rule],
		};
	collect_unwind_slab_done(slab);
	t->shared->pages[o->loaded.first_page + i] =
		(struct stackd_unwind_page){ .first_row = first_row, .n_rows = from->n_rows };
	o->loaded.n_rows += from->n_rows;
	return 0;
}

/* Nobody refers to what was loaded so far. */
static void abandon(struct tables *t, struct object *o, int error)
{
	give_back(t, &o->loaded);
	free(o->segments);
	o->segments = NULL;
	o->n_segments = 0;
	if (error == -ENOSPC) {
		t->refused++;
		drop_table(o);
		put_off(t, o);
	} else {
		fail(t, o);
	}
}

/* 0: loaded; -EAGAIN: go on later. */
static int load(struct tables *t, struct object *o, uint32_t *budget)
{
	int r = o->loaded.n_pages > 0 ? 0 : begin_loading(t, o);

	while (r == 0 && o->pages_done < o->table->n_pages) {
		uint32_t n = pages_of(o->table)[o->pages_done].n_rows;

		if (*budget < n)
			return -EAGAIN;
		r = load_page(t, o, o->pages_done);
		if (r < 0)
			break;
		*budget -= n;
		o->pages_done++;
	}
	if (r == -ENOSPC && (t->n_doomed > 0 || evict_one(t) == 0))
		return -EAGAIN;
	return r;
}

void tables_load(struct tables *t)
{
	uint32_t budget = LOAD_ROWS;

	for (uint32_t i = 0; i < STACKD_UNWIND_OBJECTS && t->n_in_state[OBJECT_LOADING] > 0; i++) {
		struct object *o = &t->objects[i];
		int r;

		if (o->state != OBJECT_LOADING)
			continue;
		r = load(t, o, &budget);
		if (r == -EAGAIN)
			return;
		if (r < 0) {
			abandon(t, o, r);
			continue;
		}
		drop_table(o);
		t->rows += o->loaded.n_rows;
		t->shared->used[i] = t->shared->tick;
		set_state(t, o, OBJECT_LOADED);
		t->changed(t->userdata, i);
	}
}

static struct object *find_asked(struct tables *t, uint64_t request)
{
	for (uint32_t i = 0; i < STACKD_UNWIND_OBJECTS; i++)
		if (t->objects[i].state == OBJECT_ASKED && t->objects[i].request == request)
			return &t->objects[i];
	return NULL;
}

void tables_take(struct tables *t, const struct parser_reply *reply)
{
	struct object *o = find_asked(t, reply->request);
	int r;

	if (!o)
		return;
	if (reply->error == -EPIPE) {
		drop_table(o);
		put_off(t, o);
		return;
	}
	r = reply->error;
	if (r >= 0)
		r = unwind_table_open(o->table_fd, &o->table, &o->table_size);
	o->table_fd = close_fd(o->table_fd);
	if (r < 0) {
		fail(t, o);
		return;
	}
	o->pages_done = 0;
	set_state(t, o, OBJECT_LOADING);
	tables_load(t);
}

/* ---- what programs see of it ---- */

void tables_map(const struct tables *t, uint32_t object, uint64_t offset, struct stackd_unwind_mapping *mapping)
{
	const struct object *o = &t->objects[object];

	mapping->object = o->state == OBJECT_FAILED ? STACKD_UNWIND_NEVER : STACKD_UNWIND_NOT_YET;
	if (o->state != OBJECT_LOADED)
		return;
	for (uint32_t i = 0; i < o->n_segments; i++) {
		const struct unwind_table_segment *s = &o->segments[i];

		/* Mappings begin at whole pages of memory, segments anywhere. */
		if (offset >= s->offset + s->size || offset + (mapping->end - mapping->start) <= s->offset)
			continue;
		mapping->base = mapping->start - (s->address + offset - s->offset) + o->first_address;
		mapping->first_page = o->loaded.first_page;
		mapping->n_pages = (uint16_t)o->loaded.n_pages;
		mapping->object = (uint16_t)object;
		return;
	}
	mapping->object = STACKD_UNWIND_NEVER;
}

void tables_get_status(const struct tables *t, struct unwind_status *ret)
{
	ret->objects = t->n_in_state[OBJECT_LOADED];
	ret->failed = t->n_in_state[OBJECT_FAILED];
	ret->waiting = t->n_in_state[OBJECT_ASKED] + t->n_in_state[OBJECT_LOADING];
	ret->rows = t->rows;
	ret->bytes = (uint64_t)t->blocks.used * BLOCK_ROWS * sizeof(struct unwind_row);
	ret->bytes_max = (uint64_t)t->blocks.n * BLOCK_ROWS * sizeof(struct unwind_row);
	ret->pages = t->pages.used;
	ret->pages_max = t->pages.n;
	ret->rules = t->rules.used;
	ret->rules_max = t->rules.n;
	ret->evictions = t->evictions;
	ret->refused = t->refused;
}
