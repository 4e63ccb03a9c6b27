/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capture a stack, give it an id, count on it: what all collectors share.
 *
 * The counts are double-buffered. A program marks its CPU as busy, then reads which half is written; the daemon
 * turns control.half over and waits until it has seen every CPU idle once. Both sides order the two accesses with
 * a full barrier, so nobody writes into the half that is being drained, and nobody waits for an RCU grace period. */
#pragma once

#include "kernel.h"
#include "records.h"

struct stackd_control control;
struct stackd_guard guards[STACKD_CPUS_MAX] __attribute__((aligned(64)));

/* Addresses of the CPUs' struct rq, 0 while unknown: the task iterator finds them (totals.bpf.c). */
__u64 run_queue_of[STACKD_CPUS_MAX];

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, u64);
	__type(value, struct stackd_stack);
} stacks SEC(".maps");

struct counts_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u64);
	__type(value, struct stackd_count);
};
struct counts_map counts_0 SEC(".maps");
struct counts_map counts_1 SEC(".maps");

struct moments_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct stackd_moment);
};
struct moments_map moments SEC(".maps");
struct moments_map thread_waits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOSS_N);
	__type(key, u32);
	__type(value, u64);
} losses SEC(".maps");

/* Each program has its own slot, because an interrupt's program may run on top of another context's. */
#define SCRATCH_HEAPS 4
enum scratch_slot {
	SCRATCH_PERF,
	SCRATCH_SWITCH,
	SCRATCH_CLOCK,
	SCRATCH_FORK,
	SCRATCH_ITERATOR,
	SCRATCH_MAPS,
	SCRATCH_RSS,
	SCRATCH_KMEM,
	SCRATCH_HEAP, /* the first of SCRATCH_HEAPS */
	SCRATCH_N = SCRATCH_HEAP + SCRATCH_HEAPS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCH_N);
	__type(key, u32);
	__type(value, struct stackd_stack);
} scratch SEC(".maps");

/* Where the kernel lets programs do that (since 6.2), its memory is read by plain loads: bpf_probe_read_kernel() takes far longer. */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;
#define CAN_CAST (&bpf_rdonly_cast != 0)

static __always_inline void lose(u32 cause, u64 n)
{
	u64 *count = bpf_map_lookup_elem(&losses, &cause);

	if (count)
		__sync_fetch_and_add(count, n);
}

#include "unwind.bpf.h"

static __always_inline struct stackd_guard *enter(void)
{
	struct stackd_guard *guard = &guards[bpf_get_smp_processor_id() & (STACKD_CPUS_MAX - 1)];

	__sync_fetch_and_add(&guard->depth, 1);
	return guard;
}

static __always_inline void leave(struct stackd_guard *guard)
{
	__sync_fetch_and_add(&guard->depth, -1);
}

/* Valid only between enter and leave. */
static __always_inline u32 current_half(void)
{
	return *(volatile u32 *)&control.half & 1;
}

static __always_inline u64 switches_of(struct task_struct *task)
{
	return task->nvcsw + task->nivcsw;
}

static __always_inline void process_fill(struct stackd_process *process, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;

	process->start_ns = leader->start_boottime;
	process->seen_ns = bpf_ktime_get_ns();
	process->exec_id = leader->self_exec_id;
	process->tgid = task->tgid;
	process->flags = task->flags & PF_KTHREAD ? STACKD_PROCESS_KTHREAD : 0;
	process->cgroup_id = BPF_CORE_READ(leader, cgroups, dfl_cgrp, kn, id);
	process->uid = BPF_CORE_READ(leader, real_cred, uid.val);
	bpf_probe_read_kernel(process->comm, sizeof process->comm, leader->comm);
}

static __always_inline u64 mix(u64 hash, u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 29;
}

/* The id says process, execution and addresses, so that equal ids mean equal stacks. Not static, so that the verifier looks at it
 * once in a program and not each time that it comes here. */
__noinline u64 stack_hash(struct stackd_stack *stack)
{
	u64 hash;
	u32 i;

	if (!stack)
		return 0;
	hash = mix(mix(stack->process.start_ns, stack->process.tgid), stack->process.exec_id);
	/* A walk that ended early is another stack than a whole one of the same frames. */
	hash = mix(hash, (u64)(stack->flags & ~(STACKD_STACK_SWITCH | STACKD_STACK_HOOK)) << 32 | (u64)stack->n_kernel << 16 | stack->n_user);
	for (i = 0; i < STACKD_KERNEL_FRAMES; i++) {
		if (i >= stack->n_kernel)
			break;
		hash = mix(hash, stack->kernel[i]);
	}
	for (i = 0; i < STACKD_USER_FRAMES; i++) {
		if (i >= stack->n_user)
			break;
		hash = mix(hash, stack->user[i]);
	}
	return hash ? hash : 1;
}

