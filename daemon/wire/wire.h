/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What goes over the socket, for both ends: messages closed by a NUL, the one wrapper over json-c, the
 * interface description and its validator, and a blocking client. Apart from the client it does no I/O;
 * nothing here logs.
 *
 *   bytes ─▶ wire_framer ─▶ json_parse() ─▶ struct json ─▶ idl_check_…() ─▶ typed getters
 *   struct json_writer ─▶ bytes
 */
#pragma once

#include "base.h"

#define WIRE_SOCKET_PATH "/run/stackd/org.stackd"
#define WIRE_INTERFACE "org.stackd"
#define WIRE_REQUEST_MAX (64 * 1024)    /* bytes without the NUL, client to server */
#define WIRE_MESSAGE_MAX (1024 * 1024)  /* bytes without the NUL, server to client */
#define WIRE_DEPTH_MAX 16               /* nested objects and arrays, the message itself is 1 */

/* ---- framing ---- */

/* Takes bytes as they come and gives whole messages. Memory grows with the message up to max and shrinks
 * again. */
struct wire_framer;
int wire_framer_new(struct wire_framer **ret, size_t max);
struct wire_framer *wire_framer_free(struct wire_framer *f);
DEFINE_CLEANUP(struct wire_framer *, wire_framer_free)

/* Where to put the next bytes, at most *ret_size of them (never 0); then say how many came. No message given
 * before stays valid. Call only after wire_framer_next() gave 0. */
int wire_framer_space(struct wire_framer *f, void **ret, size_t *ret_size);
void wire_framer_added(struct wire_framer *f, size_t n);
/* 1: the next message, NUL-terminated, valid until the next call of wire_framer_space(). 0: none is whole
 * yet. -EMSGSIZE: it is longer than max; the stream can't be used any more. */
int wire_framer_next(struct wire_framer *f, const char **ret, size_t *ret_size);
/* Bytes in hand that no wire_framer_next() has given: part of a message, or whole ones not asked for yet. */
size_t wire_framer_pending(const struct wire_framer *f);

/* ---- JSON values, read only ---- */

/* A parsed value. What json_parse() gives owns all values within it. */
struct json;

enum json_kind { JSON_NULL, JSON_BOOL, JSON_INT, JSON_FLOAT, JSON_STRING, JSON_ARRAY, JSON_OBJECT };
const char *json_kind_to_string(enum json_kind k);

/* One object and nothing after it. Strict: valid UTF-8 (no overlong forms, no surrogates, no half of a pair
 * by \u), no NUL in strings, no comments, no NaN or Infinity, no number beyond a double's range, no key twice
 * in an object, depth WIRE_DEPTH_MAX. Gives -EBADMSG and a reason (static string) for anything else, -ENOMEM.
 * ret_reason may be NULL. */
int json_parse(const char *text, size_t size, struct json **ret, const char **ret_reason);
struct json *json_free(struct json *root); /* only what json_parse() gave; accepts NULL, returns NULL */
DEFINE_CLEANUP(struct json *, json_free)

/* NULL counts as null. */
enum json_kind json_kind(const struct json *v);

/* A member: true when the key is there, null or not. *ret is then the value; NULL for null. */
bool json_has(const struct json *object, const char *key, const struct json **ret);
/* The same without telling absent from null. object may be NULL: everything is absent. */
const struct json *json_get(const struct json *object, const char *key);
/* Each gives 1 and the value; 0 when it is absent or null (*ret stays); -EINVAL when it is of another type;
 * -ERANGE for an int that doesn't fit. A float takes an int too. Strings live as long as the root. */
int json_get_bool(const struct json *object, const char *key, bool *ret);
int json_get_int(const struct json *object, const char *key, int64_t *ret);
int json_get_u64(const struct json *object, const char *key, uint64_t *ret); /* an int, not negative */
int json_get_float(const struct json *object, const char *key, double *ret);
int json_get_string(const struct json *object, const char *key, const char **ret);
/* A string of 16 hexadecimal digits. */
int json_get_id(const struct json *object, const char *key, uint64_t *ret);
int json_get_array(const struct json *object, const char *key, const struct json **ret);
int json_get_object(const struct json *object, const char *key, const struct json **ret);

/* The value itself: -EINVAL, -ERANGE as above. */
int json_as_bool(const struct json *v, bool *ret);
int json_as_int(const struct json *v, int64_t *ret);
int json_as_float(const struct json *v, double *ret);
int json_as_string(const struct json *v, const char **ret);

size_t json_length(const struct json *array);                         /* 0 for what is not an array */
const struct json *json_at(const struct json *array, size_t index);
/* Visits the members in order: fn gives 0 to go on, else the visit ends with that value. */
typedef int (*json_member_fn)(void *userdata, const char *key, const struct json *value);
int json_visit(const struct json *object, json_member_fn fn, void *userdata);

/* ---- JSON, written ---- */

/* Writes straight into one growing buffer of at most max bytes. Errors stick and are told by
 * json_writer_finish(): -EMSGSIZE above max, -ENOMEM, -EINVAL for what is not well-formed (a key missing,
 * something left open) or not finite. Numbers: integers in full (int64_t), doubles in the fewest digits that
 * read back as the same value. Strings: invalid UTF-8 is replaced byte by byte by U+FFFD, since names of
 * functions and files can be any bytes. */
