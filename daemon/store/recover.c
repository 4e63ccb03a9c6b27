/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Continuing an arena: nothing in it is believed. What points out of bounds or to something that is not there
 * is dropped, from the bottom up; then the indexes and the steps that were being gathered are made anew. */
#include "internal.h"

static const char magic[8] = "stackd\r\n";

bool store_header_fits(const struct header *h, const struct layout *l)
{
	return memcmp(h->magic, magic, sizeof(magic)) == 0 && memcmp(&h->layout, l, sizeof(*l)) == 0;
}

void store_format(struct store *s)
{
	const struct layout *l = &s->layout;

	/* Only what is looked at before it is written: the rest of a fresh arena need not become resident. */
	memset(s->header, 0, sizeof(*s->header));
	memset(store_at(s, l->dicts[0].offset), 0, l->series_state.offset - l->dicts[0].offset);
	memset(store_at(s, l->global_state.offset), 0, l->config.global_state_size);
	memset(store_at(s, l->open_waits.offset), 0, l->open_waits.n * sizeof(struct open_wait));
	memcpy(s->header->magic, magic, sizeof(magic));
	s->header->layout = *l;
	memset(&s->c, 0, sizeof(s->c));
	store_commit_publish(s);
}

/* The copy that the sequence names, or the other one when it is damaged. */
static bool read_commit(struct store *s)
{
	for (uint64_t k = 0; k < 2; k++) {
		s->c = s->header->commits[(s->header->sequence + k) & 1];
		if (s->c.checksum == store_commit_checksum(&s->c)) {
			s->header->sequence = s->c.sequence;
			return true;
		}
	}
	return false;
}

static bool log_plausible(const struct log_state *l, uint64_t size)
{
	return l->first < size && l->n < size;
}

static bool commit_plausible(const struct store *s)
{
	const struct layout *l = &s->layout;

	for (int r = 0; r < RINGS; r++)
		if (s->c.rings[r].first >= l->ring_index[r].n || s->c.rings[r].n > l->ring_index[r].n ||
		    s->c.rings[r].head > l->ring_bytes[r].n || s->c.rings[r].head % 8 != 0)
			return false;
	return log_plausible(&s->c.runs, l->runs.n) && log_plausible(&s->c.anomalies, l->anomalies.n) &&
	       log_plausible(&s->c.gates, l->gates.n) && s->c.n_losses <= STORE_LOSS_CAUSES_MAX &&
	       s->c.tick < UINT32_MAX - 1;
}

/* ---- dictionaries ---- */

/* Whether the record may stay; takes what it refers to. */
typedef bool (*keep_fn)(struct store *s, uint32_t i);

static bool keep_string(struct store *s, uint32_t i)
{
	const struct string_record *r = store_string(s, i);

	if (r->size < 2 || r->size > r->cell || !store_pool_claim(&s->pool, r->offset, r->cell))
		return false;
	if (s->pool.base[r->offset + r->size - 1] == 0 && !memchr(s->pool.base + r->offset, 0, r->size - 1) &&
	    r->entry.hash == hash64(s->pool.base + r->offset, r->size - 1, SEED_STRING))
		return true;
	store_pool_free(&s->pool, r->offset);
	return false;
}

static bool has_string(const struct store *s, uint32_t i)
{
	return i == 0 || dict_has(&s->dicts[DICT_STRINGS], i);
}

static void take_string(struct store *s, uint32_t i)
{
	if (i)
		s->dicts[DICT_STRINGS].refs[i]++;
}

static bool keep_frame(struct store *s, uint32_t i)
{
	const struct frame_record *r = store_frame_at(s, i);

	if (!has_string(s, r->display) || !has_string(s, r->object) || !has_string(s, r->build_id) || r->check != store_frame_check(s, r))
		return false;
	take_string(s, r->display);
	take_string(s, r->object);
	take_string(s, r->build_id);
	return true;
}

static bool has_frames(const struct store *s, const struct stack_record *r)
{
	const uint32_t *list = (const uint32_t *)(s->pool.base + r->offset);

	for (uint32_t k = 0; k < r->n; k++)
		if (!dict_has(&s->dicts[DICT_FRAMES], list[k]))
			return false;
	return r->check == store_stack_check(s, r);
}

