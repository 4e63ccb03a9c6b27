/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon's side of both helpers: their start and end, and what the opener is asked. */
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "helper_state.h"

#define START_TIMEOUT_MS 5000
#define STOP_TIMEOUT_MS 200
#define OPENER_TIMEOUT_NS NSEC_PER_SEC

/* The account of the service; without it, the one that owns nothing. */
#define PARSER_USER "stackd"
#define NOBODY 65534

/* ---- start and stop ---- */

static int await_hello(struct child *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	struct helper_hello hello;
	_cleanup_close_ int stray = -EBADF;
	ssize_t n;

	n = poll(&p, 1, START_TIMEOUT_MS);
	if (n <= 0)
		return n < 0 ? negative_errno() : -ETIMEDOUT;
	n = packet_receive(c->fd, &hello, sizeof(hello), MSG_DONTWAIT, &stray, 1);
	if (n != sizeof(hello) || hello.magic != HELPER_MAGIC_HELLO)
		return n < 0 ? (int)n : -ECHILD;
	return hello.error;
}

int helper_watch_parser(struct helper *h)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, h->parser.fd, &event) < 0 ? negative_errno() : 0;
}

static int start_child(struct helper *h, struct child *child, enum child_kind kind)
{
	int r = child_spawn(child, kind, h->uid, h->gid);

	return r < 0 ? r : await_hello(child);
}

static int helper_make(struct helper **ret)
{
	_cleanup_(helper_stopp) struct helper *h = calloc(1, sizeof(*h));
	struct passwd *user;

	if (!h)
		return -ENOMEM;
	h->opener = h->parser = (struct child)CHILD_NONE;
	h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (h->epoll_fd < 0)
		return negative_errno();
	/* Looked up here: the parser can't, and loads nothing. */
	user = getpwnam(PARSER_USER);
	h->uid = user ? user->pw_uid : NOBODY;
	h->gid = user ? user->pw_gid : NOBODY;
	*ret = TAKE_PTR(h);
	return 0;
}

static int start_children(struct helper **ret, bool with_opener)
{
	_cleanup_(helper_stopp) struct helper *h = NULL;
	int r;

	r = helper_make(&h);
	if (r >= 0 && with_opener)
		r = start_child(h, &h->opener, CHILD_OPENER);
	if (r >= 0)
		r = start_child(h, &h->parser, CHILD_PARSER);
	if (r >= 0)
		r = helper_watch_parser(h);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(h);
	return 0;
}

int helper_start(struct helper **ret)
{
	return start_children(ret, true);
}

int helper_start_parser(struct helper **ret)
{
	return start_children(ret, false);
}

int helper_start_on_demand(struct helper **ret)
{
	struct helper *h;
	int r;

	r = helper_make(&h);
	if (r < 0)
		return r;
	h->on_demand = true;
	*ret = h;
	return 0;
}

void helper_rest(struct helper *h, uint64_t idle_ns)
{
	if (!h->on_demand || h->failing || h->parser.pid == 0 || h->n_requests > 0 || clock_monotonic_ns() - h->asked_ns < idle_ns)
		return;
	child_end(&h->parser, STOP_TIMEOUT_MS);
}

struct helper *helper_stop(struct helper *h)
{
	if (!h)
		return NULL;
	child_end(&h->opener, STOP_TIMEOUT_MS);
	child_end(&h->parser, STOP_TIMEOUT_MS);
	close_fd(h->epoll_fd);
	free(h);
	return NULL;
}

pid_t helper_opener_pid(const struct helper *h)
{
	return child_alive(&h->opener) ? h->opener.pid : 0;
}

pid_t helper_parser_pid(const struct helper *h)
{
	return child_alive(&h->parser) ? h->parser.pid : 0;
}

uint64_t helper_parser_restarts(const struct helper *h)
{
	return h->restarts;
}

void helper_log_end(const char *what, int status)
{
	if (status == -1)
		log_warning("The %s is gone.", what);
	else if (WIFSIGNALED(status))
		log_warning("The %s was killed by signal %d (%s).", what, WTERMSIG(status),
			    strsignal(WTERMSIG(status)));
	else
		log_warning("The %s ended with status %d.", what, WEXITSTATUS(status));
}

