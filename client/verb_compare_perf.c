/* SPDX-License-Identifier: GPL-2.0-or-later */
/* compare-perf: what stackd and perf say of the same command, or of the same time, by function. */
#include <math.h>
#include <sys/wait.h>

#include "call.h"
#include "compare.h"
#include "flame_query.h"
#include "perf_run.h"
#include "show.h"
#include "show_stack.h"
#include "verbs.h"

#define FOR_DEFAULT_US (10 * USEC_PER_SEC)
#define FOR_MOST_US (600 * USEC_PER_SEC) /* of which the store surely keeps every second */
#define SETTLE_SECONDS 3                 /* until stackd has taken what the kernel counted and knows the names */
#define SHOWN_LEAST 0.02                 /* of either: a function with less is not compared */
#define DIFFERENCE_MOST 0.05
#define WHOLE_LEAST 0.9                  /* of either's stacks: else callers are not compared */
#define LINES_DEFAULT 25

static const struct table_column columns[] = {
	{ "STACKD", .right = true },
	{ "PERF", .right = true },
	{ "DIFFERENCE", .right = true },
	{ "+CALLEES", .right = true },
	{ "PERF", .right = true },
	{ "DIFFERENCE", .right = true },
	{ "FUNCTION", .shrink = true },
};

/* What stackd says of itself. */
struct itself {
	uint64_t cpu_ns, lost;
};

struct outcome {
	struct comparison functions;
	struct perf_run perf;
	struct itself before, after;
	struct flame_meta meta; /* of stackd's part */
	bool with_callees;      /* are compared, too */
	size_t n_compared, n_differ;
};

static void outcome_done(struct outcome *x)
{
	compare_done(&x->functions);
	perf_run_done(&x->perf);
	flame_meta_done(&x->meta);
}

static bool ask_itself(const struct options *o, struct itself *ret)
{
	_cleanup_(json_freep) struct json *reply = NULL;
	const struct json *status, *losses;
	struct fields f = {};

	if (!call_joined(&reply, o, "GetStatus", NULL))
		return false;
	status = field_object(&f, reply, "status");
	losses = field_array(&f, status, "losses");
	*ret = (struct itself){ .cpu_ns = (uint64_t)field_int(&f, status, "cpu_ns") };
	for (size_t i = 0; i < json_length(losses); i++)
		ret->lost += (uint64_t)field_int(&f, json_at(losses, i), "count");
	return fields_are_good(&f);
}

/* ---- the functions ---- */

static double difference(const double shares[static COMPARE_SIDES])
{
	return shares[COMPARE_STACKD] - shares[COMPARE_PERF];
}

static bool is_far(double d)
{
	return d > DIFFERENCE_MOST || d < -DIFFERENCE_MOST;
}

static bool is_large(const double shares[static COMPARE_SIDES])
{
	return MAX(shares[COMPARE_STACKD], shares[COMPARE_PERF]) > SHOWN_LEAST;
}

static bool is_compared(const struct outcome *x, const struct compare_function *f)
{
	return is_large(f->self) || (x->with_callees && is_large(f->with_callees));
}

static bool differs(const struct outcome *x, const struct compare_function *f)
{
	return (is_large(f->self) && is_far(difference(f->self))) ||
	       (x->with_callees && is_large(f->with_callees) && is_far(difference(f->with_callees)));
}

static double part_that_is_whole(const struct outcome *x, enum compare_side side)
{
	return (double)x->functions.whole[side] / (double)MAX(x->functions.total[side], (uint64_t)1);
}

static void judge(struct outcome *x)
{
	x->with_callees = part_that_is_whole(x, COMPARE_STACKD) > WHOLE_LEAST && part_that_is_whole(x, COMPARE_PERF) > WHOLE_LEAST;
	for (size_t i = 0; i < x->functions.n; i++) {
		x->n_compared += is_compared(x, &x->functions.functions[i]);
		x->n_differ += is_compared(x, &x->functions.functions[i]) && differs(x, &x->functions.functions[i]);
	}
}

/* ---- taking ---- */

