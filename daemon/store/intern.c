/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Strings, frames, stacks, workloads and processes. Strings, frames and workloads go with the last that
 * refers to them; stacks and processes stay until room is needed. */
#include "internal.h"

#define STRING_MAX 4095
#define FRAMES_MAX (POOL_PAGE / sizeof(uint32_t))

/* Attempts to free pool space: dropping stacks may free cells of other sizes than what is wanted. */
#define POOL_RETRIES 4

const char *store_string_text(const struct store *s, uint32_t i)
{
	return i ? (const char *)s->pool.base + store_string(s, i)->offset : "";
}

static int pool_take(struct store *s, size_t size, uint32_t *ret_offset, uint32_t *ret_cell)
{
	for (int i = 0; i < POOL_RETRIES; i++) {
		uint32_t offset = store_pool_allocate(&s->pool, size);

		if (offset != POOL_NONE) {
			*ret_offset = offset;
			*ret_cell = store_pool_cell_size(&s->pool, offset);
			return 0;
		}
		if (!store_make_room(s, DICT_STRINGS))
			break;
	}
	/* Nor will it help to drop still more for the next one. */
	s->exhausted[DICT_STRINGS] = s->c.tick + 1;
	return -ENOSPC;
}

static uint32_t dict_take(struct store *s, int dict, uint64_t hash)
{
	uint32_t i;

	while (!(i = store_dict_take(s, dict, hash)))
		if (!store_make_room(s, dict))
			return 0;
	return i;
}

struct text {
	const char *start;
	size_t length;
};

static bool string_equal(const struct store *s, uint32_t i, const void *key)
{
	const struct string_record *r = store_string(s, i);
	const struct text *t = key;

	return r->size == t->length + 1 && memcmp(s->pool.base + r->offset, t->start, t->length) == 0;
}

/* Takes a reference. The empty string is 0. */
int store_intern_string(struct store *s, const char *text, uint32_t *ret)
{
	struct text t = { text, text ? strnlen(text, STRING_MAX) : 0 };
	struct string_record *r;
	uint32_t i, offset, cell;
	uint64_t hash;
	int k;

	if (t.length == 0) {
		*ret = 0;
		return 0;
	}
	hash = hash64(t.start, t.length, SEED_STRING);
	i = store_dict_find(s, DICT_STRINGS, hash, string_equal, &t);
	if (!i) {
		k = pool_take(s, t.length + 1, &offset, &cell);
		if (k < 0)
			return k;
		i = dict_take(s, DICT_STRINGS, hash);
		if (!i) {
			store_pool_free(&s->pool, offset);
			return -ENOSPC;
		}
		r = store_string(s, i);
		r->offset = offset;
		r->size = (uint32_t)t.length + 1;
		r->cell = cell;
		memcpy(s->pool.base + offset, t.start, t.length);
		s->pool.base[offset + t.length] = 0;
		store_dict_publish(s, DICT_STRINGS, i);
	}
	s->dicts[DICT_STRINGS].refs[i]++;
	*ret = i;
	return 0;
}

void store_string_unref(struct store *s, uint32_t i)
{
	if (i == 0 || --s->dicts[DICT_STRINGS].refs[i] > 0)
		return;
	store_dict_remove(s, DICT_STRINGS, i);
	store_pool_free(&s->pool, store_string(s, i)->offset);
}

/* ---- frames and stacks ---- */

void store_frame_unref(struct store *s, uint32_t i)
{
	struct frame_record *r = store_frame_at(s, i);

	if (--s->dicts[DICT_FRAMES].refs[i] > 0)
		return;
	store_dict_remove(s, DICT_FRAMES, i);
	store_string_unref(s, r->display);
	store_string_unref(s, r->object);
	store_string_unref(s, r->build_id);
}

uint32_t store_frame_check(const struct store *s, const struct frame_record *r)
{
	uint64_t parts[] = { r->entry.hash, hash64_string(store_string_text(s, r->display), SEED_STRING),
	                     hash64_string(store_string_text(s, r->object), SEED_STRING),
	                     hash64_string(store_string_text(s, r->build_id), SEED_STRING), r->kind, r->address };

	return (uint32_t)hash64(parts, sizeof(parts), SEED_FRAME);
}

