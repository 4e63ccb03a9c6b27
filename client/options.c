/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "options.h"

#include <getopt.h>

#include "imports.h"
#include "render_svg.h"
#include "timestamp.h"
#include "wire.h"

#define NAME_MAX_LENGTH 4096        /* PATH_MAX: neither a path nor a unit is longer */
#define CGROUP_ROOT "/sys/fs/cgroup"

enum {
	ARG_VERSION = 0x100,
	ARG_NO_PAGER,
	ARG_NO_LEGEND,
	ARG_JSON,
	ARG_SOCKET,
	ARG_CGROUP,
	ARG_COMM,
	ARG_EXE,
	ARG_STACK,
	ARG_BY,
	ARG_FOR,
	ARG_REPORT,
	ARG_FORMAT,
	ARG_DIFF,
	ARG_ANOMALY,
	ARG_INCIDENT,
	ARG_CLUSTER,
	ARG_HOT_COLD,
	ARG_ICICLE,
	ARG_WIDTH,
	ARG_TITLE,
	ARG_INLINES,
	ARG_IMPORT,
	ARG_NAME,
	ARG_REMOVE,
	ARG_KERNEL,
	ARG_EVENT,
	ARG_EXACT,
	ARG_STEP,
	ARG_THREADS,
	ARG_TID,
};

/* stackd's figures change once a second. */
#define DELAY_DEFAULT_US USEC_PER_SEC
#define DELAY_LEAST_US (100 * USEC_PER_MSEC)
#define DELAY_MOST_US (3600 * USEC_PER_SEC)

#define STEP_LEAST_US (5 * USEC_PER_MSEC) /* of a map: 200 rows */

static const struct option long_options[] = {
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, ARG_VERSION },
	{ "no-pager", no_argument, NULL, ARG_NO_PAGER },
	{ "no-legend", no_argument, NULL, ARG_NO_LEGEND },
	{ "quiet", no_argument, NULL, 'q' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "full", no_argument, NULL, 'l' },
	{ "json", optional_argument, NULL, ARG_JSON },
	{ "socket", required_argument, NULL, ARG_SOCKET },
	{ "since", required_argument, NULL, 'S' },
	{ "until", required_argument, NULL, 'U' },
	{ "pid", required_argument, NULL, 'p' },
	{ "unit", required_argument, NULL, 'u' },
	{ "cgroup", required_argument, NULL, ARG_CGROUP },
	{ "comm", required_argument, NULL, ARG_COMM },
	{ "exe", required_argument, NULL, ARG_EXE },
	{ "metric", required_argument, NULL, 'm' },
	{ "type", required_argument, NULL, 't' },
	{ "stack", required_argument, NULL, ARG_STACK },
	{ "by", required_argument, NULL, ARG_BY },
	{ "lines", optional_argument, NULL, 'n' },
	{ "follow", no_argument, NULL, 'f' },
	{ "for", required_argument, NULL, ARG_FOR },
	{ "report", no_argument, NULL, ARG_REPORT },
	{ "format", required_argument, NULL, ARG_FORMAT },
	{ "output", required_argument, NULL, 'o' },
	{ "diff", required_argument, NULL, ARG_DIFF },
	{ "anomaly", required_argument, NULL, ARG_ANOMALY },
	{ "incident", required_argument, NULL, ARG_INCIDENT },
	{ "cluster", required_argument, NULL, ARG_CLUSTER },
	{ "hot-cold", no_argument, NULL, ARG_HOT_COLD },
	{ "icicle", no_argument, NULL, ARG_ICICLE },
	{ "inverted", no_argument, NULL, ARG_ICICLE },
	{ "width", required_argument, NULL, ARG_WIDTH },
	{ "title", required_argument, NULL, ARG_TITLE },
	{ "batch", no_argument, NULL, 'b' },
	{ "delay", required_argument, NULL, 'd' },
	{ "inlines", no_argument, NULL, ARG_INLINES },
	{ "import", required_argument, NULL, ARG_IMPORT },
	{ "name", required_argument, NULL, ARG_NAME },
	{ "remove", required_argument, NULL, ARG_REMOVE },
	{ "kernel", no_argument, NULL, ARG_KERNEL },
	{ "event", required_argument, NULL, ARG_EVENT },
	{ "exact", no_argument, NULL, ARG_EXACT },
	{ "step", required_argument, NULL, ARG_STEP },
	{ "threads", no_argument, NULL, ARG_THREADS },
	{ "tid", required_argument, NULL, ARG_TID },
	{ NULL },
};

