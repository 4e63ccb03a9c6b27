/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Series (workload, stack), their slices by process, and what is added to them in the open tick. */
#include "internal.h"

/* A slice that has been silent this long gives its place to a new process of the same series. */
#define SLICE_LIVE_TICKS 60

struct series_key {
	uint32_t workload, stack;
};

static bool series_equal(const struct store *s, uint32_t i, const void *key)
{
	const struct series_record *r = store_series_at(s, i);
	const struct series_key *k = key;

	return r->workload == k->workload && r->stack == k->stack;
}

static void *series_state(const struct store *s, uint32_t i)
{
	uint64_t size = (s->layout.config.series_state_size + 7) & ~7ULL;

	return store_at(s, s->layout.series_state.offset + (uint64_t)(i - 1) * size);
}

void store_live_add(struct store *s, uint32_t series)
{
	if (s->series_live[series])
		return;
	s->series_live[series] = 1;
	s->live_position[series] = s->n_live;
	s->live[s->n_live++] = series;
}

void store_live_remove(struct store *s, uint32_t series)
{
	uint32_t last;

	if (!s->series_live[series])
		return;
	last = s->live[--s->n_live];
	s->live[s->live_position[series]] = last;
	s->live_position[last] = s->live_position[series];
	s->series_live[series] = 0;
}

/* The series' id: the same across restarts. */
uint64_t store_series_hash(const struct store *s, uint32_t workload, uint32_t stack)
{
	uint64_t id[2] = { store_workload_at(s, workload)->entry.hash, store_stack_at(s, stack)->entry.hash };

	return hash64(id, sizeof(id), SEED_SERIES);
}

static uint32_t series_find(const struct store *s, uint32_t workload, uint32_t stack)
{
	struct series_key key = { workload, stack };

	return store_dict_find(s, DICT_SERIES, store_series_hash(s, workload, stack), series_equal, &key);
}

static uint32_t series_get(struct store *s, uint32_t workload, uint32_t stack)
{
	uint32_t i = series_find(s, workload, stack);
	struct series_record *r;

	if (i)
		return i;
	while (!(i = store_dict_take(s, DICT_SERIES, store_series_hash(s, workload, stack))))
		if (!store_make_room(s, DICT_SERIES))
			return 0;
	r = store_series_at(s, i);
	r->workload = workload;
	r->stack = stack;
	r->first_seen_us = s->tick_time_us;
	r->visited = 0;
	memset(series_state(s, i), 0, s->layout.config.series_state_size);
	s->series_first[i] = s->series_other[i] = 0;
	s->series_wait[i] = 0;
	s->series_tick[i] = 0;
	s->series_wait_changed[i] = 0;
	s->dicts[DICT_WORKLOADS].refs[workload]++;
	s->dicts[DICT_STACKS].refs[stack]++;
	store_dict_publish(s, DICT_SERIES, i);
	return i;
}

void store_series_drop(struct store *s, uint32_t i)
{
	struct series_record *r = store_series_at(s, i);

	store_live_remove(s, i);
	store_dict_remove(s, DICT_SERIES, i);
	s->dicts[DICT_STACKS].refs[r->stack]--;
	store_workload_unref(s, r->workload);
}

/* ---- slices ---- */

/* An odd factor loses nothing: equal hashes mean equal keys. */
uint64_t store_slice_hash(uint32_t process, uint32_t stack)
{
	return ((uint64_t)process << 32 | stack) * 0xd6e8feb86659fd93ULL;
}

static bool is_other(const struct store *s, uint32_t process)
{
	return store_process_at(s, process)->pid == 0;
}

/* Enters a slice into the lists that are derived. */
void store_slice_link(struct store *s, uint32_t i)
{
	struct slice_record *r = store_slice_at(s, i);

	s->slice_next[i] = s->series_first[r->series];
	s->series_first[r->series] = i;
	if (is_other(s, r->process))
		s->series_other[r->series] = i;
	s->dicts[DICT_SERIES].refs[r->series]++;
	s->dicts[DICT_PROCESSES].refs[r->process]++;
}

static uint32_t slice_make(struct store *s, uint32_t process, uint32_t series)
{
	uint32_t stack = store_series_at(s, series)->stack, i;

	/* The series has no slice yet perhaps: it must not go while room is made. */
	dict_entry(&s->dicts[DICT_SERIES], series)->used = s->c.tick + 1;
	while (!(i = store_dict_take(s, DICT_SLICES, store_slice_hash(process, stack))))
		if (!store_make_room(s, DICT_SLICES))
			return 0;
	*store_slice_at(s, i) = (struct slice_record) {
		.entry = store_slice_at(s, i)->entry,
		.process = process,
		.series = series,
		.born = s->c.tick + 1,
		.series_born = s->c.tick + 1,
	};
	store_dict_publish(s, DICT_SLICES, i);
	store_slice_link(s, i);
	return i;
}

