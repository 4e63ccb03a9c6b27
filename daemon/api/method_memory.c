/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Heaps that are watched on request. The parser is asked which functions to put probes into, so that a call to begin waits. */
#include "internal.h"

static void write_watch(struct json_writer *w, const struct api_memory_watch *m)
{
	static const char *const states[] = {
		[API_MEMORY_BEGINS] = "begins", [API_MEMORY_WATCHED] = "watched", [API_MEMORY_ENDED] = "ended",
	};

	json_open_object(w);
	json_put_int(w, "pid", m->pid);
	json_put_string(w, "comm", m->comm);
	json_put_string(w, "state", states[m->state]);
	json_put_int(w, "functions", m->functions);
	if (m->measured) {
		put_finite(w, "calls_per_s", m->calls_per_s);
		put_finite(w, "share", m->share);
	}
	if (m->since_us)
		json_put_u64(w, "since_us", m->since_us);
	if (m->until_us != USEC_INFINITY)
		json_put_u64(w, "until_us", m->until_us);
	if (m->state == API_MEMORY_ENDED) {
		json_put_u64(w, "ended_us", m->ended_us);
		json_put_string(w, "reason", m->reason);
	}
	json_close_object(w);
}

static const struct api_memory_watch *watch_at(struct session *s, size_t i)
{
	return s->api->actions.memory_watch_at(s->api->actions.userdata, i);
}

static void not_watched(struct session *s, int64_t pid, const char *reason)
{
	struct json_writer *w = session_error_begin(s, "org.stackd.NotWatched");

	json_put_int(w, "pid", pid);
	json_put_string(w, "reason", reason);
	session_error_end(s);
}

/* 0: not given, or no such number. */
static pid_t parse_pid(struct session *s, const struct json *parameters)
{
	int64_t pid = 0;

	if (json_get_int(parameters, "pid", &pid) > 0 && pid > 0 && pid <= INT32_MAX)
		return (pid_t)pid;
	session_invalid_parameter(s, "pid");
	return 0;
}

/* ---- begin ---- */

static enum produce_result watch_produce(struct session *s)
{
	const uint32_t *id = s->call.state;
	const struct api_memory_watch *m;

	for (size_t i = 0; (m = watch_at(s, i)); i++)
		if (m->id == *id)
			break;
	if (m && m->state == API_MEMORY_BEGINS)
		return PRODUCE_WAIT;
	if (m && m->state == API_MEMORY_WATCHED) {
		struct json_writer *w = session_reply_begin(s);

		json_key(w, "watch");
		write_watch(w, m);
		session_reply_end(s, false);
	} else {
		not_watched(s, m ? m->pid : 0, m ? m->reason : "it ended");
	}
	return PRODUCE_DONE;
}

static void free_id(struct session *s _unused_, void *state)
{
	free(state);
}

void api_memory_changed(struct api *a)
{
	for (struct session *s = a->sessions; s; s = s->next)
		if (s->call.produce == watch_produce && s->waiting)
			session_wake(s);
}

void method_watch_memory(struct session *s, const struct json *parameters)
{
	const struct api_actions *actions = &s->api->actions;
	uint64_t until = USEC_INFINITY;
	pid_t pid = parse_pid(s, parameters);
	int64_t duration = 0;
	char reason[128];
	uint32_t *id;
	int r;

	if (!pid)
		return;
	if (json_get_int(parameters, "duration_us", &duration) > 0) {
		if (duration <= 0) {
			session_invalid_parameter(s, "duration_us");
			return;
		}
		until = clock_realtime_us() + (uint64_t)duration;
	}
	id = malloc(sizeof(*id));
	if (!id) {
		session_failed(s, -ENOMEM);
		return;
	}
	r = actions->memory_watch(actions->userdata, pid, until, s->peer.uid, id);
	if (r >= 0) {
		session_produce(s, watch_produce, id, free_id);
		return;
	}
	free(id);
	if (r == -ENOSPC)
		snprintf(reason, sizeof(reason), "%d processes are watched already; \"stackctl unwatch-memory --pid=PID\" ends one",
		         COLLECT_HEAP_WATCHES);
	else
		snprintf(reason, sizeof(reason), "%s", r == -EOPNOTSUPP ? "this kernel can't do it" : strerror(-r));
	not_watched(s, pid, reason);
}

/* ---- end and list ---- */

void method_unwatch_memory(struct session *s, const struct json *parameters)
{
	const struct api_actions *actions = &s->api->actions;
	pid_t pid = parse_pid(s, parameters);

	if (!pid)
		return;
	if (actions->memory_unwatch(actions->userdata, pid, s->peer.uid) < 0) {
		not_watched(s, pid, "its memory is not watched");
		return;
	}
	session_reply_begin(s);
	session_reply_end(s, false);
}

void method_list_memory_watches(struct session *s, const struct json *parameters _unused_)
{
	struct json_writer *w = session_reply_begin(s);
	const struct api_memory_watch *m;

	json_key(w, "watches");
	json_open_array(w);
	for (size_t i = 0; (m = watch_at(s, i)); i++)
		write_watch(w, m);
	json_close_array(w);
	session_reply_end(s, false);
}
