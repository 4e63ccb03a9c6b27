/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "answers.h"

#define PROCESS_SEED 0x616e7377

/* A stack and its names, or a process, as large as it is. */
struct answer {
	uint64_t key; /* of the question */
	bool is_stack, taken;
	int result;
	union {
		struct {
			uint64_t start_us;
			struct symbols_process *known;
		} process;
		struct {
			uint64_t raw_id, id;
			bool truncated;
			size_t n;
			struct symbols_frame *frames; /* and their strings */
		} stack;
	};
};

struct answers {
	struct answer *queue;
	size_t n, max, at; /* at: of the one that is asked for next, if all goes as it went */
	struct map64 *index[2]; /* processes, stacks: key → kept */
	struct answer *kept[2];
	size_t n_kept[2];
	struct recording_process process; /* that was given */
	struct recording_stack stack;
};

static void clear(struct answer *a)
{
	if (a->result >= 0)
		free(a->is_stack ? (void *)a->stack.frames : (void *)a->process.known);
	*a = (struct answer){ .result = -ENOENT };
}

int answers_new(struct answers **ret)
{
	_cleanup_(answers_freep) struct answers *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	for (size_t i = 0; i < 2; i++) {
		int r = map64_new(&a->index[i], ANSWERS_KEPT_MAX);

		if (r < 0)
			return r;
		a->kept[i] = calloc(ANSWERS_KEPT_MAX, sizeof(*a->kept[i]));
		if (!a->kept[i])
			return -ENOMEM;
	}
	*ret = TAKE_PTR(a);
	return 0;
}

static void forget_kept(struct answers *a, bool stacks)
{
	for (size_t k = 0; k < a->n_kept[stacks]; k++)
		clear(&a->kept[stacks][k]);
	a->n_kept[stacks] = 0;
	map64_clear(a->index[stacks]);
}

struct answers *answers_free(struct answers *a)
{
	if (!a)
		return NULL;
	for (size_t i = 0; i < a->n; i++)
		clear(&a->queue[i]);
	free(a->queue);
	for (size_t i = 0; i < 2; i++) {
		if (a->index[i])
			forget_kept(a, i);
		map64_free(a->index[i]);
		free(a->kept[i]);
	}
	free(a);
	return NULL;
}

/* ---- those to the next event ---- */

static uint64_t process_key(const struct collect_process *p)
{
	const uint64_t key[] = { (uint32_t)p->pid | (uint64_t)p->exec_id << 32, p->start_ns };

	return hash64(key, sizeof(key), PROCESS_SEED);
}

static struct answer *add(struct answers *a)
{
	if (a->n == a->max) {
		size_t max = a->max ? 2 * a->max : 64;
		struct answer *more = max > ANSWERS_QUEUE_MAX ? NULL : reallocarray(a->queue, max, sizeof(*more));

		if (!more)
			return NULL;
		a->queue = more;
		a->max = max;
	}
	a->queue[a->n] = (struct answer){ .result = -ENOENT };
	return &a->queue[a->n++];
}

int answers_add_process(struct answers *a, const struct recording_process *p)
{
	struct symbols_process *known = p->result < 0 ? NULL : malloc(sizeof(*known));
	struct answer *new = add(a);

	if (!new || (p->result >= 0 && !known)) {
		free(known);
		return new ? -ENOMEM : -ENOSPC;
	}
	if (known)
		*known = p->known;
	*new = (struct answer){
		.key = process_key(&p->asked), .result = p->result, .process = { .start_us = p->start_us, .known = known },
	};
	return 0;
}

static struct symbols_frame *copy_frames(const struct symbols_frame *frames, size_t n)
{
	size_t bytes = MAX(n, (size_t)1) * sizeof(*frames);
	struct symbols_frame *copy;
	char *at;

