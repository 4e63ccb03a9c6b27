/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this room share.
 *
 *   listener.c ──accept──▶ session.c ──message──▶ dispatch.c ──▶ method_….c ──▶ render.c
 *                             ▲  one call at a time; replies go out one by one as the socket drains
 *                             └───────────────────────────────────────┘
 */
#pragma once

#include "api.h"
#include "moments.h"
#include "thread_waits.h"
#include "wire.h"

#define API_PAGE_SIZE (256 * 1024)    /* bytes after which a reply ends when there may be several */
#define API_ROWS_MAX 200000           /* rows of one aggregation */
#define API_ROWS_ALL_MAX 400000       /* rows that all calls in progress keep together */
#define API_LIMIT_MAX 10000           /* what "limit" may ask for */
#define API_FRAMES_MAX 512            /* frames of one stack; the collector takes fewer */

struct session;
struct table;

struct peer {
	uid_t uid;
	bool privileged; /* root, or a member of the group: sees everything */
};

/* The interface's Filter. The strings belong to the message, or to whoever made a copy. */
struct query {
	struct store_filter filter; /* the window is filled in, until_us never 0 */
	bool to_now;                /* no until was given */
	bool exact;                 /* only samples taken in the window, not whole ticks */
	bool threads;               /* exact, told apart by thread */
	uint32_t tid;               /* exact, of this thread only; 0: of all */
	bool waits;                 /* exact, of threads' waits */
};

enum produce_result {
	PRODUCE_DONE, /* that was the last reply */
	PRODUCE_MORE, /* there is another one as soon as this one is out */
	PRODUCE_WAIT, /* nothing to say until session_wake() */
};

/* The call that is being answered. */
struct call {
	bool more, oneway;
	/* Writes one reply. NULL when the call is answered. Called only when nothing waits to be sent. */
	enum produce_result (*produce)(struct session *s);
	void *state;
	void (*free_state)(struct session *s, void *state);
};

struct api {
	struct ev_loop *loop;
	struct api_config config;
	struct api_views views;
	struct api_actions actions;
	int listen_fd;
	ev_io acceptable;
	ev_timer accept_pause;
	struct idl *stackd, *service;
	struct json_writer *writer; /* every reply is written here; what the socket doesn't take is copied */
	struct session *sessions;
	struct api_status status;
	size_t rows; /* in the tables that are kept by calls in progress, at most API_ROWS_ALL_MAX */
};

enum session_timer {
	TIMER_OFF,
	TIMER_REQUEST, /* the rest of a message has to come */
	TIMER_REPLY,   /* the peer has to take the whole of a reply */
	TIMER_HANGUP,  /* look now and then whether the peer is still there */
};

struct session {
	struct api *api;
	struct session *next, **previous;
	int fd;
	struct peer peer;
	ev_io io;
	ev_timer timer;
	enum session_timer timer_for;
	struct wire_framer *framer;
	char *output;      /* what is left of the last reply */
	size_t output_size, output_sent;
	struct call call;
	bool waiting;      /* the call waits for session_wake() */
	bool in_hand;      /* the framer may hold a whole message */
	bool not_readable; /* while waiting: the end was read, or calls that have to wait */
	bool broken;       /* closed as soon as nobody uses it */
};

/* ---- listener.c, peer.c ---- */

void listener_start(struct api *a);
void listener_stop(struct api *a);
int peer_get(int fd, gid_t group, struct peer *ret);

/* ---- session.c ---- */

/* Takes fd over. */
int session_new(struct api *a, int fd, const struct peer *peer);
struct session *session_free(struct session *s);
bool session_is_idle(const struct session *s); /* nothing asked, nothing to be sent */
/* Tells a peer whose call goes on that it ends here, if nothing of a reply waits to be sent. */
void session_tell_stop(struct session *s);
/* The call that waits has something to say. */
void session_wake(struct session *s);
/* Installs what answers the call over several turns. free_state gets state when the call is over, whichever
 * way. */
void session_produce(struct session *s, enum produce_result (*produce)(struct session *s), void *state,
                     void (*free_state)(struct session *s, void *state));

