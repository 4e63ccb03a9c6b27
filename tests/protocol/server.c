/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The real API and store in a process of their own, with scripted rooms behind them, for test_protocol.py.
 *
 * server SOCKET [KEY=VALUE ...]: serves a minute of known ticks, says "ready FIRST_US LAST_US" on stdout,
 * takes commands on stdin and answers each with a line: "anomaly PID UID", "burst N", "lines", "status". Ends with
 * stdin. */
#include <ev.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "api.h"
#include "moments.h"
#include "thread_waits.h"
#include "lines.h"

#define ARENA_SIZE (64UL << 20)
#define MOMENTS_SIZE 65536
#define TICKS 60
#define NOBODY 65534

/* ---- rooms behind the API ---- */

static enum collect_gate_mode gate_mode = GATE_AUTO;
static uint64_t gate_until_us = USEC_INFINITY;

void collect_get_status(const struct collect *c _unused_, struct collect_status *ret)
{
	*ret = (struct collect_status){
		.gate_open = gate_mode == GATE_FORCED_OPEN,
		.gate_mode = gate_mode,
		.gate_until_us = gate_until_us,
		.load = 0.75,
		.load_source = "pelt_cfs_tp",
		.oncpu_source = "perf_event cpu-clock 49 Hz",
		.offcpu_source = "sched_switch",
		.faults_source = "perf_event",
		.totals_source = "iter/task",
		.online_cpus = 2,
		.stacks = 3,
		.stacks_max = 16384,
		.counts_peak = 3,
		.counts_max = 16384,
		.source = "perf",
		.source_reason = "Source=auto; the kernel has no BTF",
		.unmeasured = 1U << METRIC_BLOCKED | 1U << METRIC_HEAP,
		.map_bytes = 1 << 20,
	};
}

void symbols_get_status(const struct symbols *s _unused_, struct symbols_status *ret)
{
	*ret = (struct symbols_status){ .processes = 3, .processes_max = 100, .resolved = 10, .unnamed = 1 };
}

void unwind_get_status(const struct unwind *u _unused_, struct unwind_status *ret)
{
	*ret = (struct unwind_status){ .processes = 3, .processes_max = 4096, .objects = 5, .rows = 100000 };
}

void detect_get_status(const struct detect *d _unused_, struct detect_status *ret)
{
	/* Nothing may alarm yet: an infinite threshold, which JSON can't say. */
	*ret = (struct detect_status){ .scored = 1000, .suppressed = 2, .threshold = __builtin_inf() };
}

void alert_get_status(const struct alert *a _unused_, struct alert_status *ret)
{
	*ret = (struct alert_status){ .sent = 1 };
}

static void daemon_status(void *userdata _unused_, struct api_daemon_status *ret)
{
	*ret = (struct api_daemon_status){
		.version = "0.1.0",
		.kernel = "6.1.0",
		.config_path = "/etc/stackd/stackd.conf",
		.pid = getpid(),
		.ticks = TICKS,
		.open_above = 5,
		.close_below = 4,
		.false_alarms_per_day = 1,
		.conservation = { 0.99, __builtin_nan(""), -1, 1.01, [METRIC_FAULTS_MAJOR ... METRIC_N - 1] = -1 },
	};
}

static struct remedies *remedies;

static const struct remedies *get_remedies(void *userdata _unused_)
{
	return remedies;
}

static int gate_set(void *userdata _unused_, enum collect_gate_mode mode, uint64_t until_us, uint32_t by_uid)
{
	if (by_uid != 0)
		return -EPERM;
	gate_mode = mode;
	gate_until_us = until_us;
	return 0;
}

/* ---- source lines: of stack a1, by two processes; the first time that they are asked for they take a moment ---- */

static enum { LINES_UNKNOWN, LINES_ASKED, LINES_KNOWN } lines_state;

int symbols_resolve(struct symbols *s _unused_, const struct symbols_process_key *key _unused_, const uint64_t *kernel _unused_,
		    size_t n_kernel _unused_, const uint64_t *user, size_t n_user, struct symbols_frame ret_frames[static SYMBOLS_FRAMES_MAX],
		    size_t *ret_n, uint64_t *ret_stack_id)
{
	static const char *const names[] = { "spin", "work", "main" };

	*ret_n = n_user;
	*ret_stack_id = 0xa1;
	for (size_t i = 0; i < n_user; i++)
		ret_frames[i] = (struct symbols_frame){
			.kind = FRAME_USER, .function = names[i], .object = i == 1 ? "nodebug" : "app", .display = names[i], .file = 1 + i, .offset = user[i],
		};
	return 0;
}

