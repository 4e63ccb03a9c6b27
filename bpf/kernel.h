/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The few kernel types that the programs read, field by field. Offsets are relocated when the object is loaded (CO-RE),
 * so a type lists only what is used, and what a kernel may lack is asked for by bpf_core_field_exists(). */
#pragma once

#include <stdbool.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	s64 counter;
} atomic_long_t;

struct cred {
	kuid_t uid;
};

struct kernfs_node {
	u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct signal_struct {
	atomic_t live;
};

struct sched_info {
	unsigned long long run_delay;
	unsigned long long last_queued;
};

struct task_struct;

struct cfs_rq {
	unsigned int h_nr_queued;   /* since 6.14 */
	unsigned int h_nr_runnable; /* since 6.14 */
	unsigned int h_nr_delayed;  /* 6.12, 6.13 */
	struct rq *rq;
};

struct rq {
	unsigned int nr_running;
	struct cfs_rq cfs;
	struct task_struct *idle;
	u64 clock, clock_task;
	int cpu;
};

struct sched_entity {
	unsigned char sched_delayed; /* since 6.12 */
	u64 exec_start, sum_exec_runtime;
	struct cfs_rq *cfs_rq;
};

struct rw_semaphore {
	atomic_long_t count;
};

struct percpu_counter {
	s64 count;
};

struct file;

struct vm_area_struct {
	struct file *vm_file;
};

/* Where a function with a return probe will return to, while its return address is that of the kernel's trampoline. */
struct return_instance {
	unsigned long stack;  /* the stack pointer at its entry */
	unsigned long orig_ret_vaddr;
	struct return_instance *next;
};

struct uprobe_task {
	struct return_instance *return_instances; /* the innermost first */
	unsigned long vaddr;     /* of the instruction that is executed elsewhere, instead of the breakpoint */
	unsigned long xol_vaddr; /* and where */
	void *active_uprobe;     /* NULL: none is */
};

/* The page of such copies, and of the trampoline. */
struct xol_area {
	unsigned long vaddr;
};

struct uprobes_state {
	struct xol_area *xol_area;
};

struct mm_struct {
	struct file *exe_file;
	struct rw_semaphore mmap_lock;
	struct percpu_counter rss_stat[4]; /* since 6.2 */
	unsigned long total_vm; /* pages */
	unsigned long brk;
	struct uprobes_state uprobes_state;
};

/* As it was before 6.2. */
struct mm_rss_stat {
	atomic_long_t count[4];
};

struct mm_struct___before_6_2 {
	struct mm_rss_stat rss_stat;
};

struct kmem_cache {
	unsigned int size; /* of an object, with all that goes with it */
};

struct task_struct {
	unsigned int __state;
	unsigned int flags;
	int on_cpu;
	int on_rq;
	struct sched_entity se;
	struct sched_info sched_info;
	struct mm_struct *mm;
	int exit_state;
	int pid;
	int tgid;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	unsigned long nvcsw;
	unsigned long nivcsw;
	u64 start_time;
	u64 start_boottime;
	unsigned long min_flt;
	unsigned long maj_flt;
	const struct cred *real_cred;
	char comm[16];
	struct css_set *cgroups;
	struct signal_struct *signal;
	u64 self_exec_id;
	struct uprobe_task *utask;
};

struct timespec64 {
	s64 tv_sec;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	u64 session_id;
	u64 seq_num;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct pt_regs {
#if defined(__TARGET_ARCH_x86)
	unsigned long ip, bp, sp, di, si, dx, cx, ax, cs, orig_ax;
#elif defined(__TARGET_ARCH_arm64)
	unsigned long regs[31];
	unsigned long sp, pc;
#else
#error "unknown architecture"
#endif
};

#pragma clang attribute pop

/* As <linux/bpf_perf_event.h> has it, which names the registers otherwise. */
struct bpf_perf_event_data {
#if defined(__TARGET_ARCH_x86)
	u64 regs[21];
#elif defined(__TARGET_ARCH_arm64)
	u64 regs[34];
#endif
	u64 sample_period;
	u64 addr;
};

#if defined(__TARGET_ARCH_x86)
#define REGS_IP(regs) ((regs)->ip)
#define REGS_FP(regs) ((regs)->bp)
#elif defined(__TARGET_ARCH_arm64)
#define REGS_IP(regs) ((regs)->pc)
#define REGS_FP(regs) ((regs)->regs[29])
#endif

#define PF_KTHREAD 0x00200000
#define MM_FILEPAGES 0
#define MM_ANONPAGES 1
#define MM_SWAPENTS 2
#define MM_SHMEMPAGES 3
#define RWSEM_WRITERS_AND_WAITERS 7
#define TASK_RUNNING 0x0000
#define TASK_DEAD 0x0080
#define TASK_WAKING 0x0200
#define TASK_NEW 0x0800
