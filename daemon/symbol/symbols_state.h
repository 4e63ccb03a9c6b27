/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of symbols.c share: the kernel's frames are kernel_frames.c, files that processes have mapped mapped_files.c. */
#pragma once

#include <sys/types.h>

#include "maps.h"
#include "objects.h"
#include "processes.h"
#include "symbol.h"

#define DISPLAY_SIZE (OBJECT_NAME_SIZE + 24) /* "[name+0x0123456789abcdef]" */
/* Devices of file systems without a disk that were looked up lately. */
#define DEVICES_MAX 64

enum frame_seed { SEED_KERNEL_FRAME = 16, SEED_FUNCTION, SEED_ADDRESS, SEED_WHOLE, SEED_STACK, SEED_JIT };

struct wanted {
	uint64_t object, offset;
};

struct device {
	dev_t number;
	bool may_block;
};

struct symbols {
	struct cgroups *cgroups;
	struct mapping_log *log;
	struct processes *processes;
	struct objects *objects;
	struct kernel_symbols *kernel;
	char kernel_build_id[2 * PARSER_BUILD_ID_MAX + 1];
	uint64_t kernel_read_ns, kernel_age_ns, modules_hash, idle_check_ns;
	bool kernel_missed; /* an address had no name: kallsyms may have grown */
	uint64_t resolved, unnamed;
	uint64_t vdso; /* objects.h; 0 = not known */
	struct device devices[DEVICES_MAX];
	size_t n_devices;

	/* of the stack that is being resolved */
	struct wanted wanted[SYMBOLS_FRAMES_MAX];
	size_t n_wanted;
	char displays[SYMBOLS_FRAMES_MAX][DISPLAY_SIZE];
	char names[SYMBOLS_FRAMES_MAX][OBJECT_NAME_SIZE];
};

struct output {
	struct symbols_frame *frames;
	size_t n;
	uint64_t ids[SYMBOLS_FRAMES_MAX + 1]; /* and the boundary */
	size_t n_ids;
};

/* All that has no inner structure for us: one frame. */
struct symbols_frame frame_whole(enum frame_kind kind, const char *object);

/* False when it only says once more that nothing is known. */
bool output_put(struct output *out, const struct symbols_frame *f);

/* Reads /proc/kallsyms; negative errno, and what was known stays. */
int kernel_frames_read(struct symbols *s);
/* The same when it may have changed since. */
int kernel_frames_refresh(struct symbols *s, uint64_t now);
/* Addresses to frames, without those of how our own programs were called. */
void kernel_frames_put(struct symbols *s, const uint64_t *kernel, size_t n, struct output *out);

/* The object of a mapping of a file or the vDSO, known and, when it must be `open`, open. NULL when it can't be read. */
struct object *mapped_object(struct symbols *s, struct process *p, struct mapping *m, bool open);
/* The process's perf-map, as new as it is worth the work; NULL when it has none. */
struct object *mapped_perf_map(struct symbols *s, struct process *p);
/* Looks for the object's debug file, in the process's root if it is still there. */
void mapped_find_debug_file(struct symbols *s, struct process *p, const struct mapping *m, struct object *object);
bool mapped_is_known_vdso(const struct mapping *m);