/* Of all pids, or of the whole window where there are none. */
static bool take_stackd(struct outcome *x, const struct options *o)
{
	struct options asked = *o;

	asked.since_us = x->perf.since_us;
	asked.until_us = asked.now_us = x->perf.until_us;
	asked.given = (o->given & OPTION_PID) | OPTION_RANGE | (x->perf.n_pids > 0 ? OPTION_PID : 0);
	for (size_t i = 0; i < MAX(x->perf.n_pids, (size_t)1); i++) {
		_cleanup_(flame_freep) struct flame *f = NULL;
		struct flame_meta meta = {};
		int r;

		if (x->perf.n_pids > 0)
			asked.pid = x->perf.pids[i];
		if (!flame_of_window(&f, &meta, &asked))
			return false;
		if (i == 0)
			x->meta = meta;
		else
			flame_meta_done(&meta);
		r = compare_add(&x->functions, COMPARE_STACKD, f);
		if (r < 0) {
			log_error("Can't compare: %s.", strerror(-r));
			return false;
		}
	}
	return true;
}

static bool take_perf(struct outcome *x)
{
	_cleanup_(flame_freep) struct flame *f = NULL;
	int r;

	if (!perf_run_read(&x->perf, &f))
		return false;
	r = compare_add(&x->functions, COMPARE_PERF, f);
	if (r < 0)
		log_error("Can't compare: %s.", strerror(-r));
	return r >= 0;
}

static bool compare(struct outcome *x, const struct options *o, char **command)
{
	uint64_t for_us = o->given & OPTION_FOR ? o->for_us : FOR_DEFAULT_US;

	if (!ask_itself(o, &x->before))
		return false;
	if (command ? !perf_run_command(&x->perf, command, o->json != JSON_OFF) : !perf_run_window(&x->perf, o->given & OPTION_PID ? o->pid : 0, for_us))
		return false;
	sleep(SETTLE_SECONDS);
	if (!ask_itself(o, &x->after) || (command && !perf_run_pids(&x->perf)) || !take_stackd(x, o) || !take_perf(x))
		return false;
	for (enum compare_side s = 0; s < COMPARE_SIDES; s++)
		if (x->functions.total[s] == 0) {
			log_error("%s recorded nothing of that: there is nothing to compare.", s == COMPARE_STACKD ? "stackd" : "perf");
			return false;
		}
	compare_finish(&x->functions);
	judge(x);
	return true;
}

/* ---- telling ---- */

static double cpu_seconds(const struct rusage *used)
{
	return (double)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) +
	       (double)(used->ru_utime.tv_usec + used->ru_stime.tv_usec) / USEC_PER_SEC;
}

/* Twice the deviation of a share of a half, by perf's samples: stackd weighs more of them, or as many. */
static double chance(const struct outcome *x)
{
	return 2 * sqrt(0.25 / (double)MAX(x->perf.samples, (uint64_t)1));
}

static void add_shares(struct table *t, const double shares[static COMPARE_SIDES], bool told)
{
	double d = difference(shares);

	for (enum compare_side s = 0; s < COMPARE_SIDES; s++)
		if (told)
			table_cellf(t, COLOUR_NONE, "%.1f%%", 100 * shares[s]);
		else
			table_cell(t, COLOUR_NONE, "-");
	if (told)
		table_cellf(t, is_large(shares) && is_far(d) ? COLOUR_RED : COLOUR_NONE, "%+.1f", 100 * d);
	else
		table_cell(t, COLOUR_NONE, "-");
}

static bool show_functions(const struct options *o, const struct outcome *x)
{
	_cleanup_(table_freep) struct table *t = show_table_new(o, columns, ELEMENTS_OF(columns));
	size_t lines = o->given & OPTION_LINES ? o->lines : LINES_DEFAULT, n = 0;

	if (!t)
		return false;
	for (size_t i = 0; i < x->functions.n; i++) {
		const struct compare_function *f = &x->functions.functions[i];

		if (!is_compared(x, f) || (n++ >= lines && !differs(x, f)))
			continue;
		add_shares(t, f->self, true);
		add_shares(t, f->with_callees, x->with_callees);
		table_cell(t, COLOUR_NONE, f->name);
	}
	return show_table(o, t, "functions");
}