struct json_writer;
int json_writer_new(struct json_writer **ret, size_t max);
struct json_writer *json_writer_free(struct json_writer *w);
DEFINE_CLEANUP(struct json_writer *, json_writer_free)
void json_writer_reset(struct json_writer *w);       /* keeps the memory */
/* Indented by two spaces, for people. Only while empty. */
void json_writer_set_pretty(struct json_writer *w, bool pretty);
size_t json_writer_size(const struct json_writer *w); /* bytes so far */
int json_writer_error(const struct json_writer *w);   /* what has stuck so far; 0: nothing */
size_t json_string_size(const char *v);               /* bytes that v takes as a string, quotes and all */
/* The text, NUL-terminated (*ret_size doesn't count the NUL), valid until the next call with w. */
int json_writer_finish(struct json_writer *w, const char **ret, size_t *ret_size);

void json_open_object(struct json_writer *w);
void json_close_object(struct json_writer *w);
void json_open_array(struct json_writer *w);
void json_close_array(struct json_writer *w);
void json_key(struct json_writer *w, const char *key); /* then one value */
void json_write_null(struct json_writer *w);
void json_write_bool(struct json_writer *w, bool v);
void json_write_int(struct json_writer *w, int64_t v);
void json_write_u64(struct json_writer *w, uint64_t v);      /* more than INT64_MAX is written as INT64_MAX */
void json_write_float(struct json_writer *w, double v);
void json_write_string(struct json_writer *w, const char *v);
void json_write_string_n(struct json_writer *w, const char *v, size_t n);
void json_write_id(struct json_writer *w, uint64_t v);       /* 16 hexadecimal digits in a string */
void json_write_value(struct json_writer *w, const struct json *v); /* a parsed value, whole */

/* Key and value at once; json_put_string() with NULL puts nothing. */
void json_put_null(struct json_writer *w, const char *key);
void json_put_bool(struct json_writer *w, const char *key, bool v);
void json_put_int(struct json_writer *w, const char *key, int64_t v);
void json_put_u64(struct json_writer *w, const char *key, uint64_t v);
void json_put_float(struct json_writer *w, const char *key, double v);
void json_put_string(struct json_writer *w, const char *key, const char *v);
void json_put_id(struct json_writer *w, const char *key, uint64_t v);

/* ---- interface description ---- */

struct idl;
/* Parses a .varlink file. -EBADMSG, and in error (may be NULL) "line 12: ...", when it isn't one or names a
 * type that it doesn't define. */
int idl_parse(const char *text, size_t size, struct idl **ret, char *error, size_t error_size);
struct idl *idl_free(struct idl *i);
DEFINE_CLEANUP(struct idl *, idl_free)

const char *idl_name(const struct idl *i);        /* "org.stackd" */
const char *idl_text(const struct idl *i);        /* verbatim */
size_t idl_n_methods(const struct idl *i);
const char *idl_method(const struct idl *i, size_t index); /* "GetStatus", in the file's order */
bool idl_has_method(const struct idl *i, const char *method);

#define IDL_FIELD_MAX 128
/* Checks what a call or reply carries (NULL: nothing) against the method's type: unknown and missing fields,
 * types, enums, nested. -EINVAL: ret_field names the offender ("filter.pid", "stacks[3].value"). -ENOENT: no
 * such method or error; these take bare names. */
int idl_check_call(const struct idl *i, const char *method, const struct json *parameters,
                   char ret_field[static IDL_FIELD_MAX]);
int idl_check_reply(const struct idl *i, const char *method, const struct json *parameters,
                    char ret_field[static IDL_FIELD_MAX]);
int idl_check_error(const struct idl *i, const char *error, const struct json *parameters,
                    char ret_field[static IDL_FIELD_MAX]);

/* org.stackd as built in (conf/org.stackd.varlink), and org.varlink.service. */
extern const char wire_idl_stackd[], wire_idl_service[];

/* ---- a blocking client ---- */

struct wire_client;

enum wire_flags {
	WIRE_MORE = 1 << 0,
	WIRE_ONEWAY = 1 << 1,
};

/* -ENOENT, -ECONNREFUSED: nobody listens; -EACCES; -ENAMETOOLONG. */
int wire_client_connect(struct wire_client **ret, const char *path);
struct wire_client *wire_client_free(struct wire_client *c);
DEFINE_CLEANUP(struct wire_client *, wire_client_free)
int wire_client_fd(const struct wire_client *c); /* to poll for the next reply when none is in hand */

/* method: in full, "org.stackd.GetStatus". parameters: the text of a JSON object, or NULL for none. At most
 * one flag. timeout_us: USEC_INFINITY to wait for ever. -ETIMEDOUT, -EPIPE, -EMSGSIZE. */
int wire_client_send(struct wire_client *c, const char *method, const char *parameters, enum wire_flags flags,
                     uint64_t timeout_us);

/* Valid until the next call with the client. */
struct wire_reply {
	const char *text;               /* the whole message as it came */
	size_t size;
	const char *error;              /* "org.stackd.NotFound"; NULL when it is a result */
	const struct json *parameters;  /* NULL when there are none */
	bool continues;                 /* more replies to this call follow */
};
/* The next reply. -ETIMEDOUT, -EINTR (a signal came): try again if you like. -ECONNRESET (the server closed
 * the connection), -EBADMSG (what came is no reply), -EMSGSIZE: the connection is of no more use. */
int wire_client_receive(struct wire_client *c, uint64_t timeout_us, struct wire_reply *ret);
