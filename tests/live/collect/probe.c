/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The collector on this kernel, held against what the workloads know of themselves. Prints TAP. */
#include <inttypes.h>
#include <linux/futex.h>
#include <math.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "collect.h"
#include "helper.h"

/* High enough for a machine that is busy with something else. */
#define OPEN_ABOVE 15

/* ---- what the sink saw of one process ---- */

static struct {
	pid_t pid;
	uint64_t values[METRIC_N], totals[METRIC_N], waited_ns;
	int waits, wait_ends, in_wait;
} watched;

static uint64_t idle_samples, tick_ns, losses;
static double load;
static bool gate_open, gate_seen;
static char gate_cause[32];
static uint64_t gate_time_us;

static void on_begin(void *userdata _unused_, const struct collect_tick_info *info)
{
	tick_ns = info->duration_ns;
	load = info->load;
	gate_open = info->gate_open;
}

static void on_gate(void *userdata _unused_, const struct collect_gate_change *change)
{
	gate_seen = true;
	gate_time_us = change->time_us;
	copy_string(gate_cause, sizeof gate_cause, change->cause);
}

static void on_sample(void *userdata _unused_, const struct collect_sample *sample)
{
	if (sample->process.pid == 0)
		idle_samples++;
	if (sample->process.pid != watched.pid)
		return;
	for (size_t m = 0; m < METRIC_N; m++)
		watched.values[m] += sample->values[m];
}

static void on_wait(void *userdata _unused_, const struct collect_wait *wait)
{
	if (wait->process.pid != watched.pid)
		return;
	watched.in_wait += wait->threads;
	if (wait->threads > 0)
		watched.waits += wait->threads;
	else
		watched.wait_ends -= wait->threads;
}

static void on_total(void *userdata _unused_, const struct collect_total *total)
{
	if (total->process.pid != watched.pid)
		return;
	for (size_t m = 0; m < METRIC_N; m++)
		watched.totals[m] += total->values[m];
}

static void on_loss(void *userdata _unused_, const char *cause, uint64_t n)
{
	printf("# lost: %s %" PRIu64 "\n", cause, n);
	losses += n;
}

static const struct collect_sink sink = { .begin = on_begin, .gate = on_gate, .sample = on_sample, .wait = on_wait, .total = on_total, .loss = on_loss };
static struct collect *collect;

static void pause_ms(unsigned ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&t, &t) < 0)
		;
}

static void tick(void)
{
	collect_tick(collect, &sink, NULL);
	if (watched.in_wait > 0)
		watched.waited_ns += tick_ns * (uint64_t)watched.in_wait;
}

static void ticks(int n, unsigned ms)
{
	for (int i = 0; i < n; i++) {
		pause_ms(ms);
		tick();
	}
}

static void watch(pid_t pid)
{
	memset(&watched, 0, sizeof watched);
	watched.pid = pid;
}

/* ---- results ---- */

static int test_number;

static void result(bool ok, const char *what)
{
	printf("%sok %d - %s\n", ok ? "" : "not ", ++test_number, what);
	fflush(stdout);
}

static void close_to(double is, double should, double share, const char *what)
{
	printf("# %s: %.4g, expected %.4g\n", what, is, should);
	result(fabs(is - should) <= share * should, what);
}

/* ---- workloads: children that tell by shared memory what they did ---- */

struct told {
	uint64_t value;
	volatile uint32_t futex;
};

static struct told *told;

static pid_t start(void (*work)(void))
{
	pid_t pid;

	memset((void *)told, 0, sizeof *told);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		work();
		_exit(0);
	}
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void spin(void)
{
	for (;;)
		__asm__ volatile("" ::: "memory");
}

static void spin_for(uint64_t ns)
{
	uint64_t until = clock_monotonic_ns() + ns;

	while (clock_monotonic_ns() < until)
		;
}

/* Time that this thread has waited for a CPU, by the kernel's account. */
static uint64_t run_delay(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/thread-self/schedstat", "re");
	uint64_t delay = 0;

	return f && fscanf(f, "%*u %" SCNu64, &delay) == 1 ? delay : 0;
}

static void sleep_80(void)
{
	for (;;) {
		uint64_t before = clock_monotonic_ns(), delay = run_delay();

		pause_ms(40);
		told->value += clock_monotonic_ns() - before - (run_delay() - delay);
		spin_for(10000000);
	}
}

#define TOUCH_PAGES 30000UL
#define PAGE 4096UL

