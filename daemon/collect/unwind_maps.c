/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

#include "internal.h"
#include "stackd.skel.h"

static const char *const end_names[COLLECT_WALK_ENDS] = {
	[STACKD_UNWIND_COMPLETE] = "complete",
	[STACKD_UNWIND_DEPTH] = "depth",
	[STACKD_UNWIND_PROCESS] = "process-unknown",
	[STACKD_UNWIND_MAPPING] = "mapping-unknown",
	[STACKD_UNWIND_TABLE] = "table-missing",
	[STACKD_UNWIND_ROW] = "row-missing",
	[STACKD_UNWIND_RULE] = "rule-unsupported",
	[STACKD_UNWIND_READ] = "stack-unreadable",
	[STACKD_UNWIND_FRAME] = "frame-implausible",
	[STACKD_UNWIND_ENDS] = "frame-pointers",
};

void unwind_name_ends(struct collect_walks walks[static COLLECT_WALK_ENDS])
{
	for (size_t i = 0; i < COLLECT_WALK_ENDS; i++)
		walks[i].end = end_names[i];
}

void unwind_maps_init(struct unwind_maps *m)
{
	*m = (struct unwind_maps){};
	unwind_name_ends(m->walks);
	for (size_t i = 0; i < ELEMENTS_OF(m->slabs); i++)
		m->slabs[i] = -EBADF;
}

/* ---- slabs ----
 *
 * Putting a map into a map waits for an RCU grace period. On a machine that does nothing but switch between tasks one was seen to take a
 * minute, so a thread waits for it, and the tick goes on without the slab when that takes longer than usual. */

#define MAKER_STACK_SIZE 65536 /* all of it may be locked in memory */
#define USUAL_WAIT_NS (NSEC_PER_SEC / 50)

static void *make_slab(void *userdata)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
	struct slab_maker *maker = userdata;
	_cleanup_close_ int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "unwind_rows", sizeof maker->index,
	                                        sizeof(struct stackd_unwind_slab), 1, &options);

	if (fd < 0 || bpf_map_update_elem(maker->outer, &maker->index, &fd, BPF_ANY) < 0)
		maker->fd = negative_errno();
	else
		maker->fd = TAKE_FD(fd);
	return NULL;
}

static int start_maker(struct slab_maker *maker, int outer, uint32_t index)
{
	pthread_attr_t attributes;
	int r;

	maker->outer = outer;
	maker->index = index;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, MAKER_STACK_SIZE);
	r = -pthread_create(&maker->thread, &attributes, make_slab, maker);
	pthread_attr_destroy(&attributes);
	maker->running = r == 0;
	return r;
}

/* Takes what the thread has made; -EAGAIN: it is still at it. */
static int finish_maker(struct unwind_maps *m, uint64_t wait_ns)
{
	struct slab_maker *maker = &m->maker;
	uint64_t until_ns = clock_monotonic_ns() + wait_ns;
	struct timespec until = { .tv_sec = (time_t)(until_ns / NSEC_PER_SEC), .tv_nsec = (long)(until_ns % NSEC_PER_SEC) };

	if (pthread_clockjoin_np(maker->thread, NULL, CLOCK_MONOTONIC, &until) != 0)
		return -EAGAIN;
	maker->running = false;
	if (maker->fd < 0)
		return maker->fd;
	m->slabs[maker->index] = maker->fd;
	return 0;
}

void unwind_maps_done(struct unwind_maps *m)
{
	if (m->maker.running && pthread_join(m->maker.thread, NULL) == 0 && m->maker.fd >= 0)
		close_fd(m->maker.fd);
	m->maker.running = false;
	for (size_t i = 0; i < ELEMENTS_OF(m->slabs); i++)
		m->slabs[i] = close_fd(m->slabs[i]);
}

static int need_slab(struct unwind_maps *m, const struct bpf_map *outer, uint32_t index)
{
	int r = m->maker.running ? finish_maker(m, 0) : 0;

	if (r < 0 || m->slabs[index] >= 0)
		return r;
	r = start_maker(&m->maker, bpf_map__fd(outer), index);
	return r < 0 ? r : finish_maker(m, USUAL_WAIT_NS);
}

int unwind_maps_slab(struct unwind_maps *m, const struct bpf_map *outer, uint32_t index, struct stackd_unwind_slab **ret)
{
	void *slab;

	if (index >= ELEMENTS_OF(m->slabs))
		return -ERANGE;
	if (m->slabs[index] < 0) {
		int r = need_slab(m, outer, index);

		if (r < 0)
			return r;
	}
	slab = mmap(NULL, sizeof(struct stackd_unwind_slab), PROT_READ | PROT_WRITE, MAP_SHARED, m->slabs[index], 0);
	if (slab == MAP_FAILED)
		return negative_errno();
	*ret = slab;
	return 0;
}

void collect_unwind_slab_done(struct stackd_unwind_slab *slab)
{
	if (slab)
		munmap(slab, sizeof *slab);
}

size_t unwind_maps_take_wanted(const struct bpf_map *map, struct stackd_unwind_key *keys, struct stackd_unwind_wanted *wanted,
                               size_t max)
{
	uint32_t count = (uint32_t)max;
	uint64_t cursor;

	if (bpf_map_lookup_and_delete_batch(bpf_map__fd(map), NULL, &cursor, keys, wanted, &count, NULL) < 0 && errno != ENOENT)
		return 0;
	return count;
}

void unwind_maps_count_walks(struct unwind_maps *m, const struct bpf_map *map, uint64_t *per_cpu, int n_cpus)
{
	for (uint32_t end = 0; end < COLLECT_WALK_ENDS; end++) {
		uint64_t sum = 0;

		if (bpf_map_lookup_elem(bpf_map__fd(map), &end, per_cpu) < 0)
			continue;
		for (int cpu = 0; cpu < n_cpus; cpu++)
			sum += per_cpu[cpu];
		m->walks[end].n_last_tick = sum - m->walks[end].n;
		m->walks[end].n = sum;
	}
}
