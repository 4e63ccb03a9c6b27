/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "incidents.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>

#include "cluster_files.h"
#include "detect.h"
#include "members.h"
#include "symbol.h"

#define FRAMES_MAX 256 /* of a stack, the innermost */
#define FOLDED_MAX 8192
#define CGROUP_EVENTS_MAX 4096
#define SAVE_US (600 * USEC_PER_SEC)      /* what a crash may cost of what is not told */
#define SAVE_LEAST_US (10 * USEC_PER_SEC) /* between two writes of what is told */

struct incidents {
	struct incidents_config config;
	struct store *store;
	struct alert *alert;
	struct clusters *clusters;
	struct remedies *remedies;
	uint64_t now_us, duration_ns; /* of the tick, as the next two */
	double load;
	bool gate_open;
	uint64_t saved_us, saved_anomalies, saved_decisions;
	uint64_t gave_way; /* of the clusters' status, as of the last tick */
	bool told; /* something that is not on disk yet */
	uint64_t newest; /* incident that was seen to begin */
	struct cluster_files *files; /* NULL: nothing is kept */
	incidents_event_fn watch; /* NULL: nobody does */
	void *watch_userdata;
	incidents_growth_fn growth; /* NULL: not known */
	void *growth_userdata;
	incidents_starves_fn starves; /* the same */
	void *starves_userdata;
	struct store_frame stored[FRAMES_MAX], told_stack[FRAMES_MAX];
	struct cluster_frame frames[FRAMES_MAX];
};

/* ---- rules ---- */

static void on_mistake(void *userdata, const char *file, unsigned line, unsigned column, const char *reason)
{
	(void)userdata;
	log_warning("%s:%u:%u: %s; the rule is left out", file, line, column, reason);
}

static int read_rules(struct remedies **r, const char *path)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	int e = read_small_file(AT_FDCWD, path, REMEDY_FILE_MAX, &text, &size);

	if (e >= 0)
		e = remedies_parse(r, path, text, size, on_mistake, NULL);
	if (e < 0 && e != -ENOENT)
		log_warning("cannot read the remedies in %s: %s", path, strerror(-e));
	return e == -ENOMEM ? e : 0;
}

static int is_conf(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name);

	return n > 5 && entry->d_name[0] != '.' && streq(entry->d_name + n - 5, ".conf");
}

int incidents_reload(struct incidents *i)
{
	_cleanup_(remedies_freep) struct remedies *new = NULL;
	struct dirent **entries = NULL;
	int n = i->config.remedies_dir ? scandir(i->config.remedies_dir, &entries, is_conf, alphasort) : 0, r = 0;

	for (int k = 0; k < n; k++) {
		_cleanup_free_ char *path = NULL;

		if (r >= 0 && asprintf(&path, "%s/%s", i->config.remedies_dir, entries[k]->d_name) >= 0)
			r = read_rules(&new, path);
		free(entries[k]);
	}
	free(entries);
	if (r >= 0 && i->config.remedies_file)
		r = read_rules(&new, i->config.remedies_file);
	if (r < 0)
		return r;
	remedies_free(i->remedies);
	i->remedies = TAKE_PTR(new);
	return 0;
}

/* ---- start and end ---- */

int incidents_new(struct incidents **ret, const struct incidents_config *config, struct store *store, struct alert *alert)
{
	const struct cluster_config cluster = { .max_clusters = config->max_clusters, .max_incidents = config->max_incidents };
	_cleanup_(incidents_freep) struct incidents *i = calloc(1, sizeof(*i));
	struct clusters_status status;
	int r;

	if (!i)
		return -ENOMEM;
	i->config = *config;
	i->store = store;
	i->alert = alert;
	r = clusters_new(&i->clusters, &cluster);
	if (r >= 0)
		r = incidents_reload(i);
	if (r < 0)
		return r;
	r = cluster_files_new(&i->files, config->state_dir, i->clusters);
	if (r < 0)
		return r;
	clusters_get_status(i->clusters, &status);
	i->saved_anomalies = status.anomalies;
	i->saved_decisions = status.decisions;
	i->gave_way = status.gave_way;
	*ret = TAKE_PTR(i);
	return 0;
}

struct incidents *incidents_free(struct incidents *i)
{
	if (!i)
		return NULL;
	cluster_files_free(i->files);
	clusters_free(i->clusters);
	remedies_free(i->remedies);
	free(i);
	return NULL;
}

struct clusters *incidents_clusters(struct incidents *i)
{
	return i->clusters;
}

void incidents_watch(struct incidents *i, incidents_event_fn fn, void *userdata)
{
	i->watch = fn;
	i->watch_userdata = userdata;
}

const struct remedies *incidents_remedies(const struct incidents *i)
{
	return i->remedies;
}

/* ---- the tick ---- */

static size_t convert(struct incidents *i, const struct store_frame *frames, size_t n)
{
	n = MIN(n, (size_t)FRAMES_MAX);
	for (size_t k = 0; k < n; k++)
		i->frames[k] = (struct cluster_frame){
			.function = frames[k].display,
			.object = frames[k].object,
			.kernel = frames[k].kind == FRAME_KERNEL,
		};
	return n;
}

