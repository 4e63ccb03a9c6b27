/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From anomalies to incidents, and from incidents to clusters: pure, online, the number of groups unknown.
 *
 * An incident is one occurrence of a trouble: anomalies that come close together and belong to one workload, or whose stacks and
 * signatures are alike. A cluster is the class of trouble that recurs: incidents whose stacks and signatures are alike, however
 * long ago the last one was. A new incident joins the nearest cluster that is near enough, else it begins one (leader
 * clustering: Hartigan 1975; the same rule as DP-means, Kulis and Jordan 2012, in its online form); clusters' centres move with
 * their members and forget old ones; clusters that have come to lie together are merged, those that have come apart are split.
 *
 * Stacks are compared as sparse vectors of frames and of pairs caller;callee, hashed (Weinberger et al. 2009) and weighted by
 * rarity (inverse document frequency over all stacks that were ever seen, Sparck Jones 1972) and by depth: main and clone weigh
 * next to nothing. Identity is the names of function and object, so it outlives restarts and rebuilds. */
#pragma once

#include "base.h"

#define CLUSTER_NAME_MAX 96
#define CLUSTER_FRAME_NAME_MAX 80
#define CLUSTER_SERIES_MAX 4    /* of an incident, the ones that moved most: watched until they are back */
#define CLUSTER_WORKLOADS_MAX 4 /* of an incident, kept by name */
#define CLUSTER_WORKLOADS_TOLD_APART 32
#define CLUSTER_OPEN_MAX 64     /* incidents at a time; the oldest gives way */
#define CLUSTER_MEMBERS_MAX 16  /* incidents of a cluster, the newest, kept by id */
/* By how many decades labels change the probability below which an alarm of a cluster is told: within these bounds, so that a
 * cluster is never told at any price, nor silenced for ever, as it fades. */
#define CLUSTER_EVIDENCE_LEAST (-1.0)
#define CLUSTER_EVIDENCE_MOST 8.0
#define CLUSTER_COMMON_MAX 12    /* frames by which a cluster is known */

enum cluster_kind {
	CLUSTER_CPU_SPIN,
	CLUSTER_LOCK_CONTENTION,
	CLUSTER_IO_STALL,
	CLUSTER_STARVATION,
	CLUSTER_MEMORY_PRESSURE,
	CLUSTER_FAULT_STORM,
	CLUSTER_NETWORK_WAIT,
	CLUSTER_INTERRUPTS,
	CLUSTER_STOPPED_WORK,
	CLUSTER_NEW_PATH,
	CLUSTER_SLOW_DOWN,
	CLUSTER_WAITING,
	CLUSTER_MEMORY_LEAK,
	CLUSTER_KIND_N,
};
/* "cpu-spin", "lock-contention", ...; NULL when out of range. */
const char *cluster_kind_to_string(enum cluster_kind kind);
int cluster_kind_from_string(const char *s, enum cluster_kind *ret); /* takes "-" and "_" alike; -EINVAL */

/* What moves is kept by metric; memory that grows has the place of hits, which are not scored. */
#define CLUSTER_MEMORY METRIC_HITS
#define CLUSTER_METRICS (METRIC_HITS + 1)
static inline unsigned cluster_axis(enum metric m)
{
	return m < METRIC_HITS ? m : CLUSTER_MEMORY;
}

enum cluster_severity { CLUSTER_NOTICE, CLUSTER_WARNING, CLUSTER_CRITICAL, CLUSTER_SEVERITY_N };
const char *cluster_severity_to_string(enum cluster_severity severity); /* "notice", "warning", "critical" */

struct cluster_config {
	uint32_t max_clusters;  /* 8..16384 */
	uint32_t max_incidents; /* 16..65536, the open ones among them */
};

struct cluster_frame {
	const char *function; /* as shown: "main", "[libc.so.6+0x2718a]" */
	const char *object;   /* "libc.so.6", "[kernel]" */
	bool kernel;
};

struct cluster_anomaly {
	uint64_t id, time_us, since_us, series_id, stack_id;
	uint8_t type;              /* the detector's; passed on */
	enum metric metric;
	bool fresh;                /* the stack is a new one */
	double observed, expected; /* metric's unit per second */
	double score;
	struct {
		double observed, expected;
	} also[METRIC_HITS];       /* of the series in this tick, the other metrics */
	uint32_t uid;
	pid_t pid;                 /* 0: none in particular */
	const char *unit, *cgroup, *exe, *comm;
	bool starves; /* all of its unit waits for CPUs much more than it gets of them, beyond what is usual */
	const struct cluster_frame *frames; /* innermost first */
	size_t n_frames;
};

