/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is kept: one block without pointers, which is written and read back as it is. Private to this room. */
#pragma once

#include "kind.h"
#include "vector.h"

#define STATE_MAGIC 0x726574736c636b73ULL
#define STATE_VERSION 10U
#define ALIASES_MAX 128 /* ids of clusters that were merged into others */
#define RECENT_MAX 4    /* incidents of a cluster by which it is seen to come apart */
#define SIGNATURE_N (2 * CLUSTER_METRICS)

struct signature {
	float of[SIGNATURE_N]; /* by metric: up, then down; of unit length, or all 0 */
};

struct incident_state {
	struct cluster_incident i;
	struct vector stacks;
	float mass; /* of what is in stacks */
	struct kind_evidence evidence;
	uint64_t workloads[CLUSTER_WORKLOADS_TOLD_APART]; /* ids */
	uint32_t n_names;
	char names[CLUSTER_COMMON_MAX][CLUSTER_FRAME_NAME_MAX]; /* the frames that weigh most */
	uint32_t name_features[CLUSTER_COMMON_MAX]; /* of object and function */
	float name_weights[CLUSTER_COMMON_MAX];
	uint8_t settled, escalated, told;
	uint8_t quiet_ticks; /* in which all series were back */
	double label_step;   /* by which its label has moved its class' evidence */
};

struct class_state {
	struct cluster_class c;
	struct vector centre;
	struct signature signature;
	float mass;
	uint32_t name_features[CLUSTER_COMMON_MAX];
	float name_weights[CLUSTER_COMMON_MAX];
	float votes[CLUSTER_KIND_N]; /* fading */
	uint8_t kind_given;          /* by a label: 1 + enum cluster_kind, which then decides; 0: none */
	uint32_t n_recent, next_recent;
	struct vector recent[RECENT_MAX];
	uint64_t recent_ids[RECENT_MAX];
};

struct alias {
	uint64_t from, to;
};

struct state {
	uint64_t magic, hash; /* hash: of all that follows */
	uint32_t version, size_mark;
	uint32_t max_incidents, max_classes;
	uint64_t last_incident; /* id */
	uint32_t n_classes, n_open, n_aliases, reserved;
	uint64_t anomalies, merged, split, forgotten, gave_way;
	uint64_t open[CLUSTER_OPEN_MAX]; /* ids */
	struct alias aliases[ALIASES_MAX];
	struct rarity rarity;
	/* then struct class_state[max_classes], then struct incident_state[max_incidents], by id modulo their number */
};

struct clusters {
	struct cluster_config config;
	struct state *state;
	size_t size;
	struct class_state *classes;
	struct incident_state *incidents;
	struct map64 *index;  /* feature -> up to four classes, 16 bits each, by number + 1; what has moved on meanwhile may still lead there */
	struct map64 *by_id;  /* id -> number of the class */
	uint32_t *order;      /* for visits */
	/* Which is the first to be forgotten: a tree of pairwise winners, whose leaves are the classes by number. */
	double *keeps;        /* by number: its worth, in a measure that does not change as time passes */
	uint32_t *least;      /* [1]: of all; [2 * k] and [2 * k + 1] compete for [k] */
	uint32_t n_leaves;
	bool labelled;        /* any class was ever */
	uint64_t decided;     /* counts up */
	uint32_t n_decisions; /* of classes that are not there, the oldest first; they are kept apart from the state */
	struct cluster_decision decisions[CLUSTER_DECISIONS_MAX];
};

/* NULL when it is not kept (any more). */
struct incident_state *incident_get(const struct clusters *c, uint64_t id);
struct class_state *class_get(const struct clusters *c, uint64_t id);
struct signature signature_of(const struct kind_evidence *e);

/* incidents.c: the open one that the anomaly joins, or a new one; NULL only when the anomaly says nothing. */
struct incident_state *incident_join(struct clusters *c, const struct cluster_anomaly *a, cluster_event_fn fn, void *userdata);
/* How much it has moved, in CPUs' worth. */
double series_moved(const struct cluster_series *series);
/* A series of the incident has gone further than its anomalies told: value in the metric's unit per second. */
void incident_grow(struct clusters *c, struct incident_state *s, struct cluster_series *series, double value);

/* cluster.c: closes it and tells so. One that has not settled is told as opened first. */
void incident_close(struct clusters *c, struct incident_state *s, enum cluster_end end, uint64_t now_us, cluster_event_fn fn, void *userdata);

/* classes.c */
/* Everything that leads to classes, anew. */
void classes_index(struct clusters *c);
/* What its keeping is worth has changed. */
void class_weigh(struct clusters *c, const struct class_state *class);
/* Puts a settled incident into its class and sets its .cluster. */
void class_join(struct clusters *c, struct incident_state *incident);
/* The same of one that has become so much larger that what it was put in for is the least of it. */
void class_join_again(struct clusters *c, struct incident_state *incident);
void class_settle_kind(struct class_state *class);
/* That which an incident with this stack and these moves would join, or NULL. */
struct class_state *class_of_stack(struct clusters *c, const struct vector *stack, const struct kind_evidence *moved);

/* labels.c: brings what labels moved to now. */
void class_fade_evidence(struct class_state *class, uint64_t now_us);
/* The class is forgotten: what was said of it is not. */
void class_part(struct clusters *c, const struct class_state *class);
/* The class is there: what was said of it holds. */
void class_recall(struct clusters *c, struct class_state *class);
