/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Window queries. The window is first covered by the finest blocks that are left; for sums, runs of fine
 * blocks are then replaced by the coarse block that holds the same ticks, because sums are the same in every
 * tier. */
#include "internal.h"

bool store_unit_matches(const char *pattern, const char *unit)
{
	size_t n;

	if (!pattern)
		return true;
	n = strlen(pattern);
	return strncmp(unit, pattern, n) == 0 && (unit[n] == 0 || streq(unit + n, ".service"));
}

bool store_cgroup_matches(const char *path, const char *cgroup)
{
	size_t n;

	if (!path)
		return true;
	n = strlen(path);
	while (n > 0 && path[n - 1] == '/')
		n--;
	return strncmp(cgroup, path, n) == 0 && (cgroup[n] == 0 || cgroup[n] == '/');
}

/* ---- the window's blocks ---- */

static const struct block *piece_block(const struct store *s, struct piece p)
{
	return store_block(s, (int)p.ring, p.position);
}

static bool in_window(const struct store_filter *f, const struct block *b)
{
	return b->end_us > f->since_us && (!f->until_us || b->begin_us < f->until_us);
}

/* The first block of a ring whose ticks are all after tick. */
static uint32_t first_after(const struct store *s, int ring, uint32_t tick)
{
	uint32_t low = 0, high = s->c.rings[ring].n;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (store_block(s, ring, middle)->first > tick)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Of the blocks in the window that begin after tick, the one that begins first; of these the finest. Where in
 * the window's first step the window begins makes no difference, hence a coarse block is not used for what
 * finer ones hold. */
static bool next_piece(const struct store *s, const struct store_filter *f, uint32_t tick,
                       uint32_t cursors[static RINGS], struct piece *ret)
{
	static const uint32_t order[RINGS] = { 0, RING_PINS, 1, 2 };
	uint32_t best = UINT32_MAX;

	for (int k = 0; k < RINGS; k++) {
		uint32_t ring = order[k], n = s->c.rings[ring].n, key;
		const struct block *b = NULL;

		for (; cursors[ring] < n; cursors[ring]++) {
			b = store_block(s, (int)ring, cursors[ring]);
			if (b->first > tick && in_window(f, b))
				break;
		}
		if (cursors[ring] >= n)
			continue;
		key = b->begin_us <= f->since_us ? 0 : b->first;
		if (key < best) {
			best = key;
			*ret = (struct piece) { ring, cursors[ring] };
		}
	}
	return best != UINT32_MAX;
}

/* Fine blocks may end in the middle of a coarse one, as pins do. Then that one is used instead of those that
 * lie in it: what follows them would be missing else. */
static bool bridge(const struct store *s, const struct store_filter *f, uint32_t *n)
{
	const struct block *last = piece_block(s, s->cover[*n - 1]);

	if (f->until_us && f->until_us <= last->end_us)
		return false;
	for (int t = 1; t < STORE_TIERS; t++) {
		uint32_t position = first_after(s, t, last->last);
		const struct block *b = position > 0 ? store_block(s, t, position - 1) : NULL;

		if (!b || b->last <= last->last)
			continue;
		while (*n > 0 && piece_block(s, s->cover[*n - 1])->last >= b->first)
			--*n;
		s->cover[(*n)++] = (struct piece) { (uint32_t)t, position - 1 };
		return true;
	}
	return false;
}

static uint32_t cover_finest(const struct store *s, const struct store_filter *f)
{
	uint32_t cursors[RINGS] = {}, n = 0, tick = 0;
	struct piece p;

	if (f->until_us && f->until_us <= f->since_us)
		return 0;
	while (n < s->cover_max && next_piece(s, f, tick, cursors, &p)) {
		bool gap = n > 0 && piece_block(s, p)->first > tick + 1;

		if (!gap || !bridge(s, f, &n))
			s->cover[n++] = p;
		tick = piece_block(s, s->cover[n - 1])->last;
	}
	if (n > 0)
		bridge(s, f, &n);
	return n;
}

/* How many pieces from k on a coarse block stands for exactly; 0 = it doesn't. */
static uint32_t replaces(const struct store *s, const struct block *coarse, uint32_t k, uint32_t n)
{
	uint32_t tick = coarse->first - 1;

	for (uint32_t j = k; j < n; j++) {
		const struct block *b = piece_block(s, s->cover[j]);

		if (b->first != tick + 1 || b->last > coarse->last)
			return 0;
		tick = b->last;
		if (tick == coarse->last)
			return j - k + 1;
	}
	return 0;
}

static uint32_t coarsen(struct store *s, uint32_t n)
{
	uint32_t to = 0;

	for (uint32_t k = 0; k < n;) {
		uint32_t first = piece_block(s, s->cover[k])->first, count = 0;

		for (int t = STORE_TIERS - 1; t > 0 && count == 0; t--) {
			uint32_t position = first_after(s, t, first - 1);
			const struct block *b;

			if (position >= s->c.rings[t].n)
				continue;
			b = store_block(s, t, position);
			if (b->first == first)
				count = replaces(s, b, k, n);
			if (count > 0)
				s->cover[to] = (struct piece) { (uint32_t)t, position };
		}
		if (count == 0) {
			s->cover[to] = s->cover[k];
			count = 1;
		}
		to++;
		k += count;
	}
	return to;
}

/* ---- who matches ---- */

static bool viewer_may(const struct store_filter *f, uint32_t uid)
{
	return f->viewer_uid == 0 || f->viewer_uid == STORE_ANY_UID || f->viewer_uid == uid;
}

static bool workload_matches(const struct store *s, const struct store_filter *f, uint32_t i)
{
	const struct workload_record *w = store_workload_at(s, i);

	return viewer_may(f, w->uid) && store_unit_matches(f->unit, store_string_text(s, w->unit)) &&
	       store_cgroup_matches(f->cgroup, store_string_text(s, w->cgroup)) &&
	       (!f->exe || streq(f->exe, store_string_text(s, w->exe)));
}

static bool process_matches(const struct store *s, const struct store_filter *f, uint32_t i)
{
	const struct process_record *p = store_process_at(s, i);

	return (!f->pid || p->pid == (uint32_t)f->pid) &&
	       (!f->comm || streq(f->comm, store_string_text(s, p->comm))) &&
	       workload_matches(s, f, p->workload);
}

bool store_process_matches(const struct store *s, const struct store_filter *f, store_ref process)
{
	uint32_t i = dict_resolve(&s->dicts[DICT_PROCESSES], process);

	return i ? process_matches(s, f, i) : viewer_may(f, STORE_ANY_UID) && !f->pid && !f->unit && !f->cgroup && !f->comm && !f->exe;
}

static bool slice_matches(const struct store *s, const struct store_filter *f, uint32_t i)
{
	const struct slice_record *r = store_slice_at(s, i);
	const struct series_record *series = store_series_at(s, r->series);

	return (!f->series_id || series->entry.hash == f->series_id) &&
	       (!f->stack_id || store_stack_at(s, series->stack)->entry.hash == f->stack_id) &&
	       process_matches(s, f, r->process);
}

/* Says whether there is any that matches. */
static bool match_all(struct store *s, const struct store_filter *f, int section)
{
	const struct dict *d = &s->dicts[section_is_of_slices(section) ? DICT_SLICES : DICT_PROCESSES];
	bool any = false;

	for (uint32_t i = 1; i <= d->max; i++) {
		s->match_from[i] = UINT32_MAX;
		if (!dict_has(d, i))
			continue;
		if (section_is_of_slices(section) ? slice_matches(s, f, i) : process_matches(s, f, i))
			s->match_from[i] = section_is_of_slices(section) ? store_slice_at(s, i)->born : store_process_at(s, i)->born;
		any |= s->match_from[i] != UINT32_MAX;
	}
	return any;
}

/* The slice or process that an entry of a tick counts for, if it matches; else 0. */
static inline uint32_t matching_target(const struct store *s, int section, uint32_t i, uint32_t tick)
{
	uint32_t target = i;

	if (tick >= s->match_from[i])
		return i;
	target = store_entry_target(s, section, i, tick);
	return target && target != i && s->match_from[target] != UINT32_MAX ? target : 0;
}

/* ---- runs ---- */

/* Calls for every wait, ended or not, of a slice that matches. */
typedef void (*run_fn)(struct store *s, uint32_t slice, const struct run *run, void *userdata);

static void visit_runs(struct store *s, run_fn fn, void *userdata)
{
	for (uint32_t k = 0; k < s->c.runs.n; k++) {
		const struct run *r = store_run(s, k);
		uint32_t i;

		if (r->slice == 0 || r->slice > s->dicts[DICT_SLICES].max)
			continue;
		i = matching_target(s, SECTION_SLICES, r->slice, r->since);
		if (i)
			fn(s, i, r, userdata);
	}
	for (uint32_t i = 1; i <= s->dicts[DICT_SLICES].max; i++) {
		const struct open_wait *w;

		if (!s->slice_wait[i] || s->match_from[i] == UINT32_MAX)
			continue;
		w = store_open_wait(s, s->slice_wait[i] - 1);
		if (w->threads > 0)
			fn(s, i, &(struct run) {
				.slice = i, .since = w->since, .threads = (uint32_t)w->threads,
				.from_ns = w->from_ns, .until_ns = s->c.elapsed_ns,
				.from_us = w->from_us, .until_us = s->c.time_us,
			}, userdata);
	}
}

static uint64_t overlap(const struct run *r, const struct block *b)
{
	uint64_t from = MAX(r->from_ns, b->elapsed_ns),
		 until = MIN(r->until_ns, b->elapsed_ns + b->duration_ns);

	return until > from ? (until - from) * r->threads : 0;
}

/* The first piece that ends after the run begins. */
static uint32_t first_piece(const struct store *s, uint32_t n, const struct run *r)
{
	uint32_t low = 0, high = n;

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		const struct block *b = piece_block(s, s->cover[middle]);

		if (b->elapsed_ns + b->duration_ns > r->from_ns)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* ---- sums ---- */

static void mention(struct sum *sum, const struct block *b)
{
	if (sum->last_us == 0) {
		sum->first_us = b->begin_us;
		sum->last_us = b->end_us;
	}
	sum->first_us = MIN(sum->first_us, b->begin_us);
	sum->last_us = MAX(sum->last_us, b->end_us);
}

static void sum_block(struct store *s, struct piece p, int section)
{
	const struct block *b = piece_block(s, p);
	struct section_reader reader;
	uint32_t i;

	if (store_block_reader(s, (int)p.ring, b, section, &reader) < 0)
		return;
	while (store_section_next(&reader, &i)) {
		uint32_t target = matching_target(s, section, i, b->last);

		if (!target)
			continue;
		store_section_add(&reader, s->sums[target].values);
		mention(&s->sums[target], b);
	}
}

static void sum_run(struct store *s, uint32_t slice, const struct run *r, void *userdata)
{
	uint32_t n = *(uint32_t *)userdata;

	for (uint32_t k = first_piece(s, n, r); k < n; k++) {
		const struct block *b = piece_block(s, s->cover[k]);

		if (b->elapsed_ns >= r->until_ns)
			break;
		s->sums[slice].values[METRIC_BLOCKED] += overlap(r, b);
		mention(&s->sums[slice], b);
	}
}

static int tell_sums(struct store *s, int section, store_slice_fn fn, void *userdata)
{
	const struct dict *d = &s->dicts[section_is_of_slices(section) ? DICT_SLICES : DICT_PROCESSES];

	for (uint32_t i = 1; i <= d->max; i++) {
		const struct sum *sum = &s->sums[i];
		struct store_slice_sum out;
		int r;

		if (sum->last_us == 0)
			continue;
		out = (struct store_slice_sum) { .first_us = sum->first_us, .last_us = sum->last_us };
		if (section_is_of_slices(section)) {
			const struct slice_record *slice = store_slice_at(s, i);
			const struct series_record *series = store_series_at(s, slice->series);

			out.process = dict_ref(&s->dicts[DICT_PROCESSES], slice->process);
			out.stack = dict_ref(&s->dicts[DICT_STACKS], series->stack);
			out.series_id = series->entry.hash;
		} else {
			out.process = dict_ref(d, i);
		}
		memcpy(out.values, sum->values, sizeof(out.values));
		r = fn(userdata, &out);
		if (r != 0)
			return r;
	}
	return 0;
}

static int visit_sums(struct store *s, const struct store_filter *f, int section, store_slice_fn fn,
                      void *userdata)
{
	uint32_t n;

	if (!match_all(s, f, section))
		return 0;
	n = coarsen(s, cover_finest(s, f));
	memset(s->sums, 0,
	       (s->dicts[section_is_of_slices(section) ? DICT_SLICES : DICT_PROCESSES].max + 1) * sizeof(*s->sums));
	for (uint32_t k = 0; k < n; k++)
		sum_block(s, s->cover[k], section);
	if (section == SECTION_SLICES)
		visit_runs(s, sum_run, &n);
	return tell_sums(s, section, fn, userdata);
}

int store_visit_slices(struct store *s, const struct store_filter *filter, store_slice_fn fn, void *userdata)
{
	return visit_sums(s, filter, SECTION_SLICES, fn, userdata);
}

int store_visit_variances(struct store *s, const struct store_filter *filter, store_slice_fn fn, void *userdata)
{
	return visit_sums(s, filter, SECTION_VARIANCES, fn, userdata);
}

int store_visit_totals(struct store *s, const struct store_filter *filter, store_slice_fn fn, void *userdata)
{
	return visit_sums(s, filter, SECTION_PROCESSES, fn, userdata);
}

/* ---- wall time ---- */

/* A process that did nothing in a tick has no total there, but waits. */
struct wall {
	uint32_t n;              /* pieces */
	uint8_t *has_total;      /* a bit by process and piece, of those that are one tick */
	uint64_t (*coarse)[2];   /* by process: what is blocked in the others, by totals and by waits */
};

static bool is_one_tick(const struct block *b)
{
	return b->first == b->last;
}

static uint64_t time_in(const uint64_t values[static METRIC_N])
{
	return values[METRIC_ON_CPU] + values[METRIC_BLOCKED] + values[METRIC_RUNNABLE];
}

static void wall_block(struct store *s, struct wall *x, uint32_t k)
{
	const struct block *b = piece_block(s, s->cover[k]);
	struct section_reader reader;
	uint32_t i;

	if (store_block_reader(s, (int)s->cover[k].ring, b, SECTION_PROCESSES, &reader) < 0)
		return;
	while (store_section_next(&reader, &i)) {
		uint32_t target = matching_target(s, SECTION_PROCESSES, i, b->last);
		uint64_t *sums = s->sums[target].values, blocked = sums[METRIC_BLOCKED], time = time_in(sums);
		size_t bit = (size_t)target * x->n + k;

		if (!target)
			continue;
		store_section_add(&reader, sums);
		mention(&s->sums[target], b);
		if (!is_one_tick(b))
			x->coarse[target][0] += sums[METRIC_BLOCKED] - blocked;
		else if (time_in(sums) - time > b->duration_ns / 2) /* else only its memory changed, and what rounding left over came along */
			x->has_total[bit / 8] |= 1U << bit % 8;
	}
}

static void wall_run(struct store *s, uint32_t slice, const struct run *r, void *userdata)
{
	struct wall *x = userdata;
	uint32_t process = store_slice_at(s, slice)->process;

	for (uint32_t k = first_piece(s, x->n, r); k < x->n; k++) {
		const struct block *b = piece_block(s, s->cover[k]);
		size_t bit = (size_t)process * x->n + k;

		if (b->elapsed_ns >= r->until_ns)
			break;
		if (!is_one_tick(b))
			x->coarse[process][1] += overlap(r, b);
		else if (!(x->has_total[bit / 8] & 1U << bit % 8))
			s->sums[process].values[METRIC_BLOCKED] += overlap(r, b);
		mention(&s->sums[process], b);
	}
}

int store_visit_wall(struct store *s, const struct store_filter *filter, store_slice_fn fn, void *userdata)
{
	uint32_t max = s->dicts[DICT_PROCESSES].max;
	struct store_filter any_stack = *filter;
	struct wall x;
	int r;

	if (!match_all(s, filter, SECTION_PROCESSES))
		return 0;
	x.n = cover_finest(s, filter);
	x.has_total = calloc(((size_t)(max + 1) * x.n + 7) / 8 + 1, 1);
	x.coarse = calloc(max + 1, sizeof(*x.coarse));
	if (!x.has_total || !x.coarse) {
		free(x.has_total);
		free(x.coarse);
		return -ENOMEM;
	}
	memset(s->sums, 0, (max + 1) * sizeof(*s->sums));
	for (uint32_t k = 0; k < x.n; k++)
		wall_block(s, &x, k);
	any_stack.stack_id = any_stack.series_id = 0;
	if (match_all(s, &any_stack, SECTION_SLICES))
		visit_runs(s, wall_run, &x);
	/* Where single ticks are not kept, one may lie within the other. */
	for (uint32_t i = 1; i <= max; i++)
		s->sums[i].values[METRIC_BLOCKED] += x.coarse[i][1] - MIN(x.coarse[i][0], x.coarse[i][1]);
	r = tell_sums(s, SECTION_PROCESSES, fn, userdata);
	free(x.has_total);
	free(x.coarse);
	return r;
}

/* ---- points ---- */

static void point_run(struct store *s, uint32_t slice, const struct run *r, void *userdata)
{
	uint32_t n = *(uint32_t *)userdata;

	(void)slice;
	for (uint32_t k = first_piece(s, n, r); k < n; k++) {
		const struct block *b = piece_block(s, s->cover[k]);

		if (b->elapsed_ns >= r->until_ns)
			break;
		s->piece_waits[k] += overlap(r, b);
	}
}

static void point_values(struct store *s, struct piece p, uint64_t sums[static METRIC_N])
{
	const struct block *b = piece_block(s, p);
	struct section_reader reader;
	uint32_t i;

	if (store_block_reader(s, (int)p.ring, b, SECTION_SLICES, &reader) < 0)
		return;
	while (store_section_next(&reader, &i))
		if (matching_target(s, SECTION_SLICES, i, b->last))
			store_section_add(&reader, sums);
}

int store_visit_points(struct store *s, const struct store_filter *filter, store_point_fn fn, void *userdata)
{
	uint32_t n = cover_finest(s, filter);
	bool any = match_all(s, filter, SECTION_SLICES);

	memset(s->piece_waits, 0, n * sizeof(*s->piece_waits));
	if (any)
		visit_runs(s, point_run, &n);
	for (uint32_t k = 0; k < n; k++) {
		const struct block *b = piece_block(s, s->cover[k]);
		int tier = s->cover[k].ring == RING_PINS ? 0 : (int)s->cover[k].ring, r;
		struct store_point point = {
			.time_us = b->end_us,
			.step_s = s->layout.config.tiers[tier].step_s,
			.gate_open = b->gate_open != 0,
			.load_milli = b->load_milli,
		};

		memcpy(point.lost, b->lost, sizeof(point.lost));
		if (any)
			point_values(s, s->cover[k], point.values);
		point.values[METRIC_BLOCKED] += s->piece_waits[k];
		r = fn(userdata, &point);
		if (r != 0)
			return r;
	}
	return 0;
}
