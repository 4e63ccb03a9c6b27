/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which incidents are the same trouble. */
#include <math.h>

#include "state.h"

#define STACKS_SHARE 0.75f /* of likeness; the signature has the rest */
#define JOIN_MIN 0.4f
#define STACKS_MIN 0.3f    /* however alike the signatures are */
#define SIGNATURES_MIN 0.1f /* however alike the stacks are: who waits for a CPU where others wait for a lock, or is called no more, is in another trouble */
#define MERGE_MIN 0.75f
#define MASS_MAX 16.0f     /* incidents that a centre remembers */
#define INDEXED 12         /* the heaviest features of a centre lead to it */
#define PER_FEATURE 4
#define VOTE_FADE 0.9f
/* A class has come apart when two pairs of its latest four incidents agree in themselves and not with each other. */
#define SPLIT_INNER 0.6f
#define SPLIT_CROSS 0.25f
/* Which class is forgotten when there are too many: the smallest, and an incident counts half after so long. */
#define HALF_LIFE_US (30.0 * 86400 * 1e6)

struct signature signature_of(const struct kind_evidence *e)
{
	struct signature s = {};
	float square = 0;

	for (unsigned m = 0; m < CLUSTER_METRICS; m++) {
		/* The root: which metrics moved says more than which moved most. */
		s.of[m] = sqrtf((float)e->up[m]);
		s.of[CLUSTER_METRICS + m] = sqrtf((float)e->down[m]);
	}
	for (size_t k = 0; k < SIGNATURE_N; k++)
		square += s.of[k] * s.of[k];
	for (size_t k = 0; k < SIGNATURE_N && square > 0; k++)
		s.of[k] /= sqrtf(square);
	return s;
}

static float signature_cosine(const struct signature *a, const struct signature *b)
{
	float sum = 0;

	for (size_t k = 0; k < SIGNATURE_N; k++)
		sum += a->of[k] * b->of[k];
	return sum;
}

static void signature_mix(struct signature *a, float part_a, const struct signature *b, float part_b)
{
	float square = 0;

	for (size_t k = 0; k < SIGNATURE_N; k++) {
		a->of[k] = part_a * a->of[k] + part_b * b->of[k];
		square += a->of[k] * a->of[k];
	}
	for (size_t k = 0; k < SIGNATURE_N && square > 0; k++)
		a->of[k] /= sqrtf(square);
}

/* ---- which is kept ---- */

/* log2 of the incidents that it counts for, which halve as time passes, at a moment that is the same for all. */
static double keeps(const struct class_state *class)
{
	double incidents = class->c.n_incidents + 8.0 * (class->c.n_real + class->c.n_false) + (class->c.muted_until_us > class->c.last_us ? 8 : 0);

	return log2(MAX(incidents, 0.5)) + (double)class->c.last_us / HALF_LIFE_US;
}

/* ---- the index: from features to the classes that they lead to ---- */

static size_t heaviest(const struct vector *v, uint32_t ret[static INDEXED])
{
	bool taken[VECTOR_MAX] = {};
	size_t n = 0;

	for (; n < INDEXED && n < v->n; n++) {
		uint32_t most = VECTOR_MAX;

		for (uint32_t k = 0; k < v->n; k++)
			if (!taken[k] && (most == VECTOR_MAX || v->weight[k] > v->weight[most]))
				most = k;
		taken[most] = true;
		ret[n] = v->feature[most];
	}
	return n;
}

/* By number + 1. */
static bool leads_to(const struct clusters *c, uint32_t feature, uint64_t entry)
{
	const struct vector *v = entry && entry <= c->state->n_classes ? &c->classes[entry - 1].centre : NULL;

	for (uint32_t k = 0; v && k < v->n; k++)
		if (v->feature[k] == feature)
			return true;
	return false;
}

/* Of too many classes that share a feature the latest are led to: such a feature tells little. What led to a class that has moved on goes. */
static uint64_t add_entry(const struct clusters *c, uint32_t feature, uint64_t packed, uint64_t entry)
{
	uint64_t added = entry;
	unsigned n = 1;

	for (; packed; packed >>= 16) {
		uint64_t other = packed & 0xffff;

		if (other != entry && n < PER_FEATURE && leads_to(c, feature, other))
			added |= other << 16 * n++;
	}
	return added;
}

