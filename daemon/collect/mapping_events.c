/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel says of processes as they begin, execute and map code: a dummy software event on each online CPU, whose ring
 * is read (perf_event_open(2), "MMAP layout"). So the code of a process is known that is gone before anyone looks. */
#include <linux/perf_event.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "internal.h"

/* All rings together; a ring is a power of two of bytes. A process that begins and executes says a kilobyte. */
#define RINGS_SIZE (4U << 20)
#define RING_MIN (32U << 10)
#define RING_MAX (256U << 10)
#define RECORD_MAX 65536U /* the header's size has 16 bits */

struct mapping_ring {
	int fd;
	struct perf_event_mmap_page *page; /* NULL: there is none; the data follow it */
};

/* ---- records ---- */

struct fork_record {
	struct perf_event_header header;
	uint32_t pid, ppid, tid, ptid;
	uint64_t time;
};

struct comm_record {
	struct perf_event_header header;
	uint32_t pid, tid;
	/* char comm[], padded to 8 bytes, then the time */
};

struct mmap2_record {
	struct perf_event_header header;
	uint32_t pid, tid;
	uint64_t start, length, offset;
	uint32_t major, minor;
	uint64_t inode, generation;
	uint32_t prot, flags;
	/* char path[], padded to 8 bytes, then the time */
};

struct lost_record {
	struct perf_event_header header;
	uint64_t id, lost;
};

/* The only field of the sample id that we ask for is at the very end. */
static uint64_t time_of(const void *record, size_t size)
{
	uint64_t time;

	memcpy(&time, (const char *)record + size - sizeof time, sizeof time);
	return time;
}

static int parse_fork(const struct fork_record *r, size_t size, struct collect_mapping_event *ret)
{
	if (size < sizeof *r + sizeof(uint64_t))
		return -EBADMSG;
	if (r->pid == r->ppid)
		return 0; /* a thread */
	*ret = (struct collect_mapping_event){
		.kind = COLLECT_FORKED, .time_ns = r->time, .pid = (pid_t)r->pid, .parent = (pid_t)r->ppid
	};
	return 1;
}

static int parse_comm(const struct comm_record *r, size_t size, struct collect_mapping_event *ret)
{
	if (size < sizeof *r + 2 * sizeof(uint64_t))
		return -EBADMSG;
	if (!(r->header.misc & PERF_RECORD_MISC_COMM_EXEC))
		return 0;
	*ret = (struct collect_mapping_event){ .kind = COLLECT_EXECUTED, .time_ns = time_of(r, size), .pid = (pid_t)r->pid };
	return 1;
}

static int parse_mmap2(const struct mmap2_record *r, size_t size, struct collect_mapping_event *ret)
{
	const char *path = (const char *)(r + 1);

	if (size < sizeof *r + 2 * sizeof(uint64_t) || !memchr(path, 0, size - sizeof *r - sizeof(uint64_t)))
		return -EBADMSG;
	if ((r->header.misc & PERF_RECORD_MISC_MMAP_BUILD_ID) || r->length == 0 || r->start + r->length < r->start)
		return -EBADMSG;
	if (!(r->prot & PROT_EXEC))
		return 0;
	*ret = (struct collect_mapping_event){
		.kind = COLLECT_MAPPED,
		.time_ns = time_of(r, size),
		.pid = (pid_t)r->pid,
		.start = r->start,
		.end = r->start + r->length,
		.offset = r->offset,
		.inode = r->inode,
		.device = makedev(r->major, r->minor),
		.path = path,
	};
	return 1;
}

int mapping_event_parse(const void *record, size_t size, struct collect_mapping_event *ret, uint64_t *lost)
{
	const struct perf_event_header *h = record;

	if (size < sizeof *h || h->size != size || size % sizeof(uint64_t))
		return -EBADMSG;
	switch (h->type) {
	case PERF_RECORD_FORK:
		return parse_fork(record, size, ret);
	case PERF_RECORD_COMM:
		return parse_comm(record, size, ret);
	case PERF_RECORD_MMAP2:
		return parse_mmap2(record, size, ret);
	case PERF_RECORD_LOST:
		if (size < sizeof(struct lost_record))
			return -EBADMSG;
		*lost += ((const struct lost_record *)record)->lost;
		return 0;
	default:
		return 0;
	}
}

/* ---- rings ---- */

static void close_ring(struct mapping_events *e, struct mapping_ring *ring)
{
	if (!ring->page)
		return;
	munmap(ring->page, e->ring_size + (size_t)sysconf(_SC_PAGESIZE));
	close_fd(ring->fd); /* which takes it out of the epoll set */
	*ring = (struct mapping_ring){ .fd = -EBADF };
}

