/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replay.h"

#include <fcntl.h>
#include <getopt.h>

#include "folded.h"
#include "importing.h"
#include "reading.h"
#include "recorded.h"
#include "report.h"

#define LINE_SIZE_MAX (256U << 10) /* of a folded stack; frames beyond are left out */
#define FALSE_ALARMS_MAX 100000

struct options {
	const char *path;
	bool folded, report, verify, import;
	double false_alarms_per_day;
	struct stack_options stack;
};

static void help(void)
{
	puts("stackd replay [OPTIONS...] FILE\n"
	     "\n"
	     "Reads what stackd record or perf has recorded: a file of theirs, the text of perf script,\n"
	     "or folded stacks. Needs no daemon. - is the standard input.\n"
	     "\n"
	     "  -h --help              Show this help\n"
	     "     --folded            Print folded stacks: comm;outermost;...;innermost samples\n"
	     "     --report            Print what stackd would have told: anomalies and incidents\n"
	     "     --import            Print what stackctl import keeps: history, anomalies, clusters\n"
	     "     --verify            Of stackd record: compare series and scores with those it computed\n"
	     "     --event=NAME        Of samples of this event; else of the event that comes first,\n"
	     "                         of a report all\n"
	     "     --metric=METRIC     Add up a metric instead: on-cpu, blocked, runnable, off-cpu (ns;\n"
	     "                         waits need sched:sched_switch), faults-minor, faults-major\n"
	     "     --periods           Add up periods (ns, cycles) instead of samples\n"
	     "     --false-alarms-per-day=NUMBER  That a report may have; 100");
}

static bool is_wait(enum metric m)
{
	return m == METRIC_BLOCKED || m == METRIC_RUNNABLE || m == METRIC_OFF_CPU;
}

static bool is_of_perf(enum metric m)
{
	return m == METRIC_ON_CPU || m == METRIC_FAULTS_MINOR || m == METRIC_FAULTS_MAJOR || is_wait(m);
}

/* 1: go on; 0: done; negative: wrong usage, and said so. */
static int parse_arguments(int argc, char *argv[], struct options *ret)
{
	enum { FOLDED = 256, REPORT, VERIFY, IMPORT, EVENT, METRIC, PERIODS, ALARMS };
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "folded", no_argument, NULL, FOLDED },
		{ "report", no_argument, NULL, REPORT },
		{ "verify", no_argument, NULL, VERIFY },
		{ "import", no_argument, NULL, IMPORT },
		{ "event", required_argument, NULL, EVENT },
		{ "metric", required_argument, NULL, METRIC },
		{ "periods", no_argument, NULL, PERIODS },
		{ "false-alarms-per-day", required_argument, NULL, ALARMS },
		{},
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
		switch (c) {
		case 'h':
			help();
			return 0;
		case FOLDED:
			ret->folded = true;
			break;
		case REPORT:
			ret->report = true;
			break;
		case VERIFY:
			ret->verify = true;
			break;
		case IMPORT:
			ret->import = true;
			break;
		case EVENT:
			ret->stack.event = optarg;
			break;
		case METRIC:
			if (metric_from_string(optarg, &ret->stack.metric) < 0) {
				log_error("--metric=%s: no such metric, such as on-cpu, blocked, runnable, off-cpu, faults-minor", optarg);
				return -EINVAL;
			}
			break;
		case PERIODS:
			ret->stack.periods = true;
			break;
		case ALARMS:
			if (parse_double(optarg, &ret->false_alarms_per_day) < 0 || ret->false_alarms_per_day < 0.01 ||
			    ret->false_alarms_per_day > FALSE_ALARMS_MAX) {
				log_error("--false-alarms-per-day=%s: not a number from 0.01 to %d", optarg, FALSE_ALARMS_MAX);
				return -EINVAL;
			}
			break;
		default:
			return -EINVAL; /* getopt_long() has said why */
		}
	if (argc - optind != 1) {
		log_error("replay takes one FILE; try stackd replay --help");
		return -EINVAL;
	}
	if (ret->folded + ret->report + ret->verify + ret->import != 1) {
		log_error("replay prints either --folded stacks, a --report or an --import, or does --verify a recording");
		return -EINVAL;
	}
	if (ret->stack.metric != METRIC_ALL_N && (ret->report || ret->stack.periods)) {
		log_error("--metric= is for --folded stacks, and instead of --periods");
		return -EINVAL;
	}
	ret->stack.waits = ret->report || ret->import || is_wait(ret->stack.metric);
	ret->stack.ticks = ret->report || ret->import;
	ret->stack.realtime = ret->import;
	ret->stack.all_events = (ret->report || ret->import || ret->stack.metric != METRIC_ALL_N) && !ret->stack.event;
	ret->path = argv[optind];
	return 1;
}