/* Gives -ENOSPC when the index is full. */
static int index_features(struct clusters *c, uint32_t number)
{
	uint32_t features[INDEXED];
	size_t n = heaviest(&c->classes[number].centre, features);

	for (size_t k = 0; k < n; k++) {
		uint64_t packed = 0;

		map64_get(c->index, features[k], &packed);
		if (map64_put(c->index, features[k], add_entry(c, features[k], packed, number + 1)) < 0)
			return -ENOSPC;
	}
	return 0;
}

/* The winner is the one that is kept least. */
static void compete(struct clusters *c, uint32_t number)
{
	for (uint32_t k = (c->n_leaves + number) / 2; k > 0; k /= 2) {
		uint32_t a = c->least[2 * k], b = c->least[2 * k + 1];

		c->least[k] = c->keeps[b] < c->keeps[a] ? b : a;
	}
}

void class_weigh(struct clusters *c, const struct class_state *class)
{
	uint32_t number = (uint32_t)(class - c->classes);

	c->keeps[number] = number < c->state->n_classes ? keeps(class) : INFINITY;
	compete(c, number);
}

void classes_index(struct clusters *c)
{
	map64_clear(c->index);
	map64_clear(c->by_id);
	c->labelled = false;
	for (uint32_t k = 0; k < c->n_leaves; k++) {
		c->keeps[k] = k < c->state->n_classes ? keeps(&c->classes[k]) : INFINITY;
		c->least[c->n_leaves + k] = k;
	}
	for (uint32_t k = 0; k < c->n_leaves; k++)
		compete(c, k);
	for (uint32_t k = 0; k < c->state->n_classes; k++) {
		index_features(c, k);
		map64_put(c->by_id, c->classes[k].c.id, k);
		c->labelled |= c->classes[k].c.evidence_us > 0;
	}
}

/* Of a class that is new, has moved, or has learnt. */
static void index_again(struct clusters *c, const struct class_state *class)
{
	uint32_t number = (uint32_t)(class - c->classes);

	map64_put(c->by_id, class->c.id, number);
	class_weigh(c, class);
	if (index_features(c, number) < 0)
		classes_index(c);
}

struct incident_view {
	const struct vector *stacks;
	const struct signature *signature;
};

static float likeness(const struct class_state *class, const struct incident_view *with)
{
	float stacks = vector_cosine(&class->centre, with->stacks), signatures;

	if (stacks < STACKS_MIN)
		return 0;
	signatures = signature_cosine(&class->signature, with->signature);
	return signatures < SIGNATURES_MIN ? 0 : STACKS_SHARE * stacks + (1 - STACKS_SHARE) * signatures;
}

/* The most alike of the classes that the heaviest features lead to; except is left out. */
static struct class_state *nearest(struct clusters *c, const struct incident_view *with, const struct class_state *except, float *ret_likeness)
{
	uint32_t features[INDEXED];
	size_t n = heaviest(with->stacks, features);
	struct class_state *best = NULL;

	*ret_likeness = 0;
	for (size_t k = 0; k < n; k++) {
		uint64_t packed = 0;

		map64_get(c->index, features[k], &packed);
		for (; packed; packed >>= 16) {
			uint32_t number = (uint32_t)(packed & 0xffff) - 1;
			struct class_state *class;
			float is;

			if ((packed & 0xffff) == 0 || number >= c->state->n_classes)
				continue;
			class = &c->classes[number];
			is = class == except ? 0 : likeness(class, with);
			if (is > *ret_likeness) {
				*ret_likeness = is;
				best = class;
			}
		}
	}
	return best;
}

/* ---- names ---- */

static const char *const kind_texts[CLUSTER_KIND_N] = {
	[CLUSTER_CPU_SPIN] = "CPU spin in",
	[CLUSTER_LOCK_CONTENTION] = "lock contention in",
	[CLUSTER_IO_STALL] = "I/O stall in",
	[CLUSTER_STARVATION] = "no CPU for",
	[CLUSTER_MEMORY_PRESSURE] = "memory pressure in",
	[CLUSTER_FAULT_STORM] = "page faults in",
	[CLUSTER_NETWORK_WAIT] = "waiting for the network in",
	[CLUSTER_INTERRUPTS] = "interrupts at",
	[CLUSTER_STOPPED_WORK] = "no more work in",
	[CLUSTER_NEW_PATH] = "new code path",
	[CLUSTER_SLOW_DOWN] = "slow-down in",
	[CLUSTER_WAITING] = "waiting in",
	[CLUSTER_MEMORY_LEAK] = "memory leak in",
};

