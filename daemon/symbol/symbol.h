/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Identity: from a pid and raw addresses to a process and frames that mean the same on every run.
 *
 * A frame is (object, function); a stack's id is the hash of its frames' ids. Whatever is read out of ELF
 * files comes from the parser (daemon/helper); while its answer is out, a stack is pending. */
#pragma once

#include "base.h"

struct helper;
struct symbols;

struct symbols_config {
	uint32_t max_processes; /* cached identities and mappings */
	uint32_t max_objects;
	uint32_t max_functions; /* cached functions over all objects */
	uint64_t mapping_log_size; /* bytes of what the kernel said lately of processes' code; at least 4 KiB */
};

int symbols_new(struct symbols **ret, const struct symbols_config *config, struct helper *helper);
struct symbols *symbols_free(struct symbols *s);
DEFINE_CLEANUP(struct symbols *, symbols_free)

struct symbols_process_key {
	pid_t pid;
	uint32_t exec_id;
	uint64_t start_ns; /* since boot */
	uint64_t seen_ns;  /* CLOCK_MONOTONIC: a moment in which it was there, for when it is gone; 0: not known. No part of its
	                      identity */
};

enum symbols_mapping_kind { SYMBOLS_FORKED, SYMBOLS_EXECUTED, SYMBOLS_MAPPED };

/* What the kernel said of a process's code as it happened. */
struct symbols_mapping_event {
	enum symbols_mapping_kind kind;
	pid_t pid;
	pid_t parent;     /* SYMBOLS_FORKED: has the same mappings at that moment */
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	/* SYMBOLS_MAPPED: executable memory */
	uint64_t start, end, offset, inode;
	dev_t device;
	const char *path; /* as in /proc/PID/maps; copied */
};

/* Keeps it for processes that will be gone when they are asked for. Allocates nothing. */
void symbols_mapping_event(struct symbols *s, const struct symbols_mapping_event *event);

struct symbols_process {
	struct symbols_process_key key;
	uint32_t uid;
	bool kernel_thread;
	bool identified; /* false: it was gone before anyone could look, and the kernel had said nothing of it: exe is "" then */
	bool settled;   /* nothing more will be learnt; false: put off (too many new processes in this second,
			   or just executing something else), so ask again at the next tick */
	char comm[16];
	char exe[256];    /* path as the process sees it, without " (deleted)"; "" for kernel threads */
	char cgroup[256]; /* path in the unified (or systemd) hierarchy, "/" when none */
	char unit[256];   /* systemd unit (system or user) of the cgroup, "" when none */
};

/* Reads /proc the first time; cached. start and cgroup_id guard against a reused pid; comm and uid come from
 * the kernel's record and are what is left when the process is gone. The result is valid until the next call
 * of any function here. */
int symbols_process(struct symbols *s, const struct symbols_process_key *key, uint64_t cgroup_id,
		    const char *comm, uint32_t uid, bool kernel_thread, const struct symbols_process **ret);

enum frame_kind { FRAME_KERNEL, FRAME_USER, FRAME_JIT, FRAME_UNKNOWN };

struct symbols_frame {
	uint64_t id; /* hash of object identity (build ID, content hash, "kernel") and function or offset */
	enum frame_kind kind;
	const char *function; /* "" when unnamed: then [object+0xoffset] is its display name */
	const char *object;   /* base name of the file, "[kernel]", a module's "[name]", "[vdso]", "[jit]" (code
				 that a perf-map names), "[anon]", "[unknown]" */
	const char *display;  /* what folded output prints */
	/* What its identity is made of, where its object has such: the build ID in hexadecimal ("" or NULL: none is known), and by the
	 * program headers the address where the function begins, or the call is; 0: not known. */
	const char *build_id;
	uint64_t symbol;
	/* Where it was: an address in the call, and where that lies: stable key of the file, 0 when it is in none, and the
	 * offset. No part of its identity. */
	uint64_t address, file, offset;
};

#define SYMBOLS_FRAMES_MAX 192

/* Resolves a stack, innermost first in and out (user frames follow kernel frames). 0: *ret_n frames and the
 * id are filled. -EAGAIN: the parser has been asked, or the process could not be looked at yet; call again
 * after symbols_dispatch() and at the next tick. Frames of our own programs are stripped from the top. Frames
 * that say nothing about depth ("[unknown]", "[anon]", "[kernel]") stand once for any number in a row.
 * Strings are valid until the next call of any function here. */
int symbols_resolve(struct symbols *s, const struct symbols_process_key *key, const uint64_t *kernel,
		    size_t n_kernel, const uint64_t *user, size_t n_user,
		    struct symbols_frame ret_frames[static SYMBOLS_FRAMES_MAX], size_t *ret_n,
		    uint64_t *ret_stack_id);

/* ---- for lines.h ---- */

/* The file that an address of a process lies in, opened for reading, and its debug file, or -EBADF where there is none; the caller
 * closes both. file: symbols_frame's. -ENOENT: it can't be opened (any more). */
int symbols_open_file(struct symbols *s, const struct symbols_process_key *key, uint64_t address, uint64_t file, int *ret_fd,
		      int *ret_debug_fd);

/* A file whose debug file would give more names, and isn't there. build_id: in hexadecimal. */
typedef void (*symbols_file_fn)(void *userdata, const char *name, const char *build_id);
void symbols_visit_without_debug(const struct symbols *s, symbols_file_fn fn, void *userdata);

/* ---- for daemon/unwind ---- */

#define SYMBOLS_VDSO 1 /* the object of [vdso] */

struct symbols_mapping {
	uint64_t start, end, offset;
	uint64_t object; /* stable key of the file; SYMBOLS_VDSO; 0: code made at run time, or a file that can't be opened */
};

/* The executable mappings of a process, by address: those known, which are read anew when address is in none of them and the last
 * reading is old enough. Gives how many. -ESRCH: it is gone. */
int symbols_mappings(struct symbols *s, const struct symbols_process_key *key, uint64_t address, struct symbols_mapping *ret,
		     size_t max);
/* Opens the file of the mapping that begins at start; the caller closes it. */
int symbols_open_mapping(struct symbols *s, const struct symbols_process_key *key, uint64_t start);

/* The key by which the parser is asked for a file. */
struct stat;
uint64_t symbols_file_key(const struct stat *st);

/* Takes the parser's answers; call when parser_fd() is readable. Returns how many arrived. */
int symbols_dispatch(struct symbols *s);

/* Reads kallsyms again (a module was loaded) and forgets processes that are gone. Call about once a minute;
 * cheap when nothing changed. */
int symbols_refresh(struct symbols *s);

struct symbols_status {
	uint32_t processes, processes_max, objects, objects_max, functions, functions_max;
	uint32_t kernel_symbols;
	uint64_t resolved, unnamed; /* user frames since start; unnamed: [object+0xoffset] */
	uint64_t gone;              /* processes that were gone before they could be identified */
	uint64_t recalled;          /* processes that were gone and are known from what the kernel said of them */
	uint64_t log_used, log_max; /* bytes of the mapping log */
	uint64_t deferred; /* looks at /proc put off, because there were too many new processes in that second
			    */
	uint64_t parser_errors;
};
void symbols_get_status(const struct symbols *s, struct symbols_status *ret);
