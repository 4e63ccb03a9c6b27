/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "random.h"
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
};

struct world {
	struct world_config config;
	struct detect *detect;
	void *global;
	uint8_t *states;
	size_t state_size;
	struct source *sources;
	uint32_t n, scored; /* scored: the series that the detector is at */
	world_evidence_fn evidence;
	void *evidence_userdata;
	struct random random;
	uint64_t tick;
	double load, surge;
	double daily, queueing; /* of this tick: what the hour and the load make of what series do */
	uint64_t surge_until;
	bool gate_open;
	uint64_t gate_until;
	struct fault *faults[FAULTS_MAX];
	size_t n_faults;
};

const char *fault_to_string(enum fault_kind k)
{
	return fault_names[k];
}

/* ---- what series do ---- */

static void make_source(struct world *w, struct source *s, enum kind kind)
{
	*s = (struct source){
		.kind = kind, .level = 1, .noise = random_log_uniform(&w->random, 2, 60), .last_active = NEVER
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

static const struct fault *fault_of(const struct world *w, uint32_t series, enum fault_kind kind)
{
	for (size_t i = 0; i < MIN(w->n_faults, (size_t)FAULTS_MAX); i++) {
		const struct fault *f = w->faults[i];

		if (f->kind == kind && (f->series == series || kind == FAULT_STARVATION) &&
		    w->tick >= f->from && w->tick < f->until)
			return f;
	}
	return NULL;
}

static void sparse_next(struct world *w, struct source *s)
{
	/* the time of the next sample, whose rate is the gate's */
	s->next = w->tick + 1 + (uint64_t)random_exponential(&w->random, 1 / (s->rate * sample_hz(w)));
}

static void produce(struct world *w, uint32_t i, uint64_t values[static METRIC_N], double lost)
{
	struct source *s = &w->sources[i];
	double hz = sample_hz(w), cpu, wait, faults, delay, a, daily;

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
	if (a <= 0 && !w->n_faults)
		return;
	daily = s->kind != KIND_CRON ? w->daily : 1;
	cpu = s->rate * a * daily;
	wait = s->wait * a * daily;
	faults = s->faults * a * daily;
	/* the busier the machine, the longer the wait for a CPU */
	delay = cpu > 0 ? cpu * w->queueing * random_gamma(&w->random, 3) : 0;
	if (w->n_faults) {
		if (fault_of(w, i, FAULT_SPIN))
			cpu += 1;
		if (fault_of(w, i, FAULT_NEW_SPIN))
			cpu = CPUS;
		if (fault_of(w, i, FAULT_BLOCKED))
			wait = 20 * wait + 2;
		if (fault_of(w, i, FAULT_STARVATION))
			delay += 150 * cpu; /* some 60 more tasks on each CPU, slices of 3 ms */
		if (fault_of(w, i, FAULT_STORM))
			faults += 200000;
		if (fault_of(w, i, FAULT_SHIFT)) {
			cpu *= 5;
			wait *= 5;
		}
		if (fault_of(w, i, FAULT_VANISHED))
			cpu = wait = faults = delay = 0;
	}
	if (cpu > 0) {
		values[METRIC_HITS] = random_poisson(&w->random, cpu * hz * (1 - lost));
		values[METRIC_ON_CPU] = (uint64_t)((double)values[METRIC_HITS] * 1e9 / hz);
	}
	values[METRIC_BLOCKED] = (uint64_t)(wait * 1e9 * (1 - lost));
	values[METRIC_RUNNABLE] = (uint64_t)(delay * 1e9 * (1 - lost));
	if (faults > 0)
		values[METRIC_FAULTS_MINOR] = sampled(w, faults * (1 - lost), w->gate_open ? 20 : 400);
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
	w->daily = w->config.daily ? 1 + 0.8 * sin(2 * M_PI * (double)(w->tick % DAY) / DAY) : 1;
	open = w->gate_open ? w->load > 4 || w->tick < w->gate_until : w->load > 5;
	if (open != w->gate_open) {
		w->gate_open = open;
		w->gate_until = w->tick + 10;
		for (uint32_t i = 0; i < w->n; i++)
			if (w->sources[i].kind == KIND_SPARSE)
				sparse_next(w, &w->sources[i]);
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
		return;
	}
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
	tick.load = w->load;
	tick.gate_open = w->gate_open;
	if (w->config.lossy && random_uniform(&w->random) < 0.01)
		tick.lost_fraction = 0.9 * random_uniform(&w->random);
	detect_tick_begin(w->detect, &tick);
	for (uint32_t i = 0; i < w->n; i++) {
		struct source *s = &w->sources[i];
		uint64_t values[METRIC_N], any = 0;
		struct scored scored = { .tick = w->tick, .series = i };
		uint32_t silent = 0;

		/* the last ones are for stacks never seen before a fault */
		if (i >= w->config.n_series && !s->state_used && !fault_of(w, i, FAULT_NEW_SPIN))
			continue;
		produce(w, i, values, tick.lost_fraction);
		for (unsigned m = 0; m < METRIC_N; m++)
			any |= values[m];
		if (!any && (s->last_active == NEVER || w->tick - s->last_active > WORLD_LIVE_TICKS))
			continue;
		if (any && s->last_active != NEVER && w->tick - s->last_active > WORLD_LIVE_TICKS + 1)
			silent = (uint32_t)(w->tick - s->last_active - WORLD_LIVE_TICKS - 1);
		if (any)
			s->last_active = w->tick;
		w->scored = i;
		if (detect_series(w->detect, w->states + i * w->state_size, values, silent, &scored.result))
			fn(userdata, &scored);
	}
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
	w->n = config->n_series + TRANSIENTS + FAULTS_MAX;
	w->state_size = detect_series_state_size();
	w->sources = calloc(w->n, sizeof(*w->sources));
	w->states = calloc(w->n, w->state_size);
	w->global = calloc(1, detect_global_state_size());
	if (!w->sources || !w->states || !w->global ||
	    detect_new(&w->detect, &detect_config, w->global) < 0) {
		world_free(w);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < config->n_series; i++) {
		unsigned at = (unsigned)(random_u64(&w->random) % 100), kind = 0;

		while (at >= shares[kind])
			at -= shares[kind++];
		make_source(w, &w->sources[i], kind);
		if (kind == KIND_SPARSE)
			sparse_next(w, &w->sources[i]);
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

	fault->found = 0;
	if (fault->kind == FAULT_NEW_SPIN) {
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
	return kind_names[w->sources[series].kind];
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
