/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Walk a user stack by the rows that .eh_frame boils down to (unwind.h, unwind_maps.h), where the daemon has loaded them. Where it
 * has not, a frame is left by its frame pointer, and the stack is marked. x86-64; elsewhere the kernel follows frame pointers.
 *
 * What a loop changes is kept in a map's memory and not in registers: so the verifier sees one state of a search or a walk, and
 * not one for each way that it may have gone. */
#pragma once

#include "kernel.h"
#include "records.h"
#include "unwind_maps.h"

struct stackd_unwind_tables unwind_tables;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, STACKD_UNWIND_SLABS_MAX);
	__type(key, u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(map_flags, BPF_F_MMAPABLE);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(u32));
		__uint(value_size, sizeof(struct stackd_unwind_slab));
	});
} unwind_slabs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, STACKD_UNWIND_PROCESSES);
	__type(key, struct stackd_unwind_key);
	__type(value, struct stackd_unwind_process);
} unwind_processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, STACKD_UNWIND_WANTED);
	__type(key, struct stackd_unwind_key);
	__type(value, struct stackd_unwind_wanted);
} unwind_wanted SEC(".maps");

/* Walks by how they ended; the last one: by frame pointers, wholly or in part. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STACKD_UNWIND_ENDS + 1);
	__type(key, u32);
	__type(value, u64);
} unwind_ends SEC(".maps");

/* What a walk depended on beside the tables: words above the stack pointer as it was at the beginning. */
#define UNWIND_NOTES 64 /* a power of two */
#define UNWIND_NOTES_SPAN 4096

struct unwind_notes {
	u64 sp;
	u16 n, bytes;    /* bytes: to the end of the last one */
	u8 uses_bp;      /* the register, as it was */
	u8 unrepeatable; /* it depended on something else, or on more */
	u16 at[UNWIND_NOTES]; /* in words */
	u64 value[UNWIND_NOTES];
};

static __always_inline void unwind_count(struct stackd_stack *stack)
{
	u32 end = stack->flags >> STACKD_STACK_END_SHIFT;
	u64 *count;

	if (end == STACKD_UNWIND_COMPLETE && stack->flags & STACKD_STACK_FRAME_POINTERS)
		end = STACKD_UNWIND_ENDS;
	count = bpf_map_lookup_elem(&unwind_ends, &end);
	if (count)
		__sync_fetch_and_add(count, 1);
}

/* Whether a walk by frame pointers alone came to the root can't be told. Where they are all that there is, it is taken for so. */
#if defined(__TARGET_ARCH_x86)
#define FRAME_POINTERS_SUFFICE false
#else
#define FRAME_POINTERS_SUFFICE true
#endif

static __always_inline void unwind_ended(struct stackd_stack *stack, u32 end, bool frame_pointers)
{
	stack->flags |= end << STACKD_STACK_END_SHIFT;
	if (frame_pointers)
		stack->flags |= STACKD_STACK_FRAME_POINTERS;
	if (end != STACKD_UNWIND_COMPLETE && !(FRAME_POINTERS_SUFFICE && end == STACKD_UNWIND_PROCESS))
		stack->flags |= STACKD_STACK_TRUNCATED;
	unwind_count(stack);
}

/* The kernel's own walk along the current task's frame pointers. */
static __always_inline void follow_frame_pointers(void *ctx, struct stackd_stack *stack)
{
	long size = bpf_get_stack(ctx, stack->user, sizeof stack->user, BPF_F_USER_STACK);

	stack->n_user = size > 0 ? (u64)size / 8 : 0;
	if (stack->n_user)
		unwind_ended(stack, stack->n_user >= control.stack_depth ? STACKD_UNWIND_DEPTH : STACKD_UNWIND_PROCESS, true);
}

#if defined(__TARGET_ARCH_x86)

#define USER_CODE_SEGMENT 0x33 /* __USER_CS: a 64-bit process */
#define PRIVILEGE_LEVEL 3

struct unwind_walk {
	u64 ip, sp, bp;
	/* the mapping found last */
	u64 start, end, base;
	u32 first_page;
	u16 n_pages, object;
	/* the process */
	u32 first_mapping, n_mappings;
	u32 at;            /* how far a search has come */
	u8 exact;          /* ip is where it goes on, not a return address */
	u8 bp_lost;
	u8 frame_pointers; /* at least one frame was left by its frame pointer */
	u8 ended;          /* enum stackd_unwind_end */
	u8 bp_noted;
	u64 bp_at;         /* where bp was read; 0: it is the register as it was */
	u64 returns;       /* struct return_instance: the innermost call that the walk has not come to and that has a return probe */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCH_N);
	__type(key, u32);
	__type(value, struct unwind_walk);
} unwind_walks SEC(".maps");

