/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who doesn't run, and why: blocked (it waits for something) and runnable (it waits for a CPU) are told apart.
 * Attached only while the gate is open.
 *
 * What is known of a task's wait lies in its task storage. claim is the time until which the wait has been accounted:
 * it starts as the time of the switch-out, the task iterator moves it on when the wait outlasts ticks, and the
 * switch-in takes it (exchanging it for 0) and accounts the rest. switches says which wait the state is about, so
 * that what is left over from an earlier opening of the gate is never taken for the present wait.
 *
 * Walking a stack is what costs, and how long a wait will be is not known when its stack can be walked. So
 * beyond a rate, waits are drawn at random and weighted. A wait that the iterator has claimed is accounted
 * with weight 1, drawn or not: whether a wait lasts through a tick doesn't depend on the draw. */

struct task_state {
	/* the wait; written by the switch, or by the iterator for a wait that began unseen */
	u64 switches;    /* number of switches of the task when it went off the CPU */
	u64 claim;       /* accounted until; 0: nothing to account */
	u64 out_ns;      /* 0: unknown */
	u64 wake_ns;     /* 0: not woken yet; where delay_ns doesn't tell */
	u64 delay_ns;    /* all its time in run queues when it went off the CPU */
	u64 stack_id;    /* 0: not walked */
	u32 weight;
	u32 preempted;   /* it went runnable, so all of it is runnable time */
	/* the iterator's */
	u64 seen_switches;
	u64 wait_id;     /* raw id of the reported wait, 0: none */
	u32 wait_epoch;
	u32 seen;        /* enum seen_state at the last visit */
	u32 session;     /* of the accounts below */
	u32 ticks;       /* that the reported wait has lasted; WALK_AGAIN_NOW: it is to be walked again and then reported */
	u64 on_cpu_ns, runnable_ns, faults_minor, faults_major; /* accounted until */
	s64 resident, anonymous; /* of the process as last told, pages; in its leader */
};

enum seen_state { SEEN_NEVER, SEEN_RUNNING, SEEN_BLOCKED, SEEN_QUEUED };

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_state);
} task_states SEC(".maps");

/* Windows are short, so that a storm is answered at once; the budget is given by window. */
#define WALK_WINDOW_NS 50000000ULL

struct walk_slot {
	u64 window_ns;   /* when the window began */
	u32 switches;    /* in this window */
	u32 walks;
	u32 every;       /* one in so many is walked, which is its weight */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct walk_slot);
} walk_slots SEC(".maps");

/* Time in which nobody looked is nobody's. */
static __always_inline u64 accountable(u64 claim)
{
	u64 awake = control.awake_ns;

	return claim < awake ? awake : claim;
}

/* The weight of this switch if its stack is to be walked, else 0. The rate depends on the past only. */
static __always_inline u32 draw(u64 now)
{
	u32 zero = 0, budget = control.walk_budget;
	struct walk_slot *slot;

	if (!budget)
		return 1;
	slot = bpf_map_lookup_elem(&walk_slots, &zero);
	if (!slot)
		return 0;
	if (now - slot->window_ns > WALK_WINDOW_NS) {
		bool adjacent = now - slot->window_ns < 2 * WALK_WINDOW_NS;

		slot->every = adjacent && slot->switches > budget ? (slot->switches + budget - 1) / budget : 1;
		slot->window_ns = now;
		slot->switches = 0;
		slot->walks = 0;
	}
	slot->switches++;
	if (slot->every > 1 && bpf_get_prandom_u32() % slot->every)
		return 0;
	slot->walks++;
	/* A window that brings more than the one before it did: thin out further for the rest of it. */
	if (slot->walks > budget) {
		u32 weight = slot->every;

		slot->walks = 0;
		slot->every = weight * 2;
		return weight;
	}
	return slot->every;
}

static __always_inline void switch_out(void *ctx, struct task_struct *task, bool involuntary, bool preempted, u64 now)
{
	struct task_state *state = bpf_task_storage_get(&task_states, task, 0, 0);
	u32 weight;

	if (!state) {
		lose(LOSS_TASK_STORAGE, 1);
		return;
	}
	weight = draw(now);
	state->wake_ns = 0;
	if (bpf_core_field_exists(task->sched_info.run_delay))
		state->delay_ns = task->sched_info.run_delay;
	state->preempted = preempted;
	state->weight = weight;
	state->stack_id = weight ? stack_of_wait(ctx, task, involuntary, weight) : 0;
	/* Only drawn waits contain our walk, and it must not be multiplied by their weight. */
	if (weight > 1)
		now = bpf_ktime_get_ns();
	state->out_ns = now;
	state->switches = switches_of(task);
	*(volatile u64 *)&state->claim = now;
}

/* Beside the counts, as those of processes don't tell threads apart. The iterator may be interrupted here by a switch on its CPU. Gives
 * whether there was room. */
