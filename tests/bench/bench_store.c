/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the store costs: time a tick and an addition, bytes a non-zero point by tier, latency of queries. The
 * data are like a busy machine's: on-CPU time in few samples of 20.4 ms, bursty; off-CPU times noisy, to the
 * nanosecond; few faults. */
#include "store.h"

#include <malloc.h>
#include <math.h>
#include <sys/mman.h>
#include <time.h>

#define T0 1700000000000000ULL
#define PERIOD 20408163ULL
#define PROCESSES 200

static uint64_t seed = 88172645463325252ULL;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Of this thread alone: what else runs on the machine does not count. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static double uniform(void)
{
	return (double)(next_random() >> 11) / 9007199254740992.0;
}

static double normal(void)
{
	return sqrt(-2 * log(uniform() + 1e-300)) * cos(6.283185307179586 * uniform());
}

/* A slice: either samples of the timer, or waits around a typical length of its own. */
struct load {
	store_ref process, stack;
	bool on_cpu;
	double rate;    /* part of the ticks in which it does something, samples a tick */
	double blocked, spread, runnable;
	uint32_t burst; /* ticks left */
};

static void generate(struct load *l, uint64_t values[static METRIC_N])
{
	memset(values, 0, METRIC_N * sizeof(*values));
	if (l->on_cpu) {
		double mean = l->burst ? 8 : l->rate;

		l->burst = l->burst ? l->burst - 1 : uniform() < 0.005 ? 5 : 0;
		for (double p = exp(-mean), x = uniform(), sum = p; x > sum && values[METRIC_HITS] < 49;
		     sum += p)
			p *= mean / (double)++values[METRIC_HITS];
		values[METRIC_ON_CPU] = values[METRIC_HITS] * PERIOD;
		if (uniform() < 0.1)
			values[METRIC_FAULTS_MINOR] = 1 + next_random() % 40;
	} else if (uniform() < l->rate) {
		values[METRIC_BLOCKED] = (uint64_t)(l->blocked * exp(l->spread * normal()));
		if (l->runnable > 0)
			values[METRIC_RUNNABLE] = (uint64_t)(l->runnable * exp(0.5 * normal()));
	}
}

static void make_loads(struct store *s, struct load *loads, uint32_t n, bool dense)
{
	for (uint32_t i = 0; i < n; i++) {
		struct store_process p = { .pid = (pid_t)(100 + i % PROCESSES),
			                   .exec_id = 1,
			                   .start_ns = i % PROCESSES,
			                   .comm = "app",
			                   .unit = "app.service",
			                   .cgroup = "/system.slice/app.service" };
		struct store_frame frames[24];
		char exe[32], names[24][32];

		snprintf(exe, sizeof(exe), "/usr/bin/app%u", i % PROCESSES);
		p.exe = exe;
		for (uint32_t k = 0; k < ELEMENTS_OF(frames); k++) {
			uint64_t id = k < 12 ? (uint64_t)i * 13 + k : 1000000 + k + i % 50 * 100;

			snprintf(names[k], sizeof(names[k]), "function_%llu", (unsigned long long)id % 5000);
			id = id % 5000 + 1;
			frames[k] = (struct store_frame) { .id = id, .display = names[k], .object = "app" };
		}
		loads[i] = (struct load) {
			.on_cpu = i % 2 == 0,
			.rate = dense ? 1e9 : 0.1 + 0.9 * uniform(),
			.blocked = pow(10, 5 + 3.5 * uniform()),
			.spread = 0.2 + 0.6 * uniform(),
			.runnable = i % 4 == 1 ? pow(10, 4 + 2 * uniform()) : 0,
		};
		if (dense && loads[i].on_cpu)
			loads[i].rate = 5;
		if (store_intern_process(s, &p, &loads[i].process) < 0 ||
		    store_intern_stack(s, (uint64_t)i * 0x9e3779b97f4a7c15ULL + 1, frames,
		                       ELEMENTS_OF(frames), false, &loads[i].stack) < 0) {
			fprintf(stderr, "no room for %u slices\n", n);
			exit(EXIT_FAILURE);
		}
	}
}

static void count_series(void *userdata, const struct store_series *series)
{
	(void)series;
	++*(uint64_t *)userdata;
}

static int count_slice(void *userdata, const struct store_slice_sum *sum)
{
	(void)sum;
	++*(uint64_t *)userdata;
	return 0;
}

static int count_point(void *userdata, const struct store_point *point)
{
	(void)point;
	++*(uint64_t *)userdata;
	return 0;
}

static int count_anomaly(void *userdata, const struct store_anomaly *anomaly)
{
	(void)anomaly;
	++*(uint64_t *)userdata;
	return 0;
}

struct costs {
	double add_ns, tick_us, tick_max_us;
};