struct unwind_context {
	struct unwind_walk *walk;
	struct stackd_stack *stack;
	struct task_struct *task;
	struct unwind_notes *notes; /* of a walk that is noted */
};

static __always_inline void unwind_note(struct unwind_notes *notes, u64 at, u64 value)
{
	u32 n;
	u64 offset;

	if (!notes)
		return;
	n = *(volatile u16 *)&notes->n;
	offset = at - notes->sp;
	if (n >= UNWIND_NOTES || offset > UNWIND_NOTES_SPAN - 8 || offset & 7) {
		notes->unrepeatable = 1;
		return;
	}
	n &= UNWIND_NOTES - 1;
	notes->at[n] = offset / 8;
	notes->value[n] = value;
	if (notes->bytes < offset + 8)
		notes->bytes = offset + 8;
	*(volatile u16 *)&notes->n = n + 1;
}

/* What rbp holds is noted where the walk goes on by it: most code keeps other things there. */
static __always_inline void unwind_note_bp(struct unwind_notes *notes, struct unwind_walk *w)
{
	if (!notes || w->bp_noted)
		return;
	w->bp_noted = 1;
	if (w->bp_at)
		unwind_note(notes, w->bp_at, w->bp);
	else
		notes->uses_bp = 1;
}

#define USER_SPACE_START 4096
#define USER_SPACE_END 0x7ffffffff000ULL

/* What can't be read now may be read later, unless nothing can ever be there. */
static __always_inline void unwind_note_unreadable(struct unwind_notes *notes, u64 at)
{
	if (notes && at >= USER_SPACE_START && at < USER_SPACE_END)
		notes->unrepeatable = 1;
}

static __always_inline void unwind_take_bp(struct unwind_walk *w, u64 at, u64 bp)
{
	w->bp = bp;
	w->bp_at = at;
	w->bp_noted = 0;
}

/* Tells the daemon what it would take to walk this process's stacks. */
static __noinline int unwind_want(struct stackd_stack *stack, u64 address)
{
	struct stackd_unwind_key key = { .tgid = stack->process.tgid, .exec_id = stack->process.exec_id };
	struct stackd_unwind_wanted *wanted = bpf_map_lookup_elem(&unwind_wanted, &key), fresh = {};

	if (wanted && wanted->start_ns == stack->process.start_ns) {
		wanted->address = address;
		wanted->count++;
		return 0;
	}
	fresh.start_ns = stack->process.start_ns;
	fresh.address = address;
	fresh.count = 1;
	bpf_map_update_elem(&unwind_wanted, &key, &fresh, BPF_ANY);
	return 0;
}

static __always_inline bool unwind_read(void *to, u32 size, u64 from, struct task_struct *task, bool remote)
{
	if (remote)
		return bpf_copy_from_user_task(to, size, (void *)from, task, 0) == 0;
	return bpf_probe_read_user(to, size, (void *)from) == 0;
}

static __always_inline bool unwind_find_mapping(struct unwind_walk *w, u64 ip)
{
	const struct stackd_unwind_mapping *found;
	u32 step, object;

	if (ip >= w->start && ip < w->end)
		return true;
	*(volatile u32 *)&w->at = 0;
#pragma unroll
	for (step = STACKD_UNWIND_PROCESS_MAPPINGS_MAX / 2; step; step /= 2) {
		u32 next = *(volatile u32 *)&w->at + step, i = w->first_mapping + next;

		if (next < w->n_mappings && unwind_tables.mappings[i & (STACKD_UNWIND_MAPPINGS - 1)].start <= ip)
			*(volatile u32 *)&w->at = next;
	}
	found = &unwind_tables.mappings[(w->first_mapping + *(volatile u32 *)&w->at) & (STACKD_UNWIND_MAPPINGS - 1)];
	if (ip < found->start || ip >= found->end)
		return false;
	w->start = found->start;
	w->end = found->end;
	w->base = found->base;
	w->first_page = found->first_page;
	w->n_pages = found->n_pages;
	w->object = object = found->object;
	if (object < STACKD_UNWIND_OBJECTS && unwind_tables.used[object] != unwind_tables.tick)
		unwind_tables.used[object] = unwind_tables.tick;
	return true;
}