static void touch(void)
{
	struct rusage usage;

	for (int round = 0; round < 10; round++) {
		char *memory = mmap(NULL, TOUCH_PAGES / 10 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		madvise(memory, TOUCH_PAGES / 10 * PAGE, MADV_NOHUGEPAGE);
		for (size_t i = 0; i < TOUCH_PAGES / 10; i++)
			memory[i * PAGE] = 1;
		munmap(memory, TOUCH_PAGES / 10 * PAGE);
		pause_ms(200);
	}
	getrusage(RUSAGE_SELF, &usage);
	told->value = (uint64_t)usage.ru_minflt;
	pause();
}

static void wait_long(void)
{
	syscall(SYS_futex, &told->futex, FUTEX_WAIT, 0, NULL, NULL, 0);
	told->value = clock_monotonic_ns();
	spin();
}

/* ---- tests ---- */

static void test_on_cpu(void)
{
	pid_t pid = start(spin);
	double share;

	watch(pid);
	ticks(10, 1000);
	end(pid);
	ticks(1, 100);
	/* On a CPU of its own every sample is the spinner's; on a shared one the draw adds its own error. */
	share = watched.totals[METRIC_ON_CPU] > 9 * NSEC_PER_SEC ? 0 : 3 / sqrt((double)watched.values[METRIC_HITS] + 1);
	close_to((double)watched.values[METRIC_ON_CPU], (double)watched.totals[METRIC_ON_CPU], 0.05 + share,
	         "on-CPU time of a spinner by its stacks agrees with the kernel's account");
}

static void test_blocked(void)
{
	pid_t pid = start(sleep_80);
	double by_stacks;

	watch(pid);
	ticks(6, 1000);
	by_stacks = (double)(watched.values[METRIC_BLOCKED] + watched.waited_ns);
	close_to(by_stacks, (double)told->value, 0.05, "blocked time of a thread that sleeps 80 % by its stacks");
	close_to((double)watched.totals[METRIC_BLOCKED], (double)told->value, 0.05, "and by the totals");
	end(pid);
	ticks(1, 100);
}

static void test_faults(void)
{
	pid_t pid = start(touch);

	watch(pid);
	ticks(4, 1000);
	for (int i = 0; i < 20 && !told->value; i++)
		ticks(1, 1000);
	close_to((double)watched.values[METRIC_FAULTS_MINOR], (double)told->value, 0.03, "page faults by their stacks");
	close_to((double)watched.totals[METRIC_FAULTS_MINOR], (double)told->value, 0.03, "and by the totals");
	end(pid);
	ticks(1, 100);
}

static void test_long_wait(void)
{
	pid_t pid = start(wait_long);
	uint64_t started = clock_monotonic_ns();
	double blocked;

	watch(pid);
	ticks(4, 1000);
	result(watched.waits == 1 && watched.in_wait == 1, "a wait that has not ended is visible");
	pause_ms(500);
	told->futex = 1;
	syscall(SYS_futex, &told->futex, FUTEX_WAKE, 1, NULL, NULL, 0);
	pause_ms(300);
	tick();
	result(watched.wait_ends == 1 && watched.in_wait == 0, "and gone when it has ended");
	blocked = (double)(watched.waited_ns + watched.values[METRIC_BLOCKED]);
	close_to(blocked, (double)(told->value - started), 0.05, "its time is counted once, from its begin to its end");
	end(pid);
	pid = start(wait_long);
	watch(pid);
	ticks(3, 1000);
	result(watched.in_wait == 1, "another wait is visible");
	end(pid);
	ticks(1, 100);
	result(watched.in_wait == 0, "a thread that is killed leaves its wait");
}

/* Starts spinning processes and finds out when that many are running. */
static uint64_t hog(pid_t *pids, size_t n, unsigned needed)
{
	for (size_t i = 0; i < n; i++)
		pids[i] = start(spin);
	for (int i = 0; i < 1000; i++) {
		FILE *f = fopen("/proc/loadavg", "re");
		unsigned running = 0;

		if (f && fscanf(f, "%*f %*f %*f %u/", &running) == 1 && running > needed) {
			fclose(f);
			return clock_realtime_us();
		}
		if (f)
			fclose(f);
	}
	return clock_realtime_us();
}

static void test_gate(void)
{
	struct pollfd fd = { .fd = collect_gate_fd(collect), .events = POLLIN };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	size_t n = (size_t)cpus * (size_t)(OPEN_ABOVE * 1.2);
	_cleanup_free_ pid_t *pids = calloc(n, sizeof *pids);
	struct sched_param param = { .sched_priority = 1 };
	struct collect_status status;
	uint64_t crossed, told_us, full;
	int r;

	collect_gate_set(collect, GATE_AUTO, USEC_INFINITY);
	for (int i = 0; i < 20; i++) {
		ticks(1, 500);
		if (!gate_open)
			break;
	}
	result(!gate_open, "the gate is closed while little runs");
	sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param);
	gate_seen = false;
	crossed = hog(pids, n, (unsigned)cpus * OPEN_ABOVE);
	r = poll(&fd, 1, 2000);
	told_us = clock_realtime_us();
	collect_gate_dispatch(collect);
	full = clock_realtime_us();
	collect_get_status(collect, &status);
	printf("# the load was over the threshold at 0, told after %.2f ms, full rate after %.2f ms\n",
	       ((double)told_us - (double)crossed) / 1e3, ((double)full - (double)crossed) / 1e3);
	result(r == 1 && status.gate_open && full < crossed + 10000, "the gate opens within 10 ms under a hog");
	ticks(2, 1000);
	result(gate_seen && streq(gate_cause, "load"), "the change and its cause are told");
	printf("# load %.2f\n", load);
	result(gate_open && load > OPEN_ABOVE && load < OPEN_ABOVE * 2, "the load is that of the hog");
	sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){ 0 });
	for (size_t i = 0; i < n; i++)
		end(pids[i]);
	gate_seen = false;
	for (int i = 0; i < 8 && gate_open; i++)
		ticks(1, 1000);
	result(!gate_open && gate_seen && streq(gate_cause, "load-low"), "and closes when the load is low again");
}

