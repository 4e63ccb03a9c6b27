/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bpf_names.h"

#define NAME_SIZE 128

struct piece {
	uint64_t start, size;
	char name[NAME_SIZE];
};

struct bpf_names {
	struct piece *pieces; /* by start */
	size_t n, max;
	uint64_t dropped;
};

int bpf_names_new(struct bpf_names **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

struct bpf_names *bpf_names_free(struct bpf_names *b)
{
	if (b)
		free(b->pieces);
	free(b);
	return NULL;
}

/* How many begin at or before it. */
static size_t count_until(const struct bpf_names *b, uint64_t address)
{
	size_t from = 0, to = b->n;

	while (from < to) {
		size_t middle = from + (to - from) / 2;

		if (b->pieces[middle].start <= address)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

int bpf_names_add(struct bpf_names *b, uint64_t start, uint64_t size, const char *name)
{
	size_t at;

	bpf_names_remove(b, start);
	if (b->n == BPF_NAMES_MAX) {
		b->dropped++;
		return 0;
	}
	if (b->n == b->max) {
		size_t max = b->max ? 2 * b->max : 64;
		struct piece *more = reallocarray(b->pieces, max, sizeof(*more));

		if (!more)
			return -ENOMEM;
		b->pieces = more;
		b->max = max;
	}
	at = count_until(b, start);
	memmove(b->pieces + at + 1, b->pieces + at, (b->n - at) * sizeof(*b->pieces));
	b->pieces[at] = (struct piece){ .start = start, .size = size };
	copy_string(b->pieces[at].name, sizeof(b->pieces[at].name), name);
	b->n++;
	return 0;
}

void bpf_names_remove(struct bpf_names *b, uint64_t start)
{
	size_t n = count_until(b, start);

	if (n == 0 || b->pieces[n - 1].start != start)
		return;
	memmove(b->pieces + n - 1, b->pieces + n, (b->n - n) * sizeof(*b->pieces));
	b->n--;
}

const char *bpf_names_find(const struct bpf_names *b, uint64_t address)
{
	size_t n = count_until(b, address);

	return n > 0 && address - b->pieces[n - 1].start < b->pieces[n - 1].size ? b->pieces[n - 1].name : NULL;
}

uint64_t bpf_names_dropped(const struct bpf_names *b)
{
	return b->dropped;
}