/* The rule for an address of the mapping found last. */
static __always_inline struct unwind_rule *unwind_find_rule(struct unwind_walk *w, u64 ip)
{
	u64 offset = ip - w->base;
	struct stackd_unwind_page *page;
	struct stackd_unwind_slab *rows;
	u32 zero = 0, slab, first, n, low = offset & 0xffff, step;
	void *inner;

	if (offset >> UNWIND_PAGE_SHIFT >= w->n_pages)
		return 0;
	page = &unwind_tables.pages[(w->first_page + (offset >> UNWIND_PAGE_SHIFT)) & (STACKD_UNWIND_PAGES - 1)];
	first = page->first_row;
	n = page->n_rows;
	slab = first / STACKD_UNWIND_SLAB_ROWS;
	inner = bpf_map_lookup_elem(&unwind_slabs, &slab);
	if (!n || !inner)
		return 0;
	rows = bpf_map_lookup_elem(inner, &zero);
	if (!rows)
		return 0;
	*(volatile u32 *)&w->at = 0;
#pragma unroll
	for (step = 1u << (UNWIND_PAGE_SHIFT - 1); step; step /= 2) {
		u32 next = *(volatile u32 *)&w->at + step;

		if (next < n && rows->rows[(first + next) & (STACKD_UNWIND_SLAB_ROWS - 1)].address <= low)
			*(volatile u32 *)&w->at = next;
	}
	first += *(volatile u32 *)&w->at;
	return &unwind_tables.rules[rows->rows[first & (STACKD_UNWIND_SLAB_ROWS - 1)].rule & (STACKD_UNWIND_RULES - 1)];
}

/* Calls with return probes that lie between two frames: by jumps, or inside of frames that were skipped. */
#define UNWIND_RETURNS_MAX 4

/* A return probe puts a trampoline's address where the return address was, and the kernel keeps that. ip is what was found at
 * this place. */
static __always_inline u64 unwind_return_address(struct unwind_walk *w, u64 at, u64 ip)
{
	u64 sp;

	if (!w->returns)
		return ip;
	for (u32 i = 0; i < UNWIND_RETURNS_MAX; i++) {
		struct return_instance *call = (struct return_instance *)w->returns;

		if (!call)
			break;
		sp = BPF_CORE_READ(call, stack);
		if (sp > at)
			break;
		if (sp == at)
			return BPF_CORE_READ(call, orig_ret_vaddr);
		w->returns = (u64)BPF_CORE_READ(call, next);
	}
	return ip;
}

static __always_inline long unwind_stop(struct unwind_walk *w, u32 end)
{
	w->ended = end;
	return 1;
}

struct unwind_frame {
	u64 bp, ip;
};

/* Where the saved rbp and the return address are. Code that keeps a frame pointer has none yet where a function begins, and none
 * any more where it ends; a function that does nothing but call another may have none at all (CPython's trampolines). So what is
 * executed next is looked at: exact, or behind a call. The return address may be all that there is: then ret_keeps_bp. */
static __always_inline u64 unwind_place_of_frame(struct unwind_context *c, bool exact, bool remote, bool *ret_keeps_bp)
{
	struct unwind_walk *w = c->walk;
	u64 code, at = w->sp;

	*ret_keeps_bp = false;
	if (!unwind_read(&code, sizeof code, w->ip, c->task, remote))
		return w->bp;
	if (exact && (code & 0xffffff) == 0xe58948 /* mov %rsp,%rbp */)
		return at;
	/* A breakpoint that was put there is a probe at a function's beginning. */
	if (exact && ((u32)code == 0xe5894855 /* push %rbp; mov %rsp,%rbp */ || (u32)code == 0xfa1e0ff3 /* endbr64 */ ||
	              (code & 0xff) == 0xcc)) {
		*ret_keeps_bp = true;
		return at - 8;
	}
	if ((code & 0x80ffffff) == 0xc48348 /* add $up to 127,%rsp */) {
		at += code >> 24 & 0x7f;
		code >>= 32;
	}
	if ((code & 0xffff) == 0xc35d /* pop %rbp; ret */)
		return at;
	*ret_keeps_bp = (code & 0xff) == 0xc3; /* ret */
	return *ret_keeps_bp ? at - 8 : w->bp;
}

