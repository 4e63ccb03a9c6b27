/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Page faults by stack. The perf events sample at a frequency; what a sample stands for is read from the event's
 * own count, so that the sum of the weights is the number of faults whatever periods the kernel chose. */

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
