/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "manager.h"

#include <ev.h>
#include <grp.h>
#include <malloc.h>
#include <math.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "api.h"
#include "arena.h"
#include "conf.h"
#include "helper.h"
#include "leaks.h"
#include "lines.h"
#include "listen.h"
#include "moments.h"
#include "pipeline.h"
#include "pressure.h"
#include "privileges.h"
#include "recorder.h"
#include "unwind.h"
#include "version.h"
#include "watches.h"

#define TICK_S 1.0
#define REFRESH_TICKS 60
#define GROUP_NAME "stackd"

struct manager {
	const struct manager_options *options;
	struct conf conf;
	struct utsname kernel;
	uint64_t started_us;
	int exit_error;
	bool owns_socket; /* bound here, not passed */

	struct helper *helper, *lines_helper;
	struct arena arena;
	struct store *store;
	struct moments *moments;
	struct detect *detect;
	struct alert *alert;
	struct incidents *incidents;
	struct collect *collect;
	struct symbols *symbols;
	struct lines *lines;
	struct unwind *unwind;
	struct pressure *pressure;
	struct pipeline *pipeline;
	struct live_source live;
	struct recorder *recorder; /* NULL: nothing is recorded */
	struct watches *watches;
	struct leaks *leaks;
	struct api *api;

	struct ev_loop *loop;
	ev_timer tick, record_end;
	ev_io gate, mappings, parser, lines_parser, pressures;
	ev_signal terminate, interrupt, hangup;
};

/* ---- configuration to rooms ---- */

static struct collect_config collect_config(const struct conf *c)
{
	static const enum collect_source sources[] = {
		[CONF_SOURCE_AUTO] = COLLECT_AUTO, [CONF_SOURCE_BPF] = COLLECT_BPF, [CONF_SOURCE_PERF] = COLLECT_PERF
	};

	return (struct collect_config) {
		.source = sources[c->source],
		.copy_bytes = c->stack_copy,
		.oncpu_source = c->update_rq_clock ? ONCPU_UPDATE_RQ_CLOCK : ONCPU_PERF_EVENT,
		.sample_hz = c->sample_hz,
		.baseline_hz = c->baseline_hz,
		.fault_hz = c->fault_hz,
		.fault_baseline_hz = c->fault_baseline_hz,
		.offcpu_stacks_per_sec = c->offcpu_stacks,
		.known_stacks = c->known_stacks,
		.memory_stacks_per_sec = c->memory_stacks,
		.memory_baseline_stacks_per_sec = c->memory_baseline_stacks,
		.cpu_budget_closed = c->cpu_budget_closed / 100,
		.cpu_budget_open = c->cpu_budget_open / 100,
		.heap_sample_bytes = c->heap_sample_bytes,
		.max_heap_blocks = c->max_heap_blocks,
		.open_above = c->open_above,
		.close_below = c->close_below,
		.close_after_us = c->close_after_us,
		.cooldown_us = c->cooldown_us,
		.max_stacks = c->max_stacks,
		.max_counts = c->max_counts,
		.max_processes = c->max_processes,
		.unwind_depth = c->unwind_depth,
	};
}

static struct recording_config recording_config(const struct manager *m)
{
	struct recording_config c = {
		.store_size = m->arena.size,
		.keep_us = { m->conf.keep_1s_us, m->conf.keep_10s_us, m->conf.keep_1min_us },
		.slices_per_series = m->conf.slices_per_series,
		.max_stacks = m->conf.max_stacks,
		.max_clusters = m->conf.max_clusters,
		.max_incidents = m->conf.max_incidents,
		.memory_bytes = scoring_machine_memory(),
		.false_alarms_per_day = m->conf.false_alarms_per_day,
		.version = STACKD_VERSION,
	};

	copy_string(c.kernel, sizeof(c.kernel), m->kernel.release);
	copy_string(c.machine, sizeof(c.machine), m->kernel.machine);
	return c;
}

