/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "proc_text.h"
#include "record.h"
#include "sample_rings.h"

/* All rings together. With 1,000 switches a second and 8 KiB of each stack a ring of 2 MiB is half full in an eighth of a second. */
#define RINGS_SIZE (64U << 20)
#define RING_MIN (128U << 10)
#define RING_MAX (2U << 20)

static uint64_t clock_rate(const struct sample_rings *r, uint32_t hz)
{
	return r->cycles ? MAX(hz, 1U) : perf_events_clock_period(hz);
}

/* That of the clock is the ring's. */
static void close_event(struct sample_cpu *c, enum sample_event event)
{
	if (event != SAMPLE_ON_CPU)
		close_fd(c->fds[event]);
	c->fds[event] = -EBADF;
}

static void close_cpu(struct sample_rings *r, struct sample_cpu *c)
{
	for (enum sample_event i = 0; i < SAMPLE_EVENTS; i++) {
		map64_remove(r->event_by_id, c->ids[i]);
		map64_remove(r->event_by_id, c->former_ids[i]);
		close_event(c, i);
	}
	perf_ring_close(&c->ring);
}

/* Those are there only while they are on, since they cost something at each event. */
static bool comes_and_goes(enum sample_event event)
{
	return event == SAMPLE_FAULT_MINOR || event == SAMPLE_SWITCH || event == SAMPLE_WAKEUP;
}

static int open_event(struct sample_rings *r, struct sample_cpu *c, enum sample_event event, int cpu)
{
	const enum opener_event kinds[SAMPLE_EVENTS] = {
		[SAMPLE_ON_CPU] = r->cycles ? OPENER_CYCLES : OPENER_CPU_CLOCK,
		[SAMPLE_FAULT_MINOR] = OPENER_FAULTS_MINOR,
		[SAMPLE_FAULT_MAJOR] = OPENER_FAULTS_MAJOR,
		[SAMPLE_SWITCH] = OPENER_SWITCHES,
	};
	const struct sample_rate *rate = &r->rates[event];
	_cleanup_close_ int fd = -EBADF;
	uint32_t watermark = (uint32_t)r->ring_size / 2;
	int e = event == SAMPLE_WAKEUP
	                ? helper_open_wakeups(r->helper, r->wakeup_id, cpu, watermark, &fd)
	                : helper_open_sampler(r->helper, kinds[event], cpu, event == SAMPLE_ON_CPU && r->cycles, rate->value, r->copy, watermark, &fd);

	if (e < 0)
		return e;
	map64_remove(r->event_by_id, c->former_ids[event]);
	c->former_ids[event] = c->ids[event];
	if (ioctl(fd, PERF_EVENT_IOC_ID, &c->ids[event]) < 0)
		return negative_errno();
	e = event == SAMPLE_ON_CPU ? perf_ring_map(&c->ring, fd, r->ring_size)
	    : ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, c->ring.fd) < 0 ? negative_errno() : 0;
	if (e < 0)
		return e;
	(void)map64_put(r->event_by_id, c->ids[event], event);
	if (rate->on)
		perf_event_set_rate(fd, rate->value, true);
	c->fds[event] = TAKE_FD(fd);
	return 0;
}

static int open_cpu(struct sample_rings *r, uint32_t cpu)
{
	struct sample_cpu *c = &r->cpus[cpu];
	struct epoll_event when = { .events = EPOLLIN, .data.u32 = cpu };
	int e = open_event(r, c, SAMPLE_ON_CPU, (int)cpu);

	if (e >= 0 && epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, c->ring.fd, &when) < 0)
		e = negative_errno();
	for (enum sample_event i = SAMPLE_FAULT_MINOR; e >= 0 && i < SAMPLE_EVENTS; i++)
		if (!comes_and_goes(i) || r->rates[i].on)
			e = open_event(r, c, i, (int)cpu);
	if (e < 0)
		close_cpu(r, c);
	return e;
}