static bool keep_stack(struct store *s, uint32_t i)
{
	const struct stack_record *r = store_stack_at(s, i);

	if (r->n == 0)
		return true;
	if (r->cell > POOL_PAGE || r->n > r->cell / sizeof(uint32_t) ||
	    !store_pool_claim(&s->pool, r->offset, r->cell))
		return false;
	if (!has_frames(s, r)) {
		store_pool_free(&s->pool, r->offset);
		return false;
	}
	for (uint32_t k = 0; k < r->n; k++)
		s->dicts[DICT_FRAMES].refs[((const uint32_t *)(s->pool.base + r->offset))[k]]++;
	return true;
}

static bool keep_workload(struct store *s, uint32_t i)
{
	const struct workload_record *r = store_workload_at(s, i);
	const struct process_record *other;

	if (!has_string(s, r->unit) || !has_string(s, r->cgroup) || !has_string(s, r->exe) ||
	    r->other == 0 || r->other > s->dicts[DICT_PROCESSES].max || r->born > s->c.tick + 1)
		return false;
	if (r->entry.hash != store_workload_hash(s, r->unit, r->cgroup, r->exe, r->uid))
		return false;
	other = store_process_at(s, r->other);
	if (other->entry.live != 1 || other->pid != 0 || other->workload != i ||
	    !has_string(s, other->comm) ||
	    other->entry.hash != store_process_hash(0, other->exec_id, other->start_ns, i) ||
	    other->born > s->c.tick + 1 || other->workload_born > other->born ||
	    other->workload_born < r->born)
		return false;
	take_string(s, r->unit);
	take_string(s, r->cgroup);
	take_string(s, r->exe);
	return true;
}

static bool keep_process(struct store *s, uint32_t i)
{
	const struct process_record *r = store_process_at(s, i);

	if (!has_string(s, r->comm) || !dict_has(&s->dicts[DICT_WORKLOADS], r->workload))
		return false;
	if (r->pid == 0 && store_workload_at(s, r->workload)->other != i)
		return false;
	if (r->born > s->c.tick + 1 || r->workload_born > r->born ||
	    r->workload_born < store_workload_at(s, r->workload)->born)
		return false;
	if (r->entry.hash !=
	    store_process_hash((pid_t)r->pid, r->exec_id, r->start_ns, r->pid ? 0 : r->workload))
		return false;
	take_string(s, r->comm);
	if (r->pid != 0)
		s->dicts[DICT_WORKLOADS].refs[r->workload]++;
	return true;
}

static bool keep_series(struct store *s, uint32_t i)
{
	const struct series_record *r = store_series_at(s, i);

	if (!dict_has(&s->dicts[DICT_WORKLOADS], r->workload) ||
	    !dict_has(&s->dicts[DICT_STACKS], r->stack) ||
	    r->entry.hash != store_series_hash(s, r->workload, r->stack))
		return false;
	s->dicts[DICT_WORKLOADS].refs[r->workload]++;
	s->dicts[DICT_STACKS].refs[r->stack]++;
	return true;
}

static bool keep_slice(struct store *s, uint32_t i)
{
	const struct slice_record *r = store_slice_at(s, i);

	if (!dict_has(&s->dicts[DICT_PROCESSES], r->process) ||
	    !dict_has(&s->dicts[DICT_SERIES], r->series) ||
	    store_process_at(s, r->process)->workload != store_series_at(s, r->series)->workload ||
	    r->born > s->c.tick + 1 || r->series_born > r->born ||
	    r->entry.hash != store_slice_hash(r->process, store_series_at(s, r->series)->stack))
		return false;
	store_slice_link(s, i);
	return true;
}

static bool is_hidden(const struct store *s, int dict, uint32_t i)
{
	return dict == DICT_PROCESSES && store_process_at(s, i)->superseded;
}

static void recover_dict(struct store *s, int dict, keep_fn keep)
{
	struct dict *d = &s->dicts[dict];

	d->n_free = d->live = 0;
	for (uint32_t i = d->max; i > 0; i--) {
		struct entry *e = dict_entry(d, i);

		if (e->live == 1 && keep(s, i)) {
			e->used = MIN(e->used, s->c.tick);
			d->live++;
			if (!is_hidden(s, dict, i))
				store_dict_index(s, dict, i);
			continue;
		}
		if (e->live != 0) {
			e->live = 0;
			e->generation++;
		}
		if (dict == DICT_PROCESSES)
			store_process_at(s, i)->workload_born =
				UINT32_MAX; /* what a free record says is not checked */
		d->free[d->n_free++] = i;
	}
}

/* Records that nothing refers to are normal for stacks, processes and series; frames, strings and workloads
 * would never go. */
