/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Resident memory by stack. The kernel counts a process's pages by CPU or by thread and adds them up some dozen at a time, so that what one
 * event brought is not to be read. What the sum changed by since it was looked at last is the current stack's: the changes add up to the
 * kernel's own sum, and a stack that brings twice the pages is twice as often the one that makes a dozen full. Huge pages, and
 * what is unmapped, are added up at once.
 *
 * While the gate is open every change of the sum is seen. Its tracepoint comes with each page fault, so while it is closed the
 * sum is looked at in the faults that are sampled, and where the lock of the address space is let go (memory.bpf.c). */
#pragma once

struct rss_account {
	s64 pages;
	u32 session, pad;
};

/* By address space. One that had to give way starts anew. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, u64);
	__type(value, struct rss_account);
} rss_accounts SEC(".maps");

/* What this CPU saw last: most events change no sum. */
struct rss_slot {
	u64 mm;
	s64 pages;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct rss_slot);
} rss_slots SEC(".maps");

static __always_inline s64 rss_pages(struct mm_struct *mm)
{
	struct mm_struct___before_6_2 *old = (void *)mm;

	if (bpf_core_field_exists(old->rss_stat.count)) {
		struct mm_rss_stat sums = {};

		/* 6.1 allows no direct access to arrays of types like this. */
		bpf_probe_read_kernel(&sums, sizeof sums, &old->rss_stat);
		return sums.count[MM_FILEPAGES].counter + sums.count[MM_ANONPAGES].counter + sums.count[MM_SHMEMPAGES].counter;
	}
	return mm->rss_stat[MM_FILEPAGES].count + mm->rss_stat[MM_ANONPAGES].count + mm->rss_stat[MM_SHMEMPAGES].count;
}

static __always_inline struct rss_account *rss_account(u64 mm)
{
	struct rss_account *account = bpf_map_lookup_elem(&rss_accounts, &mm);

	return account && account->session == control.session ? account : 0;
}

/* By how much it differs from what was accounted, which it is from now on. What an address space had when it was first seen is no
 * stack's. */
static __always_inline s64 rss_advance(u64 mm, s64 pages)
{
	struct rss_account *account = rss_account(mm);
	struct rss_account fresh = { .pages = pages, .session = control.session };

	if (account)
		return pages - (s64)__sync_lock_test_and_set((u64 *)&account->pages, pages);
	bpf_map_update_elem(&rss_accounts, &mm, &fresh, BPF_ANY);
	return 0;
}

/* What a sampled fault stands for, in bytes. What shrank since the last one was released by nobody knows whom. */
static __always_inline s64 rss_at_fault(struct task_struct *task)
{
	struct mm_struct *mm = task->mm;
	s64 change;

	if (!mm || control.rss_by_event)
		return 0;
	change = rss_advance((u64)mm, rss_pages(mm));
	if (change >= 0)
		return change * control.page_size;
	__sync_fetch_and_add(&control.rss_elsewhere, change * control.page_size);
	return 0;
}

/* What a thread released that held the lock of its address space since it had so many pages; 0 or less. */
static __always_inline s64 rss_released(struct mm_struct *mm, s64 before)
{
	s64 change = rss_pages(mm) - before;
	struct rss_account *account;

	if (change >= 0 || control.rss_by_event)
		return 0;
	account = rss_account((u64)mm);
	if (account)
		__sync_fetch_and_add((u64 *)&account->pages, change);
	return change * control.page_size;
}

SEC("tp_btf/rss_stat")
int on_rss_stat(u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mm_struct *mm = (struct mm_struct *)ctx[0];
	u32 zero = 0;
	struct rss_slot *slot = bpf_map_lookup_elem(&rss_slots, &zero);
	struct stackd_guard *guard;
	struct stackd_count *count;
	s64 pages, change;
	u64 id, size, weight;

	if (!slot || !mm)
		return 0;
	pages = rss_pages(mm);
	if (slot->mm == (u64)mm && slot->pages == pages)
		return 0;
	slot->mm = (u64)mm;
	slot->pages = pages;
	if (task->mm != mm) {
		/* Reclaim, a fork, somebody who writes there. What an exit gives back is no change of anybody's. */
		if (task->mm || task->flags & PF_KTHREAD)
			__sync_fetch_and_add(&control.rss_elsewhere, rss_advance((u64)mm, pages) * control.page_size);
		return 0;
	}
	change = rss_advance((u64)mm, pages) * control.page_size;
	if (!change)
		return 0;
	size = change < 0 ? -change : change;
	weight = draw_size(DRAW_RSS, size);
	if (!weight)
		return 0;
	guard = enter();
	id = stack_capture(ctx, SCRATCH_RSS, task);
	count = id ? count_get(id, task) : 0;
	if (count)
		__sync_fetch_and_add(&count->values[STACKD_RSS], weighted(change, size, weight));
	leave(guard);
	return 0;
}

SEC("tp_btf/exit_mmap")
int on_exit_mmap(u64 *ctx)
{
	u64 mm = ctx[0];

	bpf_map_delete_elem(&rss_accounts, &mm);
	return 0;
}
