/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "machine.h"
#include "random.h"
#include "visible.h"

#define T0 1700000000000000ULL
#define DAY 86400.0
#define LIVE_TICKS 60 /* as the daemon's pipeline */
#define FUNCTIONS_MAX 24
#define SPIN_THREADS 7      /* a CPU: what opens the gate */
#define CLOSE_AFTER 5       /* ticks */
#define CLOSE_SHARE 0.8     /* of what opens */
#define FAULTS_WEIGHT 20    /* page faults a sample */
#define STARVING_THREADS 30 /* a CPU */
#define LEAK_GROWS 20.0     /* faults a second more, each second: 80 KiB/s */
#define STORM_FAULTS 50000.0
#define SLOW_LEAK (4096 * 200.0) /* bytes a second */
#define MEMORY_OF_CPU (4ULL << 30)
/* What a program does changes: the functions' weights wander about by so much, as ln, in so long, seconds. */
#define WEIGHT_WANDERS 0.2
#define WEIGHT_MEMORY 900.0
#define WANDERS_EVERY 16 /* ticks */
#define DEPLOY_TICKS 1800 /* for which a deploy is news: a program of few samples takes that long to show it */
#define STOPPED 1 /* the function that is called no more */
#define ROOT 1 /* the function that is on every stack of a program */

enum kind { KIND_SERVICE, KIND_IDLE, KIND_SERVER, KIND_BURSTY, KIND_TIMER, KIND_DRIFTING, KIND_JOB, KIND_DEPLOYED, KIND_N };

static const char *const kind_names[KIND_N] = {
	"service", "idle", "server", "bursty", "timer", "drifting", "job", "deployed",
};

static const char *const trouble_names[TROUBLE_N] = {
	[TROUBLE_SERVICE_SPINS] = "a service takes all CPUs",
	[TROUBLE_NEW_UNIT_SPINS] = "a new unit takes all CPUs",
	[TROUBLE_SPIN] = "CPU spin in one function",
	[TROUBLE_CONVOY] = "lock convoy",
	[TROUBLE_IO_STALL] = "I/O stall",
	[TROUBLE_STARVATION] = "run-queue starvation",
	[TROUBLE_LEAK] = "leak, ever faster",
	[TROUBLE_SLOW_LEAK] = "slow leak",
	[TROUBLE_FAULT_STORM] = "fault storm",
	[TROUBLE_STOPPED] = "function that stops",
	[TROUBLE_LATE] = "periodic job late",
	[TROUBLE_DEPLOY] = "deploy of half the functions",
};

/* How a program's memory goes. */
enum memory_kind {
	MEMORY_FLAT,
	MEMORY_WITH_WORK, /* as much as it does */
	MEMORY_COLLECTED, /* grows, and is given back at times */
	MEMORY_CACHE,     /* fills, and then is full */
	MEMORY_CREEPS,    /* ever slower */
	MEMORY_N,
};

struct memory {
	enum memory_kind kind;
	double base, most;     /* bytes */
	double period;         /* seconds in which it comes to most */
	double since;          /* seconds at which it was base */
	double work;           /* slow mean of what it does */
	double leaked;
	int64_t told;          /* to the detector */
};

/* A stack of a program: one series. */
struct function {
	double usual, weight; /* of the program's time */
	uint64_t key;         /* of the function, and of its series */
	bool met;             /* in a sample since it has that key, in a trouble */
	void *state;
	uint64_t last_active; /* tick; 0 = never */
};

struct program {
	enum kind kind;
	double cpu;           /* what it wants when it does something, CPUs */
	double noise;         /* shape of its gamma noise */
	double faults;        /* a CPU second */
	double level;
	double period, busy, next, until; /* seconds */
	bool on, there;
	uint64_t deployed;    /* tick */
	unsigned threads;
	double started;       /* seconds at which its process was */
	struct function idle, disk; /* where its threads wait for work, and what for while they do it */
	double disk_waits;    /* a CPU's worth of work */
	unsigned n_functions;
	struct function functions[FUNCTIONS_MAX];
	struct memory memory;
	/* of this tick */
	double wants, got, waits, faulted;
	/* what a trouble adds to one function: CPUs, faults a second, threads that wait for longer than a tick */
	struct {
		unsigned function;
		double cpu, faults, stuck;
	} extra;
};

