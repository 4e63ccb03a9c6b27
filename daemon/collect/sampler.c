/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/timerfd.h>

#include "proc_text.h"
#include "sample_counts.h"
#include "sample_processes.h"
#include "sample_rings.h"
#include "sample_stacks.h"
#include "sample_tables.h"
#include "sample_waits.h"
#include "sampler.h"

/* How often the load is read: a read takes some microseconds. */
#define LOAD_INTERVAL_NS (5 * NSEC_PER_SEC / 1000)
/* Each tells of the switch itself and of who is woken, and takes the daemon and the kernel about a microsecond. Beyond this, of all CPUs,
 * nothing is told of them until there are fewer. */
#define SWITCHES_PER_SEC_MAX 60000
/* Between the moment that a record tells and the one in which it can be read: a virtual CPU may be stopped there. */
#define SETTLE_SLACK_NS (5 * NSEC_PER_SEC / 1000)
/* Copies of stacks at switches, a second and CPU, for which there is room in the rings. */
#define SWITCH_STACKS_PER_SEC_MAX 1000U
/* After which a rate is known, when it rises within a tick. */
#define SWITCHES_SEEN_NS (20 * NSEC_PER_SEC / 1000)
/* A sampled fault is a copy of the stack: a burst after quiet must not fill the ring in a tick. */
#define MINOR_PERIOD_MIN 127

/* What there are no stacks of. */
#define UNMEASURED \
	(1U << METRIC_BRK | 1U << METRIC_MMAP | 1U << METRIC_HEAP | 1U << METRIC_RSS | 1U << METRIC_FAULTS_FILE | 1U << METRIC_KMEM | \
	 1U << METRIC_FAULTS_ANON)

/* Who has a CPU, and since when; 0: nobody knows. */
struct running {
	uint32_t tid;
	uint64_t since_ns;
};

struct sampler {
	struct collect_config config;
	struct sample_rings rings;
	struct mapping_events mappings;
	struct sample_tables *tables;
	struct sample_stacks *stacks;
	struct sample_processes *processes;
	struct sample_waits *waits;
	struct running *running;      /* by CPU */
	uint64_t settled_ns;          /* until when waits are told */
	uint64_t reported_ns;         /* as of the last tick */
	uint64_t switches;            /* of the machine since boot, as of the last tick; 0: not known */
	double switch_rate;           /* a second, of all CPUs */
	uint64_t switches_seen;       /* in this tick */
	uint64_t switches_since_ns;   /* they are told; what is older may be from before they were not for a while */
	bool switches_crowded;        /* there are too many of them */
	uint64_t switches_unseen;     /* in the last tick, while they were */
	struct fault_window window;   /* of this tick, for minor faults while the gate is closed */
	bool faults_partly;           /* somewhere in it they were not seen */
	uint64_t faults_unseen;       /* of a tick in which none was sampled */
	uint64_t sched_start, sched_end;
	struct gate gate;
	int timer_fd;
	uint64_t tick_ns;          /* when the last one ended */
	double load;               /* mean of the last tick */
	uint64_t load_sum, load_n; /* runnable tasks as read since */
	uint32_t online_cpus;
	double minor_rate, major_rate; /* faults a second and CPU in the last tick */
	struct sample_counts *counts;
	struct collect_walks walks[COLLECT_WALK_ENDS];
	uint64_t walks_before[COLLECT_WALK_ENDS];
	uint64_t unidentified;     /* samples lost in this tick */
	uint64_t processes_full;            /* as last told */
	struct collect_frames frames;       /* scratch */
	char oncpu_source[96], offcpu_source[128], faults_source[128], unwind_source[64];
};

/* ---- samples ---- */

