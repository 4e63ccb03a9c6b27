/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Attaches the programs of bpf/heap.bpf.c to the allocators of watched processes, and takes them away. */
#include <fcntl.h>
#include <linux/bpf.h>
#include <math.h>
#include <sys/syscall.h>

#include "internal.h"
#include "stackd.skel.h"

_Static_assert(STACKD_HEAP_WATCHES == COLLECT_HEAP_WATCHES, "one limit on both sides");

#define BLOCKS_READ 1024 /* at once */

/* union bpf_attr for BPF_LINK_CREATE of BPF_TRACE_UPROBE_MULTI, as of 6.6. */
struct multi_attr {
	uint32_t program, target, attach_type, flags;
	uint64_t path, offsets, ref_ctr_offsets, cookies;
	uint32_t n, multi_flags, pid, pad;
};
#define MULTI_RETURN 1U

int heap_init(struct heap *h, const struct programs *p, struct helper *helper, uint32_t max_blocks)
{
	int r;

	h->programs = p;
	h->helper = helper;
	h->shared = &p->skel->bss->heap;
	h->blocks[BLOCKS_OF_HEAPS] = bpf_map__fd(p->skel->maps.heap_blocks);
	h->blocks[BLOCKS_OF_KERNEL] = -EBADF;
	h->calls = bpf_map__fd(p->skel->maps.heap_calls_seen);
	h->max_blocks = max_blocks;
	r = heap_census_init(&h->census, h->blocks);
	return r < 0 ? r : map64_new(&h->held, BLOCKS_N * (size_t)max_blocks);
}

void heap_done(struct heap *h)
{
	for (size_t i = 0; i < ELEMENTS_OF(h->probes); i++)
		if (h->probes[i].id)
			heap_end(h, h->probes[i].id);
	h->held = map64_free(h->held);
	heap_census_done(&h->census);
}

void heap_set_mean(struct heap *h, uint32_t bytes)
{
	struct stackd_heap *shared = h->shared;

	if (shared->mean == bytes && shared->odds[1])
		return;
	for (size_t i = 0; i < STACKD_HEAP_ODDS; i++)
		shared->odds[i] = (uint32_t)(-expm1(-(double)i / (1 << STACKD_HEAP_STEPS_SHIFT)) * 0x1p32);
	shared->steps = bytes ? (1ULL << (32 + STACKD_HEAP_STEPS_SHIFT)) / bytes : 0;
	__atomic_store_n(&shared->mean, bytes, __ATOMIC_RELEASE);
}

/* ---- blocks ---- */

typedef void (*block_fn)(struct heap *h, const struct stackd_heap_key *key, const struct stackd_heap_block *block, void *userdata);

/* fn may delete the block. */
static void for_each_block(struct heap *h, unsigned table, block_fn fn, void *userdata)
{
	struct stackd_heap_key keys[BLOCKS_READ];
	struct stackd_heap_block blocks[BLOCKS_READ];
	uint32_t cursor = 0; /* the kernel keeps a bucket's number here */
	bool started = false;
	int r;

	if (h->blocks[table] < 0)
		return;
	do {
		uint32_t n = BLOCKS_READ;

		r = bpf_map_lookup_batch(h->blocks[table], started ? &cursor : NULL, &cursor, keys, blocks, &n, NULL);
		if (r < 0 && errno != ENOENT)
			return;
		for (uint32_t i = 0; i < n; i++)
			fn(h, &keys[i], &blocks[i], userdata);
		started = true;
	} while (r == 0);
}

static void drop_block(struct heap *h, const struct stackd_heap_key *key, const struct stackd_heap_block *block _unused_, void *userdata)
{
	const uint32_t *id = userdata;

	if (key->watch == *id)
		bpf_map_delete_elem(h->blocks[BLOCKS_OF_HEAPS], key);
}

static void count_block(struct heap *h _unused_, const struct stackd_heap_key *key _unused_,
                        const struct stackd_heap_block *block _unused_, void *userdata)
{
	(*(uint32_t *)userdata)++;
}

static void hold_stack(struct heap *h, const struct stackd_heap_key *key _unused_, const struct stackd_heap_block *block, void *userdata _unused_)
{
	map64_put(h->held, block->stack, 0);
}

uint32_t heap_count_watches(const struct heap *h)
{
	uint32_t n = 0;

	for (size_t i = 0; i < ELEMENTS_OF(h->probes); i++)
		n += h->probes[i].id != 0;
	return n;
}

uint32_t heap_count_blocks(const struct heap *h)
{
	uint32_t n = 0;

	if (heap_count_watches(h))
		for_each_block((struct heap *)h, BLOCKS_OF_HEAPS, count_block, &n);
	return n;
}

