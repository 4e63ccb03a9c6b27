/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Heaps that are watched, and the kernel's own memory, which is watched by the same calls. */
#include "bpf_source_state.h"

bool bpf_source_heap_is_possible(const struct bpf_source *c)
{
	return c->programs.heap != HEAP_NOT_AT_ALL;
}

int bpf_source_heap_begin(struct bpf_source *c, pid_t pid, uint32_t *ret_id)
{
	heap_learn_cost(&c->heap); /* while there is room for it */
	return heap_begin(&c->heap, pid, ret_id);
}

int bpf_source_heap_attach(struct bpf_source *c, uint32_t id, const char *path, const struct collect_heap_function *functions, size_t n)
{
	return heap_attach(&c->heap, id, path, functions, n);
}

bool bpf_source_heap_process(const struct bpf_source *c, uint32_t id, struct collect_process *ret)
{
	return heap_process(&c->heap, id, ret);
}

bool bpf_source_heap_executed(const struct bpf_source *c, uint32_t id)
{
	return heap_executed(&c->heap, id);
}

int bpf_source_kmem_begin(struct bpf_source *c, uint32_t *ret_id)
{
	return kmem_begin(&c->kmem, ret_id);
}

static bool is_kernels(const struct bpf_source *c, uint32_t id)
{
	return id && id == c->kmem.id;
}

void bpf_source_heap_end(struct bpf_source *c, uint32_t id)
{
	if (is_kernels(c, id))
		kmem_end(&c->kmem);
	else
		heap_end(&c->heap, id);
}

int bpf_source_heap_start(struct bpf_source *c, uint32_t id)
{
	if (!is_kernels(c, id))
		return heap_start(&c->heap, id);
	kmem_start(&c->kmem);
	return 0;
}

int bpf_source_heap_get_cost(struct bpf_source *c, uint32_t id, struct collect_heap_cost *ret)
{
	if (!is_kernels(c, id))
		return heap_get_cost(&c->heap, id, ret);
	kmem_get_cost(&c->kmem, ret);
	return 0;
}

bool bpf_source_heap_census(struct bpf_source *c, const struct collect_heap_stack **ret, size_t *ret_n, int64_t *ret_left_out)
{
	if ((!heap_count_watches(&c->heap) && !c->kmem.id) || !heap_census_step(&c->heap.census))
		return false;
	*ret = c->heap.census.stacks;
	*ret_n = c->heap.census.n;
	*ret_left_out = c->heap.census.left_out;
	return true;
}