static void move_gathered(struct store *s, uint32_t from, uint32_t to)
{
	for (int t = 0; t < STORE_TIERS; t++) {
		store_accumulator_move(&s->steps[t].sections[SECTION_SLICES], from, to);
		store_accumulator_move(&s->steps[t].sections[SECTION_VARIANCES], from, to);
	}
}

void store_slice_drop(struct store *s, uint32_t i)
{
	struct slice_record *r = store_slice_at(s, i);
	uint32_t *link = &s->series_first[r->series], other = s->series_other[r->series];

	move_gathered(s, i, other == i ? 0 : other);
	while (*link != i)
		link = &s->slice_next[*link];
	*link = s->slice_next[i];
	if (other == i)
		s->series_other[r->series] = 0;
	store_dict_remove(s, DICT_SLICES, i);
	s->dicts[DICT_SERIES].refs[r->series]--;
	s->dicts[DICT_PROCESSES].refs[r->process]--;
}

static uint32_t other_slice(struct store *s, uint32_t series)
{
	uint32_t workload = store_series_at(s, series)->workload;

	if (s->series_other[series])
		return s->series_other[series];
	return slice_make(s, store_workload_at(s, workload)->other, series);
}

/* Gives the place of a process that has been silent to another. What blocks say of the former one counts for
 * "other". */
static void rebind(struct store *s, uint32_t i, uint32_t process)
{
	struct slice_record *r = store_slice_at(s, i);
	uint32_t other = s->series_other[r->series];

	move_gathered(s, i, other);
	store_dict_hide(s, DICT_SLICES, i);
	__atomic_store_n(&r->entry.live, 0, __ATOMIC_RELEASE);
	s->dicts[DICT_SLICES].live--;
	s->dicts[DICT_PROCESSES].refs[r->process]--;
	s->dicts[DICT_PROCESSES].refs[process]++;
	r->process = process;
	r->born = s->c.tick + 1;
	r->entry.hash = store_slice_hash(process, store_series_at(s, r->series)->stack);
	r->entry.used = s->c.tick + 1;
	r->entry.generation++;
	store_dict_publish(s, DICT_SLICES, i);
}

/* A series has its share of slices: a silent one is taken over, or the process is not told apart. */
static uint32_t slice_of_full_series(struct store *s, uint32_t process, uint32_t series)
{
	uint32_t other = other_slice(s, series), oldest = 0;

	if (!other)
		return 0;
	for (uint32_t i = s->series_first[series]; i; i = s->slice_next[i]) {
		uint32_t used = store_slice_at(s, i)->entry.used;

		if (i == other || s->slice_wait[i] || s->slice_pins[i] || used + SLICE_LIVE_TICKS > s->c.tick)
			continue;
		if (!oldest || used < store_slice_at(s, oldest)->entry.used)
			oldest = i;
	}
	if (!oldest)
		return other;
	rebind(s, oldest, process);
	return oldest;
}

static uint32_t slice_find(const struct store *s, uint32_t process, uint32_t stack)
{
	return store_dict_find(s, DICT_SLICES, store_slice_hash(process, stack), NULL, NULL);
}

static void touch(struct store *s, uint32_t slice)
{
	uint32_t now = s->c.tick + 1;
	struct slice_record *r = store_slice_at(s, slice);
	struct series_record *series = store_series_at(s, r->series);

	if (r->entry.used == now)
		return;
	r->entry.used = now;
	series->entry.used = now;
	dict_entry(&s->dicts[DICT_STACKS], series->stack)->used = now;
	dict_entry(&s->dicts[DICT_PROCESSES], r->process)->used = now;
}

static uint32_t slice_new(struct store *s, uint32_t process, uint32_t stack)
{
	uint32_t series = series_get(s, store_process_at(s, process)->workload, stack), n = 0;

	if (!series)
		return 0;
	for (uint32_t k = s->series_first[series]; k; k = s->slice_next[k])
		n += k != s->series_other[series];
	return n < s->layout.config.slices_per_series ? slice_make(s, process, series) :
	                                                slice_of_full_series(s, process, series);
}

/* The slice to add to; 0 when there is no room. */
uint32_t store_slice_get(struct store *s, uint32_t process, uint32_t stack)
{
	uint32_t i = slice_find(s, process, stack);

	if (!i)
		i = slice_new(s, process, stack);
	if (i)
		touch(s, i);
	return i;
}

/* ---- the open tick ---- */

