/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "vector.h"

#define SEED_FUNCTION 0x66756e63
#define SEED_FRAME 0x6672616d
#define SEED_PAIR 0x70616972

/* A pair of frames says where a function is called from; by itself it is less than the function. */
#define PAIR_SHARE 0.5f
/* What a frame at the root keeps of its weight: the deeper, the more telling; but what the leaf is changes from sample to sample. */
#define ROOT_SHARE 0.75f
/* What a frame of the kernel or the C library keeps: everyone's threads wait for locks and disks there, so it says what kind of trouble it is, and
 * the functions that called it whose. Rarity knows that only where there was such trouble before. */
#define SHARED_SHARE 0.5f
/* With fewer stacks than this nothing can be known to be common. */
#define STACKS_MIN 32
/* Frames looked at: the innermost, where stacks differ. */
#define FRAMES_MAX 64
/* Below this a frame says nothing. */
#define WEIGHT_MIN 0.02f

/* Functions by which threads and programs begin and enter the kernel, before there is any experience. */
static const char *const everywhere[] = {
	"main",          "_start",     "__libc_start_main", "__libc_start_call_main", "start_thread",
	"clone",         "clone3",     "__clone",           "__clone3",               "entry_SYSCALL_64_after_hwframe",
	"do_syscall_64", "ret_from_fork", "ret_from_fork_asm", "kthread",             "schedule",
	"__schedule",    "[truncated]", "asm_sysvec_apic_timer_interrupt", "thread_start", "el0t_64_sync", "el0_svc",
};

/* What an address without a name is called changes with every build: the object alone is kept. */
static bool has_name(const char *function)
{
	return function[0] != '[';
}

static uint64_t function_hash(const char *function)
{
	return hash64_string(function, SEED_FUNCTION);
}

static void count(struct rarity *r, uint64_t hash)
{
	for (unsigned row = 0; row < RARITY_ROWS; row++) {
		uint32_t *c = &r->counts[row][hash >> (20 * row) & (RARITY_COLUMNS - 1)];

		*c += *c < UINT32_MAX;
	}
}

void rarity_learn(struct rarity *r, const struct cluster_frame *frames, size_t n)
{
	uint64_t seen[FRAMES_MAX];
	size_t n_seen = 0;

	for (size_t i = 0; i < n; i++) {
		/* The root and the leaf of a deep stack count, its middle doesn't fit. */
		uint64_t hash = function_hash(frames[i].function);
		bool again = false;

		for (size_t k = 0; k < n_seen && !again; k++)
			again = seen[k] == hash;
		if (again)
			continue;
		if (n_seen < FRAMES_MAX)
			seen[n_seen++] = hash;
		else
			seen[FRAMES_MAX - 1] = hash;
		count(r, hash);
	}
	r->n_stacks++;
}

float rarity_of(const struct rarity *r, const char *function)
{
	uint64_t hash = function_hash(function);
	uint32_t least = UINT32_MAX;
	float n = (float)MAX(r->n_stacks, (uint64_t)STACKS_MIN);

	for (size_t i = 0; i < ELEMENTS_OF(everywhere); i++)
		if (streq(everywhere[i], function))
			return 0;
	for (unsigned row = 0; row < RARITY_ROWS; row++)
		least = MIN(least, r->counts[row][hash >> (20 * row) & (RARITY_COLUMNS - 1)]);
	return MAX(1 - logf((float)least + 1) / logf(n + 1), 0.0f);
}

static bool is_shared(const struct cluster_frame *frame)
{
	static const char *const objects[] = { "libc.so", "libc-2.", "libpthread", "ld-linux", "ld-musl" };

	for (size_t i = 0; i < ELEMENTS_OF(objects); i++)
		if (strncmp(frame->object, objects[i], strlen(objects[i])) == 0)
			return true;
	return frame->kernel;
}

float vector_frame_weight(const struct rarity *r, const struct cluster_frame *frame, size_t place, size_t n)
{
	float depth = n > 1 ? 1 - (float)place / (float)(n - 1) : 1;

	return rarity_of(r, frame->function) * (ROOT_SHARE + (1 - ROOT_SHARE) * depth) * (is_shared(frame) ? SHARED_SHARE : 1);
}

/* "libc.so.6" and the next version's are one object. */
static size_t object_stem(const char *object)
{
	const char *so = strstr(object, ".so");

	return so ? (size_t)(so - object) : strlen(object);
}

