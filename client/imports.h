/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Recordings that were imported: files in $XDG_CACHE_HOME/stackd/imports, which stackd writes and serves. What goes wrong is told to the
 * user here; the functions then give false. */
#pragma once

#include "options.h"
#include "wire.h"

#define IMPORTS_MAX 32                  /* at a time */
#define IMPORTS_SIZE_MAX (1ULL << 30)   /* bytes of all together */
#define IMPORT_SIZE_MAX (256ULL << 20)  /* of one */
#define IMPORT_NAME_MAX 64
#define IMPORT_WORDS_MAX (IMPORT_NAME_MAX + 16)

struct import_entry {
	char name[IMPORT_NAME_MAX + 1];
	uint64_t size;
	struct json *about; /* what daemon/replay/importing.c writes of it; NULL: it can't be read */
	const char *fault;  /* then why: static string */
};

struct imports {
	struct import_entry entries[IMPORTS_MAX];
	size_t n;
	uint64_t size; /* of all */
	bool more;     /* than there may be */
};

/* In order of their names. Without such a directory there are none. */
bool imports_list(struct imports *ret);
void imports_done(struct imports *i);

/* Letters, digits, ".", "_", "-" and "+", the first a letter or digit. */
bool import_name_is_valid(const char *name);
/* What the import of a file is called: as the options say, else as the file. */
const char *import_name(const struct options *o, const char *file);
/* Reads file into a new import. */
bool import_add(const struct options *o, const char *file);
bool import_remove(const char *name);
bool import_look(const char *name, struct import_entry *ret);
/* Whether there is one, good or damaged. */
bool import_exists(const char *name);

/* The import that the options ask of: its times become those of the options. */
bool import_choose(struct options *o);
/* Starts a process that answers for it, for as long as we live, and has the options ask there; copies of them may for as long as they live. */
bool import_serve(struct options *o);
/* " --import NAME", or "": for commands that are shown. */
const char *import_words(const struct options *o, char buf[static IMPORT_WORDS_MAX]);
