/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of a tick: its block, the coarser steps it belongs to, and the one store that makes all of it
 * visible. */
#include "internal.h"

/* Leading bits kept of a value, beyond the first: rounding is off by 1 in 512 at most. */
#define MANTISSA_BITS 7
#define VARIANCE_MANTISSA_BITS 2 /* of a standard error that is 1 in 16 */

uint64_t store_commit_checksum(const struct commit *c)
{
	return hash64(&c->sequence, sizeof(*c) - offsetof(struct commit, sequence), SEED_COMMIT);
}

const struct commit *store_published(const struct store *s)
{
	return &s->header->commits[s->header->sequence & 1];
}

void store_commit_publish(struct store *s)
{
	struct commit *to;

	s->c.sequence++;
	s->c.checksum = store_commit_checksum(&s->c);
	to = &s->header->commits[s->c.sequence & 1];
	*to = s->c;
	__atomic_store_n(&s->header->sequence, s->c.sequence, __ATOMIC_RELEASE);
}

static int write_block(struct store *s, int tier, struct block *b)
{
	struct accumulator *sections = s->steps[tier].sections;
	uint32_t uncounted = 0; /* what says how sure a point is, is none */
	size_t size = 0;

	b->points = 0;
	for (int k = 0; k < SECTIONS; k++) {
		bool variances = k == SECTION_VARIANCES;
		size_t n = store_section_encode(&sections[k], variances ? VARIANCE_MANTISSA_BITS : MANTISSA_BITS, s->codes, s->scratch + size,
		                                variances ? &uncounted : &b->points);

		b->sections[k] = (uint32_t)n;
		size += n;
		store_accumulator_clear(&sections[k]);
	}
	b->size = (uint32_t)size;
	return store_ring_append(s, tier, b, s->scratch);
}

/* Writes what a coarser tier has gathered and begins anew. */
int store_step_flush(struct store *s, int tier)
{
	struct step *step = &s->steps[tier];
	struct block b = step->block;

	if (b.last == 0)
		return 0;
	b.load_milli = (uint32_t)(step->load_sum / (b.last - b.first + 1));
	memset(&step->block, 0, sizeof(step->block));
	step->load_sum = 0;
	return write_block(s, tier, &b);
}

/* Enters a tick into the step it belongs to; a step that it does not belong to is finished first. */
static void step_enter(struct store *s, int tier, const struct block *tick)
{
	struct step *step = &s->steps[tier];
	uint64_t number = (tick->end_us - 1) / (s->layout.config.tiers[tier].step_s * USEC_PER_SEC);

	if (step->block.last != 0 && number != step->number)
		store_step_flush(s, tier);
	step->number = number;
	if (step->block.last == 0) {
		step->block = *tick;
	} else {
		step->block.last = tick->last;
		step->block.begin_us = MIN(step->block.begin_us, tick->begin_us);
		step->block.end_us = MAX(step->block.end_us, tick->end_us);
		step->block.duration_ns += tick->duration_ns;
		for (size_t i = 0; i < STORE_LOST_N; i++)
			step->block.lost[i] += tick->lost[i];
		step->block.gate_open |= tick->gate_open;
		step->block.online_cpus = tick->online_cpus;
	}
	step->load_sum += tick->load_milli;
}

static void step_add(struct store *s, int tier, const struct block *tick)
{
	const struct accumulator *from = s->steps[0].sections;
	struct step *step = &s->steps[tier];

	step_enter(s, tier, tick);
	for (int k = 0; k < SECTIONS; k++)
		for (uint32_t w = 0; w < (from[k].max + 64) / 64; w++)
			for (uint64_t bits = from[k].touched[w]; bits; bits &= bits - 1) {
				uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(bits);

				store_accumulator_add(&step->sections[k], i, &from[k], i);
			}
}

/* The same for a tick that was written before. */
void store_step_replay(struct store *s, int tier, const struct block *b)
{
	struct step *step = &s->steps[tier];

	step_enter(s, tier, b);
	for (int k = 0; k < SECTIONS; k++) {
		struct section_reader reader;
		uint32_t i;

		if (store_block_reader(s, 0, b, k, &reader) < 0)
			continue;
		while (store_section_next(&reader, &i)) {
			uint64_t values[METRIC_N] = {};
			uint32_t target = store_entry_target(s, k, i, b->last);

			if (!target)
				continue;
			store_section_add(&reader, values);
			store_accumulate(&step->sections[k], target, values);
		}
	}
}

