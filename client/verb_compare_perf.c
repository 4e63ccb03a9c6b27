/* SPDX-License-Identifier: GPL-2.0-or-later */
/* compare-perf: what stackd and perf say of the same time, by function. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "flame_query.h"
#include "read_folded.h"
#include "show.h"
#include "show_stack.h"
#include "verbs.h"

#define FOR_DEFAULT_US (10 * USEC_PER_SEC)
#define FOR_MOST_US (600 * USEC_PER_SEC) /* of which the store surely keeps every second */
#define SETTLE_SECONDS 3                 /* until stackd has taken what the kernel counted and knows the names */
#define SHOWN_LEAST 0.02                 /* of either: a function with less is not compared */
#define DIFFERENCE_MOST 0.05
#define EXIT_NOT_FOUND 127               /* as of a shell */
#define LINES_DEFAULT 25

static const struct table_column columns[] = {
	{ "STACKD", .right = true },
	{ "PERF", .right = true },
	{ "DIFFERENCE", .right = true },
	{ "FUNCTION", .shrink = true },
};

enum side { BY_STACKD, BY_PERF, SIDES };

struct function {
	const char *name; /* of a frame */
	double share[SIDES];
};

struct paths {
	char directory[32], data[64], folded[64];
};

static void paths_done(struct paths *p)
{
	unlink(p->data);
	unlink(p->folded);
	rmdir(p->directory);
}

static bool paths_new(struct paths *p)
{
	strcpy(p->directory, "/tmp/stackctl-perf-XXXXXX");
	if (!mkdtemp(p->directory)) {
		log_error("Can't make a directory in /tmp: %s.", strerror(errno));
		return false;
	}
	snprintf(p->data, sizeof(p->data), "%s/perf.data", p->directory);
	snprintf(p->folded, sizeof(p->folded), "%s/folded", p->directory);
	return true;
}

/* Its stdout goes to a file of that path. */
static bool run(const char *const *command, const char *path, struct rusage *ret_used)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int status;
	pid_t pid;

	if (fd < 0 || (pid = fork()) < 0) {
		log_error("Can't run %s: %s.", command[0], strerror(errno));
		return false;
	}
	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		if (dup2(fd, STDOUT_FILENO) >= 0)
			execvp(command[0], (char *const *)command);
		_exit(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_FAILURE);
	}
	/* An interrupt ends the command; what is in our directory is then removed. */
	signal(SIGINT, SIG_IGN);
	while (wait4(pid, &status, 0, ret_used) < 0 && errno == EINTR)
		;
	signal(SIGINT, SIG_DFL);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NOT_FOUND)
		log_error("%s is needed for that, and is not installed or not in $PATH.", command[0]);
	else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		log_error("%s failed.", command[0]);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool record(const struct options *o, const struct paths *p, uint64_t for_us, struct rusage *ret_used)
{
	char pid[FORMAT_MAX], seconds[FORMAT_MAX];
	const char *command[] = { "perf", "record", "-q", "-F", "99", "-e", "cpu-clock", "-g", "-o", p->data,
		                  "-a", "--", "sleep", seconds, NULL, NULL };

	snprintf(seconds, sizeof(seconds), "%llu.%06llu", (unsigned long long)(for_us / USEC_PER_SEC),
	         (unsigned long long)(for_us % USEC_PER_SEC));
	if (o->given & OPTION_PID) {
		snprintf(pid, sizeof(pid), "--pid=%d", o->pid);
		command[10] = pid;
	}
	return run(command, p->folded, ret_used);
}

static bool read_perf(struct flame **ret, const struct paths *p)
{
	const char *command[] = { "stackd", "replay", "--folded", p->data, NULL };
	_cleanup_(flame_freep) struct flame *f = NULL;
	struct folded_error error;
	struct rusage used;
	FILE *file;
	int r;

	if (!run(command, p->folded, &used))
		return false;
	file = fopen(p->folded, "re");
	r = file ? flame_new(&f, FLAME_PLAIN) : negative_errno();
	if (r >= 0)
		r = read_folded(f, file, FLAME_VALUE, &error);
	if (r >= 0)
		r = flame_build(f);
	if (file)
		fclose(file);
	if (r < 0) {
		log_error("Can't read what perf recorded: %s.", strerror(-r));
		return false;
	}
	*ret = TAKE_PTR(f);
	return true;
}

struct sum {
	uint64_t *of_frames; /* by frame */
	uint64_t total;
};

/* What functions take themselves: how far out a walk comes depends on its method, stackd's is not perf's. */
static int add_stack(void *userdata, const struct flame *f, const uint32_t *path, size_t n)
{
	uint64_t value = f->nodes[path[n - 1]].self[FLAME_VALUE];
	struct sum *s = userdata;

	s->total += value;
	s->of_frames[f->nodes[path[n - 1]].frame] += value;
	return 0;
}

static int add_functions(struct function *functions, const struct flame *f, enum side side)
{
	_cleanup_free_ uint64_t *of_frames = calloc(f->n_frames + 1, sizeof(*of_frames));
	struct sum s = { .of_frames = of_frames };
	int r;

	if (!of_frames)
		return -ENOMEM;
	r = flame_each_stack(f, add_stack, &s);
	for (size_t i = 0; r >= 0 && i < f->n_frames; i++) {
		functions[i].name = f->frames[i].name;
		functions[i].share[side] = s.total > 0 ? (double)of_frames[i] / (double)s.total : 0;
	}
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct function *)a)->name, ((const struct function *)b)->name);
}

