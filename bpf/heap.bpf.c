/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Heaps of processes that somebody asked to watch: bytes that are allocated and not freed, by the stack that allocated them.
 *
 *   entry  ─ drawn by its size? ─▶ the stack is walked, the call noted in its thread ─▶ return: the block is noted by its address
 *   free   ─ a noted block? ─▶ its bytes are taken off its stack
 *
 * An allocation of S bytes is drawn with the probability p = 1 - exp(-S / mean), and then stands for S / p bytes: that is what
 * counting at points strewn over all allocated bytes would give (a Poisson process), and unbiased whatever p is. Where the kernel
 * has sessions (6.13), a call that is not drawn has no return probe.
 *
 * Allocators call each other: realloc frees, posix_memalign may call malloc, a wrapper calls what it wraps. Only the outermost
 * counts. What was drawn inside of a call that is noted, or of a call that wasn't drawn (its function is found among the callers
 * then), is left out. */
#pragma once

#include "heap.h"

struct stackd_heap heap;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct stackd_heap_key);
	__type(value, struct stackd_heap_block);
} heap_blocks SEC(".maps");

/* A call that is under way. */
struct heap_call {
	u64 sp, ip;      /* at its entry; sp 0: none */
	u64 size;
	u64 out;         /* posix_memalign: where the address will be */
	u32 watch, call;
	struct stackd_heap_block block, old; /* weight 0: none. old: what a realloc was given */
	u64 old_address;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct heap_call);
} heap_calls SEC(".maps");

/* Probes can be preempted by another thread's, so there are a few scratch slots a CPU. */
struct heap_busy {
	u32 taken[SCRATCH_HEAPS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct heap_busy);
} heap_busy SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct stackd_heap_calls);
} heap_calls_seen SEC(".maps");

/* Functions that a call may lie in which called this one. */
#define HEAP_CALLERS 3

#if defined(__TARGET_ARCH_x86)
#define ARGUMENT_1(regs) ((regs)->di)
#define ARGUMENT_2(regs) ((regs)->si)
#define ARGUMENT_3(regs) ((regs)->dx)
#define ARGUMENT_4(regs) ((regs)->cx)
#define RESULT(regs) ((regs)->ax)
#define POPPED_BY_RETURN 8
typedef struct pt_regs probe_context;
#elif defined(__TARGET_ARCH_arm64)
#define ARGUMENT_1(regs) ((regs)->regs[0])
#define ARGUMENT_2(regs) ((regs)->regs[1])
#define ARGUMENT_3(regs) ((regs)->regs[2])
#define ARGUMENT_4(regs) ((regs)->regs[3])
#define RESULT(regs) ((regs)->regs[0])
#define POPPED_BY_RETURN 0
struct user_pt_regs {
	u64 regs[31], sp, pc, pstate;
};
typedef struct user_pt_regs probe_context;
#endif

/* False: there was no room. */
static __always_inline bool heap_count(u64 stack, s64 bytes, struct task_struct *task)
{
	struct stackd_guard *guard = enter();
	struct stackd_count *count = count_get(stack, task);

	if (count)
		__sync_fetch_and_add(&count->values[STACKD_HEAP], bytes);
	leave(guard);
	return count;
}

/* What an allocation stands for; 0: it is not drawn. */
static __always_inline s64 heap_draw(u64 size)
{
	u64 at, odds;
	u32 step;

	if (heap.mean <= 1 || size >= heap.mean * 16)
		return size;
	at = size * heap.steps;
	step = at >> 32;
	if (step >= STACKD_HEAP_ODDS - 1)
		return size;
	odds = heap.odds[step];
	odds += (heap.odds[step + 1] - odds) * ((at & 0xffffffff) >> 8) >> 24;
	if (!odds || bpf_get_prandom_u32() >= odds)
		return 0;
	return (size << 32) / odds;
}

/* A function of its own to the verifier, which else goes through all ranges anew for each state of a walk: that took two seconds. */
__noinline int heap_is_inner(u32 slot, u64 address)
{
	const struct stackd_heap_watch *watch = &heap.watches[slot & (STACKD_HEAP_WATCHES - 1)];

	for (u32 i = 0; i < STACKD_HEAP_RANGES; i++) {
		if (i >= watch->n_ranges)
			break;
		if (address > watch->ranges[i].start && address <= watch->ranges[i].end)
			return 1;
	}
	return 0;
}

/* The same: a walk costs the verifier as much as all the rest, and is one of each kind of call and place. It knows a context by its type's name. */
__noinline u64 heap_walk(probe_context *ctx, u32 slot, u32 watch)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct stackd_stack *stack;

	stack = stack_walk(ctx, slot, task, 0);
	if (!stack)
		return 0;
	for (u32 i = 1; i <= HEAP_CALLERS; i++)
		if (i < stack->n_user && heap_is_inner(watch, stack->user[i]))
			return 0;
	return stack_keep(stack);
}

