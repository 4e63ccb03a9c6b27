/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "imports.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define MAGIC "stackd import 2\n"
#define LINE_MAX_SIZE (64U << 10)
#define HEAD_MAX (sizeof(MAGIC) + LINE_MAX_SIZE)
#define EXIT_NOT_FOUND 127 /* as of a shell */
#define BACKLOG 16
#define READY_MS (60 * 1000)

/* ---- where they are ---- */

static bool directory_path(char path[static PATH_MAX])
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int n;

	/* The specification has relative ones ignored. */
	if (cache && cache[0] == '/')
		n = snprintf(path, PATH_MAX, "%s/stackd/imports", cache);
	else if (home && home[0] == '/')
		n = snprintf(path, PATH_MAX, "%s/.cache/stackd/imports", home);
	else {
		log_error("Imports are kept in $XDG_CACHE_HOME or $HOME/.cache, and neither is set.");
		return false;
	}
	if (n >= PATH_MAX) {
		log_error("The path of imports is too long.");
		return false;
	}
	return true;
}

static int make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		int r;

		*slash = '\0';
		r = mkdir(path, 0700) < 0 && errno != EEXIST ? negative_errno() : 0;
		*slash = '/';
		if (r < 0)
			return r;
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? negative_errno() : 0;
}

/* -ENOENT without a message when it isn't there and is not to be made. */
static int open_directory(bool make, char path[static PATH_MAX])
{
	int fd, r;

	if (!directory_path(path))
		return -EINVAL;
	r = make ? make_parents(path) : 0;
	fd = r < 0 ? r : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && r >= 0)
		fd = negative_errno();
	if (fd < 0 && (make || fd != -ENOENT))
		log_error("Can't open %s: %s.", path, strerror(-fd));
	return fd;
}

bool import_name_is_valid(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n > IMPORT_NAME_MAX || !isalnum((unsigned char)name[0]) || strstr(name, ".."))
		return false;
	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("._-+", *c))
			return false;
	return true;
}

static bool check_name(const char *name)
{
	if (import_name_is_valid(name))
		return true;
	log_error("\"%s\" is no name of an import: up to %d letters, digits, \".\", \"_\", \"-\" and \"+\", of which the first is a letter or digit, "
		  "without \"..\".", name, IMPORT_NAME_MAX);
	return false;
}

/* ---- what they are ---- */

static void read_about(int fd, struct import_entry *e)
{
	_cleanup_free_ char *head = malloc(HEAD_MAX + 1);
	ssize_t n = head ? pread(fd, head, HEAD_MAX, 0) : -1;
	size_t magic = strlen(MAGIC);
	char *end;

	e->fault = "damaged";
	if (n < (ssize_t)magic)
		return;
	head[n] = '\0';
	if (strncmp(head, MAGIC, magic) != 0) {
		if (strncmp(head, MAGIC, strcspn(MAGIC, "0123456789")) == 0)
			e->fault = "of another version";
		return;
	}
	end = memchr(head + magic, '\n', (size_t)n - magic);
	if (end && json_parse(head + magic, (size_t)(end - head) - magic, &e->about, NULL) >= 0)
		e->fault = NULL;
}

/* It names programs and their functions, and is believed: only the user's own will do. */
static bool read_entry(int dir, const char *name, struct import_entry *ret)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct import_entry e = {};
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return false;
	copy_string(e.name, sizeof(e.name), name);
	if (fd < 0 || fstat(fd, &st) < 0)
		e.fault = "not readable";
	else if (!S_ISREG(st.st_mode))
		e.fault = "no file";
	else if (st.st_uid != geteuid())
		e.fault = "somebody else's";
	else if (st.st_mode & (S_IWGRP | S_IWOTH))
		e.fault = "writable by others";
	else
		read_about(fd, &e);
	e.size = fd >= 0 && !e.fault ? (uint64_t)st.st_size : 0;
	*ret = e;
	return true;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct import_entry *)a)->name, ((const struct import_entry *)b)->name);
}

bool imports_list(struct imports *ret)
{
	struct imports all = {};
	char path[PATH_MAX];
	int fd = open_directory(false, path);
	struct dirent *entry;
	DIR *dir;

	*ret = all;
	if (fd < 0)
		return fd == -ENOENT;
	dir = fdopendir(fd);
	if (!dir) {
		log_error("Can't read %s: %s.", path, strerror(errno));
		close(fd);
		return false;
	}
	while ((entry = readdir(dir))) {
		if (!import_name_is_valid(entry->d_name))
			continue;
		if (all.n == IMPORTS_MAX)
			all.more = true;
		else if (read_entry(fd, entry->d_name, &all.entries[all.n]))
			all.size += all.entries[all.n++].size;
	}
	closedir(dir);
	qsort(all.entries, all.n, sizeof(*all.entries), by_name);
	*ret = all;
	return true;
}

