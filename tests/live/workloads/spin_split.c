/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Uses CPU time in two named functions, 70 to 30. The turns are long against a sampling period, so that a
 * sampler's error is at the turns' edges only. */
#include "workload.h"

static struct workload_options options = {.seconds = 10, .threads = 1};

struct account {
	pthread_t thread;
	uint64_t seventy_ns, thirty_ns;
};

NAMED uint64_t spin_seventy(void)
{
	return SPIN_CPU(350 * MSEC);
}

NAMED uint64_t spin_thirty(void)
{
	return SPIN_CPU(150 * MSEC);
}

NAMED void *spin_split(void *userdata)
{
	struct account *account = userdata;

	while (!workload_over(&options)) {
		account->seventy_ns += spin_seventy();
		account->thirty_ns += spin_thirty();
	}
	return NULL;
}

int main(int argc, char **argv)
{
	uint64_t seventy = 0, thirty = 0;
	struct account *accounts;

	workload_parse(argc, argv, &options);
	accounts = calloc((size_t)options.threads, sizeof(*accounts));
	if (!accounts)
		fail("calloc");
	workload_ready(&options);
	for (int i = 0; i < options.threads; i++)
		if (pthread_create(&accounts[i].thread, NULL, spin_split, &accounts[i]) != 0)
			fail("pthread_create");
	for (int i = 0; i < options.threads; i++) {
		pthread_join(accounts[i].thread, NULL);
		seventy += accounts[i].seventy_ns;
		thirty += accounts[i].thirty_ns;
	}
	workload_result(&options, "\"on_cpu\": {\"spin_seventy\": %llu, \"spin_thirty\": %llu}",
	                (unsigned long long)seventy, (unsigned long long)thirty);
	free(accounts);
	return 0;
}
