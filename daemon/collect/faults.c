/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When page faults are sampled. An event that samples them costs every fault of the machine 50 to 130 ns, also those that are not sampled
 * (tests/bench/bench_fault_event): 2 to 8 % of one that only maps a fresh page. So with many faults there is an event for minor ones only
 * for some windows of each tick, each of which begins at random in its part of the tick. What is counted there is scaled to the exact number of
 * faults in the tick.
 *
 * How many there are is known from the tick before. Where a storm begins, the programs tell as soon as the tick has had as many as are worth the event
 * for all of it; what is left of the tick is seen in a window, too, and counts there for as much as was not seen. */
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "internal.h"

/* Of a CPU, for all faults together; and of a tick. */
#define SHARE_MAX_FULL 0.005
#define SHARE_MAX_BASELINE 0.0025
#define WINDOW_MIN_FULL 0.125
#define WINDOW_MIN_BASELINE 0.015625
/* A job of half a second should meet one. Each is an event opened and closed on each CPU. */
#define WINDOWS_MOST 4
#define OPENED_MOST 64
/* What is seen in a window stands for at most so many times what it would if all of the tick were like it. Where it is less than that, the many
 * faults came outside of the window, and those of others within it say nothing of them. */
#define SCALE_MOST 4
/* A sampled fault costs about as much as ten others; a burst after quiet is sampled at the least period for a tick. */
#define MINOR_PERIOD_MIN_FULL 31
#define MINOR_PERIOD_MIN_BASELINE 255
/* A burst gives more samples than were asked for until the period follows: from so many seconds' on they are walked at random only. */
#define FAULT_BUDGET_TICKS 2
#define FAULT_BUDGET_MIN 8U

static double share_max(bool full)
{
	return full ? SHARE_MAX_FULL : SHARE_MAX_BASELINE;
}

static double window_min(bool full)
{
	return full ? WINDOW_MIN_FULL : WINDOW_MIN_BASELINE;
}

double faults_window(double faults_per_sec, bool full)
{
	double cost = faults_per_sec * FAULT_EVENT_NS / NSEC_PER_SEC, most = share_max(full);

	return cost <= most ? 1 : MAX(most / cost, window_min(full));
}

void faults_scale(uint64_t seen, uint64_t exact, const struct fault_part *part, struct fault_scale *ret)
{
	double factor = seen ? (double)exact / (double)seen : 0;

	if (seen && !part->weighted)
		factor = MAX(factor, 1);
	factor = MIN(factor, SCALE_MOST / part->window);
	*ret = (struct fault_scale){
		.factor = factor,
		.window = part->window,
		.unseen = exact - MIN((uint64_t)((double)seen * factor + 0.5), exact),
	};
}

/* How many faults a stack had outside of the window is not known, and they may all have come at once: then it had all of them in the window with
 * the window's probability. Those within it were sampled besides. */
static uint64_t variance_of_window(const struct fault_scale *scale, uint64_t seen, uint64_t scaled, uint64_t variance)
{
	double sampled = (double)variance * scale->factor * scale->factor;

	return seen ? (uint64_t)(sampled + (double)scaled * (double)scaled * (1 - scale->window)) : 0;
}

void faults_apply_scale(const struct fault_scale *scale, uint64_t values[static METRIC_N], uint64_t variances[static METRIC_N])
{
	uint64_t minor = values[METRIC_FAULTS_MINOR], all = minor + values[METRIC_FAULTS_MAJOR];
	uint64_t scaled = (uint64_t)((double)minor * scale->factor + 0.5);

	if (!minor)
		return;
	variances[METRIC_FAULTS_MINOR] = variance_of_window(scale, minor, scaled, variances[METRIC_FAULTS_MINOR]);
	values[METRIC_FAULTS_MINOR] = scaled;
	values[METRIC_FAULTS_FILE] =
		(uint64_t)((double)values[METRIC_FAULTS_FILE] * (double)(scaled + values[METRIC_FAULTS_MAJOR]) / (double)all + 0.5);
}

static void arm(const struct faults *f, double seconds)
{
	uint64_t ns = (uint64_t)(seconds * NSEC_PER_SEC);
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)(ns / NSEC_PER_SEC), .tv_nsec = (long)(ns % NSEC_PER_SEC) } };

	timerfd_settime(f->timer_fd, 0, &at, NULL);
}