const char *option_name(uint64_t bits)
{
	static const char *const names[] = {
		"--since", "--until", "--pid", "--unit", "--cgroup", "--comm", "--exe", "--metric",
		"--type", "--stack", "--by", "--lines", "--follow", "--for", "--report", "--format",
		"--output", "--diff", "--anomaly", "--hot-cold", "--icicle", "--width", "--title",
		"--incident", "--cluster", "--batch", "--delay", "--lines", "--inlines",
		"--import", "--name", "--remove", "--kernel", "--event", "--exact", "--step", "--threads", "--tid",
	};
	int bit = __builtin_ffsll((long long)bits);

	return bit > 0 && bit <= (int)ELEMENTS_OF(names) ? names[bit - 1] : "";
}

static bool take_time(struct options *o, const char *option, const char *value, uint64_t *ret_us)
{
	const char *reason;

	if (time_parse(value, o->now_us, ret_us, &reason) < 0) {
		log_error("Can't take \"%s\" as %s: %s.", value, option, reason);
		return false;
	}
	return true;
}

static bool take_pid(const char *value, const char *what, pid_t *ret)
{
	uint64_t pid;

	if (parse_u64(value, &pid) < 0 || pid == 0 || pid > PID_LIMIT) {
		log_error("\"%s\" is no %s id: a number from 1 to %d.", value, what, PID_LIMIT);
		return false;
	}
	*ret = pid;
	return true;
}

static bool take_name(const char *option, const char *value, const char **ret)
{
	size_t n = strlen(value);

	if (n == 0 || n > NAME_MAX_LENGTH) {
		log_error(n == 0 ? "%s is empty." : "%s is too long.", option);
		return false;
	}
	*ret = value;
	return true;
}

static bool take_cgroup(const char *value, const char **ret)
{
	size_t n = strlen(CGROUP_ROOT);

	if (strncmp(value, CGROUP_ROOT, n) == 0 && (value[n] == '/' || !value[n]))
		value = value[n] ? value + n : "/";
	if (*value != '/') {
		log_error("\"%s\" is no control group: a path such as /system.slice.", value);
		return false;
	}
	return take_name("--cgroup", value, ret);
}

static bool take_metric(const char *value, enum metric *ret)
{
	char names[256] = "";

	if (metric_from_string(value, ret) == 0)
		return true;
	for (enum metric m = 0; m < METRIC_ALL_N; m++) {
		size_t at = strlen(names);

		snprintf(names + at, sizeof(names) - at, "%s%s", m > 0 ? ", " : "", metric_to_string(m));
	}
	log_error("Unknown metric \"%s\": one of %s.", value, names);
	return false;
}

static bool take_type(const char *value, const char **ret)
{
	static const char *const types[][2] = {
		{ "spike", "spike" },
		{ "drop", "drop" },
		{ "level-shift", "level_shift" },
		{ "new-stack", "new_stack" },
		{ "vanished-stack", "vanished_stack" },
		{ "slow-growth", "slow_growth" },
		{ "cost-shift", "cost_shift" },
		{ "new-code", "new_code" },
	};

	for (size_t i = 0; i < ELEMENTS_OF(types); i++)
		if (streq(value, types[i][0]) || streq(value, types[i][1])) {
			*ret = types[i][1];
			return true;
		}
	log_error("Unknown type \"%s\": one of spike, drop, level-shift, new-stack, vanished-stack, slow-growth, cost-shift, new-code.", value);
	return false;
}