uint32_t heap_count_kernel_blocks(const struct heap *h)
{
	uint32_t n = 0;

	for_each_block((struct heap *)h, BLOCKS_OF_KERNEL, count_block, &n);
	return n;
}

const struct map64 *heap_held(struct heap *h)
{
	if (!heap_count_watches(h) && h->blocks[BLOCKS_OF_KERNEL] < 0)
		return NULL;
	map64_clear(h->held);
	for (unsigned table = 0; table < BLOCKS_N; table++)
		for_each_block(h, table, hold_stack, NULL);
	return h->held;
}

/* ---- watches ---- */

const char *heap_source(const struct heap *h)
{
	static const char *const sources[] = {
		[HEAP_BY_SESSION] = "uprobe session",
		[HEAP_BY_MULTI] = "multi-uprobes",
		[HEAP_BY_EVENTS] = "uprobes, one event a function",
		[HEAP_NOT_AT_ALL] = "none: the kernel refuses the programs",
	};

	return sources[h->programs->heap];
}

static struct heap_probes *find_probes(const struct heap *h, uint32_t id)
{
	for (size_t i = 0; i < ELEMENTS_OF(h->probes); i++)
		if (id && h->probes[i].id == id)
			return (struct heap_probes *)&h->probes[i];
	return NULL;
}

uint32_t heap_next_id(struct heap *h)
{
	if (++h->last_id == 0)
		h->last_id = 1;
	return h->last_id;
}

int heap_begin(struct heap *h, pid_t pid, uint32_t *ret_id)
{
	if (h->programs->heap == HEAP_NOT_AT_ALL)
		return -EOPNOTSUPP;
	for (size_t i = 0; i < ELEMENTS_OF(h->probes); i++) {
		struct stackd_heap_watch *shared = &h->shared->watches[i];

		if (h->probes[i].id)
			continue;
		h->probes[i] = (struct heap_probes){ .id = heap_next_id(h), .pid = pid };
		shared->n_ranges = shared->executed = 0;
		shared->counts = 1;
		shared->execution = shared->start_ns = 0;
		shared->tgid = (uint32_t)pid;
		h->shared->learning = 1;
		__atomic_store_n(&shared->id, h->last_id, __ATOMIC_RELEASE);
		*ret_id = h->last_id;
		return 0;
	}
	return -ENOSPC;
}

static int add_link(struct heap_probes *p, struct heap_link link)
{
	struct heap_link *links;

	if (p->n_links == p->max_links) {
		size_t size = MAX(p->max_links * 2, (size_t)8);

		links = reallocarray(p->links, size, sizeof *links);
		if (!links)
			return -ENOMEM;
		p->links = links;
		p->max_links = size;
	}
	p->links[p->n_links++] = link;
	return 0;
}

static void drop_link(struct heap_link *link)
{
	close_fd(link->fd);
	bpf_link__destroy(link->one);
}

static int keep_link(struct heap_probes *p, struct heap_link link)
{
	int r = add_link(p, link);

	if (r < 0)
		drop_link(&link);
	return r;
}

static int attach_many(struct heap_probes *p, const struct bpf_program *program, uint32_t type, bool at_return, const char *path,
                       const uint64_t *offsets, const uint64_t *cookies, size_t n)
{
	struct multi_attr attr = {
		.program = (uint32_t)bpf_program__fd(program),
		.attach_type = type,
		.path = (uintptr_t)path,
		.offsets = (uintptr_t)offsets,
		.cookies = (uintptr_t)cookies,
		.n = (uint32_t)n,
		.multi_flags = at_return ? MULTI_RETURN : 0,
		.pid = (uint32_t)p->pid,
	};
	int fd;

	if (n == 0)
		return 0;
	fd = (int)syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof attr);
	return fd < 0 ? negative_errno() : keep_link(p, (struct heap_link){ .fd = fd });
}

static int event_type(uint32_t *ret)
{
	_cleanup_free_ char *text = NULL;
	uint64_t type;
	int r = read_small_file(AT_FDCWD, "/sys/bus/event_source/devices/uprobe/type", 64, &text, NULL);

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	r = parse_u64(text, &type);
	*ret = (uint32_t)type;
	return r;
}

