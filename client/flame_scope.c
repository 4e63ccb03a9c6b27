/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flame_scope.h"

#include "anomaly.h"
#include "call.h"

#define BESIDE_US (60 * USEC_PER_SEC) /* what an anomaly keeps in stackd's store before and after it */
#define OPTION_PROGRAM (OPTION_PID | OPTION_UNIT | OPTION_CGROUP | OPTION_COMM | OPTION_EXE)

void flame_scope_done(struct flame_scope *s)
{
	s->root = json_free(s->root);
}

/* ---- programs ---- */

/* Whether every process of program b is one of a. */
static bool covers(const struct options *a, const struct options *b)
{
	size_t n = a->cgroup ? strlen(a->cgroup) : 0;

	if (a->given & OPTION_EXE && !(b->given & OPTION_EXE && streq(a->exe, b->exe)))
		return false;
	if (a->given & OPTION_UNIT)
		return b->given & OPTION_UNIT && streq(a->unit, b->unit);
	if (!(a->given & OPTION_CGROUP) || streq(a->cgroup, "/"))
		return true;
	return b->cgroup && strncmp(a->cgroup, b->cgroup, n) == 0 && (!b->cgroup[n] || b->cgroup[n] == '/');
}

/* Adds the program of an anomaly or a workload, which name it alike. */
static void add_program(struct flame_scope *s, const struct options *base, const struct json *row, struct fields *f)
{
	struct options *about = &s->about[s->n];
	const char *unit = field_string(f, row, "unit"), *cgroup = field_string(f, row, "cgroup"),
		   *exe = field_string(f, row, "exe");
	size_t kept = 0;

	*about = *base;
	about->given |= (*unit ? OPTION_UNIT : *cgroup ? OPTION_CGROUP : 0) | (*exe ? OPTION_EXE : 0);
	about->unit = *unit ? unit : NULL;
	about->cgroup = *cgroup ? cgroup : NULL;
	about->exe = *exe ? exe : NULL;
	for (size_t i = 0; i < s->n; i++)
		if (covers(&s->about[i], about))
			return;
	for (size_t i = 0; i < s->n; i++)
		if (!covers(about, &s->about[i]))
			s->about[kept++] = s->about[i];
	s->about[kept] = s->about[s->n];
	s->n = kept + 1;
}

/* A unit is asked for without its control group, which was needed to compare programs. */
static void finish_programs(struct flame_scope *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (!(s->about[i].given & OPTION_CGROUP))
			s->about[i].cgroup = NULL;
}

static struct options about_metric(const struct options *o, enum metric m)
{
	struct options about = *o;

	if (!(o->given & OPTION_METRIC))
		about.metric = m;
	about.given |= OPTION_METRIC;
	return about;
}

static void set_windows(struct flame_scope *s, uint64_t since_us, uint64_t until_us)
{
	s->windows[FLAME_BEFORE] = (struct time_window) { since_us - MIN(since_us, BESIDE_US), since_us };
	s->windows[FLAME_AFTER] = (struct time_window) { since_us, MAX(until_us, since_us + 1) };
}

/* ---- an anomaly ---- */

bool scope_of_anomaly(struct flame_scope *ret, const struct options *o)
{
	_cleanup_scope_ struct flame_scope s = {};
	const struct json *list, *anomaly;
	uint64_t seen_us, since_us;
	struct fields f = {};
	struct options base;
	const char *type;

	if (!anomalies_list(o, &s.root, &list))
		return false;
	anomaly = anomaly_wanted(list, o->anomaly, &f);
	if (!anomaly)
		return false;
	seen_us = field_int(&f, anomaly, "time_us");
	since_us = MIN((uint64_t)field_int(&f, anomaly, "since_us"), seen_us);
	set_windows(&s, since_us, MIN(seen_us + BESIDE_US, o->now_us));
	type = field_string(&f, anomaly, "type");
	base = about_metric(o, field_metric(&f, anomaly, "metric"));
	/* Its program, unless something else is asked for. */
	if (o->given & OPTION_PROGRAM)
		s.about[s.n++] = base;
	else
		add_program(&s, &base, anomaly, &f);
	finish_programs(&s);
	if (!fields_are_good(&f))
		return false;
	snprintf(s.what, sizeof(s.what), "%s, before and during anomaly %llu (%.32s)", metric_to_string(base.metric),
	         (unsigned long long)o->anomaly, type);
	*ret = s;
	s.root = NULL;
	return true;
}