static void count_loss(struct store *s, const char *cause, uint64_t n)
{
	struct store_loss *l = s->c.losses, *end = l + s->c.n_losses;

	if (n == 0)
		return;
	while (l < end && strncmp(l->cause, cause, sizeof(l->cause) - 1) != 0)
		l++;
	if (l == s->c.losses + STORE_LOSS_CAUSES_MAX) {
		/* More causes than there is room for: the last one stands for the rest. */
		l--;
		copy_string(l->cause, sizeof(l->cause), "other");
	} else if (l == end) {
		*l = (struct store_loss) {};
		copy_string(l->cause, sizeof(l->cause), cause);
		s->c.n_losses++;
	}
	l->n += n;
}

static enum store_lost lost_by(const char *cause)
{
	static const struct {
		const char *cause;
		enum store_lost of;
	} causes[] = {
		{ "wait-walk-limit", STORE_LOST_WAITS },    { "wakeup-unseen", STORE_LOST_WAITS },       { "waits-full", STORE_LOST_WAITS },
		{ "switches-unseen", STORE_LOST_WAITS },    { "waits-undrawn", STORE_LOST_WAITS },       { "waits-forgotten", STORE_LOST_WAITS },
		{ "switch-not-attached", STORE_LOST_WAITS }, { "known-stack-wrong", STORE_LOST_WAITS },  { "faults-unseen", STORE_LOST_MEMORY },
		{ "fault-mapping-busy", STORE_LOST_MEMORY }, { "maps-not-attached", STORE_LOST_MEMORY }, { "rss-not-attached", STORE_LOST_MEMORY },
		{ "units-full", STORE_LOST_NOTHING },       { "incidents-full", STORE_LOST_NOTHING },    { "totals-late", STORE_LOST_NOTHING },
		{ "exits-full", STORE_LOST_NOTHING },       { "mappings-lost", STORE_LOST_NOTHING },     { "moments-full", STORE_LOST_NOTHING },
		{ "thread-waits-full", STORE_LOST_NOTHING },
	};

	for (size_t i = 0; i < ELEMENTS_OF(causes); i++)
		if (streq(cause, causes[i].cause))
			return causes[i].of;
	return strncmp(cause, "heap-", 5) == 0 || strncmp(cause, "kernel-", 7) == 0 ? STORE_LOST_MEMORY : STORE_LOST_SAMPLES;
}

static void count_losses(struct store *s, const struct store_tick *tick, uint64_t sums[static STORE_LOST_N])
{
	sums[STORE_LOST_SAMPLES] += s->tick_full;
	for (size_t i = 0; i < tick->n_losses && i < STORE_LOSS_CAUSES_MAX; i++) {
		enum store_lost of = lost_by(tick->losses[i].cause);

		count_loss(s, tick->losses[i].cause, tick->losses[i].n);
		if (of != STORE_LOST_NOTHING)
			sums[of] += tick->losses[i].n;
	}
	count_loss(s, "store-full", s->tick_full);
}

int store_tick_commit(struct store *s, const struct store_tick *tick)
{
	struct block b;

	if (!s->in_tick)
		return -EPERM;
	b = (struct block) {
		.first = s->c.tick + 1,
		.last = s->c.tick + 1,
		.begin_us = s->tick_time_us - s->tick_duration_ns / NSEC_PER_USEC,
		.end_us = s->tick_time_us,
		.elapsed_ns = s->c.elapsed_ns,
		.duration_ns = s->tick_duration_ns,
		.load_milli = tick->load_milli,
		.online_cpus = (uint16_t)MIN(tick->online_cpus, (uint32_t)UINT16_MAX),
		.gate_open = tick->gate_open,
	};
	count_losses(s, tick, b.lost);
	for (int t = 1; t < STORE_TIERS; t++)
		step_add(s, t, &b);
	write_block(s, 0, &b);
	store_pin_newest(s);
	store_waits_commit(s);
	s->c.tick++;
	s->c.ticks++;
	s->c.time_us = s->tick_time_us;
	s->c.elapsed_ns += s->tick_duration_ns;
	s->in_tick = false;
	store_commit_publish(s);
	return 0;
}
