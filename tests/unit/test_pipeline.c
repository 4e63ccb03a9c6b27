/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pipeline between a scripted kernel (collect, symbol), a scripted detector, and the real store. */
#include "balance.c"
#include "live_source.c"
#include "pipeline.c"
#include "stack_ids.c"
#include "growers.c"
#include "scoring.c"
#include "open_waits.c"
#include "pending.c"

#include <setjmp.h>
#include <sys/mman.h>

#include <cmocka.h>

#define ARENA_SIZE (8u << 20)
#define PID_A 100
#define PID_OWN 7

/* ---- the script ---- */

struct event {
	enum { SAMPLE, WAIT, TOTAL, MEMORY, GROWN, LOSS, MAPPINGS_LOST } kind;
	uint64_t raw_id;
	pid_t pid;
	uint64_t on_cpu; /* MEMORY, GROWN: bytes */
	int threads;
	uint64_t hits;   /* of SAMPLE; 0: one */
};

static struct event script[8];
static size_t n_script;
static uint64_t now_us, duration_ns;
static bool frames_are_gone, names_are_out, processes_are_new, code_is_unnamed;
static uint64_t alarm_above; /* on-CPU ns that the scripted detector finds too much */
static bool total_alarms;    /* the scripted detector tells the unit that it was given last */
static enum metric told_metric;
static bool growth_alarms;   /* the same of memory that grows */
static bool units_are_full;
static int64_t unit_memory_given;
static bool function_alarms; /* a function that has, or had, most samples of the last series given */
static size_t functions_given;
static uint64_t function_samples, function_unit, function_series;
static uint64_t unit_key_given, unit_total_given;
static double lost_given;
static size_t scored, told, grouped, n_learnt;
static char learnt[64];
static struct store_anomaly published;

static detect_evidence_fn evidence_fn;
static void *evidence_userdata;
static double evidence_of_6000;
static unsigned withheld;
static uint64_t incidents_gave_way;

static void say(struct event e)
{
	script[n_script++] = e;
}

static struct collect_process process_of(pid_t pid)
{
	return (struct collect_process) { .pid = pid, .exec_id = 1, .start_ns = 1000 + pid, .uid = 0, .comm = "victim" };
}

void collect_mappings_dispatch(struct collect *c _unused_, const struct collect_sink *s _unused_, void *userdata _unused_)
{
}

int collect_tick(struct collect *c _unused_, const struct collect_sink *s, void *userdata)
{
	s->begin(userdata, &(struct collect_tick_info) { .time_us = now_us, .duration_ns = duration_ns, .load = 1, .gate_open = true, .online_cpus = 2 });
	for (size_t i = 0; i < n_script; i++) {
		const struct event *e = &script[i];

		switch (e->kind) {
		case SAMPLE:
			s->sample(userdata, &(struct collect_sample) { .raw_id = e->raw_id, .process = process_of(e->pid), .values = { [METRIC_ON_CPU] = e->on_cpu, [METRIC_HITS] = MAX(e->hits, 1u) } });
			break;
		case GROWN:
			s->sample(userdata, &(struct collect_sample) { .raw_id = e->raw_id, .process = process_of(e->pid), .values = { [METRIC_RSS] = e->on_cpu } });
			break;
		case WAIT:
			s->wait(userdata, &(struct collect_wait) { .raw_id = e->raw_id, .process = process_of(e->pid), .threads = e->threads });
			break;
		case TOTAL:
			s->total(userdata, &(struct collect_total) { .process = process_of(e->pid), .threads = 1, .values = { [METRIC_ON_CPU] = e->on_cpu } });
			break;
		case MEMORY:
			s->memory(userdata, &(struct collect_memory) { .process = process_of(e->pid), .resident = (int64_t)e->on_cpu, .anonymous = (int64_t)e->on_cpu / 2 });
			break;
		case LOSS:
			s->loss(userdata, "counts-full", e->on_cpu);
			break;
		case MAPPINGS_LOST:
			s->loss(userdata, "mappings-lost", e->on_cpu);
			break;
		}
	}
	for (size_t i = 0; i < n_script; i++)
		if (script[i].kind == SAMPLE)
			s->moment(userdata, &(struct collect_moment) { script[i].raw_id, now_us - USEC_PER_SEC / 2 + script[i].raw_id, script[i].on_cpu, 0, "" });
	n_script = 0;
	return 0;
}

/* Raw stacks have the frames of that whose number is theirs without thousands; they end early from here on. */
#define TRUNCATED 2000

