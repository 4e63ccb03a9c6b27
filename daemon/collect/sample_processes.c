/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "proc_text.h"
#include "sample_processes.h"

/* What a scan may take of a tick: a few thousand processes that ran. */
#define SCAN_TIME_NS (20 * NSEC_PER_SEC / 1000)
/* Threads whose waits for a CPU are read in a tick; those of processes with more are told by the next. */
#define SCAN_THREADS_MAX 4096
/* Scans after which a process is looked at though it didn't run: its memory may have been reclaimed, its user changed. */
#define REFRESH_SCANS 16
/* A process that a scan didn't meet is kept for one more: its last samples may be on their way. */
#define KEPT_SCANS 1
#define CGROUP_ROOT "/sys/fs/cgroup"
#define EXEC_ID_NS (NSEC_PER_SEC / 100)

struct slot {
	struct collect_process process; /* pid 0: free */
	uint64_t forked_ns;             /* CLOCK_MONOTONIC; 0: before we looked */
	uint64_t executed_ns;           /* the last time that we know of */
	uint64_t read_ns;               /* when /proc last said who it is; 0: it must be asked */
	uint32_t previous_exec_id;
	char previous_comm[16];
	struct sample_owner parent;     /* key.tgid 0: it has executed something since it began */
	uint32_t scan;                  /* the last that met it */
	/* as of the last look */
	uint64_t looked_ns;             /* CLOCK_MONOTONIC */
	uint64_t ran_ns;                /* since then, by its switches */
	bool accounted;
	uint64_t on_cpu_ns, runnable_ns, faults_minor, faults_major;
	int64_t resident, anonymous;    /* pages, as told */
};

struct sample_processes {
	struct slot *slots;
	struct map64 *by_pid;
	uint32_t *free_slots, n_free, max;
	uint32_t scan;
	pid_t resume;         /* where the last scan ran out of time; 0: it was through */
	uint32_t threads_left;
	uint32_t first_exec_id;
	uint64_t ns_per_tick;
	int proc_fd;
	struct proc_numbers numbers, threads; /* scratch */
	struct sample_processes_status status;
};

static uint32_t exec_id_now(void)
{
	return (uint32_t)(clock_boottime_ns() / EXEC_ID_NS);
}

int sample_processes_new(struct sample_processes **ret, uint32_t max)
{
	_cleanup_(sample_processes_freep) struct sample_processes *p = calloc(1, sizeof *p);
	int r;

	if (!p)
		return -ENOMEM;
	p->proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->proc_fd < 0)
		return negative_errno();
	p->max = max;
	p->first_exec_id = exec_id_now();
	p->ns_per_tick = NSEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK);
	p->slots = calloc(max, sizeof *p->slots);
	p->free_slots = calloc(max, sizeof *p->free_slots);
	if (!p->slots || !p->free_slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < max; i++)
		p->free_slots[p->n_free++] = max - 1 - i;
	r = map64_new(&p->by_pid, max);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(p);
	return 0;
}

struct sample_processes *sample_processes_free(struct sample_processes *p)
{
	if (!p)
		return NULL;
	close_fd(p->proc_fd);
	free(p->slots);
	free(p->free_slots);
	map64_free(p->by_pid);
	free(p);
	return NULL;
}

static struct slot *find(struct sample_processes *p, pid_t pid)
{
	uint64_t index;

	return map64_get(p->by_pid, (uint64_t)pid, &index) ? &p->slots[index] : NULL;
}

/* Anew, with nothing known but its pid. NULL: there is no room. */
static struct slot *make(struct sample_processes *p, pid_t pid)
{
	struct slot *s = find(p, pid);
	uint32_t index;

	if (!s) {
		if (p->n_free == 0) {
			p->status.full++;
			return NULL;
		}
		index = p->free_slots[--p->n_free];
		s = &p->slots[index];
		(void)map64_put(p->by_pid, (uint64_t)pid, index);
	}
	*s = (struct slot){ .process = { .pid = pid, .exec_id = p->first_exec_id }, .scan = p->scan };
	return s;
}

static void let_go(struct sample_processes *p, struct slot *s)
{
	map64_remove(p->by_pid, (uint64_t)s->process.pid);
	*s = (struct slot){};
	p->free_slots[p->n_free++] = (uint32_t)(s - p->slots);
}

static struct sample_owner owner_of(const struct slot *s)
{
	return (struct sample_owner){ { (uint32_t)s->process.pid, s->process.exec_id }, s->process.start_ns };
}

/* ---- what the kernel says as it happens ---- */

static uint64_t boot_of_monotonic(uint64_t ns)
{
	return ns + (clock_boottime_ns() - clock_monotonic_ns());
}