struct machine {
	struct machine_config config;
	struct random random, memory_random, wait_random, weight_random;
	uint64_t functions; /* so far */
	unsigned deploys;
	struct detect *detect;
	void *global;
	size_t state_size;
	struct program *programs;
	unsigned n; /* the last one is the unit that only a trouble starts, the first the one that troubles befall */
	uint64_t tick;
	double seconds, troubled_at, load, stolen;
	bool gate_open;
	unsigned calm; /* ticks below what closes the gate */
	bool troubled;
	enum trouble trouble;
	unsigned victim;
	double evidence;  /* of the trouble: -ln of the odds that there is none */
	uint64_t visible; /* tick */
	uint64_t troubled_from, functions_before; /* tick; functions that there were */
	double due;       /* when a program that comes late should have come, seconds */
};

const char *trouble_to_string(enum trouble t)
{
	return trouble_names[t];
}

/* ---- programs ---- */

static void make_functions(struct machine *m, struct program *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct function *f = &p->functions[i];

		free(f->state);
		*f = (struct function){ .usual = 1 / pow(i + 1, 1.2), .state = calloc(1, m->state_size), .key = ++m->functions };
		f->weight = f->usual;
	}
	p->n_functions = n;
}

static double memory_of(const struct machine *m)
{
	return (double)m->config.cpus * MEMORY_OF_CPU;
}

static void make_memory(struct machine *m, struct program *p)
{
	struct random *r = &m->memory_random;
	double base = random_log_uniform(r, 2 << 20, memory_of(m) / 64);

	p->memory = (struct memory){
		.kind = random_u64(r) % MEMORY_N,
		.base = base,
		.most = base * (1 + random_log_uniform(r, 0.2, 4)),
		.period = random_log_uniform(r, 30, 7200),
	};
}

static void make_program(struct machine *m, struct program *p, enum kind kind)
{
	struct random *r = &m->random;

	p->kind = kind;
	p->there = true;
	p->level = 1;
	p->noise = random_log_uniform(r, 3, 60);
	p->faults = random_log_uniform(r, 10, 3000);
	p->threads = 1 + (unsigned)random_log_uniform(r, 1, 16);
	p->cpu = random_log_uniform(r, 0.002, 0.15 * m->config.cpus);
	switch (kind) {
	case KIND_SERVICE:
		p->cpu = m->config.service_cpu;
		p->threads = SPIN_THREADS * m->config.cpus;
		break;
	case KIND_IDLE:
		p->period = random_log_uniform(r, 2, 120); /* between times it wakes */
		p->cpu = random_log_uniform(r, 0.0005, 0.02);
		break;
	case KIND_TIMER:
		p->period = random_log_uniform(r, 10, 900);
		p->busy = random_log_uniform(r, 0.1, MIN(10.0, p->period / 4));
		p->cpu = random_uniform(r);
		p->next = p->period * random_uniform(r);
		break;
	case KIND_JOB:
		p->period = 900 << (random_u64(r) % 6);
		p->busy = random_log_uniform(r, 2, 120);
		p->cpu = 0.5 + 0.5 * random_uniform(r);
		p->next = p->period * random_uniform(r);
		break;
	case KIND_DEPLOYED:
		p->period = 4 * 3600 * (1 + random_uniform(r));
		p->next = p->period * random_uniform(r);
		break;
	default:
		break;
	}
	make_functions(m, p, 4 + random_u64(r) % (FUNCTIONS_MAX - 4));
	make_memory(m, p);
	free(p->idle.state);
	free(p->disk.state);
	p->idle = (struct function){ .state = calloc(1, m->state_size) };
	p->disk = (struct function){ .state = calloc(1, m->state_size) };
	p->disk_waits = random_log_uniform(&m->wait_random, 0.05, 20);
}

/* A new version: half of the functions are others, and starting takes a while. */
static void deploy(struct machine *m, struct program *p)
{
	for (unsigned i = 0; i < p->n_functions; i += 2) {
		memset(p->functions[i].state, 0, m->state_size);
		p->functions[i].last_active = 0;
		p->functions[i].met = false;
		p->functions[i].key = ++m->functions;
	}
	m->deploys++;
	p->deployed = m->tick;
	p->until = m->seconds + 2 + 3 * random_uniform(&m->random);
	p->next += p->period;
	p->memory.since = m->seconds;
	p->memory.leaked = 0;
	p->started = m->seconds;
	memset(p->idle.state, 0, m->state_size);
	p->idle.last_active = 0;
}

