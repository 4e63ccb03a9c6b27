/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Incidents as structured journal records: sd_journal_sendv(3), catalog in systemd/stackd.catalog. */
#pragma once

#include "base.h"

/* One random id per kind of event (sd-id128 new); the catalog explains each. */
#define STACKD_MESSAGE_OPENED "258eb2f5a1d14274827af207c3597d9f"
#define STACKD_MESSAGE_ESCALATED "701016fbe8a243c085abcdc6a2832781"
#define STACKD_MESSAGE_CLOSED "75900cd7157747ec99bab69c34f62971"
#define STACKD_MESSAGE_GATE "9628be4d27924ca2bdb83253150e0f03"
#define STACKD_MESSAGE_SUPPRESSED "373a655d97da4bf3a521ffdb0df240dd"

struct alert;

struct alert_config {
	uint32_t burst;        /* records per interval */
	uint64_t interval_us;
};

/* What moved most. */
struct alert_anomaly {
	uint64_t id, since_us;
	const char *type;      /* "spike" */
	enum metric metric;
	double score, p_value, observed, expected;
	pid_t pid;             /* 0 = none */
	const char *comm, *exe, *unit, *cgroup;
	uint64_t stack_id;
	const char *folded;    /* outermost first, ";" between frames */
};

enum alert_event { ALERT_OPENED, ALERT_ESCALATED, ALERT_CLOSED };

struct alert_incident {
	enum alert_event event;
	uint64_t id, cluster;
	const char *name;       /* of the cluster: "lock contention in pool_get" */
	const char *kind, *severity; /* "lock-contention", "critical" */
	uint64_t opened_us, closed_us;
	const char *end;        /* "back", "usual", "gave-way", "ended"; NULL: it goes on */
	double size;            /* CPUs' worth */
	uint32_t n_anomalies, n_workloads;
	uint32_t times_before;  /* incidents of the cluster before this one */
	double load;
	bool gate_open;
	const char *remedy;     /* some lines; "" when there is none */
	struct alert_anomaly anomaly;
};

int alert_new(struct alert **ret, const struct alert_config *config);
struct alert *alert_free(struct alert *a);
DEFINE_CLEANUP(struct alert *, alert_free)
void alert_reconfigure(struct alert *a, const struct alert_config *config);

/* Each takes NULL for a: nobody is told. */

/* Tells the journal. Beyond the rate it only counts; the count is told in one record when the interval is over. */
int alert_incident(struct alert *a, uint64_t now_us, const struct alert_incident *incident);
int alert_gate(struct alert *a, uint64_t now_us, bool open, double load, const char *cause);
/* Call once a tick. */
void alert_tick(struct alert *a, uint64_t now_us);

struct alert_status {
	uint64_t sent, suppressed, failed;
};
void alert_get_status(const struct alert *a, struct alert_status *ret);
