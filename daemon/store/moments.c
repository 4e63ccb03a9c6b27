/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "moments.h"

/* Raw stacks named in a tick. More of them than CPUs that are busy take samples: what is beyond has no stack. */
#define NAMES_MAX 8192
/* Ticks after which names don't come any more. */
#define PATIENCE_TICKS 30
/* Ticks follow each other at once, but clocks drift and are adjusted. */
#define GAP_US (100 * USEC_PER_MSEC)

/* Threads' names: each has one place, which it may lose to another one. */
#define THREADS_MAX 4096

struct entry {
	uint64_t time_us;
	uint32_t weight;       /* us; ms of one that lasts */
	uint32_t tid : 24;     /* the kernel has 4,194,304 at most */
	uint32_t metric : 4, named : 1, drawn : 1, lasting : 1;
	union {
		struct {
			store_ref process, stack;
		};
		uint64_t raw_id;
	};
};
_Static_assert(sizeof(struct entry) == 24, "as the manual page has it");

struct moments {
	uint64_t begin, end;   /* entries from the first on count up: the place is the number modulo max */
	uint64_t tick_begin;   /* the first one of this tick */
	uint64_t unnamed_from; /* before it all are named, or never will be */
	uint64_t patience[PATIENCE_TICKS]; /* tick_begin of the last ticks */
	uint64_t ticks;
	uint64_t since_us, until_us;
	struct {
		uint32_t tid;
		char comm[16];
	} threads[THREADS_MAX]; /* by tid modulo THREADS_MAX */
	struct map64 *names;   /* raw id -> process and stack, of this tick */
	uint64_t max;
	struct entry entries[];
};

int moments_new(struct moments **ret, uint64_t bytes)
{
	return moments_new_named(ret, bytes, NAMES_MAX);
}

