/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/sysmacros.h>

#include "cgroups.h"
#include "debug.h"
#include "helper.h"
#include "jit.h"
#include "kernel.h"
#include "mapping_log.h"
#include "objects.h"
#include "processes.h"
#include "symbol.h"

#define CGROUPS_MAX 2048
#define DISPLAY_SIZE (OBJECT_NAME_SIZE + 24) /* "[name+0x0123456789abcdef]" */
#define MODULES_FILE_MAX (256U << 10)
/* A kernel address that no symbol covers may belong to a program that was loaded since: read again (50 ms),
 * but not more often than this, and ever less while that finds nothing new. */
#define KALLSYMS_AGE_MIN_NS (60 * NSEC_PER_SEC)
#define KALLSYMS_AGE_MAX_NS (3600 * NSEC_PER_SEC)
#define IDLE_CHECK_NS NSEC_PER_SEC
/* A perf-map is looked for again after this; when there is one it is read again after a second and, since it is read as a whole,
 * a second for each of these bytes, if it has changed. */
#define PERF_MAP_MISSING_NS (10 * NSEC_PER_SEC)
#define PERF_MAP_BYTES_PER_SECOND (2U << 20)
/* Devices of file systems without a disk that were looked up lately. */
#define DEVICES_MAX 64

enum frame_seed { SEED_KERNEL_FRAME = 16, SEED_FUNCTION, SEED_ADDRESS, SEED_WHOLE, SEED_STACK, SEED_JIT };

/* Between the kernel's and the user's part of a stack, so that the same ids on the other side are another
 * stack. */
#define STACK_BOUNDARY 0x7374636b75737572ULL

struct wanted {
	uint64_t object, offset;
};

struct device {
	dev_t number;
	bool may_block;
};

struct symbols {
	struct cgroups *cgroups;
	struct mapping_log *log;
	struct processes *processes;
	struct objects *objects;
	struct kernel_symbols *kernel;
	char kernel_build_id[2 * PARSER_BUILD_ID_MAX + 1];
	uint64_t kernel_read_ns, kernel_age_ns, modules_hash, idle_check_ns;
	bool kernel_missed; /* an address had no name: kallsyms may have grown */
	uint64_t resolved, unnamed;
	uint64_t vdso; /* objects.h; 0 = not known */
	struct device devices[DEVICES_MAX];
	size_t n_devices;

	/* of the stack that is being resolved */
	struct wanted wanted[SYMBOLS_FRAMES_MAX];
	size_t n_wanted;
	char displays[SYMBOLS_FRAMES_MAX][DISPLAY_SIZE];
	char names[SYMBOLS_FRAMES_MAX][OBJECT_NAME_SIZE];
};

/* ---- the kernel ---- */

/* Name, size and address of every module: what decides whether kallsyms is another. 0 without modules. */
static uint64_t hash_modules(void)
{
	_cleanup_free_ char *text = NULL;
	uint64_t h = 0;

	if (read_small_file(AT_FDCWD, "/proc/modules", MODULES_FILE_MAX, &text, NULL) < 0)
		return 0;
	for (char *line = text, *end; *line; line = *end ? end + 1 : end) {
		char name[64], address[32];
		unsigned long size;

		end = line + strcspn(line, "\n");
		if (sscanf(line, "%63s %lu %*s %*s %*s %31s", name, &size, address) != 3)
			continue;
		h = hash64_string(name, h) + size;
		h = hash64_string(address, h);
	}
	return h;
}

static int read_kernel(struct symbols *s)
{
	_cleanup_(kernel_symbols_freep) struct kernel_symbols *k = NULL;
	_cleanup_fclose_ FILE *f = NULL;
	uint64_t modules = hash_modules();
	int r;

	f = fopen("/proc/kallsyms", "re");
	if (!f)
		return negative_errno();
	r = kernel_symbols_read(&k, f);
	if (r < 0)
		return r;
	if (s->kernel && kernel_symbols_count(k) == kernel_symbols_count(s->kernel))
		s->kernel_age_ns = MIN(2 * s->kernel_age_ns, KALLSYMS_AGE_MAX_NS);
	else
		s->kernel_age_ns = KALLSYMS_AGE_MIN_NS;
	kernel_symbols_free(s->kernel);
	s->kernel = TAKE_PTR(k);
	s->modules_hash = modules;
	s->kernel_read_ns = clock_monotonic_ns();
	s->kernel_missed = false;
	return 0;
}

