/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "budget.h"

#include <math.h>

/* Of the budget. */
#define LOWER_ABOVE 0.9
#define LOWER_TO 0.6
#define RAISE_BELOW 0.5
#define TWICE 2.0
#define EVENTS_WORTH 0.1   /* what takes less than this is not worth leaving out */

#define LEVEL_MAX 12       /* a 64th of each rate */
#define CALM_TICKS 4       /* before a level is raised */
#define PAUSE_MIN 16       /* ticks before what was left out is tried again */
#define PAUSE_MAX 512
#define TRIAL_TICKS 32     /* what was left out again within these was tried in vain */

/* At first every program and file is new, and reading their names has nothing to do with any rate. */
#define FIRST_TICKS 10

/* The daemon is one thread: on a large machine it would miss its ticks before it took its share. Of one CPU. */
#define THREAD_SHARE 0.4

/* Stacks a second and CPU where there is no limit; a CPU doesn't come to more. */
#define UNLIMITED_STACKS 262144

static void init_state(struct budget_state *s)
{
	for (size_t i = 0; i < BUDGET_EVENTS; i++) {
		s->pause[i] = PAUSE_MIN;
		s->tried[i] = TRIAL_TICKS;
	}
}

void budget_configure(struct budget *b, double closed, double open)
{
	const double shares[2] = { closed, open };

	for (size_t i = 0; i < ELEMENTS_OF(b->states); i++) {
		if (shares[i] >= 1) {
			b->states[i] = (struct budget_state){};
			init_state(&b->states[i]);
		}
		b->states[i].share = shares[i];
	}
}

void budget_init(struct budget *b, double closed, double open)
{
	*b = (struct budget){};
	for (size_t i = 0; i < ELEMENTS_OF(b->states); i++)
		init_state(&b->states[i]);
	budget_configure(b, closed, open);
}

const struct budget_state *budget_state(const struct budget *b, bool open)
{
	return &b->states[open];
}

double budget_factor(uint32_t level)
{
	return exp2(-(double)level / 2);
}

static bool leave_out_costliest(struct budget_state *s, const struct budget_reading *r, double allowed_ns)
{
	size_t most = BUDGET_EVENTS;

	for (size_t i = 0; i < BUDGET_EVENTS; i++)
		if (!s->left_out[i] && (most == BUDGET_EVENTS || r->events_ns[i] > r->events_ns[most]))
			most = i;
	if (most == BUDGET_EVENTS || (double)r->events_ns[most] < EVENTS_WORTH * allowed_ns)
		return false;
	s->pause[most] = s->tried[most] < TRIAL_TICKS ? MIN(2 * s->pause[most], (uint32_t)PAUSE_MAX) : PAUSE_MIN;
	s->left_out[most] = true;
	s->wait[most] = s->pause[most];
	return true;
}

/* Rates first. Where they are as low as they get, or twice the budget is taken for a second time, it is the events themselves that cost. */
static const char *lower(struct budget_state *s, const struct budget_reading *r, double ratio, double allowed_ns)
{
	uint32_t steps = (uint32_t)ceil(2 * log2(ratio / LOWER_TO)), level = s->level;

	s->calm = 0;
	s->over++;
	if ((level == LEVEL_MAX || (s->over > 1 && ratio >= TWICE)) && leave_out_costliest(s, r, allowed_ns))
		return "budget-left-out";
	s->level = MIN(level + steps, (uint32_t)LEVEL_MAX);
	return s->level == level ? NULL : "budget-lowered";
}

static const char *raise(struct budget_state *s)
{
	const char *cause = NULL;

	for (size_t i = 0; i < BUDGET_EVENTS; i++)
		if (s->left_out[i] && --s->wait[i] == 0) {
			s->left_out[i] = false;
			s->tried[i] = 0;
			cause = "budget-tried-again";
		}
	if (cause || ++s->calm < CALM_TICKS || s->level == 0)
		return cause;
	s->calm = 0;
	s->level--;
	return "budget-raised";
}

static const char *follow(struct budget_state *s, const struct budget_reading *r)
{
	double wall = (double)r->wall_ns, allowed = s->share * wall * r->cpus, user = (double)r->user_ns;
	double all = user + (double)r->helpers_ns + (double)r->kernel_ns;
	double ratio = MAX(all / allowed, user / (THREAD_SHARE * wall));

	for (size_t i = 0; i < BUDGET_EVENTS; i++)
		s->tried[i] = MIN(s->tried[i] + 1, (uint32_t)TRIAL_TICKS);
	if (ratio >= LOWER_ABOVE)
		return lower(s, r, ratio, allowed);
	s->over = 0;
	if (ratio < RAISE_BELOW)
		return raise(s);
	s->calm = 0;
	return NULL;
}

bool budget_judges(const struct budget *b)
{
	return b->ticks > FIRST_TICKS;
}

bool budget_tick(struct budget *b, const struct budget_reading *r, const char **ret_cause)
{
	bool gate_changed = b->open != r->open;
	struct budget_state *s = &b->states[r->open];
	double machine = (double)MAX(r->wall_ns, 1U) * MAX(r->cpus, 1U);

	*ret_cause = NULL;
	b->open = r->open;
	b->user = (double)(r->user_ns + r->helpers_ns) / machine;
	b->kernel = (double)r->kernel_ns / machine;
	b->used = b->user + b->kernel;
	/* A tick in which the gate closed was open for a part of it. */
	b->ticks++;
	if (budget_judges(b) && (r->open || !gate_changed) && s->share < 1 && r->wall_ns > 0 && r->cpus > 0)
		*ret_cause = follow(s, r);
	return gate_changed || *ret_cause;
}

static uint32_t lowered(uint32_t rate, double factor)
{
	return rate == 0 ? 0 : MAX((uint32_t)(rate * factor), 1U);
}

/* A limit of 0 is none. */
static uint32_t lowered_limit(uint32_t limit, double factor)
{
	return factor >= 1 ? limit : lowered(limit ?: UNLIMITED_STACKS, factor);
}

void budget_lower(const struct budget_state *s, const struct collect_config *from, struct collect_config *ret)
{
	double factor = budget_factor(s->level);

	*ret = *from;
	ret->sample_hz = lowered(from->sample_hz, factor);
	ret->baseline_hz = lowered(from->baseline_hz, factor);
	ret->fault_hz = lowered(from->fault_hz, factor);
	ret->fault_baseline_hz = lowered(from->fault_baseline_hz, factor);
	ret->offcpu_stacks_per_sec = lowered_limit(from->offcpu_stacks_per_sec, factor);
	ret->memory_stacks_per_sec = lowered_limit(from->memory_stacks_per_sec, factor);
	ret->memory_baseline_stacks_per_sec = lowered_limit(from->memory_baseline_stacks_per_sec, factor);
}
