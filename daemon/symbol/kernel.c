/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel.h"

#include <elf.h>
#include <fcntl.h>

#define SYMBOLS_MAX (1U << 20)
#define MODULES_MAX 4096
#define NAMES_MAX (64U << 20)
#define NAMELESS UINT32_MAX /* here begins what is not a function */
#define PAGE 4096
#define NOTES_MAX (64U << 10)

struct entry {
	uint64_t address;
	uint32_t name; /* offset into names, or NAMELESS */
	uint16_t module;
	uint8_t rank; /* among those that share an address: smaller is better */
};

struct kernel_symbols {
	uint64_t *addresses;
	uint32_t *names_at;
	uint16_t *modules_at;
	size_t n;
	char *names;
	size_t names_size, names_max;
	char **modules;
	size_t n_modules;
	struct range {
		uint64_t start, end;
	} sched, lock; /* sections of their own */
};

struct reader {
	struct kernel_symbols *table;
	struct entry *entries;
	size_t n, max;
	bool visible;
};

struct kernel_symbols *kernel_symbols_free(struct kernel_symbols *k)
{
	if (!k)
		return NULL;
	for (size_t i = 0; i < k->n_modules; i++)
		free(k->modules[i]);
	free(k->modules);
	free(k->addresses);
	free(k->names_at);
	free(k->modules_at);
	free(k->names);
	free(k);
	return NULL;
}

static bool has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && streq(s + n - m, suffix);
}

/* What the linker script puts between functions is typed like them. */
static bool is_marker(const char *name)
{
	static const char *const markers[] = {
		"_text",
		"_stext",
		"_etext",
		"_sinittext",
		"_einittext",
		"__indirect_thunk_start",
		"__indirect_thunk_end",
	};

	for (size_t i = 0; i < ELEMENTS_OF(markers); i++)
		if (streq(name, markers[i]))
			return true;
	return has_suffix(name, "_text_start") || has_suffix(name, "_text_end");
}

/* The padding before a function is not executed, and doubles the table. */
static bool is_padding(const char *name)
{
	return strncmp(name, "__pfx_", 6) == 0 || strncmp(name, "__cfi_", 6) == 0;
}

static int add_name(struct kernel_symbols *k, const char *name, uint32_t *ret)
{
	size_t n = strlen(name) + 1;

	if (k->names_size + n > k->names_max) {
		size_t max = MAX(k->names_max * 2, (size_t)1 << 16);
		char *p = max > NAMES_MAX ? NULL : realloc(k->names, max);

		if (!p)
			return -ENOMEM;
		k->names = p;
		k->names_max = max;
	}
	memcpy(k->names + k->names_size, name, n);
	*ret = (uint32_t)k->names_size;
	k->names_size += n;
	return 0;
}

/* Symbols of one module come together. */
static int find_module(struct kernel_symbols *k, const char *name, uint16_t *ret)
{
	for (size_t i = k->n_modules; i-- > 0;)
		if (streq(k->modules[i], name)) {
			*ret = (uint16_t)i;
			return 0;
		}
	if (k->n_modules == MODULES_MAX)
		return -ENOSPC;
	if (!k->modules)
		k->modules = calloc(MODULES_MAX, sizeof(*k->modules));
	if (!k->modules || !(k->modules[k->n_modules] = strdup(name)))
		return -ENOMEM;
	*ret = (uint16_t)k->n_modules++;
	return 0;
}

static void note_section(struct kernel_symbols *k, const char *name, uint64_t address)
{
	if (streq(name, "__sched_text_start"))
		k->sched.start = address;
	else if (streq(name, "__sched_text_end"))
		k->sched.end = address;
	else if (streq(name, "__lock_text_start"))
		k->lock.start = address;
	else if (streq(name, "__lock_text_end"))
		k->lock.end = address;
}

static int add_line(struct reader *d, char *line)
{
	char *at, *name, *module, type;
	struct entry e = { .name = NAMELESS, .rank = UINT8_MAX };
	int r;

	e.address = strtoull(line, &at, 16);
	if (at == line || at[0] != ' ' || !at[1] || at[2] != ' ')
		return 0;
	type = at[1];
	name = at + 3;
	at = name + strcspn(name, "\t\n");
	module = *at == '\t' ? at + 1 : NULL;
	*at = '\0';
	d->visible = d->visible || e.address != 0;
	if (e.address == 0 || is_padding(name) || *name == '\0')
		return 0;

	if (module) {
		module[strcspn(module, "\n")] = '\0';
		r = find_module(d->table, module, &e.module);
		if (r < 0)
			return r;
	}
	note_section(d->table, name, e.address);
	if (strchr("tTwW", type) && !is_marker(name)) {
		e.rank = type == 'T' ? 0 : type == 't' ? 2 : 1;
		r = add_name(d->table, name, &e.name);
		if (r < 0)
			return r;
	}
	if (d->n == d->max) {
		size_t max = d->max ? 2 * d->max : 65536;
		struct entry *p = max > SYMBOLS_MAX ? NULL : reallocarray(d->entries, max, sizeof(*p));

		if (!p)
			return -ENOMEM;
		d->entries = p;
		d->max = max;
	}
	d->entries[d->n++] = e;
	return 0;
}

static int compare_entries(const void *a, const void *b, void *userdata)
{
	const struct entry *x = a, *y = b;
	const char *names = userdata;
	size_t n, m;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	if (x->name == NAMELESS || y->name == NAMELESS)
		return (x->name == NAMELESS) - (y->name == NAMELESS);
	n = strlen(names + x->name);
	m = strlen(names + y->name);
	if (n != m)
		return n < m ? -1 : 1;
	return strcmp(names + x->name, names + y->name);
}

