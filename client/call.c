/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "call.h"

#include <poll.h>

#include "timestamp.h"

#define REPLY_TIMEOUT_US (30 * USEC_PER_SEC)
#define REPLIES_MAX (256 * 1024 * 1024) /* bytes of all replies to one call */

#define SERVICE "org.varlink.service."

static void tell_no_connection(const char *path, int r)
{
	if (r == -EACCES || r == -EPERM)
		log_error("Can't connect to %s: %s. Join the group stackd (usermod -aG stackd USER, then log "
		          "in again), or run as root.",
		          path, strerror(-r));
	else if (r == -ENOENT || r == -ECONNREFUSED)
		log_error("Can't connect to %s: %s. Is stackd running? See: systemctl status stackd", path,
		          strerror(-r));
	else
		log_error("Can't connect to %s: %s.", path, strerror(-r));
}

static void tell_no_reply(const struct call *c, int r)
{
	const char *path = c->options->socket;

	switch (r) {
	case -ETIMEDOUT:
		log_error("stackd did not answer within %llu s. See: systemctl status stackd",
		          REPLY_TIMEOUT_US / USEC_PER_SEC);
		break;
	case -ECONNRESET:
	case -EPIPE:
		log_error("stackd closed the connection before its answer was complete. See: systemctl "
		          "status stackd");
		break;
	case -EBADMSG:
	case -EMSGSIZE:
		log_error("What came from %s is no answer of stackd's (%s). Is it stackd's socket?", path,
		          r == -EMSGSIZE ? "a message above the size limit" : "not a varlink reply");
		break;
	default:
		log_error("No answer from %s: %s.", path, strerror(-r));
	}
}

/* what: "process 1234", "stack 0123456789abcdef". */
static void tell_not_found(const char *what)
{
	static const char *const listed[] = { "incident", "cluster" };
	const char *blank = strchr(what, ' ');

	for (size_t k = 0; k < ELEMENTS_OF(listed) && blank; k++)
		if (strncmp(what, listed[k], strlen(listed[k])) == 0 && what + strlen(listed[k]) == blank) {
			log_error("There is no %s. \"stackctl %ss\" lists those that there are.", what, listed[k]);
			return;
		}
	if (blank)
		log_error("No such %.*s recorded: %s", (int)(blank - what), what, blank + 1);
	else
		log_error("Not recorded: %s", what);
}

static void tell_range(const struct json *parameters)
{
	char since[FORMAT_MAX], until[FORMAT_MAX];
	uint64_t since_us = 0, until_us = 0;

	json_get_u64(parameters, "since_us", &since_us);
	json_get_u64(parameters, "until_us", &until_us);
	log_error("The time range ends before it begins: from %s to %s.", time_format(since, since_us),
	          time_format(until, until_us));
}

static void tell_not_kept(const struct json *parameters, const char *reason)
{
	char since[FORMAT_MAX], until[FORMAT_MAX];
	uint64_t since_us = 0, until_us = 0;

	json_get_u64(parameters, "since_us", &since_us);
	json_get_u64(parameters, "until_us", &until_us);
	if (until_us)
		log_error("When samples were taken is not kept: %s. It is from %s to %s.", reason, time_format(since, since_us),
		          time_format(until, until_us));
	else
		log_error("When samples were taken is not kept: %s.", reason);
}

/* Text that came over the socket, made harmless; the caller frees. */
static char *member(const struct options *o, const struct json *parameters, const char *key)
{
	const char *s = "";

	json_get_string(parameters, key, &s);
	return text_escape(s, o->term.utf8);
}

static void tell_not_watched(const struct call *c, const struct json *parameters, const char *reason)
{
	bool begins = streq(c->method, "WatchMemory");
	_cleanup_free_ char *unit = member(c->options, parameters, "unit"), *cgroup = member(c->options, parameters, "cgroup");
	int64_t pid = 0;

	json_get_int(parameters, "pid", &pid);
	if (!unit || !cgroup)
		log_error("Out of memory.");
	else if (*unit || *cgroup)
		log_error(begins ? "The memory of %s can't be watched: %s." : "%s: %s.", *unit ? unit : cgroup, reason);
	else if (pid)
		log_error(begins ? "The memory of process %lld can't be watched: %s." : "Process %lld: %s.", (long long)pid, reason);
	else
		log_error("The kernel: %s.", reason);
}

