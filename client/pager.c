/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pager.h"

#include <fcntl.h>
#include <langinfo.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static pid_t pager_pid;

/* Who came by sudo must not get a root shell out of less: LESSSECURE=1, and no other pager, for only less
 * knows it. */
static bool find_secure(bool *ret_told)
{
	const char *value = getenv("SYSTEMD_PAGERSECURE");
	bool b;

	*ret_told = value && parse_bool(value, &b) == 0;
	if (*ret_told)
		return b;
	return geteuid() == 0 && (getenv("SUDO_UID") || getenv("PKEXEC_UID"));
}

static const char *configured_pager(void)
{
	const char *pager = getenv("SYSTEMD_PAGER");

	return pager ? pager : getenv("PAGER");
}

static void exec_program(const char *program)
{
	char *const argv[] = { (char *)program, NULL };

	execvp(program, argv);
}

/* In the child: becomes the pager, or cat. */
static void __attribute__((noreturn)) become_pager(const char *pager, bool secure, bool secure_told)
{
	const char *less = getenv("SYSTEMD_LESS"), *charset = getenv("SYSTEMD_LESSCHARSET");

	setenv("LESS", less ? less : "FRSXMK", true);
	if (charset || streq(nl_langinfo(CODESET), "UTF-8"))
		setenv("LESSCHARSET", charset ? charset : "utf-8", true);
	if (secure)
		setenv("LESSSECURE", "1", true);
	else
		unsetenv("LESSSECURE");

	if (pager && (!secure || secure_told))
		execl("/bin/sh", "sh", "-c", pager, NULL);
	if (secure && !secure_told) {
		exec_program("less");
	} else {
		exec_program("pager");
		exec_program("less");
		exec_program("more");
	}
	exec_program("cat");
	_exit(EXIT_FAILURE);
}

void pager_open(void)
{
	const char *pager = configured_pager(), *term = getenv("TERM");
	_cleanup_close_ int read_end = -EBADF, write_end = -EBADF;
	bool secure, secure_told;
	pid_t parent = getpid();
	int fds[2];

	if (pager_pid > 0 || !isatty(STDOUT_FILENO) || !term || streq(term, "dumb"))
		return;
	if (pager && (streq(pager, "") || streq(pager, "cat")))
		return;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return;
	read_end = fds[0];
	write_end = fds[1];
	secure = find_secure(&secure_told);

	fflush(stdout);
	pager_pid = fork();
	if (pager_pid < 0)
		return;
	if (pager_pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		/* A pager whose writer was killed is left open on purpose only by the user's own hand. */
		if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent ||
		    dup2(read_end, STDIN_FILENO) < 0)
			_exit(EXIT_FAILURE);
		become_pager(pager, secure, secure_told);
	}
	if (dup2(write_end, STDOUT_FILENO) < 0)
		return;
	if (isatty(STDERR_FILENO))
		dup2(write_end, STDERR_FILENO);
}

void pager_close(void)
{
	int null_fd;

	if (pager_pid <= 0)
		return;
	fflush(stdout);
	/* The pager sees the end only when no copy of the pipe is open. */
	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null_fd >= 0) {
		dup2(null_fd, STDOUT_FILENO);
		dup2(null_fd, STDERR_FILENO);
		close(null_fd);
	} else {
		close(STDOUT_FILENO);
		close(STDERR_FILENO);
	}
	while (waitpid(pager_pid, NULL, 0) < 0 && errno == EINTR)
		;
	pager_pid = 0;
}