static struct store_config store_config(const struct conf *c)
{
	return (struct store_config) {
		.tiers = {
			{ 1, c->keep_1s_us / USEC_PER_SEC },
			{ 10, c->keep_10s_us / USEC_PER_SEC },
			{ 60, c->keep_1min_us / USEC_PER_SEC },
		},
		.series_state_size = detect_series_state_size(),
		.global_state_size = detect_global_state_size(),
		.slices_per_series = c->slices_per_series,
	};
}

static struct api_config api_config(const struct conf *c)
{
	struct group *group = getgrnam(GROUP_NAME);

	return (struct api_config) {
		.max_connections = c->max_connections,
		.max_connections_uid = c->max_connections_uid,
		.subscriber_queue = c->subscriber_queue,
		.request_timeout_us = c->request_timeout_us,
		.users_see_own = c->users_see_own,
		.group = group ? group->gr_gid : (gid_t) -1,
	};
}

static struct detect_config detect_config(const struct conf *c)
{
	return (struct detect_config) { .false_alarms_per_day = c->false_alarms_per_day };
}

static struct alert_config alert_config(const struct conf *c)
{
	return (struct alert_config) { .burst = c->alert_burst, .interval_us = c->alert_interval_us };
}

/* ---- self-accounting ---- */

static uint64_t resident_bytes(void)
{
	_cleanup_free_ char *text = NULL;
	unsigned long long size, resident;

	if (read_small_file(-1, "/proc/self/statm", 256, &text, NULL) < 0 || sscanf(text, "%llu %llu", &size, &resident) != 2)
		return 0;
	return resident * sysconf(_SC_PAGESIZE);
}

static void fill_status(void *userdata, struct api_daemon_status *ret)
{
	struct manager *m = userdata;
	struct pipeline_status p;
	struct lines_status lines;

	pipeline_get_status(m->pipeline, &p);
	*ret = (struct api_daemon_status) {
		.version = STACKD_VERSION,
		.kernel = m->kernel.release,
		.config_path = m->options->config_path,
		.pid = getpid(),
		.opener_pid = helper_opener_pid(m->helper),
		.parser_pid = helper_parser_pid(m->helper),
		.parser_restarts = helper_parser_restarts(m->helper) + helper_parser_restarts(m->lines_helper),
		.started_us = m->started_us,
		.ticks = p.ticks,
		.ticks_missed = p.ticks_missed,
		.last_tick_us = p.last_tick_us,
		.tick_cost_ns = p.cost_ns,
		.tick_cost_max_ns = p.cost_max_ns,
		.resident_bytes = resident_bytes(),
		.pending = p.pending,
		.pending_max = p.pending_max,
		.cached_stacks = p.cached_stacks,
		.cached_stacks_max = p.cached_stacks_max,
		.waits = p.waits,
		.waits_max = p.waits_max,
		.open_above = m->conf.open_above,
		.close_below = m->conf.close_below,
		.false_alarms_per_day = m->conf.false_alarms_per_day,
	};
	lines_get_status(m->lines, &lines);
	ret->lines_parser_pid = lines.parser_pid;
	ret->lines_used = lines.used;
	ret->lines_max = lines.max;
	ret->holders = leaks_count(m->leaks, &ret->holders_max);
	ret->cpu_ns = process_cpu_ns(getpid()) + process_cpu_ns(ret->opener_pid) + process_cpu_ns(ret->parser_pid) +
	              (lines.parser_pid > 0 ? process_cpu_ns(lines.parser_pid) : 0);
	memcpy(ret->conservation, p.conservation, sizeof(ret->conservation));
}

/* ---- events ---- */

static void on_anomaly(void *userdata, const struct store_anomaly *anomaly)
{
	struct manager *m = userdata;

	if (m->api)
		api_publish_anomaly(m->api, anomaly);
}

