/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stacks of waits that are known already. A walk is a function of the registers, the unwind tables, and the words of the stack that it
 * read. So what it read is noted beside the id that it gave; where the same thread comes with the same registers and all those words
 * are what they were, another walk would give the same id, and is left out. That takes a copy of two pieces of stack
 * and a comparison for each frame instead of searches in tables.
 *
 * Of the kernel's part, which the kernel walks, the words are not known: all that lie on the way and could be addresses of its code
 * are taken.
 *
 * An entry holds for one generation: the daemon begins a new one each tick, before it evicts stacks, and when it changes
 * what processes are walked by. What could still be different (code that is made at run time and changed, say) is found by walking a
 * random share of those that were found: control.known_every. x86-64 only, as the tables are. */
#pragma once

#include "stacks.bpf.h"

#define KNOWN_KERNEL_SPAN 2048 /* bytes */
#define KNOWN_KERNEL_NOTES 32
#define KNOWN_WAYS 2
#define KNOWN_RECENT 64        /* keys: what was missed once may never come again, so it is noted when it is missed twice */
#define KNOWN_REPLACED_RARELY 7

/* The same of the kernel's part, upwards from the program's context. */
struct known_kernel {
	u16 n, bytes;
	u16 at[KNOWN_KERNEL_NOTES]; /* in words */
	u64 value[KNOWN_KERNEL_NOTES];
};

struct known_key {
	u64 start_ns; /* of the process */
	u64 ip, sp, syscall;
	u32 pid;      /* of the thread */
	u32 exec_id;
	u32 generation;
	u32 pad;
};

/* Written by one CPU at a time, which has made the version odd; read by all. */
struct known_stack {
	u64 version;
	u64 id;       /* 0: it was found wrong, and is not looked for in this generation */
	struct known_key key;
	u64 bp;
	struct known_kernel kernel;
	struct unwind_notes user;
} __attribute__((aligned(64)));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KNOWN_WAYS);
	__type(key, u32);
	__type(value, struct known_stack);
} known_stacks SEC(".maps");

/* One a CPU: no switch comes while another one is seen. */
struct known_cpu {
	struct known_key key;
	u64 kernel_sp, kernel_top, bp;
	u32 hash;
	u32 until_check;
	/* This switch's, here and not in registers, so that the verifier sees one way to the walk and not one for each way to here. */
	u64 found;
	u32 look, way;
	struct known_kernel kernel_notes;
	struct unwind_notes notes;
	u32 recent[KNOWN_RECENT];
	u64 kernel[KNOWN_KERNEL_SPAN / 8];
	u64 user[UNWIND_NOTES_SPAN / 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct known_cpu);
} known_cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct stackd_known);
} known_counts SEC(".maps");

#if defined(__TARGET_ARCH_x86)

#define NO_SYSCALL (-1L) /* orig_ax of who came into the kernel otherwise */
/* Where the kernel's code and its modules' lies. */
#define KERNEL_TEXT_START 0xffffffff80000000ULL
#define KERNEL_TEXT_END 0xffffffffff000000ULL

/* False: not one that is worth it, or of which not all is known that a walk depends on. */
static __always_inline bool known_begin(struct known_cpu *k, void *ctx, struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	struct task_struct *leader = task->group_leader;
	u64 hash;

	k->key.start_ns = leader->start_boottime;
	k->key.exec_id = leader->self_exec_id;
	k->key.pid = task->pid;
	k->key.generation = *(volatile u32 *)&control.known_generation;
	k->kernel_sp = (u64)ctx;
	if (task->flags & PF_KTHREAD) {
		k->key.ip = k->key.sp = k->key.syscall = k->bp = 0;
	} else {
		if (regs->cs != USER_CODE_SEGMENT || (long)regs->orig_ax == NO_SYSCALL ||
		    (bpf_core_field_exists(task->utask) && task->utask))
			return false;
		k->key.ip = regs->ip;
		k->key.sp = regs->sp;
		k->key.syscall = regs->orig_ax;
		k->bp = regs->bp;
	}
	hash = (k->key.sp ^ k->key.ip << 20 ^ k->key.syscall << 48 ^ (u64)k->key.pid << 32) * 0x9e3779b97f4a7c15ULL;
	k->hash = hash >> 32;
	return true;
}

