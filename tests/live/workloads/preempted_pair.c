/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two threads that compute on one CPU: each is runnable whenever the other runs, and neither ever blocks. */
#include "workload.h"

static struct workload_options options = {.seconds = 10, .cpu = 0};

struct account {
	pthread_t thread;
	uint64_t wall, on_cpu, runnable;
};

NAMED void spin_left(void)
{
	SPIN_CPU(20 * MSEC);
}

NAMED void spin_right(void)
{
	SPIN_CPU(20 * MSEC);
}

static void spin_pinned(struct account *account, void (*spin)(void))
{
	pin_to_cpu(options.cpu);
	account->wall = wall_ns();
	account->on_cpu = cpu_ns();
	account->runnable = run_delay_ns();
	while (!workload_over(&options))
		spin();
	account->on_cpu = cpu_ns() - account->on_cpu;
	account->runnable = run_delay_ns() - account->runnable;
	account->wall = wall_ns() - account->wall;
}

static void *left(void *account)
{
	spin_pinned(account, spin_left);
	return NULL;
}

static void *right(void *account)
{
	spin_pinned(account, spin_right);
	return NULL;
}

int main(int argc, char **argv)
{
	struct account accounts[2] = {0};

	workload_parse(argc, argv, &options);
	workload_ready(&options);
	if (pthread_create(&accounts[0].thread, NULL, left, &accounts[0]) != 0 ||
	    pthread_create(&accounts[1].thread, NULL, right, &accounts[1]) != 0)
		fail("pthread_create");
	pthread_join(accounts[0].thread, NULL);
	pthread_join(accounts[1].thread, NULL);
	workload_result(&options, "\"on_cpu\": {\"spin_left\": %llu, \"spin_right\": %llu}, "
	                "\"runnable\": {\"spin_left\": %llu, \"spin_right\": %llu}",
	                (unsigned long long)accounts[0].on_cpu, (unsigned long long)accounts[1].on_cpu,
	                (unsigned long long)accounts[0].runnable, (unsigned long long)accounts[1].runnable);
	return 0;
}
