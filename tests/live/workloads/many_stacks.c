/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes --n distinct stacks live in every second: each is a path through a binary tree of two functions with
 * a short sleep at its end. With --mode deep it makes one stack of --n frames instead, which computes and
 * sleeps at its end. */
#include <sys/prctl.h>

#include "workload.h"

static struct workload_options options = {.seconds = 10, .threads = 2, .n = 1000, .mode = "wide"};

/* Shorter sleeps are over before the thread has left the CPU. */
#define SLEEP_NS 20000

NAMED void end_of_path(void)
{
	struct timespec t = {.tv_nsec = SLEEP_NS};

	inline_syscall(SYS_nanosleep, (long)&t, 0, 0, 0);
	KEEP_FRAME();
}

NAMED void step_zero(uint64_t path, int left);
NAMED void step_one(uint64_t path, int left);

static inline __attribute__((always_inline)) void next_step(uint64_t path, int left)
{
	if (left == 0)
		end_of_path();
	else if (path & 1)
		step_one(path >> 1, left - 1);
	else
		step_zero(path >> 1, left - 1);
	KEEP_FRAME();
}

NAMED void step_zero(uint64_t path, int left)
{
	next_step(path, left);
}

NAMED void step_one(uint64_t path, int left)
{
	next_step(path, left);
}

static int bits_for(uint64_t n)
{
	int bits = 0;

	while ((1ULL << bits) < n)
		bits++;
	return bits;
}

struct account {
	pthread_t thread;
	uint64_t first, end, sleeps, late;
};

static void *walk_paths(void *userdata)
{
	struct account *account = userdata;
	int bits = bits_for(options.n);

	prctl(PR_SET_TIMERSLACK, 1);
	for (uint64_t second = 1; !workload_over(&options); second++) {
		uint64_t next = workload_started_ns() + second * SEC;
		struct timespec t = {.tv_sec = (time_t)(next / SEC), .tv_nsec = (long)(next % SEC)};

		for (uint64_t path = account->first; path < account->end; path++) {
			next_step(path, bits);
			account->sleeps++;
		}
		account->late += wall_ns() > next;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	}
	return NULL;
}

NAMED uint64_t descend(uint64_t left)
{
	uint64_t used;

	if (left > 1) {
		used = descend(left - 1);
	} else {
		used = SPIN_CPU(20 * MSEC);
		end_of_path();
	}
	KEEP_FRAME();
	return used;
}

static void run_wide(void)
{
	struct account *accounts = calloc((size_t)options.threads, sizeof(*accounts));
	uint64_t sleeps = 0, late = 0;

	if (!accounts)
		fail("calloc");
	for (int i = 0; i < options.threads; i++) {
		accounts[i].first = options.n * (uint64_t)i / (uint64_t)options.threads;
		accounts[i].end = options.n * (uint64_t)(i + 1) / (uint64_t)options.threads;
		if (pthread_create(&accounts[i].thread, NULL, walk_paths, &accounts[i]) != 0)
			fail("pthread_create");
	}
	for (int i = 0; i < options.threads; i++) {
		pthread_join(accounts[i].thread, NULL);
		sleeps += accounts[i].sleeps;
		late += accounts[i].late;
	}
	workload_result(&options, "\"stacks\": %llu, \"sleeps\": %llu, \"late\": %llu",
	                (unsigned long long)options.n, (unsigned long long)sleeps, (unsigned long long)late);
	free(accounts);
}

int main(int argc, char **argv)
{
	workload_parse(argc, argv, &options);
	workload_ready(&options);
	if (strcmp(options.mode, "deep") == 0) {
		uint64_t used = 0;

		while (!workload_over(&options))
			used += descend(options.n);
		workload_result(&options, "\"depth\": %llu, \"on_cpu\": %llu", (unsigned long long)options.n,
		                (unsigned long long)used);
	} else {
		run_wide();
	}
	return 0;
}