static __noinline bool note_thread_wait(struct task_struct *task, u64 id, u32 metric, u64 ns, u32 drawn)
{
	u32 cpu = bpf_get_smp_processor_id() & (STACKD_CPUS_MAX - 1), half = current_half(), n, index;
	struct stackd_moment *wait = 0;

	if (!task)
		return false;
	n = __sync_fetch_and_add(&guards[cpu].thread_waits[half], 1);
	index = (half * control.moments_cpus + cpu) * control.thread_waits_per_cpu + n;
	if (n < control.thread_waits_per_cpu)
		wait = bpf_map_lookup_elem(&thread_waits, &index);
	if (!wait) {
		lose(LOSS_THREAD_WAITS, 1);
		return false;
	}
	wait->id = id;
	wait->time_ns = bpf_ktime_get_ns();
	wait->weight_ns = ns;
	wait->tid = task->pid;
	wait->metric = metric;
	wait->drawn = drawn;
	bpf_probe_read_kernel(wait->comm, sizeof wait->comm, task->comm);
	return true;
}

/* Waits are drawn by their length: what lasts for a unit or longer is noted as it is, what is shorter with the probability that it has of a
 * unit, and as one. So the sums are right on average, whatever the unit is, and it may grow when a tick's room is used up. */
static __always_inline void draw_thread_wait(struct task_struct *task, u64 id, u32 half, u64 blocked, u64 runnable, u32 random)
{
	u32 cpu = bpf_get_smp_processor_id() & (STACKD_CPUS_MAX - 1), shift = control.thread_wait_shift;
	u32 taken = guards[cpu].thread_waits[half], plenty = control.thread_waits_per_cpu / 2;
	u64 chance;

	if (!shift)
		return;
	if (taken > plenty)
		shift += (taken - plenty) >> (control.thread_wait_room_shift & 31);
	if (shift > STACKD_WAIT_SHIFT_MAX)
		shift = STACKD_WAIT_SHIFT_MAX;
	chance = ((u64)random << (STACKD_WAIT_SHIFT_MAX - 32)) >> (STACKD_WAIT_SHIFT_MAX - shift);
	if (blocked > chance)
		note_thread_wait(task, id, STACKD_BLOCKED, blocked >> shift ? blocked : 1ULL << shift, !(blocked >> shift));
	if (runnable > chance)
		note_thread_wait(task, id, STACKD_RUNNABLE, runnable >> shift ? runnable : 1ULL << shift, !(runnable >> shift));
}

/* weight: one of so many was drawn, and the times are multiplied by it. */
static __always_inline void account_off_cpu(struct task_struct *task, u64 id, u64 blocked, u64 runnable, u32 weight)
{
	u32 half = current_half();
	struct stackd_count *count = count_get_in(half, id, task);

	if (!count)
		return;
	if (blocked)
		__sync_fetch_and_add(&count->values[STACKD_BLOCKED], blocked);
	if (runnable)
		__sync_fetch_and_add(&count->values[STACKD_RUNNABLE], runnable);
	if (weight > 1) {
		count_variance(count, STACKD_VARIANCE_BLOCKED, blocked, 1, weight);
		count_variance(count, STACKD_VARIANCE_RUNNABLE, runnable, 1, weight);
	}
	draw_thread_wait(task, id, half, blocked, runnable, bpf_get_prandom_u32());
}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct stackd_wait_sum);
} wait_sums SEC(".maps");

static __always_inline struct stackd_wait_sum *wait_sum_of(u32 half, u64 id)
{
	u32 cpu = bpf_get_smp_processor_id(), index = (half * control.moments_cpus + cpu) * STACKD_WAIT_SUMS + (id & (STACKD_WAIT_SUMS - 1));

	return cpu < control.moments_cpus ? bpf_map_lookup_elem(&wait_sums, &index) : 0;
}

/* False: there is no room for it among the counts. */
static __always_inline bool wait_sum_begin(struct stackd_wait_sum *sum, u32 half, u64 id, struct task_struct *task)
{
	u64 before = sum->id;
	struct stackd_count *count = before ? count_find(half, &before) : 0;

	if (count) {
		__sync_fetch_and_add(&count->values[STACKD_BLOCKED], sum->blocked_ns);
		__sync_fetch_and_add(&count->values[STACKD_RUNNABLE], sum->runnable_ns);
	} else if (before) {
		lose(LOSS_COUNTS_FULL, 1);
	}
	sum->id = 0;
	if (!count_get_in(half, id, task))
		return false;
	sum->id = id;
	sum->blocked_ns = sum->runnable_ns = 0;
	return true;
}

/* Threads of a process that take turns wait in the same places, on all CPUs, so the counts, which all share, are left alone. Only a switch comes
 * here, and none within another one. Of now the last digits are as good as random numbers, and take less. */