int lines_find(struct lines *l _unused_, const struct symbols_process_key *key _unused_, const struct symbols_frame *frame,
	       struct line_places *ret)
{
	static const struct line_place places[] = { { "tiny", "/src/tiny.h", 7 }, { NULL, "/src/app.c", 42 }, { NULL, "", 0 } };

	*ret = (struct line_places){};
	if (lines_state != LINES_KNOWN)
		return -EAGAIN;
	if (streq(frame->object, "nodebug"))
		return -ENODATA;
	if (streq(frame->function, "spin"))
		*ret = (struct line_places){ .n = 2, .places = places };
	return 0;
}

void lines_ask(struct lines *l _unused_)
{
	if (lines_state == LINES_UNKNOWN)
		lines_state = LINES_ASKED;
}

void symbols_visit_without_debug(const struct symbols *s _unused_, symbols_file_fn fn, void *userdata)
{
	fn(userdata, "libz.so.1.2.13", "0a1b2c");
	fn(userdata, "odd\xff\"", "ff");
}

static size_t find_variants(void *userdata _unused_, uint64_t stack_id, struct api_variant ret[static API_VARIANTS_MAX],
			    double *ret_weight)
{
	const struct collect_process processes[] = { { .pid = 100, .uid = 0 }, { .pid = 200, .uid = NOBODY } };

	*ret_weight = 4;
	if (stack_id != 0xa1)
		return 0;
	for (size_t i = 0; i < ELEMENTS_OF(processes); i++)
		ret[i] = (struct api_variant){ .weight = 2 - (double)i,
					       .frames = { .process = processes[i], .n_user = 3, .user = { 1, 2, 3 + i } } };
	return ELEMENTS_OF(processes);
}

/* Process 1 turns out to have no allocator, process 2 can be watched, for others there is no room. */
static struct api_memory_watch watches[3] = {
	{ .id = 1, .pid = 1, .comm = "init", .state = API_MEMORY_ENDED, .ended_us = 1, .reason = "it has no allocator" },
	{ .id = 2, .pid = 2, .comm = "web", .state = API_MEMORY_WATCHED, .functions = 9, .since_us = 1, .until_us = USEC_INFINITY },
	{ .id = 3, .pid = API_MEMORY_KERNEL, .state = API_MEMORY_ENDED, .ended_us = 1, .reason = "its time is over" },
};
static struct api *served;
static struct ev_timer memory_timer;

static void on_memory_timer(struct ev_loop *loop _unused_, ev_timer *w, int events _unused_)
{
	watches[w->data ? 1 : 0].state = w->data ? API_MEMORY_WATCHED : API_MEMORY_ENDED;
	api_memory_changed(served);
}

/* It takes a moment, as it does when the parser is asked. */
static int memory_watch(void *userdata _unused_, pid_t pid, uint64_t until_us, uint32_t by_uid, uint32_t *ret_id)
{
	if (by_uid != 0)
		return -EPERM;
	if (pid > 2)
		return -ENOSPC;
	if (pid == API_MEMORY_KERNEL) {
		watches[2].state = API_MEMORY_WATCHED;
		watches[2].until_us = until_us;
		*ret_id = 3;
		return 0;
	}
	*ret_id = (uint32_t)pid;
	watches[pid - 1].state = API_MEMORY_BEGINS;
	watches[pid - 1].until_us = until_us;
	ev_timer_init(&memory_timer, on_memory_timer, 0.05, 0);
	memory_timer.data = pid == 2 ? &watches[1] : NULL;
	ev_timer_start(ev_default_loop(0), &memory_timer);
	return 0;
}

static int memory_unwatch(void *userdata _unused_, pid_t pid, uint32_t by_uid _unused_)
{
	struct api_memory_watch *w = &watches[pid == API_MEMORY_KERNEL ? 2 : 1];

	if (pid != w->pid || w->state != API_MEMORY_WATCHED)
		return -ENOENT;
	w->state = API_MEMORY_ENDED;
	copy_string(w->reason, sizeof(w->reason), "uid 0 asked for it");
	return 0;
}

static const struct api_memory_watch *memory_watch_at(void *userdata _unused_, size_t i)
{
	return i < ELEMENTS_OF(watches) ? &watches[i] : NULL;
}

