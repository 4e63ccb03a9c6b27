/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What users would notice of the detector, over days of virtual time: noise, faults found and how fast,
 * restarts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "world.h"

#define HOUR 3600u
#define DAY (24 * HOUR)
#define ALARMS_MAX 4096
#define SOON 5u /* ticks */
#define GATE_SETTLED 60 /* ticks after a change of the gate */

struct log {
	struct world *w;
	bool silent;
	size_t n;
	struct scored alarms[ALARMS_MAX];
};

static void keep(void *userdata, const struct scored *scored)
{
	struct log *log = userdata;

	if (!log->silent)
		printf("# tick %llu: %s of %s in a %s series, %.3g -> %.3g, p %.2g\n",
		       (unsigned long long)scored->tick, detect_type_to_string(scored->result.type),
		       metric_to_string(scored->result.metric), world_series_kind(log->w, scored->series),
		       scored->result.expected, scored->result.observed, scored->result.p_value);
	if (log->n < ALARMS_MAX)
		log->alarms[log->n++] = *scored;
}

static struct log *new_log(const struct world_config *config)
{
	struct log *log = calloc(1, sizeof(*log));

	assert_non_null(log);
	assert_int_equal(world_new(&log->w, config), 0);
	log->silent = config->false_alarms_per_day > 1;
	return log;
}

static void free_log(struct log **log)
{
	world_free((*log)->w);
	free(*log);
}

static void run(struct log *log, unsigned ticks)
{
	while (ticks-- > 0)
		world_tick(log->w, keep, log);
}

static const struct world_config everything = {
	.seed = 1,
	.n_series = 2000,
	.surge_every = 5000,
	.daily = true,
	.lossy = true,
	.false_alarms_per_day = 1,
};

/* The first day after a fresh start, with load that comes and goes, the gate that follows it, and lost
 * samples. */
static void test_a_quiet_day_stays_within_twice_the_budget(void **state)
{
	_cleanup_(free_log) struct log *log = new_log(&everything);
	struct detect_status status;

	(void)state;
	run(log, DAY);
	detect_get_status(world_detect(log->w), &status);
	printf("# %zu alarms in a day of %llu values, %llu held back, budget %g\n", log->n,
	       (unsigned long long)status.scored, (unsigned long long)status.suppressed,
	       everything.false_alarms_per_day);
	assert_true((double)log->n <= 2 * everything.false_alarms_per_day);
}

/* The hours in which a unit's bursts are its first, of three machines with a hundred units each. */
static void test_first_hours_of_units_stay_within_the_budget(void **state)
{
	static const uint64_t seeds[] = { 4, 5, 32 };
	struct world_config config = everything;
	size_t alarms = 0;

	(void)state;
	config.n_series = 5000;
	config.units = true;
	for (size_t i = 0; i < ELEMENTS_OF(seeds); i++) {
		_cleanup_(free_log) struct log *log = NULL;

		config.seed = seeds[i];
		log = new_log(&config);
		run(log, 3 * HOUR);
		alarms += log->n;
	}
	printf("# %zu alarms in the first hours of three machines\n", alarms);
	assert_true(alarms <= 1);
}

/* The first ones above all, of which nothing is known: all series wait, none by its own doing. */
static void test_surges_of_load_are_no_anomalies(void **state)
{
	struct world_config config = everything;
	size_t alarms = 0;

	(void)state;
	config.surge_every = 1500;
	for (config.seed = 21; config.seed < 27; config.seed++) {
		_cleanup_(free_log) struct log *log = new_log(&config);

		run(log, 3 * HOUR / 2);
		alarms += log->n;
	}
	printf("# %zu alarms in the surges of 9 hours\n", alarms);
	assert_true(alarms <= 1);
}

static void test_changes_of_the_gate_are_no_anomalies(void **state)
{
	struct world_config config = everything;

	(void)state;
	config.surge_every = 900;
	for (config.seed = 11; config.seed < 14; config.seed++) {
		_cleanup_(free_log) struct log *log = new_log(&config);
		unsigned changes = 0, settling = 0;

		for (unsigned i = 0; i < 3 * HOUR; i++) {
			bool open = world_gate_open(log->w);
			size_t before = log->n;

			run(log, 1);
			if (world_gate_open(log->w) != open) {
				changes++;
				settling = GATE_SETTLED;
			} else if (settling > 0)
				settling--;
			assert_false(settling > 0 && log->n > before);
		}
		printf("# seed %llu: the gate changed %u times\n", (unsigned long long)config.seed, changes);
		assert_true(changes > 0);
	}
}

struct tally {
	unsigned injected, seen, found; /* seen: could be, or were */
	unsigned soon;                  /* were within 5 ticks of that */
	uint64_t delays;
	unsigned false_alarms;
};