static void on_incident(void *userdata, enum cluster_event_kind event, const struct cluster_incident *incident, uint64_t time_us)
{
	struct manager *m = userdata;

	if (m->api)
		api_publish_incident(m->api, event, incident, time_us);
}

static void tell_service_manager(struct manager *m)
{
	struct collect_status gate;
	struct pipeline_status p;

	collect_get_status(m->collect, &gate);
	pipeline_get_status(m->pipeline, &p);
	sd_notifyf(0, "WATCHDOG=1\nSTATUS=Gate %s at load %.2f; %u live series; %llu ticks, %llu missed.", gate.gate_open ? "open" : "closed",
	           gate.load, p.last_series, (unsigned long long) p.ticks, (unsigned long long) p.ticks_missed);
}

static void end_recorded_tick(struct manager *m)
{
	struct recording_digest digest;
	int r;

	pipeline_get_digest(m->pipeline, &digest);
	r = recorder_end_tick(m->recorder, &digest);
	if (r < 0) {
		log_error("cannot write the recording: %s", strerror(-r));
		m->exit_error = r;
		ev_break(m->loop, EVBREAK_ALL);
	}
}

static void on_record_end(struct ev_loop *loop, ev_timer *w _unused_, int events _unused_)
{
	ev_break(loop, EVBREAK_ALL);
}

static void on_tick(struct ev_loop *loop _unused_, ev_timer *w, int events _unused_)
{
	struct manager *m = w->data;
	const pid_t own[] = { getpid(), helper_opener_pid(m->helper), helper_parser_pid(m->helper), helper_parser_pid(m->lines_helper) };
	uint64_t now_us = clock_realtime_us();
	struct pipeline_status p;
	int r;

	if (m->recorder)
		recorder_begin_tick(m->recorder, now_us, own, ELEMENTS_OF(own));
	pipeline_set_own_pids(m->pipeline, own, ELEMENTS_OF(own));
	watches_set_own_pids(m->watches, own, ELEMENTS_OF(own));
	r = pipeline_tick(m->pipeline, now_us, on_anomaly, m);
	if (r < 0) {
		/* No WATCHDOG=1: should it go on, the service manager starts us anew. */
		log_error("cannot drain the collectors: %s", strerror(-r));
		return;
	}
	if (m->recorder)
		end_recorded_tick(m);
	watches_tick(m->watches);
	leaks_tick(m->leaks, clock_realtime_us());
	lines_rest(m->lines);
	if (m->api)
		api_lines_arrived(m->api);
	tell_service_manager(m);
	pipeline_get_status(m->pipeline, &p);
	if (p.ticks % REFRESH_TICKS == 0) {
		r = symbols_refresh(m->symbols);
		if (r < 0)
			log_warning("cannot read /proc/kallsyms again: %s; kernel names may be missing", strerror(-r));
	}
}

static void on_gate(struct ev_loop *loop _unused_, ev_io *w, int events _unused_)
{
	struct manager *m = w->data;
	int r = collect_gate_dispatch(m->collect);

	if (r < 0)
		log_error("cannot switch the collectors as the gate asks: %s", strerror(-r));
}

static void on_mappings(struct ev_loop *loop _unused_, ev_io *w, int events _unused_)
{
	struct manager *m = w->data;

	pipeline_take_mappings(m->pipeline);
}

static void on_parser(struct ev_loop *loop _unused_, ev_io *w, int events _unused_)
{
	struct manager *m = w->data;

	if (symbols_dispatch(m->symbols) > 0) {
		pipeline_names_arrived(m->pipeline);
		if (m->api)
			api_lines_arrived(m->api);
	}
	/* A new parser means a new socket. */
	if (parser_fd(m->helper) != w->fd) {
		ev_io_stop(m->loop, w);
		ev_io_set(w, parser_fd(m->helper), EV_READ);
		ev_io_start(m->loop, w);
	}
}