/* How much there is to do at this hour. */
static double daily_of(const struct machine *m)
{
	return m->config.lasting ? 1 + 0.6 * sin(2 * M_PI * m->seconds / DAY) : 1;
}

/* What a program does changes slowly. */
static void wander(struct machine *m)
{
	double step = WEIGHT_WANDERS * sqrt(2 * WANDERS_EVERY / WEIGHT_MEMORY), back = WANDERS_EVERY / WEIGHT_MEMORY;

	if (m->tick % WANDERS_EVERY)
		return;
	for (unsigned i = 0; i < m->n; i++)
		for (unsigned k = 0; k < m->programs[i].n_functions; k++) {
			struct function *f = &m->programs[i].functions[k];

			f->weight *= exp(step * random_normal(&m->weight_random) - back * log(f->weight / f->usual));
		}
}

/* What it wants in this tick, CPUs, as a mean over its dt seconds. */
static double wants(struct machine *m, struct program *p, double dt)
{
	struct random *r = &m->random;
	double daily = daily_of(m), from, to;

	switch (p->kind) {
	case KIND_IDLE:
		return p->cpu * (double)random_poisson(r, dt / p->period) / dt;
	case KIND_BURSTY:
		if (m->seconds >= p->until) {
			p->on = !p->on;
			p->until = m->seconds + random_exponential(r, p->on ? 10 : 100);
			p->level = p->on ? MIN(pow(random_uniform(r), -0.5), 20.0) : 0.02;
		}
		return p->cpu / 3 * p->level * random_gamma(r, p->noise) * daily;
	case KIND_TIMER:
	case KIND_JOB:
		if (m->seconds < p->next)
			return 0;
		from = MAX(m->seconds - dt, p->next);
		to = MIN(m->seconds, p->next + p->busy);
		if (m->seconds >= p->next + p->busy)
			p->next += MAX(p->period, p->busy);
		return to > from ? p->cpu * random_gamma(r, 20) * (to - from) / dt : 0;
	case KIND_DRIFTING:
		p->level *= exp(0.003 * random_normal(r) - 0.0002 * log(p->level));
		return p->cpu * p->level * random_gamma(r, p->noise) * daily;
	case KIND_DEPLOYED:
		if (m->config.lasting && m->seconds >= p->next)
			deploy(m, p);
		if (m->seconds < p->until)
			return 1;
		return p->cpu * random_gamma(r, p->noise) * daily;
	default:
		return p->cpu * random_gamma(r, p->noise) * daily;
	}
}

/* What a trouble makes of what a program would do. */
static void suffer(struct machine *m, struct program *p)
{
	double lasts = m->seconds - m->troubled_at;

	p->extra.cpu = p->extra.faults = p->extra.stuck = 0;
	p->extra.function = p->n_functions - 1;
	switch (m->trouble) {
	case TROUBLE_SERVICE_SPINS:
	case TROUBLE_NEW_UNIT_SPINS:
		p->wants = 0;
		p->extra.cpu = p->threads;
		break;
	case TROUBLE_STARVATION:
		p->wants = 0;
		p->extra.cpu = STARVING_THREADS * m->config.cpus;
		break;
	case TROUBLE_SPIN:
		p->extra.function = 0;
		p->extra.cpu = 1;
		break;
	case TROUBLE_CONVOY:
		p->extra.function = 2;
		p->wants *= 0.2;
		p->extra.stuck = 0.8 * p->threads;
		break;
	case TROUBLE_IO_STALL:
		p->extra.function = 1;
		p->wants *= 0.5;
		p->extra.stuck = 0.5 * p->threads;
		break;
	case TROUBLE_LEAK:
		p->extra.function = 0;
		p->extra.faults = LEAK_GROWS * lasts;
		break;
	case TROUBLE_FAULT_STORM:
		p->extra.function = 0;
		p->extra.faults = STORM_FAULTS;
		break;
	case TROUBLE_LATE:
		p->wants = 0;
		break;
	default:
		break;
	}
}

/* ---- the machine ---- */