/* Keeps the stack if it is new; the process must be filled in. Gives its id, or 0 when there is no room. */
static __always_inline u64 stack_keep(struct stackd_stack *stack)
{
	u64 id = stack_hash(stack);
	long r;

	if (bpf_map_lookup_elem(&stacks, &id))
		return id;
	r = bpf_map_update_elem(&stacks, &id, stack, BPF_NOEXIST);
	if (r == 0 || r == -17 /* EEXIST: another CPU was first */)
		return id;
	lose(LOSS_STACKS_FULL, 1);
	return 0;
}

/* Our program, and who calls it, from one place or another as the kernel accounts for programs' time or not. */
#define OUR_FRAMES 2

/* Walks the stack of the current task, into the slot. NULL: nothing was found. Of what probes in a program see, how the kernel
 * came to them says nothing. */
static __always_inline struct stackd_stack *stack_walk(void *ctx, u32 slot, struct task_struct *task, struct unwind_notes *notes)
{
	struct stackd_stack *stack = bpf_map_lookup_elem(&scratch, &slot);
	long kernel = 0;

	if (!stack)
		return 0;
	if (slot < SCRATCH_HEAP)
		kernel = bpf_get_stack(ctx, stack->kernel, sizeof stack->kernel, slot == SCRATCH_SWITCH ? OUR_FRAMES : 0);
	stack->n_kernel = kernel > 0 ? (u64)kernel / 8 : 0;
	stack->n_user = 0;
	stack->flags = stack->n_kernel == STACKD_KERNEL_FRAMES ? STACKD_STACK_TRUNCATED : 0;
	if (slot == SCRATCH_SWITCH)
		stack->flags |= STACKD_STACK_SWITCH;
	if (slot == SCRATCH_MAPS)
		stack->flags |= STACKD_STACK_HOOK;
	if (slot == SCRATCH_RSS)
		stack->flags |= STACKD_STACK_PAGES;
	process_fill(&stack->process, task);
	if (!(task->flags & PF_KTHREAD))
		unwind_current(ctx, slot, task, stack, notes);
	if (!stack->n_kernel && !stack->n_user) {
		lose(LOSS_STACK_FAILED, 1);
		return 0;
	}
	return stack;
}

/* The same, and keeps it. Gives its id, or 0. */
static __always_inline u64 stack_capture_noted(void *ctx, u32 slot, struct task_struct *task, struct unwind_notes *notes)
{
	struct stackd_stack *stack = stack_walk(ctx, slot, task, notes);

	return stack ? stack_keep(stack) : 0;
}

/* A function of its own, or the verifier goes through the walk anew for each state in which a program comes to it. */
static __noinline __attribute__((unused)) u64 stack_capture(void *ctx, u32 slot, struct task_struct *task)
{
	return stack_capture_noted(ctx, slot, task, 0);
}

/* Notes that what was drawn with the probability part / whole was counted as this. */
static __always_inline void count_variance(struct stackd_count *count, u32 variance, u64 counted, u64 part, u64 whole)
{
	u64 square;

	counted >>= STACKD_VARIANCE_SHIFT;
	if (counted >> 28)
		counted = 1ULL << 28;
	square = counted * counted;
	if (whole)
		__sync_fetch_and_add(&count->variances[variance], square - square / whole * part);
}

static __always_inline struct stackd_count *count_find(u32 half, u64 *id)
{
	return half ? bpf_map_lookup_elem(&counts_1, id) : bpf_map_lookup_elem(&counts_0, id);
}

static const struct stackd_count no_count;

static __always_inline struct stackd_count *count_make(u32 half, u64 *id)
{
	struct stackd_count *count;

	if (half)
		bpf_map_update_elem(&counts_1, id, &no_count, BPF_NOEXIST);
	else
		bpf_map_update_elem(&counts_0, id, &no_count, BPF_NOEXIST);
	count = count_find(half, id);
	if (!count)
		lose(LOSS_COUNTS_FULL, 1);
	return count;
}

/* The entry of this id in the half that is written now, made if need be; NULL when there is no room. */
static __always_inline struct stackd_count *count_get_in(u32 half, u64 id, struct task_struct *task)
{
	struct stackd_count *count = count_find(half, &id);

	if (count)
		return count;
	count = count_make(half, &id);
	if (!count)
		return 0;
	/* In place, because it is too large for the stack; nobody reads it before the half is drained. */
	process_fill(&count->process, task);
	return count;
}

static __always_inline struct stackd_count *count_get(u64 id, struct task_struct *task)
{
	return count_get_in(current_half(), id, task);
}

/* The same, for the process whose stack it is, whoever runs now. */
static __always_inline struct stackd_count *count_get_of_stack(u64 id)
{
	u32 half = current_half();
	struct stackd_count *count = count_find(half, &id);
	struct stackd_stack *stack;

	if (count)
		return count;
	stack = bpf_map_lookup_elem(&stacks, &id);
	if (!stack) {
		lose(LOSS_COUNTS_FULL, 1);
		return 0;
	}
	count = count_make(half, &id);
	if (count)
		count->process = stack->process;
	return count;
}
