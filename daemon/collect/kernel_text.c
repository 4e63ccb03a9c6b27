/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where functions of the kernel are that a stack is to be rid of. */
#include "internal.h"

static bool is_named(const char *name, size_t n, const char *wanted)
{
	return n == strlen(wanted) && memcmp(name, wanted, n) == 0;
}

/* A function ends where the next one begins: the kernel lists its own in order of their addresses. True when this was it. */
static bool take_hook(struct hook *hook, uint64_t address, const char *name, size_t n)
{
	if (is_named(name, n, hook->name))
		hook->start = address;
	else if (hook->start && !hook->end && address > hook->start)
		hook->end = address;
	return hook->end;
}

/* A hundred thousand lines, so it is done when everything is found, or where the modules begin. */
void kernel_text_find(struct hook *hooks, size_t n_hooks, uint64_t *ret_sched_start, uint64_t *ret_sched_end)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/kallsyms", "re");
	size_t found = 0;
	char line[512];

	*ret_sched_start = *ret_sched_end = 0;
	while (f && !(*ret_sched_end && found == n_hooks) && fgets(line, sizeof line, f)) {
		char *name;
		uint64_t address = strtoull(line, &name, 16);
		size_t n;

		if (strlen(name) < 4)
			continue;
		name += 3; /* " t " */
		n = strcspn(name, "\n\t");
		if (name[n] == '\t')
			break;
		if (is_named(name, n, "__sched_text_start"))
			*ret_sched_start = address;
		else if (is_named(name, n, "__sched_text_end"))
			*ret_sched_end = address;
		found = 0;
		for (size_t i = 0; i < n_hooks; i++)
			found += take_hook(&hooks[i], address, name, n);
	}
	if (!*ret_sched_start || !*ret_sched_end)
		log_info("kallsyms doesn't say where the scheduler's functions are: long and short waits have different stacks");
}

size_t frames_without_hook(uint64_t *frames, size_t n, const struct hook *all, size_t n_hooks)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n_hooks; k++)
			if (frames[i] >= all[k].start && frames[i] < all[k].end && i + 1 < n) {
				memmove(frames, frames + i + 1, (n - i - 1) * sizeof *frames);
				return n - i - 1;
			}
	return n;
}

size_t frames_without_fault(uint64_t *frames, size_t n, const struct hook *fault)
{
	for (size_t i = n; i-- > 0;)
		if (frames[i] >= fault->start && frames[i] < fault->end) {
			memmove(frames, frames + i + 1, (n - i - 1) * sizeof *frames);
			return n - i - 1;
		}
	return n;
}

size_t frames_without_switch(uint64_t *frames, size_t n, uint64_t sched_start, uint64_t sched_end)
{
	size_t kept = 0;
	bool switched = false; /* beyond the first of the scheduler's functions */

	for (size_t i = 0; i < n; i++) {
		bool sched = frames[i] >= sched_start && frames[i] < sched_end;

		switched |= sched;
		if (switched && !sched)
			frames[kept++] = frames[i];
	}
	return kept ? kept : n;
}
