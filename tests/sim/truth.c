/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "truth.h"

#define LASTS 300 /* ticks */
#define LASTS_LONG 1800 /* what can't be told from what comes and goes at once */
#define SOON 5
#define SOON_SLOW 300
#define DAY 86400.0
#define SETTLES 8 /* ticks: the copy's detector has been started anew, and the daemon's has not */

struct watch {
	unsigned victim, mine, others, deploys;
	bool explains_waits; /* whoever waits for a CPU suffers from it */
	uint64_t first;
};

static void count(void *userdata, const struct machine_alarm *alarm)
{
	struct watch *w = userdata;

	if (alarm->deploy && alarm->program != w->victim) {
		w->deploys++;
		return;
	}
	if (alarm->program != w->victim && !(w->explains_waits && alarm->result.metric == METRIC_RUNNABLE)) {
		w->others++;
		return;
	}
	if (w->mine++ == 0)
		w->first = alarm->tick;
}

static int by_size(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return (x > y) - (x < y);
}

static unsigned median(unsigned *all, unsigned n)
{
	qsort(all, n, sizeof(*all), by_size);
	return n ? all[n / 2] : 0;
}

static bool takes_all_cpus(enum trouble t)
{
	return t == TROUBLE_SERVICE_SPINS || t == TROUBLE_NEW_UNIT_SPINS || t == TROUBLE_STARVATION;
}

struct delays {
	unsigned told[TRUTH_MACHINES_MAX], visible[TRUTH_MACHINES_MAX];
};

static bool is_slow(enum trouble t)
{
	return t == TROUBLE_LEAK || t == TROUBLE_SLOW_LEAK;
}

static int befall(const struct machine *before, enum trouble t, struct truth *truth, struct delays *delays)
{
	_cleanup_(machine_freep) struct machine *m = NULL;
	struct watch w = { .explains_waits = takes_all_cpus(t) }, settling = { .victim = UINT32_MAX };
	uint64_t from;
	unsigned visible = 0, delay;
	int r;

	r = machine_copy(&m, before);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < SETTLES; i++)
		machine_tick(m, count, &settling);
	from = machine_now(m);
	w.victim = machine_begin(m, t);
	for (unsigned i = 0; i < (t == TROUBLE_SLOW_LEAK ? LASTS_LONG : LASTS); i++)
		machine_tick(m, count, &w);
	truth->begun++;
	truth->alarms += w.mine;
	truth->others += w.others;
	if (machine_visible(m)) {
		visible = (unsigned)(machine_visible(m) - from);
		delays->visible[truth->visible++] = visible;
	}
	if (w.mine == 0)
		return 0;
	delay = (unsigned)(w.first - from);
	delays->told[truth->told++] = delay;
	truth->on_time += delay <= (is_slow(t) ? SOON_SLOW : visible + SOON);
	return 0;
}

int truth_run(struct truth_run *ret, uint64_t seed, unsigned n, unsigned history, double false_alarms_per_day)
{
	static struct delays delays[TROUBLE_N];
	int r;

	*ret = (struct truth_run){ .quiet_days = n * history / DAY };
	for (unsigned i = 0; i < n; i++) {
		/* from small to large, and what the service did before from a tenth of a CPU to a whole one */
		const struct machine_config config = {
			.seed = seed + i,
			.cpus = 2u << (i % 4),
			.programs = 12 + 4 * (i % 6),
			.baseline_hz = 5,
			.open_hz = 49,
			.open_above = 5,
			.lasting = true,
			.service_cpu = 0.1 * (1 + i % 10),
			.false_alarms_per_day = false_alarms_per_day,
		};
		_cleanup_(machine_freep) struct machine *m = NULL;
		struct watch quiet = { .victim = UINT32_MAX };

		r = machine_new(&m, &config);
		if (r < 0)
			return r;
		for (unsigned tick = 0; tick < history; tick++)
			machine_tick(m, count, &quiet);
		ret->quiet_alarms += quiet.others;
		ret->deploy_alarms += quiet.deploys;
		ret->deploys += machine_deploys(m);
		for (enum trouble t = 0; t < TROUBLE_N; t++) {
			r = befall(m, t, &ret->troubles[t], &delays[t]);
			if (r < 0)
				return r;
		}
	}
	for (enum trouble t = 0; t < TROUBLE_N; t++) {
		struct truth *truth = &ret->troubles[t];

		truth->delay_median = median(delays[t].told, truth->told);
		truth->visible_median = median(delays[t].visible, truth->visible);
	}
	return 0;
}
