/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <signal.h>

#include "internal.h"

/* What one tick may spend on processes that the programs wanted: the rest is wanted again. */
#define WANTED_TIME_NS (3 * NSEC_PER_SEC / 1000)
/* Processes looked at a tick to find those that have ended. */
#define SWEEP_PROCESSES 64
#define CHANGED_MAX 256
/* A process that nothing was wanted of for so many ticks has what it needs. */
#define ASK_TICKS 2

#define NO_OBJECT UINT32_MAX

/* A mapping of executable memory. */
struct item {
	uint64_t start, end, offset;
	uint32_t object; /* NO_OBJECT: none */
};

struct process {
	struct symbols_process_key key; /* pid 0: free */
	struct item *items;             /* by address */
	uint32_t n_items;
	uint32_t first, n;              /* its run of mappings; n = 0: the programs know nothing of it */
	uint32_t wanted_tick;
	uint64_t wanted_address;
	bool dirty;                     /* the run isn't what the items say */
};

struct run {
	uint32_t first, n;
};

struct unwind {
	struct symbols *symbols;
	struct collect *collect;
	struct tables tables;
	struct process *processes;
	struct map64 *process_by_pid;
	uint32_t n_processes, sweep;
	bool any_dirty;
	struct space mappings;
	struct run *doomed;
	size_t n_doomed, max_doomed;
	struct symbols_process_key changed[CHANGED_MAX];
	size_t n_changed;
	/* scratch */
	struct symbols_mapping *found;
	struct wanted {
		struct stackd_unwind_key key;
		struct stackd_unwind_wanted what;
	} *wanted;
	struct stackd_unwind_key *wanted_keys;
	struct stackd_unwind_wanted *wanted_values;
};

static void object_changed(void *userdata, uint32_t object)
{
	struct unwind *u = userdata;

	for (uint32_t i = 0; i < STACKD_UNWIND_PROCESSES; i++)
		for (uint32_t j = 0; j < u->processes[i].n_items; j++)
			if (u->processes[i].items[j].object == object)
				u->processes[i].dirty = u->any_dirty = true;
}

int unwind_new(struct unwind **ret, const struct unwind_config *config, struct collect *collect, struct symbols *symbols,
               struct helper *helper)
{
	_cleanup_(unwind_freep) struct unwind *u = calloc(1, sizeof *u);
	int r;

	if (!u)
		return -ENOMEM;
	u->symbols = symbols;
	u->collect = collect;
	r = tables_init(&u->tables, config, collect, helper, object_changed, u);
	if (r < 0)
		return r;
	u->processes = calloc(STACKD_UNWIND_PROCESSES, sizeof *u->processes);
	u->found = calloc(STACKD_UNWIND_PROCESS_MAPPINGS_MAX, sizeof *u->found);
	u->wanted = calloc(STACKD_UNWIND_WANTED, sizeof *u->wanted);
	u->wanted_keys = calloc(STACKD_UNWIND_WANTED, sizeof *u->wanted_keys);
	u->wanted_values = calloc(STACKD_UNWIND_WANTED, sizeof *u->wanted_values);
	if (!u->processes || !u->found || !u->wanted || !u->wanted_keys || !u->wanted_values)
		return -ENOMEM;
	if ((r = map64_new(&u->process_by_pid, STACKD_UNWIND_PROCESSES)) < 0 ||
	    (r = space_init(&u->mappings, STACKD_UNWIND_MAPPINGS, 0)) < 0)
		return r;
	*ret = TAKE_PTR(u);
	return 0;
}

struct unwind *unwind_free(struct unwind *u)
{
	if (!u)
		return NULL;
	for (uint32_t i = 0; u->processes && i < STACKD_UNWIND_PROCESSES; i++)
		free(u->processes[i].items);
	free(u->processes);
	free(u->found);
	free(u->wanted);
	free(u->wanted_keys);
	free(u->wanted_values);
	free(u->doomed);
	map64_free(u->process_by_pid);
	space_done(&u->mappings);
	tables_done(&u->tables);
	free(u);
	return NULL;
}

