/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "live_top.h"

#include <signal.h>

#include "show.h"

#define SPAN_US (10 * USEC_PER_SEC)         /* of the window, as stackd's own default */
#define USUAL_SPAN_US (900 * USEC_PER_SEC)  /* of the time before; what the finest tier keeps */
#define USUAL_LEAST_S 60                    /* less says nothing of what is usual */
#define USUAL_DELAY_NS (30 * NSEC_PER_SEC)  /* until it is asked for again: it takes longer, and changes little */
#define WAIT_US USEC_PER_SEC                /* until a call that is out is looked at, whether an answer came or not */
#define ROWS_USUALLY 200                    /* as many as anyone scrolls through */
#define STACKS_SEARCHED 1000                /* by stack, when rows are chosen or ordered here; a stack takes some kilobytes */

/* ---- asking ---- */

static void hang_up(struct live *l)
{
	call_close(&l->call);
	replies_free(&l->replies);
	l->asking = LIVE_NOTHING;
}

void live_ask_again(struct live *l, bool usual)
{
	hang_up(l);
	l->due_ns = 0;
	if (usual)
		l->usual_due_ns = 0;
}

static bool ask(struct live *l, enum live_asking asking, const char *method, struct json_writer *parameters)
{
	hang_up(l);
	if (!call_start(&l->call, &l->options, method, parameters, true, false))
		return false;
	l->asking = asking;
	l->asked_ns = clock_monotonic_ns();
	return true;
}

/* stackd gives the largest by self. To choose others there must be more to choose from. */
static uint32_t rows_wanted(const struct live *l, bool all)
{
	if (!all && !*l->filter && l->order == TOP_BY_SELF)
		return ROWS_USUALLY;
	return l->options.by_stack ? STACKS_SEARCHED : LINES_ALL;
}

static bool ask_top(struct live *l, enum live_asking asking, uint64_t since_us, uint64_t until_us)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	struct options o = l->options;

	if (!parameters)
		return false;
	o.given |= OPTION_RANGE | OPTION_LINES | OPTION_METRIC;
	o.since_us = since_us;
	o.until_us = until_us;
	o.lines = l->limit = rows_wanted(l, asking == LIVE_USUAL);
	json_put_string(parameters, "by", o.by_stack ? "stack" : "function");
	put_metric(parameters, &o);
	put_filter(parameters, &o);
	put_limit(parameters, &o);
	return ask(l, asking, "GetTop", parameters);
}

static bool ask_now(struct live *l)
{
	return ask_top(l, LIVE_NOW, l->until_us - l->span_us, l->until_us);
}

/* Of the time before the window, as long as stackd has run without a pause. */
static bool ask_usual(struct live *l)
{
	uint64_t until_us = l->until_us - l->span_us, span_us = MAX(USUAL_SPAN_US, l->span_us);
	uint64_t since_us = MAX(until_us - MIN(until_us, span_us), MAX(l->started_us, l->recorded_us));

	l->usual_due_ns = clock_monotonic_ns() + USUAL_DELAY_NS;
	if (since_us + USUAL_LEAST_S * USEC_PER_SEC > until_us) {
		top_usual_done(&l->usual);
		return ask_now(l);
	}
	return ask_top(l, LIVE_USUAL, since_us, until_us);
}

static bool begin_round(struct live *l)
{
	uint64_t now_ns = clock_monotonic_ns();

	if (!l->frozen)
		l->until_us = clock_realtime_us();
	l->due_ns = now_ns + l->delay_us * NSEC_PER_USEC;
	return now_ns >= l->usual_due_ns ? ask(l, LIVE_STATUS, "GetStatus", NULL) : ask_now(l);
}

/* On the screen, instead of where they were told. */
static void say_messages(struct live *l)
{
	free(l->message);
	l->message = screen_take_messages(l->screen);
}

void live_open_stack(struct live *l, uint64_t stack)
{
	_cleanup_(json_writer_freep) struct json_writer *parameters = call_parameters();
	struct options o = l->options;

	if (!parameters)
		return;
	o.given = (o.given | OPTION_UNTIL) & ~OPTION_SINCE;
	o.until_us = l->until_us;
	json_put_id(parameters, "stack", stack);
	put_filter(parameters, &o);
	l->opened_stack = stack;
	/* A round that this breaks off begins again. */
	if (l->asking != LIVE_NOTHING)
		l->due_ns = 0;
	if (!ask(l, LIVE_OPENED, "GetStack", parameters))
		say_messages(l);
}

/* ---- answers ---- */

void live_arrange(struct live *l)
{
	const struct top_filter filter = { l->filter, l->filter_whole };
	size_t *shown, n;

	/* Without memory for another the order stays as it was. */
	if (top_rows_arrange(&l->rows, l->order, &filter, l->seconds, &shown, &n) < 0)
		return;
	free(l->shown);
	l->shown = shown;
	l->n_shown = n;
	l->selected = MIN(l->selected, MAX(n, (size_t)1) - 1);
}

void live_set_filter(struct live *l, const char *text, bool whole)
{
	char *copy = strdup(text ? text : "");

	if (!copy)
		return;
	free(l->filter);
	l->filter = copy;
	l->filter_whole = whole;
}