static void take_chain(const struct perfdata_record *r, struct collect_frames *f)
{
	bool kernel = r->sample.kernel;

	f->n_kernel = f->n_user = 0;
	for (size_t i = 0; i < r->sample.n_chain; i++) {
		uint64_t address = r->sample.chain[i];

		if (address >= PERF_CONTEXT_MAX) {
			kernel = address == PERF_CONTEXT_KERNEL;
			continue;
		}
		if (kernel && f->n_kernel < COLLECT_KERNEL_FRAMES_MAX)
			f->kernel[f->n_kernel++] = address;
		else if (!kernel && f->n_user < COLLECT_USER_FRAMES_MAX)
			f->user[f->n_user++] = address;
	}
}

/* By frame pointers, as the kernel walked it. Where there is nothing else it is taken for whole, as it may be. */
static struct walk_end end_of_chain(const struct sampler *s, const struct collect_frames *f)
{
#if defined(__x86_64__)
	bool suffices = false;
#else
	bool suffices = true;
#endif
	return (struct walk_end){
		.end = f->n_user >= s->config.unwind_depth ? STACKD_UNWIND_DEPTH : suffices ? STACKD_UNWIND_COMPLETE : STACKD_UNWIND_PROCESS,
		.frame_pointers = true,
	};
}

static void take_user_frames(struct sampler *s, const struct perfdata_record *r, const struct sample_owner *parent, struct collect_frames *f)
{
	const struct sample_owner owner = { { (uint32_t)f->process.pid, f->process.exec_id }, f->process.start_ns };
	uint32_t depth = MIN(s->config.unwind_depth, (uint32_t)COLLECT_USER_FRAMES_MAX);
	struct walk_end end = end_of_chain(s, f);

	if (r->sample.carried.size > 0)
		(void)sample_tables_walk(s->tables, &owner, parent->key.tgid ? parent : NULL, &r->sample.carried, f->user, depth, &f->n_user, &end);
	f->n_user = MIN(f->n_user, (size_t)depth);
	if (f->n_user == 0)
		return;
	f->truncated = end.end != STACKD_UNWIND_COMPLETE;
	s->walks[end.end == STACKD_UNWIND_COMPLETE && end.frame_pointers ? STACKD_UNWIND_ENDS : end.end].n++;
}

static void take_switch(struct sampler *s, uint32_t cpu, const struct perfdata_record *r, struct collect_frames *f)
{
	uint64_t weight = sample_rings_weight(&s->rings, SAMPLE_SWITCH, r);

	f->n_kernel = frames_without_switch(f->kernel, f->n_kernel, s->sched_start, s->sched_end);
	sample_waits_drawn(s->waits, cpu, r->tid, sample_stacks_put(s->stacks, f), &f->process, (uint32_t)weight);
}

static void take_sample(void *userdata, uint32_t cpu, enum sample_event event, const struct perfdata_record *r)
{
	static const enum metric metrics[SAMPLE_EVENTS] = {
		[SAMPLE_ON_CPU] = METRIC_ON_CPU, [SAMPLE_FAULT_MINOR] = METRIC_FAULTS_MINOR, [SAMPLE_FAULT_MAJOR] = METRIC_FAULTS_MAJOR
	};
	struct sampler *s = userdata;
	struct collect_frames *f = &s->frames;
	struct sample_owner parent;
	struct sample_count *c;
	uint64_t weight;

	if (r->pid == 0 || r->pid == UINT32_MAX)
		return; /* idle; or nobody any more */
	if (!sample_processes_find(s->processes, (pid_t)r->pid, r->time, &f->process, &parent)) {
		s->unidentified++;
		return;
	}
	f->truncated = false;
	take_chain(r, f);
	if (!f->process.kernel_thread)
		take_user_frames(s, r, &parent, f);
	if (event == SAMPLE_SWITCH && (r->time < s->switches_since_ns || r->tid == UINT32_MAX))
		return;
	if (event == SAMPLE_SWITCH) {
		take_switch(s, cpu, r, f);
		return;
	}
	c = sample_counts_of(s->counts, sample_stacks_put(s->stacks, f), &f->process);
	if (!c)
		return;
	weight = sample_rings_weight(&s->rings, event, r);
	c->values[metrics[event]] += weight;
	if (event != SAMPLE_ON_CPU) {
		c->variances[metrics[event]] += weight * (weight - 1);
		return;
	}
	c->values[METRIC_HITS]++;
	sample_counts_moment(s->counts, c->raw_id, r->time, weight, r->tid);
}

