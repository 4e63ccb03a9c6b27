/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The varlink service on the Unix socket: sessions, authorization, methods. conf/org.stackd.varlink is the
 * source of truth. Reads the other rooms through const views; what changes something goes through struct
 * api_actions. */
#pragma once

#include <ev.h>

#include "base.h"
#include "collect.h"
#include "store.h"
#include "symbol.h"
#include "detect.h"
#include "alert.h"
#include "unwind.h"
#include "cluster.h"
#include "remedies.h"

struct api;

struct api_config {
	uint32_t max_connections, max_connections_uid;
	uint32_t subscriber_queue; /* events that wait for one subscriber; of those who subscribe from now on */
	uint64_t request_timeout_us;
	bool users_see_own;
	gid_t group;              /* members see everything; (gid_t)-1 = no such group */
	/* Of a recording, whose end is now and all of which is looked at when no window is given. until_us 0: the machine is watched as it
	 * goes. With a recording there are neither collectors nor names to be asked for: whatever needs them is not implemented, and the
	 * views but store, detect and clusters may be NULL. */
	uint64_t since_us, until_us;
};

/* What the daemon knows of itself and the last minute; filled by the manager on request. */
struct api_daemon_status {
	const char *version, *kernel, *config_path;
	pid_t pid, opener_pid, parser_pid, lines_parser_pid; /* 0: it is not running */
	uint64_t parser_restarts;
	uint64_t lines_used, lines_max; /* bytes of source lines that are kept */
	size_t holders, holders_max;    /* stacks that hold watched memory, by process */
	uint64_t started_us;
	uint64_t ticks, ticks_missed;
	uint64_t last_tick_us, tick_cost_ns,
		tick_cost_max_ns; /* processing of the last tick; of the worst in a minute */
	uint64_t cpu_ns;          /* user and system time of the daemon since start */
	uint64_t resident_bytes;
	double conservation[METRIC_N]; /* sum over stacks / exact total over the last minute; negative when
	                                  there is none */
	uint32_t pending, pending_max; /* stacks waiting for names */
	uint32_t cached_stacks, cached_stacks_max;
	uint32_t waits, waits_max; /* stacks with threads in waits that last */
	double open_above, close_below; /* the gate's thresholds as configured */
	double false_alarms_per_day;
};

/* One way in which a stack was met. */
struct api_variant {
	double weight; /* against the others of its stack */
	struct collect_frames frames;
};

#define API_VARIANTS_MAX 64

enum api_memory_state { API_MEMORY_BEGINS, API_MEMORY_WATCHED, API_MEMORY_ENDED };

#define API_MEMORY_KERNEL 0 /* in place of a pid: the kernel's own memory */
#define API_MEMORY_GROUPS 32 /* units and control groups at a time, with those that ended lately */

/* A unit or control group whose processes are watched as they come. */
struct api_memory_group {
	uint32_t id;
	char name[WORKLOAD_NAME_SIZE]; /* of a control group it begins with "/" */
	bool configured;             /* by WatchMemory= */
	enum api_memory_state state; /* begins until what there was at first is watched, or can't be */
	uint64_t since_us, until_us, ended_us; /* realtime; USEC_INFINITY: until somebody ends it */
	uint32_t processes;          /* that are in it */
	uint32_t watched;            /* of these */
	uint32_t left_out;           /* that there was no room for */
	char reason[256];            /* why it has ended, or never begun */
};

/* A process whose heap somebody asked to watch, or the kernel. */
struct api_memory_watch {
	uint32_t id;
	uint32_t heap;               /* the collectors' id; 0: not begun, or over */
	pid_t pid;
	char comm[16];
	char unit[WORKLOAD_NAME_SIZE];  /* that it was in when the watch began; "": none */
	char group[WORKLOAD_NAME_SIZE]; /* the api_memory_group for which it is, or was, watched; "": none */
	enum api_memory_state state;
	uint64_t since_us, until_us; /* realtime; USEC_INFINITY: as long as the process lives */
	uint64_t ended_us;
	uint32_t functions;          /* of its allocators, that are seen */
	bool measured;               /* what follows is known */
	double calls_per_s;          /* of these functions */
	double share;                /* of the process' CPU time, or the machine's, that the probes take, 0..1 */
	char reason[256];            /* why it has ended, or never begun */
};