static void on_lines(struct ev_loop *loop _unused_, ev_io *w, int events _unused_)
{
	struct manager *m = w->data;

	if (lines_dispatch(m->lines) > 0 && m->api)
		api_lines_arrived(m->api);
}

static void on_pressure(struct ev_loop *loop _unused_, ev_io *w, int events _unused_)
{
	struct manager *m = w->data;
	const char *cause;

	while ((cause = pressure_next(m->pressure)))
		collect_gate_open_for(m->collect, cause);
}

static void on_terminate(struct ev_loop *loop, ev_signal *w, int events _unused_)
{
	struct manager *m = w->data;

	log_info("%s, stopping", w->signum == SIGTERM ? "terminated" : "interrupted");
	ev_break(m->loop ? m->loop : loop, EVBREAK_ALL);
}

static int set_gate(void *userdata, enum collect_gate_mode mode, uint64_t until_us, uint32_t by_uid)
{
	static const char *const modes[] = { [GATE_AUTO] = "automatic", [GATE_FORCED_OPEN] = "open", [GATE_FORCED_CLOSED] = "closed" };
	struct manager *m = userdata;
	int r = collect_gate_set(m->collect, mode, until_us);

	if (r >= 0)
		log_notice("gate set to %s by uid %u", modes[mode], by_uid);
	return r;
}

static int watch_memory(void *userdata, pid_t pid, uint64_t until_us, uint32_t by_uid, uint32_t *ret_id)
{
	struct manager *m = userdata;

	return watches_begin(m->watches, pid, until_us, by_uid, ret_id);
}

static int unwatch_memory(void *userdata, pid_t pid, uint32_t by_uid)
{
	struct manager *m = userdata;

	return watches_end(m->watches, pid, by_uid);
}

static const struct api_memory_watch *memory_watch_at(void *userdata, size_t i)
{
	struct manager *m = userdata;

	return watches_at(m->watches, i);
}

static int watch_memory_group(void *userdata, const char *name, uint64_t until_us, uint32_t by_uid, uint32_t *ret_id)
{
	struct manager *m = userdata;

	return watches_begin_group(m->watches, name, until_us, by_uid, ret_id);
}

static int unwatch_memory_group(void *userdata, const char *name, uint32_t by_uid)
{
	struct manager *m = userdata;

	return watches_end_group(m->watches, name, by_uid);
}

static const struct api_memory_group *memory_group_at(void *userdata, size_t i)
{
	struct manager *m = userdata;

	return watches_group_at(m->watches, i);
}

static size_t list_leaks(void *userdata, pid_t pid, struct api_leak *ret, size_t max, struct api_leaks *ret_all)
{
	struct manager *m = userdata;

	return leaks_list(m->leaks, pid, ret, max, ret_all);
}

static void on_watches_changed(void *userdata)
{
	struct manager *m = userdata;

	if (m->api)
		api_memory_changed(m->api);
}

static void take_allocators(void *userdata, const struct parser_reply *reply)
{
	watches_take(userdata, reply);
}

static const struct remedies *get_remedies(void *userdata)
{
	struct manager *m = userdata;

	return incidents_remedies(m->incidents);
}

static size_t find_variants(void *userdata, uint64_t stack_id, struct api_variant ret[static API_VARIANTS_MAX], double *ret_weight)
{
	struct stack_address found[API_VARIANTS_MAX];
	struct manager *m = userdata;
	size_t n = pipeline_addresses(m->pipeline, stack_id, found, ELEMENTS_OF(found), ret_weight), kept = 0;

	for (size_t i = 0; i < n; i++)
		if (collect_frames(m->collect, found[i].raw_id, &ret[kept].frames) >= 0)
			ret[kept++].weight = found[i].weight;
	return kept;
}