static void take_turn(void *userdata, const struct sample_turn *t)
{
	struct sampler *s = userdata;
	struct running *running = &s->running[t->cpu];

	if (t->time_ns < s->switches_since_ns || t->tid == UINT32_MAX)
		return; /* the latter: a thread that has ended, and is nobody any more */
	switch (t->kind) {
	case SAMPLE_OUT:
		s->switches_seen++;
		sample_waits_out(s->waits, t->cpu, t->tid, t->preempted, t->time_ns);
		if (running->tid == t->tid && running->since_ns && t->tid)
			sample_processes_ran(s->processes, (pid_t)t->pid, running->since_ns, t->time_ns);
		*running = (struct running){};
		break;
	case SAMPLE_IN:
		*running = (struct running){ t->tid, t->time_ns };
		if (t->tid)
			sample_waits_in(s->waits, t->tid, t->time_ns);
		break;
	case SAMPLE_WOKEN:
		sample_waits_woken(s->waits, t->tid, t->time_ns);
		break;
	case SAMPLE_BEGUN:
		sample_waits_begun(s->waits, t->tid, t->time_ns);
		break;
	case SAMPLE_ENDED:
		sample_waits_ended(s->waits, t->tid, t->time_ns);
		break;
	}
}

static void take_wait(void *userdata, uint64_t raw_id, const struct collect_process *process, uint64_t blocked_ns, uint64_t runnable_ns,
                      uint32_t weight)
{
	struct sampler *s = userdata;
	struct sample_count *c = sample_counts_of(s->counts, raw_id, process);

	if (!c)
		return;
	c->values[METRIC_BLOCKED] += blocked_ns;
	c->values[METRIC_RUNNABLE] += runnable_ns;
	c->variances[METRIC_BLOCKED] += variance_of_drawn(blocked_ns, weight);
	c->variances[METRIC_RUNNABLE] += variance_of_drawn(runnable_ns, weight);
}

/* What the rings had no room for may have been the end of any wait. */
static void forget_waits(struct sampler *s)
{
	sample_waits_forget(s->waits);
	memset(s->running, 0, s->rings.n_cpus * sizeof *s->running);
}

struct forwarding {
	struct sampler *sampler;
	const struct collect_sink *sink;
	void *userdata;
};

static void take_event(void *userdata, const struct collect_mapping_event *event)
{
	struct forwarding *f = userdata;

	sample_processes_event(f->sampler->processes, event);
	if (f->sink->mapping)
		f->sink->mapping(f->userdata, event);
}

/* What the kernel said of processes comes first, of all that samples are about. */
static void drain(struct sampler *s, const struct collect_sink *sink, void *userdata)
{
	const struct collect_sink events = { .mapping = take_event };
	struct forwarding forwarding = { s, sink, userdata };

	static const struct sample_reader reader = { take_sample, take_turn };
	uint64_t lost = s->rings.lost + s->rings.damaged, until = clock_monotonic_ns() - SETTLE_SLACK_NS;

	sample_rings_mark(&s->rings);
	mapping_events_drain(&s->mappings, &events, &forwarding);
	sample_rings_drain(&s->rings, &reader, s);
	if (s->rings.lost + s->rings.damaged != lost)
		forget_waits(s);
	sample_waits_settle(s->waits, until, take_wait, s);
	s->settled_ns = until;
}

int sampler_mappings_fd(const struct sampler *s)
{
	return s->mappings.epoll_fd;
}

int sampler_frames(struct sampler *s, uint64_t raw_id, struct collect_frames *ret)
{
	return sample_stacks_get(s->stacks, raw_id, ret);
}

struct sample_tables *sampler_tables(struct sampler *s)
{
	return s->tables;
}

/* ---- gate ---- */

