/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "random.h"
#include "visible.h"
#include "world.h"

#define CPUS 32
#define OPEN_HZ 49.0
#define BASELINE_HZ 5.0
#define T0 1700000000000000ULL
#define DAY 86400
/* Room for short-lived series beside the lasting ones. */
#define TRANSIENTS 256
/* Series that exist only as a fault. */
#define FAULTS_MAX 64
#define NEVER UINT64_MAX
#define ASLEEP UINT32_MAX
#define AHEAD 8u /* states that are fetched before they are visited */
#define UNITS_MAX 200u
#define UNIT_SERIES 50u
#define STARVING_TASKS 60 /* a CPU */
#define DAILY 0.8 /* by so much what series do goes up and down with the hours */
#define SETTLED 1e6 /* s that lasting programs have been there for */

enum kind {
	KIND_SPARSE,
	KIND_STEADY,
	KIND_BURSTY,
	KIND_PERIODIC,
	KIND_DRIFTING,
	KIND_CRON,
	KIND_BLOCKING,
	KIND_TRANSIENT,
	KIND_N
};

static const char *const kind_names[KIND_N] = {
	"sparse", "steady", "bursty", "periodic", "drifting", "cron", "blocking", "transient",
};

static const char *const fault_names[FAULT_N] = {
	"cpu spin",        "blocked spike", "run-queue starvation", "fault storm",
	"vanished series", "level shift",   "new stack spins",
};

struct source {
	enum kind kind;
	double rate;         /* CPU seconds a second, when it does something */
	double wait, faults; /* blocked seconds, faults a second, when it does something */
	double noise;        /* shape of its gamma noise: 1 / variance */
	double level;        /* of drifting ones, factor */
	uint32_t period, phase, busy;
	uint64_t on_until, next;
	bool on, state_used;
	bool vanished;        /* by a fault */
	uint64_t last_active; /* tick; NEVER before the first */
	uint64_t made;        /* tick */
	bool any;             /* it has values in this tick */
};

/* What a unit really does, which samples say something of: seconds, and faults, a second. */
struct unit {
	double sparse; /* CPU time of its sparse series */
	double cpu, delay, faults;
};

struct world {
	struct world_config config;
	struct detect *detect;
	void *global;
	uint8_t *states;
	size_t state_size;
	struct source *sources;
	uint64_t (*values)[METRIC_N];
	uint32_t *wake;  /* tick at which a series is looked at next */
	uint32_t *awake; /* those of this tick, n_awake */
	size_t n_awake;
	struct unit units[UNITS_MAX];
	uint32_t n_units;
	uint32_t n, scored; /* scored: the series that the detector is at */
	world_evidence_fn evidence;
	void *evidence_userdata;
	struct random random, unit_random;
	uint64_t tick;
	double load, surge;
	double daily, queueing; /* of this tick: what the hour and the load make of what series do */
	uint64_t surge_until;
	bool gate_open;
	uint64_t gate_until;
	struct fault *faults[FAULTS_MAX];
	size_t n_faults;
	const struct fault *starvation; /* of this tick; NULL: none */
	struct fault *now[FAULTS_MAX];  /* those of this tick, n_now */
	size_t n_now;
};

const char *fault_to_string(enum fault_kind k)
{
	return fault_names[k];
}

/* ---- what series do ---- */