static int intern_frame(struct store *s, const struct store_frame *frame, uint32_t *ret)
{
	uint32_t i = store_dict_find(s, DICT_FRAMES, frame->id, NULL, NULL), display = 0, object = 0, build_id = 0;
	struct frame_record *r;
	int k;

	if (!i) {
		k = store_intern_string(s, frame->display, &display);
		if (k >= 0)
			k = store_intern_string(s, frame->object, &object);
		if (k >= 0)
			k = store_intern_string(s, frame->build_id, &build_id);
		if (k >= 0) {
			i = dict_take(s, DICT_FRAMES, frame->id);
			k = i ? 0 : -ENOSPC;
		}
		if (k < 0) {
			store_string_unref(s, display);
			store_string_unref(s, object);
			store_string_unref(s, build_id);
			return k;
		}
		r = store_frame_at(s, i);
		r->display = display;
		r->object = object;
		r->build_id = build_id;
		r->address = frame->address;
		r->kind = frame->kind;
		r->check = store_frame_check(s, r);
		store_dict_publish(s, DICT_FRAMES, i);
	}
	s->dicts[DICT_FRAMES].refs[i]++;
	*ret = i;
	return 0;
}

static int intern_frames(struct store *s, const struct store_frame *frames, size_t n, uint32_t *list)
{
	for (size_t i = 0; i < n; i++) {
		int k = intern_frame(s, &frames[i], &list[i]);

		if (k < 0) {
			while (i > 0)
				store_frame_unref(s, list[--i]);
			return k;
		}
	}
	return 0;
}

static uint32_t *stack_frames(const struct store *s, const struct stack_record *r)
{
	return (uint32_t *)(s->pool.base + r->offset);
}

uint32_t store_stack_check(const struct store *s, const struct stack_record *r)
{
	uint64_t h = r->entry.hash;

	for (uint32_t k = 0; k < r->n; k++)
		h = hash64(&store_frame_at(s, stack_frames(s, r)[k])->entry.hash, sizeof(h), h);
	h += r->truncated;
	return (uint32_t)hash64(&h, sizeof(h), SEED_STACK);
}

int store_intern_stack(struct store *s, uint64_t stack_id, const struct store_frame *frames, size_t n,
                       bool truncated, store_ref *ret)
{
	uint32_t list[FRAMES_MAX], i, offset = 0, cell = 0;
	struct stack_record *r;
	int k;

	i = store_dict_find(s, DICT_STACKS, stack_id, NULL, NULL);
	if (i) {
		dict_entry(&s->dicts[DICT_STACKS], i)->used = s->c.tick + 1;
		*ret = dict_ref(&s->dicts[DICT_STACKS], i);
		return 0;
	}
	if (n > FRAMES_MAX)
		return -EINVAL;
	k = intern_frames(s, frames, n, list);
	if (k < 0)
		return k;
	if (n > 0)
		k = pool_take(s, n * sizeof(uint32_t), &offset, &cell);
	if (k >= 0) {
		i = dict_take(s, DICT_STACKS, stack_id);
		if (!i && n > 0)
			store_pool_free(&s->pool, offset);
	}
	if (!i) {
		while (n > 0)
			store_frame_unref(s, list[--n]);
		return -ENOSPC;
	}
	r = store_stack_at(s, i);
	r->offset = offset;
	r->n = (uint32_t)n;
	r->cell = cell;
	r->truncated = truncated;
	memcpy(stack_frames(s, r), list, n * sizeof(uint32_t));
	r->check = store_stack_check(s, r);
	store_dict_publish(s, DICT_STACKS, i);
	*ret = dict_ref(&s->dicts[DICT_STACKS], i);
	return 0;
}

void store_stack_drop(struct store *s, uint32_t i)
{
	struct stack_record *r = store_stack_at(s, i);

	store_dict_remove(s, DICT_STACKS, i);
	for (uint32_t k = 0; k < r->n; k++)
		store_frame_unref(s, stack_frames(s, r)[k]);
	if (r->n > 0)
		store_pool_free(&s->pool, r->offset);
}

store_ref store_find_stack(const struct store *s, uint64_t stack_id)
{
	uint32_t i = store_dict_find(s, DICT_STACKS, stack_id, NULL, NULL);

	if (!i)
		return 0;
	/* Found in an open tick means about to be used: not to be reclaimed before its end. */
	if (s->in_tick)
		dict_entry(&s->dicts[DICT_STACKS], i)->used = s->c.tick + 1;
	return dict_ref(&s->dicts[DICT_STACKS], i);
}

