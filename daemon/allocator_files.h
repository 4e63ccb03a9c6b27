/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files that a process executes code of, and the functions of allocators that the parser finds in them. */
#pragma once

#include "collect.h"
#include "helper.h"

#define ALLOCATOR_FILES_MAX 1024 /* of a process; those beyond are not looked at */
#define ALLOCATOR_FILE_PATH_SIZE 96

struct allocator_file {
	uint64_t key, request; /* request 0: not asked */
	bool asked_again;
	uint64_t start, end, offset; /* of its first mapping with code */
	dev_t device;
	uint64_t inode;
	struct collect_heap_function *functions;
	size_t n_functions;
};

struct allocator_files {
	struct allocator_file *items;
	size_t n, asked, answered;
};

/* Which files there are, by /proc/PID/maps. Empty before; free with allocator_files_done(), also when this fails. */
int allocator_files_read(struct allocator_files *f, pid_t pid);
void allocator_files_done(struct allocator_files *f);
/* Asks the parser as much as it may be asked now; files that can't be read are passed over. */
void allocator_files_ask(struct allocator_files *f, pid_t pid, struct helper *helper);
/* The file that this question was about; NULL: none of these. */
struct allocator_file *allocator_files_asked(struct allocator_files *f, uint64_t request);
/* The answer about such a file. -ENOMEM. */
int allocator_files_take(struct allocator_files *f, struct allocator_file *file, const struct parser_reply *reply);
/* Nothing is to be waited for. */
bool allocator_files_answered(const struct allocator_files *f);
/* Some function was found. */
bool allocator_files_any(const struct allocator_files *f);
/* By which the file can be opened while the process has it mapped. */
void allocator_file_path(char ret[static ALLOCATOR_FILE_PATH_SIZE], pid_t pid, const struct allocator_file *file);
