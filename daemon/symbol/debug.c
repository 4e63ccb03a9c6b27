/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>

#include "debug.h"

#define DEBUG_DIRECTORY "/usr/lib/debug"
/* What was fetched by build ID (systemd/stackd-debuginfod.in). */
#define FETCHED_DIRECTORY "/var/cache/stackd/debug"

struct search {
	const struct object *object;
	int root;
	may_block_fn may_block;
	void *userdata;
};

static int try_path(const struct search *s, const char *path)
{
	struct stat st;
	_cleanup_close_ int fd = rooted_find(s->root, path, s->may_block, s->userdata, &st);

	if (fd < 0)
		return fd;
	if (st.st_uid != 0 && st.st_uid != s->object->owner)
		return -EPERM;
	return rooted_open(fd);
}

static int try_build_id(const struct search *s, const char *directory)
{
	const struct object *object = s->object;
	char path[sizeof(FETCHED_DIRECTORY) + 32 + 2 * PARSER_BUILD_ID_MAX];
	int n;

	if (object->build_id_size < 2)
		return -ENOENT;
	n = snprintf(path, sizeof(path), "%s/.build-id/%02x/", directory, object->build_id[0]);
	for (size_t i = 1; i < object->build_id_size; i++)
		n += snprintf(path + n, sizeof(path) - (size_t)n, "%02x", object->build_id[i]);
	snprintf(path + n, sizeof(path) - (size_t)n, ".debug");
	return try_path(s, path);
}

static int try_link(const struct search *s, const char *object_path)
{
	static const struct {
		const char *before, *behind;
	} places[] = { { "", "/" }, { "", "/.debug/" }, { DEBUG_DIRECTORY, "/" } };
	const char *slash = strrchr(object_path, '/');
	char path[4096 + 256];

	if (s->object->debug_link[0] == '\0' || object_path[0] != '/' || slash - object_path >= 4096)
		return -ENOENT;
	for (size_t i = 0; i < ELEMENTS_OF(places); i++) {
		int fd;

		snprintf(path, sizeof(path), "%s%.*s%s%s", places[i].before, (int)(slash - object_path), object_path,
			 places[i].behind, s->object->debug_link);
		fd = try_path(s, path);
		if (fd >= 0)
			return fd;
	}
	return -ENOENT;
}

/* It is the host's own directory. */
static bool never_blocks(void *userdata _unused_, dev_t device _unused_)
{
	return false;
}

int debug_file_open(const struct object *object, const char *path, int process_fd, may_block_fn may_block, void *userdata)
{
	_cleanup_close_ int host = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC),
			    root = process_fd < 0 ? -EBADF
						  : openat(process_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	const int roots[] = { host, root };
	int fd = -ENOENT;

	for (size_t i = 0; i < ELEMENTS_OF(roots) && fd < 0; i++) {
		const struct search s = { object, roots[i], may_block, userdata };

		if (roots[i] >= 0)
			fd = try_build_id(&s, DEBUG_DIRECTORY);
		if (fd < 0 && roots[i] == host && host >= 0)
			fd = try_build_id(&s, FETCHED_DIRECTORY);
	}
	/* The path is as seen from the process's root. */
	for (size_t i = ELEMENTS_OF(roots); i-- > 0 && fd < 0;) {
		const struct search s = { object, roots[i], may_block, userdata };

		if (roots[i] >= 0)
			fd = try_link(&s, path);
	}
	return fd;
}

int debug_common_open(const char *link)
{
	static const char directory[] = "/.dwz/";
	_cleanup_close_ int host = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *name = strstr(link, directory);
	const struct object nobodys = {};
	const struct search s = { .object = &nobodys, .root = host, .may_block = never_blocks };
	char path[sizeof(DEBUG_DIRECTORY) + PARSER_PATH_MAX];

	if (host < 0 || !name)
		return -ENOENT;
	snprintf(path, sizeof(path), DEBUG_DIRECTORY "%s", name);
	return try_path(&s, path);
}
