/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "conf.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "parser.h"
#include "table.h"

#define DROP_INS_MAX 128 /* files in stackd.conf.d: with CONF_FILE_MAX it bounds what a load reads */

static bool is_dev_null(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

static int load_file(struct conf_parser *p, const char *path, bool optional)
{
	_cleanup_free_ char *text = NULL;
	struct stat st;
	size_t size;
	int r;

	/* A FIFO would block the daemon, and a device could do anything; /dev/null masks a drop-in, as in systemd. */
	if (stat(path, &st) < 0) {
		r = negative_errno();
		if (r == -ENOENT && optional)
			return 0;
		return conf_fail(p, r, path, 0, "cannot be read: %s", strerror(-r));
	}
	if (is_dev_null(&st))
		return 0;
	if (!S_ISREG(st.st_mode))
		return conf_fail(p, -EINVAL, path, 0, "not a regular file");

	r = read_small_file(AT_FDCWD, path, CONF_FILE_MAX, &text, &size);
	if (r == -EFBIG)
		return conf_fail(p, r, path, 0, "larger than %d bytes", CONF_FILE_MAX);
	if (r < 0)
		return conf_fail(p, r, path, 0, "cannot be read: %s", strerror(-r));
	return conf_parse(p, path, text, size);
}

static int is_drop_in(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name);

	/* Hidden names are what editors and package managers leave behind. */
	return entry->d_name[0] != '.' && n > 5 && streq(entry->d_name + n - 5, ".conf");
}

/* Not alphasort(), which sorts by the locale. */
static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int load_drop_ins(struct conf_parser *p, const char *path)
{
	_cleanup_free_ char *dir = NULL;
	struct dirent **entries;
	int n, r = 0;

	if (asprintf(&dir, "%s.d", path) < 0) {
		dir = NULL;
		return -ENOMEM;
	}

	n = scandir(dir, &entries, is_drop_in, by_bytes);
	if (n < 0) {
		r = negative_errno();
		return r == -ENOENT ? 0 : conf_fail(p, r, dir, 0, "cannot be read: %s", strerror(-r));
	}
	if (n > DROP_INS_MAX)
		r = conf_fail(p, -E2BIG, dir, 0, "holds more than %d files", DROP_INS_MAX);
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *file = NULL;

		if (r >= 0 && asprintf(&file, "%s/%s", dir, entries[i]->d_name) < 0) {
			file = NULL;
			r = -ENOMEM;
		}
		if (r >= 0)
			r = load_file(p, file, false);
		free(entries[i]);
	}
	free(entries);
	return r;
}

int conf_load(const char *path, bool optional, struct conf *ret, char **ret_error)
{
	struct conf_parser p;
	int r;

	conf_parser_init(&p);
	r = load_file(&p, path, optional);
	if (r >= 0)
		r = load_drop_ins(&p, path);
	if (r >= 0)
		r = conf_finish(&p);

	if (r >= 0)
		*ret = p.conf;
	else if (p.error)
		*ret_error = TAKE_PTR(p.error);
	else
		*ret_error = strdup(strerror(-r)); /* out of memory, so that this may well be NULL */
	conf_parser_done(&p);
	return MIN(r, 0);
}

int conf_restart_needed(const struct conf *a, const struct conf *b, char **ret)
{
	_cleanup_free_ char *names = strdup("");

	if (!names)
		return -ENOMEM;
	for (size_t i = 0; i < n_conf_keys; i++) {
		const struct conf_key *key = conf_keys + i;
		char *longer;

		if (!key->restart || conf_key_equal(key, a, b))
			continue;
		if (asprintf(&longer, "%s%s%s=", names, *names ? " " : "", key->name) < 0)
			return -ENOMEM;
		free(names);
		names = longer;
	}
	*ret = TAKE_PTR(names);
	return 0;
}