/* A reply: session_reply_begin() opens the parameters, session_reply_end() sends it, or the error TooLarge:
 * then it gives false. */
struct json_writer *session_reply_begin(struct session *s);
bool session_reply_end(struct session *s, bool continues);
/* An error with at most one parameter of type string (value NULL: none). */
void session_error(struct session *s, const char *error, const char *parameter, const char *value);
/* The same for errors with other parameters: write them between. */
struct json_writer *session_error_begin(struct session *s, const char *error);
void session_error_end(struct session *s);
void session_failed(struct session *s, int error); /* org.stackd.Failed with the errno's text */

#define ERROR_INVALID_PARAMETER "org.varlink.service.InvalidParameter"
static inline void session_invalid_parameter(struct session *s, const char *parameter)
{
	session_error(s, ERROR_INVALID_PARAMETER, "parameter", parameter);
}

/* ---- dispatch.c ---- */

/* Handles one message. False: it isn't varlink, the connection is to be closed. */
bool dispatch(struct session *s, const char *text, size_t size);

/* ---- query.c: parameters; each answers with an error and gives false when something is wrong ---- */

bool query_parse(struct session *s, const struct json *parameters, uint64_t default_window_us,
                 struct query *ret);
uint64_t query_now_us(const struct api *a); /* realtime; of a recording its end */
/* since_us and until_us of object; prefix names it in errors ("filter.", ""). */
bool query_window(struct session *s, const struct json *object, const char *prefix,
                  uint64_t default_window_us, struct query *q);
bool parse_metric(struct session *s, const struct json *parameters, enum metric *ret);
bool parse_limit(struct session *s, const struct json *parameters, uint32_t least, uint32_t fallback,
                 uint32_t *ret);
/* When nothing was found: answers NotFound if the filter's pid or stack is nothing at all that the caller may
 * see, at any time. True when it did. */
bool query_refuse_unknown(struct session *s, const struct query *q);
/* The parameter "stack" of a call. absent_ok: then filter.stack_id stays 0. */
bool query_stack(struct session *s, const struct json *parameters, bool absent_ok, struct query *q);
/* The parameters "threads" and "tid", each of which makes a query exact. */
bool query_threads(struct session *s, const struct json *parameters, struct query *q);
/* The parameter "exact": then the window is within what is kept of samples' times. After query_parse(). */
/* With it, or threads: of on-cpu and hits; and of what threads wait, with threads or tid only. */
bool query_exact(struct session *s, const struct json *parameters, enum metric metric, struct query *q);
/* Calls for the moments of the window that match. */
int query_moments(struct session *s, const struct query *q, moment_fn fn, void *userdata);
/* With strings of its own, for what outlives the message. */
int query_copy(const struct query *q, struct query *ret);
void query_done(struct query *q);
/* The sums of what matches, by stack and, if by_comm, command name. */
int query_sum(struct session *s, const struct query *q, enum metric metric, bool by_comm, struct table *t, uint64_t *ret_drawn_ns);
/* How sure a sum of what was sampled on-CPU is, and what the store's variances (store_add_variances()) say in the square of each metric's unit. */
void query_variances_of_hits(const uint64_t values[static METRIC_N], double ret[static METRIC_N]);
void query_variances(const uint64_t variances[static METRIC_N], double ret[static METRIC_N]);
static inline uint64_t magnitude(int64_t v)
{
	return v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
}

/* ---- render.c ---- */

struct window_sum {
	uint64_t since_us, until_us;
	double load_mean;
	uint64_t gate_open_s, lost;
};
/* With what was lost of this metric; METRIC_ALL_N: of all. */
int window_sum(struct api *a, const struct query *q, enum metric metric, struct window_sum *ret);
void put_window(struct json_writer *w, const struct window_sum *sum);
/* "on_cpu": as the interface spells a metric. */
void put_metric(struct json_writer *w, const char *key, enum metric m);
void put_values(struct json_writer *w, const char *key, const uint64_t values[static METRIC_N]);
void put_standard_errors(struct json_writer *w, const double variances[static METRIC_N]);
void put_standard_error(struct json_writer *w, const char *key, double variance);
/* What is infinite becomes the largest double, what is no number 0: JSON has neither. */
void put_finite(struct json_writer *w, const char *key, double v);
/* "kernel": as the interface spells an enum frame_kind. */
const char *frame_kind_name(unsigned kind);
void write_frame(struct json_writer *w, const struct store_frame *frame);
/* Its members alone. */
void put_frame(struct json_writer *w, const struct store_frame *frame);
/* before_us: a process that seems to have started later than that is of an earlier boot. */
void put_process(struct json_writer *w, const char *key, const struct store_process *process);
void put_gate(struct api *a, struct json_writer *w, const char *key);

