/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A section of a block: a list of (index, values), indices ascending, zeros left out, as a stream of bits.
 *
 *   head: number of entries, on-CPU period, the most common presences, for each metric the least code and
 *         the width of what is above it
 *   entry: distance to the last index (Rice), which metrics there are (2 bits, or 2 + 7), their codes
 *
 * A value is kept to a relative quantum: the leading bits of it, rounded; what rounding leaves over is
 * carried into the same metric's next value, so that sums over any window are exact to one quantum at either
 * end. On-CPU time that is the number of hits times the period, as timer samples are, costs nothing beyond
 * the hits. */
#include "internal.h"

#define PRESENCE_BITS 7
#define TAG_BITS 2
#define TAG_PLAIN SECTION_COMMON /* the presence follows; smaller tags stand for the common ones */
/* presence = on-CPU state + 5 x (bits of the four others) */
enum { ONCPU_NONE, ONCPU_ALONE, ONCPU_HITS_ALONE, ONCPU_BOTH, ONCPU_DERIVED, ONCPU_STATES };
#define PRESENCE_N (ONCPU_STATES * 16)

#define VALUE_MAX (1ULL << 56)
#define RICE_ESCAPE 24 /* unary part that announces a plain number */

struct section_head {
	uint32_t n;
	uint16_t base[METRIC_N];
	uint8_t width[METRIC_N];
	uint8_t mantissa, rice;
	uint8_t common[SECTION_COMMON], reserved;
	uint64_t period;
};

/* Worst case of an entry: escape and 20 bits of index, presence, six codes of 15 bits. */
#define ENTRY_BITS_MAX (RICE_ESCAPE + 1 + REF_INDEX_BITS + TAG_BITS + PRESENCE_BITS + METRIC_N * 15)
#define TAIL_BYTES 8 /* a reader loads 8 bytes at a time */

static const enum metric others[4] = { METRIC_BLOCKED, METRIC_RUNNABLE, METRIC_FAULTS_MINOR,
	                               METRIC_FAULTS_MAJOR };

size_t store_section_bound(uint32_t max)
{
	return sizeof(struct section_head) + ((size_t)max * ENTRY_BITS_MAX + 7) / 8 + 2 * TAIL_BYTES;
}

/* ---- values and codes ---- */

/* The code of the nearest number that has mantissa + 1 leading bits; codes grow with the numbers. */
static uint32_t code_of(uint64_t v, unsigned mantissa)
{
	unsigned e;

	if (v < 1ULL << mantissa)
		return (uint32_t)v;
	e = 63U - (unsigned)__builtin_clzll(v) - mantissa;
	if (e > 0) {
		v += 1ULL << (e - 1);
		e = 63U - (unsigned)__builtin_clzll(v) - mantissa;
	}
	return ((e + 1) << mantissa) + (uint32_t)((v >> e) - (1ULL << mantissa));
}

static uint64_t code_value(uint32_t code, unsigned mantissa)
{
	uint32_t e = code >> mantissa;

	if (e == 0)
		return code;
	if (e > 57)
		return 0; /* no such code is written */
	return (uint64_t)((code & ((1U << mantissa) - 1)) | 1U << mantissa) << (e - 1);
}

static uint64_t quantum(uint32_t code, unsigned mantissa)
{
	uint32_t e = code >> mantissa;

	return e == 0 ? 1 : 1ULL << (e - 1);
}

/* ---- writing ---- */

struct writer {
	unsigned char *at;
	uint64_t bits;
	unsigned n;
};

static void put(struct writer *w, uint64_t value, unsigned n)
{
	w->bits |= value << w->n;
	w->n += n;
	while (w->n >= 8) {
		*w->at++ = (unsigned char)w->bits;
		w->bits >>= 8;
		w->n -= 8;
	}
}

static void put_distance(struct writer *w, uint32_t distance, unsigned rice)
{
	uint32_t high = distance >> rice;

	if (high >= RICE_ESCAPE) {
		put(w, (1ULL << RICE_ESCAPE) - 1, RICE_ESCAPE);
		put(w, 0, 1);
		put(w, distance, REF_INDEX_BITS);
	} else {
		put(w, (1ULL << high) - 1, high + 1);
		put(w, distance & ((1U << rice) - 1), rice);
	}
}