static int attach_each(struct heap *h, struct heap_probes *p, const struct bpf_program *program, bool at_return, const char *path,
                       const uint64_t *offsets, const uint64_t *cookies, size_t n)
{
	_cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC);
	uint32_t type;
	int r = event_type(&type);

	if (file < 0 || r < 0)
		return file < 0 ? negative_errno() : r;
	for (size_t i = 0; i < n; i++) {
		LIBBPF_OPTS(bpf_perf_event_opts, opts, .bpf_cookie = cookies[i]);
		struct bpf_link *link;
		int event;

		r = helper_open_uprobe(h->helper, file, offsets[i], at_return, type, p->pid, &event);
		if (r < 0)
			return r;
		link = bpf_program__attach_perf_event_opts(program, event, &opts);
		if (!link) {
			r = negative_errno();
			close_fd(event);
			return r;
		}
		r = keep_link(p, (struct heap_link){ .fd = -EBADF, .one = link });
		if (r < 0)
			return r;
	}
	return 0;
}

int heap_attach(struct heap *h, uint32_t id, const char *path, const struct collect_heap_function *functions, size_t n)
{
	struct heap_probes *p = find_probes(h, id);
	struct stackd_heap_watch *shared = p ? &h->shared->watches[p - h->probes] : NULL;
	uint64_t offsets[STACKD_HEAP_RANGES], cookies[STACKD_HEAP_RANGES];
	const struct stackd_bpf *skel = h->programs->skel;
	size_t returning = 0;
	int r;

	if (!p)
		return -ENOENT;
	if (shared->n_ranges + n > STACKD_HEAP_RANGES)
		return -E2BIG;
	/* Those that return something come first. */
	for (int frees = 0; frees < 2; frees++)
		for (size_t i = 0, at = returning; i < n; i++) {
			if ((functions[i].call == HEAP_FREE) != frees)
				continue;
			offsets[at] = functions[i].offset;
			cookies[at++] = STACKD_HEAP_COOKIE(id, p - h->probes, functions[i].call);
			returning += !frees;
		}
	for (size_t i = 0; i < n; i++)
		shared->ranges[shared->n_ranges + i] = (struct stackd_heap_range){ functions[i].start, functions[i].end };
	__atomic_store_n(&shared->n_ranges, shared->n_ranges + (uint32_t)n, __ATOMIC_RELEASE);
	switch (h->programs->heap) {
	case HEAP_BY_SESSION:
		return attach_many(p, skel->progs.heap_session, ATTACH_UPROBE_SESSION, false, path, offsets, cookies, n);
	case HEAP_BY_MULTI:
		r = attach_many(p, skel->progs.heap_return, ATTACH_UPROBE_MULTI, true, path, offsets, cookies, returning);
		return r < 0 ? r : attach_many(p, skel->progs.heap_entry, ATTACH_UPROBE_MULTI, false, path, offsets, cookies, n);
	case HEAP_BY_EVENTS:
		r = attach_each(h, p, skel->progs.heap_return, true, path, offsets, cookies, returning);
		return r < 0 ? r : attach_each(h, p, skel->progs.heap_entry, false, path, offsets, cookies, n);
	case HEAP_NOT_AT_ALL: break;
	}
	return -EOPNOTSUPP;
}

bool heap_process(const struct heap *h, uint32_t id, struct collect_process *ret)
{
	const struct heap_probes *p = find_probes(h, id);
	const struct stackd_heap_watch *shared = p ? &h->shared->watches[p - h->probes] : NULL;

	if (!shared || !shared->start_ns)
		return false;
	*ret = (struct collect_process){ .pid = p->pid, .exec_id = (uint32_t)(shared->execution - 1), .start_ns = shared->start_ns };
	return true;
}

int heap_start(struct heap *h, uint32_t id)
{
	struct heap_probes *p = find_probes(h, id);

	if (!p)
		return -ENOENT;
	__atomic_store_n(&h->shared->watches[p - h->probes].counts, 0, __ATOMIC_RELEASE);
	return 0;
}

int heap_get_cost(struct heap *h, uint32_t id, struct collect_heap_cost *ret)
{
	struct heap_probes *p = find_probes(h, id);

	if (!p)
		return -ENOENT;
	heap_cost(h, (uint32_t)(p - h->probes), ret);
	return 0;
}

void heap_learned(struct heap *h)
{
	h->shared->learning = 0;
}

bool heap_executed(const struct heap *h, uint32_t id)
{
	const struct heap_probes *p = find_probes(h, id);

	return p && h->shared->watches[p - h->probes].executed;
}

void heap_end(struct heap *h, uint32_t id)
{
	struct heap_probes *p = find_probes(h, id);

	if (!p)
		return;
	__atomic_store_n(&h->shared->watches[p - h->probes].id, 0, __ATOMIC_RELEASE);
	/* The kernel waits for probes that run: after this none is left that could note a block. */
	for (size_t i = 0; i < p->n_links; i++)
		drop_link(&p->links[i]);
	free(p->links);
	*p = (struct heap_probes){ 0 };
	for_each_block(h, BLOCKS_OF_HEAPS, drop_block, &id);
}
