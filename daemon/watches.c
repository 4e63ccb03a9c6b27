/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "watches.h"

#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>
#include <sys/syscall.h>

#include "helper.h"
#include "unwind.h"

#define ITEMS_MAX (2 * COLLECT_HEAP_WATCHES) /* with those that ended lately */
#define OBJECTS_MAX 1024                     /* executable files of a process that are looked at */
#define QUESTIONS_MAX 8                      /* to the parser at a time: others ask, too */
#define MEASURE_NS (NSEC_PER_SEC - NSEC_PER_SEC / 8) /* for which calls are counted before it begins: a tick */
#define OVER_TICKS 3                         /* in which it costs too much before it is ended */
#define SHARE_MAX 0.99                       /* something is left for the process */
#define LITTLE_SHARE 0.01                    /* of a CPU: what the probes take of it is no trouble to anyone */
#define PATIENCE_TICKS 20                    /* for the unwind tables of a process: without them its stacks are no good */

/* A file that a process executes code of. */
struct object {
	uint64_t key, request; /* request 0: not asked */
	uint64_t start, end, offset;
	dev_t device;
	uint64_t inode;
	struct collect_heap_function *functions; /* of an allocator */
	size_t n_functions;
};

struct watch {
	struct api_memory_watch shown;
	int pidfd;
	struct object *objects; /* while it begins */
	size_t n_objects, asked, answered;
	unsigned ticks, over;
	uint64_t measured_ns, cpu_ns, calls; /* when its cost was looked at last, what it had used, how often it had called; 0: not yet */
};

struct watches {
	struct collect *collect;
	struct unwind *unwind;
	struct helper *helper;
	uint32_t budget; /* percent */
	void (*changed)(void *userdata);
	void *userdata;
	struct watch items[ITEMS_MAX];
	size_t n;
	uint32_t last_id;
};

int watches_new(struct watches **ret, struct collect *collect, struct unwind *unwind, struct helper *helper, void (*changed)(void *userdata), void *userdata)
{
	struct watches *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->collect = collect;
	w->budget = 100;
	w->unwind = unwind;
	w->helper = helper;
	w->changed = changed;
	w->userdata = userdata;
	*ret = w;
	return 0;
}

void watches_set_budget(struct watches *w, uint32_t budget)
{
	w->budget = budget;
}

static void drop_objects(struct watch *i)
{
	for (size_t k = 0; k < i->n_objects; k++)
		free(i->objects[k].functions);
	free(i->objects);
	i->objects = NULL;
	i->n_objects = 0;
}

static void let_go(struct watches *w, struct watch *i)
{
	if (i->shown.heap)
		collect_heap_end(w->collect, i->shown.heap);
	i->shown.heap = 0;
	i->pidfd = close_fd(i->pidfd);
	drop_objects(i);
}

struct watches *watches_free(struct watches *w)
{
	if (!w)
		return NULL;
	for (size_t i = 0; i < w->n; i++)
		let_go(w, &w->items[i]);
	free(w);
	return NULL;
}

