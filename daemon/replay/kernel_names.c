/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel_names.h"

#include <sys/utsname.h>

#include "kernel.h"

#define KERNEL "[kernel.kallsyms]"

struct kernel_names {
	struct kernel_symbols *symbols;
	uint64_t moved; /* recorded address less that in the table */
};

struct kernel_names *kernel_names_free(struct kernel_names *k)
{
	if (!k)
		return NULL;
	kernel_symbols_free(k->symbols);
	free(k);
	return NULL;
}

static struct perfdata_build_id running_build_id(void)
{
	uint8_t bytes[PARSER_BUILD_ID_MAX] = {};
	struct perfdata_build_id id = { .size = MIN(kernel_build_id(bytes), sizeof(id.bytes)) };

	memcpy(id.bytes, bytes, id.size);
	return id;
}

static bool is_running(const struct perfdata *p, struct perfdata_build_id recorded)
{
	struct perfdata_build_id running = running_build_id();
	struct utsname u;

	if (recorded.size > 0)
		return recorded.size == running.size && memcmp(recorded.bytes, running.bytes, running.size) == 0;
	return uname(&u) == 0 && streq(u.release, perfdata_kernel_release(p));
}

/* perf record keeps a copy of the symbols of each kernel that it has met. */
static FILE *open_kept(struct perfdata_build_id id)
{
	const char *home = getenv("HOME");
	char path[4096], hex[2 * PERFDATA_BUILD_ID_MAX + 1] = "";

	if (!home || id.size == 0)
		return NULL;
	for (size_t i = 0; i < id.size; i++)
		snprintf(hex + 2 * i, 3, "%02x", id.bytes[i]);
	snprintf(path, sizeof(path), "%.3900s/.debug/" KERNEL "/%s/kallsyms", home, hex);
	return fopen(path, "re");
}

static FILE *open_symbols(const struct perfdata *p)
{
	struct perfdata_build_id recorded = perfdata_build_id(p, KERNEL);

	return is_running(p, recorded) ? fopen("/proc/kallsyms", "re") : open_kept(recorded);
}

/* Where _text is, by the table. */
static uint64_t find_text(FILE *f)
{
	_cleanup_free_ char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, f) > 0) {
		unsigned long address;
		char name[8];

		if (sscanf(line, "%lx %*c %7s", &address, name) == 2 && streq(name, "_text"))
			return address;
	}
	return 0;
}

int kernel_names_new(struct kernel_names **ret, const struct perfdata *p, uint64_t text)
{
	_cleanup_(kernel_names_freep) struct kernel_names *k = calloc(1, sizeof(*k));
	_cleanup_fclose_ FILE *f = NULL;
	uint64_t found;
	int r;

	if (!k)
		return -ENOMEM;
	f = open_symbols(p);
	if (f) {
		found = find_text(f);
		k->moved = found != 0 && text != 0 ? text - found : 0;
		rewind(f);
		r = kernel_symbols_read(&k->symbols, f);
		if (r == -ENOMEM)
			return r;
	}
	*ret = TAKE_PTR(k);
	return 0;
}

const char *kernel_names_find(const struct kernel_names *k, uint64_t address)
{
	struct kernel_symbol s;

	if (!k->symbols || !kernel_symbols_find(k->symbols, address - k->moved, &s))
		return NULL;
	/* Modules are elsewhere at each boot, by no common distance. */
	return k->moved == 0 || streq(s.module, "[kernel]") ? s.name : NULL;
}
