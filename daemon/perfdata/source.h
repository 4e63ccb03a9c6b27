/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file's bytes in order, through a buffer, from what can't be seeked in, too. */
#pragma once

#include "base.h"

#define SOURCE_BUFFER (256U << 10)

struct source {
	int fd;
	uint64_t offset; /* of bytes[from] in the file */
	size_t from, to;
	void (*on_read)(void *userdata, uint64_t offset); /* told how far it has come; NULL: nobody */
	void *userdata;
	uint8_t bytes[SOURCE_BUFFER + 1]; /* and the end of a last line */
};

/* Makes n bytes (at most SOURCE_BUFFER) lie at source_at(). Gives how many there are, fewer at the end of the file only; negative
 * errno. */
ssize_t source_need(struct source *s, size_t n);
static inline const uint8_t *source_at(const struct source *s)
{
	return s->bytes + s->from;
}
/* Goes on by n bytes, of which only some may be there: then it gives 0, and is at the end. 1; negative errno. */
int source_skip(struct source *s, uint64_t n);
/* A line, without its end, of at most max bytes (less than SOURCE_BUFFER), NUL-terminated; it is the source's until the next call. 1;
 * 0: there is none any more; -EBADMSG: it is longer, or no text; negative errno. */
int source_line(struct source *s, size_t max, char **ret);
/* Goes elsewhere. -ESPIPE: it can't be seeked in. */
int source_seek(struct source *s, uint64_t offset);
