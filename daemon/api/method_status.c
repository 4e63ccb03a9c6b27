/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GetStatus, GetGate, SetGate. What is told here to everyone are counts, never whose they are. */
#include "internal.h"

#define HISTORY_MAX 1000

/* What all rooms say of themselves. */
struct all_status {
	struct api_daemon_status daemon;
	struct collect_status collect;
	struct store_status store;
	struct symbols_status symbols;
	struct detect_status detect;
	struct alert_status alert;
	struct unwind_status unwind;
	struct clusters_status clusters;
	struct moments_status moments;
	struct thread_waits_status thread_waits;
	struct api_status api;
};

static void put_identity(struct json_writer *w, const struct all_status *a)
{
	const struct api_daemon_status *d = &a->daemon;

	json_put_string(w, "version", d->version);
	json_put_string(w, "kernel", d->kernel);
	json_put_int(w, "pid", d->pid);
	json_put_int(w, "opener_pid", d->opener_pid);
	json_put_int(w, "parser_pid", d->parser_pid);
	json_put_int(w, "lines_parser_pid", d->lines_parser_pid);
	json_put_u64(w, "parser_restarts", d->parser_restarts);
	json_put_u64(w, "started_us", d->started_us);
	json_put_u64(w, "now_us", clock_realtime_us());
	json_put_u64(w, "ticks", d->ticks);
	json_put_u64(w, "ticks_missed", d->ticks_missed);
	json_put_u64(w, "tick_cost_ns", d->tick_cost_ns);
	json_put_u64(w, "tick_cost_max_ns", d->tick_cost_max_ns);
	json_put_u64(w, "cpu_ns", d->cpu_ns);
	json_put_u64(w, "resident_bytes", d->resident_bytes);
	json_put_u64(w, "map_bytes", a->collect.map_bytes);
	json_put_int(w, "online_cpus", a->collect.online_cpus);
}

static void put_collectors(struct json_writer *w, const struct collect_status *c)
{
	const struct {
		const char *name, *source;
	} collectors[] = {
		{ "load", c->load_source },      { "on-cpu", c->oncpu_source },
		{ "off-cpu", c->offcpu_source }, { "faults", c->faults_source },
		{ "memory", c->memory_source },  { "rss", c->rss_source },
		{ "heap", c->heap_source },      { "kmem", c->kmem_source },
		{ "totals", c->totals_source },
	};

	json_put_string(w, "source", c->source ?: "");
	json_put_string(w, "source_reason", c->source_reason ?: "");
	json_put_string(w, "unwind_source", c->unwind_source ?: "");
	json_key(w, "unmeasured");
	json_open_array(w);
	for (enum metric m = 0; m < METRIC_ALL_N; m++)
		if (c->unmeasured >> m & 1)
			json_write_string(w, metric_on_wire(m));
	json_close_array(w);
	json_key(w, "collectors");
	json_open_array(w);
	for (size_t i = 0; i < ELEMENTS_OF(collectors); i++) {
		json_open_object(w);
		json_put_string(w, "name", collectors[i].name);
		json_put_string(w, "source", collectors[i].source ?: "");
		json_close_object(w);
	}
	json_close_array(w);
}

static void put_budget(struct json_writer *w, const struct collect_budget *b)
{
	json_key(w, "budget");
	json_open_object(w);
	put_finite(w, "allowed", b->allowed);
	put_finite(w, "user", b->user);
	put_finite(w, "kernel", b->kernel);
	json_put_bool(w, "kernel_measured", b->measured);
	json_put_bool(w, "judged", b->judged);
	put_finite(w, "rates", b->rates);
	json_key(w, "left_out");
	json_open_array(w);
	for (size_t i = 0; i < b->n_left_out; i++)
		json_write_string(w, b->left_out[i]);
	json_close_array(w);
	if (b->cause) {
		json_put_string(w, "cause", b->cause);
		json_put_u64(w, "changed_us", b->changed_us);
	}
	json_close_object(w);
}