static void end(struct watches *w, struct watch *i, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void end(struct watches *w, struct watch *i, const char *format, ...)
{
	bool began = i->shown.state == API_MEMORY_WATCHED;
	va_list args;

	let_go(w, i);
	i->shown.state = API_MEMORY_ENDED;
	i->shown.ended_us = clock_realtime_us();
	va_start(args, format);
	vsnprintf(i->shown.reason, sizeof(i->shown.reason), format, args);
	va_end(args);
	if (began)
		log_notice("the heap of process %d (%s) is no longer watched: %s", i->shown.pid, i->shown.comm, i->shown.reason);
	w->changed(w->userdata);
}

static bool is_gone(const struct watch *i)
{
	struct pollfd p = { .fd = i->pidfd, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

/* ---- the process's files ---- */

static int open_in_proc(pid_t pid, const char *name, int flags)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? negative_errno() : fd;
}

static void object_path(char *path, size_t size, pid_t pid, const struct object *o)
{
	snprintf(path, size, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, o->start, o->end);
}

/* Only a regular file is opened: opening a device may do something. */
static int open_object(pid_t pid, struct object *o)
{
	_cleanup_close_ int fd = -EBADF;
	char path[96];
	struct stat st;

	object_path(path, sizeof(path), pid, o);
	if (stat(path, &st) < 0)
		return negative_errno();
	if (!S_ISREG(st.st_mode))
		return -EBADF;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return negative_errno();
	if (fstat(fd, &st) < 0)
		return negative_errno();
	o->key = symbols_file_key(&st);
	return TAKE_FD(fd);
}

/* A file whose code is mapped in parts is taken by its first. */
static int read_objects(struct watch *i)
{
	_cleanup_close_ int fd = open_in_proc(i->shown.pid, "maps", O_RDONLY);
	_cleanup_fclose_ FILE *f = fd < 0 ? NULL : fdopen(fd, "re");
	char line[4352];

	if (!f)
		return fd < 0 ? fd : negative_errno();
	fd = -EBADF;
	i->objects = calloc(OBJECTS_MAX, sizeof(*i->objects));
	if (!i->objects)
		return -ENOMEM;
	while (i->n_objects < OBJECTS_MAX && fgets(line, sizeof(line), f)) {
		struct object o = { 0 };
		unsigned major, minor;
		char mode[5];
		size_t k = 0;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &o.start, &o.end, mode, &o.offset, &major, &minor,
		           &o.inode) != 7 || mode[2] != 'x' || !o.inode)
			continue;
		o.device = (dev_t)major << 32 | minor;
		while (k < i->n_objects && (i->objects[k].device != o.device || i->objects[k].inode != o.inode))
			k++;
		if (k == i->n_objects)
			i->objects[i->n_objects++] = o;
	}
	return 0;
}

/* Why a process can't be watched, as far as it can be told before its files are read; NULL: nothing is in the way. */
static const char *find_obstacle(pid_t pid)
{
	_cleanup_close_ int exe = open_in_proc(pid, "exe", O_RDONLY);
	unsigned char ident[EI_NIDENT];

	if (exe == -ENOENT)
		return "it is a kernel thread, or it has ended";
	if (exe < 0)
		return strerror(-exe);
	if (pread(exe, ident, sizeof(ident), 0) == sizeof(ident) && ident[EI_CLASS] == ELFCLASS32)
		return "it is a 32-bit process";
	return NULL;
}

/* ---- what it costs ---- */

/* The CPU time of a process, as clock_getcpuclockid(3) has it; 0: it is gone. */
static uint64_t cpu_time(pid_t pid)
{
	struct timespec t;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) < 0)
		return 0;
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

static void begin_measuring(struct watches *w, struct watch *i)
{
	struct collect_heap_cost cost;

	if (collect_heap_get_cost(w->collect, i->shown.heap, &cost) < 0)
		return;
	i->calls = cost.calls;
	i->cpu_ns = cpu_time(i->shown.pid);
	i->measured_ns = clock_monotonic_ns();
}

/* Gives false while it has not been measured for long enough. */
static bool measure(struct watches *w, struct watch *i)
{
	uint64_t now_ns = clock_monotonic_ns(), cpu_ns = cpu_time(i->shown.pid);
	struct collect_heap_cost cost;
	double calls, probes_ns, used_ns;

	if (now_ns - i->measured_ns < MEASURE_NS || !cpu_ns || collect_heap_get_cost(w->collect, i->shown.heap, &cost) < 0)
		return false;
	calls = (double)(cost.calls - i->calls);
	probes_ns = calls * cost.probe_ns;
	used_ns = MAX((double)(cpu_ns - MIN(cpu_ns, i->cpu_ns)), probes_ns);
	i->shown.calls_per_s = calls * (double)NSEC_PER_SEC / (double)(now_ns - i->measured_ns);
	i->shown.share = used_ns > 0 ? MIN(probes_ns / used_ns, SHARE_MAX) : 0;
	i->shown.measured = true;
	if (i->shown.share * 100 > w->budget && w->budget < 100 && probes_ns > LITTLE_SHARE * (double)(now_ns - i->measured_ns))
		i->over++;
	else
		i->over = 0;
	i->calls = cost.calls;
	i->cpu_ns = cpu_ns;
	i->measured_ns = now_ns;
	return true;
}

static void end_for_its_cost(struct watches *w, struct watch *i)
{
	end(w, i, "it calls its allocators %.0f times a second, and the probes %s %.0f%% of its CPU time for that: more than HeapBudget=%u allows",
	    i->shown.calls_per_s, i->shown.state == API_MEMORY_WATCHED ? "took" : "would take", 100 * i->shown.share, w->budget);
}

/* ---- beginning ---- */

