/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sampler's perf events: on each online CPU one that samples what it executes, two for page faults, and while it is asked for, one for
 * switches and one for wake-ups, all of which write into one ring. The clock is the hardware's where there is a PMU, the kernel's elsewhere. */
#pragma once

#include "internal.h"
#include "perfdata.h"
#include "scheduler.h"

enum sample_event { SAMPLE_ON_CPU, SAMPLE_FAULT_MINOR, SAMPLE_FAULT_MAJOR, SAMPLE_SWITCH, SAMPLE_WAKEUP, SAMPLE_EVENTS };

enum sample_turn_kind { SAMPLE_OUT, SAMPLE_IN, SAMPLE_WOKEN, SAMPLE_BEGUN, SAMPLE_ENDED };

/* What a thread came to. */
struct sample_turn {
	enum sample_turn_kind kind;
	uint32_t cpu;     /* on which this was told */
	uint32_t pid, tid;
	bool preempted;   /* SAMPLE_OUT: it could go on */
	uint64_t time_ns; /* CLOCK_MONOTONIC */
};

struct sample_cpu {
	struct perf_ring ring; /* its descriptor is the first event's */
	int fds[SAMPLE_EVENTS];
	uint64_t ids[SAMPLE_EVENTS], former_ids[SAMPLE_EVENTS]; /* former: what it wrote may still be in the ring */
	uint64_t head;         /* as of sample_rings_mark() */
};

struct sample_rate {
	uint64_t value;      /* period, or frequency */
	bool on;
	uint64_t before;     /* what it was until the last change */
	uint64_t changed_ns; /* CLOCK_MONOTONIC */
};

struct sample_rings {
	struct helper *helper;
	struct sample_cpu *cpus; /* by CPU number */
	uint32_t n_cpus;
	size_t ring_size;
	struct cpu_set_bits online;
	uint32_t copy;           /* bytes of each stack */
	uint32_t wakeup_id;      /* of the tracepoint; 0: tracefs doesn't tell */
	struct sched_formats wakeup_format;
	bool cycles;             /* the clock is the hardware's: its rate is a frequency */
	int epoll_fd;            /* borrowed */
	struct sample_rate rates[SAMPLE_EVENTS];
	struct perfdata_event layouts[SAMPLE_EVENTS];
	struct map64 *event_by_id;
	void *scratch;           /* a record, and its callers */
	uint64_t *chain;
	/* since they were last taken */
	uint64_t failed, lost, throttled, damaged;
	int error;               /* why the first event could not be opened */
};

/* copy: a multiple of 8 bytes. epoll_fd is told of rings that are half full. Fails when no CPU's clock can be opened. */
int sample_rings_open(struct sample_rings *r, struct helper *helper, uint32_t n_cpus, uint32_t copy, int epoll_fd);
void sample_rings_close(struct sample_rings *r);
/* Gives whether anything changed. */
bool sample_rings_follow_cpus(struct sample_rings *r);
/* hz 0: off. */
void sample_rings_set_clock(struct sample_rings *r, uint32_t hz);
/* period 0: off. Without an event for minor faults a fault costs nothing. */
void sample_rings_set_faults(struct sample_rings *r, uint64_t minor_period, uint64_t major_period);
/* One switch in so many is sampled, and each is told; 0: none, and they cost nothing. */
void sample_rings_set_switches(struct sample_rings *r, uint64_t period);
/* What a sample stands for: ns, or faults. */
uint64_t sample_rings_weight(const struct sample_rings *r, enum sample_event event, const struct perfdata_record *sample);
/* What was written until now is what sample_rings_drain() gives. */
void sample_rings_mark(struct sample_rings *r);
struct sample_reader {
	void (*sample)(void *userdata, uint32_t cpu, enum sample_event event, const struct perfdata_record *sample);
	void (*turn)(void *userdata, const struct sample_turn *turn);
};
void sample_rings_drain(struct sample_rings *r, const struct sample_reader *reader, void *userdata);
uint64_t sample_rings_bytes(const struct sample_rings *r);