static void take_fork(struct sample_processes *p, const struct collect_mapping_event *e)
{
	const struct slot *parent = find(p, e->parent), *known = find(p, e->pid);
	struct slot *s;

	if (known && known->read_ns > e->time_ns && known->process.start_ns / p->ns_per_tick + 1 >= boot_of_monotonic(e->time_ns) / p->ns_per_tick)
		return; /* /proc has said more already */
	s = make(p, e->pid);
	if (!s)
		return;
	s->forked_ns = e->time_ns;
	/* As /proc has it, which counts in clock ticks. */
	s->process.start_ns = boot_of_monotonic(e->time_ns) / p->ns_per_tick * p->ns_per_tick;
	s->process.exec_id = 0;
	if (!parent || parent->read_ns == 0)
		return;
	s->process.uid = parent->process.uid;
	s->process.cgroup_id = parent->process.cgroup_id;
	s->process.kernel_thread = parent->process.kernel_thread;
	memcpy(s->process.comm, parent->process.comm, sizeof s->process.comm);
	s->parent = parent->parent.key.tgid ? parent->parent : owner_of(parent);
}

static void take_exec(struct sample_processes *p, const struct collect_mapping_event *e)
{
	struct slot *s = find(p, e->pid);

	if (!s)
		s = make(p, e->pid);
	if (!s || s->read_ns > e->time_ns)
		return;
	s->previous_exec_id = s->process.exec_id;
	memcpy(s->previous_comm, s->process.comm, sizeof s->previous_comm);
	s->executed_ns = e->time_ns;
	s->read_ns = 0;
	s->parent = (struct sample_owner){};
	s->process.exec_id = MAX(s->process.exec_id + 1, (uint32_t)(boot_of_monotonic(e->time_ns) / EXEC_ID_NS));
	if (e->comm)
		copy_string(s->process.comm, sizeof s->process.comm, e->comm);
}

void sample_processes_event(struct sample_processes *p, const struct collect_mapping_event *event)
{
	if (event->kind == COLLECT_FORKED)
		take_fork(p, event);
	else if (event->kind == COLLECT_EXECUTED)
		take_exec(p, event);
}

/* ---- what /proc says ---- */

static uint64_t cgroup_id_of(int dir_fd, char *text, size_t size)
{
	char path[1024] = CGROUP_ROOT;
	struct stat st;

	if (proc_read(dir_fd, "cgroup", text, size) < 0 ||
	    proc_cgroup_parse(text, path + strlen(CGROUP_ROOT), sizeof path - strlen(CGROUP_ROOT)) < 0 || stat(path, &st) < 0)
		return 0;
	return st.st_ino;
}

static int open_process(const struct sample_processes *p, pid_t pid)
{
	char name[16];
	int fd;

	snprintf(name, sizeof name, "%d", pid);
	fd = openat(p->proc_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? negative_errno() : fd;
}

/* Whether it is the process that the slot is about, which a process of the same pid isn't that we have heard of the end of. */
static bool agrees(const struct sample_processes *p, const struct slot *s, const struct proc_stat *stat)
{
	uint64_t ticks = s->process.start_ns / p->ns_per_tick;

	return s->process.start_ns == 0 || (stat->start_ticks + 1 >= ticks && stat->start_ticks <= ticks + 1);
}

static void take_stat(const struct sample_processes *p, struct slot *s, const struct proc_stat *stat)
{
	if (s->process.start_ns == 0)
		s->process.start_ns = stat->start_ticks * p->ns_per_tick;
	s->process.kernel_thread = stat->kernel_thread;
	memcpy(s->process.comm, stat->comm, sizeof s->process.comm);
}

static void identify(struct sample_processes *p, struct slot *s, int dir_fd)
{
	char text[4096];

	s->process.cgroup_id = cgroup_id_of(dir_fd, text, sizeof text);
	if (proc_read(dir_fd, "status", text, sizeof text) >= 0)
		(void)proc_uid_parse(text, &s->process.uid);
	s->read_ns = clock_monotonic_ns();
	(void)p;
}

static int read_identity(struct sample_processes *p, struct slot *s)
{
	_cleanup_close_ int fd = open_process(p, s->process.pid);
	struct proc_stat stat;
	char text[1024];
	int r = fd < 0 ? fd : proc_read(fd, "stat", text, sizeof text);

	if (r >= 0)
		r = proc_stat_parse(text, &stat);
	if (r < 0)
		return r;
	if (!agrees(p, s, &stat))
		return -ESRCH;
	take_stat(p, s, &stat);
	identify(p, s, fd);
	return 0;
}

bool sample_processes_find(struct sample_processes *p, pid_t pid, uint64_t time_ns, struct collect_process *ret, struct sample_owner *ret_parent)
{
	struct slot *s = find(p, pid);
	bool is_new = !s;

	if (!s)
		s = make(p, pid);
	if (!s || time_ns < s->forked_ns)
		return false;
	if (s->read_ns == 0 && read_identity(p, s) < 0 && is_new) {
		let_go(p, s);
		return false;
	}
	*ret = s->process;
	*ret_parent = s->parent;
	ret->seen_ns = time_ns;
	if (time_ns < s->executed_ns) {
		ret->exec_id = s->previous_exec_id;
		memcpy(ret->comm, s->previous_comm, sizeof ret->comm);
	}
	return true;
}

/* ---- accounts ---- */

void sample_processes_ran(struct sample_processes *p, pid_t pid, uint64_t from_ns, uint64_t until_ns)
{
	struct slot *s = find(p, pid);

	if (!s)
		return;
	from_ns = MAX(from_ns, s->looked_ns);
	if (until_ns > from_ns)
		s->ran_ns += until_ns - from_ns;
}

/* Of all its threads, those that ended, too; to the nanosecond. */
static int cpu_time(pid_t pid, uint64_t *ret)
{
	struct timespec used;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0)
		return -ESRCH;
	if (clock_gettime(clock, &used) < 0)
		return negative_errno();
	*ret = (uint64_t)used.tv_sec * NSEC_PER_SEC + (uint64_t)used.tv_nsec;
	return 0;
}