static bool attach(struct watches *w, struct watch *i, const struct object *o)
{
	char path[96];
	int r;

	object_path(path, sizeof(path), i->shown.pid, o);
	r = collect_heap_attach(w->collect, i->shown.heap, path, o->functions, o->n_functions);
	if (r >= 0)
		i->shown.functions += (uint32_t)o->n_functions;
	else if (r == -E2BIG)
		end(w, i, "its allocators have too many functions");
	else if (is_gone(i))
		end(w, i, "the process ended");
	else
		end(w, i, "the kernel refuses probes in its allocator: %s", strerror(-r));
	return r >= 0;
}

/* Everything is known that is needed. */
static void finish(struct watches *w, struct watch *i)
{
	for (size_t k = 0; k < i->n_objects; k++)
		if (i->objects[k].n_functions > 0 && !attach(w, i, &i->objects[k]))
			return;
	if (is_gone(i)) {
		end(w, i, "the process ended");
		return;
	}
	drop_objects(i);
	begin_measuring(w, i);
}

static void start(struct watches *w, struct watch *i)
{
	collect_heap_start(w->collect, i->shown.heap);
	i->shown.state = API_MEMORY_WATCHED;
	i->shown.since_us = clock_realtime_us();
	log_notice("the heap of process %d (%s) is watched, by %u functions of its allocators, which it calls %.0f times a second", i->shown.pid,
	           i->shown.comm, i->shown.functions, i->shown.calls_per_s);
	w->changed(w->userdata);
}

static bool has_allocator(const struct watch *i)
{
	for (size_t k = 0; k < i->n_objects; k++)
		if (i->objects[k].n_functions > 0)
			return true;
	return false;
}

/* Whether its stacks can be walked; has that prepared. */
static bool can_be_walked(struct watches *w, const struct watch *i)
{
	struct symbols_process_key key;
	struct collect_process p;

	if (!collect_heap_process(w->collect, i->shown.heap, &p))
		return false;
	key = (struct symbols_process_key){ .pid = p.pid, .exec_id = p.exec_id, .start_ns = p.start_ns };
	if (unwind_is_ready(w->unwind, &key))
		return true;
	unwind_process_changed(w->unwind, &key);
	return false;
}

/* Goes on when nothing is to be waited for. */
static void go_on(struct watches *w, struct watch *i)
{
	if (i->answered < i->n_objects)
		return;
	if (!has_allocator(i))
		end(w, i, "it has no allocator that is known: malloc of a C library, jemalloc, tcmalloc, mimalloc (in a program that has it "
		          "linked in, its symbols are needed)");
	else if (can_be_walked(w, i) || i->ticks >= PATIENCE_TICKS)
		finish(w, i);
}

/* Asks the parser as much as it may be asked; files that can't be read are passed over. */
static void ask(struct watches *w, struct watch *i)
{
	while (i->asked < i->n_objects && i->asked - i->answered < QUESTIONS_MAX) {
		struct object *o = &i->objects[i->asked];
		_cleanup_close_ int fd = open_object(i->shown.pid, o);
		int r = fd < 0 ? fd : parser_ask_allocators(w->helper, o->key, fd, &o->request);

		if (r == -EAGAIN)
			return; /* the next tick asks again */
		i->asked++;
		i->answered += r < 0;
	}
	go_on(w, i);
}

static struct watch *find(struct watches *w, pid_t pid)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->items[i].shown.pid == pid && w->items[i].shown.state != API_MEMORY_ENDED)
			return &w->items[i];
	return NULL;
}

/* A place at the end; the oldest that is over gives way. */
static struct watch *add(struct watches *w)
{
	size_t k = 0;

	if (w->n == ITEMS_MAX) {
		while (k < w->n && w->items[k].shown.state != API_MEMORY_ENDED)
			k++;
		if (k == w->n)
			return NULL;
		memmove(w->items + k, w->items + k + 1, (w->n - k - 1) * sizeof(w->items[0]));
		w->n--;
	}
	w->items[w->n] = (struct watch){ .pidfd = -EBADF, .shown.id = ++w->last_id };
	return &w->items[w->n++];
}