/* ---- opener ---- */

static int lose_opener(struct helper *h)
{
	helper_log_end("opener", child_end(&h->opener, 0));
	return -EPIPE;
}

/* Waits for the answer to this request; older ones, which came too late for theirs, are thrown away. */
static int await_event(struct helper *h, uint32_t sequence, int *ret_fd)
{
	uint64_t deadline = clock_monotonic_ns() + OPENER_TIMEOUT_NS;

	for (;;) {
		struct pollfd p = { .fd = h->opener.fd, .events = POLLIN };
		_cleanup_close_ int fd = -EBADF;
		struct opener_reply reply;
		uint64_t now = clock_monotonic_ns();
		ssize_t n;

		if (now >= deadline)
			return -ETIMEDOUT;
		n = poll(&p, 1, (int)((deadline - now) / (NSEC_PER_USEC * USEC_PER_MSEC)) + 1);
		if (n < 0 && errno != EINTR)
			return negative_errno();
		if (n <= 0)
			continue;
		n = packet_receive(h->opener.fd, &reply, sizeof(reply), MSG_DONTWAIT, &fd, 1);
		if (n == -EAGAIN)
			continue;
		if (n <= 0)
			return -EPIPE;
		if (n != sizeof(reply) || reply.magic != HELPER_MAGIC_OPENER || reply.error > 0 ||
		    (reply.error == 0) != (fd >= 0))
			return -EBADMSG;
		if (reply.sequence != sequence)
			continue;
		if (reply.error < 0)
			return reply.error;
		*ret_fd = TAKE_FD(fd);
		return 0;
	}
}

static int ask_opener(struct helper *h, struct opener_request *request, int file, int *ret_fd)
{
	int r;

	request->magic = HELPER_MAGIC_OPENER;
	request->sequence = ++h->opener_sequence;
	if (h->opener.pid == 0)
		return -EPIPE;
	r = packet_send(h->opener.fd, request, sizeof(*request), MSG_DONTWAIT, &file, file >= 0);
	if (r == -EAGAIN)
		return -ETIMEDOUT; /* it has not even read the last ones */
	if (r >= 0)
		r = await_event(h, request->sequence, ret_fd);
	return r == -EPIPE ? lose_opener(h) : r;
}

int helper_open_perf_event(struct helper *h, enum opener_event event, int cpu, bool freq, uint64_t value,
			   int *ret_fd)
{
	struct opener_request request = { .event = event, .cpu = (uint32_t)cpu, .freq = freq, .value = value };

	return ask_opener(h, &request, -EBADF, ret_fd);
}

int helper_open_run_time(struct helper *h, int *ret_fd)
{
	struct opener_request request = { .event = OPENER_RUN_TIME };

	return ask_opener(h, &request, -EBADF, ret_fd);
}

int helper_open_sampler(struct helper *h, enum opener_event event, int cpu, bool freq, uint64_t value, uint32_t copy, uint32_t watermark,
			int *ret_fd)
{
	struct opener_request request = {
		.event = event, .cpu = (uint32_t)cpu, .freq = freq, .value = value, .copy = copy, .watermark = watermark,
	};

	return ask_opener(h, &request, -EBADF, ret_fd);
}

int helper_open_wakeups(struct helper *h, uint32_t id, int cpu, uint32_t watermark, int *ret_fd)
{
	struct opener_request request = { .event = OPENER_WAKEUPS, .cpu = (uint32_t)cpu, .pid = id, .value = 1, .watermark = watermark };

	return ask_opener(h, &request, -EBADF, ret_fd);
}

int helper_open_uprobe(struct helper *h, int file, uint64_t offset, bool at_return, uint32_t type, pid_t pid, int *ret_fd)
{
	struct opener_request request = {
		.event = at_return ? OPENER_URETPROBE : OPENER_UPROBE, .cpu = type, .pid = (uint32_t)pid, .value = offset,
	};

	return ask_opener(h, &request, file, ret_fd);
}
