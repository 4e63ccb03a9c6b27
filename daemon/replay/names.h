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
};

/* Waits for the parser, for some seconds at most. */
void names_resolve(struct names *n, struct names_frame *frames, size_t n_frames);
