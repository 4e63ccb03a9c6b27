/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "perf_run.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "read_folded.h"

#define EXIT_NOT_FOUND 127     /* as of a shell */
#define READY_TIMEOUT_MS 10000 /* until perf is recording */
#define HZ "199"
#define STRING_OF(x) STRING_OF_(x)
#define STRING_OF_(x) #x

void perf_run_done(struct perf_run *p)
{
	close_fd(p->control);
	close_fd(p->answers);
	unlink(p->data);
	unlink(p->text);
	rmdir(p->directory);
}

bool perf_run_new(struct perf_run *p)
{
	*p = (struct perf_run){ .directory = "/tmp/stackctl-perf-XXXXXX", .control = -EBADF, .answers = -EBADF };
	if (!mkdtemp(p->directory)) {
		log_error("Can't make a directory in /tmp: %s.", strerror(errno));
		return false;
	}
	snprintf(p->data, sizeof(p->data), "%s/perf.data", p->directory);
	snprintf(p->text, sizeof(p->text), "%s/text", p->directory);
	return true;
}

/* ---- processes ---- */

/* Its stdout goes to a file of that path. */
static pid_t start(const char *const *command, const char *path)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	pid_t pid = fd < 0 ? -1 : fork();

	if (pid < 0)
		log_error("Can't run %s: %s.", command[0], strerror(errno));
	if (pid != 0)
		return pid;
	signal(SIGPIPE, SIG_DFL);
	if (dup2(fd, STDOUT_FILENO) >= 0)
		execvp(command[0], (char *const *)command);
	_exit(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_FAILURE);
}

static bool await(pid_t pid, const char *name, struct rusage *ret_used)
{
	int status = 0;

	/* An interrupt ends the command; what is in our directory is then removed. */
	signal(SIGINT, SIG_IGN);
	while (wait4(pid, &status, 0, ret_used) < 0 && errno == EINTR)
		;
	signal(SIGINT, SIG_DFL);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NOT_FOUND)
		log_error("%s is needed for that, and is not installed or not in $PATH.", name);
	else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		log_error("%s failed.", name);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool run(const char *const *command, const char *path, struct rusage *ret_used)
{
	pid_t pid = start(command, path);

	return pid > 0 && await(pid, command[0], ret_used);
}

/* ---- recording ---- */

bool perf_run_window(struct perf_run *p, pid_t pid, uint64_t for_us)
{
	char of[FORMAT_MAX] = "-a", seconds[FORMAT_MAX];
	const char *command[] = { "perf", "record", "-q", "-F", HZ, "-e", "cpu-clock", "--call-graph", "dwarf," STRING_OF(PERF_COPY_BYTES),
		                  "-o", p->data, of, "--", "sleep", seconds, NULL };
	bool good;

	snprintf(seconds, sizeof(seconds), "%llu.%06llu", (unsigned long long)(for_us / USEC_PER_SEC),
	         (unsigned long long)(for_us % USEC_PER_SEC));
	if (pid > 0)
		snprintf(of, sizeof(of), "--pid=%d", pid);
	p->since_us = clock_realtime_us();
	good = run(command, p->text, &p->used);
	p->until_us = clock_realtime_us();
	return good;
}

/* Runs when the other end of the pipe is told so, or isn't run at all. */
static pid_t start_held(char **command, bool to_stderr, int *ret_go)
{
	int ends[2];
	char go;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		close(ends[1]);
		if (read(ends[0], &go, 1) != 1)
			_exit(EXIT_FAILURE);
		signal(SIGPIPE, SIG_DFL);
		if (to_stderr)
			dup2(STDERR_FILENO, STDOUT_FILENO);
		execvp(command[0], command);
		log_error("Can't run %s: %s.", command[0], strerror(errno));
		_exit(EXIT_NOT_FOUND);
	}
	close(ends[0]);
	*ret_go = ends[1];
	return pid;
}

/* perf says when it has done what it was told (perf-record(1), --control). */
static bool enable(int control, int answers)
{
	static const char word[] = "enable\n";
	struct pollfd p = { .fd = answers, .events = POLLIN };
	char answer[8];

	return write(control, word, strlen(word)) == (ssize_t)strlen(word) && poll(&p, 1, READY_TIMEOUT_MS) == 1 &&
	       read(answers, answer, sizeof(answer)) >= 3 && strncmp(answer, "ack", 3) == 0;
}

/* Gives perf's pid, when it is recording what the process does. */
static pid_t start_recording(struct perf_run *p, pid_t of_pid)
{
	char of[FORMAT_MAX], control[FORMAT_MAX];
	const char *command[] = { "perf", "record", "-q", "-F", HZ, "-e", "cpu-clock", "--call-graph", "dwarf," STRING_OF(PERF_COPY_BYTES),
		                  "-o", p->data, "--delay=-1", control, of, NULL };
	int words[2] = { -EBADF, -EBADF }, answers[2] = { -EBADF, -EBADF };
	pid_t pid = -1;
	bool good;

	if (pipe(words) >= 0 && pipe(answers) >= 0) {
		fcntl(words[1], F_SETFD, FD_CLOEXEC);
		fcntl(answers[0], F_SETFD, FD_CLOEXEC);
		snprintf(of, sizeof(of), "--pid=%d", of_pid);
		snprintf(control, sizeof(control), "--control=fd:%d,%d", words[0], answers[1]);
		pid = start(command, p->text);
		p->control = TAKE_FD(words[1]);
		p->answers = TAKE_FD(answers[0]);
	}
	close_fd(words[0]);
	close_fd(words[1]);
	close_fd(answers[1]);
	good = pid > 0 && enable(p->control, p->answers);
	if (pid > 0 && !good) {
		kill(pid, SIGTERM);
		if (await(pid, "perf", &p->used))
			log_error("perf did not begin to record.");
		return -1;
	}
	return pid;
}

