/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "privileges.h"

#include <sched.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base.h"

static const cap_value_t kept[] = {
	CAP_BPF,             /* maps and programs */
	CAP_PERFMON,         /* re-attaching tp_btf programs, reading kernel memory in them */
	CAP_SYS_PTRACE,      /* /proc/PID/{maps,exe,root} of every user */
	CAP_DAC_READ_SEARCH, /* objects below /proc/PID/root, cgroups by id */
	CAP_CHECKPOINT_RESTORE, /* /proc/PID/map_files: the very file that is mapped, upgraded or deleted since */
	CAP_SYSLOG,          /* addresses in kallsyms, after a module was loaded */
};

static bool is_kept(cap_value_t cap)
{
	for (size_t i = 0; i < ELEMENTS_OF(kept); i++)
		if (kept[i] == cap)
			return true;
	return false;
}

DEFINE_CLEANUP(cap_t, cap_free)

int privileges_drop(void)
{
	_cleanup_(cap_freep) cap_t now = cap_get_proc(), wanted = cap_init();

	if (!now || !wanted)
		return -ENOMEM;
	/* Without CAP_SETPCAP (it was not given) the bounding set stays; nothing is executed that could use it. */
	for (cap_value_t cap = 0; cap <= cap_max_bits() - 1; cap++)
		if (!is_kept(cap) && cap_get_bound(cap) > 0 && cap_drop_bound(cap) < 0 && errno != EPERM)
			return negative_errno();
	for (size_t i = 0; i < ELEMENTS_OF(kept); i++) {
		cap_flag_value_t has = CAP_CLEAR;

		if (cap_get_flag(now, kept[i], CAP_PERMITTED, &has) < 0)
			return negative_errno();
		if (has == CAP_SET && (cap_set_flag(wanted, CAP_PERMITTED, 1, &kept[i], CAP_SET) < 0 ||
		                       cap_set_flag(wanted, CAP_EFFECTIVE, 1, &kept[i], CAP_SET) < 0))
			return negative_errno();
	}
	if (cap_reset_ambient() < 0 || cap_set_proc(wanted) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return negative_errno();
	return 0;
}

/* The service manager may have lifted the limit already, and forbidden to change it. */
static int lift_memlock_limit(void)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	struct rlimit now;

	if (getrlimit(RLIMIT_MEMLOCK, &now) == 0 && now.rlim_cur == RLIM_INFINITY)
		return 0;
	return setrlimit(RLIMIT_MEMLOCK, &unlimited) < 0 ? negative_errno() : 0;
}

int privileges_lock_memory(void)
{
	int r = lift_memlock_limit();

	/* Later mappings count against the limit once CAP_IPC_LOCK is dropped: where it can't be lifted they would fail, so they are left out. */
	if (mlockall(MCL_CURRENT | MCL_ONFAULT | (r < 0 ? 0 : MCL_FUTURE)) < 0)
		return negative_errno();
	return r;
}

int privileges_raise_priority(void)
{
	const struct sched_param lowest = { .sched_priority = sched_get_priority_min(SCHED_RR) };
	int policy = sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;

	if (policy == SCHED_RR || policy == SCHED_FIFO || policy == SCHED_DEADLINE)
		return 0;
	return sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest) < 0 ? negative_errno() : 0;
}

/* PROC_PID_INIT_INO of include/linux/proc_ns.h: the one namespace whose inode is known before boot. */
#define INITIAL_PID_NAMESPACE_INODE 0xEFFFFFFCU

bool privileges_initial_pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) < 0 || st.st_ino == INITIAL_PID_NAMESPACE_INODE;
}
