/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Anomalies' way on: from the store into incidents and clusters, to the journal, and to disk and back. */
#pragma once

#include "alert.h"
#include "cluster.h"
#include "remedies.h"
#include "store.h"

#define REMEDIES_DIRECTORY "/etc/stackd/remedies.conf.d"

struct incidents;

struct incidents_config {
	uint32_t max_clusters, max_incidents;
	const char *remedies_dir, *remedies_file; /* rules: the directory's first, then the file's; NULL: none */
	const char *state_dir;                    /* NULL: nothing is kept on disk */
	bool live; /* the processes are this machine's: that they have ended can be seen */
};

/* Reads what was kept. A damaged file is set aside, with a message. Rooms are borrowed; alert NULL: nobody is
 * told. */
int incidents_new(struct incidents **ret, const struct incidents_config *config, struct store *store, struct alert *alert);
struct incidents *incidents_free(struct incidents *i); /* accepts NULL, returns NULL */
DEFINE_CLEANUP(struct incidents *, incidents_free)

/* Reads the rules again; those with mistakes are left out, with a message. */
int incidents_reload(struct incidents *i);

/* What became of an incident, in the tick of that time: fn is told whatever the journal is told. */
typedef void (*incidents_event_fn)(void *userdata, enum cluster_event_kind event, const struct cluster_incident *incident,
				   uint64_t time_us);
void incidents_watch(struct incidents *i, incidents_event_fn fn, void *userdata);

/* A stack that the store did not know before. */
void incidents_learn_stack(struct incidents *i, const struct store_frame *frames, size_t n);
/* Decades by which an alarm must be less probable, or may be more so (< 0), as labels have it: see clusters_evidence(). */
double incidents_evidence(struct incidents *i, uint64_t stack_id, enum metric metric, bool rises, uint64_t now_us);
/* How fast a unit's memory grows, bytes a second; 0: it does not. It is known by its name, the control group's or the executable's: the first that is
 * not empty. Without it what was told of a growth is over at once. */
typedef double (*incidents_growth_fn)(void *userdata, const char *unit, const char *cgroup, const char *exe);
void incidents_set_growth(struct incidents *i, incidents_growth_fn fn, void *userdata);
/* Whether a unit waits for CPUs much more than it gets of them, beyond what is usual; known by the same names. */
typedef bool (*incidents_starves_fn)(void *userdata, const char *unit, const char *cgroup, const char *exe);
void incidents_set_starves(struct incidents *i, incidents_starves_fn fn, void *userdata);
/* In an open tick, when the store has given the anomaly its id. Tells the end of an incident that has to give way to a new one. Gives
 * whether it begins an incident, and is not part of one that was there. */
bool incidents_add(struct incidents *i, const struct store_anomaly *a);
/* In an open tick, after its anomalies: tells what began, grew and ended. A thread writes to disk what was told. Gives how many
 * incidents that went on had to give way to new ones since the last tick. */
uint64_t incidents_tick(struct incidents *i, const struct store_tick *tick);

/* Writes to disk at the end: no more is written after that. A failure is told. */
void incidents_save(struct incidents *i);

struct clusters *incidents_clusters(struct incidents *i);
const struct remedies *incidents_remedies(const struct incidents *i);