static void inject(struct log *log, enum fault_kind kind, struct fault *f, struct tally *tally)
{
	unsigned lasts = kind == FAULT_SHIFT ? 600 : kind == FAULT_NEW_SPIN ? 180 : 60;

	*f = (struct fault){ .kind = kind,
			     .from = world_now(log->w) + 60,
			     .until = world_now(log->w) + 60 + lasts };
	world_add_fault(log->w, f);
	log->n = 0;
	/* the refractory period of the series that it hit is over before the next one */
	run(log, 60 + lasts + 700);
	tally->injected++;
	for (size_t i = 0; i < log->n; i++) {
		if (!world_explains(log->w, f, &log->alarms[i]))
			tally->false_alarms++;
		else if (!f->found) {
			f->found = log->alarms[i].tick;
			tally->found++;
			tally->delays += f->found - f->from;
		}
	}
	tally->seen += f->visible || f->found;
	tally->soon += f->found && (!f->visible || f->found <= f->visible + SOON);
	if (!f->found)
		printf("# missed: %s in a %s series, %svisible\n", fault_to_string(kind), world_series_kind(log->w, f->series), f->visible ? "" : "not ");
}

static void test_injected_faults_are_found(void **state)
{
	/* A trouble that comes back within the hour is known: starvation of all series comes once a world,
	 * the others hit series of their own. */
	static const unsigned times[FAULT_N] = {
		[FAULT_SPIN] = 3,     [FAULT_BLOCKED] = 3, [FAULT_STARVATION] = 1, [FAULT_STORM] = 3,
		[FAULT_VANISHED] = 2, [FAULT_SHIFT] = 2,   [FAULT_NEW_SPIN] = 1,
	};
	struct tally tallies[FAULT_N] = { 0 };
	unsigned seen = 0, found = 0, soon = 0, false_alarms = 0;
	struct world_config config = everything;
	unsigned hours = 0;

	(void)state;
	config.units = true;
	for (config.seed = 21; config.seed < 24; config.seed++) {
		_cleanup_(free_log) struct log *log = new_log(&config);
		struct fault faults[32];
		size_t n = 0;

		run(log, 6 * HOUR);
		for (enum fault_kind k = 0; k < FAULT_N; k++)
			for (unsigned i = 0; i < times[k]; i++)
				inject(log, k, &faults[n++], &tallies[k]);
		hours += (unsigned)(world_now(log->w) / HOUR);
	}
	for (enum fault_kind k = 0; k < FAULT_N; k++) {
		const struct tally *t = &tallies[k];

		printf("# %-22s found %u of %u, %u visible, %u in time, mean delay %.1f ticks\n", fault_to_string(k), t->found,
		       t->injected, t->seen, t->soon, t->found ? (double)t->delays / t->found : 0);
		seen += t->seen;
		found += t->found;
		soon += t->soon;
		false_alarms += t->false_alarms;
	}
	printf("# recall %.3f, in time %.3f, %u other alarms in the %u hours of all runs\n", (double)found / seen,
	       (double)soon / seen, false_alarms, hours);
	assert_true(found * 100 >= seen * 95);
	assert_true(soon * 100 >= seen * 90);
	assert_true(false_alarms <= 4);
}

static bool same_alarms(const struct log *a, const struct log *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a->alarms[i].tick != b->alarms[i].tick || a->alarms[i].series != b->alarms[i].series ||
		    memcmp(&a->alarms[i].result.p_value, &b->alarms[i].result.p_value, sizeof(double)) != 0)
			return false;
	return true;
}

/* Many alarms, so that there is something to compare. */
static const struct world_config talkative = {
	.seed = 5,
	.n_series = 500,
	.surge_every = 5000,
	.daily = true,
	.lossy = true,
	.false_alarms_per_day = 1e6,
};

static void test_a_prefix_is_scored_as_the_whole(void **state)
{
	_cleanup_(free_log) struct log *whole = new_log(&talkative), *prefix = new_log(&talkative);
	uint64_t hash;
	size_t n;

	(void)state;
	run(whole, 4000);
	hash = world_state_hash(whole->w);
	n = whole->n;
	run(whole, 4000);
	run(prefix, 4000);
	assert_true(n > 0);
	assert_int_equal(prefix->n, n);
	assert_true(same_alarms(whole, prefix, n));
	assert_true(world_state_hash(prefix->w) == hash);
}

static void test_a_restart_changes_nothing(void **state)
{
	_cleanup_(free_log) struct log *straight = new_log(&talkative), *restarted = new_log(&talkative);

	(void)state;
	run(straight, 6000);
	for (unsigned i = 0; i < 6; i++) {
		run(restarted, 1000);
		world_restart_detector(restarted->w);
	}
	assert_true(straight->n > 0);
	assert_int_equal(restarted->n, straight->n);
	assert_true(same_alarms(straight, restarted, straight->n));
	assert_true(world_state_hash(restarted->w) == world_state_hash(straight->w));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_prefix_is_scored_as_the_whole),
		cmocka_unit_test(test_a_restart_changes_nothing),
		cmocka_unit_test(test_changes_of_the_gate_are_no_anomalies),
		cmocka_unit_test(test_surges_of_load_are_no_anomalies),
		cmocka_unit_test(test_injected_faults_are_found),
		cmocka_unit_test(test_a_quiet_day_stays_within_twice_the_budget),
		cmocka_unit_test(test_first_hours_of_units_stay_within_the_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