void class_settle_kind(struct class_state *class)
{
	unsigned most = 0;

	for (unsigned k = 1; k < CLUSTER_KIND_N; k++)
		if (class->votes[k] > class->votes[most])
			most = k;
	if (class->kind_given)
		most = class->kind_given - 1U;
	class->c.kind = (enum cluster_kind)most;
	snprintf(class->c.name, sizeof(class->c.name), "%s %.*s", kind_texts[most], CLUSTER_FRAME_NAME_MAX - 16,
	         class->c.n_common > 0 ? class->c.common[0] : "an unknown function");
}

static void sort_names(struct class_state *class)
{
	for (size_t i = 1; i < class->c.n_common; i++)
		for (size_t k = i; k > 0 && class->name_weights[k] > class->name_weights[k - 1]; k--) {
			char name[CLUSTER_FRAME_NAME_MAX];
			float weight = class->name_weights[k];
			uint32_t feature = class->name_features[k];

			memcpy(name, class->c.common[k], sizeof(name));
			memcpy(class->c.common[k], class->c.common[k - 1], sizeof(name));
			memcpy(class->c.common[k - 1], name, sizeof(name));
			class->name_weights[k] = class->name_weights[k - 1];
			class->name_weights[k - 1] = weight;
			class->name_features[k] = class->name_features[k - 1];
			class->name_features[k - 1] = feature;
		}
}

/* Weights within an incident add up to 1, whatever moved how much. */
static void add_names(struct class_state *class, const struct incident_state *s)
{
	float sum = 0;

	for (uint32_t k = 0; k < s->n_names; k++)
		sum += s->name_weights[k];
	for (size_t k = 0; k < class->c.n_common; k++)
		class->name_weights[k] *= VOTE_FADE;
	for (uint32_t k = 0; k < s->n_names && sum > 0; k++) {
		float weight = s->name_weights[k] / sum;
		size_t at = 0;

		while (at < class->c.n_common && class->name_features[at] != s->name_features[k])
			at++;
		if (at == class->c.n_common) {
			if (at == CLUSTER_COMMON_MAX)
				at--;
			else
				class->c.n_common++;
			if (at < class->c.n_common - 1 || class->name_weights[at] > 0) {
				if (class->name_weights[at] >= weight)
					continue;
			}
			memcpy(class->c.common[at], s->names[k], sizeof(class->c.common[at]));
			class->name_features[at] = s->name_features[k];
			class->name_weights[at] = 0;
		}
		class->name_weights[at] += weight;
		sort_names(class);
	}
}

/* From the kind and the most telling function and its object: the same trouble gets the same id wherever it is first seen. */
static uint64_t name_id(const struct class_state *class)
{
	uint64_t id = hash64_string(cluster_kind_to_string(class->c.kind), 0);

	if (class->c.n_common > 0)
		id = hash64(&class->name_features[0], sizeof(class->name_features[0]), id);
	return id ? id : 1;
}

/* ---- joining ---- */

/* The last one moves into the gap. What led to either leads astray now, which costs a look. */
static void remove_class(struct clusters *c, struct class_state *class)
{
	struct class_state *last = &c->classes[--c->state->n_classes];

	map64_remove(c->by_id, class->c.id);
	if (class != last) {
		*class = *last;
		index_again(c, class);
	}
	*last = (struct class_state){};
	class_weigh(c, last);
}

static struct class_state *make_room(struct clusters *c)
{
	if (c->state->n_classes == c->state->max_classes) {
		struct class_state *least = &c->classes[c->least[1]];

		c->state->forgotten++;
		class_part(c, least);
		remove_class(c, least);
	}
	c->classes[c->state->n_classes] = (struct class_state){};
	return &c->classes[c->state->n_classes++];
}

static void add_member(struct class_state *class, uint64_t incident)
{
	memmove(class->c.members + 1, class->c.members, sizeof(class->c.members[0]) * (CLUSTER_MEMBERS_MAX - 1));
	class->c.members[0] = incident;
	class->c.n_members = MIN(class->c.n_members + 1, (size_t)CLUSTER_MEMBERS_MAX);
}