static uint64_t waited(int dir_fd, const char *path)
{
	unsigned long long run, delay;
	char text[128];

	return proc_read(dir_fd, path, text, sizeof text) >= 0 && sscanf(text, "%llu %llu", &run, &delay) == 2 ? delay : 0;
}

/* For a CPU, of the threads that there are. */
static uint64_t runnable_time(struct sample_processes *p, const struct slot *s, int dir_fd, uint32_t threads)
{
	char path[32];
	uint64_t sum = 0;
	pid_t tid;

	if (threads <= 1)
		return waited(dir_fd, "schedstat");
	if (threads > p->threads_left)
		return s->runnable_ns;
	p->threads_left -= threads;
	if (proc_numbers_begin(&p->threads, dir_fd, "task") >= 0)
		while (proc_numbers_next(&p->threads, &tid)) {
			snprintf(path, sizeof path, "task/%d/schedstat", tid);
			sum += waited(dir_fd, path);
		}
	proc_numbers_done(&p->threads);
	return sum;
}

static uint64_t grown(uint64_t now, uint64_t before)
{
	return now > before ? now - before : 0;
}

static void tell_memory(struct slot *s, int64_t resident, int64_t anonymous, const struct collect_sink *sink, void *userdata)
{
	int64_t page_size = sysconf(_SC_PAGESIZE);
	struct collect_memory memory = {
		.process = s->process,
		.resident = (resident - s->resident) * page_size,
		.anonymous = (anonymous - s->anonymous) * page_size,
	};

	if ((memory.resident || memory.anonymous) && sink->memory)
		sink->memory(userdata, &memory);
	s->resident = resident;
	s->anonymous = anonymous;
}

static void look_at_memory(struct slot *s, int dir_fd, const struct collect_sink *sink, void *userdata)
{
	long long size, resident, shared;
	char text[256];

	if (proc_read(dir_fd, "statm", text, sizeof text) >= 0 && sscanf(text, "%lld %lld %lld", &size, &resident, &shared) == 3)
		tell_memory(s, resident, MAX(resident - shared, 0LL), sink, userdata);
}

static void tell_total(struct sample_processes *p, struct slot *s, const struct proc_stat *stat, uint64_t on_cpu_ns, uint64_t runnable_ns,
                       uint64_t wall_ns, const struct collect_sink *sink, void *userdata)
{
	uint64_t on_cpu = grown(on_cpu_ns, s->on_cpu_ns), runnable = grown(runnable_ns, s->runnable_ns), present = stat->threads * wall_ns;
	struct collect_total total = {
		.process = s->process,
		.threads = stat->threads,
		.values = {
			[METRIC_ON_CPU] = on_cpu,
			[METRIC_BLOCKED] = grown(present, on_cpu + runnable),
			[METRIC_RUNNABLE] = runnable,
			[METRIC_FAULTS_MINOR] = grown(stat->faults_minor, s->faults_minor),
			[METRIC_FAULTS_MAJOR] = grown(stat->faults_major, s->faults_major),
		},
	};

	p->status.faults_minor += total.values[METRIC_FAULTS_MINOR];
	p->status.faults_major += total.values[METRIC_FAULTS_MAJOR];
	if (on_cpu || runnable || total.values[METRIC_FAULTS_MINOR] || total.values[METRIC_FAULTS_MAJOR])
		sink->total(userdata, &total);
}

