/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's memory, which somebody asked to watch: what it takes from its slabs and does not give back, by the stack that took it.
 * Drawn by size and noted by address as the blocks of heaps are (heap.bpf.c), in a table that is there only meanwhile.
 *
 * Who gives back is often somebody else: another process, a worker, an interrupt. It counts for the stack, and the process, that took.
 *
 * Some ways to give back have no tracepoint (kmem_cache_free_bulk, and so most of kfree_rcu). What is allocated at an address that is
 * in the table shows that its block was given back before. */
#pragma once

#define KMEM_OURS_MAX 16 /* frames from our program to who called the allocator */
#define ZERO_SIZE_POINTER 16

struct stackd_kmem kmem;

/* One place, for a table that is made in advance: nothing can be allocated here. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_HASH);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(struct stackd_heap_key));
		__uint(value_size, sizeof(struct stackd_heap_block));
	});
} kmem_blocks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct stackd_kmem_slot);
} kmem_slots SEC(".maps");

/* False: there was no room. */
static __always_inline bool kmem_count(u64 stack, s64 bytes)
{
	struct stackd_guard *guard = enter();
	struct stackd_count *count = count_get_of_stack(stack);

	if (count)
		__sync_fetch_and_add(&count->values[STACKD_KMEM], bytes);
	leave(guard);
	return count;
}

#define KTHREADD 2

static __always_inline void kmem_learn(struct task_struct *task)
{
	if (task->tgid == KTHREADD)
		process_fill(&kmem.nobody, task);
}

static __noinline u64 kmem_walk(void *ctx, u64 caller)
{
	struct stackd_stack *stack = stack_walk(ctx, SCRATCH_KMEM, bpf_get_current_task_btf(), 0);
	u32 ours = 0;

	if (!stack)
		return 0;
	if (!stack->process.tgid) {
		stack->process = kmem.nobody;
		stack->process.seen_ns = bpf_ktime_get_ns();
	}
	for (u32 i = 0; i < KMEM_OURS_MAX; i++)
		if (i < stack->n_kernel && stack->kernel[i] == caller)
			ours = i;
	stack->flags |= ours << STACKD_STACK_OURS_SHIFT;
	return stack_keep(stack);
}

static __always_inline void kmem_put(void *ctx, void *blocks, u64 caller, u64 address, s64 weight)
{
	struct stackd_heap_key key = { .address = address, .watch = kmem.id };
	struct stackd_heap_block block = { .weight = weight, .born_ns = bpf_ktime_get_ns() };

	block.stack = kmem_walk(ctx, caller);
	if (!block.stack)
		return;
	if (bpf_map_update_elem(blocks, &key, &block, BPF_NOEXIST) < 0)
		lose(LOSS_KMEM_BLOCKS, 1);
	else if (!kmem_count(block.stack, weight))
		bpf_map_delete_elem(blocks, &key);
}

/* The table, where this call is to be noted. */
static __always_inline void *kmem_call(struct stackd_kmem_slot **ret)
{
	u32 zero = 0;

	*ret = bpf_map_lookup_elem(&kmem_slots, &zero);
	if (!*ret)
		return 0;
	(*ret)->calls++;
	if (!kmem.id || (kmem.counts && kmem.tgid != (u32)(bpf_get_current_pid_tgid() >> 32)))
		return 0;
	return bpf_map_lookup_elem(&kmem_blocks, &zero);
}

static __always_inline int kmem_allocated(void *ctx, u64 caller, u64 address, u64 size)
{
	struct stackd_heap_block before;
	struct stackd_kmem_slot *slot;
	void *blocks = kmem_call(&slot);
	s64 weight;

	if (!blocks || address <= ZERO_SIZE_POINTER)
		return 0;
	if (block_take(blocks, kmem.id, address, &before)) {
		lose(LOSS_KMEM_UNSEEN, 1);
		kmem_count(before.stack, -before.weight);
	}
	weight = heap_draw(size);
	if (!weight)
		return 0;
	if (__sync_lock_test_and_set(&slot->busy, 1)) {
		lose(LOSS_KMEM_NESTED, 1);
		return 0;
	}
	kmem_put(ctx, blocks, caller, address, weight);
	__sync_lock_test_and_set(&slot->busy, 0);
	return 0;
}

static __always_inline int kmem_freed(u64 address)
{
	struct stackd_heap_block block;
	struct stackd_kmem_slot *slot;
	void *blocks = kmem_call(&slot);

	if (blocks && address > ZERO_SIZE_POINTER && block_take(blocks, kmem.id, address, &block))
		kmem_count(block.stack, -block.weight);
	return 0;
}

/* Raw: before 6.15 or so the verifier lets no typed program read an argument that is a pointer to const void. */
SEC("raw_tp/kmalloc")
int kmem_kmalloc(u64 *ctx)
{
	return kmem_allocated(ctx, ctx[0], ctx[1], ctx[3]);
}

SEC("raw_tp/kmem_cache_alloc")
int kmem_cache_alloc(u64 *ctx)
{
	struct kmem_cache *cache = (void *)ctx[2];

	return kmem_allocated(ctx, ctx[0], ctx[1], BPF_CORE_READ(cache, size));
}

SEC("raw_tp/kfree")
int kmem_kfree(u64 *ctx)
{
	return kmem_freed(ctx[1]);
}

SEC("raw_tp/kmem_cache_free")
int kmem_cache_free(u64 *ctx)
{
	return kmem_freed(ctx[1]);
}
