/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "internal.h"

#include <sys/socket.h>

#define ACCEPT_BATCH 16      /* per turn of the loop, so that a storm of connects doesn't hold up the ticks */
#define ACCEPT_PAUSE_S 1.0   /* without descriptors or memory */

static uint32_t connections_of(const struct api *a, uid_t uid)
{
	uint32_t n = 0;

	for (const struct session *s = a->sessions; s; s = s->next)
		n += s->peer.uid == uid;
	return n;
}

/* Says why, as far as the empty socket's buffer goes, which is far enough. */
static void refuse(struct api *a, int fd, uint32_t limit)
{
	char text[128];
	int n;

	n = snprintf(text, sizeof(text),
	             "{\"error\":\"org.stackd.TooManyConnections\",\"parameters\":{\"limit\":%u}}", limit);
	/* If it can't be said, closing says it. */
	if (send(fd, text, n + 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("cannot tell a client that there are too many connections: %s", strerror(errno));
	a->status.refused++;
}

/* Lest those who see little lock out those who see everything: the oldest connection of the former that asks
 * nothing gives way. */
static bool make_room(struct api *a)
{
	struct session *oldest = NULL;

	/* The newest is the first. */
	for (struct session *s = a->sessions; s; s = s->next)
		if (!s->peer.privileged && session_is_idle(s))
			oldest = s;
	session_free(oldest);
	return oldest != NULL;
}

static int admit(struct api *a, int fd)
{
	_cleanup_close_ int owned = fd;
	struct peer peer;
	int r;

	r = peer_get(fd, a->config.group, &peer);
	if (r < 0)
		return r;
	if (a->status.connections >= a->config.max_connections && !(peer.privileged && make_room(a))) {
		refuse(a, fd, a->config.max_connections);
		return 0;
	}
	if (connections_of(a, peer.uid) >= a->config.max_connections_uid) {
		refuse(a, fd, a->config.max_connections_uid);
		return 0;
	}
	a->status.accepted++;
	return session_new(a, TAKE_FD(owned), &peer);
}

static void on_acceptable(struct ev_loop *loop, ev_io *w, int events _unused_)
{
	struct api *a = w->data;
	int r;

	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int fd = accept4(a->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
				return;
			/* The connection stays in the queue: without a pause we would spin. */
			log_warning("cannot accept connections for the next second: %s", strerror(errno));
			ev_io_stop(loop, w);
			ev_timer_set(&a->accept_pause, ACCEPT_PAUSE_S, 0);
			ev_timer_start(loop, &a->accept_pause);
			return;
		}
		r = admit(a, fd);
		if (r < 0)
			log_warning("cannot serve a connection: %s", strerror(-r));
	}
}

static void on_pause_over(struct ev_loop *loop, ev_timer *w, int events _unused_)
{
	struct api *a = w->data;

	ev_io_start(loop, &a->acceptable);
}

void listener_start(struct api *a)
{
	ev_io_init(&a->acceptable, on_acceptable, a->listen_fd, EV_READ);
	a->acceptable.data = a;
	ev_timer_init(&a->accept_pause, on_pause_over, ACCEPT_PAUSE_S, 0);
	a->accept_pause.data = a;
	ev_io_start(a->loop, &a->acceptable);
}

void listener_stop(struct api *a)
{
	ev_timer_stop(a->loop, &a->accept_pause);
	ev_io_stop(a->loop, &a->acceptable);
}
