/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base.h"

static const struct {
	const char *name, *unit, *on_wire;
} metrics[METRIC_ALL_N] = {
	[METRIC_ON_CPU] = { "on-cpu", "ns", "on_cpu" },
	[METRIC_BLOCKED] = { "blocked", "ns", "blocked" },
	[METRIC_RUNNABLE] = { "runnable", "ns", "runnable" },
	[METRIC_FAULTS_MINOR] = { "faults-minor", "faults", "faults_minor" },
	[METRIC_FAULTS_MAJOR] = { "faults-major", "faults", "faults_major" },
	[METRIC_HITS] = { "hits", "hits", "hits" },
	[METRIC_BRK] = { "brk", "bytes", "brk" },
	[METRIC_MMAP] = { "mmap", "bytes", "mmap" },
	[METRIC_HEAP] = { "heap", "bytes", "heap" },
	[METRIC_RSS] = { "rss", "bytes", "rss" },
	[METRIC_FAULTS_FILE] = { "faults-file", "faults", "faults_file" },
	[METRIC_KMEM] = { "kmem", "bytes", "kmem" },
	[METRIC_OFF_CPU] = { "off-cpu", "ns", "off_cpu" },
	[METRIC_FAULTS_ANON] = { "faults-anon", "faults", "faults_anon" },
};

const char *metric_to_string(enum metric m)
{
	return (unsigned) m < METRIC_ALL_N ? metrics[m].name : NULL;
}

const char *metric_unit(enum metric m)
{
	return (unsigned) m < METRIC_ALL_N ? metrics[m].unit : NULL;
}

const char *metric_on_wire(enum metric m)
{
	return (unsigned) m < METRIC_ALL_N ? metrics[m].on_wire : NULL;
}

static bool same_name(const char *name, const char *s)
{
	for (; *name && *s; name++, s++)
		if (*name != *s && !(*name == '-' && *s == '_'))
			return false;
	return *name == *s;
}

int metric_from_string(const char *s, enum metric *ret)
{
	for (unsigned m = 0; m < METRIC_ALL_N; m++)
		if (same_name(metrics[m].name, s)) {
			*ret = m;
			return 0;
		}
	return -EINVAL;
}

uint64_t metric_value(const uint64_t values[static METRIC_N], enum metric m)
{
	uint64_t faults = values[METRIC_FAULTS_MINOR] + values[METRIC_FAULTS_MAJOR];

	if (m == METRIC_OFF_CPU)
		return values[METRIC_BLOCKED] + values[METRIC_RUNNABLE];
	if (m == METRIC_FAULTS_ANON)
		return faults - MIN(faults, values[METRIC_FAULTS_FILE]);
	return values[m];
}

struct scale {
	const char *names[6]; /* ends with NULL */
	double step;
};

static const struct scale *scale_of(const char *unit)
{
	static const struct scale time = { { "ns", "us", "ms", "s" }, 1000 }, count = { { "", "k", "M", "G", "T" }, 1000 },
	                          size = { { "B", "KiB", "MiB", "GiB", "TiB" }, 1024 };

	return unit && streq(unit, "ns") ? &time : unit && streq(unit, "bytes") ? &size : &count;
}

char *format_metric(char buf[static FORMAT_MAX], enum metric m, uint64_t value)
{
	const char *unit = metric_unit(m), *sign = metric_is_signed(m) && (int64_t)value < 0 ? "-" : "";
	const struct scale *scale = scale_of(unit);
	double v = (double)metric_magnitude(m, value);
	size_t i = 0;

	while (v >= 999.5 && scale->names[i + 1]) {
		v /= scale->step;
		i++;
	}
	snprintf(buf, FORMAT_MAX, "%s%.*f%s", sign, i == 0 || v >= 99.95 ? 0 : v < 9.995 ? 2 : 1, v, scale->names[i]);
	if (unit && scale->names[0][0] == 0) {
		size_t at = strlen(buf);

		snprintf(buf + at, FORMAT_MAX - at, " %s", unit);
	}
	return buf;
}