/* Gives the number of frames. */
static size_t get_frames(const struct incidents *i, uint64_t stack_id, struct store_frame ret[static FRAMES_MAX])
{
	bool truncated;
	uint64_t id;
	size_t n;

	if (store_get_stack(i->store, store_find_stack(i->store, stack_id), &id, &truncated, ret, FRAMES_MAX, &n) < 0)
		return 0;
	return MIN(n, (size_t)FRAMES_MAX);
}

void incidents_learn_stack(struct incidents *i, const struct store_frame *frames, size_t n)
{
	clusters_learn_stack(i->clusters, i->frames, convert(i, frames, n));
}

_Static_assert(CLUSTER_EVIDENCE_LEAST == -DETECT_EVIDENCE_LOWERED, "labels lower as much as the detector takes");

double incidents_evidence(struct incidents *i, uint64_t stack_id, enum metric metric, bool rises, uint64_t now_us)
{
	size_t n = convert(i, i->stored, get_frames(i, stack_id, i->stored));

	return clusters_evidence(i->clusters, i->frames, n, metric, rises, now_us);
}

static double per_second(const struct incidents *i, uint64_t value)
{
	return (double)value * (double)NSEC_PER_SEC / (double)i->duration_ns;
}

void incidents_set_growth(struct incidents *i, incidents_growth_fn fn, void *userdata)
{
	i->growth = fn;
	i->growth_userdata = userdata;
}

void incidents_set_starves(struct incidents *i, incidents_starves_fn fn, void *userdata)
{
	i->starves = fn;
	i->starves_userdata = userdata;
}

/* A service is there as long as any process of it is. */
static bool is_there(const struct cluster_workload *w)
{
	static const char populated[] = "populated 1";
	size_t n = strlen(w->unit), size;
	_cleanup_free_ char *path = NULL, *events = NULL;
	_cleanup_close_ int root = -EBADF;

	if (w->pid <= 0 || kill(w->pid, 0) == 0 || errno != ESRCH)
		return true;
	if (n < strlen(".service") || !streq(w->unit + n - strlen(".service"), ".service"))
		return false;
	root = members_open();
	if (root < 0 || asprintf(&path, ".%s/cgroup.events", w->cgroup) < 0)
		return true;
	return read_small_file(root, path, CGROUP_EVENTS_MAX, &events, &size) >= 0 && strstr(events, populated) != NULL;
}

static double observe(void *userdata, const struct cluster_incident *incident, const struct cluster_series *series)
{
	const struct cluster_workload *w = &incident->workloads[0];
	struct incidents *i = userdata;
	uint64_t values[METRIC_N];

	if (i->config.live && series->worst < series->expected && !is_there(w))
		return CLUSTER_NOBODY;
	if (cluster_axis((enum metric)series->metric) == CLUSTER_MEMORY)
		return i->growth ? i->growth(i->growth_userdata, w->unit, w->cgroup, w->exe) : -1;
	if (i->duration_ns == 0 || store_series_now(i->store, series->id, values) < 0)
		return -1;
	return per_second(i, values[series->metric]);
}

/* Frames outermost first, ";" between them. */
static void fold(const struct store_frame *frames, size_t n, char buf[static FOLDED_MAX])
{
	size_t at = 0;

	buf[0] = 0;
	for (size_t k = n; k-- > 0 && at < FOLDED_MAX;)
		at += (size_t)snprintf(buf + at, FOLDED_MAX - at, "%s%s", at ? ";" : "", frames[k].display);
}

static void write_remedy(const struct incidents *i, const struct cluster_incident *incident, const struct cluster_class *class,
			 char buf[static REMEDY_TEXT_MAX])
{
	const char *frames[CLUSTER_COMMON_MAX];
	struct remedy_case c;
	struct remedy remedy;
	char text[REMEDY_TEXT_MAX];
	size_t at;

	buf[0] = 0;
	incident_case(incident, class, frames, &c);
	if (!remedies_find(i->remedies, &c, &remedy))
		return;
	at = (size_t)snprintf(buf, REMEDY_TEXT_MAX, "%s. %s", remedy_fill(text, remedy.name, &c), remedy.explain);
	for (size_t k = 0; k < remedy.n_try && at < REMEDY_TEXT_MAX; k++)
		if (remedy_fits(remedy.try[k], &c))
			at += (size_t)snprintf(buf + at, REMEDY_TEXT_MAX - at, "\n- %s", remedy_fill(text, remedy.try[k], &c));
}

