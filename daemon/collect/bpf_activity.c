/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of the BPF source runs: everything while the gate is open, the baseline or nothing while it is closed, less what the budget leaves
 * out. */
#include "bpf_source_state.h"
#include "stackd.skel.h"

/* bpf/offcpu.bpf.c counts walks in windows of 50 ms. */
#define WALK_WINDOWS_PER_SEC 20

static void arm_gate(struct bpf_source *c)
{
	struct stackd_control *control = c->control;
	uint64_t from_us = 0;
	bool wanted = gate_wants_crossing(&c->gate, &from_us);

	control->open_above_milli = (uint64_t)(c->gate.open_above * 1000);
	control->gate_armed_after_ns = from_us * NSEC_PER_USEC;
	__atomic_store_n(&control->gate_armed, wanted, __ATOMIC_RELEASE);
}

static enum activity wanted_activity(const struct bpf_source *c)
{
	return c->gate.open ? FULL : c->config.baseline_hz ? BASELINE : DARK;
}

uint32_t activity_clock_hz(const struct bpf_source *c)
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
void activity_describe_rss(struct bpf_source *c)
{
	char buf[FORMAT_MAX];

	snprintf(c->rss_source, sizeof c->rss_source, "%s; without a stack %s",
	         c->rss_seen      ? "tp_btf rss_stat"
	         : c->maps_seen   ? "sampled faults, tp_btf mmap_lock"
	         : c->activity == DARK ? "none: the gate is closed"
	                               : "sampled faults",
	         format_metric(buf, METRIC_RSS, (uint64_t)c->control->rss_elsewhere));
}

void activity_describe_offcpu(struct bpf_source *c)
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
void activity_apply_fault_rates(struct bpf_source *c)
{
	faults_set_rates(&c->faults, fault_hz(c), c->activity == FULL, c->minor_rate, c->major_rate, c->control->online_cpus);
	if (c->faults.window < 1)
		snprintf(c->faults_source, sizeof c->faults_source, "perf_event minor-faults, major-faults, about %u Hz, minor ones %.0f%% of the time",
		         fault_hz(c), 100 * c->faults.window);
	else
		snprintf(c->faults_source, sizeof c->faults_source, "perf_event minor-faults, major-faults, about %u Hz", fault_hz(c));
}

void activity_apply_rates(struct bpf_source *c)
{
	uint32_t hz = activity_clock_hz(c), budget = c->config.offcpu_stacks_per_sec;
	uint64_t period = hz ? perf_events_clock_period(hz) : 0;

	c->control->gap_ns = GAP_PERIODS * MAX(period, c->control->period_ns);
	c->control->period_ns = period;
	c->control->walk_budget = budget ? MAX(budget / WALK_WINDOWS_PER_SEC, 1U) : 0;
	c->control->memory_budget = memory_budget(c);
	perf_events_set_clock(&c->events, hz);
	activity_apply_fault_rates(c);
	if (c->programs.oncpu == ONCPU_BY_PERF)
		snprintf(c->oncpu_source, sizeof c->oncpu_source, "perf_event cpu-clock %u Hz", hz);
	else
		snprintf(c->oncpu_source, sizeof c->oncpu_source, "update_rq_clock (%s) %u Hz",
		         c->programs.oncpu == ONCPU_BY_FENTRY ? "fentry" : "kprobe", hz);
}

/* Makes what runs agree with the gate. What matters most for the first moments comes first. */
void activity_follow_gate(struct bpf_source *c)
{
	enum activity wanted = wanted_activity(c), before = c->activity;

	arm_gate(c);
	if (wanted == before)
		return;
	c->activity = wanted;
	if (before == DARK)
		come_back(c);
	activity_apply_rates(c);
	follow_switches(c);
	follow_maps(c);
	follow_rss(c);
	if (wanted == DARK)
		go_dark(c);
}

void activity_begin(struct bpf_source *c)
{
	c->activity = wanted_activity(c);
	activity_apply_rates(c);
	follow_maps(c);
	follow_rss(c);
	if (c->activity == DARK)
		go_dark(c);
	arm_gate(c);
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