static bool parse_id(const char *s, const char *what, const char *verb, uint64_t *ret)
{
	if (strlen(s) != 16 || strspn(s, "0123456789abcdefABCDEF") != 16) {
		log_error("\"%s\" is no %s: 16 hexadecimal digits, as \"stackctl %s\" lists them.", s, what, verb);
		return false;
	}
	*ret = strtoull(s, NULL, 16);
	return true;
}

bool parse_stack_id(const char *s, uint64_t *ret)
{
	return parse_id(s, "stack", "stacks", ret);
}

bool parse_cluster_id(const char *s, uint64_t *ret)
{
	return parse_id(s, "cluster", "clusters", ret);
}

static bool take_by(const char *value, bool *ret_by_stack)
{
	if (!streq(value, "stack") && !streq(value, "function")) {
		log_error("Unknown --by=%s: stack or function.", value);
		return false;
	}
	*ret_by_stack = streq(value, "stack");
	return true;
}

static bool take_lines(const char *value, uint32_t *ret)
{
	uint64_t n;

	if (streq(value, "all")) {
		*ret = LINES_ALL;
		return true;
	}
	if (parse_u64(value, &n) < 0 || n > LINES_ALL) {
		log_error("\"%s\" is no number of lines: from 1 to %d, or \"all\".", value, LINES_ALL);
		return false;
	}
	*ret = n;
	return true;
}

static bool take_for(const char *value, uint64_t *ret_us)
{
	if (parse_timespan(value, ret_us) < 0 || *ret_us == 0 || *ret_us > INT64_MAX) {
		log_error("Can't take \"%s\" as a time span: such as 60s, 5min or \"1h 30min\".", value);
		return false;
	}
	return true;
}

static bool take_delay(const char *value, uint64_t *ret_us)
{
	if (parse_timespan(value, ret_us) < 0 || *ret_us < DELAY_LEAST_US || *ret_us > DELAY_MOST_US) {
		log_error("Can't take \"%s\" as a delay: from 100ms to 1h, such as 2 (seconds) or 500ms.", value);
		return false;
	}
	return true;
}

static bool take_step(const char *value, uint64_t *ret_us)
{
	if (parse_timespan(value, ret_us) < 0 || *ret_us < STEP_LEAST_US || *ret_us > USEC_PER_SEC || USEC_PER_SEC % *ret_us != 0) {
		log_error("Can't take \"%s\" as a step: from 5ms to 500ms, of which there are whole ones in a second, such as 20ms; or 1s.", value);
		return false;
	}
	return true;
}

static bool take_format(const char *value, enum flame_format *ret)
{
	if (format_from_string(value, ret) < 0) {
		log_error("Unknown --format=%s: folded, svg, html, speedscope, pprof or d3.", value);
		return false;
	}
	return true;
}

static bool take_number(const char *value, const char *what, const char *verb, uint64_t *ret)
{
	if (parse_u64(value, ret) < 0 || *ret == 0 || *ret > INT64_MAX) {
		log_error("\"%s\" is no %s: a number, as \"stackctl %s\" lists them.", value, what, verb);
		return false;
	}
	return true;
}

bool parse_incident_id(const char *s, uint64_t *ret)
{
	return take_number(s, "incident", "incidents", ret);
}

static bool take_width(const char *value, unsigned *ret)
{
	uint64_t n;

	if (parse_u64(value, &n) < 0 || n < SVG_WIDTH_LEAST || n > SVG_WIDTH_MOST) {
		log_error("\"%s\" is no width: from %d to %d pixels.", value, SVG_WIDTH_LEAST, SVG_WIDTH_MOST);
		return false;
	}
	*ret = n;
	return true;
}

static bool take_json(const char *value, bool is_terminal, enum json_mode *ret)
{
	if (!value)
		*ret = is_terminal ? JSON_PRETTY : JSON_SHORT;
	else if (streq(value, "pretty"))
		*ret = JSON_PRETTY;
	else if (streq(value, "short"))
		*ret = JSON_SHORT;
	else if (streq(value, "off"))
		*ret = JSON_OFF;
	else {
		log_error("Unknown --json=%s: pretty, short or off.", value);
		return false;
	}
	return true;
}

