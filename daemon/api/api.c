/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "internal.h"

#include <fcntl.h>

static int parse_description(const char *text, struct idl **ret)
{
	char error[128] = "";
	int r;

	r = idl_parse(text, strlen(text), ret, error, sizeof(error));
	if (r == -EBADMSG)
		log_error("the interface description that is built in is damaged: %s", error);
	return r;
}

int api_new(struct api **ret, struct ev_loop *loop, int listen_fd, const struct api_config *config,
            const struct api_views *views, const struct api_actions *actions)
{
	_cleanup_(api_freep) struct api *a = NULL;
	int flags, r;

	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->loop = loop;
	a->listen_fd = -EBADF;
	a->config = *config;
	a->views = *views;
	a->actions = *actions;
	r = parse_description(wire_idl_stackd, &a->stackd);
	if (r >= 0)
		r = parse_description(wire_idl_service, &a->service);
	if (r >= 0)
		r = json_writer_new(&a->writer, WIRE_MESSAGE_MAX);
	if (r < 0)
		return r;
	flags = fcntl(listen_fd, F_GETFL);
	if (flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(listen_fd, F_SETFD, FD_CLOEXEC) < 0)
		return negative_errno();
	a->listen_fd = listen_fd;
	listener_start(a);
	*ret = TAKE_PTR(a);
	return 0;
}

struct api *api_free(struct api *a)
{
	if (!a)
		return NULL;
	while (a->sessions) {
		session_tell_stop(a->sessions);
		session_free(a->sessions);
	}
	if (a->listen_fd >= 0) {
		listener_stop(a);
		close_fd(a->listen_fd);
	}
	json_writer_free(a->writer);
	idl_free(a->stackd);
	idl_free(a->service);
	free(a);
	return NULL;
}

void api_reconfigure(struct api *a, const struct api_config *config)
{
	a->config = *config;
}

void api_publish_anomaly(struct api *a, const struct store_anomaly *anomaly)
{
	subscribers_tell_anomaly(a, anomaly);
}

void api_publish_incident(struct api *a, enum cluster_event_kind event, const struct cluster_incident *incident, uint64_t time_us)
{
	subscribers_tell_incident(a, event, incident, time_us);
}

void api_lines_arrived(struct api *a)
{
	lines_arrived(a);
}

void api_get_status(const struct api *a, struct api_status *ret)
{
	*ret = a->status;
	ret->connections_max = a->config.max_connections;
	ret->queue_max = a->config.subscriber_queue;
	ret->subscribers = subscribers_count(a, &ret->queue);
}