struct stack {
	uint64_t id;
	bool truncated;
	size_t n;
	struct store_frame frames[API_FRAMES_MAX]; /* innermost first */
};
/* Whether a reply of size bytes with n rows has enough in it, when it may be followed by others: because of
 * its size, or because the next row of at most bound bytes might not fit. */
bool page_full(const struct session *s, size_t size, size_t n, size_t bound);

/* A stack that isn't kept any more has the single frame "[evicted]". */
void get_stack(struct api *a, uint64_t stack_id, struct stack *ret);
/* Bytes that a reply needs at most for it. */
size_t frame_bound(const struct store_frame *frame);
size_t stack_bound(const struct stack *stack);
#define PROCESS_BOUND 8192 /* its strings are of less than 256 bytes, six for each at worst */
void put_frames(struct json_writer *w, const char *key, const struct stack *stack); /* outermost first */

/* ---- table.c: sums by key ---- */

struct row {
	uint64_t key;    /* what is summed by: a stack's id, a process' ref */
	char comm[16];   /* second part of the key; "" when only the first one counts */
	uint32_t tid;    /* third; 0: threads are not told apart */
	int64_t total;
	double variance; /* of total, in the square of its unit */
	size_t values;   /* index into the table's values */
};

/* Rows by key, at most limit; what comes when it is full is summed in the overflow row. Zeroed but for limit
 * and with_values it is empty and ready. */
struct table {
	size_t limit;
	bool with_values;
	struct row *rows;
	uint64_t (*values)[METRIC_N];
	double (*variances)[METRIC_N]; /* of these */
	bool no_variances; /* of the metric nothing is known of how sure it is */
	size_t n, size;
	struct map64 *index;
	int64_t overflow, total; /* total: of all, overflow included */
};
void table_done(struct table *t);
/* Adds to the row of key. -ENOMEM. */
int table_add(struct table *t, uint64_t key, const char *comm, uint32_t tid, enum metric metric,
              const uint64_t values[static METRIC_N]);
/* How sure what was added to the row of key is, if there is one. */
void table_add_variances(struct table *t, uint64_t key, const char *comm, uint32_t tid, enum metric metric, const double variances[static METRIC_N]);
/* The largest total first, whatever its sign, equal ones in order of key. Ends adding: the index is freed. */
void table_sort(struct table *t);
size_t table_limit(const struct api *a); /* what there is room for now */

/* A set of 64-bit keys, each with the number in which it came. */
struct numbers {
	struct map64 *map;
	size_t max;
};
void numbers_done(struct numbers *n);
/* 1: new, 0: known; *ret is its number. -ENOSPC when max are in, -ENOMEM. */
int numbers_add(struct numbers *n, uint64_t key, uint64_t *ret);

/* ---- listing.c: rows that are sorted once and sent page by page ---- */

struct listing {
	const struct listing_ops *ops;
	enum metric metric;
	struct window_sum window;
	struct table table;
	size_t next, end;    /* rows to be sent */
	void *state;         /* the method's */
	struct stack stack;  /* scratch */
};

struct listing_ops {
	const char *array;   /* the rows' name in the reply */
	/* What every reply has besides; may be NULL. */
	void (*put_head)(struct session *s, struct listing *l, struct json_writer *w);
	/* Gives the bytes that the row needs at most. */
	size_t (*load_row)(struct session *s, struct listing *l, size_t i);
	/* As loaded. */
	void (*write_row)(struct session *s, struct listing *l, struct json_writer *w, size_t i);
	void (*free_state)(struct listing *l); /* may be NULL */
};

