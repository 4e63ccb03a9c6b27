/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The executable mappings of a process, from /proc/PID/maps. */
#pragma once

#include "base.h"

/* A process with more has code that comes and goes; what is beyond stays unnamed. */
#define MAPPINGS_MAX 4096

enum mapping_kind {
	MAPPING_FILE,
	MAPPING_SPECIAL,   /* the kernel's own: [vdso], [vsyscall], [uprobes] */
	MAPPING_ANONYMOUS, /* code that was made at run time */
};

struct mapping {
	uint64_t start, end, offset;
	uint64_t inode;
	dev_t device;
	enum mapping_kind kind;
	bool tried;      /* to open the file */
	uint64_t object; /* objects.h; 0 = not known */
	char *path;      /* as the kernel writes it, without " (deleted)" */
};

struct mappings {
	struct mapping *items; /* by address */
	size_t n, max;
};

/* 0: *ret is filled (path is the caller's); 1: a mapping that is not executable; -EBADMSG: not a line of
 * maps. */
int mapping_parse(const char *line, struct mapping *ret);
/* The same from its parts; path is copied, as the kernel writes it. -ENOMEM. */
int mapping_make(const char *path, uint64_t start, uint64_t end, uint64_t offset, uint64_t inode, dev_t device, struct mapping *ret);
/* Takes m over. What lies where it does gives way. -E2BIG: MAPPINGS_MAX. */
int mappings_put(struct mappings *all, struct mapping *m);
/* Takes away what is mapped there. */
int mappings_cut(struct mappings *all, uint64_t start, uint64_t end);
int mappings_copy(struct mappings *ret, const struct mappings *from); /* ret is empty */
int mappings_read(struct mappings *ret, FILE *f);
void mappings_clear(struct mappings *m);
struct mapping *mappings_find(const struct mappings *m, uint64_t address);

/* True when the device's file system is one whose server may let an open wait for ever (network, FUSE): a
 * recorder that hangs with it records nothing. f: /proc/PID/mountinfo. */
bool mountinfo_may_block(FILE *f, dev_t device);

/* Opens the very file that is mapped, for reading; it is a regular file. process_fd: /proc/PID. Gives -ESTALE
 * when another one has its path now. */
int mapping_open(const struct mapping *m, int process_fd);
/* The same by its path alone, as another process sees it. */
int mapping_open_path(const struct mapping *m, int process_fd);
