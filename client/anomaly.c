/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "anomaly.h"

bool anomalies_list(const struct options *o, struct json **ret_root, const struct json **ret_list)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	struct fields f = {};

	if (!parameters)
		return false;
	json_put_int(parameters, "limit", LINES_ALL);
	if (!call_joined(ret_root, o, "ListAnomalies", parameters))
		return false;
	*ret_list = field_array(&f, *ret_root, "anomalies");
	return fields_are_good(&f);
}

const struct json *anomaly_in(const struct json *list, uint64_t id, struct fields *f)
{
	for (size_t i = 0; i < json_length(list); i++)
		if ((uint64_t)field_int(f, json_at(list, i), "id") == id)
			return json_at(list, i);
	return NULL;
}

const struct json *anomaly_wanted(const struct json *list, uint64_t id, struct fields *f)
{
	const struct json *anomaly = anomaly_in(list, id, f);

	if (!fields_are_good(f))
		return NULL;
	if (!anomaly)
		log_error("No such anomaly is kept: %llu. See: stackctl anomalies", (unsigned long long)id);
	return anomaly;
}
