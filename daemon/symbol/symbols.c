/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cgroups.h"
#include "helper.h"
#include "kernel.h"
#include "mapping_log.h"
#include "symbols_state.h"

#define CGROUPS_MAX 2048
#define IDLE_CHECK_NS NSEC_PER_SEC

/* Between the kernel's and the user's part of a stack, so that the same ids on the other side are another
 * stack. */
#define STACK_BOUNDARY 0x7374636b75737572ULL

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
	r = kernel_frames_read(s);
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
	return kernel_frames_refresh(s, now);
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

struct symbols_frame frame_whole(enum frame_kind kind, const char *object)
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
	f = frame_whole(FRAME_USER, s->names[i]);
	f.display = s->displays[i];
	return f;
}

bool output_put(struct output *out, const struct symbols_frame *f)
{
	const struct symbols_frame *last = out->n > 0 ? &out->frames[out->n - 1] : NULL;

	if (last && last->id == f->id && is_whole(f))
		return false;
	out->frames[out->n++] = *f;
	out->ids[out->n_ids++] = f->id;
	return true;
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
	const struct object *object = mapped_perf_map(s, p);
	const struct function *f = object ? object_find(object, address) : NULL;

	if (!f && ask_later(s, object, address) < 0)
		return -EAGAIN;
	if (!f || !f->name) {
		*ret = frame_whole(FRAME_JIT, "[anon]");
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

/* -EAGAIN: put on the list of what the parser must be asked. */
static int user_frame(struct symbols *s, struct process *p, size_t i, uint64_t address, bool is_return,
		      struct symbols_frame *ret)
{
	struct mapping *m = process_mapping(s->processes, p, address - is_return);
	const struct function *f;
	struct object *object;
	uint64_t offset;

	if (!m) {
		*ret = frame_whole(FRAME_UNKNOWN, "[unknown]");
		return 0;
	}
	offset = address - is_return - m->start + m->offset;
	if (m->kind == MAPPING_ANONYMOUS)
		return jit_frame(s, p, address - is_return, ret);
	if (m->kind == MAPPING_SPECIAL && !mapped_is_known_vdso(m)) {
		*ret = address_frame(s, i, hash64_string(m->path, SEED_WHOLE), m->path, address - m->start);
		return 0;
	}

	object = mapped_object(s, p, m, false);
	f = object ? object_find(object, offset) : NULL;
	if (object && !f && object->error == 0) {
		object = mapped_object(s, p, m, object->n_pending == 0);
		if (object && object->debug == DEBUG_WANTED && objects_has_fd(object))
			mapped_find_debug_file(s, p, m, object);
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
		if (result == 0 && output_put(out, &f)) {
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
	kernel_frames_put(s, kernel, n_kernel, out);
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
