/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "call.h"

static void check(struct fields *f, const char *key, int r)
{
	if (r <= 0 && !f->bad)
		f->bad = key;
}

const char *field_string(struct fields *f, const struct json *object, const char *key)
{
	const char *v = "";

	check(f, key, json_get_string(object, key, &v));
	return v;
}

long long field_int(struct fields *f, const struct json *object, const char *key)
{
	int64_t v = 0;

	check(f, key, json_get_int(object, key, &v));
	return v;
}

double field_float(struct fields *f, const struct json *object, const char *key)
{
	double v = 0;

	check(f, key, json_get_float(object, key, &v));
	return v;
}

bool field_bool(struct fields *f, const struct json *object, const char *key)
{
	bool v = false;

	check(f, key, json_get_bool(object, key, &v));
	return v;
}

const struct json *field_array(struct fields *f, const struct json *object, const char *key)
{
	const struct json *v = NULL;

	check(f, key, json_get_array(object, key, &v));
	return v;
}

const struct json *field_object(struct fields *f, const struct json *object, const char *key)
{
	const struct json *v = NULL;

	check(f, key, json_get_object(object, key, &v));
	return v;
}

enum metric field_metric(struct fields *f, const struct json *object, const char *key)
{
	const char *name = field_string(f, object, key);
	enum metric m = METRIC_ON_CPU;

	if (metric_from_string(name, &m) < 0)
		check(f, key, 0);
	return m;
}

uint64_t field_value(const struct json *values, enum metric m)
{
	uint64_t v = 0;
	int64_t change = 0;

	if (m >= METRIC_N) {
		uint64_t all[METRIC_N];

		for (enum metric part = 0; part < METRIC_N; part++)
			all[part] = field_value(values, part);
		return metric_value(all, m);
	}
	if (metric_is_signed(m)) {
		json_get_int(values, metric_on_wire(m), &change);
		return (uint64_t)change;
	}
	json_get_u64(values, metric_on_wire(m), &v);
	return v;
}

bool fields_are_good(const struct fields *f)
{
	if (!f->bad)
		return true;
	log_error("The answer of stackd lacks a good \"%s\": is it of another version?", f->bad);
	return false;
}