/* Threads that want more than there is get the same each, and wait for the rest. */
static void share_out(struct machine *m, double dt)
{
	double cpus = m->config.cpus * (1 - m->stolen), demand = 0, busy = 0, rho, level = INFINITY;

	for (unsigned i = 0; i < m->n; i++) {
		struct program *p = &m->programs[i];

		p->wants = p->there ? wants(m, p, dt) : 0;
		/* emulation takes its time for everything */
		p->wants = MIN(p->wants / (1 - m->stolen), (double)p->threads);
		if (m->troubled && i == m->victim)
			suffer(m, p);
		p->wants += p->extra.cpu;
		demand += p->wants;
	}
	if (demand > cpus) {
		double left = cpus, rest = demand;

		/* what a thread gets: those that want less get what they want */
		for (unsigned round = 0; round < 8; round++) {
			double threads = 0;

			level = left / rest;
			left = cpus;
			rest = 0;
			for (unsigned i = 0; i < m->n; i++) {
				struct program *p = &m->programs[i];
				double active = MAX(ceil(p->wants), 1.0);

				threads += active;
				if (p->wants / active <= level)
					left -= p->wants;
				else
					rest += active;
			}
			if (rest <= 0)
				break;
		}
		level = rest > 0 ? left / rest : INFINITY;
	}
	rho = MIN(demand / cpus, 0.95);
	for (unsigned i = 0; i < m->n; i++) {
		struct program *p = &m->programs[i];
		double active = MAX(ceil(p->wants), 1.0);

		p->got = MIN(p->wants, level * active);
		p->waits = (p->wants - p->got) +
			   p->got * 0.1 * rho / (1 - rho) * random_gamma(&m->random, 2);
		busy += p->got + p->waits;
		/* starting, it reads itself in */
		p->faulted = p->got * p->faults * random_gamma(&m->random, 4) * (p->until > m->seconds && p->kind == KIND_DEPLOYED ? 10 : 1) +
			     p->extra.faults;
	}
	m->load += (busy / m->config.cpus - m->load) * 0.7;
}

static void move_gate(struct machine *m)
{
	if (m->load > m->config.open_above) {
		m->gate_open = true;
		m->calm = 0;
	} else if (m->load < CLOSE_SHARE * m->config.open_above && ++m->calm >= CLOSE_AFTER)
		m->gate_open = false;
}

/* Whose function stands for the machine as a whole. */
static unsigned biggest(const struct machine *m, enum metric metric)
{
	unsigned best = 0;
	double most = -1;

	for (unsigned i = 0; i < m->n; i++) {
		const struct program *p = &m->programs[i];
		double value = metric == METRIC_RUNNABLE ? p->waits : metric == METRIC_ON_CPU ? p->got : p->faulted;

		if (p->there && value > most) {
			most = value;
			best = i;
		}
	}
	return best;
}

/* A process of its own each time. */
static bool comes_and_goes(const struct program *p)
{
	return p->kind == KIND_TIMER || p->kind == KIND_JOB;
}

/* What it has, bytes. */
static double memory_now(struct machine *m, struct program *p, double dt)
{
	struct random *r = &m->memory_random;
	struct memory *mem = &p->memory;
	double lasts = m->seconds - mem->since, more = mem->most - mem->base;

	if (!p->there || (comes_and_goes(p) && p->got <= 0))
		return 0;
	if (m->troubled && p == &m->programs[m->victim] && m->trouble == TROUBLE_SLOW_LEAK)
		mem->leaked += SLOW_LEAK * dt;
	if (m->troubled && p == &m->programs[m->victim] && m->trouble == TROUBLE_LEAK)
		mem->leaked += p->extra.faults * 4096 * dt;
	mem->work += (p->got / MAX(p->cpu, 1e-6) - mem->work) * MIN(dt / 5, 1.0);
	switch (mem->kind) {
	case MEMORY_WITH_WORK:
		return mem->base + mem->leaked + more * MIN(mem->work, 4.0) / 4;
	case MEMORY_COLLECTED:
		if (lasts > mem->period * (0.8 + 0.4 * random_uniform(r))) {
			mem->since = m->seconds;
			lasts = 0;
		}
		return mem->base + mem->leaked + more * lasts / mem->period;
	case MEMORY_CACHE:
		return mem->base + mem->leaked + more * MIN(lasts / mem->period, 1.0) + (double)(random_u64(r) % 64) * 4096;
	case MEMORY_CREEPS:
		return mem->base + mem->leaked + 0.2 * more * log1p(lasts / mem->period) + (double)(random_u64(r) % 64) * 4096;
	default:
		return mem->base + mem->leaked + (double)(random_u64(r) % 64) * 4096;
	}
}