/* Steps through what is touched. */
static uint32_t next_touched(const struct accumulator *a, uint32_t from)
{
	for (uint32_t w = from / 64; w < (a->max + 64) / 64; w++) {
		uint64_t bits = a->touched[w];

		if (w == from / 64)
			bits &= ~0ULL << from % 64;
		if (bits)
			return w * 64 + (uint32_t)__builtin_ctzll(bits);
	}
	return UINT32_MAX;
}

static uint64_t with_residual(const struct accumulator *a, uint32_t i, enum metric m)
{
	int64_t v = (int64_t)MIN(a->values[i][m], VALUE_MAX) + a->residuals[i][m];

	return v > 0 ? (uint64_t)v : 0;
}

static void entry_codes(const struct accumulator *a, uint32_t i, unsigned mantissa, uint64_t period,
                        struct entry_codes *ret)
{
	uint64_t oncpu = with_residual(a, i, METRIC_ON_CPU);
	uint32_t rest = 0, state;

	for (int m = 0; m < METRIC_N; m++)
		ret->code[m] = code_of(with_residual(a, i, m), mantissa);
	for (int k = 0; k < 4; k++)
		rest |= (ret->code[others[k]] > 0) << k;
	if (ret->code[METRIC_HITS] > 0) {
		uint64_t hits = code_value(ret->code[METRIC_HITS], mantissa), derived;
		uint64_t q = quantum(ret->code[METRIC_ON_CPU], mantissa);

		state = ret->code[METRIC_ON_CPU] > 0 ? ONCPU_BOTH : ONCPU_HITS_ALONE;
		if (period > 0 && !__builtin_mul_overflow(hits, period, &derived) && derived < VALUE_MAX &&
		    (derived > oncpu ? derived - oncpu : oncpu - derived) <= q / 2)
			state = ONCPU_DERIVED;
	} else {
		state = ret->code[METRIC_ON_CPU] > 0 ? ONCPU_ALONE : ONCPU_NONE;
	}
	ret->presence = state + ONCPU_STATES * rest;
}

/* Which metrics an entry of this presence writes a code for. */
static uint32_t coded(uint32_t presence)
{
	static const uint8_t oncpu[ONCPU_STATES] = {
		[ONCPU_ALONE] = 1 << METRIC_ON_CPU, [ONCPU_HITS_ALONE] = 1 << METRIC_HITS,
		[ONCPU_BOTH] = 1 << METRIC_ON_CPU | 1 << METRIC_HITS, [ONCPU_DERIVED] = 1 << METRIC_HITS,
	};

	return oncpu[presence % ONCPU_STATES] | presence / ONCPU_STATES << METRIC_BLOCKED;
}

/* The time that most hits stand for, found by majority vote. */
static uint64_t find_period(const struct accumulator *a)
{
	uint64_t period = 0, votes = 0;

	for (uint32_t i = next_touched(a, 0); i != UINT32_MAX; i = next_touched(a, i + 1)) {
		uint64_t hits = a->values[i][METRIC_HITS], each;

		if (hits == 0)
			continue;
		each = a->values[i][METRIC_ON_CPU] / hits;
		if (votes == 0)
			period = each;
		votes = each == period ? votes + 1 : votes - 1;
	}
	return period;
}

/* The presences that most entries have, the most common first. */
static void find_common(const uint32_t counts[static PRESENCE_N], uint8_t common[static SECTION_COMMON])
{
	for (int k = 0; k < SECTION_COMMON; k++) {
		uint32_t best = 0, most = 0;

		for (uint32_t p = 1; p < PRESENCE_N; p++)
			if (counts[p] > most && !memchr(common, (int)p, (size_t)k)) {
				most = counts[p];
				best = p;
			}
		common[k] = (uint8_t)best;
	}
}

