/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wire.h"

/* What is kept while idle, and the least room that is offered to a read. */
#define FRAMER_ROOM_MIN 4096

/*  buffer: [ given | start .. scanned: no NUL within | scanned .. end: not looked at | room ] */
struct wire_framer {
	char *buffer;
	size_t size, max;
	size_t start, scanned, end;
};

int wire_framer_new(struct wire_framer **ret, size_t max)
{
	_cleanup_(wire_framer_freep) struct wire_framer *f = NULL;

	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->max = max;
	*ret = TAKE_PTR(f);
	return 0;
}

struct wire_framer *wire_framer_free(struct wire_framer *f)
{
	if (f)
		free(f->buffer);
	free(f);
	return NULL;
}

static int framer_resize(struct wire_framer *f, size_t size)
{
	char *buffer;

	buffer = realloc(f->buffer, size);
	if (!buffer)
		return -ENOMEM;
	f->buffer = buffer;
	f->size = size;
	return 0;
}

int wire_framer_space(struct wire_framer *f, void **ret, size_t *ret_size)
{
	size_t want;
	int r;

	if (f->start > 0) {
		memmove(f->buffer, f->buffer + f->start, f->end - f->start);
		f->end -= f->start;
		f->scanned -= f->start;
		f->start = 0;
	}
	/* Twice what is there, so that a long message costs few copies; a little more than max, so that too
	 * much is noticed. */
	want = MIN(MAX(f->end * 2, (size_t)FRAMER_ROOM_MIN), f->max + FRAMER_ROOM_MIN);
	if (f->size < want || f->size > 4 * want) {
		r = framer_resize(f, want);
		if (r < 0)
			return r;
	}
	if (f->end == f->size)
		return -EMSGSIZE;
	*ret = f->buffer + f->end;
	*ret_size = f->size - f->end;
	return 0;
}

void wire_framer_added(struct wire_framer *f, size_t n)
{
	f->end += n;
}

int wire_framer_next(struct wire_framer *f, const char **ret, size_t *ret_size)
{
	char *nul;
	size_t size;

	nul = f->end > f->scanned ? memchr(f->buffer + f->scanned, '\0', f->end - f->scanned) : NULL;
	size = (nul ? (size_t)(nul - f->buffer) : f->end) - f->start;
	if (size > f->max)
		return -EMSGSIZE;
	if (!nul) {
		f->scanned = f->end;
		return 0;
	}
	*ret = f->buffer + f->start;
	*ret_size = size;
	f->start += size + 1;
	f->scanned = f->start;
	return 1;
}

size_t wire_framer_pending(const struct wire_framer *f)
{
	return f->end - f->start;
}
