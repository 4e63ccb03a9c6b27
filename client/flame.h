/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stacks summed up as a tree, from which every form of flame graph is written. Pure but for text_escape().
 *
 *   flame_intern() ─▶ flame_add() ─▶ flame_build() ─▶ nodes ─▶ SVG, HTML, pprof, speedscope, d3, folded
 *
 *   nodes   [ all | main | work | read | sleep | other ]       in preorder, callees by name
 *              └──────────── node.end of "all" ─────────▶
 *                      └─ node.end of "work" ─▶
 */
#pragma once

#include "base.h"

#define FLAME_DEPTH_MAX 1024                /* frames of a stack; what is further in is cut off */
#define FLAME_FRAMES_MAX (1024 * 1024)      /* different frames */
#define FLAME_NAMES_MAX (256 * 1024 * 1024) /* bytes of the names of frames and objects */
#define FLAME_STACKS_MAX (8 * 1024 * 1024)  /* 256 MiB */
#define FLAME_REFS_MAX (32 * 1024 * 1024)   /* frames of all stacks together: 128 MiB */
#define FLAME_NODES_MAX (4 * 1024 * 1024)   /* 256 MiB */

/* Where a frame's code is; a graph is coloured by it. */
enum flame_kind {
	FLAME_PROCESS, /* no code: the command that the stack is of */
	FLAME_ON_CPU,  /* no code: what is below it ran */
	FLAME_OFF_CPU, /* no code: what is below it waited */
	FLAME_KERNEL,
	FLAME_LIBRARY,
	FLAME_PROGRAM,
	FLAME_JIT,
	FLAME_UNKNOWN,
	FLAME_KINDS,
};
const char *flame_kind_to_string(enum flame_kind k); /* "kernel" */
/* By a Frame's kind on the wire and its object: what a program is linked with is told by its name. */
enum flame_kind flame_kind_of(const char *kind, const char *object);

enum flame_shape {
	FLAME_PLAIN,
	FLAME_DIFF,     /* each stack has a value before and one after */
	FLAME_HOT_COLD, /* wall time: stacks begin with a process and a FLAME_ON_CPU or FLAME_OFF_CPU frame */
};

enum flame_side { FLAME_BEFORE = 0, FLAME_AFTER = 1, FLAME_VALUE = FLAME_AFTER };

struct flame_frame {
	char *name;      /* made harmless by text_escape() */
	uint32_t object; /* of objects; 0 is none */
	enum flame_kind kind;
	uint64_t address; /* in the object; 0: not known */
};

struct flame_object {
	char *name, *build_id; /* build_id: "" when it isn't known */
};

struct flame_stack {
	size_t first; /* of refs */
	uint16_t n;
	uint64_t value[2]; /* by enum flame_side */
};

struct flame_node {
	uint32_t frame;
	uint32_t end; /* the first node behind its callees */
	uint16_t depth;
	bool cold;                     /* below a FLAME_OFF_CPU frame */
	uint64_t self[2], total[2];    /* by enum flame_side; saturate at INT64_MAX */
	uint64_t width;                /* in a picture: what is before and gone after has a place, too */
};

struct flame {
	enum flame_shape shape;
	struct flame_frame *frames;
	size_t n_frames, frames_allocated;
	struct flame_object *objects;
	size_t n_objects, objects_allocated;
	size_t name_bytes; /* of frames and objects */
	struct map64 *ids; /* hash of a frame or of an object -> its index */
	uint32_t *refs;
	size_t n_refs, refs_allocated;
	struct flame_stack *stacks;
	size_t n_stacks, stacks_allocated;
	size_t cut; /* stacks deeper than FLAME_DEPTH_MAX */
	struct flame_node *nodes;
	size_t n_nodes, nodes_allocated;
	uint16_t depth; /* of the deepest node; the root is 0 */
};

int flame_new(struct flame **ret, enum flame_shape shape);
struct flame *flame_free(struct flame *f); /* accepts NULL, returns NULL */
DEFINE_CLEANUP(struct flame *, flame_free)

/* The number of a frame. Frames of the same name, object and kind are one. object: "" for none. -E2BIG:
 * FLAME_FRAMES_MAX or FLAME_NAMES_MAX. */
int flame_intern(struct flame *f, const char *name, const char *object, enum flame_kind kind, uint32_t *ret);
/* The same with what tells its object and itself from others of that name. */
int flame_intern_at(struct flame *f, const char *name, const char *object, const char *build_id, uint64_t address, enum flame_kind kind,
                    uint32_t *ret);
/* frames: outermost first. The same stack may come again: values add up. -E2BIG: FLAME_REFS_MAX or
 * FLAME_STACKS_MAX. */
int flame_add(struct flame *f, const uint32_t *frames, size_t n, enum flame_side side, uint64_t value);
/* Multiplies one side of all stacks, to compare windows of different length. */
void flame_scale(struct flame *f, enum flame_side side, double factor);

/* For a FLAME_HOT_COLD: what the kernel's own accounting says of a process. */
struct flame_exact {
	uint32_t process; /* its frame; several may have the same */
	uint64_t on, off;
};
struct flame_settled {
	uint64_t without_stack; /* what no stack accounts for: it is in frames "[no stack]" */
	uint64_t over;          /* by so much were sums of stacks too large: they were scaled down */
	uint64_t unknown;       /* of processes without exact figures: as the stacks say */
};
/* Makes what is below each process and state add up to the exact figure. Stacks must begin with a process and a
 * state. */
int flame_settle(struct flame *f, const struct flame_exact *exact, size_t n, struct flame_settled *ret);

/* Sums up; the stacks are gone then. nodes[0] is "all". -E2BIG: FLAME_NODES_MAX. */
int flame_build(struct flame *f);

static inline const struct flame_frame *flame_frame_of(const struct flame *f, size_t node)
{
	return &f->frames[f->nodes[node].frame];
}

/* Calls for every stack that has a value of its own, in order; path: nodes, outermost first, without "all". */
typedef int (*flame_stack_fn)(void *userdata, const struct flame *f, const uint32_t *path, size_t n);
int flame_each_stack(const struct flame *f, flame_stack_fn fn, void *userdata);

/* What a picture shows beside the stacks. */
struct flame_meta {
	char *title;
	char *notes[4]; /* lines below it */
	size_t n_notes;
	const char *unit; /* "ns", "faults", "hits"; "" where a file didn't say */
	enum metric metric; /* METRIC_ALL_N where a file didn't say */
	uint64_t since_us, until_us; /* 0: not known */
};
void flame_meta_done(struct flame_meta *m);
/* Adds a line. */
int flame_meta_note(struct flame_meta *m, const char *format, ...) _printf_(2, 3);
/* "1.25s", "3.1k faults", "12" */
char *flame_format(char buf[static FORMAT_MAX], const struct flame_meta *m, uint64_t value);
