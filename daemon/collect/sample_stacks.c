/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sample_stacks.h"

/* Of a stack as most are: a head and two dozen frames. */
#define WORDS_PER_STACK 40

struct entry {
	uint64_t raw_id;
	struct collect_process process;
	uint32_t n_kernel, n_user;
	bool truncated;
};
#define ENTRY_WORDS ((sizeof(struct entry) + sizeof(uint64_t) - 1) / sizeof(uint64_t))

struct sample_stacks {
	uint64_t *words;
	uint64_t n_words, head, tail; /* places count on and never come back; a stack lies at its place modulo n_words */
	struct map64 *places;         /* raw id → place */
};

int sample_stacks_new(struct sample_stacks **ret, uint32_t max_stacks)
{
	_cleanup_(sample_stacks_freep) struct sample_stacks *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return -ENOMEM;
	s->n_words = (uint64_t)max_stacks * WORDS_PER_STACK;
	s->words = calloc(s->n_words, sizeof *s->words);
	if (!s->words)
		return -ENOMEM;
	r = map64_new(&s->places, max_stacks);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

struct sample_stacks *sample_stacks_free(struct sample_stacks *s)
{
	if (!s)
		return NULL;
	free(s->words);
	map64_free(s->places);
	free(s);
	return NULL;
}

static void put_words(struct sample_stacks *s, uint64_t place, const void *from, size_t n)
{
	size_t at = place % s->n_words, first = MIN(n, s->n_words - at);

	memcpy(s->words + at, from, first * sizeof *s->words);
	memcpy(s->words, (const uint64_t *)from + first, (n - first) * sizeof *s->words);
}

static void get_words(const struct sample_stacks *s, uint64_t place, void *to, size_t n)
{
	size_t at = place % s->n_words, first = MIN(n, s->n_words - at);

	memcpy(to, s->words + at, first * sizeof *s->words);
	memcpy((uint64_t *)to + first, s->words, (n - first) * sizeof *s->words);
}

union padded_entry {
	struct entry entry;
	uint64_t words[ENTRY_WORDS];
};

/* Gives the place behind it. */
static uint64_t get_entry(const struct sample_stacks *s, uint64_t place, union padded_entry *ret)
{
	get_words(s, place, ret->words, ENTRY_WORDS);
	return place + ENTRY_WORDS + ret->entry.n_kernel + ret->entry.n_user;
}

static void forget_oldest(struct sample_stacks *s)
{
	union padded_entry oldest;

	s->tail = get_entry(s, s->tail, &oldest);
	map64_remove(s->places, oldest.entry.raw_id);
}

static uint64_t raw_id_of(const struct collect_frames *f)
{
	const uint64_t whose[] = { f->process.start_ns, (uint64_t)f->process.pid << 32 | f->process.exec_id,
		                   f->n_kernel << 1 | f->truncated };
	uint64_t id = hash64(whose, sizeof whose, 0);

	id = hash64(f->kernel, f->n_kernel * sizeof f->kernel[0], id);
	return hash64(f->user, f->n_user * sizeof f->user[0], id);
}

uint64_t sample_stacks_put(struct sample_stacks *s, const struct collect_frames *f)
{
	union padded_entry new = { .entry = {
		.raw_id = raw_id_of(f),
		.process = f->process,
		.n_kernel = (uint32_t)f->n_kernel,
		.n_user = (uint32_t)f->n_user,
		.truncated = f->truncated,
	} };
	size_t n = ENTRY_WORDS + f->n_kernel + f->n_user;

	if (map64_get(s->places, new.entry.raw_id, NULL))
		return new.entry.raw_id;
	while (s->head + n > s->tail + s->n_words || map64_size(s->places) == map64_capacity(s->places))
		forget_oldest(s);
	put_words(s, s->head, new.words, ENTRY_WORDS);
	put_words(s, s->head + ENTRY_WORDS, f->kernel, f->n_kernel);
	put_words(s, s->head + ENTRY_WORDS + f->n_kernel, f->user, f->n_user);
	(void)map64_put(s->places, new.entry.raw_id, s->head);
	s->head += n;
	return new.entry.raw_id;
}

int sample_stacks_get(const struct sample_stacks *s, uint64_t raw_id, struct collect_frames *ret)
{
	union padded_entry found;
	uint64_t place;

	if (!map64_get(s->places, raw_id, &place))
		return -ENOENT;
	get_entry(s, place, &found);
	ret->process = found.entry.process;
	ret->truncated = found.entry.truncated;
	ret->n_kernel = found.entry.n_kernel;
	ret->n_user = found.entry.n_user;
	get_words(s, place + ENTRY_WORDS, ret->kernel, ret->n_kernel);
	get_words(s, place + ENTRY_WORDS + ret->n_kernel, ret->user, ret->n_user);
	return 0;
}

size_t sample_stacks_count(const struct sample_stacks *s)
{
	return map64_size(s->places);
}

size_t sample_stacks_bytes(const struct sample_stacks *s)
{
	return s->n_words * sizeof *s->words;
}
