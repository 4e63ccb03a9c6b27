/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Waits that come again and again from few places, for what is known of stacks. --mode
 *   paths   one wait, called by three functions alike, so that their stacks lie at the same addresses, and by a function that calls itself
 *           twice or five times; each for a time of its own
 *   forged  code made at run time that is changed before each wait, so that the same stack means another caller each time (x86-64) */
#include <sys/mman.h>
#include <sys/prctl.h>

#include "workload.h"

#define USEC 1000ULL

static struct workload_options options = {.seconds = 5, .mode = "paths"};

NAMED uint64_t wait_known(uint64_t ns)
{
	struct timespec t = {.tv_nsec = (long)ns};
	uint64_t begin = wall_ns();

	inline_syscall(SYS_nanosleep, (long)&t, 0, 0, 0);
	KEEP_FRAME();
	return wall_ns() - begin;
}

NAMED uint64_t path_a(uint64_t ns)
{
	uint64_t took = wait_known(ns);

	KEEP_FRAME();
	return took;
}

NAMED uint64_t path_b(uint64_t ns)
{
	uint64_t took = wait_known(ns);

	KEEP_FRAME();
	return took;
}

NAMED uint64_t path_c(uint64_t ns)
{
	uint64_t took = wait_known(ns);

	KEEP_FRAME();
	return took;
}

NAMED uint64_t deeper(uint64_t ns, int calls)
{
	uint64_t took = calls > 1 ? deeper(ns, calls - 1) : wait_known(ns);

	KEEP_FRAME();
	return took;
}

static void work_paths(void)
{
	uint64_t a = 0, b = 0, c = 0, two = 0, five = 0, n = 0;

	while (!workload_over(&options)) {
		a += path_a(100 * USEC);
		b += path_b(200 * USEC);
		two += deeper(300 * USEC, 2);
		c += path_c(400 * USEC);
		/* The same for a while, then each after another. */
		for (int i = 0; i < 8; i++)
			a += path_a(100 * USEC);
		five += deeper(150 * USEC, 5);
		n++;
	}
	workload_result(&options, "\"path_a\": %llu, \"path_b\": %llu, \"path_c\": %llu, \"two\": %llu, \"five\": %llu, \"rounds\": %llu",
	                (unsigned long long)a, (unsigned long long)b, (unsigned long long)c, (unsigned long long)two,
	                (unsigned long long)five, (unsigned long long)n);
}

#if defined(__x86_64__)
/* Whether the byte behind the system call says `ret` or `nop` decides whether the caller's address is sought on top of the stack or
 * by the frame pointer, which leaves out one frame. */
static const unsigned char forged_code[] = {
	0x55,                         /* push %rbp */
	0x48, 0x89, 0xe5,             /* mov %rsp,%rbp */
	0xe8, 0x02, 0x00, 0x00, 0x00, /* call 1f */
	0x5d, 0xc3,                   /* pop %rbp; ret */
	0xb8, 0x23, 0x00, 0x00, 0x00, /* 1: mov $35,%eax (nanosleep) */
	0x31, 0xf6,                   /* xor %esi,%esi */
	0x0f, 0x05,                   /* syscall */
	0xc3,                         /* ret, or nop */
	0xc3,                         /* ret */
};
#define FORGED_AT 20

static void work_forged(void)
{
	volatile unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void (*run)(const struct timespec *) = (void (*)(const struct timespec *))(uintptr_t)code;
	const struct timespec t = {.tv_nsec = 20 * USEC};
	uint64_t n = 0;

	if (code == MAP_FAILED)
		fail("mmap");
	for (size_t i = 0; i < sizeof forged_code; i++)
		code[i] = forged_code[i];
	while (!workload_over(&options)) {
		run(&t);
		code[FORGED_AT] = ++n % 2 ? 0x90 : 0xc3;
	}
	workload_result(&options, "\"waits\": %llu", (unsigned long long)n);
}
#else
static void work_forged(void)
{
	workload_result(&options, "\"waits\": 0");
}
#endif

int main(int argc, char **argv)
{
	workload_parse(argc, argv, &options);
	prctl(PR_SET_TIMERSLACK, 1UL);
	workload_ready(&options);
	if (strcmp(options.mode, "forged") == 0)
		work_forged();
	else
		work_paths();
	return 0;
}
