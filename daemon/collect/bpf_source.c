/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "bpf_source.h"
#include "internal.h"
#include "proc_text.h"
#include "stackd.skel.h"

/* The iterator walks the stacks of new long waits; what it doesn't reach in a tick it reaches in the next one. */
#define WALKS_PER_TICK 1024
#define WALK_TIME_NS (8 * NSEC_PER_SEC / 1000)

/* How often the load is evaluated at most, by tracepoint and by timer. */
#define GATE_INTERVAL_NS (NSEC_PER_SEC / 1000)
#define GATE_TIMER_NS (5 * NSEC_PER_SEC / 1000)
#define GATE_CPUS_PER_INTERVAL 64 /* beyond that many CPUs the interval grows, so that the cost on one CPU doesn't */

/* bpf/offcpu.bpf.c counts walks in windows of 50 ms. */
#define WALK_WINDOWS_PER_SEC 20

/* An on-CPU sample stands for at most this many periods. */
#define GAP_PERIODS 4

/* Of the CPU clock, beyond the program that it runs (docs/overhead.md); at the upper end of what was measured. */
#define CLOCK_INTERRUPT_NS 10000

enum activity { DARK, BASELINE, FULL };

struct bpf_source {
	struct collect_config config;
	struct programs programs;
	struct stackd_control *control;
	struct perf_events events;
	struct faults faults;
	struct run_time run_time;
	bool left_out[BUDGET_EVENTS]; /* to save time */
	struct mapping_events mappings;
	struct threads threads;
	struct drain drain;
	struct moment_table moments;
	struct gate gate;
	struct unwind_maps unwind_maps;
	struct known known;
	struct heap heap;
	struct kmem kmem;
	enum activity activity;
	struct ring_buffer *ring;
	int epoll_fd, timer_fd;
	double load;               /* mean of the last tick */
	uint64_t running_ns;       /* control->running_ns at the last tick */
	double minor_rate, major_rate; /* faults a second and CPU in the last tick */
	uint64_t skipped, skipped_kmem; /* programs_skipped() at the last tick */
	uint32_t crossed_running;  /* from the ring buffer; 0: nothing */
	uint64_t switch_failures;  /* sched_switch could not be attached since the last tick */
	uint64_t maps_failures;    /* the same for the lock of address spaces */
	uint64_t rss_failures;     /* the same for changes of resident memory */
	bool maps_seen, rss_seen;
	uint64_t flips_unsettled;
	bool settled;              /* the last tick's flip */
	char oncpu_source[64], offcpu_source[160], faults_source[96], rss_source[64 + FORMAT_MAX];
	const char *memory_source;
};

static const char *const loss_names[LOSS_N] = {
	[LOSS_COUNTS_FULL] = "counts-full",
	[LOSS_STACKS_FULL] = "stacks-full",
	[LOSS_EXITS_FULL] = "exits-full",
	[LOSS_TASK_STORAGE] = "task-storage",
	[LOSS_STACK_FAILED] = "get-stack-failed",
	[LOSS_WALK_LIMIT] = "wait-walk-limit",
	[LOSS_WAKEUP_UNSEEN] = "wakeup-unseen",
	[LOSS_SAMPLE_GAP] = "sample-gap",
	[LOSS_SEQUENCE] = "iterator-full",
	[LOSS_HEAP_BLOCKS] = "heap-blocks-full",
	[LOSS_HEAP_STACK] = "heap-stacks-busy",
	[LOSS_FAULT_MAPPING] = "fault-mapping-busy",
	[LOSS_KMEM_BLOCKS] = "kernel-blocks-full",
	[LOSS_KMEM_NESTED] = "kernel-nested",
	[LOSS_KMEM_UNSEEN] = "kernel-free-unseen",
	[LOSS_MOMENTS] = "moments-full",
};

static double per_cpu(const struct bpf_source *c, double running)
{
	return running / MAX(c->control->online_cpus, 1U);
}

/* ---- load ---- */

/* Runnable tasks now. */
static uint32_t running_now(struct bpf_source *c)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	uint32_t running = 0;

	if (c->control->run_queues) {
		bpf_prog_test_run_opts(bpf_program__fd(c->programs.skel->progs.gate_evaluate), &opts);
		return c->control->running;
	}
	return proc_running(&running) < 0 ? 0 : running;
}

static double mean_load(struct bpf_source *c, uint64_t wall_ns)
{
	uint32_t running = running_now(c);
	uint64_t integral = c->control->running_ns, added = integral - c->running_ns;

	c->running_ns = integral;
	if (!c->control->run_queues || !wall_ns)
		return per_cpu(c, running);
	return per_cpu(c, (double)added / (double)wall_ns);
}

