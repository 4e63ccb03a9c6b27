/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "scoring.h"

#include <math.h>
#include <sys/sysinfo.h>

#include "growers.h"

#define UNIT_SEED 0x756e6974
#define OWN_SERIES_MAX 4096
/* Units that were told and whose stacks are not there yet. Names take a tick or two. */
#define AWAITED_MAX 8
#define AWAITED_TICKS 3
/* Of one without stacks now: that which did most in so long before. */
#define BUSIEST_WINDOW_US (900 * USEC_PER_SEC)
/* Functions of a stack that are looked at, from the innermost. */
#define FUNCTIONS_MAX 64
/* The stack of a growth is looked for in at most so long before now. */
#define GROWTH_WINDOW_US (3600 * USEC_PER_SEC)
/* A series is scored with zeros for this long after its last sign of life, so that its vanishing is seen. */
#define LIVE_TICKS 60
/* Anomalies told in one tick; the detector's budget keeps far below. */
#define ANOMALIES_PER_TICK_MAX 64
/* A wait that changed by less does nothing to its unit: a thousandth of a thread. */
#define WAIT_LEAST (0.001 * (double)NSEC_PER_SEC)

/* A unit's total that was told (key 0: the machine's): the stack with most of it stands for it; if samples have none of that
 * metric, that which does most, or did. */
struct awaited {
	uint64_t key;
	struct detect_result result;
	bool grows;     /* that which grew most since then stands for it */
	uint64_t series_id; /* this one does; 0: it is looked for */
	uint32_t ticks; /* for which it has been looked for */
	uint64_t most, busiest;
	struct store_series series; /* of this tick, if either is not 0 */
};

struct scoring {
	struct store *store;
	struct detect *detect;
	struct incidents *incidents;
	uint64_t memory_bytes; /* of the machine */
	pid_t own_pids[SCORING_OWN_PIDS_MAX];
	size_t n_own_pids;
	struct map64 *own_series;

	struct store_tick tick;
	size_t n_anomalies;
	struct store_anomaly anomalies[ANOMALIES_PER_TICK_MAX];
	size_t n_awaited;
	struct awaited awaited[AWAITED_MAX];
	uint32_t live_series;
	bool digest;
	uint64_t series_digest, scores_digest; /* of the tick */
	const struct store_series *scored; /* that the detector is at */
};

static bool is_own_pid(const struct scoring *s, pid_t pid)
{
	for (size_t i = 0; i < s->n_own_pids; i++)
		if (s->own_pids[i] == pid)
			return true;
	return false;
}

/* Whatever else has its own account: a container without a unit, a program that nothing tells apart, kernel threads. Never 0. */
static uint64_t key_of(const char *unit, const char *cgroup, const char *exe)
{
	return MAX(hash64_string(unit[0] ? unit : cgroup[0] && !streq(cgroup, "/") ? cgroup : exe, UNIT_SEED), 1u);
}

static uint64_t unit_key(const struct store_process *process)
{
	return key_of(process->unit, process->cgroup, process->exe);
}

static double growth(void *userdata, const char *unit, const char *cgroup, const char *exe)
{
	const struct scoring *s = userdata;

	return detect_growth_rate(s->detect, key_of(unit, cgroup, exe));
}

static bool starves(void *userdata, const char *unit, const char *cgroup, const char *exe)
{
	const struct scoring *s = userdata;

	return detect_unit_starves(s->detect, key_of(unit, cgroup, exe));
}

static double evidence_of(struct scoring *s, const struct store_series *series, enum metric metric, bool rises)
{
	uint64_t stack_id;
	bool truncated;
	size_t depth;

	if (store_get_stack(s->store, series->stack, &stack_id, &truncated, NULL, 0, &depth) < 0)
		return 0;
	return incidents_evidence(s->incidents, stack_id, metric, rises, s->tick.time_us);
}

static double evidence(void *userdata, enum metric metric, bool rises)
{
	struct scoring *s = userdata;

	return evidence_of(s, s->scored, metric, rises);
}

uint64_t scoring_machine_memory(void)
{
	struct sysinfo info;

	return sysinfo(&info) < 0 ? 0 : (uint64_t)info.totalram * info.mem_unit;
}

