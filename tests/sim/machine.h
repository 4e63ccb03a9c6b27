/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine of programs on a virtual clock. Programs want CPU time, the scheduler shares it out, the gate follows
 * the load, and the daemon's view of all that, stacks sampled at the gate's rate and exact totals of units, goes
 * into the detector. Where world.h has very many series, this has causes: who takes a CPU takes it from others. */
#pragma once

#include "detect.h"

enum trouble {
	TROUBLE_SERVICE_SPINS,  /* all threads of a service that did little, in a function never seen */
	TROUBLE_NEW_UNIT_SPINS, /* the same of a unit that was not there */
	TROUBLE_SPIN,           /* one function of a service burns a CPU */
	TROUBLE_CONVOY,         /* most threads of a service wait for a lock, and it does little */
	TROUBLE_IO_STALL,       /* half of its threads wait for a disk */
	TROUBLE_STARVATION,     /* a batch job of thirty tasks a CPU: all wait */
	TROUBLE_LEAK,           /* a function touches ever more new pages */
	TROUBLE_SLOW_LEAK,      /* a program keeps 4 KiB more every 5 ms, which is nothing beside the page faults that it takes anyway */
	TROUBLE_FAULT_STORM,    /* a function takes page faults by the ten thousand */
	TROUBLE_STOPPED,        /* a function is not called any more */
	TROUBLE_LATE,           /* a program that comes every 10 to 25 s doesn't */
	TROUBLE_DEPLOY,         /* half of a service's functions are others from now on */
	TROUBLE_N,
};
const char *trouble_to_string(enum trouble t);

struct machine_config {
	uint64_t seed;
	unsigned cpus;
	unsigned programs;     /* units; a third of them does next to nothing */
	double baseline_hz, open_hz;
	double open_above;     /* runnable tasks a CPU */
	bool slow;             /* emulated: ticks of 1 to 3 s, some missed, time taken away, samples lost */
	bool lasting;          /* days: load with the hours, nightly jobs, deploys */
	double service_cpu;    /* what the service that troubles befall uses before: CPUs; 0 = nothing */
	double false_alarms_per_day;
};

struct machine_alarm {
	uint64_t tick;
	bool functions;      /* of a unit's, by what its samples are of */
	bool deploy;         /* it says that there is new code in a program that was deployed a short time ago */
	unsigned program;    /* whose; that with the largest part of it when the machine as a whole is told */
	bool total;          /* of a unit or the machine, not of one stack */
	struct detect_result result;
};
typedef void (*machine_alarm_fn)(void *userdata, const struct machine_alarm *alarm);

struct machine;
int machine_new(struct machine **ret, const struct machine_config *config);
struct machine *machine_free(struct machine *m);
DEFINE_CLEANUP(struct machine *, machine_free)

/* A tick; fn is called for each alarm. */
void machine_tick(struct machine *m, machine_alarm_fn fn, void *userdata);
uint64_t machine_now(const struct machine *m);     /* ticks */
double machine_seconds(const struct machine *m);
bool machine_gate_open(const struct machine *m);
const struct detect *machine_detect(const struct machine *m);
const char *machine_program_kind(const struct machine *m, unsigned program);
/* Begins a trouble. Gives the program that it befalls. */
unsigned machine_begin(struct machine *m, enum trouble t);
/* The tick in which the trouble that was begun could be seen at the earliest, as far as it is over: by one who knows what the machine would do with
 * it and without, and asks for as much as the budget has it (visible.h). 0: not yet. */
uint64_t machine_visible(const struct machine *m);
/* Deploys of programs so far, in ordinary life. */
unsigned machine_deploys(const struct machine *m);
/* The same machine again, which goes its own way from here. */
int machine_copy(struct machine **ret, const struct machine *m);