void imports_done(struct imports *i)
{
	for (size_t k = 0; k < i->n; k++)
		i->entries[k].about = json_free(i->entries[k].about);
}

/* The directory of the import of that name; *ret_fd is negative when there is none. */
static bool find_directory(const char *name, int *ret_fd, char path[static PATH_MAX])
{
	if (!check_name(name))
		return false;
	*ret_fd = open_directory(false, path);
	return *ret_fd >= 0 || *ret_fd == -ENOENT;
}

static void tell_missing(const char *name)
{
	log_error("There is no import \"%s\". See: stackctl import", name);
}

bool import_look(const char *name, struct import_entry *ret)
{
	_cleanup_close_ int dir = -EBADF;
	struct import_entry e = {};
	char path[PATH_MAX];

	if (!find_directory(name, &dir, path))
		return false;
	if (dir < 0 || !read_entry(dir, name, &e)) {
		tell_missing(name);
		return false;
	}
	if (e.fault) {
		log_error("The import \"%s\" is %s: remove it (stackctl import --remove %s), and import the recording again.", name, e.fault, name);
		return false;
	}
	*ret = e;
	return true;
}

bool import_exists(const char *name)
{
	char path[PATH_MAX];
	int dir, r;

	if (!import_name_is_valid(name))
		return false;
	dir = open_directory(false, path);
	r = dir < 0 ? dir : faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW);
	close_fd(dir);
	return r >= 0;
}

bool import_remove(const char *name)
{
	_cleanup_close_ int dir = -EBADF;
	char path[PATH_MAX];

	if (!find_directory(name, &dir, path))
		return false;
	if (dir >= 0 && unlinkat(dir, name, 0) == 0)
		return true;
	if (dir < 0 || errno == ENOENT)
		tell_missing(name);
	else
		log_error("Can't remove %s/%s: %s.", path, name, strerror(errno));
	return false;
}

/* ---- stackd, as a process of the user ---- */

/* It is beside other administrators' programs, which users' $PATH may lack. */
static void execute_stackd(const char *const *command)
{
	execvp("stackd", (char *const *)command);
	if (errno == ENOENT)
		execv(STACKD_PROGRAM, (char *const *)command);
	_exit(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_FAILURE);
}

static bool wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NOT_FOUND)
		log_error("stackd is needed for that, and is neither in $PATH nor in " STACKD_PROGRAM ".");
	else if (WIFSIGNALED(status))
		log_error("stackd was ended by signal %d (%s).", WTERMSIG(status), strsignal(WTERMSIG(status)));
	return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
}

static bool run_replay(const char *const *command, int out)
{
	bool good;
	pid_t pid = fork();

	if (pid < 0) {
		log_error("Can't run stackd: %s.", strerror(errno));
		return false;
	}
	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		if (dup2(out, STDOUT_FILENO) >= 0)
			execute_stackd(command);
		_exit(EXIT_FAILURE);
	}
	/* An interrupt ends it, and with it what it has written, which has no name yet. */
	signal(SIGINT, SIG_IGN);
	good = wait_for(pid);
	signal(SIGINT, SIG_DFL);
	return good;
}

/* ---- one more ---- */

static bool has_room(uint64_t *ret_size_max)
{
	struct imports all;
	bool good;

	if (!imports_list(&all))
		return false;
	good = all.n < IMPORTS_MAX && !all.more && all.size < IMPORTS_SIZE_MAX;
	*ret_size_max = MIN(IMPORT_SIZE_MAX, IMPORTS_SIZE_MAX - MIN(all.size, IMPORTS_SIZE_MAX));
	imports_done(&all);
	if (!good)
		log_error("There are %zu imports of %llu MiB, and may be %d of %llu: remove some (stackctl import --remove NAME).", all.n,
			  (unsigned long long)(all.size >> 20), IMPORTS_MAX, IMPORTS_SIZE_MAX >> 20);
	return good;
}

/* It has none as yet. */
static bool give_name(int dir, const char *path, int file, const char *name, uint64_t size_max)
{
	char source[64];
	struct stat st;

	if (fstat(file, &st) == 0 && (uint64_t)st.st_size > size_max) {
		log_error("The import would have %llu KiB, and there is room for %llu: remove some (stackctl import --remove NAME), or record less.",
			  (unsigned long long)st.st_size >> 10, (unsigned long long)size_max >> 10);
		return false;
	}
	snprintf(source, sizeof(source), "/proc/self/fd/%d", file);
	if (fsync(file) == 0 && linkat(AT_FDCWD, source, dir, name, AT_SYMLINK_FOLLOW) == 0)
		return true;
	if (errno == EEXIST)
		log_error("There is an import \"%s\" already: choose another --name, or remove it (stackctl import --remove %s).", name, name);
	else
		log_error("Can't write %s/%s: %s.", path, name, strerror(errno));
	return false;
}

