/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Attaches the programs of bpf/kmem.bpf.c to the tracepoints of the kernel's allocators while its memory is watched, and makes the table
 * for its blocks, which is there only so long. */
#include <time.h>

#include "internal.h"
#include "stackd.skel.h"

/* What a call takes more is measured on a system call that does little else than one allocation and one release: access() of no path. */
#define ROUNDS 512
#define BATCHES 8             /* of which the fastest counts: others interrupt */
#define PROBE_NS_UNKNOWN 500.0 /* while it can't be measured */

void kmem_init(struct kmem *k, const struct programs *p, struct heap *h, uint32_t max_blocks)
{
	*k = (struct kmem){
		.programs = p,
		.heap = h,
		.shared = &p->skel->bss->kmem,
		.slots = bpf_map__fd(p->skel->maps.kmem_slots),
		.max_blocks = max_blocks,
	};
}

void kmem_done(struct kmem *k)
{
	if (k->id)
		kmem_end(k);
}

const char *kmem_source(const struct kmem *k)
{
	return k->programs->kmem_offered ? "raw_tp kmalloc, kfree, kmem_cache_alloc, kmem_cache_free"
	                                 : "none: the kernel lacks the tracepoints, or refuses the programs";
}

uint64_t kmem_map_bytes(const struct kmem *k)
{
	return k->id ? map_memlock(k->heap->blocks[BLOCKS_OF_KERNEL]) : 0;
}

/* ---- the table ---- */

static int make_table(struct kmem *k)
{
	_cleanup_close_ int fd = bpf_map_create(BPF_MAP_TYPE_HASH, "kmem_blocks", sizeof(struct stackd_heap_key), sizeof(struct stackd_heap_block),
	                                        k->max_blocks, NULL);
	uint32_t zero = 0;

	if (fd < 0 || bpf_map_update_elem(bpf_map__fd(k->programs->skel->maps.kmem_blocks), &zero, &fd, BPF_ANY) < 0)
		return negative_errno();
	k->heap->blocks[BLOCKS_OF_KERNEL] = TAKE_FD(fd);
	return 0;
}

static void drop_table(struct kmem *k)
{
	uint32_t zero = 0;

	bpf_map_delete_elem(bpf_map__fd(k->programs->skel->maps.kmem_blocks), &zero);
	k->heap->blocks[BLOCKS_OF_KERNEL] = close_fd(k->heap->blocks[BLOCKS_OF_KERNEL]);
}

/* ---- the programs ---- */

static void detach(struct kmem *k)
{
	for (size_t i = 0; i < KMEM_HOOKS; i++) {
		bpf_link__destroy(k->links[i]);
		k->links[i] = NULL;
	}
}

/* All or none. */
static int attach(struct kmem *k)
{
	const struct stackd_bpf *skel = k->programs->skel;
	const struct bpf_program *programs[KMEM_HOOKS] = {
		[KMEM_KFREE] = skel->progs.kmem_kfree,
		[KMEM_CACHE_FREE] = skel->progs.kmem_cache_free,
		[KMEM_KMALLOC] = skel->progs.kmem_kmalloc,
		[KMEM_CACHE_ALLOC] = skel->progs.kmem_cache_alloc,
	};

	for (size_t i = 0; i < KMEM_HOOKS; i++) {
		k->links[i] = bpf_program__attach(programs[i]);
		if (!k->links[i]) {
			int r = negative_errno();

			detach(k);
			return r;
		}
	}
	return 0;
}

/* ---- what it costs ---- */

static uint64_t count_calls(const struct kmem *k)
{
	struct stackd_kmem_slot *of_cpus = calloc((size_t)libbpf_num_possible_cpus(), sizeof(*of_cpus));
	uint64_t sum = 0;
	uint32_t zero = 0;

	if (of_cpus && bpf_map_lookup_elem(k->slots, &zero, of_cpus) == 0)
		for (int i = 0; i < libbpf_num_possible_cpus(); i++)
			sum += of_cpus[i].calls;
	free(of_cpus);
	return sum;
}

/* The least that a batch of rounds takes, ns */
static uint64_t time_of_rounds(void)
{
	uint64_t least = UINT64_MAX;

	for (unsigned batch = 0; batch < BATCHES; batch++) {
		struct timespec from, to;

		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
		for (unsigned i = 0; i < ROUNDS; i++)
			(void)!access("", F_OK);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
		least = MIN(least, (uint64_t)(to.tv_sec - from.tv_sec) * NSEC_PER_SEC + (uint64_t)to.tv_nsec - (uint64_t)from.tv_nsec);
	}
	return least;
}

/* As it will be: our own calls are noted meanwhile. */
static double measure(struct kmem *k, uint64_t without)
{
	uint64_t calls = count_calls(k), with;

	k->shared->tgid = (uint32_t)getpid();
	with = time_of_rounds();
	k->shared->tgid = 0;
	/* A kernel that does without an allocation there tells nothing. */
	if (count_calls(k) - calls < 2 * BATCHES * ROUNDS || with <= without)
		return 0;
	return (double)(with - without) / (2 * ROUNDS);
}

void kmem_get_cost(struct kmem *k, struct collect_heap_cost *ret)
{
	*ret = (struct collect_heap_cost){ .calls = count_calls(k), .probe_ns = k->probe_ns > 0 ? k->probe_ns : PROBE_NS_UNKNOWN };
}

/* ---- begin and end ---- */

int kmem_begin(struct kmem *k, uint32_t *ret_id)
{
	uint64_t without;
	int r;

	if (!k->programs->kmem_offered)
		return -EOPNOTSUPP;
	if (k->id)
		return -EBUSY;
	r = make_table(k);
	if (r < 0)
		return r;
	k->id = heap_next_id(k->heap);
	k->shared->counts = 1;
	k->heap->shared->learning = 1;
	__atomic_store_n(&k->shared->id, k->id, __ATOMIC_RELEASE);
	without = time_of_rounds();
	r = attach(k);
	if (r < 0) {
		kmem_end(k);
		return r;
	}
	k->probe_ns = measure(k, without);
	*ret_id = k->id;
	return 0;
}

void kmem_start(struct kmem *k)
{
	__atomic_store_n(&k->shared->counts, 0, __ATOMIC_RELEASE);
}

void kmem_end(struct kmem *k)
{
	__atomic_store_n(&k->shared->id, 0, __ATOMIC_RELEASE);
	detach(k);
	drop_table(k);
	k->id = 0;
}
