/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The opener: keeps the privilege to open perf events, and does nothing else with it. */
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <time.h>

#include "protocol.h"

/* The kernel's own limit is CONFIG_NR_CPUS, 8192 at most. */
#define CPU_MAX 8192
/* Above this a sampling rate is an attack on the machine, not a measurement. */
#define FREQ_MAX_HZ 10000
#define PERIOD_MIN_CPU_CLOCK_NS 100000
#define PERIOD_MAX (1ULL << 40)
#define WATERMARK_MAX (1U << 30)
/* Types up to here are the kernel's own, that of uprobes is one of those that it gives out. */
#define TYPE_MIN PERF_TYPE_MAX
#define TYPE_MAX 1024
#define OFFSET_MAX (1ULL << 40)

static bool is_uprobe(const struct opener_request *r)
{
	return r->event == OPENER_UPROBE || r->event == OPENER_URETPROBE;
}

static int check_request(const struct opener_request *r, bool with_file)
{
	if (with_file != is_uprobe(r))
		return -EBADMSG;
	if (is_uprobe(r))
		return r->cpu < TYPE_MIN || r->cpu > TYPE_MAX || r->freq || r->pid < 1 || r->pid > INT32_MAX || r->value > OFFSET_MAX ? -EINVAL : 0;
	if (r->pid != 0 || r->event > OPENER_MAPPINGS || r->cpu >= CPU_MAX || r->freq > 1)
		return -EINVAL;
	if (r->event == OPENER_MAPPINGS)
		return !r->freq && r->value >= 1 && r->value <= WATERMARK_MAX ? 0 : -EINVAL;
	if (r->freq)
		return r->value >= 1 && r->value <= FREQ_MAX_HZ ? 0 : -EINVAL;
	if (r->value < (r->event == OPENER_CPU_CLOCK ? PERIOD_MIN_CPU_CLOCK_NS : 1) || r->value > PERIOD_MAX)
		return -EINVAL;
	return 0;
}

/* The kernel takes the file by a path. */
static int open_uprobe(const struct opener_request *r, int file)
{
	char path[32];
	struct perf_event_attr attr = {
		.type = r->cpu,
		.size = sizeof(attr),
		.config = r->event == OPENER_URETPROBE,
		.uprobe_path = (uintptr_t)path,
		.probe_offset = r->value,
	};
	long fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	fd = syscall(SYS_perf_event_open, &attr, (int)r->pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? negative_errno() : (int)fd;
}

static int open_event(const struct opener_request *r)
{
	static const uint64_t configs[] = {
		[OPENER_CPU_CLOCK] = PERF_COUNT_SW_CPU_CLOCK,
		[OPENER_FAULTS_MINOR] = PERF_COUNT_SW_PAGE_FAULTS_MIN,
		[OPENER_FAULTS_MAJOR] = PERF_COUNT_SW_PAGE_FAULTS_MAJ,
		[OPENER_MAPPINGS] = PERF_COUNT_SW_DUMMY,
	};
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = configs[r->event],
	};
	long fd;

	if (r->event == OPENER_MAPPINGS) {
		attr.mmap = attr.mmap2 = attr.comm = attr.comm_exec = attr.task = 1;
		attr.sample_id_all = 1;
		attr.sample_type = PERF_SAMPLE_TIME;
		attr.use_clockid = 1;
		attr.clockid = CLOCK_MONOTONIC;
		attr.watermark = 1;
		attr.wakeup_watermark = (uint32_t)r->value;
	} else {
		attr.disabled = 1;
		attr.freq = r->freq;
		attr.sample_freq = r->value; /* the union's other name is sample_period */
		if (r->event != OPENER_CPU_CLOCK)
			attr.sample_type = PERF_SAMPLE_ADDR; /* programs see the address that faulted */
	}
	fd = syscall(SYS_perf_event_open, &attr, -1, (int)r->cpu, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? negative_errno() : (int)fd;
}

void opener_run(int socket)
{
	for (;;) {
		struct opener_request request = {};
		struct opener_reply reply = { .magic = HELPER_MAGIC_OPENER };
		_cleanup_close_ int file = -EBADF, fd = -EBADF;
		ssize_t n;

		n = packet_receive(socket, &request, sizeof(request), 0, &file, 1);
		if (n == 0 || (n < 0 && n != -EBADMSG))
			return;

		reply.sequence = request.sequence;
		if (n != sizeof(request) || request.magic != HELPER_MAGIC_OPENER)
			reply.error = -EBADMSG;
		else
			reply.error = check_request(&request, file >= 0);
		if (reply.error == 0) {
			fd = file >= 0 ? open_uprobe(&request, file) : open_event(&request);
			reply.error = MIN(fd, 0);
		}
		if (packet_send(socket, &reply, sizeof(reply), 0, &fd, fd >= 0) < 0)
			return;
	}
}
