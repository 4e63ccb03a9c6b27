/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stackctl: asks stackd. */
#include <limits.h>
#include <signal.h>

#include "help.h"
#include "imports.h"
#include "show.h"
#include "verbs.h"

static const struct verb {
	const char *name;
	uint64_t options; /* that it takes, of enum option_bits */
	int max_args;
	int (*run)(const struct options *o, char **args);
} verbs[] = {
	{ "status", OPTION_REPORT, 0, verb_status },
	{ "anomalies", OPTION_FILTER | OPTION_TYPE | OPTION_LINES | OPTION_FOLLOW | OPTION_IMPORT, 0, verb_anomalies },
	{ "explain", OPTION_IMPORT, 1, verb_explain },
	{ "incidents", OPTION_LINES | OPTION_FOLLOW | OPTION_IMPORT, 1, verb_incidents },
	{ "clusters", OPTION_LINES | OPTION_IMPORT, 1, verb_clusters },
	{ "mute", OPTION_FOR, 1, verb_mute },
	{ "unmute", 0, 1, verb_unmute },
	{ "label", 0, 3, verb_label },
	{ "check", 0, 0, verb_check },
	{ "flame",
	  OPTION_FILTER | OPTION_METRIC | OPTION_STACK | OPTION_SAMPLES | OPTION_PICTURE | OPTION_CHANGED | OPTION_HOT_COLD | OPTION_INLINES | OPTION_IMPORT,
	  1, verb_flame },
	{ "heat", OPTION_FILTER | OPTION_METRIC | OPTION_STACK | OPTION_STEP | OPTION_OUTPUT | OPTION_IMPORT, 1, verb_heat },
	{ "top", OPTION_FILTER | OPTION_METRIC | OPTION_BY | OPTION_LINES | OPTION_BATCH | OPTION_DELAY | OPTION_IMPORT, 0, verb_top },
	{ "stacks", OPTION_FILTER | OPTION_METRIC | OPTION_EXACT | OPTION_LINES | OPTION_SOURCES | OPTION_IMPORT, 1, verb_stacks },
	{ "missing-debug", 0, 0, verb_missing_debug },
	{ "processes", OPTION_FILTER | OPTION_LINES | OPTION_IMPORT, 0, verb_processes },
	{ "compare-perf", OPTION_PID | OPTION_FOR | OPTION_LINES, INT_MAX, verb_compare_perf },
	{ "leaks", OPTION_PID | OPTION_LINES, 0, verb_leaks },
	{ "watch-memory", OPTION_PID | OPTION_UNIT | OPTION_CGROUP | OPTION_KERNEL | OPTION_FOR, 0, verb_watch_memory },
	{ "unwatch-memory", OPTION_PID | OPTION_UNIT | OPTION_CGROUP | OPTION_KERNEL, 0, verb_unwatch_memory },
	{ "import", OPTION_NAME | OPTION_REMOVE | OPTION_METRIC | OPTION_EVENT, 1, verb_import },
	{ "imports", 0, 0, verb_import },
	{ "gate", OPTION_RANGE | OPTION_LINES | OPTION_FOR, 1, verb_gate },
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ELEMENTS_OF(verbs); i++)
		if (streq(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

/* What was meant, when the beginning says so. */
static const char *guess_verb(const char *name)
{
	for (size_t i = 0; i < ELEMENTS_OF(verbs); i++)
		if (strncmp(verbs[i].name, name, MIN(strlen(name), (size_t)2)) == 0)
			return verbs[i].name;
	return NULL;
}

/* Only the machine itself has more to come, or knows where the functions are. */
static bool import_fits(const struct options *o)
{
	const uint64_t of_machine = OPTION_FOLLOW | OPTION_SOURCES | OPTION_INLINES | OPTION_THREADS | OPTION_TID;

	if (!(o->given & of_machine))
		return true;
	log_error("--import and %s can't be together.", option_name(o->given & of_machine));
	return false;
}

/* NULL when that can't be asked for, and the reason is logged. */
static const struct verb *choose_verb(struct options *o, int n_args, char **args)
{
	const struct verb *v = find_verb(n_args > 0 ? args[0] : "status");

	if (!v) {
		const char *guess = guess_verb(args[0]);

		if (guess)
			log_error("Unknown verb \"%s\". Did you mean \"%s\"? Try \"stackctl --help\".",
			          args[0], guess);
		else
			log_error("Unknown verb \"%s\". Try \"stackctl --help\".", args[0]);
		return NULL;
	}
	if (n_args - 1 > v->max_args) {
		log_error("Too many arguments: \"%s\". Try \"stackctl --help\".", args[1 + v->max_args]);
		return NULL;
	}
	if (o->given & ~v->options & OPTION_SOURCES && v->options & OPTION_LINES) {
		log_error("--lines needs a number: from 1 to %d, or \"all\".", LINES_ALL);
		return NULL;
	}
	if (o->given & ~v->options) {
		log_error("\"stackctl %s\" does not take %s. Try \"stackctl --help\".", v->name,
		          option_name(o->given & ~v->options));
		return NULL;
	}
	if (o->import && (!import_fits(o) || !import_serve(o)))
		return NULL;
	return v;
}

/* Monitoring takes 1 for a warning; what a plug-in can't find out is 3. */
static int wrong_usage(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (streq(argv[i], "check")) {
			puts("STACKD UNKNOWN - wrong usage");
			return 3;
		}
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static char name[] = "stackctl";
	struct options o;
	const struct verb *v;
	int first, status = EXIT_SUCCESS;

	log_setup("stackctl", LOG_LEVEL_INFO);
	/* getopt's messages begin with it, as ours do, whatever the path was. */
	if (argc > 0)
		argv[0] = name;
	signal(SIGPIPE, SIG_IGN);
	if (!options_parse(&o, argc, argv, &first))
		return wrong_usage(argc, argv);
	if (o.version)
		printf("stackctl %s\n", STACKD_VERSION);
	else if (o.help || (first < argc && streq(argv[first], "help")))
		help_show(&o);
	else if ((v = choose_verb(&o, argc - first, argv + first)))
		status = v->run(&o, argv + MIN(first + 1, argc));
	else
		status = wrong_usage(argc, argv);
	return show_finish(status);
}