static void arm_gate(struct bpf_source *c)
{
	struct stackd_control *control = c->control;
	uint64_t from_us = 0;
	bool wanted = gate_wants_crossing(&c->gate, &from_us);

	control->open_above_milli = (uint64_t)(c->gate.open_above * 1000);
	control->gate_armed_after_ns = from_us * NSEC_PER_USEC;
	__atomic_store_n(&control->gate_armed, wanted, __ATOMIC_RELEASE);
}

/* ---- what runs ---- */

static enum activity wanted_activity(const struct bpf_source *c)
{
	return c->gate.open ? FULL : c->config.baseline_hz ? BASELINE : DARK;
}

static uint32_t clock_hz(const struct bpf_source *c)
{
	return c->activity == FULL ? c->config.sample_hz : c->activity == BASELINE ? c->config.baseline_hz : 0;
}

static uint32_t fault_hz(const struct bpf_source *c)
{
	return c->activity == FULL ? c->config.fault_hz : c->activity == BASELINE ? c->config.fault_baseline_hz : 0;
}

/* Per second and CPU; 0: no limit. */
static uint32_t memory_budget(const struct bpf_source *c)
{
	return c->activity == FULL ? c->config.memory_stacks_per_sec : c->config.memory_baseline_stacks_per_sec;
}

/* Full rate needs a place for the state of every task, also of those that started since the last tick. */
static void make_task_states(struct bpf_source *c)
{
	c->control->create_only = 1;
	threads_visit(&c->threads, &c->programs);
	c->control->create_only = 0;
}

static void follow_switches(struct bpf_source *c)
{
	int r;

	if (c->activity != FULL || c->left_out[BUDGET_SWITCHES]) {
		programs_detach_switch(&c->programs);
		return;
	}
	r = programs_attach_switch(&c->programs);
	if (r < 0) {
		if (!c->switch_failures++)
			log_warning("sched_switch can't be attached: %s", strerror(-r));
		return;
	}
	make_task_states(c);
}

/* Where page faults take the lock of the address space, seeing it costs at every fault: there only while the gate is open. */
static void follow_maps(struct bpf_source *c)
{
	bool wanted = c->programs.maps_offered && !c->left_out[BUDGET_MAPS] && (c->activity == FULL || (c->activity == BASELINE && c->programs.maps_cheap));
	int r;

	if (!wanted) {
		programs_detach_maps(&c->programs);
		c->maps_seen = false;
	} else if (!c->maps_seen) {
		c->control->memory_session++;
		r = programs_attach_maps(&c->programs);
		c->maps_seen = r >= 0;
		if (r < 0 && !c->maps_failures++)
			log_warning("The lock of address spaces can't be attached to: %s", strerror(-r));
	}
	c->memory_source = !c->programs.maps_offered ? "none: no tracepoints mmap_lock"
	                   : c->programs.maps_cheap ? "tp_btf mmap_lock (brk, mmap)"
	                                            : "tp_btf mmap_lock (brk, mmap), while the gate is open";
}

/* Every change of resident memory is seen at the price of a program in every page fault: while the gate is open. */
static void follow_rss(struct bpf_source *c)
{
	bool wanted = c->activity == FULL && !c->left_out[BUDGET_RSS];
	int r;

	if (wanted == c->rss_seen)
		return;
	if (wanted) {
		r = programs_attach_rss(&c->programs);
		c->rss_seen = r >= 0;
		if (r < 0 && r != -EOPNOTSUPP && !c->rss_failures++)
			log_warning("rss_stat can't be attached: %s", strerror(-r));
	} else {
		programs_detach_rss(&c->programs);
		c->rss_seen = false;
	}
	c->control->rss_by_event = c->rss_seen;
}

/* With what no stack can be told for: reclaim, what a fork copied, and while it is closed what isn't unmapped but advised away. */
static void describe_rss(struct bpf_source *c)
{
	char buf[FORMAT_MAX];

	snprintf(c->rss_source, sizeof c->rss_source, "%s; without a stack %s",
	         c->rss_seen      ? "tp_btf rss_stat"
	         : c->maps_seen   ? "sampled faults, tp_btf mmap_lock"
	         : c->activity == DARK ? "none: the gate is closed"
	                               : "sampled faults",
	         format_metric(buf, METRIC_RSS, (uint64_t)c->control->rss_elsewhere));
}

static void describe_offcpu(struct bpf_source *c)
{
	char known[128];

	known_describe(&c->known, known, sizeof known);
	snprintf(c->offcpu_source, sizeof c->offcpu_source, "tp_btf sched_switch%s", known);
}

/* The accounts of a time in which nobody looked are not of the next tick, and no wait lasts through it. */
static void go_dark(struct bpf_source *c)
{
	c->control->session++;
	c->control->wait_epoch++;
	threads_forget_waits(&c->threads);
	bpf_link__destroy(c->programs.skel->links.on_exit);
	bpf_link__destroy(c->programs.skel->links.on_free);
	c->programs.skel->links.on_exit = c->programs.skel->links.on_free = NULL;
}