/* ---- the door ---- */

int symbols_new(struct symbols **ret, const struct symbols_config *config, struct helper *helper)
{
	_cleanup_(symbols_freep) struct symbols *s = calloc(1, sizeof(*s));
	uint8_t build_id[PARSER_BUILD_ID_MAX];
	int r;

	if (config->max_processes == 0 || config->max_objects < SYMBOLS_FRAMES_MAX ||
	    config->max_functions < SYMBOLS_FRAMES_MAX)
		return -EINVAL;
	if (!s)
		return -ENOMEM;
	r = cgroups_new(&s->cgroups, CGROUPS_MAX);
	if (r < 0)
		return r;
	r = mapping_log_new(&s->log, config->mapping_log_size);
	if (r < 0)
		return r;
	r = processes_new(&s->processes, config->max_processes, s->cgroups, s->log);
	if (r < 0)
		return r;
	r = objects_new(&s->objects, config->max_objects, config->max_functions, helper);
	if (r < 0)
		return r;
	r = read_kernel(s);
	if (r < 0)
		return r;
	format_build_id(s->kernel_build_id, build_id, kernel_build_id(build_id));
	*ret = TAKE_PTR(s);
	return 0;
}

struct symbols *symbols_free(struct symbols *s)
{
	if (!s)
		return NULL;
	kernel_symbols_free(s->kernel);
	objects_free(s->objects);
	processes_free(s->processes);
	mapping_log_free(s->log);
	cgroups_free(s->cgroups);
	free(s);
	return NULL;
}

int symbols_process(struct symbols *s, const struct symbols_process_key *key, uint64_t cgroup_id,
		    const char *comm, uint32_t uid, bool kernel_thread, const struct symbols_process **ret)
{
	const struct process_record record = {
		.cgroup_id = cgroup_id,
		.comm = comm,
		.uid = uid,
		.kernel_thread = kernel_thread,
	};

	if (key->pid <= 0)
		return -EINVAL;
	*ret = &processes_get(s->processes, key, &record)->info;
	return 0;
}

void symbols_mapping_event(struct symbols *s, const struct symbols_mapping_event *event)
{
	mapping_log_add(s->log, event);
}

int symbols_dispatch(struct symbols *s)
{
	return objects_dispatch(s->objects);
}

int symbols_refresh(struct symbols *s)
{
	uint64_t now = clock_monotonic_ns();

	processes_forget(s->processes, now);
	objects_close_idle(s->objects, now);
	s->n_devices = 0; /* numbers are given again */
	if (hash_modules() == s->modules_hash &&
	    (!s->kernel_missed || now - s->kernel_read_ns < s->kernel_age_ns))
		return 0;
	return read_kernel(s);
}

void symbols_get_status(const struct symbols *s, struct symbols_status *ret)
{
	struct processes_status p;
	struct objects_status o;

	processes_get_status(s->processes, &p);
	objects_get_status(s->objects, &o);
	*ret = (struct symbols_status){
		.processes = p.processes,
		.processes_max = p.processes_max,
		.objects = o.objects,
		.objects_max = o.objects_max,
		.functions = o.functions,
		.functions_max = o.functions_max,
		.kernel_symbols = kernel_symbols_count(s->kernel),
		.resolved = s->resolved,
		.unnamed = s->unnamed,
		.gone = p.gone,
		.recalled = p.recalled,
		.deferred = p.deferred,
		.parser_errors = o.parser_errors,
	};
	mapping_log_get_usage(s->log, &ret->log_used, &ret->log_max);
}

/* ---- frames ---- */

/* All that has no inner structure for us: one frame. */
static struct symbols_frame whole_frame(enum frame_kind kind, const char *object)
{
	return (struct symbols_frame){
		.id = hash64_string(object, SEED_WHOLE),
		.kind = kind,
		.function = "",
		.object = object,
		.display = object,
	};
}

static bool is_whole(const struct symbols_frame *f)
{
	return f->function[0] == '\0' && f->id == hash64_string(f->object, SEED_WHOLE);
}

static struct symbols_frame address_frame(struct symbols *s, size_t i, uint64_t object_id, const char *object,
					  uint64_t address)
{
	/* "[vdso]" has its brackets already */
	bool bracketed = object[0] == '[';
	int n = (int)strlen(object) - 2 * bracketed;

	snprintf(s->displays[i], DISPLAY_SIZE, "[%.*s+0x%llx]", n, object + bracketed,
		 (unsigned long long)address);
	return (struct symbols_frame){
		.id = hash64(&(uint64_t[]){ object_id, address }, 2 * sizeof(uint64_t), SEED_ADDRESS),
		.kind = FRAME_USER,
		.function = "",
		.object = object,
		.display = s->displays[i],
		.symbol = address,
	};
}

