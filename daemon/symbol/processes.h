/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cache of processes: who they are, and what code is mapped where. Reads /proc/PID, and makes sure that
 * it is still the same process there. */
#pragma once

#include "base.h"
#include "maps.h"
#include "symbol.h"

struct cgroups;
struct mapping_log;
struct processes;

struct process {
	struct symbols_process info;
	uint64_t cgroup_id;
	uint64_t seen_ns;
	uint64_t retry_ns;      /* while info is not settled: look at /proc again after this */
	uint64_t maps_retry_ns; /* no earlier than this are the mappings read again */
	uint64_t maps_pause_ns; /* grows while reading them again finds nothing */
	struct mappings mappings;
	uint64_t perf_map;            /* objects.h; 0 = none is known */
	uint64_t perf_map_retry_ns;   /* look for it, or for what was added to it, after this */
	uint32_t slot;
	pid_t parent;                 /* of one that is gone: may see the same files; 0: not known */
	uint8_t tries;
	bool referenced; /* since the clock hand came by */
	bool gone;
};

/* log is borrowed: it knows of processes that are gone. */
int processes_new(struct processes **ret, uint32_t max, struct cgroups *cgroups, struct mapping_log *log);
struct processes *processes_free(struct processes *p);
DEFINE_CLEANUP(struct processes *, processes_free)

/* What the kernel's record says beside the key. */
struct process_record {
	uint64_t cgroup_id;
	const char *comm; /* NULL: this is not known now */
	uint32_t uid;
	bool kernel_thread;
};

/* Finds or adds; never fails for good once created. Valid until the next call with another key. */
struct process *processes_get(struct processes *p, const struct symbols_process_key *key,
			      const struct process_record *record);

/* /proc/PID, when the process that the key means is still there; else negative errno. */
int process_open(struct processes *all, struct process *p);
/* /proc/PID of a process that sees the same file system as this one, which is gone, as far as anyone can tell: its parent, else
 * ourselves. What is found there must be checked. Negative errno. */
int process_open_relative(const struct process *p);
/* The mapping that holds the address. Reads the mappings when they are not known, or don't have it and are
 * old enough. */
struct mapping *process_mapping(struct processes *all, struct process *p, uint64_t address);

/* Forgets those that have ended and weren't seen for a minute. */
void processes_forget(struct processes *p, uint64_t now_ns);

struct processes_status {
	uint32_t processes, processes_max, mappings;
	uint64_t gone, recalled, deferred;
};
void processes_get_status(const struct processes *p, struct processes_status *ret);

/* Field 22 and the name, as /proc/PID/stat has them. Pure. */
int stat_parse(const char *text, char ret_comm[static 16], uint64_t *ret_start_ticks);