int scoring_new(struct scoring **ret, struct store *store, struct detect *detect, struct incidents *incidents)
{
	_cleanup_(scoring_freep) struct scoring *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->store = store;
	s->detect = detect;
	s->incidents = incidents;
	s->memory_bytes = scoring_machine_memory();
	r = map64_new(&s->own_series, OWN_SERIES_MAX);
	if (r < 0)
		return r;
	detect_set_evidence(detect, evidence, s);
	incidents_set_growth(incidents, growth, s);
	incidents_set_starves(incidents, starves, s);
	*ret = TAKE_PTR(s);
	return 0;
}

struct scoring *scoring_free(struct scoring *s)
{
	if (!s)
		return NULL;
	map64_free(s->own_series);
	free(s);
	return NULL;
}

void scoring_set_own_pids(struct scoring *s, const pid_t *pids, size_t n)
{
	s->n_own_pids = MIN(n, ELEMENTS_OF(s->own_pids));
	memcpy(s->own_pids, pids, s->n_own_pids * sizeof(*pids));
}

int scoring_add_total(struct scoring *s, store_ref process_ref, const uint64_t values[static METRIC_N])
{
	struct store_process process;

	if (store_get_process(s->store, process_ref, &process) < 0 || is_own_pid(s, process.pid))
		return 0;
	return detect_add_total(s->detect, unit_key(&process), values);
}

int scoring_add_memory(struct scoring *s, store_ref process_ref, int64_t change)
{
	struct store_process process;

	if (!change || store_get_process(s->store, process_ref, &process) < 0 || is_own_pid(s, process.pid))
		return 0;
	return detect_add_memory(s->detect, unit_key(&process), change);
}

/* ---- anomalies ---- */

static void note_anomaly(struct scoring *s, const struct store_series *series, const struct detect_result *result)
{
	struct store_anomaly *a = &s->anomalies[s->n_anomalies++];
	struct store_process process;
	bool truncated;
	size_t depth;

	*a = (struct store_anomaly) {
		.time_us = s->tick.time_us,
		.since_us = result->since_us,
		.type = result->type,
		.metric = result->metric,
		.gate_open = s->tick.gate_open,
		.score = result->score,
		.p_value = result->p_value,
		.observed = result->observed,
		.expected = result->expected,
		.load = s->tick.load_milli / 1000.0,
		.series_id = series->id,
	};
	store_get_stack(s->store, series->stack, &a->stack_id, &truncated, NULL, 0, &depth);
	if (store_get_process(s->store, series->top_process, &process) < 0)
		return;
	a->uid = process.uid;
	a->pid = process.pid;
	a->process_start_us = process.start_us;
	copy_string(a->comm, sizeof(a->comm), process.comm);
	copy_string(a->exe, sizeof(a->exe), process.exe);
	copy_string(a->unit, sizeof(a->unit), process.unit);
	copy_string(a->cgroup, sizeof(a->cgroup), process.cgroup);
}

/* stackd must not watch itself: what it does in answer to an anomaly would be the next one. */
static bool is_own_series(struct scoring *s, const struct store_series *series)
{
	struct store_process process;

	if (map64_get(s->own_series, series->id, NULL))
		return true;
	if (!series->top_process || store_get_process(s->store, series->top_process, &process) < 0 || !is_own_pid(s, process.pid))
		return false;
	if (map64_put(s->own_series, series->id, 1) == -ENOSPC) {
		map64_clear(s->own_series);
		map64_put(s->own_series, series->id, 1);
	}
	return true;
}

static void await(struct scoring *s, const struct awaited *w)
{
	if (s->n_awaited == AWAITED_MAX)
		memmove(s->awaited, s->awaited + 1, --s->n_awaited * sizeof(*s->awaited));
	s->awaited[s->n_awaited++] = *w;
}