static void come_back(struct bpf_source *c)
{
	struct stackd_bpf *skel = c->programs.skel;

	c->control->awake_ns = clock_monotonic_ns();
	if (!skel->links.on_exit)
		skel->links.on_exit = bpf_program__attach(skel->progs.on_exit);
	if (!skel->links.on_free)
		skel->links.on_free = bpf_program__attach(skel->progs.on_free);
}

/* Chosen by the rates of the last tick. */
static void apply_fault_rates(struct bpf_source *c)
{
	faults_set_rates(&c->faults, fault_hz(c), c->activity == FULL, c->minor_rate, c->major_rate, c->control->online_cpus);
	if (c->faults.window < 1)
		snprintf(c->faults_source, sizeof c->faults_source, "perf_event minor-faults, major-faults, about %u Hz, minor ones %.0f%% of the time",
		         fault_hz(c), 100 * c->faults.window);
	else
		snprintf(c->faults_source, sizeof c->faults_source, "perf_event minor-faults, major-faults, about %u Hz", fault_hz(c));
}

static void apply_rates(struct bpf_source *c)
{
	uint32_t hz = clock_hz(c), budget = c->config.offcpu_stacks_per_sec;
	uint64_t period = hz ? perf_events_clock_period(hz) : 0;

	c->control->gap_ns = GAP_PERIODS * MAX(period, c->control->period_ns);
	c->control->period_ns = period;
	c->control->walk_budget = budget ? MAX(budget / WALK_WINDOWS_PER_SEC, 1U) : 0;
	c->control->memory_budget = memory_budget(c);
	perf_events_set_clock(&c->events, hz);
	apply_fault_rates(c);
	if (c->programs.oncpu == ONCPU_BY_PERF)
		snprintf(c->oncpu_source, sizeof c->oncpu_source, "perf_event cpu-clock %u Hz", hz);
	else
		snprintf(c->oncpu_source, sizeof c->oncpu_source, "update_rq_clock (%s) %u Hz",
		         c->programs.oncpu == ONCPU_BY_FENTRY ? "fentry" : "kprobe", hz);
}

/* Makes what runs agree with the gate. What matters most for the first moments comes first. */
static void follow_gate(struct bpf_source *c)
{
	enum activity wanted = wanted_activity(c), before = c->activity;

	arm_gate(c);
	if (wanted == before)
		return;
	c->activity = wanted;
	if (before == DARK)
		come_back(c);
	apply_rates(c);
	follow_switches(c);
	follow_maps(c);
	follow_rss(c);
	if (wanted == DARK)
		go_dark(c);
}

/* ---- gate door ---- */

static int on_gate_event(void *userdata, void *data, size_t size)
{
	struct bpf_source *c = userdata;

	if (size >= sizeof(struct stackd_gate_event))
		c->crossed_running = ((const struct stackd_gate_event *)data)->running;
	return 0;
}

int bpf_source_mappings_fd(const struct bpf_source *c)
{
	return c->mappings.epoll_fd;
}

void bpf_source_mappings_dispatch(struct bpf_source *c, const struct collect_sink *sink, void *userdata)
{
	mapping_events_drain(&c->mappings, sink, userdata);
}

int bpf_source_gate_fd(const struct bpf_source *c)
{
	return c->epoll_fd;
}

int bpf_source_gate_dispatch(struct bpf_source *c)
{
	uint64_t expirations;
	uint32_t running;

	c->crossed_running = 0;
	ring_buffer__consume(c->ring);
	running = c->crossed_running;
	faults_timer(&c->faults);
	run_time_timer(&c->run_time);
	if (c->timer_fd >= 0 && read(c->timer_fd, &expirations, sizeof expirations) > 0)
		running = MAX(running, running_now(c));
	if (running)
		gate_load_crossed(&c->gate, gate_now(), per_cpu(c, running));
	follow_gate(c);
	return 0;
}

int bpf_source_gate_open_for(struct bpf_source *c, const char *cause)
{
	gate_pressed(&c->gate, gate_now(), per_cpu(c, running_now(c)), cause);
	follow_gate(c);
	return 0;
}

int bpf_source_gate_set(struct bpf_source *c, enum collect_gate_mode mode, uint64_t until_us)
{
	struct gate_time now = gate_now();

	if (mode != GATE_AUTO && until_us <= now.real_us)
		return -EINVAL;
	gate_set(&c->gate, now, per_cpu(c, running_now(c)), mode, until_us);
	follow_gate(c);
	return 0;
}