static __always_inline bool known_same_key(const struct known_key *a, const struct known_key *b)
{
	return a->pid == b->pid && a->sp == b->sp && a->ip == b->ip && a->syscall == b->syscall && a->generation == b->generation &&
	       a->start_ns == b->start_ns && a->exec_id == b->exec_id;
}

static __always_inline struct known_stack *known_way(struct known_cpu *k, u32 way)
{
	u32 index = (k->hash & control.known_mask) ^ way;

	return bpf_map_lookup_elem(&known_stacks, &index);
}

/* 0 where it can't be read. */
static __always_inline u64 kernel_word(u64 at)
{
	struct timespec64 *word = bpf_rdonly_cast((void *)at, bpf_core_type_id_kernel(struct timespec64));

	return word->tv_sec;
}

/* The id, if all is what it was. */
static __always_inline u64 known_match(struct known_cpu *k, struct known_stack *e)
{
	u64 version, differ = 0, id;
	u32 n, size, i;

	version = *(volatile u64 *)&e->version;
	if (version & 1 || !known_same_key(&e->key, &k->key))
		return 0;
	n = *(volatile u16 *)&e->kernel.n;
	if (CAN_CAST) {
		for (i = 0; i < KNOWN_KERNEL_NOTES; i++) {
			if (i >= n)
				break;
			differ |= kernel_word(k->kernel_sp + 8 * e->kernel.at[i]) ^ e->kernel.value[i];
		}
	} else {
		size = *(volatile u16 *)&e->kernel.bytes;
		if (size > sizeof k->kernel || bpf_probe_read_kernel(k->kernel, size, (void *)k->kernel_sp))
			return 0;
		for (i = 0; i < KNOWN_KERNEL_NOTES; i++) {
			if (i >= n)
				break;
			differ |= k->kernel[e->kernel.at[i] & (KNOWN_KERNEL_SPAN / 8 - 1)] ^ e->kernel.value[i];
		}
	}
	if (differ)
		return 0;
	size = *(volatile u16 *)&e->user.bytes;
	if (size > sizeof k->user)
		return 0;
	if (size && bpf_probe_read_user(k->user, size, (void *)k->key.sp))
		return 0;
	n = *(volatile u16 *)&e->user.n;
	for (i = 0; i < UNWIND_NOTES; i++) {
		if (i >= n)
			break;
		differ |= k->user[e->user.at[i] & (UNWIND_NOTES_SPAN / 8 - 1)] ^ e->user.value[i];
	}
	if (e->user.uses_bp)
		differ |= e->bp ^ k->bp;
	id = e->id;
	barrier();
	return differ || *(volatile u64 *)&e->version != version ? 0 : id;
}

/* The id of a known stack, or 0. Not static, so that the verifier looks at it alone. */
__noinline u64 known_find(struct known_cpu *k)
{
	u32 way;

	if (!k)
		return 0;
	for (way = 0; way < KNOWN_WAYS; way++) {
		struct known_stack *e = known_way(k, way);
		u64 id = e ? known_match(k, e) : 0;

		if (id) {
			k->way = way;
			return id;
		}
	}
	return 0;
}

struct known_scan {
	struct known_cpu *k;
	struct stackd_stack *stack;
	u32 next; /* the frame that is looked for; 0: none was found yet */
};

/* The outermost frame is what it is by the one before it: an entry of the kernel. It may lie at another place each time, as some kernels
 * leave out a random part of the stack there. */
static long known_scan_word(u64 i, struct known_scan *c)
{
	struct known_kernel *notes = &c->k->kernel_notes;
	u64 word = c->k->kernel[i & (KNOWN_KERNEL_SPAN / 8 - 1)];
	u32 n = *(volatile u16 *)&notes->n, next = *(volatile u32 *)&c->next;

	if (word < KERNEL_TEXT_START || word >= KERNEL_TEXT_END)
		return 0;
	if (n >= KNOWN_KERNEL_NOTES)
		return 1;
	notes->at[n & (KNOWN_KERNEL_NOTES - 1)] = i;
	notes->value[n & (KNOWN_KERNEL_NOTES - 1)] = word;
	*(volatile u16 *)&notes->n = n + 1;
	notes->bytes = (i + 1) * 8;
	/* The innermost may lie below the context. */
	if (!next) {
		next = word == c->stack->kernel[0] ? 1 : word == c->stack->kernel[1] ? 2 : word == c->stack->kernel[2] ? 3 : 0;
	} else if (next < STACKD_KERNEL_FRAMES && word == c->stack->kernel[next]) {
		next++;
	}
	*(volatile u32 *)&c->next = next;
	return next + 1 >= c->stack->n_kernel;
}