int collect_frames(struct collect *c _unused_, uint64_t raw_id, struct collect_frames *ret)
{
	if (frames_are_gone)
		return -ENOENT;
	*ret = (struct collect_frames) { .process = process_of(PID_A), .truncated = raw_id >= TRUNCATED, .n_user = 2, .user = { raw_id, 1 } };
	return 0;
}

int symbols_process(struct symbols *s _unused_, const struct symbols_process_key *key, uint64_t cgroup_id _unused_, const char *comm,
                    uint32_t uid, bool kernel_thread _unused_, const struct symbols_process **ret)
{
	static struct symbols_process p;

	p = (struct symbols_process) { .key = *key, .settled = !processes_are_new, .identified = true, .uid = uid, .exe = "/usr/bin/victim", .unit = "victim.service", .cgroup = "/system.slice/victim.service" };
	copy_string(p.comm, sizeof(p.comm), comm);
	*ret = &p;
	return 0;
}

int symbols_resolve(struct symbols *s _unused_, const struct symbols_process_key *key _unused_, const uint64_t *kernel _unused_, size_t n_kernel _unused_,
                    const uint64_t *user, size_t n_user _unused_, struct symbols_frame frames[static SYMBOLS_FRAMES_MAX], size_t *ret_n, uint64_t *ret_stack_id)
{
	if (names_are_out)
		return -EAGAIN;
	frames[0] = (struct symbols_frame) { .id = user[0] % 1000, .kind = FRAME_USER, .function = "leaf", .object = "victim", .display = "leaf" };
	frames[1] = (struct symbols_frame) { .id = 1, .kind = FRAME_USER, .function = "main", .object = "victim", .display = "main" };
	if (code_is_unnamed)
		frames[0] = (struct symbols_frame) { .id = 2, .kind = FRAME_JIT, .function = "", .object = "[anon]", .display = "[anon]" };
	*ret_n = 2;
	*ret_stack_id = code_is_unnamed ? 2 : user[0] % 1000 * 1000;
	return 0;
}

void unwind_tick(struct unwind *u _unused_)
{
}

void symbols_mapping_event(struct symbols *s _unused_, const struct symbols_mapping_event *event _unused_)
{
}

int symbols_dispatch(struct symbols *s _unused_)
{
	return 0;
}

size_t detect_series_state_size(void)
{
	return 0;
}

size_t detect_global_state_size(void)
{
	return 0;
}

void detect_tick_begin(struct detect *d _unused_, const struct detect_tick *tick)
{
	lost_given = tick->lost_fraction;
}

bool detect_series(struct detect *d _unused_, void *state _unused_, const uint64_t values[static METRIC_N], uint32_t silent_ticks _unused_, struct detect_result *ret)
{
	scored++;
	if (values[METRIC_ON_CPU] <= alarm_above || evidence_fn(evidence_userdata, METRIC_ON_CPU, true) > 2)
		return false;
	*ret = (struct detect_result) { .type = DETECT_SPIKE, .metric = METRIC_ON_CPU, .p_value = 1e-9, .score = 9, .observed = 1, .since_us = now_us };
	return true;
}

int detect_add_total(struct detect *d _unused_, uint64_t key, const uint64_t values[static METRIC_N])
{
	unit_key_given = key;
	unit_total_given += values[METRIC_ON_CPU];
	return units_are_full ? -ENOSPC : 0;
}

int detect_add_memory(struct detect *d _unused_, uint64_t key _unused_, int64_t change)
{
	unit_memory_given += change;
	return units_are_full ? -ENOSPC : 0;
}

bool detect_growth(struct detect *d _unused_, uint64_t *ret_key, struct detect_result *ret)
{
	if (!growth_alarms)
		return false;
	growth_alarms = false;
	*ret_key = unit_key_given;
	*ret = (struct detect_result) { .type = DETECT_SLOW_GROWTH, .metric = METRIC_RSS, .p_value = 1e-9, .score = 9, .margin = 2, .observed = 7, .since_us = now_us - 60 * USEC_PER_SEC };
	return true;
}

double detect_wait_rise(const struct detect *d _unused_, const void *state _unused_, uint64_t blocked, uint32_t silent_ticks _unused_)
{
	return (double)blocked;
}

void detect_add_wait(struct detect *d _unused_, uint64_t key _unused_, const void *state _unused_, uint64_t blocked _unused_, double rise _unused_, double process_s _unused_)
{
}

bool detect_moved_waits(struct detect *d _unused_, uint64_t *ret_key _unused_, struct detect_result *ret _unused_)
{
	return false;
}

void detect_same_trouble(struct detect *d _unused_)
{
}

