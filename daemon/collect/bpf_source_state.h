/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The BPF source, for its own files only: bpf_source.c starts it and reads a tick, bpf_activity.c makes what runs follow the gate and the
 * budget, bpf_views.c is what others ask of it, bpf_watches.c heaps that are watched. */
#pragma once

#include "bpf_source.h"
#include "internal.h"

/* An on-CPU sample stands for at most this many periods. */
#define GAP_PERIODS 4

enum activity { DARK, BASELINE, FULL };

struct bpf_source {
	struct collect_config config;
	struct programs programs;
	struct stackd_control *control;
	struct perf_events events;
	struct faults faults;
	struct run_time run_time;
	bool left_out[BUDGET_EVENTS]; /* to save time */
	struct mapping_events mappings;
	struct threads threads;
	struct drain drain;
	struct moment_table moments, thread_waits;
	struct gate gate;
	struct unwind_maps unwind_maps;
	struct known known;
	struct heap heap;
	struct kmem kmem;
	enum activity activity;
	struct ring_buffer *ring;
	int epoll_fd, timer_fd;
	double load;               /* mean of the last tick */
	uint64_t running_ns;       /* control->running_ns at the last tick */
	double minor_rate, major_rate; /* faults a second and CPU in the last tick */
	uint64_t skipped, skipped_kmem; /* programs_skipped() at the last tick */
	uint32_t crossed_running;  /* from the ring buffer; 0: nothing */
	uint64_t switch_failures;  /* sched_switch could not be attached since the last tick */
	uint64_t maps_failures;    /* the same for the lock of address spaces */
	uint64_t rss_failures;     /* the same for changes of resident memory */
	bool maps_seen, rss_seen;
	uint64_t flips_unsettled;
	bool settled;              /* the last tick's flip */
	char oncpu_source[64], offcpu_source[160], faults_source[96], rss_source[64 + FORMAT_MAX];
	const char *memory_source;
};

/* ---- bpf_activity.c ---- */

/* When all is loaded. */
void activity_begin(struct bpf_source *c);
/* Makes what runs agree with the gate. */
void activity_follow_gate(struct bpf_source *c);
/* The configuration's, or those that the budget leaves. */
void activity_apply_rates(struct bpf_source *c);
/* Chosen by the rates of the last tick. */
void activity_apply_fault_rates(struct bpf_source *c);
void activity_describe_rss(struct bpf_source *c);
void activity_describe_offcpu(struct bpf_source *c);
/* Samples a second of the CPU clock at present. */
uint32_t activity_clock_hz(const struct bpf_source *c);