/* How flame draws. */
static bool take_picture(struct options *o, int c)
{
	switch (c) {
	case ARG_FORMAT:
		o->given |= OPTION_FORMAT;
		return take_format(optarg, &o->format);
	case 'o':
		o->given |= OPTION_OUTPUT;
		return take_name("--output", optarg, &o->output);
	case ARG_DIFF:
		o->given |= OPTION_DIFF;
		return take_name("--diff", optarg, &o->diff);
	case ARG_ANOMALY:
		o->given |= OPTION_ANOMALY;
		return take_number(optarg, "anomaly", "anomalies", &o->anomaly);
	case ARG_INCIDENT:
		o->given |= OPTION_INCIDENT;
		return parse_incident_id(optarg, &o->incident);
	case ARG_CLUSTER:
		o->given |= OPTION_CLUSTER;
		return parse_cluster_id(optarg, &o->cluster);
	case ARG_HOT_COLD:
		o->given |= OPTION_HOT_COLD;
		return true;
	case ARG_ICICLE:
		o->given |= OPTION_ICICLE;
		return true;
	case ARG_WIDTH:
		o->given |= OPTION_WIDTH;
		return take_width(optarg, &o->width);
	case ARG_INLINES:
		o->given |= OPTION_INLINES;
		return true;
	case ARG_TITLE:
		o->given |= OPTION_TITLE;
		return take_name("--title", optarg, &o->title);
	default:
		/* getopt has said what is wrong. */
		return false;
	}
}

/* Options that select what is shown: not every verb takes them. */
static bool take_selection(struct options *o, int c)
{
	switch (c) {
	/* What they say depends on when now is: take_times(). */
	case 'S':
		o->given |= OPTION_SINCE;
		o->since = optarg;
		return true;
	case 'U':
		o->given |= OPTION_UNTIL;
		o->until = optarg;
		return true;
	case 'p':
		o->given |= OPTION_PID;
		return take_pid(optarg, "process", &o->pid);
	case 'u':
		o->given |= OPTION_UNIT;
		return take_name("--unit", optarg, &o->unit);
	case ARG_CGROUP:
		o->given |= OPTION_CGROUP;
		return take_cgroup(optarg, &o->cgroup);
	case ARG_COMM:
		o->given |= OPTION_COMM;
		return take_name("--comm", optarg, &o->comm);
	case ARG_EXE:
		o->given |= OPTION_EXE;
		return take_name("--exe", optarg, &o->exe);
	case 'm':
		o->given |= OPTION_METRIC;
		return take_metric(optarg, &o->metric);
	case 't':
		o->given |= OPTION_TYPE;
		return take_type(optarg, &o->type);
	case ARG_STACK:
		o->given |= OPTION_STACK;
		return parse_stack_id(optarg, &o->stack);
	case ARG_BY:
		o->given |= OPTION_BY;
		return take_by(optarg, &o->by_stack);
	case 'n':
		o->given |= optarg ? OPTION_LINES : OPTION_SOURCES;
		return !optarg || take_lines(optarg, &o->lines);
	case 'f':
		o->given |= OPTION_FOLLOW;
		return true;
	case ARG_FOR:
		o->given |= OPTION_FOR;
		return take_for(optarg, &o->for_us);
	case ARG_KERNEL:
		o->given |= OPTION_KERNEL;
		return true;
	case ARG_EXACT:
		o->given |= OPTION_EXACT;
		return true;
	case ARG_THREADS:
		o->given |= OPTION_THREADS;
		return true;
	case ARG_TID:
		o->given |= OPTION_TID;
		return take_pid(optarg, "thread", &o->tid);
	case ARG_STEP:
		o->given |= OPTION_STEP;
		return take_step(optarg, &o->step_us);
	case ARG_REPORT:
		o->given |= OPTION_REPORT;
		return true;
	case 'b':
		o->given |= OPTION_BATCH;
		return true;
	case 'd':
		o->given |= OPTION_DELAY;
		return take_delay(optarg, &o->delay_us);
	default:
		return take_picture(o, c);
	}
}