const char *import_name(const struct options *o, const char *file)
{
	const char *slash = strrchr(file, '/');

	if (o->given & OPTION_NAME)
		return o->name;
	return slash ? slash + 1 : file;
}

bool import_add(const struct options *o, const char *file)
{
	const char *command[10] = { "stackd", "replay", "--import" }, *name = import_name(o, file);
	_cleanup_close_ int dir = -EBADF, out = -EBADF;
	char path[PATH_MAX];
	uint64_t size_max;
	size_t n = 3;

	if (o->given & OPTION_METRIC) {
		command[n++] = "--metric";
		command[n++] = metric_to_string(o->metric);
	}
	if (o->given & OPTION_EVENT) {
		command[n++] = "--event";
		command[n++] = o->event;
	}
	command[n++] = "--";
	command[n++] = file;
	if (!(o->given & OPTION_NAME) && streq(file, "-")) {
		log_error("What comes from the standard input needs a --name.");
		return false;
	}
	if (!check_name(name) || !has_room(&size_max))
		return false;
	dir = open_directory(true, path);
	if (dir < 0)
		return false;
	if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		log_error("There is an import \"%s\" already: choose another --name, or remove it (stackctl import --remove %s).", name, name);
		return false;
	}
	/* Without a name it goes as we do. */
	out = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (out < 0) {
		log_error("Can't write to %s: %s.", path, strerror(errno));
		return false;
	}
	return run_replay(command, out) && give_name(dir, path, out, name, size_max);
}

/* ---- asked of ---- */

bool import_choose(struct options *o)
{
	struct import_entry e;
	const char *clock = "";
	bool good;

	if (!import_look(o->import, &e))
		return false;
	good = json_get_string(e.about, "clock", &clock) > 0 && json_get_u64(e.about, "since_us", &o->recorded_since_us) > 0 &&
	       json_get_u64(e.about, "until_us", &o->recorded_until_us) > 0;
	o->recorded_timed = !streq(clock, "none");
	json_free(e.about);
	if (!good)
		log_error("The import \"%s\" is damaged: remove it (stackctl import --remove %s), and import the recording again.", o->import, o->import);
	o->now_us = good ? o->recorded_until_us : o->now_us;
	return good;
}

/* A socket that only we and whom we fork can find: it has no name any more. Gives a path by which it is reached. */
static int listen_somewhere(char *ret_path, size_t size)
{
	char directory[] = "/tmp/stackctl-XXXXXX";
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), place, r;

	if (fd < 0 || !mkdtemp(directory)) {
		r = negative_errno();
		close_fd(fd);
		return r;
	}
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", directory);
	r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0 ? negative_errno() : 0;
	place = r < 0 ? r : open(address.sun_path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	if (r >= 0 && place < 0)
		r = negative_errno();
	unlink(address.sun_path);
	rmdir(directory);
	if (r < 0) {
		close(fd);
		return r;
	}
	snprintf(ret_path, size, "/proc/self/fd/%d", place);
	return fd;
}

/* The descriptor stays open until we end: then the server ends, too. */
static bool wait_until_ready(pid_t pid, int from)
{
	struct pollfd p = { .fd = from, .events = POLLIN };
	char buf[16];

	if (poll(&p, 1, READY_MS) > 0 && read(from, buf, sizeof(buf)) > 0)
		return true;
	kill(pid, SIGTERM);
	/* It has said why. */
	(void)wait_for(pid);
	return false;
}

bool import_serve(struct options *o)
{
	char directory[PATH_MAX], path[PATH_MAX + IMPORT_NAME_MAX + 1];
	const char *command[] = { "stackd", "serve", path, NULL };
	int ready[2], fd;
	pid_t pid;

	if (!directory_path(directory))
		return false;
	snprintf(path, sizeof(path), "%s/%s", directory, o->import);
	fd = listen_somewhere(o->served, sizeof(o->served));
	if (fd < 0 || pipe2(ready, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		log_error("Can't run stackd: %s.", strerror(fd < 0 ? -fd : errno));
		close_fd(fd);
		return false;
	}
	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		signal(SIGINT, SIG_IGN); /* ours to act on */
		if (dup2(fd, STDIN_FILENO) >= 0 && dup2(ready[1], STDOUT_FILENO) >= 0)
			execute_stackd(command);
		_exit(EXIT_FAILURE);
	}
	close(fd);
	close(ready[1]);
	o->socket = o->served;
	return wait_until_ready(pid, ready[0]);
}

const char *import_words(const struct options *o, char buf[static IMPORT_WORDS_MAX])
{
	buf[0] = '\0';
	if (o->import)
		snprintf(buf, IMPORT_WORDS_MAX, " --import %s", o->import);
	return buf;
}
