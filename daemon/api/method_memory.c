/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Heaps, and the kernel's memory, that are watched on request. The parser is asked which functions to put probes into, so that a call to begin waits. */
#include "internal.h"

static const char *const states[] = {
	[API_MEMORY_BEGINS] = "begins", [API_MEMORY_WATCHED] = "watched", [API_MEMORY_ENDED] = "ended",
};

/* What a call means: one of the two. */
struct target {
	pid_t pid;                     /* or API_MEMORY_KERNEL */
	char name[WORKLOAD_NAME_SIZE]; /* of a unit, or "/" and the rest of a control group's path; "": no group is meant */
};

static bool is_group(const struct target *t)
{
	return *t->name;
}

static const char *or_none(const char *s)
{
	return *s ? s : NULL;
}

static void put_group_name(struct json_writer *w, const char *name)
{
	json_put_string(w, *name == '/' ? "cgroup" : "unit", or_none(name));
}

static void write_watch(struct json_writer *w, const struct api_memory_watch *m)
{
	json_open_object(w);
	json_put_string(w, "kind", m->pid == API_MEMORY_KERNEL ? "kernel" : "process");
	json_put_int(w, "pid", m->pid);
	json_put_string(w, "comm", m->comm);
	json_put_string(w, "unit", or_none(m->unit));
	json_put_string(w, "group", or_none(m->group));
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

static void write_group(struct json_writer *w, const struct api_memory_group *g)
{
	json_open_object(w);
	put_group_name(w, g->name);
	json_put_bool(w, "configured", g->configured);
	json_put_string(w, "state", states[g->state]);
	json_put_int(w, "processes", g->processes);
	json_put_int(w, "watched", g->watched);
	json_put_int(w, "left_out", g->left_out);
	json_put_u64(w, "since_us", g->since_us);
	if (g->until_us != USEC_INFINITY)
		json_put_u64(w, "until_us", g->until_us);
	if (g->state == API_MEMORY_ENDED) {
		json_put_u64(w, "ended_us", g->ended_us);
		json_put_string(w, "reason", g->reason);
	}
	json_close_object(w);
}

static const struct api_memory_watch *watch_at(struct session *s, size_t i)
{
	return s->api->actions.memory_watch_at(s->api->actions.userdata, i);
}

static const struct api_memory_group *group_at(struct session *s, size_t i)
{
	return s->api->actions.memory_group_at(s->api->actions.userdata, i);
}

/* of: only those of this group; NULL: all. */
static void put_watches(struct session *s, struct json_writer *w, const char *key, const char *of, bool ended)
{
	const struct api_memory_watch *m;

	json_key(w, key);
	json_open_array(w);
	for (size_t i = 0; (m = watch_at(s, i)); i++)
		if ((!of || streq(m->group, of)) && (ended || m->state != API_MEMORY_ENDED))
			write_watch(w, m);
	json_close_array(w);
}

static void put_groups(struct session *s, struct json_writer *w, const char *key, bool ended)
{
	const struct api_memory_group *g;

	json_key(w, key);
	json_open_array(w);
	for (size_t i = 0; (g = group_at(s, i)); i++)
		if (ended || g->state != API_MEMORY_ENDED)
			write_group(w, g);
	json_close_array(w);
}

void put_memory_watches(struct session *s, struct json_writer *w)
{
	put_watches(s, w, "memory_watches", NULL, false);
	put_groups(s, w, "memory_groups", false);
}

static void not_watched(struct session *s, const struct target *t, const char *reason)
{
	struct json_writer *w = session_error_begin(s, "org.stackd.NotWatched");

	if (!is_group(t))
		json_put_int(w, "pid", t->pid);
	put_group_name(w, t->name);
	json_put_string(w, "reason", reason);
	session_error_end(s);
}

/* Exactly one is to be given; false: it has been answered. */
static bool parse_target(struct session *s, const struct json *parameters, struct target *ret)
{
	const char *unit = "", *cgroup = "";
	bool has_unit = json_get_string(parameters, "unit", &unit) > 0, has_cgroup = json_get_string(parameters, "cgroup", &cgroup) > 0;
	int64_t pid = 0;
	bool has_pid = json_get_int(parameters, "pid", &pid) > 0;
	const char *wrong = NULL;

	bool kernel = false;

	(void)json_get_bool(parameters, "kernel", &kernel);
	*ret = (struct target){ 0 };
	if (kernel && (has_pid || has_unit || has_cgroup))
		wrong = "kernel";
	else if (has_cgroup && (has_unit || has_pid || parse_cgroup(cgroup, ret->name) < 0))
		wrong = "cgroup";
	else if (has_unit && (has_pid || parse_unit(unit, ret->name) < 0))
		wrong = "unit";
	else if (!kernel && !has_unit && !has_cgroup && (pid <= 0 || pid > INT32_MAX))
		wrong = "pid";
	ret->pid = kernel ? API_MEMORY_KERNEL : (pid_t)pid;
	if (wrong)
		session_invalid_parameter(s, wrong);
	return !wrong;
}

/* ---- begin ---- */

struct waiting {
	struct target target;
	uint32_t id;
};

static enum produce_result watch_produce(struct session *s)
{
	const struct waiting *waiting = s->call.state;
	const struct api_memory_watch *m;

	for (size_t i = 0; (m = watch_at(s, i)); i++)
		if (m->id == waiting->id)
			break;
	if (m && m->state == API_MEMORY_BEGINS)
		return PRODUCE_WAIT;
	if (m && m->state == API_MEMORY_WATCHED) {
		struct json_writer *w = session_reply_begin(s);

		json_key(w, "watch");
		write_watch(w, m);
		session_reply_end(s, false);
	} else {
		not_watched(s, &waiting->target, m ? m->reason : "it ended");
	}
	return PRODUCE_DONE;
}

static enum produce_result group_produce(struct session *s)
{
	const struct waiting *waiting = s->call.state;
	const struct api_memory_group *g;

	for (size_t i = 0; (g = group_at(s, i)); i++)
		if (g->id == waiting->id)
			break;
	if (g && g->state == API_MEMORY_BEGINS)
		return PRODUCE_WAIT;
	if (g && g->state == API_MEMORY_WATCHED) {
		struct json_writer *w = session_reply_begin(s);

		json_key(w, "group");
		write_group(w, g);
		put_watches(s, w, "watches", g->name, true);
		session_reply_end(s, false);
	} else {
		not_watched(s, &waiting->target, g ? g->reason : "it ended");
	}
	return PRODUCE_DONE;
}

static void free_waiting(struct session *s _unused_, void *state)
{
	free(state);
}

void api_memory_changed(struct api *a)
{
	for (struct session *s = a->sessions; s; s = s->next)
		if ((s->call.produce == watch_produce || s->call.produce == group_produce) && s->waiting)
			session_wake(s);
}

static void refuse(struct session *s, const struct target *t, int r)
{
	char reason[WORKLOAD_NAME_SIZE + 128];

	if (r == -EOPNOTSUPP && !is_group(t) && t->pid == API_MEMORY_KERNEL)
		snprintf(reason, sizeof(reason), "this kernel lacks the tracepoints of its allocators, or refuses the programs");
	else if (r == -ENOSPC && !is_group(t))
		snprintf(reason, sizeof(reason), "%d processes are watched already; \"stackctl unwatch-memory --pid=PID\" ends one",
		         COLLECT_HEAP_WATCHES);
	else if (r == -ENOSPC)
		snprintf(reason, sizeof(reason), "%d units and control groups are watched already", API_MEMORY_GROUPS);
	else if (r == -ENOENT && *t->name == '/')
		snprintf(reason, sizeof(reason), "there is no such control group");
	else if (r == -ENOENT)
		snprintf(reason, sizeof(reason), "it does not run, or there is no such unit (\"systemctl status %s\" tells)", t->name);
	else if (r == -ESRCH)
		snprintf(reason, sizeof(reason), "it has no processes");
	else if (r == -ENODEV)
		snprintf(reason, sizeof(reason), "this machine has no control groups of version 2");
	else
		snprintf(reason, sizeof(reason), "%s", r == -EOPNOTSUPP ? "this kernel can't do it" : strerror(-r));
	not_watched(s, t, reason);
}

void method_watch_memory(struct session *s, const struct json *parameters)
{
	const struct api_actions *actions = &s->api->actions;
	uint64_t until = USEC_INFINITY;
	struct waiting *waiting;
	int64_t duration = 0;
	struct target t;
	int r;

	if (!parse_target(s, parameters, &t))
		return;
	if (json_get_int(parameters, "duration_us", &duration) > 0) {
		if (duration <= 0) {
			session_invalid_parameter(s, "duration_us");
			return;
		}
		until = clock_realtime_us() + (uint64_t)duration;
	}
	waiting = malloc(sizeof(*waiting));
	if (!waiting) {
		session_failed(s, -ENOMEM);
		return;
	}
	waiting->target = t;
	if (!is_group(&t))
		r = actions->memory_watch(actions->userdata, t.pid, until, s->peer.uid, &waiting->id);
	else
		r = actions->memory_watch_group(actions->userdata, t.name, until, s->peer.uid, &waiting->id);
	if (r >= 0) {
		session_produce(s, is_group(&t) ? group_produce : watch_produce, waiting, free_waiting);
		return;
	}
	free(waiting);
	refuse(s, &t, r);
}

/* ---- end and list ---- */

void method_unwatch_memory(struct session *s, const struct json *parameters)
{
	const struct api_actions *actions = &s->api->actions;
	struct target t;
	int r;

	if (!parse_target(s, parameters, &t))
		return;
	if (!is_group(&t))
		r = actions->memory_unwatch(actions->userdata, t.pid, s->peer.uid);
	else
		r = actions->memory_unwatch_group(actions->userdata, t.name, s->peer.uid);
	if (r < 0) {
		not_watched(s, &t, "its memory is not watched");
		return;
	}
	session_reply_begin(s);
	session_reply_end(s, false);
}

void method_list_memory_watches(struct session *s, const struct json *parameters _unused_)
{
	struct json_writer *w = session_reply_begin(s);

	put_watches(s, w, "watches", NULL, true);
	put_groups(s, w, "groups", true);
	session_reply_end(s, false);
}
