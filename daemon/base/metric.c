/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base.h"

static const struct {
	const char *name, *unit;
} metrics[METRIC_ALL_N] = {
	[METRIC_ON_CPU] = { "on-cpu", "ns" },
	[METRIC_BLOCKED] = { "blocked", "ns" },
	[METRIC_RUNNABLE] = { "runnable", "ns" },
	[METRIC_FAULTS_MINOR] = { "faults-minor", "faults" },
	[METRIC_FAULTS_MAJOR] = { "faults-major", "faults" },
	[METRIC_HITS] = { "hits", "hits" },
	[METRIC_OFF_CPU] = { "off-cpu", "ns" },
};

const char *metric_to_string(enum metric m)
{
	return (unsigned) m < METRIC_ALL_N ? metrics[m].name : NULL;
}

const char *metric_unit(enum metric m)
{
	return (unsigned) m < METRIC_ALL_N ? metrics[m].unit : NULL;
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

char *format_metric(char buf[static FORMAT_MAX], enum metric m, uint64_t value)
{
	static const char *const ns_units[] = { "ns", "us", "ms", "s" };
	static const char *const count_units[] = { "", "k", "M", "G", "T" };
	bool ns = (unsigned) m < METRIC_ALL_N && streq(metrics[m].unit, "ns");
	size_t n_units = ns ? ELEMENTS_OF(ns_units) : ELEMENTS_OF(count_units), unit = 0;
	double v = value;

	while (v >= 999.5 && unit + 1 < n_units) {
		v /= 1000;
		unit++;
	}
	if (unit == 0)
		snprintf(buf, FORMAT_MAX, "%.0f%s", v, ns ? "ns" : "");
	else
		snprintf(buf, FORMAT_MAX, "%.*f%s", v < 9.995 ? 2 : v < 99.95 ? 1 : 0, v, ns ? ns_units[unit] : count_units[unit]);
	if (!ns && (unsigned) m < METRIC_ALL_N) {
		size_t at = strlen(buf);

		snprintf(buf + at, FORMAT_MAX - at, " %s", metrics[m].unit);
	}
	return buf;
}