/* One unit, whose process is watched at once. */
static struct api_memory_group memory_group = {
	.id = 1, .name = "web.service", .state = API_MEMORY_ENDED, .since_us = 1, .until_us = USEC_INFINITY, .processes = 2, .watched = 1, .left_out = 1,
};

static int memory_watch_group(void *userdata _unused_, const char *name, uint64_t until_us, uint32_t by_uid _unused_, uint32_t *ret_id)
{
	if (!streq(name, memory_group.name))
		return *name == '/' ? -ESRCH : -ENOENT;
	memory_group.state = API_MEMORY_WATCHED;
	memory_group.until_us = until_us;
	copy_string(watches[1].group, sizeof(watches[1].group), name);
	*ret_id = memory_group.id;
	return 0;
}

static int memory_unwatch_group(void *userdata _unused_, const char *name, uint32_t by_uid _unused_)
{
	if (!streq(name, memory_group.name) || memory_group.state != API_MEMORY_WATCHED)
		return -ENOENT;
	memory_group.state = API_MEMORY_ENDED;
	return 0;
}

static const struct api_memory_group *memory_group_at(void *userdata _unused_, size_t i)
{
	return i == 0 ? &memory_group : NULL;
}

static size_t leaks(void *userdata _unused_, pid_t pid, struct api_leak *ret, size_t max, struct api_leaks *ret_all)
{
	static const struct api_leak told[] = {
		{ .watch = 2, .pid = 2, .comm = "web", .stack_id = 0xa1, .blocks = 3, .bytes = 50, .measured = true, .grows = true, .per_minute = 7.5 },
		{ .watch = 3, .kernel = true, .pid = 2, .comm = "web", .stack_id = 0xa2, .blocks = 10, .bytes = 1000, .older = { 600, 30, 1 } },
	};
	size_t n = pid && pid != 2 ? 0 : MIN(max, ELEMENTS_OF(told));

	memcpy(ret, told, n * sizeof(told[0]));
	*ret_all = (struct api_leaks){ .counted_us = 5, .bytes = 1062, .unnamed = 8, .left_out = 4 };
	return n;
}

/* ---- known data ---- */

struct data {
	struct store *store;
	struct moments *moments;
	struct thread_waits *thread_waits;
	store_ref web, app, tool; /* processes of root, nobody and uid 1000 */
	store_ref spin, fib, wait, odd;
	uint64_t first_us, last_us;
	struct clusters *clusters;
	struct api *api;
	uint64_t now_us; /* of the clusters */
};

static void die(const char *what, int r)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	exit(EXIT_FAILURE);
}

static store_ref make_process(struct store *s, pid_t pid, uint32_t uid, const char *name)
{
	char exe[64], unit[64], cgroup[64];
	struct store_process p = {
		.pid = pid, .exec_id = 1, .uid = uid, .comm = name, .exe = exe, .unit = unit, .cgroup = cgroup
	};
	store_ref ref;
	int r;

	p.start_ns = clock_boottime_ns() - NSEC_PER_SEC * 3600;
	p.start_us = clock_realtime_us() - USEC_PER_SEC * 3600;
	snprintf(exe, sizeof(exe), "/usr/bin/%s", name);
	snprintf(unit, sizeof(unit), "%s.service", name);
	snprintf(cgroup, sizeof(cgroup), "/system.slice/%s.service", name);
	r = store_intern_process(s, &p, &ref);
	if (r < 0)
		die("process", r);
	return ref;
}

/* names: innermost first, ended by NULL. */
static store_ref make_stack(struct store *s, uint64_t id, const char *const *names, bool truncated)
{
	struct store_frame frames[32];
	store_ref ref;
	size_t n;
	int r;

	for (n = 0; names[n]; n++)
		frames[n] = (struct store_frame){ .id = hash64_string(names[n], 1),
		                                  .display = names[n],
		                                  .object = "app",
		                                  .kind = names[n][0] == '[' ? FRAME_UNKNOWN : FRAME_USER,
		                                  .build_id = names[n][0] == '[' ? NULL : "0123abcd",
		                                  .address = names[n][0] == '[' ? 0 : 0x1000 + n };
	r = store_intern_stack(s, id, frames, n, truncated, &ref);
	if (r < 0)
		die("stack", r);
	return ref;
}

