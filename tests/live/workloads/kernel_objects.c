/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Has the kernel allocate: --n pipes and --n pairs of sockets, which it keeps until it gets a line, and then closes. Says when both is done.
 * --mode child: another process, which shares the descriptors, closes them. --mode churn: it makes and closes pairs of sockets all the
 * time. */
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "workload.h"

NAMED void open_pipes(int *fds, uint64_t n)
{
	KEEP_FRAME();
	for (uint64_t i = 0; i < n; i++)
		if (inline_syscall(SYS_pipe2, (long)(fds + 2 * i), 0, 0, 0) < 0)
			fail("pipe2");
}

NAMED void open_sockets(int *fds, uint64_t n)
{
	KEEP_FRAME();
	for (uint64_t i = 0; i < n; i++)
		if (inline_syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, (long)(fds + 2 * i)) < 0)
			fail("socketpair");
}

NAMED void close_all(const int *fds, uint64_t n)
{
	KEEP_FRAME();
	for (uint64_t i = 0; i < n; i++)
		inline_syscall(SYS_close, fds[i], 0, 0, 0);
}

NAMED void churn(const struct workload_options *o)
{
	int fds[2];

	while (!workload_over(o)) {
		open_sockets(fds, 1);
		close_all(fds, 2);
	}
}

static void close_in_child(const int *fds, uint64_t n)
{
	long child = syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);

	if (child < 0)
		fail("clone");
	if (child == 0) {
		close_all(fds, n);
		_exit(0);
	}
	waitpid((pid_t)child, NULL, 0);
}

int main(int argc, char **argv)
{
	struct workload_options o = { .n = 1000, .seconds = 5, .mode = "self" };
	struct rlimit limit;
	int *fds;

	workload_parse(argc, argv, &o);
	limit = (struct rlimit){ 4 * o.n + 64, 4 * o.n + 64 };
	fds = calloc(4 * o.n, sizeof(*fds));
	if (!fds || setrlimit(RLIMIT_NOFILE, &limit) < 0)
		fail("setrlimit");
	workload_ready(&o);
	if (strcmp(o.mode, "churn") == 0) {
		churn(&o);
	} else {
		open_pipes(fds, o.n);
		open_sockets(fds + 2 * o.n, o.n);
		printf("{\"opened\": %llu}\n", (unsigned long long)o.n);
		fflush(stdout);
		while (getchar() != '\n')
			;
		if (strcmp(o.mode, "child") == 0)
			close_in_child(fds, 4 * o.n);
		else
			close_all(fds, 4 * o.n);
	}
	free(fds);
	workload_result(&o, "\"closed\": %llu", (unsigned long long)(4 * o.n));
	return 0;
}
