/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Once a tick the daemon runs the iterator over all tasks: it reads the kernel's own accounts of each thread (exact
 * totals, no hook), finds the waits that outlast ticks, and the threads that have waited for a CPU all along.
 * What a thread did after the last visit is read at its exit, and what exiting took when the task is freed. */

struct exits_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct stackd_exit_key);
	__type(value, struct stackd_exit);
};
struct exits_map exits_0 SEC(".maps");
struct exits_map exits_1 SEC(".maps");

/* The iterator's stack; one reader runs it at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct stackd_stack);
} walk_scratch SEC(".maps");

/* ---- where the run queues are, for the gate ---- */

static __always_inline struct rq *rq_of(struct task_struct *task)
{
	struct cfs_rq *cfs_rq = BPF_CORE_READ(task, se.cfs_rq);

	if (!cfs_rq)
		return 0;
	if (bpf_core_field_exists(cfs_rq->rq))
		return BPF_CORE_READ(cfs_rq, rq);
	return (void *)cfs_rq - bpf_core_field_offset(struct rq, cfs);
}

static __always_inline void learn_run_queue(struct task_struct *task)
{
	struct rq *rq = rq_of(task);
	u32 cpu;

	if (!rq)
		return;
	cpu = BPF_CORE_READ(rq, cpu);
	if (cpu >= STACKD_CPUS_MAX || run_queue_of[cpu])
		return;
	run_queue_of[cpu] = (u64)rq;
	__sync_fetch_and_add(&control.run_queues, 1);
}

/* ---- what a thread does ---- */

static __always_inline bool is_blocked(struct task_struct *task)
{
	u32 state = task->__state;
	bool delayed = bpf_core_field_exists(task->se.sched_delayed) && task->se.sched_delayed;

	return state && !(state & (TASK_WAKING | TASK_NEW | TASK_DEAD)) && !task->on_cpu && (!task->on_rq || delayed);
}

static __always_inline bool is_queued(struct task_struct *task)
{
	bool delayed = bpf_core_field_exists(task->se.sched_delayed) && task->se.sched_delayed;

	return !task->on_cpu && task->on_rq == 1 && !delayed && !(task->__state & (TASK_NEW | TASK_DEAD));
}

/* ---- accounts ---- */

struct accounts {
	u64 on_cpu_ns, runnable_ns, faults_minor, faults_major;
};

/* The time in the run queue is booked when it ends; for a thread that is still queued the time so far is added.
 * last_queued is on the run queue's own clock, and may be left over in a thread that sleeps. */
static __always_inline u64 runnable_of(struct task_struct *task)
{
	u64 queued, clock, booked;
	struct rq *rq;

	if (!bpf_core_field_exists(task->sched_info.run_delay))
		return 0;
	booked = task->sched_info.run_delay;
	queued = task->sched_info.last_queued;
	if (!queued || !is_queued(task))
		return booked;
	rq = rq_of(task);
	clock = rq ? BPF_CORE_READ(rq, clock) : 0;
	return clock > queued ? booked + clock - queued : booked;
}

static __always_inline void accounts_read(struct task_struct *task, struct accounts *accounts)
{
	accounts->on_cpu_ns = task->se.sum_exec_runtime;
	accounts->runnable_ns = runnable_of(task);
	accounts->faults_minor = task->min_flt;
	accounts->faults_major = task->maj_flt;
}

/* What was added since the account was taken last. A reading below it is a torn one: the next one brings it. */
static __always_inline u64 advance(u64 *last, u64 now)
{
	u64 before = *last;

	if (now <= before)
		return 0;
	*last = now;
	return now - before;
}

/* Without what CPUs have not added yet: some dozen pages each. A macro, since the place of an element is found at load time only where its
 * number is a constant to the compiler. */
#define pages_of(mm, kind)                                                                                                    \
	({                                                                                                                    \
		struct mm_struct___before_6_2 *old_ = (void *)(mm);                                                           \
		bpf_core_field_exists(old_->rss_stat.count) ? (s64)BPF_CORE_READ(old_, rss_stat.count[kind].counter)          \
		                                            : BPF_CORE_READ(mm, rss_stat[kind].count);                        \
	})

/* How many pages the process has more than was told. */
static __always_inline void memory_read(struct task_struct *task, const struct task_state *state, struct stackd_thread *line)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	s64 anonymous;

	if (!mm || task->pid != task->tgid)
		return;
	anonymous = pages_of(mm, MM_ANONPAGES);
	line->resident = anonymous + pages_of(mm, MM_FILEPAGES) + pages_of(mm, MM_SHMEMPAGES) - state->resident;
	line->anonymous = anonymous + pages_of(mm, MM_SWAPENTS) - state->anonymous;
}