char *vector_frame_name(char buf[static CLUSTER_FRAME_NAME_MAX], const struct cluster_frame *frame)
{
	if (has_name(frame->function) || !frame->object[0] || frame->object[0] == '[')
		copy_string(buf, CLUSTER_FRAME_NAME_MAX, frame->function);
	else
		snprintf(buf, CLUSTER_FRAME_NAME_MAX, "[%.*s]", (int)MIN(object_stem(frame->object), (size_t)CLUSTER_FRAME_NAME_MAX - 3),
		         frame->object);
	return buf;
}

uint32_t vector_frame_feature(const struct cluster_frame *frame)
{
	uint64_t hash = hash64(frame->object, object_stem(frame->object), SEED_FRAME);

	if (has_name(frame->function))
		hash = hash64_string(frame->function, hash);
	return (uint32_t)(hash >> 32) | 1;
}

struct weighted {
	uint32_t feature;
	float weight;
};

static int by_feature(const void *a, const void *b)
{
	const struct weighted *x = a, *y = b;

	return (x->feature > y->feature) - (x->feature < y->feature);
}

static int heaviest_first(const void *a, const void *b)
{
	const struct weighted *x = a, *y = b;

	return x->weight != y->weight ? (x->weight < y->weight) - (x->weight > y->weight) : by_feature(a, b);
}

/* Takes any number of features, each once. */
static void make(struct vector *ret, struct weighted *w, size_t n)
{
	float square = 0;

	if (n > VECTOR_MAX) {
		qsort(w, n, sizeof(*w), heaviest_first);
		n = VECTOR_MAX;
	}
	qsort(w, n, sizeof(*w), by_feature);
	for (size_t i = 0; i < n; i++)
		square += w[i].weight * w[i].weight;
	*ret = (struct vector){};
	if (!(square > 0))
		return;
	for (size_t i = 0; i < n; i++) {
		ret->feature[i] = w[i].feature;
		ret->weight[i] = w[i].weight / sqrtf(square);
	}
	ret->n = (uint32_t)n;
}

/* Recursion makes a feature come again: it counts once, by its heaviest. */
static size_t add_once(struct weighted *w, size_t n, uint32_t feature, float weight)
{
	for (size_t i = 0; i < n; i++)
		if (w[i].feature == feature) {
			w[i].weight = MAX(w[i].weight, weight);
			return n;
		}
	w[n] = (struct weighted){ feature, weight };
	return n + 1;
}

void vector_of_stack(struct vector *ret, const struct rarity *r, const struct cluster_frame *frames, size_t n)
{
	struct weighted w[2 * FRAMES_MAX];
	size_t n_w = 0, looked_at = MIN(n, (size_t)FRAMES_MAX);
	uint32_t callee = 0;
	float callee_weight = 0;

	for (size_t i = 0; i < looked_at; i++) {
		float weight = vector_frame_weight(r, &frames[i], i, n);
		uint32_t feature = vector_frame_feature(&frames[i]);

		if (weight >= WEIGHT_MIN)
			n_w = add_once(w, n_w, feature, weight);
		if (callee && callee != feature && weight >= WEIGHT_MIN && callee_weight >= WEIGHT_MIN) {
			const uint32_t pair[] = { feature, callee };

			n_w = add_once(w, n_w, (uint32_t)(hash64(pair, sizeof(pair), SEED_PAIR) >> 32) & ~1U,
			               PAIR_SHARE * sqrtf(weight * callee_weight));
		}
		callee = feature;
		callee_weight = weight;
	}
	make(ret, w, n_w);
}

void vector_mix(struct vector *ret, const struct vector *a, float part_a, const struct vector *b, float part_b)
{
	struct weighted w[2 * VECTOR_MAX];
	size_t n = 0;

	for (uint32_t i = 0, k = 0; i < a->n || k < b->n;) {
		bool from_a = k == b->n || (i < a->n && a->feature[i] <= b->feature[k]);
		bool from_b = i == a->n || (k < b->n && b->feature[k] <= a->feature[i]);

		w[n] = (struct weighted){ from_a ? a->feature[i] : b->feature[k], 0 };
		if (from_a)
			w[n].weight += part_a * a->weight[i++];
		if (from_b)
			w[n].weight += part_b * b->weight[k++];
		n++;
	}
	make(ret, w, n);
}

float vector_cosine(const struct vector *a, const struct vector *b)
{
	float sum = 0;

	for (uint32_t i = 0, k = 0; i < a->n && k < b->n;) {
		if (a->feature[i] == b->feature[k])
			sum += a->weight[i++] * b->weight[k++];
		else if (a->feature[i] < b->feature[k])
			i++;
		else
			k++;
	}
	return sum;
}