static __always_inline bool known_note_kernel(struct known_cpu *k, struct stackd_stack *stack, struct task_struct *task)
{
	struct known_scan c = { .k = k, .stack = stack };
	u64 size;

	/* Through memory: so both are numbers to the verifier. */
	*(volatile u64 *)&k->kernel_top = (u64)bpf_task_pt_regs(task);
	size = *(volatile u64 *)&k->kernel_top - *(volatile u64 *)&k->kernel_sp;
	k->kernel_notes.n = k->kernel_notes.bytes = 0;
	if (size > sizeof k->kernel)
		size = sizeof k->kernel;
	if (bpf_probe_read_kernel(k->kernel, size, (void *)k->kernel_sp))
		return false;
	bpf_loop(size / 8, known_scan_word, &c, 0);
	return c.next + 1 >= stack->n_kernel;
}

struct known_common {
	struct known_cpu *k;
	struct known_stack *e;
};

static long known_common_word(u64 i, struct known_common *c)
{
	struct known_kernel *before = &c->e->kernel, *notes = &c->k->kernel_notes;
	u32 n = *(volatile u16 *)&notes->n, at = before->at[i & (KNOWN_KERNEL_NOTES - 1)];
	u64 value = before->value[i & (KNOWN_KERNEL_NOTES - 1)];

	if (c->k->kernel[at & (KNOWN_KERNEL_SPAN / 8 - 1)] != value || c->k->kernel_sp + 8 * at >= c->k->kernel_top)
		return 0;
	notes->at[n & (KNOWN_KERNEL_NOTES - 1)] = at;
	notes->value[n & (KNOWN_KERNEL_NOTES - 1)] = value;
	*(volatile u16 *)&notes->n = n + 1;
	notes->bytes = (at + 1) * 8;
	return 0;
}

/* What is another word than in an earlier walk that gave the same frames is no return address, but was left there by what ran before. */
static __always_inline void known_note_common(struct known_cpu *k, struct known_stack *e)
{
	struct known_common c = { .k = k, .e = e };

	k->kernel_notes.n = k->kernel_notes.bytes = 0;
	bpf_loop(e->kernel.n, known_common_word, &c, 0);
}

/* version: of what was there when it was looked at. */
static __always_inline void known_write(struct known_cpu *k, struct known_stack *e, u64 id, u64 version)
{
	if (version & 1 || __sync_val_compare_and_swap(&e->version, version, version + 1) != version)
		return;
	e->id = id;
	e->key = k->key;
	e->bp = k->bp;
	bpf_probe_read_kernel(&e->kernel, sizeof e->kernel, &k->kernel_notes);
	bpf_probe_read_kernel(&e->user, sizeof e->user, &k->notes);
	barrier();
	*(volatile u64 *)&e->version = version + 2;
}

static __always_inline bool known_is(const struct known_stack *e, const struct known_cpu *k, u64 id)
{
	return e->id == id && known_same_key(&e->key, &k->key);
}

/* Where a new one goes: NULL for nowhere, as what is there is in use. */
static __always_inline struct known_stack *known_place(struct known_cpu *k, u64 id)
{
	struct known_stack *first = known_way(k, 0), *second = known_way(k, 1);
	u32 random;

	if (!first || !second)
		return 0;
	if ((known_same_key(&first->key, &k->key) && !first->id) || (known_same_key(&second->key, &k->key) && !second->id))
		return 0;
	if (known_is(first, k, id))
		return first;
	if (known_is(second, k, id))
		return second;
	if (first->key.generation != k->key.generation)
		return first;
	if (second->key.generation != k->key.generation)
		return second;
	random = bpf_get_prandom_u32();
	if (random >> 1 & KNOWN_REPLACED_RARELY)
		return 0;
	return random & 1 ? first : second;
}

struct known_chain {
	struct unwind_notes *notes;
	struct stackd_stack *stack;
	u64 at;
};