/* ---- runs of mappings ---- */

/* Without memory to note it in, the run is lost until the next start, which harms nobody. */
static void doom_run(struct unwind *u, struct process *p)
{
	if (p->n == 0)
		return;
	if (u->n_doomed == u->max_doomed) {
		size_t max = u->max_doomed ? 2 * u->max_doomed : 64;
		struct run *q = reallocarray(u->doomed, max, sizeof *q);

		if (!q)
			return;
		u->doomed = q;
		u->max_doomed = max;
	}
	u->doomed[u->n_doomed++] = (struct run){ p->first, p->n };
	p->n = 0;
}

static void settle_runs(struct unwind *u)
{
	for (size_t i = 0; i < u->n_doomed; i++)
		space_give(&u->mappings, u->doomed[i].first, u->doomed[i].n);
	u->n_doomed = 0;
}

static struct stackd_unwind_key key_of(const struct process *p)
{
	return (struct stackd_unwind_key){ .tgid = (uint32_t)p->key.pid, .exec_id = p->key.exec_id };
}

static void withdraw(struct unwind *u, struct process *p)
{
	struct stackd_unwind_key key = key_of(p);

	if (p->n > 0)
		(void)collect_unwind_set_process(u->collect, &key, NULL);
	doom_run(u, p);
}

/* Writes the process's mappings where the programs find them. */
static void publish(struct unwind *u, struct process *p)
{
	struct stackd_unwind_tables *shared = u->tables.shared;
	struct stackd_unwind_key key = key_of(p);
	struct stackd_unwind_process value = { .start_ns = p->key.start_ns, .n_mappings = p->n_items };
	int64_t first = p->n_items > 0 ? space_take(&u->mappings, p->n_items) : -ENOSPC;

	p->dirty = false;
	if (first < 0) {
		withdraw(u, p);
		return;
	}
	for (uint32_t i = 0; i < p->n_items; i++) {
		const struct item *item = &p->items[i];
		struct stackd_unwind_mapping m = { .start = item->start, .end = item->end, .object = STACKD_UNWIND_NEVER };

		if (item->object != NO_OBJECT)
			tables_map(&u->tables, item->object, item->offset, &m);
		shared->mappings[first + i] = m;
	}
	value.first_mapping = (uint32_t)first;
	if (collect_unwind_set_process(u->collect, &key, &value) < 0) {
		space_give(&u->mappings, (uint32_t)first, p->n_items);
		withdraw(u, p);
		return;
	}
	doom_run(u, p);
	p->first = (uint32_t)first;
	p->n = p->n_items;
}

static void publish_dirty(struct unwind *u)
{
	for (uint32_t i = 0; u->any_dirty && i < STACKD_UNWIND_PROCESSES; i++)
		if (u->processes[i].dirty)
			publish(u, &u->processes[i]);
	u->any_dirty = false;
}

/* ---- processes ---- */

static void drop_items(struct unwind *u, struct process *p)
{
	for (uint32_t i = 0; i < p->n_items; i++)
		if (p->items[i].object != NO_OBJECT)
			tables_unuse(&u->tables, p->items[i].object);
	free(p->items);
	p->items = NULL;
	p->n_items = 0;
}

static void remove_process(struct unwind *u, struct process *p)
{
	withdraw(u, p);
	drop_items(u, p);
	map64_remove(u->process_by_pid, (uint64_t)p->key.pid);
	*p = (struct process){};
	u->n_processes--;
}

static struct process *find_slot(struct unwind *u)
{
	struct process *oldest = NULL;

	for (uint32_t i = 0; i < STACKD_UNWIND_PROCESSES; i++) {
		struct process *p = &u->processes[i];

		if (p->key.pid == 0)
			return p;
		if (!oldest || p->wanted_tick < oldest->wanted_tick)
			oldest = p;
	}
	remove_process(u, oldest);
	return oldest;
}

