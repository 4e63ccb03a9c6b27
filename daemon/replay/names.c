/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "names.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "debug.h"
#include "helper.h"
#include "objects.h"
#include "rooted.h"

#define OBJECTS_MAX 4096
#define FUNCTIONS_MAX (1U << 20)
#define WAIT_NS (30 * NSEC_PER_SEC) /* a stack for its names; the parser answers within ten seconds or is replaced */
#define WAIT_STEP_MS 1000
#define PATH_SIZE_MAX 4096

/* Where a file is looked for, one after the other until its build ID is right. */
enum place { PLACE_PATH, PLACE_KEPT, PLACE_DEBUG, PLACE_NONE };

struct file {
	char *path;
	char *base;    /* name */
	char *unnamed; /* "[base name]" */
	struct perfdata_build_id build_id;
	char build_id_text[2 * PERFDATA_BUILD_ID_MAX + 1]; /* in hexadecimal */
	enum place place;
	uint64_t object; /* objects.h; 0 = not opened there yet */
};

struct names {
	struct helper *helper;
	struct objects *objects;
	struct map64 *index; /* hash of path and build ID → file */
	struct file *files;  /* the first is nobody's */
	size_t n_files;
};

int names_new(struct names **ret, struct helper *helper)
{
	_cleanup_(names_freep) struct names *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return -ENOMEM;
	n->helper = helper;
	n->files = calloc(NAMES_FILES_MAX, sizeof(*n->files));
	if (!n->files)
		return -ENOMEM;
	n->n_files = 1;
	n->files[0].place = PLACE_NONE;
	r = map64_new(&n->index, NAMES_FILES_MAX);
	if (r >= 0)
		r = objects_new(&n->objects, OBJECTS_MAX, FUNCTIONS_MAX, helper);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(n);
	return 0;
}

struct names *names_free(struct names *n)
{
	if (!n)
		return NULL;
	for (size_t i = 0; i < n->n_files; i++) {
		free(n->files[i].path);
		free(n->files[i].unnamed);
		free(n->files[i].base);
	}
	free(n->files);
	map64_free(n->index);
	objects_free(n->objects);
	free(n);
	return NULL;
}

/* What is no file: memory that code was made in, and what the kernel maps. */
static bool is_file(const char *path)
{
	return path[0] == '/' && strncmp(path, "//anon", 6) != 0 && strncmp(path, "/memfd:", 7) != 0 && strncmp(path, "/dev/", 5) != 0 &&
		strncmp(path, "/SYSV", 5) != 0 && strncmp(path, "/anon_hugepage", 14) != 0;
}

static char *make_base(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *s = strdup(path[0] == '/' && !is_file(path) ? "[anon]" : slash ? slash + 1 : path);

	if (s)
		sanitize_name(s);
	return s;
}

static char *make_unnamed(const char *base)
{
	char *s = NULL;

	return base && asprintf(&s, base[0] == '[' ? "%s" : "[%s]", base) >= 0 ? s : NULL;
}

uint64_t names_add_file(struct names *n, const char *path, struct perfdata_build_id id)
{
	uint64_t key = hash64(id.bytes, id.size, hash64_string(path, 0)), number;
	struct file *file = &n->files[n->n_files];

	if (map64_get(n->index, key, &number))
		return number;
	if (n->n_files == NAMES_FILES_MAX || strlen(path) >= PATH_SIZE_MAX)
		return 0;
	*file = (struct file){
		.path = strdup(path),
		.base = make_base(path),
		.build_id = id,
		.place = is_file(path) || streq(path, "[vdso]") ? PLACE_PATH : PLACE_NONE,
	};
	file->unnamed = make_unnamed(file->base);
	format_build_id(file->build_id_text, id.bytes, id.size);
	if (!file->path || !file->unnamed || map64_put(n->index, key, n->n_files) < 0) {
		free(file->path);
		free(file->unnamed);
		free(file->base);
		*file = (struct file){};
		return 0;
	}
	return n->n_files++;
}

/* ---- where the file is ---- */

static int open_regular(const char *path)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return negative_errno();
	return S_ISREG(st.st_mode) ? rooted_open(fd) : -ENOENT;
}