static void see(struct faults *f, bool seen)
{
	if (seen && !f->seen)
		f->control->fault_session++; /* a new event counts from 0 */
	f->seen = seen;
	perf_events_set_minor_faults(f->events, seen ? f->period : 0);
}

/* 0 to 1 */
static double at_random(void)
{
	uint32_t n = 0;

	return getrandom(&n, sizeof(n), GRND_NONBLOCK) == sizeof(n) ? n / 4294967296.0 : 0.5;
}

void fault_window_begin(struct fault_window *w, double share, uint64_t now_ns)
{
	uint64_t from = now_ns + (share < 1 ? (uint64_t)((1 - share) * at_random() * NSEC_PER_SEC) : 0);

	*w = (struct fault_window){ share, from, from + (uint64_t)(share * NSEC_PER_SEC) };
}

bool fault_window_sees(const struct fault_window *w, uint64_t now_ns)
{
	return w->share >= 1 || (now_ns >= w->from_ns && now_ns < w->until_ns);
}

static uint32_t windows_of(uint32_t cpus)
{
	return MIN(MAX(OPENED_MOST / MAX(cpus, 1U), 1U), (uint32_t)WINDOWS_MOST);
}

/* after_s: until the next window's part of the time begins. */
static void await_window(struct faults *f, double after_s)
{
	double spare = f->part_s - f->window_s, before = spare * at_random();

	f->after_s = spare - before;
	arm(f, after_s + before + 1e-9);
}

/* They are seen for a share of the seconds to come. */
static void look_for(struct faults *f, double share, double seconds)
{
	see(f, false);
	f->windows_left = f->windows;
	f->part_s = seconds / f->windows;
	f->window_s = share * f->part_s;
	f->part.window = MIN(f->part.window, share);
	f->control->fault_budget = MAX(f->budget / f->windows, FAULT_BUDGET_MIN);
	await_window(f, 0);
}

void faults_set_rates(struct faults *f, uint32_t hz, bool full, double minor_rate, double major_rate, uint32_t cpus)
{
	uint64_t least = full ? MINOR_PERIOD_MIN_FULL : MINOR_PERIOD_MIN_BASELINE;
	double window = faults_window(minor_rate * cpus, full);
	bool always = !hz || window >= 1;

	perf_events_set_major_faults(f->events, hz ? perf_events_fault_period(major_rate, hz, 1) : 0);
	f->full = full;
	f->windows = windows_of(cpus);
	f->window = hz ? window : 1;
	f->period = perf_events_fault_period(minor_rate * window, hz, least);
	f->budget = FAULT_BUDGET_TICKS * hz;
	f->control->fault_budget = f->budget;
	f->control->fault_times = 1;
	f->control->faults_seen = 0;
	f->control->faults_most = hz && always ? (uint64_t)(share_max(full) * NSEC_PER_SEC / FAULT_EVENT_NS) : 0;
	if (!always) {
		look_for(f, window, 1);
		return;
	}
	arm(f, 0);
	f->windows_left = 0;
	see(f, hz > 0);
}

void faults_storm(struct faults *f, uint64_t now_ns)
{
	double window = window_min(f->full), elapsed = (double)(now_ns - f->control->tick_ns) / NSEC_PER_SEC;

	if (!f->seen || f->window < 1 || elapsed >= 1) /* a late tick is about to end */
		return;
	look_for(f, window, 1 - elapsed);
	f->part = (struct fault_part){ .window = elapsed + window * (1 - elapsed), .weighted = true };
	f->control->fault_times = (uint32_t)(1 / window);
}

void faults_timer(struct faults *f)
{
	uint64_t expirations;

	if (read(f->timer_fd, &expirations, sizeof expirations) < 0 || !f->windows_left)
		return;
	see(f, !f->seen);
	if (f->seen)
		arm(f, f->window_s);
	else if (--f->windows_left)
		await_window(f, f->after_s);
}

struct fault_part faults_take_part(struct faults *f)
{
	struct fault_part part = f->part;

	f->part = (struct fault_part){ .window = 1 };
	f->control->fault_times = 1;
	return part;
}

int faults_init(struct faults *f, struct perf_events *events, struct stackd_control *control)
{
	*f = (struct faults){ .events = events, .control = control, .window = 1, .part.window = 1, .timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK) };
	return f->timer_fd < 0 ? negative_errno() : 0;
}

void faults_done(struct faults *f)
{
	f->timer_fd = close_fd(f->timer_fd);
}