/* Of the tick. */
static void take_switches(struct sampler *s, uint64_t wall_ns)
{
	uint64_t now = 0, n;

	if (proc_switches(&now) < 0)
		now = 0;
	n = s->switches && now > s->switches ? now - s->switches : 0;
	s->switch_rate = (double)n * NSEC_PER_SEC / (double)MAX(wall_ns, NSEC_PER_USEC);
	s->switches_unseen += s->switches_crowded ? n : 0;
	s->switches = now;
	s->switches_seen = 0;
}

static double per_cpu(const struct sampler *s, double running)
{
	return running / MAX(s->online_cpus, 1U);
}

/* Without this process, which runs as it reads. */
static uint32_t read_load(struct sampler *s)
{
	uint32_t running = 0;

	if (proc_running(&running) < 0)
		return 0;
	running = MAX(running, 1U) - 1;
	s->load_sum += running;
	s->load_n++;
	return running;
}

static uint32_t clock_hz(const struct sampler *s)
{
	return s->gate.open ? s->config.sample_hz : s->config.baseline_hz;
}

static uint32_t fault_hz(const struct sampler *s)
{
	return s->gate.open ? s->config.fault_hz : s->config.baseline_hz ? s->config.fault_baseline_hz : 0;
}

/* While there is an event for minor faults, each fault of the machine costs more (faults.c). */
static void follow_faults(struct sampler *s)
{
	uint32_t hz = fault_hz(s);
	bool seen = hz > 0 && (s->gate.open || fault_window_sees(&s->window, clock_monotonic_ns()));

	s->faults_partly |= hz > 0 && !seen;
	sample_rings_set_faults(&s->rings, seen ? perf_events_fault_period(s->minor_rate * s->window.share, hz, MINOR_PERIOD_MIN) : 0,
	                        hz ? perf_events_fault_period(s->major_rate, hz, 1) : 0);
}

/* Primes, so that threads that take turns are not always met at the same one. */
static uint32_t switch_period(double rate, uint32_t budget)
{
	static const uint32_t primes[] = { 1, 3, 7, 13, 29, 61, 127, 251, 509, 1021 };
	size_t i = 0;

	budget = MIN(budget, SWITCH_STACKS_PER_SEC_MAX);
	while (budget && i + 1 < ELEMENTS_OF(primes) && rate > (double)budget * primes[i])
		i++;
	return primes[i];
}

/* rate: switches a second, of all CPUs. */
static void follow_switches(struct sampler *s, double rate)
{
	uint32_t period = 0;

	s->switches_crowded = s->gate.open && rate > SWITCHES_PER_SEC_MAX;
	if (s->gate.open && !s->switches_crowded)
		period = switch_period(rate / s->online_cpus, s->config.offcpu_stacks_per_sec);
	if (!period && s->rings.rates[SAMPLE_SWITCH].on)
		forget_waits(s);
	if (!period)
		s->switches_since_ns = UINT64_MAX;
	else if (!s->rings.rates[SAMPLE_SWITCH].on)
		s->switches_since_ns = clock_monotonic_ns();
	sample_rings_set_switches(&s->rings, period);
	if (s->switches_crowded)
		snprintf(s->offcpu_source, sizeof s->offcpu_source, "none: more than %u switches a second", SWITCHES_PER_SEC_MAX);
	else if (!period)
		snprintf(s->offcpu_source, sizeof s->offcpu_source, "none: the gate is closed");
	else
		snprintf(s->offcpu_source, sizeof s->offcpu_source, "perf_event context-switches, one stack in %u, %s, counted by the daemon", period,
		         s->rings.wakeup_id ? "sched_wakeup" : "with the waits for a CPU after wake-ups in blocked");
}

static void follow_gate(struct sampler *s)
{
	uint32_t faults = fault_hz(s);

	sample_rings_set_clock(&s->rings, clock_hz(s));
	follow_faults(s);
	follow_switches(s, s->switch_rate);
	snprintf(s->oncpu_source, sizeof s->oncpu_source, "perf_event %s %u Hz, counted by the daemon", s->rings.cycles ? "cycles" : "cpu-clock",
	         clock_hz(s));
	snprintf(s->faults_source, sizeof s->faults_source, "perf_event minor-faults, major-faults, about %u Hz, minor ones in %.0f %% of the time, counted by the daemon",
	         faults, s->gate.open ? 100 : s->window.share * 100);
}