static void put_limits(struct json_writer *w, const struct all_status *a)
{
	const struct {
		const char *name, *unit;
		uint64_t used, max;
	} limits[] = {
		{ "kernel-stacks", "stacks", a->collect.stacks, a->collect.stacks_max },
		{ "active-stacks", "stacks", a->collect.counts_peak, a->collect.counts_max },
		{ "sampled-processes", "processes", a->collect.sampled_processes, a->collect.sampled_processes_max },
		{ "pending-names", "stacks", a->daemon.pending, a->daemon.pending_max },
		{ "known-stacks", "stacks", a->daemon.cached_stacks, a->daemon.cached_stacks_max },
		{ "waits", "stacks", a->daemon.waits, a->daemon.waits_max },
		{ "heap-watches", "processes", a->collect.heap_watches, a->collect.heap_watches_max },
		{ "heap-blocks", "blocks", a->collect.heap_blocks, a->collect.heap_blocks_max },
		{ "leak-stacks", "stacks", a->daemon.holders, a->daemon.holders_max },
		{ "kernel-blocks", "blocks", a->collect.kernel_blocks, a->collect.kernel_blocks_max },
		{ "processes", "processes", a->symbols.processes, a->symbols.processes_max },
		{ "objects", "files", a->symbols.objects, a->symbols.objects_max },
		{ "functions", "functions", a->symbols.functions, a->symbols.functions_max },
		{ "mapping-log", "bytes", a->symbols.log_used, a->symbols.log_max },
		{ "source-lines", "bytes", a->daemon.lines_used, a->daemon.lines_max },
		{ "unwind-tables", "bytes", a->unwind.bytes, a->unwind.bytes_max },
		{ "unwind-pages", "pages", a->unwind.pages, a->unwind.pages_max },
		{ "unwind-rules", "rules", a->unwind.rules, a->unwind.rules_max },
		{ "unwind-mappings", "mappings", a->unwind.mappings, a->unwind.mappings_max },
		{ "unwind-processes", "processes", a->unwind.processes, a->unwind.processes_max },
		{ "store", "bytes", a->store.used, a->store.size },
		{ "stored-stacks", "stacks", a->store.stacks, a->store.stacks_max },
		{ "stored-processes", "processes", a->store.processes, a->store.processes_max },
		{ "stored-series", "series", a->store.series, a->store.series_max },
		{ "stored-slices", "slices", a->store.slices, a->store.slices_max },
		{ "stored-strings", "strings", a->store.strings, a->store.strings_max },
		{ "stored-waits", "waits", a->store.runs, a->store.runs_max },
		{ "moments", "samples", a->moments.used, a->moments.max },
		{ "thread-waits", "waits", a->thread_waits.used, a->thread_waits.max },
		{ "waiting-threads", "threads", a->thread_waits.open, a->thread_waits.open_max },
		{ "scored-units", "units", a->detect.units, a->detect.units_max },
		{ "stored-anomalies", "anomalies", a->store.anomalies, a->store.anomalies_max },
		{ "clusters", "clusters", a->clusters.classes, a->clusters.classes_max },
		{ "incidents", "incidents", a->clusters.incidents, a->clusters.incidents_max },
		{ "open-incidents", "incidents", a->clusters.open, CLUSTER_OPEN_MAX },
		{ "pins", "bytes", a->store.pin_bytes, a->store.pin_bytes_max },
		{ "connections", "connections", a->api.connections, a->api.connections_max },
		{ "subscriber-queue", "events", a->api.queue, a->api.queue_max },
	};

	json_key(w, "limits");
	json_open_array(w);
	for (size_t i = 0; i < ELEMENTS_OF(limits); i++) {
		json_open_object(w);
		json_put_string(w, "name", limits[i].name);
		json_put_string(w, "unit", limits[i].unit);
		json_put_u64(w, "used", limits[i].used);
		json_put_u64(w, "max", limits[i].max);
		json_close_object(w);
	}
	json_close_array(w);
}

static void put_tiers(struct json_writer *w, const struct store_status *store)
{
	/* As the keys Keep1s=, Keep10s= and Keep1min= name them. */
	static const uint32_t steps_s[STORE_TIERS] = { 1, 10, 60 };

	json_key(w, "tiers");
	json_open_array(w);
	for (size_t i = 0; i < STORE_TIERS; i++) {
		json_open_object(w);
		json_put_int(w, "step_s", steps_s[i]);
		if (store->oldest_us[i] > 0)
			json_put_u64(w, "oldest_us", store->oldest_us[i]);
		json_put_u64(w, "points", store->points[i]);
		json_put_u64(w, "bytes", store->bytes[i]);
		json_put_u64(w, "evicted_blocks", store->evicted_blocks[i]);
		json_close_object(w);
	}
	json_close_array(w);
}

static void put_trust(struct json_writer *w, const struct all_status *a, const struct store *store)
{
	struct store_loss losses[STORE_LOSS_CAUSES_MAX];
	size_t n = store_get_losses(store, losses);

	json_key(w, "conservation");
	json_open_array(w);
	for (enum metric m = 0; m < METRIC_N; m++) {
		if (!(a->daemon.conservation[m] >= 0) || a->collect.unmeasured >> m & 1)
			continue;
		json_open_object(w);
		put_metric(w, "metric", m);
		put_finite(w, "ratio", a->daemon.conservation[m]);
		json_close_object(w);
	}
	json_close_array(w);
	json_key(w, "losses");
	json_open_array(w);
	for (size_t i = 0; i < n; i++) {
		json_open_object(w);
		json_put_string(w, "cause", losses[i].cause);
		json_put_u64(w, "count", losses[i].n);
		json_close_object(w);
	}
	json_close_array(w);
	json_put_u64(w, "frames_resolved", a->symbols.resolved);
	json_put_u64(w, "frames_unnamed", a->symbols.unnamed);
}

