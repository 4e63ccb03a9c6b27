/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/mman.h>

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

void unwind_maps_init(struct unwind_maps *m)
{
	*m = (struct unwind_maps){};
	for (size_t i = 0; i < COLLECT_WALK_ENDS; i++)
		m->walks[i].end = end_names[i];
	for (size_t i = 0; i < ELEMENTS_OF(m->slabs); i++)
		m->slabs[i] = -EBADF;
}

void unwind_maps_done(struct unwind_maps *m)
{
	for (size_t i = 0; i < ELEMENTS_OF(m->slabs); i++)
		m->slabs[i] = close_fd(m->slabs[i]);
}

static int make_slab(int *ret, const struct bpf_map *outer, uint32_t index)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
	_cleanup_close_ int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "unwind_rows", sizeof index, sizeof(struct stackd_unwind_slab), 1,
	                                        &options);

	if (fd < 0 || bpf_map_update_elem(bpf_map__fd(outer), &index, &fd, BPF_ANY) < 0)
		return negative_errno();
	*ret = TAKE_FD(fd);
	return 0;
}

int unwind_maps_slab(struct unwind_maps *m, const struct bpf_map *outer, uint32_t index, struct stackd_unwind_slab **ret)
{
	void *slab;

	if (index >= ELEMENTS_OF(m->slabs))
		return -ERANGE;
	if (m->slabs[index] < 0) {
		int r = make_slab(&m->slabs[index], outer, index);

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