/* An empty listing for this call, or NULL when that has been answered. */
struct listing *listing_new(struct session *s, const struct listing_ops *ops);
/* Sends at most limit of n rows; r < 0: answers with that error instead. Refuses an unknown pid or stack when
 * there are none. */
void listing_start(struct session *s, struct listing *l, const struct query *q, int r, size_t n,
                   uint32_t limit);

/* ---- method_series.c ---- */

/* Writes the steps of q's window into the array that is open, as many as there is room for, and moves q's beginning behind
 * them. 1: there are others left, 0: there are not; negative errno. */
int write_points(struct session *s, struct query *q, struct json_writer *w);

/* ---- method_….c ---- */

void method_get_status(struct session *s, const struct json *parameters);
void method_get_gate(struct session *s, const struct json *parameters);
/* What is watched now, as members of the status. */
void put_memory_watches(struct session *s, struct json_writer *w);
void method_watch_memory(struct session *s, const struct json *parameters);
void method_unwatch_memory(struct session *s, const struct json *parameters);
void method_list_memory_watches(struct session *s, const struct json *parameters);
void method_list_leaks(struct session *s, const struct json *parameters);
void method_set_gate(struct session *s, const struct json *parameters);
void method_list_anomalies(struct session *s, const struct json *parameters);
void method_list_incidents(struct session *s, const struct json *parameters);
void method_list_clusters(struct session *s, const struct json *parameters);
void method_get_cluster(struct session *s, const struct json *parameters);
void method_mute_cluster(struct session *s, const struct json *parameters);
void method_label_incident(struct session *s, const struct json *parameters);
void method_get_flame(struct session *s, const struct json *parameters);
void method_get_top(struct session *s, const struct json *parameters);
void method_list_stacks(struct session *s, const struct json *parameters);
void method_get_heat(struct session *s, const struct json *parameters);
void method_get_series(struct session *s, const struct json *parameters);
void method_list_missing_debug(struct session *s, const struct json *parameters);
void method_get_lines(struct session *s, const struct json *parameters);
/* Whoever waits for lines looks again. */
void lines_arrived(struct api *a);
void method_get_stack(struct session *s, const struct json *parameters);
void method_list_processes(struct session *s, const struct json *parameters);
void method_subscribe(struct session *s, const struct json *parameters);

/* ---- method_anomalies.c: anomalies by id, a few at a time ---- */

#define ANOMALY_CHUNK 64

struct anomaly_chunk {
	uint64_t ids[ANOMALY_CHUNK];
	size_t n;
	struct store_anomaly anomalies[ANOMALY_CHUNK]; /* id 0: not kept any more, or not the viewer's */
};
/* Fills in the anomalies of the n ids. */
void anomaly_chunk_load(const struct api *a, uint32_t viewer_uid, struct anomaly_chunk *c);
void write_anomaly(struct json_writer *w, const struct store_anomaly *a, const struct stack *stack);
static inline size_t anomaly_bound(const struct stack *stack) /* bytes that it takes at most */
{
	return stack_bound(stack) + 2 * PROCESS_BOUND;
}
/* The parameter "type": enum detect_type, -1 when there is none. */
int parse_anomaly_type(const struct json *parameters);

/* ---- method_incidents.c ---- */

bool may_see_incident(const struct session *s, const struct cluster_incident *i);
/* stack: scratch. */
void write_incident(struct api *a, struct json_writer *w, const struct cluster_incident *i, struct stack *stack);
#define INCIDENT_FRAMES_MAX 64 /* of a stack, the innermost; by its id there are all */
#define INCIDENT_BOUND (CLUSTER_SERIES_MAX * INCIDENT_FRAMES_MAX * (size_t)512) /* bytes that it takes, more or less */

/* ---- method_subscribe.c ---- */

/* To each subscriber that may see it and asked for it. */
void subscribers_tell_anomaly(struct api *a, const struct store_anomaly *anomaly);
void subscribers_tell_incident(struct api *a, enum cluster_event_kind event, const struct cluster_incident *incident,
                               uint64_t time_us);
/* How many there are; the events in the longest of their queues. */
uint32_t subscribers_count(const struct api *a, uint32_t *ret_waiting);
