/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "call.h"

/* Asks for all anomalies that are kept. *ret_list points into *ret_root, which the caller frees. False: told on stderr. */
bool anomalies_list(const struct options *o, struct json **ret_root, const struct json **ret_list);
/* NULL: there is none of that number in the list. */
const struct json *anomaly_in(const struct json *list, uint64_t id, struct fields *f);
/* The same, and tells on stderr. */
const struct json *anomaly_wanted(const struct json *list, uint64_t id, struct fields *f);
