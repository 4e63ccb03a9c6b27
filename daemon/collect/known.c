/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "internal.h"

/* Waits with a known stack, for one that is walked to see. Where there are many, fewer tell as much. */
#define CHECK_EVERY 128U
#define CHECK_EVERY_MOST 1024U
#define CHECKS_A_TICK 256
#define CHECK_EVERY_IN_DOUBT 16
#define DOUBT_TICKS 60           /* without errors, until it is believed again */
#define OFF_TICKS 300
#define WRONG_PER_MILLE 1        /* of the weight of what was checked, that is too much */

#define PLACES_PER_CPU 512
#define PLACES_MAX 16384

uint32_t known_places(int n_cpus)
{
	uint32_t places = PLACES_PER_CPU;

	while (places < PLACES_MAX && places < PLACES_PER_CPU * (uint32_t)MAX(n_cpus, 1))
		places *= 2;
	return places;
}

void known_init(struct known *k, struct stackd_control *control, uint32_t places)
{
	*k = (struct known){ .control = control };
	control->known_mask = places - 1;
	control->known_generation = 1;
}

void known_set(struct known *k, bool wanted)
{
#if !defined(__x86_64__)
	wanted = false;
#endif
	if (wanted == k->wanted)
		return;
	k->wanted = wanted;
	k->ticks_left = 0;
	k->control->known_every = wanted ? CHECK_EVERY : 0;
}

void known_done(struct known *k)
{
	free(k->per_cpu);
	k->per_cpu = NULL;
}

void known_forget(struct known *k)
{
	__atomic_fetch_add(&k->control->known_generation, 1, __ATOMIC_RELEASE);
}

static struct stackd_known difference(const struct stackd_known *a, const struct stackd_known *b)
{
	return (struct stackd_known){
		.found = a->found - b->found,
		.walked = a->walked - b->walked,
		.checked = a->checked - b->checked,
		.wrong = a->wrong - b->wrong,
		.checked_waits = a->checked_waits - b->checked_waits,
		.wrong_waits = a->wrong_waits - b->wrong_waits,
	};
}

static uint32_t check_every(uint64_t found)
{
	return (uint32_t)MIN(MAX(found / CHECKS_A_TICK, CHECK_EVERY), CHECK_EVERY_MOST);
}

static bool in_doubt(const struct known *k)
{
	return k->control->known_every == CHECK_EVERY_IN_DOUBT;
}

void known_judge(struct known *k, const struct stackd_known *tick)
{
	bool bad = tick->wrong_waits * 1000 > tick->checked_waits * WRONG_PER_MILLE;

	if (k->ticks_left)
		k->ticks_left--;
	if (k->control->known_every == 0) {
		if (k->ticks_left)
			return;
		k->control->known_every = CHECK_EVERY_IN_DOUBT;
		k->ticks_left = DOUBT_TICKS;
		log_info("Known stacks of waits are used again");
		return;
	}
	if (bad && !in_doubt(k)) {
		k->control->known_every = CHECK_EVERY_IN_DOUBT;
		k->ticks_left = DOUBT_TICKS;
		log_info("%llu of %llu known stacks of waits that were walked to see were wrong: one in %d is walked now",
		         tick->wrong, tick->checked, CHECK_EVERY_IN_DOUBT);
	} else if (bad) {
		k->control->known_every = 0;
		k->ticks_left = OFF_TICKS;
		log_warning("%llu of %llu known stacks of waits that were walked to see were wrong: for %d s all are walked",
		            tick->wrong, tick->checked, OFF_TICKS);
	} else if (!k->ticks_left) {
		k->control->known_every = check_every(tick->found);
	}
}

/* How many waits were counted on a wrong stack, by those that were checked. */
static uint64_t wrong_waits(const struct stackd_known *tick, uint32_t every)
{
	return tick->wrong_waits * every;
}

uint64_t known_tick(struct known *k, int fd, int n_cpus)
{
	struct stackd_known sum = {};
	uint32_t zero = 0, every = k->control->known_every;

	if (!k->per_cpu)
		k->per_cpu = calloc((size_t)n_cpus, sizeof *k->per_cpu);
	if (!k->wanted || !k->per_cpu || bpf_map_lookup_elem(fd, &zero, k->per_cpu) < 0)
		return 0;
	for (int cpu = 0; cpu < n_cpus; cpu++) {
		sum.found += k->per_cpu[cpu].found;
		sum.walked += k->per_cpu[cpu].walked;
		sum.checked += k->per_cpu[cpu].checked;
		sum.wrong += k->per_cpu[cpu].wrong;
		sum.checked_waits += k->per_cpu[cpu].checked_waits;
		sum.wrong_waits += k->per_cpu[cpu].wrong_waits;
	}
	k->tick = difference(&sum, &k->sum);
	k->sum = sum;
	known_judge(k, &k->tick);
	return wrong_waits(&k->tick, every);
}

void known_describe(const struct known *k, char *buf, size_t size)
{
	uint64_t answered = k->sum.found - k->sum.checked, all = answered + k->sum.walked;

	if (!k->wanted) {
		buf[0] = 0;
		return;
	}
	snprintf(buf, size, "; %llu of %llu stacks known without a walk, %llu of %llu checked were wrong%s",
	         (unsigned long long)answered, (unsigned long long)all, k->sum.wrong, k->sum.checked,
	         k->control->known_every == 0 ? ", off" : in_doubt(k) ? ", in doubt" : "");
}
