/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One connection: bytes in, one call at a time, bytes out. While a call is being answered or a reply isn't
 * all sent, nothing is read: that is the back-pressure. What can go on without the peer goes on in the loop's
 * next turn, when the socket is found writable, so that nobody holds up the others. */
#include "internal.h"

#include <poll.h>
#include <sys/socket.h>

#define MESSAGES_PER_TURN 16
#define HANGUP_CHECK_S 1.0

static void arm(struct session *s);

static bool output_pending(const struct session *s)
{
	return s->output_size > 0;
}

bool session_is_idle(const struct session *s)
{
	return !s->call.produce && !output_pending(s) && !s->in_hand;
}

static void timer_for(struct session *s, enum session_timer what)
{
	double seconds = what == TIMER_HANGUP ? HANGUP_CHECK_S
	                                      : (double)s->api->config.request_timeout_us / USEC_PER_SEC;

	if (s->timer_for == what)
		return;
	ev_timer_stop(s->api->loop, &s->timer);
	s->timer_for = what;
	if (what == TIMER_OFF)
		return;
	ev_timer_set(&s->timer, seconds, seconds);
	ev_timer_start(s->api->loop, &s->timer);
}

/* ---- replies ---- */

static void flush(struct session *s)
{
	ssize_t n;

	n = send(s->fd, s->output + s->output_sent, s->output_size - s->output_sent,
	         MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0) {
		s->broken |= errno != EAGAIN && errno != EINTR;
		return;
	}
	s->output_sent += n;
	if (s->output_sent < s->output_size)
		return;
	free(s->output);
	s->output = NULL;
	s->output_size = s->output_sent = 0;
	timer_for(s, TIMER_OFF);
}

/* Sends what the socket takes and keeps the rest. size counts the NUL. */
static void transmit(struct session *s, const char *text, size_t size)
{
	ssize_t n;

	if (s->call.oneway || s->broken)
		return;
	n = send(s->fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0) {
		s->broken = errno != EAGAIN && errno != EINTR;
		n = 0;
	}
	if (s->broken || (size_t)n == size)
		return;
	s->output = malloc(size - n);
	if (!s->output) {
		s->broken = true;
		return;
	}
	memcpy(s->output, text + n, size - n);
	s->output_size = size - n;
	s->output_sent = 0;
}

struct json_writer *session_reply_begin(struct session *s)
{
	struct json_writer *w = s->api->writer;

	json_writer_reset(w);
	json_open_object(w);
	json_key(w, "parameters");
	json_open_object(w);
	return w;
}

static void too_large(struct session *s)
{
	struct json_writer *w = session_error_begin(s, "org.stackd.TooLarge");

	json_put_int(w, "limit", WIRE_MESSAGE_MAX);
	session_error_end(s);
}

bool session_reply_end(struct session *s, bool continues)
{
	struct json_writer *w = s->api->writer;
	const char *text;
	size_t size;
	int r;

	json_close_object(w);
	if (continues)
		json_put_bool(w, "continues", true);
	json_close_object(w);
	r = json_writer_finish(w, &text, &size);
	if (r == -EMSGSIZE)
		too_large(s);
	else if (r < 0)
		session_failed(s, r);
	else
		transmit(s, text, size + 1);
	return r >= 0;
}

struct json_writer *session_error_begin(struct session *s, const char *error)
{
	struct json_writer *w = s->api->writer;

	s->api->status.errors++;
	json_writer_reset(w);
	json_open_object(w);
	json_put_string(w, "error", error);
	json_key(w, "parameters");
	json_open_object(w);
	return w;
}

void session_error_end(struct session *s)
{
	struct json_writer *w = s->api->writer;
	const char *text;
	size_t size;

	json_close_object(w);
	json_close_object(w);
	/* Errors are small: only memory can be missing, and then nothing can be said. */
	if (json_writer_finish(w, &text, &size) < 0)
		s->broken = true;
	else
		transmit(s, text, size + 1);
}

void session_error(struct session *s, const char *error, const char *parameter, const char *value)
{
	struct json_writer *w = session_error_begin(s, error);

	if (parameter)
		json_put_string(w, parameter, value);
	session_error_end(s);
}

void session_failed(struct session *s, int error)
{
	session_error(s, "org.stackd.Failed", "reason", strerror(-error));
}

void session_tell_stop(struct session *s)
{
	/* Half a reply can't be followed by an error: closing says it then. */
	if (s->call.produce && !output_pending(s) && !s->broken)
		session_error(s, "org.stackd.Stopping", NULL, NULL);
}

/* ---- calls ---- */

static void end_call(struct session *s)
{
	if (s->call.free_state)
		s->call.free_state(s, s->call.state);
	s->call = (struct call){ 0 };
	s->waiting = s->not_readable = false;
}

static void produce(struct session *s)
{
	switch (s->call.produce(s)) {
	case PRODUCE_DONE:
		end_call(s);
		break;
	case PRODUCE_MORE:
		break;
	case PRODUCE_WAIT:
		s->waiting = true;
		break;
	}
}

