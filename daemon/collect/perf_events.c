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

struct event {
	struct bpf_link *link; /* owns the descriptor */
	int fd;
};

struct perf_cpu {
	struct event clock, minor, major;
};

static void close_event(struct event *event)
{
	bpf_link__destroy(event->link);
	event->link = NULL;
}

/* Attaching enables it. */
static int open_event(struct perf_events *e, struct bpf_program *program, enum opener_event kind, uint32_t cpu, uint64_t period, struct event *event)
{
	_cleanup_close_ int fd = -EBADF;
	int r = helper_open_perf_event(e->helper, kind, (int)cpu, false, period, &fd);

	if (r < 0)
		return r;
	event->link = bpf_program__attach_perf_event(program, fd);
	if (!event->link)
		return negative_errno();
	event->fd = TAKE_FD(fd);
	return 0;
}

/* A rate of 0 disables it. */
void perf_event_set_rate(int fd, uint64_t value, bool on)
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
	close_event(&c->clock);
	close_event(&c->minor);
	close_event(&c->major);
}

static void note_failure(struct perf_events *e, int *first, int r, const char *what, uint32_t cpu)
{
	e->failed++;
	if (*first)
		return;
	*first = r;
	log_warning("The perf event %s can't be opened on CPU %u: %s", what, cpu, strerror(-r));
}

static void follow_clock(struct perf_events *e, uint32_t cpu)
{
	struct event *clock = &e->cpus[cpu].clock;
	int r;

	if (!e->clock || clock->link)
		return;
	r = open_event(e, e->clock, OPENER_CPU_CLOCK, cpu, perf_events_clock_period(e->clock_hz), clock);
	if (r < 0)
		note_failure(e, &e->clock_error, r, "cpu-clock", cpu);
	else
		perf_event_set_rate(clock->fd, perf_events_clock_period(e->clock_hz), e->clock_hz > 0);
}

static void follow_faults(struct perf_events *e, uint32_t cpu, bool major)
{
	struct event *event = major ? &e->cpus[cpu].major : &e->cpus[cpu].minor;
	uint64_t period = major ? e->major_period : e->minor_period;
	int r;

	if (!period && major && event->link) {
		perf_event_set_rate(event->fd, 0, false); /* so that its count goes on, which the program's last one belongs to */
	} else if (!period) {
		close_event(event);
	} else if (event->link) {
		perf_event_set_rate(event->fd, period, true);
	} else {
		r = open_event(e, major ? e->major : e->minor, major ? OPENER_FAULTS_MAJOR : OPENER_FAULTS_MINOR, cpu, period, event);
		if (r < 0)
			note_failure(e, &e->fault_error, r, major ? "major-faults" : "minor-faults", cpu);
	}
}

static void open_cpu(struct perf_events *e, uint32_t cpu)
{
	follow_clock(e, cpu);
	follow_faults(e, cpu, false);
	follow_faults(e, cpu, true);
}

bool perf_events_follow_cpus(struct perf_events *e)
{
	struct cpu_set_bits online;
	bool changed = false;

	if (cpus_online(&online) < 0)
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
		if (e->cpus[cpu].clock.link)
			perf_event_set_rate(e->cpus[cpu].clock.fd, perf_events_clock_period(hz), hz > 0);
}

uint64_t perf_events_fault_period(double faults_per_sec, uint32_t hz, uint64_t least)
{
	double wanted = faults_per_sec / MAX(hz, 1U);

	if (wanted <= (double)least)
		return least;
	return (wanted < FAULT_PERIOD_MAX ? (uint64_t)wanted : FAULT_PERIOD_MAX) | 1;
}

bool perf_event_rates_differ(uint64_t a, uint64_t b)
{
	return !a != !b || a > b + b / 4 || b > a + a / 4;
}

static void set_faults(struct perf_events *e, bool major, uint64_t *period, uint64_t wanted)
{
	if (!perf_event_rates_differ(*period, wanted))
		return;
	*period = wanted;
	for (uint32_t cpu = 0; cpu < e->n_cpus; cpu++)
		if (cpus_has(&e->online, cpu))
			follow_faults(e, cpu, major);
}

void perf_events_set_minor_faults(struct perf_events *e, uint64_t period)
{
	set_faults(e, false, &e->minor_period, period);
}

void perf_events_set_major_faults(struct perf_events *e, uint64_t period)
{
	set_faults(e, true, &e->major_period, period);
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