uint64_t store_keep_stack(const struct store *s, store_ref stack)
{
	uint32_t i = dict_resolve(&s->dicts[DICT_STACKS], stack);
	struct entry *e;

	if (!i)
		return 0;
	e = dict_entry(&s->dicts[DICT_STACKS], i);
	if (s->in_tick)
		e->used = s->c.tick + 1;
	return e->hash;
}

int store_get_stack(const struct store *s, store_ref stack, uint64_t *ret_stack_id, bool *ret_truncated,
                    struct store_frame *ret_frames, size_t max, size_t *ret_n)
{
	uint32_t i = dict_resolve(&s->dicts[DICT_STACKS], stack);
	const struct stack_record *r;

	if (!i)
		return -ENOENT;
	r = store_stack_at(s, i);
	for (uint32_t k = 0; k < r->n && k < max; k++) {
		const struct frame_record *f = store_frame_at(s, stack_frames(s, r)[k]);

		ret_frames[k] = (struct store_frame) {
			.id = f->entry.hash,
			.display = store_string_text(s, f->display),
			.object = store_string_text(s, f->object),
			.kind = (uint8_t)f->kind,
			.build_id = store_string_text(s, f->build_id),
			.address = f->address,
		};
	}
	*ret_stack_id = r->entry.hash;
	*ret_truncated = r->truncated != 0;
	*ret_n = r->n;
	return 0;
}

size_t store_get_frame_ids(const struct store *s, store_ref stack, uint64_t *ret, size_t max)
{
	uint32_t i = dict_resolve(&s->dicts[DICT_STACKS], stack);
	const struct stack_record *r;
	size_t n = 0;

	if (!i)
		return 0;
	r = store_stack_at(s, i);
	while (n < r->n && n < max) {
		ret[n] = store_frame_at(s, stack_frames(s, r)[n])->entry.hash;
		n++;
	}
	return n;
}

/* ---- workloads and processes ---- */

struct process_key {
	const struct store_process *process;
	uint32_t workload; /* 0 = any */
};

uint64_t store_process_hash(pid_t pid, uint32_t exec_id, uint64_t start_ns, uint32_t other)
{
	uint64_t key[3] = { (uint32_t)pid | (uint64_t)exec_id << 32, start_ns, other };

	return hash64(key, sizeof(key), SEED_PROCESS);
}

/* The process that stands for those of a workload that are not told apart has pid 0 and no place in the hash
 * index: the workload knows it. */
static int make_process(struct store *s, const struct store_process *p, uint32_t workload, uint32_t *ret)
{
	struct process_record *r;
	uint32_t comm, i;
	int k;

	k = store_intern_string(s, p->comm, &comm);
	if (k < 0)
		return k;
	i = dict_take(s, DICT_PROCESSES,
	              store_process_hash(p->pid, p->exec_id, p->start_ns, p->pid ? 0 : workload));
	if (!i) {
		store_string_unref(s, comm);
		return -ENOSPC;
	}
	r = store_process_at(s, i);
	if (r->workload != workload || r->workload_born < store_workload_at(s, workload)->born || p->pid == 0)
		r->workload_born = s->c.tick + 1;
	r->start_ns = p->start_ns;
	r->start_us = p->start_us;
	r->pid = (uint32_t)p->pid;
	r->exec_id = p->exec_id;
	r->comm = comm;
	r->workload = workload;
	r->born = s->c.tick + 1;
	r->superseded = 0;
	store_dict_publish(s, DICT_PROCESSES, i);
	*ret = i;
	return 0;
}

void store_process_drop(struct store *s, uint32_t i)
{
	struct process_record *r = store_process_at(s, i);
	uint32_t workload = r->workload;

	for (int t = 0; t < STORE_TIERS; t++)
		store_accumulator_move(&s->steps[t].sections[SECTION_PROCESSES], i,
		                       store_workload_at(s, workload)->other);
	store_dict_remove(s, DICT_PROCESSES, i);
	store_string_unref(s, r->comm);
	store_workload_unref(s, workload);
}