static void tell_error(const struct call *c, const char *error, const struct json *parameters)
{
	const struct options *o = c->options;
	_cleanup_free_ char *name = text_escape(error, o->term.utf8), *what = member(o, parameters, "what"),
			    *reason = member(o, parameters, "reason"),
			    *parameter = member(o, parameters, "parameter");

	if (!name || !what || !reason || !parameter)
		log_error("Out of memory.");
	else if (streq(error, WIRE_INTERFACE ".NotFound"))
		tell_not_found(what);
	else if (streq(error, WIRE_INTERFACE ".InvalidRange"))
		tell_range(parameters);
	else if (streq(error, WIRE_INTERFACE ".NotKept"))
		tell_not_kept(parameters, reason);
	else if (streq(error, WIRE_INTERFACE ".TooLarge"))
		log_error("The answer is too large: ask for less with -n, --since or a filter.");
	else if (streq(error, WIRE_INTERFACE ".PermissionDenied"))
		log_error("Permission denied: %s", *reason ? reason : "only root may do that");
	else if (streq(error, WIRE_INTERFACE ".NotWatched"))
		tell_not_watched(c, parameters, reason);
	else if (streq(error, WIRE_INTERFACE ".Failed"))
		log_error("stackd could not answer: %s", reason);
	else if (streq(error, WIRE_INTERFACE ".Stopping"))
		log_error("stackd is stopping: nothing more comes. Ask again when it runs: systemctl status stackd");
	else if (streq(error, WIRE_INTERFACE ".TooManyConnections"))
		log_error("stackd has as many connections as it takes; try again later.");
	else if (streq(error, SERVICE "InvalidParameter"))
		log_error("stackd does not take the parameter \"%s\".", parameter);
	else if (streq(error, SERVICE "MethodNotFound") || streq(error, SERVICE "MethodNotImplemented") ||
	         streq(error, SERVICE "InterfaceNotFound"))
		log_error("The stackd that is running does not know %s: is it of another version?",
		          c->method);
	else
		log_error("stackd answers: %s", name);
}

void call_close(struct call *c)
{
	c->client = wire_client_free(c->client);
}

struct json_writer *call_parameters(void)
{
	struct json_writer *w;

	if (json_writer_new(&w, WIRE_REQUEST_MAX) < 0) {
		log_error("Out of memory.");
		return NULL;
	}
	json_open_object(w);
	return w;
}

bool call_start(struct call *ret, const struct options *o, const char *method, struct json_writer *parameters,
                bool more, bool follow)
{
	_cleanup_call_ struct call c = { .options = o, .method = method, .follow = follow };
	const char *text = NULL;
	char name[64];
	size_t size;
	int r;

	if (parameters) {
		json_close_object(parameters);
		r = json_writer_finish(parameters, &text, &size);
		if (r < 0) {
			log_error("Can't write the request: %s.", strerror(-r));
			return false;
		}
	}
	r = wire_client_connect(&c.client, o->socket);
	if (r < 0) {
		tell_no_connection(o->socket, r);
		return false;
	}
	snprintf(name, sizeof(name), "%s.%s", WIRE_INTERFACE, method);
	r = wire_client_send(c.client, name, text, more ? WIRE_MORE : 0, REPLY_TIMEOUT_US);
	/* A server that refuses the connection may have said why before it closed. */
	if (r < 0 && r != -EPIPE) {
		tell_no_reply(&c, r);
		return false;
	}
	c.deadline_ns = clock_monotonic_ns() + REPLY_TIMEOUT_US * NSEC_PER_USEC;
	*ret = c;
	c.client = NULL;
	return true;
}

/* Waits for the next reply, or until nobody reads stdout any more: else "stackctl anomalies -f | head -1"
 * would stay until the next anomaly, which may be never. */
static bool wait_for_more(struct call *c)
{
	struct pollfd fds[] = {
		{ .fd = wire_client_fd(c->client), .events = POLLIN },
		{ .fd = STDOUT_FILENO },
	};

	if (poll(fds, ELEMENTS_OF(fds), -1) > 0 && fds[1].revents)
		c->done = true;
	return !c->done;
}

static int receive(struct call *c, struct wire_reply *ret)
{
	int r;

	for (;;) {
		r = wire_client_receive(c->client, c->follow ? 0 : REPLY_TIMEOUT_US, ret);
		if (r == -EINTR)
			continue;
		if (r != -ETIMEDOUT || !c->follow)
			return r;
		if (!wait_for_more(c))
			return -ECANCELED;
	}
}

/* Tells what is wrong with what came, or didn't. */
static bool is_good(const struct call *c, int r, const struct wire_reply *reply)
{
	if (r < 0)
		tell_no_reply(c, r);
	else if (reply->error)
		tell_error(c, reply->error, reply->parameters);
	return r >= 0 && !reply->error;
}

bool call_next(struct call *c, const struct json **ret)
{
	struct wire_reply reply;
	int r;

	r = receive(c, &reply);
	if (r == -ECANCELED || !is_good(c, r, &reply))
		return false;
	c->done = !reply.continues;
	*ret = reply.parameters;
	return true;
}

/* ---- all replies of one call ---- */

void replies_free(struct replies *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->texts[i]);
	free(r->texts);
	*r = (struct replies) {};
}

static int replies_add(struct replies *r, const struct wire_reply *reply)
{
	char **texts;

	if (r->size + reply->size > REPLIES_MAX)
		return -EFBIG;
	texts = reallocarray(r->texts, r->n + 1, sizeof(*texts));
	if (!texts)
		return -ENOMEM;
	r->texts = texts;
	texts[r->n] = strndup(reply->text, reply->size);
	if (!texts[r->n])
		return -ENOMEM;
	r->n++;
	r->size += reply->size;
	return 0;
}

