/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kind.h"

#include <fnmatch.h>

#define LEAK_SHARE 0.2 /* of what else rises */

static const char *const kind_names[CLUSTER_KIND_N] = {
	[CLUSTER_CPU_SPIN] = "cpu-spin",
	[CLUSTER_LOCK_CONTENTION] = "lock-contention",
	[CLUSTER_IO_STALL] = "io-stall",
	[CLUSTER_STARVATION] = "run-queue-starvation",
	[CLUSTER_MEMORY_PRESSURE] = "memory-pressure",
	[CLUSTER_FAULT_STORM] = "fault-storm",
	[CLUSTER_NETWORK_WAIT] = "network-wait",
	[CLUSTER_INTERRUPTS] = "interrupt-load",
	[CLUSTER_STOPPED_WORK] = "stopped-work",
	[CLUSTER_NEW_PATH] = "new-code-path",
	[CLUSTER_SLOW_DOWN] = "slow-down",
	[CLUSTER_WAITING] = "waiting",
	[CLUSTER_MEMORY_LEAK] = "memory-leak",
};

const char *cluster_kind_to_string(enum cluster_kind kind)
{
	return (unsigned)kind < CLUSTER_KIND_N ? kind_names[kind] : NULL;
}

static bool same_name(const char *a, const char *b)
{
	for (; *a && *b; a++, b++)
		if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b))
			return false;
	return *a == *b;
}

int cluster_kind_from_string(const char *s, enum cluster_kind *ret)
{
	for (unsigned k = 0; k < CLUSTER_KIND_N; k++)
		if (same_name(kind_names[k], s)) {
			*ret = (enum cluster_kind)k;
			return 0;
		}
	return -EINVAL;
}

const char *cluster_severity_to_string(enum cluster_severity severity)
{
	static const char *const names[CLUSTER_SEVERITY_N] = { "notice", "warning", "critical" };

	return (unsigned)severity < CLUSTER_SEVERITY_N ? names[severity] : NULL;
}

const char *cluster_end_to_string(enum cluster_end end)
{
	static const char *const names[CLUSTER_END_N] = {
		[CLUSTER_BACK] = "back", [CLUSTER_USUAL] = "usual", [CLUSTER_GAVE_WAY] = "gave-way", [CLUSTER_ENDED] = "ended",
	};

	return (unsigned)end < CLUSTER_END_N ? names[end] : NULL;
}

/* Of the kernel and of the C library; names of Linux 5.15 to 6.18, glibc and musl. */
static const struct {
	const char *pattern;
	enum path path;
} path_patterns[] = {
	{ "*futex*", PATH_LOCK },
	{ "__lll_lock_wait*", PATH_LOCK },
	{ "pthread_mutex_lock*", PATH_LOCK },
	{ "___pthread_mutex_lock", PATH_LOCK },
	{ "pthread_rwlock_*lock*", PATH_LOCK },
	{ "__mutex_lock*", PATH_LOCK },
	{ "mutex_lock*", PATH_LOCK },
	{ "rwsem_down_*", PATH_LOCK },
	{ "down_read*", PATH_LOCK },
	{ "down_write*", PATH_LOCK },
	{ "native_queued_spin_lock_slowpath", PATH_SPIN_LOCK },
	{ "*queued_spin_lock_slowpath", PATH_SPIN_LOCK },
	{ "queued_read_lock_slowpath", PATH_SPIN_LOCK },
	{ "queued_write_lock_slowpath", PATH_SPIN_LOCK },
	{ "osq_lock", PATH_SPIN_LOCK },
	{ "mutex_spin_on_owner", PATH_SPIN_LOCK },
	{ "rwsem_spin_on_owner", PATH_SPIN_LOCK },
	{ "pthread_spin_lock", PATH_SPIN_LOCK },
	{ "io_schedule*", PATH_BLOCK_IO },
	{ "blk_mq_*", PATH_BLOCK_IO },
	{ "submit_bio*", PATH_BLOCK_IO },
	{ "wait_on_page_bit*", PATH_BLOCK_IO },
	{ "folio_wait_bit*", PATH_BLOCK_IO },
	{ "folio_wait_writeback", PATH_BLOCK_IO },
	{ "wait_on_buffer", PATH_BLOCK_IO },
	{ "__wait_on_buffer", PATH_BLOCK_IO },
	{ "jbd2_log_wait_commit", PATH_BLOCK_IO },
	{ "balance_dirty_pages*", PATH_BLOCK_IO },
	{ "blkdev_issue_flush", PATH_BLOCK_IO },
	/* io_schedule() itself is not in a stack: what leads into the scheduler is left out. */
	{ "*iomap_dio_rw", PATH_BLOCK_IO },
	{ "*blockdev_direct_IO*", PATH_BLOCK_IO },
	{ "__blkdev_direct_IO*", PATH_BLOCK_IO },
	{ "*filemap_fdatawait_range*", PATH_BLOCK_IO },
	{ "__sync_dirty_buffer", PATH_BLOCK_IO },
	{ "__bread_gfp", PATH_BLOCK_IO },
	{ "filemap_update_page", PATH_BLOCK_IO },
	{ "*_file_fsync", PATH_BLOCK_IO },
	{ "nvme_*", PATH_BLOCK_IO },
	{ "asm_exc_page_fault", PATH_FAULT },
	{ "exc_page_fault", PATH_FAULT },
	{ "handle_mm_fault", PATH_FAULT },
	{ "do_anonymous_page", PATH_FAULT },
	{ "clear_page_*", PATH_FAULT },
	{ "clear_huge_page", PATH_FAULT },
	{ "shrink_*", PATH_RECLAIM },
	{ "try_to_free_pages", PATH_RECLAIM },
	{ "try_to_free_mem_cgroup_pages", PATH_RECLAIM },
	{ "do_swap_page", PATH_RECLAIM },
	{ "swap_read*", PATH_RECLAIM },
	{ "balance_pgdat", PATH_RECLAIM },
	{ "*compact_zone*", PATH_RECLAIM },
	{ "mem_cgroup_handle_over_high", PATH_RECLAIM },
	{ "tcp_recvmsg*", PATH_NETWORK },
	{ "tcp_sendmsg*", PATH_NETWORK },
	{ "sk_wait_data", PATH_NETWORK },
	{ "sk_stream_wait_*", PATH_NETWORK },
	{ "inet_*connect*", PATH_NETWORK },
	{ "udp_recvmsg", PATH_NETWORK },
	{ "unix_stream_read_generic", PATH_NETWORK },
	{ "__skb_wait_for_more_packets", PATH_NETWORK },
	{ "net_rx_action", PATH_INTERRUPT },
	{ "napi_poll", PATH_INTERRUPT },
	{ "__do_softirq", PATH_INTERRUPT },
	{ "handle_softirqs", PATH_INTERRUPT },
	{ "common_interrupt", PATH_INTERRUPT },
};

