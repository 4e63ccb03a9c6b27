/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tasks.h"

#include "maps.h"

/* Those that ended are kept until so many others have. */
#define ENDED_MAX 1024

struct task {
	uint32_t tid;
	bool ended;
	char name[TASK_NAME_SIZE], exe[TASK_EXE_SIZE];
	uint64_t begun_ns; /* or when it executed something else */
	struct mappings mappings; /* of a process; in each its file's number, and no path */
};

struct tasks {
	struct map64 *index; /* tid → slot */
	struct task *slots;
	uint32_t n;
	uint32_t *free_slots;
	size_t n_free;
	size_t n_mappings;
	uint32_t ended[ENDED_MAX];
	size_t next_ended;
	uint64_t dropped;
};

int tasks_new(struct tasks **ret)
{
	_cleanup_(tasks_freep) struct tasks *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->slots = calloc(TASKS_MAX, sizeof(*t->slots));
	t->free_slots = calloc(TASKS_MAX, sizeof(*t->free_slots));
	if (!t->slots || !t->free_slots)
		return -ENOMEM;
	r = map64_new(&t->index, TASKS_MAX);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

struct tasks *tasks_free(struct tasks *t)
{
	if (!t)
		return NULL;
	for (uint32_t i = 0; t->slots && i < t->n; i++)
		mappings_clear(&t->slots[i].mappings);
	free(t->slots);
	free(t->free_slots);
	map64_free(t->index);
	free(t);
	return NULL;
}

static struct task *find(const struct tasks *t, uint32_t tid)
{
	uint64_t slot;

	return map64_get(t->index, tid, &slot) ? &t->slots[slot] : NULL;
}

static void forget_mappings(struct tasks *t, struct task *task)
{
	t->n_mappings -= task->mappings.n;
	mappings_clear(&task->mappings);
}

static void forget(struct tasks *t, uint32_t tid)
{
	struct task *task = find(t, tid);

	if (!task || !task->ended)
		return;
	forget_mappings(t, task);
	(void)map64_remove(t->index, tid);
	*task = (struct task){};
	t->free_slots[t->n_free++] = (uint32_t)(task - t->slots);
}

/* NULL: there are too many. */
static struct task *get(struct tasks *t, uint32_t tid)
{
	struct task *task = find(t, tid);
	uint32_t slot;

	if (task)
		return task;
	if (t->n_free > 0)
		slot = t->free_slots[--t->n_free];
	else if (t->n < TASKS_MAX)
		slot = t->n++;
	else {
		t->dropped++;
		return NULL;
	}
	task = &t->slots[slot];
	*task = (struct task){ .tid = tid };
	(void)map64_put(t->index, tid, slot);
	return task;
}

void tasks_name(struct tasks *t, uint32_t pid, uint32_t tid, const char *name, bool exec, uint64_t time_ns)
{
	struct task *task = get(t, tid), *process = exec ? find(t, pid) : NULL;

	if (process) {
		forget_mappings(t, process);
		process->exe[0] = '\0';
		process->begun_ns = time_ns;
	}
	if (!task)
		return;
	task->ended = false;
	copy_string(task->name, sizeof(task->name), name);
}

static void copy_mappings(struct tasks *t, struct task *to, const struct task *from)
{
	if (t->n_mappings + from->mappings.n > TASKS_MAPPINGS_MAX || mappings_copy(&to->mappings, &from->mappings) < 0)
		t->dropped += from->mappings.n;
	t->n_mappings += to->mappings.n;
}

void tasks_fork(struct tasks *t, uint32_t pid, uint32_t tid, uint32_t parent_pid, uint32_t parent_tid, bool exec, uint64_t time_ns)
{
	struct task *task = get(t, tid);
	const struct task *parent = find(t, parent_tid), *process = find(t, parent_pid);

	if (!task || parent == task)
		return;
	task->ended = false;
	if (parent)
		copy_string(task->name, sizeof(task->name), parent->name);
	if (pid == parent_pid || tid != pid)
		return;
	forget_mappings(t, task);
	task->begun_ns = time_ns;
	if (process && process != task && !exec) {
		copy_string(task->exe, sizeof(task->exe), process->exe);
		copy_mappings(t, task, process);
	}
}

void tasks_exit(struct tasks *t, uint32_t tid)
{
	struct task *task = find(t, tid);

	if (!task || task->ended)
		return;
	task->ended = true;
	forget(t, t->ended[t->next_ended]);
	t->ended[t->next_ended] = tid;
	t->next_ended = (t->next_ended + 1) % ENDED_MAX;
}

void tasks_map(struct tasks *t, uint32_t pid, uint64_t start, uint64_t size, uint64_t offset, uint64_t file, const char *path)
{
	struct task *process = get(t, pid);
	struct mapping m = { .start = start, .end = start + size, .offset = offset, .object = file };
	size_t before;

	if (!process || size == 0 || m.end < start)
		return;
	before = process->mappings.n;
	if (process->exe[0] == '\0' && path[0] == '/')
		copy_string(process->exe, sizeof(process->exe), path);
	if (t->n_mappings + 2 > TASKS_MAPPINGS_MAX || !(m.path = strdup(""))) {
		t->dropped++;
		return;
	}
	if (mappings_put(&process->mappings, &m) < 0)
		t->dropped++;
	t->n_mappings += process->mappings.n - before;
}

const char *tasks_get_name(const struct tasks *t, uint32_t tid, char buffer[static TASK_NAME_SIZE])
{
	const struct task *task = find(t, tid);

	if (task && task->name[0] != '\0')
		return task->name;
	if (tid == 0)
		return "swapper";
	snprintf(buffer, TASK_NAME_SIZE, ":%d", (int)tid);
	return buffer;
}

void tasks_get_process(const struct tasks *t, uint32_t pid, struct task_process *ret)
{
	const struct task *process = find(t, pid);
	char comm[TASK_NAME_SIZE];

	*ret = (struct task_process){ .begun_ns = process ? process->begun_ns : 0 };
	copy_string(ret->comm, sizeof(ret->comm), tasks_get_name(t, pid, comm));
	if (process && process->exe[0] != '\0')
		copy_string(ret->exe, sizeof(ret->exe), process->exe);
	else
		snprintf(ret->exe, sizeof(ret->exe), "[%s]", ret->comm);
}

bool tasks_find(const struct tasks *t, uint32_t pid, uint64_t address, uint64_t *ret_file, uint64_t *ret_offset)
{
	const struct task *process = find(t, pid);
	const struct mapping *m = process ? mappings_find(&process->mappings, address) : NULL;

	if (!m)
		return false;
	*ret_file = m->object;
	*ret_offset = address - m->start + m->offset;
	return true;
}

uint64_t tasks_dropped(const struct tasks *t)
{
	return t->dropped;
}