static void make_source(struct world *w, struct source *s, enum kind kind)
{
	*s = (struct source){
		.kind = kind, .level = 1, .noise = random_log_uniform(&w->random, 2, 60), .last_active = NEVER, .made = w->tick,
	};
	switch (kind) {
	case KIND_SPARSE:
		s->rate = random_log_uniform(&w->random, 1e-5, 2e-3);
		break;
	case KIND_STEADY:
	case KIND_DRIFTING:
		s->rate = random_log_uniform(&w->random, 0.005, 0.8);
		s->wait = random_log_uniform(&w->random, 0.01, 4);
		s->faults = random_uniform(&w->random) < 0.3 ? random_log_uniform(&w->random, 1, 1000) : 0;
		break;
	case KIND_BURSTY:
		s->rate = random_log_uniform(&w->random, 0.02, 0.5);
		s->wait = random_uniform(&w->random) < 0.5 ? random_log_uniform(&w->random, 0.01, 1) : 0;
		s->faults = random_uniform(&w->random) < 0.5 ? random_log_uniform(&w->random, 10, 10000) : 0;
		s->noise = 1.5;
		break;
	case KIND_PERIODIC:
		s->period = (uint32_t)random_log_uniform(&w->random, 10, 900);
		s->busy = MAX(s->period / 8, 1u);
		s->phase = (uint32_t)(random_uniform(&w->random) * s->period);
		s->rate = random_log_uniform(&w->random, 0.02, 1);
		s->faults = random_uniform(&w->random) < 0.3 ? random_log_uniform(&w->random, 10, 5000) : 0;
		break;
	case KIND_CRON:
		s->period = 900 << (random_u64(&w->random) % 6);
		s->busy = (uint32_t)random_log_uniform(&w->random, 2, 60);
		s->phase = (uint32_t)(random_uniform(&w->random) * s->period);
		s->rate = random_log_uniform(&w->random, 0.1, 1);
		s->faults = random_log_uniform(&w->random, 10, 20000);
		break;
	case KIND_BLOCKING:
		s->wait = random_log_uniform(&w->random, 0.001, 2);
		s->noise = random_log_uniform(&w->random, 1, 30);
		break;
	default:
		s->rate = random_log_uniform(&w->random, 0.002, 1);
		s->faults = random_log_uniform(&w->random, 1, 5000);
		s->on = true;
		s->on_until = w->tick + 1 + (uint64_t)random_log_uniform(&w->random, 1, 300);
	}
}

static double sample_hz(const struct world *w)
{
	return w->gate_open ? OPEN_HZ : BASELINE_HZ;
}

/* How much of its usual the source does now; 0 = nothing. */
static double activity(struct world *w, struct source *s)
{
	switch (s->kind) {
	case KIND_STEADY:
	case KIND_BLOCKING:
		return random_gamma(&w->random, s->noise);
	case KIND_DRIFTING:
		s->level *= exp(0.003 * random_normal(&w->random) - 0.002 * log(s->level) / 10);
		return s->level * random_gamma(&w->random, s->noise);
	case KIND_BURSTY:
		if (w->tick >= s->on_until) {
			s->on = !s->on;
			s->on_until = w->tick + 1 + (uint64_t)random_exponential(&w->random, s->on ? 10 : 200);
			/* Pareto heights */
			s->level = s->on ? MIN(pow(random_uniform(&w->random), -0.6), 40.0) : 1;
		}
		return s->on ? s->level * random_gamma(&w->random, s->noise) : 0;
	case KIND_PERIODIC:
	case KIND_CRON:
		return (w->tick + s->phase) % s->period < s->busy ? random_gamma(&w->random, s->noise) : 0;
	case KIND_TRANSIENT:
		return w->tick < s->on_until ? random_gamma(&w->random, s->noise) : 0;
	default:
		return 0;
	}
}

/* Samples of a quantity whose kernel-side sampling gives each the weight. */
static uint64_t sampled(struct world *w, double per_second, double weight)
{
	return (uint64_t)((double)random_poisson(&w->random, per_second / weight) * weight);
}

static struct fault *fault_of(const struct world *w, uint32_t series, enum fault_kind kind)
{
	for (size_t i = 0; i < w->n_now; i++)
		if (w->now[i]->series == series && w->now[i]->kind == kind)
			return w->now[i];
	return NULL;
}

static void choose_faults(struct world *w)
{
	w->n_now = 0;
	w->starvation = NULL;
	for (size_t i = 0; i < MIN(w->n_faults, (size_t)FAULTS_MAX); i++) {
		struct fault *f = w->faults[i];

		/* the same memory may have been used again */
		if (w->tick < f->from || w->tick >= f->until || fault_of(w, f->series, f->kind))
			continue;
		w->now[w->n_now++] = f;
		if (f->kind == FAULT_STARVATION)
			w->starvation = f;
		/* What is there for the fault only has nothing else to wake it. */
		w->wake[f->series] = (uint32_t)w->tick;
	}
}

