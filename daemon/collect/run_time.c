/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How long our programs run, in whatever they interrupt. The kernel counts it on request (BPF_ENABLE_STATS), at the price of two readings of
 * the clock each time that one runs, so it is asked for in a window of each tick only, which begins at random. */
#include <sys/random.h>
#include <sys/timerfd.h>

#include "internal.h"
#include "stackd.skel.h"

#define WINDOW 0.0625          /* of a second */
#define SLOW_NS (NSEC_PER_SEC / 10)
#define SLOW_PAUSE_TICKS 60    /* an opener that took so long to answer is not asked again for a minute */

static enum budget_events events_of(const struct stackd_bpf *skel, const struct bpf_program *program)
{
	if (program == skel->progs.on_switch || program == skel->progs.on_wakeup || program == skel->progs.on_fork)
		return BUDGET_SWITCHES;
	if (program == skel->progs.on_mmap_lock || program == skel->progs.on_mmap_lock_with_path || program == skel->progs.on_mmap_unlock)
		return BUDGET_MAPS;
	return program == skel->progs.on_rss_stat ? BUDGET_RSS : BUDGET_EVENTS;
}

/* What the daemon runs itself is in its own CPU time; those of watched heaps have a budget of their own. */
static bool is_counted(const struct bpf_program *program)
{
	static const char *const apart[] = { "visit_tasks", "gate_evaluate", "heap_", "kmem_" };
	const char *name = bpf_program__name(program);

	for (size_t i = 0; i < ELEMENTS_OF(apart); i++)
		if (strncmp(name, apart[i], strlen(apart[i])) == 0)
			return false;
	return bpf_program__autoload(program) && bpf_program__fd(program) >= 0;
}

static uint64_t run_ns(int fd)
{
	struct bpf_prog_info info = {};
	uint32_t size = sizeof info;

	return bpf_obj_get_info_by_fd(fd, &info, &size) == 0 ? info.run_time_ns : 0;
}

int run_time_init(struct run_time *t, const struct programs *p, struct helper *helper)
{
	struct bpf_program *program;

	*t = (struct run_time){ .helper = helper, .stats_fd = -EBADF };
	bpf_object__for_each_program(program, p->skel->obj)
		if (is_counted(program) && t->n < RUN_TIME_PROGRAMS_MAX)
			t->programs[t->n++] =
				(struct run_time_program){ .fd = bpf_program__fd(program), .events = events_of(p->skel, program) };
	t->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return t->timer_fd < 0 ? negative_errno() : 0;
}

void run_time_done(struct run_time *t)
{
	t->stats_fd = close_fd(t->stats_fd);
	t->timer_fd = close_fd(t->timer_fd);
}

static void arm(const struct run_time *t, double seconds)
{
	struct itimerspec at = { .it_value.tv_nsec = (long)(seconds * NSEC_PER_SEC) + 1 };

	timerfd_settime(t->timer_fd, 0, &at, NULL);
}

static void begin_window(struct run_time *t)
{
	uint64_t now = clock_monotonic_ns(), began;
	int r = helper_open_run_time(t->helper, &t->stats_fd);

	began = clock_monotonic_ns();
	if (began - now > SLOW_NS)
		t->pause = SLOW_PAUSE_TICKS;
	if (r < 0) {
		if (!t->error)
			log_warning("What the programs in the kernel cost can't be measured: %s", strerror(-r));
		t->error = r;
		t->measured = false;
		return;
	}
	t->error = 0;
	for (size_t i = 0; i < t->n; i++)
		t->programs[i].began_ns = run_ns(t->programs[i].fd);
	t->began_ns = began;
	arm(t, WINDOW);
}

static void end_window(struct run_time *t)
{
	double wall = (double)MAX(clock_monotonic_ns() - t->began_ns, 1U);

	t->share = 0;
	memset(t->events, 0, sizeof t->events);
	for (size_t i = 0; i < t->n; i++) {
		double share = (double)(run_ns(t->programs[i].fd) - t->programs[i].began_ns) / wall;

		t->share += share;
		if (t->programs[i].events < BUDGET_EVENTS)
			t->events[t->programs[i].events] += share;
	}
	t->measured = true;
	t->stats_fd = close_fd(t->stats_fd);
}

void run_time_timer(struct run_time *t)
{
	uint64_t expirations;

	if (read(t->timer_fd, &expirations, sizeof expirations) < 0)
		return;
	if (t->stats_fd < 0)
		begin_window(t);
	else
		end_window(t);
}

void run_time_tick(struct run_time *t)
{
	uint32_t n = 0;

	if (t->stats_fd >= 0)
		return; /* a late window: it ends when its timer says so */
	if (t->pause > 0) {
		t->pause--;
		t->measured = false;
		return;
	}
	if (getrandom(&n, sizeof n, GRND_NONBLOCK) != sizeof n)
		n = 1U << 31;
	arm(t, (1 - 2 * WINDOW) * (n / 4294967296.0));
}