int moments_new_named(struct moments **ret, uint64_t bytes, size_t names_max)
{
	uint64_t max = MAX(bytes / sizeof(struct entry), 1U);
	_cleanup_(moments_freep) struct moments *m = calloc(1, sizeof(*m) + max * sizeof(m->entries[0]));
	int r;

	if (!m)
		return -ENOMEM;
	m->max = max;
	r = map64_new(&m->names, names_max);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

struct moments *moments_free(struct moments *m)
{
	if (m)
		map64_free(m->names);
	free(m);
	return NULL;
}

static struct entry *entry_at(const struct moments *m, uint64_t n)
{
	return (struct entry *)&m->entries[n % m->max];
}

void moments_name(struct moments *m, uint64_t raw_id, store_ref process, store_ref stack)
{
	map64_put(m->names, raw_id, (uint64_t)process << 32 | stack);
}

static struct entry *make_entry(struct moments *m)
{
	/* The oldest goes; of a tick that is larger than all of it, the first. */
	if (m->end - m->begin == m->max) {
		m->since_us = MAX(m->since_us, entry_at(m, m->begin)->time_us + 1);
		m->begin++;
	}
	return entry_at(m, m->end++);
}

bool moments_get_name(const struct moments *m, uint64_t raw_id, store_ref *ret_process, store_ref *ret_stack)
{
	uint64_t refs;

	if (!map64_get(m->names, raw_id, &refs))
		return false;
	*ret_process = refs >> 32;
	*ret_stack = (store_ref)refs;
	return true;
}

void moments_set_thread(struct moments *m, uint32_t tid, const char *comm)
{
	m->threads[tid % THREADS_MAX].tid = tid;
	copy_string(m->threads[tid % THREADS_MAX].comm, sizeof(m->threads[0].comm), comm);
}

static struct entry entry_of(const struct moment *moment)
{
	return (struct entry){
		.time_us = moment->time_us,
		.weight = (uint32_t)MIN(moment->lasting ? moment->weight_us / USEC_PER_MSEC : moment->weight_us, (uint64_t)UINT32_MAX),
		.tid = moment->tid & 0xffffff,
		.metric = moment->metric & 0xf,
		.drawn = moment->drawn,
		.lasting = moment->lasting,
	};
}

void moments_add(struct moments *m, uint64_t raw_id, uint64_t time_us, uint64_t weight_ns, uint32_t tid, const char *comm)
{
	moments_add_wait(m, raw_id, &(struct moment){ .time_us = time_us, .weight_us = (weight_ns + NSEC_PER_USEC / 2) / NSEC_PER_USEC, .tid = tid }, comm);
}

void moments_add_wait(struct moments *m, uint64_t raw_id, const struct moment *wait, const char *comm)
{
	struct entry *e = make_entry(m);

	moments_set_thread(m, wait->tid, comm);
	*e = entry_of(wait);
	e->raw_id = raw_id;
}

void moments_add_named(struct moments *m, const struct moment *moment)
{
	struct entry *e = make_entry(m);

	*e = entry_of(moment);
	e->named = true;
	e->process = moment->process;
	e->stack = moment->stack;
}

/* The tick's are sorted but for what each CPU had, so what a step moves over is little; insertion needs no room beside the ring. */
static void sort_tick(struct moments *m)
{
	uint64_t n = m->end - MAX(m->tick_begin, m->begin), first = m->end - n;

	for (uint64_t gap = n / 2; gap > 0; gap = gap == 2 ? 1 : gap * 5 / 11)
		for (uint64_t i = gap; i < n; i++) {
			struct entry e = *entry_at(m, first + i);
			uint64_t k = i;

			for (; k >= gap && entry_at(m, first + k - gap)->time_us > e.time_us; k -= gap)
				*entry_at(m, first + k) = *entry_at(m, first + k - gap);
			*entry_at(m, first + k) = e;
		}
}

static void give_up(struct moments *m, uint64_t until)
{
	for (uint64_t i = MAX(m->unnamed_from, m->begin); i < until; i++) {
		struct entry *e = entry_at(m, i);

		if (e->named)
			continue;
		e->named = true;
		e->process = e->stack = 0;
	}
	m->unnamed_from = MAX(m->unnamed_from, until);
}

static void name_entries(struct moments *m)
{
	uint64_t still = m->end, refs;

	for (uint64_t i = MAX(m->unnamed_from, m->begin); i < m->end; i++) {
		struct entry *e = entry_at(m, i);

		if (!e->named && map64_get(m->names, e->raw_id, &refs)) {
			e->named = true;
			e->process = refs >> 32;
			e->stack = (store_ref)refs;
		} else if (!e->named) {
			still = MIN(still, i);
		}
	}
	m->unnamed_from = still;
	map64_clear(m->names);
}

void moments_end_tick(struct moments *m, uint64_t begin_us, uint64_t end_us)
{
	uint64_t *patience = &m->patience[m->ticks++ % PATIENCE_TICKS], least;

	if (m->until_us == 0 || begin_us > m->until_us + GAP_US || end_us <= m->until_us) {
		m->begin = MAX(m->begin, m->tick_begin);
		m->since_us = begin_us;
	}
	sort_tick(m);
	/* So that all of them are in order: of two ticks' samples next to each other the times may be some microseconds off. */
	least = m->tick_begin > m->begin ? entry_at(m, m->tick_begin - 1)->time_us : 0;
	for (uint64_t i = MAX(m->tick_begin, m->begin); i < m->end && entry_at(m, i)->time_us < least; i++)
		entry_at(m, i)->time_us = least;
	give_up(m, *patience);
	name_entries(m);
	*patience = m->tick_begin;
	m->tick_begin = m->end;
	m->until_us = end_us;
}

bool moments_range(const struct moments *m, uint64_t *ret_since_us, uint64_t *ret_until_us)
{
	*ret_since_us = m->since_us;
	*ret_until_us = m->until_us;
	return m->since_us < m->until_us;
}

int moments_visit(const struct moments *m, uint64_t since_us, uint64_t until_us, moment_fn fn, void *userdata)
{
	uint64_t low = m->begin, high = m->tick_begin;
	int r = 0;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (entry_at(m, middle)->time_us < since_us)
			low = middle + 1;
		else
			high = middle;
	}
	for (; r == 0 && low < m->tick_begin; low++) {
		const struct entry *e = entry_at(m, low);

		if (e->time_us >= until_us)
			break;
		r = fn(userdata, &(struct moment){
			.time_us = e->time_us,
			.process = e->named ? e->process : 0,
			.stack = e->named ? e->stack : 0,
			.weight_us = e->lasting ? e->weight * USEC_PER_MSEC : e->weight,
			.tid = e->tid,
			.metric = e->metric,
			.drawn = e->drawn,
			.lasting = e->lasting,
		});
	}
	return r;
}

const char *moments_thread(const struct moments *m, uint32_t tid)
{
	return m->threads[tid % THREADS_MAX].tid == tid ? m->threads[tid % THREADS_MAX].comm : "";
}

void moments_get_status(const struct moments *m, struct moments_status *ret)
{
	*ret = (struct moments_status){ .used = m->end - m->begin, .max = m->max };
}
