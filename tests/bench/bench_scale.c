/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a tick costs the daemon against the number of processes, of stacks that live and of stacks that are new, through the real pipeline,
 * store, detector and incidents: all but the kernel's part, the names and the API's sockets; and a flame of all that the store has.
 *
 * A machine of services: each process belongs to one of 200 units at most and runs the stacks of its program, 24 frames deep, of which the outer
 * ones are common. Every other stack has samples of 20 ms, the rest waits. "MiB more" is resident memory beyond the arena. */
#include "alert.h"
#include "detect.h"
#include "incidents.h"
#include "pipeline.h"
#include "store.h"

#include <malloc.h>
#include <sys/mman.h>
#include <time.h>

#define BEGIN_US 1700000000000000ULL
#define DEPTH 24
#define UNITS 200
#define PERIOD_NS 20408163ULL
#define NAMES 8192
#define WARM_UP_TICKS 20

struct scale {
	const char *what;
	unsigned cpus, processes, live, fresh; /* in each tick */
	unsigned ticks;
};

struct machine {
	struct scale scale;
	uint64_t random, tick, fresh_made;
	struct symbols_process known;
};

static char names[NAMES][24];

static uint64_t draw(struct machine *m, uint64_t below)
{
	m->random = m->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (m->random >> 33) % below;
}

/* Of this thread alone: what else runs on the machine does not count. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static struct collect_process process_of(uint64_t i)
{
	return (struct collect_process){ .pid = (pid_t)(1000 + i), .exec_id = 1, .start_ns = 5000 + i, .cgroup_id = 1 + i % UNITS, .comm = "app" };
}

static uint64_t sample_stack(struct machine *m, const struct collect_sink *sink, void *userdata, uint64_t stack, unsigned process)
{
	struct collect_sample s = { .raw_id = 1 + stack, .process = process_of(process) };

	if (stack % 2 == 0) {
		s.values[METRIC_HITS] = 1 + draw(m, 3);
		s.values[METRIC_ON_CPU] = s.values[METRIC_HITS] * PERIOD_NS;
	} else {
		s.values[METRIC_BLOCKED] = 100000 + draw(m, 10000000);
		s.values[METRIC_RUNNABLE] = draw(m, 3) == 0 ? draw(m, 100000) : 0;
	}
	sink->sample(userdata, &s);
	return s.values[METRIC_ON_CPU];
}

static int machine_tick(void *userdata, const struct collect_sink *sink, void *sink_userdata)
{
	struct machine *m = userdata;
	const struct scale *scale = &m->scale;

	sink->begin(sink_userdata, &(struct collect_tick_info){
		.time_us = BEGIN_US + (m->tick + 1) * USEC_PER_SEC,
		.duration_ns = NSEC_PER_SEC,
		.load = 0.5,
		.online_cpus = scale->cpus,
	});
	for (unsigned i = 0; i < scale->live; i++) {
		sink->soon(sink_userdata, 1 + MIN(i + 8, scale->live - 1));
		sample_stack(m, sink, sink_userdata, i, i % scale->processes);
	}
	for (unsigned i = 0; i < scale->fresh; i++)
		sample_stack(m, sink, sink_userdata, scale->live + m->fresh_made++, (unsigned)draw(m, scale->processes));
	for (unsigned i = 0; i < scale->processes; i++)
		sink->total(sink_userdata, &(struct collect_total){
			.process = process_of(i), .threads = 1, .values = { [METRIC_ON_CPU] = PERIOD_NS, [METRIC_BLOCKED] = NSEC_PER_SEC - PERIOD_NS } });
	m->tick++;
	return 0;
}

static int machine_process(void *userdata, const struct collect_process *p, const struct symbols_process **ret, uint64_t *ret_start_us)
{
	struct machine *m = userdata;
	unsigned unit = (unsigned)(p->pid - 1000) % UNITS;

	m->known = (struct symbols_process){ .identified = true, .settled = true, .comm = "app" };
	snprintf(m->known.exe, sizeof(m->known.exe), "/usr/bin/app%u", unit);
	snprintf(m->known.unit, sizeof(m->known.unit), "app%u.service", unit);
	snprintf(m->known.cgroup, sizeof(m->known.cgroup), "/system.slice/app%u.service", unit);
	*ret = &m->known;
	*ret_start_us = BEGIN_US;
	return 0;
}

static int machine_stack(void *userdata _unused_, uint64_t raw_id, struct symbols_frame frames[static SYMBOLS_FRAMES_MAX], size_t *ret_n,
			 uint64_t *ret_id, bool *ret_truncated)
{
	for (unsigned i = 0; i < DEPTH; i++) {
		uint64_t function = i < DEPTH / 2 ? (raw_id * 13 + i * i) % NAMES : raw_id % 50 * DEPTH + i;

		frames[i] = (struct symbols_frame){ .id = 1 + function, .kind = FRAME_USER, .function = names[function], .object = "app", .display = names[function] };
	}
	*ret_n = DEPTH;
	*ret_id = hash64(&raw_id, sizeof(raw_id), 0);
	*ret_truncated = false;
	return 0;
}

static void ignore_anomaly(void *userdata _unused_, const struct store_anomaly *anomaly _unused_)
{
}

static int ignore_sum(void *userdata _unused_, const struct store_slice_sum *sum _unused_)
{
	return 0;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void give_up(const char *what, int r)
{
	fprintf(stderr, "bench_scale: %s: %s\n", what, strerror(-r));
	exit(EXIT_FAILURE);
}

/* Of the process, without the arena. */
static double resident_mib(void *arena, size_t size)
{
	static unsigned char in_core[(64 << 20) / 4096];
	unsigned long total, resident;
	size_t pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f || fscanf(f, "%lu %lu", &total, &resident) != 2 || mincore(arena, size, in_core) < 0)
		give_up("/proc/self/statm", -EIO);
	fclose(f);
	for (size_t i = 0; i < size / 4096; i++)
		pages += in_core[i] & 1;
	return ((double)resident - (double)pages) * 4096 / (1 << 20);
}

