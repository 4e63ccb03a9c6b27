/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes that do nothing but sleep in one place, for 0.2 to 12.8 ms, short sleeps being as many as long ones by each doubling: how much each
 * waited is known exactly from the kernel's account of it. They end with their parent. */
#include <sys/prctl.h>
#include <sys/wait.h>

#include "workload.h"

#define LEAST_NS 200000ULL
#define DOUBLINGS 6

NAMED void sleep_a_while(struct timespec *t)
{
	inline_syscall(SYS_nanosleep, (long)t, 0, 0, 0);
	KEEP_FRAME();
}

static void sleeper(const struct workload_options *o, unsigned seed)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!workload_over(o)) {
		uint64_t least = LEAST_NS << rand_r(&seed) % DOUBLINGS;
		struct timespec t = { .tv_nsec = (long)(least + (uint64_t)rand_r(&seed) % least) };

		sleep_a_while(&t);
	}
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	struct workload_options o = { .seconds = 10, .n = 40 };

	workload_parse(argc, argv, &o);
	workload_ready(&o);
	for (uint64_t i = 0; i < o.n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork");
		if (pid == 0)
			sleeper(&o, (unsigned)i + 1);
	}
	sleep((unsigned)o.seconds + 1);
	workload_result(&o, "\"processes\": %llu", (unsigned long long)o.n);
	return 0;
}
