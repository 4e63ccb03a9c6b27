/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bench_detect [DAYS [SERIES [SEED [quiet|faults]]]]: what scoring costs on 10,000 live series; with DAYS, also how many alarms that many days of a
 * quiet machine give, a day at a time, and the same machine with a fault every hour and a half. A month of 20,000 series, bench_detect 30, takes
 * 50 minutes of a CPU for each of the two; either can be asked for alone. */
#include <inttypes.h>
#include <time.h>

#include "world.h"

#define SERIES 10000
#define TICKS 400
#define METRICS 4
#define BUDGET_NS 150.0
#define FAULT_EVERY 5400 /* ticks */
#define FAULT_LASTS 300
#define SOON 5u /* ticks after it could be seen */

static uint64_t rng = 1;

static uint32_t rnd(void)
{
	rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(rng >> 33);
}

/* Of this thread, so that a machine with other things to do gives the same figure. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* Every series has something of four metrics in every tick: the worst case. The values are made before the
 * clock runs. */
static int bench_cost(void)
{
	struct detect_config config = { .false_alarms_per_day = 1 };
	size_t state_size = detect_series_state_size();
	_cleanup_(detect_freep) struct detect *d = NULL;
	_cleanup_free_ void *global = calloc(1, detect_global_state_size());
	_cleanup_free_ uint8_t *states = calloc(SERIES, state_size);
	_cleanup_free_ uint64_t(*values)[METRIC_N] = calloc(SERIES, sizeof(*values));
	uint64_t busy_ns = 0, silent_ns = 0, alarms = 0;
	struct detect_result result;
	double per_value;

	if (!global || !states || !values || detect_new(&d, &config, global) < 0)
		return 1;
	for (uint64_t t = 0; t < TICKS; t++) {
		struct detect_tick tick = {
			.time_us = (1700000000 + t) * USEC_PER_SEC,
			.duration_ns = NSEC_PER_SEC,
			.load = 1,
			.gate_open = true,
			.online_cpus = 64,
		};
		uint64_t start;

		/* the last ticks have nothing in them: what visiting silent series costs */
		for (size_t i = 0; i < SERIES; i++) {
			uint64_t hits = rnd() % 8;

			memset(values[i], 0, sizeof(values[i]));
			if (t >= TICKS - 30)
				continue;
			values[i][METRIC_HITS] = hits;
			values[i][METRIC_ON_CPU] = hits * 20000000;
			values[i][METRIC_BLOCKED] = 1000000 + rnd() % 500000000;
			values[i][METRIC_RUNNABLE] = 1000 + rnd() % 10000000;
			values[i][METRIC_FAULTS_MINOR] = rnd() % 4 * 50;
		}
		start = cpu_ns();
		detect_tick_begin(d, &tick);
		for (size_t i = 0; i < SERIES; i++)
			alarms += detect_series(d, states + i * state_size, values[i], 0, &result);
		detect_tick_end(d);
		*(t >= TICKS - 30 ? &silent_ns : &busy_ns) += cpu_ns() - start;
	}
	per_value = (double)busy_ns / (TICKS - 30) / SERIES / METRICS;
	printf("scoring %d live series x %d metrics: %.1f ns a value (budget %.0f), %.2f ms a tick; silent: "
	       "%.1f ns a series\n",
	       SERIES, METRICS, per_value, BUDGET_NS, (double)busy_ns / (TICKS - 30) / 1e6,
	       (double)silent_ns / 30 / SERIES);
	printf("state: %zu bytes a series, %zu bytes in all; %" PRIu64 " alarms\n", state_size,
	       detect_global_state_size(), alarms);
	return per_value < BUDGET_NS ? 0 : 1;
}

struct month {
	unsigned by_type[DETECT_TYPE_N], alarms;
	const struct world *world;
	struct fault fault; /* the last one that was injected */
	unsigned injected[FAULT_N], seen[FAULT_N], found[FAULT_N], on_time[FAULT_N], delays[FAULT_N];
	unsigned explained;
};

static void count(void *userdata, const struct scored *scored)
{
	struct month *m = userdata;

	if (!world_explains(m->world, &m->fault, scored)) {
		m->by_type[scored->result.type]++;
		m->alarms++;
		return;
	}
	m->explained++;
	if (!m->fault.found)
		m->fault.found = scored->tick;
}

static void close_fault(struct month *m)
{
	const struct fault *f = &m->fault;

	if (f->until == 0)
		return;
	m->injected[f->kind]++;
	m->seen[f->kind] += f->visible || f->found;
	if (f->found) {
		m->found[f->kind]++;
		m->delays[f->kind] += (unsigned)(f->found - f->from);
		m->on_time[f->kind] += !f->visible || f->found <= f->visible + SOON;
	}
	m->fault.until = 0;
}

