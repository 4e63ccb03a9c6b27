/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "watches.h"

#include <elf.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>

#include "allocator_files.h"
#include "members.h"
#include "unit.h"
#include "unwind.h"
#include "watch_cost.h"
#include "watch_groups.h"

#define ITEMS_MAX (2 * COLLECT_HEAP_WATCHES) /* with those that ended lately */
#define KERNEL_FUNCTIONS 4                   /* kmalloc, kfree, kmem_cache_alloc, kmem_cache_free */
#define OVER_TICKS 3                         /* in which it costs too much before it is ended */
#define LITTLE_SHARE 0.01                    /* of a CPU: what the probes take of it is no trouble to anyone */
#define OWN_PIDS_MAX 8
#define TRIES_AT_ONCE 64                     /* of a group's processes: reading of one what it maps takes a tenth of a millisecond */
#define CGROUP_TEXT_MAX 4096                 /* bytes of /proc/PID/cgroup */
#define PATIENCE_TICKS 20                    /* for the unwind tables of a process: without them its stacks are no good */

struct watch {
	struct api_memory_watch shown;
	int pidfd;
	uint64_t image;          /* process_image() */
	uint64_t asked_until_us; /* for this process by itself; 0: nobody asked */
	uint32_t group;          /* the last that wanted it; 0: none did */
	struct allocator_files files; /* while it begins */
	unsigned ticks, over;
	struct watch_cost cost;
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
	int cgroups;
	struct watch_groups *groups;
	bool no_room;    /* for processes of groups that are to be tried */
	pid_t own[OWN_PIDS_MAX];
	size_t n_own;
};

int watches_new(struct watches **ret, struct collect *collect, struct unwind *unwind, struct helper *helper, void (*changed)(void *userdata), void *userdata)
{
	_cleanup_(watches_freep) struct watches *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->cgroups = members_open();
	r = watch_groups_new(&w->groups, w->cgroups);
	if (r < 0)
		return r;
	w->collect = collect;
	w->budget = 100;
	w->unwind = unwind;
	w->helper = helper;
	w->changed = changed;
	w->userdata = userdata;
	*ret = TAKE_PTR(w);
	return 0;
}

void watches_set_own_pids(struct watches *w, const pid_t *pids, size_t n)
{
	w->n_own = MIN(n, (size_t)OWN_PIDS_MAX);
	memcpy(w->own, pids, w->n_own * sizeof(w->own[0]));
}

void watches_set_budget(struct watches *w, uint32_t budget)
{
	w->budget = budget;
}

static void let_go(struct watches *w, struct watch *i)
{
	if (i->shown.heap)
		collect_heap_end(w->collect, i->shown.heap);
	i->shown.heap = 0;
	i->pidfd = close_fd(i->pidfd);
	allocator_files_done(&i->files);
}

struct watches *watches_free(struct watches *w)
{
	if (!w)
		return NULL;
	for (size_t i = 0; i < w->n; i++)
		let_go(w, &w->items[i]);
	watch_groups_free(w->groups);
	close_fd(w->cgroups);
	free(w);
	return NULL;
}

/* Processes of groups come and go. */
static enum log_level level_of(const struct watch *i)
{
	return i->asked_until_us ? LOG_LEVEL_NOTICE : LOG_LEVEL_INFO;
}

static bool is_kernels(const struct watch *i)
{
	return i->shown.pid == API_MEMORY_KERNEL;
}

/* What it is about, for the log. */
static const char *subject(const struct watch *i)
{
	static char buf[64];

	if (is_kernels(i))
		return "the kernel's memory";
	snprintf(buf, sizeof(buf), "the heap of process %d (%s)", i->shown.pid, i->shown.comm);
	return buf;
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
		log_write(level_of(i), "%s is no longer watched: %s", subject(i), i->shown.reason);
	w->changed(w->userdata);
}

