/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mapping_log.h"

#define SIZE_MIN 4096U
#define CHAINS 16384U    /* a power of two: processes of the same number modulo this share a chain */
#define STEPS_MAX 8192   /* of a chain, for one question */
#define RECORDS_MAX 1024 /* of one process, for one question; more is a process whose code comes and goes */
#define ANCESTORS_MAX 8

struct record {
	uint64_t previous; /* position of the one before in the chain, plus 1; 0: none */
	uint64_t time_ns;
	uint64_t start, end, offset, inode, device;
	pid_t pid, parent;
	uint32_t size; /* a multiple of 8 */
	uint32_t kind; /* enum symbols_mapping_kind */
	char path[];
};

struct mapping_log {
	char *ring;
	uint64_t size; /* a power of two */
	uint64_t head; /* position behind the latest record; the byte at a position is ring[position % size] */
	uint64_t chains[CHAINS]; /* position of the latest, plus 1 */
	const struct record *found[RECORDS_MAX]; /* scratch */
};

int mapping_log_new(struct mapping_log **ret, size_t size)
{
	_cleanup_(mapping_log_freep) struct mapping_log *l = calloc(1, sizeof(*l));

	if (size < SIZE_MIN)
		return -EINVAL;
	if (!l)
		return -ENOMEM;
	l->size = 1ULL << (63 - __builtin_clzll(size));
	l->ring = calloc(1, l->size);
	if (!l->ring)
		return -ENOMEM;
	*ret = TAKE_PTR(l);
	return 0;
}

struct mapping_log *mapping_log_free(struct mapping_log *l)
{
	if (l)
		free(l->ring);
	free(l);
	return NULL;
}

static uint64_t *chain_of(struct mapping_log *l, pid_t pid)
{
	return &l->chains[(uint32_t)pid % CHAINS];
}

void mapping_log_add(struct mapping_log *l, const struct symbols_mapping_event *e)
{
	const char *path = e->kind == SYMBOLS_MAPPED && e->path ? e->path : "";
	size_t n = strlen(path) + 1, size = (sizeof(struct record) + n + 7) & ~(size_t)7;
	uint64_t at = l->head, *chain = chain_of(l, e->pid);
	struct record *r;

	if (size > l->size / 2)
		return;
	/* A record is in one piece. */
	if (at % l->size + size > l->size)
		at += l->size - at % l->size;
	r = (struct record *)(void *)(l->ring + at % l->size);
	*r = (struct record){
		.previous = *chain,
		.time_ns = e->time_ns,
		.start = e->start,
		.end = e->end,
		.offset = e->offset,
		.inode = e->inode,
		.device = e->device,
		.pid = e->pid,
		.parent = e->parent,
		.size = (uint32_t)size,
		.kind = e->kind,
	};
	memcpy(r->path, path, n);
	*chain = at + 1;
	l->head = at + size;
}

/* The record at a link, NULL when it has been written over. */
static const struct record *record_at(const struct mapping_log *l, uint64_t link)
{
	if (link == 0 || l->head - (link - 1) > l->size)
		return NULL;
	return (const struct record *)(const void *)(l->ring + (link - 1) % l->size);
}

static int by_time(const void *a, const void *b)
{
	const struct record *x = *(const struct record *const *)a, *y = *(const struct record *const *)b;

	return (x->time_ns > y->time_ns) - (x->time_ns < y->time_ns);
}

/* The process's records, oldest first. */
static size_t find(struct mapping_log *l, pid_t pid)
{
	const struct record *r = record_at(l, *chain_of(l, pid));
	size_t n = 0;

	for (unsigned steps = 0; r && steps < STEPS_MAX && n < RECORDS_MAX; steps++, r = record_at(l, r->previous))
		if (r->pid == pid)
			l->found[n++] = r;
	qsort(l->found, n, sizeof(l->found[0]), by_time);
	return n;
}

bool mapping_log_has_changed(struct mapping_log *l, pid_t pid, uint64_t since_ns)
{
	const struct record *r = record_at(l, *chain_of(l, pid));

	for (unsigned steps = 0; r && steps < STEPS_MAX; steps++, r = record_at(l, r->previous))
		if (r->pid == pid && r->kind != SYMBOLS_MAPPED && r->time_ns > since_ns)
			return true;
	return false;
}

