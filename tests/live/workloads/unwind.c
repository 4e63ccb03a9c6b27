/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Call chains that are known, compiled without frame pointers. --mode says which chain, a "-sleep" behind it that its innermost
 * function sleeps instead of spinning. All of a mode's time is spent in the innermost function, or in what is said of it. */
#include <dlfcn.h>
#include <signal.h>

#include "workload.h"

static struct workload_options options = {.seconds = 3, .mode = "recursion", .n = 100};
static bool sleeping;

/* In unwind_callee.c: a shared object. */
void call_back(void (*function)(void));
void do_nothing(void);

NAMED void leaf(void)
{
	struct timespec t = {.tv_nsec = 20 * MSEC};

	do {
		if (sleeping)
			inline_syscall(SYS_nanosleep, (long)&t, 0, 0, 0);
		else
			SPIN_CPU(20 * MSEC);
	} while (!workload_over(&options));
	asm volatile("");
}

/* ---- recursion ---- */

NAMED int descend(uint64_t depth)
{
	volatile char room[64];
	int below = 0;

	room[depth % sizeof(room)] = 1;
	if (depth > 1)
		below = descend(depth - 1);
	else
		leaf();
	return below + room[depth % sizeof(room)];
}

static void recursion(void)
{
	descend(options.n);
}

/* ---- called by libc ---- */

NAMED int compare(const void *a, const void *b)
{
	if (!workload_over(&options))
		leaf();
	return *(const int *)a - *(const int *)b;
}

NAMED void sorting(void)
{
	int numbers[] = {5, 3, 8, 1, 9, 2, 7};

	qsort(numbers, sizeof(numbers) / sizeof(numbers[0]), sizeof(numbers[0]), compare);
}

/* ---- signals ---- */

NAMED void handler(int number)
{
	(void)number;
	leaf();
}

NAMED void interrupted(void)
{
	inline_syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1, 0);
	asm volatile("");
}

static void handle_signal(int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
	stack_t stack = {.ss_size = 65536};

	stack.ss_sp = malloc(stack.ss_size);
	if (!stack.ss_sp || sigaltstack(&stack, NULL) < 0 || sigaction(SIGUSR1, &action, NULL) < 0)
		fail("sigaction");
	interrupted();
}

static void on_signal(void)
{
	handle_signal(0);
}

static void on_signal_stack(void)
{
	handle_signal(SA_ONSTACK);
}

/* ---- shared objects ---- */

NAMED void through_library(void)
{
	call_back(leaf);
	asm volatile("");
}

/* A good part of the samples is in the stub. */
NAMED void through_stub(void)
{
	do {
		for (int i = 0; i < 1000000; i++)
			do_nothing();
	} while (!workload_over(&options));
}

static void (*plugin_call_back)(void (*function)(void));

static void open_plugin(void)
{
#ifndef STATIC
	void *library = dlopen("libwl_unwind_plugin.so", RTLD_NOW);

	plugin_call_back = library ? (void (*)(void (*)(void)))dlsym(library, "plugin_call_back") : NULL;
	if (!plugin_call_back) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
#endif
}

NAMED void opened(void)
{
	plugin_call_back(leaf);
	asm volatile("");
}

/* ---- the kernel's code in the process: most of the time is spent in it ---- */

NAMED void ask_for_time(void)
{
	do {
		for (int i = 0; i < 100000; i++)
			wall_ns();
	} while (!workload_over(&options));
}

/* ---- an exception on its way: the thread's end, which runs what the functions left behind ---- */

NAMED void clean_up(int *value)
{
	(void)value;
	leaf();
}

NAMED void leave_thread(void)
{
	pthread_exit(NULL);
}

NAMED void *to_be_left(void *userdata)
{
	int value __attribute__((cleanup(clean_up))) = 0;

	(void)userdata;
	asm volatile("" : "+m"(value));
	leave_thread();
	return NULL;
}

static void exception(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, to_be_left, NULL) != 0)
		fail("pthread_create");
	pthread_join(thread, NULL);
}

static const struct {
	const char *name;
	void (*run)(void);
} modes[] = {
	{"recursion", recursion}, {"qsort", sorting},       {"signal", on_signal}, {"signal-stack", on_signal_stack},
	{"library", through_library}, {"stub", through_stub}, {"dlopen", opened},    {"vdso", ask_for_time},
	{"exception", exception},
};

int main(int argc, char **argv)
{
	size_t n;

	workload_parse(argc, argv, &options);
	n = strlen(options.mode);
	sleeping = n > 6 && strcmp(options.mode + n - 6, "-sleep") == 0;
	n -= sleeping ? 6 : 0;
	open_plugin();
	workload_ready(&options);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strlen(modes[i].name) == n && strncmp(modes[i].name, options.mode, n) == 0)
			modes[i].run();
	workload_result(&options, "\"mode\": \"%s\"", options.mode);
	return 0;
}