static void look_at(struct sample_processes *p, struct slot *s, uint64_t on_cpu_ns, uint64_t wall_ns, const struct collect_sink *sink,
                    void *userdata)
{
	_cleanup_close_ int fd = open_process(p, s->process.pid);
	uint64_t runnable_ns, lived_ns = s->forked_ns ? clock_monotonic_ns() - s->forked_ns : wall_ns;
	struct proc_stat stat;
	char text[1024];

	if (fd < 0 || proc_read(fd, "stat", text, sizeof text) < 0 || proc_stat_parse(text, &stat) < 0)
		return;
	if (!agrees(p, s, &stat)) {
		tell_memory(s, 0, 0, sink, userdata);
		s = make(p, s->process.pid); /* it has a place already */
	}
	take_stat(p, s, &stat);
	if (s->read_ns == 0 || (p->scan + (uint32_t)s->process.pid) % REFRESH_SCANS == 0)
		identify(p, s, fd);
	runnable_ns = runnable_time(p, s, fd, stat.threads);
	/* Of one that was there before us nobody knows how much of it is of this tick. */
	if (s->accounted || s->forked_ns)
		tell_total(p, s, &stat, on_cpu_ns, runnable_ns, MIN(wall_ns, lived_ns), sink, userdata);
	look_at_memory(s, fd, sink, userdata);
	s->accounted = true;
	s->on_cpu_ns = on_cpu_ns;
	s->runnable_ns = runnable_ns;
	s->faults_minor = stat.faults_minor;
	s->faults_major = stat.faults_major;
}

static void visit(struct sample_processes *p, pid_t pid, uint64_t wall_ns, const struct collect_sink *sink, void *userdata)
{
	struct slot *s = find(p, pid);
	uint64_t on_cpu_ns;

	if (cpu_time(pid, &on_cpu_ns) < 0)
		return;
	if (!s)
		s = make(p, pid);
	if (!s)
		return;
	s->scan = p->scan;
	s->looked_ns = clock_monotonic_ns();
	s->ran_ns = 0;
	if (!s->accounted || on_cpu_ns != s->on_cpu_ns || (p->scan + (uint32_t)pid) % REFRESH_SCANS == 0)
		look_at(p, s, on_cpu_ns, wall_ns, sink, userdata);
}

static void tell_last(struct slot *s, const struct collect_sink *sink, void *userdata)
{
	const struct collect_total total = { .process = s->process, .threads = 1, .values = { [METRIC_ON_CPU] = s->ran_ns } };

	if (s->ran_ns)
		sink->total(userdata, &total);
	s->ran_ns = 0;
}

/* What no scan will meet again has ended. */
static void drop_ended(struct sample_processes *p, const struct collect_sink *sink, void *userdata)
{
	for (uint32_t i = 0; i < p->max; i++) {
		struct slot *s = &p->slots[i];

		if (s->process.pid == 0 || p->scan == s->scan)
			continue;
		tell_last(s, sink, userdata);
		if (p->scan - s->scan <= KEPT_SCANS)
			continue;
		tell_memory(s, 0, 0, sink, userdata);
		let_go(p, s);
	}
}

void sample_processes_scan(struct sample_processes *p, uint64_t wall_ns, const struct collect_sink *sink, void *userdata)
{
	uint64_t until_ns = clock_monotonic_ns() + SCAN_TIME_NS;
	pid_t pid, from = p->resume;

	p->status.faults_minor = p->status.faults_major = p->status.late = 0;
	p->threads_left = SCAN_THREADS_MAX;
	p->resume = 0;
	if (from == 0)
		p->scan++;
	if (proc_numbers_begin(&p->numbers, p->proc_fd, ".") >= 0)
		while (proc_numbers_next(&p->numbers, &pid)) {
			if (pid < from)
				continue;
			if (p->resume == 0 && clock_monotonic_ns() < until_ns) {
				visit(p, pid, wall_ns, sink, userdata);
				continue;
			}
			if (p->resume == 0)
				p->resume = pid;
			p->status.late++;
		}
	proc_numbers_done(&p->numbers);
	if (p->resume == 0)
		drop_ended(p, sink, userdata);
}

void sample_processes_get_status(const struct sample_processes *p, struct sample_processes_status *ret)
{
	*ret = p->status;
	ret->processes = (uint32_t)map64_size(p->by_pid);
	ret->processes_max = p->max;
}
