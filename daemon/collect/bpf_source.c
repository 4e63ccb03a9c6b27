/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "bpf_source_state.h"
#include "proc_text.h"
#include "stackd.skel.h"

/* The iterator walks the stacks of new long waits; what it doesn't reach in a tick it reaches in the next one. */
#define WALKS_PER_TICK 1024
#define WALK_TIME_NS (8 * NSEC_PER_SEC / 1000)

/* How often the load is evaluated at most, by tracepoint and by timer. */
#define GATE_INTERVAL_NS (NSEC_PER_SEC / 1000)
#define GATE_TIMER_NS (5 * NSEC_PER_SEC / 1000)
#define GATE_CPUS_PER_INTERVAL 64 /* beyond that many CPUs the interval grows, so that the cost on one CPU doesn't */

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
	[LOSS_THREAD_WAITS] = "thread-waits-full",
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

/* ---- gate door ---- */

static int on_notice(void *userdata, void *data, size_t size)
{
	const struct stackd_notice *notice = data;
	struct bpf_source *c = userdata;

	if (size < sizeof(*notice))
		return 0;
	if (notice->kind == STACKD_NOTICE_LOAD)
		c->crossed_running = notice->running;
	else if (notice->kind == STACKD_NOTICE_FAULTS)
		faults_storm(&c->faults, clock_monotonic_ns());
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
	activity_follow_gate(c);
	return 0;
}

int bpf_source_gate_open_for(struct bpf_source *c, const char *cause)
{
	gate_pressed(&c->gate, gate_now(), per_cpu(c, running_now(c)), cause);
	activity_follow_gate(c);
	return 0;
}

int bpf_source_gate_set(struct bpf_source *c, enum collect_gate_mode mode, uint64_t until_us)
{
	struct gate_time now = gate_now();

	if (mode != GATE_AUTO && until_us <= now.real_us)
		return -EINVAL;
	gate_set(&c->gate, now, per_cpu(c, running_now(c)), mode, until_us);
	activity_follow_gate(c);
	return 0;
}

static int open_gate_fds(struct bpf_source *c)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct itimerspec every = { .it_value.tv_nsec = GATE_TIMER_NS, .it_interval.tv_nsec = GATE_TIMER_NS };

	c->ring = ring_buffer__new(bpf_map__fd(c->programs.skel->maps.notices), on_notice, c, NULL);
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
	c->programs.halves.wait_sums = wait_sums_map(bpf_map__fd(c->programs.skel->maps.wait_sums));
	if (!c->programs.halves.wait_sums)
		return negative_errno();
	r = moment_table_open_waits(&c->thread_waits, bpf_map__fd(c->programs.skel->maps.thread_waits), &c->programs.halves, &c->config);
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
	activity_begin(c);
	activity_describe_rss(c);
	activity_describe_offcpu(c);
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
	moment_table_close(&c->thread_waits);
	wait_sums_unmap(c->programs.halves.wait_sums);
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
	taken.thread_waits_per_sec = c->config.thread_waits_per_sec;
	taken.max_heap_blocks = c->config.max_heap_blocks;
	taken.oncpu_source = c->config.oncpu_source;
	c->config = taken;
	c->control->unwind_depth = MIN(taken.unwind_depth, (uint32_t)STACKD_USER_FRAMES);
	heap_set_mean(&c->heap, taken.heap_sample_bytes);
	known_set(&c->known, taken.known_stacks);
	gate_configure(&c->gate, &taken);
	activity_apply_rates(c);
	activity_follow_gate(c);
	return 0;
}

/* ---- tick ---- */

#define SOON 8 /* samples ahead: memory takes as long as a few of them */

static void report_loss(const struct collect_sink *sink, void *userdata, const char *cause, uint64_t n)
{
	if (n)
		sink->loss(userdata, cause, n);
}

