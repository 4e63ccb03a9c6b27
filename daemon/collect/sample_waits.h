/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Waits, for the source without BPF: from when a thread leaves a CPU, at a stack that was drawn, until it gets one again. Blocked until it is
 * woken (where the kernel tells of that; else all the time), runnable from then on, and all the time when it was preempted. What each CPU
 * says is put into the order of its time here, since a thread leaves one and gets another.
 *
 *   drawn, out ─▶ a wait that goes on ─▶ woken ─▶ in: told
 *                      └─ outlasts a tick: told as one that lasts, until it ends */
#pragma once

#include "collect.h"

#define SAMPLE_WAITS_MAX 16384         /* drawn, that go on at a time */
#define SAMPLE_WAITS_EVENTS_MAX 131072 /* between two drains of the rings */

struct sample_waits;

int sample_waits_new(struct sample_waits **ret, uint32_t n_cpus);
struct sample_waits *sample_waits_free(struct sample_waits *w);
DEFINE_CLEANUP(struct sample_waits *, sample_waits_free)

/* Times are of CLOCK_MONOTONIC; those of one CPU come in their order. */

/* The stack of a thread that is about to leave this CPU, and how many waits it stands for. One that outlasts a tick stands for itself only,
 * as nothing makes it likely that the others do. */
void sample_waits_drawn(struct sample_waits *w, uint32_t cpu, uint32_t tid, uint64_t raw_id, const struct collect_process *process, uint32_t weight);
/* It has left. */
void sample_waits_out(struct sample_waits *w, uint32_t cpu, uint32_t tid, bool preempted, uint64_t time_ns);
void sample_waits_woken(struct sample_waits *w, uint32_t tid, uint64_t time_ns);
void sample_waits_in(struct sample_waits *w, uint32_t tid, uint64_t time_ns);
/* A thread begins; it ends, so that where it leaves the CPU for the last time it waits for nothing. */
void sample_waits_begun(struct sample_waits *w, uint32_t tid, uint64_t time_ns);
void sample_waits_ended(struct sample_waits *w, uint32_t tid, uint64_t time_ns);

/* What passed at this stack, all that it stands for together: one of weight was drawn. */
typedef void (*sample_wait_fn)(void *userdata, uint64_t raw_id, const struct collect_process *process, uint64_t blocked_ns, uint64_t runnable_ns,
                               uint32_t weight);

/* Takes what happened until then, of which all has been told; later things are kept. */
void sample_waits_settle(struct sample_waits *w, uint64_t until_ns, sample_wait_fn fn, void *userdata);
struct sample_waits_reader {
	sample_wait_fn passed;
	void *passed_userdata;
	const struct collect_sink *sink; /* its function wait */
	void *sink_userdata;
};
/* At the end of a tick: tells of waits that have come to last, or do so no more, and of threads that still wait for a CPU. */
void sample_waits_report(struct sample_waits *w, uint64_t last_tick_ns, uint64_t now_ns, const struct sample_waits_reader *reader);
/* Something was not told, or will not be: nobody knows which waits go on. */
void sample_waits_forget(struct sample_waits *w);

struct sample_waits_lost {
	uint64_t full;      /* drawn, for which there was no room */
	uint64_t undrawn;   /* outlast a tick, at stacks that were not drawn */
	uint64_t forgotten; /* what they did after the last tick is told nowhere */
};
/* Since it was last asked. */
struct sample_waits_lost sample_waits_take_lost(struct sample_waits *w);
uint32_t sample_waits_count(const struct sample_waits *w);