static __always_inline void memory_told(struct task_state *state, const struct stackd_thread *line)
{
	state->resident += line->resident;
	state->anonymous += line->anonymous;
}

/* ---- stacks of waiting threads ---- */

struct user_frame {
	u64 next, address;
};

/* Whether the thread's memory can be read without waiting for a writer of its map or for pages from swap: the daemon must
 * not get stuck behind the processes that it watches. */
static __always_inline bool memory_at_hand(struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);

	if (!mm || pages_of(mm, MM_SWAPENTS) > 0)
		return false;
	return !bpf_core_field_exists(mm->mmap_lock.count) ||
	       !(BPF_CORE_READ(mm, mmap_lock.count.counter) & RWSEM_WRITERS_AND_WAITERS);
}

struct frame_walk {
	struct task_struct *task;
	struct stackd_stack *stack;
	u64 at;
};

static long walk_frame(u32 i, struct frame_walk *walk)
{
	struct user_frame frame;
	u32 n = i + 1;

	if (n >= STACKD_USER_FRAMES || bpf_copy_from_user_task(&frame, sizeof frame, (void *)walk->at, walk->task, 0))
		return 1;
	walk->stack->user[n] = frame.address;
	walk->stack->n_user = n + 1;
	walk->at = frame.next;
	return 0;
}

/* As bpf_get_stack() walks the current task: the address, then the chain of frame pointers. */
static __always_inline void walk_frame_pointers(struct task_struct *task, struct stackd_stack *stack)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	struct frame_walk walk = { .task = task, .stack = stack, .at = REGS_FP(regs) };

	stack->user[0] = REGS_IP(regs);
	stack->n_user = 1;
	bpf_loop(STACKD_USER_FRAMES - 1, walk_frame, &walk, 0);
	unwind_ended(stack, stack->n_user >= control.stack_depth ? STACKD_UNWIND_DEPTH : STACKD_UNWIND_PROCESS, true);
}

/* Walks a thread that isn't running, and keeps the stack only if it still is where it was. */
static __always_inline u64 walk_waiting(struct task_struct *task, u64 switches, bool sleepable)
{
	u32 zero = 0;
	struct stackd_stack *stack = bpf_map_lookup_elem(&walk_scratch, &zero);
	long size;

	if (!stack)
		return 0;
	if (!control.walks_left || bpf_ktime_get_ns() > control.walks_until_ns) {
		lose(LOSS_WALK_LIMIT, 1);
		return 0;
	}
	control.walks_left--;
	size = bpf_get_task_stack(task, stack->kernel, sizeof stack->kernel, 0);
	stack->n_kernel = size > 0 ? (u64)size / 8 : 0;
	stack->n_user = 0;
	stack->flags = stack->n_kernel == STACKD_KERNEL_FRAMES ? STACKD_STACK_TRUNCATED : 0;
	process_fill(&stack->process, task);
	if (!(task->flags & PF_KTHREAD)) {
		if (!sleepable || !memory_at_hand(task))
			unwind_ended(stack, STACKD_UNWIND_READ, false);
		else if (!unwind_remote(task, stack))
			walk_frame_pointers(task, stack);
	}
	if (task->on_cpu || switches_of(task) != switches)
		return 0;
	if (!stack->n_kernel && !stack->n_user) {
		lose(LOSS_STACK_FAILED, 1);
		return 0;
	}
	return stack_keep(stack);
}

/* ---- waits that outlast ticks ---- */

#define WALK_AGAIN_SOON 3
#define WALK_AGAIN_LATE 15
#define WALK_AGAIN_NOW 0xffffffffu

/* The stack of a wait that began before the daemon had loaded what it takes to walk it: it is walked again after some ticks. */
static __always_inline bool is_poor(u64 id)
{
	const struct stackd_stack *stack = bpf_map_lookup_elem(&stacks, &id);
	u32 end;

	if (!stack)
		return false;
	end = stack->flags >> STACKD_STACK_END_SHIFT;
	return stack->flags & STACKD_STACK_FRAME_POINTERS || end == STACKD_UNWIND_MAPPING || end == STACKD_UNWIND_TABLE;
}

static __always_inline bool walk_again(struct task_state *state, u64 id)
{
	u32 ticks = ++state->ticks;

	return (ticks == WALK_AGAIN_SOON || ticks == WALK_AGAIN_LATE) && is_poor(id);
}

