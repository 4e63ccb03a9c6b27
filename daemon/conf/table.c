/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "table.h"

#include <stddef.h>

#define SECOND ((double)USEC_PER_SEC)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define MEGABYTE 1048576.0
#define GIGABYTE (1024 * MEGABYTE)

#define KEY(section_, name_, type_, field_, value_, ...) \
	{ .section = section_, .name = name_, .type = type_, .offset = offsetof(struct conf, field_), .value = value_, __VA_ARGS__ }
#define RANGE(min_, max_) .min = (min_), .max = (max_)
#define RESTART .restart = true

const struct conf_key conf_keys[] = {
	KEY("Gate", "OpenAbove", CONF_NUMBER, open_above, "5.0", RANGE(0.1, 1000)),
	KEY("Gate", "CloseBelow", CONF_NUMBER, close_below, "4.0", RANGE(0.05, 1000)),
	KEY("Gate", "CloseAfter", CONF_TIME, close_after_us, "10s", RANGE(0, HOUR)),
	KEY("Gate", "Cooldown", CONF_TIME, cooldown_us, "2s", RANGE(0, HOUR)),
	KEY("Gate", "BaselineHz", CONF_COUNT, baseline_hz, "5", RANGE(0, 100)),
	/* A pressure trigger can be registered only by the privileges that are dropped once the service is up. */
	KEY("Gate", "OpenOnPressure", CONF_PRESSURE, pressures, "", RESTART),

	KEY("Collect", "Source", CONF_SOURCE, source, "auto", RESTART),
	KEY("Collect", "OnCPUSource", CONF_ONCPU, update_rq_clock, "perf-event", RESTART),
	KEY("Collect", "SampleHz", CONF_COUNT, sample_hz, "49", RANGE(1, 1000)),
	KEY("Collect", "FaultHz", CONF_COUNT, fault_hz, "199", RANGE(1, 10000)),
	KEY("Collect", "FaultBaselineHz", CONF_COUNT, fault_baseline_hz, "11", RANGE(0, 1000)),
	KEY("Collect", "OffCPUStacksPerSec", CONF_COUNT, offcpu_stacks, "2000", RANGE(0, 1000000)),
	KEY("Collect", "KnownStacks", CONF_YES_NO, known_stacks, "yes"),
	KEY("Collect", "MemoryStacksPerSec", CONF_COUNT, memory_stacks, "100", RANGE(0, 1000000)),
	KEY("Collect", "MemoryBaselineStacksPerSec", CONF_COUNT, memory_baseline_stacks, "20", RANGE(0, 1000000)),
	KEY("Collect", "CPUBudgetClosed", CONF_NUMBER, cpu_budget_closed, "1", RANGE(0.1, 100)),
	KEY("Collect", "CPUBudgetOpen", CONF_NUMBER, cpu_budget_open, "10", RANGE(0.1, 100)),
	KEY("Collect", "HeapSampleBytes", CONF_COUNT, heap_sample_bytes, "524288", RANGE(0, 67108864)),
	KEY("Collect", "HeapBudget", CONF_COUNT, heap_budget, "50", RANGE(1, 100)),
	KEY("Collect", "WatchMemory", CONF_WATCHES, watches, ""),
	KEY("Collect", "MaxHeapBlocks", CONF_COUNT, max_heap_blocks, "65536", RANGE(1024, 4194304), RESTART),
	KEY("Collect", "StackCopyBytes", CONF_COUNT, stack_copy, "8192", RANGE(0, 61440), RESTART),
	KEY("Collect", "MaxStacks", CONF_COUNT, max_stacks, "16384", RANGE(1024, 1048576), RESTART),
	KEY("Collect", "MaxActiveStacks", CONF_COUNT, max_counts, "16384", RANGE(1024, 1048576), RESTART),
	KEY("Collect", "MaxProcesses", CONF_COUNT, max_processes, "16384", RANGE(256, 1048576), RESTART),
	KEY("Collect", "MappingLogSize", CONF_SIZE, mapping_log_size, "4M", RANGE(MEGABYTE, GIGABYTE), RESTART),
	KEY("Collect", "SourceLinesSize", CONF_SIZE, source_lines_size, "8M", RANGE(MEGABYTE, GIGABYTE), RESTART),

	KEY("Unwind", "UnwindTableSize", CONF_SIZE, unwind_table_size, "64M", RANGE(MEGABYTE, GIGABYTE), RESTART),
	KEY("Unwind", "UnwindDepth", CONF_COUNT, unwind_depth, "128", RANGE(16, 128)),

	KEY("Store", "StoreSize", CONF_SIZE, store_size, "64M", RANGE(8 * MEGABYTE, 16 * GIGABYTE), RESTART),
	KEY("Store", "Keep1s", CONF_TIME, keep_1s_us, "15min", RANGE(MINUTE, 24 * HOUR), RESTART),
	KEY("Store", "Keep10s", CONF_TIME, keep_10s_us, "4h", RANGE(10 * MINUTE, 7 * 24 * HOUR), RESTART),
	KEY("Store", "Keep1min", CONF_TIME, keep_1min_us, "48h", RANGE(HOUR, 90 * 24 * HOUR), RESTART),
	KEY("Store", "SlicesPerSeries", CONF_COUNT, slices_per_series, "64", RANGE(1, 1024), RESTART),
	KEY("Store", "MomentsSize", CONF_SIZE, moments_size, "4M", RANGE(MEGABYTE, GIGABYTE), RESTART),
	KEY("Store", "ThreadWaitsSize", CONF_SIZE, thread_waits_size, "4M", RANGE(MEGABYTE, GIGABYTE), RESTART),
	KEY("Store", "SaveOnStop", CONF_YES_NO, save_on_stop, "yes"),

	KEY("Detect", "FalseAlarmsPerDay", CONF_NUMBER, false_alarms_per_day, "1", RANGE(0.01, 10000)),

	KEY("Cluster", "MaxClusters", CONF_COUNT, max_clusters, "128", RANGE(8, 4096), RESTART),
	KEY("Cluster", "MaxIncidents", CONF_COUNT, max_incidents, "256", RANGE(16, 65536), RESTART),

	KEY("Alert", "AlertBurst", CONF_COUNT, alert_burst, "20", RANGE(1, 10000)),
	KEY("Alert", "AlertInterval", CONF_TIME, alert_interval_us, "1min", RANGE(SECOND, 24 * HOUR)),

	KEY("API", "MaxConnections", CONF_COUNT, max_connections, "64", RANGE(1, 4096)),
	KEY("API", "MaxConnectionsPerUser", CONF_COUNT, max_connections_uid, "16", RANGE(1, 4096)),
	KEY("API", "SubscriberQueue", CONF_COUNT, subscriber_queue, "256", RANGE(16, 65536)),
	KEY("API", "RequestTimeout", CONF_TIME, request_timeout_us, "30s", RANGE(SECOND, HOUR)),
	KEY("API", "UsersSeeOwn", CONF_YES_NO, users_see_own, "yes"),

	KEY("Log", "LogLevel", CONF_LEVEL, log_level, "info"),
};
const size_t n_conf_keys = ELEMENTS_OF(conf_keys);