static void add(struct data *d, store_ref process, store_ref stack, enum metric m, uint64_t value)
{
	uint64_t values[METRIC_N] = { 0 };
	int r;

	values[m] = value;
	r = store_add(d->store, process, stack, values);
	if (r < 0)
		die("add", r);
}

/* In units a tick: root's web 8 in spin and 4 in fib; nobody's app 2 in spin, and 16 blocked; uid 1000's tool
 * 1 runnable. The store rounds to some significant bits: these, and the sums of ten and sixty, are exact. */
static void fill_tick(struct data *d)
{
	uint64_t unit = 1 << 26, total[METRIC_N] = { [METRIC_ON_CPU] = 12 * unit };

	add(d, d->web, d->spin, METRIC_ON_CPU, 8 * unit);
	add(d, d->web, d->fib, METRIC_ON_CPU, 4 * unit);
	add(d, d->app, d->spin, METRIC_ON_CPU, 2 * unit);
	add(d, d->app, d->wait, METRIC_BLOCKED, 16 * unit);
	/* an estimate, of which a quarter is the standard error */
	if (store_add_variances(d->store, d->app, d->wait, (const uint64_t[METRIC_N]){ [METRIC_BLOCKED] = 1ULL << 36 }) < 0)
		die("add variances", -EINVAL);
	add(d, d->tool, d->odd, METRIC_RUNNABLE, unit);
	store_add_total(d->store, d->web, total);
	total[METRIC_ON_CPU] = 2 * unit;
	store_add_total(d->store, d->app, total);
}

/* Samples of the second: of web 16 ms each at 100 and 120 ms in spin, 8 ms at 300 ms in fib; of app 4 ms at 500 ms in spin; and 1 ms at
 * 700 ms of nobody knows what. */
static void fill_moments(struct data *d, uint64_t begin_us)
{
	const struct {
		store_ref process, stack;
		uint64_t at_ms, weight_ms;
		uint32_t tid;
		const char *comm;
	} samples[] = {
		{ d->app, d->spin, 500, 4, 200, "" },        { d->web, d->spin, 100, 16, 101, "worker" }, { d->web, d->spin, 120, 16, 102, "worker" },
		{ d->web, d->fib, 300, 8, 101, "worker" }, { 0, 0, 700, 1, 999, "gone" },
	};

	for (size_t i = 0; i < ELEMENTS_OF(samples); i++) {
		uint64_t raw_id = (uint64_t)samples[i].process << 32 | samples[i].stack;

		if (raw_id)
			moments_name(d->moments, raw_id, samples[i].process, samples[i].stack);
		moments_add(d->moments, raw_id, begin_us + samples[i].at_ms * USEC_PER_MSEC, samples[i].weight_ms * NSEC_PER_SEC / 1000, samples[i].tid,
		            samples[i].comm);
	}
	moments_end_tick(d->moments, begin_us, begin_us + USEC_PER_SEC);
}

/* In each second a thread of app is blocked for 300 ms and waits 50 ms for a CPU, of which the latter stands for shorter waits; a thread of web is
 * blocked all the time, and another one half of the seconds. */
static void fill_thread_waits(struct data *d, uint64_t begin_us, unsigned tick)
{
	struct thread_waits *w = d->thread_waits;

	thread_waits_name(w, 1, d->app, d->wait);
	thread_waits_name(w, 2, d->web, d->wait);
	if (tick == 1)
		thread_waits_begin(w, 2, 101, "worker", begin_us);
	if (tick == 1)
		thread_waits_begin(w, 2, 102, "worker", begin_us);
	if (tick == TICKS / 2 + 1)
		thread_waits_end(w, 2, 102, begin_us);
	thread_waits_add(w, 1, begin_us + 400 * USEC_PER_MSEC, METRIC_BLOCKED, 300 * USEC_PER_MSEC * NSEC_PER_USEC, false, 201, "client");
	thread_waits_add(w, 1, begin_us + 450 * USEC_PER_MSEC, METRIC_RUNNABLE, 50 * USEC_PER_MSEC * NSEC_PER_USEC, true, 201, "client");
	thread_waits_end_tick(w, begin_us, begin_us + USEC_PER_SEC);
}

/* One tick with n stacks of 30 frames, half of them in common. */
static void fill_many(struct data *d, unsigned n)
{
	char names[31][24];
	const char *list[31] = { NULL };

	for (unsigned i = 0; i < n; i++) {
		for (unsigned f = 0; f < 30; f++) {
			snprintf(names[f], sizeof(names[f]), "function_%u_%u", f, f < 15 ? i % 1000 : 0);
			list[f] = names[f];
		}
		add(d, d->web, make_stack(d->store, 1000 + i, list, false), METRIC_FAULTS_MINOR, 1 + i % 100);
	}
}

