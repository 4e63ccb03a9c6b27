/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pressure.h"

#include <fcntl.h>
#include <sys/epoll.h>

struct trigger {
	int fd;
	char cause[32];
};

struct pressure {
	int epoll_fd; /* libev knows no EPOLLPRI: the triggers have an epoll of their own */
	size_t n;
	struct trigger triggers[CONF_PRESSURE_MAX];
};

static int open_trigger(struct pressure *p, const struct conf_pressure *c)
{
	struct trigger *t = &p->triggers[p->n];
	char path[32], request[64];
	_cleanup_close_ int fd = -EBADF;
	int n;

	snprintf(path, sizeof(path), "/proc/pressure/%s", c->resource);
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return negative_errno();
	n = snprintf(request, sizeof(request), "%s %llu %llu", c->full ? "full" : "some", (unsigned long long) c->stall_us,
	             (unsigned long long) c->window_us);
	if (write(fd, request, n + 1) < 0)
		return negative_errno();
	if (epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &(struct epoll_event) { .events = EPOLLPRI, .data.ptr = t }) < 0)
		return negative_errno();
	snprintf(t->cause, sizeof(t->cause), "pressure-%s-%s", c->resource, c->full ? "full" : "some");
	t->fd = TAKE_FD(fd);
	p->n++;
	return 0;
}

int pressure_new(struct pressure **ret, const struct conf *conf)
{
	_cleanup_(pressure_freep) struct pressure *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (p->epoll_fd < 0)
		return negative_errno();
	for (size_t i = 0; i < conf->n_pressures; i++) {
		const struct conf_pressure *c = &conf->pressures[i];
		int r = open_trigger(p, c);

		if (r < 0)
			log_warning("OpenOnPressure=%s: cannot set a trigger on /proc/pressure/%s: %s; going on without it",
			            c->resource, c->resource, strerror(-r));
	}
	*ret = TAKE_PTR(p);
	return 0;
}

struct pressure *pressure_free(struct pressure *p)
{
	if (!p)
		return NULL;
	for (size_t i = 0; i < p->n; i++)
		close_fd(p->triggers[i].fd);
	close_fd(p->epoll_fd);
	free(p);
	return NULL;
}

int pressure_fd(const struct pressure *p)
{
	return p->epoll_fd;
}

const char *pressure_next(struct pressure *p)
{
	struct epoll_event event;

	if (epoll_wait(p->epoll_fd, &event, 1, 0) != 1)
		return NULL;
	return ((struct trigger *) event.data.ptr)->cause;
}