static bool same_key(const struct symbols_process_key *a, const struct symbols_process_key *b)
{
	return a->pid == b->pid && a->exec_id == b->exec_id && a->start_ns == b->start_ns;
}

/* A process has one slot, whatever it executes. */
static struct process *get_process(struct unwind *u, const struct symbols_process_key *key)
{
	struct process *p;
	uint64_t index;

	if (map64_get(u->process_by_pid, (uint64_t)key->pid, &index)) {
		p = &u->processes[index];
		if (same_key(&p->key, key))
			return p;
		if (p->key.start_ns == key->start_ns && p->key.exec_id > key->exec_id)
			return NULL; /* what it executed before */
		remove_process(u, p);
	}
	p = find_slot(u);
	*p = (struct process){ .key = *key };
	(void)map64_put(u->process_by_pid, (uint64_t)key->pid, (uint64_t)(p - u->processes));
	u->n_processes++;
	return p;
}

static bool same_items(const struct unwind *u, const struct process *p, const struct symbols_mapping *found, size_t n)
{
	if (p->n_items != n)
		return false;
	for (size_t i = 0; i < n; i++) {
		const struct item *item = &p->items[i];
		uint64_t key = item->object == NO_OBJECT ? 0 : u->tables.objects[item->object].key;

		if (item->start != found[i].start || item->end != found[i].end || item->offset != found[i].offset ||
		    key != found[i].object)
			return false;
	}
	return true;
}

static int set_items(struct unwind *u, struct process *p, const struct symbols_mapping *found, size_t n)
{
	struct item *items = calloc(n, sizeof *items);

	if (!items)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int64_t object = found[i].object ? tables_use(&u->tables, found[i].object) : -ENOENT;

		items[i] = (struct item){
			.start = found[i].start,
			.end = found[i].end,
			.offset = found[i].offset,
			.object = object < 0 ? NO_OBJECT : (uint32_t)object,
		};
	}
	drop_items(u, p);
	p->items = items;
	p->n_items = (uint32_t)n;
	p->dirty = u->any_dirty = true;
	return 0;
}

static void ask(struct unwind *u, const struct process *p, const struct item *item, bool needed)
{
	_cleanup_close_ int fd = -EBADF;

	if (item->object == NO_OBJECT || !tables_wants(&u->tables, item->object, needed))
		return;
	fd = symbols_open_mapping(u->symbols, &p->key, item->start);
	if (fd >= 0)
		tables_ask(&u->tables, item->object, fd, needed);
}

/* What a walk came to first, then what else the process maps. */
static void ask_for_tables(struct unwind *u, const struct process *p)
{
	for (uint32_t i = 0; i < p->n_items; i++)
		if (p->wanted_address >= p->items[i].start && p->wanted_address < p->items[i].end)
			ask(u, p, &p->items[i], true);
	for (uint32_t i = 0; i < p->n_items; i++)
		ask(u, p, &p->items[i], false);
}

static void look_at(struct unwind *u, const struct symbols_process_key *key, uint64_t address)
{
	int n = symbols_mappings(u->symbols, key, address, u->found, STACKD_UNWIND_PROCESS_MAPPINGS_MAX);
	struct process *p;

	if (n <= 0)
		return;
	p = get_process(u, key);
	if (!p)
		return;
	p->wanted_tick = u->tables.shared->tick;
	p->wanted_address = address;
	if (!same_items(u, p, u->found, (size_t)n) && set_items(u, p, u->found, (size_t)n) < 0)
		return;
	ask_for_tables(u, p);
}

/* ---- the tick ---- */

static int by_count(const void *a, const void *b)
{
	const struct wanted *x = a, *y = b;

	return (x->what.count < y->what.count) - (x->what.count > y->what.count);
}

