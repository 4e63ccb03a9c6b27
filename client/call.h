/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls of org.stackd. What goes wrong is told to the user here; the functions then give false. */
#pragma once

#include "options.h"
#include "wire.h"

/* A connection, and the one call that is out on it. */
struct call {
	struct wire_client *client;
	const struct options *options;
	const char *method;
	bool follow;
	bool done; /* the last reply was taken, or nobody reads stdout any more */
	uint64_t deadline_ns; /* by clock_monotonic_ns(): until when call_collect() waits */
};

#define _cleanup_call_ _cleanup_(call_close)
void call_close(struct call *c);

/* Connects and sends. method: "GetFlame". parameters may be NULL. more: replies may come in many pieces.
 * follow: wait for ever for the next one. */
bool call_start(struct call *ret, const struct options *o, const char *method, struct json_writer *parameters,
                bool more, bool follow);

/* The parameters of the next reply (NULL: none); valid until the next call. When a follower's stdout was
 * closed it gives false, silently, and done is set. */
bool call_next(struct call *c, const struct json **ret);

/* All replies to one call, kept as text, since they are many times smaller so. */
struct replies {
	char **texts;
	size_t n;
	size_t size;
};

#define _cleanup_replies_ _cleanup_(replies_free)
void replies_free(struct replies *r);

/* Takes what is there of the replies to a call that was started, without waiting. When done isn't set, call again
 * once the descriptor of c->client is readable, or after a while to find that stackd doesn't answer. */
bool call_collect(struct call *c, struct replies *r);

bool call_all(struct replies *ret, const struct options *o, const char *method,
              struct json_writer *parameters);
/* The parameters of one of them (NULL: none); the caller frees *ret_root. */
bool replies_parse(const struct replies *r, size_t index, struct json **ret_root, const struct json **ret);
/* Writes one object of the shape of a single reply: lists go on from reply to reply, the rest is the same in
 * each. */
bool replies_join(const struct replies *r, struct json_writer *w);

/* Calls, and gives all replies as one; the caller frees. */
bool call_joined(struct json **ret, const struct options *o, const char *method,
                 struct json_writer *parameters);

/* A writer with an object open; put what the call takes into it. */
struct json_writer *call_parameters(void);
/* Puts "filter", when an option says one. */
void put_filter(struct json_writer *w, const struct options *o);
/* Puts "metric", when it was given. */
void put_metric(struct json_writer *w, const struct options *o);
/* Puts "limit", when it was given. */
void put_limit(struct json_writer *w, const struct options *o);

/* ---- members of a reply; the first that is missing or of another type sticks ---- */

struct fields {
	const char *bad;
};

const char *field_string(struct fields *f, const struct json *object, const char *key);
long long field_int(struct fields *f, const struct json *object, const char *key);
double field_float(struct fields *f, const struct json *object, const char *key);
bool field_bool(struct fields *f, const struct json *object, const char *key);
const struct json *field_array(struct fields *f, const struct json *object, const char *key);
const struct json *field_object(struct fields *f, const struct json *object, const char *key);
enum metric field_metric(struct fields *f, const struct json *object, const char *key);
/* Of a Values object: what is left out is zero. Derived metrics are of what is there. Signed metrics are in two's complement. */
uint64_t field_value(const struct json *values, enum metric m);
/* Tells which member was wrong, if one was. */
bool fields_are_good(const struct fields *f);