static void on_event(void *userdata, enum cluster_event_kind event, const struct cluster_incident *incident)
{
	static const enum alert_event events[] = {
		[CLUSTER_OPENED] = ALERT_OPENED, [CLUSTER_ESCALATED] = ALERT_ESCALATED, [CLUSTER_CLOSED] = ALERT_CLOSED,
	};
	struct incidents *i = userdata;
	const struct cluster_workload *w = &incident->workloads[0];
	const struct cluster_series *s = &incident->series[0];
	char folded[FOLDED_MAX], remedy[REMEDY_TEXT_MAX];
	struct cluster_class class = {};

	i->told = true;
	if (i->watch)
		i->watch(i->watch_userdata, event, incident, i->now_us);
	if (!i->alert)
		return;
	clusters_get_class(i->clusters, incident->cluster, &class);
	/* Not over the stack of the anomaly that this incident gives way to. */
	fold(i->told_stack, get_frames(i, s->stack_id, i->told_stack), folded);
	write_remedy(i, incident, &class, remedy);
	alert_incident(i->alert, i->now_us,
		       &(struct alert_incident){
			       .event = events[event],
			       .id = incident->id,
			       .cluster = incident->cluster,
			       .name = class.name,
			       .kind = cluster_kind_to_string(incident->kind),
			       .severity = cluster_severity_to_string(incident->severity),
			       .opened_us = incident->opened_us,
			       .closed_us = incident->closed_us,
			       .end = cluster_end_to_string(incident->end),
			       .size = incident->size,
			       .n_anomalies = incident->n_anomalies,
			       .n_workloads = incident->n_workloads,
			       .times_before = class.n_incidents > 0 ? class.n_incidents - 1 : 0,
			       .load = i->load,
			       .gate_open = i->gate_open,
			       .remedy = remedy,
			       .anomaly = {
				       .id = s->anomaly_id,
				       .since_us = s->since_us,
				       .type = detect_type_to_string((enum detect_type)s->type),
				       .metric = s->metric,
				       .score = incident->score,
				       .p_value = pow(10, -incident->score),
				       .observed = s->worst,
				       .expected = s->expected,
				       .pid = w->pid,
				       .comm = w->comm,
				       .exe = w->exe,
				       .unit = w->unit,
				       .cgroup = w->cgroup,
				       .stack_id = s->stack_id,
				       .folded = folded,
			       },
		       });
}

/* What the series that is told does in its other metrics. */
static void add_others(const struct incidents *i, struct cluster_anomaly *a)
{
	const void *state = store_series_state(i->store, a->series_id);
	uint64_t values[METRIC_N];

	if (!state || i->duration_ns == 0 || store_series_now(i->store, a->series_id, values) < 0)
		return;
	for (enum metric m = 0; m < METRIC_HITS; m++) {
		a->also[m].observed = per_second(i, values[m]);
		a->also[m].expected = detect_series_usual(state, m);
	}
}

bool incidents_add(struct incidents *i, const struct store_anomaly *a)
{
	uint64_t id, newest = i->newest;
	size_t n = convert(i, i->stored, get_frames(i, a->stack_id, i->stored));
	struct cluster_anomaly anomaly = {
		.id = a->id,
		.time_us = a->time_us,
		.since_us = a->since_us,
		.type = a->type,
		.series_id = a->series_id,
		.stack_id = a->stack_id,
		.metric = a->metric,
		.fresh = a->expected <= 0,
		.observed = a->observed,
		.expected = a->expected,
		.score = a->score,
		.uid = a->uid,
		.pid = a->pid,
		.unit = a->unit,
		.cgroup = a->cgroup,
		.exe = a->exe,
		.comm = a->comm,
		.starves = i->starves && i->starves(i->starves_userdata, a->unit, a->cgroup, a->exe),
		.frames = i->frames,
		.n_frames = n,
	};

	i->now_us = a->time_us;
	add_others(i, &anomaly);
	id = clusters_add(i->clusters, &anomaly, on_event, i);
	i->newest = MAX(newest, id);
	return id > newest;
}

/* What people have said they expect to hold, whatever comes; what is told follows within some seconds. */
static void save_when_due(struct incidents *i, const struct clusters_status *status)
{
	uint64_t now_us = i->now_us, since_us;

	/* A clock that was set back must not put it off. */
	if (i->saved_us == 0 || now_us < i->saved_us)
		i->saved_us = now_us;
	since_us = now_us - i->saved_us;
	if (status->decisions == i->saved_decisions && !(i->told && since_us >= SAVE_LEAST_US) &&
	    !(status->anomalies != i->saved_anomalies && since_us >= SAVE_US))
		return;
	if (!cluster_files_save_later(i->files, now_us))
		return;
	i->saved_anomalies = status->anomalies;
	i->saved_decisions = status->decisions;
	i->saved_us = now_us;
	i->told = false;
}

void incidents_save(struct incidents *i)
{
	cluster_files_save(i->files, clock_realtime_us());
}

uint64_t incidents_tick(struct incidents *i, const struct store_tick *tick)
{
	uint64_t now_us = tick->time_us, gave_way;
	struct clusters_status status;

	i->now_us = now_us;
	i->duration_ns = tick->duration_ns;
	i->load = tick->load_milli / 1000.0;
	i->gate_open = tick->gate_open;
	clusters_tick(i->clusters, now_us, observe, on_event, i);
	clusters_get_status(i->clusters, &status);
	save_when_due(i, &status);
	gave_way = status.gave_way - i->gave_way;
	i->gave_way = status.gave_way;
	return gave_way;
}
