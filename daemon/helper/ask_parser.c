/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parser is asked, and what it replies; a file that kills it is not asked about for ever, and it is replaced. */
#include <fcntl.h>
#include <sys/socket.h>

#include "helper_state.h"

#define PARSER_TIMEOUT_NS (PARSER_REQUEST_MAX_S * NSEC_PER_SEC)
#define POISON_DEATHS 2
/* A parser that dies over and over must not keep the daemon forking. */
#define RESTARTS_BURST 10
#define RESTARTS_INTERVAL_NS (60 * NSEC_PER_SEC)

/* ---- requests ---- */

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

/* ---- replies ---- */

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
		helper_log_end("parser", child_end(&h->parser, 0));
	if (h->window_start_ns == 0 || now - h->window_start_ns > RESTARTS_INTERVAL_NS) {
		h->window_start_ns = now;
		h->window_restarts = 0;
	}
	if (h->window_restarts == RESTARTS_BURST)
		return; /* tried again by a later call */
	h->window_restarts += replaces || !h->on_demand;

	r = child_spawn(&h->parser, CHILD_PARSER, h->uid, h->gid);
	if (r >= 0)
		r = helper_watch_parser(h);
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