/* Of a file that could not be read only the name is known. */
static struct symbols_frame file_frame(struct symbols *s, size_t i, const char *path)
{
	const char *slash = strrchr(path, '/');
	struct symbols_frame f;

	snprintf(s->displays[i], DISPLAY_SIZE, "[%.*s]", OBJECT_NAME_SIZE - 1, slash ? slash + 1 : path);
	sanitize_name(s->displays[i]);
	copy_string(s->names[i], sizeof(s->names[i]), s->displays[i] + 1);
	s->names[i][strlen(s->displays[i]) - 2] = '\0';
	f = whole_frame(FRAME_USER, s->names[i]);
	f.display = s->displays[i];
	return f;
}

struct output {
	struct symbols_frame *frames;
	size_t n;
	uint64_t ids[SYMBOLS_FRAMES_MAX + 1]; /* and the boundary */
	size_t n_ids;
};

/* False when it only says once more that nothing is known. */
static bool put_frame(struct output *out, const struct symbols_frame *f)
{
	const struct symbols_frame *last = out->n > 0 ? &out->frames[out->n - 1] : NULL;

	if (last && last->id == f->id && is_whole(f))
		return false;
	out->frames[out->n++] = *f;
	out->ids[out->n_ids++] = f->id;
	return true;
}

static struct symbols_frame kernel_frame(struct symbols *s, uint64_t address)
{
	struct symbols_frame f;
	struct kernel_symbol k;
	uint64_t id;

	if (!kernel_symbols_find(s->kernel, address, &k)) {
		s->kernel_missed = true;
		/* An address would differ at every boot, and tell where the kernel is. */
		f = whole_frame(FRAME_KERNEL, "[kernel]");
		f.build_id = s->kernel_build_id;
		return f;
	}
	id = hash64_string(k.name, hash64_string(k.module, SEED_KERNEL_FRAME));
	return (struct symbols_frame){
		.id = id,
		.kind = FRAME_KERNEL,
		.function = k.name,
		.object = k.module,
		.display = k.name,
		.build_id = streq(k.module, "[kernel]") ? s->kernel_build_id : "",
	};
}

/* How many frames at the top are about how our own programs were called. Programs themselves may be younger
 * than our reading of kallsyms, so they have no name; what they were called by has. */
static size_t count_plumbing(const struct symbols *s, const uint64_t *kernel, size_t n)
{
	struct kernel_symbol k;
	size_t plumbing = 0;

	for (size_t i = 0; i < n; i++) {
		if (!kernel_symbols_find(s->kernel, kernel[i] - (i > 0), &k))
			continue;
		if (!kernel_symbol_is_plumbing(k.name))
			break;
		plumbing = i + 1;
	}
	return plumbing;
}

/* A wait is seen by a program in the switch, or, when it lasts, by walking the sleeping task's stack. The
 * kernel leaves its scheduler out of the latter, as in /proc/PID/stack; so it is left out of the former, and
 * both are one stack. */
static bool is_at_switch(const struct symbols *s, const uint64_t *kernel, size_t n, size_t plumbing)
{
	static const char name[] = "__schedule"; /* or what a compiler made of it: "__schedule.constprop.0" */
	struct kernel_symbol k;

	return plumbing > 0 && plumbing < n && kernel_symbols_find(s->kernel, kernel[plumbing] - 1, &k) &&
		strncmp(k.name, name, strlen(name)) == 0 &&
		(k.name[strlen(name)] == '\0' || k.name[strlen(name)] == '.');
}

static void put_kernel_frames(struct symbols *s, const uint64_t *kernel, size_t n, struct output *out)
{
	size_t plumbing = count_plumbing(s, kernel, n);
	bool at_switch = is_at_switch(s, kernel, n, plumbing);

	for (size_t i = plumbing; i < n; i++) {
		struct symbols_frame f;

		if (at_switch && kernel_symbols_is_sched(s->kernel, kernel[i]))
			continue;
		f = kernel_frame(s, kernel[i] - (i > 0));
		(void)put_frame(out, &f);
	}
}

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