static void observe_memory(struct machine *m, unsigned program, double dt)
{
	struct program *p = &m->programs[program];
	int64_t now = (int64_t)memory_now(m, p, dt) & ~4095LL;

	if (now != p->memory.told)
		(void)detect_add_memory(m->detect, program + 1, now - p->memory.told);
	p->memory.told = now;
}

static void observe_totals(struct machine *m, double dt)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct program *p = &m->programs[i];
		/* the kernel's accounts are read while time goes on */
		double jitter = 1 + 0.01 * random_normal(&m->random);
		uint64_t values[METRIC_N] = {
			[METRIC_ON_CPU] = (uint64_t)(p->got * dt * jitter * 1e9),
			[METRIC_RUNNABLE] = (uint64_t)(p->waits * dt * jitter * 1e9),
			[METRIC_FAULTS_MINOR] = (uint64_t)(p->faulted * dt),
		};

		if (p->got > 0)
			(void)detect_add_total(m->detect, i + 1, values);
		observe_memory(m, i, dt);
	}
}

struct part {
	double cpu, faults, stuck; /* of the program's: 0..1; threads */
};

static bool is_stopped(const struct machine *m, const struct program *p, unsigned function)
{
	return m->troubled && m->trouble == TROUBLE_STOPPED && p == &m->programs[m->victim] && function == STOPPED;
}

/* Of the functions that are called. The last one is there for troubles only. */
static double weights(const struct machine *m, const struct program *p)
{
	double sum = 0;

	for (unsigned k = 0; k + 1 < p->n_functions; k++)
		if (!is_stopped(m, p, k))
			sum += p->functions[k].weight;
	return sum;
}

/* What of the program's time and faults is this function's. */
static struct part part_of(const struct machine *m, const struct program *p, unsigned function)
{
	double others = weights(m, p), cpu_extra = p->wants > 0 ? p->extra.cpu / p->wants : 0;
	double faults_extra = p->faulted > 0 ? p->extra.faults / p->faulted : 0;
	bool last = function + 1 == p->n_functions, mine = function == p->extra.function;
	struct part part;

	part.cpu = part.faults = last ? 0 : p->functions[function].weight / others;
	if (is_stopped(m, p, function))
		part.cpu = part.faults = 0;
	part.cpu = part.cpu * (1 - cpu_extra) + (mine ? cpu_extra : 0);
	part.faults = part.faults * (1 - faults_extra) + (mine ? faults_extra : 0);
	part.stuck = mine ? p->extra.stuck : 0;
	return part;
}

/* What one who knows everything could tell of the trouble from what this function's samples are in this tick. */
static void look(struct machine *m, struct program *p, unsigned function, const uint64_t values[static METRIC_N], double expected,
		 double faults)
{
	struct function *f = &p->functions[function];
	double sum = weights(m, p), share = f->weight / sum;

	if (m->visible || !m->troubled || p != &m->programs[m->victim])
		return;
	switch (m->trouble) {
	case TROUBLE_STOPPED:
		/* what it would have had */
		share = f->weight / (sum + f->weight);
		m->evidence += function == STOPPED ? share * (expected + faults) : 0;
		break;
	case TROUBLE_SPIN:
		if (function + 1 < p->n_functions)
			m->evidence += visible_counts((double)values[METRIC_HITS], expected * share, expected * part_of(m, p, function).cpu);
		break;
	case TROUBLE_DEPLOY:
		/* each name that is seen for the first time */
		if (values[METRIC_HITS] && f->key > m->functions_before && !f->met)
			m->evidence += log((double)m->troubled_from);
		f->met |= values[METRIC_HITS] > 0;
		break;
	case TROUBLE_LATE:
		break;
	default:
		/* By far more than ever before. */
		m->evidence = INFINITY;
	}
}

/* And of its total. */
static void look_at_total(struct machine *m)
{
	const struct program *p = &m->programs[m->victim];
	double daily = daily_of(m);

	if (m->visible || !m->troubled)
		return;
	if (m->trouble == TROUBLE_SPIN)
		m->evidence += visible_rate(p->got, p->cpu * daily, p->noise, p->extra.cpu);
	if (m->trouble == TROUBLE_LATE && m->seconds >= m->due)
		m->evidence = INFINITY;
	m->evidence = MAX(m->evidence, 0);
}

