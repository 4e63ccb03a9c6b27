/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads' names and what their processes map, as of the place in the recording. */
#pragma once

#include "base.h"

#define TASKS_MAX 65536
/* Over all processes; about 100 bytes each. */
#define TASKS_MAPPINGS_MAX (1U << 20)
#define TASK_NAME_SIZE 16
#define TASK_EXE_SIZE 128

struct tasks;

int tasks_new(struct tasks **ret);
struct tasks *tasks_free(struct tasks *t);
DEFINE_CLEANUP(struct tasks *, tasks_free)

/* exec: it executed something else, so that nothing is mapped any more. time_ns: of the recording's clock, as below. */
void tasks_name(struct tasks *t, uint32_t pid, uint32_t tid, const char *name, bool exec, uint64_t time_ns);
/* Has its parent's name and, when it is a process of its own and not exec, mappings. */
void tasks_fork(struct tasks *t, uint32_t pid, uint32_t tid, uint32_t parent_pid, uint32_t parent_tid, bool exec, uint64_t time_ns);
/* Is known for a while: what it did last may be told after its end. */
void tasks_exit(struct tasks *t, uint32_t tid);
/* file: the caller's number. offset: bytes into it. */
void tasks_map(struct tasks *t, uint32_t pid, uint64_t start, uint64_t size, uint64_t offset, uint64_t file, const char *path);

/* ":TID" when nobody told. */
const char *tasks_get_name(const struct tasks *t, uint32_t tid, char buffer[static TASK_NAME_SIZE]);
/* Who it is: begun_ns tells those apart that have had one pid. exe: what was mapped first; "[comm]" when nothing was. */
struct task_process {
	uint64_t begun_ns;
	char comm[TASK_NAME_SIZE], exe[TASK_EXE_SIZE];
};
void tasks_get_process(const struct tasks *t, uint32_t pid, struct task_process *ret);
bool tasks_find(const struct tasks *t, uint32_t pid, uint64_t address, uint64_t *ret_file, uint64_t *ret_offset);
/* Threads and mappings that there was no room for. */
uint64_t tasks_dropped(const struct tasks *t);