static double larger(const struct function *f)
{
	return MAX(f->share[BY_STACKD], f->share[BY_PERF]);
}

static int by_share(const void *a, const void *b)
{
	double x = larger(a), y = larger(b);

	return x < y ? 1 : x > y ? -1 : by_name(a, b);
}

/* One for each name, the largest first. Gives how many. */
static size_t merge(struct function *functions, size_t n)
{
	size_t kept = 0;

	qsort(functions, n, sizeof(*functions), by_name);
	for (size_t i = 0; i < n; i++) {
		if (kept > 0 && streq(functions[kept - 1].name, functions[i].name))
			for (enum side s = 0; s < SIDES; s++)
				functions[kept - 1].share[s] += functions[i].share[s];
		else
			functions[kept++] = functions[i];
	}
	qsort(functions, kept, sizeof(*functions), by_share);
	return kept;
}

static bool show(const struct options *o, const struct function *functions, size_t n, bool *ret_agree)
{
	_cleanup_(table_freep) struct table *t = show_table_new(o, columns, ELEMENTS_OF(columns));
	size_t lines = o->given & OPTION_LINES ? o->lines : LINES_DEFAULT, n_compared = 0, n_differ = 0;

	if (!t)
		return false;
	for (; n_compared < n && larger(&functions[n_compared]) > SHOWN_LEAST; n_compared++) {
		const struct function *f = &functions[n_compared];
		double difference = f->share[BY_STACKD] - f->share[BY_PERF];
		bool differs = difference > DIFFERENCE_MOST || difference < -DIFFERENCE_MOST;

		n_differ += differs;
		if (n_compared >= lines && !differs)
			continue;
		table_cellf(t, COLOUR_NONE, "%.1f%%", 100 * f->share[BY_STACKD]);
		table_cellf(t, COLOUR_NONE, "%.1f%%", 100 * f->share[BY_PERF]);
		table_cellf(t, differs ? COLOUR_RED : COLOUR_NONE, "%+.1f", 100 * difference);
		table_cell(t, COLOUR_NONE, f->name);
	}
	if (!show_table(o, t, "functions"))
		return false;
	*ret_agree = n_differ == 0;
	if (n_differ == 0)
		printf("\nThey agree within 5 points on all %zu functions above 2%%.\n", n_compared);
	else
		printf("\nThey differ by more than 5 points on %zu of %zu functions above 2%%.\n", n_differ, n_compared);
	return true;
}

static int compare(const struct options *o, const struct flame *ours, const struct flame *theirs)
{
	size_t n = ours->n_frames + theirs->n_frames;
	_cleanup_free_ struct function *functions = calloc(n + 1, sizeof(*functions));
	bool agree;
	int r = functions ? 0 : -ENOMEM;

	if (r >= 0)
		r = add_functions(functions, ours, BY_STACKD);
	if (r >= 0)
		r = add_functions(functions + ours->n_frames, theirs, BY_PERF);
	if (r < 0) {
		log_error("Can't compare: %s.", strerror(-r));
		return EXIT_FAILURE;
	}
	return show(o, functions, merge(functions, n), &agree) && agree ? EXIT_SUCCESS : EXIT_FAILURE;
}

static double cpu_seconds(const struct rusage *used)
{
	return (double)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) +
	       (double)(used->ru_utime.tv_usec + used->ru_stime.tv_usec) / USEC_PER_SEC;
}

int verb_compare_perf(const struct options *o, char **args _unused_)
{
	_cleanup_(flame_meta_done) struct flame_meta meta = {};
	_cleanup_(flame_freep) struct flame *ours = NULL, *theirs = NULL;
	_cleanup_(paths_done) struct paths paths = {};
	uint64_t for_us = o->given & OPTION_FOR ? o->for_us : FOR_DEFAULT_US;
	struct options asked = *o;
	struct rusage used;

	if (for_us < USEC_PER_SEC || for_us > FOR_MOST_US) {
		log_error("compare-perf takes --for from 1s to 10min.");
		return EXIT_FAILURE;
	}
	if (o->json != JSON_OFF) {
		log_error("compare-perf does not take --json.");
		return EXIT_FAILURE;
	}
	if (!paths_new(&paths))
		return EXIT_FAILURE;
	asked.since_us = clock_realtime_us();
	if (!record(o, &paths, for_us, &used))
		return EXIT_FAILURE;
	asked.until_us = asked.now_us = clock_realtime_us();
	asked.given = (asked.given & OPTION_PID) | OPTION_RANGE;
	sleep(SETTLE_SECONDS);
	if (!flame_of_window(&ours, &meta, &asked) || !read_perf(&theirs, &paths))
		return EXIT_FAILURE;
	if (ours->nodes[0].width == 0 || theirs->nodes[0].width == 0) {
		log_error("%s recorded nothing of that: there is nothing to compare.", ours->nodes[0].width == 0 ? "stackd" : "perf");
		return EXIT_FAILURE;
	}
	show_begin(o);
	for (size_t i = 0; i < meta.n_notes; i++)
		printf("stackd: %s\n", meta.notes[i]);
	printf("perf: %llu samples, %.2fs of CPU time to record them\n\n", (unsigned long long)theirs->nodes[0].total[FLAME_VALUE],
	       cpu_seconds(&used));
	return compare(o, ours, theirs);
}