static __always_inline bool wait_reported(struct task_state *state)
{
	return state->wait_id && state->wait_epoch == control.wait_epoch;
}

static __always_inline void wait_end(struct task_state *state, struct stackd_thread *line)
{
	if (wait_reported(state)) {
		line->wait_id = state->wait_id;
		line->wait_delta = -1;
	}
	state->wait_id = 0;
}

/* The state of a wait whose switch-out no program saw: the time before this tick's end is accounted elsewhere. */
static __always_inline void wait_adopt(struct task_struct *task, struct task_state *state, u64 switches, u64 id, bool queued)
{
	state->out_ns = 0;
	state->wake_ns = 0;
	if (bpf_core_field_exists(task->sched_info.run_delay))
		state->delay_ns = runnable_of(task);
	state->weight = 1;
	state->preempted = queued;
	state->stack_id = id;
	*(volatile u64 *)&state->claim = control.tick_ns;
	*(volatile u64 *)&state->switches = switches;
}

/* A thread that was blocked at the last visit and has not moved since. Gives whether it is in a reported wait. */
static __always_inline bool still_blocked(struct task_struct *task, struct task_state *state, u64 switches,
                                          struct stackd_thread *line, bool sleepable)
{
	bool known = state->switches == switches, reported = wait_reported(state);
	u64 claim = known ? *(volatile u64 *)&state->claim : 0, id = known ? state->stack_id : 0;

	if (known && !claim)
		return false; /* it is being switched in just now */
	if (known && !reported && claim > control.last_tick_ns)
		return false; /* it went to sleep after the last tick's end, before the last visit: not a whole tick yet */
	if (reported)
		id = state->wait_id;
	else if (!id || state->ticks == WALK_AGAIN_NOW)
		id = walk_waiting(task, switches, sleepable);
	if (!id || !is_blocked(task))
		return false;
	if (known) {
		bool again = reported && walk_again(state, id);

		state->stack_id = id;
		if (__sync_val_compare_and_swap(&state->claim, claim, control.tick_ns) != claim)
			return false;
		if (again) { /* this wait ends here, and the next visit reports it with what it finds then */
			state->ticks = WALK_AGAIN_NOW;
			account_off_cpu(task, id, control.tick_ns - control.last_tick_ns, 0, 1);
			return false;
		}
		if (!reported && accountable(claim) < control.last_tick_ns)
			account_off_cpu(task, id, control.last_tick_ns - accountable(claim), 0, 1);
	} else {
		wait_adopt(task, state, switches, id, false);
	}
	if (!reported) {
		state->wait_id = id;
		state->wait_epoch = control.wait_epoch;
		state->ticks = 0;
		line->wait_id = id;
		line->wait_delta = 1;
	}
	return true;
}

static __always_inline u64 queued_at(struct task_struct *task, const struct task_state *state)
{
	struct rq *rq = rq_of(task);

	return woken_at(task, state, rq ? BPF_CORE_READ(rq, clock) : 0, bpf_ktime_get_ns());
}

/* A thread that has waited for a CPU, perhaps after having been blocked, and has not moved since the last visit. */
static __always_inline void still_queued(struct task_struct *task, struct task_state *state, u64 switches, bool sleepable)
{
	bool known = state->switches == switches, all_tick = state->seen == SEEN_QUEUED;
	u64 claim = known ? *(volatile u64 *)&state->claim : 0, wake, id = known ? state->stack_id : 0;

	if (known ? !claim || claim > control.last_tick_ns : !all_tick)
		return;
	wake = state->preempted ? claim : known ? queued_at(task, state) : 0;
	if (!wake && all_tick)
		wake = claim;
	if (!id)
		id = walk_waiting(task, switches, sleepable);
	if (!id || !is_queued(task))
		return;
	if (!known) {
		wait_adopt(task, state, switches, id, true);
		account_off_cpu(task, id, 0, control.tick_ns - control.last_tick_ns, 1);
		return;
	}
	if (!wake || wake > control.tick_ns)
		return;
	state->stack_id = id;
	if (__sync_val_compare_and_swap(&state->claim, claim, control.tick_ns) != claim)
		return;
	claim = accountable(claim);
	if (wake < claim)
		wake = claim;
	if (wake < control.tick_ns)
		account_off_cpu(task, id, wake - claim, control.tick_ns - wake, 1);
}

