/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a helper gives up before it reads its first request. */
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "child.h"

/* Beyond what the daemon's image takes; the parser's cache is bounded far below. */
#define PARSER_MEMORY_MAX (512ULL << 20)
#define HELPER_FILES_MAX 64
#define PARSER_NICE 10
/* The daemon asks the OOM killer for mercy; the parser can be spared. */
#define PARSER_OOM_SCORE "300"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static int keep_only(int socket)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* stderr stays, for what the C library says when it aborts. */
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		return negative_errno();
	if (socket > 3 && close_range(3, (unsigned)socket - 1, 0) < 0)
		return negative_errno();
	if (close_range((unsigned)socket + 1, ~0U, 0) < 0)
		return negative_errno();
	return 0;
}

static void reset_signals(void)
{
	static const int survived[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE };
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		(void)signal(i, SIG_DFL);
	/* A helper ends with its daemon, not with what a terminal or service manager sends to the whole
	 * group. */
	for (size_t i = 0; i < ELEMENTS_OF(survived); i++)
		(void)signal(survived[i], SIG_IGN);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The daemon waits for the opener, so that must not wait for a CPU; the parser may. */
static void set_priority(enum child_kind kind)
{
	const struct sched_param normal = {}, lowest = { .sched_priority = sched_get_priority_min(SCHED_RR) };
	int fd;

	if (kind == CHILD_OPENER && sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest) >= 0)
		return;
	(void)sched_setscheduler(0, SCHED_OTHER, &normal);
	if (kind != CHILD_PARSER)
		return;
	(void)setpriority(PRIO_PROCESS, 0, PARSER_NICE);
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, PARSER_OOM_SCORE, strlen(PARSER_OOM_SCORE)) < 0)
		errno = 0; /* only a hint */
	close_fd(fd);
}

static int limit(int resource, rlim_t value)
{
	struct rlimit l;

	if (getrlimit(resource, &l) < 0)
		return negative_errno();
	l.rlim_max = MIN(l.rlim_max, value);
	l.rlim_cur = l.rlim_max;
	return setrlimit(resource, &l) < 0 ? negative_errno() : 0;
}

static uint64_t address_space_used(void)
{
	unsigned long pages = 0;
	_cleanup_fclose_ FILE *f = fopen("/proc/self/statm", "re");

	if (!f || fscanf(f, "%lu", &pages) != 1)
		return 0;
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int limit_resources(enum child_kind kind)
{
	int r;

	r = limit(RLIMIT_CORE, 0);
	if (r < 0)
		return r;
	r = limit(RLIMIT_NOFILE, HELPER_FILES_MAX);
	if (r < 0)
		return r;
	if (kind == CHILD_PARSER && !SANITIZED)
		return limit(RLIMIT_AS, address_space_used() + PARSER_MEMORY_MAX);
	return 0;
}

/* What is left for an intruder when root's user id could not be given up is still nothing: no capability, and
 * seccomp. So a missing CAP_SETUID (a parser that is started later, by a daemon that has dropped it) is no
 * reason to fail. */
static int change_user(uid_t uid, gid_t gid)
{
	if (geteuid() != 0)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return errno == EPERM || errno == EINVAL ? 0 : negative_errno();
	return 0;
}

DEFINE_CLEANUP(cap_t, cap_free)

static int keep_capabilities(const cap_value_t *keep, size_t n_keep)
{
	_cleanup_(cap_freep) cap_t now = cap_get_proc(), wanted = cap_init();

	if (!now || !wanted)
		return -ENOMEM;
	for (size_t i = 0; i < n_keep; i++) {
		cap_flag_value_t has = CAP_CLEAR;

		if (cap_get_flag(now, keep[i], CAP_PERMITTED, &has) < 0 || has == CAP_CLEAR)
			continue;
		if (cap_set_flag(wanted, CAP_PERMITTED, 1, &keep[i], CAP_SET) < 0 ||
		    cap_set_flag(wanted, CAP_EFFECTIVE, 1, &keep[i], CAP_SET) < 0)
			return negative_errno();
	}
	return cap_set_proc(wanted) < 0 ? negative_errno() : 0;
}

static int drop_capabilities(enum child_kind kind, uid_t uid, gid_t gid)
{
	static const cap_value_t opener[] = { CAP_SYS_ADMIN, CAP_PERFMON };
	int r;

	/* Needs CAP_SETPCAP; without it the bounding set stays, which matters to exec only, and seccomp
	 * forbids that. */
	for (cap_value_t c = 0; cap_get_bound(c) >= 0; c++)
		(void)cap_drop_bound(c);

	if (kind == CHILD_OPENER)
		return keep_capabilities(opener, ELEMENTS_OF(opener));
	r = change_user(uid, gid);
	return r < 0 ? r : keep_capabilities(NULL, 0);
}

static int allow(scmp_filter_ctx filter, const int *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);

		if (r < 0)
			return r;
	}
	return 0;
}