int store_tick_begin(struct store *s, uint64_t time_us, uint64_t duration_ns)
{
	if (s->in_tick)
		return -EALREADY;
	if (s->c.tick >= UINT32_MAX - 1)
		return -EOVERFLOW;
	s->in_tick = true;
	s->tick_time_us = time_us;
	s->tick_duration_ns = MIN(duration_ns, time_us * NSEC_PER_USEC);
	s->tick_full = 0;
	memset(s->flushed_early, 0, sizeof(s->flushed_early));
	return 0;
}

static bool all_zero(const uint64_t values[static METRIC_N])
{
	uint64_t any = 0;

	for (int m = 0; m < METRIC_N; m++)
		any |= values[m];
	return any == 0;
}

/* Both refs are touched before room is made for anything, so that neither goes meanwhile. */
static int resolve(struct store *s, store_ref process, store_ref stack, uint32_t *ret_process,
                   uint32_t *ret_stack)
{
	*ret_process = dict_resolve(&s->dicts[DICT_PROCESSES], process);
	*ret_stack = dict_resolve(&s->dicts[DICT_STACKS], stack);
	if (!*ret_process || !*ret_stack)
		return -ENOENT;
	dict_entry(&s->dicts[DICT_PROCESSES], *ret_process)->used = s->c.tick + 1;
	dict_entry(&s->dicts[DICT_STACKS], *ret_stack)->used = s->c.tick + 1;
	return 0;
}

static int count_full(struct store *s)
{
	s->tick_full++;
	s->c.full++;
	return -ENOSPC;
}

int store_add(struct store *s, store_ref process, store_ref stack, const uint64_t values[static METRIC_N])
{
	uint32_t p, st, i, series;
	int k;

	if (!s->in_tick)
		return -EPERM;
	k = resolve(s, process, stack, &p, &st);
	if (k < 0)
		return k;
	if (all_zero(values))
		return 0;
	i = store_slice_get(s, p, st);
	if (!i)
		return count_full(s);
	s->added = i;
	store_accumulate(&s->steps[0].sections[SECTION_SLICES], i, values);
	series = store_slice_at(s, i)->series;
	if (s->series_tick[series] != s->c.tick + 1) {
		s->series_tick[series] = s->c.tick + 1;
		memset(s->series_values[series], 0, sizeof(s->series_values[series]));
		store_live_add(s, series);
	}
	for (int m = 0; m < METRIC_N; m++)
		s->series_values[series][m] += values[m];
	return 0;
}

/* Most often they come right behind what they are of. */
static bool was_added(const struct store *s, uint32_t process, uint32_t stack)
{
	const struct slice_record *r = store_slice_at(s, s->added);

	return dict_has(&s->dicts[DICT_SLICES], s->added) && r->process == process && store_series_at(s, r->series)->stack == stack;
}

int store_add_variances(struct store *s, store_ref process, store_ref stack, const uint64_t variances[static METRIC_N])
{
	uint32_t p, st, i;
	int k;

	if (!s->in_tick)
		return -EPERM;
	k = resolve(s, process, stack, &p, &st);
	if (k < 0)
		return k;
	if (all_zero(variances))
		return 0;
	i = was_added(s, p, st) ? s->added : store_slice_get(s, p, st);
	if (i)
		store_accumulate(&s->steps[0].sections[SECTION_VARIANCES], i, variances);
	return 0;
}

/* A wait that ends does so where it was counted: with the process, or with those not told apart. */
static uint32_t slice_in_wait(struct store *s, uint32_t process, uint32_t stack)
{
	uint32_t i = slice_find(s, process, stack), series;

	if (i && store_wait_threads(s, i) > 0)
		return i;
	series = series_find(s, store_process_at(s, process)->workload, stack);
	i = series ? s->series_other[series] : 0;
	return i && store_wait_threads(s, i) > 0 ? i : 0;
}

int store_wait(struct store *s, store_ref process, store_ref stack, int threads)
{
	uint32_t p, st, i;
	int k;

	if (!s->in_tick)
		return -EPERM;
	k = resolve(s, process, stack, &p, &st);
	if (k < 0)
		return k;
	if (threads == 0)
		return 0;
	if (threads < 0) {
		i = slice_in_wait(s, p, st);
		if (!i)
			return 0; /* entered before the store knew */
		touch(s, i);
	} else {
		i = store_slice_get(s, p, st);
		if (!i)
			return count_full(s);
	}
	return store_wait_change(s, i, threads) < 0 ? count_full(s) : 0;
}