/* Codes everything that is touched, and finds out how it packs best. */
static uint32_t measure(const struct accumulator *a, struct section_head *h, struct entry_codes *codes)
{
	uint32_t least[METRIC_N], most[METRIC_N] = {}, counts[PRESENCE_N] = {}, n = 0, last = 0;

	memset(least, 0xff, sizeof(least));
	for (uint32_t i = next_touched(a, 0); i != UINT32_MAX; i = next_touched(a, i + 1)) {
		struct entry_codes *e = &codes[n++];

		entry_codes(a, i, h->mantissa, h->period, e);
		e->index = i;
		if (e->presence == 0)
			continue;
		for (uint32_t c = coded(e->presence); c; c &= c - 1) {
			uint32_t m = (uint32_t)__builtin_ctz(c);

			least[m] = MIN(least[m], e->code[m]);
			most[m] = MAX(most[m], e->code[m]);
		}
		counts[e->presence]++;
		h->n++;
		last = i;
	}
	for (int m = 0; m < METRIC_N; m++) {
		uint32_t widest = most[m] > 0 ? most[m] - least[m] : 0;

		h->base[m] = most[m] > 0 ? (uint16_t)least[m] : 0;
		h->width[m] = widest ? (uint8_t)(32 - __builtin_clz(widest)) : 0;
	}
	find_common(counts, h->common);
	/* Distances average last / n; Rice's parameter is the logarithm of about that. */
	while (h->n > 0 && h->rice < 15 && (uint64_t)h->n << (h->rice + 1) <= last)
		h->rice++;
	return n;
}

static void put_presence(struct writer *w, uint32_t presence, const uint8_t common[static SECTION_COMMON])
{
	for (uint32_t k = 0; k < SECTION_COMMON; k++)
		if (common[k] == presence) {
			put(w, k, TAG_BITS);
			return;
		}
	put(w, TAG_PLAIN | presence << TAG_BITS, TAG_BITS + PRESENCE_BITS);
}

/* Writes an entry's codes and carries over what rounding leaves. */
static uint32_t put_values(struct writer *w, struct accumulator *a, const struct section_head *h,
                           const struct entry_codes *e)
{
	uint32_t c = coded(e->presence), points = 0;

	for (uint32_t m = 0; m < METRIC_N; m++) {
		uint64_t kept = 0;

		if (c & 1U << m) {
			put(w, e->code[m] - h->base[m], h->width[m]);
			kept = code_value(e->code[m], h->mantissa);
		} else if (m == METRIC_ON_CPU && e->presence % ONCPU_STATES == ONCPU_DERIVED) {
			kept = code_value(e->code[METRIC_HITS], h->mantissa) * h->period;
		}
		points += kept > 0;
		a->residuals[e->index][m] += (int64_t)MIN(a->values[e->index][m], VALUE_MAX) - (int64_t)kept;
	}
	return points;
}

/* Encodes what is touched into out, which has store_section_bound() bytes, and gives the size. */
size_t store_section_encode(struct accumulator *a, unsigned mantissa, struct entry_codes *codes,
                            unsigned char *out, uint32_t *points)
{
	struct section_head h = { .mantissa = (uint8_t)mantissa };
	struct writer w = { .at = out + sizeof(h) };
	uint32_t n, last = 0;

	h.period = find_period(a);
	n = measure(a, &h, codes);
	if (h.n == 0 && n == 0)
		return 0;
	memcpy(out, &h, sizeof(h));
	for (uint32_t k = 0; k < n; k++) {
		const struct entry_codes *e = &codes[k];

		if (e->presence > 0) {
			put_distance(&w, e->index - last - 1, h.rice);
			put_presence(&w, e->presence, h.common);
			last = e->index;
		}
		*points += put_values(&w, a, &h, e);
	}
	if (h.n == 0)
		return 0;
	put(&w, 0, 7); /* the last bits */
	memset(w.at, 0, TAIL_BYTES);
	return (size_t)(w.at - out) + TAIL_BYTES;
}

/* ---- reading ---- */

static inline uint64_t load(const struct section_reader *r, uint64_t position)
{
	uint64_t v;

	memcpy(&v, r->data + position / 8, sizeof(v));
	return v >> position % 8;
}

static inline uint64_t low_bits(uint64_t v, unsigned n)
{
	return v & ((1ULL << n) - 1);
}