static long known_note_frame(u64 i, struct known_chain *c)
{
	struct unwind_frame frame;

	if (bpf_probe_read_user(&frame, sizeof frame, (void *)c->at) ||
	    frame.ip != c->stack->user[(i + 1) & (STACKD_USER_FRAMES - 1)]) {
		c->notes->unrepeatable = 1;
		return 1;
	}
	unwind_note(c->notes, c->at + __builtin_offsetof(struct unwind_frame, bp), frame.bp);
	unwind_note(c->notes, c->at + __builtin_offsetof(struct unwind_frame, ip), frame.ip);
	c->at = frame.bp;
	return c->notes->unrepeatable != 0;
}

/* What the kernel's walk along the frame pointers has read. */
static __always_inline void known_note_chain(struct known_cpu *k, struct stackd_stack *stack)
{
	struct known_chain c = { .notes = &k->notes, .stack = stack, .at = k->bp };

	k->notes.sp = k->key.sp;
	k->notes.uses_bp = 1;
	k->notes.unrepeatable = !stack->n_user;
	if (stack->n_user > 1)
		bpf_loop(stack->n_user - 1, known_note_frame, &c, 0);
	if (stack->n_user < control.stack_depth)
		unwind_note_unreadable(&k->notes, c.at);
}

static __always_inline bool known_note_user(struct known_cpu *k, struct stackd_stack *stack)
{
	u32 end = stack->flags >> STACKD_STACK_END_SHIFT;

	if (end == STACKD_UNWIND_PROCESS)
		known_note_chain(k, stack);
	return !k->notes.unrepeatable && end != STACKD_UNWIND_READ;
}

static __always_inline void known_keep(struct known_cpu *k, struct task_struct *task, u64 id)
{
	u32 slot = SCRATCH_SWITCH, *recent = &k->recent[k->hash % KNOWN_RECENT];
	struct stackd_stack *stack = bpf_map_lookup_elem(&scratch, &slot);
	struct known_stack *e;
	u64 version;

	if (*recent != k->hash) {
		*recent = k->hash;
		return;
	}
	if (!stack || !id || stack->n_kernel < 3 || stack->n_kernel >= STACKD_KERNEL_FRAMES)
		return;
	if (task->flags & PF_KTHREAD)
		k->notes.n = k->notes.bytes = k->notes.uses_bp = 0;
	else if (!known_note_user(k, stack))
		return;
	e = known_place(k, id);
	if (!e)
		return;
	version = *(volatile u64 *)&e->version;
	if (!known_note_kernel(k, stack, task))
		return;
	if (known_is(e, k, id))
		known_note_common(k, e);
	known_write(k, e, id, version);
}

/* A stack that was known was walked all the same. */
static __always_inline void known_check(struct known_cpu *k, struct stackd_known *counts, u64 found, u64 id, u32 weight)
{
	struct known_stack *e = known_way(k, k->way);

	counts->checked++;
	counts->checked_waits += weight;
	if (id == found || !e)
		return;
	counts->wrong++;
	counts->wrong_waits += weight;
	e->id = 0;
}

/* The id of the current task's stack where it leaves the CPU, or 0. */
static __always_inline u64 stack_of_wait(void *ctx, struct task_struct *task, bool preempted, u32 weight)
{
	u32 zero = 0;
	struct known_cpu *k = bpf_map_lookup_elem(&known_cpus, &zero);
	struct stackd_known *counts = bpf_map_lookup_elem(&known_counts, &zero);
	u32 every = control.known_every;
	u64 id, found;

	if (!k || !counts)
		return 0;
	*(volatile u32 *)&k->look = every && !preempted && known_begin(k, ctx, task);
	*(volatile u64 *)&k->found = *(volatile u32 *)&k->look ? known_find(k) : 0;
	found = *(volatile u64 *)&k->found;
	if (found) {
		counts->found++;
		if (k->until_check) {
			k->until_check--;
			return found;
		}
		k->until_check = bpf_get_prandom_u32() % (2 * every);
	}
	id = stack_capture_noted(ctx, SCRATCH_SWITCH, task, &k->notes);
	counts->walked++;
	found = *(volatile u64 *)&k->found;
	if (found && id)
		known_check(k, counts, found, id, weight);
	else if (*(volatile u32 *)&k->look)
		known_keep(k, task, id);
	return id;
}

#else

static __always_inline u64 stack_of_wait(void *ctx, struct task_struct *task, bool preempted, u32 weight)
{
	return stack_capture(ctx, SCRATCH_SWITCH, task);
}

#endif
