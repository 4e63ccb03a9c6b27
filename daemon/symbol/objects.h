/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files that code comes from, and what the parser said about their functions. Everything about a file is
 * asked once.
 *
 *   object ── id (build ID or content), name, functions: disjoint intervals of file offsets, sorted
 *          └─ pending: offsets that the parser has been asked for */
#pragma once

#include <sys/stat.h>

#include "base.h"
#include "helper.h"

struct helper;
struct objects;

#define OBJECT_NAME_SIZE 128

/* An interval of the file within which the answer is the same. */
struct function {
	uint64_t from, to; /* file offsets */
	uint64_t address;  /* virtual address of from */
	uint64_t start;    /* virtual address where the function starts */
	char *name;        /* NULL: no symbol covers it */
};

struct object {
	uint64_t key;  /* device, inode, size, times of change; 0 = free slot */
	uint64_t id;   /* the same for the same file on every host; known after the first answer */
	uint64_t used; /* when: counts resolved stacks */
	uint64_t fd_used_ns;
	char name[OBJECT_NAME_SIZE]; /* base name of its path */
	bool is_perf_map; /* of a process: offsets are its addresses */
	bool identified;
	int error;       /* the parser could not read it; it stays nameless */
	unsigned deaths; /* of the parser with a question for it open */
	int fd;
	uid_t owner; /* of the file */
	enum {
		DEBUG_UNKNOWN,
		DEBUG_WANTED,   /* the parser says that it would help: look for it before asking again */
		DEBUG_SEARCHED, /* debug_fd, if there is one */
	} debug;
	int debug_fd;
	uint8_t build_id[PARSER_BUILD_ID_MAX];
	size_t build_id_size;
	char build_id_text[2 * PARSER_BUILD_ID_MAX + 1]; /* in hexadecimal */
	char debug_link[PARSER_LINK_MAX];
	struct function *functions;
	size_t n_functions, max_functions;
	struct pending {
		uint64_t request, offset;
	} * pending;
	size_t n_pending, max_pending;
};

int objects_new(struct objects **ret, uint32_t max_objects, uint32_t max_functions, struct helper *helper);
struct objects *objects_free(struct objects *o);
DEFINE_CLEANUP(struct objects *, objects_free)

/* Begins a stack: what is used from here on is not evicted until the next. */
void objects_begin(struct objects *o);
/* Takes fd over. -ENOBUFS when every object is in use by this stack. */
int objects_add(struct objects *o, int fd, const char *path, uint64_t *ret_key);
int objects_add_perf_map(struct objects *o, int fd, uint64_t *ret_key);
/* NULL when it has been evicted. Valid until the next objects_add(). */
struct object *objects_get(struct objects *o, uint64_t key);
/* Takes over what a search gave, which may be an error. */
void object_set_debug(struct object *object, int debug_fd);
bool objects_has_fd(const struct object *object);
/* NULL: the parser hasn't said. */
const struct function *object_find(const struct object *object, uint64_t offset);

/* Asks for what is not pending yet. The object must be open, or have questions pending: then -EAGAIN, ask
 * again after the answer, as when the queue is full. Any other error: it will not be known. */
int objects_ask(struct objects *o, struct object *object, const uint64_t *offsets, size_t n);
/* Takes the parser's answers; gives how many. */
int objects_dispatch(struct objects *o);
/* Closes descriptors that nobody asked for lately: they keep file systems from being unmounted. */
void objects_close_idle(struct objects *o, uint64_t now_ns);

typedef void (*object_fn)(void *userdata, const struct object *object);
/* Those that a debug file would give more names, if there was one, and whose build ID is known. */
void objects_visit_without_debug(const struct objects *o, object_fn fn, void *userdata);

struct objects_status {
	uint32_t objects, objects_max, functions, functions_max;
	uint64_t parser_errors;
};
void objects_get_status(const struct objects *o, struct objects_status *ret);

/* What the id of an object with this build ID is. */
uint64_t objects_id_of_build_id(const uint8_t *build_id, size_t size);

/* In hexadecimal; buf has room for 2 * PARSER_BUILD_ID_MAX + 1. */
void format_build_id(char *buf, const uint8_t *build_id, size_t size);

/* Replaces what would break a line of folded output: control characters and ";". */
void sanitize_name(char *name);