static void sparse_next(struct world *w, struct source *s)
{
	/* the time of the next sample, whose rate is the gate's */
	s->next = w->tick + 1 + (uint64_t)random_exponential(&w->random, 1 / (s->rate * sample_hz(w)));
}

static struct unit *unit_of(struct world *w, uint32_t series)
{
	return &w->units[series % w->n_units];
}

static uint64_t unit_key(const struct world *w, uint32_t series)
{
	return 1 + series % w->n_units;
}

/* A stack that is there for the fault only. */
static bool is_culprit(const struct world *w, uint32_t series)
{
	return fault_of(w, series, FAULT_STARVATION) || fault_of(w, series, FAULT_NEW_SPIN);
}

/* What it really does, CPUs, threads, and faults a second. */
struct activity {
	double cpu, wait, delay, faults;
};

static void suffer(struct world *w, uint32_t i, struct activity *a)
{
	if (fault_of(w, i, FAULT_SPIN))
		a->cpu += 1;
	if (is_culprit(w, i)) {
		a->cpu = CPUS;
		a->delay = w->starvation ? STARVING_TASKS * CPUS : 0;
	} else if (w->starvation)
		a->delay += 150 * a->cpu; /* slices of 3 ms */
	if (fault_of(w, i, FAULT_BLOCKED))
		a->wait = 20 * a->wait + 2;
	if (fault_of(w, i, FAULT_STORM))
		a->faults += 200000;
	if (fault_of(w, i, FAULT_SHIFT)) {
		a->cpu *= 5;
		a->wait *= 5;
	}
	if (fault_of(w, i, FAULT_VANISHED))
		*a = (struct activity){ 0 };
}

/* How much better another hour explains what there is than this one does. */
static double other_hours(const struct world *w, const struct source *s, double samples, double n, double wait)
{
	double best = 0;

	for (double hour = 1 - DAILY; w->config.daily && hour < 1 + 1.01 * DAILY; hour += DAILY / 4)
		best = MAX(best, samples > 0 ? visible_samples(n, s->rate * w->daily * samples, s->noise, hour / w->daily, 0)
					     : visible_times(wait, s->wait * w->daily, s->noise, hour / w->daily, 0));
	return best;
}

/* What one could tell of a fault from what its series has in this tick who knows how it does what it does, but not that it is not the hour for more.
 * Of waits only those of some threads for whole ticks: of others the daemon sees little with the gate closed. */
static void look(struct world *w, struct fault *f, const struct source *s, const uint64_t values[static METRIC_N], double kept)
{
	double samples = sample_hz(w) * kept, usual = s->rate * w->daily * samples, n = (double)values[METRIC_HITS];
	double wait = (double)values[METRIC_BLOCKED] / 1e9 / kept;

	switch (f->kind) {
	case FAULT_SPIN:
		f->evidence += visible_samples(n, usual, s->noise, 1, samples) - other_hours(w, s, samples, n, 0);
		break;
	case FAULT_SHIFT:
		f->evidence += visible_samples(n, usual, s->noise, 5, 0) - other_hours(w, s, samples, n, 0);
		break;
	case FAULT_VANISHED:
		f->evidence += visible_samples(n, usual, s->noise, 0, 0) - other_hours(w, s, samples, n, 0);
		break;
	case FAULT_BLOCKED:
		f->evidence += visible_times(wait, s->wait * w->daily, s->noise, 20, 2) - other_hours(w, s, 0, 0, wait);
		break;
	default:
		/* By far more than ever before. */
		f->evidence = INFINITY;
	}
	f->evidence = MAX(f->evidence, 0);
	if (f->evidence >= visible_needed(w->config.n_series, w->config.false_alarms_per_day))
		f->visible = w->tick;
}

static void look_at_faults(struct world *w, uint32_t series, const uint64_t values[static METRIC_N], double kept)
{
	for (size_t i = 0; i < w->n_now; i++)
		if (w->now[i]->series == series && !w->now[i]->visible)
			look(w, w->now[i], &w->sources[series], values, kept);
}