static __always_inline void visit_wait(struct task_struct *task, struct task_state *state, struct stackd_thread *line,
                                       bool sleepable)
{
	u64 switches = switches_of(task);
	bool blocked = is_blocked(task), queued = !blocked && is_queued(task);
	bool unmoved = state->seen_switches == switches && state->seen != SEEN_NEVER;

	if (unmoved && blocked && state->seen == SEEN_BLOCKED) {
		if (!still_blocked(task, state, switches, line, sleepable))
			wait_end(state, line);
		return;
	}
	wait_end(state, line);
	if (unmoved && queued && state->seen != SEEN_RUNNING)
		still_queued(task, state, switches, sleepable);
	state->seen_switches = switches;
	state->seen = blocked ? SEEN_BLOCKED : queued ? SEEN_QUEUED : SEEN_RUNNING;
}

/* ---- the iterator ---- */

/* It was there before us: what it did until now is not of this tick. */
static __always_inline void begin_session(struct task_struct *task, struct task_state *state)
{
	struct accounts now;

	accounts_read(task, &now);
	state->on_cpu_ns = now.on_cpu_ns;
	state->runnable_ns = now.runnable_ns;
	state->faults_minor = now.faults_minor;
	state->faults_major = now.faults_major;
	state->session = control.session;
}

static __always_inline int visit(struct bpf_iter__task *ctx, bool sleepable)
{
	struct task_struct *task = ctx->task;
	struct stackd_thread line = {};
	struct stackd_guard *guard;
	struct task_state *state;
	struct accounts now;
	bool fresh;

	if (!task || !task->pid || task->exit_state)
		return 0;
	if (control.learn_run_queues)
		learn_run_queue(task);
	if (heap.learning && task->pid == task->tgid) {
		heap_learn(task);
		kmem_learn(task);
	}
	state = bpf_task_storage_get(&task_states, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!state) {
		lose(LOSS_TASK_STORAGE, 1);
		return 0;
	}
	if (state->seen == SEEN_NEVER && !state->switches && !state->claim)
		state->switches = -1;
	fresh = state->session != control.session;
	if (control.create_only) {
		if (fresh && task->start_time <= control.tick_ns)
			begin_session(task, state);
		return 0;
	}
	accounts_read(task, &now);
	if (fresh && task->start_time <= control.last_tick_ns) {
		begin_session(task, state);
	} else if (fresh && control.tick_ns > task->start_time) {
		line.unborn_ns = task->start_time - control.last_tick_ns;
	}
	state->session = control.session;
	line.on_cpu_ns = advance(&state->on_cpu_ns, now.on_cpu_ns);
	line.runnable_ns = advance(&state->runnable_ns, now.runnable_ns);
	line.faults_minor = advance(&state->faults_minor, now.faults_minor);
	line.faults_major = advance(&state->faults_major, now.faults_major);
	memory_read(task, state, &line);

	guard = enter();
	visit_wait(task, state, &line, sleepable);
	leave(guard);

	if (!line.on_cpu_ns && !line.runnable_ns && !line.faults_minor && !line.faults_major && !line.resident && !line.anonymous &&
	    !line.wait_delta)
		return 0;
	process_fill(&line.process, task);
	line.live = BPF_CORE_READ(task, signal, live.counter);
	line.tid = task->pid;
	if (line.wait_delta)
		bpf_probe_read_kernel(line.comm, sizeof line.comm, task->comm);
	if (bpf_seq_write(ctx->meta->seq, &line, sizeof line))
		lose(LOSS_SEQUENCE, 1);
	else
		memory_told(state, &line);
	return 0;
}

SEC("iter.s/task")
int visit_tasks_sleepable(struct bpf_iter__task *ctx)
{
	return visit(ctx, true);
}

SEC("iter/task")
int visit_tasks(struct bpf_iter__task *ctx)
{
	return visit(ctx, false);
}

/* ---- exits ---- */

static __always_inline struct stackd_exit *exit_find(u32 half, struct stackd_exit_key *key)
{
	return half ? bpf_map_lookup_elem(&exits_1, key) : bpf_map_lookup_elem(&exits_0, key);
}

static __always_inline struct stackd_exit *exit_get(struct task_struct *task)
{
	struct stackd_exit fresh = {}, *found;
	struct stackd_exit_key key = {};
	u32 half = current_half();

	process_fill(&fresh.process, task);
	key.start_ns = fresh.process.start_ns;
	key.tgid = fresh.process.tgid;
	key.exec_id = fresh.process.exec_id;
	found = exit_find(half, &key);
	if (found)
		return found;
	if (half)
		bpf_map_update_elem(&exits_1, &key, &fresh, BPF_NOEXIST);
	else
		bpf_map_update_elem(&exits_0, &key, &fresh, BPF_NOEXIST);
	found = exit_find(half, &key);
	if (!found)
		lose(LOSS_EXITS_FULL, 1);
	return found;
}