bool perf_run_command(struct perf_run *p, char **command, bool to_stderr)
{
	int go = -EBADF;
	pid_t held = start_held(command, to_stderr, &go), perf;
	bool good;

	if (held < 0) {
		log_error("Can't run %s: %s.", command[0], strerror(errno));
		return false;
	}
	signal(SIGPIPE, SIG_IGN);
	perf = start_recording(p, held);
	p->since_us = clock_realtime_us();
	good = perf > 0 && write(go, "", 1) == 1;
	close_fd(go);
	signal(SIGINT, SIG_IGN); /* it is for the command */
	while (waitpid(held, &p->command_status, 0) < 0 && errno == EINTR)
		;
	p->until_us = clock_realtime_us();
	signal(SIGINT, SIG_DFL);
	return perf > 0 && await(perf, "perf", &p->used) && good;
}

/* ---- what was recorded ---- */

struct tally {
	pid_t pid;
	uint64_t samples;
};

static int by_samples(const void *a, const void *b)
{
	const struct tally *x = a, *y = b;

	return (x->samples < y->samples) - (x->samples > y->samples);
}

/* One line for each sample. */
static int count_pids(FILE *file, struct tally **ret, size_t *ret_n)
{
	_cleanup_free_ struct tally *all = NULL;
	size_t n = 0;
	int pid;

	while (fscanf(file, "%d", &pid) == 1) {
		struct tally *more;
		size_t i = 0;

		while (i < n && all[i].pid != pid)
			i++;
		if (i == n) {
			more = reallocarray(all, n + 1, sizeof(*more));
			if (!more)
				return -ENOMEM;
			all = more;
			all[n++] = (struct tally){ .pid = pid };
		}
		all[i].samples++;
	}
	if (n > 0)
		qsort(all, n, sizeof(*all), by_samples);
	*ret = TAKE_PTR(all);
	*ret_n = n;
	return 0;
}

bool perf_run_pids(struct perf_run *p)
{
	const char *command[] = { "perf", "script", "-i", p->data, "-F", "pid", NULL };
	_cleanup_free_ struct tally *all = NULL;
	_cleanup_fclose_ FILE *file = NULL;
	struct rusage used;
	size_t n = 0;

	if (!run(command, p->text, &used))
		return false;
	file = fopen(p->text, "re");
	if (!file || count_pids(file, &all, &n) < 0) {
		log_error("Can't read which processes perf recorded: %s.", strerror(errno));
		return false;
	}
	p->n_pids = MIN(n, (size_t)PERF_PIDS_MAX);
	p->left_out = n - p->n_pids;
	for (size_t i = 0; i < p->n_pids; i++)
		p->pids[i] = all[i].pid;
	return true;
}

/* Of each kind of record perf counts how many there are, and of lost ones how many they stand for. */
static bool read_lost(struct perf_run *p)
{
	const char *command[] = { "perf", "report", "-i", p->data, "--stats", NULL };
	_cleanup_fclose_ FILE *file = NULL;
	unsigned long long n;
	struct rusage used;
	char line[256];

	if (!run(command, p->text, &used))
		return false;
	file = fopen(p->text, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (strstr(line, " stats:") && !strstr(line, "Aggregated"))
			break; /* of one event; before it, of all */
		if (sscanf(line, " LOST events: %llu", &n) == 1 || sscanf(line, " LOST_SAMPLES events: %llu", &n) == 1)
			p->lost += n;
		else if (sscanf(line, " SAMPLE events: %llu", &n) == 1)
			p->samples = n;
	}
	return file;
}

bool perf_run_read(struct perf_run *p, struct flame **ret)
{
	const char *command[] = { "stackd", "replay", "--folded", p->data, NULL };
	_cleanup_(flame_freep) struct flame *f = NULL;
	_cleanup_fclose_ FILE *file = NULL;
	struct folded_error error;
	struct rusage used;
	int r;

	if (!read_lost(p) || !run(command, p->text, &used))
		return false;
	file = fopen(p->text, "re");
	r = file ? flame_new(&f, FLAME_PLAIN) : negative_errno();
	if (r >= 0)
		r = read_folded(f, file, FLAME_VALUE, &error);
	if (r >= 0)
		r = flame_build(f);
	if (r < 0) {
		log_error("Can't read what perf recorded: %s.", strerror(-r));
		return false;
	}
	*ret = TAKE_PTR(f);
	return true;
}