static void put_unwinding(struct json_writer *w, const struct all_status *a)
{
	json_key(w, "walks");
	json_open_array(w);
	for (size_t i = 0; i < COLLECT_WALK_ENDS; i++) {
		const struct collect_walks *walks = &a->collect.walks[i];

		json_open_object(w);
		json_put_string(w, "end", walks->end ?: "");
		json_put_u64(w, "count", walks->n);
		json_put_u64(w, "last_tick", walks->n_last_tick);
		json_close_object(w);
	}
	json_close_array(w);
	json_put_int(w, "unwind_objects", a->unwind.objects);
	json_put_int(w, "unwind_objects_failed", a->unwind.failed);
	json_put_int(w, "unwind_objects_waiting", a->unwind.waiting);
	json_put_u64(w, "unwind_rows", a->unwind.rows);
	json_put_u64(w, "unwind_evictions", a->unwind.evictions);
	json_put_u64(w, "unwind_refused", a->unwind.refused);
}

static void put_detection(struct json_writer *w, const struct all_status *a)
{
	json_put_u64(w, "anomalies", a->store.anomalies);
	json_put_u64(w, "anomalies_suppressed", a->detect.suppressed);
	put_finite(w, "false_alarms_per_day", a->daemon.false_alarms_per_day);
	put_finite(w, "score_threshold", a->detect.threshold);
	json_put_u64(w, "journal_sent", a->alert.sent);
	json_put_u64(w, "journal_suppressed", a->alert.suppressed);
}

void method_get_status(struct session *s, const struct json *parameters _unused_)
{
	struct api *api = s->api;
	struct all_status a = { 0 };
	struct json_writer *w;

	api->actions.status(api->actions.userdata, &a.daemon);
	collect_get_status(api->views.collect, &a.collect);
	store_get_status(api->views.store, &a.store);
	symbols_get_status(api->views.symbols, &a.symbols);
	detect_get_status(api->views.detect, &a.detect);
	alert_get_status(api->views.alert, &a.alert);
	unwind_get_status(api->views.unwind, &a.unwind);
	clusters_get_status(api->views.clusters, &a.clusters);
	if (api->views.moments)
		moments_get_status(api->views.moments, &a.moments);
	if (api->views.thread_waits)
		thread_waits_get_status(api->views.thread_waits, &a.thread_waits);
	api_get_status(api, &a.api);
	w = session_reply_begin(s);
	json_key(w, "status");
	json_open_object(w);
	put_identity(w, &a);
	put_gate(api, w, "gate");
	put_budget(w, &a.collect.budget);
	put_collectors(w, &a.collect);
	put_limits(w, &a);
	put_tiers(w, &a.store);
	put_trust(w, &a, api->views.store);
	put_unwinding(w, &a);
	put_detection(w, &a);
	json_put_u64(w, "calls", a.api.calls);
	json_put_u64(w, "errors", a.api.errors);
	json_put_u64(w, "messages_dropped", a.api.dropped);
	if (s->peer.privileged && api->actions.memory_group_at)
		put_memory_watches(s, w);
	json_close_object(w);
	session_reply_end(s, false);
}

/* ---- gate ---- */

struct history {
	struct json_writer *writer;
	size_t n;
};

static int write_change(void *userdata, const struct store_gate_change *change)
{
	struct history *h = userdata;

	if (h->n++ == HISTORY_MAX)
		return 1;
	json_open_object(h->writer);
	json_put_u64(h->writer, "time_us", change->time_us);
	json_put_bool(h->writer, "open", change->open);
	put_finite(h->writer, "load", change->load);
	json_put_string(h->writer, "cause", change->cause);
	json_close_object(h->writer);
	return 0;
}

void method_get_gate(struct session *s, const struct json *parameters)
{
	struct history history = { 0 };
	struct query q = { 0 };
	int r;

	if (!query_window(s, parameters, "", USEC_INFINITY, &q))
		return;
	history.writer = session_reply_begin(s);
	put_gate(s->api, history.writer, "gate");
	json_key(history.writer, "history");
	json_open_array(history.writer);
	r = store_visit_gate(s->api->views.store, q.filter.since_us, q.filter.until_us, write_change,
	                     &history);
	if (r < 0) {
		session_failed(s, r);
		return;
	}
	json_close_array(history.writer);
	session_reply_end(s, false);
}

void method_set_gate(struct session *s, const struct json *parameters)
{
	const struct api_actions *actions = &s->api->actions;
	enum collect_gate_mode mode = GATE_AUTO;
	uint64_t until = USEC_INFINITY;
	const char *name = "";
	int64_t duration = 0;
	int r;

	json_get_string(parameters, "mode", &name);
	if (streq(name, "open"))
		mode = GATE_FORCED_OPEN;
	else if (streq(name, "closed"))
		mode = GATE_FORCED_CLOSED;
	if (json_get_int(parameters, "duration_us", &duration) > 0) {
		if (duration <= 0 || mode == GATE_AUTO) {
			session_invalid_parameter(s, "duration_us");
			return;
		}
		until = clock_realtime_us() + duration;
	}
	r = actions->gate_set(actions->userdata, mode, until, s->peer.uid);
	if (r < 0) {
		session_failed(s, r);
		return;
	}
	put_gate(s->api, session_reply_begin(s), "gate");
	session_reply_end(s, false);
}