static struct costs run_ticks(struct store *s, struct load *loads, uint32_t n, uint32_t ticks,
                              uint64_t *time_us)
{
	uint64_t (*values)[METRIC_N] = calloc(n, sizeof(*values));
	struct costs costs = {};
	uint64_t adds = 0, add_ns = 0, all_ns = 0, visited = 0;

	if (!values)
		exit(EXIT_FAILURE);
	for (uint32_t t = 0; t < ticks; t++) {
		struct store_tick tick = { .duration_ns = NSEC_PER_SEC, .load_milli = 900, .online_cpus = 2 };
		uint64_t start, added, ns;

		for (uint32_t i = 0; i < n; i++)
			generate(&loads[i], values[i]);
		*time_us += USEC_PER_SEC;
		tick.time_us = *time_us;
		start = cpu_ns();
		store_tick_begin(s, *time_us, NSEC_PER_SEC);
		for (uint32_t i = 0; i < n; i++)
			if (store_add(s, loads[i].process, loads[i].stack, values[i]) < 0)
				exit(EXIT_FAILURE);
		added = cpu_ns();
		store_tick_visit(s, 60, count_series, &visited);
		store_tick_commit(s, &tick);
		ns = cpu_ns() - start;
		add_ns += added - start;
		adds += n;
		all_ns += ns;
		costs.tick_max_us = MAX(costs.tick_max_us, (double)ns / 1000);
	}
	free(values);
	costs.add_ns = (double)add_ns / (double)adds;
	costs.tick_us = (double)all_ns / 1000 / ticks;
	return costs;
}

/* The arena is shared memory and not in it. */
static unsigned long resident_kib(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/status", "r");
	unsigned long kib = 0;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu", &kib) == 1)
			break;
	return kib;
}

static void print_bytes(const struct store *s, const char *name)
{
	struct store_status st;

	store_get_status(s, &st);
	for (int t = 0; t < STORE_TIERS; t++)
		printf("%s: tier %d: %llu points, %.2f bytes a point, %.1f min held\n", name, t,
		       (unsigned long long)st.points[t],
		       st.points[t] ? (double)st.bytes[t] / (double)st.points[t] : 0,
		       st.oldest_us[t] ? (double)(st.newest_us - st.oldest_us[t]) / 6e7 : 0);
}

#define TIMED(ms, call)                                                                     \
	double ms = 1e9;                                                                    \
	for (int _i = 0; _i < 5; _i++) {                                                    \
		uint64_t _start = cpu_ns();                                     \
		call;                                                                       \
		ms = MIN(ms, (double)(cpu_ns() - _start) / 1e6);                \
	}

static void print_queries(struct store *s, uint64_t now_us, const char *name)
{
	struct store_filter hour = { .since_us = now_us - 3600 * USEC_PER_SEC, .until_us = now_us - 1 };
	struct store_filter minutes = { .since_us = now_us - 900 * USEC_PER_SEC };
	struct store_filter moment = { .since_us = now_us - 10 * USEC_PER_SEC };
	uint64_t n = 0;

	TIMED(flame, (n = 0, store_visit_slices(s, &hour, count_slice, &n)));
	printf("%s: flame of the last hour: %.2f ms (%llu slices)\n", name, flame, (unsigned long long)n);
	TIMED(quarter, store_visit_slices(s, &minutes, count_slice, &n));
	printf("%s: flame of the last 15 minutes: %.2f ms\n", name, quarter);
	TIMED(top, store_visit_slices(s, &moment, count_slice, &n));
	printf("%s: top of the last 10 s: %.2f ms\n", name, top);
	TIMED(points, (n = 0, store_visit_points(s, &minutes, count_point, &n)));
	printf("%s: points of the last 15 minutes: %.2f ms (%llu)\n", name, points, (unsigned long long)n);
	TIMED(anomalies, (n = 0, store_visit_anomalies(s, &(struct store_filter) {}, count_anomaly, &n)));
	printf("%s: anomalies: %.3f ms (%llu)\n", name, anomalies, (unsigned long long)n);
}

static void bench(const char *name, size_t size, uint32_t n, uint32_t ticks, bool dense)
{
	static const struct store_config config = {
		.tiers = { { 1, 900 }, { 10, 14400 }, { 60, 172800 } },
		.series_state_size = 512, .global_state_size = 65536, .slices_per_series = 64,
	};
	void *arena = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct load *loads = calloc(n, sizeof(*loads));
	uint64_t time_us = T0, start;
	unsigned long resident;
	struct costs costs;
	struct store *s;
	bool reused;

	if (arena == MAP_FAILED || !loads)
		exit(EXIT_FAILURE);
	resident = resident_kib();
	if (store_open(&s, arena, size, &config, &reused) < 0)
		exit(EXIT_FAILURE);
	make_loads(s, loads, n, dense);
	costs = run_ticks(s, loads, n, ticks, &time_us);
	printf("%s: %.0f us a tick (most %.0f), %.0f ns an addition\n", name, costs.tick_us,
	       costs.tick_max_us, costs.add_ns);
	for (int i = 0; i < 1000; i++)
		store_add_anomaly(s, &(struct store_anomaly){
					     .time_us = time_us, .comm = "app", .exe = "/usr/bin/app" });
	print_bytes(s, name);
	print_queries(s, time_us, name);
	printf("%s: %lu KiB resident beyond the arena\n", name, resident_kib() - resident);
	s = store_close(s);
	start = cpu_ns();
	if (store_open(&s, arena, size, &config, &reused) < 0 || !reused)
		exit(EXIT_FAILURE);
	printf("%s: opening again: %.1f ms\n", name, (double)(cpu_ns() - start) / 1e6);
	store_close(s);
	munmap(arena, size);
	free(loads);
}

int main(void)
{
	/* Else what one run gives back the next gets from the heap, cleared and resident. */
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
	bench("1k slices, 64 MiB", 64UL << 20, 1000, 4000, false);
	bench("10k slices, 64 MiB", 64UL << 20, 10000, 4000, false);
	bench("10k slices, all active, 64 MiB", 64UL << 20, 10000, 300, true);
	return EXIT_SUCCESS;
}
