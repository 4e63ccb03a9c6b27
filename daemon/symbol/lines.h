/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Source lines and inlined functions, on request: asked of a parser of their own, so that neither a tick nor a name waits for
 * DWARF, and kept for a while. */
#pragma once

#include "base.h"
#include "symbol.h"

struct helper;
struct lines;

/* helper: one that was started on demand; symbols and helper are borrowed. max_bytes: of answers that are kept. */
int lines_new(struct lines **ret, struct symbols *symbols, struct helper *helper, uint64_t max_bytes);
struct lines *lines_free(struct lines *l);
DEFINE_CLEANUP(struct lines *, lines_free)

struct line_place {
	const char *function; /* that was inlined; NULL: the frame's own */
	const char *file;     /* "" when it is not known */
	uint32_t line;        /* 0 when it is not known */
};

struct line_places {
	size_t n; /* 0: nothing is said of this address */
	const struct line_place *places; /* innermost first, the frame's own function last; valid until the next call */
};

/* Of a frame of a process's stack. -EAGAIN: asked for when lines_ask() is called; else why there are none: -ENODATA: the file has no
 * DWARF, and no debug file was found; -ENOENT: it can't be opened (any more); -EFBIG, -EBADMSG, -ENOTRECOVERABLE: its DWARF is too
 * large, damaged, or has ended two parsers; tried again after a minute. */
int lines_find(struct lines *l, const struct symbols_process_key *key, const struct symbols_frame *frame, struct line_places *ret);
/* Asks for what lines_find() had no answer to. */
void lines_ask(struct lines *l);

/* Readable when answers wait; takes them, and gives how many. */
int lines_fd(const struct lines *l);
int lines_dispatch(struct lines *l);
/* Call about once a second: lets files and the parser go that nobody asks for. */
void lines_rest(struct lines *l);

struct lines_status {
	pid_t parser_pid; /* 0: there is none now */
	uint64_t used, max; /* bytes */
	uint64_t asked;   /* addresses since start */
};
void lines_get_status(const struct lines *l, struct lines_status *ret);