static void apply(struct manager *m, const struct conf *c)
{
	struct collect_config collect = collect_config(c);
	struct detect_config detect = detect_config(c);
	struct alert_config alert = alert_config(c);
	struct api_config api = api_config(c);
	int r = collect_reconfigure(m->collect, &collect);

	if (r < 0)
		log_warning("cannot change the collectors' rates: %s; the old ones stay", strerror(-r));
	detect_reconfigure(m->detect, &detect);
	alert_reconfigure(m->alert, &alert);
	watches_set_budget(m->watches, c->heap_budget);
	watches_configure(m->watches, c->watches, c->n_watches);
	if (incidents_reload(m->incidents) < 0)
		log_warning("cannot read the remedies again: out of memory; the old ones stay");
	if (m->api)
		api_reconfigure(m->api, &api);
	if (m->options->log_level < 0)
		log_setup("stackd", c->log_level);
	m->conf = *c;
}

static void on_hangup(struct ev_loop *loop _unused_, ev_signal *w, int events _unused_)
{
	struct manager *m = w->data;
	_cleanup_free_ char *error = NULL, *restart = NULL;
	struct conf c;

	if (m->recorder) {
		log_warning("a recording keeps its configuration to the end");
		return;
	}
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long) (clock_monotonic_ns() / NSEC_PER_USEC));
	if (conf_load(m->options->config_path, m->options->config_optional, &c, &error) < 0) {
		log_error("%s", error ? error : "cannot read the configuration");
		log_error("configuration refused, the old settings stay");
	} else {
		if (conf_restart_needed(&m->conf, &c, &restart) >= 0 && *restart)
			log_warning("%s takes effect after a restart only", restart);
		apply(m, &c);
		log_info("configuration reloaded");
	}
	sd_notify(0, "READY=1");
}

/* ---- start and stop ---- */

static int fail(int r, const char *what)
{
	log_error("%s: %s", what, strerror(-r));
	return r;
}

static int open_store(struct manager *m, int kept_fd)
{
	struct store_config config = store_config(&m->conf);
	struct detect_config detect = detect_config(&m->conf);
	bool reused;
	int r;

	r = arena_open(&m->arena, m->conf.store_size, kept_fd, m->conf.save_on_stop ? m->options->state_dir : NULL);
	if (r < 0)
		return fail(r, "cannot make the store's memory (StoreSize=)");
	r = store_open(&m->store, m->arena.data, m->arena.size, &config, &reused);
	if (r < 0)
		return fail(r, "cannot open the store; a larger StoreSize= may help");
	log_info("store: %s%s", m->arena.origin, reused || streq(m->arena.origin, "new") ? "" : ", but of another layout: started empty");
	r = arena_keep(&m->arena);
	if (r < 0)
		log_warning("the service manager does not keep the store over a restart: %s", strerror(-r));
	r = detect_new(&m->detect, &detect, store_global_state(m->store));
	return r < 0 ? fail(r, "cannot make the detector") : 0;
}

static void take_table(void *userdata, const struct parser_reply *reply)
{
	unwind_take(userdata, reply);
}

static int open_incidents(struct manager *m)
{
	const struct incidents_config config = {
		.max_clusters = m->conf.max_clusters,
		.max_incidents = m->conf.max_incidents,
		.remedies_dir = REMEDIES_DIRECTORY,
		.remedies_file = m->options->remedies_path,
		.state_dir = m->options->state_dir,
	};

	return incidents_new(&m->incidents, &config, m->store, m->alert);
}