static struct symbols_frame object_frame(struct symbols *s, size_t i, const struct object *object,
					 const struct mapping *m, const struct function *f, uint64_t offset,
					 bool is_return)
{
	uint64_t id[2] = { object->id };

	if (f && f->name) {
		id[1] = f->start;
		return (struct symbols_frame){
			.id = hash64(id, sizeof(id), SEED_FUNCTION),
			.kind = FRAME_USER,
			.function = f->name,
			.object = object->name,
			.display = f->name,
			.symbol = f->start,
		};
	}
	if (f)
		return address_frame(s, i, object->id, object->name,
				     f->address + (offset - f->from) + is_return);
	if (object->error == -ENOEXEC) /* no ELF file: it has offsets only */
		return address_frame(s, i, object->id, object->name, offset + is_return);
	return file_frame(s, i, m->path);
}

/* The process's perf-map, as new as it is worth the work; NULL when it has none. */
static struct object *perf_map_object(struct symbols *s, struct process *p)
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

/* -EAGAIN when the parser can be asked: put on the list of what it must be asked. */
static int ask_later(struct symbols *s, const struct object *object, uint64_t offset)
{
	if (!object || object->error != 0 || !(objects_has_fd(object) || object->n_pending > 0))
		return 0;
	s->wanted[s->n_wanted++] = (struct wanted){ .object = object->key, .offset = offset };
	return -EAGAIN;
}