static bool take_status(struct live *l)
{
	_cleanup_(json_freep) struct json *root = NULL;
	const struct json *reply, *status, *tiers;
	struct fields f = {};

	if (!replies_parse(&l->replies, 0, &root, &reply))
		return false;
	status = field_object(&f, reply, "status");
	tiers = field_array(&f, status, "tiers");
	l->started_us = field_int(&f, status, "started_us");
	l->recorded_us = l->until_us;
	for (size_t i = 0; i < json_length(tiers); i++) {
		uint64_t oldest_us;

		if (json_get_u64(json_at(tiers, i), "oldest_us", &oldest_us) > 0)
			l->recorded_us = MIN(l->recorded_us, oldest_us);
	}
	return fields_are_good(&f) && ask_usual(l);
}

static bool take_usual(struct live *l)
{
	_cleanup_top_rows_ struct top_rows before = {};
	int r;

	if (!top_rows_read(&before, &l->replies, l->options.by_stack, l->limit))
		return false;
	r = top_usual_set(&l->usual, &before, (before.until_us - before.since_us) / (double)USEC_PER_SEC);
	if (r < 0)
		log_error("Can't keep what was before: %s.", strerror(-r));
	return r >= 0 && ask_now(l);
}

static bool take_now(struct live *l)
{
	struct top_rows rows;
	uint64_t since_us;

	if (!top_rows_read(&rows, &l->replies, l->options.by_stack, l->limit))
		return false;
	top_rows_done(&l->rows);
	l->rows = rows;
	since_us = MIN(MAX(rows.since_us, l->recorded_us), rows.until_us - MIN(rows.until_us, USEC_PER_SEC));
	l->seconds = (rows.until_us - since_us) / (double)USEC_PER_SEC;
	top_rows_compare(&l->rows, &l->usual);
	live_arrange(l);
	hang_up(l);
	return true;
}

static bool take_opened(struct live *l)
{
	_cleanup_(json_freep) struct json *root = NULL;
	const struct json *reply;

	if (!replies_parse(&l->replies, 0, &root, &reply))
		return false;
	json_free(l->opened);
	l->opened = TAKE_PTR(root);
	l->page = LIVE_STACK;
	l->scrolled = 0;
	hang_up(l);
	return true;
}

static bool take_answer(struct live *l)
{
	switch (l->asking) {
	case LIVE_STATUS:
		return take_status(l);
	case LIVE_USUAL:
		return take_usual(l);
	case LIVE_NOW:
		return take_now(l);
	default:
		return take_opened(l);
	}
}

/* False: told, and there is no point in going on. A stack that can't be opened is said on the screen. */
static bool collect(struct live *l)
{
	bool opening = l->asking == LIVE_OPENED;

	if (call_collect(&l->call, &l->replies) && (!l->call.done || take_answer(l)))
		return true;
	hang_up(l);
	if (!opening)
		return false;
	say_messages(l);
	return true;
}

/* ---- the loop ---- */

static bool is_due(const struct live *l)
{
	if (l->asking != LIVE_NOTHING)
		return false;
	return clock_monotonic_ns() >= l->due_ns && (!l->frozen || l->due_ns == 0);
}

static uint64_t wait_us(const struct live *l)
{
	uint64_t now_ns = clock_monotonic_ns();

	if (l->asking != LIVE_NOTHING)
		return WAIT_US;
	if (l->frozen)
		return USEC_INFINITY;
	/* Rounded up to what poll() takes. */
	return (l->due_ns - MIN(l->due_ns, now_ns)) / NSEC_PER_USEC + USEC_PER_MSEC;
}

static bool run(struct live *l)
{
	bool drawn = false;
	int key;

	for (;;) {
		if (is_due(l) && !begin_round(l))
			return false;
		if (!drawn)
			live_draw(l);
		drawn = false;
		switch (screen_wait(l->screen, l->asking == LIVE_NOTHING ? -1 : wire_client_fd(l->call.client),
		                    wait_us(l), &key)) {
		case SCREEN_KEY:
			if (!live_key(l, key))
				return true;
			break;
		case SCREEN_END:
			return true;
		case SCREEN_REDRAW:
			break;
		default:
			/* What has not come yet changes nothing. */
			drawn = l->asking == LIVE_NOTHING;
		}
		if (l->asking != LIVE_NOTHING && !collect(l))
			return false;
	}
}

static void live_done(struct live *l)
{
	hang_up(l);
	l->screen = screen_close(l->screen);
	top_usual_done(&l->usual);
	top_rows_done(&l->rows);
	free(l->filter);
	free(l->shown);
	json_free(l->opened);
	free(l->message);
}

static bool start(struct live *l)
{
	int r;

	live_set_filter(l, "", false);
	if (!l->filter) {
		log_error("Out of memory.");
		return false;
	}
	/* Whether there is a stackd at all is better said before the terminal is taken. */
	if (!begin_round(l))
		return false;
	r = screen_open(&l->screen);
	if (r < 0)
		log_error("Can't use the terminal: %s. Try \"stackctl top -b\".", strerror(-r));
	return r >= 0;
}

int live_top(const struct options *o)
{
	struct live l = { .options = *o, .delay_us = o->delay_us };
	bool good;
	int signal_number;

	l.span_us = o->given & OPTION_SINCE ? MAX(o->now_us - MIN(o->since_us, o->now_us), USEC_PER_SEC)
	                                    : MAX(SPAN_US, o->delay_us);
	if (!(o->given & OPTION_METRIC))
		l.options.metric = METRIC_ON_CPU;
	good = start(&l) && run(&l);
	signal_number = l.screen ? screen_signal(l.screen) : 0;
	live_done(&l);
	if (signal_number)
		raise(signal_number);
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