static bool is_same(const struct mapping *a, const struct mapping *b)
{
	return a->inode == b->inode && a->device == b->device && a->offset - a->start == b->offset - b->start && streq(a->path, b->path);
}

/* Whether something else lies where m does. */
static bool is_taken(const struct mappings *all, const struct mapping *m)
{
	for (size_t i = 0; i < all->n; i++)
		if (all->items[i].start < m->end && all->items[i].end > m->start && !is_same(&all->items[i], m))
			return true;
	return false;
}

/* What is mapped later, after the moment that was asked for, makes what it changes uncertain. */
static int put(struct mapping_image *image, const struct record *r, bool later)
{
	struct mapping m;
	int k = mapping_make(r->path, r->start, r->end, r->offset, r->inode, r->device, &m);

	/* The kernel maps what was executed before its interpreter. */
	if (k >= 0 && image->base == 0 && m.kind == MAPPING_FILE && !image->exe[0])
		copy_string(image->exe, sizeof(image->exe), m.path);
	if (k >= 0 && later && is_taken(&image->mappings, &m)) {
		free(m.path);
		return mappings_cut(&image->mappings, r->start, r->end);
	}
	return k < 0 ? k : mappings_put(&image->mappings, &m);
}

/* Which of the process's records begin what it was at that moment, and which is the first of what came after; both may be n. */
static void find_life(const struct mapping_log *l, size_t n, uint64_t time_ns, size_t *ret_begin, size_t *ret_end)
{
	*ret_begin = n;
	*ret_end = n;
	for (size_t i = 0; i < n; i++) {
		if (l->found[i]->kind == SYMBOLS_MAPPED)
			continue;
		if (l->found[i]->time_ns <= time_ns)
			*ret_begin = i;
		else if (*ret_end == n)
			*ret_end = i;
	}
}

/* What an ancestor had, up to the moment of the fork, comes first. */
static int fill(struct mapping_log *l, pid_t pid, uint64_t time_ns, unsigned generation, struct mapping_image *image)
{
	size_t n = find(l, pid), begin, end;
	const struct record *first;
	pid_t parent = 0;
	int r = 0;

	find_life(l, n, time_ns, &begin, &end);
	first = begin < n ? l->found[begin] : NULL;
	if (!first) {
		/* Nothing of its beginning is left. For an ancestor that is no loss: it may still be there to be asked. */
		if (generation == 0)
			return -ENOENT;
		image->base = pid;
		image->base_ns = time_ns;
	}
	for (size_t k = 0; first && k <= begin; k++)
		if (l->found[k]->kind == SYMBOLS_FORKED)
			parent = l->found[k]->parent;
	if (generation == 0)
		image->parent = parent;
	if (first && first->kind == SYMBOLS_FORKED) {
		if (generation == ANCESTORS_MAX)
			return -ENOENT;
		r = fill(l, first->parent, first->time_ns, generation + 1, image);
		find(l, pid); /* the scratch is shared */
	}
	for (size_t k = first ? begin + 1 : 0; r >= 0 && k < end; k++) {
		bool later = l->found[k]->time_ns > time_ns;

		if (l->found[k]->kind == SYMBOLS_MAPPED && !(later && generation > 0))
			r = put(image, l->found[k], later);
	}
	return r;
}

int mapping_log_image(struct mapping_log *l, pid_t pid, uint64_t time_ns, struct mapping_image *ret)
{
	int r;

	*ret = (struct mapping_image){};
	r = fill(l, pid, time_ns, 0, ret);
	if (r < 0)
		mapping_image_done(ret);
	return r;
}

void mapping_image_done(struct mapping_image *image)
{
	mappings_clear(&image->mappings);
}

void mapping_log_get_usage(const struct mapping_log *l, uint64_t *ret_used, uint64_t *ret_max)
{
	*ret_used = MIN(l->head, l->size);
	*ret_max = l->size;
}