static int open_gate_fds(struct bpf_source *c)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct itimerspec every = { .it_value.tv_nsec = GATE_TIMER_NS, .it_interval.tv_nsec = GATE_TIMER_NS };

	c->ring = ring_buffer__new(bpf_map__fd(c->programs.skel->maps.gate_events), on_gate_event, c, NULL);
	if (!c->ring)
		return negative_errno();
	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (c->epoll_fd < 0 || epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, ring_buffer__epoll_fd(c->ring), &event) < 0 ||
	    epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->faults.timer_fd, &event) < 0 ||
	    epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->run_time.timer_fd, &event) < 0)
		return negative_errno();
	if (!c->programs.load_by_timer && c->control->run_queues)
		return 0;
	if (!c->control->run_queues)
		c->programs.load_source = "/proc/loadavg";
	c->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (c->timer_fd < 0 || timerfd_settime(c->timer_fd, 0, &every, NULL) < 0 ||
	    epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->timer_fd, &event) < 0)
		return negative_errno();
	return 0;
}

/* ---- start and end ---- */

static void follow_cpus(struct bpf_source *c)
{
	uint32_t online;

	if (!perf_events_follow_cpus(&c->events))
		return;
	mapping_events_follow_cpus(&c->mappings, &c->events.online);
	online = MAX(cpus_count(&c->events.online), 1U);
	if (c->control->online_cpus)
		log_info("The number of online CPUs changed from %u to %u", c->control->online_cpus, online);
	c->control->online_cpus = online;
}

/* The first visit finds the run queues and takes every thread's accounts as they are now. */
static int first_visit(struct bpf_source *c)
{
	uint64_t now = clock_monotonic_ns();
	int r;

	c->control->session = 1;
	c->control->wait_epoch = 1;
	c->control->last_tick_ns = c->control->tick_ns = now;
	c->control->learn_run_queues = 1;
	r = threads_visit(&c->threads, &c->programs);
	if (r < 0)
		log_error("The task iterator can't be read: %s", strerror(-r));
	return r;
}

static void log_choices(const struct bpf_source *c)
{
	log_info("Load: %s; on-CPU: %s; off-CPU: tp_btf sched_switch; faults: %s; memory: %s; totals: %s", c->programs.load_source,
	         c->oncpu_source, c->faults_source, c->memory_source,
	         c->programs.sleepable_iterator ? "iter.s/task" : "iter/task (long waits without user frames)");
}

/* kernel.perf_event_max_stack, beyond which bpf_get_stack() cuts silently. */
static uint32_t stack_depth(void)
{
	_cleanup_free_ char *text = NULL;
	uint64_t depth;

	if (read_small_file(AT_FDCWD, "/proc/sys/kernel/perf_event_max_stack", 64, &text, NULL) < 0)
		return STACKD_USER_FRAMES;
	text[strcspn(text, "\n")] = 0;
	return parse_u64(text, &depth) < 0 ? STACKD_USER_FRAMES : (uint32_t)MIN(depth, (uint64_t)STACKD_USER_FRAMES);
}

static int start(struct bpf_source *c, struct helper *helper)
{
	uint32_t possible;
	int r = programs_load(&c->programs, &c->config);

	if (r < 0)
		return r;
	c->control = &c->programs.skel->bss->control;
	r = threads_init(&c->threads, &c->config);
	if (r < 0)
		return r;
	r = drain_init(&c->drain, &c->config);
	if (r < 0)
		return r;
	r = moment_table_open(&c->moments, bpf_map__fd(c->programs.skel->maps.moments), &c->programs.halves, &c->config);
	if (r < 0)
		return r;
	known_init(&c->known, c->control, c->programs.known_places);
	known_set(&c->known, c->config.known_stacks);
	r = heap_init(&c->heap, &c->programs, helper, c->config.max_heap_blocks);
	if (r < 0)
		return r;
	heap_set_mean(&c->heap, c->config.heap_sample_bytes);
	kmem_init(&c->kmem, &c->programs, &c->heap, c->config.max_heap_blocks);
	possible = (uint32_t)c->drain.n_cpus;
	c->control->possible_cpus = MIN(possible, (uint32_t)STACKD_CPUS_MAX);
	c->control->stack_depth = stack_depth();
	c->control->page_size = (uint32_t)sysconf(_SC_PAGESIZE);
	c->control->unwind_depth = MIN(c->config.unwind_depth, (uint32_t)STACKD_USER_FRAMES);
	c->control->gate_interval_ns = GATE_INTERVAL_NS * (1 + possible / GATE_CPUS_PER_INTERVAL);
	r = first_visit(c);
	if (r < 0)
		return r;
	r = faults_init(&c->faults, &c->events, c->control);
	if (r >= 0)
		r = run_time_init(&c->run_time, &c->programs, helper);
	if (r >= 0)
		r = open_gate_fds(c);
	if (r < 0)
		return r;
	r = perf_events_open(&c->events, helper, &c->programs, possible);
	if (r >= 0)
		r = mapping_events_open(&c->mappings, helper, possible);
	if (r < 0)
		return r;
	mapping_events_follow_cpus(&c->mappings, &c->events.online);
	c->control->online_cpus = MAX(cpus_count(&c->events.online), 1U);
	c->running_ns = c->control->running_ns;
	gate_init(&c->gate, &c->config);
	c->activity = wanted_activity(c);
	apply_rates(c);
	follow_maps(c);
	follow_rss(c);
	if (c->activity == DARK)
		go_dark(c);
	arm_gate(c);
	describe_rss(c);
	describe_offcpu(c);
	log_choices(c);
	return 0;
}

