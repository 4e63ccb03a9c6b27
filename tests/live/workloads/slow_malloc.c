/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Its own malloc, in front of libc's, waits 2 ms and computes 2 ms before it takes a block; so most of the program's time, on a CPU and
 * off it, is inside of an allocator, called by one named function. */
#include "workload.h"

#define EACH_NS (2 * MSEC)

static struct workload_options options = {.seconds = 4};
static uint64_t waited_ns, computed_ns;
static bool begun;

void *__libc_malloc(size_t size);

NAMED void wait_inside(void)
{
	struct timespec t = {.tv_nsec = EACH_NS};
	uint64_t begin = wall_ns();

	inline_syscall(SYS_nanosleep, (long)&t, 0, 0, 0);
	waited_ns += wall_ns() - begin;
	KEEP_FRAME();
}

NAMED void compute_inside(void)
{
	computed_ns += SPIN_CPU(EACH_NS);
	KEEP_FRAME();
}

__attribute__((noipa)) void *malloc(size_t size)
{
	void *block;

	if (begun) {
		wait_inside();
		compute_inside();
	}
	block = __libc_malloc(size);
	KEEP_FRAME();
	return block;
}

NAMED void *allocate(void)
{
	void *block = malloc(4096);

	KEEP_FRAME();
	return block;
}

int main(int argc, char **argv)
{
	unsigned long n = 0;

	workload_parse(argc, argv, &options);
	workload_ready(&options);
	begun = true;
	while (!workload_over(&options)) {
		if (!allocate())
			fail("malloc");
		n++;
	}
	begun = false;
	workload_result(&options, "\"heap\": {\"allocate\": %lu}, \"computed_ns\": %llu, \"waited_ns\": %llu", n * 4096,
	                (unsigned long long)computed_ns, (unsigned long long)waited_ns);
	return 0;
}