static int open_ring(struct mapping_events *e, uint32_t cpu)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = cpu };
	_cleanup_close_ int fd = -EBADF;
	void *memory;
	int r;

	r = helper_open_perf_event(e->helper, OPENER_MAPPINGS, (int)cpu, false, e->ring_size / 2, &fd);
	if (r < 0)
		return r;
	memory = mmap(NULL, page + e->ring_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return negative_errno();
	if (epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		r = negative_errno();
		munmap(memory, page + e->ring_size);
		return r;
	}
	e->rings[cpu] = (struct mapping_ring){ .fd = TAKE_FD(fd), .page = memory };
	return 0;
}

/* Copies a record out, for it may go over the ring's end. */
static bool take_record(struct mapping_events *e, const struct mapping_ring *ring, uint64_t at, uint64_t head)
{
	const char *data = (const char *)ring->page + sysconf(_SC_PAGESIZE);
	size_t from = at % e->ring_size, size, until_end = e->ring_size - from;
	struct perf_event_header h;

	if (head - at < sizeof h)
		return false;
	memcpy(&h, data + from, sizeof h); /* records are aligned to 8 bytes, so a header is in one piece */
	size = h.size;
	if (size < sizeof h || size > head - at)
		return false;
	memcpy(e->record, data + from, MIN(size, until_end));
	if (size > until_end)
		memcpy((char *)e->record + until_end, data, size - until_end);
	return true;
}

static void drain_ring(struct mapping_events *e, struct mapping_ring *ring, const struct collect_sink *sink, void *userdata)
{
	uint64_t head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE), at = ring->page->data_tail;

	while (at != head) {
		const struct perf_event_header *h = e->record;
		struct collect_mapping_event event;
		int r;

		/* The kernel doesn't write such a thing; nothing that follows could be trusted. */
		if (!take_record(e, ring, at, head)) {
			e->lost++;
			at = head;
			break;
		}
		r = mapping_event_parse(e->record, h->size, &event, &e->lost);
		e->lost += r < 0;
		if (r > 0)
			sink->mapping(userdata, &event);
		at += h->size;
	}
	__atomic_store_n(&ring->page->data_tail, at, __ATOMIC_RELEASE);
}

void mapping_events_drain(struct mapping_events *e, const struct collect_sink *sink, void *userdata)
{
	for (uint32_t cpu = 0; e->rings && cpu < e->n_cpus; cpu++)
		if (e->rings[cpu].page)
			drain_ring(e, &e->rings[cpu], sink, userdata);
}

uint64_t mapping_events_take_lost(struct mapping_events *e)
{
	uint64_t lost = e->lost;

	e->lost = 0;
	return lost;
}

void mapping_events_follow_cpus(struct mapping_events *e, const struct cpu_set_bits *online)
{
	for (uint32_t cpu = 0; e->rings && cpu < e->n_cpus; cpu++) {
		struct mapping_ring *ring = &e->rings[cpu];
		int r;

		if (!cpus_has(online, cpu))
			close_ring(e, ring);
		else if (!ring->page && (r = open_ring(e, cpu)) < 0 && !e->error) {
			e->error = r;
			log_warning("The perf event for mappings can't be opened on CPU %u: %s; the code of processes that end within a "
				    "second stays unknown there", cpu, strerror(-r));
		}
	}
}

int mapping_events_open(struct mapping_events *e, struct helper *helper, uint32_t n_cpus)
{
	*e = (struct mapping_events){ .helper = helper, .n_cpus = n_cpus, .epoll_fd = -EBADF, .ring_size = RING_MAX };
	while (e->ring_size > RING_MIN && (uint64_t)e->ring_size * n_cpus > RINGS_SIZE)
		e->ring_size /= 2;
	e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (e->epoll_fd < 0)
		return negative_errno();
	e->record = malloc(RECORD_MAX);
	e->rings = calloc(n_cpus, sizeof *e->rings);
	if (!e->record || !e->rings)
		return -ENOMEM;
	for (uint32_t cpu = 0; cpu < n_cpus; cpu++)
		e->rings[cpu].fd = -EBADF;
	return 0;
}

void mapping_events_close(struct mapping_events *e)
{
	for (uint32_t cpu = 0; e->rings && cpu < e->n_cpus; cpu++)
		close_ring(e, &e->rings[cpu]);
	close_fd(e->epoll_fd);
	free(e->rings);
	free(e->record);
	*e = (struct mapping_events){ .epoll_fd = -EBADF };
}

uint64_t mapping_events_bytes(const struct mapping_events *e)
{
	uint64_t n = 0;

	for (uint32_t cpu = 0; e->rings && cpu < e->n_cpus; cpu++)
		n += e->rings[cpu].page != NULL;
	return n * e->ring_size;
}
