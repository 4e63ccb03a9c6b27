/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rings of blocks. Headers lie in a ring of their own, of fixed size, so that a damaged block costs only
 * itself; payloads of any length lie in a ring of bytes, each in one piece. */
#include "internal.h"

#define PIN_AROUND_US (60 * USEC_PER_SEC)
#define PINS_AT_ONCE 126 /* blocks that one commit may add */

static struct block *index_at(const struct store *s, int ring, uint32_t i)
{
	const struct section *index = &s->layout.ring_index[ring];

	return (struct block *)store_at(s, index->offset) + i % (uint32_t)index->n;
}

struct block *store_block(const struct store *s, int ring, uint32_t position)
{
	return index_at(s, ring, s->c.rings[ring].first + position);
}

const unsigned char *store_block_payload(const struct store *s, int ring, const struct block *b)
{
	return (const unsigned char *)store_at(s, s->layout.ring_bytes[ring].offset) + b->offset;
}

uint64_t store_block_checksum(const struct store *s, int ring, const struct block *b)
{
	uint64_t h = hash64(&b->offset, sizeof(*b) - offsetof(struct block, offset), SEED_BLOCK);

	return hash64(store_block_payload(s, ring, b), b->size, h);
}

bool store_block_plausible(const struct store *s, int ring, const struct block *b)
{
	uint64_t bytes = s->layout.ring_bytes[ring].n;

	return b->size <= bytes && b->offset <= bytes - b->size && b->first > 0 && b->first <= b->last &&
	       b->last <= s->c.tick && (uint64_t)b->sections[0] + b->sections[1] <= b->size;
}

/* Headers that are left free, because what the last commit says is in use must not be written over before the
 * next. */
static uint32_t spare_headers(const struct store *s, int ring)
{
	uint32_t n = (uint32_t)s->layout.ring_index[ring].n;

	return ring == RING_PINS ? MIN(n / 2, PINS_AT_ONCE + 2U) : 2;
}

void store_ring_evict(struct store *s, int ring)
{
	struct ring_state *r = &s->c.rings[ring];
	const struct block *b = store_block(s, ring, 0);

	if (ring == RING_PINS)
		store_pin_count(s, b, -1);
	r->points -= MIN(r->points, (uint64_t)b->points);
	r->bytes -= MIN(r->bytes, b->size + sizeof(*b));
	r->first = (r->first + 1) % (uint32_t)s->layout.ring_index[ring].n;
	r->n--;
	r->evicted++;
}

/* What a payload takes in the ring. An empty one takes room too, so that the order of the blocks is that of
 * their places. */
static uint64_t extent(const struct block *b)
{
	return MAX(((uint64_t)b->size + 7) & ~7ULL, 8U);
}

uint64_t store_block_end(const struct block *b)
{
	return b->offset + extent(b);
}

static bool overlaps_oldest(const struct store *s, int ring, uint64_t at, uint64_t size)
{
	const struct block *b;

	if (s->c.rings[ring].n == 0)
		return false;
	b = store_block(s, ring, 0);
	return b->offset < at + size && at < store_block_end(b);
}

/* Where size bytes go; what is in the way is evicted, oldest first. */
static uint64_t make_way(struct store *s, int ring, uint64_t size)
{
	struct ring_state *r = &s->c.rings[ring];
	uint64_t at = r->head;

	if (at + size > s->layout.ring_bytes[ring].n) {
		while (r->n > 0 && store_block(s, ring, 0)->offset >= at)
			store_ring_evict(s, ring);
		at = 0;
	}
	while (overlaps_oldest(s, ring, at, size))
		store_ring_evict(s, ring);
	return at;
}

/* Copies header and payload in. A block that is too large for the ring is dropped and counted as evicted. */
int store_ring_append(struct store *s, int ring, struct block *b, const unsigned char *payload)
{
	struct ring_state *r = &s->c.rings[ring];
	uint64_t size = extent(b);
	unsigned char *bytes = store_at(s, s->layout.ring_bytes[ring].offset);
	uint32_t limit = (uint32_t)s->layout.ring_index[ring].n - spare_headers(s, ring);
	struct block *to;

	if (size > s->layout.ring_bytes[ring].n) {
		r->evicted++;
		return -ENOSPC;
	}
	while (r->n >= limit)
		store_ring_evict(s, ring);
	b->offset = make_way(s, ring, size);
	memcpy(bytes + b->offset, payload, b->size);
	r->head = store_block_end(b);
	b->checksum = store_block_checksum(s, ring, b);
	to = index_at(s, ring, r->first + r->n);
	*to = *b;
	r->n++;
	r->points += b->points;
	r->bytes += b->size + sizeof(*b);
	if (ring == RING_PINS)
		store_pin_count(s, to, 1);
	return 0;
}

int store_block_reader(const struct store *s, int ring, const struct block *b, int section,
                       struct section_reader *ret)
{
	const unsigned char *payload = store_block_payload(s, ring, b);

	for (int before = 0; before < section; before++)
		payload += b->sections[before];
	return store_section_open(ret, payload, b->sections[section], s->dicts[section_is_of_slices(section) ? DICT_SLICES : DICT_PROCESSES].max);
}

/* ---- pins ---- */

/* Counts who is mentioned by pinned blocks: they are not reclaimed. */
void store_pin_count(struct store *s, const struct block *b, int delta)
{
	for (int section = 0; section < SECTIONS; section++) {
		uint32_t *pins = section_is_of_slices(section) ? s->slice_pins : s->process_pins, i;
		struct section_reader r;

		if (store_block_reader(s, RING_PINS, b, section, &r) < 0)
			continue;
		while (store_section_next(&r, &i))
			pins[i] += (uint32_t)delta;
	}
}

static uint32_t last_pinned(const struct store *s)
{
	uint32_t n = s->c.rings[RING_PINS].n;

	return n > 0 ? store_block(s, RING_PINS, n - 1)->last : 0;
}

static void pin_block(struct store *s, uint32_t position)
{
	struct block b = *store_block(s, 0, position);

	if (b.first > last_pinned(s))
		store_ring_append(s, RING_PINS, &b, store_block_payload(s, 0, &b));
}

/* Keeps the ticks of the minute before, and says that those of the minute after are to be kept. */
void store_pin(struct store *s, uint64_t time_us)
{
	uint32_t n = s->c.rings[0].n, from = n;

	while (from > 0 && n - from < PINS_AT_ONCE / 2 &&
	       store_block(s, 0, from - 1)->end_us + PIN_AROUND_US > time_us)
		from--;
	for (; from < n; from++)
		pin_block(s, from);
	s->c.pin_until_us = MAX(s->c.pin_until_us, time_us + PIN_AROUND_US);
}

/* At the end of a commit's work: the tick that was just written. */
void store_pin_newest(struct store *s)
{
	uint32_t n = s->c.rings[0].n;

	if (n > 0 && store_block(s, 0, n - 1)->begin_us < s->c.pin_until_us &&
	    store_block(s, 0, n - 1)->end_us + 2 * PIN_AROUND_US > s->c.pin_until_us)
		pin_block(s, n - 1);
}
