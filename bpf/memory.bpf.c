/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Page faults by stack: every nth fault of a CPU. What a sample stands for is read from the event's own count, so that
 * the sum of the weights is the number of faults also where a sample was skipped. The daemon chooses n and keeps it for
 * a tick at least: the kernel's frequency mode changes it during a burst, and then gives the burst's end, which its
 * long last period holds, to whoever faults next (a third of the faults of a bursty process, as measured). */

#define FAULT_WINDOW_NS 1000000000ULL
#define FAULT_RARER_MAX 12

/* Samples of a burst, until the daemon makes them rarer. Leaving one out by chance leaves its weight to the next one, which is as likely
 * of any who faults. */
struct fault_burst {
	u64 window_ns;  /* when it began */
	u32 walked;     /* since then; less each time that it became rarer */
	u32 rarer;      /* one of 2^n is walked */
	u32 session;    /* of what: what is left out at the end of one is lost */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct fault_burst);
} fault_bursts SEC(".maps");

static __always_inline bool fault_is_walked(void)
{
	u32 zero = 0;
	struct fault_burst *burst = bpf_map_lookup_elem(&fault_bursts, &zero);
	u64 now = bpf_ktime_get_ns();

	if (!burst)
		return false;
	if (now - burst->window_ns > FAULT_WINDOW_NS || burst->session != control.fault_session) {
		burst->session = control.fault_session;
		burst->window_ns = now;
		burst->walked = burst->rarer = 0;
	}
	if (bpf_get_prandom_u32() & ((1U << (burst->rarer & 31)) - 1))
		return false;
	if (++burst->walked > control.fault_budget && burst->rarer < FAULT_RARER_MAX) {
		burst->walked -= control.fault_budget / 8;
		burst->rarer++;
	}
	return true;
}

/* The event costs each fault, sampled or not, so the daemon takes it away where they are many: at once, as a burst is over by the end of the tick.
 * With a new session it counts from 0 again. */
static __always_inline void note_storm(struct perf_slot *slot, u64 counter)
{
	u64 most = control.faults_most, n;

	if (slot->fault_session != control.fault_session) {
		slot->fault_session = control.fault_session;
		slot->faults_minor = slot->faults_noted = 0;
	}
	n = counter >= slot->faults_noted ? counter - slot->faults_noted : counter;
	slot->faults_noted = counter;
	if (most && __sync_fetch_and_add(&control.faults_seen, n) + n >= most && __sync_lock_test_and_set(&control.faults_most, 0) &&
	    !tell(STACKD_NOTICE_FAULTS, 0))
		control.faults_most = most;
}

static long see_mapping(struct task_struct *task __attribute__((unused)), struct vm_area_struct *vma, u32 *of_file)
{
	*of_file = vma->vm_file != 0;
	return 0;
}

/* Whose page it is: 1 a mapping of a file's (also of one that is only in memory), 0 another's. Negative: somebody changes the address
 * space meanwhile. */
static __always_inline int fault_of_file(struct bpf_perf_event_data *ctx, struct task_struct *task)
{
	u32 of_file = 0;
	long r = bpf_find_vma(task, ctx->addr, see_mapping, &of_file, 0);

	return r == -EBUSY ? r : of_file;
}

static __always_inline int on_fault(struct bpf_perf_event_data *ctx, u32 metric)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct bpf_perf_event_value value = {};
	struct perf_slot *slot = perf_slot();
	struct stackd_count *count;
	struct stackd_guard *guard;
	u64 *last, n, id;
	int of_file;

	if (!slot || bpf_perf_prog_read_value(ctx, &value, sizeof value))
		return 0;
	if (metric == STACKD_FAULTS_MINOR) {
		note_storm(slot, value.counter);
		if (!fault_is_walked())
			return 0;
	}
	last = metric == STACKD_FAULTS_MAJOR ? &slot->faults_major : &slot->faults_minor;
	n = value.counter >= *last ? value.counter - *last : value.counter;
	of_file = fault_of_file(ctx, task);
	if (of_file < 0) {
		lose(LOSS_FAULT_MAPPING, 1);
		return 0;
	}
	*last = value.counter;
	if (metric == STACKD_FAULTS_MINOR)
		n *= control.fault_times;
	guard = enter();
	id = stack_capture(ctx, SCRATCH_PERF, task);
	count = id ? count_get(id, task) : 0;
	if (count) {
		__sync_fetch_and_add(&count->values[metric], n);
		__sync_fetch_and_add(&count->variances[metric == STACKD_FAULTS_MAJOR ? STACKD_VARIANCE_FAULTS_MAJOR : STACKD_VARIANCE_FAULTS_MINOR],
		                     n * (n - 1));
		if (of_file)
			__sync_fetch_and_add(&count->values[STACKD_FAULTS_FILE], n);
		__sync_fetch_and_add(&count->values[STACKD_RSS], rss_at_fault(task));
	}
	leave(guard);
	return 0;
}

