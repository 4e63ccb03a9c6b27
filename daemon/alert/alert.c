/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "record.h"

#define PRIORITY_CRITICAL "2"
#define PRIORITY_WARNING "4"
#define PRIORITY_NOTICE "5"
#define PRIORITY_INFO "6"

/* A flapping gate must not use up what incidents may say. */
enum kind { KIND_INCIDENT, KIND_GATE, KIND_N };

struct bucket {
	uint64_t since_us; /* when the interval began; 0 = none is running */
	uint32_t used;
	uint64_t suppressed;
};

struct alert {
	struct alert_config config;
	struct alert_status status;
	struct bucket buckets[KIND_N];
};

int alert_new(struct alert **ret, const struct alert_config *config)
{
	struct alert *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->config = *config;
	*ret = a;
	return 0;
}

struct alert *alert_free(struct alert *a)
{
	free(a);
	return NULL;
}

void alert_reconfigure(struct alert *a, const struct alert_config *config)
{
	a->config = *config;
}

void alert_get_status(const struct alert *a, struct alert_status *ret)
{
	*ret = a->status;
}

/* Where no journal listens the message goes where the daemon's own messages go. */
static int send_record(struct alert *a, const struct record *r, const char *message)
{
	int e = message ? record_send(r) : -ENOMEM;

	if (e == -ENOENT) {
		log_notice("%s", message);
		e = 0;
	}
	if (e < 0)
		a->status.failed++;
	else
		a->status.sent++;
	return e;
}

static int tell_suppressed(struct alert *a, enum kind kind, uint64_t n)
{
	_cleanup_(record_clear) struct record r = { 0 };
	_cleanup_free_ char *message = NULL;
	char interval[FORMAT_MAX];
	const char *what = kind == KIND_INCIDENT ? "incidents" : "gate changes";

	format_timespan(interval, a->config.interval_us);
	if (asprintf(&message, "%llu more %s within %s, see \"stackctl %s\"", (unsigned long long)n, what,
		     interval, kind == KIND_INCIDENT ? "incidents" : "gate") < 0)
		message = NULL;
	record_add(&r, "MESSAGE", message);
	record_add(&r, "MESSAGE_ID", STACKD_MESSAGE_SUPPRESSED);
	record_add(&r, "PRIORITY", PRIORITY_NOTICE);
	record_add(&r, "SYSLOG_IDENTIFIER", "stackd");
	record_addf(&r, "STACKD_SUPPRESSED", "%llu", (unsigned long long)n);
	record_add(&r, "STACKD_SUPPRESSED_KIND", what);
	record_addf(&r, "STACKD_INTERVAL_USEC", "%llu", (unsigned long long)a->config.interval_us);
	return send_record(a, &r, message);
}

/* Ends an interval that is over. A clock that was set back ends it too. */
static void roll(struct alert *a, enum kind kind, uint64_t now_us)
{
	struct bucket *b = &a->buckets[kind];
	uint64_t suppressed = b->suppressed;

	if (b->since_us == 0 || (now_us >= b->since_us && now_us - b->since_us < a->config.interval_us))
		return;
	*b = (struct bucket){ 0 };
	if (suppressed > 0)
		tell_suppressed(a, kind, suppressed);
}

static bool admit(struct alert *a, enum kind kind, uint64_t now_us)
{
	struct bucket *b = &a->buckets[kind];

	roll(a, kind, now_us);
	if (b->since_us == 0)
		b->since_us = MAX(now_us, (uint64_t)1);
	if (b->used < a->config.burst) {
		b->used++;
		return true;
	}
	b->suppressed++;
	a->status.suppressed++;
	return false;
}

/* A unit of a user's manager: gives the uid in whose "user@UID.service" the cgroup is. */
static bool user_of_cgroup(const char *cgroup, const char *unit, unsigned *ret_uid)
{
	const char *at = cgroup ? strstr(cgroup, "/user@") : NULL;
	unsigned uid;
	int end = 0;

	if (!at || sscanf(at, "/user@%u.service/%n", &uid, &end) != 1 || end == 0 ||
	    strncmp(unit, "user@", 5) == 0)
		return false;
	*ret_uid = uid;
	return true;
}

/* journalctl -u UNIT shows what a process of uid 0 says with OBJECT_SYSTEMD_UNIT=UNIT. journald adds that
 * field by itself from OBJECT_PID, but only while the process lives, and anomalies are often a process's
 * last deed. It drops fields that come twice with the same value. */
static void add_object(struct record *r, const struct alert_anomaly *a)
{
	unsigned uid;

	if (a->pid > 0)
		record_addf(r, "OBJECT_PID", "%d", (int)a->pid);
	if (!a->unit || !*a->unit)
		return;
	if (user_of_cgroup(a->cgroup, a->unit, &uid)) {
		record_addf(r, "OBJECT_SYSTEMD_UNIT", "user@%u.service", uid);
		record_add(r, "OBJECT_SYSTEMD_USER_UNIT", a->unit);
	} else
		record_add(r, "OBJECT_SYSTEMD_UNIT", a->unit);
}