/* Whether any of its values is an estimate. */
static bool take_variances(const struct stackd_count *count, uint64_t ret[static METRIC_N])
{
	static const enum metric metrics[STACKD_VARIANCES] = {
		[STACKD_VARIANCE_BLOCKED] = METRIC_BLOCKED, [STACKD_VARIANCE_RUNNABLE] = METRIC_RUNNABLE,
		[STACKD_VARIANCE_FAULTS_MINOR] = METRIC_FAULTS_MINOR, [STACKD_VARIANCE_FAULTS_MAJOR] = METRIC_FAULTS_MAJOR,
		[STACKD_VARIANCE_BRK] = METRIC_BRK, [STACKD_VARIANCE_MMAP] = METRIC_MMAP,
	};
	uint64_t any = 0;

	memset(ret, 0, METRIC_N * sizeof(*ret));
	for (size_t i = 0; i < STACKD_VARIANCES; i++)
		any |= ret[metrics[i]] = count->variances[i];
	return any != 0;
}

static void report_samples(struct bpf_source *c, const struct collect_sink *sink, void *userdata)
{
	struct fault_scale scale = { .factor = 1 };
	struct fault_part part = faults_take_part(&c->faults);
	uint64_t seen = 0;

	for (uint32_t i = 0; part.window < 1 && i < c->drain.n_counts; i++)
		seen += c->drain.counts[i].values[STACKD_FAULTS_MINOR];
	if (part.window < 1)
		faults_scale(seen, threads_faults_minor(&c->threads), &part, &scale);
	report_loss(sink, userdata, "faults-unseen", scale.unseen);
	for (uint32_t i = 0; i < c->drain.n_counts; i++) {
		const struct stackd_count *count = &c->drain.counts[i];
		struct collect_sample sample = { .raw_id = c->drain.ids[i] };
		uint64_t any = 0, variances[METRIC_N];

		if (sink->soon && i + SOON < c->drain.n_counts)
			sink->soon(userdata, c->drain.ids[i + SOON]);
		if (count->waits)
			threads_add_wait(&c->threads, c->drain.ids[i], &count->process, count->waits);
		for (size_t m = 0; m < METRIC_N; m++)
			any |= sample.values[m] = count->values[m];
		if (!any)
			continue;
		sample.variances = take_variances(count, variances) ? variances : NULL;
		if (part.window < 1) {
			faults_apply_scale(&scale, sample.values, variances);
			sample.variances = variances;
		}
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
	report_loss(sink, userdata, loss_names[LOSS_THREAD_WAITS], c->threads.lost_events);
	report_loss(sink, userdata, "perf-event-failed", c->events.failed);
	report_loss(sink, userdata, "mappings-lost", mapping_events_take_lost(&c->mappings));
	report_loss(sink, userdata, "switch-not-attached", c->switch_failures);
	report_loss(sink, userdata, "maps-not-attached", c->maps_failures);
	report_loss(sink, userdata, "rss-not-attached", c->rss_failures);
	report_loss(sink, userdata, "flip-unsettled", c->drain.unsettled - c->flips_unsettled);
	c->skipped = skipped;
	c->skipped_kmem = skipped_kmem;
	c->threads.lost_processes = c->threads.lost_waits = c->threads.lost_events = 0;
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
	activity_apply_fault_rates(c);
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
	activity_follow_gate(c);
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
		.by_thread = c->config.thread_waits_per_sec > 0,
	};
	sink->begin(userdata, &info);
	while (gate_take_change(&c->gate, &change))
		sink->gate(userdata, &change);
	report_samples(c, sink, userdata);
	moment_table_report(&c->moments, wall, sink, userdata);
	threads_report(&c->threads, wall, sink, userdata);
	threads_report_events(&c->threads, sink, userdata);
	moment_table_report(&c->thread_waits, wall, sink, userdata);
	follow_fault_rates(c, wall);
	report_losses(c, sink, userdata);
	report_loss(sink, userdata, "known-stack-wrong",
	            known_tick(&c->known, bpf_map__fd(c->programs.skel->maps.known_counts), c->drain.n_cpus));
	activity_describe_offcpu(c);
	drain_evict(&c->drain, bpf_map__fd(c->programs.skel->maps.stacks), &c->threads,
	            drain_is_tight(&c->drain) ? heap_held(&c->heap) : NULL);
	unwind_maps_count_walks(&c->unwind_maps, c->programs.skel->maps.unwind_ends, c->drain.per_cpu, c->drain.n_cpus);
	activity_describe_rss(c);
	run_time_tick(&c->run_time);
	return r < 0 ? r : visited;
}