static void commit(struct data *d, uint64_t time_us, unsigned tick)
{
	struct store_tick t = { .time_us = time_us,
	                        .duration_ns = NSEC_PER_SEC,
	                        .load_milli = 1500,
	                        .online_cpus = 2,
	                        .gate_open = tick % 2,
	                        .n_losses = 3,
	                        .losses = { { "stacks-full", 3 }, { "faults-unseen", 4 }, { "wakeup-unseen", 20 } } };
	int r = store_tick_commit(d->store, &t);

	if (r < 0)
		die("commit", r);
}

static void fill(struct data *d, unsigned many)
{
	static const char *const spin[] = { "spin", "work", "main", NULL };
	static const char *const fib[] = { "fib", "fib", "fib", "work", "main", NULL };
	static const char *const wait[] = { "[libc.so.6+0x2718a]", "wait_for_it", "main", NULL };
	static const char *const odd[] = { "odd\xff\"name\n", "main", NULL };
	const struct store_gate_change change = { .load = 6, .open = true, .cause = "load" };

	d->last_us = clock_realtime_us() / USEC_PER_SEC * USEC_PER_SEC;
	d->first_us = d->last_us - TICKS * USEC_PER_SEC;
	d->web = make_process(d->store, 100, 0, "web");
	d->app = make_process(d->store, 200, NOBODY, "app");
	d->tool = make_process(d->store, 300, 1000, "tool");
	d->spin = make_stack(d->store, 0xa1, spin, false);
	d->fib = make_stack(d->store, 0xa2, fib, false);
	d->wait = make_stack(d->store, 0xa3, wait, false);
	d->odd = make_stack(d->store, 0xa4, odd, true);
	for (unsigned i = 1; i <= TICKS; i++) {
		uint64_t time_us = d->first_us + i * USEC_PER_SEC;

		store_tick_begin(d->store, time_us, NSEC_PER_SEC);
		fill_tick(d);
		fill_moments(d, time_us - USEC_PER_SEC);
		fill_thread_waits(d, time_us - USEC_PER_SEC, i);
		if (i == TICKS && many > 0)
			fill_many(d, many);
		commit(d, time_us, i);
	}
	for (unsigned i = 0; i < 3; i++) {
		struct store_gate_change c = change;

		c.time_us = d->first_us + i * USEC_PER_SEC;
		c.open = i % 2 == 0;
		store_add_gate_change(d->store, &c);
	}
}

static uint64_t add_anomaly(struct data *d, pid_t pid, uint32_t uid)
{
	struct store_anomaly a = { .time_us = clock_realtime_us(),
	                           .type = DETECT_LEVEL_SHIFT,
	                           .metric = METRIC_ON_CPU,
	                           .score = 9,
	                           .p_value = 1e-9,
	                           .observed = 7e8,
	                           .expected = 1e6,
	                           .load = 1.5,
	                           .series_id = 7,
	                           .stack_id = 0xa1,
	                           .uid = uid,
	                           .pid = pid,
	                           .process_start_us = clock_realtime_us() - USEC_PER_SEC,
	                           .comm = "web" };
	int r;

	a.since_us = a.time_us - USEC_PER_SEC;
	copy_string(a.exe, sizeof(a.exe), "/usr/bin/web");
	copy_string(a.unit, sizeof(a.unit), "web.service");
	copy_string(a.cgroup, sizeof(a.cgroup), "/system.slice/web.service");
	r = store_add_anomaly(d->store, &a);
	if (r < 0)
		die("anomaly", r);
	api_publish_anomaly(d->api, &a);
	return a.id;
}

/* ---- known incidents: of root, of nobody, and of both; each a cluster of its own ---- */

static double observed; /* of every series */

static double observe(void *userdata _unused_, const struct cluster_incident *incident _unused_, const struct cluster_series *series _unused_)
{
	return observed;
}

