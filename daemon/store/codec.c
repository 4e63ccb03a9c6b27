/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A section of a block: a list of (index, values), indices ascending, zeros left out, as a stream of bits.
 *
 *   head: number of entries, on-CPU period, the most common shapes, for each metric the least code and the
 *         width of what is above it, for all and for most of them
 *   entry: distance to the last index (Rice), its shape (2 bits, or 2 + 14), its codes
 *
 * A shape is which metrics there are, and whether all of them lie where most of their metric's codes do: those
 * take fewer bits. Codes grow with the logarithm of the value, and one that is far out costs itself only.
 *
 * A value is kept to a relative quantum: the leading bits of it, rounded, and the sign below them where the metric
 * has one; what rounding leaves over is carried into the same metric's next value, so that sums over any window are exact to one quantum at either
 * end. On-CPU time that is the number of hits times the period, as timer samples are, costs nothing beyond
 * the hits. */
#include "internal.h"

#define SHAPE_BITS 14
#define TAG_BITS 2
#define TAG_PLAIN SECTION_COMMON /* the shape follows; smaller tags stand for the common ones */
/* presence = on-CPU state + 5 x (bits of the others) */
enum { ONCPU_NONE, ONCPU_ALONE, ONCPU_HITS_ALONE, ONCPU_BOTH, ONCPU_DERIVED, ONCPU_STATES };
#define OTHERS (METRIC_N - 2)
#define PRESENCE_N (ONCPU_STATES << OTHERS)
/* shape = presence + PRESENCE_N when a code lies outside of the narrow range */
#define SHAPE_N (2 * PRESENCE_N)
_Static_assert(SHAPE_N <= 1 << SHAPE_BITS, "every shape fits");
enum { NARROW, WIDE };

#define VALUE_MAX (1ULL << 56)
#define NARROW_BITS 8 /* a range is looked at in so many parts, as a power of two */
#define NARROW_BINS (1U << NARROW_BITS)
#define RICE_ESCAPE 20 /* unary part that announces a plain number; with that, tag and shape it is read at once */
_Static_assert(RICE_ESCAPE + 1 + REF_INDEX_BITS + 2 + SHAPE_BITS <= 57, "a load gives at least so many bits");

struct section_head {
	uint32_t n;
	struct code_range range[2][METRIC_N]; /* NARROW, WIDE */
	uint8_t mantissa, rice;
	uint16_t common[SECTION_COMMON];
	uint64_t period; /* 0 = there is none */
};

/* Bits of what the head holds; a base and a width for each metric that there is, twice when most codes take fewer bits. */
#define N_BITS REF_INDEX_BITS
#define SMALL_BITS 4 /* mantissa, Rice's parameter, widths */
#define BASE_BITS 14
#define PERIOD_BITS 56
#define RANGE_BITS (BASE_BITS + SMALL_BITS)
#define HEAD_BITS_MAX (N_BITS + 2 * SMALL_BITS + METRIC_N + SECTION_COMMON * SHAPE_BITS + 1 + PERIOD_BITS + METRIC_N * (2 * RANGE_BITS + 1))

/* Worst case of an entry: escape and 20 bits of index, shape, codes of 15 bits. */
#define ENTRY_BITS_MAX (RICE_ESCAPE + 1 + REF_INDEX_BITS + TAG_BITS + SHAPE_BITS + METRIC_N * 15)
#define TAIL_BYTES 8 /* a reader loads 8 bytes at a time */

/* All but those of on-CPU time, in the order of their bits in a presence. */
static const enum metric others[OTHERS] = { METRIC_BLOCKED, METRIC_RUNNABLE, METRIC_FAULTS_MINOR, METRIC_FAULTS_MAJOR,
	                                    METRIC_BRK, METRIC_MMAP, METRIC_HEAP, METRIC_RSS, METRIC_FAULTS_FILE, METRIC_KMEM };