static void open_or_note(struct sample_rings *r, uint32_t cpu)
{
	int e = open_cpu(r, cpu);

	if (e >= 0)
		return;
	r->failed++;
	if (r->error == 0)
		log_warning("The perf events of CPU %u can't be opened: %s", cpu, strerror(-e));
	r->error = e;
}

bool sample_rings_follow_cpus(struct sample_rings *r)
{
	struct cpu_set_bits online;
	bool changed = false;

	if (cpus_online(&online) < 0)
		return false;
	for (uint32_t cpu = 0; cpu < r->n_cpus; cpu++) {
		if (cpus_has(&online, cpu) == cpus_has(&r->online, cpu))
			continue;
		changed = true;
		if (cpus_has(&online, cpu))
			open_or_note(r, cpu);
		else
			close_cpu(r, &r->cpus[cpu]);
	}
	r->online = online;
	return changed;
}

static void set_rate(struct sample_rings *r, enum sample_event event, uint64_t value, bool on)
{
	struct sample_rate *rate = &r->rates[event];

	if (on == rate->on && (!on || !perf_event_rates_differ(value, rate->value)))
		return;
	*rate = (struct sample_rate){ on ? value : rate->value, on, rate->value, clock_monotonic_ns() };
	for (uint32_t cpu = 0; cpu < r->n_cpus; cpu++) {
		struct sample_cpu *c = &r->cpus[cpu];

		if (c->fds[event] >= 0 && !on && comes_and_goes(event))
			close_event(c, event);
		else if (c->fds[event] >= 0)
			perf_event_set_rate(c->fds[event], rate->value, on);
		else if (c->ring.page && on && open_event(r, c, event, (int)cpu) < 0)
			r->failed++;
	}
}

void sample_rings_set_clock(struct sample_rings *r, uint32_t hz)
{
	set_rate(r, SAMPLE_ON_CPU, clock_rate(r, hz), hz > 0);
}

void sample_rings_set_faults(struct sample_rings *r, uint64_t minor_period, uint64_t major_period)
{
	set_rate(r, SAMPLE_FAULT_MINOR, minor_period, minor_period > 0);
	set_rate(r, SAMPLE_FAULT_MAJOR, major_period, major_period > 0);
}

void sample_rings_set_switches(struct sample_rings *r, uint64_t period)
{
	set_rate(r, SAMPLE_WAKEUP, 1, period > 0 && r->wakeup_id);
	set_rate(r, SAMPLE_SWITCH, period, period > 0);
}

uint64_t sample_rings_weight(const struct sample_rings *r, enum sample_event event, const struct perfdata_record *sample)
{
	const struct sample_rate *rate = &r->rates[event];
	uint64_t value = sample->time < rate->changed_ns ? rate->before : rate->value;

	/* Of the hardware's clock: what passes between two on a CPU that is busy. */
	return event == SAMPLE_ON_CPU && r->cycles ? NSEC_PER_SEC / MAX(value, 1UL) : value;
}

void sample_rings_mark(struct sample_rings *r)
{
	for (uint32_t cpu = 0; cpu < r->n_cpus; cpu++)
		if (r->cpus[cpu].ring.page)
			r->cpus[cpu].head = perf_ring_head(&r->cpus[cpu].ring);
}

struct draining {
	struct sample_rings *rings;
	const struct sample_reader *reader;
	void *userdata;
	uint32_t cpu;
};

/* PERF_RECORD_LOST's second word, PERF_RECORD_LOST_SAMPLES's first. */
static uint64_t lost_of(const struct perf_event_header *record)
{
	size_t at = sizeof *record + (record->type == PERF_RECORD_LOST ? sizeof(uint64_t) : 0);
	uint64_t n = 1;

	if (record->size >= at + sizeof n)
		memcpy(&n, (const char *)record + at, sizeof n);
	return n;
}

/* Of the event of switches. Both have its sample's thread, time and id at their end. */
struct switch_record {
	struct perf_event_header header;
	uint32_t other_pid, other_tid, pid, tid;
	uint64_t time, id;
};

