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

/* The process's records up to a moment, oldest first. */
static size_t find(struct mapping_log *l, pid_t pid, uint64_t time_ns)
{
	const struct record *r = record_at(l, *chain_of(l, pid));
	size_t n = 0;

	for (unsigned steps = 0; r && steps < STEPS_MAX && n < RECORDS_MAX; steps++, r = record_at(l, r->previous))
		if (r->pid == pid && r->time_ns <= time_ns)
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

static int put(struct mapping_image *image, const struct record *r)
{
	struct mapping m;
	int k = mapping_make(r->path, r->start, r->end, r->offset, r->inode, r->device, &m);

	/* The kernel maps what was executed before its interpreter. */
	if (k >= 0 && image->base == 0 && m.kind == MAPPING_FILE && !image->exe[0])
		copy_string(image->exe, sizeof(image->exe), m.path);
	return k < 0 ? k : mappings_put(&image->mappings, &m);
}

/* What an ancestor had comes first. */
static int fill(struct mapping_log *l, pid_t pid, uint64_t time_ns, unsigned generation, struct mapping_image *image)
{
	size_t n = find(l, pid, time_ns), first = n;
	const struct record *begin;
	pid_t parent = 0;
	int r = 0;

	while (first > 0 && l->found[first - 1]->kind == SYMBOLS_MAPPED)
		first--;
	if (first == 0) {
		/* Nothing of its beginning is left. For an ancestor that is no loss: it may still be there to be asked. */
		if (generation == 0)
			return -ENOENT;
		image->base = pid;
		image->base_ns = time_ns;
	}
	begin = first > 0 ? l->found[first - 1] : NULL;
	for (size_t k = first; k-- > 0 && parent == 0;)
		if (l->found[k]->kind == SYMBOLS_FORKED)
			parent = l->found[k]->parent;
	if (generation == 0)
		image->parent = parent;
	if (begin && begin->kind == SYMBOLS_FORKED) {
		if (generation == ANCESTORS_MAX)
			return -ENOENT;
		r = fill(l, begin->parent, begin->time_ns, generation + 1, image);
		n = find(l, pid, time_ns); /* the scratch is shared */
	}
	for (; r >= 0 && first < n; first++)
		r = put(image, l->found[first]);
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