/* rise: of its waits, of which it isn't the largest that stands for those that have moved. */
static void match_awaited(struct scoring *s, const struct store_series *series, const struct store_process *process, double rise)
{
	for (size_t i = 0; i < s->n_awaited; i++) {
		struct awaited *w = &s->awaited[i];
		uint64_t value = w->result.metric == METRIC_BLOCKED ? (uint64_t)MAX(rise, 0.0) : series->values[w->result.metric];
		uint64_t busy = series->values[METRIC_ON_CPU] + series->values[METRIC_RUNNABLE] + series->values[METRIC_BLOCKED];

		if (w->grows || w->series_id || (w->key != 0 && w->key != unit_key(process)))
			continue;
		if (value > w->most || (w->most == 0 && busy > w->busiest)) {
			w->most = value;
			w->busiest = busy;
			w->series = *series;
		}
	}
}

static int find_busiest(void *userdata, const struct store_slice_sum *sum)
{
	struct scoring *s = userdata;
	struct store_process process;

	if (store_get_process(s->store, sum->process, &process) < 0 || is_own_pid(s, process.pid))
		return 0;
	for (size_t i = 0; i < s->n_awaited; i++) {
		struct awaited *w = &s->awaited[i];
		uint64_t busy = sum->values[METRIC_ON_CPU] + 1;

		if (w->ticks < AWAITED_TICKS || w->series_id || busy <= w->busiest || (w->key != 0 && w->key != unit_key(&process)))
			continue;
		w->busiest = busy;
		w->series = (struct store_series) { .id = sum->series_id, .stack = sum->stack, .top_process = sum->process };
	}
	return 0;
}

/* Of its heap if that is watched, which knows what is freed; else of what came into use, else of what was mapped. */
static int64_t grown(const uint64_t values[static METRIC_N])
{
	int64_t mapped = (int64_t)(values[METRIC_BRK] + values[METRIC_MMAP]);

	if (values[METRIC_HEAP])
		return (int64_t)values[METRIC_HEAP];
	return values[METRIC_RSS] ? (int64_t)values[METRIC_RSS] : mapped;
}

struct growth_search {
	const struct scoring *scoring;
	uint64_t unit;
	struct growers *found;
};

static int find_grower(void *userdata, const struct store_slice_sum *sum)
{
	const struct growth_search *search = userdata;
	int64_t bytes = grown(sum->values);
	struct store_process process;

	if (bytes && store_get_process(search->scoring->store, sum->process, &process) >= 0 && unit_key(&process) == search->unit)
		growers_add(search->found, sum, bytes);
	return 0;
}

static void look_back_at_growth(struct scoring *s, struct awaited *w, uint64_t now_us)
{
	const struct store_filter filter = {
		.since_us = MAX(w->result.since_us, now_us - MIN(now_us, GROWTH_WINDOW_US)), .until_us = now_us, .viewer_uid = STORE_ANY_UID,
	};
	_cleanup_(growers_freep) struct growers *found = NULL;

	if (growers_new(&found) < 0)
		return;
	store_visit_slices(s->store, &filter, find_grower, &(struct growth_search){ s, w->key, found });
	w->most = growers_find(found, s->store, &w->series);
}

/* A slice of the series, which may have nothing now. */
static int find_series(void *userdata, const struct store_slice_sum *sum)
{
	struct awaited *w = userdata;
	uint64_t hits = sum->values[METRIC_HITS] + 1;

	if (hits > w->most) {
		w->most = hits;
		w->series = (struct store_series) { .id = sum->series_id, .stack = sum->stack, .top_process = sum->process };
	}
	return 0;
}

static void look_back_at_series(struct scoring *s, struct awaited *w, uint64_t now_us)
{
	const struct store_filter filter = {
		.since_us = now_us - MIN(now_us, GROWTH_WINDOW_US), .until_us = now_us, .viewer_uid = STORE_ANY_UID, .series_id = w->series_id,
	};

	store_visit_slices(s->store, &filter, find_series, w);
}

void scoring_look_back(struct scoring *s, uint64_t now_us)
{
	const struct store_filter filter = { .since_us = now_us - BUSIEST_WINDOW_US, .until_us = now_us, .viewer_uid = STORE_ANY_UID };

	for (size_t i = 0; i < s->n_awaited; i++)
		if (s->awaited[i].grows && s->awaited[i].ticks == 1)
			look_back_at_growth(s, &s->awaited[i], now_us);
		else if (s->awaited[i].series_id && s->awaited[i].ticks == 1)
			look_back_at_series(s, &s->awaited[i], now_us);
	for (size_t i = 0; i < s->n_awaited; i++)
		if (s->awaited[i].ticks == AWAITED_TICKS) {
			store_visit_slices(s->store, &filter, find_busiest, s);
			return;
		}
}

