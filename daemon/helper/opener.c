/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The opener: keeps the privilege to open perf events, and to have BPF programs' time counted, and does nothing else with it. */
#include <linux/bpf.h>
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
/* A tracepoint's id has 16 bits. */
#define TRACEPOINT_MAX 65535
#define OFFSET_MAX (1ULL << 40)

static bool is_uprobe(const struct opener_request *r)
{
	return r->event == OPENER_UPROBE || r->event == OPENER_URETPROBE;
}

static bool is_sampler(const struct opener_request *r)
{
	return r->watermark > 0;
}

/* Events that nobody counts otherwise. */
static bool must_be_sampler(const struct opener_request *r)
{
	return r->event == OPENER_CYCLES || r->event == OPENER_SWITCHES || r->event == OPENER_WAKEUPS;
}

static int check_sampler(const struct opener_request *r)
{
	if (r->event == OPENER_MAPPINGS || r->watermark > WATERMARK_MAX || r->copy > OPENER_COPY_MAX || r->copy % sizeof(uint64_t))
		return -EINVAL;
	if (r->event == OPENER_WAKEUPS)
		return r->copy > 0 || r->freq || r->pid < 1 || r->pid > TRACEPOINT_MAX ? -EINVAL : 0;
	if (r->event == OPENER_SWITCHES && r->freq)
		return -EINVAL;
	return r->event == OPENER_CYCLES && !r->freq ? -EINVAL : 0;
}

static int check_request(const struct opener_request *r, bool with_file)
{
	if (with_file != is_uprobe(r))
		return -EBADMSG;
	if (is_uprobe(r))
		return is_sampler(r) || r->copy > 0 || r->cpu < TYPE_MIN || r->cpu > TYPE_MAX || r->freq || r->pid < 1 || r->pid > INT32_MAX || r->value > OFFSET_MAX ? -EINVAL : 0;
	if (r->event == OPENER_RUN_TIME)
		return r->pid || r->cpu || r->freq || r->value || r->copy || r->watermark ? -EINVAL : 0;
	if ((r->pid != 0 && r->event != OPENER_WAKEUPS) || (r->event > OPENER_MAPPINGS && !must_be_sampler(r)) || r->cpu >= CPU_MAX || r->freq > 1)
		return -EINVAL;
	if (is_sampler(r) ? check_sampler(r) < 0 : r->copy > 0 || must_be_sampler(r))
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

static void set_sampler(struct perf_event_attr *attr, const struct opener_request *r)
{
	attr->sample_type = r->event == OPENER_WAKEUPS ? OPENER_WAKEUP_SAMPLE_TYPE : r->copy > 0 ? OPENER_SAMPLE_TYPE_COPY : OPENER_SAMPLE_TYPE;
	if (r->event == OPENER_SWITCHES)
		attr->context_switch = attr->task = attr->sample_id_all = 1;
	attr->sample_regs_user = r->copy > 0 ? OPENER_SAMPLE_REGISTERS : 0;
	attr->sample_stack_user = r->copy;
	attr->exclude_idle = 1;
	attr->use_clockid = 1;
	attr->clockid = CLOCK_MONOTONIC;
	attr->watermark = 1;
	attr->wakeup_watermark = r->watermark;
}

static int open_event(const struct opener_request *r)
{
	static const uint64_t configs[] = {
		[OPENER_CPU_CLOCK] = PERF_COUNT_SW_CPU_CLOCK,
		[OPENER_FAULTS_MINOR] = PERF_COUNT_SW_PAGE_FAULTS_MIN,
		[OPENER_FAULTS_MAJOR] = PERF_COUNT_SW_PAGE_FAULTS_MAJ,
		[OPENER_MAPPINGS] = PERF_COUNT_SW_DUMMY,
		[OPENER_CYCLES] = PERF_COUNT_HW_CPU_CYCLES,
		[OPENER_SWITCHES] = PERF_COUNT_SW_CONTEXT_SWITCHES,
	};
	struct perf_event_attr attr = {
		.type = r->event == OPENER_CYCLES ? PERF_TYPE_HARDWARE : r->event == OPENER_WAKEUPS ? PERF_TYPE_TRACEPOINT : PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = r->event == OPENER_WAKEUPS ? r->pid : configs[r->event],
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
		if (is_sampler(r))
			set_sampler(&attr, r);
		else if (r->event != OPENER_CPU_CLOCK)
			attr.sample_type = PERF_SAMPLE_ADDR; /* programs see the address that faulted */
	}
	fd = syscall(SYS_perf_event_open, &attr, -1, (int)r->cpu, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? negative_errno() : (int)fd;
}

static int open_run_time(void)
{
	union bpf_attr attr = { .enable_stats.type = BPF_STATS_RUN_TIME };
	long fd = syscall(SYS_bpf, BPF_ENABLE_STATS, &attr, sizeof(attr));

	return fd < 0 ? negative_errno() : (int)fd;
}

static int open_request(const struct opener_request *r, int file)
{
	if (r->event == OPENER_RUN_TIME)
		return open_run_time();
	return file >= 0 ? open_uprobe(r, file) : open_event(r);
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
			fd = open_request(&request, file);
			reply.error = MIN(fd, 0);
		}
		if (packet_send(socket, &reply, sizeof(reply), 0, &fd, fd >= 0) < 0)
			return;
	}
}