static void run(const struct scale *scale, size_t store_size)
{
	const struct store_config store_config = {
		.tiers = { { 1, 900 }, { 10, 14400 }, { 60, 172800 } },
		.series_state_size = (uint32_t)detect_series_state_size(),
		.global_state_size = (uint32_t)detect_global_state_size(),
		.slices_per_series = 64,
	};
	static const struct incidents_config incidents_config = { .max_clusters = 128, .max_incidents = 256 };
	static const struct detect_config detect_config = { .false_alarms_per_day = 1 };
	struct machine machine = { .scale = *scale, .random = 42 };
	const struct tick_source source = { machine_tick, machine_process, machine_stack, &machine };
	struct pipeline_config config = { .max_stacks = 16384, .memory_bytes = 1ULL << 34, .source = &source };
	struct pipeline_rooms rooms = {};
	struct pipeline *pipeline;
	struct store_status status;
	uint64_t cost_ns[1024], flame_ns;
	double before_mib;
	bool reused;
	int r;
	void *arena = mmap(NULL, store_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (arena == MAP_FAILED)
		give_up("arena", -errno);
	malloc_trim(0);
	before_mib = resident_mib(arena, store_size);
	if ((r = store_open(&rooms.store, arena, store_size, &store_config, &reused)) < 0 ||
	    (r = detect_new(&rooms.detect, &detect_config, store_global_state(rooms.store))) < 0 ||
	    (r = incidents_new(&rooms.incidents, &incidents_config, rooms.store, NULL)) < 0 || (r = pipeline_new(&pipeline, &rooms, &config)) < 0)
		give_up(scale->what, r);
	for (unsigned i = 0; i < WARM_UP_TICKS + scale->ticks; i++) {
		uint64_t before = cpu_ns();

		r = pipeline_tick(pipeline, BEGIN_US + (i + 1) * USEC_PER_SEC, ignore_anomaly, NULL);
		if (r < 0)
			give_up("tick", r);
		if (i >= WARM_UP_TICKS)
			cost_ns[i - WARM_UP_TICKS] = cpu_ns() - before;
	}
	qsort(cost_ns, scale->ticks, sizeof(*cost_ns), by_size);
	flame_ns = cpu_ns();
	store_visit_slices(rooms.store, &(struct store_filter){ .since_us = 1 }, ignore_sum, NULL);
	flame_ns = cpu_ns() - flame_ns;
	store_get_status(rooms.store, &status);
	printf("%-24s %5u %7u %6u %5u %9.2f %7.2f %9.2f %10.1f %10llu %8llu\n", scale->what, scale->cpus, scale->processes, scale->live, scale->fresh,
	       (double)cost_ns[scale->ticks / 2] / 1e6, (double)cost_ns[scale->ticks - 1] / 1e6, (double)flame_ns / 1e6, resident_mib(arena, store_size) - before_mib,
	       (unsigned long long)status.reclaimed_stacks, (unsigned long long)status.full);
	fflush(stdout);
	pipeline_free(pipeline);
	incidents_free(rooms.incidents);
	detect_free(rooms.detect);
	store_close(rooms.store);
	munmap(arena, store_size);
}

int main(void)
{
	static const struct scale scales[] = {
		{ "a small server", 2, 100, 200, 1, 200 },
		{ "a busy one", 8, 500, 1000, 5, 200 },
		{ "10,000 live stacks", 8, 500, 10000, 0, 200 },
		{ "30,000 live stacks", 8, 500, 30000, 0, 100 },
		{ "a million stacks a day", 8, 500, 1000, 12, 200 },
		{ "100 new ones a second", 8, 500, 1000, 100, 200 },
		{ "1,000 new ones a second", 8, 500, 1000, 1000, 100 },
		{ "10,000 processes", 64, 10000, 10000, 12, 100 },
		{ "100,000 processes", 256, 100000, 10000, 12, 50 },
	};
	for (size_t i = 0; i < NAMES; i++)
		snprintf(names[i], sizeof(names[i]), "function_%zu", i);
	printf("%-24s %5s %7s %6s %5s %9s %7s %9s %10s %10s %8s\n", "machine", "CPUs", "procs", "live", "new", "tick, ms", "most", "flame, ms", "MiB more",
	       "reclaimed", "refused");
	for (size_t i = 0; i < ELEMENTS_OF(scales); i++)
		run(&scales[i], 64 << 20);
	return EXIT_SUCCESS;
}