/* What a stack of a watched process has allocated and not freed. */
struct api_leak {
	uint32_t watch; /* api_memory_watch.id */
	bool kernel;    /* its memory; pid and comm say for whom it allocated */
	pid_t pid;
	char comm[16];
	uint64_t stack_id;
	uint32_t blocks; /* that were sampled */
	int64_t bytes;   /* that they stand for */
	int64_t older[COLLECT_HEAP_AGES]; /* of these, than a minute, ten minutes, an hour */
	bool measured;   /* for long enough that what follows says something */
	bool grows;
	double per_minute; /* bytes, over the last two or three minutes */
};

struct api_leaks {
	uint64_t counted_us;         /* realtime; 0: not yet */
	int64_t bytes;               /* of all stacks of all that is watched */
	int64_t unnamed, left_out;   /* of these: whose names are not known yet; that there was no room for */
};

struct api_actions {
	void (*status)(void *userdata, struct api_daemon_status *ret);
	int (*gate_set)(void *userdata, enum collect_gate_mode mode, uint64_t until_us, uint32_t by_uid);
	const struct remedies *(*remedies)(void *userdata); /* those that hold now */
	/* The heaviest of a stack, whose addresses are still known; ret_weight: of all. Gives how many. */
	size_t (*variants)(void *userdata, uint64_t stack_id, struct api_variant ret[static API_VARIANTS_MAX], double *ret_weight);
	/* Of daemon/watches.h; NULL where nothing is watched. */
	int (*memory_watch)(void *userdata, pid_t pid, uint64_t until_us, uint32_t by_uid, uint32_t *ret_id);
	int (*memory_unwatch)(void *userdata, pid_t pid, uint32_t by_uid);
	const struct api_memory_watch *(*memory_watch_at)(void *userdata, size_t i);
	int (*memory_watch_group)(void *userdata, const char *name, uint64_t until_us, uint32_t by_uid, uint32_t *ret_id);
	int (*memory_unwatch_group)(void *userdata, const char *name, uint32_t by_uid);
	const struct api_memory_group *(*memory_group_at)(void *userdata, size_t i);
	/* Of daemon/leaks.h. */
	size_t (*leaks)(void *userdata, pid_t pid, struct api_leak *ret, size_t max, struct api_leaks *ret_all);
	void *userdata;
};

struct api_views {
	struct collect *collect;
	struct store *store;
	struct symbols *symbols;
	struct detect *detect;
	struct alert *alert;
	struct unwind *unwind;
	struct clusters *clusters;
	struct lines *lines;
	struct moments *moments;
	struct thread_waits *thread_waits; /* NULL: which threads waited is not kept */
};

/* listen_fd: a listening Unix stream socket, taken over when this succeeds. */
int api_new(struct api **ret, struct ev_loop *loop, int listen_fd, const struct api_config *config,
            const struct api_views *views, const struct api_actions *actions);
struct api *api_free(struct api *a);
DEFINE_CLEANUP(struct api *, api_free)
void api_reconfigure(struct api *a, const struct api_config *config);

/* Push what is new to the subscribers: an anomaly with its id; what became of an incident at time_us. Only ids are queued. */
void api_publish_anomaly(struct api *a, const struct store_anomaly *anomaly);
void api_publish_incident(struct api *a, enum cluster_event_kind event, const struct cluster_incident *incident, uint64_t time_us);

/* Call when names or source lines may have arrived, and now and then: who waits for them looks again. */
void api_lines_arrived(struct api *a);

/* Watches of heaps have begun or ended. */
void api_memory_changed(struct api *a);

struct api_status {
	uint32_t connections, connections_max, subscribers;
	uint32_t queue, queue_max; /* events in the longest of the subscribers' queues */
	uint64_t accepted, refused, calls, errors,
		dropped; /* dropped: events that slow subscribers missed */
};
void api_get_status(const struct api *a, struct api_status *ret);