static uint32_t coded_bits(const struct section_reader *r, uint32_t presence)
{
	uint32_t bits = 0;

	for (uint32_t c = coded(presence); c; c &= c - 1)
		bits += r->width[__builtin_ctz(c)];
	return bits;
}

int store_section_open(struct section_reader *r, const unsigned char *data, size_t size, uint32_t max)
{
	struct section_head h;

	r->left = 0;
	if (size == 0)
		return 0;
	if (size < sizeof(h) + TAIL_BYTES)
		return -EBADMSG;
	memcpy(&h, data, sizeof(h));
	if (h.mantissa == 0 || h.mantissa > 8 || h.rice > 15 || h.n > max)
		return -EBADMSG;
	for (int m = 0; m < METRIC_N; m++) {
		if (h.width[m] > 16)
			return -EBADMSG;
		r->base[m] = h.base[m];
		r->width[m] = h.width[m];
	}
	for (int k = 0; k < SECTION_COMMON; k++) {
		if (h.common[k] >= PRESENCE_N)
			return -EBADMSG;
		r->common[k] = h.common[k];
		r->common_bits[k] = coded_bits(r, h.common[k]);
	}
	r->data = data + sizeof(h);
	r->limit = (size - sizeof(h) - TAIL_BYTES) * 8;
	r->position = 0;
	r->index = 0;
	r->left = h.n;
	r->max = max;
	r->period = h.period;
	r->mantissa = h.mantissa;
	r->rice = h.rice;
	return 0;
}

/* Steps to the next entry. Where its values lie is known without reading them. Every load begins at or before
 * the limit, behind which there are 8 bytes more. */
bool store_section_next(struct section_reader *r, uint32_t *ret_index)
{
	uint32_t distance, high, tag;
	uint64_t bits;

	if (r->left == 0 || r->position > r->limit)
		return false;
	bits = load(r, r->position);
	high = (uint32_t)__builtin_ctzll(~bits | 1ULL << RICE_ESCAPE);
	bits >>= high + 1;
	r->position += high + 1;
	if (high < RICE_ESCAPE) {
		distance = high << r->rice | (uint32_t)low_bits(bits, r->rice);
		bits >>= r->rice; /* at most 24 + 15 of at least 57 bits are gone */
		r->position += r->rice + TAG_BITS;
	} else {
		distance = (uint32_t)low_bits(bits, REF_INDEX_BITS);
		bits >>= REF_INDEX_BITS;
		r->position += REF_INDEX_BITS + TAG_BITS;
	}
	tag = (uint32_t)low_bits(bits, TAG_BITS);
	if (tag != TAG_PLAIN) {
		r->presence = r->common[tag];
		r->values_at = r->position;
		r->position += r->common_bits[tag];
	} else {
		r->presence = (uint32_t)low_bits(bits >> TAG_BITS, PRESENCE_BITS);
		if (r->presence >= PRESENCE_N)
			return false;
		r->position += PRESENCE_BITS;
		r->values_at = r->position;
		r->position += coded_bits(r, r->presence);
	}
	if (r->position > r->limit || distance >= r->max - r->index)
		return false;
	r->index += distance + 1;
	r->left--;
	*ret_index = r->index;
	return true;
}

/* Adds the values of the entry that store_section_next() stepped to. */
void store_section_add(const struct section_reader *r, uint64_t sums[static METRIC_N])
{
	uint64_t at = r->values_at, hits;

	for (uint32_t c = coded(r->presence); c; c &= c - 1) {
		uint32_t m = (uint32_t)__builtin_ctz(c);

		sums[m] += code_value(r->base[m] + (uint32_t)low_bits(load(r, at), r->width[m]), r->mantissa);
		at += r->width[m];
	}
	if (r->presence % ONCPU_STATES != ONCPU_DERIVED)
		return;
	hits = code_value(r->base[METRIC_HITS] + (uint32_t)low_bits(load(r, at - r->width[METRIC_HITS]),
	                                                            r->width[METRIC_HITS]),
	                  r->mantissa);
	sums[METRIC_ON_CPU] += hits * r->period;
}
