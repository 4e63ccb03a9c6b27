/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel says of processes as they begin, execute and map code: a dummy software event on each online CPU, whose ring
 * is read (perf_event_open(2), "MMAP layout"). So the code of a process is known that is gone before anyone looks. */
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "internal.h"

/* All rings together; a ring is a power of two of bytes. A process that begins and executes says a kilobyte. */
#define RINGS_SIZE (4U << 20)
#define RING_MIN (32U << 10)
#define RING_MAX (256U << 10)

/* ---- records ---- */

struct fork_record {
	struct perf_event_header header;
	uint32_t pid, ppid, tid, ptid;
	uint64_t time;
};

struct comm_record {
	struct perf_event_header header;
	uint32_t pid, tid;
	char comm[]; /* padded to 8 bytes, then the time */
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
	if (!memchr(r->comm, 0, size - sizeof *r - sizeof(uint64_t)))
		return -EBADMSG;
	*ret = (struct collect_mapping_event){
		.kind = COLLECT_EXECUTED, .time_ns = time_of(r, size), .pid = (pid_t)r->pid, .comm = r->comm
	};
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

static int open_ring(struct mapping_events *e, uint32_t cpu)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = cpu };
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = helper_open_perf_event(e->helper, OPENER_MAPPINGS, (int)cpu, false, e->ring_size / 2, &fd);
	if (r < 0)
		return r;
	if (epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return negative_errno();
	r = perf_ring_map(&e->rings[cpu], fd, e->ring_size);
	if (r >= 0)
		TAKE_FD(fd);
	return r;
}

struct draining {
	struct mapping_events *events;
	const struct collect_sink *sink;
	void *userdata;
};

static void take_record(void *userdata, const struct perf_event_header *record)
{
	struct draining *d = userdata;
	struct collect_mapping_event event;
	int r = mapping_event_parse(record, record->size, &event, &d->events->lost);

	d->events->lost += r < 0;
	if (r > 0)
		d->sink->mapping(d->userdata, &event);
}

void mapping_events_drain(struct mapping_events *e, const struct collect_sink *sink, void *userdata)
{
	struct draining d = { e, sink, userdata };

	for (uint32_t cpu = 0; e->rings && cpu < e->n_cpus; cpu++) {
		struct perf_ring *ring = &e->rings[cpu];

		if (ring->page && !perf_ring_drain(ring, perf_ring_head(ring), e->record, take_record, &d))
			e->lost++;
	}
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
		struct perf_ring *ring = &e->rings[cpu];
		int r;

		if (!cpus_has(online, cpu))
			perf_ring_close(ring);
		else if (!ring->page && (r = open_ring(e, cpu)) < 0 && !e->error) {
			e->error = r;
			log_warning("The perf event for mappings can't be opened on CPU %u: %s; the code of processes that end within a "
				    "second stays unknown there", cpu, strerror(-r));
		}
	}
}

int mapping_events_open(struct mapping_events *e, struct helper *helper, uint32_t n_cpus)
{
	*e = (struct mapping_events){ .helper = helper, .n_cpus = n_cpus, .epoll_fd = -EBADF };
	e->ring_size = (uint32_t)perf_ring_size(RINGS_SIZE, RING_MIN, RING_MAX, n_cpus);
	e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (e->epoll_fd < 0)
		return negative_errno();
	e->record = malloc(PERF_RECORD_SIZE_MAX);
	e->rings = calloc(n_cpus, sizeof *e->rings);
	if (!e->record || !e->rings)
		return -ENOMEM;
	for (uint32_t cpu = 0; cpu < n_cpus; cpu++)
		e->rings[cpu] = (struct perf_ring)PERF_RING_NONE;
	return 0;
}

void mapping_events_close(struct mapping_events *e)
{
	for (uint32_t cpu = 0; e->rings && cpu < e->n_cpus; cpu++)
		perf_ring_close(&e->rings[cpu]);
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
