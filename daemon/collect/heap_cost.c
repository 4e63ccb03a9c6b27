/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What watching costs: how often a process calls its allocators, and how long a probe takes on this machine, which is measured on two
 * functions of our own that do nothing. */
#include <link.h>
#include <time.h>

#include "internal.h"
#include "stackd.skel.h"

#define BATCHES 20
#define ROUNDS 50 /* of a batch: a fraction of a millisecond, into which an interruption seldom falls */
#define PROBE_NS_UNKNOWN 3000.0 /* while it can't be measured */

/* Begin with an instruction that the kernel does not emulate but has executed elsewhere, as most functions do. */
#if defined(__x86_64__)
__attribute__((naked, noinline)) static void returns(uint64_t argument _unused_)
{
	__asm__ volatile("mov %rdi, %rax\n\tret");
}

__attribute__((naked, noinline)) static void ends(uint64_t argument _unused_)
{
	__asm__ volatile("mov %rsi, %rax\n\tret");
}
#else
__attribute__((noinline)) static void returns(uint64_t argument _unused_)
{
	__asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) static void ends(uint64_t argument _unused_)
{
	__asm__ volatile("nop" ::: "memory");
}
#endif

struct search {
	uint64_t address, offset;
};

static int find_offset(struct dl_phdr_info *info, size_t size _unused_, void *userdata)
{
	struct search *s = userdata;

	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uint64_t start = info->dlpi_addr + p->p_vaddr;

		if (p->p_type == PT_LOAD && s->address >= start && s->address - start < p->p_filesz)
			s->offset = s->address - start + p->p_offset;
	}
	return 1; /* the program comes first */
}

static uint64_t offset_of(void (*function)(uint64_t))
{
	struct search s = { .address = (uint64_t)(uintptr_t)function };

	dl_iterate_phdr(find_offset, &s);
	return s.offset;
}

static uint64_t time_of_batch(void)
{
	void (*volatile a)(uint64_t) = returns, (*volatile b)(uint64_t) = ends;
	struct timespec from, to;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	for (unsigned i = 0; i < ROUNDS; i++) {
		a(0);           /* a size that is never drawn */
		b((uintptr_t)a); /* an address that is looked for */
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	return (uint64_t)(to.tv_sec - from.tv_sec) * NSEC_PER_SEC + (uint64_t)to.tv_nsec - (uint64_t)from.tv_nsec;
}

/* Of the fastest batch: interrupts, and a hypervisor that gives the CPU to others, only add to a thread's time. */
static uint64_t time_of_rounds(void)
{
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < BATCHES; i++)
		least = MIN(least, time_of_batch());
	return least;
}

/* ns a call; 0: it can't be told now */
static double measure(struct heap *h)
{
	const struct collect_heap_function functions[] = {
		{ .offset = offset_of(returns), .call = HEAP_MALLOC },
		{ .offset = offset_of(ends), .call = HEAP_FREE },
	};
	uint64_t without = time_of_rounds(), with = 0;
	uint32_t id;

	if (!functions[0].offset || !functions[1].offset || heap_begin(h, getpid(), &id) < 0)
		return 0;
	heap_start(h, id);
	if (heap_attach(h, id, "/proc/self/exe", functions, ELEMENTS_OF(functions)) >= 0)
		with = time_of_rounds();
	heap_end(h, id);
	return with > without ? (double)(with - without) / (2 * ROUNDS) : 0;
}

void heap_learn_cost(struct heap *h)
{
	if (h->probe_ns <= 0)
		h->probe_ns = measure(h);
}

void heap_cost(struct heap *h, uint32_t slot, struct collect_heap_cost *ret)
{
	struct stackd_heap_calls *of_cpus = calloc((size_t)libbpf_num_possible_cpus(), sizeof(*of_cpus));
	uint32_t zero = 0;

	heap_learn_cost(h);
	*ret = (struct collect_heap_cost){ .probe_ns = h->probe_ns > 0 ? h->probe_ns : PROBE_NS_UNKNOWN };
	if (of_cpus && bpf_map_lookup_elem(h->calls, &zero, of_cpus) == 0)
		for (int i = 0; i < libbpf_num_possible_cpus(); i++)
			ret->calls += of_cpus[i].n[slot];
	free(of_cpus);
}