void session_produce(struct session *s, enum produce_result (*fn)(struct session *s), void *state,
                     void (*free_state)(struct session *s, void *state))
{
	s->call.produce = fn;
	s->call.state = state;
	s->call.free_state = free_state;
}

void session_wake(struct session *s)
{
	s->waiting = false;
	arm(s);
}

/* Handles what is in hand, until a call needs more turns or the peer has to read first. */
static void process(struct session *s)
{
	s->in_hand = true;
	for (int i = 0; i < MESSAGES_PER_TURN && !s->broken && !s->call.produce && !output_pending(s); i++) {
		const char *text;
		size_t size;
		int r;

		r = wire_framer_next(s->framer, &text, &size);
		if (r == 0) {
			s->in_hand = false;
			return;
		}
		timer_for(s, TIMER_OFF);
		if (r < 0 || !dispatch(s, text, size)) {
			s->api->status.errors++;
			s->broken = true;
			return;
		}
		if (s->call.produce)
			produce(s);
		else
			end_call(s);
	}
}

/* ---- events ---- */

static void arm(struct session *s)
{
	bool busy = output_pending(s) || (s->call.produce && !s->waiting) || (!s->call.produce && s->in_hand);
	int events = busy ? EV_WRITE : s->waiting && s->not_readable ? 0 : EV_READ;

	if (events != (s->io.events & (EV_READ | EV_WRITE)) || !ev_is_active(&s->io)) {
		ev_io_stop(s->api->loop, &s->io);
		ev_io_set(&s->io, s->fd, events);
		if (events)
			ev_io_start(s->api->loop, &s->io);
	}
	/* Also when the next reply waits for room, or the next call for its turn. */
	if (busy)
		timer_for(s, TIMER_REPLY);
	else if (s->waiting && s->not_readable)
		timer_for(s, TIMER_HANGUP);
	else if (!s->call.produce && wire_framer_pending(s->framer) > 0)
		timer_for(s, TIMER_REQUEST);
	else
		timer_for(s, TIMER_OFF);
}

static bool hung_up(const struct session *s)
{
	struct pollfd p = { .fd = s->fd };

	return poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR);
}

/* While a call waits nothing is read, but the peer may go away. It may also have closed only its sending
 * side, or sent the next calls: then the socket stays readable, and a timer has to look. */
static void look_for_end(struct session *s)
{
	char c;
	ssize_t n = recv(s->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	s->not_readable = true;
	s->broken |= n < 0 || hung_up(s);
}

static void receive(struct session *s)
{
	size_t room;
	ssize_t n;
	void *p;

	if (wire_framer_space(s->framer, &p, &room) < 0) {
		s->broken = true;
		return;
	}
	n = recv(s->fd, p, room, MSG_DONTWAIT);
	if (n > 0) {
		wire_framer_added(s->framer, n);
		process(s);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		s->broken = true;
}

static void settle(struct session *s)
{
	if (s->broken)
		session_free(s);
	else
		arm(s);
}

static void on_io(struct ev_loop *loop _unused_, ev_io *w, int events _unused_)
{
	struct session *s = w->data;

	if (output_pending(s))
		flush(s);
	else if (s->timer_for == TIMER_REPLY)
		timer_for(s, TIMER_OFF);
	if (s->broken || output_pending(s))
		;
	else if (s->waiting)
		look_for_end(s);
	else if (s->call.produce)
		produce(s);
	else if (s->in_hand)
		process(s);
	else
		receive(s);
	settle(s);
}

static void on_timer(struct ev_loop *loop _unused_, ev_timer *w, int events _unused_)
{
	struct session *s = w->data;

	s->broken = s->timer_for != TIMER_HANGUP || hung_up(s);
	if (s->timer_for == TIMER_REQUEST)
		s->api->status.errors++;
	if (s->broken)
		session_free(s);
}

/* ---- life ---- */

int session_new(struct api *a, int fd, const struct peer *peer)
{
	_cleanup_close_ int owned = fd;
	struct session *s;
	int r;

	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	r = wire_framer_new(&s->framer, WIRE_REQUEST_MAX);
	if (r < 0) {
		free(s);
		return r;
	}
	s->api = a;
	s->fd = TAKE_FD(owned);
	s->peer = *peer;
	ev_io_init(&s->io, on_io, s->fd, 0);
	s->io.data = s;
	ev_init(&s->timer, on_timer);
	s->timer.data = s;
	s->next = a->sessions;
	if (s->next)
		s->next->previous = &s->next;
	s->previous = &a->sessions;
	a->sessions = s;
	a->status.connections++;
	arm(s);
	return 0;
}

struct session *session_free(struct session *s)
{
	if (!s)
		return NULL;
	end_call(s);
	ev_io_stop(s->api->loop, &s->io);
	ev_timer_stop(s->api->loop, &s->timer);
	*s->previous = s->next;
	if (s->next)
		s->next->previous = s->previous;
	s->api->status.connections--;
	wire_framer_free(s->framer);
	free(s->output);
	close_fd(s->fd);
	free(s);
	return NULL;
}