struct cluster_workload {
	uint64_t id; /* hash of unit, executable and uid; 0: none */
	uint32_t uid;
	pid_t pid;   /* of its first anomaly; 0: none in particular */
	double moved; /* CPUs' worth */
	char unit[256], cgroup[256], exe[256], comm[16]; /* whole: one filters by them */
};

/* Why it is closed: what moved is back; it has become usual; it had to give way to newer ones, as too many went on; or what did less has ended. */
enum cluster_end { CLUSTER_GOES_ON, CLUSTER_BACK, CLUSTER_USUAL, CLUSTER_GAVE_WAY, CLUSTER_ENDED, CLUSTER_END_N };
const char *cluster_end_to_string(enum cluster_end end); /* "back", "usual", "gave-way", "ended"; NULL for the first, and when out of range */

enum cluster_label { CLUSTER_UNLABELLED, CLUSTER_REAL, CLUSTER_FALSE };

struct cluster_series {
	uint64_t id, stack_id; /* id 0: none */
	uint8_t metric, type;
	bool fresh;         /* its stack is a new one */
	uint32_t paths;     /* what its stack passes through: bits of 1 << enum path (kind.h) */
	uint64_t anomaly_id, since_us;
	double expected, worst; /* metric's unit per second */
	double lately;          /* the same, a fading mean since worst */
};

struct cluster_incident {
	uint64_t id;      /* counts up from 1; survives restarts */
	uint64_t cluster; /* its id */
	uint64_t opened_us, last_us; /* first and latest anomaly */
	uint64_t closed_us;          /* 0: goes on; what goes on for six hours without anything new is how things are now */
	enum cluster_end end;
	enum cluster_kind kind;
	enum cluster_severity severity;
	enum cluster_label label;
	double size, opened_size; /* how much moved, in CPUs' worth: seconds a second, 10,000 faults a second, or 2 MiB a second */
	double score;             /* the highest of an anomaly */
	uint32_t n_anomalies, n_series;
	uint32_t n_workloads;     /* at most CLUSTER_WORKLOADS_TOLD_APART */
	double up[CLUSTER_METRICS], down[CLUSTER_METRICS]; /* by axis, CPUs' worth */
	struct cluster_workload workloads[CLUSTER_WORKLOADS_MAX]; /* most moved first */
	struct cluster_series series[CLUSTER_SERIES_MAX];         /* most moved first */
};

struct cluster_class {
	uint64_t id; /* hash of the names by which it was first known: the same on every machine */
	char name[CLUSTER_NAME_MAX]; /* "lock contention in pool_get" */
	enum cluster_kind kind;
	enum cluster_severity severity; /* worst of its members' */
	uint64_t first_us, last_us;
	uint32_t n_incidents, n_real, n_false;
	uint64_t muted_until_us; /* UINT64_MAX: until unmuted */
	double evidence[CLUSTER_METRICS]; /* by axis; as of evidence_us (0: never labelled); see cluster_class_evidence() */
	uint64_t evidence_us;
	size_t n_members, n_common;
	uint64_t members[CLUSTER_MEMBERS_MAX];               /* incidents' ids, newest first */
	char common[CLUSTER_COMMON_MAX][CLUSTER_FRAME_NAME_MAX]; /* the most telling first */
};

/* What became of an incident; at most one of a kind each. */
enum cluster_event_kind { CLUSTER_OPENED, CLUSTER_ESCALATED, CLUSTER_CLOSED };

typedef void (*cluster_event_fn)(void *userdata, enum cluster_event_kind event, const struct cluster_incident *incident);

struct clusters;

/* Allocates all that will ever be needed. */
int clusters_new(struct clusters **ret, const struct cluster_config *config);
struct clusters *clusters_free(struct clusters *c); /* accepts NULL, returns NULL */
DEFINE_CLEANUP(struct clusters *, clusters_free)

/* Counts a stack that is seen for the first time: what is in many stacks says little. */
void clusters_learn_stack(struct clusters *c, const struct cluster_frame *frames, size_t n);

/* Gives the incident that the anomaly is part of, a new one or not. O(open incidents). An incident that has to give way to a new one is told
 * as closed; if it had not settled yet, as opened before that. It may not be kept any more when fn returns. fn may be NULL. */
uint64_t clusters_add(struct clusters *c, const struct cluster_anomaly *a, cluster_event_fn fn, void *userdata);