static int open_collectors(struct manager *m)
{
	const struct symbols_config symbols = {
		.max_processes = m->conf.max_processes,
		.max_objects = 4096,
		.max_functions = 4 * m->conf.max_stacks,
		.mapping_log_size = m->conf.mapping_log_size,
	};
	const struct unwind_config unwind = { .table_size = m->conf.unwind_table_size };
	struct collect_config collect = collect_config(&m->conf);
	struct alert_config alert = alert_config(&m->conf);
	int r;

	r = symbols_new(&m->symbols, &symbols, m->helper);
	if (r < 0)
		return fail(r, "cannot read /proc/kallsyms or make the symbol caches");
	r = lines_new(&m->lines, m->symbols, m->lines_helper, m->conf.source_lines_size);
	if (r < 0)
		return fail(r, "cannot make room for source lines (SourceLinesSize=)");
	r = collect_new(&m->collect, &collect, m->helper);
	if (r < 0)
		return fail(r, "cannot collect samples (is this root? Source=bpf needs a kernel with BTF)");
	r = unwind_new(&m->unwind, &unwind, m->collect, m->symbols, m->helper);
	if (r < 0)
		return fail(r, "cannot make room for unwind tables (UnwindTableSize=)");
	parser_route(m->helper, PARSER_UNWIND, take_table, m->unwind);
	r = watches_new(&m->watches, m->collect, m->unwind, m->helper, on_watches_changed, m);
	if (r < 0)
		return fail(r, "cannot keep a list of watched heaps");
	watches_set_budget(m->watches, m->conf.heap_budget);
	/* A recording is made beside the service, which watches them already. */
	if (m->options->record_fd < 0)
		watches_configure(m->watches, m->conf.watches, m->conf.n_watches);
	parser_route(m->helper, PARSER_ALLOCATORS, take_allocators, m->watches);
	r = m->options->record_fd >= 0 ? 0 : alert_new(&m->alert, &alert); /* a recording is told to nobody */
	if (r < 0)
		return fail(r, "cannot prepare journal records");
	r = open_incidents(m);
	if (r < 0)
		return fail(r, "cannot keep incidents (MaxIncidents=, MaxClusters=)");
	r = pressure_new(&m->pressure, &m->conf);
	return r < 0 ? fail(r, "cannot watch for pressure") : 0;
}

static int open_pipeline(struct manager *m)
{
	struct pipeline_rooms rooms = { m->collect, m->symbols, m->unwind, m->store, m->detect, m->alert, m->incidents, NULL };
	struct tick_source source;
	struct pipeline_config config = { .max_stacks = m->conf.max_stacks };
	int r;

	if (m->options->record_fd >= 0) {
		const struct recording_config recording = recording_config(m);

		r = recorder_new(&m->recorder, m->options->record_fd, &recording);
		if (r < 0)
			return fail(r, "cannot write the recording");
		m->live = (struct live_source) { m->collect, m->symbols, m->unwind };
		source = live_source(&m->live);
		source = recorder_source(m->recorder, &source);
		config.source = &source;
		config.digest = true;
	} else {
		r = moments_new(&m->moments, m->conf.moments_size);
		if (r < 0)
			return fail(r, "cannot make room for samples' times (MomentsSize=)");
		rooms.moments = m->moments;
	}
	r = pipeline_new(&m->pipeline, &rooms, &config);

	if (r < 0)
		return fail(r, "cannot make the pipeline");
	r = leaks_new(&m->leaks, m->collect, m->pipeline, m->watches);
	return r < 0 ? fail(r, "cannot keep lists of what heaps hold") : 0;
}

static int open_api(struct manager *m, int socket_fd)
{
	const struct api_views views = {
		m->collect, m->store, m->symbols, m->detect, m->alert, m->unwind, incidents_clusters(m->incidents), m->lines, m->moments,
	};
	const struct api_actions actions = { .status = fill_status, .gate_set = set_gate, .remedies = get_remedies, .variants = find_variants,
	                                     .memory_watch = watch_memory, .memory_unwatch = unwatch_memory, .memory_watch_at = memory_watch_at,
	                                     .memory_watch_group = watch_memory_group, .memory_unwatch_group = unwatch_memory_group,
	                                     .memory_group_at = memory_group_at, .leaks = list_leaks,
	                                     .userdata = m };
	struct api_config config = api_config(&m->conf);
	int r;

	if (socket_fd < 0) {
		r = listen_bind(m->options->socket_path, &socket_fd);
		if (r == -EADDRINUSE)
			log_error("%s is in use: another stackd is running", m->options->socket_path);
		else if (r < 0)
			log_error("cannot listen on %s: %s", m->options->socket_path, strerror(-r));
		if (r < 0)
			return r;
		m->owns_socket = true;
	}
	r = api_new(&m->api, m->loop, socket_fd, &config, &views, &actions);
	if (r < 0) {
		close_fd(socket_fd);
		return fail(r, "cannot serve the socket");
	}
	return 0;
}