	for (size_t i = 0; i < n; i++)
		bytes += strlen(frames[i].display) + strlen(frames[i].object) + 2;
	copy = malloc(bytes);
	if (!copy)
		return NULL;
	at = (char *)(copy + n);
	for (size_t i = 0; i < n; i++) {
		copy[i] = frames[i];
		copy[i].display = strcpy(at, frames[i].display);
		at += strlen(at) + 1;
		copy[i].object = strcpy(at, frames[i].object);
		at += strlen(at) + 1;
	}
	return copy;
}

int answers_add_stack(struct answers *a, const struct recording_stack *s)
{
	struct symbols_frame *frames = s->result < 0 ? NULL : copy_frames(s->frames, s->n);
	struct answer *new = add(a);

	if (!new || (s->result >= 0 && !frames)) {
		free(frames);
		return new ? -ENOMEM : -ENOSPC;
	}
	*new = (struct answer){
		.key = s->raw_id,
		.is_stack = true,
		.result = s->result,
		.stack = { .raw_id = s->raw_id, .id = s->id, .truncated = s->truncated, .n = s->n, .frames = frames },
	};
	return 0;
}

/* ---- those kept ---- */

/* Takes it out of the queue's hands. */
static struct answer *keep(struct answers *a, struct answer *answer)
{
	bool stacks = answer->is_stack;
	uint64_t at;

	if (!map64_get(a->index[stacks], answer->key, &at)) {
		if (a->n_kept[stacks] == ANSWERS_KEPT_MAX)
			forget_kept(a, stacks);
		at = a->n_kept[stacks]++;
		(void)map64_put(a->index[stacks], answer->key, at);
	} else {
		clear(&a->kept[stacks][at]);
	}
	a->kept[stacks][at] = *answer;
	*answer = (struct answer){ .result = -ENOENT, .taken = true };
	return &a->kept[stacks][at];
}

void answers_end_event(struct answers *a)
{
	for (size_t i = 0; i < a->n; i++)
		if (!a->queue[i].taken && a->queue[i].result >= 0)
			keep(a, &a->queue[i]);
	a->n = a->at = 0;
}

static bool fits(const struct answer *answer, bool is_stack, uint64_t key)
{
	return !answer->taken && answer->is_stack == is_stack && answer->key == key;
}

/* The next one in the queue, most likely; else the first that fits; else the last that was given before. */
static const struct answer *find(struct answers *a, bool is_stack, uint64_t key, int *ret_result)
{
	size_t at = a->at;
	uint64_t kept;

	if (at >= a->n || !fits(&a->queue[at], is_stack, key))
		for (at = 0; at < a->n && !fits(&a->queue[at], is_stack, key);)
			at++;
	if (at < a->n) {
		a->at = at + 1;
		*ret_result = a->queue[at].result;
		a->queue[at].taken = true;
		return *ret_result < 0 ? &a->queue[at] : keep(a, &a->queue[at]);
	}
	*ret_result = 0;
	return map64_get(a->index[is_stack], key, &kept) ? &a->kept[is_stack][kept] : NULL;
}

const struct recording_process *answers_process(struct answers *a, const struct collect_process *process)
{
	int result;
	const struct answer *found = find(a, false, process_key(process), &result);

	if (!found)
		return NULL;
	a->process.asked = *process;
	a->process.result = result;
	if (result >= 0) {
		a->process.known = *found->process.known;
		a->process.start_us = found->process.start_us;
	}
	return &a->process;
}

const struct recording_stack *answers_stack(struct answers *a, uint64_t raw_id)
{
	int result;
	const struct answer *found = find(a, true, raw_id, &result);

	if (!found)
		return NULL;
	a->stack.raw_id = raw_id;
	a->stack.result = result;
	if (result >= 0) {
		a->stack.id = found->stack.id;
		a->stack.truncated = found->stack.truncated;
		a->stack.n = found->stack.n;
		memcpy(a->stack.frames, found->stack.frames, found->stack.n * sizeof(*found->stack.frames));
	}
	return &a->stack;
}