/* Below a directory laid out like /usr/lib/debug/.build-id: "ab/cdef..." and what comes behind. */
static int open_by_build_id(const char *directory, const struct perfdata_build_id *id, const char *behind)
{
	char hex[2 * PARSER_BUILD_ID_MAX + 1], path[PATH_SIZE_MAX];

	if (id->size < 2)
		return -ENOENT;
	format_build_id(hex, id->bytes, id->size);
	if (snprintf(path, sizeof(path), "%s/.build-id/%.2s/%s%s", directory, hex, hex + 2, behind) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	return open_regular(path);
}

static int open_kept(const struct file *file)
{
	const char *home = getenv("HOME");
	char directory[PATH_SIZE_MAX - 128];

	if (!home || snprintf(directory, sizeof(directory), "%s/.debug", home) >= (int)sizeof(directory))
		return -ENOENT;
	return open_by_build_id(directory, &file->build_id, "/elf");
}

static int open_file(const struct file *file)
{
	switch (file->place) {
	case PLACE_PATH:
		return streq(file->path, "[vdso]") ? vdso_image_fd() : open_regular(file->path);
	case PLACE_KEPT:
		return open_kept(file);
	case PLACE_DEBUG:
		return open_by_build_id("/usr/lib/debug", &file->build_id, ".debug");
	default:
		return -ENOENT;
	}
}

static void look_elsewhere(struct file *file)
{
	file->place++;
	file->object = 0;
}

static bool is_other(const struct file *file, const struct object *object)
{
	return object->error < 0 ||
		(object->identified && file->build_id.size > 0 &&
		 object->id != objects_id_of_build_id(file->build_id.bytes, file->build_id.size));
}

static bool never(void *userdata _unused_, dev_t device _unused_)
{
	return false;
}

/* The object, open when it must be asked; NULL when there is none to be found. */
static struct object *file_object(struct names *n, struct file *file, bool must_ask)
{
	for (; file->place != PLACE_NONE; look_elsewhere(file)) {
		struct object *object = file->object ? objects_get(n->objects, file->object) : NULL;
		int fd;

		if (!object || (must_ask && !objects_has_fd(object) && object->n_pending == 0)) {
			fd = open_file(file);
			if (fd < 0 || objects_add(n->objects, fd, file->path, &file->object) < 0)
				continue;
			object = objects_get(n->objects, file->object);
		}
		if (object && !is_other(file, object))
			return object;
	}
	return NULL;
}

/* ---- names ---- */

/* False: an answer is out. */
static bool name_frame(struct names *n, struct names_frame *frame)
{
	struct file *file = &n->files[frame->file];
	const struct function *f;
	struct object *object;

	if (frame->file == 0) {
		frame->name = "[unknown]";
		frame->object = "";
		return true;
	}
	frame->name = file->unnamed; /* until there is a better one */
	frame->object = file->base;
	frame->build_id = file->build_id_text;
	frame->symbol = 0;
	object = file_object(n, file, false);
	f = object && object->identified ? object_find(object, frame->offset) : NULL;
	if (!object || f) {
		if (f && f->name) {
			frame->name = f->name;
			frame->symbol = f->start;
		}
		if (object && object->build_id_size > 0)
			frame->build_id = object->build_id_text;
		return true;
	}
	object = file_object(n, file, true);
	if (!object)
		return true;
	if (object->debug == DEBUG_WANTED && objects_has_fd(object))
		object_set_debug(object, debug_file_open(object, file->path, -EBADF, never, NULL));
	(void)objects_ask(n->objects, object, &frame->offset, 1);
	return false;
}

/* All of them each time: what was said before the last answers may have been evicted for them. */
static bool name_frames(struct names *n, struct names_frame *frames, size_t n_frames)
{
	bool all = true;

	objects_begin(n->objects);
	for (size_t i = 0; i < n_frames; i++)
		if (!frames[i].is_named)
			all &= name_frame(n, &frames[i]);
	return all;
}

void names_wait(struct names *n)
{
	struct pollfd p = { .fd = parser_fd(n->helper), .events = POLLIN };

	(void)poll(&p, 1, WAIT_STEP_MS);
	(void)objects_dispatch(n->objects);
}

int names_open_file(struct names *n, uint64_t file, uint64_t offset, uint64_t *ret_key)
{
	struct names_frame frame = { .file = file, .offset = offset };
	const struct object *object;
	int fd;

	names_resolve(n, &frame, 1);
	objects_begin(n->objects);
	object = file ? file_object(n, &n->files[file], true) : NULL;
	if (!object || !objects_has_fd(object))
		return -ENOENT;
	*ret_key = object->key;
	fd = fcntl(object->fd, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? negative_errno() : fd;
}

void names_resolve(struct names *n, struct names_frame *frames, size_t n_frames)
{
	uint64_t end = clock_monotonic_ns() + WAIT_NS;

	while (!name_frames(n, frames, n_frames) && clock_monotonic_ns() < end)
		names_wait(n);
}
