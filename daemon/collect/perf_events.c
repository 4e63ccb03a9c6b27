/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Software perf events on each online CPU: the CPU clock for on-CPU samples, and the two kinds of page fault. */
#include <linux/perf_event.h>
#include <sys/ioctl.h>

#include "internal.h"
#include "stackd.skel.h"

/* Beyond this a period no longer fits the time that a tick takes. */
#define FAULT_PERIOD_MAX 1000001ULL

/* A clock in step with the second would see the daemon's own tick, or whatever else happens once a second, each time or never: at 5 Hz
 * that is a fifth of all samples. So it is slower by this part, and moves through the second in a minute and a half. */
#define CLOCK_OFF_STEP 89

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

uint64_t perf_events_clock_period(uint32_t hz)
{
	uint64_t period = hz ? NSEC_PER_SEC / hz : NSEC_PER_SEC;

	return period + period / CLOCK_OFF_STEP;
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
	int r;

	if (e->clock && !c->clock) {
		r = open_event(e, e->clock, OPENER_CPU_CLOCK, (int)cpu, false, perf_events_clock_period(e->clock_hz), &c->clock, &c->clock_fd);
		if (r < 0)
			note_failure(e, &e->clock_error, r, "cpu-clock", (int)cpu);
		else
			set_rate(c->clock_fd, perf_events_clock_period(e->clock_hz), e->clock_hz > 0);
	}
	if (!c->minor) {
		r = open_event(e, e->minor, OPENER_FAULTS_MINOR, (int)cpu, false, e->minor_period, &c->minor, &c->minor_fd);
		if (r < 0)
			note_failure(e, &e->fault_error, r, "minor-faults", (int)cpu);
		else
			set_rate(c->minor_fd, e->minor_period, e->faults);
	}
	if (!c->major) {
		r = open_event(e, e->major, OPENER_FAULTS_MAJOR, (int)cpu, false, e->major_period, &c->major, &c->major_fd);
		if (r < 0)
			note_failure(e, &e->fault_error, r, "major-faults", (int)cpu);
		else
			set_rate(c->major_fd, e->major_period, e->faults);
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

void perf_events_set_clock(struct perf_events *e, uint32_t hz)
{
	if (hz == e->clock_hz)
		return;
	e->clock_hz = hz;
	for (uint32_t cpu = 0; cpu < e->n_cpus; cpu++)
		if (e->cpus[cpu].clock)
			set_rate(e->cpus[cpu].clock_fd, perf_events_clock_period(hz), hz > 0);
}

uint64_t perf_events_fault_period(double faults_per_sec, uint32_t hz, uint64_t least)
{
	double wanted = faults_per_sec / MAX(hz, 1U);

	if (wanted <= (double)least)
		return least;
	return (wanted < FAULT_PERIOD_MAX ? (uint64_t)wanted : FAULT_PERIOD_MAX) | 1;
}

/* Each change costs an interrupt on every CPU. */
static bool differs(uint64_t a, uint64_t b)
{
	return a > b + b / 4 || b > a + a / 4;
}

void perf_events_set_faults(struct perf_events *e, bool on, uint64_t minor_period, uint64_t major_period)
{
	bool switched = on != e->faults, minor = switched || (on && differs(minor_period, e->minor_period)),
	     major = switched || (on && differs(major_period, e->major_period));

	e->faults = on;
	if (minor)
		e->minor_period = minor_period;
	if (major)
		e->major_period = major_period;
	for (uint32_t cpu = 0; cpu < e->n_cpus; cpu++) {
		struct perf_cpu *c = &e->cpus[cpu];

		if (c->minor && minor)
			set_rate(c->minor_fd, minor_period, on);
		if (c->major && major)
			set_rate(c->major_fd, major_period, on);
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
		.minor_period = FAULT_PERIOD_MAX,
		.major_period = FAULT_PERIOD_MAX,
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