void detect_add_functions(struct detect *d _unused_, uint64_t unit, uint64_t series, const uint64_t *functions _unused_, size_t n, const uint64_t values[static METRIC_N])
{
	functions_given = n;
	function_samples += values[METRIC_HITS];
	function_unit = unit;
	function_series = series;
}

bool detect_functions(struct detect *d _unused_, uint64_t *ret_series, struct detect_result *ret)
{
	if (!function_alarms)
		return false;
	function_alarms = false;
	*ret_series = function_series;
	*ret = (struct detect_result) { .type = DETECT_VANISHED_STACK, .metric = METRIC_ON_CPU, .p_value = 1e-9, .score = 9, .margin = 2, .expected = 7, .since_us = now_us };
	return true;
}

double detect_growth_rate(const struct detect *d _unused_, uint64_t key _unused_)
{
	return 7;
}

bool detect_totals(struct detect *d _unused_, uint64_t *ret_key, struct detect_result *ret)
{
	if (!total_alarms)
		return false;
	total_alarms = false;
	*ret_key = unit_key_given;
	*ret = (struct detect_result) { .type = DETECT_SPIKE, .metric = told_metric, .p_value = 1e-9, .score = 9, .margin = 2, .observed = 7, .since_us = now_us };
	return true;
}

void detect_tick_end(struct detect *d _unused_)
{
}

void detect_set_evidence(struct detect *d _unused_, detect_evidence_fn fn, void *userdata)
{
	evidence_fn = fn;
	evidence_userdata = userdata;
}

void detect_withhold(struct detect *d _unused_, const struct detect_result *result _unused_)
{
	withheld++;
}

void incidents_set_starves(struct incidents *i _unused_, incidents_starves_fn fn _unused_, void *userdata _unused_)
{
}

void incidents_set_growth(struct incidents *i _unused_, incidents_growth_fn fn _unused_, void *userdata _unused_)
{
}

double incidents_evidence(struct incidents *i _unused_, uint64_t stack_id, enum metric metric _unused_, bool rises _unused_, uint64_t time_us)
{
	assert_int_equal(time_us, now_us);
	return stack_id == 6000 ? evidence_of_6000 : 0;
}

const char *detect_type_to_string(enum detect_type t _unused_)
{
	return "spike";
}

void incidents_learn_stack(struct incidents *i _unused_, const struct store_frame *frames, size_t n)
{
	assert_int_equal(n, 2);
	copy_string(learnt, sizeof(learnt), frames[0].display);
	n_learnt++;
}

bool incidents_add(struct incidents *i _unused_, const struct store_anomaly *a)
{
	assert_true(a->id > 0);
	told++;
	return true;
}

uint64_t incidents_tick(struct incidents *i _unused_, const struct store_tick *tick)
{
	assert_int_equal(tick->time_us, now_us);
	grouped++;
	return incidents_gave_way;
}

int alert_gate(struct alert *a _unused_, uint64_t now _unused_, bool open _unused_, double load _unused_, const char *cause _unused_)
{
	return 0;
}

void alert_tick(struct alert *a _unused_, uint64_t now _unused_)
{
}

/* ---- fixtures ---- */

struct fixture {
	void *arena;
	struct store *store;
	struct moments *moments;
	struct pipeline *pipeline;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct store_config config = { .tiers = { { 1, 300 }, { 10, 600 }, { 60, 3600 } }, .series_state_size = 64, .global_state_size = 64, .slices_per_series = 8 };
	const struct pipeline_config pipeline = { .max_stacks = 64, .own_pids = { PID_OWN }, .n_own_pids = 1 };
	bool reused;

	f->arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(store_open(&f->store, f->arena, ARENA_SIZE, &config, &reused), 0);
	assert_int_equal(moments_new(&f->moments, 65536), 0);
	assert_int_equal(pipeline_new(&f->pipeline, &(struct pipeline_rooms) { .store = f->store, .moments = f->moments }, &pipeline), 0);
	now_us = 1000 * USEC_PER_SEC;
	frames_are_gone = names_are_out = processes_are_new = code_is_unnamed = false;
	alarm_above = UINT64_MAX;
	total_alarms = growth_alarms = units_are_full = false;
	unit_memory_given = 0;
	function_alarms = false;
	function_samples = 0;
	evidence_of_6000 = 0;
	withheld = 0;
	incidents_gave_way = 0;
	told_metric = METRIC_ON_CPU;
	unit_key_given = unit_total_given = 0;
	scored = told = grouped = n_learnt = n_script = 0;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	pipeline_free(f->pipeline);
	moments_free(f->moments);
	store_close(f->store);
	munmap(f->arena, ARENA_SIZE);
	free(f);
	return 0;
}