static __always_inline void wait_end_at_exit(struct task_struct *task, struct task_state *state)
{
	struct stackd_count *count;

	if (!wait_reported(state))
		return;
	count = count_get(state->wait_id, task);
	if (count)
		__sync_fetch_and_add(&count->waits, -1);
	if (!note_thread_wait(task, state->wait_id, STACKD_WAIT_ENDED, 0, 0) || !count)
		control.waits_lost = 1;
	state->wait_id = 0;
}

/* A slice longer than this is not believed. */
#define SLICE_MAX_NS 1000000000ULL

/* The kernel books time at its own ticks and at switches: what the current task has run since would be lost at its exit,
 * and for a short-lived one that is all. */
static __always_inline u64 unbooked_ns(struct task_struct *task, u64 now)
{
	u32 cpu = bpf_get_smp_processor_id();
	u64 clock_task, booked_until = task->se.exec_start;
	struct rq *rq;

	if (cpu >= STACKD_CPUS_MAX || !control.clock_ahead_ns || !booked_until)
		return 0;
	rq = (struct rq *)run_queue_of[cpu];
	if (!rq)
		return 0;
	/* clock_task is clock without the time of interrupts; both were read at the same moment. */
	clock_task = now + control.clock_ahead_ns - (BPF_CORE_READ(rq, clock) - BPF_CORE_READ(rq, clock_task));
	if (clock_task <= booked_until || clock_task - booked_until > SLICE_MAX_NS)
		return 0;
	return clock_task - booked_until;
}

/* Adds what the task did since its account was taken last. Gives its process' entry, NULL when there is no room. */
static __always_inline struct stackd_exit *book_exit(struct task_struct *task, struct task_state *state,
                                                     struct accounts *now)
{
	struct stackd_exit *total = exit_get(task);

	if (!total)
		return 0;
	if (state->session != control.session) {
		if (task->start_time < control.tick_ns)
			begin_session(task, state);
		state->session = control.session;
	}
	__sync_fetch_and_add(&total->on_cpu_ns, advance(&state->on_cpu_ns, now->on_cpu_ns));
	__sync_fetch_and_add(&total->runnable_ns, advance(&state->runnable_ns, now->runnable_ns));
	__sync_fetch_and_add(&total->faults_minor, advance(&state->faults_minor, now->faults_minor));
	__sync_fetch_and_add(&total->faults_major, advance(&state->faults_major, now->faults_major));
	__sync_fetch_and_add(&total->resident, -state->resident);
	__sync_fetch_and_add(&total->anonymous, -state->anonymous);
	state->resident = state->anonymous = 0;
	return total;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct task_state *state = bpf_task_storage_get(&task_states, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	u64 since = control.tick_ns, now = bpf_ktime_get_ns();
	struct stackd_guard *guard;
	struct accounts accounts;
	struct stackd_exit *total;

	if (!state) {
		lose(LOSS_TASK_STORAGE, 1);
		return 0;
	}
	guard = enter();
	accounts_read(task, &accounts);
	accounts.on_cpu_ns += unbooked_ns(task, now);
	if (task->start_time > since)
		since = task->start_time;
	if (state->session == control.session)
		wait_end_at_exit(task, state);
	total = book_exit(task, state, &accounts);
	if (total && now > since)
		__sync_fetch_and_add(&total->alive_ns, now - since);
	if (total && BPF_CORE_READ(task, signal, live.counter) <= 0)
		total->ended = 1;
	leave(guard);
	return 0;
}

/* An exiting task still closes its files and, depending on the kernel, takes down its address space: of a process that
 * lives for half a millisecond that is a large part. Nobody runs the task any more, so its accounts are final. */
SEC("tp_btf/sched_process_free")
int BPF_PROG(on_free, struct task_struct *task)
{
	struct task_state *state = bpf_task_storage_get(&task_states, task, 0, 0);
	struct stackd_guard *guard;
	struct accounts accounts;
	struct stackd_exit *total;
	u64 used;

	/* A thread holds no reference to its leader, whose memory may have passed on to another task by now. */
	if (!state || state->session != control.session || task->group_leader->tgid != task->tgid)
		return 0;
	accounts_read(task, &accounts);
	used = state->on_cpu_ns + state->runnable_ns;
	guard = enter();
	total = book_exit(task, state, &accounts);
	/* The wall time that on_exit reckoned with ended before this. */
	if (total)
		__sync_fetch_and_add(&total->alive_ns, state->on_cpu_ns + state->runnable_ns - used);
	leave(guard);
	return 0;
}