struct task_record {
	struct perf_event_header header;
	uint32_t pid, parent_pid, tid, parent_tid;
	uint64_t time;
};

static bool take_turn(const struct draining *d, const struct perf_event_header *record)
{
	const struct switch_record *s = (const struct switch_record *)record;
	const struct task_record *t = (const struct task_record *)record;
	struct sample_turn turn = { .cpu = d->cpu };

	if (record->size < (record->type == PERF_RECORD_SWITCH_CPU_WIDE ? sizeof *s : sizeof *t))
		return false;
	switch (record->type) {
	case PERF_RECORD_SWITCH_CPU_WIDE:
		turn.kind = record->misc & PERF_RECORD_MISC_SWITCH_OUT ? SAMPLE_OUT : SAMPLE_IN;
		turn.preempted = record->misc & PERF_RECORD_MISC_SWITCH_OUT_PREEMPT;
		turn.pid = s->pid;
		turn.tid = s->tid;
		turn.time_ns = s->time;
		break;
	default:
		turn.kind = record->type == PERF_RECORD_FORK ? SAMPLE_BEGUN : SAMPLE_ENDED;
		turn.pid = t->pid;
		turn.tid = t->tid;
		turn.time_ns = t->time;
	}
	d->reader->turn(d->userdata, &turn);
	return true;
}

static bool take_wakeup(const struct draining *d, const struct perfdata_record *r)
{
	const struct cursor raw = { r->sample.raw, r->sample.raw + r->sample.raw_size, false };
	struct perfdata_sched woken;

	if (!sched_parse(&d->rings->wakeup_format, "sched:sched_wakeup", raw, &woken))
		return false;
	d->reader->turn(d->userdata, &(struct sample_turn){ .kind = SAMPLE_WOKEN, .cpu = d->cpu, .tid = woken.to, .time_ns = r->time });
	return true;
}

static bool take_sample(const struct draining *d, const struct perf_event_header *record)
{
	struct sample_rings *r = d->rings;
	const struct record_layout layout = { .events = r->layouts, .n_events = SAMPLE_EVENTS, .ids = r->event_by_id };
	struct perfdata_record parsed;
	const char *reason;

	if (record_parse(&layout, record, record->size, r->chain, &parsed, &reason) <= 0)
		return false;
	if (parsed.sample.event == SAMPLE_WAKEUP)
		return take_wakeup(d, &parsed);
	d->reader->sample(d->userdata, d->cpu, (enum sample_event)parsed.sample.event, &parsed);
	return true;
}

static void take_record(void *userdata, const struct perf_event_header *record)
{
	struct draining *d = userdata;
	struct sample_rings *r = d->rings;

	switch (record->type) {
	case PERF_RECORD_LOST:
	case PERF_RECORD_LOST_SAMPLES:
		r->lost += lost_of(record);
		return;
	case PERF_RECORD_THROTTLE:
		r->throttled++;
		return;
	case PERF_RECORD_SWITCH_CPU_WIDE:
	case PERF_RECORD_FORK:
	case PERF_RECORD_EXIT:
		r->damaged += !take_turn(d, record);
		return;
	case PERF_RECORD_SAMPLE:
		r->damaged += !take_sample(d, record);
	}
}

void sample_rings_drain(struct sample_rings *r, const struct sample_reader *reader, void *userdata)
{
	struct draining d = { r, reader, userdata, 0 };

	for (uint32_t cpu = 0; cpu < r->n_cpus; cpu++) {
		struct sample_cpu *c = &r->cpus[cpu];

		d.cpu = cpu;
		if (c->ring.page && !perf_ring_drain(&c->ring, c->head, r->scratch, take_record, &d))
			r->damaged++;
	}
}