size_t store_section_bound(uint32_t max)
{
	return ((size_t)max * ENTRY_BITS_MAX + HEAD_BITS_MAX + 7) / 8 + 2 * TAIL_BYTES;
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

/* The code of a value as it is written; 0 is the code of 0 only. */
static uint32_t code_of_metric(enum metric m, int64_t v, unsigned mantissa)
{
	uint32_t code = code_of(v < 0 ? 0 - (uint64_t)v : (uint64_t)v, mantissa);

	return metric_is_signed(m) && code > 0 ? code << 1 | (v < 0) : code;
}

static uint64_t metric_code_value(enum metric m, uint32_t code, unsigned mantissa)
{
	uint64_t v;

	if (!metric_is_signed(m))
		return code_value(code, mantissa);
	v = code_value(code >> 1, mantissa);
	return code & 1 ? 0 - v : v;
}

/* ---- writing ---- */

struct writer {
	unsigned char *at;
	uint64_t bits;
	unsigned n;
};

static void put(struct writer *w, uint64_t value, unsigned n)
{
	/* At most 7 bits are left from before, so that 57 fit. */
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

/* A gathered value within what can be kept. */
static int64_t bounded(uint64_t gathered, enum metric m)
{
	int64_t v = (int64_t)gathered, most = (int64_t)VALUE_MAX;

	if (!metric_is_signed(m))
		return (int64_t)MIN(gathered, VALUE_MAX);
	return MAX(MIN(v, most), -most);
}

static void entry_codes(const struct accumulator *a, uint32_t i, unsigned mantissa, uint64_t period,
                        struct entry_codes *ret)
{
	uint64_t gathered[METRIC_N], oncpu = 0;
	float residuals[METRIC_N];
	uint32_t rest = 0, state;

	memset(ret->code, 0, sizeof(ret->code));
	for (uint32_t left = store_gathered(a, i, gathered, residuals); left; left &= left - 1) {
		enum metric m = (enum metric)__builtin_ctz(left);
		int64_t v = bounded(gathered[m], m) + (int64_t)residuals[m];

		if (!metric_is_signed(m))
			v = MAX(v, (int64_t)0);
		if (m == METRIC_ON_CPU)
			oncpu = (uint64_t)v;
		ret->code[m] = v ? code_of_metric(m, v, mantissa) : 0;
	}
	for (int k = 0; k < OTHERS; k++)
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
	ret->shape = state + ONCPU_STATES * rest;
}

/* Which metrics an entry of this shape writes a code for. */
static uint32_t coded(uint32_t shape)
{
	static const uint8_t oncpu[ONCPU_STATES] = {
		[ONCPU_ALONE] = 1 << METRIC_ON_CPU, [ONCPU_HITS_ALONE] = 1 << METRIC_HITS,
		[ONCPU_BOTH] = 1 << METRIC_ON_CPU | 1 << METRIC_HITS, [ONCPU_DERIVED] = 1 << METRIC_HITS,
	};

	uint32_t rest = shape % PRESENCE_N / ONCPU_STATES;

	/* Hits lie between the others, on-CPU time before them. */
	return oncpu[shape % ONCPU_STATES] | (rest & ((1U << (METRIC_HITS - METRIC_BLOCKED)) - 1)) << METRIC_BLOCKED |
	       rest >> (METRIC_HITS - METRIC_BLOCKED) << METRIC_BRK;
}

/* The time that most hits stand for, found by majority vote. */
static uint64_t find_period(const struct accumulator *a)
{
	uint64_t period = 0, votes = 0;

	for (uint32_t i = next_touched(a, 0); i != UINT32_MAX; i = next_touched(a, i + 1)) {
		uint64_t gathered[METRIC_N], each;

		if (!(store_gathered(a, i, gathered, NULL) & 1U << METRIC_HITS) || gathered[METRIC_HITS] == 0)
			continue;
		each = gathered[METRIC_ON_CPU] / gathered[METRIC_HITS];
		if (votes == 0)
			period = each;
		votes = each == period ? votes + 1 : votes - 1;
	}
	return period;
}

/* The shapes that most entries have, the most common first. */
static void find_common(const uint32_t counts[static SHAPE_N], uint16_t common[static SECTION_COMMON])
{
	for (int k = 0; k < SECTION_COMMON; k++) {
		uint32_t best = 0, most = 0;

		for (uint32_t shape = 1; shape < SHAPE_N; shape++)
			if (counts[shape] > most && !(k > 0 && common[0] == shape) && !(k > 1 && common[1] == shape)) {
				most = counts[shape];
				best = shape;
			}
		common[k] = (uint16_t)best;
	}
}

static uint8_t width_of(uint32_t most)
{
	return most ? (uint8_t)(32 - __builtin_clz(most)) : 0;
}

/* Codes everything that is touched, and finds the range of each metric's codes. */
static uint32_t measure(const struct accumulator *a, struct section_head *h, struct entry_codes *codes, uint32_t *ret_metrics)
{
	uint32_t least[METRIC_N], most[METRIC_N] = {}, n = 0, last = 0;

	memset(least, 0xff, sizeof(least));
	for (uint32_t i = next_touched(a, 0); i != UINT32_MAX; i = next_touched(a, i + 1)) {
		struct entry_codes *e = &codes[n++];

		entry_codes(a, i, h->mantissa, h->period, e);
		e->index = i;
		if (e->shape == 0)
			continue;
		*ret_metrics |= coded(e->shape);
		for (uint32_t c = coded(e->shape); c; c &= c - 1) {
			uint32_t m = (uint32_t)__builtin_ctz(c);

			least[m] = MIN(least[m], e->code[m]);
			most[m] = MAX(most[m], e->code[m]);
		}
		h->n++;
		last = i;
	}
	for (int m = 0; m < METRIC_N; m++) {
		if (most[m] == 0)
			continue;
		h->range[WIDE][m] = (struct code_range) { (uint16_t)least[m], width_of(most[m] - least[m]) };
	}
	/* Distances average last / n; Rice's parameter is the logarithm of about that. */
	while (h->n > 0 && h->rice < 15 && (uint64_t)h->n << (h->rice + 1) <= last)
		h->rice++;
	return n;
}

/* The part of a metric's range that packs all of its codes best: what is outside of it costs the whole width, and about
 * as much again for the entry's other codes and a rarer shape. */
static struct code_range narrowed(struct code_range all, const uint32_t bins[static NARROW_BINS], unsigned shift, uint32_t n)
{
	struct code_range best = all;
	uint64_t least = (uint64_t)n * all.width;

	for (unsigned width = shift; width < all.width; width++) {
		uint32_t length = 1U << (width - shift), inside = 0;

		for (uint32_t i = 0; i < NARROW_BINS; i++) {
			uint64_t cost;

			inside += bins[i];
			if (i >= length)
				inside -= bins[i - length];
			if (i + 1 < length)
				continue;
			cost = (uint64_t)n * width + (uint64_t)(n - inside) * (all.width - width) * 2;
			if (cost < least) {
				least = cost;
				best.width = (uint8_t)width;
				best.base = (uint16_t)(all.base + ((i + 1 - length) << shift));
			}
		}
	}
	return best;
}

/* Finds where most of each metric's codes lie. */
static void narrow(struct section_head *h, const struct entry_codes *codes, uint32_t n)
{
	uint32_t bins[METRIC_N][NARROW_BINS] = {}, counts[METRIC_N] = {};
	unsigned shift[METRIC_N];

	for (int m = 0; m < METRIC_N; m++)
		shift[m] = (unsigned)MAX(h->range[WIDE][m].width - NARROW_BITS, 0);
	for (uint32_t k = 0; k < n; k++)
		for (uint32_t c = codes[k].shape ? coded(codes[k].shape) : 0; c; c &= c - 1) {
			uint32_t m = (uint32_t)__builtin_ctz(c);

			bins[m][(codes[k].code[m] - h->range[WIDE][m].base) >> shift[m]]++;
			counts[m]++;
		}
	for (int m = 0; m < METRIC_N; m++)
		h->range[NARROW][m] = narrowed(h->range[WIDE][m], bins[m], shift[m], counts[m]);
}

/* Tells entries with a code outside of the narrow ranges from the others. */
static void shape(struct section_head *h, struct entry_codes *codes, uint32_t n)
{
	uint32_t counts[SHAPE_N] = {};

	for (uint32_t k = 0; k < n; k++) {
		struct entry_codes *e = &codes[k];

		if (e->shape == 0)
			continue;
		for (uint32_t c = coded(e->shape); c; c &= c - 1) {
			uint32_t m = (uint32_t)__builtin_ctz(c);
			const struct code_range *range = &h->range[NARROW][m];

			if (e->code[m] < range->base || (e->code[m] - range->base) >> range->width) {
				e->shape += PRESENCE_N;
				break;
			}
		}
		counts[e->shape]++;
	}
	find_common(counts, h->common);
}

static void put_range(struct writer *w, struct code_range range)
{
	put(w, range.base, BASE_BITS);
	put(w, range.width, SMALL_BITS);
}

static void put_head(struct writer *w, const struct section_head *h, uint32_t metrics)
{
	put(w, h->n, N_BITS);
	put(w, h->mantissa, SMALL_BITS);
	put(w, h->rice, SMALL_BITS);
	put(w, metrics, METRIC_N);
	for (int k = 0; k < SECTION_COMMON; k++)
		put(w, h->common[k], SHAPE_BITS);
	put(w, h->period > 0, 1);
	if (h->period > 0)
		put(w, h->period, PERIOD_BITS);
	for (uint32_t m = 0; m < METRIC_N; m++) {
		bool is_narrower = h->range[NARROW][m].width < h->range[WIDE][m].width;

		if (!(metrics & 1U << m))
			continue;
		put_range(w, h->range[WIDE][m]);
		put(w, is_narrower, 1);
		if (is_narrower)
			put_range(w, h->range[NARROW][m]);
	}
}

static void put_shape(struct writer *w, uint32_t value, const uint16_t common[static SECTION_COMMON])
{
	for (uint32_t k = 0; k < SECTION_COMMON; k++)
		if (common[k] == value) {
			put(w, k, TAG_BITS);
			return;
		}
	put(w, TAG_PLAIN | value << TAG_BITS, TAG_BITS + SHAPE_BITS);
}

/* Writes an entry's codes and carries over what rounding leaves. */
static uint32_t put_values(struct writer *w, struct accumulator *a, const struct section_head *h,
                           const struct entry_codes *e)
{
	const struct code_range *ranges = h->range[e->shape >= PRESENCE_N];
	uint32_t c = coded(e->shape), points = 0;
	uint64_t gathered[METRIC_N];
	float residuals[METRIC_N];

	for (uint32_t left = store_gathered(a, e->index, gathered, residuals); left; left &= left - 1) {
		uint32_t m = (uint32_t)__builtin_ctz(left);
		uint64_t kept = 0;

		if (c & 1U << m) {
			put(w, e->code[m] - ranges[m].base, ranges[m].width);
			kept = metric_code_value(m, e->code[m], h->mantissa);
		} else if (m == METRIC_ON_CPU && e->shape % ONCPU_STATES == ONCPU_DERIVED) {
			kept = code_value(e->code[METRIC_HITS], h->mantissa) * h->period;
		}
		points += kept != 0;
		residuals[m] = (float)(bounded(gathered[m], m) + (int64_t)residuals[m] - (int64_t)kept);
	}
	store_accumulator_leave_over(a, e->index, residuals);
	return points;
}

/* Encodes what is touched into out, which has store_section_bound() bytes, and gives the size. */
size_t store_section_encode(struct accumulator *a, unsigned mantissa, struct entry_codes *codes,
                            unsigned char *out, uint32_t *points)
{
	struct section_head h = { .mantissa = (uint8_t)mantissa };
	struct writer w = { .at = out };
	uint32_t n, metrics = 0, last = 0;

	h.period = a->rooms ? MIN(find_period(a), VALUE_MAX - 1) : 0;
	n = measure(a, &h, codes, &metrics);
	if (h.n == 0 && n == 0)
		return 0;
	narrow(&h, codes, n);
	shape(&h, codes, n);
	put_head(&w, &h, metrics);
	for (uint32_t k = 0; k < n; k++) {
		const struct entry_codes *e = &codes[k];

		if (e->shape > 0) {
			put_distance(&w, e->index - last - 1, h.rice);
			put_shape(&w, e->shape, h.common);
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

static uint32_t coded_bits(const struct section_reader *r, uint32_t shape)
{
	const struct code_range *ranges = r->range[shape >= PRESENCE_N];
	uint32_t bits = 0;

	for (uint32_t c = coded(shape); c; c &= c - 1)
		bits += ranges[__builtin_ctz(c)].width;
	return bits;
}

static uint64_t take(struct section_reader *r, unsigned n)
{
	uint64_t v = r->position <= r->limit ? low_bits(load(r, r->position), n) : 0;

	r->position += n;
	return v;
}

static struct code_range take_range(struct section_reader *r)
{
	uint16_t base = (uint16_t)take(r, BASE_BITS);

	return (struct code_range) { base, (uint16_t)take(r, SMALL_BITS) };
}

int store_section_open(struct section_reader *r, const unsigned char *data, size_t size, uint32_t max)
{
	uint32_t metrics, left;

	r->left = 0;
	if (size == 0)
		return 0;
	if (size <= TAIL_BYTES)
		return -EBADMSG;
	r->data = data;
	r->limit = (size - TAIL_BYTES) * 8;
	r->position = 0;
	left = (uint32_t)take(r, N_BITS);
	r->mantissa = (uint8_t)take(r, SMALL_BITS);
	r->rice = (uint8_t)take(r, SMALL_BITS);
	metrics = (uint32_t)take(r, METRIC_N);
	for (int k = 0; k < SECTION_COMMON; k++) {
		r->common[k] = (uint32_t)take(r, SHAPE_BITS);
		if (r->common[k] >= SHAPE_N)
			return -EBADMSG;
	}
	r->period = take(r, 1) ? take(r, PERIOD_BITS) : 0;
	memset(r->range, 0, sizeof(r->range));
	for (uint32_t m = 0; m < METRIC_N; m++) {
		if (!(metrics & 1U << m))
			continue;
		r->range[WIDE][m] = take_range(r);
		r->range[NARROW][m] = take(r, 1) ? take_range(r) : r->range[WIDE][m];
	}
	if (r->mantissa == 0 || r->mantissa > 8 || left > max || r->position > r->limit)
		return -EBADMSG;
	for (int k = 0; k < SECTION_COMMON; k++)
		r->common_bits[k] = coded_bits(r, r->common[k]);
	r->index = 0;
	r->left = left;
	r->max = max;
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
		r->shape = r->common[tag];
		r->values_at = r->position;
		r->position += r->common_bits[tag];
	} else {
		r->shape = (uint32_t)low_bits(bits >> TAG_BITS, SHAPE_BITS);
		if (r->shape >= SHAPE_N)
			return false;
		r->position += SHAPE_BITS;
		r->values_at = r->position;
		r->position += coded_bits(r, r->shape);
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
	const struct code_range *ranges = r->range[r->shape >= PRESENCE_N];
	bool derived = r->shape % ONCPU_STATES == ONCPU_DERIVED;
	uint64_t at = r->values_at;

	for (uint32_t c = coded(r->shape); c; c &= c - 1) {
		uint32_t m = (uint32_t)__builtin_ctz(c);
		uint64_t v = metric_code_value(m, ranges[m].base + (uint32_t)low_bits(load(r, at), ranges[m].width), r->mantissa);

		sums[m] += v;
		if (derived && m == METRIC_HITS)
			sums[METRIC_ON_CPU] += v * r->period;
		at += ranges[m].width;
	}
}