static void begin(struct watches *w, struct watch *i)
{
	const char *obstacle;
	int r;

	i->pidfd = (int)syscall(SYS_pidfd_open, i->shown.pid, 0);
	if (i->pidfd < 0) {
		r = errno;
		/* EINVAL, ENOENT: a thread that doesn't lead its process */
		end(w, i, "%s", r == ESRCH ? "there is no such process" : r == EINVAL || r == ENOENT ? "it is a thread, no process" : strerror(r));
		return;
	}
	obstacle = find_obstacle(i->shown.pid);
	if (obstacle) {
		end(w, i, "%s", obstacle);
		return;
	}
	r = read_objects(i);
	if (r < 0)
		end(w, i, "its mappings can't be read: %s", strerror(-r));
	else
		ask(w, i);
}

static void read_comm(struct watch *i)
{
	_cleanup_close_ int fd = open_in_proc(i->shown.pid, "comm", O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, i->shown.comm, sizeof(i->shown.comm) - 1);

	i->shown.comm[MAX(n, (ssize_t)0)] = '\0';
	i->shown.comm[strcspn(i->shown.comm, "\n")] = '\0';
}

int watches_begin(struct watches *w, pid_t pid, uint64_t until_us, uint32_t by_uid, uint32_t *ret_id)
{
	struct watch *i = find(w, pid);
	uint32_t heap;
	int r;

	if (i) {
		i->shown.until_us = until_us;
		*ret_id = i->shown.id;
		return 0;
	}
	r = collect_heap_begin(w->collect, pid, &heap);
	if (r < 0)
		return r;
	i = add(w);
	if (!i) {
		collect_heap_end(w->collect, heap);
		return -ENOSPC;
	}
	i->shown.heap = heap;
	i->shown.pid = pid;
	i->shown.until_us = until_us;
	i->shown.state = API_MEMORY_BEGINS;
	*ret_id = i->shown.id;
	read_comm(i);
	log_info("the heap of process %d (%s) is to be watched, says uid %u", pid, i->shown.comm, by_uid);
	begin(w, i);
	return 0;
}

int watches_end(struct watches *w, pid_t pid, uint32_t by_uid)
{
	struct watch *i = find(w, pid);

	if (!i)
		return -ENOENT;
	end(w, i, "uid %u asked for it", by_uid);
	return 0;
}

const struct api_memory_watch *watches_at(const struct watches *w, size_t i)
{
	return i < w->n ? &w->items[i].shown : NULL;
}

/* ---- the parser's answers ---- */

/* Keeps those that are in the part of the file that is known to be mapped. */
static int keep_functions(struct object *o, const struct parser_reply *reply)
{
	o->functions = calloc(MAX(reply->n, (size_t)1), sizeof(*o->functions));
	if (!o->functions)
		return -ENOMEM;
	for (size_t k = 0; k < reply->n; k++) {
		const struct parser_allocator *a = &reply->allocators[k];
		uint64_t start = o->start + (a->offset - o->offset);

		if (a->offset >= o->offset && a->offset - o->offset < o->end - o->start)
			o->functions[o->n_functions++] = (struct collect_heap_function){
				.offset = a->offset, .start = start, .end = start + a->size, .call = a->call,
			};
	}
	return 0;
}

void watches_take(struct watches *w, const struct parser_reply *reply)
{
	for (size_t k = 0; k < w->n; k++) {
		struct watch *i = &w->items[k];

		for (size_t o = 0; o < i->asked && o < i->n_objects; o++) {
			if (i->objects[o].request != reply->request)
				continue;
			i->objects[o].request = 0;
			i->answered++;
			if (reply->error >= 0 && keep_functions(&i->objects[o], reply) < 0)
				end(w, i, "out of memory");
			else
				ask(w, i);
			return;
		}
	}
}

void watches_tick(struct watches *w)
{
	uint64_t now = clock_realtime_us();

	for (size_t k = 0; k < w->n; k++) {
		struct watch *i = &w->items[k];

		if (i->shown.state == API_MEMORY_ENDED)
			continue;
		if (is_gone(i))
			end(w, i, "the process ended");
		else if (collect_heap_executed(w->collect, i->shown.heap))
			end(w, i, "the process executed another program");
		else if (now >= i->shown.until_us)
			end(w, i, "its time is over");
		else if (i->shown.state == API_MEMORY_BEGINS && !i->measured_ns) {
			i->ticks++;
			ask(w, i);
		} else if (measure(w, i)) {
			if (i->over >= (i->shown.state == API_MEMORY_WATCHED ? OVER_TICKS : 1))
				end_for_its_cost(w, i);
			else if (i->shown.state == API_MEMORY_BEGINS)
				start(w, i);
		}
	}
}
