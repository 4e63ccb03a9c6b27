/* SPDX-License-Identifier: GPL-2.0-or-later */
/* workload KIND THREADS: a victim for the VM tests. It serves a little, in serve(), until SIGUSR1; then each thread spins in
 * the function of its kind until SIGUSR2. Kinds are functions of their own, so that a stack tells who ran. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))
#define SERVE_ROUNDS 200000     /* a few milliseconds */
#define BURN_ROUNDS 1000000
#define TOUCH_SIZE (8 << 20)
#define SERVE_PAUSE_NS 100000000

static atomic_bool burning;
static int zero_fd;

static NOINLINE unsigned long spin(unsigned long rounds)
{
	unsigned long x = 1;

	/* A leaf gets no frame otherwise, and its caller is off the stack. */
	__asm__ volatile("" : : "r"(__builtin_frame_address(0)));
	for (unsigned long i = 0; i < rounds; i++) {
		x = x * 6364136223846793005UL + 1442695040888963407UL;
		__asm__ volatile("" : "+r"(x));
	}
	return x;
}

/* The barrier after the call keeps it from being a jump, which would take the caller off the stack. */
#define KIND(name)                                       \
	static NOINLINE void name(void)                  \
	{                                                \
		spin(BURN_ROUNDS);                       \
		__asm__ volatile("" ::: "memory");       \
	}

KIND(burn_victim)
KIND(burn_alice)
KIND(burn_bob)
KIND(burn_pinned)

/* By hand: a C library without frame pointers would take the caller off the stack. */
static long read_directly(int fd, void *buf, size_t size)
{
	long r;

	__asm__ volatile("syscall" : "=a"(r) : "a"(SYS_read), "D"((long) fd), "S"(buf), "d"(size) : "rcx", "r11", "memory");
	return r;
}

static NOINLINE void call_kernel(void)
{
	static char buf[1 << 20];

	for (int i = 0; i < 10; i++)
		if (read_directly(zero_fd, buf, sizeof(buf)) != sizeof(buf))
			abort();
}

static NOINLINE void touch_pages(volatile char *memory)
{
	for (size_t i = 0; i < TOUCH_SIZE; i += 4096)
		memory[i] = 1;
	__asm__ volatile("" : : "r"(__builtin_frame_address(0)) : "memory");
}

static NOINLINE void drop_pages(void *memory)
{
	long r;

	__asm__ volatile("syscall" : "=a"(r) : "a"(SYS_munmap), "D"(memory), "S"(TOUCH_SIZE) : "rcx", "r11", "memory");
	if (r)
		abort();
	__asm__ volatile("" : : "r"(__builtin_frame_address(0)) : "memory");
}

/* What is touched is dropped again, 8 MiB at a time. */
static NOINLINE void use_pages(void)
{
	void *memory = mmap(NULL, TOUCH_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		abort();
	touch_pages(memory);
	drop_pages(memory);
	__asm__ volatile("" ::: "memory");
}

/* 1 MiB in blocks of 4 KiB, and what is freed again. */
static NOINLINE void keep_blocks(void)
{
	for (int i = 0; i < 256; i++) {
		void *volatile kept = malloc(4096);

		if (!kept)
			abort();
		free(malloc(1000));
	}
	__asm__ volatile("" : : "r"(__builtin_frame_address(0)) : "memory");
}

/* Once; then it has nothing more to do. */
static NOINLINE void keep(void)
{
	keep_blocks();
	for (;;)
		pause();
}

static NOINLINE void serve(void)
{
	spin(SERVE_ROUNDS);
	__asm__ volatile("" ::: "memory");
	nanosleep(&(struct timespec){ .tv_nsec = SERVE_PAUSE_NS }, NULL);
}

static const struct {
	const char *name;
	void (*burn)(void);
} kinds[] = {
	{ "victim", burn_victim }, { "alice", burn_alice }, { "bob", burn_bob }, { "pinned", burn_pinned },
	{ "kernel", call_kernel }, { "pages", use_pages }, { "keep", keep },
};

static void *work(void *burn)
{
	for (;;) {
		if (atomic_load(&burning))
			((void (*)(void)) burn)();
		else
			serve();
	}
	return NULL;
}

static void on_signal(int signal)
{
	atomic_store(&burning, signal == SIGUSR1);
}

int main(int argc, char *argv[])
{
	void (*burn)(void) = NULL;
	int threads = argc == 3 ? atoi(argv[2]) : 0;

	for (size_t i = 0; argc == 3 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, argv[1]) == 0)
			burn = kinds[i].burn;
	if (!burn || threads < 1) {
		fprintf(stderr, "usage: workload victim|alice|bob|pinned|kernel|pages|keep THREADS\n");
		return 2;
	}
	zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	if (zero_fd < 0)
		return 1;
	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, on_signal);

	for (int i = 0; i < threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, work, (void *) burn) != 0)
			return 1;
	}
	for (;;)
		pause();
}