static const char *priority_of(const struct alert_incident *i)
{
	return i->event == ALERT_CLOSED           ? PRIORITY_INFO
	       : streq(i->severity, "critical") ? PRIORITY_CRITICAL
	       : streq(i->severity, "warning")  ? PRIORITY_WARNING
						: PRIORITY_NOTICE;
}

static void add_anomaly(struct record *r, const struct alert_anomaly *a)
{
	record_addf(r, "STACKD_ANOMALY", "%llu", (unsigned long long)a->id);
	record_add(r, "STACKD_TYPE", a->type);
	record_add(r, "STACKD_METRIC", metric_to_string(a->metric));
	record_addf(r, "STACKD_SCORE", "%.3f", a->score);
	record_addf(r, "STACKD_P_VALUE", "%.3g", a->p_value);
	record_addf(r, "STACKD_OBSERVED", "%.6g", a->observed);
	record_addf(r, "STACKD_EXPECTED", "%.6g", a->expected);
	record_addf(r, "STACKD_STACK", "%016llx", (unsigned long long)a->stack_id);
	record_add(r, "STACKD_FOLDED", a->folded);
	record_add(r, "STACKD_COMM", a->comm);
	record_add(r, "STACKD_EXE", a->exe);
	record_add(r, "STACKD_CGROUP", a->cgroup);
	record_add(r, "STACKD_UNIT", a->unit);
	record_addf(r, "STACKD_SINCE_USEC", "%llu", (unsigned long long)a->since_us);
}

int alert_incident(struct alert *a, uint64_t now_us, const struct alert_incident *i)
{
	static const char *const ids[] = {
		[ALERT_OPENED] = STACKD_MESSAGE_OPENED,
		[ALERT_ESCALATED] = STACKD_MESSAGE_ESCALATED,
		[ALERT_CLOSED] = STACKD_MESSAGE_CLOSED,
	};
	_cleanup_(record_clear) struct record r = { 0 };
	_cleanup_free_ char *message = NULL;

	if (!a || !admit(a, KIND_INCIDENT, now_us))
		return 0;
	message = record_incident_message(i);
	record_add(&r, "MESSAGE", message);
	record_add(&r, "MESSAGE_ID", ids[i->event]);
	record_add(&r, "PRIORITY", priority_of(i));
	record_add(&r, "SYSLOG_IDENTIFIER", "stackd");
	record_addf(&r, "STACKD_INCIDENT", "%llu", (unsigned long long)i->id);
	record_addf(&r, "STACKD_CLUSTER", "%016llx", (unsigned long long)i->cluster);
	record_add(&r, "STACKD_NAME", i->name);
	record_add(&r, "STACKD_KIND", i->kind);
	record_add(&r, "STACKD_SEVERITY", i->severity);
	record_add(&r, "STACKD_END", i->end);
	record_addf(&r, "STACKD_SIZE", "%.3f", i->size);
	record_addf(&r, "STACKD_ANOMALIES", "%u", i->n_anomalies);
	record_addf(&r, "STACKD_WORKLOADS", "%u", i->n_workloads);
	record_addf(&r, "STACKD_TIMES_BEFORE", "%u", i->times_before);
	record_addf(&r, "STACKD_LOAD", "%.3f", i->load);
	record_add(&r, "STACKD_GATE", i->gate_open ? "open" : "closed");
	record_add(&r, "STACKD_REMEDY", i->remedy);
	add_anomaly(&r, &i->anomaly);
	add_object(&r, &i->anomaly);
	return send_record(a, &r, message);
}

int alert_gate(struct alert *a, uint64_t now_us, bool open, double load, const char *cause)
{
	_cleanup_(record_clear) struct record r = { 0 };
	_cleanup_free_ char *message = NULL;

	if (!a || !admit(a, KIND_GATE, now_us))
		return 0;
	if (asprintf(&message, "gate %s (%s), %.2f runnable tasks per CPU", open ? "opened" : "closed", cause,
		     load) < 0)
		message = NULL;
	record_add(&r, "MESSAGE", message);
	record_add(&r, "MESSAGE_ID", STACKD_MESSAGE_GATE);
	record_add(&r, "PRIORITY", PRIORITY_INFO);
	record_add(&r, "SYSLOG_IDENTIFIER", "stackd");
	record_add(&r, "STACKD_GATE", open ? "open" : "closed");
	record_addf(&r, "STACKD_LOAD", "%.3f", load);
	record_add(&r, "STACKD_CAUSE", cause);
	return send_record(a, &r, message);
}

void alert_tick(struct alert *a, uint64_t now_us)
{
	for (enum kind kind = 0; a && kind < KIND_N; kind++)
		roll(a, kind, now_us);
}
