/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sums by key, bounded. base's map64 doesn't grow, so that these are made anew at twice the size. */
#include <math.h>

#include "internal.h"

#define TABLE_SIZE_MIN 256

/* *m gets twice the room, at most max. -ENOSPC when it has that. */
static int map_grow(struct map64 **m, size_t max)
{
	_cleanup_(map64_freep) struct map64 *larger = NULL;
	size_t size = *m ? map64_capacity(*m) : 0, cursor = 0;
	uint64_t key, value;
	int r;

	if (size >= max)
		return -ENOSPC;
	size = MAX(size * 2, (size_t)TABLE_SIZE_MIN);
	r = map64_new(&larger, MIN(size, max));
	if (r < 0)
		return r;
	while (*m && map64_next(*m, &cursor, &key, &value)) {
		r = map64_put(larger, key, value);
		if (r < 0)
			return r;
	}
	map64_free(*m);
	*m = TAKE_PTR(larger);
	return 0;
}

static int map_put(struct map64 **m, size_t max, uint64_t key, uint64_t value)
{
	int r;

	if (!*m || map64_size(*m) >= map64_capacity(*m)) {
		r = map_grow(m, max);
		if (r < 0)
			return r;
	}
	return map64_put(*m, key, value);
}

size_t table_limit(const struct api *a)
{
	size_t left = a->rows < API_ROWS_ALL_MAX ? API_ROWS_ALL_MAX - a->rows : 0;

	return MIN(left, (size_t)API_ROWS_MAX);
}

void table_done(struct table *t)
{
	free(t->rows);
	free(t->values);
	free(t->variances);
	map64_free(t->index);
	*t = (struct table){ 0 };
}

static int table_grow(struct table *t)
{
	size_t size = MAX(t->size * 2, (size_t)TABLE_SIZE_MIN);
	uint64_t (*values)[METRIC_N];
	double (*variances)[METRIC_N];
	struct row *rows;

	size = MIN(size, t->limit);
	rows = reallocarray(t->rows, size, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	t->rows = rows;
	if (t->with_values) {
		values = reallocarray(t->values, size, sizeof(*values));
		if (!values)
			return -ENOMEM;
		t->values = values;
		variances = reallocarray(t->variances, size, sizeof(*variances));
		if (!variances)
			return -ENOMEM;
		t->variances = variances;
	}
	t->size = size;
	return 0;
}

/* Whether there is a row of key; if not, *slot is where it goes. Should two keys have one hash, the second takes the next slot that is free. */
static bool has_row(const struct table *t, uint64_t key, const char *comm, uint32_t tid, uint64_t *slot, size_t *ret)
{
	uint64_t at;

	*slot = comm[0] || tid ? hash64_string(comm, key ^ tid) : key;
	for (; t->index && map64_get(t->index, *slot, &at); ++*slot)
		if (t->rows[at].key == key && t->rows[at].tid == tid && streq(t->rows[at].comm, comm)) {
			*ret = at;
			return true;
		}
	return false;
}

/* The row of key, made if need be; its number is in *ret. 0: there is no more room. */
static int find_row(struct table *t, uint64_t key, const char *comm, uint32_t tid, size_t *ret)
{
	uint64_t slot;
	int r;

	if (has_row(t, key, comm, tid, &slot, ret))
		return 1;
	if (t->n >= t->limit)
		return 0;
	if (t->n == t->size) {
		r = table_grow(t);
		if (r < 0)
			return r;
	}
	r = map_put(&t->index, t->limit, slot, t->n);
	if (r < 0)
		return r;
	t->rows[t->n] = (struct row){ .key = key, .tid = tid, .values = t->n };
	copy_string(t->rows[t->n].comm, sizeof(t->rows[t->n].comm), comm);
	if (t->with_values) {
		memset(t->values[t->n], 0, sizeof(t->values[t->n]));
		memset(t->variances[t->n], 0, sizeof(t->variances[t->n]));
	}
	*ret = t->n++;
	return 1;
}

int table_add(struct table *t, uint64_t key, const char *comm, uint32_t tid, enum metric metric,
              const uint64_t values[static METRIC_N])
{
	int64_t value = (int64_t)metric_value(values, metric);
	size_t at;
	int r;

	r = find_row(t, key, comm, tid, &at);
	if (r < 0)
		return r;
	t->total += value;
	if (r == 0) {
		t->overflow += value;
		return 0;
	}
	t->rows[at].total += value;
	for (enum metric m = 0; t->with_values && m < METRIC_N; m++)
		t->values[at][m] += values[m];
	return 0;
}

/* Of metrics that are sums of others the errors may be of the same draws, and add up. */
static double variance_of(const double variances[static METRIC_N], enum metric m)
{
	double blocked = sqrt(variances[METRIC_BLOCKED]), runnable = sqrt(variances[METRIC_RUNNABLE]);

	if (m == METRIC_OFF_CPU)
		return (blocked + runnable) * (blocked + runnable);
	if (m == METRIC_FAULTS_FILE || m == METRIC_FAULTS_ANON)
		return variances[METRIC_FAULTS_MINOR] + variances[METRIC_FAULTS_MAJOR];
	return variances[m];
}

void table_add_variances(struct table *t, uint64_t key, const char *comm, uint32_t tid, enum metric metric, const double variances[static METRIC_N])
{
	uint64_t slot;
	size_t at;

	if (!has_row(t, key, comm, tid, &slot, &at))
		return;
	t->rows[at].variance += variance_of(variances, metric);
	for (enum metric m = 0; t->with_values && m < METRIC_N; m++)
		t->variances[at][m] += variances[m];
}

static int compare_rows(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	uint64_t more = magnitude(x->total), less = magnitude(y->total);

	if (more != less)
		return more > less ? -1 : 1;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	if (x->tid != y->tid)
		return x->tid < y->tid ? -1 : 1;
	return strcmp(x->comm, y->comm);
}

void table_sort(struct table *t)
{
	t->index = map64_free(t->index);
	if (t->n > 1)
		qsort(t->rows, t->n, sizeof(*t->rows), compare_rows);
}

void numbers_done(struct numbers *n)
{
	n->map = map64_free(n->map);
}

int numbers_add(struct numbers *n, uint64_t key, uint64_t *ret)
{
	uint64_t number;
	int r;

	if (n->map && map64_get(n->map, key, ret))
		return 0;
	number = n->map ? map64_size(n->map) : 0;
	r = map_put(&n->map, n->max, key, number);
	if (r < 0)
		return r;
	*ret = number;
	return 1;
}