static void start_events(struct manager *m)
{
	incidents_watch(m->incidents, on_incident, m);
	ev_timer_init(&m->tick, on_tick, TICK_S, TICK_S);
	ev_io_init(&m->gate, on_gate, collect_gate_fd(m->collect), EV_READ);
	ev_io_init(&m->mappings, on_mappings, collect_mappings_fd(m->collect), EV_READ);
	ev_io_init(&m->parser, on_parser, parser_fd(m->helper), EV_READ);
	ev_io_init(&m->pressures, on_pressure, pressure_fd(m->pressure), EV_READ);
	ev_io_init(&m->lines_parser, on_lines, lines_fd(m->lines), EV_READ);
	ev_signal_init(&m->terminate, on_terminate, SIGTERM);
	ev_signal_init(&m->interrupt, on_terminate, SIGINT);
	ev_signal_init(&m->hangup, on_hangup, SIGHUP);
	m->tick.data = m->gate.data = m->mappings.data = m->parser.data = m->lines_parser.data = m->pressures.data = m;
	m->terminate.data = m->interrupt.data = m->hangup.data = m;
	/* The gate first: its 10 ms must not wait behind a query. */
	ev_set_priority(&m->gate, EV_MAXPRI);
	ev_set_priority(&m->tick, EV_MAXPRI);
	ev_timer_start(m->loop, &m->tick);
	ev_io_start(m->loop, &m->gate);
	ev_io_start(m->loop, &m->mappings);
	ev_io_start(m->loop, &m->parser);
	ev_io_start(m->loop, &m->lines_parser);
	ev_io_start(m->loop, &m->pressures);
	ev_signal_start(m->loop, &m->terminate);
	ev_signal_start(m->loop, &m->interrupt);
	ev_signal_start(m->loop, &m->hangup);
	if (m->recorder && m->options->record_us != USEC_INFINITY) {
		ev_now_update(m->loop); /* starting took its time */
		ev_timer_init(&m->record_end, on_record_end, (double)m->options->record_us / USEC_PER_SEC, 0);
		ev_timer_start(m->loop, &m->record_end);
	}
}

static int start(struct manager *m)
{
	struct listen_fds fds;
	int r;

	r = listen_take_passed(&fds);
	if (r < 0)
		return fail(r, "cannot take the descriptors that the service manager passed");
	if (fds.socket < 0 && !m->options->foreground) {
		log_error("no socket was passed: start stackd by `systemctl start stackd`, or with --foreground");
		close_fd(fds.arena);
		return -EDESTADDRREQ;
	}
	if (!privileges_initial_pid_namespace())
		log_warning("not in the initial PID namespace (a container?): stacks of the whole machine are counted, but "
			    "processes can't be identified, and exact totals are of this namespace only");
	r = open_store(m, TAKE_FD(fds.arena));
	if (r >= 0)
		r = open_collectors(m);
	if (r >= 0)
		r = open_pipeline(m);
	if (r >= 0 && !m->recorder)
		r = open_api(m, TAKE_FD(fds.socket));
	close_fd(fds.socket);
	if (r < 0)
		return r;
	if (m->options->foreground) {
		r = privileges_raise_priority();
		if (r < 0)
			log_warning("cannot get real-time priority: %s; the gate may open late under load", strerror(-r));
	}
	/* Reading the kernel's types took megabytes for a moment, and what is locked can't be given back. */
	malloc_trim(0);
	r = privileges_lock_memory();
	if (r < 0)
		log_warning("cannot lock all memory: %s; ticks may be late when the machine runs out of it", strerror(-r));
	r = privileges_drop();
	if (r < 0)
		return fail(r, "cannot drop privileges");
	start_events(m);
	/* The first tick sets the zero of every count; what it yields covers the moments since the programs were attached. */
	on_tick(m->loop, &m->tick, 0);
	return 0;
}