SEC("perf_event")
int fault_minor(struct bpf_perf_event_data *ctx)
{
	return on_fault(ctx, STACKD_FAULTS_MINOR);
}

SEC("perf_event")
int fault_major(struct bpf_perf_event_data *ctx)
{
	return on_fault(ctx, STACKD_FAULTS_MAJOR);
}

/* brk and mmap: what a thread changed of its address space while it held the lock for writing. The kernel's own account of
 * mapped pages (total_vm) before and after says it exactly, whichever system call it was: mmap over what was mapped, munmap
 * of a part or across holes, mremap, shmat, execve. The lock keeps other threads' changes out. It may be downgraded in
 * between, and is then released as a reader's. Page faults take it for reading at most, and go by at once. */

struct maps_state {
	u64 mm;         /* whose lock is held for writing; 0: none */
	u64 total_vm, brk;
	s64 resident;
	u32 session, pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct maps_state);
} maps_states SEC(".maps");

static __always_inline int maps_locked(struct mm_struct *mm, bool write, bool acquired)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct maps_state *state;

	if (!write || !acquired || !mm || task->mm != mm)
		return 0;
	state = bpf_task_storage_get(&maps_states, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!state) {
		lose(LOSS_TASK_STORAGE, 1);
		return 0;
	}
	state->mm = (u64)mm;
	state->total_vm = mm->total_vm;
	state->brk = mm->brk;
	state->resident = rss_pages(mm);
	state->session = control.memory_session;
	return 0;
}

SEC("tp_btf/mmap_lock_acquire_returned")
int on_mmap_lock(u64 *ctx)
{
	return maps_locked((struct mm_struct *)ctx[0], ctx[1], ctx[2]);
}

/* Until 6.12 the path of a cgroup follows the address space. */
SEC("tp_btf/mmap_lock_acquire_returned")
int on_mmap_lock_with_path(u64 *ctx)
{
	return maps_locked((struct mm_struct *)ctx[0], ctx[2], ctx[3]);
}

SEC("tp_btf/mmap_lock_released")
int on_mmap_unlock(u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mm_struct *mm = (struct mm_struct *)ctx[0];
	s64 page = control.page_size, mapped, grown, released;
	struct maps_state *state;
	struct stackd_count *count;
	struct stackd_guard *guard;
	u64 id, size, weight;

	if (!mm || task->mm != mm)
		return 0;
	state = bpf_task_storage_get(&maps_states, task, 0, 0);
	if (!state || state->mm != (u64)mm)
		return 0;
	state->mm = 0;
	grown = mm->brk - state->brk;
	mapped = (s64)(mm->total_vm - state->total_vm) * page;
	if ((!grown && !mapped) || state->session != control.memory_session)
		return 0;
	mapped -= (s64)((mm->brk + page - 1) & -page) - (s64)((state->brk + page - 1) & -page);
	released = rss_released(mm, state->resident);
	size = magnitude(grown) + magnitude(mapped);
	weight = draw_size(DRAW_MAPS, size);
	if (!weight)
		return 0;
	guard = enter();
	id = stack_capture(ctx, SCRATCH_MAPS, task);
	count = id ? count_get(id, task) : 0;
	if (count) {
		__sync_fetch_and_add(&count->values[STACKD_BRK], weighted(grown, size, weight));
		__sync_fetch_and_add(&count->values[STACKD_MMAP], weighted(mapped, size, weight));
		__sync_fetch_and_add(&count->values[STACKD_RSS], weighted(released, size, weight));
		if (weight > size) {
			count_variance(count, STACKD_VARIANCE_BRK, magnitude(weighted(grown, size, weight)), size >> 10, weight >> 10);
			count_variance(count, STACKD_VARIANCE_MMAP, magnitude(weighted(mapped, size, weight)), size >> 10, weight >> 10);
		}
	}
	leave(guard);
	return 0;
}