static void publish(void *userdata _unused_, const struct store_anomaly *anomaly)
{
	published = *anomaly;
}

static void tick_of(struct fixture *f, uint64_t ns)
{
	duration_ns = ns;
	now_us += ns / NSEC_PER_USEC;
	assert_int_equal(pipeline_tick(f->pipeline, now_us, publish, NULL), 0);
}

static void tick(struct fixture *f)
{
	tick_of(f, NSEC_PER_SEC);
}

static int add_sum(void *userdata, const struct store_slice_sum *sum)
{
	uint64_t *values = userdata;

	for (size_t m = 0; m < METRIC_N; m++)
		values[m] += sum->values[m];
	return 0;
}

static uint64_t sum_of(struct fixture *f, enum metric m)
{
	uint64_t values[METRIC_N] = {};

	store_visit_slices(f->store, &(struct store_filter) { .until_us = now_us, .viewer_uid = STORE_ANY_UID }, add_sum, values);
	return values[m];
}

/* The store keeps leading bits and carries the rest. */
static void assert_about(uint64_t value, uint64_t expected)
{
	assert_true(value > expected * 0.98 && value < expected * 1.02);
}

static uint64_t lost(struct fixture *f, const char *cause)
{
	struct store_loss losses[STORE_LOSS_CAUSES_MAX];
	size_t n = store_get_losses(f->store, losses);

	for (size_t i = 0; i < n; i++)
		if (streq(losses[i].cause, cause))
			return losses[i].n;
	return 0;
}

/* ---- tests ---- */

static void test_nothing_is_lost_while_names_are_out(void **state)
{
	struct fixture *f = *state;
	struct pipeline_status status;

	names_are_out = true;
	for (int i = 0; i < 3; i++) {
		say((struct event) { SAMPLE, 5, PID_A, 20 * 1000 * 1000 });
		say((struct event) { SAMPLE, 6, PID_A, 10 * 1000 * 1000 });
		tick(f);
	}
	assert_int_equal(sum_of(f, METRIC_ON_CPU), 0);
	pipeline_get_status(f->pipeline, &status);
	assert_int_equal(status.pending, 2);
	names_are_out = false;
	tick(f);
	tick(f);
	assert_about(sum_of(f, METRIC_ON_CPU), 90 * 1000 * 1000);
	pipeline_get_status(f->pipeline, &status);
	assert_int_equal(status.pending, 0);
	assert_int_equal(lost(f, "unidentified"), 0);
}

struct weights {
	struct store *store;
	uint64_t five_us, six_us, unnamed_us;
};

static int add_moment(void *userdata, const struct moment *m)
{
	struct weights *w = userdata;
	struct store_process process;
	struct store_frame frame;
	bool truncated;
	uint64_t id;
	size_t n;

	if (!m->stack) {
		w->unnamed_us += m->weight_us;
		return 0;
	}
	assert_int_equal(store_get_process(w->store, m->process, &process), 0);
	assert_int_equal(process.pid, PID_A);
	assert_int_equal(store_get_stack(w->store, m->stack, &id, &truncated, &frame, 1, &n), 0);
	*(id == 5000 ? &w->five_us : &w->six_us) += m->weight_us;
	return 0;
}

/* As sums do, samples' times get their stacks when names come. */
static void test_moments_get_their_names_later(void **state)
{
	struct fixture *f = *state;
	uint64_t begin_us = now_us, since, until;

	for (uint64_t i = 1; i <= 4; i++) {
		struct weights w = { f->store };

		names_are_out = i <= 2;
		say((struct event) { SAMPLE, 5, PID_A, 20 * 1000 * 1000 });
		say((struct event) { SAMPLE, 6, PID_A, 10 * 1000 * 1000 });
		tick(f);
		assert_true(moments_range(f->moments, &since, &until));
		assert_int_equal(since, begin_us);
		assert_int_equal(until, now_us);
		moments_visit(f->moments, since, until, add_moment, &w);
		assert_int_equal(w.five_us, names_are_out ? 0 : i * 20000);
		assert_int_equal(w.six_us, names_are_out ? 0 : i * 10000);
		assert_int_equal(w.unnamed_us, names_are_out ? i * 30000 : 0);
	}
}