/* Keeps what was received with r, or tells why not. */
static bool keep(struct call *c, int r, const struct wire_reply *reply, struct replies *to)
{
	if (!is_good(c, r, reply))
		return false;
	r = replies_add(to, reply);
	if (r < 0)
		log_error("Can't keep the answer: %s.", strerror(-r));
	c->done = !reply->continues;
	return r >= 0;
}

bool call_collect(struct call *c, struct replies *r)
{
	struct wire_reply reply;
	int k;

	while (!c->done) {
		k = wire_client_receive(c->client, 0, &reply);
		if (k == -EINTR || (k == -ETIMEDOUT && clock_monotonic_ns() < c->deadline_ns))
			break;
		if (!keep(c, k, &reply, r))
			return false;
	}
	return true;
}

bool call_all(struct replies *ret, const struct options *o, const char *method,
              struct json_writer *parameters)
{
	_cleanup_replies_ struct replies replies = {};
	_cleanup_call_ struct call c = {};
	struct wire_reply reply;
	int r;

	if (!call_start(&c, o, method, parameters, true, false))
		return false;
	while (!c.done) {
		r = receive(&c, &reply);
		if (!keep(&c, r, &reply, &replies))
			return false;
	}
	*ret = replies;
	replies = (struct replies) {};
	return true;
}

bool replies_parse(const struct replies *r, size_t index, struct json **ret_root, const struct json **ret)
{
	struct json *root;
	int k;

	k = json_parse(r->texts[index], strlen(r->texts[index]), &root, NULL);
	if (k < 0) {
		log_error("Can't read the answer: %s.", strerror(-k));
		return false;
	}
	*ret_root = root;
	*ret = json_get(root, "parameters");
	return true;
}

/* One list, through all replies. */
static bool join_list(const struct replies *r, const char *key, struct json_writer *w)
{
	json_open_array(w);
	for (size_t i = 0; i < r->n; i++) {
		_cleanup_(json_freep) struct json *root = NULL;
		const struct json *reply, *rows;

		if (!replies_parse(r, i, &root, &reply))
			return false;
		rows = json_get(reply, key);
		for (size_t k = 0; k < json_length(rows); k++)
			json_write_value(w, json_at(rows, k));
	}
	json_close_array(w);
	return true;
}

struct joining {
	const struct replies *replies;
	struct json_writer *writer;
};

static int join_member(void *userdata, const char *key, const struct json *value)
{
	struct joining *j = userdata;

	json_key(j->writer, key);
	if (json_kind(value) == JSON_ARRAY)
		return join_list(j->replies, key, j->writer) ? 0 : -EIO;
	json_write_value(j->writer, value);
	return 0;
}

bool replies_join(const struct replies *r, struct json_writer *w)
{
	struct joining joining = { .replies = r, .writer = w };
	_cleanup_(json_freep) struct json *root = NULL;
	const struct json *first;

	if (!replies_parse(r, 0, &root, &first))
		return false;
	json_open_object(w);
	if (json_visit(first, join_member, &joining) < 0)
		return false;
	json_close_object(w);
	return true;
}

bool call_joined(struct json **ret, const struct options *o, const char *method,
                 struct json_writer *parameters)
{
	_cleanup_(json_writer_freep) struct json_writer *w = NULL;
	_cleanup_replies_ struct replies replies = {};
	const char *text;
	size_t size;
	int r;

	if (!call_all(&replies, o, method, parameters))
		return false;
	r = json_writer_new(&w, REPLIES_MAX);
	if (r >= 0 && !replies_join(&replies, w))
		return false;
	if (r >= 0)
		r = json_writer_finish(w, &text, &size);
	if (r >= 0)
		r = json_parse(text, size, ret, NULL);
	if (r < 0)
		log_error("Can't read the answer: %s.", strerror(-r));
	return r >= 0;
}

/* ---- what most calls take ---- */

void put_filter(struct json_writer *w, const struct options *o)
{
	if (!(o->given & OPTION_FILTER))
		return;
	json_key(w, "filter");
	json_open_object(w);
	if (o->given & OPTION_PID)
		json_put_int(w, "pid", o->pid);
	json_put_string(w, "unit", o->unit);
	json_put_string(w, "cgroup", o->cgroup);
	json_put_string(w, "comm", o->comm);
	json_put_string(w, "exe", o->exe);
	if (o->given & OPTION_SINCE)
		json_put_u64(w, "since_us", o->since_us);
	if (o->given & OPTION_UNTIL)
		json_put_u64(w, "until_us", o->until_us);
	json_close_object(w);
}

void put_metric(struct json_writer *w, const struct options *o)
{
	char name[32];

	if (!(o->given & OPTION_METRIC))
		return;
	/* The interface spells its names as varlink wants them. */
	copy_string(name, sizeof(name), metric_to_string(o->metric));
	for (char *p = name; *p; p++)
		if (*p == '-')
			*p = '_';
	json_put_string(w, "metric", name);
}

void put_limit(struct json_writer *w, const struct options *o)
{
	if (o->given & OPTION_LINES)
		json_put_int(w, "limit", o->lines);
}