static bool is_gone(const struct watch *i)
{
	struct pollfd p = { .fd = i->pidfd, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

static bool has_executed(const struct watches *w, const struct watch *i)
{
	uint64_t image = process_image(i->shown.pid);

	return (image && image != i->image) || collect_heap_executed(w->collect, i->shown.heap);
}

static int open_in_proc(pid_t pid, const char *name, int flags)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? negative_errno() : fd;
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

static void begin_measuring(struct watches *w, struct watch *i)
{
	struct collect_heap_cost cost;

	if (collect_heap_get_cost(w->collect, i->shown.heap, &cost) >= 0)
		watch_cost_begin(&i->cost, i->shown.pid, cost.calls);
}

/* Gives false while it has not been measured for long enough. */
static bool measure(struct watches *w, struct watch *i)
{
	struct collect_heap_cost cost;
	double probes_share;

	if (collect_heap_get_cost(w->collect, i->shown.heap, &cost) < 0 ||
	    !watch_cost_read(&i->cost, i->shown.pid, &cost, &i->shown.calls_per_s, &i->shown.share, &probes_share))
		return false;
	i->shown.measured = true;
	if (i->shown.share * 100 > w->budget && w->budget < 100 && probes_share > LITTLE_SHARE)
		i->over++;
	else
		i->over = 0;
	return true;
}

static void end_for_its_cost(struct watches *w, struct watch *i)
{
	if (is_kernels(i)) {
		end(w, i, "the kernel allocates and frees %.0f times a second, and the probes %s %.0f%% of the CPU time that is used for that: more than HeapBudget=%u allows",
		    i->shown.calls_per_s, i->shown.state == API_MEMORY_WATCHED ? "took" : "would take", 100 * i->shown.share, w->budget);
		return;
	}
	end(w, i, "it calls its allocators %.0f times a second, and the probes %s %.0f%% of its CPU time for that: more than HeapBudget=%u allows",
	    i->shown.calls_per_s, i->shown.state == API_MEMORY_WATCHED ? "took" : "would take", 100 * i->shown.share, w->budget);
}

/* ---- beginning ---- */

static bool attach(struct watches *w, struct watch *i, const struct allocator_file *o)
{
	char path[ALLOCATOR_FILE_PATH_SIZE];
	int r;

	allocator_file_path(path, i->shown.pid, o);
	r = collect_heap_attach(w->collect, i->shown.heap, path, o->functions, o->n_functions);
	if (r >= 0)
		i->shown.functions += (uint32_t)o->n_functions;
	else if (r == -E2BIG)
		end(w, i, "its allocators have too many functions");
	else if (is_gone(i))
		end(w, i, "the process ended");
	else if (has_executed(w, i))
		end(w, i, "the process executed another program");
	else
		end(w, i, "the kernel refuses probes in its allocator: %s", strerror(-r));
	return r >= 0;
}

/* Everything is known that is needed. */
static void finish(struct watches *w, struct watch *i)
{
	for (size_t k = 0; k < i->files.n; k++)
		if (i->files.items[k].n_functions > 0 && !attach(w, i, &i->files.items[k]))
			return;
	if (is_gone(i)) {
		end(w, i, "the process ended");
		return;
	}
	allocator_files_done(&i->files);
	begin_measuring(w, i);
}

static void start(struct watches *w, struct watch *i)
{
	collect_heap_start(w->collect, i->shown.heap);
	i->shown.state = API_MEMORY_WATCHED;
	i->shown.since_us = clock_realtime_us();
	log_write(level_of(i), "%s is watched, by %u functions of its allocators, which are called %.0f times a second", subject(i), i->shown.functions,
	          i->shown.calls_per_s);
	w->changed(w->userdata);
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
	if (!allocator_files_answered(&i->files))
		return;
	if (!allocator_files_any(&i->files))
		end(w, i, "it has no allocator that is known: malloc of a C library, jemalloc, tcmalloc, mimalloc (in a program that has it "
		          "linked in, its symbols are needed)");
	else if (can_be_walked(w, i) || i->ticks >= PATIENCE_TICKS)
		finish(w, i);
}

static void ask(struct watches *w, struct watch *i)
{
	allocator_files_ask(&i->files, i->shown.pid, w->helper);
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

	/* Nothing is to be looked for. */
	if (is_kernels(i)) {
		i->shown.functions = KERNEL_FUNCTIONS;
		begin_measuring(w, i);
		return;
	}
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
	i->image = process_image(i->shown.pid); /* first: what is read then is of this program, or of one that is found to differ */
	r = allocator_files_read(&i->files, i->shown.pid);
	if (r < 0)
		end(w, i, "its mappings can't be read: %s", strerror(-r));
	else
		ask(w, i);
}

static void read_comm(struct watch *i)
{
	_cleanup_close_ int fd = is_kernels(i) ? -EBADF : open_in_proc(i->shown.pid, "comm", O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, i->shown.comm, sizeof(i->shown.comm) - 1);

	i->shown.comm[MAX(n, (ssize_t)0)] = '\0';
	i->shown.comm[strcspn(i->shown.comm, "\n")] = '\0';
}

static void read_unit(struct watch *i)
{
	char path[32], cgroup[WORKLOAD_NAME_SIZE];
	_cleanup_free_ char *text = NULL;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", i->shown.pid);
	if (read_small_file(AT_FDCWD, path, CGROUP_TEXT_MAX, &text, NULL) < 0)
		return;
	cgroup_from_proc(text, cgroup, sizeof(cgroup));
	unit_from_cgroup(cgroup, i->shown.unit);
}

/* Until when it is to be watched: as long as the one that wants it longest says. */
static void renew(struct watches *w, struct watch *i)
{
	const struct api_memory_group *g = watch_groups_wanting(w->groups, i->shown.pid);

	i->shown.until_us = MAX(i->asked_until_us, g ? g->until_us : 0);
	if (!g)
		return;
	i->group = g->id;
	copy_string(i->shown.group, sizeof(i->shown.group), g->name);
}

/* asked_until_us: 0 for a process of a group. */
static int begin_process(struct watches *w, pid_t pid, uint64_t asked_until_us, struct watch **ret)
{
	uint32_t heap;
	struct watch *i;
	int r;

	r = pid == API_MEMORY_KERNEL ? collect_kmem_begin(w->collect, &heap) : collect_heap_begin(w->collect, pid, &heap);
	if (r < 0)
		return r;
	i = add(w);
	if (!i) {
		collect_heap_end(w->collect, heap);
		return -ENOSPC;
	}
	i->shown.heap = heap;
	i->shown.pid = pid;
	i->shown.state = API_MEMORY_BEGINS;
	i->asked_until_us = asked_until_us;
	renew(w, i);
	read_comm(i);
	read_unit(i);
	*ret = i;
	return 0;
}

int watches_begin(struct watches *w, pid_t pid, uint64_t until_us, uint32_t by_uid, uint32_t *ret_id)
{
	struct watch *i = find(w, pid);
	int r;

	if (i) {
		i->asked_until_us = until_us;
		renew(w, i);
		*ret_id = i->shown.id;
		return 0;
	}
	r = begin_process(w, pid, until_us, &i);
	if (r < 0)
		return r;
	*ret_id = i->shown.id;
	log_info("%s is to be watched, says uid %u", subject(i), by_uid);
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

/* ---- units and control groups ---- */

/* Begins those of groups that are to be tried, as far as there is room. */
static void begin_members(struct watches *w)
{
	pid_t pid;

	w->no_room = false;
	for (unsigned n = 0; n < TRIES_AT_ONCE && watch_groups_next(w->groups, &pid); n++) {
		struct watch *i = find(w, pid);
		int r;

		if (i) {
			renew(w, i);
			continue;
		}
		r = begin_process(w, pid, 0, &i);
		if (r >= 0) {
			log_debug("the heap of process %d (%s) of %s is to be watched", pid, i->shown.comm, i->shown.group);
			begin(w, i);
			continue;
		}
		watch_groups_put_back(w->groups, pid);
		w->no_room = true;
		return;
	}
}

static const struct api_memory_watch *watch_of(void *userdata, pid_t pid)
{
	const struct watches *w = userdata;

	for (size_t k = w->n; k-- > 0;)
		if (w->items[k].shown.pid == pid)
			return &w->items[k].shown;
	return NULL;
}

static void serve_groups(struct watches *w)
{
	begin_members(w);
	if (watch_groups_settle(w->groups, w->no_room, watch_of, w))
		w->changed(w->userdata);
}

/* Gives whether it is over, since nobody wants it any longer. */
static bool end_unwanted(struct watches *w, struct watch *i, uint64_t now_us)
{
	const struct api_memory_group *g;

	renew(w, i);
	if (now_us < i->shown.until_us)
		return false;
	g = watch_groups_get(w->groups, i->group);
	if (i->asked_until_us || !i->group || !g)
		end(w, i, "its time is over");
	else if (g->state == API_MEMORY_ENDED)
		end(w, i, "%s", g->reason);
	else
		end(w, i, "it left %s", g->name);
	return true;
}

static void end_all_unwanted(struct watches *w)
{
	uint64_t now_us = clock_realtime_us();

	for (size_t k = 0; k < w->n; k++)
		if (w->items[k].shown.state != API_MEMORY_ENDED)
			end_unwanted(w, &w->items[k], now_us);
	w->changed(w->userdata);
}

int watches_begin_group(struct watches *w, const char *name, uint64_t until_us, uint32_t by_uid, uint32_t *ret_id)
{
	int r;

	if (!collect_heap_is_possible(w->collect))
		return -EOPNOTSUPP;
	r = watch_groups_ask(w->groups, name, until_us, w->own, w->n_own, ret_id);
	if (r < 0)
		return r;
	log_info("the heaps of %s are to be watched, says uid %u", name, by_uid);
	serve_groups(w);
	return 0;
}

int watches_end_group(struct watches *w, const char *name, uint32_t by_uid)
{
	char reason[64];
	int r;

	snprintf(reason, sizeof(reason), "uid %u asked for it", by_uid);
	r = watch_groups_stop(w->groups, name, reason);
	if (r >= 0)
		end_all_unwanted(w);
	return r;
}

void watches_configure(struct watches *w, const char (*names)[WORKLOAD_NAME_SIZE], size_t n)
{
	if (n > 0 && !collect_heap_is_possible(w->collect)) {
		log_warning("WatchMemory= has no effect: this kernel can't do it");
		return;
	}
	watch_groups_configure(w->groups, names, n);
	end_all_unwanted(w);
}

const struct api_memory_group *watches_group_at(const struct watches *w, size_t i)
{
	return watch_groups_at(w->groups, i);
}

const struct api_memory_watch *watches_at(const struct watches *w, size_t i)
{
	return i < w->n ? &w->items[i].shown : NULL;
}

void watches_take(struct watches *w, const struct parser_reply *reply)
{
	struct allocator_file *file = NULL;
	size_t k = 0;
	int r;

	while (k < w->n && !(file = allocator_files_asked(&w->items[k].files, reply->request)))
		k++;
	if (!file)
		return;
	r = allocator_files_take(&w->items[k].files, file, reply);
	if (r < 0)
		end(w, &w->items[k], "%s", strerror(-r));
	else
		ask(w, &w->items[k]);
	serve_groups(w);
}

/* One second of a watch that goes on. */
static void go_through(struct watches *w, struct watch *i, uint64_t now_us)
{
	if (is_gone(i)) {
		end(w, i, "the process ended");
	} else if (has_executed(w, i)) {
		end(w, i, "the process executed another program");
	} else if (end_unwanted(w, i, now_us)) {
		return;
	} else if (i->shown.state == API_MEMORY_BEGINS && !i->cost.measured_ns) {
		i->ticks++;
		ask(w, i);
	} else if (measure(w, i)) {
		if (i->over >= (i->shown.state == API_MEMORY_WATCHED ? OVER_TICKS : 1))
			end_for_its_cost(w, i);
		else if (i->shown.state == API_MEMORY_BEGINS)
			start(w, i);
	}
}

void watches_tick(struct watches *w)
{
	uint64_t now_us = clock_realtime_us();

	watch_groups_look(w->groups, now_us, w->own, w->n_own);
	for (size_t k = 0; k < w->n; k++)
		if (w->items[k].shown.state != API_MEMORY_ENDED)
			go_through(w, &w->items[k], now_us);
	serve_groups(w);
}