static const char *const sources[] = { [CONF_SOURCE_AUTO] = "auto", [CONF_SOURCE_BPF] = "bpf", [CONF_SOURCE_PERF] = "perf" };

static const struct {
	const char *name;
	enum log_level level;
} levels[] = {
	{ "error", LOG_LEVEL_ERROR }, { "warning", LOG_LEVEL_WARNING }, { "notice", LOG_LEVEL_NOTICE },
	{ "info", LOG_LEVEL_INFO },   { "debug", LOG_LEVEL_DEBUG },
};

/* The kernel's own limits on a trigger's window. */
#define PRESSURE_WINDOW_MIN_US (USEC_PER_SEC / 2)
#define PRESSURE_WINDOW_MAX_US (10 * USEC_PER_SEC)
#define PRESSURE_TEXT_MAX 128

static void *field_of(const struct conf_key *key, struct conf *c)
{
	return (char *) c + key->offset;
}

static size_t field_size(const struct conf_key *key)
{
	switch (key->type) {
	case CONF_NUMBER: return sizeof(double);
	case CONF_COUNT: return sizeof(uint32_t);
	case CONF_TIME:
	case CONF_SIZE: return sizeof(uint64_t);
	case CONF_YES_NO:
	case CONF_ONCPU: return sizeof(bool);
	case CONF_SOURCE: return sizeof(enum conf_source);
	case CONF_LEVEL: return sizeof(int);
	case CONF_PRESSURE:
	case CONF_WATCHES: break;
	}
	return 0;
}

