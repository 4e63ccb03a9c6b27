/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Software perf events on each online CPU: the CPU clock for on-CPU samples, and the two kinds of page fault. */
#include <linux/perf_event.h>
#include <sys/ioctl.h>

#include "internal.h"

#define ONLINE_PATH "/sys/devices/system/cpu/online"

struct perf_cpu {
	/* A link owns its event's descriptor. */
	struct bpf_link *clock, *minor, *major;
	int clock_fd, minor_fd, major_fd;
};

static struct bpf_link *close_event(struct bpf_link *link)
{
	bpf_link__destroy(link);
	return NULL;
}

static int open_event(struct perf_events *e, struct bpf_program *program, enum opener_event event, int cpu,
                      bool freq, uint64_t value, struct bpf_link **ret, int *ret_fd)
{
	_cleanup_close_ int fd = -EBADF;
	struct bpf_link *link;
	int r = helper_open_perf_event(e->helper, event, cpu, freq, value, &fd);

	if (r < 0)
		return r;
	link = bpf_program__attach_perf_event(program, fd);
	if (!link)
		return negative_errno();
	*ret_fd = TAKE_FD(fd);
	*ret = link;
	return 0;
}

/* Attaching enables an event; a rate of 0 disables it again. */
static void set_rate(int fd, uint64_t value, bool on)
{
	if (!on) {
		ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
		return;
	}
	ioctl(fd, PERF_EVENT_IOC_PERIOD, &value);
	ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
}

static uint64_t clock_period(uint32_t hz)
{
	return hz ? NSEC_PER_SEC / hz : NSEC_PER_SEC;
}

static void close_cpu(struct perf_cpu *c)
{
	c->clock = close_event(c->clock);
	c->minor = close_event(c->minor);
	c->major = close_event(c->major);
}

static void note_failure(struct perf_events *e, int *first, int r, const char *what, int cpu)
{
	e->failed++;
	if (*first)
		return;
	*first = r;
	log_warning("The perf event %s can't be opened on CPU %d: %s", what, cpu, strerror(-r));
}

static void open_cpu(struct perf_events *e, uint32_t cpu)
{
	struct perf_cpu *c = &e->cpus[cpu];
	uint64_t fault_hz = MAX(e->fault_hz, 1U);
	int r;

	if (e->clock && !c->clock) {
		r = open_event(e, e->clock, OPENER_CPU_CLOCK, (int)cpu, false, clock_period(e->clock_hz), &c->clock, &c->clock_fd);
		if (r < 0)
			note_failure(e, &e->clock_error, r, "cpu-clock", (int)cpu);
		else
			set_rate(c->clock_fd, clock_period(e->clock_hz), e->clock_hz > 0);
	}
	if (!c->minor) {
		r = open_event(e, e->minor, OPENER_FAULTS_MINOR, (int)cpu, true, fault_hz, &c->minor, &c->minor_fd);
		if (r < 0)
			note_failure(e, &e->fault_error, r, "minor-faults", (int)cpu);
		else
			set_rate(c->minor_fd, fault_hz, e->fault_hz > 0);
	}
	if (!c->major) {
		r = open_event(e, e->major, OPENER_FAULTS_MAJOR, (int)cpu, true, fault_hz, &c->major, &c->major_fd);
		if (r < 0)
			note_failure(e, &e->fault_error, r, "major-faults", (int)cpu);
		else
			set_rate(c->major_fd, fault_hz, e->fault_hz > 0);
	}
}

bool perf_events_follow_cpus(struct perf_events *e)
{
	struct cpu_set_bits online;
	bool changed = false;

	if (cpus_read(ONLINE_PATH, &online) < 0)
		return false;
	for (uint32_t cpu = 0; cpu < e->n_cpus; cpu++) {
		bool is = cpus_has(&online, cpu), was = cpus_has(&e->online, cpu);

		if (is == was)
			continue;
		changed = true;
		if (is)
			open_cpu(e, cpu);
		else
			close_cpu(&e->cpus[cpu]);
	}
	e->online = online;
	return changed;
}

void perf_events_set_rates(struct perf_events *e, uint32_t clock_hz, uint32_t fault_hz)
{
	bool clock_changed = clock_hz != e->clock_hz, faults_changed = fault_hz != e->fault_hz;

	e->clock_hz = clock_hz;
	e->fault_hz = fault_hz;
	for (uint32_t cpu = 0; cpu < e->n_cpus; cpu++) {
		struct perf_cpu *c = &e->cpus[cpu];

		if (c->clock && clock_changed)
			set_rate(c->clock_fd, clock_period(clock_hz), clock_hz > 0);
		if (c->minor && faults_changed)
			set_rate(c->minor_fd, fault_hz, fault_hz > 0);
		if (c->major && faults_changed)
			set_rate(c->major_fd, fault_hz, fault_hz > 0);
	}
}

int perf_events_open(struct perf_events *e, struct helper *helper, const struct programs *p, uint32_t n_cpus)
{
	*e = (struct perf_events){
		.helper = helper,
		.clock = p->oncpu == ONCPU_BY_PERF ? p->skel->progs.on_cpu_clock : NULL,
		.minor = p->skel->progs.fault_minor,
		.major = p->skel->progs.fault_major,
		.n_cpus = n_cpus,
	};
	e->cpus = calloc(n_cpus, sizeof *e->cpus);
	if (!e->cpus)
		return -ENOMEM;
	perf_events_follow_cpus(e);
	return 0;
}

void perf_events_close(struct perf_events *e)
{
	for (uint32_t cpu = 0; e->cpus && cpu < e->n_cpus; cpu++)
		close_cpu(&e->cpus[cpu]);
	free(e->cpus);
	e->cpus = NULL;
}