/* The stack of an allocation; 0: there is none, or it was made for another allocation. */
static __always_inline u64 heap_stack(void *ctx, u32 watch)
{
	u32 zero = 0;
	struct heap_busy *busy = bpf_map_lookup_elem(&heap_busy, &zero);
	u64 id;

	if (!busy)
		return 0;
#pragma unroll
	for (u32 i = 0; i < SCRATCH_HEAPS; i++) {
		if (__sync_lock_test_and_set(&busy->taken[i], 1))
			continue;
		id = heap_walk(ctx, SCRATCH_HEAP + i, watch);
		__sync_lock_test_and_set(&busy->taken[i], 0);
		return id;
	}
	lose(LOSS_HEAP_STACK, 1);
	return 0;
}

/* Takes a block out; false when it isn't one that was drawn. */
static __always_inline bool block_take(void *blocks, u32 watch, u64 address, struct stackd_heap_block *ret)
{
	struct stackd_heap_key key = { .address = address, .watch = watch };
	struct stackd_heap_block *block = bpf_map_lookup_elem(blocks, &key);

	if (!block)
		return false;
	*ret = *block;
	if (bpf_map_delete_elem(blocks, &key) == 0)
		return true;
	ret->weight = 0;
	return false;
}

static __always_inline bool heap_take(u32 watch, u64 address, struct stackd_heap_block *ret)
{
	return block_take(&heap_blocks, watch, address, ret);
}

/* Notes a block and counts it, or neither. */
static __always_inline void heap_put(u32 watch, u64 address, const struct stackd_heap_block *block, struct task_struct *task)
{
	struct stackd_heap_key key = { .address = address, .watch = watch };
	struct stackd_heap_block before;

	/* Its end went by unseen: a child that shares the address space freed it. */
	if (heap_take(watch, address, &before))
		heap_count(before.stack, -before.weight, task);
	if (bpf_map_update_elem(&heap_blocks, &key, block, BPF_ANY) < 0)
		lose(LOSS_HEAP_BLOCKS, 1);
	else if (!heap_count(block->stack, block->weight, task))
		bpf_map_delete_elem(&heap_blocks, &key);
}

/* A call that didn't return where it was to: it was left by a jump, or by an exception. */
static __always_inline void heap_forget(struct heap_call *call, struct task_struct *task)
{
	call->sp = 0;
	if (call->old.weight)
		heap_count(call->old.stack, -call->old.weight, task);
	call->old.weight = 0;
}

/* More than there can be when it overflows: an allocator refuses that, while what wraps to 0 would look like a release. */
static __always_inline u64 heap_product(u64 n, u64 size)
{
	u64 largest = n ? ~0ULL / n : ~0ULL;

	barrier_var(largest); /* or clang makes a product of 128 bits of it, which BPF doesn't have */
	return size > largest ? ~0ULL : n * size;
}

static __always_inline u64 heap_size(u32 call, struct pt_regs *regs)
{
	switch (call) {
	case HEAP_MALLOC: return ARGUMENT_1(regs);
	case HEAP_CALLOC: return heap_product(ARGUMENT_1(regs), ARGUMENT_2(regs));
	case HEAP_ALIGNED:
	case HEAP_REALLOC: return ARGUMENT_2(regs);
	case HEAP_POSIX_MEMALIGN:
	case HEAP_OF_REALLOC: return ARGUMENT_3(regs);
	case HEAP_OF_CALLOC:
	case HEAP_REALLOCARRAY: return heap_product(ARGUMENT_2(regs), ARGUMENT_3(regs));
	case HEAP_OF_REALLOCARRAY: return heap_product(ARGUMENT_3(regs), ARGUMENT_4(regs));
	default: return 0;
	}
}

/* The block that a call is given; 0: none. */
static __always_inline u64 heap_given(u32 call, struct pt_regs *regs)
{
	return call < HEAP_REALLOC ? 0 : call <= HEAP_FREE ? ARGUMENT_1(regs) : ARGUMENT_2(regs);
}

/* The watch that a probe is of; NULL when that has ended, or the process executed something else. */
static __always_inline struct stackd_heap_watch *heap_watch(u64 cookie, struct task_struct *task)
{
	struct stackd_heap_watch *watch = &heap.watches[cookie >> 8 & (STACKD_HEAP_WATCHES - 1)];
	u64 execution = task->group_leader->self_exec_id + 1;

	if (watch->id != cookie >> 32)
		return 0;
	if (!watch->execution)
		watch->execution = execution;
	if (watch->execution == execution)
		return watch;
	watch->executed = 1;
	return 0;
}