static void produce(struct world *w, uint32_t i, uint64_t values[static METRIC_N], double lost)
{
	struct source *s = &w->sources[i];
	double hz = sample_hz(w), a, daily;
	struct activity now;
	struct unit *u = unit_of(w, i);

	memset(values, 0, METRIC_N * sizeof(*values));
	if (s->kind == KIND_SPARSE) {
		if (s->next > w->tick)
			return;
		sparse_next(w, s);
		values[METRIC_HITS] = 1;
		values[METRIC_ON_CPU] = (uint64_t)(1e9 / hz);
		return;
	}
	a = activity(w, s);
	if (a <= 0 && w->n_now == 0)
		return;
	daily = s->kind != KIND_CRON ? w->daily : 1;
	now = (struct activity){ .cpu = s->rate * a * daily, .wait = s->wait * a * daily, .faults = s->faults * a * daily };
	/* the busier the machine, the longer the wait for a CPU */
	now.delay = now.cpu > 0 ? now.cpu * w->queueing * random_gamma(&w->random, 3) : 0;
	if (w->n_now > 0)
		suffer(w, i, &now);
	if (now.cpu > 0) {
		values[METRIC_HITS] = random_poisson(&w->random, now.cpu * hz * (1 - lost));
		values[METRIC_ON_CPU] = (uint64_t)((double)values[METRIC_HITS] * 1e9 / hz);
	}
	values[METRIC_BLOCKED] = (uint64_t)(now.wait * 1e9 * (1 - lost));
	values[METRIC_RUNNABLE] = (uint64_t)(now.delay * 1e9 * (1 - lost));
	if (now.faults > 0)
		values[METRIC_FAULTS_MINOR] = sampled(w, now.faults * (1 - lost), w->gate_open ? 20 : 400);
	u->cpu += now.cpu;
	u->delay += now.delay;
	u->faults += now.faults;
	if (w->n_now > 0)
		look_at_faults(w, i, values, 1 - lost);
}

/* ---- the machine ---- */

static void move_load(struct world *w)
{
	double base = 1;
	bool open;

	if (w->config.daily)
		base += 1.2 + 1.2 * sin(2 * M_PI * (double)(w->tick % DAY) / DAY);
	if (w->config.surge_every > 0 && w->tick >= w->surge_until &&
	    random_uniform(&w->random) < 1 / w->config.surge_every) {
		w->surge = random_log_uniform(&w->random, 3, 12);
		w->surge_until = w->tick + (uint64_t)random_log_uniform(&w->random, 10, 1200);
	}
	if (w->tick >= w->surge_until)
		w->surge = 0;
	w->load += (base + w->surge - w->load) * 0.3 + 0.1 * random_normal(&w->random);
	w->load = MAX(w->load, 0.1);
	w->queueing = 0.05 * pow(w->load, 1.5);
	w->daily = w->config.daily ? 1 + DAILY * sin(2 * M_PI * (double)(w->tick % DAY) / DAY) : 1;
	open = w->gate_open ? w->load > 4 || w->tick < w->gate_until : w->load > 5;
	if (open != w->gate_open) {
		w->gate_open = open;
		w->gate_until = w->tick + 10;
		for (uint32_t i = 0; i < w->n; i++)
			if (w->sources[i].kind == KIND_SPARSE) {
				sparse_next(w, &w->sources[i]);
				/* one that is watched is so still */
				if (w->wake[i] > w->tick)
					w->wake[i] = (uint32_t)w->sources[i].next;
			}
	}
}

/* Short-lived programs: their series are new each time. */
static void move_transients(struct world *w)
{
	uint32_t first = w->config.n_series;

	if (random_uniform(&w->random) > 0.05)
		return;
	for (uint32_t i = first; i < w->n - FAULTS_MAX; i++) {
		struct source *s = &w->sources[i];

		if (s->state_used && w->tick < s->last_active + WORLD_LIVE_TICKS + 1)
			continue;
		make_source(w, s, KIND_TRANSIENT);
		memset(w->states + i * w->state_size, 0, w->state_size);
		s->state_used = true;
		s->last_active = w->tick;
		w->wake[i] = (uint32_t)w->tick;
		return;
	}
}