/* A perf-map comes after the code: from then on it has its name, and nothing of what it did before is lost. Its addresses weigh all of it. */
static void test_code_gets_its_name_later(void **state)
{
	struct fixture *f = *state;
	struct stack_address found[2];
	double weight;

	code_is_unnamed = true;
	say((struct event) { SAMPLE, 5, PID_A, 20 * 1000 * 1000 });
	tick(f);
	assert_int_not_equal(store_find_stack(f->store, 2), 0);
	code_is_unnamed = false;
	frames_are_gone = true; /* it can't be looked up again: it stays what it was */
	say((struct event) { SAMPLE, 5, PID_A, 20 * 1000 * 1000 });
	tick(f);
	frames_are_gone = false;
	assert_int_equal(store_find_stack(f->store, 5000), 0);
	say((struct event) { SAMPLE, 5, PID_A, 20 * 1000 * 1000 });
	tick(f);
	assert_int_not_equal(store_find_stack(f->store, 5000), 0);
	tick(f);
	assert_about(sum_of(f, METRIC_ON_CPU), 60 * 1000 * 1000);
	assert_int_equal(pipeline_addresses(f->pipeline, 5000, found, 2, &weight), 1);
	assert_true(found[0].weight > 59e6f);
	assert_int_equal(lost(f, "frames-gone"), 0);
}

static void test_pending_is_bounded(void **state)
{
	struct fixture *f = *state;

	names_are_out = true;
	for (int i = 0; i < PENDING_MAX + 10; i++) {
		say((struct event) { SAMPLE, 10 + i, PID_A, 1000000 });
		if (n_script == ELEMENTS_OF(script) || i == PENDING_MAX + 9)
			tick(f);
	}
	assert_int_equal(lost(f, "pending-full"), 10);
}

static void test_wait_ends_where_it_began(void **state)
{
	struct fixture *f = *state;
	struct pipeline_status status;

	say((struct event) { WAIT, 5, PID_A, 0, 2 });
	tick(f);
	tick(f);
	tick(f);
	/* By now the process is gone, and the kernel has forgotten the frames. */
	frames_are_gone = true;
	say((struct event) { WAIT, 5, PID_A, 0, -2 });
	tick(f);
	uint64_t after = sum_of(f, METRIC_BLOCKED);

	assert_true(after >= 4 * NSEC_PER_SEC && after <= 8 * NSEC_PER_SEC);
	tick(f);
	tick(f);
	assert_int_equal(sum_of(f, METRIC_BLOCKED), after);
	pipeline_get_status(f->pipeline, &status);
	assert_int_equal(status.waits, 0);
	/* An end whose beginning was never seen changes nothing. */
	say((struct event) { WAIT, 99, PID_A, 0, -1 });
	tick(f);
	assert_int_equal(sum_of(f, METRIC_BLOCKED), after);
}

static void test_wait_is_counted_while_its_names_are_out(void **state)
{
	struct fixture *f = *state;

	names_are_out = true;
	say((struct event) { WAIT, 5, PID_A, 0, 1 });
	tick(f);
	tick(f);
	tick(f);
	names_are_out = false;
	tick(f);
	assert_true(sum_of(f, METRIC_BLOCKED) >= 3 * NSEC_PER_SEC);
	say((struct event) { WAIT, 5, PID_A, 0, -1 });
	tick(f);
	uint64_t after = sum_of(f, METRIC_BLOCKED);

	tick(f);
	assert_int_equal(sum_of(f, METRIC_BLOCKED), after);
}

static uint64_t total_of(struct fixture *f, enum metric m)
{
	uint64_t values[METRIC_N] = {};

	store_visit_totals(f->store, &(struct store_filter) { .until_us = now_us, .viewer_uid = STORE_ANY_UID }, add_sum, values);
	return values[m];
}

static void test_nothing_is_stored_under_a_provisional_process(void **state)
{
	struct fixture *f = *state;
	struct store_process process;

	processes_are_new = true;
	say((struct event) { SAMPLE, 5, PID_A, 20 * 1000 * 1000 });
	say((struct event) { TOTAL, 0, PID_A, 30 * 1000 * 1000 });
	tick(f);
	assert_int_equal(store_find_process(f->store, PID_A, 1, 1000 + PID_A), 0);
	processes_are_new = false;
	tick(f);
	assert_about(sum_of(f, METRIC_ON_CPU), 20 * 1000 * 1000);
	assert_about(total_of(f, METRIC_ON_CPU), 30 * 1000 * 1000);
	assert_int_equal(store_get_process(f->store, store_find_process(f->store, PID_A, 1, 1000 + PID_A), &process), 0);
	assert_string_equal(process.exe, "/usr/bin/victim");
	assert_true(process.start_us > 0);
}