char *conf_key_expects(const struct conf_key *key, char buf[static CONF_EXPECT_MAX])
{
	char low[FORMAT_MAX], high[FORMAT_MAX];

	switch (key->type) {
	case CONF_NUMBER:
		snprintf(buf, CONF_EXPECT_MAX, "a number from %g to %g", key->min, key->max);
		break;
	case CONF_COUNT:
		snprintf(buf, CONF_EXPECT_MAX, "a whole number from %.0f to %.0f", key->min, key->max);
		break;
	case CONF_TIME:
		snprintf(buf, CONF_EXPECT_MAX, "a time span from %s to %s",
			 key->min > 0 ? format_timespan(low, (uint64_t) key->min) : "0",
			 format_timespan(high, (uint64_t) key->max));
		break;
	case CONF_SIZE:
		snprintf(buf, CONF_EXPECT_MAX, "a size from %.0fM to %.0fG", key->min / MEGABYTE, key->max / GIGABYTE);
		break;
	case CONF_YES_NO:
		copy_string(buf, CONF_EXPECT_MAX, "yes or no");
		break;
	case CONF_SOURCE:
		copy_string(buf, CONF_EXPECT_MAX, "auto, bpf or perf");
		break;
	case CONF_ONCPU:
		copy_string(buf, CONF_EXPECT_MAX, "perf-event or update-rq-clock");
		break;
	case CONF_LEVEL:
		copy_string(buf, CONF_EXPECT_MAX, "error, warning, notice, info or debug");
		break;
	case CONF_PRESSURE:
		copy_string(buf, CONF_EXPECT_MAX,
			    "a resource (cpu, io, memory), some or full (cpu: only some), a stall and a window of 500ms to 10s, "
			    "as \"io full 200ms 1s\"");
		break;
	case CONF_WATCHES:
		snprintf(buf, CONF_EXPECT_MAX, "a list of units or absolute paths of control groups, as \"nginx.service /system.slice/a.scope\", %d at most",
			 CONF_WATCHES_MAX);
		break;
	}
	return buf;
}

static int in_range(const struct conf_key *key, double value)
{
	return value >= key->min && value <= key->max ? 0 : -ERANGE;
}

static int parse_pressure(const char *text, struct conf_pressure *ret)
{
	char copy[PRESSURE_TEXT_MAX], *words[5], *save = NULL;
	struct conf_pressure p = {};
	size_t n = 0;
	int r;

	if (!copy_string(copy, sizeof(copy), text))
		return -EINVAL;
	for (char *w = strtok_r(copy, " \t", &save); w && n < ELEMENTS_OF(words); w = strtok_r(NULL, " \t", &save))
		words[n++] = w;
	if (n != 4)
		return -EINVAL;

	if (!streq(words[0], "cpu") && !streq(words[0], "io") && !streq(words[0], "memory"))
		return -EINVAL;
	copy_string(p.resource, sizeof(p.resource), words[0]);

	p.full = streq(words[1], "full");
	if (!p.full && !streq(words[1], "some"))
		return -EINVAL;
	/* The kernel does not account it for the whole system: such a trigger would never fire. */
	if (p.full && streq(p.resource, "cpu"))
		return -EINVAL;

	r = parse_timespan(words[2], &p.stall_us);
	if (r < 0)
		return r;
	r = parse_timespan(words[3], &p.window_us);
	if (r < 0)
		return r;
	if (p.window_us < PRESSURE_WINDOW_MIN_US || p.window_us > PRESSURE_WINDOW_MAX_US || p.stall_us == 0 ||
	    p.stall_us > p.window_us)
		return -ERANGE;

	*ret = p;
	return 0;
}

static int set_pressure(const char *text, struct conf *c)
{
	struct conf_pressure p;
	size_t i;
	int r;

	if (!*text) {
		memset(c->pressures, 0, sizeof(c->pressures));
		c->n_pressures = 0;
		return 0;
	}

	r = parse_pressure(text, &p);
	if (r < 0)
		return r;

	/* One trigger per resource and kind, the last wins; so the array, which has a place for each, cannot overflow. */
	for (i = 0; i < c->n_pressures; i++)
		if (streq(c->pressures[i].resource, p.resource) && c->pressures[i].full == p.full)
			break;
	c->pressures[i] = p;
	c->n_pressures = MAX(c->n_pressures, i + 1);
	return 0;
}

