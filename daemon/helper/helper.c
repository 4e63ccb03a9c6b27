/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon's side of both helpers. */
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdalign.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "child.h"
#include "protocol.h"
#include "reply.h"

#define START_TIMEOUT_MS 5000
#define STOP_TIMEOUT_MS 200
#define OPENER_TIMEOUT_NS NSEC_PER_SEC
#define REQUESTS_MAX 64
#define PARSER_TIMEOUT_NS (PARSER_REQUEST_MAX_S * NSEC_PER_SEC)
/* Files that killed a parser are remembered by what they were asked for; two deaths and that is not asked again. */
#define POISON_MAX 64
#define POISON_DEATHS 2
/* A parser that dies over and over must not keep the daemon forking. */
#define RESTARTS_BURST 10
#define RESTARTS_INTERVAL_NS (60 * NSEC_PER_SEC)

/* The account of the service; without it, the one that owns nothing. */
#define PARSER_USER "stackd"
#define NOBODY 65534

struct poison {
	uint64_t object;
	enum parser_kind kind;
	unsigned deaths;
};

struct helper {
	struct child opener, parser;
	uint32_t opener_sequence;
	uid_t uid;
	gid_t gid;

	int epoll_fd; /* what parser_fd() gives: stays the same when the parser is replaced */
	bool on_demand; /* the parser is started when it is asked */
	uint64_t asked_ns;
	bool failing; /* the parser is dead; its open requests are answered with -EPIPE first, then it is
			 replaced */
	struct request requests[REQUESTS_MAX]; /* a ring in the order of the parser's work */
	size_t first, n_requests;
	uint64_t next_id, head_since_ns; /* when the parser got to the first one, at the earliest */
	struct poison poison[POISON_MAX];
	size_t next_poison;
	uint64_t restarts, window_start_ns;
	unsigned window_restarts;
	struct {
		parser_reply_fn fn;
		void *userdata;
	} routes[PARSER_KIND_N];
	alignas(struct parser_reply_header) uint8_t reply[PARSER_REPLY_MAX];
};

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

static int watch_parser(struct helper *h)
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
		r = watch_parser(h);
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

static void log_end(const char *what, int status)
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
	log_end("opener", child_end(&h->opener, 0));
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

/* ---- parser: requests ---- */

static struct request *request_at(struct helper *h, size_t i)
{
	return &h->requests[(h->first + i) % REQUESTS_MAX];
}

static struct poison *find_poison(struct helper *h, uint64_t object, enum parser_kind kind)
{
	for (size_t i = 0; i < POISON_MAX; i++)
		if (h->poison[i].object == object && h->poison[i].kind == kind && h->poison[i].deaths > 0)
			return &h->poison[i];
	return NULL;
}

static bool is_poisoned(struct helper *h, uint64_t object, enum parser_kind kind)
{
	const struct poison *p = find_poison(h, object, kind);

	return p && p->deaths >= POISON_DEATHS;
}

static void blame(struct helper *h, const struct request *q)
{
	struct poison *p = find_poison(h, q->object, q->kind);

	if (p) {
		p->deaths++;
		return;
	}
	h->poison[h->next_poison] = (struct poison){ .object = q->object, .kind = q->kind, .deaths = 1 };
	h->next_poison = (h->next_poison + 1) % POISON_MAX;
}

/* The request that it was at is to blame; those behind it only had bad luck. */
static void lose_parser(struct helper *h)
{
	if (h->failing)
		return;
	h->failing = true;
	child_kill(&h->parser);
	if (h->n_requests > 0)
		blame(h, request_at(h, 0));
}

static void check_watchdog(struct helper *h)
{
	if (h->failing || h->n_requests == 0 || clock_monotonic_ns() - h->head_since_ns < PARSER_TIMEOUT_NS)
		return;
	log_warning("The parser took more than %d s for one file.", PARSER_REQUEST_MAX_S);
	lose_parser(h);
}

static void restart_parser(struct helper *h);

/* 0: this may be asked, there is a parser, and room for one more request. */
static int prepare_request(struct helper *h, enum parser_kind kind, uint64_t object)
{
	if (is_poisoned(h, object, kind))
		return -ENOTRECOVERABLE;
	check_watchdog(h);
	if (h->on_demand && !h->failing && h->parser.pid == 0)
		restart_parser(h);
	h->asked_ns = clock_monotonic_ns();
	return h->failing || h->parser.pid == 0 || h->n_requests == REQUESTS_MAX ? -EAGAIN : 0;
}