/* What a series of an open incident does in this tick, in its metric's unit per second; negative when it is not known any more, or
 * CLUSTER_NOBODY when nobody is left to do it. */
#define CLUSTER_NOBODY (-2.0)
typedef double (*cluster_observe_fn)(void *userdata, const struct cluster_incident *incident, const struct cluster_series *series);

/* Once a tick, after its anomalies: incidents that have settled are told as opened, into their cluster; those that have grown tenfold as
 * escalated; those whose series are back, as closed. One in which a program that has
 * ended did less, and no more, is not told: who watches that is the service manager. Muted clusters' incidents are counted and not told. */
void clusters_tick(struct clusters *c, uint64_t now_us, cluster_observe_fn observe, cluster_event_fn fn, void *userdata);

/* Newest first, and largest first (number of incidents, then latest). fn gives non-zero to stop, which is returned. */
typedef int (*cluster_incident_fn)(void *userdata, const struct cluster_incident *incident);
typedef int (*cluster_class_fn)(void *userdata, const struct cluster_class *class);
int clusters_visit_incidents(const struct clusters *c, cluster_incident_fn fn, void *userdata);
int clusters_visit_classes(const struct clusters *c, cluster_class_fn fn, void *userdata);
/* -ENOENT. The id of a cluster that was merged into another finds that one. */
int clusters_get_incident(const struct clusters *c, uint64_t id, struct cluster_incident *ret);
int clusters_get_class(const struct clusters *c, uint64_t id, struct cluster_class *ret);

/* until_us 0: no more. -ENOENT. */
int clusters_mute(struct clusters *c, uint64_t class_id, uint64_t until_us);
void clusters_unmute_all(struct clusters *c);
/* Says whether an incident was worth telling, and of which kind it was (NULL: as found). A kind that an expert gave holds for the cluster
 * from then on. A cluster of which most labelled incidents were false is told as a notice only. A false one raises the evidence that
 * alarms of the cluster need, in the metrics that moved: by a decade, or half of what its score has beyond threshold, the score that is
 * needed now, if that is more; a real one lowers it by half a decade. Another label of the same incident takes the place of the
 * first. Half is forgotten in 30 days. -ENOENT. */
int clusters_label(struct clusters *c, uint64_t incident_id, enum cluster_label label, const enum cluster_kind *kind, double threshold,
                   uint64_t now_us);
/* Decades by which an alarm of that metric in that stack must be less probable (> 0), or may be more probable (< 0), than others: those
 * of the cluster that it would join alone. O(log n) in the number of clusters, and nothing while nothing is labelled. */
double clusters_evidence(struct clusters *c, const struct cluster_frame *frames, size_t n, enum metric metric, bool rises, uint64_t now_us);
double cluster_class_evidence(const struct cluster_class *class, enum metric metric, uint64_t now_us);

/* What people have said of a cluster. */
struct cluster_decision {
	uint64_t id;
	uint64_t muted_until_us; /* as in struct cluster_class */
	bool has_kind;
	enum cluster_kind kind;  /* that it was given */
	uint32_t n_real, n_false;
	double evidence[CLUSTER_METRICS];
	uint64_t evidence_us;
};
#define CLUSTER_DECISIONS_MAX 256 /* of clusters that are not known (any more); the oldest gives way */

/* Of all clusters, those that are not known among them. Without mutes that are over. */
typedef void (*cluster_decision_fn)(void *userdata, const struct cluster_decision *decision);
void clusters_visit_decisions(const struct clusters *c, uint64_t now_us, cluster_decision_fn fn, void *userdata);
/* It holds for that cluster: at once, or when it comes. */
void clusters_decide(struct clusters *c, const struct cluster_decision *decision);

struct clusters_status {
	uint32_t incidents, incidents_max, open, classes, classes_max;
	uint64_t anomalies, merged, split, forgotten; /* since the state was made */
	uint64_t gave_way; /* the same: incidents that went on, and were closed or forgotten as there were too many */
	uint64_t stacks_learnt;
	uint64_t decisions; /* counts up whenever one is made, in this process */
};
void clusters_get_status(const struct clusters *c, struct clusters_status *ret);

/* Everything that is to outlive the process, for one write(). It points into c and holds until the next call that changes c. */
void clusters_image(struct clusters *c, const void **ret, size_t *ret_size);
/* Takes an image back. -EBADMSG when it is damaged, -EPROTO when it is of another layout; nothing changes then. */
int clusters_load(struct clusters *c, const void *image, size_t size);
