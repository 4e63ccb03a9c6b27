/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What helper.c, which keeps both helpers running, and ask_parser.c share. */
#pragma once

#include <stdalign.h>

#include "child.h"
#include "protocol.h"
#include "reply.h"

#define REQUESTS_MAX 64
/* Files that killed a parser are remembered by what they were asked for. */
#define POISON_MAX 64

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

/* For the epoll that parser_fd() gives. */
int helper_watch_parser(struct helper *h);
/* status: as of waitpid(), -1: unknown. */
void helper_log_end(const char *what, int status);
