/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wire.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

struct wire_client {
	int fd;
	struct wire_framer *framer;
	struct json *message; /* the last reply */
};

struct wire_client *wire_client_free(struct wire_client *c)
{
	if (!c)
		return NULL;
	close_fd(c->fd);
	wire_framer_free(c->framer);
	json_free(c->message);
	free(c);
	return NULL;
}

int wire_client_connect(struct wire_client **ret, const char *path)
{
	_cleanup_(wire_client_freep) struct wire_client *c = NULL;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int r;

	if (!copy_string(address.sun_path, sizeof(address.sun_path), path))
		return -ENAMETOOLONG;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return negative_errno();
	if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return negative_errno();
	if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0)
		return negative_errno();
	r = wire_framer_new(&c->framer, WIRE_MESSAGE_MAX);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

int wire_client_fd(const struct wire_client *c)
{
	return c->fd;
}

static uint64_t deadline_of(uint64_t timeout_us)
{
	uint64_t now = clock_monotonic_ns() / NSEC_PER_USEC;

	return timeout_us > USEC_INFINITY - now ? USEC_INFINITY : now + timeout_us;
}

static int wait_for(int fd, short events, uint64_t deadline_us)
{
	struct pollfd pollfd = { .fd = fd, .events = events };
	struct timespec left, *timeout = NULL;
	uint64_t now;
	int r;

	if (deadline_us != USEC_INFINITY) {
		now = clock_monotonic_ns() / NSEC_PER_USEC;
		now = deadline_us > now ? deadline_us - now : 0;
		left = (struct timespec){ .tv_sec = now / USEC_PER_SEC,
		                          .tv_nsec = now % USEC_PER_SEC * NSEC_PER_USEC };
		timeout = &left;
	}
	r = ppoll(&pollfd, 1, timeout, NULL);
	if (r < 0)
		return negative_errno();
	return r == 0 ? -ETIMEDOUT : 0;
}

static int send_all(int fd, const char *bytes, size_t n, uint64_t deadline_us)
{
	while (n > 0) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
		int r;

		if (sent >= 0) {
			bytes += sent;
			n -= sent;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return negative_errno();
		/* A signal doesn't leave half a message behind. */
		r = wait_for(fd, POLLOUT, deadline_us);
		if (r < 0 && r != -EINTR)
			return r;
	}
	return 0;
}

int wire_client_send(struct wire_client *c, const char *method, const char *parameters, enum wire_flags flags,
                     uint64_t timeout_us)
{
	_cleanup_(json_writer_freep) struct json_writer *w = NULL;
	_cleanup_(json_freep) struct json *value = NULL;
	const char *text;
	size_t size;
	int r;

	if (parameters) {
		r = json_parse(parameters, strlen(parameters), &value, NULL);
		if (r < 0)
			return r;
	}
	r = json_writer_new(&w, WIRE_REQUEST_MAX);
	if (r < 0)
		return r;
	json_open_object(w);
	json_put_string(w, "method", method);
	if (value) {
		json_key(w, "parameters");
		json_write_value(w, value);
	}
	if (flags & WIRE_MORE)
		json_put_bool(w, "more", true);
	if (flags & WIRE_ONEWAY)
		json_put_bool(w, "oneway", true);
	json_close_object(w);
	r = json_writer_finish(w, &text, &size);
	if (r < 0)
		return r;
	return send_all(c->fd, text, size + 1, deadline_of(timeout_us));
}

static int parse_reply(struct wire_client *c, const char *text, size_t size, struct wire_reply *ret)
{
	struct wire_reply reply = { .text = text, .size = size };
	int r;

	r = json_parse(text, size, &c->message, NULL);
	if (r < 0)
		return r;
	if (json_get_string(c->message, "error", &reply.error) < 0 ||
	    json_get_object(c->message, "parameters", &reply.parameters) < 0 ||
	    json_get_bool(c->message, "continues", &reply.continues) < 0)
		return -EBADMSG;
	*ret = reply;
	return 0;
}

int wire_client_receive(struct wire_client *c, uint64_t timeout_us, struct wire_reply *ret)
{
	uint64_t deadline_us = deadline_of(timeout_us);

	c->message = json_free(c->message);
	for (;;) {
		const char *text;
		size_t size;
		ssize_t n;
		void *room;
		int r;

		r = wire_framer_next(c->framer, &text, &size);
		if (r < 0)
			return r;
		if (r > 0)
			return parse_reply(c, text, size, ret);
		r = wire_framer_space(c->framer, &room, &size);
		if (r < 0)
			return r;
		n = recv(c->fd, room, size, 0);
		if (n > 0) {
			wire_framer_added(c->framer, n);
			continue;
		}
		if (n == 0)
			return -ECONNRESET;
		if (errno == EINTR)
			return -EINTR;
		if (errno != EAGAIN)
			return negative_errno();
		r = wait_for(c->fd, POLLIN, deadline_us);
		if (r < 0)
			return r;
	}
}