const char *bpf_source_missing(void)
{
	return access("/sys/kernel/btf/vmlinux", R_OK) < 0 ? "the kernel has no BTF (/sys/kernel/btf/vmlinux)" : NULL;
}

int bpf_source_new(struct bpf_source **ret, const struct collect_config *config, struct helper *helper)
{
	_cleanup_(bpf_source_freep) struct bpf_source *c = calloc(1, sizeof *c);
	int r;

	if (!c)
		return -ENOMEM;
	if (!config->max_stacks || !config->max_counts || !config->max_processes || !config->sample_hz ||
	    !config->max_heap_blocks)
		return -EINVAL;
	c->config = *config;
	c->epoll_fd = c->timer_fd = c->faults.timer_fd = c->run_time.timer_fd = c->run_time.stats_fd = c->mappings.epoll_fd = -EBADF;
	unwind_maps_init(&c->unwind_maps);
	r = start(c, helper);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

struct bpf_source *bpf_source_free(struct bpf_source *c)
{
	if (!c)
		return NULL;
	faults_done(&c->faults);
	run_time_done(&c->run_time);
	perf_events_close(&c->events);
	mapping_events_close(&c->mappings);
	ring_buffer__free(c->ring);
	close_fd(c->epoll_fd);
	close_fd(c->timer_fd);
	kmem_done(&c->kmem);
	heap_done(&c->heap);
	unwind_maps_done(&c->unwind_maps);
	moment_table_close(&c->moments);
	programs_unload(&c->programs);
	known_done(&c->known);
	threads_done(&c->threads);
	drain_done(&c->drain);
	free(c);
	return NULL;
}

int bpf_source_reconfigure(struct bpf_source *c, const struct collect_config *config)
{
	struct collect_config taken = *config;

	if (!config->sample_hz)
		return -EINVAL;
	taken.max_stacks = c->config.max_stacks;
	taken.max_counts = c->config.max_counts;
	taken.max_processes = c->config.max_processes;
	taken.max_heap_blocks = c->config.max_heap_blocks;
	taken.oncpu_source = c->config.oncpu_source;
	c->config = taken;
	c->control->unwind_depth = MIN(taken.unwind_depth, (uint32_t)STACKD_USER_FRAMES);
	heap_set_mean(&c->heap, taken.heap_sample_bytes);
	known_set(&c->known, taken.known_stacks);
	gate_configure(&c->gate, &taken);
	apply_rates(c);
	follow_gate(c);
	return 0;
}

/* ---- tick ---- */

#define SOON 8 /* samples ahead: memory takes as long as a few of them */

static void report_loss(const struct collect_sink *sink, void *userdata, const char *cause, uint64_t n)
{
	if (n)
		sink->loss(userdata, cause, n);
}

static void report_samples(struct bpf_source *c, const struct collect_sink *sink, void *userdata)
{
	struct fault_scale scale = { .factor = 1 };
	double window = faults_take_window(&c->faults);
	uint64_t seen = 0;

	for (uint32_t i = 0; window < 1 && i < c->drain.n_counts; i++)
		seen += c->drain.counts[i].values[STACKD_FAULTS_MINOR];
	if (window < 1)
		faults_scale(seen, threads_faults_minor(&c->threads), window, &scale);
	report_loss(sink, userdata, "faults-unseen", scale.unseen);
	for (uint32_t i = 0; i < c->drain.n_counts; i++) {
		const struct stackd_count *count = &c->drain.counts[i];
		struct collect_sample sample = { .raw_id = c->drain.ids[i] };
		uint64_t any = 0;

		if (sink->soon && i + SOON < c->drain.n_counts)
			sink->soon(userdata, c->drain.ids[i + SOON]);
		if (count->waits)
			threads_add_wait(&c->threads, c->drain.ids[i], &count->process, count->waits);
		for (size_t m = 0; m < METRIC_N; m++)
			any |= sample.values[m] = count->values[m];
		if (!any)
			continue;
		if (scale.factor != 1)
			faults_apply_scale(&scale, sample.values);
		process_from_record(&sample.process, &count->process);
		sink->sample(userdata, &sample);
	}
}

static void report_losses(struct bpf_source *c, const struct collect_sink *sink, void *userdata)
{
	uint64_t skipped = programs_skipped(&c->programs), skipped_kmem = programs_skipped_kmem(&c->programs);

	for (size_t i = 0; i < LOSS_N; i++)
		report_loss(sink, userdata, loss_names[i], c->drain.deltas[i]);
	report_loss(sink, userdata, "program-skipped", skipped - c->skipped);
	report_loss(sink, userdata, loss_names[LOSS_KMEM_NESTED], skipped_kmem - c->skipped_kmem);
	report_loss(sink, userdata, "processes-full", c->threads.lost_processes);
	report_loss(sink, userdata, "waits-full", c->threads.lost_waits);
	report_loss(sink, userdata, "perf-event-failed", c->events.failed);
	report_loss(sink, userdata, "mappings-lost", mapping_events_take_lost(&c->mappings));
	report_loss(sink, userdata, "switch-not-attached", c->switch_failures);
	report_loss(sink, userdata, "maps-not-attached", c->maps_failures);
	report_loss(sink, userdata, "rss-not-attached", c->rss_failures);
	report_loss(sink, userdata, "flip-unsettled", c->drain.unsettled - c->flips_unsettled);
	c->skipped = skipped;
	c->skipped_kmem = skipped_kmem;
	c->threads.lost_processes = c->threads.lost_waits = 0;
	c->events.failed = c->switch_failures = c->maps_failures = c->rss_failures = 0;
	c->flips_unsettled = c->drain.unsettled;
}

static int visit(struct bpf_source *c)
{
	c->control->walks_left = WALKS_PER_TICK;
	c->control->walks_until_ns = clock_monotonic_ns() + WALK_TIME_NS;
	return threads_visit(&c->threads, &c->programs);
}

static void follow_fault_rates(struct bpf_source *c, uint64_t wall_ns)
{
	double share = (double)NSEC_PER_SEC / (double)MAX(wall_ns, NSEC_PER_USEC) / MAX(c->control->online_cpus, 1U);

	c->minor_rate = (double)c->threads.faults_minor * share;
	c->major_rate = (double)c->threads.faults_major * share;
	apply_fault_rates(c);
}

/* Waits whose end could not be told: all are taken back, and those that last are told again. */
static void resync_waits(struct bpf_source *c)
{
	if (!__atomic_exchange_n(&c->control->waits_lost, 0, __ATOMIC_ACQ_REL))
		return;
	c->control->wait_epoch++;
	threads_forget_waits(&c->threads);
}

/* What the programs saw of the run queues' clock in this tick serves the next. */
static void follow_clock(struct stackd_control *control)
{
	int64_t seen = __atomic_exchange_n(&control->clock_ahead_seen_ns, 0, __ATOMIC_RELAXED);

	if (seen)
		control->clock_ahead_ns = seen;
}

int bpf_source_tick(struct bpf_source *c, const struct collect_sink *sink, void *userdata)
{
	struct stackd_control *control = c->control;
	uint64_t now = clock_monotonic_ns(), wall;
	struct collect_tick_info info;
	struct collect_gate_change change;
	int r, visited = 0;

	control->last_tick_ns = control->tick_ns;
	control->tick_ns = now;
	wall = now - control->last_tick_ns;
	follow_cpus(c);
	control->learn_run_queues = control->run_queues < control->online_cpus;
	c->load = mean_load(c, wall);
	follow_clock(control);
	gate_tick(&c->gate, gate_now(), c->load);
	follow_gate(c);
	control->gap_ns = GAP_PERIODS * control->period_ns;

	resync_waits(c);
	if (c->activity != DARK)
		visited = visit(c);
	heap_learned(&c->heap);
	known_forget(&c->known);
	r = drain_flip(&c->drain, &c->programs.halves);
	c->settled = c->drain.unsettled == c->flips_unsettled;
	/* After the flip, so that what the stacks went through is known. */
	if (sink->mapping)
		mapping_events_drain(&c->mappings, sink, userdata);
	for (uint32_t i = 0; i < c->drain.n_exits; i++)
		threads_add_exit(&c->threads, &c->drain.exits[i]);

	info = (struct collect_tick_info){
		.time_us = clock_realtime_us(),
		.duration_ns = wall,
		.load = c->load,
		.gate_open = c->gate.open && !c->left_out[BUDGET_SWITCHES], /* else less is seen of waits, as while it is closed */
		.online_cpus = control->online_cpus,
		.drain_ns = clock_monotonic_ns() - now,
	};
	sink->begin(userdata, &info);
	while (gate_take_change(&c->gate, &change))
		sink->gate(userdata, &change);
	report_samples(c, sink, userdata);
	moment_table_report(&c->moments, sink, userdata);
	threads_report(&c->threads, wall, sink, userdata);
	follow_fault_rates(c, wall);
	report_losses(c, sink, userdata);
	report_loss(sink, userdata, "known-stack-wrong",
	            known_tick(&c->known, bpf_map__fd(c->programs.skel->maps.known_counts), c->drain.n_cpus));
	describe_offcpu(c);
	drain_evict(&c->drain, bpf_map__fd(c->programs.skel->maps.stacks), &c->threads,
	            drain_is_tight(&c->drain) ? heap_held(&c->heap) : NULL);
	unwind_maps_count_walks(&c->unwind_maps, c->programs.skel->maps.unwind_ends, c->drain.per_cpu, c->drain.n_cpus);
	describe_rss(c);
	run_time_tick(&c->run_time);
	return r < 0 ? r : visited;
}

/* ---- cost ---- */

bool bpf_source_get_cost(const struct bpf_source *c, struct budget_reading *r)
{
	const struct run_time *t = &c->run_time;
	double wall = (double)r->wall_ns, minor = (double)c->threads.faults_minor;
	double events = clock_hz(c) * wall / NSEC_PER_SEC * c->control->online_cpus * CLOCK_INTERRUPT_NS;

	r->open = c->gate.open;
	r->cpus = c->control->online_cpus;
	if (c->faults.seen || c->faults.window < 1)
		events += minor * c->faults.window * FAULT_EVENT_NS;
	r->kernel_ns = (uint64_t)(events + (t->measured ? t->share * wall : 0));
	for (size_t i = 0; i < BUDGET_EVENTS; i++)
		r->events_ns[i] = t->measured && !c->left_out[i] ? (uint64_t)(t->events[i] * wall) : 0;
	return t->measured;
}

void bpf_source_leave_out(struct bpf_source *c, const bool left_out[static BUDGET_EVENTS])
{
	bool switches = c->left_out[BUDGET_SWITCHES] != left_out[BUDGET_SWITCHES];

	memcpy(c->left_out, left_out, sizeof c->left_out);
	if (switches)
		follow_switches(c);
	follow_maps(c);
	follow_rss(c);
}

void bpf_source_get_gate(const struct bpf_source *c, bool *ret_open, double *ret_load)
{
	*ret_open = c->gate.open;
	*ret_load = c->load;
}

int bpf_source_frames(struct bpf_source *c, uint64_t raw_id, struct collect_frames *ret)
{
	struct stackd_stack stack;
	uint32_t ours;

	if (bpf_map_lookup_elem(bpf_map__fd(c->programs.skel->maps.stacks), &raw_id, &stack) < 0)
		return negative_errno();
	process_from_record(&ret->process, &stack.process);
	ret->truncated = stack.flags & STACKD_STACK_TRUNCATED;
	ret->n_kernel = MIN(stack.n_kernel, COLLECT_KERNEL_FRAMES_MAX);
	ret->n_user = MIN(stack.n_user, COLLECT_USER_FRAMES_MAX);
	ours = MIN(stack.flags >> STACKD_STACK_OURS_SHIFT, (uint32_t)ret->n_kernel);
	ret->n_kernel -= ours;
	memcpy(ret->kernel, stack.kernel + ours, ret->n_kernel * sizeof ret->kernel[0]);
	if (ours)
		ret->kernel[0]--; /* into the call, as the innermost frame's address is its own */
	if (stack.flags & STACKD_STACK_SWITCH)
		ret->n_kernel = frames_without_switch(ret->kernel, ret->n_kernel, c->programs.sched_start, c->programs.sched_end);
	if (stack.flags & STACKD_STACK_HOOK)
		ret->n_kernel = frames_without_hook(ret->kernel, ret->n_kernel, &c->programs.hooks[HOOK_MAPS], 1);
	if (stack.flags & STACKD_STACK_PAGES) {
		ret->n_kernel = frames_without_hook(ret->kernel, ret->n_kernel, &c->programs.hooks[HOOK_RSS], 1);
		ret->n_kernel = frames_without_fault(ret->kernel, ret->n_kernel, &c->programs.hooks[HOOK_FAULT]);
	}
	memcpy(ret->user, stack.user, ret->n_user * sizeof ret->user[0]);
	return 0;
}

/* ---- unwinding ---- */

struct stackd_unwind_tables *bpf_source_unwind_tables(struct bpf_source *c)
{
#if defined(__x86_64__)
	return &c->programs.skel->bss->unwind_tables;
#else
	(void)c;
	return NULL;
#endif
}

int bpf_source_unwind_slab(struct bpf_source *c, uint32_t index, struct stackd_unwind_slab **ret)
{
	return unwind_maps_slab(&c->unwind_maps, c->programs.skel->maps.unwind_slabs, index, ret);
}

int bpf_source_unwind_set_process(struct bpf_source *c, const struct stackd_unwind_key *key, const struct stackd_unwind_process *process)
{
	int fd = bpf_map__fd(c->programs.skel->maps.unwind_processes);
	int r = process ? bpf_map_update_elem(fd, key, process, BPF_ANY) : bpf_map_delete_elem(fd, key);

	if (r < 0)
		return negative_errno();
	known_forget(&c->known);
	return 0;
}

size_t bpf_source_unwind_wanted(struct bpf_source *c, struct stackd_unwind_key *keys, struct stackd_unwind_wanted *wanted, size_t max)
{
	return unwind_maps_take_wanted(c->programs.skel->maps.unwind_wanted, keys, wanted, max);
}

bool bpf_source_unwind_settled(const struct bpf_source *c)
{
	return c->settled;
}

/* ---- watched heaps ---- */

bool bpf_source_heap_is_possible(const struct bpf_source *c)
{
	return c->programs.heap != HEAP_NOT_AT_ALL;
}

int bpf_source_heap_begin(struct bpf_source *c, pid_t pid, uint32_t *ret_id)
{
	heap_learn_cost(&c->heap); /* while there is room for it */
	return heap_begin(&c->heap, pid, ret_id);
}

int bpf_source_heap_attach(struct bpf_source *c, uint32_t id, const char *path, const struct collect_heap_function *functions, size_t n)
{
	return heap_attach(&c->heap, id, path, functions, n);
}

bool bpf_source_heap_process(const struct bpf_source *c, uint32_t id, struct collect_process *ret)
{
	return heap_process(&c->heap, id, ret);
}

bool bpf_source_heap_executed(const struct bpf_source *c, uint32_t id)
{
	return heap_executed(&c->heap, id);
}

int bpf_source_kmem_begin(struct bpf_source *c, uint32_t *ret_id)
{
	return kmem_begin(&c->kmem, ret_id);
}

static bool is_kernels(const struct bpf_source *c, uint32_t id)
{
	return id && id == c->kmem.id;
}

void bpf_source_heap_end(struct bpf_source *c, uint32_t id)
{
	if (is_kernels(c, id))
		kmem_end(&c->kmem);
	else
		heap_end(&c->heap, id);
}

int bpf_source_heap_start(struct bpf_source *c, uint32_t id)
{
	if (!is_kernels(c, id))
		return heap_start(&c->heap, id);
	kmem_start(&c->kmem);
	return 0;
}

int bpf_source_heap_get_cost(struct bpf_source *c, uint32_t id, struct collect_heap_cost *ret)
{
	if (!is_kernels(c, id))
		return heap_get_cost(&c->heap, id, ret);
	kmem_get_cost(&c->kmem, ret);
	return 0;
}

bool bpf_source_heap_census(struct bpf_source *c, const struct collect_heap_stack **ret, size_t *ret_n, int64_t *ret_left_out)
{
	if ((!heap_count_watches(&c->heap) && !c->kmem.id) || !heap_census_step(&c->heap.census))
		return false;
	*ret = c->heap.census.stacks;
	*ret_n = c->heap.census.n;
	*ret_left_out = c->heap.census.left_out;
	return true;
}

void bpf_source_get_status(const struct bpf_source *c, struct collect_status *ret)
{
	*ret = (struct collect_status){
		.unwind_source = "the stacks themselves",
		.gate_open = c->gate.open,
		.gate_mode = c->gate.mode,
		.gate_until_us = c->gate.until_us,
		.load = c->load,
		.load_source = c->programs.load_source,
		.oncpu_source = c->oncpu_source,
		.offcpu_source = c->left_out[BUDGET_SWITCHES] ? "waits that last, no switches: they cost more than the budget" : c->offcpu_source,
		.faults_source = c->faults_source,
		.memory_source = c->memory_source,
		.rss_source = c->rss_source,
		.totals_source = c->programs.sleepable_iterator ? "iter.s/task" : "iter/task",
		.online_cpus = c->control->online_cpus,
		.stacks = (uint32_t)MIN(map64_size(c->drain.last_seen), c->config.max_stacks),
		.stacks_max = c->config.max_stacks,
		.counts_peak = c->drain.counts_peak,
		.counts_max = c->config.max_counts,
		.map_bytes = programs_map_bytes(&c->programs) + mapping_events_bytes(&c->mappings) + kmem_map_bytes(&c->kmem),
		.program_ns = programs_run_ns(&c->programs),
		.heap_source = heap_source(&c->heap),
		.heap_blocks = heap_count_blocks(&c->heap),
		.heap_blocks_max = c->config.max_heap_blocks,
		.heap_watches = heap_count_watches(&c->heap),
		.kmem_source = kmem_source(&c->kmem),
		.kernel_blocks = heap_count_kernel_blocks(&c->heap),
		.kernel_blocks_max = c->config.max_heap_blocks,
		.heap_watches_max = COLLECT_HEAP_WATCHES,
	};
	memcpy(ret->walks, c->unwind_maps.walks, sizeof ret->walks);
}