static void stop(struct manager *m)
{
	m->api = api_free(m->api);
	m->leaks = leaks_free(m->leaks);
	m->watches = watches_free(m->watches);
	m->pipeline = pipeline_free(m->pipeline);
	m->recorder = recorder_free(m->recorder);
	m->unwind = unwind_free(m->unwind);
	m->collect = collect_free(m->collect);
	m->lines = lines_free(m->lines);
	m->symbols = symbols_free(m->symbols);
	m->pressure = pressure_free(m->pressure);
	if (m->incidents)
		incidents_save(m->incidents);
	m->incidents = incidents_free(m->incidents);
	m->alert = alert_free(m->alert);
	m->detect = detect_free(m->detect);
	m->moments = moments_free(m->moments);
	m->store = store_close(m->store);
	if (m->owns_socket)
		unlink(m->options->socket_path);
	helper_stop(m->helper);
	helper_stop(m->lines_helper);
	if (m->loop)
		ev_loop_destroy(m->loop);
}

static void save(struct manager *m)
{
	int r;

	if (!m->conf.save_on_stop || !m->options->state_dir)
		return;
	r = arena_save(&m->arena, m->options->state_dir);
	if (r < 0)
		log_error("cannot save the store in %s: %s", m->options->state_dir, strerror(-r));
	else
		log_info("store saved in %s", m->options->state_dir);
}

static void finish_recording(struct manager *m)
{
	struct pipeline_status p;
	uint64_t bytes;
	int r = m->exit_error < 0 ? m->exit_error : recorder_finish(m->recorder, &bytes);

	pipeline_get_status(m->pipeline, &p);
	if (r >= 0)
		log_info("recorded %llu ticks, %llu bytes", (unsigned long long)p.ticks, (unsigned long long)bytes);
	else if (m->exit_error == 0)
		log_error("cannot write the recording: %s", strerror(-r));
	m->exit_error = r;
}

int manager_run(const struct manager_options *options)
{
	struct manager m = { .options = options, .arena = { .memfd = -EBADF } };
	_cleanup_free_ char *error = NULL;
	int r;

	/* Tables are sparse: with a huge page for every touch, kilobytes would become megabytes. */
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	m.started_us = clock_realtime_us();
	uname(&m.kernel);
	r = conf_load(options->config_path, options->config_optional, &m.conf, &error);
	if (r < 0) {
		log_error("%s", error ? error : "cannot read the configuration");
		return r;
	}
	log_setup("stackd", options->log_level < 0 ? m.conf.log_level : options->log_level);
	/* Before anything else is open, so that the helpers inherit nothing. */
	r = helper_start(&m.helper);
	if (r < 0)
		return fail(r, "cannot start the helper processes");
	r = helper_start_on_demand(&m.lines_helper);
	if (r < 0)
		return fail(r, "cannot prepare the parser of source lines");
	m.loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOSIGMASK);
	r = m.loop ? start(&m) : -ENOMEM;
	if (r >= 0) {
		log_info("ready");
		sd_notify(0, "READY=1");
		ev_run(m.loop, 0);
		sd_notify(0, "STOPPING=1");
		if (m.recorder)
			finish_recording(&m);
		stop(&m);
		save(&m);
	} else
		stop(&m);
	arena_close(&m.arena);
	return r < 0 ? r : m.exit_error;
}