static void look_at_wanted(struct unwind *u, uint64_t until_ns)
{
	size_t n = collect_unwind_wanted(u->collect, u->wanted_keys, u->wanted_values, STACKD_UNWIND_WANTED);

	for (size_t i = 0; i < n; i++)
		u->wanted[i] = (struct wanted){ u->wanted_keys[i], u->wanted_values[i] };
	qsort(u->wanted, n, sizeof *u->wanted, by_count);
	for (size_t i = 0; i < n && clock_monotonic_ns() < until_ns; i++) {
		const struct wanted *w = &u->wanted[i];

		look_at(u, &(struct symbols_process_key){ (pid_t)w->key.tgid, w->key.exec_id, w->what.start_ns }, w->what.address);
	}
}

static void look_at_changed(struct unwind *u, uint64_t until_ns)
{
	size_t i = 0;

	while (i < u->n_changed && clock_monotonic_ns() < until_ns)
		look_at(u, &u->changed[i++], 0);
	u->n_changed -= i;
	memmove(u->changed, u->changed + i, u->n_changed * sizeof *u->changed);
}

static void sweep(struct unwind *u)
{
	for (uint32_t i = 0; i < SWEEP_PROCESSES; i++) {
		struct process *p = &u->processes[u->sweep];

		u->sweep = (u->sweep + 1) % STACKD_UNWIND_PROCESSES;
		if (p->key.pid != 0 && kill(p->key.pid, 0) < 0 && errno == ESRCH)
			remove_process(u, p);
	}
}

void unwind_tick(struct unwind *u)
{
	uint64_t until_ns = clock_monotonic_ns() + WANTED_TIME_NS;

	if (!u->tables.shared)
		return;
	if (collect_unwind_settled(u->collect)) {
		settle_runs(u);
		tables_settle(&u->tables);
	}
	u->tables.shared->tick++;
	look_at_changed(u, until_ns);
	look_at_wanted(u, until_ns);
	tables_load(&u->tables);
	sweep(u);
	publish_dirty(u);
}

void unwind_take(struct unwind *u, const struct parser_reply *reply)
{
	tables_take(&u->tables, reply);
	publish_dirty(u);
	/* The parser has time for more of what was wanted lately. */
	for (uint32_t i = 0; i < STACKD_UNWIND_PROCESSES; i++) {
		const struct process *p = &u->processes[i];

		if (p->key.pid != 0 && u->tables.shared->tick - p->wanted_tick <= ASK_TICKS)
			ask_for_tables(u, p);
	}
}

void unwind_process_changed(struct unwind *u, const struct symbols_process_key *key)
{
	for (size_t i = 0; i < u->n_changed; i++)
		if (same_key(&u->changed[i], key))
			return;
	if (u->n_changed < CHANGED_MAX)
		u->changed[u->n_changed++] = *key;
}

bool unwind_is_ready(const struct unwind *u, const struct symbols_process_key *key)
{
	const struct process *p;
	uint64_t index;

	if (!u->tables.shared)
		return true;
	if (!map64_get(u->process_by_pid, (uint64_t)key->pid, &index))
		return false;
	p = &u->processes[index];
	if (!same_key(&p->key, key) || p->dirty || p->n == 0)
		return false;
	for (uint32_t i = 0; i < p->n_items; i++) {
		const struct object *o = p->items[i].object == NO_OBJECT ? NULL : &u->tables.objects[p->items[i].object];

		if (o && o->state != OBJECT_LOADED && o->state != OBJECT_FAILED)
			return false;
	}
	return true;
}

void unwind_get_status(const struct unwind *u, struct unwind_status *ret)
{
	*ret = (struct unwind_status){
		.processes = u->n_processes,
		.processes_max = STACKD_UNWIND_PROCESSES,
		.mappings = u->mappings.used,
		.mappings_max = u->mappings.n,
	};
	tables_get_status(&u->tables, ret);
}