void sampler_mappings_dispatch(struct sampler *s, const struct collect_sink *sink, void *userdata)
{
	uint64_t lasted = clock_monotonic_ns() - s->tick_ns;

	drain(s, sink, userdata);
	/* A burst is answered before the tick ends. */
	if (lasted > SWITCHES_SEEN_NS)
		follow_switches(s, MAX(s->switch_rate, (double)s->switches_seen * NSEC_PER_SEC / (double)lasted));
}

int sampler_gate_fd(const struct sampler *s)
{
	return s->timer_fd;
}

int sampler_gate_dispatch(struct sampler *s)
{
	uint64_t expirations;

	if (read(s->timer_fd, &expirations, sizeof expirations) < 0)
		return 0;
	if (gate_load_crossed(&s->gate, gate_now(), per_cpu(s, read_load(s))))
		follow_gate(s);
	else
		follow_faults(s);
	return 0;
}

int sampler_gate_open_for(struct sampler *s, const char *cause)
{
	if (gate_pressed(&s->gate, gate_now(), per_cpu(s, read_load(s)), cause))
		follow_gate(s);
	return 0;
}

int sampler_gate_set(struct sampler *s, enum collect_gate_mode mode, uint64_t until_us)
{
	struct gate_time now = gate_now();

	if (mode != GATE_AUTO && until_us <= now.real_us)
		return -EINVAL;
	if (gate_set(&s->gate, now, per_cpu(s, read_load(s)), mode, until_us))
		follow_gate(s);
	return 0;
}

/* ---- start and end ---- */

static void follow_cpus(struct sampler *s)
{
	sample_rings_follow_cpus(&s->rings);
	mapping_events_follow_cpus(&s->mappings, &s->rings.online);
	s->online_cpus = MAX(cpus_count(&s->rings.online), 1U);
}

static int open_timer(struct sampler *s)
{
	struct itimerspec every = { .it_value.tv_nsec = LOAD_INTERVAL_NS, .it_interval.tv_nsec = LOAD_INTERVAL_NS };

	s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return s->timer_fd < 0 || timerfd_settime(s->timer_fd, 0, &every, NULL) < 0 ? negative_errno() : 0;
}

static uint32_t possible_cpus(void)
{
	return (uint32_t)MAX(sysconf(_SC_NPROCESSORS_CONF), 1L);
}

static int open_rings(struct sampler *s, struct helper *helper)
{
	uint32_t possible = possible_cpus();
	int r = mapping_events_open(&s->mappings, helper, possible);

	if (r >= 0)
		r = sample_rings_open(&s->rings, helper, possible, s->config.copy_bytes / 8 * 8, s->mappings.epoll_fd);
	return r;
}

static int new_waits(struct sampler *s)
{
	s->running = calloc(possible_cpus(), sizeof *s->running);
	kernel_text_find(NULL, 0, &s->sched_start, &s->sched_end);
	return s->running ? sample_waits_new(&s->waits, possible_cpus()) : -ENOMEM;
}

