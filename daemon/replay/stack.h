/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every kind of recording comes down to: a stack, and how much of something it stands for. */
#pragma once

#include "names.h"

#define STACK_FRAMES_MAX NAMES_FRAMES_MAX

struct stack {
	const char *comm; /* of the thread, as recorded */
	uint64_t value;   /* samples, or what the event counts; of options->metric its amount */
	const struct names_frame *frames; /* innermost first */
	size_t n;

	/* What folded stacks don't have. */
	const char *event;
	uint64_t time_ns; /* of the recording's clock; 0: there is none */
	uint64_t period;
	enum metric metric; /* what the event is of; METRIC_ALL_N: nothing that the daemon has */
	uint64_t amount;    /* of that, in its unit */
	uint32_t hz;      /* that were asked for; 0: a fixed period was, or it isn't known */
	uint32_t pid;     /* of text: the thread */
	uint32_t cpus;    /* of the machine; 0: not known */
	uint64_t begun_ns;
	const char *process_comm, *exe;
};

/* Negative errno ends the reading. What it is given is good until it returns. */
typedef int (*stack_fn)(void *userdata, const struct stack *stack);

struct stack_options {
	const char *event; /* NULL: that of the first sample */
	bool all_events;
	enum metric metric; /* METRIC_ALL_N: whatever the event counts; else only what is of this metric, or of those it is made of */
	bool waits;        /* what the scheduler's events say of waits, instead of the events themselves */
	bool ticks;        /* waits by the second */
	bool realtime;     /* times are told in realtime where the recording says how its clock relates to it */
	bool periods;      /* a sample stands for its period (ns, cycles), not for 1 */
};

/* Tells fn, if options ask for it, what is of a sample: fills in metric and amount by event, period and hz ("cpu-clock:u" is of on-cpu),
 * and value. Gives what fn does, else 0. */
int stack_tell_sample(const struct stack_options *options, struct stack *stack, stack_fn fn, void *userdata);
/* The same, when metric and amount are there. */
int stack_tell(const struct stack_options *options, struct stack *stack, stack_fn fn, void *userdata);

/* wanted is how perf names event, or that without what follows of it: "cpu-clock" is "cpu-clock/freq=499/". */
bool stack_is_event(const char *event, const char *wanted);
/* cpu-clock and task-clock of one recording are the same time twice: what the first event of a metric tells counts, and is kept in first, which is
 * empty before. cycles:u and cycles:k, or those of two kinds of CPUs, are not the same. */
#define STACK_EVENT_SIZE 128
bool stack_tells_twice(char first[static STACK_EVENT_SIZE], const struct stack *stack);

/* Says that so many samples are of other events than the one that is told, and left out. */
void stack_say_others(const struct stack_options *options, uint64_t others, const char *event);

/* Where reading failed, for the one message that says so. */
struct stack_error {
	bool is_line;   /* place is a line's number, else bytes into the file */
	uint64_t place;
	char what[160]; /* "" when the errno says it all */
};

/* What was read. */
struct stack_origin {
	const char *format; /* "perf.data", "perf script", "folded stacks" */
	uint64_t lost;      /* records that the kernel had no room for */
	bool realtime;      /* the times that were told are */
};