static void learn(struct class_state *class, const struct incident_state *s, const struct signature *signature)
{
	float part = 1 / (class->mass + 1);

	vector_mix(&class->centre, &class->centre, 1 - part, &s->stacks, part);
	signature_mix(&class->signature, 1 - part, signature, part);
	class->mass = MIN(class->mass + 1, MASS_MAX);
	for (unsigned k = 0; k < CLUSTER_KIND_N; k++)
		class->votes[k] *= VOTE_FADE;
	class->votes[s->i.kind]++;
	add_names(class, s);
	class->recent[class->next_recent] = s->stacks;
	class->recent_ids[class->next_recent] = s->i.id;
	class->next_recent = (class->next_recent + 1) % RECENT_MAX;
	class->n_recent = MIN(class->n_recent + 1, (uint32_t)RECENT_MAX);
	class->c.n_incidents++;
	class->c.first_us = class->c.first_us ? MIN(class->c.first_us, s->i.opened_us) : s->i.opened_us;
	class->c.last_us = MAX(class->c.last_us, s->i.last_us);
	add_member(class, s->i.id);
	class_settle_kind(class);
}

static void add_alias(struct clusters *c, uint64_t from, uint64_t to)
{
	struct state *st = c->state;

	for (uint32_t k = 0; k < st->n_aliases; k++)
		if (st->aliases[k].to == from)
			st->aliases[k].to = to;
	if (st->n_aliases == ALIASES_MAX)
		memmove(st->aliases, st->aliases + 1, sizeof(st->aliases[0]) * --st->n_aliases);
	st->aliases[st->n_aliases++] = (struct alias){ from, to };
}

static void rename_members(struct clusters *c, uint64_t from, uint64_t to)
{
	for (uint32_t k = 0; k < c->state->max_incidents; k++)
		if (c->incidents[k].i.cluster == from)
			c->incidents[k].i.cluster = to;
}

/* Into the older one, whose id people may have written down. */
static void merge(struct clusters *c, struct class_state *a, struct class_state *b)
{
	struct class_state *into = a->c.first_us <= b->c.first_us ? a : b, *from = into == a ? b : a;
	float part = from->mass / (into->mass + from->mass);
	uint64_t now_us = MAX(into->c.evidence_us, from->c.evidence_us);

	vector_mix(&into->centre, &into->centre, 1 - part, &from->centre, part);
	signature_mix(&into->signature, 1 - part, &from->signature, part);
	into->mass = MIN(into->mass + from->mass, MASS_MAX);
	for (unsigned k = 0; k < CLUSTER_KIND_N; k++)
		into->votes[k] += from->votes[k];
	into->kind_given = into->kind_given ?: from->kind_given;
	class_fade_evidence(into, now_us);
	class_fade_evidence(from, now_us);
	for (unsigned m = 0; m < CLUSTER_METRICS; m++)
		into->c.evidence[m] = (1 - (double)part) * into->c.evidence[m] + (double)part * from->c.evidence[m];
	into->c.n_incidents += from->c.n_incidents;
	into->c.n_real += from->c.n_real;
	into->c.n_false += from->c.n_false;
	into->c.last_us = MAX(into->c.last_us, from->c.last_us);
	into->c.severity = MAX(into->c.severity, from->c.severity);
	into->c.muted_until_us = MAX(into->c.muted_until_us, from->c.muted_until_us);
	for (size_t k = from->c.n_members; k-- > 0;)
		add_member(into, from->c.members[k]);
	class_settle_kind(into);
	rename_members(c, from->c.id, into->c.id);
	add_alias(c, from->c.id, into->c.id);
	c->state->merged++;
	index_again(c, into);
	remove_class(c, from);
}

/* Gives the number of the recent one that goes with 0, when the four fall into two pairs; 0 when they don't. */
static unsigned falls_apart(const struct class_state *class)
{
	static const unsigned others[RECENT_MAX][2] = { { 0, 0 }, { 2, 3 }, { 1, 3 }, { 1, 2 } };

	if (class->n_recent < RECENT_MAX)
		return 0;
	for (unsigned with = 1; with < RECENT_MAX; with++) {
		const struct vector *r = class->recent;
		unsigned x = others[with][0], y = others[with][1];
		float cross = MAX(MAX(vector_cosine(&r[0], &r[x]), vector_cosine(&r[0], &r[y])),
		                  MAX(vector_cosine(&r[with], &r[x]), vector_cosine(&r[with], &r[y])));

		if (cross <= SPLIT_CROSS && vector_cosine(&r[0], &r[with]) >= SPLIT_INNER && vector_cosine(&r[x], &r[y]) >= SPLIT_INNER)
			return with;
	}
	return 0;
}

