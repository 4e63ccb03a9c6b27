/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who processes are and what they used, for the source without BPF: from what the kernel says as they begin and execute, and from /proc.
 *
 * What has no exact source there is made up for: exec_id counts hundredths of a second since boot, so that it grows with each exec and is
 * not that of an earlier run of the daemon. What a process ran between the last scan and its end is known while switches are told
 * (sample_processes_ran()); its last page faults, and how long it waited then, are not. */
#pragma once

#include "collect.h"
#include "sample_tables.h"

struct sample_processes;

int sample_processes_new(struct sample_processes **ret, uint32_t max_processes);
struct sample_processes *sample_processes_free(struct sample_processes *p);
DEFINE_CLEANUP(struct sample_processes *, sample_processes_free)

/* Forks and execs. */
void sample_processes_event(struct sample_processes *p, const struct collect_mapping_event *event);

/* Who had this pid then (CLOCK_MONOTONIC). parent: whose mappings it has, as it has executed nothing since it began; key.tgid is 0 when
 * it has. Reads /proc the first time. False: there is no room for it, or it is not the one that has the pid now. */
bool sample_processes_find(struct sample_processes *p, pid_t pid, uint64_t time_ns, struct collect_process *ret, struct sample_owner *ret_parent);

/* It had a CPU then (CLOCK_MONOTONIC). */
void sample_processes_ran(struct sample_processes *p, pid_t pid, uint64_t from_ns, uint64_t until_ns);

/* Looks at every process in /proc, for a limited time (the rest is looked at first the next time), and tells what was used since. */
void sample_processes_scan(struct sample_processes *p, uint64_t wall_ns, const struct collect_sink *sink, void *userdata);

struct sample_processes_status {
	uint32_t processes, processes_max;
	uint64_t faults_minor, faults_major; /* of all that the last scan looked at */
	uint64_t late;  /* that the last scan did not come to */
	uint64_t full;  /* that there was no room for, since start */
};
void sample_processes_get_status(const struct sample_processes *p, struct sample_processes_status *ret);