static uint64_t add_incident(struct clusters *c, uint64_t time_us, uint32_t uid, const char *unit, const char *function, uint64_t stack)
{
	const struct cluster_frame frames[] = { { .function = function, .object = "app" }, { .function = "main", .object = "app" } };
	static uint64_t n;

	n++;
	return clusters_add(c, &(struct cluster_anomaly){ .id = n, .time_us = time_us, .series_id = n, .stack_id = stack, .metric = METRIC_ON_CPU,
	                                           .observed = 1e9, .score = 7, .uid = uid, .pid = 100 + (pid_t)n, .unit = unit, .cgroup = "/",
	                                           .exe = unit, .comm = "app", .frames = frames, .n_frames = ELEMENTS_OF(frames) }, NULL, NULL);
}

static struct clusters *make_clusters(uint64_t now_us)
{
	static const char rules[] = "[spin]\nKind=cpu-spin\nName=%f of %p\nExplain=It spins.\nTry=look at %u\n";
	const struct cluster_config config = { .max_clusters = 16, .max_incidents = 64 };
	struct clusters *c;
	int r = clusters_new(&c, &config);

	if (r < 0 || (r = remedies_parse(&remedies, "rules", rules, sizeof(rules) - 1, NULL, NULL)) < 0)
		die("clusters", r);
	add_incident(c, now_us - 3000 * USEC_PER_SEC, 0, "web.service", "spin", 0xa1);
	add_incident(c, now_us - 2000 * USEC_PER_SEC, NOBODY, "app.service", "churn", 0xa2);
	add_incident(c, now_us - 1000 * USEC_PER_SEC, 0, "web.service", "mixed", 0xa3);
	add_incident(c, now_us - 1000 * USEC_PER_SEC, NOBODY, "app.service", "mixed", 0xa3);
	for (unsigned i = 0; i < 20; i++)
		clusters_tick(c, now_us + i * USEC_PER_SEC - 900 * USEC_PER_SEC, observe, NULL, NULL);
	/* Goes on. */
	add_incident(c, now_us, 0, "web.service", "spin", 0xa1);
	return c;
}

static void publish(void *userdata, enum cluster_event_kind event, const struct cluster_incident *incident)
{
	struct data *d = userdata;

	api_publish_incident(d->api, event, incident, d->now_us);
}

/* Time goes on by so many seconds; what happens to incidents is published. */
static void go_on(struct data *d, unsigned seconds, double value)
{
	observed = value;
	for (unsigned i = 0; i < seconds; i++) {
		d->now_us += USEC_PER_SEC;
		clusters_tick(d->clusters, d->now_us, observe, publish, d);
	}
}

/* ---- commands ---- */

struct server {
	struct ev_loop *loop;
	struct data data;
	char line[256];
	size_t used;
};

static void run(struct server *s, const char *line)
{
	struct api_status status;
	unsigned a, b;
	char name[64];
	double value;

	api_get_status(s->data.api, &status);
	if (sscanf(line, "anomaly %u %u", &a, &b) == 2) {
		printf("%llu\n", (unsigned long long)add_anomaly(&s->data, (pid_t)a, b));
	} else if (streq(line, "lines")) {
		/* Those that were asked for have come. */
		printf("%d\n", lines_state);
		lines_state = LINES_KNOWN;
		api_lines_arrived(s->data.api);
	} else if (sscanf(line, "burst %u", &a) == 1) {
		uint64_t id = 0;

		/* As many ticks would: one commit can't hold them all. */
		for (unsigned i = 0; i < a; i++)
			id = add_anomaly(&s->data, 100, 0);
		printf("%llu\n", (unsigned long long)id);
	} else if (sscanf(line, "incident %u %63s", &a, name) == 2) {
		const char *unit = a == 0 ? "web.service" : "app.service";

		printf("%llu\n", (unsigned long long)add_incident(s->data.clusters, s->data.now_us, a, unit, name, 0xa1));
	} else if (sscanf(line, "seconds %u %lf", &a, &value) == 2) {
		go_on(&s->data, a, value);
		printf("%llu\n", (unsigned long long)s->data.now_us);
	} else {
		printf("%u %u %llu %llu %llu %llu %llu\n", status.connections, status.subscribers,
		       (unsigned long long)status.accepted, (unsigned long long)status.refused,
		       (unsigned long long)status.calls, (unsigned long long)status.errors,
		       (unsigned long long)status.dropped);
	}
	fflush(stdout);
}

