/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Page faults by stack: every nth fault of a CPU. What a sample stands for is read from the event's own count, so that
 * the sum of the weights is the number of faults also where a sample was skipped. The daemon chooses n and keeps it for
 * a tick at least: the kernel's frequency mode changes it during a burst, and then gives the burst's end, which its
 * long last period holds, to whoever faults next (a third of the faults of a bursty process, as measured). */

static __always_inline int on_fault(void *ctx, u32 metric)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct bpf_perf_event_value value = {};
	struct perf_slot *slot = perf_slot();
	struct stackd_count *count;
	struct stackd_guard *guard;
	u64 *last, n, id;

	if (!slot || bpf_perf_prog_read_value(ctx, &value, sizeof value))
		return 0;
	last = metric == STACKD_FAULTS_MAJOR ? &slot->faults_major : &slot->faults_minor;
	n = value.counter >= *last ? value.counter - *last : value.counter;
	*last = value.counter;
	guard = enter();
	id = stack_capture(ctx, SCRATCH_PERF, task);
	count = id ? count_get(id, task) : 0;
	if (count)
		__sync_fetch_and_add(&count->values[metric], n);
	leave(guard);
	return 0;
}

SEC("perf_event")
int fault_minor(void *ctx)
{
	return on_fault(ctx, STACKD_FAULTS_MINOR);
}

SEC("perf_event")
int fault_major(void *ctx)
{
	return on_fault(ctx, STACKD_FAULTS_MAJOR);
}