/* Also drops the process that stands for others. */
void store_workload_unref(struct store *s, uint32_t i)
{
	struct workload_record *r = store_workload_at(s, i);

	if (--s->dicts[DICT_WORKLOADS].refs[i] > 0)
		return;
	for (int t = 0; t < STORE_TIERS; t++)
		store_accumulator_move(&s->steps[t].sections[SECTION_PROCESSES], r->other, 0);
	store_dict_remove(s, DICT_WORKLOADS, i);
	store_string_unref(s, store_process_at(s, r->other)->comm);
	store_dict_remove(s, DICT_PROCESSES, r->other);
	store_string_unref(s, r->unit);
	store_string_unref(s, r->cgroup);
	store_string_unref(s, r->exe);
}

struct workload_key {
	uint32_t unit, cgroup, exe, uid;
};

static bool workload_equal(const struct store *s, uint32_t i, const void *key)
{
	const struct workload_record *r = store_workload_at(s, i);
	const struct workload_key *k = key;

	return r->unit == k->unit && r->cgroup == k->cgroup && r->exe == k->exe && r->uid == k->uid;
}

uint64_t store_workload_hash(const struct store *s, uint32_t unit, uint32_t cgroup, uint32_t exe,
                             uint32_t uid)
{
	uint64_t h = uid;

	h = hash64_string(store_string_text(s, unit), h);
	h = hash64_string(store_string_text(s, cgroup), h);
	return hash64_string(store_string_text(s, exe), h);
}

static uint64_t workload_hash(const struct store *s, const struct workload_key *k)
{
	return store_workload_hash(s, k->unit, k->cgroup, k->exe, k->uid);
}

/* As the kernel would name its processes: the last part of the executable's path, or what is in the brackets that
 * stand for one. So who asks for a name also gets those of them that are not told apart. */
static void name_others(char buf[static 16], const char *exe)
{
	const char *slash = strrchr(exe, '/'), *name = exe[0] == '[' ? exe + 1 : slash ? slash + 1 : exe;
	size_t n = strlen(name);

	if (exe[0] == '[' && n > 0 && name[n - 1] == ']')
		n--;
	snprintf(buf, 16, "%.*s", (int)MIN(n, 15u), name);
}

static int make_workload(struct store *s, const struct workload_key *key, bool exe_is_comm, uint32_t *ret)
{
	char comm[16];
	const struct store_process others = { .comm = comm };
	uint32_t i = dict_take(s, DICT_WORKLOADS, workload_hash(s, key)), other;
	struct workload_record *r;
	int k;

	name_others(comm, store_string_text(s, key->exe));
	if (!i)
		return -ENOSPC;
	store_workload_at(s, i)->born = s->c.tick + 1;
	k = make_process(s, &others, i, &other);
	if (k < 0) {
		store_dict_untake(s, DICT_WORKLOADS, i);
		return k;
	}
	r = store_workload_at(s, i);
	r->unit = key->unit;
	r->cgroup = key->cgroup;
	r->exe = key->exe;
	r->uid = key->uid;
	r->exe_is_comm = exe_is_comm;
	r->other = other;
	store_dict_publish(s, DICT_WORKLOADS, i);
	*ret = i;
	return 0;
}

static void unref_key(struct store *s, const struct workload_key *key)
{
	store_string_unref(s, key->unit);
	store_string_unref(s, key->cgroup);
	store_string_unref(s, key->exe);
}

/* Takes a reference. */
static int intern_workload(struct store *s, const struct store_process *p, uint32_t *ret)
{
	struct workload_key key = { .uid = p->uid };
	bool exe_is_comm = !p->exe || !*p->exe;
	char comm[64];
	uint32_t i;
	int k;

	snprintf(comm, sizeof(comm), "[%s]", p->comm ? p->comm : "");
	k = store_intern_string(s, p->unit, &key.unit);
	if (k >= 0)
		k = store_intern_string(s, p->cgroup, &key.cgroup);
	if (k >= 0)
		k = store_intern_string(s, exe_is_comm ? comm : p->exe, &key.exe);
	if (k < 0) {
		unref_key(s, &key);
		return k;
	}
	i = store_dict_find(s, DICT_WORKLOADS, workload_hash(s, &key), workload_equal, &key);
	if (i) {
		unref_key(s, &key); /* the workload has its own references */
	} else {
		k = make_workload(s, &key, exe_is_comm, &i);
		if (k < 0) {
			unref_key(s, &key);
			return k;
		}
	}
	s->dicts[DICT_WORKLOADS].refs[i]++;
	*ret = i;
	return 0;
}