/* ---- folded ---- */

struct folding {
	struct folded *folded;
	bool of_metric; /* not of one event */
	char first[METRIC_N][STACK_EVENT_SIZE];
	uint64_t told_twice;
	size_t n;
	uint64_t cut;
	bool any;
	char line[LINE_SIZE_MAX];
};

/* A name in a line may have neither ";" nor a newline, and the process's no blanks, which stackcollapse-perf.pl replaces, too. */
static bool put_name(struct folding *f, const char *name, bool is_comm)
{
	if (strlen(name) + 2 > sizeof(f->line) - f->n)
		return false;
	if (!is_comm)
		f->line[f->n++] = ';';
	for (; *name; name++) {
		unsigned char c = (unsigned char)*name;

		f->line[f->n++] = c == ';' ? ':' : is_comm && c == ' ' ? '_' : c < ' ' || c == 0x7f ? '?' : (char)c;
	}
	f->line[f->n] = '\0';
	return true;
}

static int fold(void *userdata, const struct stack *stack)
{
	struct folding *f = userdata;

	f->n = 0;
	f->any = true;
	if (f->of_metric && stack->metric < METRIC_N && stack_tells_twice(f->first[stack->metric], stack)) {
		f->told_twice++;
		return 0;
	}
	(void)put_name(f, stack->comm, true);
	for (size_t i = stack->n; i-- > 0;)
		if (!put_name(f, stack->frames[i].name, false)) {
			f->cut++;
			break;
		}
	return folded_add(f->folded, f->line, stack->value);
}

static void free_folding(struct folding *f)
{
	folded_free(f->folded);
	free(f);
}
DEFINE_CLEANUP(struct folding *, free_folding)

/* ---- the file ---- */

static struct source *source_close(struct source *s)
{
	if (s->fd > STDIN_FILENO)
		close(s->fd);
	free(s);
	return NULL;
}
DEFINE_CLEANUP(struct source *, source_close)