static int jit_frame(struct symbols *s, struct process *p, uint64_t address, struct symbols_frame *ret)
{
	const struct object *object = perf_map_object(s, p);
	const struct function *f = object ? object_find(object, address) : NULL;

	if (!f && ask_later(s, object, address) < 0)
		return -EAGAIN;
	if (!f || !f->name) {
		*ret = whole_frame(FRAME_JIT, "[anon]");
		return 0;
	}
	*ret = (struct symbols_frame){
		.id = hash64_string(f->name, SEED_JIT), /* where it lies differs from run to run */
		.kind = FRAME_JIT,
		.function = f->name,
		.object = "[jit]",
		.display = f->name,
	};
	return 0;
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

static bool is_known_vdso(const struct mapping *m)
{
	return streq(m->path, "[vdso]") && m->start > UINT32_MAX;
}

static struct object *object_of(struct symbols *s, struct process *p, struct mapping *m, bool open)
{
	return m->kind == MAPPING_SPECIAL ? vdso_object(s, open) : mapping_object(s, p, m, open);
}

/* The process that it was met in may be gone; then only the host's debug files are left. */
static void find_debug_file(struct symbols *s, struct process *p, const struct mapping *m, struct object *object)
{
	_cleanup_close_ int process_fd = process_open(s->processes, p),
			    own_fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct looker l = { s, process_fd < 0 ? own_fd : process_fd };

	object_set_debug(object, debug_file_open(object, m->path, process_fd, may_block, &l));
}

/* -EAGAIN: put on the list of what the parser must be asked. */
static int user_frame(struct symbols *s, struct process *p, size_t i, uint64_t address, bool is_return,
		      struct symbols_frame *ret)
{
	struct mapping *m = process_mapping(s->processes, p, address - is_return);
	const struct function *f;
	struct object *object;
	uint64_t offset;

	if (!m) {
		*ret = whole_frame(FRAME_UNKNOWN, "[unknown]");
		return 0;
	}
	offset = address - is_return - m->start + m->offset;
	if (m->kind == MAPPING_ANONYMOUS)
		return jit_frame(s, p, address - is_return, ret);
	if (m->kind == MAPPING_SPECIAL && !is_known_vdso(m)) {
		*ret = address_frame(s, i, hash64_string(m->path, SEED_WHOLE), m->path, address - m->start);
		return 0;
	}

	object = object_of(s, p, m, false);
	f = object ? object_find(object, offset) : NULL;
	if (object && !f && object->error == 0) {
		object = object_of(s, p, m, object->n_pending == 0);
		if (object && object->debug == DEBUG_WANTED && objects_has_fd(object))
			find_debug_file(s, p, m, object);
		if (ask_later(s, object, offset) < 0)
			return -EAGAIN;
	}
	if (object && object->error == -ENOEXEC && strncmp(m->path, "/memfd:", 7) == 0)
		return jit_frame(s, p, address - is_return, ret);
	*ret = object && (f || object->error < 0) ? object_frame(s, i, object, m, f, offset, is_return)
						  : file_frame(s, i, m->path);
	if (object) {
		ret->build_id = object->build_id_text;
		ret->address = address - is_return;
		ret->file = object->key;
		ret->offset = offset;
	}
	return 0;
}

/* One question for each object. Gives -EAGAIN when an answer will come, 0 when none is to be expected for any
 * of them. */
static int ask_wanted(struct symbols *s)
{
	int result = 0;

	for (size_t i = 0; i < s->n_wanted; i++) {
		struct object *object = objects_get(s->objects, s->wanted[i].object);
		uint64_t offsets[SYMBOLS_FRAMES_MAX];
		size_t n = 0;
		int r;

		if (!object || s->wanted[i].object == 0)
			continue;
		for (size_t j = i; j < s->n_wanted; j++)
			if (s->wanted[j].object == object->key) {
				offsets[n++] = s->wanted[j].offset;
				s->wanted[j].object = 0;
			}
		r = objects_ask(s->objects, object, offsets, n);
		if (r == 0 || r == -EAGAIN)
			result = -EAGAIN;
	}
	s->n_wanted = 0;
	return result;
}

/* -EAGAIN: some are not known yet. */
static int put_user_frames(struct symbols *s, struct process *p, const uint64_t *user, size_t n,
			   struct output *out)
{
	uint64_t unnamed = 0, put = 0;
	int result = 0;

	for (size_t i = 0; i < n; i++) {
		struct symbols_frame f;

		if (user_frame(s, p, out->n, user[i], i > 0, &f) < 0) {
			result = -EAGAIN;
			continue;
		}
		if (result == 0 && put_frame(out, &f)) {
			put++;
			unnamed += f.kind == FRAME_USER && f.function[0] == '\0';
		}
	}
	if (result == 0) {
		s->resolved += put;
		s->unnamed += unnamed;
	}
	return result;
}

static int resolve_once(struct symbols *s, const struct symbols_process_key *key, const uint64_t *kernel,
			size_t n_kernel, const uint64_t *user, size_t n_user, struct output *out)
{
	static const struct process_record unknown = {};
	struct process *p;

	objects_begin(s->objects);
	put_kernel_frames(s, kernel, n_kernel, out);
	out->ids[out->n_ids++] = STACK_BOUNDARY;
	if (n_user == 0)
		return 0;
	p = processes_get(s->processes, key, &unknown);
	if (!p->info.settled)
		return -EAGAIN;
	return put_user_frames(s, p, user, n_user, out);
}

static void close_idle_now_and_then(struct symbols *s)
{
	uint64_t now = clock_monotonic_ns();

	if (now - s->idle_check_ns < IDLE_CHECK_NS)
		return;
	s->idle_check_ns = now;
	objects_close_idle(s->objects, now);
}

int symbols_resolve(struct symbols *s, const struct symbols_process_key *key, const uint64_t *kernel,
		    size_t n_kernel, const uint64_t *user, size_t n_user,
		    struct symbols_frame ret_frames[static SYMBOLS_FRAMES_MAX], size_t *ret_n,
		    uint64_t *ret_stack_id)
{
	struct output out;
	int r;

	if (n_kernel > SYMBOLS_FRAMES_MAX || n_user > SYMBOLS_FRAMES_MAX - n_kernel)
		return -E2BIG;
	if (n_user > 0 && key->pid <= 0)
		return -EINVAL;
	close_idle_now_and_then(s);

	for (;;) {
		out = (struct output){ .frames = ret_frames };
		r = resolve_once(s, key, kernel, n_kernel, user, n_user, &out);
		if (r == 0)
			break;
		/* Objects that the parser can't be asked about have given up by now: the next round goes
		 * without them. */
		if (s->n_wanted == 0 || ask_wanted(s) == -EAGAIN)
			return -EAGAIN;
	}
	*ret_n = out.n;
	*ret_stack_id = hash64(out.ids, out.n_ids * sizeof(out.ids[0]), SEED_STACK);
	return 0;
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
	object = object_of(s, p, m, true);
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

struct file_visit {
	symbols_file_fn fn;
	void *userdata;
};

static void visit_file(void *userdata, const struct object *object)
{
	const struct file_visit *v = userdata;

	v->fn(v->userdata, object->name, object->build_id_text);
}

void symbols_visit_without_debug(const struct symbols *s, symbols_file_fn fn, void *userdata)
{
	objects_visit_without_debug(s->objects, visit_file, &(struct file_visit){ fn, userdata });
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