static bool process_equal(const struct store *s, uint32_t i, const void *key)
{
	const struct process_record *r = store_process_at(s, i);
	const struct store_process *p = key;

	return r->pid == (uint32_t)p->pid && r->exec_id == p->exec_id && r->start_ns == p->start_ns;
}

/* A process may be renamed: the latest name is the one to show. */
static void rename_process(struct store *s, struct process_record *r, const char *comm)
{
	uint32_t i;

	if (streq(store_string_text(s, r->comm), comm ? comm : "") || store_intern_string(s, comm, &i) < 0)
		return;
	store_string_unref(s, r->comm);
	r->comm = i;
}

static bool same_workload(const struct store *s, uint32_t i, const struct store_process *p)
{
	const struct workload_record *w = store_workload_at(s, i);
	bool exe_is_comm = !p->exe || !*p->exe;

	return w->uid == p->uid && streq(store_string_text(s, w->unit), p->unit ? p->unit : "") &&
	       streq(store_string_text(s, w->cgroup), p->cgroup ? p->cgroup : "") &&
	       (exe_is_comm ? w->exe_is_comm != 0 : streq(store_string_text(s, w->exe), p->exe));
}

int store_intern_process(struct store *s, const struct store_process *process, store_ref *ret)
{
	uint32_t i, workload;
	int k;

	if (process->pid <= 0)
		return -EINVAL;
	i = store_dict_find(s, DICT_PROCESSES,
	                    store_process_hash(process->pid, process->exec_id, process->start_ns, 0),
	                    process_equal, process);
	if (i && same_workload(s, store_process_at(s, i)->workload, process)) {
		dict_entry(&s->dicts[DICT_PROCESSES], i)->used = s->c.tick + 1;
		rename_process(s, store_process_at(s, i), process->comm);
		*ret = dict_ref(&s->dicts[DICT_PROCESSES], i);
		return 0;
	}
	k = intern_workload(s, process, &workload);
	if (k < 0)
		return k;
	/* Making room may have dropped the one that was found. */
	i = store_dict_find(s, DICT_PROCESSES,
	                    store_process_hash(process->pid, process->exec_id, process->start_ns, 0),
	                    process_equal, process);
	if (i) {
		store_process_at(s, i)->superseded = 1;
		store_dict_hide(s, DICT_PROCESSES, i);
	}
	k = make_process(s, process, workload, &i);
	if (k < 0) {
		store_workload_unref(s, workload);
		return k;
	}
	*ret = dict_ref(&s->dicts[DICT_PROCESSES], i);
	return 0;
}

store_ref store_find_process(const struct store *s, pid_t pid, uint32_t exec_id, uint64_t start_ns)
{
	struct store_process key = { .pid = pid, .exec_id = exec_id, .start_ns = start_ns };
	uint32_t i = store_dict_find(s, DICT_PROCESSES, store_process_hash(pid, exec_id, start_ns, 0),
	                             process_equal, &key);

	if (!i)
		return 0;
	if (s->in_tick)
		dict_entry(&s->dicts[DICT_PROCESSES], i)->used = s->c.tick + 1;
	return dict_ref(&s->dicts[DICT_PROCESSES], i);
}

int store_get_process(const struct store *s, store_ref process, struct store_process *ret)
{
	uint32_t i = dict_resolve(&s->dicts[DICT_PROCESSES], process);
	const struct process_record *r;
	const struct workload_record *w;

	if (!i)
		return -ENOENT;
	r = store_process_at(s, i);
	w = store_workload_at(s, r->workload);
	*ret = (struct store_process) {
		.pid = (pid_t)r->pid,
		.exec_id = r->exec_id,
		.start_ns = r->start_ns,
		.start_us = r->start_us,
		.uid = w->uid,
		.comm = store_string_text(s, r->comm),
		.exe = w->exe_is_comm ? "" : store_string_text(s, w->exe),
		.unit = store_string_text(s, w->unit),
		.cgroup = store_string_text(s, w->cgroup),
	};
	return 0;
}
