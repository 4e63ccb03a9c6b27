/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "manager_state.h"

#include <malloc.h>
#include <sys/prctl.h>
#include <systemd/sd-daemon.h>

#include "helper.h"
#include "leaks.h"
#include "lines.h"
#include "listen.h"
#include "moments.h"
#include "pipeline.h"
#include "pressure.h"
#include "privileges.h"
#include "thread_waits.h"
#include "unwind.h"
#include "watches.h"

#define TICK_S 1.0
#define REFRESH_TICKS 60
#define MMAP_THRESHOLD (128 << 10)

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

static void apply(struct manager *m, const struct conf *c)
{
	struct collect_config collect = config_for_collect(c);
	struct detect_config detect = config_for_detect(c);
	struct alert_config alert = config_for_alert(c);
	struct api_config api = config_for_api(c);
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
	struct store_config config = config_for_store(&m->conf);
	struct detect_config detect = config_for_detect(&m->conf);
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
		.live = true,
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
	struct collect_config collect = config_for_collect(&m->conf);
	struct alert_config alert = config_for_alert(&m->conf);
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
		const struct recording_config recording = config_for_recording(m);

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
		r = thread_waits_new(&m->thread_waits, m->conf.thread_waits_size);
		if (r < 0)
			return fail(r, "cannot make room for threads' waits (ThreadWaitsSize=)");
		rooms.thread_waits = m->thread_waits;
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
		m->thread_waits,
	};
	const struct api_actions actions = manager_answers(m);
	struct api_config config = config_for_api(&m->conf);
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
	m->thread_waits = thread_waits_free(m->thread_waits);
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
	/* And large ones are apart from the heap, also when one was freed: its pages would be filled with zeros for the next. */
	mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
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
