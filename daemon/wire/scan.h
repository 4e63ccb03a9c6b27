/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base.h"

/* The rules of JSON's grammar that json-c 0.16 to 0.18 lets pass: checks every token of text, and what may
 * follow a comma. Gives NULL and how many members all objects have together, else the reason (static string).
 */
const char *json_scan(const char *text, size_t size, size_t *ret_members);