static bool show(const struct options *o, const struct outcome *x)
{
	show_begin(o);
	for (size_t i = 0; i < x->meta.n_notes; i++)
		printf("stackd: %s\n", x->meta.notes[i]);
	printf("stackd: %.2fs of CPU time in its own processes, %llu samples or events of the whole machine lost\n",
	       (double)(x->after.cpu_ns - x->before.cpu_ns) / NSEC_PER_SEC, (unsigned long long)(x->after.lost - x->before.lost));
	printf("perf: %.2fs of CPU time to record %llu samples, %llu lost; with so many chance alone makes up to %.1f points\n",
	       cpu_seconds(&x->perf.used), (unsigned long long)x->perf.samples, (unsigned long long)x->perf.lost, 100 * chance(x));
	if (x->perf.n_pids > 0)
		printf("processes: %zu\n", x->perf.n_pids);
	if (x->perf.left_out > 0)
		printf("%zu more processes are in perf's part only\n", x->perf.left_out);
	printf("whole stacks: stackd %.1f%%, perf %.1f%%%s\n\n", 100 * part_that_is_whole(x, COMPARE_STACKD),
	       100 * part_that_is_whole(x, COMPARE_PERF), x->with_callees ? "" : "; too few to compare callers");
	if (!show_functions(o, x))
		return false;
	if (x->n_differ == 0)
		printf("\nThey agree within 5 points on all %zu functions above 2%%.\n", x->n_compared);
	else
		printf("\nThey differ by more than 5 points on %zu of %zu functions above 2%%.\n", x->n_differ, x->n_compared);
	return true;
}

static void put_side(struct json_writer *w, const struct outcome *x, enum compare_side side, double cpu_s, uint64_t lost)
{
	json_key(w, side == COMPARE_STACKD ? "stackd" : "perf");
	json_open_object(w);
	json_put_float(w, "cpu_s", cpu_s);
	json_put_u64(w, "lost", lost);
	json_put_float(w, "whole", part_that_is_whole(x, side));
	json_close_object(w);
}

static void put_shares(struct json_writer *w, const char *key, const double shares[static COMPARE_SIDES])
{
	json_key(w, key);
	json_open_object(w);
	json_put_float(w, "stackd", shares[COMPARE_STACKD]);
	json_put_float(w, "perf", shares[COMPARE_PERF]);
	json_close_object(w);
}

static bool write_json(const struct options *o, const struct outcome *x)
{
	_cleanup_(json_writer_freep) struct json_writer *w = show_json_writer(o);

	if (!w)
		return false;
	json_open_object(w);
	json_put_bool(w, "agree", x->n_differ == 0);
	json_put_u64(w, "compared", x->n_compared);
	json_put_u64(w, "differ", x->n_differ);
	json_put_u64(w, "since_us", x->perf.since_us);
	json_put_u64(w, "until_us", x->perf.until_us);
	json_put_u64(w, "perf_samples", x->perf.samples);
	put_side(w, x, COMPARE_STACKD, (double)(x->after.cpu_ns - x->before.cpu_ns) / NSEC_PER_SEC, x->after.lost - x->before.lost);
	put_side(w, x, COMPARE_PERF, cpu_seconds(&x->perf.used), x->perf.lost);
	json_key(w, "functions");
	json_open_array(w);
	for (size_t i = 0; i < x->functions.n; i++) {
		const struct compare_function *f = &x->functions.functions[i];

		if (!is_compared(x, f))
			continue;
		json_open_object(w);
		json_put_string(w, "name", f->name);
		put_shares(w, "self", f->self);
		if (x->with_callees)
			put_shares(w, "with_callees", f->with_callees);
		json_close_object(w);
	}
	json_close_array(w);
	json_close_object(w);
	return show_json_written(w);
}

int verb_compare_perf(const struct options *o, char **args)
{
	_cleanup_(outcome_done) struct outcome x = { .perf = { .control = -EBADF, .answers = -EBADF } };
	char **command = args[0] ? args : NULL;

	if (command && o->given & (OPTION_FOR | OPTION_PID)) {
		log_error("compare-perf takes a command, or --for and --pid.");
		return EXIT_FAILURE;
	}
	if (o->given & OPTION_FOR && (o->for_us < USEC_PER_SEC || o->for_us > FOR_MOST_US)) {
		log_error("compare-perf takes --for from 1s to 10min.");
		return EXIT_FAILURE;
	}
	if (!perf_run_new(&x.perf) || !compare(&x, o, command))
		return EXIT_FAILURE;
	if (!(o->json != JSON_OFF ? write_json(o, &x) : show(o, &x)))
		return EXIT_FAILURE;
	if (WIFEXITED(x.perf.command_status) && WEXITSTATUS(x.perf.command_status) != 0)
		log_warning("%s ended with status %d.", command[0], WEXITSTATUS(x.perf.command_status));
	return x.n_differ == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
