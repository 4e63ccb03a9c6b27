/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source.h"

ssize_t source_need(struct source *s, size_t n)
{
	while (s->to - s->from < n) {
		ssize_t r;

		if (s->from > 0) {
			memmove(s->bytes, s->bytes + s->from, s->to - s->from);
			s->to -= s->from;
			s->from = 0;
		}
		r = read(s->fd, s->bytes + s->to, SOURCE_BUFFER - s->to);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return negative_errno();
		if (r == 0)
			break;
		s->to += (size_t)r;
		if (s->on_read)
			s->on_read(s->userdata, s->offset + s->to - s->from);
	}
	return (ssize_t)MIN(n, s->to - s->from);
}

int source_skip(struct source *s, uint64_t n)
{
	while (n > 0) {
		size_t step = MIN(n, (uint64_t)SOURCE_BUFFER);
		ssize_t r = source_need(s, step);

		if (r < 0)
			return (int)r;
		s->from += (size_t)r;
		s->offset += (size_t)r;
		n -= (size_t)r;
		if ((size_t)r < step)
			return 0;
	}
	return 1;
}

int source_line(struct source *s, size_t max, char **ret)
{
	uint8_t *end = NULL;
	size_t n = 0;

	for (;;) {
		ssize_t r = source_need(s, n + 1); /* reads as much as there is room for */
		size_t have = s->to - s->from;

		if (r < 0)
			return (int)r;
		end = memchr(s->bytes + s->from + n, '\n', have - n);
		if (end || (size_t)r < n + 1)
			break;
		n = have;
		if (n > max)
			return -EBADMSG;
	}
	if (!end && n == 0)
		return 0;
	n = end ? (size_t)(end - s->bytes - s->from) : n;
	if (n > max || memchr(s->bytes + s->from, 0, n))
		return -EBADMSG;
	*ret = (char *)s->bytes + s->from;
	(*ret)[n] = '\0';
	s->from += n + (end != NULL);
	s->offset += n + (end != NULL);
	return 1;
}

int source_seek(struct source *s, uint64_t offset)
{
	if (offset > INT64_MAX)
		return -EOVERFLOW;
	if (lseek(s->fd, (off_t)offset, SEEK_SET) < 0)
		return negative_errno();
	s->offset = offset;
	s->from = s->to = 0;
	return 0;
}
