/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's part of a stack. */
#include <fcntl.h>

#include "symbols_state.h"
#include "kernel.h"

#define MODULES_FILE_MAX (256U << 10)
/* A kernel address that no symbol covers may belong to a program that was loaded since: read again (50 ms),
 * but not more often than this, and ever less while that finds nothing new. */
#define KALLSYMS_AGE_MIN_NS (60 * NSEC_PER_SEC)
#define KALLSYMS_AGE_MAX_NS (3600 * NSEC_PER_SEC)

/* Name, size and address of every module: what decides whether kallsyms is another. 0 without modules. */
static uint64_t hash_modules(void)
{
	_cleanup_free_ char *text = NULL;
	uint64_t h = 0;

	if (read_small_file(AT_FDCWD, "/proc/modules", MODULES_FILE_MAX, &text, NULL) < 0)
		return 0;
	for (char *line = text, *end; *line; line = *end ? end + 1 : end) {
		char name[64], address[32];
		unsigned long size;

		end = line + strcspn(line, "\n");
		if (sscanf(line, "%63s %lu %*s %*s %*s %31s", name, &size, address) != 3)
			continue;
		h = hash64_string(name, h) + size;
		h = hash64_string(address, h);
	}
	return h;
}

int kernel_frames_read(struct symbols *s)
{
	_cleanup_(kernel_symbols_freep) struct kernel_symbols *k = NULL;
	_cleanup_fclose_ FILE *f = NULL;
	uint64_t modules = hash_modules();
	int r;

	f = fopen("/proc/kallsyms", "re");
	if (!f)
		return negative_errno();
	r = kernel_symbols_read(&k, f);
	if (r < 0)
		return r;
	if (s->kernel && kernel_symbols_count(k) == kernel_symbols_count(s->kernel))
		s->kernel_age_ns = MIN(2 * s->kernel_age_ns, KALLSYMS_AGE_MAX_NS);
	else
		s->kernel_age_ns = KALLSYMS_AGE_MIN_NS;
	kernel_symbols_free(s->kernel);
	s->kernel = TAKE_PTR(k);
	s->modules_hash = modules;
	s->kernel_read_ns = clock_monotonic_ns();
	s->kernel_missed = false;
	return 0;
}

int kernel_frames_refresh(struct symbols *s, uint64_t now)
{
	if (hash_modules() == s->modules_hash && (!s->kernel_missed || now - s->kernel_read_ns < s->kernel_age_ns))
		return 0;
	return kernel_frames_read(s);
}

static struct symbols_frame kernel_frame(struct symbols *s, uint64_t address)
{
	struct symbols_frame f;
	struct kernel_symbol k;
	uint64_t id;

	if (!kernel_symbols_find(s->kernel, address, &k)) {
		s->kernel_missed = true;
		/* An address would differ at every boot, and tell where the kernel is. */
		f = frame_whole(FRAME_KERNEL, "[kernel]");
		f.build_id = s->kernel_build_id;
		return f;
	}
	id = hash64_string(k.name, hash64_string(k.module, SEED_KERNEL_FRAME));
	return (struct symbols_frame){
		.id = id,
		.kind = FRAME_KERNEL,
		.function = k.name,
		.object = k.module,
		.display = k.name,
		.build_id = streq(k.module, "[kernel]") ? s->kernel_build_id : "",
	};
}

/* How many frames at the top are about how our own programs were called. Programs themselves may be younger
 * than our reading of kallsyms, so they have no name; what they were called by has. */
static size_t count_plumbing(const struct symbols *s, const uint64_t *kernel, size_t n)
{
	struct kernel_symbol k;
	size_t plumbing = 0;

	for (size_t i = 0; i < n; i++) {
		if (!kernel_symbols_find(s->kernel, kernel[i] - (i > 0), &k))
			continue;
		if (!kernel_symbol_is_plumbing(k.name))
			break;
		plumbing = i + 1;
	}
	return plumbing;
}

/* A wait is seen by a program in the switch, or, when it lasts, by walking the sleeping task's stack. The
 * kernel leaves its scheduler out of the latter, as in /proc/PID/stack; so it is left out of the former, and
 * both are one stack. */
static bool is_at_switch(const struct symbols *s, const uint64_t *kernel, size_t n, size_t plumbing)
{
	static const char name[] = "__schedule"; /* or what a compiler made of it: "__schedule.constprop.0" */
	struct kernel_symbol k;

	return plumbing > 0 && plumbing < n && kernel_symbols_find(s->kernel, kernel[plumbing] - 1, &k) &&
		strncmp(k.name, name, strlen(name)) == 0 &&
		(k.name[strlen(name)] == '\0' || k.name[strlen(name)] == '.');
}

void kernel_frames_put(struct symbols *s, const uint64_t *kernel, size_t n, struct output *out)
{
	size_t plumbing = count_plumbing(s, kernel, n);
	bool at_switch = is_at_switch(s, kernel, n, plumbing);

	for (size_t i = plumbing; i < n; i++) {
		struct symbols_frame f;

		if (at_switch && kernel_symbols_is_sched(s->kernel, kernel[i]))
			continue;
		f = kernel_frame(s, kernel[i] - (i > 0));
		(void)output_put(out, &f);
	}
}
