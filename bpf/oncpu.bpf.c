/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who runs: the CPU clock's perf event, or the scheduler's update_rq_clock(). */

struct perf_slot {
	u64 cpu_clock, faults_minor, faults_major; /* the events' counts at their last samples */
	u64 fault_session;                         /* of faults_minor, and: */
	u64 faults_noted;                          /* minor ones that the tick's sum has, walked or not */
	u64 idle_switches;                         /* how often the CPU had left idle then */
	u64 clock_ns;                              /* the last update of the run queue's clock, 0: none */
	u64 busy_ns;                               /* time not idle since the last hit taken there */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct perf_slot);
} perf_slots SEC(".maps");

static __always_inline struct perf_slot *perf_slot(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&perf_slots, &zero);
}

/* Where the clock's interrupt stayed out for long, the CPU was not ours to watch. */
static __always_inline u64 bounded_weight(u64 elapsed)
{
	u64 most = control.gap_ns;

	if (elapsed <= most)
		return elapsed;
	lose(LOSS_SAMPLE_GAP, 1);
	return most;
}

/* Beside the counts, so that they can be told apart within a tick. */
static __always_inline void note_moment(struct stackd_guard *guard, u32 half, u64 id, struct task_struct *task, u64 weight)
{
	u32 cpu = bpf_get_smp_processor_id() & (STACKD_CPUS_MAX - 1), n = guard->moments[half], index;
	struct stackd_moment *moment = 0;

	index = (half * control.moments_cpus + cpu) * control.moments_per_cpu + n;
	if (n < control.moments_per_cpu)
		moment = bpf_map_lookup_elem(&moments, &index);
	if (!moment) {
		lose(LOSS_MOMENTS, 1);
		return;
	}
	guard->moments[half] = n + 1;
	moment->id = id;
	moment->time_ns = bpf_ktime_get_ns();
	moment->weight_ns = weight;
	moment->tid = task->pid;
	moment->metric = STACKD_ON_CPU;
	moment->drawn = 0;
	bpf_probe_read_kernel(moment->comm, sizeof moment->comm, task->comm);
}

static __always_inline void count_on_cpu(struct stackd_guard *guard, u64 id, struct task_struct *task, u64 weight)
{
	u32 half = current_half();
	struct stackd_count *count = count_get_in(half, id, task);

	if (!count)
		return;
	__sync_fetch_and_add(&count->values[STACKD_ON_CPU], weight);
	__sync_fetch_and_add(&count->values[STACKD_HITS], 1);
	note_moment(guard, half, id, task, weight);
}

/* How often this CPU has left idle; 0 while its run queue isn't known. */
static __always_inline u64 idle_switches(void)
{
	struct rq *rq = (struct rq *)run_queue_of[bpf_get_smp_processor_id() & (STACKD_CPUS_MAX - 1)];

	return rq ? BPF_CORE_READ(rq, idle, nivcsw) + BPF_CORE_READ(rq, idle, nvcsw) : 0;
}

/* What the CPU clock counted since its last sample, so that a late timer loses nothing; a period where the CPU was
 * idle in between, as an idle CPU's timer may not come at all. */
static __always_inline u64 clock_weight(struct perf_slot *slot, u64 counter)
{
	u64 elapsed = counter >= slot->cpu_clock ? counter - slot->cpu_clock : counter, left_idle = idle_switches();
	bool was_idle = !left_idle || left_idle != slot->idle_switches;

	slot->cpu_clock = counter;
	slot->idle_switches = left_idle;
	return was_idle ? control.period_ns : bounded_weight(elapsed);
}

SEC("perf_event")
int on_cpu_clock(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct bpf_perf_event_value value = {};
	struct perf_slot *slot = perf_slot();
	struct stackd_guard *guard;
	u64 weight, id;

	if (!slot || bpf_perf_prog_read_value(ctx, &value, sizeof value))
		return 0;
	if (task->pid == 0)
		return 0;
	guard = enter();
	weight = clock_weight(slot, value.counter);
	id = stack_capture(ctx, SCRATCH_PERF, task);
	if (id)
		count_on_cpu(guard, id, task, weight);
	leave(guard);
	return 0;
}

/* The run queue's clock is also updated for other CPUs' queues, whose task is not the current one: those are
 * skipped. A switch updates it before the task changes, so the time since the last update is the current task's. A hit is
 * taken when a period of such time has come together, idle time not counted, and stands for all of it: short runs between
 * idle times get their share of hits. */
static __always_inline void on_rq_clock(void *ctx, struct rq *rq)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 period = control.period_ns, now, since, weight, id;
	struct stackd_guard *guard;
	struct perf_slot *slot;

	if (!period || (u32)BPF_CORE_READ(rq, cpu) != bpf_get_smp_processor_id())
		return;
	slot = perf_slot();
	if (!slot)
		return;
	now = bpf_ktime_get_ns();
	since = slot->clock_ns;
	slot->clock_ns = now;
	if (task->pid == 0 || !since)
		return;
	weight = slot->busy_ns + bounded_weight(now - since);
	slot->busy_ns = weight;
	if (weight < period)
		return;
	slot->busy_ns = 0;
	guard = enter();
	id = stack_capture(ctx, SCRATCH_CLOCK, task);
	if (id)
		count_on_cpu(guard, id, task, weight);
	leave(guard);
}

SEC("fentry/update_rq_clock")
int BPF_PROG(on_cpu_fentry, struct rq *rq)
{
	on_rq_clock(ctx, rq);
	return 0;
}

SEC("kprobe/update_rq_clock")
int on_cpu_kprobe(struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	on_rq_clock(ctx, (struct rq *)BPF_CORE_READ(ctx, di));
#else
	on_rq_clock(ctx, (struct rq *)BPF_CORE_READ(ctx, regs[0]));
#endif
	return 0;
}