int store_add_total(struct store *s, store_ref process, const uint64_t values[static METRIC_N])
{
	uint32_t i = dict_resolve(&s->dicts[DICT_PROCESSES], process);

	if (!s->in_tick)
		return -EPERM;
	if (!i)
		return -ENOENT;
	dict_entry(&s->dicts[DICT_PROCESSES], i)->used = s->c.tick + 1;
	if (!all_zero(values))
		store_accumulate(&s->steps[0].sections[SECTION_PROCESSES], i, values);
	return 0;
}

/* ---- the detector's view ---- */

/* How much of a series' tick one slice has: the largest share of any metric. Of a signed one, what processes did may cancel out:
 * then the share is a whole. */
static double share(const struct store *s, uint32_t slice, const uint64_t sums[static METRIC_N])
{
	uint64_t values[METRIC_N] = {};
	double most = 0;

	store_gathered(&s->steps[0].sections[SECTION_SLICES], slice, values, NULL);
	for (int m = 0; m < METRIC_N; m++) {
		uint64_t v = metric_magnitude(m, values[m]), sum = metric_magnitude(m, sums[m]);

		if (m == METRIC_BLOCKED)
			v += (uint64_t)store_wait_threads(s, slice) * s->tick_duration_ns;
		if (v > 0)
			most = MAX(most, v < sum ? (double)v / (double)sum : 1.0);
	}
	return most;
}

/* The process with the most in this tick; in a silent one, that which was last seen; else that which stands
 * for others. */
static store_ref top_process(const struct store *s, uint32_t series, const uint64_t sums[static METRIC_N])
{
	uint32_t top = store_workload_at(s, store_series_at(s, series)->workload)->other, used = 0;
	bool silent = s->series_tick[series] != s->c.tick + 1 && s->series_wait[series] == 0;
	double most = 0;

	for (uint32_t i = s->series_first[series]; i; i = s->slice_next[i]) {
		const struct slice_record *r = store_slice_at(s, i);
		bool alone = i == s->series_first[series] && !s->slice_next[i];
		double part = alone || silent ? 1 : share(s, i, sums);

		if (is_other(s, r->process) || part == 0 || part < most ||
		    (part == most && r->entry.used <= used))
			continue;
		most = part;
		used = r->entry.used;
		top = r->process;
	}
	return dict_ref(&s->dicts[DICT_PROCESSES], top);
}

static void series_values(const struct store *s, uint32_t i, uint64_t ret[static METRIC_N])
{
	if (s->series_tick[i] == s->c.tick + 1)
		memcpy(ret, s->series_values[i], sizeof(s->series_values[i]));
	else
		memset(ret, 0, sizeof(s->series_values[i]));
	ret[METRIC_BLOCKED] += (uint64_t)s->series_wait[i] * s->tick_duration_ns;
}

int store_series_now(const struct store *s, uint64_t series_id, uint64_t ret[static METRIC_N])
{
	uint32_t i = store_dict_find(s, DICT_SERIES, series_id, NULL, NULL);

	if (!s->in_tick)
		return -EPERM;
	if (!i)
		return -ENOENT;
	series_values(s, i, ret);
	return 0;
}

const void *store_series_state(const struct store *s, uint64_t series_id)
{
	uint32_t i = store_dict_find(s, DICT_SERIES, series_id, NULL, NULL);

	return i ? series_state(s, i) : NULL;
}

static void visit(struct store *s, uint32_t i, uint32_t now, store_series_fn fn, void *userdata)
{
	struct series_record *r = store_series_at(s, i);
	struct store_series view = {
		.ref = dict_ref(&s->dicts[DICT_SERIES], i),
		.id = r->entry.hash,
		.stack = dict_ref(&s->dicts[DICT_STACKS], r->stack),
		.first_seen_us = r->first_seen_us,
		.silent_ticks = r->visited && r->visited < now ? now - r->visited - 1 : 0,
		.state = series_state(s, i),
	};

	series_values(s, i, view.values);
	view.top_process = top_process(s, i, view.values);
	r->visited = now;
	fn(userdata, &view);
}

void store_tick_visit(struct store *s, uint32_t live_ticks, store_series_fn fn, void *userdata)
{
	uint32_t now = s->c.tick + 1;

	if (!s->in_tick)
		return;
	for (uint32_t k = 0; k < s->n_live;) {
		uint32_t i = s->live[k];
		uint32_t active = MAX(s->series_tick[i], s->series_wait_changed[i]);

		/* After a restart what is known is when the series was used. */
		if (active == 0)
			active = store_series_at(s, i)->entry.used;
		if (active < now && now - active > live_ticks) {
			store_live_remove(s, i);
			continue;
		}
		visit(s, i, now, fn, userdata);
		k++;
	}
}

void *store_global_state(struct store *s)
{
	return store_at(s, s->layout.global_state.offset);
}