/* All of a line, or nothing. */
static int set_watches(const char *text, struct conf *c)
{
	_cleanup_free_ char *copy = strdup(text);
	char (*names)[WORKLOAD_NAME_SIZE] = c->watches, name[WORKLOAD_NAME_SIZE], *save = NULL;
	size_t n = c->n_watches, k;
	int r;

	if (!copy)
		return -ENOMEM;
	if (!*text)
		n = 0;
	for (char *w = strtok_r(copy, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
		r = *w == '/' ? parse_cgroup(w, name) : parse_unit(w, name);
		if (r < 0)
			return r;
		for (k = 0; k < n && !streq(names[k], name); k++)
			;
		if (k == CONF_WATCHES_MAX)
			return -ERANGE;
		copy_string(names[k], sizeof(names[k]), name);
		n = MAX(n, k + 1);
	}
	c->n_watches = n;
	return 0;
}

static int set_count(const struct conf_key *key, const char *text, void *field)
{
	uint64_t v;
	int r;

	r = parse_u64(text, &v);
	if (r >= 0)
		r = in_range(key, (double) v);
	if (r >= 0)
		*(uint32_t *) field = (uint32_t) v;
	return r;
}

static int set_number(const struct conf_key *key, const char *text, void *field)
{
	double v;
	int r;

	r = parse_double(text, &v);
	if (r >= 0)
		r = in_range(key, v);
	if (r >= 0)
		*(double *) field = v;
	return r;
}

static int set_quantity(const struct conf_key *key, const char *text, void *field)
{
	uint64_t v;
	int r;

	r = key->type == CONF_TIME ? parse_timespan(text, &v) : parse_size(text, &v);
	if (r >= 0)
		r = in_range(key, (double) v);
	if (r >= 0)
		*(uint64_t *) field = v;
	return r;
}

static int set_source(const char *text, void *field)
{
	for (size_t i = 0; i < ELEMENTS_OF(sources); i++)
		if (streq(text, sources[i])) {
			*(enum conf_source *) field = (enum conf_source) i;
			return 0;
		}
	return -EINVAL;
}

static int set_oncpu(const char *text, void *field)
{
	bool rq_clock = streq(text, "update-rq-clock");

	if (!rq_clock && !streq(text, "perf-event"))
		return -EINVAL;
	*(bool *) field = rq_clock;
	return 0;
}

static int set_level(const char *text, void *field)
{
	for (size_t i = 0; i < ELEMENTS_OF(levels); i++)
		if (streq(text, levels[i].name)) {
			*(int *) field = levels[i].level;
			return 0;
		}
	return -EINVAL;
}

int conf_key_set(const struct conf_key *key, const char *text, struct conf *c)
{
	void *field = field_of(key, c);
	bool yes;
	int r;

	if (key->type == CONF_PRESSURE)
		return set_pressure(text, c);
	if (key->type == CONF_WATCHES)
		return set_watches(text, c);
	if (!*text)
		text = key->value;

	switch (key->type) {
	case CONF_NUMBER: return set_number(key, text, field);
	case CONF_COUNT: return set_count(key, text, field);
	case CONF_TIME:
	case CONF_SIZE: return set_quantity(key, text, field);
	case CONF_YES_NO:
		r = parse_bool(text, &yes);
		if (r >= 0)
			*(bool *) field = yes;
		return r;
	case CONF_SOURCE: return set_source(text, field);
	case CONF_ONCPU: return set_oncpu(text, field);
	case CONF_LEVEL: return set_level(text, field);
	case CONF_PRESSURE:
	case CONF_WATCHES: break;
	}
	return -EINVAL;
}

bool conf_key_equal(const struct conf_key *key, const struct conf *a, const struct conf *b)
{
	if (key->type == CONF_PRESSURE) {
		if (a->n_pressures != b->n_pressures)
			return false;
		for (size_t i = 0; i < a->n_pressures; i++) {
			const struct conf_pressure *p = a->pressures + i, *q = b->pressures + i;

			if (!streq(p->resource, q->resource) || p->full != q->full || p->stall_us != q->stall_us ||
			    p->window_us != q->window_us)
				return false;
		}
		return true;
	}
	if (key->type == CONF_WATCHES) {
		if (a->n_watches != b->n_watches)
			return false;
		for (size_t i = 0; i < a->n_watches; i++)
			if (!streq(a->watches[i], b->watches[i]))
				return false;
		return true;
	}
	return memcmp((const char *) a + key->offset, (const char *) b + key->offset, field_size(key)) == 0;
}
