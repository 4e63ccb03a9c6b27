/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What travels between the daemon and its helpers: one packet a message, fixed layouts, same machine.
 * Both ends check everything they receive; neither trusts the other. */
#pragma once

#include "helper.h"

#define HELPER_MAGIC_HELLO 0x6f6c6c65U
#define HELPER_MAGIC_OPENER 0x6e65706fU
#define HELPER_MAGIC_PARSER 0x73726170U

/* One request may keep the parser busy this long; then the daemon kills it. Its own timer comes first,
 * because a daemon without CAP_KILL may not signal a process of another user. */
#define PARSER_REQUEST_MAX_S 10
#define PARSER_TIMER_S 9

/* Sent once by each helper when it is confined and ready. */
struct helper_hello {
	uint32_t magic;
	int32_t error; /* negative errno: it could not be confined and has given up */
};

struct opener_request {
	uint32_t magic;
	uint32_t sequence; /* returned in the reply, so that an answer that came too late is not taken for the
			      next */
	uint32_t event;    /* enum opener_event */
	uint32_t cpu;      /* of a uprobe: the type of these events */
	uint32_t freq;     /* 0 or 1 */
	uint32_t pid;      /* of a uprobe; its file comes along. Of wake-ups: the tracepoint's id */
	uint64_t value;
	uint32_t copy, watermark; /* of a sampler: watermark is not 0 */
};

struct opener_reply {
	uint32_t magic;
	uint32_t sequence;
	int32_t error; /* 0: a descriptor comes along */
	uint32_t reserved;
};

/* What the parser is asked for: a header, then what belongs to the kind.
 *
 *   PARSER_SYMBOLS  n offsets of 8 bytes; one or two descriptors come along: the file, its debug file
 *   PARSER_UNWIND   struct parser_unwind_request, n = 0; two descriptors: the file, the memory for the table
 *   PARSER_PERF_MAP n addresses of 8 bytes; one descriptor: the map
 *   PARSER_LINES    n offsets of 8 bytes; PACKET_FDS_MAX descriptors: the file, its debug file, the debug file's common file; the
 *                   first one again where there is none
 *   PARSER_ALLOCATORS n = 0; one descriptor: the file */
struct parser_request_header {
	uint32_t magic;
	uint32_t kind; /* enum parser_kind */
	uint32_t n;
	uint32_t reserved; /* 0 */
	uint64_t request;
	uint64_t object;
};

/* What it answers, in the order of the requests, with the same kind. On error n is 0 and nothing follows.
 *
 *   PARSER_SYMBOLS  n entries, then their names without separators, in the order of the entries
 *   PARSER_UNWIND   n = 0: struct unwind_table_header, as in the table
 *   PARSER_PERF_MAP as PARSER_SYMBOLS
 *   PARSER_LINES    n counts of places (1 byte), then for each place a struct parser_reply_place and its strings; in the end the
 *                   path of the missing common file, to the end of the packet
 *   PARSER_ALLOCATORS n times struct parser_allocator */
struct parser_reply_header {
	uint32_t magic;
	uint32_t kind;
	int32_t error;
	uint32_t n;
	uint64_t request;
	uint64_t content_hash;
	uint8_t build_id[PARSER_BUILD_ID_MAX];
	uint32_t build_id_size;
	uint32_t wants_debug; /* 0 or 1 */
	char debug_link[PARSER_LINK_MAX];
};

struct parser_unwind_request {
	uint64_t max_bytes; /* of the table */
};

struct parser_reply_entry {
	uint64_t start, size, address, valid_start, valid_end;
	uint32_t name_size; /* bytes of the name, without a NUL */
	uint32_t reserved;
};

struct parser_reply_place {
	uint32_t line;
	uint16_t function_size, file_size; /* bytes, without NULs */
	uint8_t inlined; /* 0 or 1 */
	uint8_t reserved[3];
};

struct parser_request_packet {
	struct parser_request_header header;
	union {
		uint64_t offsets[PARSER_OFFSETS_MAX];
		struct parser_unwind_request unwind;
	};
};

#define PARSER_REPLY_MAX                      \
	(sizeof(struct parser_reply_header) + \
	 PARSER_OFFSETS_MAX * (sizeof(struct parser_reply_entry) + PARSER_NAME_MAX))

#define PACKET_FDS_MAX 3

/* A packet with at most max_fds descriptors (-EBADF for those that didn't come, always close-on-exec; ret_fds has
 * room for max_fds). Truncated packets and packets with more descriptors give -EBADMSG, the end of the stream 0
 * bytes. */
ssize_t packet_receive(int socket, void *buffer, size_t size, int flags, int *ret_fds, size_t max_fds);
/* The descriptors are borrowed. Gives -EAGAIN with MSG_DONTWAIT when there is no room. */
int packet_send(int socket, const void *buffer, size_t size, int flags, const int *fds, size_t n_fds);

/* The helpers' main loops: they return when the daemon is gone. */
void opener_run(int socket);
void parser_run(int socket);