static void test_losses_are_told_by_cause(void **state)
{
	struct fixture *f = *state;

	frames_are_gone = true;
	say((struct event) { SAMPLE, 5, PID_A, 1000000 });
	say((struct event) { LOSS, .on_cpu = 3 });
	say((struct event) { LOSS, .on_cpu = 4 });
	units_are_full = true;
	say((struct event) { TOTAL, 0, PID_A, 1000000 });
	tick(f);
	assert_int_equal(lost(f, "frames-gone"), 1);
	assert_int_equal(lost(f, "counts-full"), 7);
	assert_int_equal(lost(f, "units-full"), 1);
}

/* Of how many samples, not of how many stacks; and of what they say only. */
static void test_losses_are_a_part_of_the_samples(void **state)
{
	struct fixture *f = *state;

	say((struct event) { SAMPLE, 5, PID_A, 1000000, .hits = 60 });
	say((struct event) { SAMPLE, 6, PID_A, 1000000, .hits = 30 });
	say((struct event) { LOSS, .on_cpu = 10 });
	say((struct event) { MAPPINGS_LOST, .on_cpu = 1000 });
	tick(f);
	assert_true(fabs(lost_given - 0.1) < 1e-9);
	assert_int_equal(lost(f, "mappings-lost"), 1000);
	tick(f);
	assert_true(lost_given == 0);
}

static void test_anomaly_is_kept_and_told(void **state)
{
	struct fixture *f = *state;

	alarm_above = 500 * 1000 * 1000;
	say((struct event) { SAMPLE, 5, PID_A, 900 * 1000 * 1000 });
	say((struct event) { SAMPLE, 6, PID_A, 100 * 1000 * 1000 });
	tick(f);
	assert_int_equal(told, 1);
	assert_true(grouped > 0);
	/* Each once, however often it is seen. */
	assert_int_equal(n_learnt, 2);
	assert_string_equal(learnt, "leaf");
	assert_int_equal(published.pid, PID_A);
	assert_string_equal(published.unit, "victim.service");
	assert_int_equal(published.stack_id, 5000);
	assert_int_equal(published.id, 1);
}

static void test_growth_is_told_with_the_stack_that_took_most(void **state)
{
	struct fixture *f = *state;

	/* Some take and give back; what is left says who keeps it. */
	for (unsigned i = 0; i < 5; i++) {
		say((struct event) { MEMORY, 0, PID_A, 4096 });
		say((struct event) { MEMORY, 0, PID_OWN, 1 << 20 });
		say((struct event) { GROWN, 5, PID_A, i % 2 ? (uint64_t)-900000 : 900000 });
		say((struct event) { GROWN, 6, PID_A, 400000 });
		say((struct event) { GROWN, 7, PID_A, 200000 });
		growth_alarms = i == 4;
		unit_key_given = 1;
		say((struct event) { TOTAL, 0, PID_A, 1000 });
		tick(f);
	}
	assert_int_equal(unit_memory_given, 5 * 2048);
	assert_int_equal(told, 0);
	say((struct event) { GROWN, 7, PID_A, 200000 });
	tick(f);
	assert_int_equal(told, 1);
	assert_int_equal(published.stack_id, 6000);
	assert_int_equal(published.type, DETECT_SLOW_GROWTH);
	assert_int_equal(published.metric, METRIC_RSS);
	assert_string_equal(published.unit, "victim.service");
	tick(f);
	assert_int_equal(told, 1);
}

/* What its unit's samples are of is asked for; what is told of a function is told of its series, which does nothing now. */
static void test_function_that_stops_is_told_with_its_stack(void **state)
{
	struct fixture *f = *state;

	say((struct event) { SAMPLE, 6, PID_A, 100 });
	say((struct event) { SAMPLE, 6, PID_A, 100 });
	say((struct event) { TOTAL, 0, PID_A, 1000 });
	tick(f);
	assert_int_equal(functions_given, 2);
	assert_int_equal(function_samples, 2);
	assert_int_equal(function_unit, unit_key_given);
	function_alarms = true;
	tick(f);
	assert_int_equal(told, 0);
	say((struct event) { SAMPLE, 5, PID_A, 100 });
	tick(f);
	assert_int_equal(told, 1);
	assert_int_equal(published.stack_id, 6000);
	assert_int_equal(published.type, DETECT_VANISHED_STACK);
	assert_string_equal(published.unit, "victim.service");
}