static struct store_anomaly *find_noted(struct scoring *s, const struct awaited *w)
{
	for (size_t i = 0; i < s->n_anomalies; i++)
		if (s->anomalies[i].series_id == w->series.id && s->anomalies[i].metric == w->result.metric)
			return &s->anomalies[i];
	return NULL;
}

/* One series and metric is one anomaly in a tick: that which says more of it. */
static void note_greater(struct scoring *s, const struct awaited *w)
{
	struct store_anomaly *noted = find_noted(s, w);
	const struct detect_result *r = &w->result;

	if (!noted) {
		note_anomaly(s, &w->series, r);
		return;
	}
	if (fabs(r->observed - r->expected) <= fabs(noted->observed - noted->expected))
		return;
	noted->type = r->type;
	noted->observed = r->observed;
	noted->expected = r->expected;
	noted->score = r->score;
	noted->p_value = r->p_value;
	noted->since_us = MIN(noted->since_us, r->since_us);
}

/* What is told of a unit's waits is how many have come: in a stack where some waited before they are more than there were. */
static void add_usual_waits(const struct scoring *s, struct awaited *w)
{
	double now = (double)w->series.values[METRIC_BLOCKED] * (double)NSEC_PER_SEC / (double)s->tick.duration_ns, usual = now - (double)w->most;

	if (w->result.metric != METRIC_BLOCKED || w->most == 0 || !(usual > 0))
		return;
	w->result.observed += usual;
	w->result.expected += usual;
}

static void note_awaited(struct scoring *s)
{
	size_t left = 0;

	for (size_t i = 0; i < s->n_awaited; i++) {
		struct awaited w = s->awaited[i];

		bool there = w.most > 0 || (w.busiest > 0 && w.ticks >= AWAITED_TICKS);

		if (there && s->n_anomalies < ANOMALIES_PER_TICK_MAX) {
			add_usual_waits(s, &w);
			if (evidence_of(s, &w.series, w.result.metric, w.result.observed > w.result.expected) > MAX(w.result.margin, 0.0))
				detect_withhold(s->detect, &w.result);
			else
				note_greater(s, &w);
		} else if (w.ticks++ < AWAITED_TICKS) {
			w.most = w.busiest = 0;
			s->awaited[left++] = w;
		}
	}
	s->n_awaited = left;
}

/* ---- digests ---- */

/* Sums: the order in which series come is that of tables, and no part of the result. */
static void digest_series(struct scoring *s, const struct store_series *series)
{
	uint64_t words[3 + 2 * METRIC_N] = { series->id, series->silent_ticks, series->first_seen_us };
	size_t n = 3;

	/* A metric that comes to be later changes nothing in what was recorded before. */
	for (uint64_t m = 0; m < METRIC_N; m++)
		if (series->values[m] != 0) {
			words[n++] = m;
			words[n++] = series->values[m];
		}
	s->series_digest += hash64(words, n * sizeof(*words), 0);
}

static void digest_anomalies(struct scoring *s)
{
	for (size_t i = 0; i < s->n_anomalies; i++) {
		const struct store_anomaly *a = &s->anomalies[i];
		const double scores[] = { a->score, a->p_value, a->observed, a->expected, a->load };
		const uint64_t words[] = { a->time_us, a->since_us, a->type, a->metric, a->series_id, a->stack_id, (uint64_t)a->pid };

		s->scores_digest = hash64(words, sizeof(words), hash64(scores, sizeof(scores), s->scores_digest));
	}
	s->scores_digest = hash64(store_global_state(s->store), detect_global_state_size(), s->scores_digest);
}

void scoring_set_digest(struct scoring *s, bool on)
{
	s->digest = on;
}

void scoring_get_digest(const struct scoring *s, uint64_t *ret_series, uint64_t *ret_scores)
{
	*ret_series = s->series_digest;
	*ret_scores = s->scores_digest;
}

/* ---- a tick ---- */

static double age_s(const struct scoring *s, const struct store_process *process)
{
	return s->tick.time_us > process->start_us ? (double)(s->tick.time_us - process->start_us) / (double)USEC_PER_SEC : 0;
}