static void note_visible(struct machine *m)
{
	unsigned series = 0;

	for (unsigned i = 0; i < m->n; i++)
		series += m->programs[i].n_functions;
	if (m->troubled && !m->visible && m->evidence >= visible_needed(series, m->config.false_alarms_per_day))
		m->visible = m->tick;
}

static uint64_t series_of(unsigned program, const struct function *f)
{
	return (uint64_t)program << 40 | f->key;
}

static void observe_series(struct machine *m, unsigned program, struct function *f, const uint64_t values[static METRIC_N],
			   machine_alarm_fn fn, void *userdata)
{
	struct machine_alarm alarm = { .tick = m->tick, .program = program };
	uint32_t silent = 0;
	bool any = false;
	double rise;

	for (unsigned i = 0; i < METRIC_N; i++)
		any |= values[i] > 0;
	if (!any && (!f->last_active || m->tick - f->last_active > LIVE_TICKS))
		return;
	if (any && f->last_active && m->tick - f->last_active > LIVE_TICKS + 1)
		silent = (uint32_t)(m->tick - f->last_active - LIVE_TICKS - 1);
	if (any)
		f->last_active = m->tick;
	if (f->key)
		detect_add_functions(m->detect, program + 1, series_of(program, f), (uint64_t[]){ f->key, ROOT }, 2, values);
	rise = detect_wait_rise(m->detect, f->state, values[METRIC_BLOCKED], silent);
	detect_add_wait(m->detect, program + 1, f->state, values[METRIC_BLOCKED], rise, m->seconds - m->programs[program].started);
	if (detect_series(m->detect, f->state, values, silent, &alarm.result))
		fn(userdata, &alarm);
}

static void observe_function(struct machine *m, unsigned program, unsigned function,
			     const struct detect_tick *tick, machine_alarm_fn fn, void *userdata)
{
	struct program *p = &m->programs[program];
	struct function *f = &p->functions[function];
	double dt = (double)tick->duration_ns / 1e9, hz = m->gate_open ? m->config.open_hz : m->config.baseline_hz;
	double kept = 1 - tick->lost_fraction;
	struct part part = part_of(m, p, function);
	uint64_t values[METRIC_N] = { 0 };

	values[METRIC_HITS] = random_poisson(&m->random, p->got * part.cpu * dt * hz * kept);
	values[METRIC_ON_CPU] = (uint64_t)((double)values[METRIC_HITS] * 1e9 / hz);
	/* with the gate closed only long waits are seen */
	if (m->gate_open || p->waits * part.cpu > 0.05)
		values[METRIC_RUNNABLE] =
			(uint64_t)(p->waits * part.cpu * dt * kept * random_gamma(&m->random, 10) * 1e9);
	values[METRIC_FAULTS_MINOR] =
		random_poisson(&m->random, p->faulted * part.faults * dt * kept / FAULTS_WEIGHT) * FAULTS_WEIGHT;
	/* two of the service's functions wait, for a disk and a lock, longer than a tick now and then */
	if (p->there && p->kind == KIND_SERVICE && (function == 1 || function == 2) && random_uniform(&m->random) < 0.3) {
		double waits = random_exponential(&m->random, 0.2);

		if (!is_stopped(m, p, function))
			part.stuck += waits;
	}
	values[METRIC_BLOCKED] = (uint64_t)(part.stuck * dt * 1e9);
	look(m, p, function, values, p->got * dt * hz * kept, p->faulted * dt * kept / FAULTS_WEIGHT);
	observe_series(m, program, f, values, fn, userdata);
}

/* Threads that do not work wait for it; those that do wait for the disk at times, in what is a burst to some. */
static void observe_waits(struct machine *m, unsigned program, const struct detect_tick *tick, machine_alarm_fn fn, void *userdata)
{
	struct program *p = &m->programs[program];
	double dt = (double)tick->duration_ns / 1e9, threads = p->threads, stuck, disk, idle;
	uint64_t values[METRIC_N] = { 0 };

	if (comes_and_goes(p) && p->got <= 0) {
		threads = 0;
		p->started = m->seconds;
	}
	stuck = MIN(p->extra.stuck + p->got + p->waits, threads);
	disk = MIN(p->got * p->disk_waits * random_gamma(&m->wait_random, p->noise / 3), threads - stuck);
	idle = threads - stuck - disk;
	/* with the gate closed only waits that outlast ticks are seen */
	values[METRIC_BLOCKED] = (uint64_t)(idle * dt * 1e9);
	observe_series(m, program, &p->idle, values, fn, userdata);
	values[METRIC_BLOCKED] = (uint64_t)((m->gate_open || disk > 0.5 ? disk : 0) * dt * 1e9);
	observe_series(m, program, &p->disk, values, fn, userdata);
}