static void test_units_total_is_told_with_its_biggest_stack(void **state)
{
	struct fixture *f = *state;

	say((struct event) { TOTAL, 0, PID_A, 300 * 1000 * 1000 });
	say((struct event) { TOTAL, 0, PID_A + 1, 200 * 1000 * 1000 });
	total_alarms = true;
	names_are_out = true; /* no stack yet */
	say((struct event) { SAMPLE, 5, PID_A, 100 * 1000 * 1000 });
	tick(f);
	assert_int_equal(unit_total_given, 500 * 1000 * 1000);
	assert_int_equal(told, 0);
	names_are_out = false;
	say((struct event) { SAMPLE, 6, PID_A, 400 * 1000 * 1000 });
	tick(f);
	assert_int_equal(told, 1);
	assert_string_equal(published.unit, "victim.service");
	assert_int_equal(published.stack_id, 6000);
	assert_true(published.observed > 6.9 && published.observed < 7.1);
	/* once */
	say((struct event) { SAMPLE, 6, PID_A, 400 * 1000 * 1000 });
	tick(f);
	assert_int_equal(told, 1);
}

static void test_incidents_that_give_way_are_counted(void **state)
{
	struct fixture *f = *state;

	incidents_gave_way = 3;
	tick(f);
	assert_int_equal(lost(f, "incidents-full"), 3);
}

/* Of a unit's alarm it is known only later where it comes from: then that stack's labels count. */
static void test_what_labels_hold_back_is_not_told(void **state)
{
	struct fixture *f = *state;

	alarm_above = 300 * 1000 * 1000;
	for (evidence_of_6000 = 1; evidence_of_6000 <= 3; evidence_of_6000 += 2) {
		unsigned before = told;

		say((struct event) { SAMPLE, 6, PID_A, 400 * 1000 * 1000 });
		tick(f);
		assert_int_equal(told, before + (evidence_of_6000 < 2));
		say((struct event) { TOTAL, 0, PID_A, 300 * 1000 * 1000 });
		total_alarms = true;
		say((struct event) { SAMPLE, 6, PID_A, 200 * 1000 * 1000 });
		tick(f);
		assert_int_equal(told, before + 2 * (evidence_of_6000 < 2));
	}
	assert_int_equal(withheld, 1);
	/* Other stacks are told as ever. */
	say((struct event) { SAMPLE, 5, PID_A, 400 * 1000 * 1000 });
	tick(f);
	assert_int_equal(told, 3);
}

static void test_unit_without_samples_of_the_metric_is_told_with_its_busiest_stack(void **state)
{
	struct fixture *f = *state;

	say((struct event) { TOTAL, 0, PID_A, 300 * 1000 * 1000 });
	total_alarms = true;
	told_metric = METRIC_RUNNABLE;
	for (int i = 0; i <= AWAITED_TICKS; i++) {
		assert_int_equal(told, 0);
		say((struct event) { SAMPLE, 5, PID_A, 100 * 1000 * 1000 });
		say((struct event) { SAMPLE, 6, PID_A, 200 * 1000 * 1000 });
		tick(f);
	}
	assert_int_equal(told, 1);
	assert_int_equal(published.stack_id, 6000);
	assert_int_equal(published.metric, METRIC_RUNNABLE);
}

static void test_silent_unit_is_told_with_what_it_did(void **state)
{
	struct fixture *f = *state;

	say((struct event) { SAMPLE, 5, PID_A, 100 * 1000 * 1000 });
	say((struct event) { SAMPLE, 6, PID_A, 200 * 1000 * 1000 });
	say((struct event) { TOTAL, 0, PID_A, 300 * 1000 * 1000 });
	tick(f);
	for (int i = 0; i < 2 * LIVE_TICKS; i++)
		tick(f);
	total_alarms = true;
	for (int i = 0; i <= AWAITED_TICKS; i++) {
		assert_int_equal(told, 0);
		tick(f);
	}
	assert_int_equal(told, 1);
	assert_int_equal(published.stack_id, 6000);
	assert_string_equal(published.unit, "victim.service");
}

static void test_total_and_stack_are_one_anomaly(void **state)
{
	struct fixture *f = *state;

	say((struct event) { TOTAL, 0, PID_A, 900 * 1000 * 1000 });
	say((struct event) { SAMPLE, 5, PID_A, 900 * 1000 * 1000 });
	total_alarms = true;
	alarm_above = 500 * 1000 * 1000;
	tick(f);
	assert_int_equal(told, 1);
}

static void test_own_total_is_not_scored(void **state)
{
	struct fixture *f = *state;

	say((struct event) { TOTAL, 0, PID_OWN, 900 * 1000 * 1000 });
	tick(f);
	assert_int_equal(unit_total_given, 0);
}