/* The next tick in which the source may do something. */
static uint32_t next_sign(const struct world *w, const struct source *s)
{
	uint64_t next = w->tick + 1, at;

	switch (s->kind) {
	case KIND_SPARSE:
		return (uint32_t)MIN(s->next, (uint64_t)ASLEEP);
	case KIND_BURSTY:
		return (uint32_t)(s->on ? next : MAX(s->on_until, next));
	case KIND_PERIODIC:
	case KIND_CRON:
		at = (next + s->phase) % s->period;
		return (uint32_t)(at < s->busy ? next : next + s->period - at);
	case KIND_TRANSIENT:
		return next < s->on_until ? (uint32_t)next : ASLEEP;
	default:
		return (uint32_t)next;
	}
}

static void find_awake(struct world *w)
{
	const uint32_t *wake = w->wake, now = (uint32_t)w->tick, series = w->n;
	uint32_t *awake = w->awake;
	size_t n = 0;

	for (uint32_t i = 0; i < series; i++) {
		awake[n] = i;
		n += wake[i] <= now;
	}
	w->n_awake = n;
}

static void fetch(const struct world *w, size_t k)
{
	const uint8_t *state = w->states + w->awake[MIN(k, w->n_awake - 1)] * w->state_size;

	for (size_t at = 0; at < w->state_size; at += 64)
		__builtin_prefetch(state + at);
}

static void produce_all(struct world *w, double lost)
{
	for (uint32_t i = 0; i < w->n_units; i++) {
		struct unit *u = &w->units[i];

		u->cpu = u->sparse > 0 && w->config.units ? u->sparse * random_gamma(&w->unit_random, 10) : 0;
		u->delay = u->cpu * w->queueing;
		u->faults = 0;
	}
	find_awake(w);
	for (size_t k = 0; k < w->n_awake; k++) {
		uint32_t i = w->awake[k];
		struct source *s = &w->sources[i];
		uint64_t any = 0;

		s->any = false;
		/* the last ones are for stacks never seen before a fault */
		if (i >= w->config.n_series && !s->state_used && !is_culprit(w, i))
			continue;
		produce(w, i, w->values[i], lost);
		for (unsigned m = 0; m < METRIC_N; m++)
			any |= w->values[i][m];
		s->any = any;
	}
}

static void add_totals(struct world *w)
{
	for (uint32_t i = 0; i < w->n_units; i++) {
		const struct unit *u = &w->units[i];
		/* the kernel's accounts are read while time goes on */
		double jitter = 1e9 * (1 + 0.01 * random_normal(&w->unit_random));
		const uint64_t values[METRIC_N] = {
			[METRIC_ON_CPU] = (uint64_t)(u->cpu * jitter),
			[METRIC_RUNNABLE] = (uint64_t)(u->delay * jitter),
			[METRIC_FAULTS_MINOR] = (uint64_t)u->faults,
		};

		(void)detect_add_total(w->detect, unit_key(w, i), values);
	}
}

static void tell_totals(struct world *w, scored_fn fn, void *userdata)
{
	struct scored scored = { .tick = w->tick, .series = WORLD_TOTAL };

	if (detect_totals(w->detect, &scored.unit, &scored.result))
		fn(userdata, &scored);
}

static void tell_waits(struct world *w, scored_fn fn, void *userdata)
{
	struct scored scored = { .tick = w->tick, .series = WORLD_TOTAL };

	if (detect_moved_waits(w->detect, &scored.unit, &scored.result))
		fn(userdata, &scored);
}

static void add_wait(struct world *w, uint32_t i, uint32_t silent)
{
	const struct source *s = &w->sources[i];
	void *state = w->states + i * w->state_size;
	double rise = detect_wait_rise(w->detect, state, w->values[i][METRIC_BLOCKED], silent);

	detect_add_wait(w->detect, unit_key(w, i), state, w->values[i][METRIC_BLOCKED], rise, i < w->config.n_series ? SETTLED : (double)(w->tick - s->made));
}