static __always_inline void account_switch(struct task_struct *task, u64 id, u64 blocked, u64 runnable, u64 now)
{
	u32 half = current_half();
	struct stackd_wait_sum *sum = wait_sum_of(half, id);
	bool again = sum && sum->id != id && sum->candidate == id;

	if (again && !wait_sum_begin(sum, half, id, task))
		return;
	if (sum && sum->id == id) {
		sum->blocked_ns += blocked;
		sum->runnable_ns += runnable;
		draw_thread_wait(task, id, half, blocked, runnable, mix(id, now) >> 32);
		return;
	}
	if (sum)
		sum->candidate = id;
	account_off_cpu(task, id, blocked, runnable, 1);
}

/* When it began to wait for a CPU: what the kernel books as its time in run queues tells, and saves seeing each wake-up. It does so after
 * the tracepoint; clock is the run queue's. 0: not known. */
static __always_inline u64 woken_at(struct task_struct *task, const struct task_state *state, u64 clock, u64 now)
{
	u64 queued, waited;

	if (!bpf_core_field_exists(task->sched_info.run_delay))
		return state->wake_ns;
	queued = task->sched_info.last_queued;
	waited = task->sched_info.run_delay - state->delay_ns;
	if (queued && !clock)
		return 0;
	if (queued && clock > queued)
		waited += clock - queued;
	return now - waited;
}

static __always_inline u64 clock_of_this_cpu(void)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct rq *rq = cpu < STACKD_CPUS_MAX ? (struct rq *)run_queue_of[cpu] : 0;

	if (!rq)
		return 0;
	if (CAN_CAST) {
		rq = bpf_rdonly_cast(rq, bpf_core_type_id_kernel(struct rq));
		return rq->clock;
	}
	return BPF_CORE_READ(rq, clock);
}

/* Splits the time from claim to now where it began to wait for a CPU. */
static __always_inline void account_wait(struct task_struct *task, struct task_state *state, u64 claim, u64 now,
                                         u32 weight)
{
	u64 wake = state->preempted ? claim : woken_at(task, state, clock_of_this_cpu(), now);

	if (!wake) {
		lose(LOSS_WAKEUP_UNSEEN, 1);
		return;
	}
	if (wake < claim)
		wake = claim;
	if (now < wake)
		return;
	if (weight > 1)
		account_off_cpu(task, state->stack_id, (wake - claim) * weight, (now - wake) * weight, weight);
	else
		account_switch(task, state->stack_id, wake - claim, now - wake, now);
}

static __always_inline void switch_in(struct task_struct *task, u64 now)
{
	struct task_state *state = bpf_task_storage_get(&task_states, task, 0, 0);
	u64 claim;
	u32 weight;

	if (!state || state->switches != switches_of(task))
		return;
	claim = __sync_lock_test_and_set(&state->claim, 0);
	if (!claim)
		return;
	weight = claim == state->out_ns ? state->weight : 1;
	if (state->stack_id && weight)
		account_wait(task, state, accountable(claim), now, weight);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct stackd_guard *guard = enter();
	u64 now = bpf_ktime_get_ns();
	u32 task_state = prev->__state;

	if (prev->pid && !(task_state & TASK_DEAD))
		switch_out(ctx, prev, preempt, preempt || task_state == TASK_RUNNING, now);
	if (next->pid)
		switch_in(next, now);
	leave(guard);
	return 0;
}

/* Loaded only where the kernel doesn't book the time in run queues. */
SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *task)
{
	struct task_state *state = bpf_task_storage_get(&task_states, task, 0, 0);

	if (state && state->switches == switches_of(task))
		state->wake_ns = bpf_ktime_get_ns();
	return 0;
}

/* A thread that has not run yet has one frame: where it will begin. */
static __always_inline u64 stack_of_new(struct task_struct *child)
{
	u32 slot = SCRATCH_FORK;
	struct stackd_stack *stack = bpf_map_lookup_elem(&scratch, &slot);

	if (!stack || child->flags & PF_KTHREAD)
		return 0;
	stack->n_kernel = 0;
	stack->n_user = 1;
	stack->user[0] = REGS_IP((struct pt_regs *)bpf_task_pt_regs(child));
	stack->flags = 0;
	process_fill(&stack->process, child);
	return stack_keep(stack);
}

/* Makes the place for a new task's state where memory may be had: not under the run queue's lock. Until it runs for the
 * first time it waits for a CPU. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct task_state *state = bpf_task_storage_get(&task_states, child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	u64 now = bpf_ktime_get_ns();
	struct stackd_guard *guard;
	u32 weight;

	if (!state) {
		lose(LOSS_TASK_STORAGE, 1);
		return 0;
	}
	guard = enter();
	weight = draw(now);
	state->out_ns = now;
	state->preempted = 1;
	state->weight = weight;
	state->stack_id = weight ? stack_of_new(child) : 0;
	state->claim = now;
	leave(guard);
	return 0;
}