static void test_stackd_is_recorded_and_not_scored(void **state)
{
	struct fixture *f = *state;

	alarm_above = 0;
	say((struct event) { SAMPLE, 5, PID_OWN, 900 * 1000 * 1000 });
	tick(f);
	tick(f); /* silent now: nothing says whose it is but the memory of the first tick */
	assert_int_equal(scored, 0);
	assert_int_equal(told, 0);
	assert_about(sum_of(f, METRIC_ON_CPU), 900 * 1000 * 1000);
}

static void test_missed_ticks_and_conservation(void **state)
{
	struct fixture *f = *state;
	struct pipeline_status status;

	for (int i = 0; i < 4; i++) {
		say((struct event) { SAMPLE, 5, PID_A, 900 * 1000 * 1000 });
		say((struct event) { TOTAL, 0, PID_A, 1000 * 1000 * 1000 });
		tick(f);
	}
	tick_of(f, 3 * NSEC_PER_SEC + NSEC_PER_SEC / 10);
	pipeline_get_status(f->pipeline, &status);
	assert_int_equal(status.ticks, 5);
	assert_int_equal(status.ticks_missed, 2);
	assert_true(status.conservation[METRIC_ON_CPU] > 0.899 && status.conservation[METRIC_ON_CPU] < 0.901);
	assert_true(status.conservation[METRIC_FAULTS_MINOR] < 0);
}

/* What differs in addresses only is one stack, and what was found of it is told by weight; one that ended early is another. */
static void test_stack_knows_its_addresses(void **state)
{
	struct fixture *f = *state;
	struct stack_address found[4];
	double weight;

	say((struct event) { SAMPLE, 5, PID_A, 30 });
	say((struct event) { SAMPLE, 1005, PID_A, 50 });
	say((struct event) { SAMPLE, 2005, PID_A, 70 });
	say((struct event) { SAMPLE, 6, PID_A, 90 });
	tick(f);
	say((struct event) { SAMPLE, 5, PID_A, 40 });
	tick(f);
	assert_int_equal(pipeline_addresses(f->pipeline, 5000, found, ELEMENTS_OF(found), &weight), 2);
	assert_int_equal(found[0].raw_id, 5);
	assert_true(found[0].weight == 70 && found[1].weight == 50 && weight == 120);
	assert_int_equal(pipeline_addresses(f->pipeline, 5000, found, 1, &weight), 1);
	assert_int_equal(found[0].raw_id, 5);
	assert_true(weight == 120);
	assert_int_equal(pipeline_addresses(f->pipeline, 7000, found, ELEMENTS_OF(found), &weight), 0);
	assert_true(weight == 0);
}

static void test_idcache_keeps_what_is_in_use(void **state _unused_)
{
	struct idcache c;

	assert_int_equal(idcache_init(&c, 100), 0);
	for (uint64_t i = 0; i < 10000; i++) {
		idcache_put(&c, i, i * 2);
		if (i >= 7) {
			assert_non_null(idcache_find(&c, 7));
			assert_int_equal(*idcache_find(&c, 7), 14);
		}
		assert_true(idcache_size(&c) <= 100);
	}
	assert_null(idcache_find(&c, 8));
	idcache_done(&c);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_nothing_is_lost_while_names_are_out),
		TEST(test_moments_get_their_names_later),
		TEST(test_code_gets_its_name_later),
		TEST(test_pending_is_bounded),
		TEST(test_wait_ends_where_it_began),
		TEST(test_wait_is_counted_while_its_names_are_out),
		TEST(test_nothing_is_stored_under_a_provisional_process),
		TEST(test_losses_are_told_by_cause),
		TEST(test_losses_are_a_part_of_the_samples),
		TEST(test_anomaly_is_kept_and_told),
		TEST(test_growth_is_told_with_the_stack_that_took_most),
		TEST(test_function_that_stops_is_told_with_its_stack),
		TEST(test_units_total_is_told_with_its_biggest_stack),
		TEST(test_incidents_that_give_way_are_counted),
		TEST(test_what_labels_hold_back_is_not_told),
		TEST(test_unit_without_samples_of_the_metric_is_told_with_its_busiest_stack),
		TEST(test_silent_unit_is_told_with_what_it_did),
		TEST(test_total_and_stack_are_one_anomaly),
		TEST(test_stack_knows_its_addresses),
		TEST(test_own_total_is_not_scored),
		TEST(test_stackd_is_recorded_and_not_scored),
		TEST(test_missed_ticks_and_conservation),
		cmocka_unit_test(test_idcache_keeps_what_is_in_use),
	};

	return cmocka_run_group_tests_name("pipeline", tests, NULL, NULL);
}
