/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the workloads share. Each has a known shape, keeps its own account of it, and prints it line by line:
 *
 *   {"ready": true, "pid": 123}           as soon as it is set up
 *   {"started_us": ..., "ended_us": ...}  at the end, with everything it knows of itself
 *
 * With --hold it waits for a line on stdin before it starts, with --linger for the end of stdin before it
 * exits, so that a test can attach other tools first and look at the living process afterwards.
 *
 * System calls that a test wants to see below a named function are made in line: a wrapper in libc has no frame
 * of its own, and a walk by frame pointers would then skip the function that called it. */
#pragma once

#include <errno.h>
#include <getopt.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Keeps its own frame and name whatever the optimizer thinks of it. */
#define NAMED static __attribute__((noipa, used))
#define MSEC 1000000ULL
#define SEC 1000000000ULL

/* Both architectures return -errno. */
static inline __attribute__((always_inline)) long inline_syscall(long nr, long a, long b, long c, long d)
{
#if defined(__x86_64__)
	register long r10 asm("r10") = d;
	long ret;
	asm volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
	             : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 asm("x8") = nr;
	register long x0 asm("x0") = a;
	register long x1 asm("x1") = b;
	register long x2 asm("x2") = c;
	register long x3 asm("x3") = d;
	asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
#else
#error "no system call known for this architecture"
#endif
}

/* The function it stands in has a frame, even one that calls nothing; and the call before it is no jump. */
#define KEEP_FRAME() asm volatile("" : : "r"(__builtin_frame_address(0)) : "memory")

static inline uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * SEC + (uint64_t)t.tv_nsec;
}

static inline uint64_t wall_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* In line, so that a thread which is preempted in it is still seen below the function that spins. */
static inline __attribute__((always_inline)) uint64_t cpu_ns(void)
{
	struct timespec t;

	inline_syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, (long)&t, 0, 0);
	return (uint64_t)t.tv_sec * SEC + (uint64_t)t.tv_nsec;
}

static inline uint64_t realtime_us(void)
{
	return clock_ns(CLOCK_REALTIME) / 1000;
}

/* How long this thread has waited for a CPU while it could run, by the kernel's own account. */
static inline uint64_t run_delay_ns(void)
{
	unsigned long long on_cpu, delay = 0;
	FILE *f = fopen("/proc/thread-self/schedstat", "re");

	if (f) {
		if (fscanf(f, "%llu %llu", &on_cpu, &delay) != 2)
			delay = 0;
		fclose(f);
	}
	return delay;
}

/* About 20 us of arithmetic that no compiler can drop; the value is carried on. */
static inline __attribute__((always_inline)) uint64_t arithmetic(uint64_t x)
{
	for (int i = 0; i < 10000; i++)
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
	asm volatile("" : "+r"(x));
	return x;
}

/* Spins in its function until the thread has used ns of CPU time; gives what it used. */
#define SPIN_CPU(ns) ({                                   \
	uint64_t _begin = cpu_ns(), _now;                 \
	do {                                              \
		for (int _i = 0; _i < 10; _i++)           \
			workload_sink = arithmetic(workload_sink); \
		_now = cpu_ns();                          \
	} while (_now - _begin < (ns));                   \
	_now - _begin;                                    \
})

extern __thread uint64_t workload_sink;

struct workload_options {
	double seconds;
	int threads;
	uint64_t n;
	const char *mode;
	int first_uid, second_uid;
	int cpu;
	bool hold, linger;
};

/* What is not given keeps its value; exits with 2 and the usage on anything wrong. */
void workload_parse(int argc, char **argv, struct workload_options *options);
/* Says that it is ready and waits for the test if that was asked for. */
void workload_ready(const struct workload_options *options);
/* Prints one line of JSON: the times, the faults, and the members that format adds ("\"x\": %d"). */
void workload_result(const struct workload_options *options, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
uint64_t workload_started_ns(void);
static inline bool workload_over(const struct workload_options *o)
{
	return wall_ns() - workload_started_ns() >= (uint64_t)(o->seconds * (double)SEC);
}
void pin_to_cpu(int cpu);
void fail(const char *what) __attribute__((noreturn));
