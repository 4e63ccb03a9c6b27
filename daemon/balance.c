/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "balance.h"

/* Below these a ratio is noise: a second of time at 49 samples, or a thousand faults. */
static uint64_t least(enum metric m)
{
	return m == METRIC_FAULTS_MINOR || m == METRIC_FAULTS_MAJOR ? 1000 : NSEC_PER_SEC;
}

static void add(uint64_t to[static METRIC_N], const uint64_t values[static METRIC_N])
{
	for (size_t m = 0; m < METRIC_N; m++)
		to[m] += values[m];
}

void balance_begin_tick(struct balance *b, bool gate_open)
{
	b->at = (b->at + 1) % BALANCE_TICKS;
	b->ticks[b->at] = (struct balance_tick) { .off_cpu = b->was_open && gate_open };
	b->was_open = gate_open;
}

void balance_gate_changed(struct balance *b)
{
	b->ticks[b->at].off_cpu = false;
}

void balance_add_stack(struct balance *b, const uint64_t values[static METRIC_N])
{
	add(b->ticks[b->at].stacks, values);
}

void balance_add_waits(struct balance *b, uint64_t blocked_ns)
{
	b->ticks[b->at].stacks[METRIC_BLOCKED] += blocked_ns;
}

void balance_add_exact(struct balance *b, const uint64_t values[static METRIC_N])
{
	add(b->ticks[b->at].exact, values);
}

double balance_ratio(const struct balance *b, enum metric m)
{
	bool off_cpu = m == METRIC_BLOCKED || m == METRIC_RUNNABLE;
	uint64_t stacks = 0, exact = 0;

	if (m == METRIC_HITS || m == METRIC_FAULTS_FILE || metric_is_signed(m)) /* the kernel keeps no exact count of them */
		return -1;
	for (size_t i = 0; i < BALANCE_TICKS; i++) {
		if (off_cpu && !b->ticks[i].off_cpu)
			continue;
		stacks += b->ticks[i].stacks[m];
		exact += b->ticks[i].exact[m];
	}
	return exact < least(m) ? -1 : (double) stacks / exact;
}
