/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files that processes have mapped: which they are, and to open them. */
#include <fcntl.h>
#include <sys/sysmacros.h>

#include "debug.h"
#include "symbols_state.h"
#include "jit.h"

/* A perf-map is looked for again after this; when there is one it is read again after a second and, since it is read as a whole,
 * a second for each of these bytes, if it has changed. */
#define PERF_MAP_MISSING_NS (10 * NSEC_PER_SEC)
#define PERF_MAP_BYTES_PER_SECOND (2U << 20)

struct looker {
	struct symbols *s;
	int process_fd;
};

static bool may_block(void *userdata, dev_t number)
{
	const struct looker *l = userdata;
	struct symbols *s = l->s;
	_cleanup_fclose_ FILE *f = NULL;
	struct stat root;
	bool answer;
	int fd;

	if (major(number) != 0)
		return false; /* a disk */
	for (size_t i = 0; i < s->n_devices; i++)
		if (s->devices[i].number == number)
			return s->devices[i].may_block;

	fd = openat(l->process_fd, "mountinfo", O_RDONLY | O_CLOEXEC);
	f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f) {
		close_fd(fd);
		return true;
	}
	/* Should the root's server hang, we hang anyway. */
	answer = mountinfo_may_block(f, number) && !(stat("/", &root) == 0 && root.st_dev == number);
	if (s->n_devices == DEVICES_MAX)
		s->n_devices = 0;
	s->devices[s->n_devices++] = (struct device){ .number = number, .may_block = answer };
	return answer;
}

/* Makes sure that the mapping's object is known and, when needed, open. Gives NULL when the file can't be
 * read. */
static struct object *mapping_object(struct symbols *s, struct process *p, struct mapping *m, bool open)
{
	struct object *object = m->object ? objects_get(s->objects, m->object) : NULL;
	_cleanup_close_ int process_fd = -EBADF;
	uint64_t key;
	bool gone;
	int fd;

	if (object && (!open || objects_has_fd(object)))
		return object;
	if (m->tried && !m->object)
		return NULL; /* in vain */

	process_fd = process_open(s->processes, p);
	gone = process_fd < 0;
	if (gone)
		process_fd = process_open_relative(p);
	if (process_fd < 0)
		return object;
	m->tried = true;
	if (may_block(&(struct looker){ s, process_fd }, m->device))
		return object;
	fd = gone ? mapping_open_path(m, process_fd) : mapping_open(m, process_fd);
	if (fd < 0 || objects_add(s->objects, fd, m->path, &key) < 0)
		return object;
	m->object = key;
	return objects_get(s->objects, key);
}

struct object *mapped_perf_map(struct symbols *s, struct process *p)
{
	_cleanup_close_ int process_fd = -EBADF;
	struct object *object = p->perf_map ? objects_get(s->objects, p->perf_map) : NULL;
	uint64_t now = clock_monotonic_ns(), key;
	struct stat st;
	int fd;

	if (now < p->perf_map_retry_ns)
		return object;
	p->perf_map_retry_ns = now + PERF_MAP_MISSING_NS;
	process_fd = process_open(s->processes, p);
	fd = process_fd < 0 ? process_fd
			    : jit_map_open(process_fd, may_block, &(struct looker){ s, process_fd }, &st);
	if (fd < 0 || objects_add_perf_map(s->objects, fd, &key) < 0)
		return object;
	p->perf_map = key;
	p->perf_map_retry_ns = now + NSEC_PER_SEC + (uint64_t)st.st_size / PERF_MAP_BYTES_PER_SECOND * NSEC_PER_SEC;
	return objects_get(s->objects, key);
}

/* All 64-bit processes have the same one. */
static struct object *vdso_object(struct symbols *s, bool open)
{
	struct object *object = s->vdso ? objects_get(s->objects, s->vdso) : NULL;
	int fd;

