/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "stack_ids.h"

#include <math.h>

#define TRUNCATED_SEED 0x7472756e63
/* Stacks with code that was made at run time and has no name are looked up again when they are met, as a perf-map may have come: about so many in
 * a tick, which takes a millisecond; where there are more, in turns. */
#define UNNAMED_MAX 128

/* What a raw stack is to the store, as a value of the cache. */
struct known {
	store_ref ref; /* may be stale */
	float weight;  /* all that it did since it is known, in the units of its metrics; with a sign: a name may come later */
};

int stack_ids_init(struct stack_ids *s, struct store *store, struct incidents *incidents, const struct tick_source *source, uint32_t max_stacks)
{
	*s = (struct stack_ids) { .store = store, .incidents = incidents, .source = source, .unnamed_turns = 1 };
	/* Twice what the kernel holds: a stack must be known here at least as long as its frames are not sent again. */
	return idcache_init(&s->cache, 4 * (size_t) max_stacks);
}

void stack_ids_done(struct stack_ids *s)
{
	idcache_done(&s->cache);
}

void stack_ids_begin_tick(struct stack_ids *s)
{
	s->ticks++;
	s->unnamed_turns = 1 + s->unnamed / UNNAMED_MAX;
	s->unnamed = 0;
}

void stack_ids_prefetch(struct stack_ids *s, uint64_t raw_id)
{
	idcache_prefetch(&s->cache, raw_id);
}

size_t stack_ids_size(const struct stack_ids *s)
{
	return idcache_size(&s->cache);
}

/* From the frames that the kernel keeps to the store's stack. *ret_unnamed: a frame lies in code that has no name yet. -EAGAIN: names are on
 * their way. */
static int resolve_stack(struct stack_ids *s, uint64_t raw_id, uint64_t *ret_stack_id, store_ref *ret, bool *ret_unnamed)
{
	struct symbols_frame frames[SYMBOLS_FRAMES_MAX];
	struct store_frame stored[SYMBOLS_FRAMES_MAX];
	uint64_t stack_id;
	bool is_new, truncated;
	size_t n;
	int r;

	r = s->source->stack(s->source->userdata, raw_id, frames, &n, &stack_id, &truncated);
	if (r < 0)
		return r;
	/* The same frames may be all that there are, or all that were found. */
	if (truncated)
		stack_id = hash64(&stack_id, sizeof(stack_id), TRUNCATED_SEED);
	*ret_unnamed = false;
	for (size_t i = 0; i < n; i++) {
		*ret_unnamed |= frames[i].kind == FRAME_JIT && !*frames[i].function;
		stored[i] = (struct store_frame) {
			.id = frames[i].id,
			.display = frames[i].display,
			.object = frames[i].object,
			.kind = frames[i].kind,
			.build_id = frames[i].build_id,
			.address = frames[i].symbol,
		};
	}
	is_new = !store_find_stack(s->store, stack_id);
	r = store_intern_stack(s->store, stack_id, stored, n, truncated, ret);
	if (r < 0)
		return r;
	if (is_new)
		incidents_learn_stack(s->incidents, stored, n);
	*ret_stack_id = stack_id;
	return 0;
}

static struct known known_of(uint64_t value)
{
	struct known k;

	_Static_assert(sizeof(k) == sizeof(value), "the cache's values hold it");
	memcpy(&k, &value, sizeof(k));
	return k;
}

static uint64_t value_of(struct known k)
{
	uint64_t value;

	memcpy(&value, &k, sizeof(value));
	return value;
}

/* values: what it did now, or NULL. */
static float weigh(const uint64_t *values)
{
	float weight = 0;

	for (enum metric m = 0; values && m < METRIC_N; m++)
		weight += m == METRIC_HITS || m == METRIC_FAULTS_FILE ? 0 : (float)metric_magnitude(m, values[m]);
	return weight;
}

static bool is_due(struct stack_ids *s, uint64_t raw_id, const struct known *k)
{
	if (!signbit(k->weight))
		return false;
	s->unnamed++;
	return (raw_id + s->ticks) % s->unnamed_turns == 0;
}

int stack_ids_find(struct stack_ids *s, uint64_t raw_id, const uint64_t *values, uint64_t *ret_stack_id, store_ref *ret)
{
	uint64_t *value = idcache_find(&s->cache, raw_id), known_id = 0;
	struct known k = {};
	bool unnamed;
	int r;

	if (value) {
		k = known_of(*value);
		*ret = k.ref;
		known_id = *ret_stack_id = store_keep_stack(s->store, *ret);
		k.weight = copysignf(fabsf(k.weight) + weigh(values), k.weight);
		*value = value_of(k);
		if (known_id && !is_due(s, raw_id, &k))
			return 0;
	}
	r = resolve_stack(s, raw_id, ret_stack_id, ret, &unnamed);
	if (r < 0 && known_id) {
		*ret = k.ref;
		*ret_stack_id = known_id;
		return 0;
	}
	if (r < 0)
		return r;
	k.weight = known_id ? fabsf(k.weight) : weigh(values);
	idcache_put(&s->cache, raw_id, value_of((struct known) { .ref = *ret, .weight = unnamed ? -k.weight : k.weight }));
	return 0;
}

struct address_search {
	store_ref ref;
	struct stack_address *found;
	size_t n, max;
	double weight;
};

/* The heaviest first. */
static void consider(void *userdata, uint64_t raw_id, uint64_t value)
{
	struct address_search *s = userdata;
	struct known k = known_of(value);
	size_t at = s->n;

	if (k.ref != s->ref)
		return;
	k.weight = fabsf(k.weight);
	s->weight += k.weight;
	while (at > 0 && s->found[at - 1].weight < k.weight)
		at--;
	if (at == s->max)
		return;
	s->n = MIN(s->n + 1, s->max);
	memmove(s->found + at + 1, s->found + at, (s->n - at - 1) * sizeof(*s->found));
	s->found[at] = (struct stack_address) { .raw_id = raw_id, .weight = k.weight };
}

size_t stack_ids_addresses(struct stack_ids *s, uint64_t stack_id, struct stack_address *ret, size_t max, double *ret_weight)
{
	struct address_search search = { .ref = store_find_stack(s->store, stack_id), .found = ret, .max = max };

	if (search.ref)
		idcache_visit(&s->cache, consider, &search);
	*ret_weight = search.weight;
	return search.n;
}