int sampler_new(struct sampler **ret, const struct collect_config *config, struct helper *helper)
{
	_cleanup_(sampler_freep) struct sampler *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return -ENOMEM;
	s->config = *config;
	unwind_name_ends(s->walks);
	s->timer_fd = s->mappings.epoll_fd = -EBADF;
	s->window.share = 1;
	if ((r = sample_counts_new(&s->counts, config->max_counts, possible_cpus() * moments_per_cpu(config))) < 0 || (r = sample_tables_new(&s->tables)) < 0 ||
	    (r = sample_stacks_new(&s->stacks, config->max_stacks)) < 0 || (r = sample_processes_new(&s->processes, config->max_processes)) < 0 ||
	    (r = new_waits(s)) < 0 || (r = open_rings(s, helper)) < 0 || (r = open_timer(s)) < 0)
		return r;
	gate_init(&s->gate, config);
	follow_cpus(s);
	take_switches(s, NSEC_PER_SEC);
	follow_gate(s);
	s->tick_ns = s->settled_ns = s->reported_ns = clock_monotonic_ns();
	if (s->rings.copy)
		snprintf(s->unwind_source, sizeof s->unwind_source, "copies of %u bytes of each stack", s->rings.copy);
	else
		copy_string(s->unwind_source, sizeof s->unwind_source, "frame pointers");
	log_info("Load: /proc/loadavg; on-CPU: %s; off-CPU: %s; faults: %s; user stacks: %s; totals: /proc", s->oncpu_source, s->offcpu_source,
	         s->faults_source, s->unwind_source);
	*ret = TAKE_PTR(s);
	return 0;
}

struct sampler *sampler_free(struct sampler *s)
{
	if (!s)
		return NULL;
	sample_rings_close(&s->rings);
	mapping_events_close(&s->mappings);
	close_fd(s->timer_fd);
	sample_tables_free(s->tables);
	sample_stacks_free(s->stacks);
	sample_processes_free(s->processes);
	sample_waits_free(s->waits);
	free(s->running);
	sample_counts_free(s->counts);
	free(s);
	return NULL;
}

int sampler_reconfigure(struct sampler *s, const struct collect_config *config)
{
	struct collect_config taken = *config;

	taken.max_stacks = s->config.max_stacks;
	taken.max_counts = s->config.max_counts;
	taken.max_processes = s->config.max_processes;
	s->config = taken;
	gate_configure(&s->gate, &taken);
	follow_gate(s);
	return 0;
}

/* ---- tick ---- */

static void scale_faults(struct sampler *s)
{
	struct sample_processes_status p;

	if (!s->faults_partly)
		return;
	sample_processes_get_status(s->processes, &p);
	s->faults_unseen += sample_counts_scale_faults(s->counts, p.faults_minor, &(struct fault_part){ .window = s->window.share });
	s->faults_partly = false;
}

static void count_walks(struct sampler *s)
{
	for (size_t i = 0; i < COLLECT_WALK_ENDS; i++) {
		s->walks[i].n_last_tick = s->walks[i].n - s->walks_before[i];
		s->walks_before[i] = s->walks[i].n;
	}
}

static void report_loss(const struct collect_sink *sink, void *userdata, const char *cause, uint64_t *n)
{
	if (*n)
		sink->loss(userdata, cause, *n);
	*n = 0;
}

static void report_losses(struct sampler *s, const struct collect_sink *sink, void *userdata)
{
	struct sample_processes_status p;
	struct sample_waits_lost waits;
	uint64_t full, counts_full, moments_full, mappings = mapping_events_take_lost(&s->mappings);

	sample_processes_get_status(s->processes, &p);
	waits = sample_waits_take_lost(s->waits);
	sample_counts_take_lost(s->counts, &counts_full, &moments_full);
	full = p.full - s->processes_full;
	s->processes_full = p.full;
	report_loss(sink, userdata, "ring-full", &s->rings.lost);
	report_loss(sink, userdata, "sampling-throttled", &s->rings.throttled);
	report_loss(sink, userdata, "record-damaged", &s->rings.damaged);
	report_loss(sink, userdata, "perf-event-failed", &s->rings.failed);
	report_loss(sink, userdata, "sample-unidentified", &s->unidentified);
	report_loss(sink, userdata, "counts-full", &counts_full);
	report_loss(sink, userdata, "moments-full", &moments_full);
	report_loss(sink, userdata, "processes-full", &full);
	report_loss(sink, userdata, "mappings-lost", &mappings);
	report_loss(sink, userdata, "totals-late", &p.late);
	report_loss(sink, userdata, "waits-full", &waits.full);
	report_loss(sink, userdata, "waits-undrawn", &waits.undrawn);
	report_loss(sink, userdata, "waits-forgotten", &waits.forgotten);
	report_loss(sink, userdata, "switches-unseen", &s->switches_unseen);
	report_loss(sink, userdata, "faults-unseen", &s->faults_unseen);
}