static bool is_redundant(const struct entry *kept, const struct entry *e)
{
	return e->address == kept->address || (e->name == NAMELESS && kept->name == NAMELESS);
}

static int make_table(struct reader *d)
{
	struct kernel_symbols *k = d->table;
	size_t n = 0;

	qsort_r(d->entries, d->n, sizeof(*d->entries), compare_entries, k->names);
	for (size_t i = 0; i < d->n; i++)
		if (n == 0 || !is_redundant(&d->entries[n - 1], &d->entries[i]))
			d->entries[n++] = d->entries[i];

	k->addresses = reallocarray(NULL, n + 1, sizeof(*k->addresses));
	k->names_at = reallocarray(NULL, n + 1, sizeof(*k->names_at));
	k->modules_at = reallocarray(NULL, n + 1, sizeof(*k->modules_at));
	if (!k->addresses || !k->names_at || !k->modules_at)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		k->addresses[i] = d->entries[i].address;
		k->names_at[i] = d->entries[i].name;
		k->modules_at[i] = d->entries[i].module;
	}
	k->n = n;
	return 0;
}

int kernel_symbols_read(struct kernel_symbols **ret, FILE *f)
{
	_cleanup_(kernel_symbols_freep) struct kernel_symbols *k = calloc(1, sizeof(*k));
	struct reader d = { .table = k };
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	uint16_t kernel;
	int r;

	if (!k)
		return -ENOMEM;
	r = find_module(k, "[kernel]", &kernel);
	while (r >= 0 && getline(&line, &size, f) > 0)
		r = add_line(&d, line);
	if (r >= 0 && ferror(f))
		r = -EIO;
	if (r >= 0 && d.visible && d.n > 0)
		r = make_table(&d);
	free(d.entries);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(k);
	return 0;
}

uint32_t kernel_symbols_count(const struct kernel_symbols *k)
{
	return (uint32_t)k->n;
}

size_t kernel_symbols_bytes(const struct kernel_symbols *k)
{
	return k->n * (sizeof(*k->addresses) + sizeof(*k->names_at) + sizeof(*k->modules_at)) + k->names_max;
}

/* kallsyms knows no sizes: a function ends where the next symbol begins. Where that is another module's,
 * memory of neither may lie between: there it ends with its page. */
static uint64_t end_of(const struct kernel_symbols *k, size_t i)
{
	uint64_t page_end = (k->addresses[i] | (PAGE - 1)) + 1;

	if (i + 1 < k->n && k->modules_at[i + 1] == k->modules_at[i])
		return k->addresses[i + 1];
	return i + 1 < k->n ? MIN(k->addresses[i + 1], page_end) : page_end;
}

bool kernel_symbols_find(const struct kernel_symbols *k, uint64_t address, struct kernel_symbol *ret)
{
	size_t low = 0, high = k->n;

	while (low < high) { /* the first that begins behind the address */
		size_t middle = low + (high - low) / 2;

		if (k->addresses[middle] <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || k->names_at[low - 1] == NAMELESS || address >= end_of(k, low - 1))
		return false;
	*ret = (struct kernel_symbol){
		.name = k->names + k->names_at[low - 1],
		.module = k->modules[k->modules_at[low - 1]],
	};
	return true;
}

static bool in_range(const struct range *r, uint64_t address)
{
	return address >= r->start && address < r->end;
}

bool kernel_symbols_is_sched(const struct kernel_symbols *k, uint64_t address)
{
	return in_range(&k->sched, address) || in_range(&k->lock, address);
}

bool kernel_symbol_is_plumbing(const char *name)
{
	static const char *const prefixes[] = {
		"bpf_prog_",       /* the program itself */
		"bpf_trampoline_", /* fentry */
		"bpf_trace_run",   /* raw tracepoints, with the number of arguments */
		"__bpf_trace_",
		"__traceiter_",
		"__probestub_",
		"bpf_get_stack",
		"bpf_get_task_stack",
		"__bpf_get_stack", /* the helper that walked */
		"bpf_overflow_handler",
		"__perf_event_overflow",
		"perf_event_overflow",
		"perf_swevent_",
		"___perf_sw_event",
		"__perf_sw_event",
		"perf_tp_event",
		"perf_trace_",
	};

	for (size_t i = 0; i < ELEMENTS_OF(prefixes); i++)
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

/* Notes are a header, the name and the content, each of the latter filled up to four bytes (elf(5)). */
size_t kernel_build_id(uint8_t ret[static PARSER_BUILD_ID_MAX])
{
	_cleanup_free_ char *notes = NULL;
	size_t size, at = 0;

	if (read_small_file(AT_FDCWD, "/sys/kernel/notes", NOTES_MAX, &notes, &size) < 0)
		return 0;
	while (size - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr h;
		uint64_t name, content;

		memcpy(&h, notes + at, sizeof(h));
		name = at + sizeof(h);
		content = name + (h.n_namesz + 3ULL) / 4 * 4;
		if (content + h.n_descsz > size)
			break;
		if (h.n_type == NT_GNU_BUILD_ID && h.n_namesz == 4 && memcmp(notes + name, "GNU", 4) == 0) {
			size_t n = MIN((size_t)h.n_descsz, (size_t)PARSER_BUILD_ID_MAX);

			memcpy(ret, notes + content, n);
			return n;
		}
		at = MIN(content + (h.n_descsz + 3ULL) / 4 * 4, size);
	}
	return 0;
}
