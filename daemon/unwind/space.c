/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "space.h"

int space_init(struct space *s, uint32_t n, uint32_t boundary)
{
	*s = (struct space){ .n = n, .boundary = boundary };
	s->bits = calloc((n + 63) / 64, sizeof *s->bits);
	return s->bits ? 0 : -ENOMEM;
}

void space_done(struct space *s)
{
	free(s->bits);
	*s = (struct space){};
}

static bool is_taken(const struct space *s, uint32_t i)
{
	return s->bits[i / 64] >> i % 64 & 1;
}

static bool crosses(const struct space *s, uint32_t first, uint32_t n)
{
	return s->boundary && first / s->boundary != (first + n - 1) / s->boundary;
}

/* The first run of n free units that begins in [from, to), or -ENOSPC. */
static int64_t find(const struct space *s, uint32_t from, uint32_t to, uint32_t n)
{
	uint32_t first = from;

	while (first < to && n <= s->n - first) {
		uint32_t i = 0;

		if (crosses(s, first, n)) {
			first += s->boundary - first % s->boundary;
			continue;
		}
		while (i < n && !is_taken(s, first + i))
			i++;
		if (i == n)
			return first;
		first += i + 1;
		while (first < to && first % 64 == 0 && s->bits[first / 64] == UINT64_MAX)
			first += 64;
	}
	return -ENOSPC;
}

int64_t space_take(struct space *s, uint32_t n)
{
	int64_t first;

	if (n > s->n - s->used || (s->boundary && n > s->boundary))
		return -ENOSPC;
	first = find(s, s->next, s->n, n);
	if (first < 0)
		first = find(s, 0, s->next, n);
	if (first < 0)
		return first;
	for (uint32_t i = 0; i < n; i++)
		s->bits[((uint32_t)first + i) / 64] |= UINT64_C(1) << ((uint32_t)first + i) % 64;
	s->used += n;
	s->next = (uint32_t)first + n;
	return first;
}

void space_give(struct space *s, uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n; i++)
		s->bits[i / 64] &= ~(UINT64_C(1) << i % 64);
	s->used -= n;
}