static void on_command(struct ev_loop *loop, ev_io *w, int events _unused_)
{
	struct server *s = w->data;
	ssize_t n = read(STDIN_FILENO, s->line + s->used, sizeof(s->line) - 1 - s->used);
	char *end;

	if (n <= 0) {
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	s->used += (size_t)n;
	s->line[s->used] = '\0';
	while ((end = strchr(s->line, '\n'))) {
		*end = '\0';
		run(s, s->line);
		s->used -= (size_t)(end + 1 - s->line);
		memmove(s->line, end + 1, s->used + 1);
	}
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd < 0 || !copy_string(address.sun_path, sizeof(address.sun_path), path) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || chmod(path, 0666) < 0 ||
	    listen(fd, SOMAXCONN) < 0)
		die(path, negative_errno());
	return fd;
}

int main(int argc, char **argv)
{
	struct api_config config = { .max_connections = 64,
	                             .max_connections_uid = 16,
	                             .subscriber_queue = 256,
	                             .request_timeout_us = 30 * USEC_PER_SEC,
	                             .users_see_own = true,
	                             .group = (gid_t)-1 };
	const struct store_config store_config = { .tiers = { { 1, 900 }, { 10, 14400 }, { 60, 172800 } },
	                                           .series_state_size = 16,
	                                           .global_state_size = 16,
	                                           .slices_per_series = 64 };
	const struct api_actions actions = { .status = daemon_status, .gate_set = gate_set, .remedies = get_remedies, .variants = find_variants,
	                                     .memory_watch = memory_watch, .memory_unwatch = memory_unwatch, .memory_watch_at = memory_watch_at,
	                                     .memory_watch_group = memory_watch_group, .memory_unwatch_group = memory_unwatch_group, .memory_group_at = memory_group_at,
	                                     .leaks = leaks };
	struct server s = { .loop = ev_default_loop(0) };
	struct api_views views = { 0 };
	unsigned many = 0, value;
	void *arena;
	bool reused;
	ev_io commands;
	int r;

	log_setup("server", LOG_LEVEL_ERROR);
	for (int i = 2; i < argc; i++) {
		if (sscanf(argv[i], "max=%u", &value) == 1)
			config.max_connections = value;
		else if (sscanf(argv[i], "uid_max=%u", &value) == 1)
			config.max_connections_uid = value;
		else if (sscanf(argv[i], "queue=%u", &value) == 1)
			config.subscriber_queue = value;
		else if (sscanf(argv[i], "timeout_ms=%u", &value) == 1)
			config.request_timeout_us = value * USEC_PER_MSEC;
		else if (sscanf(argv[i], "own=%u", &value) == 1)
			config.users_see_own = value;
		else if (sscanf(argv[i], "group=%u", &value) == 1)
			config.group = value;
		else if (sscanf(argv[i], "many=%u", &value) == 1)
			many = value;
		else if (sscanf(argv[i], "files=%u", &value) == 1)
			setrlimit(RLIMIT_NOFILE, &(struct rlimit){ value, value });
		else
			die(argv[i], -EINVAL);
	}
	arena = calloc(1, ARENA_SIZE);
	if (!arena || argc < 2)
		die("arguments", -EINVAL);
	r = store_open(&s.data.store, arena, ARENA_SIZE, &store_config, &reused);
	if (r < 0)
		die("store", r);
	r = moments_new(&s.data.moments, MOMENTS_SIZE);
	if (r < 0)
		die("moments", r);
	r = thread_waits_new(&s.data.thread_waits, MOMENTS_SIZE);
	if (r < 0)
		die("threads' waits", r);
	fill(&s.data, many);
	views.moments = s.data.moments;
	views.thread_waits = s.data.thread_waits;
	views.store = s.data.store;
	s.data.now_us = clock_realtime_us();
	views.clusters = s.data.clusters = make_clusters(s.data.now_us);
	r = api_new(&s.data.api, s.loop, listen_at(argv[1]), &config, &views, &actions);
	if (r < 0)
		die("api", r);
	served = s.data.api;
	ev_io_init(&commands, on_command, STDIN_FILENO, EV_READ);
	commands.data = &s;
	ev_io_start(s.loop, &commands);
	printf("ready %llu %llu\n", (unsigned long long)s.data.first_us, (unsigned long long)s.data.last_us);
	fflush(stdout);
	ev_run(s.loop, 0);
	api_free(s.data.api);
	moments_free(s.data.moments);
	thread_waits_free(s.data.thread_waits);
	store_close(s.data.store);
	clusters_free(views.clusters);
	remedies_free(remedies);
	free(arena);
	ev_loop_destroy(s.loop);
	return EXIT_SUCCESS;
}
