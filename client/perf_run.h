/* SPDX-License-Identifier: GPL-2.0-or-later */
/* perf record, run beside stackd. What goes wrong is told to the user here; the functions then give false. */
#pragma once

#include <sys/resource.h>

#include "flame.h"

#define PERF_PIDS_MAX 64 /* processes of a command, those with most samples */
#define PERF_COPY_BYTES 16384 /* of each stack */

struct perf_run {
	char directory[32], data[64], text[64]; /* removed by perf_run_done() */
	int control, answers;       /* of perf, which fails when they are closed before its end */
	struct rusage used;         /* by perf record, without what it recorded */
	uint64_t since_us, until_us; /* realtime */
	int command_status;         /* as of wait(2) */
	uint64_t samples, lost;
	pid_t pids[PERF_PIDS_MAX];
	size_t n_pids, left_out;    /* processes; left_out: beyond PERF_PIDS_MAX */
};

bool perf_run_new(struct perf_run *ret);
void perf_run_done(struct perf_run *p);

/* The whole machine (pid 0) or a process, for so long. */
bool perf_run_window(struct perf_run *p, pid_t pid, uint64_t for_us);
/* A command and what it starts, from its first instruction to its end. to_stderr: there goes what it prints. */
bool perf_run_command(struct perf_run *p, char **command, bool to_stderr);
/* Which processes there are samples of. */
bool perf_run_pids(struct perf_run *p);
/* The stacks, walked by stackd's own tables, and how many samples perf says that it lost. */
bool perf_run_read(struct perf_run *p, struct flame **ret);