/* Sends what prepare_request() has allowed, with `size` bytes behind the header, and queues it. The header's magic
 * and number are filled in here. */
static int send_request(struct helper *h, struct parser_request_packet *packet, size_t size, const int *fds,
			size_t n_fds, struct request **ret)
{
	struct request *q;
	int r;

	packet->header.magic = HELPER_MAGIC_PARSER;
	packet->header.request = h->next_id + 1;
	r = packet_send(h->parser.fd, packet, sizeof(packet->header) + size, MSG_DONTWAIT, fds, n_fds);
	if (r == -EPIPE)
		return -EAGAIN; /* parser_next() sees to it */
	if (r < 0)
		return r == -ENOBUFS || r == -ETOOMANYREFS ? -EAGAIN : r;

	if (h->n_requests == 0)
		h->head_since_ns = clock_monotonic_ns();
	q = request_at(h, h->n_requests++);
	q->id = ++h->next_id;
	q->object = packet->header.object;
	q->kind = packet->header.kind;
	q->n = packet->header.n;
	*ret = q;
	return 0;
}

static int ask_about_offsets(struct helper *h, enum parser_kind kind, uint64_t object, const int *fds, size_t n_fds,
			     const uint64_t *offsets, size_t n, uint64_t *ret_request)
{
	struct parser_request_packet packet;
	struct request *q;
	int r;

	if (fds[0] < 0)
		return -EBADF;
	if (n == 0 || n > PARSER_OFFSETS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (offsets[i] > INT64_MAX)
			return -EINVAL;
	r = prepare_request(h, kind, object);
	if (r < 0)
		return r;
	packet.header = (struct parser_request_header){ .kind = kind, .n = (uint32_t)n, .object = object };
	memcpy(packet.offsets, offsets, n * sizeof(*offsets));
	r = send_request(h, &packet, n * sizeof(*offsets), fds, n_fds, &q);
	if (r < 0)
		return r;
	memcpy(q->offsets, offsets, n * sizeof(*offsets));
	*ret_request = q->id;
	return 0;
}

int parser_ask(struct helper *h, uint64_t object, int fd, const uint64_t *offsets, size_t n,
	       uint64_t *ret_request)
{
	return ask_about_offsets(h, PARSER_SYMBOLS, object, &fd, 1, offsets, n, ret_request);
}

int parser_ask_with_debug(struct helper *h, uint64_t object, int fd, int debug_fd, const uint64_t *offsets, size_t n,
			  uint64_t *ret_request)
{
	const int fds[] = { fd, debug_fd };

	return ask_about_offsets(h, PARSER_SYMBOLS, object, fds, debug_fd < 0 ? 1 : 2, offsets, n, ret_request);
}

int parser_ask_perf_map(struct helper *h, uint64_t object, int fd, const uint64_t *addresses, size_t n,
			uint64_t *ret_request)
{
	return ask_about_offsets(h, PARSER_PERF_MAP, object, &fd, 1, addresses, n, ret_request);
}

int parser_ask_lines(struct helper *h, uint64_t object, int fd, int debug_fd, int alt_fd, const uint64_t *offsets, size_t n,
		     uint64_t *ret_request)
{
	const int fds[] = { fd, debug_fd < 0 ? fd : debug_fd, alt_fd < 0 ? fd : alt_fd };

	if (n > PARSER_LINES_MAX)
		return -EINVAL;
	return ask_about_offsets(h, PARSER_LINES, object, fds, ELEMENTS_OF(fds), offsets, n, ret_request);
}

int parser_ask_allocators(struct helper *h, uint64_t object, int fd, uint64_t *ret_request)
{
	struct parser_request_packet packet = { .header = { .kind = PARSER_ALLOCATORS, .object = object } };
	struct request *q;
	int r;

	if (fd < 0)
		return -EBADF;
	r = prepare_request(h, PARSER_ALLOCATORS, object);
	if (r < 0)
		return r;
	r = send_request(h, &packet, 0, &fd, 1, &q);
	if (r < 0)
		return r;
	*ret_request = q->id;
	return 0;
}

int parser_ask_unwind(struct helper *h, uint64_t object, int fd, int table_fd, uint64_t max_bytes,
		      uint64_t *ret_request)
{
	const int fds[] = { fd, table_fd };
	struct parser_request_packet packet = {
		.header = { .kind = PARSER_UNWIND, .object = object },
		.unwind = { .max_bytes = max_bytes },
	};
	struct request *q;
	int r;

	if (fd < 0 || table_fd < 0)
		return -EBADF;
	if (max_bytes < sizeof(struct unwind_table_header) || max_bytes > INT32_MAX)
		return -EINVAL;
	r = prepare_request(h, PARSER_UNWIND, object);
	if (r < 0)
		return r;
	/* So the parser, who may write into it, can neither fill the memory of the machine nor pull away what the
	 * daemon reads. */
	if (ftruncate(table_fd, (off_t)max_bytes) < 0 ||
	    fcntl(table_fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) < 0)
		return negative_errno();
	r = send_request(h, &packet, sizeof(packet.unwind), fds, ELEMENTS_OF(fds), &q);
	if (r < 0)
		return r;
	*ret_request = q->id;
	return 0;
}

void parser_route(struct helper *h, enum parser_kind kind, parser_reply_fn fn, void *userdata)
{
	h->routes[kind].fn = fn;
	h->routes[kind].userdata = userdata;
}

int parser_fd(const struct helper *h)
{
	return h->epoll_fd;
}

/* ---- parser: replies ---- */

static void take_request(struct helper *h)
{
	h->first = (h->first + 1) % REQUESTS_MAX;
	h->n_requests--;
	h->head_since_ns = clock_monotonic_ns();
}

/* The parser has read hostile files: its packets are checked like a stranger's. */
static int decode_reply(struct helper *h, size_t size, struct parser_reply *ret)
{
	return h->n_requests == 0 ? -EBADMSG : reply_decode(h->reply, size, request_at(h, 0), ret);
}

/* Gives 1 when *ret is filled, 0 when nothing is there, negative errno when the parser is lost. */
static int receive_reply(struct helper *h, struct parser_reply *ret)
{
	for (;;) {
		const struct helper_hello *hello = (const struct helper_hello *)h->reply;
		_cleanup_close_ int stray = -EBADF;
		ssize_t n;
		int r;

		n = packet_receive(h->parser.fd, h->reply, sizeof(h->reply), MSG_DONTWAIT, &stray, 1);
		if (n == -EAGAIN)
			return 0;
		if (n <= 0)
			return -EPIPE;
		if (n == sizeof(*hello) && hello->magic == HELPER_MAGIC_HELLO) {
			if (hello->error == 0)
				continue; /* a new one is ready */
			log_warning("A new parser could not be confined: %s", strerror(-hello->error));
			return -EPIPE;
		}
		r = decode_reply(h, (size_t)n, ret);
		if (r < 0) {
			log_warning("The parser sent a malformed reply.");
			return r;
		}
		take_request(h);
		return 1;
	}
}

static void restart_parser(struct helper *h)
{
	uint64_t now = clock_monotonic_ns();
	int r;

	bool replaces = h->parser.pid != 0;

	if (replaces)
		log_end("parser", child_end(&h->parser, 0));
	if (h->window_start_ns == 0 || now - h->window_start_ns > RESTARTS_INTERVAL_NS) {
		h->window_start_ns = now;
		h->window_restarts = 0;
	}
	if (h->window_restarts == RESTARTS_BURST)
		return; /* tried again by a later call */
	h->window_restarts += replaces || !h->on_demand;

	r = child_spawn(&h->parser, CHILD_PARSER, h->uid, h->gid);
	if (r >= 0)
		r = watch_parser(h);
	if (r < 0) {
		log_warning("No new parser could be started: %s", strerror(-r));
		child_end(&h->parser, 0);
		return;
	}
	h->restarts += replaces || !h->on_demand;
	h->failing = false;
}

/* As parser_next(), of all kinds. */
static int next_reply_of_any(struct helper *h, struct parser_reply *ret)
{
	if (!h->failing) {
		int r = receive_reply(h, ret);

		if (r > 0)
			return 1;
		if (r < 0)
			lose_parser(h);
		check_watchdog(h);
	}
	if (!h->failing)
		return 0;

	if (h->n_requests > 0) {
		reply_fill(ret, request_at(h, 0), -EPIPE);
		take_request(h);
		return 1;
	}
	restart_parser(h);
	return 0;
}

int parser_next(struct helper *h, struct parser_reply *ret)
{
	for (;;) {
		int r = next_reply_of_any(h, ret);

		if (r <= 0 || !h->routes[ret->kind].fn)
			return r;
		h->routes[ret->kind].fn(h->routes[ret->kind].userdata, ret);
	}
}