static bool take_option(struct options *o, int c)
{
	switch (c) {
	case 'h':
		o->help = true;
		return true;
	case ARG_VERSION:
		o->version = true;
		return true;
	case ARG_NO_PAGER:
		o->no_pager = true;
		return true;
	case ARG_NO_LEGEND:
		o->no_legend = true;
		return true;
	case 'q':
		o->quiet = true;
		return true;
	case 'v':
		o->verbose = true;
		return true;
	case 'l':
		o->full = true;
		return true;
	case 'j':
		return take_json(NULL, o->term.is_terminal, &o->json);
	case ARG_JSON:
		return take_json(optarg, o->term.is_terminal, &o->json);
	case ARG_SOCKET:
		return take_name("--socket", optarg, &o->socket);
	case ARG_IMPORT:
		o->given |= OPTION_IMPORT;
		return take_name("--import", optarg, &o->import);
	case ARG_NAME:
		o->given |= OPTION_NAME;
		return take_name("--name", optarg, &o->name);
	case ARG_EVENT:
		o->given |= OPTION_EVENT;
		return take_name("--event", optarg, &o->event);
	case ARG_REMOVE:
		o->given |= OPTION_REMOVE;
		return take_name("--remove", optarg, &o->name);
	default:
		return take_selection(o, c);
	}
}

/* A word that would make sense as the number of --lines. A stack's id has more digits. */
static bool is_line_count(const char *word)
{
	size_t n = word ? strlen(word) : 0;

	return n > 0 && (streq(word, "all") || (n < 16 && strchr("-+0123456789", word[0]) && word[strspn(word + 1, "0123456789") + 1] == '\0'));
}

static bool take_times(struct options *o)
{
	if (o->given & OPTION_SINCE && !take_time(o, "--since", o->since, &o->since_us))
		return false;
	if (o->given & OPTION_UNTIL && !take_time(o, "--until", o->until, &o->until_us))
		return false;
	if ((o->given & OPTION_RANGE) == OPTION_RANGE && o->since_us >= o->until_us) {
		char since[FORMAT_MAX], until[FORMAT_MAX];

		log_error("The time range ends before it begins: --since is %s, --until is %s.",
		          time_format(since, o->since_us), time_format(until, o->until_us));
		return false;
	}
	if ((o->given & OPTION_RANGE) == OPTION_SINCE && o->since_us > o->now_us) {
		char since[FORMAT_MAX];

		log_error("The time range begins in the future: --since is %s.", time_format(since, o->since_us));
		return false;
	}
	return true;
}

bool options_parse(struct options *ret, int argc, char **argv, int *ret_first)
{
	struct options o = { .now_us = clock_realtime_us(), .width = SVG_WIDTH_DEFAULT, .delay_us = DELAY_DEFAULT_US };
	const char *path = getenv("STACKD_SOCKET");
	int c;

	term_setup(&o.term);
	o.socket = path && *path ? path : WIRE_SOCKET_PATH;
	while ((c = getopt_long(argc, argv, "hqvljS:U:p:u:m:t:n::fo:bd:", long_options, NULL)) >= 0) {
		/* Its number may be a word of its own, or not be there at all: then it asks for lines of the sources. */
		if (c == 'n' && !optarg && optind < argc && is_line_count(argv[optind]))
			optarg = argv[optind++];
		if (!take_option(&o, c)) {
			if (c == '?')
				log_error("Try \"stackctl --help\".");
			return false;
		}
	}
	if (o.given & OPTION_IMPORT && !o.help && !o.version && !import_choose(&o))
		return false;
	if (!take_times(&o))
		return false;
	if (o.given & OPTION_LINES && o.lines == 0 && !(o.given & OPTION_FOLLOW)) {
		log_error("--lines=0 makes sense with --follow only.");
		return false;
	}
	*ret = o;
	*ret_first = optind;
	return true;
}
