/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/mman.h>

#include "perf_ring.h"

size_t perf_ring_size(size_t all, size_t least, size_t most, uint32_t n)
{
	size_t size = most;

	while (size > least && size * n > all)
		size /= 2;
	return size;
}

int perf_ring_map(struct perf_ring *ring, int fd, size_t size)
{
	void *memory = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE) + size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		return negative_errno();
	*ring = (struct perf_ring){ .fd = fd, .size = size, .page = memory };
	return 0;
}

void perf_ring_close(struct perf_ring *ring)
{
	if (ring->page)
		munmap(ring->page, ring->size + (size_t)sysconf(_SC_PAGESIZE));
	close_fd(ring->fd); /* which takes it out of an epoll set, too */
	*ring = (struct perf_ring)PERF_RING_NONE;
}

uint64_t perf_ring_head(const struct perf_ring *ring)
{
	return __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE);
}

/* Copies a record out, for it may go over the ring's end. */
static bool take_record(const struct perf_ring *ring, uint64_t at, uint64_t head, void *ret)
{
	const char *data = (const char *)ring->page + sysconf(_SC_PAGESIZE);
	size_t from = at % ring->size, size, until_end = ring->size - from;
	struct perf_event_header h;

	if (head - at < sizeof h)
		return false;
	memcpy(&h, data + from, sizeof h); /* records are aligned to 8 bytes, so a header is in one piece */
	size = h.size;
	if (size < sizeof h || size > head - at)
		return false;
	memcpy(ret, data + from, MIN(size, until_end));
	if (size > until_end)
		memcpy((char *)ret + until_end, data, size - until_end);
	return true;
}

bool perf_ring_drain(struct perf_ring *ring, uint64_t head, void *scratch, perf_ring_fn fn, void *userdata)
{
	const struct perf_event_header *record = scratch;
	uint64_t at = ring->page->data_tail;
	bool good = true;

	while (at != head) {
		/* The kernel doesn't write such a thing; nothing that follows could be trusted. */
		if (!take_record(ring, at, head, scratch)) {
			at = head;
			good = false;
			break;
		}
		fn(userdata, record);
		at += record->size;
	}
	__atomic_store_n(&ring->page->data_tail, at, __ATOMIC_RELEASE);
	return good;
}
