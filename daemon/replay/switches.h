/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Waits, from the scheduler's events: off the CPU from when a thread leaves it until it gets one again, at the stack with which it left.
 * Blocked until it is woken (where that was recorded; else all the time), runnable from then on, and all the time when it
 * was preempted. */
#pragma once

#include "stack.h"

/* Threads that wait at a time, and bytes of their stacks; waits beyond are counted only. */
#define SWITCHES_THREADS_MAX 65536
#define SWITCHES_BYTES_MAX (256U << 20)

struct switches;

/* ticks: tells what waits last for by the second, as it goes on, and not at their end only. fn is told each part: of metric blocked or
 * runnable, with its ns as amount, and its end as time. */
int switches_new(struct switches **ret, bool ticks, stack_fn fn, void *userdata);
struct switches *switches_free(struct switches *s);
DEFINE_CLEANUP(struct switches *, switches_free)

/* Each returns what fn returned when that was negative. Times don't go back; those that do are taken as the latest. */

/* Leaves the CPU; stack (copied) and its time say where and when. */
int switches_out(struct switches *s, uint32_t tid, bool runnable, const struct stack *stack);
void switches_woken(struct switches *s, uint32_t tid, uint64_t time_ns);
int switches_in(struct switches *s, uint32_t tid, uint64_t time_ns);
/* The recording has come so far. */
int switches_advance(struct switches *s, uint64_t time_ns);
/* The recording ends: tells what still waits. */
int switches_end(struct switches *s);

struct switches_status {
	uint64_t open;    /* waits whose end was not recorded: the thread left a CPU again without having got one */
	uint64_t dropped; /* that there was no room for */
};
void switches_get_status(const struct switches *s, struct switches_status *ret);
