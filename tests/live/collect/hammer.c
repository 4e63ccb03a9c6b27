/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sums over turned-over halves are exact: threads run a counting program millions of times while the halves are turned
 * over and drained without a pause; every single count must arrive. */
#include <inttypes.h>
#include <pthread.h>
#include <time.h>

#include "internal.h"
#include "hammer.skel.h"

#define THREADS 6
#define SECONDS 3

static volatile bool stop;

static void *run(void *arg)
{
	int fd = *(int *)arg;
	uint64_t *n = calloc(1, sizeof *n);

	while (!stop) {
		LIBBPF_OPTS(bpf_test_run_opts, opts);

		if (bpf_prog_test_run_opts(fd, &opts) == 0)
			(*n)++;
	}
	return n;
}

static void add_up(const struct drain *d, uint64_t *hits, uint64_t *blocked)
{
	for (uint32_t i = 0; i < d->n_counts; i++) {
		*hits += d->counts[i].values[STACKD_HITS];
		*blocked += d->counts[i].values[STACKD_BLOCKED];
	}
}

int main(void)
{
	struct collect_config config = { .max_counts = 1024, .max_processes = 16, .max_stacks = 16, .cpu_budget_closed = 1, .cpu_budget_open = 1 };
	struct hammer_bpf *skel = hammer_bpf__open();
	uint64_t called = 0, hits = 0, blocked = 0, flips = 0, end;
	pthread_t threads[THREADS];
	struct drain d = {};
	struct halves h;
	int fd;

	if (!skel || bpf_map__set_max_entries(skel->maps.counts_0, config.max_counts) ||
	    bpf_map__set_max_entries(skel->maps.counts_1, config.max_counts) || hammer_bpf__load(skel) ||
	    drain_init(&d, &config) < 0) {
		printf("Bail out! the program can't be loaded\n");
		return 1;
	}
	h = (struct halves){
		.control = &skel->bss->control,
		.guards = skel->bss->guards,
		.counts = { bpf_map__fd(skel->maps.counts_0), bpf_map__fd(skel->maps.counts_1) },
		.exits = { bpf_map__fd(skel->maps.exits_0), bpf_map__fd(skel->maps.exits_1) },
		.losses = bpf_map__fd(skel->maps.losses),
	};
	fd = bpf_program__fd(skel->progs.hammer);
	for (size_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, run, &fd);
	for (end = clock_monotonic_ns() + SECONDS * NSEC_PER_SEC; clock_monotonic_ns() < end; flips++) {
		drain_flip(&d, &h);
		add_up(&d, &hits, &blocked);
	}
	stop = true;
	for (size_t i = 0; i < THREADS; i++) {
		void *n;

		pthread_join(threads[i], &n);
		called += *(uint64_t *)n;
		free(n);
	}
	for (size_t i = 0; i < 2; i++) {
		drain_flip(&d, &h);
		add_up(&d, &hits, &blocked);
	}
	printf("1..2\n# %" PRIu64 " runs, %" PRIu64 " flips, %" PRIu64 " unsettled, %" PRIu64 " refused\n", called, flips,
	       d.unsettled, d.losses[LOSS_COUNTS_FULL]);
	printf("%sok 1 - every count arrives once: %" PRIu64 " of %" PRIu64 "\n", hits == called ? "" : "not ", hits, called);
	printf("%sok 2 - and with its value\n", blocked == 3 * called ? "" : "not ");
	drain_done(&d);
	hammer_bpf__destroy(skel);
	return 0;
}
