/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two threads take two locks in opposite order and wait for each other until the program is told to end. */
#include <signal.h>

#include "workload.h"

static struct workload_options options = {.seconds = 3600};
static uint32_t lock_a, lock_b;
static pthread_barrier_t both_hold_one;

NAMED void wait_for_lock(uint32_t *lock)
{
	while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQ_REL) != 0)
		inline_syscall(SYS_futex, (long)lock, FUTEX_WAIT_PRIVATE, 1, 0);
	KEEP_FRAME();
}

NAMED void *hold_a_want_b(void *userdata)
{
	(void)userdata;
	wait_for_lock(&lock_a);
	pthread_barrier_wait(&both_hold_one);
	wait_for_lock(&lock_b);
	KEEP_FRAME();
	return NULL;
}

NAMED void *hold_b_want_a(void *userdata)
{
	(void)userdata;
	wait_for_lock(&lock_b);
	pthread_barrier_wait(&both_hold_one);
	wait_for_lock(&lock_a);
	KEEP_FRAME();
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[2];
	struct timespec t;
	sigset_t ends;

	workload_parse(argc, argv, &options);
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	pthread_barrier_init(&both_hold_one, NULL, 2);
	workload_ready(&options);
	if (pthread_create(&threads[0], NULL, hold_a_want_b, NULL) != 0 ||
	    pthread_create(&threads[1], NULL, hold_b_want_a, NULL) != 0)
		fail("pthread_create");
	t = (struct timespec){.tv_sec = (time_t)options.seconds};
	sigtimedwait(&ends, NULL, &t);
	workload_result(&options, "\"blocked\": {\"hold_a_want_b\": %llu, \"hold_b_want_a\": %llu}",
	                (unsigned long long)(wall_ns() - workload_started_ns()),
	                (unsigned long long)(wall_ns() - workload_started_ns()));
	return 0;
}