/* Where there is no table. What is found is believed if it is code. */
static __always_inline long unwind_by_frame_pointer(struct unwind_context *c, u32 otherwise, bool exact, bool remote, struct unwind_notes *notes)
{
	struct unwind_walk *w = c->walk;
	struct unwind_frame frame;
	bool keeps_bp;
	u64 at = unwind_place_of_frame(c, exact, remote, &keeps_bp);

	w->frame_pointers = 1;
	if (at == w->bp)
		unwind_note_bp(notes, w);
	if ((at == w->bp && w->bp_lost) || at + 8 < w->sp)
		return unwind_stop(w, otherwise);
	if (!unwind_read(&frame, sizeof frame, at, c->task, remote)) {
		unwind_note_unreadable(notes, at);
		return unwind_stop(w, otherwise);
	}
	unwind_note(notes, at + __builtin_offsetof(struct unwind_frame, ip), frame.ip);
	if (!frame.ip)
		return unwind_stop(w, STACKD_UNWIND_COMPLETE);
	frame.ip = unwind_return_address(w, at + __builtin_offsetof(struct unwind_frame, ip), frame.ip);
	if (!keeps_bp)
		unwind_take_bp(w, at, frame.bp);
	w->sp = at + sizeof frame;
	w->ip = frame.ip;
	w->exact = 0;
	return unwind_find_mapping(w, frame.ip - 1) ? 0 : unwind_stop(w, otherwise);
}

/* The kernel has put all registers on the stack: struct sigcontext from rbp to rip. */
static __always_inline long unwind_signal_frame(struct unwind_context *c, s32 offset, bool remote, struct unwind_notes *notes)
{
	struct {
		u64 bp, bx, dx, ax, cx, sp, ip;
	} saved;
	struct unwind_walk *w = c->walk;
	u64 at = w->sp + offset - __builtin_offsetof(typeof(saved), sp);

	if (!unwind_read(&saved, sizeof saved, at, c->task, remote))
		return unwind_stop(w, STACKD_UNWIND_READ);
	unwind_note(notes, at + __builtin_offsetof(typeof(saved), ip), saved.ip);
	unwind_note(notes, at + __builtin_offsetof(typeof(saved), sp), saved.sp);
	unwind_take_bp(w, at, saved.bp);
	w->ip = saved.ip;
	w->sp = saved.sp;
	w->exact = 1;
	w->bp_lost = 0;
	return 0;
}

/* From a frame to the one that called it. */
static __always_inline long unwind_apply(struct unwind_context *c, const struct unwind_rule *rule, bool remote, struct unwind_notes *notes)
{
	struct unwind_walk *w = c->walk;
	u32 cfa_kind = rule->cfa, bp_kind = rule->rbp;
	s64 cfa_offset = rule->cfa_offset, bp_offset = rule->rbp_offset;
	u64 cfa, ip, bp = 0;

	if (cfa_kind == UNWIND_CFA_RSP) {
		cfa = w->sp + cfa_offset;
	} else if (cfa_kind == UNWIND_CFA_PLT) {
		cfa = w->sp + 8 + ((w->ip & 15) >= (u64)cfa_offset ? 8 : 0);
	} else if (cfa_kind == UNWIND_CFA_RBP || cfa_kind == UNWIND_CFA_AT_RBP) {
		if (w->bp_lost)
			return unwind_stop(w, STACKD_UNWIND_RULE);
		unwind_note_bp(notes, w);
		cfa = w->bp + cfa_offset;
	} else if (cfa_kind == UNWIND_CFA_AT_RSP || cfa_kind == UNWIND_CFA_AT_RSP_8) {
		cfa = w->sp + cfa_offset;
	} else if (cfa_kind == UNWIND_CFA_SIGNAL) {
		return unwind_signal_frame(c, cfa_offset, remote, notes);
	} else if (cfa_kind == UNWIND_CFA_END) {
		return unwind_stop(w, STACKD_UNWIND_COMPLETE);
	} else {
		return unwind_stop(w, cfa_kind == UNWIND_CFA_NONE ? STACKD_UNWIND_ROW : STACKD_UNWIND_RULE);
	}
	if (cfa_kind >= UNWIND_CFA_AT_RSP) {
		u64 saved;

		if (!unwind_read(&saved, sizeof saved, cfa, c->task, remote))
			return unwind_stop(w, STACKD_UNWIND_READ);
		unwind_note(notes, cfa, saved);
		cfa = saved + (cfa_kind == UNWIND_CFA_AT_RSP_8 ? 8 : 0);
	}
	if (cfa <= w->sp)
		return unwind_stop(w, STACKD_UNWIND_FRAME);
	if (!unwind_read(&ip, sizeof ip, cfa - 8, c->task, remote))
		return unwind_stop(w, STACKD_UNWIND_READ);
	unwind_note(notes, cfa - 8, ip);
	if (!ip)
		return unwind_stop(w, STACKD_UNWIND_COMPLETE);
	ip = unwind_return_address(w, cfa - 8, ip);
	if (bp_kind == UNWIND_RBP_AT_CFA || bp_kind == UNWIND_RBP_AT_RBP) {
		u64 at = bp_offset + (bp_kind == UNWIND_RBP_AT_CFA ? cfa : w->bp);

		if (bp_kind == UNWIND_RBP_AT_RBP && w->bp_lost)
			return unwind_stop(w, STACKD_UNWIND_RULE);
		if (bp_kind == UNWIND_RBP_AT_RBP)
			unwind_note_bp(notes, w);
		if (!unwind_read(&bp, sizeof bp, at, c->task, remote))
			return unwind_stop(w, STACKD_UNWIND_READ);
		unwind_take_bp(w, at, bp);
		w->bp_lost = 0;
	} else if (bp_kind == UNWIND_RBP_UNDEFINED) {
		w->bp_lost = 1;
	}
	w->sp = cfa;
	w->ip = ip;
	w->exact = 0;
	return 0;
}