static void init_layouts(struct sample_rings *r)
{
	for (unsigned i = 0; i < SAMPLE_EVENTS; i++)
		r->layouts[i] = (struct perfdata_event){
			.sample_type = r->copy ? OPENER_SAMPLE_TYPE_COPY : OPENER_SAMPLE_TYPE,
			.sample_regs_user = r->copy ? OPENER_SAMPLE_REGISTERS : 0,
		};
	r->layouts[SAMPLE_WAKEUP] = (struct perfdata_event){ .sample_type = OPENER_WAKEUP_SAMPLE_TYPE };
	for (unsigned i = 0; i < SAMPLE_EVENTS; i++)
		r->rates[i].value = perf_events_clock_period(1); /* until the first rate is set nothing is on */
}

/* Whether the hardware counts cycles: tried on the first CPU there is. */
static bool has_cycles(struct sample_rings *r)
{
	_cleanup_close_ int fd = -EBADF;
	struct cpu_set_bits online;
	uint32_t cpu = 0;

	if (cpus_online(&online) < 0)
		return false;
	while (cpu < r->n_cpus && !cpus_has(&online, cpu))
		cpu++;
	return helper_open_sampler(r->helper, OPENER_CYCLES, (int)cpu, true, 1, r->copy, 1, &fd) >= 0;
}

/* There is no other way to hear of them. */
static void find_wakeups(struct sample_rings *r)
{
	static const char *const places[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };
	char path[64], text[4096];
	unsigned id;

	r->wakeup_format = sched_default_formats;
	for (size_t i = 0; i < ELEMENTS_OF(places) && !r->wakeup_id; i++) {
		snprintf(path, sizeof path, "%s/events/sched/sched_wakeup/id", places[i]);
		if (proc_read(AT_FDCWD, path, text, sizeof text) < 0 || sscanf(text, "%u", &id) != 1)
			continue;
		snprintf(path, sizeof path, "%s/events/sched/sched_wakeup/format", places[i]);
		if (proc_read(AT_FDCWD, path, text, sizeof text) < 0)
			continue;
		sched_read_formats(&r->wakeup_format, text, strlen(text));
		r->wakeup_id = id;
	}
}

int sample_rings_open(struct sample_rings *r, struct helper *helper, uint32_t n_cpus, uint32_t copy, int epoll_fd)
{
	int e;

	*r = (struct sample_rings){ .helper = helper, .n_cpus = n_cpus, .copy = copy, .epoll_fd = epoll_fd };
	r->ring_size = perf_ring_size(RINGS_SIZE, RING_MIN, RING_MAX, n_cpus);
	r->cpus = calloc(n_cpus, sizeof *r->cpus);
	r->scratch = malloc(PERF_RECORD_SIZE_MAX);
	r->chain = calloc(PERFDATA_CHAIN_MAX, sizeof *r->chain);
	if (!r->cpus || !r->scratch || !r->chain)
		return -ENOMEM;
	for (uint32_t cpu = 0; cpu < n_cpus; cpu++)
		r->cpus[cpu] = (struct sample_cpu){ .ring = PERF_RING_NONE, .fds = { -EBADF, -EBADF, -EBADF, -EBADF, -EBADF } };
	e = map64_new(&r->event_by_id, (size_t)n_cpus * SAMPLE_EVENTS * 2);
	if (e < 0)
		return e;
	init_layouts(r);
	find_wakeups(r);
	r->cycles = has_cycles(r);
	if (r->cycles)
		r->rates[SAMPLE_ON_CPU].value = 1;
	sample_rings_follow_cpus(r);
	return sample_rings_bytes(r) == 0 ? (r->error < 0 ? r->error : -ENODEV) : 0;
}

void sample_rings_close(struct sample_rings *r)
{
	for (uint32_t cpu = 0; r->cpus && cpu < r->n_cpus; cpu++)
		close_cpu(r, &r->cpus[cpu]);
	free(r->cpus);
	free(r->scratch);
	free(r->chain);
	map64_free(r->event_by_id);
	*r = (struct sample_rings){};
}

uint64_t sample_rings_bytes(const struct sample_rings *r)
{
	uint64_t n = 0;

	for (uint32_t cpu = 0; cpu < r->n_cpus; cpu++)
		n += r->cpus[cpu].ring.size;
	return n;
}
