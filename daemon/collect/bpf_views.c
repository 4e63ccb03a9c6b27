/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What others ask of the BPF source: its cost, a stack's frames, room for unwind tables, its state. */
#include "bpf_source_state.h"
#include "stackd.skel.h"

/* Of the CPU clock, beyond the program that it runs (docs/overhead.md); at the upper end of what was measured. */
#define CLOCK_INTERRUPT_NS 10000

bool bpf_source_get_cost(const struct bpf_source *c, struct budget_reading *r)
{
	const struct run_time *t = &c->run_time;
	double wall = (double)r->wall_ns, minor = (double)c->threads.faults_minor;
	double events = activity_clock_hz(c) * wall / NSEC_PER_SEC * c->control->online_cpus * CLOCK_INTERRUPT_NS;

	r->open = c->gate.open;
	r->cpus = c->control->online_cpus;
	if (c->faults.seen || c->faults.window < 1)
		events += minor * c->faults.window * FAULT_EVENT_NS;
	r->kernel_ns = (uint64_t)(events + (t->measured ? t->share * wall : 0));
	for (size_t i = 0; i < BUDGET_EVENTS; i++)
		r->events_ns[i] = t->measured && !c->left_out[i] ? (uint64_t)(t->events[i] * wall) : 0;
	return t->measured;
}

void bpf_source_get_gate(const struct bpf_source *c, bool *ret_open, double *ret_load)
{
	*ret_open = c->gate.open;
	*ret_load = c->load;
}

int bpf_source_frames(struct bpf_source *c, uint64_t raw_id, struct collect_frames *ret)
{
	struct stackd_stack stack;
	uint32_t ours;

	if (bpf_map_lookup_elem(bpf_map__fd(c->programs.skel->maps.stacks), &raw_id, &stack) < 0)
		return negative_errno();
	process_from_record(&ret->process, &stack.process);
	ret->truncated = stack.flags & STACKD_STACK_TRUNCATED;
	ret->n_kernel = MIN(stack.n_kernel, COLLECT_KERNEL_FRAMES_MAX);
	ret->n_user = MIN(stack.n_user, COLLECT_USER_FRAMES_MAX);
	ours = MIN(stack.flags >> STACKD_STACK_OURS_SHIFT, (uint32_t)ret->n_kernel);
	ret->n_kernel -= ours;
	memcpy(ret->kernel, stack.kernel + ours, ret->n_kernel * sizeof ret->kernel[0]);
	if (ours)
		ret->kernel[0]--; /* into the call, as the innermost frame's address is its own */
	if (stack.flags & STACKD_STACK_SWITCH)
		ret->n_kernel = frames_without_switch(ret->kernel, ret->n_kernel, c->programs.sched_start, c->programs.sched_end);
	if (stack.flags & STACKD_STACK_HOOK)
		ret->n_kernel = frames_without_hook(ret->kernel, ret->n_kernel, &c->programs.hooks[HOOK_MAPS], 1);
	if (stack.flags & STACKD_STACK_PAGES) {
		ret->n_kernel = frames_without_hook(ret->kernel, ret->n_kernel, &c->programs.hooks[HOOK_RSS], 1);
		ret->n_kernel = frames_without_fault(ret->kernel, ret->n_kernel, &c->programs.hooks[HOOK_FAULT]);
	}
	memcpy(ret->user, stack.user, ret->n_user * sizeof ret->user[0]);
	return 0;
}

/* ---- unwinding ---- */

struct stackd_unwind_tables *bpf_source_unwind_tables(struct bpf_source *c)
{
#if defined(__x86_64__)
	return &c->programs.skel->bss->unwind_tables;
#else
	(void)c;
	return NULL;
#endif
}

int bpf_source_unwind_slab(struct bpf_source *c, uint32_t index, struct stackd_unwind_slab **ret)
{
	return unwind_maps_slab(&c->unwind_maps, c->programs.skel->maps.unwind_slabs, index, ret);
}

int bpf_source_unwind_set_process(struct bpf_source *c, const struct stackd_unwind_key *key, const struct stackd_unwind_process *process)
{
	int fd = bpf_map__fd(c->programs.skel->maps.unwind_processes);
	int r = process ? bpf_map_update_elem(fd, key, process, BPF_ANY) : bpf_map_delete_elem(fd, key);

	if (r < 0)
		return negative_errno();
	known_forget(&c->known);
	return 0;
}

size_t bpf_source_unwind_wanted(struct bpf_source *c, struct stackd_unwind_key *keys, struct stackd_unwind_wanted *wanted, size_t max)
{
	return unwind_maps_take_wanted(c->programs.skel->maps.unwind_wanted, keys, wanted, max);
}

bool bpf_source_unwind_settled(const struct bpf_source *c)
{
	return c->settled;
}

/* ---- status ---- */

void bpf_source_get_status(const struct bpf_source *c, struct collect_status *ret)
{
	*ret = (struct collect_status){
		.unwind_source = "the stacks themselves",
		.gate_open = c->gate.open,
		.gate_mode = c->gate.mode,
		.gate_until_us = c->gate.until_us,
		.load = c->load,
		.load_source = c->programs.load_source,
		.oncpu_source = c->oncpu_source,
		.offcpu_source = c->left_out[BUDGET_SWITCHES] ? "waits that last, no switches: they cost more than the budget" : c->offcpu_source,
		.faults_source = c->faults_source,
		.memory_source = c->memory_source,
		.rss_source = c->rss_source,
		.totals_source = c->programs.sleepable_iterator ? "iter.s/task" : "iter/task",
		.online_cpus = c->control->online_cpus,
		.stacks = (uint32_t)MIN(map64_size(c->drain.last_seen), c->config.max_stacks),
		.stacks_max = c->config.max_stacks,
		.counts_peak = c->drain.counts_peak,
		.counts_max = c->config.max_counts,
		.map_bytes = programs_map_bytes(&c->programs) + mapping_events_bytes(&c->mappings) + kmem_map_bytes(&c->kmem),
		.program_ns = programs_run_ns(&c->programs),
		.heap_source = heap_source(&c->heap),
		.heap_blocks = heap_count_blocks(&c->heap),
		.heap_blocks_max = c->config.max_heap_blocks,
		.heap_watches = heap_count_watches(&c->heap),
		.kmem_source = kmem_source(&c->kmem),
		.kernel_blocks = heap_count_kernel_blocks(&c->heap),
		.kernel_blocks_max = c->config.max_heap_blocks,
		.heap_watches_max = COLLECT_HEAP_WATCHES,
	};
	memcpy(ret->walks, c->unwind_maps.walks, sizeof ret->walks);
}