/* One frame. A return address may be the first of another function, so that the one before it is looked up, here and when names
 * are looked up: what is an exact address and not the innermost is written as the one behind it. */
static __always_inline long unwind_step(struct unwind_context *c, bool remote, struct unwind_notes *notes)
{
	struct unwind_walk *w = c->walk;
	struct stackd_stack *stack = c->stack;
	u32 n = *(volatile u16 *)&stack->n_user;
	bool exact = w->exact || !n, found = unwind_find_mapping(w, w->ip - !exact);
	struct unwind_rule *rule = found ? unwind_find_rule(w, w->ip - !exact) : 0;
	bool signal = rule && rule->cfa == UNWIND_CFA_SIGNAL;

	stack->user[n & (STACKD_USER_FRAMES - 1)] = w->ip + (n && (exact || signal));
	*(volatile u16 *)&stack->n_user = n + 1;
	if (rule && rule->cfa != UNWIND_CFA_FRAME_POINTER)
		return unwind_apply(c, rule, remote, notes);
	if (!rule && found && w->object < STACKD_UNWIND_OBJECTS)
		return unwind_stop(w, STACKD_UNWIND_ROW);
	if (!found || w->object == STACKD_UNWIND_NOT_YET)
		unwind_want(stack, w->ip);
	return unwind_by_frame_pointer(c, rule ? STACKD_UNWIND_ROW : found ? STACKD_UNWIND_TABLE : STACKD_UNWIND_MAPPING, exact, remote, notes);
}

static long unwind_step_current(u64 i, struct unwind_context *c)
{
	return unwind_step(c, false, 0);
}

static long unwind_step_noted(u64 i, struct unwind_context *c)
{
	return unwind_step(c, false, c->notes);
}

static long unwind_step_remote(u64 i, struct unwind_context *c)
{
	return unwind_step(c, true, 0);
}

/* What is known of the process; of a child that has not executed anything yet what is known of its parent holds as well. */
static __always_inline struct stackd_unwind_process *unwind_find_process(struct task_struct *task, struct stackd_stack *stack, u64 ip)
{
	struct stackd_unwind_key key = { .tgid = stack->process.tgid, .exec_id = stack->process.exec_id };
	struct stackd_unwind_process *known = bpf_map_lookup_elem(&unwind_processes, &key);
	struct task_struct *parent;
	u64 exe;

	if (known && known->start_ns == stack->process.start_ns)
		return known;
	parent = BPF_CORE_READ(task, group_leader, real_parent, group_leader);
	exe = (u64)BPF_CORE_READ(task, mm, exe_file);
	if (exe && exe == (u64)BPF_CORE_READ(parent, mm, exe_file)) {
		key.tgid = BPF_CORE_READ(parent, tgid);
		key.exec_id = BPF_CORE_READ(parent, self_exec_id);
		known = bpf_map_lookup_elem(&unwind_processes, &key);
		if (known && known->start_ns == BPF_CORE_READ(parent, start_boottime))
			return known;
	}
	unwind_want(stack, ip);
	return 0;
}

#define UPROBE_SLOT 128
#define UPROBE_PAGE 4096