/* What the series does to its unit, and to what is awaited of it. */
static void look_at_unit(struct scoring *s, const struct store_series *series)
{
	double rise = detect_wait_rise(s->detect, series->state, series->values[METRIC_BLOCKED], series->silent_ticks);
	struct store_process process;

	if ((fabs(rise) < WAIT_LEAST && !s->n_awaited) || store_get_process(s->store, series->top_process, &process) < 0)
		return;
	match_awaited(s, series, &process, rise);
	if (fabs(rise) >= WAIT_LEAST)
		detect_add_wait(s->detect, unit_key(&process), series->state, series->values[METRIC_BLOCKED], rise, age_s(s, &process));
}

/* What the unit's samples in this series are of: each function once, however often it is on the stack. */
static void add_functions(struct scoring *s, const struct store_series *series)
{
	uint64_t frames[FUNCTIONS_MAX], functions[FUNCTIONS_MAX], seen = 0; /* seen: by a function's low bits */
	struct store_process process;
	size_t depth, n = 0;

	if (!(series->values[METRIC_HITS] | series->values[METRIC_FAULTS_MINOR]) || store_get_process(s->store, series->top_process, &process) < 0)
		return;
	depth = store_get_frame_ids(s->store, series->stack, frames, FUNCTIONS_MAX);
	for (size_t i = 0; i < depth; i++) {
		uint64_t bit = 1ULL << frames[i] % 64;
		size_t k = seen & bit ? 0 : n;

		while (k < n && functions[k] != frames[i])
			k++;
		if (k == n)
			functions[n++] = frames[i];
		seen |= bit;
	}
	detect_add_functions(s->detect, unit_key(&process), series->id, functions, n, series->values);
}

static void score(void *userdata, const struct store_series *series)
{
	struct scoring *s = userdata;
	struct detect_result result;

	s->live_series++;
	if (s->digest)
		digest_series(s, series);
	if (is_own_series(s, series))
		return;
	look_at_unit(s, series);
	add_functions(s, series);
	s->scored = series;
	if (detect_series(s->detect, series->state, series->values, series->silent_ticks, &result) &&
	    s->n_anomalies < ANOMALIES_PER_TICK_MAX)
		note_anomaly(s, series, &result);
	if (s->digest)
		s->scores_digest += hash64(series->state, detect_series_state_size(), 0);
}

size_t scoring_tick(struct scoring *s, const struct store_tick *t, double lost_fraction, struct store_anomaly **ret)
{
	const struct detect_tick tick = {
		.time_us = t->time_us,
		.duration_ns = t->duration_ns,
		.load = t->load_milli / 1000.0,
		.gate_open = t->gate_open,
		.online_cpus = t->online_cpus,
		.lost_fraction = lost_fraction,
		.memory_bytes = s->memory_bytes,
	};
	struct detect_result result;
	uint64_t unit, series;

	s->tick = *t;
	s->n_anomalies = 0;
	s->live_series = 0;
	s->series_digest = s->scores_digest = 0;
	detect_tick_begin(s->detect, &tick);
	if (detect_totals(s->detect, &unit, &result))
		await(s, &(struct awaited) { .key = unit, .result = result });
	if (detect_growth(s->detect, &unit, &result))
		await(s, &(struct awaited) { .key = unit, .result = result, .grows = true });
	store_tick_visit(s->store, LIVE_TICKS, score, s);
	note_awaited(s);
	if (detect_moved_waits(s->detect, &unit, &result))
		await(s, &(struct awaited) { .key = unit, .result = result });
	if (detect_functions(s->detect, &series, &result))
		await(s, &(struct awaited) { .series_id = series, .result = result, .ticks = 1 });
	detect_tick_end(s->detect);
	if (s->digest)
		digest_anomalies(s);
	*ret = s->anomalies;
	return s->n_anomalies;
}

uint32_t scoring_live_series(const struct scoring *s)
{
	return s->live_series;
}

uint32_t scoring_anomalies(const struct scoring *s)
{
	return (uint32_t)s->n_anomalies;
}

void scoring_set_memory(struct scoring *s, uint64_t bytes)
{
	s->memory_bytes = bytes;
}