static void observe(struct machine *m, const struct detect_tick *tick, machine_alarm_fn fn, void *userdata)
{
	struct machine_alarm alarm = { .tick = m->tick, .total = true };
	uint64_t key;

	observe_totals(m, (double)tick->duration_ns / 1e9);
	detect_tick_begin(m->detect, tick);
	if (detect_totals(m->detect, &key, &alarm.result)) {
		alarm.program = key ? (unsigned)key - 1 : biggest(m, alarm.result.metric);
		fn(userdata, &alarm);
	}
	if (detect_growth(m->detect, &key, &alarm.result)) {
		alarm.program = (unsigned)key - 1;
		fn(userdata, &alarm);
	}
	for (unsigned i = 0; i < m->n; i++)
		for (unsigned k = 0; k < m->programs[i].n_functions; k++)
			observe_function(m, i, k, tick, fn, userdata);
	for (unsigned i = 0; i < m->n; i++)
		if (m->programs[i].there)
			observe_waits(m, i, tick, fn, userdata);
	if (detect_moved_waits(m->detect, &key, &alarm.result)) {
		alarm.program = (unsigned)key - 1;
		fn(userdata, &alarm);
	}
	if (detect_functions(m->detect, &key, &alarm.result)) {
		alarm.program = (unsigned)(key >> 40);
		alarm.functions = true;
		alarm.deploy = alarm.result.type == DETECT_NEW_CODE && m->tick - m->programs[alarm.program].deployed <= DEPLOY_TICKS;
		fn(userdata, &alarm);
	}
	detect_tick_end(m->detect);
}

void machine_tick(struct machine *m, machine_alarm_fn fn, void *userdata)
{
	struct random *r = &m->random;
	struct detect_tick tick = { .online_cpus = m->config.cpus, .memory_bytes = (uint64_t)memory_of(m) };
	double dt = 1;

	if (m->config.slow) {
		dt = random_uniform(r) < 0.7 ? 1 + 0.2 * random_uniform(r) : 1 + 2 * random_uniform(r);
		m->stolen += (0.3 * random_uniform(r) - m->stolen) * 0.3;
		if (random_uniform(r) < 0.05)
			tick.lost_fraction = 0.5 * random_uniform(r);
	} else
		dt += 0.005 * random_normal(r);
	m->tick++;
	m->seconds += dt;
	wander(m);
	share_out(m, dt);
	move_gate(m);
	tick.time_us = T0 + (uint64_t)(m->seconds * 1e6);
	tick.duration_ns = (uint64_t)(dt * 1e9);
	tick.load = m->load;
	tick.gate_open = m->gate_open;
	/* a tick that the daemon missed is part of the next */
	observe(m, &tick, fn, userdata);
	look_at_total(m);
	note_visible(m);
}

int machine_new(struct machine **ret, const struct machine_config *config)
{
	static const enum kind kinds[] = {
		KIND_IDLE, KIND_SERVER, KIND_BURSTY, KIND_IDLE, KIND_TIMER, KIND_DRIFTING, KIND_IDLE, KIND_DEPLOYED, KIND_JOB,
	};
	struct detect_config detect_config = { .false_alarms_per_day = config->false_alarms_per_day };
	_cleanup_(machine_freep) struct machine *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->config = *config;
	m->random.state = config->seed;
	m->memory_random.state = ~config->seed;
	m->wait_random.state = config->seed ^ 0x5555555555555555;
	m->weight_random.state = ~config->seed << 1;
	m->functions = ROOT;
	m->state_size = detect_series_state_size();
	m->n = config->programs + 2;
	m->programs = calloc(m->n, sizeof(*m->programs));
	m->global = calloc(1, detect_global_state_size());
	if (!m->programs || !m->global)
		return -ENOMEM;
	r = detect_new(&m->detect, &detect_config, m->global);
	if (r < 0)
		return r;
	make_program(m, &m->programs[0], KIND_SERVICE);
	for (unsigned i = 1; i <= config->programs; i++)
		make_program(m, &m->programs[i], kinds[i % ELEMENTS_OF(kinds)]);
	/* one program comes often */
	make_program(m, &m->programs[5], KIND_TIMER);
	m->programs[5].period = random_log_uniform(&m->random, 10, 25);
	m->programs[5].busy = random_log_uniform(&m->random, 0.2, 2);
	make_program(m, &m->programs[m->n - 1], KIND_SERVICE);
	m->programs[m->n - 1].there = false;
	*ret = TAKE_PTR(m);
	return 0;
}