/* The pair that is less like the centre becomes a class of its own. */
static void split(struct clusters *c, struct class_state *class, unsigned with)
{
	unsigned x = 1, y, leaves[2];
	uint64_t id = class->c.id;
	struct class_state *new;
	struct vector pair, stays;

	while (x == with)
		x++;
	y = 6 - with - x;
	vector_mix(&pair, &class->recent[0], 0.5f, &class->recent[with], 0.5f);
	vector_mix(&stays, &class->recent[x], 0.5f, &class->recent[y], 0.5f);
	leaves[0] = 0;
	leaves[1] = with;
	if (vector_cosine(&pair, &class->centre) > vector_cosine(&stays, &class->centre)) {
		struct vector swap = pair;

		pair = stays;
		stays = swap;
		leaves[0] = x;
		leaves[1] = y;
	}
	if (c->state->n_classes == c->state->max_classes)
		return;
	new = make_room(c);
	for (unsigned k = 0; k < 2; k++) {
		struct incident_state *s = incident_get(c, class->recent_ids[leaves[k]]);
		struct signature signature;

		if (!s)
			continue;
		signature = signature_of(&s->evidence);
		learn(new, s, &signature);
		new->c.severity = MAX(new->c.severity, s->i.severity);
	}
	if (new->c.n_incidents == 0) {
		c->state->n_classes--;
		return;
	}
	memcpy(new->c.evidence, class->c.evidence, sizeof(new->c.evidence));
	new->c.evidence_us = class->c.evidence_us;
	new->c.muted_until_us = class->c.muted_until_us;
	new->c.id = name_id(new);
	if (new->c.id == id || class_get(c, new->c.id))
		new->c.id = hash64(&new->c.id, sizeof(new->c.id), new->c.first_us);
	for (size_t k = 0; k < new->c.n_members; k++)
		incident_get(c, new->c.members[k])->i.cluster = new->c.id;
	class->c.n_incidents -= MIN(class->c.n_incidents, new->c.n_incidents);
	class->centre = stays;
	class->n_recent = class->next_recent = 0;
	c->state->split++;
	index_again(c, new);
	index_again(c, class);
}

struct class_state *class_of_stack(struct clusters *c, const struct vector *stack, const struct kind_evidence *moved)
{
	struct signature signature = signature_of(moved);
	float is;
	struct class_state *class = nearest(c, &(struct incident_view){ stack, &signature }, NULL, &is);

	return is >= JOIN_MIN ? class : NULL;
}

/* As if it had not been put in; but what the centre has moved stays. */
static void leave(struct clusters *c, struct class_state *class, const struct incident_state *s)
{
	size_t n = 0;

	for (size_t k = 0; k < class->c.n_members; k++)
		if (class->c.members[k] != s->i.id)
			class->c.members[n++] = class->c.members[k];
	class->c.n_members = n;
	class->n_recent = class->next_recent = 0;
	class->votes[s->i.kind] = MAX(class->votes[s->i.kind] - 1, 0.0f);
	if (--class->c.n_incidents == 0) {
		remove_class(c, class);
		return;
	}
	class_settle_kind(class);
	class_weigh(c, class);
}

void class_join_again(struct clusters *c, struct incident_state *s)
{
	struct class_state *class = class_get(c, s->i.cluster);
	struct signature signature = signature_of(&s->evidence);
	float is;

	if (!class || class->c.n_incidents == 0 || s->i.label != CLUSTER_UNLABELLED)
		return;
	if (nearest(c, &(struct incident_view){ &s->stacks, &signature }, NULL, &is) == class && is >= JOIN_MIN)
		return;
	leave(c, class, s);
	s->i.kind = kind_of(&s->evidence);
	class_join(c, s);
}

void class_join(struct clusters *c, struct incident_state *s)
{
	struct signature signature = signature_of(&s->evidence);
	struct incident_view view = { &s->stacks, &signature };
	float is;
	struct class_state *class = nearest(c, &view, NULL, &is), *other;
	unsigned with;

	if (!class || is < JOIN_MIN) {
		struct class_state new = {};

		learn(&new, s, &signature);
		new.c.id = name_id(&new);
		class = class_get(c, new.c.id);
		if (!class) {
			class = make_room(c);
			*class = new;
			class_recall(c, class);
		} else
			/* Known by the same name: the stacks around it have changed. */
			learn(class, s, &signature);
	} else
		learn(class, s, &signature);
	class->c.severity = MAX(class->c.severity, s->i.severity);
	s->i.cluster = class->c.id;
	if (class->kind_given)
		s->i.kind = class->c.kind;
	index_again(c, class);

	view = (struct incident_view){ &class->centre, &class->signature };
	other = nearest(c, &view, class, &is);
	with = falls_apart(class);
	if (other && is >= MERGE_MIN)
		merge(c, class, other);
	else if (with)
		split(c, class, with);
}
