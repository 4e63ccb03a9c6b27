/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "order.h"

struct order {
	struct ordered **heap; /* the earliest first; of the same time the one that came first */
	size_t n, max, bytes, max_bytes;
	uint64_t sequence, late;
	uint64_t due;     /* up to this time */
	uint64_t newest;  /* time that was put */
	uint64_t round;   /* the newest at the end of the last round */
	uint64_t taken;   /* the newest that was taken */
};

int order_new(struct order **ret, size_t max_bytes)
{
	struct order *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	o->max_bytes = max_bytes;
	*ret = o;
	return 0;
}

struct order *order_free(struct order *o)
{
	if (!o)
		return NULL;
	for (size_t i = 0; i < o->n; i++)
		free(o->heap[i]);
	free(o->heap);
	free(o);
	return NULL;
}

static bool is_before(const struct ordered *a, const struct ordered *b)
{
	return a->time != b->time ? a->time < b->time : a->sequence < b->sequence;
}

static void swap(struct ordered **a, struct ordered **b)
{
	struct ordered *c = *a;

	*a = *b;
	*b = c;
}

static size_t cost(const struct ordered *e)
{
	return sizeof(*e) + e->size + sizeof(e);
}

int order_put(struct order *o, uint64_t time, uint64_t offset, const void *bytes, size_t size)
{
	struct ordered *e;

	if (o->n == o->max) {
		size_t max = o->max ? 2 * o->max : 1024;
		struct ordered **p = reallocarray(o->heap, max, sizeof(struct ordered *));

		if (!p)
			return -ENOMEM;
		o->heap = p;
		o->max = max;
	}
	e = malloc(sizeof(*e) + size);
	if (!e)
		return -ENOMEM;
	*e = (struct ordered){ .time = time, .sequence = o->sequence++, .offset = offset, .size = size };
	memcpy(e->bytes, bytes, size);
	o->heap[o->n] = e;
	for (size_t i = o->n++; i > 0 && is_before(o->heap[i], o->heap[(i - 1) / 2]); i = (i - 1) / 2)
		swap(&o->heap[i], &o->heap[(i - 1) / 2]);
	o->bytes += cost(e);
	o->newest = MAX(o->newest, time);
	o->late += time < o->taken;
	return 0;
}

void order_end_round(struct order *o)
{
	o->due = MAX(o->due, o->round);
	o->round = o->newest;
}

void order_end(struct order *o)
{
	o->due = UINT64_MAX;
}

struct ordered *order_take(struct order *o)
{
	struct ordered *first = o->n > 0 ? o->heap[0] : NULL;

	if (!first || (first->time > o->due && o->bytes <= o->max_bytes))
		return NULL;
	o->heap[0] = o->heap[--o->n];
	for (size_t i = 0, child; (child = 2 * i + 1) < o->n; i = child) {
		if (child + 1 < o->n && is_before(o->heap[child + 1], o->heap[child]))
			child++;
		if (!is_before(o->heap[child], o->heap[i]))
			break;
		swap(&o->heap[i], &o->heap[child]);
	}
	o->bytes -= cost(first);
	o->taken = MAX(o->taken, first->time);
	return first;
}

uint64_t order_late(const struct order *o)
{
	return o->late;
}