static void test_override(void)
{
	gate_seen = false;
	result(collect_gate_set(collect, GATE_FORCED_OPEN, clock_realtime_us() - 1) == -EINVAL, "a deadline in the past is refused");
	collect_gate_set(collect, GATE_FORCED_OPEN, clock_realtime_us() + 1500 * USEC_PER_MSEC);
	ticks(1, 500);
	result(gate_open && gate_seen && streq(gate_cause, "manual"), "an override opens the gate");
	gate_seen = false;
	ticks(3, 700);
	result(!gate_open && gate_seen && streq(gate_cause, "manual-expired"), "and ends at its deadline");
	collect_gate_open_for(collect, "pressure-io");
	ticks(1, 100);
	result(gate_open && streq(gate_cause, "pressure-io"), "pressure opens it as well");
}

static void test_frames(void)
{
	struct collect_frames frames;

	result(collect_frames(collect, 0, &frames) == -ENOENT, "an unknown stack has no frames");
	result(idle_samples == 0, "nothing was ever counted on the idle task");
}

int main(void)
{
	const struct collect_config config = {
		.sample_hz = 49, .baseline_hz = 5, .fault_hz = 199, .fault_baseline_hz = 11, .offcpu_stacks_per_sec = 0, .known_stacks = true,
		.open_above = OPEN_ABOVE, .close_below = OPEN_ABOVE * 0.8, .close_after_us = 2 * USEC_PER_SEC, .cooldown_us = 100000,
		.max_stacks = 16384, .max_counts = 16384, .max_processes = 16384, .cpu_budget_closed = 1, .cpu_budget_open = 1,
		.unwind_depth = 128,
		.max_heap_blocks = 4096,
	};
	struct helper *helper;
	struct collect_status status;
	int r;

	log_setup("collect_probe", LOG_LEVEL_INFO);
	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	r = helper_start(&helper);
	if (r >= 0)
		r = collect_new(&collect, &config, helper);
	if (r < 0) {
		printf("Bail out! the collector can't be started: %s\n", strerror(-r));
		return 1;
	}
	collect_gate_set(collect, GATE_FORCED_OPEN, USEC_INFINITY);
	ticks(1, 100);
	test_on_cpu();
	test_blocked();
	test_faults();
	test_long_wait();
	test_gate();
	test_override();
	test_frames();
	collect_get_status(collect, &status);
	printf("# %s; %s; %s; %s; %s; maps %.1f MB; %u stacks\n", status.load_source, status.oncpu_source, status.offcpu_source,
	       status.faults_source, status.totals_source, (double)status.map_bytes / 1e6, status.stacks);
	collect_free(collect);
	helper_stop(helper);
	printf("1..%d\n", test_number);
	return 0;
}
