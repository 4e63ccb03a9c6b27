/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of user code of a recording: from the file that was mapped, or from one with its build ID. */
#pragma once

#include "perfdata.h"

#define NAMES_FILES_MAX 16384
#define NAMES_FRAMES_MAX 1024 /* of a stack; those beyond, towards its root, are left out */

struct helper;
struct names;

/* helper's parser reads the files. */
int names_new(struct names **ret, struct helper *helper);
struct names *names_free(struct names *n);
DEFINE_CLEANUP(struct names *, names_free)

/* A number for a file, by what was mapped: path and build ID (size 0 when it isn't known). 0 is nobody's: names_resolve() says
 * [unknown] of it. */
uint64_t names_add_file(struct names *n, const char *path, struct perfdata_build_id id);

struct names_frame {
	bool is_named;         /* name is the caller's; else it is filled in */
	uint64_t file, offset; /* as names_add_file() gave, and bytes into it */
	const char *name;      /* the function's; "[file]" when none covers the offset; "[unknown]". Good until the next call */
	const char *object;    /* base name of the file, "[kernel]", "" when it isn't known; the caller's when is_named */
	/* Filled in too, unless is_named: the object's build ID in hexadecimal, NULL: not known; and by its program headers where the
	 * function begins, 0: none covers the offset. */
	const char *build_id;
	uint64_t symbol;
};

/* Opens the file, when it is there and is the one that was recorded, for which it may have to be asked for a name at offset; the caller
 * closes it. *ret_key is its stable key. -ENOENT. */
int names_open_file(struct names *n, uint64_t file, uint64_t offset, uint64_t *ret_key);

/* Takes what the parser has answered, after a second at the latest. */
void names_wait(struct names *n);

/* Waits for the parser, for some seconds at most. */
void names_resolve(struct names *n, struct names_frame *frames, size_t n_frames);