/* Notes which process a watch is of; the task leads it. */
static __always_inline void heap_learn(struct task_struct *task)
{
	for (u32 i = 0; i < STACKD_HEAP_WATCHES; i++) {
		struct stackd_heap_watch *watch = &heap.watches[i];

		if (!watch->id || watch->start_ns || watch->tgid != (u32)task->tgid)
			continue;
		if (!watch->execution)
			watch->execution = task->self_exec_id + 1;
		watch->start_ns = task->start_boottime;
	}
}

/* An interrupted count may be lost: it is for what the probes cost. */
static __always_inline void heap_count_call(u64 cookie)
{
	u32 zero = 0;
	struct stackd_heap_calls *calls = bpf_map_lookup_elem(&heap_calls_seen, &zero);

	if (calls)
		calls->n[cookie >> 8 & (STACKD_HEAP_WATCHES - 1)]++;
}

/* 0: its return is to be seen. */
static __always_inline int heap_enter(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	u64 cookie = bpf_get_attach_cookie(ctx), sp = regs->sp, ip = REGS_IP(regs), size, address, stack;
	struct stackd_heap_watch *watch = heap_watch(cookie, task);
	struct stackd_heap_block old = {};
	u32 kind = cookie & 0xff, id = cookie >> 32;
	struct heap_call *call;
	s64 weight;

	heap_count_call(cookie);
	if (!watch || watch->counts)
		return 1;
	address = heap_given(kind, regs);
	if (kind == HEAP_FREE) {
		if (address && heap_take(id, address, &old))
			heap_count(old.stack, -old.weight, task);
		return 1;
	}
	call = bpf_task_storage_get(&heap_calls, task, 0, 0);
	if (call && call->sp) {
		if (call->watch == id && (sp < call->sp || (sp == call->sp && ip != call->ip)))
			return 1;
		heap_forget(call, task);
	}
	size = heap_size(kind, regs);
	weight = heap_draw(size);
	stack = weight ? heap_stack(ctx, cookie >> 8 & (STACKD_HEAP_WATCHES - 1)) : 0;
	/* Out before it is freed: its address may be another thread's new block when this call returns. */
	if (address)
		heap_take(id, address, &old);
	if (!stack && !old.weight)
		return 1;
	if (!call)
		call = bpf_task_storage_get(&heap_calls, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!call) {
		lose(LOSS_TASK_STORAGE, 1);
		if (old.weight)
			heap_count(old.stack, -old.weight, task);
		return 1;
	}
	call->ip = ip;
	call->size = size;
	call->out = kind == HEAP_POSIX_MEMALIGN ? ARGUMENT_1(regs) : 0;
	call->watch = id;
	call->call = kind;
	call->block.stack = stack;
	call->block.weight = stack ? weight : 0;
	call->old = old;
	call->old_address = address;
	call->sp = sp;
	return 0;
}

static __always_inline int heap_leave(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	u64 cookie = bpf_get_attach_cookie(ctx), address = RESULT(regs);
	struct heap_call *call = bpf_task_storage_get(&heap_calls, task, 0, 0);

	if (!call || !call->sp || call->watch != cookie >> 32 || call->call != (cookie & 0xff) || regs->sp < call->sp + POPPED_BY_RETURN ||
	    !heap_watch(cookie, task))
		return 0;
	call->sp = 0;
	if (call->call == HEAP_POSIX_MEMALIGN && ((u32)address || bpf_probe_read_user(&address, sizeof address, (void *)call->out)))
		address = 0;
	if (call->old.weight) {
		/* Without an address the old block is as it was, unless it was asked to shrink to nothing. */
		struct stackd_heap_key key = { .address = call->old_address, .watch = call->watch };
		bool kept = !address && call->size;

		if (kept && bpf_map_update_elem(&heap_blocks, &key, &call->old, BPF_ANY) < 0) {
			lose(LOSS_HEAP_BLOCKS, 1);
			kept = false;
		}
		if (!kept)
			heap_count(call->old.stack, -call->old.weight, task);
		call->old.weight = 0;
	}
	if (address && call->block.weight) {
		call->block.born_ns = bpf_ktime_get_ns();
		heap_put(call->watch, address, &call->block, task);
	}
	return 0;
}

SEC("kprobe")
int heap_entry(void *ctx)
{
	heap_enter(ctx);
	return 0;
}

SEC("kprobe")
int heap_return(void *ctx)
{
	return heap_leave(ctx);
}

extern bool bpf_session_is_return(void) __ksym __weak;

/* Both in one: what it gives at the entry decides whether it is called at the return. */
SEC("kprobe")
int heap_session(void *ctx)
{
	return bpf_session_is_return() ? heap_leave(ctx) : heap_enter(ctx);
}