/* ---- an incident ---- */

static const struct json *latest(const struct json *incidents, struct fields *f)
{
	const struct json *found = NULL;
	long long opened = 0;

	for (size_t i = 0; i < json_length(incidents); i++) {
		long long us = field_int(f, json_at(incidents, i), "opened_us");

		if (!found || us > opened) {
			found = json_at(incidents, i);
			opened = us;
		}
	}
	return found;
}

static bool find_incident(const struct options *o, struct json **ret_root, const struct json **ret)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	bool by_cluster = o->given & OPTION_CLUSTER;
	struct fields f = {};

	if (!parameters)
		return false;
	if (by_cluster)
		json_put_id(parameters, "cluster", o->cluster);
	else
		json_put_u64(parameters, "id", o->incident);
	if (!call_joined(ret_root, o, by_cluster ? "GetCluster" : "ListIncidents", parameters))
		return false;
	*ret = latest(field_array(&f, *ret_root, "incidents"), &f);
	if (!fields_are_good(&f))
		return false;
	if (!*ret)
		log_error(by_cluster ? "None of the incidents of cluster %016llx is kept any more." :
				       "No such incident is kept: %llu. See: stackctl incidents",
		          (unsigned long long)(by_cluster ? o->cluster : o->incident));
	return *ret;
}

/* When what moved most began to: an incident opens when its first anomaly is seen, which had begun before. The others don't
 * count, since what came along may have begun long ago. */
static bool find_beginning(const struct options *o, const struct json *most, uint64_t *since_us)
{
	_cleanup_(json_freep) struct json *root = NULL;
	const struct json *list, *anomaly;
	struct fields f = {};

	if (!anomalies_list(o, &root, &list))
		return false;
	anomaly = anomaly_in(list, field_int(&f, most, "anomaly"), &f);
	if (anomaly)
		*since_us = MIN(*since_us, (uint64_t)field_int(&f, anomaly, "since_us"));
	return fields_are_good(&f);
}

bool scope_of_incident(struct flame_scope *ret, const struct options *o)
{
	_cleanup_scope_ struct flame_scope s = {};
	const struct json *incident, *moved, *workloads;
	uint64_t since_us, until_us = o->now_us;
	enum metric metric = METRIC_ON_CPU;
	struct fields f = {};
	struct options base;
	const char *name;
	int64_t closed_us;
	long long id;

	if (!find_incident(o, &s.root, &incident))
		return false;
	id = field_int(&f, incident, "id");
	name = field_string(&f, incident, "name");
	since_us = field_int(&f, incident, "opened_us");
	moved = field_array(&f, incident, "moved");
	workloads = field_array(&f, incident, "workloads");
	if (json_get_int(incident, "closed_us", &closed_us) > 0)
		until_us = MIN((uint64_t)closed_us, until_us);
	if (json_length(moved) > 0)
		metric = field_metric(&f, json_at(moved, 0), "metric");
	if (!fields_are_good(&f) || (json_length(moved) > 0 && !find_beginning(o, json_at(moved, 0), &since_us)))
		return false;
	set_windows(&s, since_us, until_us);
	base = about_metric(o, metric);
	if (!(o->given & OPTION_PROGRAM))
		for (size_t i = 0; i < json_length(workloads) && s.n < SCOPE_PROGRAMS_MAX; i++)
			add_program(&s, &base, json_at(workloads, i), &f);
	if (s.n == 0)
		s.about[s.n++] = base;
	finish_programs(&s);
	if (!fields_are_good(&f))
		return false;
	snprintf(s.what, sizeof(s.what), "%s, before and during incident %lld%s%.128s%s", metric_to_string(base.metric), id,
	         *name ? " (" : "", name, *name ? ")" : "");
	*ret = s;
	s.root = NULL;
	return true;
}