struct machine *machine_free(struct machine *m)
{
	if (!m)
		return NULL;
	for (unsigned i = 0; m->programs && i < m->n; i++) {
		for (unsigned k = 0; k < FUNCTIONS_MAX; k++)
			free(m->programs[i].functions[k].state);
		free(m->programs[i].idle.state);
		free(m->programs[i].disk.state);
	}
	detect_free(m->detect);
	free(m->global);
	free(m->programs);
	free(m);
	return NULL;
}

uint64_t machine_now(const struct machine *m)
{
	return m->tick;
}

double machine_seconds(const struct machine *m)
{
	return m->seconds;
}

bool machine_gate_open(const struct machine *m)
{
	return m->gate_open;
}

uint64_t machine_visible(const struct machine *m)
{
	return m->visible;
}

unsigned machine_deploys(const struct machine *m)
{
	return m->deploys;
}

const struct detect *machine_detect(const struct machine *m)
{
	return m->detect;
}

const char *machine_program_kind(const struct machine *m, unsigned program)
{
	return kind_names[m->programs[program].kind];
}

/* The trouble befalls the service, or the first program that comes often enough for anyone to miss it. */
static unsigned find_victim(const struct machine *m, enum trouble t)
{
	if (t == TROUBLE_NEW_UNIT_SPINS || t == TROUBLE_STARVATION)
		return m->n - 1;
	for (unsigned i = 1; t == TROUBLE_LATE && i < m->n; i++)
		if (m->programs[i].kind == KIND_TIMER && m->programs[i].period < 25)
			return i;
	return 0;
}

unsigned machine_begin(struct machine *m, enum trouble t)
{
	struct program *victim;

	m->trouble = t;
	m->troubled = true;
	m->troubled_at = m->seconds;
	m->victim = find_victim(m, t);
	victim = &m->programs[m->victim];
	victim->there = true;
	m->troubled_from = m->tick;
	m->functions_before = m->functions;
	m->due = m->seconds < victim->next ? victim->next : victim->next + victim->period;
	if (t == TROUBLE_DEPLOY)
		deploy(m, victim);
	return m->victim;
}

static void *duplicate(const void *memory, size_t size)
{
	void *copy = malloc(size);

	return copy ? memcpy(copy, memory, size) : NULL;
}

int machine_copy(struct machine **ret, const struct machine *m)
{
	struct detect_config detect_config = { .false_alarms_per_day = m->config.false_alarms_per_day };
	_cleanup_(machine_freep) struct machine *copy = duplicate(m, sizeof(*m));
	int r;

	if (!copy)
		return -ENOMEM;
	copy->detect = NULL;
	copy->programs = duplicate(m->programs, m->n * sizeof(*m->programs));
	copy->global = duplicate(m->global, detect_global_state_size());
	for (unsigned i = 0; copy->programs && i < m->n; i++) {
		copy->programs[i].idle.state = duplicate(m->programs[i].idle.state, m->state_size);
		copy->programs[i].disk.state = duplicate(m->programs[i].disk.state, m->state_size);
		for (unsigned k = 0; k < FUNCTIONS_MAX; k++) {
			struct function *f = &copy->programs[i].functions[k];

			if (f->state)
				f->state = duplicate(f->state, m->state_size);
		}
	}
	if (!copy->programs || !copy->global)
		return -ENOMEM;
	r = detect_new(&copy->detect, &detect_config, copy->global);
	if (r < 0)
		return r;
	/* It goes on, as if it had not been started anew. */
	memcpy(copy->global, m->global, detect_global_state_size());
	*ret = TAKE_PTR(copy);
	return 0;
}