	if (object && (!open || objects_has_fd(object)))
		return object;
	fd = vdso_image_fd();
	if (fd < 0 || objects_add(s->objects, fd, "[vdso]", &s->vdso) < 0)
		return NULL;
	return objects_get(s->objects, s->vdso);
}

bool mapped_is_known_vdso(const struct mapping *m)
{
	return streq(m->path, "[vdso]") && m->start > UINT32_MAX;
}

struct object *mapped_object(struct symbols *s, struct process *p, struct mapping *m, bool open)
{
	return m->kind == MAPPING_SPECIAL ? vdso_object(s, open) : mapping_object(s, p, m, open);
}

/* The process that it was met in may be gone; then only the host's debug files are left. */
void mapped_find_debug_file(struct symbols *s, struct process *p, const struct mapping *m, struct object *object)
{
	_cleanup_close_ int process_fd = process_open(s->processes, p),
			    own_fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct looker l = { s, process_fd < 0 ? own_fd : process_fd };

	object_set_debug(object, debug_file_open(object, m->path, process_fd, may_block, &l));
}

/* ---- for lines.h ---- */

int symbols_open_file(struct symbols *s, const struct symbols_process_key *key, uint64_t address, uint64_t file, int *ret_fd,
		      int *ret_debug_fd)
{
	static const struct process_record unknown = {};
	struct process *p = processes_get(s->processes, key, &unknown);
	struct mapping *m = process_mapping(s->processes, p, address);
	_cleanup_close_ int process_fd = process_open(s->processes, p),
			    own_fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct looker l = { s, process_fd < 0 ? own_fd : process_fd };
	struct object *object;
	int fd;

	if (!m)
		return -ENOENT;
	objects_begin(s->objects);
	object = mapped_object(s, p, m, true);
	if (!object || object->key != file || !objects_has_fd(object))
		return -ENOENT;
	fd = fcntl(object->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return negative_errno();
	*ret_fd = fd;
	fd = debug_file_open(object, m->path, process_fd, may_block, &l);
	*ret_debug_fd = fd < 0 ? -EBADF : fd;
	return 0;
}

/* ---- for daemon/unwind ---- */

int symbols_mappings(struct symbols *s, const struct symbols_process_key *key, uint64_t address, struct symbols_mapping *ret,
		     size_t max)
{
	static const struct process_record unknown = {};
	struct process *p;
	size_t n;

	if (key->pid <= 0)
		return -EINVAL;
	p = processes_get(s->processes, key, &unknown);
	if (!p->info.settled)
		return -EAGAIN;
	if (p->gone)
		return -ESRCH;
	(void)process_mapping(s->processes, p, address);
	n = MIN(p->mappings.n, max);
	objects_begin(s->objects);
	for (size_t i = 0; i < n; i++) {
		struct mapping *m = &p->mappings.items[i];
		const struct object *object = m->kind == MAPPING_FILE ? mapping_object(s, p, m, false) : NULL;

		ret[i] = (struct symbols_mapping){
			.start = m->start,
			.end = m->end,
			.offset = m->offset,
			.object = object ? object->key : 0,
		};
		if (m->kind == MAPPING_SPECIAL && streq(m->path, "[vdso]"))
			ret[i].object = SYMBOLS_VDSO;
	}
	return (int)n;
}

int symbols_open_mapping(struct symbols *s, const struct symbols_process_key *key, uint64_t start)
{
	static const struct process_record unknown = {};
	struct process *p = processes_get(s->processes, key, &unknown);
	struct mapping *m = mappings_find(&p->mappings, start);
	const struct object *object;
	int fd;

	if (!m)
		return -ENOENT;
	if (m->kind == MAPPING_SPECIAL)
		return vdso_image_fd();
	objects_begin(s->objects);
	object = mapping_object(s, p, m, true);
	if (!object || !objects_has_fd(object))
		return -ENOENT;
	fd = fcntl(object->fd, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? negative_errno() : fd;
}