static void observe(struct world *w, uint32_t i, scored_fn fn, void *userdata)
{
	static const uint64_t nothing[METRIC_N];
	struct source *s = &w->sources[i];
	struct scored scored = { .tick = w->tick, .series = i };
	uint32_t silent = 0;

	if (!s->any && w->tick - s->last_active > WORLD_LIVE_TICKS)
		return;
	if (s->any && s->last_active != NEVER && w->tick - s->last_active > WORLD_LIVE_TICKS + 1)
		silent = (uint32_t)(w->tick - s->last_active - WORLD_LIVE_TICKS - 1);
	if (s->any)
		s->last_active = w->tick;
	else
		memcpy(w->values[i], nothing, sizeof(nothing));
	w->scored = i;
	if (w->config.units)
		add_wait(w, i, silent);
	if (detect_series(w->detect, w->states + i * w->state_size, w->values[i], silent, &scored.result))
		fn(userdata, &scored);
}

/* Whether it is to be visited in the next tick, whatever it does. */
static bool is_watched(const struct world *w, const struct source *s)
{
	return s->last_active != NEVER && w->tick - s->last_active < WORLD_LIVE_TICKS;
}

void world_tick(struct world *w, scored_fn fn, void *userdata)
{
	struct detect_tick tick = {
		.time_us = T0 + w->tick * USEC_PER_SEC,
		.duration_ns = NSEC_PER_SEC,
		.online_cpus = CPUS,
	};

	move_load(w);
	move_transients(w);
	choose_faults(w);
	tick.load = w->load;
	tick.gate_open = w->gate_open;
	if (w->config.lossy && random_uniform(&w->random) < 0.01)
		tick.lost_fraction = 0.9 * random_uniform(&w->random);
	produce_all(w, tick.lost_fraction);
	if (w->config.units)
		add_totals(w);
	detect_tick_begin(w->detect, &tick);
	if (w->config.units)
		tell_totals(w, fn, userdata);
	for (size_t k = 0; k < w->n_awake; k++) {
		uint32_t i = w->awake[k];
		struct source *s = &w->sources[i];

		fetch(w, k + AHEAD);
		if (s->any || s->last_active != NEVER)
			observe(w, i, fn, userdata);
		w->wake[i] = is_watched(w, s) ? (uint32_t)w->tick + 1 : next_sign(w, s);
	}
	if (w->config.units)
		tell_waits(w, fn, userdata);
	detect_tick_end(w->detect);
	w->tick++;
}

int world_new(struct world **ret, const struct world_config *config)
{
	/* in per cent: most stacks are rare */
	static const unsigned shares[KIND_TRANSIENT] = { 70, 7, 6, 4, 3, 4, 6 };
	struct detect_config detect_config = { .false_alarms_per_day = config->false_alarms_per_day };
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->config = *config;
	w->random.state = config->seed;
	w->unit_random.state = ~config->seed;
	w->n_units = MIN(config->n_series / UNIT_SERIES + 1, UNITS_MAX);
	w->n = config->n_series + TRANSIENTS + FAULTS_MAX;
	w->state_size = detect_series_state_size();
	w->sources = calloc(w->n, sizeof(*w->sources));
	w->states = calloc(w->n, w->state_size);
	w->values = calloc(w->n, sizeof(*w->values));
	w->wake = calloc(w->n, sizeof(*w->wake));
	w->awake = calloc(w->n, sizeof(*w->awake));
	w->global = calloc(1, detect_global_state_size());
	if (!w->sources || !w->states || !w->values || !w->wake || !w->awake || !w->global ||
	    detect_new(&w->detect, &detect_config, w->global) < 0) {
		world_free(w);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < config->n_series; i++) {
		unsigned at = (unsigned)(random_u64(&w->random) % 100), kind = 0;

		while (at >= shares[kind])
			at -= shares[kind++];
		make_source(w, &w->sources[i], kind);
		if (kind == KIND_SPARSE) {
			sparse_next(w, &w->sources[i]);
			unit_of(w, i)->sparse += w->sources[i].rate;
		}
	}
	for (uint32_t i = config->n_series; i < w->n; i++)
		make_source(w, &w->sources[i], KIND_TRANSIENT);
	*ret = w;
	return 0;
}

