/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of keys: parsing, defaults, ranges and documentation all come from it. Private to conf/. */
#pragma once

#include "conf.h"

enum conf_type {
	CONF_NUMBER,   /* double */
	CONF_COUNT,    /* uint32_t */
	CONF_TIME,     /* uint64_t, microseconds */
	CONF_SIZE,     /* uint64_t, bytes */
	CONF_YES_NO,   /* bool */
	CONF_SOURCE,   /* enum conf_source */
	CONF_ONCPU,    /* bool: true is update-rq-clock */
	CONF_LEVEL,    /* int: enum log_level */
	CONF_PRESSURE, /* appended to conf.pressures */
	CONF_WATCHES,  /* appended to conf.watches */
};

struct conf_key {
	const char *section, *name;
	enum conf_type type;
	size_t offset;      /* in struct conf */
	const char *value;  /* the default, as the file spells it */
	double min, max;    /* in the unit of the type's field; both belong to the range */
	bool restart;       /* a reload cannot change it */
};

extern const struct conf_key conf_keys[];
extern const size_t n_conf_keys;

/* What may stand on the right, as "a number from 0.1 to 1000". */
#define CONF_EXPECT_MAX 160
char *conf_key_expects(const struct conf_key *key, char buf[static CONF_EXPECT_MAX]);

/* Sets the field from text; an empty text sets the default back (or empties the list). Gives -EINVAL for what is not such a
 * value and -ERANGE for one out of range, and then changes nothing. */
int conf_key_set(const struct conf_key *key, const char *text, struct conf *c);

bool conf_key_equal(const struct conf_key *key, const struct conf *a, const struct conf *b);
