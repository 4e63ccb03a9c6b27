/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading /proc without allocating. */
#pragma once

#include "base.h"

/* A directory's entries that are numbers: processes, or threads. */
struct proc_numbers {
	int fd;
	size_t at, n;
	_Alignas(uint64_t) char buffer[8192];
};

/* path: relative to dir_fd. -errno of open(2). Let it go by proc_numbers_done() whatever this gives. */
int proc_numbers_begin(struct proc_numbers *n, int dir_fd, const char *path);
bool proc_numbers_next(struct proc_numbers *n, pid_t *ret);
void proc_numbers_done(struct proc_numbers *n);

/* The first size - 1 bytes of a file, with a NUL behind them. */
int proc_read(int dir_fd, const char *path, char *ret, size_t size);

/* Runnable tasks of the machine now, by /proc/loadavg. */
int proc_running(uint32_t *ret);

/* Switches of all CPUs since boot, by /proc/stat. */
int proc_switches(uint64_t *ret);

/* proc_pid_stat(5), of the process as a whole. */
struct proc_stat {
	char comm[16];
	bool kernel_thread;
	uint32_t threads;
	uint64_t faults_minor, faults_major;
	uint64_t start_ticks; /* since boot, in clock ticks */
	int64_t resident;     /* pages */
};
int proc_stat_parse(const char *text, struct proc_stat *ret);
/* The real user of proc_pid_status(5). */
int proc_uid_parse(const char *text, uint32_t *ret);
/* The path in the unified hierarchy of proc_pid_cgroup(5); -ENOENT: there is none. */
int proc_cgroup_parse(const char *text, char *ret, size_t size);
