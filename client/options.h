/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "formats.h"
#include "term.h"

#define PID_LIMIT (4 * 1024 * 1024) /* PID_MAX_LIMIT of the kernel */

enum json_mode { JSON_OFF, JSON_SHORT, JSON_PRETTY };

/* One bit for each option that not every verb takes. */
enum option_bits {
	OPTION_SINCE = 1 << 0,
	OPTION_UNTIL = 1 << 1,
	OPTION_PID = 1 << 2,
	OPTION_UNIT = 1 << 3,
	OPTION_CGROUP = 1 << 4,
	OPTION_COMM = 1 << 5,
	OPTION_EXE = 1 << 6,
	OPTION_METRIC = 1 << 7,
	OPTION_TYPE = 1 << 8,
	OPTION_STACK = 1 << 9,
	OPTION_BY = 1 << 10,
	OPTION_LINES = 1 << 11,
	OPTION_FOLLOW = 1 << 12,
	OPTION_FOR = 1 << 13,
	OPTION_REPORT = 1 << 14,
	OPTION_FORMAT = 1 << 15,
	OPTION_OUTPUT = 1 << 16,
	OPTION_DIFF = 1 << 17,
	OPTION_ANOMALY = 1 << 18,
	OPTION_HOT_COLD = 1 << 19,
	OPTION_ICICLE = 1 << 20,
	OPTION_WIDTH = 1 << 21,
	OPTION_TITLE = 1 << 22,
	OPTION_INCIDENT = 1 << 23,
	OPTION_CLUSTER = 1 << 24,
	OPTION_BATCH = 1 << 25,
	OPTION_DELAY = 1 << 26,
	OPTION_SOURCES = 1 << 27, /* --lines without a number */
	OPTION_INLINES = 1 << 28,
	OPTION_IMPORT = 1 << 29,
	OPTION_NAME = 1 << 30,
	OPTION_REMOVE = 1U << 31,
	OPTION_KERNEL = 1ULL << 32,
	OPTION_EVENT = 1ULL << 33,
	OPTION_EXACT = 1ULL << 34,
	OPTION_STEP = 1ULL << 35,
	OPTION_THREADS = 1ULL << 36,
	OPTION_TID = 1ULL << 37,
	/* Each asks for what samples taken in the window say. */
	OPTION_SAMPLES = OPTION_EXACT | OPTION_THREADS | OPTION_TID,
	OPTION_PICTURE = OPTION_FORMAT | OPTION_OUTPUT | OPTION_ICICLE | OPTION_WIDTH | OPTION_TITLE,
	/* Each asks flame for what changed; together they make no sense. */
	OPTION_CHANGED = OPTION_DIFF | OPTION_ANOMALY | OPTION_INCIDENT | OPTION_CLUSTER,
	OPTION_RANGE = OPTION_SINCE | OPTION_UNTIL,
	OPTION_FILTER = OPTION_RANGE | OPTION_PID | OPTION_UNIT | OPTION_CGROUP | OPTION_COMM | OPTION_EXE,
};

#define LINES_ALL 10000 /* as many as stackd gives */

struct options {
	uint64_t given; /* of enum option_bits */
	bool help, version, no_pager, no_legend, quiet, verbose, full;
	enum json_mode json;
	const char *socket;
	const char *unit, *cgroup, *comm, *exe;
	pid_t pid, tid;
	const char *since, *until; /* as they were given */
	uint64_t since_us, until_us, for_us, delay_us, step_us;
	uint64_t stack;
	enum metric metric;
	const char *type; /* as on the wire: "level_shift" */
	bool by_stack;
	uint32_t lines;
	enum flame_format format;
	const char *output, *diff, *title;
	const char *import; /* NULL: stackd itself is asked */
	const char *name;   /* of --name or --remove */
	const char *event;  /* of perf, as it calls it */
	uint64_t recorded_since_us, recorded_until_us; /* all of the import */
	bool recorded_timed;                           /* false: these mean nothing */
	char served[64];                               /* the import's socket: of import_serve() */
	uint64_t anomaly, incident, cluster;
	unsigned width; /* pixels */
	uint64_t now_us; /* with an import the end of it */
	struct term term;
};

/* Reorders argv so that what is no option comes last; *ret_first is the index of the first of these. Tells
 * the user what is wrong and gives false. Strings live as long as argv and the environment. */
bool options_parse(struct options *ret, int argc, char **argv, int *ret_first);

/* "--since" for the lowest bit of set that is in bits. */
const char *option_name(uint64_t bits);

/* Validate a stack's, a cluster's or an incident's id as a person types it, and say what is wrong. */
bool parse_stack_id(const char *s, uint64_t *ret);
bool parse_cluster_id(const char *s, uint64_t *ret);
bool parse_incident_id(const char *s, uint64_t *ret);
