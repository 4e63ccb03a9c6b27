/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The load: runnable tasks of all CPUs. The run queues' addresses are learnt by the task iterator (totals.bpf.c), since
 * `runqueues` is a symbol for programs only where kallsyms lists data. A tracepoint that fires while
 * anything runs is the occasion to look, at most once an interval. */

/* Where no tracepoint fires for so long, no CPU has run: a busy one ticks. */
#define QUIET_NS 20000000ULL

struct load_sum {
	u32 running;
};

/* Since 6.12 a task that went to sleep may stay queued until its lag is used up; it isn't runnable. */
static __always_inline u32 delayed_sleepers(struct rq *rq)
{
	struct cfs_rq *cfs = &rq->cfs;

	if (bpf_core_field_exists(cfs->h_nr_queued) && bpf_core_field_exists(cfs->h_nr_runnable)) {
		u32 queued = BPF_CORE_READ(rq, cfs.h_nr_queued), runnable = BPF_CORE_READ(rq, cfs.h_nr_runnable);

		return queued > runnable ? queued - runnable : 0;
	}
	if (bpf_core_field_exists(cfs->h_nr_delayed))
		return BPF_CORE_READ(rq, cfs.h_nr_delayed);
	return 0;
}

static long add_run_queue(u32 cpu, struct load_sum *sum)
{
	struct rq *rq;
	u32 running, asleep;

	if (cpu >= STACKD_CPUS_MAX)
		return 1;
	rq = (struct rq *)run_queue_of[cpu];
	if (!rq)
		return 0;
	running = BPF_CORE_READ(rq, nr_running);
	asleep = delayed_sleepers(rq);
	sum->running += running > asleep ? running - asleep : 0;
	return 0;
}

static __always_inline void tell_crossing(u32 running)
{
	if (__sync_lock_test_and_set(&control.gate_armed, 0) && !tell(STACKD_NOTICE_LOAD, running))
		control.gate_armed = 1;
}

static __always_inline void note_clock(u64 now)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct rq *rq;
	s64 ahead;

	if (cpu >= STACKD_CPUS_MAX)
		return;
	rq = (struct rq *)run_queue_of[cpu];
	if (!rq)
		return;
	ahead = BPF_CORE_READ(rq, clock) - now;
	if (!control.clock_ahead_seen_ns || ahead > control.clock_ahead_seen_ns)
		control.clock_ahead_seen_ns = ahead;
}

static __always_inline void evaluate(u64 now, u64 before)
{
	struct load_sum sum = {};
	u64 elapsed = now - before;

	bpf_loop(control.possible_cpus, add_run_queue, &sum, 0);
	if (elapsed > QUIET_NS)
		elapsed = QUIET_NS;
	control.running = sum.running;
	note_clock(now);
	__sync_fetch_and_add(&control.running_ns, sum.running * elapsed);
	if (control.gate_armed && now >= control.gate_armed_after_ns &&
	    sum.running * 1000ULL > control.open_above_milli * control.online_cpus)
		tell_crossing(sum.running);
}

static __always_inline void occasion(void)
{
	u64 now = bpf_ktime_get_ns(), before = *(volatile u64 *)&control.gate_evaluated_ns;

	if (now < before + control.gate_interval_ns)
		return;
	if (__sync_val_compare_and_swap(&control.gate_evaluated_ns, before, now) == before)
		evaluate(now, before);
}

SEC("tp_btf/pelt_cfs_tp")
int BPF_PROG(gate_pelt_cfs)
{
	occasion();
	return 0;
}

SEC("tp_btf/pelt_rt_tp")
int BPF_PROG(gate_pelt_rt)
{
	occasion();
	return 0;
}

SEC("tp_btf/sched_update_nr_running_tp")
int BPF_PROG(gate_nr_running)
{
	occasion();
	return 0;
}

SEC("fentry/update_rq_clock")
int BPF_PROG(gate_fentry)
{
	occasion();
	return 0;
}

SEC("kprobe/update_rq_clock")
int gate_kprobe(void *ctx)
{
	occasion();
	return 0;
}

/* Run by the daemon: each tick, and by a timer where no tracepoint serves. */
SEC("raw_tp")
int gate_evaluate(void *ctx)
{
	u64 now = bpf_ktime_get_ns(), before = *(volatile u64 *)&control.gate_evaluated_ns;

	if (__sync_val_compare_and_swap(&control.gate_evaluated_ns, before, now) == before)
		evaluate(now, before);
	return 0;
}