static void follow_fault_rates(struct sampler *s, uint64_t wall_ns)
{
	double share = (double)NSEC_PER_SEC / (double)MAX(wall_ns, NSEC_PER_USEC) / s->online_cpus;
	struct sample_processes_status p;

	sample_processes_get_status(s->processes, &p);
	s->minor_rate = (double)p.faults_minor * share;
	s->major_rate = (double)p.faults_major * share;
	fault_window_begin(&s->window, faults_window(s->minor_rate * s->online_cpus, false), clock_monotonic_ns());
	follow_gate(s);
}

static void take_load(struct sampler *s)
{
	if (s->load_n == 0)
		read_load(s);
	s->load = s->load_n ? per_cpu(s, (double)s->load_sum / (double)s->load_n) : 0;
	s->load_sum = s->load_n = 0;
}

int sampler_tick(struct sampler *s, const struct collect_sink *sink, void *userdata)
{
	uint64_t now = clock_monotonic_ns(), wall = now - s->tick_ns;
	struct collect_gate_change change;
	struct collect_tick_info info;

	const struct sample_waits_reader waits = { take_wait, s, sink, userdata };

	s->tick_ns = now;
	follow_cpus(s);
	take_load(s);
	gate_tick(&s->gate, gate_now(), s->load);
	drain(s, sink, userdata);
	take_switches(s, wall);
	info = (struct collect_tick_info){
		.time_us = clock_realtime_us(),
		.duration_ns = wall,
		.load = s->load,
		.gate_open = s->gate.open,
		.online_cpus = s->online_cpus,
		.drain_ns = clock_monotonic_ns() - now,
	};
	sink->begin(userdata, &info);
	while (gate_take_change(&s->gate, &change))
		sink->gate(userdata, &change);
	sample_processes_scan(s->processes, wall, sink, userdata);
	scale_faults(s);
	sample_waits_report(s->waits, s->reported_ns, s->settled_ns, &waits);
	s->reported_ns = s->settled_ns;
	sample_counts_report(s->counts, sink, userdata);
	count_walks(s);
	follow_fault_rates(s, wall);
	report_losses(s, sink, userdata);
	return 0;
}

void sampler_get_gate(const struct sampler *s, bool *ret_open, double *ret_load)
{
	*ret_open = s->gate.open;
	*ret_load = s->load;
}

void sampler_get_status(const struct sampler *s, struct collect_status *ret)
{
	static const char unseen[] = "none: not without BPF";
	struct sample_processes_status p;

	sample_processes_get_status(s->processes, &p);
	*ret = (struct collect_status){
		.gate_open = s->gate.open,
		.gate_mode = s->gate.mode,
		.gate_until_us = s->gate.until_us,
		.load = s->load,
		.load_source = "/proc/loadavg",
		.oncpu_source = s->oncpu_source,
		.offcpu_source = s->offcpu_source,
		.faults_source = s->faults_source,
		.memory_source = unseen,
		.rss_source = unseen,
		.totals_source = s->rings.rates[SAMPLE_SWITCH].on ? "/proc; of what ends, its last CPU time by its switches"
		                                                  : "/proc, without the last moments of processes that end",
		.heap_source = unseen,
		.kmem_source = unseen,
		.unwind_source = s->unwind_source,
		.online_cpus = s->online_cpus,
		.stacks = (uint32_t)sample_stacks_count(s->stacks),
		.stacks_max = s->config.max_stacks,
		.counts_peak = sample_counts_peak(s->counts),
		.counts_max = s->config.max_counts,
		.sampled_processes = p.processes,
		.sampled_processes_max = p.processes_max,
		.map_bytes = sample_rings_bytes(&s->rings) + mapping_events_bytes(&s->mappings),
		.unmeasured = UNMEASURED,
	};
	memcpy(ret->walks, s->walks, sizeof ret->walks);
}