static int allow_opener(scmp_filter_ctx filter)
{
	/* System-wide events, and such of one process on all CPUs; no groups. The kernel takes pid, CPU and group as int, so the upper
	 * halves don't count. */
	int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(perf_event_open), 2,
				 SCMP_A2(SCMP_CMP_MASKED_EQ, 0xffffffffU, 0xffffffffU),
				 SCMP_A3(SCMP_CMP_MASKED_EQ, 0xffffffffU, 0xffffffffU));

	if (r >= 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(bpf), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, 0xffffffffU, BPF_ENABLE_STATS));
	return r < 0 ? r : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(perf_event_open), 2,
				SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffU, 0xffffffffU),
				SCMP_A3(SCMP_CMP_MASKED_EQ, 0xffffffffU, 0xffffffffU));
}

static int allow_parser(scmp_filter_ctx filter)
{
	static const int calls[] = {
		SCMP_SYS(pread64), SCMP_SYS(fstat),         SCMP_SYS(newfstatat), SCMP_SYS(lseek),
		SCMP_SYS(brk),     SCMP_SYS(munmap),        SCMP_SYS(mremap),     SCMP_SYS(madvise),
		SCMP_SYS(futex),   SCMP_SYS(clock_gettime), SCMP_SYS(setitimer),  SCMP_SYS(getrandom),
		SCMP_SYS(sysinfo),
	};
	int r;

	r = allow(filter, calls, ELEMENTS_OF(calls));
	if (r < 0)
		return r;
	/* Into what came with a request, which is open for writing when a table is wanted; never into stderr, which
	 * may be a file. A request's descriptors are the lowest that are free: 3 to 7. */
	r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(pwrite64), 1, SCMP_A0(SCMP_CMP_EQ, 3));
	if (r < 0)
		return r;
	r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(pwrite64), 1,
			     SCMP_A0(SCMP_CMP_MASKED_EQ, ~UINT64_C(3), 4));
	if (r < 0)
		return r;
	/* libelf asks whether a descriptor is open. Duplicates would get around the rule above. */
	r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
			     SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffU, F_GETFD));
	if (r < 0)
		return r;
	/* Memory, never a file: one that shrinks under a mapping is SIGBUS. Nothing executable. */
	r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2,
			     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
			     SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS));
	if (r < 0)
		return r;
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

static int allow_sanitizer(scmp_filter_ctx filter)
{
	static const int calls[] = {
		SCMP_SYS(mmap),        SCMP_SYS(munmap),      SCMP_SYS(mprotect), SCMP_SYS(madvise),
		SCMP_SYS(sigaltstack), SCMP_SYS(futex),       SCMP_SYS(write),    SCMP_SYS(getpid),
		SCMP_SYS(gettid),      SCMP_SYS(sched_yield), SCMP_SYS(readlink), SCMP_SYS(tgkill),
	};

	return SANITIZED ? allow(filter, calls, ELEMENTS_OF(calls)) : 0;
}

static int forbid_system_calls(enum child_kind kind)
{
	static const int calls[] = {
		SCMP_SYS(recvmsg),        SCMP_SYS(sendmsg),         SCMP_SYS(close),
		SCMP_SYS(exit),           SCMP_SYS(exit_group),      SCMP_SYS(rt_sigreturn),
		SCMP_SYS(rt_sigprocmask), SCMP_SYS(restart_syscall),
	};
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r;

	if (!filter)
		return -ENOMEM;
	r = allow(filter, calls, ELEMENTS_OF(calls));
	if (r >= 0)
		r = kind == CHILD_OPENER ? allow_opener(filter) : allow_parser(filter);
	if (r >= 0)
		r = allow_sanitizer(filter);
	/* C libraries look at /proc and /sys for tuning (qsort for the size of memory), libdw for further files: that
	 * may fail, it must not kill. */
	if (r >= 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0);
	if (r >= 0 && !SANITIZED)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(readlink), 0);
	if (r >= 0)
		r = seccomp_load(filter);
	/* Once it is loaded, freeing it might need a call that it forbids. */
	if (r < 0)
		seccomp_release(filter);
	return r;
}

int confine(enum child_kind kind, int socket, pid_t parent, uid_t uid, gid_t gid)
{
	int r;

	(void)prctl(PR_SET_NAME, kind == CHILD_OPENER ? "stackd-opener" : "stackd-parser");
	r = keep_only(socket);
	if (r < 0)
		return r;
	reset_signals();
	set_priority(kind);
	r = limit_resources(kind);
	if (r < 0)
		return r;
	r = drop_capabilities(kind, uid, gid);
	if (r < 0)
		return r;
	/* After the change of credentials, which clears both. */
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return negative_errno();
	if (getppid() != parent)
		return -ESRCH;
	return forbid_system_calls(kind);
}