static void drop_unused(struct store *s)
{
	for (uint32_t i = 1; i <= s->dicts[DICT_WORKLOADS].max; i++)
		if (dict_has(&s->dicts[DICT_WORKLOADS], i) && s->dicts[DICT_WORKLOADS].refs[i] == 0) {
			s->dicts[DICT_WORKLOADS].refs[i] = 1;
			store_workload_unref(s, i);
		}
	for (uint32_t i = 1; i <= s->dicts[DICT_FRAMES].max; i++)
		if (dict_has(&s->dicts[DICT_FRAMES], i) && s->dicts[DICT_FRAMES].refs[i] == 0) {
			s->dicts[DICT_FRAMES].refs[i] = 1;
			store_frame_unref(s, i);
		}
	for (uint32_t i = 1; i <= s->dicts[DICT_STRINGS].max; i++)
		if (dict_has(&s->dicts[DICT_STRINGS], i) && s->dicts[DICT_STRINGS].refs[i] == 0) {
			s->dicts[DICT_STRINGS].refs[i] = 1;
			store_string_unref(s, i);
		}
}

/* ---- blocks ---- */

/* Keeps the blocks that are whole, in order; moves them together. */
static void recover_ring(struct store *s, int ring)
{
	struct ring_state *r = &s->c.rings[ring];
	uint32_t n = r->n, kept = 0, last = 0;

	r->points = r->bytes = 0;
	for (uint32_t k = 0; k < n; k++) {
		struct block b = *store_block(s, ring, k);

		if (!store_block_plausible(s, ring, &b) || b.first <= last ||
		    b.checksum != store_block_checksum(s, ring, &b))
			continue;
		last = b.last;
		r->points += b.points;
		r->bytes += b.size + sizeof(b);
		if (ring == RING_PINS)
			store_pin_count(s, &b, 1);
		if (kept != k)
			*store_block(s, ring, kept) = b;
		kept++;
	}
	r->evicted += n - kept;
	r->n = kept;
	r->head = kept > 0
	                  ? MIN(store_block_end(store_block(s, ring, kept - 1)), s->layout.ring_bytes[ring].n)
	                  : 0;
}

/* What the coarser tiers had gathered when the store was left is in the finest blocks that they don't hold
 * yet. */
static void recover_steps(struct store *s)
{
	for (int t = 1; t < STORE_TIERS; t++) {
		uint32_t n = s->c.rings[t].n, last = n > 0 ? store_block(s, t, n - 1)->last : 0;

		for (uint32_t k = 0; k < s->c.rings[0].n; k++) {
			const struct block *b = store_block(s, 0, k);

			if (b->first > last)
				store_step_replay(s, t, b);
		}
	}
}

/* ---- waits ---- */

static void recover_wait(struct store *s, struct open_wait *w)
{
	bool committed = w->changed <= s->c.tick;
	int32_t threads = committed ? w->threads : w->prev_threads;

	if (w->epoch != s->c.epoch || threads <= 0 || !dict_has(&s->dicts[DICT_SLICES], w->slice))
		return;
	store_run_append(s, &(struct run){
				    .slice = w->slice,
				    .since = committed ? w->since : w->prev_since,
				    .threads = (uint32_t)threads,
				    .from_ns = committed ? w->from_ns : w->prev_from_ns,
				    .until_ns = s->c.elapsed_ns,
				    .from_us = committed ? w->from_us : w->prev_from_us,
				    .until_us = s->c.time_us,
			    });
}

/* Whoever waited may have left meanwhile: all waits end with the last commit. */
static void recover_waits(struct store *s)
{
	uint32_t n = (uint32_t)s->layout.open_waits.n;

	for (uint32_t i = 0; i < n; i++) {
		recover_wait(s, store_open_wait(s, i));
		s->wait_free[s->n_wait_free++] = n - 1 - i;
	}
	s->c.epoch++;
}

/* False when there is nothing to continue. */
bool store_recover(struct store *s)
{
	static const keep_fn keep[DICTS] = {
		keep_string, keep_frame, keep_stack, keep_workload, keep_process, keep_series, keep_slice,
	};

	if (!store_header_fits(s->header, &s->layout) || !read_commit(s) || !commit_plausible(s))
		return false;
	for (int d = 0; d < DICTS; d++)
		recover_dict(s, d, keep[d]);
	drop_unused(s);
	for (int r = 0; r < RINGS; r++)
		recover_ring(s, r);
	recover_steps(s);
	recover_waits(s);
	for (uint32_t i = 1; i <= s->dicts[DICT_SERIES].max; i++)
		if (dict_has(&s->dicts[DICT_SERIES], i))
			store_live_add(s, i);
	store_commit_publish(s);
	return true;
}