uint32_t kind_paths(const struct cluster_frame *frames, size_t n)
{
	uint32_t paths = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t p = 0; p < ELEMENTS_OF(path_patterns); p++)
			if (!(paths & 1U << path_patterns[p].path) && fnmatch(path_patterns[p].pattern, frames[i].function, 0) == 0)
				paths |= 1U << path_patterns[p].path;
	return paths;
}

static double through(const struct kind_evidence *e, enum metric m, enum path path)
{
	return e->up[m] > 0 ? e->path_up[m][path] / e->up[m] : 0;
}

static enum cluster_kind kind_of_wait(const struct kind_evidence *e)
{
	/* Reclaim waits for the disk too, and a lock may be held by who does: the cause comes before the effect. */
	if (through(e, METRIC_BLOCKED, PATH_RECLAIM) > 0.5)
		return CLUSTER_MEMORY_PRESSURE;
	if (through(e, METRIC_BLOCKED, PATH_BLOCK_IO) > 0.5)
		return CLUSTER_IO_STALL;
	if (through(e, METRIC_BLOCKED, PATH_LOCK) > 0.5)
		return CLUSTER_LOCK_CONTENTION;
	if (through(e, METRIC_BLOCKED, PATH_NETWORK) > 0.5)
		return CLUSTER_NETWORK_WAIT;
	return CLUSTER_WAITING;
}

static enum cluster_kind kind_of_work(const struct kind_evidence *e)
{
	double cpu = e->up[METRIC_ON_CPU];

	if (through(e, METRIC_ON_CPU, PATH_RECLAIM) > 0.5)
		return CLUSTER_MEMORY_PRESSURE;
	if (through(e, METRIC_ON_CPU, PATH_SPIN_LOCK) > 0.5 || through(e, METRIC_ON_CPU, PATH_LOCK) > 0.5)
		return CLUSTER_LOCK_CONTENTION;
	if (through(e, METRIC_ON_CPU, PATH_FAULT) > 0.5)
		return CLUSTER_FAULT_STORM;
	if (through(e, METRIC_ON_CPU, PATH_INTERRUPT) > 0.5)
		return CLUSTER_INTERRUPTS;
	/* Work that went elsewhere in the program: as much is gone as has come. */
	if (e->down[METRIC_ON_CPU] > 0.5 * cpu)
		return CLUSTER_SLOW_DOWN;
	/* What takes half a CPU or more is a spin, whether its stack is new or not. */
	return cpu < 0.5 && e->fresh_up > 0.5 * cpu ? CLUSTER_NEW_PATH : CLUSTER_CPU_SPIN;
}

enum cluster_kind kind_of(const struct kind_evidence *e)
{
	double up = 0, down = 0;
	enum metric most = METRIC_ON_CPU;

	for (enum metric m = 0; m < METRIC_HITS; m++) {
		up += e->up[m];
		down += e->down[m];
		if (e->up[m] > e->up[most])
			most = m;
	}
	/* What grows slowly is told when nothing else moves, or moves with it: touching the new pages. */
	if (e->up[CLUSTER_MEMORY] > LEAK_SHARE * up)
		return CLUSTER_MEMORY_LEAK;
	if (up <= down / 10)
		return CLUSTER_STOPPED_WORK;
	/* Faults show in the time that they take, so theirs is the word where both have moved. */
	if (most == METRIC_FAULTS_MAJOR || e->up[METRIC_FAULTS_MAJOR] > 0.2)
		return CLUSTER_MEMORY_PRESSURE;
	if (most == METRIC_FAULTS_MINOR || (e->up[METRIC_FAULTS_MINOR] > 0.5 && through(e, METRIC_ON_CPU, PATH_FAULT) > 0.2))
		return CLUSTER_FAULT_STORM;
	if (most == METRIC_BLOCKED && e->up[METRIC_BLOCKED] > e->up[METRIC_ON_CPU])
		return kind_of_wait(e);
	/* Waiting for a CPU, more than anyone in this incident has got of it. */
	if (most == METRIC_RUNNABLE && e->up[METRIC_RUNNABLE] > 2 * e->up[METRIC_ON_CPU])
		return CLUSTER_STARVATION;
	if (through(e, METRIC_ON_CPU, PATH_STARVES) > 0.5)
		return CLUSTER_STARVATION;
	return e->up[METRIC_ON_CPU] > 0 ? kind_of_work(e) : CLUSTER_STARVATION;
}
