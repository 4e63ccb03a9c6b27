/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A fixed amount of work (--n units) of one kind, for time ratios: --mode
 *   pipe    a byte to and fro between two processes pinned on one CPU: two context switches a unit
 *   getpid  system calls that do nothing
 *   faults  minor faults on anonymous memory
 *   malloc  a block that is freed at once, of sizes up to 1 KiB
 *   cpu     arithmetic: 10,000 steps a unit */
#include <sys/mman.h>
#include <sys/wait.h>

#include "workload.h"

static struct workload_options options = {.n = 100000, .mode = "pipe", .cpu = 0};

NAMED void ping(int in, int out)
{
	char c = 0;

	for (uint64_t i = 0; i < options.n; i++)
		if (write(out, &c, 1) != 1 || read(in, &c, 1) != 1)
			fail("ping");
}

NAMED void pong(int in, int out)
{
	char c;

	while (read(in, &c, 1) == 1)
		if (write(out, &c, 1) != 1)
			fail("pong");
}

static void work_pipe(void)
{
	int to[2], from[2];
	pid_t child;

	pin_to_cpu(options.cpu);
	if (pipe(to) < 0 || pipe(from) < 0)
		fail("pipe");
	child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		close(to[1]);
		pong(to[0], from[1]);
		_exit(0);
	}
	ping(from[0], to[1]);
	close(to[1]);
	waitpid(child, NULL, 0);
}

NAMED void work_getpid(void)
{
	for (uint64_t i = 0; i < options.n; i++)
		inline_syscall(SYS_getpid, 0, 0, 0, 0);
	KEEP_FRAME();
}

NAMED void work_faults(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 1024;
	volatile char *memory;

	memory = mmap(NULL, n * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	if (madvise((void *)memory, n * page, MADV_NOHUGEPAGE) < 0)
		fail("madvise");
	for (uint64_t i = 0; i < options.n; i++) {
		memory[i % n * page] = 1;
		if (i % n == n - 1 && madvise((void *)memory, n * page, MADV_DONTNEED) < 0)
			fail("madvise");
	}
}

NAMED void work_malloc(void)
{
	static void *volatile kept; /* the compiler must not do without it */

	for (uint64_t i = 0; i < options.n; i++) {
		kept = malloc(16 + (i * 48 & 1023));
		free(kept);
	}
}

NAMED void work_cpu(void)
{
	for (uint64_t i = 0; i < options.n; i++)
		workload_sink = arithmetic(workload_sink);
}

int main(int argc, char **argv)
{
	void (*work)(void);
	uint64_t begin;

	workload_parse(argc, argv, &options);
	work = strcmp(options.mode, "pipe") == 0 ? work_pipe :
	       strcmp(options.mode, "getpid") == 0 ? work_getpid :
	       strcmp(options.mode, "faults") == 0 ? work_faults :
	       strcmp(options.mode, "malloc") == 0 ? work_malloc : work_cpu;
	if (work == work_cpu)
		pin_to_cpu(options.cpu);
	workload_ready(&options);
	begin = wall_ns();
	work();
	workload_result(&options, "\"mode\": \"%s\", \"n\": %llu, \"work_ns\": %llu", options.mode,
	                (unsigned long long)options.n, (unsigned long long)(wall_ns() - begin));
	return 0;
}