static unsigned sum(const unsigned by_kind[static FAULT_N])
{
	unsigned all = 0;

	for (enum fault_kind k = 0; k < FAULT_N; k++)
		all += by_kind[k];
	return all;
}

/* One of each kind after the other, a few minutes each. */
static void inject(struct world *w, struct month *m, unsigned n)
{
	enum fault_kind kind = n % FAULT_N;

	close_fault(m);
	m->fault = (struct fault){ .kind = kind, .from = world_now(w) + 1, .until = world_now(w) + FAULT_LASTS };
	world_add_fault(w, &m->fault);
}

static void print_faults(const struct month *m)
{
	unsigned seen = sum(m->seen);

	for (enum fault_kind k = 0; k < FAULT_N; k++) {
		printf("%s: %u of %u found, %u visible, %u within %u ticks of that", fault_to_string(k), m->found[k], m->injected[k], m->seen[k],
		       m->on_time[k], SOON);
		if (m->found[k])
			printf(", after %.1f ticks", (double)m->delays[k] / m->found[k]);
		puts("");
	}
	printf("of %u visible faults found %.3f, in time %.3f; %u alarms are about faults, %u are not: precision %.3f\n", seen,
	       (double)sum(m->found) / MAX(seen, 1u), (double)sum(m->on_time) / MAX(seen, 1u), m->explained, m->alarms,
	       (double)m->explained / MAX(m->explained + m->alarms, 1u));
}

static void run_day(struct world *w, struct month *m, unsigned day, bool faults)
{
	struct month before = *m;
	struct detect_status status;

	memset(m->by_type, 0, sizeof(m->by_type));
	for (unsigned i = 0; i < 86400; i++) {
		/* the first hours are for learning */
		if (faults && i % FAULT_EVERY == 0 && (day > 0 || i >= 4 * FAULT_EVERY))
			inject(w, m, (day * 86400 + i) / FAULT_EVERY);
		world_tick(w, count, m);
	}
	close_fault(m);
	detect_get_status(world_detect(w), &status);
	printf("day %u: %u alarms%s", day + 1, m->alarms - before.alarms, faults ? " about none" : "");
	for (int t = 0; t < DETECT_TYPE_N; t++)
		if (m->by_type[t])
			printf(", %u %s", m->by_type[t], detect_type_to_string(t));
	if (faults)
		printf("; of %u faults %u visible, %u found, %u in time, %u alarms about them", sum(m->injected) - sum(before.injected),
		       sum(m->seen) - sum(before.seen), sum(m->found) - sum(before.found), sum(m->on_time) - sum(before.on_time),
		       m->explained - before.explained);
	printf("; %.3g tests a day, a score of %.1f is told, %" PRIu64 " held back so far\n", status.tests_per_day, status.threshold, status.suppressed);
	fflush(stdout);
}

static int bench_alarms(unsigned days, uint32_t n_series, uint64_t seed, bool faults)
{
	struct world_config config = {
		.seed = seed,
		.n_series = n_series,
		.surge_every = 5000,
		.daily = true,
		.lossy = true,
		.units = true,
		.false_alarms_per_day = 1,
	};
	_cleanup_(world_freep) struct world *w = NULL;
	struct month m = { 0 };

	if (world_new(&w, &config) < 0)
		return 1;
	m.world = w;
	for (unsigned day = 0; day < days; day++)
		run_day(w, &m, day, faults);
	printf("%u alarms in %u days of %" PRIu32 " series%s: %.2f a day, budget %g\n", m.alarms, days, n_series, faults ? " with faults" : "",
	       (double)m.alarms / days, config.false_alarms_per_day);
	if (faults)
		print_faults(&m);
	return m.alarms <= 2 * config.false_alarms_per_day * days ? 0 : 1;
}

int main(int argc, char *argv[])
{
	uint64_t days = 0, series = 20000, seed = 1;
	bool quiet = argc < 5 || streq(argv[4], "quiet"), faults = argc < 5 || streq(argv[4], "faults");
	int r;

	if (argc > 5 || (!quiet && !faults) || (argc > 1 && parse_u64(argv[1], &days) < 0) ||
	    (argc > 2 && (parse_u64(argv[2], &series) < 0 || series == 0)) || (argc > 3 && parse_u64(argv[3], &seed) < 0)) {
		fprintf(stderr, "usage: %s [DAYS [SERIES [SEED [quiet|faults]]]]\n", argv[0]);
		return 2;
	}
	days = MIN(days, 3650u);
	series = MIN(series, 1000000u);
	r = bench_cost();
	if (days > 0 && quiet)
		r |= bench_alarms((unsigned)days, (uint32_t)series, seed, false);
	if (days > 0 && faults)
		r |= bench_alarms((unsigned)days, (uint32_t)series, seed, true);
	return r;
}