static int source_open(struct source **ret, const char *path)
{
	struct source *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->fd = streq(path, "-") ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (s->fd < 0) {
		int r = negative_errno();

		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* ---- what stackd record writes ---- */

static int tell_differences(const struct options *options, const struct recorded *recorded)
{
	struct recorded_status s;

	recorded_get_status(recorded, &s);
	if (s.unanswered > 0)
		log_warning("%llu questions are not answered by the recording, since they were not asked then: it is of another version",
			    (unsigned long long)s.unanswered);
	if (s.series_differ + s.scores_differ > 0)
		log_warning("of %llu ticks the series of %llu and the scores of %llu differ from those recorded, first at %.6f",
			    (unsigned long long)s.ticks, (unsigned long long)s.series_differ, (unsigned long long)s.scores_differ,
			    (double)s.first_us / (double)USEC_PER_SEC);
	else if (options->verify)
		printf("%llu ticks: the same series and scores\n", (unsigned long long)s.ticks);
	return options->verify && s.series_differ + s.scores_differ > 0 ? -EILSEQ : 0;
}

static int write_folded_metric(struct recorded *recorded, enum metric metric)
{
	_cleanup_(folded_freep) struct folded *folded = NULL;
	int r = folded_new(&folded);

	if (r >= 0)
		r = recorded_fold(recorded, metric == METRIC_ALL_N ? METRIC_ON_CPU : metric, folded);
	return r < 0 ? r : folded_write(folded, stdout);
}

static int replay_recorded(struct source *source, const struct options *options)
{
	const struct recorded_options recorded_options = { .false_alarms_per_day = options->false_alarms_per_day };
	_cleanup_(recorded_freep) struct recorded *recorded = NULL;
	struct recording_error error = {};
	int r, w = 0;

	if (options->stack.event || options->stack.periods) {
		log_error("%s: what stackd record writes has metrics, no events: --metric=METRIC chooses", options->path);
		return -EINVAL;
	}
	r = recorded_new(&recorded, source, &recorded_options, &error);
	if (r >= 0) {
		r = recorded_run(recorded, &error);
		if (options->report)
			w = recorded_write_report(recorded, stdout);
		else if (options->folded)
			w = write_folded_metric(recorded, options->stack.metric);
	}
	if (w < 0)
		log_error("can't write: %s", strerror(-w));
	if (r == -EBADMSG)
		log_error("%s: at byte %llu: %s", options->path, (unsigned long long)error.offset, error.what);
	else if (r < 0)
		log_error("%s: %s", options->path, strerror(-r));
	if (recorded) {
		int differs = tell_differences(options, recorded);

		r = r < 0 ? r : differs;
	}
	return r < 0 ? r : w;
}

/* ---- what perf writes ---- */

static int replay_folded(struct source *source, const struct options *options)
{
	_cleanup_(free_foldingp) struct folding *f = calloc(1, sizeof(*f));
	struct stack_error error = {};
	struct stack_origin origin;
	int r, w;

	if (!f)
		return -ENOMEM;
	f->of_metric = options->stack.metric != METRIC_ALL_N;
	r = folded_new(&f->folded);
	if (r >= 0) {
		r = read_stacks(source, &options->stack, fold, f, &error, &origin);
		w = folded_write(f->folded, stdout);
		if (w < 0) {
			log_error("can't write the stacks: %s", strerror(-w));
			return w;
		}
		if (f->told_twice > 0)
			log_warning("%llu samples are left out: they tell what those of another event tell, too", (unsigned long long)f->told_twice);
		if (f->cut > 0)
			log_warning("%llu stacks were cut to lines of %u bytes", (unsigned long long)f->cut, LINE_SIZE_MAX);
		if (folded_dropped(f->folded) > 0)
			log_warning("stacks that stand for %llu were too many, and are missing", (unsigned long long)folded_dropped(f->folded));
	}
	if (r < 0)
		tell_stack_error(options->path, r, &error);
	else if (!f->any)
		log_warning("%s: there are no samples in it", options->path);
	return r;
}

static int replay_report(struct source *source, const struct options *options)
{
	const struct report_config config = {
		.false_alarms_per_day = options->false_alarms_per_day > 0 ? options->false_alarms_per_day : REPORT_FALSE_ALARMS,
	};
	_cleanup_(report_freep) struct report *report = NULL;
	struct stack_error error = {};
	struct stack_origin origin;
	int r, w;

	r = report_new(&report, &config);
	if (r >= 0)
		r = read_stacks(source, &options->stack, report_add, report, &error, &origin);
	if (r == -E2BIG)
		snprintf(error.what, sizeof(error.what), "longer than %u days; what came before is shown", REPORT_TICKS_MAX / 86400);
	if (r < 0)
		tell_stack_error(options->path, r, &error);
	w = report ? report_write(report, stdout) : 0;
	if (w == -ENODATA && r >= 0)
		log_error("%s: there is nothing to score: record with -e cpu-clock -g, and look at all of a minute at least", options->path);
	else if (w < 0 && w != -ENODATA)
		log_error("can't write the report: %s", strerror(-w));
	return r < 0 ? r : w;
}

static int import(struct source *source, const struct options *options)
{
	struct import_options o = {
		.path = options->path,
		.stack = options->stack,
		.untimed = options->stack.metric == METRIC_ALL_N ? METRIC_HITS : options->stack.metric,
		.false_alarms_per_day = options->false_alarms_per_day,
	};

	o.stack.metric = METRIC_ALL_N;
	if (o.untimed >= METRIC_N) {
		log_error("folded stacks can't be imported as %s: it is a sum of two metrics", metric_to_string(o.untimed));
		return -EINVAL;
	}
	if (isatty(STDOUT_FILENO)) {
		log_error("an import is not for terminals: stackctl import keeps it");
		return -EINVAL;
	}
	return import_recording(source, &o, stdout);
}

static int replay(const struct options *options)
{
	_cleanup_(source_closep) struct source *source = NULL;
	ssize_t n;
	int r = source_open(&source, options->path);

	if (r < 0) {
		log_error("%s: %s", options->path, strerror(-r));
		return r;
	}
	if (options->import)
		return import(source, options);
	n = source_need(source, MAGIC_SIZE);
	if (n == MAGIC_SIZE && recording_is_magic(source_at(source)))
		return replay_recorded(source, options);
	if (options->verify || (options->stack.metric != METRIC_ALL_N && !is_of_perf(options->stack.metric))) {
		log_error("%s: %s is for what stackd record writes", options->path, options->verify ? "--verify" : "this metric");
		return -EINVAL;
	}
	return options->report ? replay_report(source, options) : replay_folded(source, options);
}

int replay_main(int argc, char *argv[])
{
	struct options options = { .stack.metric = METRIC_ALL_N };
	int r;

	r = parse_arguments(argc, argv, &options);
	if (r > 0)
		r = replay(&options);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
