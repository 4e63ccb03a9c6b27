/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the daemon gives up once everything that needs it is open (DESIGN section 10). */
#pragma once

#include <stdbool.h>

/* Drops all capabilities but BPF, PERFMON, SYS_PTRACE, DAC_READ_SEARCH, CHECKPOINT_RESTORE and SYSLOG, from the permitted, effective,
 * inheritable, ambient and bounding sets. Those of them that the process doesn't have stay absent. */
int privileges_drop(void);

/* Locks present and future memory as it is touched, so that the recorder goes on when the machine has no memory left.
 * -EPERM: the limit of locked memory could not be raised, and only what is mapped already is locked. */
int privileges_lock_memory(void);

/* SCHED_RR at the lowest priority, not inherited: what the service's unit asks systemd for. The gate's 10 ms and the ticks depend on it when
 * every CPU has a queue. Does nothing when a real-time policy is set already. */
int privileges_raise_priority(void);

/* Whether the process is in the initial PID namespace: elsewhere the kernel's pids are not those of /proc, and the task
 * iterator visits that namespace's tasks only. */
bool privileges_initial_pid_namespace(void);