struct world *world_free(struct world *w)
{
	if (!w)
		return NULL;
	detect_free(w->detect);
	free(w->global);
	free(w->states);
	free(w->awake);
	free(w->wake);
	free(w->values);
	free(w->sources);
	free(w);
	return NULL;
}

static double evidence(void *userdata, enum metric metric, bool rises)
{
	const struct world *w = userdata;

	return w->evidence(w->evidence_userdata, w->scored, metric, rises);
}

void world_set_evidence(struct world *w, world_evidence_fn fn, void *userdata)
{
	w->evidence = fn;
	w->evidence_userdata = userdata;
	detect_set_evidence(w->detect, evidence, w);
}

void world_add_fault(struct world *w, struct fault *fault)
{
	enum kind kind = fault->kind == FAULT_BLOCKED ? KIND_BLOCKING : KIND_STEADY;

	fault->found = fault->visible = 0;
	fault->evidence = 0;
	if (fault->kind == FAULT_NEW_SPIN || fault->kind == FAULT_STARVATION) {
		fault->series = w->n - FAULTS_MAX + (uint32_t)(w->n_faults % FAULTS_MAX);
		memset(w->states + fault->series * w->state_size, 0, w->state_size);
		w->sources[fault->series].last_active = NEVER;
	} else
		/* of those that this kind of fault would change beyond their own ways: a spin is nothing
		 * in what fills a CPU anyway */
		do
			fault->series = (uint32_t)(random_u64(&w->random) % w->config.n_series);
		while (w->sources[fault->series].kind != kind || w->sources[fault->series].rate > 0.3);
	w->faults[w->n_faults++ % FAULTS_MAX] = fault;
}

bool world_explains(const struct world *w, const struct fault *f, const struct scored *s)
{
	if (f->until == 0 || s->tick < f->from || s->tick > f->until + WORLD_LIVE_TICKS)
		return false;
	if (f->kind == FAULT_STARVATION && s->result.metric == METRIC_RUNNABLE)
		return true;
	return s->series == WORLD_TOTAL ? s->unit == unit_key(w, f->series) || s->unit == 0 : s->series == f->series;
}

const uint64_t *world_values(const struct world *w, uint32_t series)
{
	return w->values[series];
}

const void *world_state(const struct world *w, uint32_t series)
{
	return w->states + series * w->state_size;
}

uint64_t world_unit(const struct world *w, uint32_t series)
{
	return unit_key(w, series);
}

uint32_t world_most(const struct world *w, uint64_t unit, enum metric metric)
{
	uint32_t most = unit > 0 ? (uint32_t)unit - 1 : 0;

	for (uint32_t i = 0; i < w->n; i++)
		if ((unit == 0 || unit_key(w, i) == unit) && w->values[i][metric] > w->values[most][metric])
			most = i;
	return most;
}

uint64_t world_now(const struct world *w)
{
	return w->tick;
}

bool world_gate_open(const struct world *w)
{
	return w->gate_open;
}

const struct detect *world_detect(const struct world *w)
{
	return w->detect;
}

const char *world_series_kind(const struct world *w, uint32_t series)
{
	return series == WORLD_TOTAL ? "unit's" : kind_names[w->sources[series].kind];
}

void world_restart_detector(struct world *w)
{
	struct detect_config config = { .false_alarms_per_day = w->config.false_alarms_per_day };
	void *global = malloc(detect_global_state_size());
	uint8_t *states = malloc(w->n * w->state_size);

	memcpy(global, w->global, detect_global_state_size());
	memcpy(states, w->states, w->n * w->state_size);
	w->detect = detect_free(w->detect);
	free(w->global);
	free(w->states);
	w->global = global;
	w->states = states;
	if (detect_new(&w->detect, &config, w->global) < 0)
		abort();
}

uint64_t world_state_hash(const struct world *w)
{
	return hash64(w->states, w->n * w->state_size, hash64(w->global, detect_global_state_size(), 0));
}
