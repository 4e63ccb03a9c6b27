/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counts the blocks that watched heaps hold, by stack and age: a part of them at a time, so that no tick takes long. */
#include "internal.h"

#define BLOCKS_READ 1024      /* at once */
#define BLOCKS_A_STEP 16384   /* about a millisecond */
#define STACKS_MAX 4096

static const uint64_t ages_ns[COLLECT_HEAP_AGES] = { 60 * NSEC_PER_SEC, 600 * NSEC_PER_SEC, 3600 * NSEC_PER_SEC };

int heap_census_init(struct heap_census *c, const int blocks[static BLOCKS_N])
{
	*c = (struct heap_census){ .blocks = blocks };
	c->stacks = calloc(STACKS_MAX, sizeof(*c->stacks));
	if (!c->stacks)
		return -ENOMEM;
	return map64_new(&c->index, STACKS_MAX);
}

void heap_census_done(struct heap_census *c)
{
	free(c->stacks);
	c->stacks = NULL;
	c->index = map64_free(c->index);
}

static struct collect_heap_stack *stack_of(struct heap_census *c, uint32_t watch, uint64_t raw_id)
{
	uint64_t key = hash64(&watch, sizeof watch, raw_id), i;

	if (map64_get(c->index, key, &i))
		return &c->stacks[i];
	if (map64_put(c->index, key, c->n) < 0)
		return NULL;
	c->stacks[c->n] = (struct collect_heap_stack){ .watch = watch, .raw_id = raw_id };
	return &c->stacks[c->n++];
}

void heap_census_add(struct heap_census *c, uint64_t now_ns, const struct stackd_heap_key *key, const struct stackd_heap_block *block)
{
	struct collect_heap_stack *stack = stack_of(c, key->watch, block->stack);

	if (!stack) {
		c->left_out += block->weight;
		return;
	}
	stack->blocks++;
	stack->bytes += block->weight;
	for (unsigned i = 0; i < COLLECT_HEAP_AGES; i++)
		if (now_ns > block->born_ns && now_ns - block->born_ns >= ages_ns[i])
			stack->older[i] += block->weight;
}

void heap_census_begin(struct heap_census *c)
{
	c->n = 0;
	c->left_out = 0;
	c->at = c->cursor = 0;
	c->under_way = true;
	c->started = false;
	map64_clear(c->index);
}

bool heap_census_step(struct heap_census *c)
{
	struct stackd_heap_key keys[BLOCKS_READ];
	struct stackd_heap_block blocks[BLOCKS_READ];
	uint64_t now_ns = clock_monotonic_ns();

	if (!c->under_way)
		heap_census_begin(c);
	for (uint32_t read = 0; read < BLOCKS_A_STEP;) {
		uint32_t n = BLOCKS_READ;
		int r = 0;
		bool end;

		if (c->blocks[c->at] < 0)
			n = 0;
		else
			r = bpf_map_lookup_batch(c->blocks[c->at], c->started ? &c->cursor : NULL, &c->cursor, keys, blocks, &n, NULL);
		end = c->blocks[c->at] < 0 || (r < 0 && errno == ENOENT);
		/* It begins anew next time. */
		if (r < 0 && !end) {
			c->under_way = false;
			return false;
		}
		for (uint32_t i = 0; i < n; i++)
			heap_census_add(c, now_ns, &keys[i], &blocks[i]);
		c->started = true;
		read += n;
		if (!end)
			continue;
		c->started = false;
		if (++c->at == BLOCKS_N) {
			c->under_way = false;
			return true;
		}
	}
	return false;
}