/* Of a process with probes. An instruction that has one is executed in a page of the kernel's: what is there belongs to where it
 * was copied from. And a function with a return probe returns into that page, from where it goes on to its caller. */
static __always_inline void unwind_probes(struct unwind_walk *w, struct task_struct *task)
{
	struct uprobe_task *probes = BPF_CORE_READ(task, utask);
	struct return_instance *call;
	u64 page, copy;

	if (!probes)
		return;
	call = BPF_CORE_READ(probes, return_instances);
	w->returns = (u64)call;
	copy = BPF_CORE_READ(probes, xol_vaddr);
	if (BPF_CORE_READ(probes, active_uprobe) && w->ip - copy < UPROBE_SLOT) {
		w->ip = BPF_CORE_READ(probes, vaddr) + (w->ip - copy);
		return;
	}
	page = BPF_CORE_READ(task, mm, uprobes_state.xol_area, vaddr);
	if (call && page && w->ip - page < UPROBE_PAGE) {
		w->ip = BPF_CORE_READ(call, orig_ret_vaddr);
		w->sp = BPF_CORE_READ(call, stack) + 8;
	}
}

/* False: nothing is known of the process. stack->process must be filled in. */
static __always_inline bool unwind_begin(struct unwind_walk *w, struct task_struct *task, struct stackd_stack *stack,
                                         struct pt_regs *regs)
{
	struct stackd_unwind_process *known = unwind_find_process(task, stack, regs->ip);

	if (!known)
		return false;
	w->first_mapping = known->first_mapping;
	w->n_mappings = known->n_mappings;
	w->start = w->end = 0;
	w->ip = regs->ip;
	w->sp = regs->sp;
	w->bp = regs->bp;
	w->exact = 1;
	w->bp_lost = w->frame_pointers = w->bp_noted = 0;
	w->bp_at = 0;
	w->ended = STACKD_UNWIND_DEPTH;
	w->returns = 0;
	if (bpf_core_field_exists(task->utask))
		unwind_probes(w, task);
	return true;
}

/* The current task's user frames into the stack, whose process is filled in. slot: whose scratch memory. notes: NULL, or what the
 * walk depends on is noted there. */
static __always_inline void unwind_current(void *ctx, u32 slot, struct task_struct *task, struct stackd_stack *stack,
                                           struct unwind_notes *notes)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	struct unwind_walk *w = bpf_map_lookup_elem(&unwind_walks, &slot);
	struct unwind_context c = { .walk = w, .stack = stack, .task = task, .notes = notes };

	stack->n_user = 0;
	if (notes) {
		notes->n = notes->bytes = 0;
		notes->uses_bp = 0;
		notes->unrepeatable = 1;
	}
	if (!w || (regs->cs & PRIVILEGE_LEVEL) != PRIVILEGE_LEVEL)
		return; /* a kernel thread that lives in a process */
	if (regs->cs != USER_CODE_SEGMENT || !unwind_begin(w, task, stack, regs)) {
		follow_frame_pointers(ctx, stack);
		return;
	}
	if (notes) {
		notes->sp = w->sp;
		notes->unrepeatable = 0;
		bpf_loop(control.unwind_depth, unwind_step_noted, &c, 0);
	} else {
		bpf_loop(control.unwind_depth, unwind_step_current, &c, 0);
	}
	unwind_ended(stack, w->ended, w->frame_pointers);
}

/* The same for another task, from a program that may sleep. False: its process is not known, or not a 64-bit one. */
static __always_inline bool unwind_remote(struct task_struct *task, struct stackd_stack *stack)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	u32 slot = SCRATCH_ITERATOR;
	struct unwind_walk *w = bpf_map_lookup_elem(&unwind_walks, &slot);
	struct unwind_context c = { .walk = w, .stack = stack, .task = task };

	stack->n_user = 0;
	if (!w || regs->cs != USER_CODE_SEGMENT || !unwind_begin(w, task, stack, regs))
		return false;
	bpf_loop(control.unwind_depth, unwind_step_remote, &c, 0);
	unwind_ended(stack, w->ended, w->frame_pointers);
	return true;
}

#else

static __always_inline void unwind_current(void *ctx, u32 slot, struct task_struct *task, struct stackd_stack *stack,
                                           struct unwind_notes *notes)
{
	follow_frame_pointers(ctx, stack);
}

static __always_inline bool unwind_remote(struct task_struct *task, struct stackd_stack *stack)
{
	return false;
}

#endif
