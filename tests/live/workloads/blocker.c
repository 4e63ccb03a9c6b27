/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A thread that blocks 80 % of its time in a wait named after its kind (--mode nanosleep, futex or pipe) and
 * computes for the rest. What it was neither on a CPU nor waiting for one, it was blocked. */
#include "workload.h"

#define PERIOD_NS (50 * MSEC)
#define WAIT_NS (40 * MSEC)

static struct workload_options options = {.seconds = 10, .mode = "nanosleep"};
static int pipe_fds[2];
static uint32_t futex_word;
static volatile bool finished;

NAMED void wait_nanosleep(uint64_t ns)
{
	struct timespec t = {.tv_sec = 0, .tv_nsec = (long)ns};

	inline_syscall(SYS_nanosleep, (long)&t, 0, 0, 0);
	KEEP_FRAME();
}

NAMED void wait_futex(void)
{
	while (__atomic_load_n(&futex_word, __ATOMIC_ACQUIRE) == 0)
		inline_syscall(SYS_futex, (long)&futex_word, FUTEX_WAIT_PRIVATE, 0, 0);
	__atomic_store_n(&futex_word, 0, __ATOMIC_RELEASE);
	KEEP_FRAME();
}

NAMED void wait_pipe(void)
{
	char c;

	inline_syscall(SYS_read, pipe_fds[0], (long)&c, 1, 0);
	KEEP_FRAME();
}

/* Ends the other thread's wait 40 ms after it was asked to. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t asked;
	bool pending;
} waker = {.lock = PTHREAD_MUTEX_INITIALIZER, .asked = PTHREAD_COND_INITIALIZER};

NAMED void *wake_later(void *userdata)
{
	(void)userdata;
	for (;;) {
		pthread_mutex_lock(&waker.lock);
		while (!waker.pending && !finished)
			pthread_cond_wait(&waker.asked, &waker.lock);
		waker.pending = false;
		pthread_mutex_unlock(&waker.lock);
		if (finished)
			return NULL;
		struct timespec t = {.tv_nsec = WAIT_NS};
		nanosleep(&t, NULL);
		if (strcmp(options.mode, "futex") == 0) {
			__atomic_store_n(&futex_word, 1, __ATOMIC_RELEASE);
			inline_syscall(SYS_futex, (long)&futex_word, FUTEX_WAKE_PRIVATE, 1, 0);
		} else if (write(pipe_fds[1], "x", 1) != 1) {
			fail("write");
		}
	}
}

static void ask_waker(void)
{
	pthread_mutex_lock(&waker.lock);
	waker.pending = true;
	pthread_cond_signal(&waker.asked);
	pthread_mutex_unlock(&waker.lock);
}

NAMED uint64_t compute(void)
{
	return SPIN_CPU(PERIOD_NS - WAIT_NS);
}

static void wait_once(void)
{
	if (strcmp(options.mode, "nanosleep") == 0) {
		wait_nanosleep(WAIT_NS);
	} else if (strcmp(options.mode, "futex") == 0) {
		ask_waker();
		wait_futex();
	} else {
		ask_waker();
		wait_pipe();
	}
}

struct account {
	uint64_t on_cpu, blocked, runnable, waits;
};

NAMED void block_and_compute(struct account *account)
{
	uint64_t wall = wall_ns(), cpu = cpu_ns(), delay = run_delay_ns();

	while (!workload_over(&options)) {
		wait_once();
		account->waits++;
		compute();
	}
	account->on_cpu = cpu_ns() - cpu;
	account->runnable = run_delay_ns() - delay;
	account->blocked = wall_ns() - wall - account->on_cpu - account->runnable;
}

int main(int argc, char **argv)
{
	struct account account = {0};
	pthread_t thread;

	workload_parse(argc, argv, &options);
	if (pipe(pipe_fds) < 0)
		fail("pipe");
	if (pthread_create(&thread, NULL, wake_later, NULL) != 0)
		fail("pthread_create");
	workload_ready(&options);
	block_and_compute(&account);
	pthread_mutex_lock(&waker.lock);
	finished = true;
	pthread_cond_signal(&waker.asked);
	pthread_mutex_unlock(&waker.lock);
	pthread_join(thread, NULL);
	workload_result(&options, "\"function\": \"wait_%s\", \"waits\": %llu, \"on_cpu\": %llu, "
	                "\"blocked\": %llu, \"runnable\": %llu", options.mode, (unsigned long long)account.waits,
	                (unsigned long long)account.on_cpu, (unsigned long long)account.blocked,
	                (unsigned long long)account.runnable);
	return 0;
}
