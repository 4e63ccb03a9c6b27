/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

#include "remedies.h"
#include "state.h"

#define SECOND USEC_PER_SEC
#define START (1000 * SECOND)
#define CPU 1e9 /* ns a second */

static const struct cluster_config config = { .max_clusters = 64, .max_incidents = 256 };

/* ---- a world of services, whose stacks have little and much in common ---- */

#define DEPTH_MAX 16

struct stack {
	struct cluster_frame frames[DEPTH_MAX];
	size_t n;
};

static const char *const service_objects[] = { "shop", "mailer", "indexer", "gateway", "billing", "search" };

/* Words of a path, outermost first; those with a "k:" are the kernel's, with a "c:" the C library's. */
static struct stack stack_of(const char *object, const char *path)
{
	static char texts[64][512];
	static unsigned next;
	char *text = texts[next++ % ELEMENTS_OF(texts)], *at, *save = NULL;
	const char *words[DEPTH_MAX];
	struct stack s = {};
	size_t n = 0;

	copy_string(text, sizeof(texts[0]), path);
	for (at = strtok_r(text, " ", &save); at && n < DEPTH_MAX; at = strtok_r(NULL, " ", &save))
		words[n++] = at;
	for (size_t i = n; i-- > 0;) {
		bool kernel = strncmp(words[i], "k:", 2) == 0, libc = strncmp(words[i], "c:", 2) == 0;

		s.frames[s.n++] = (struct cluster_frame){
			.function = words[i] + (kernel || libc ? 2 : 0),
			.object = kernel ? "[kernel]" : libc ? "libc.so.6" : object,
			.kernel = kernel,
		};
	}
	return s;
}

struct world {
	struct clusters *c;
	uint64_t now_us, next_anomaly;
	double values[4096]; /* by series: what observe gives */
	unsigned opened, escalated, closed, gave_way;
	struct cluster_incident last_opened;
};

static double observe(void *userdata, const struct cluster_incident *incident _unused_, const struct cluster_series *series)
{
	const struct world *w = userdata;

	return w->values[series->id % ELEMENTS_OF(w->values)];
}

static void on_event(void *userdata, enum cluster_event_kind event, const struct cluster_incident *incident)
{
	struct world *w = userdata;

	w->opened += event == CLUSTER_OPENED;
	w->escalated += event == CLUSTER_ESCALATED;
	w->closed += event == CLUSTER_CLOSED;
	w->gave_way += event == CLUSTER_CLOSED && incident->end == CLUSTER_GAVE_WAY;
	if (event == CLUSTER_OPENED)
		w->last_opened = *incident;
}

static void ticks(struct world *w, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		w->now_us += SECOND;
		clusters_tick(w->c, w->now_us, observe, on_event, w);
	}
}

static void quiet(struct world *w)
{
	memset(w->values, 0, sizeof(w->values));
}

static void tell_goes_on(struct world *w, const char *service, const char *path, enum metric m, double value)
{
	w->values[hash64_string(path, hash64_string(service, m)) % ELEMENTS_OF(w->values)] = value;
}

/* stack and unit must outlive it. */
static struct cluster_anomaly anomaly_of(struct world *w, const struct stack *stack, const char *unit, const char *service, const char *path,
                                         enum metric m, double observed, double expected)
{
	uint64_t series = hash64_string(path, hash64_string(service, m));

	w->values[series % ELEMENTS_OF(w->values)] = observed;
	return (struct cluster_anomaly){
		.id = ++w->next_anomaly, .time_us = w->now_us, .series_id = series, .stack_id = hash64_string(path, 0), .metric = m,
		.observed = observed, .expected = expected, .score = 8, .uid = 0, .pid = 100, .unit = unit, .cgroup = "/system.slice", .exe = service,
		.comm = service, .frames = stack->frames, .n_frames = stack->n,
	};
}

static uint64_t tell(struct world *w, const char *service, const char *path, enum metric m, double observed, double expected, bool fresh)
{
	struct stack s = stack_of(service, path);
	struct cluster_anomaly a;
	char unit[64];

	snprintf(unit, sizeof(unit), "%s.service", service);
	a = anomaly_of(w, &s, unit, service, path, m, observed, expected);
	a.fresh = fresh;
	return clusters_add(w->c, &a, on_event, w);
}

/* What these machines do all day. */
static void learn_usual(struct world *w)
{
	static const char *const usual[] = {
		"_start main serve k:do_syscall_64 k:ep_poll k:schedule", "clone start_thread worker k:do_syscall_64 k:futex_wait_queue k:schedule",
		"_start main serve handle parse c:memcpy",                "_start main serve handle reply c:malloc",
		"_start main serve handle c:malloc c:_int_malloc",        "clone start_thread worker handle query c:memcmp",
	};

	for (size_t s = 0; s < ELEMENTS_OF(service_objects); s++)
		for (size_t u = 0; u < ELEMENTS_OF(usual); u++)
			for (unsigned i = 0; i < 4; i++) {
				struct stack stack = stack_of(service_objects[s], usual[u]);

				clusters_learn_stack(w->c, stack.frames, stack.n);
			}
}

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->now_us = START;
	assert_int_equal(clusters_new(&w->c, &config), 0);
	learn_usual(w);
	return w;
}

static void world_free(struct world *w)
{
	clusters_free(w->c);
	free(w);
}

static struct cluster_class class_of(struct world *w, uint64_t incident)
{
	struct cluster_incident i;
	struct cluster_class class;

	assert_int_equal(clusters_get_incident(w->c, incident, &i), 0);
	assert_int_equal(clusters_get_class(w->c, i.cluster, &class), 0);
	return class;
}

/* ---- vectors ---- */

static void what_is_everywhere_weighs_nothing(void **state)
{
	struct world *w = world_new();
	const struct rarity *r = &w->c->state->rarity;
	struct stack a = stack_of("shop", "_start main serve handle price_basket"), b = stack_of("shop", "_start main serve handle render_page");
	struct stack other = stack_of("mailer", "_start main serve handle deliver");
	struct vector va, vb, vc;

	(void)state;
	assert_true(rarity_of(r, "main") < 0.01F && rarity_of(r, "serve") < 0.3F && rarity_of(r, "price_basket") > 0.9F);
	vector_of_stack(&va, r, a.frames, a.n);
	vector_of_stack(&vb, r, b.frames, b.n);
	vector_of_stack(&vc, r, other.frames, other.n);
	assert_true(fabsf(vector_cosine(&va, &va) - 1) < 1e-4F);
	assert_true(vector_cosine(&va, &vb) < 0.2F);
	assert_true(vector_cosine(&va, &vc) < 0.01F);
	world_free(w);
}

static void offsets_and_library_versions_are_no_identity(void **state)
{
	const struct cluster_frame a = { .function = "[libfoo.so.1+0x1234]", .object = "libfoo.so.1" };
	const struct cluster_frame b = { .function = "[libfoo.so.2+0x2345]", .object = "libfoo.so.2" };
	char name[CLUSTER_FRAME_NAME_MAX];

	(void)state;
	assert_int_equal(vector_frame_feature(&a), vector_frame_feature(&b));
	assert_string_equal(vector_frame_name(name, &a), "[libfoo]");
}

/* ---- incidents ---- */

static void anomalies_of_one_cause_are_one_incident(void **state)
{
	struct world *w = world_new();
	uint64_t first = tell(w, "shop", "_start main serve handle price_basket", METRIC_ON_CPU, 1.5 * CPU, 0.01 * CPU, true);

	(void)state;
	assert_int_equal(tell(w, "shop", "_start main serve handle reply c:malloc", METRIC_ON_CPU, 0, 0.1 * CPU, false), first);
	/* Those that get no CPU because of it. */
	assert_int_equal(tell(w, "mailer", "_start main serve handle deliver", METRIC_RUNNABLE, 0.4 * CPU, 0, false), first);
	ticks(w, 2);
	assert_int_equal(w->opened, 0);
	ticks(w, 2);
	assert_int_equal(w->opened, 1);
	assert_int_equal(w->last_opened.n_anomalies, 3);
	assert_int_equal(w->last_opened.kind, CLUSTER_CPU_SPIN);
	assert_int_equal(w->last_opened.severity, CLUSTER_WARNING);
	assert_string_equal(class_of(w, first).name, "CPU spin in price_basket");
	ticks(w, 60);
	assert_int_equal(w->closed, 0);
	quiet(w);
	ticks(w, 9);
	assert_int_equal(w->closed, 0);
	ticks(w, 3);
	assert_int_equal(w->closed, 1);
	world_free(w);
}

static void two_services_are_two_incidents(void **state)
{
	struct world *w = world_new();
	uint64_t a = tell(w, "shop", "_start main serve handle price_basket", METRIC_ON_CPU, CPU, 0, true);
	uint64_t b = tell(w, "mailer", "clone start_thread worker lock_spool c:pthread_mutex_lock k:do_syscall_64 k:futex_wait k:schedule",
	                  METRIC_BLOCKED, 4 * CPU, 0.1 * CPU, false);

	(void)state;
	assert_true(a != b);
	ticks(w, 4);
	assert_int_equal(w->opened, 2);
	assert_int_equal(class_of(w, a).kind, CLUSTER_CPU_SPIN);
	assert_int_equal(class_of(w, b).kind, CLUSTER_LOCK_CONTENTION);
	world_free(w);
}

/* One asks for the slices of an incident's programs by them. */
static void names_of_an_incidents_program_are_whole(void **state)
{
	struct world *w = world_new();
	struct stack s = stack_of("shop", "_start main serve handle price_basket");
	struct cluster_incident i;
	char name[256] = "";
	uint64_t id;

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	id = clusters_add(w->c, &(struct cluster_anomaly){
		.id = 1, .time_us = w->now_us, .series_id = 1, .stack_id = 1, .metric = METRIC_ON_CPU, .fresh = true, .observed = CPU,
		.score = 8, .pid = 100, .unit = name, .cgroup = name, .exe = name, .comm = "shop", .frames = s.frames, .n_frames = s.n,
	}, on_event, w);
	assert_int_equal(clusters_get_incident(w->c, id, &i), 0);
	assert_string_equal(i.workloads[0].exe, name);
	assert_string_equal(i.workloads[0].unit, name);
	assert_string_equal(i.workloads[0].cgroup, name);
	world_free(w);
}

/* Whoever was told of first: that which moved most stands for the incident. */
static void what_moved_most_comes_first(void **state)
{
	struct world *w = world_new();

	(void)state;
	tell(w, "mailer", "_start main serve handle deliver", METRIC_RUNNABLE, 0.2 * CPU, 0, false);
	tell(w, "shop", "_start main serve handle price_basket", METRIC_ON_CPU, 1.5 * CPU, 0, true);
	ticks(w, 4);
	assert_int_equal(w->opened, 1);
	assert_int_equal(w->last_opened.n_workloads, 2);
	assert_string_equal(w->last_opened.workloads[0].unit, "shop.service");
	assert_string_equal(w->last_opened.workloads[1].unit, "mailer.service");
	world_free(w);
}

static void workers_of_one_service_are_one_incident(void **state)
{
	struct world *w = world_new();
	uint64_t first = 0;

	(void)state;
	for (unsigned worker = 0; worker < 10; worker++) {
		char path[128];
		uint64_t incident;

		/* Each by another way to the same function. */
		snprintf(path, sizeof(path), "clone start_thread worker job_%u rehash_table c:memcpy", worker);
		incident = tell(w, "indexer", path, METRIC_ON_CPU, 0.2 * CPU, 0, true);
		first = first ? first : incident;
		assert_int_equal(incident, first);
		ticks(w, 20);
	}
	assert_int_equal(w->opened, 1);
	world_free(w);
}

/* The waiting is over, or has been going on, when the other begins to compute. */
static void what_comes_later_is_no_cause(void **state)
{
	struct world *w = world_new();
	struct stack s = stack_of("shop", "_start main serve price_basket");
	struct cluster_anomaly later;
	uint64_t waits;

	(void)state;
	waits = tell(w, "indexer", "_start main serve merge_segments", METRIC_RUNNABLE, 3 * CPU, 0, false);
	ticks(w, 6);
	later = anomaly_of(w, &s, "shop.service", "shop", "_start main serve price_basket", METRIC_ON_CPU, CPU, 0);
	later.since_us = w->now_us - SECOND;
	assert_int_not_equal(clusters_add(w->c, &later, on_event, w), waits);
	world_free(w);
}

static void what_comes_when_it_is_over_is_no_effect(void **state)
{
	struct world *w = world_new();
	struct stack s = stack_of("indexer", "_start main serve merge_segments");
	struct cluster_anomaly later;
	uint64_t spins;

	(void)state;
	spins = tell(w, "shop", "_start main serve price_basket", METRIC_ON_CPU, CPU, 0, false);
	ticks(w, 2);
	quiet(w);
	ticks(w, 4);
	later = anomaly_of(w, &s, "indexer.service", "indexer", "_start main serve merge_segments", METRIC_RUNNABLE, CPU, 0);
	later.since_us = w->now_us - SECOND;
	assert_int_not_equal(clusters_add(w->c, &later, on_event, w), spins);
	world_free(w);
}

/* In one service, but the first was over, if only just, when the other began. */
static void what_begins_when_the_first_is_over_is_another(void **state)
{
	struct world *w = world_new();
	struct stack s = stack_of("shop", "clone start_thread serve load_images k:asm_exc_page_fault k:clear_page_erms");
	struct cluster_anomaly later;
	uint64_t starves, storm;

	(void)state;
	starves = tell(w, "shop", "clone start_thread take_burst", METRIC_RUNNABLE, 9 * CPU, 0, false);
	ticks(w, 4);
	quiet(w);
	ticks(w, 7);
	later = anomaly_of(w, &s, "shop.service", "shop", "clone start_thread serve load_images", METRIC_FAULTS_MINOR, 200000, 100);
	later.since_us = w->now_us - 3 * SECOND;
	storm = clusters_add(w->c, &later, on_event, w);
	assert_int_not_equal(storm, starves);
	ticks(w, 4);
	assert_int_equal(class_of(w, storm).kind, CLUSTER_FAULT_STORM);
	assert_int_equal(class_of(w, starves).kind, CLUSTER_STARVATION);
	world_free(w);
}

/* On a machine where somebody always waits for a CPU, so that the waiting is never over. */
static void a_storm_is_no_effect_of_waiting_for_cpus(void **state)
{
	const char *faulting = "clone start_thread serve load_images k:asm_exc_page_fault k:clear_page_erms";
	struct world *w = world_new();
	struct stack s = stack_of("shop", faulting);
	struct cluster_anomaly storm;
	uint64_t starves, first, second;

	(void)state;
	starves = tell(w, "mailer", "_start main serve render_mail", METRIC_RUNNABLE, 2.5 * CPU, 0.05 * CPU, false);
	ticks(w, 5);
	assert_int_equal(tell(w, "shop", "clone start_thread take_burst", METRIC_RUNNABLE, 15 * CPU, 0, false), starves);
	ticks(w, 6);
	storm = anomaly_of(w, &s, "shop.service", "shop", faulting, METRIC_FAULTS_MINOR, 160000, 90);
	storm.since_us = w->now_us - 4 * SECOND;
	first = clusters_add(w->c, &storm, on_event, w);
	assert_int_not_equal(first, starves);
	ticks(w, 4);
	assert_int_equal(class_of(w, first).kind, CLUSTER_FAULT_STORM);
	assert_int_equal(class_of(w, starves).kind, CLUSTER_STARVATION);
	quiet(w);
	ticks(w, 400);

	/* The CPUs are waited for because of the faults, which are told later. */
	starves = tell(w, "mailer", "_start main serve render_mail", METRIC_RUNNABLE, 2.5 * CPU, 0.05 * CPU, false);
	tell(w, "shop", "clone start_thread take_burst", METRIC_RUNNABLE, 5 * CPU, 0, false);
	ticks(w, 4);
	storm = anomaly_of(w, &s, "shop.service", "shop", faulting, METRIC_FAULTS_MINOR, 160000, 90);
	storm.since_us = w->now_us - 5 * SECOND;
	second = clusters_add(w->c, &storm, on_event, w);
	assert_int_equal(second, starves);
	world_free(w);
}

/* All wait for the CPUs that one takes; a lock that another waits for at that time is another matter. */
static void who_is_drawn_in_may_have_troubles_of_its_own(void **state)
{
	struct world *w = world_new();
	uint64_t starves = tell(w, "shop", "clone start_thread take_burst", METRIC_RUNNABLE, 9 * CPU, 0, false), waits;

	(void)state;
	assert_int_equal(tell(w, "mailer", "_start main serve render_mail", METRIC_RUNNABLE, 0.1 * CPU, 0, false), starves);
	ticks(w, 5);
	assert_int_equal(tell(w, "mailer", "_start main serve parse_headers", METRIC_RUNNABLE, 0.2 * CPU, 0, false), starves);
	waits = tell(w, "mailer", "_start main serve pool_get c:__lll_lock_wait k:futex_do_wait", METRIC_BLOCKED, 7 * CPU, 0, false);
	assert_int_not_equal(waits, starves);
	ticks(w, 4);
	assert_int_equal(class_of(w, waits).kind, CLUSTER_LOCK_CONTENTION);
	world_free(w);
}

/* An effect was there first, and is of no cluster any more when the cause turns out to be. */
static void the_cause_decides_the_cluster_though_it_comes_late(void **state)
{
	struct world *w = world_new();
	uint64_t before = tell(w, "shop", "clone start_thread take_burst", METRIC_RUNNABLE, 9 * CPU, 0, false), again, effect;
	struct clusters_status status;

	(void)state;
	ticks(w, 4);
	quiet(w);
	ticks(w, 400);
	effect = tell(w, "mailer", "_start main serve render_mail", METRIC_RUNNABLE, 0.01 * CPU, 0, false);
	ticks(w, 5);
	assert_int_not_equal(class_of(w, effect).id, class_of(w, before).id);
	again = tell(w, "shop", "clone start_thread take_burst", METRIC_RUNNABLE, 9 * CPU, 0, false);
	assert_int_equal(again, effect);
	ticks(w, 2);
	assert_int_equal(class_of(w, effect).id, class_of(w, before).id);
	assert_int_equal(class_of(w, effect).n_incidents, 2);
	assert_int_equal(class_of(w, effect).members[0], effect);
	clusters_get_status(w->c, &status);
	assert_int_equal(status.classes, 1);
	world_free(w);
}

/* A series is told by one metric; the others of the same tick say what it is. */
static void other_metrics_say_what_it_is(void **state)
{
	struct world *w = world_new();
	struct stack s = stack_of("search", "_start main serve fill_cache");
	struct cluster_anomaly a = anomaly_of(w, &s, "search.service", "search", "_start main serve fill_cache", METRIC_ON_CPU, 0.4 * CPU, 0.001 * CPU);
	uint64_t id;

	(void)state;
	a.also[METRIC_FAULTS_MINOR].observed = 50000;
	a.also[METRIC_FAULTS_MINOR].expected = 300;
	id = clusters_add(w->c, &a, on_event, w);
	ticks(w, 4);
	assert_int_equal(class_of(w, id).kind, CLUSTER_FAULT_STORM);
	assert_true(w->last_opened.up[METRIC_FAULTS_MINOR] > 4.9);
	world_free(w);
}

static void a_unit_that_starves_does_not_spin(void **state)
{
	struct world *w = world_new();
	struct stack s = stack_of("billing", "_start main serve compress_block");
	struct cluster_anomaly a = anomaly_of(w, &s, "billing.service", "billing", "_start main serve compress_block", METRIC_ON_CPU, 0.9 * CPU, 0.02 * CPU);
	uint64_t id;

	(void)state;
	a.starves = true;
	id = clusters_add(w->c, &a, on_event, w);
	ticks(w, 4);
	assert_int_equal(class_of(w, id).kind, CLUSTER_STARVATION);
	world_free(w);
}

/* All of a busy machine's units wait for CPUs. What gets one nevertheless is caught in a loop. */
static void what_gets_its_cpu_spins_though_its_unit_starves(void **state)
{
	struct world *w = world_new();
	struct stack s = stack_of("billing", "_start main serve compress_block");
	struct cluster_anomaly a = anomaly_of(w, &s, "billing.service", "billing", "_start main serve compress_block", METRIC_ON_CPU, 0.7 * CPU, 0.02 * CPU);
	uint64_t id;

	(void)state;
	a.starves = true;
	a.also[METRIC_ON_CPU].observed = 0.7 * CPU;
	a.also[METRIC_RUNNABLE].observed = 0.3 * CPU;
	id = clusters_add(w->c, &a, on_event, w);
	ticks(w, 4);
	assert_int_equal(class_of(w, id).kind, CLUSTER_CPU_SPIN);
	world_free(w);
}

/* However rare locks were until now: who waits has the word, not what everyone waits in. */
/* Another program starts its threads meanwhile. */
static void who_is_drawn_in_waits_by_itself(void **state)
{
	const char *disk = "clone start_thread serve read_table k:do_syscall_64 k:vfs_read k:__iomap_dio_rw";
	struct world *w = world_new();
	struct cluster_incident i;
	uint64_t runs, drawn, waits, stalls;

	(void)state;
	runs = tell(w, "shop", "_start main take_orders", METRIC_RUNNABLE, 0.1 * CPU, 0, false);
	drawn = tell(w, "indexer", "_start main walk_index", METRIC_RUNNABLE, 0.04 * CPU, 0, false);
	waits = tell(w, "indexer", "clone start_thread idle k:do_syscall_64 k:do_epoll_wait", METRIC_BLOCKED, 11 * CPU, 0.4 * CPU, false);
	stalls = tell(w, "shop", disk, METRIC_BLOCKED, 8 * CPU, 0.5 * CPU, false);
	ticks(w, 4);
	assert_true(runs == drawn && runs == stalls && runs != waits);
	assert_int_equal(clusters_get_incident(w->c, runs, &i), 0);
	assert_int_equal(i.kind, CLUSTER_IO_STALL);
	world_free(w);
}

/* On a busy machine someone always waits for a CPU. */
static void who_suffers_still_prolongs_nothing(void **state)
{
	const char *others[] = { "mailer", "indexer", "gateway", "billing", "search" };
	struct world *w = world_new();
	uint64_t id = tell(w, "shop", "clone start_thread serve_burst", METRIC_RUNNABLE, 15 * CPU, 0, false);
	struct cluster_incident i;
	uint64_t last_us = w->now_us;

	(void)state;
	ticks(w, 5);
	quiet(w);
	for (size_t k = 0; k < ELEMENTS_OF(others); k++) {
		assert_int_equal(tell(w, others[k], "_start main work", METRIC_RUNNABLE, 0.05 * CPU, 0, false), id);
		ticks(w, 1);
	}
	ticks(w, 5);
	assert_int_equal(clusters_get_incident(w->c, id, &i), 0);
	assert_int_equal(i.end, CLUSTER_BACK);
	assert_int_equal(i.last_us, last_us);
	assert_string_equal(i.workloads[0].exe, "shop");
	world_free(w);
}

static uint64_t tell_in_unit(struct world *w, const char *unit, const struct stack *stack, const char *path)
{
	struct cluster_anomaly a = anomaly_of(w, stack, unit, unit, path, METRIC_ON_CPU, 0.9 * CPU, 0);

	a.exe = a.comm = "shop";
	a.since_us = w->now_us - SECOND;
	return clusters_add(w->c, &a, on_event, w);
}

/* One program in two units: what begins in the other when it is over in the first is another trouble. Until then it is the same, and goes on. */
static void the_same_in_another_unit_is_one_while_it_goes_on(void **state)
{
	const char *path = "_start main serve spin";
	struct stack stack = stack_of("shop", path);
	struct world *w = world_new();
	uint64_t first = tell_in_unit(w, "shop-a.service", &stack, path);
	struct cluster_incident i;

	(void)state;
	tell_goes_on(w, "shop-a.service", path, METRIC_ON_CPU, 0.9 * CPU);
	ticks(w, 4);
	assert_int_equal(tell_in_unit(w, "shop-b.service", &stack, path), first);
	assert_int_equal(clusters_get_incident(w->c, first, &i), 0);
	assert_int_equal(i.last_us, w->now_us);
	quiet(w);
	ticks(w, 6);
	assert_int_equal(clusters_get_incident(w->c, first, &i), 0);
	assert_int_equal(i.closed_us, 0);
	assert_int_not_equal(tell_in_unit(w, "shop-c.service", &stack, path), first);
	world_free(w);
}

/* A function of which there is a sample in one tick of ten: in most of them it does nothing when it is back, too. */
static void what_is_sampled_seldom_is_back_when_it_is(void **state)
{
	const char *path = "_start main serve work";
	struct world *w = world_new();
	struct cluster_incident i;
	uint64_t id = tell(w, "shop", path, METRIC_ON_CPU, 0, 0.02 * CPU, false);

	(void)state;
	ticks(w, 120);
	assert_int_equal(clusters_get_incident(w->c, id, &i), 0);
	assert_int_equal(i.closed_us, 0);
	for (unsigned k = 0; k < 60 && !i.closed_us; k++) {
		tell_goes_on(w, "shop", path, METRIC_ON_CPU, k % 10 == 0 ? 0.2 * CPU : 0);
		ticks(w, 1);
		assert_int_equal(clusters_get_incident(w->c, id, &i), 0);
	}
	assert_int_equal(i.end, CLUSTER_BACK);
	world_free(w);
}

/* It was stopped, or has crashed: that is for the service manager to tell. One that hangs first is told. */
static void what_ends_is_no_trouble(void **state)
{
	const char *path = "_start main serve work", *other = "_start main serve send";
	struct world *w = world_new();
	struct cluster_incident i;
	uint64_t stopped, hung, spins;

	(void)state;
	hung = tell(w, "mailer", other, METRIC_ON_CPU, 0, 0.5 * CPU, false);
	ticks(w, 10);
	assert_int_equal(w->opened, 1);
	tell_goes_on(w, "mailer", other, METRIC_ON_CPU, CLUSTER_NOBODY);
	stopped = tell(w, "shop", path, METRIC_ON_CPU, 0, 0.5 * CPU, false);
	tell_goes_on(w, "shop", path, METRIC_ON_CPU, CLUSTER_NOBODY);
	ticks(w, 10);
	assert_true(w->opened == 1 && w->closed == 1);
	assert_int_equal(clusters_get_incident(w->c, hung, &i), 0);
	assert_int_equal(i.end, CLUSTER_ENDED);
	assert_int_equal(clusters_get_incident(w->c, stopped, &i), 0);
	assert_int_equal(i.end, CLUSTER_ENDED);
	assert_int_equal(class_of(w, stopped).n_incidents, 1);

	/* Who spins and is killed has spun. */
	ticks(w, 400);
	spins = tell(w, "billing", path, METRIC_ON_CPU, 2 * CPU, 0, true);
	tell(w, "billing", other, METRIC_ON_CPU, 0, 0.5 * CPU, false);
	ticks(w, 4);
	assert_int_equal(w->opened, 2);
	tell_goes_on(w, "billing", other, METRIC_ON_CPU, CLUSTER_NOBODY);
	ticks(w, 4);
	assert_int_equal(clusters_get_incident(w->c, spins, &i), 0);
	assert_int_equal(i.closed_us, 0);
	world_free(w);
}

static void a_cluster_is_called_after_who_waits(void **state)
{
	struct world *w = world_new();
	uint64_t id = tell(w, "shop", "_start main serve update_index c:pthread_mutex_lock c:__lll_lock_wait k:do_syscall_64 k:do_futex k:__futex_wait k:futex_do_wait",
	                   METRIC_BLOCKED, 7 * CPU, 0, true);

	(void)state;
	ticks(w, 4);
	assert_string_equal(class_of(w, id).name, "lock contention in update_index");
	world_free(w);
}

/* What has moved little beside the rest need not be back. */
static void small_change_keeps_no_incident_open(void **state)
{
	struct world *w = world_new();

	(void)state;
	tell(w, "shop", "_start main serve price_basket", METRIC_ON_CPU, CPU, 0.01 * CPU, false);
	ticks(w, 4);
	quiet(w);
	tell(w, "shop", "_start main serve price_basket c:clock_gettime", METRIC_ON_CPU, 0.002 * CPU, 0, true);
	ticks(w, 12);
	assert_int_equal(w->closed, 1);
	world_free(w);
}

/* However many waited before. */
static void waiting_that_ends_is_a_notice(void **state)
{
	struct world *w = world_new();

	(void)state;
	tell(w, "shop", "_start main serve k:do_syscall_64 k:anon_pipe_read", METRIC_BLOCKED, 0, 3.3 * CPU, false);
	ticks(w, 4);
	assert_int_equal(w->last_opened.kind, CLUSTER_STOPPED_WORK);
	assert_int_equal(w->last_opened.severity, CLUSTER_NOTICE);
	tell(w, "mailer", "_start main serve render_mail", METRIC_ON_CPU, 0, 0.5 * CPU, false);
	ticks(w, 4);
	assert_int_equal(w->last_opened.severity, CLUSTER_WARNING);
	world_free(w);
}

static void a_read_past_the_cache_waits_for_the_disk(void **state)
{
	struct world *w = world_new();
	uint64_t id = tell(w, "search", "_start main serve scan_table k:do_syscall_64 k:vfs_read k:ext4_file_read_iter k:iomap_dio_rw k:__iomap_dio_rw",
	                   METRIC_BLOCKED, 10 * CPU, 0, true);

	(void)state;
	ticks(w, 4);
	assert_int_equal(class_of(w, id).kind, CLUSTER_IO_STALL);
	world_free(w);
}

static void a_stall_of_the_disk_is_one_incident(void **state)
{
	struct world *w = world_new();
	const char *reading = "_start main serve %s k:do_syscall_64 k:vfs_read k:filemap_read k:folio_wait_bit_common k:io_schedule";
	uint64_t first = 0;

	(void)state;
	for (unsigned s = 0; s < 4; s++) {
		char path[256], own[32];
		uint64_t incident;

		snprintf(own, sizeof(own), "load_%s", service_objects[s]);
		snprintf(path, sizeof(path), reading, own);
		incident = tell(w, service_objects[s], path, METRIC_BLOCKED, 0.9 * CPU, 0.02 * CPU, false);
		first = first ? first : incident;
		assert_int_equal(incident, first);
		ticks(w, 1);
	}
	ticks(w, 4);
	assert_int_equal(class_of(w, first).kind, CLUSTER_IO_STALL);
	world_free(w);
}

static void growth_is_told_once_and_decides_the_kind_anew(void **state)
{
	struct world *w = world_new();
	const char *path = "_start main serve handle price_basket";
	uint64_t incident, class;

	(void)state;
	incident = tell(w, "shop", path, METRIC_ON_CPU, 0.1 * CPU, 0, true);
	ticks(w, 4);
	assert_int_equal(w->last_opened.severity, CLUSTER_NOTICE);
	assert_int_equal(w->last_opened.kind, CLUSTER_NEW_PATH);
	class = class_of(w, incident).id;
	for (unsigned i = 1; i <= 30; i++) {
		w->values[hash64_string(path, hash64_string("shop", METRIC_ON_CPU)) % ELEMENTS_OF(w->values)] = 0.1 * i * CPU;
		ticks(w, 1);
	}
	assert_int_equal(w->escalated, 1);
	assert_int_equal(class_of(w, incident).id, class);
	assert_int_equal(class_of(w, incident).kind, CLUSTER_CPU_SPIN);
	assert_string_equal(class_of(w, incident).name, "CPU spin in price_basket");
	world_free(w);
}

static void the_kind_that_an_expert_gave_stays(void **state)
{
	const enum cluster_kind kind = CLUSTER_SLOW_DOWN;
	const char *path = "_start main serve handle price_basket";
	struct world *w = world_new();
	uint64_t incident;

	(void)state;
	incident = tell(w, "shop", path, METRIC_ON_CPU, 0.1 * CPU, 0, true);
	ticks(w, 4);
	assert_int_equal(clusters_label(w->c, incident, CLUSTER_REAL, &kind, 7, w->now_us), 0);
	w->values[hash64_string(path, hash64_string("shop", METRIC_ON_CPU)) % ELEMENTS_OF(w->values)] = 3 * CPU;
	ticks(w, 2);
	assert_int_equal(class_of(w, incident).kind, kind);
	world_free(w);
}

static void a_cluster_is_named_by_what_has_a_name(void **state)
{
	struct world *w = world_new();
	uint64_t incident;

	(void)state;
	incident = tell(w, "shop", "[libc.so.6+0x891f5] work burn [shop+0x1f0]", METRIC_ON_CPU, 3 * CPU, 0, true);
	ticks(w, 4);
	assert_string_equal(class_of(w, incident).name, "CPU spin in burn");
	incident = tell(w, "mailer", "[mailer+0x10] [mailer+0x1f0]", METRIC_ON_CPU, 3 * CPU, 0, true);
	ticks(w, 4);
	assert_non_null(strstr(class_of(w, incident).name, "CPU spin in [mailer"));
	world_free(w);
}

/* ---- clusters: faults of known cause, in many orders ---- */

struct fault {
	const char *service, *path;
	enum metric metric;
	bool down;
	enum cluster_kind kind;
};

static const struct fault faults[] = {
	{ "shop", "_start main serve handle price_basket %s", METRIC_ON_CPU, false, CLUSTER_CPU_SPIN },
	{ "shop", "_start main serve handle lock_stock %s c:pthread_mutex_lock k:do_syscall_64 k:futex_wait k:schedule", METRIC_BLOCKED, false,
	  CLUSTER_LOCK_CONTENTION },
	{ "shop", "_start main serve handle render_page %s", METRIC_ON_CPU, true, CLUSTER_STOPPED_WORK },
	{ "mailer", "clone start_thread worker spool_sync %s k:do_syscall_64 k:ext4_file_fsync k:jbd2_log_wait_commit k:io_schedule k:schedule",
	  METRIC_BLOCKED, false, CLUSTER_IO_STALL },
	{ "mailer", "clone start_thread worker regex_match %s", METRIC_ON_CPU, false, CLUSTER_CPU_SPIN },
	{ "indexer", "_start main merge_segments map_file %s k:asm_exc_page_fault k:handle_mm_fault k:clear_page_erms", METRIC_FAULTS_MINOR, false,
	  CLUSTER_FAULT_STORM },
	{ "indexer", "_start main merge_segments %s k:do_syscall_64 k:try_to_free_mem_cgroup_pages k:shrink_lruvec", METRIC_BLOCKED, false,
	  CLUSTER_MEMORY_PRESSURE },
	{ "gateway", "clone start_thread worker call_upstream %s k:do_syscall_64 k:tcp_recvmsg k:sk_wait_data k:schedule", METRIC_BLOCKED, false,
	  CLUSTER_NETWORK_WAIT },
	{ "gateway", "clone start_thread worker tls_handshake %s", METRIC_ON_CPU, false, CLUSTER_CPU_SPIN },
	{ "billing", "_start main nightly_report %s", METRIC_RUNNABLE, false, CLUSTER_STARVATION },
	{ "search", "clone start_thread worker score_documents %s", METRIC_ON_CPU, false, CLUSTER_CPU_SPIN },
	{ "search", "clone start_thread worker cache_get %s k:do_syscall_64 k:rwsem_down_read_slowpath k:schedule", METRIC_BLOCKED, false,
	  CLUSTER_LOCK_CONTENTION },
};
#define FAULTS ELEMENTS_OF(faults)
#define REPEATS 8

static double uniform(void)
{
	return rand() / (RAND_MAX + 1.0);
}

static uint64_t occur(struct world *w, size_t fault)
{
	static const char *const leaves[] = { "", "c:memcpy", "c:malloc c:_int_malloc", "copy_item", "c:memset", "next_item step_item" };
	const struct fault *f = &faults[fault];
	double size = (0.3 + 2 * uniform()) * (f->metric == METRIC_FAULTS_MINOR ? 20000 : CPU);
	unsigned n = 1 + rand() % 4;
	uint64_t incident = 0;

	for (unsigned i = 0; i < n; i++) {
		char path[256];
		double part = size * (0.5 + uniform()) / n, small = part * 0.05;

		snprintf(path, sizeof(path), f->path, leaves[rand() % ELEMENTS_OF(leaves)]);
		incident = tell(w, f->service, path, f->metric, f->down ? 0 : part, f->down ? part : small, !f->down && uniform() < 0.3);
		if (uniform() < 0.3)
			ticks(w, 1);
	}
	/* By the way: less of what the service usually does. */
	if (!f->down && uniform() < 0.5)
		tell(w, f->service, "_start main serve handle reply c:malloc", METRIC_ON_CPU, 0, 0.1 * CPU, false);
	ticks(w, 10);
	quiet(w);
	ticks(w, 400);
	return incident;
}

/* Pairs of incidents that are together in both, in one, in none: Hubert and Arabie 1985. */
static double adjusted_rand(const size_t *cause, const uint64_t *found, size_t n)
{
	double both = 0, in_cause = 0, in_found = 0, pairs = (double)n * (double)(n - 1) / 2, expected;

	for (size_t i = 0; i < n; i++)
		for (size_t k = i + 1; k < n; k++) {
			both += cause[i] == cause[k] && found[i] == found[k];
			in_cause += cause[i] == cause[k];
			in_found += found[i] == found[k];
		}
	expected = in_cause * in_found / pairs;
	return (both - expected) / ((in_cause + in_found) / 2 - expected);
}

/* Precision and recall of each incident's neighbours: Bagga and Baldwin 1998. */
static double b_cubed(const size_t *cause, const uint64_t *found, size_t n)
{
	double precision = 0, recall = 0;

	for (size_t i = 0; i < n; i++) {
		double both = 0, in_cause = 0, in_found = 0;

		for (size_t k = 0; k < n; k++) {
			both += cause[i] == cause[k] && found[i] == found[k];
			in_cause += cause[i] == cause[k];
			in_found += found[i] == found[k];
		}
		precision += both / in_found / (double)n;
		recall += both / in_cause / (double)n;
	}
	return 2 * precision * recall / (precision + recall);
}

static uint64_t find_cluster(struct world *w, uint64_t incident)
{
	struct cluster_incident i;

	assert_int_equal(clusters_get_incident(w->c, incident, &i), 0);
	return i.cluster;
}

#define OCCURRENCES (FAULTS * REPEATS)

/* Each fault several times, in an order by chance. */
static void occur_in_order(struct world *w, unsigned order, size_t cause[static OCCURRENCES], uint64_t incident[static OCCURRENCES])
{
	srand(order + 1); /* 0 and 1 would be the same */
	for (size_t i = 0; i < OCCURRENCES; i++)
		cause[i] = i % FAULTS;
	for (size_t i = OCCURRENCES; i-- > 1;) {
		size_t k = (size_t)(uniform() * (double)(i + 1)), swap = cause[i];

		cause[i] = cause[k];
		cause[k] = swap;
	}
	for (size_t i = 0; i < OCCURRENCES; i++)
		incident[i] = occur(w, cause[i]);
}

/* For test_cluster_oracle.py, a line for each incident: its cause, our cluster, its signature, and its stacks as feature:weight. */
static int print_vectors(unsigned order)
{
	struct world *w = world_new();
	uint64_t incident[OCCURRENCES];
	size_t cause[OCCURRENCES];

	occur_in_order(w, order, cause, incident);
	for (size_t i = 0; i < OCCURRENCES; i++) {
		const struct incident_state *s = incident_get(w->c, incident[i]);
		struct signature signature = signature_of(&s->evidence);

		printf("%zu %016llx", cause[i], (unsigned long long)s->i.cluster);
		for (size_t k = 0; k < SIGNATURE_N; k++)
			printf(" %.6f", (double)signature.of[k]);
		for (uint32_t k = 0; k < s->stacks.n; k++)
			printf(" %u:%.6f", s->stacks.feature[k], (double)s->stacks.weight[k]);
		putchar('\n');
	}
	world_free(w);
	return 0;
}

static void faults_of_known_cause_are_told_apart(void **state)
{
	uint64_t ids[FAULTS] = {};

	(void)state;
	for (unsigned order = 0; order < 10; order++) {
		struct world *w = world_new();
		size_t cause[OCCURRENCES], n = OCCURRENCES, wrong_kinds = 0;
		uint64_t incident[OCCURRENCES], found[OCCURRENCES];
		struct clusters_status status;
		double rand_index, cubed;

		occur_in_order(w, order, cause, incident);
		for (size_t i = 0; i < n; i++) {
			found[i] = find_cluster(w, incident[i]);
			wrong_kinds += class_of(w, incident[i]).kind != faults[cause[i]].kind;
			if (!ids[cause[i]])
				ids[cause[i]] = found[i];
		}
		clusters_get_status(w->c, &status);
		rand_index = adjusted_rand(cause, found, n);
		cubed = b_cubed(cause, found, n);
		print_message("# order %u: adjusted Rand %.3f, B-cubed %.3f, %u clusters of %zu, %zu of wrong kind, %llu merged, %llu split\n", order,
		              rand_index, cubed, status.classes, FAULTS, wrong_kinds, (unsigned long long)status.merged,
		              (unsigned long long)status.split);
		assert_true(rand_index >= 0.95 && cubed >= 0.95);
		assert_int_equal(status.classes, FAULTS);
		assert_int_equal(wrong_kinds, 0);
		world_free(w);
	}
}

static void ids_come_from_names(void **state)
{
	struct world *a = world_new(), *b = world_new();
	uint64_t first;

	(void)state;
	first = class_of(a, occur(a, 0)).id;
	for (size_t f = 1; f < FAULTS; f++)
		occur(b, f);
	b->now_us += 86400 * SECOND;
	assert_int_equal(class_of(b, occur(b, 0)).id, first);
	world_free(a);
	world_free(b);
}

/* Functions of one name in two programs. */
static void programs_tell_names_apart(void **state)
{
	struct world *w = world_new();
	uint64_t shop, mailer;

	(void)state;
	shop = tell(w, "shop", "_start main serve handle run_job", METRIC_ON_CPU, CPU, 0, true);
	ticks(w, 60);
	mailer = tell(w, "mailer", "_start main serve handle run_job", METRIC_ON_CPU, CPU, 0, true);
	ticks(w, 60);
	assert_string_equal(class_of(w, shop).name, class_of(w, mailer).name);
	assert_int_not_equal(class_of(w, shop).id, class_of(w, mailer).id);
	world_free(w);
}

/* In the same stack, even. */
static void what_moves_otherwise_is_another_trouble(void **state)
{
	const char *waits = "clone start_thread serve take_connection k:do_syscall_64 k:do_futex k:__futex_wait k:futex_do_wait";
	struct world *w = world_new();
	uint64_t convoy, wakes, spin, gone, again;

	(void)state;
	convoy = tell(w, "shop", waits, METRIC_BLOCKED, 7 * CPU, 0.4 * CPU, false);
	ticks(w, 400);
	quiet(w);
	ticks(w, 400);
	/* The CPUs are taken by others. */
	wakes = tell(w, "shop", waits, METRIC_RUNNABLE, 0.04 * CPU, 0, false);
	ticks(w, 400);
	assert_int_not_equal(class_of(w, wakes).id, class_of(w, convoy).id);
	quiet(w);
	spin = tell(w, "shop", "clone start_thread serve rebuild_index", METRIC_ON_CPU, 2 * CPU, 0, true);
	ticks(w, 4);
	quiet(w);
	ticks(w, 400);
	gone = tell(w, "shop", "clone start_thread serve rebuild_index", METRIC_ON_CPU, 0, 0.2 * CPU, false);
	ticks(w, 4);
	assert_int_not_equal(class_of(w, gone).id, class_of(w, spin).id);
	assert_int_equal(class_of(w, gone).kind, CLUSTER_STOPPED_WORK);
	assert_int_equal(class_of(w, spin).kind, CLUSTER_CPU_SPIN);
	ticks(w, 400);
	again = tell(w, "shop", "clone start_thread serve rebuild_index", METRIC_ON_CPU, CPU, 0, false);
	ticks(w, 4);
	assert_int_equal(class_of(w, again).id, class_of(w, spin).id);
	world_free(w);
}

/* An incident in two places of a program, so much of it in each. */
static uint64_t occur_in(struct world *w, double first, double second)
{
	uint64_t incident = 0;

	if (first > 0)
		incident = tell(w, "shop", "_start main import_prices parse_row", METRIC_ON_CPU, first * CPU, 0, false);
	if (second > 0)
		incident = tell(w, "shop", "_start main export_orders write_row", METRIC_ON_CPU, second * CPU, 0, false);
	ticks(w, 10);
	quiet(w);
	ticks(w, 400);
	return incident;
}

static void classes_that_come_together_are_merged(void **state)
{
	struct world *w = world_new();
	struct clusters_status status;
	struct cluster_class class;
	uint64_t first, second;

	(void)state;
	first = class_of(w, occur_in(w, 1, 0)).id;
	second = class_of(w, occur_in(w, 0, 1)).id;
	assert_true(first != second);
	for (unsigned i = 0; i < 20; i++)
		occur_in(w, 0.5, 0.5);
	clusters_get_status(w->c, &status);
	assert_int_equal(status.merged, 1);
	assert_int_equal(status.classes, 1);
	/* By the older one's name, and by either. */
	assert_int_equal(clusters_get_class(w->c, second, &class), 0);
	assert_int_equal(class.id, first);
	assert_int_equal(class.n_incidents, 22);
	world_free(w);
}

static void classes_that_come_apart_are_split(void **state)
{
	struct world *w = world_new();
	struct clusters_status status;
	uint64_t first, second;

	(void)state;
	occur_in(w, 0.5, 0.5);
	for (unsigned i = 0; i < 4; i++)
		occur_in(w, i % 2, !(i % 2));
	clusters_get_status(w->c, &status);
	assert_int_equal(status.split, 1);
	assert_int_equal(status.classes, 2);
	first = occur_in(w, 1, 0);
	second = occur_in(w, 0, 1);
	assert_true(class_of(w, first).id != class_of(w, second).id);
	clusters_get_status(w->c, &status);
	assert_int_equal(status.classes, 2);
	world_free(w);
}

/* In a program of its own. */
static uint64_t occur_alone(struct world *w, unsigned number)
{
	char service[32], path[64];
	uint64_t incident;

	snprintf(service, sizeof(service), "service%u", number);
	snprintf(path, sizeof(path), "main%u serve%u burn%u", number, number, number);
	incident = tell(w, service, path, METRIC_ON_CPU, 2 * CPU, 0, true);
	ticks(w, 4);
	quiet(w);
	ticks(w, 11);
	return class_of(w, incident).id;
}

/* Of many clusters: not those that came often, that people cared about, or that came of late. */
static void the_smallest_and_oldest_is_forgotten(void **state)
{
	struct world *w = world_new();
	uint64_t often, labelled, muted, early, late;
	struct clusters_status status;
	struct cluster_class class;

	(void)state;
	often = occur_alone(w, 0);
	occur_alone(w, 0);
	labelled = occur_alone(w, 1);
	clusters_label(w->c, w->last_opened.id, CLUSTER_REAL, NULL, 7, w->now_us);
	muted = occur_alone(w, 2);
	clusters_mute(w->c, muted, UINT64_MAX);
	early = occur_alone(w, 3);
	for (unsigned k = 4; k < config.max_clusters; k++)
		late = occur_alone(w, k);
	clusters_get_status(w->c, &status);
	assert_int_equal(status.forgotten, 0);
	occur_alone(w, 1000);
	assert_int_equal(clusters_get_class(w->c, early, &class), -ENOENT);
	for (unsigned k = 1001; k < 1000 + config.max_clusters - 3; k++)
		occur_alone(w, k);
	clusters_get_status(w->c, &status);
	assert_int_equal(status.classes, config.max_clusters);
	assert_int_equal(status.forgotten, config.max_clusters - 3);
	assert_int_equal(clusters_get_class(w->c, late, &class), -ENOENT);
	assert_int_equal(clusters_get_class(w->c, often, &class), 0);
	assert_int_equal(clusters_get_class(w->c, labelled, &class), 0);
	assert_int_equal(clusters_get_class(w->c, muted, &class), 0);
	/* Wherever it lies now. */
	assert_int_equal(occur_alone(w, 0), often);
	assert_int_equal(occur_alone(w, 1), labelled);
	world_free(w);
}

static void what_was_said_of_a_forgotten_one_holds(void **state)
{
	struct world *w = world_new();
	struct cluster_class class;
	uint64_t muted;

	(void)state;
	muted = occur_alone(w, 0);
	clusters_mute(w->c, muted, UINT64_MAX);
	w->now_us += 400ULL * 86400 * SECOND;
	for (unsigned k = 1; k <= config.max_clusters; k++)
		occur_alone(w, k);
	assert_int_equal(clusters_get_class(w->c, muted, &class), -ENOENT);
	w->opened = 0;
	assert_int_equal(occur_alone(w, 0), muted);
	assert_int_equal(w->opened, 0);
	world_free(w);
}

/* ---- what people say of them ---- */

static void muted_ones_are_counted_and_not_told(void **state)
{
	struct world *w = world_new();
	uint64_t id;

	(void)state;
	id = class_of(w, occur(w, 0)).id;
	assert_int_equal(w->opened, 1);
	assert_int_equal(clusters_mute(w->c, id, w->now_us + 3600 * SECOND), 0);
	occur(w, 0);
	assert_int_equal(w->opened, 1);
	assert_int_equal(class_of(w, occur(w, 0)).n_incidents, 3);
	assert_int_equal(w->closed, 1);
	w->now_us += 3600 * SECOND;
	occur(w, 0);
	assert_int_equal(w->opened, 2);
	assert_int_equal(clusters_mute(w->c, 12345, UINT64_MAX), -ENOENT);
	world_free(w);
}

static void labels_move_kinds_and_severity(void **state)
{
	struct world *w = world_new();
	const enum cluster_kind kind = CLUSTER_NEW_PATH;
	uint64_t i;

	(void)state;
	i = occur(w, 4);
	assert_int_equal(clusters_label(w->c, i, CLUSTER_REAL, &kind, 7, w->now_us), 0);
	i = occur(w, 4);
	assert_int_equal(class_of(w, i).kind, kind);
	assert_true(w->last_opened.severity > CLUSTER_NOTICE);
	assert_int_equal(class_of(w, i).n_real, 1);
	assert_int_equal(clusters_label(w->c, i, CLUSTER_FALSE, NULL, 7, w->now_us), 0);
	i = occur(w, 4);
	assert_int_equal(clusters_label(w->c, i, CLUSTER_FALSE, NULL, 7, w->now_us), 0);
	occur(w, 4);
	assert_int_equal(w->last_opened.severity, CLUSTER_NOTICE);
	/* Taken back. */
	assert_int_equal(clusters_label(w->c, i, CLUSTER_UNLABELLED, NULL, 7, w->now_us), 0);
	assert_int_equal(class_of(w, i).n_false, 1);
	assert_int_equal(clusters_label(w->c, 99999, CLUSTER_REAL, NULL, 7, w->now_us), -ENOENT);
	world_free(w);
}

static void a_labelled_kind_outlasts_what_is_found(void **state)
{
	struct world *w = world_new();
	const enum cluster_kind kind = CLUSTER_NEW_PATH;
	struct cluster_incident i;

	(void)state;
	assert_int_equal(clusters_label(w->c, occur(w, 4), CLUSTER_REAL, &kind, 7, w->now_us), 0);
	for (unsigned k = 0; k < 150; k++)
		occur(w, 4);
	assert_int_equal(class_of(w, w->last_opened.id).kind, kind);
	assert_int_equal(clusters_get_incident(w->c, w->last_opened.id, &i), 0);
	assert_int_equal(i.kind, kind);
	world_free(w);
}

static double evidence(struct world *w, const char *service, const char *path, enum metric m, bool rises)
{
	struct stack s = stack_of(service, path);

	return clusters_evidence(w->c, s.frames, s.n, m, rises, w->now_us);
}

static uint64_t occur_at(struct world *w, const char *service, const char *path, enum metric m)
{
	uint64_t i = tell(w, service, path, m, 2 * CPU, 0.1 * CPU, false);

	ticks(w, 4);
	quiet(w);
	ticks(w, 60);
	return i;
}

static bool near(double a, double b)
{
	return fabs(a - b) < 0.001;
}

/* The score of a told anomaly is 8 here. */
static void labels_move_the_evidence_of_their_like(void **state)
{
	const char *path = "_start main serve archive compress_block", *other = "_start main serve handle price_basket";
	const char *like = "_start main serve archive compress_block emit_literal";
	struct world *w = world_new(), *again = world_new();
	uint64_t first = occur_at(w, "indexer", path, METRIC_ON_CPU), second;
	const void *image;
	size_t size;

	(void)state;
	occur_at(w, "shop", other, METRIC_ON_CPU);
	assert_true(evidence(w, "indexer", path, METRIC_ON_CPU, true) == 0);
	assert_int_equal(clusters_label(w->c, first, CLUSTER_FALSE, NULL, 7, w->now_us), 0);
	assert_true(near(evidence(w, "indexer", path, METRIC_ON_CPU, true), 1));
	assert_true(near(evidence(w, "indexer", like, METRIC_ON_CPU, true), 1));
	assert_true(evidence(w, "indexer", path, METRIC_BLOCKED, true) == 0);
	assert_true(evidence(w, "shop", other, METRIC_ON_CPU, true) == 0);

	/* Said twice is said once; another word takes its place. */
	clusters_label(w->c, first, CLUSTER_FALSE, NULL, 7, w->now_us);
	assert_true(near(evidence(w, "indexer", path, METRIC_ON_CPU, true), 1));
	clusters_label(w->c, first, CLUSTER_REAL, NULL, 7, w->now_us);
	assert_true(near(evidence(w, "indexer", path, METRIC_ON_CPU, true), -0.5));
	clusters_label(w->c, first, CLUSTER_UNLABELLED, NULL, 7, w->now_us);
	assert_true(near(evidence(w, "indexer", path, METRIC_ON_CPU, true), 0));

	/* The further it was beyond what was needed, the more. */
	clusters_label(w->c, first, CLUSTER_FALSE, NULL, 3, w->now_us);
	assert_true(near(evidence(w, "indexer", path, METRIC_ON_CPU, true), 2.5));

	/* Half of it is forgotten in a month, and it outlives the process. */
	w->now_us += 30ULL * 86400 * SECOND;
	assert_true(near(evidence(w, "indexer", path, METRIC_ON_CPU, true), 1.25));
	clusters_image(w->c, &image, &size);
	assert_int_equal(clusters_load(again->c, image, size), 0);
	again->now_us = w->now_us;
	assert_true(near(evidence(again, "indexer", path, METRIC_ON_CPU, true), 1.25));

	/* Within bounds, whatever is said how often. */
	for (unsigned k = 0; k < 20; k++)
		clusters_label(w->c, occur_at(w, "indexer", path, METRIC_ON_CPU), CLUSTER_FALSE, NULL, -INFINITY, w->now_us);
	assert_true(near(evidence(w, "indexer", path, METRIC_ON_CPU, true), CLUSTER_EVIDENCE_MOST));
	for (unsigned k = 0; k < 40; k++) {
		second = occur_at(w, "indexer", path, METRIC_ON_CPU);
		clusters_label(w->c, second, CLUSTER_REAL, NULL, 7, w->now_us);
	}
	assert_true(near(evidence(w, "indexer", path, METRIC_ON_CPU, true), CLUSTER_EVIDENCE_LEAST));
	world_free(w);
	world_free(again);
}

/* ---- what is kept ---- */

static void images_outlive_the_process(void **state)
{
	struct world *w = world_new(), *again = world_new();
	const void *image;
	_cleanup_free_ unsigned char *copy = NULL;
	uint64_t ids[FAULTS], last = 0;
	size_t size;

	(void)state;
	for (size_t f = 0; f < FAULTS; f++)
		ids[f] = class_of(w, last = occur(w, f)).id;
	clusters_image(w->c, &image, &size);
	copy = malloc(size);
	assert_non_null(copy);
	memcpy(copy, image, size);
	assert_int_equal(clusters_load(again->c, copy, size), 0);
	again->now_us = w->now_us;
	assert_int_equal(occur(again, 3), last + 1);
	for (size_t f = 0; f < FAULTS; f++)
		assert_int_equal(class_of(again, occur(again, f)).id, ids[f]);

	for (size_t i = 0; i < 200; i++) {
		size_t at = (size_t)(uniform() * (double)size);

		copy[at] ^= 1U << rand() % 8;
		assert_true(clusters_load(again->c, copy, size) < 0);
		memcpy(copy, image, size);
	}
	assert_int_equal(clusters_load(again->c, copy, size - 1), -EPROTO);
	assert_int_equal(clusters_load(again->c, copy, 3), -EBADMSG);
	assert_int_equal(class_of(again, last).id, ids[FAULTS - 1]);
	world_free(w);
	world_free(again);
}

/* ---- remedies ---- */

struct mistakes {
	unsigned n, line, column;
	char reason[256];
};

static void on_mistake(void *userdata, const char *file, unsigned line, unsigned column, const char *reason)
{
	struct mistakes *m = userdata;

	assert_string_equal(file, "test");
	m->n++;
	m->line = line;
	m->column = column;
	copy_string(m->reason, sizeof(m->reason), reason);
}

#define RULE(asks) asks "\nName=N\nExplain=E\nTry=T\n"

static void mistakes_cost_one_rule(void **state)
{
	static const struct {
		const char *text;
		unsigned line, column;
		const char *reason;
	} cases[] = {
		{ RULE("[bad]\nKind=cpu-spin no-such"), 2, 15, "unknown kind 'no-such'" },
		{ RULE("[bad]\nMetric=  hits"), 2, 10, "unknown metric 'hits'" },
		{ RULE("[bad]\nKnid=cpu-spin"), 2, 1, "unknown key 'Knid': Kind, Metric, Frames, Unit, Name, Explain or Try" },
		{ RULE("[bad]\nUnit="), 2, 6, "Unit= is empty" },
		{ RULE("[bad]\nUnit=a\nUnit=b"), 3, 1, "Unit= is there twice" },
		{ RULE("[bad"), 1, 5, "']' is missing" },
		{ RULE("[b d]"), 1, 3, "a name has letters, digits and '-' only" },
		{ RULE("[]"), 1, 2, "the name is empty" },
		{ RULE("[bad]\nnothing"), 2, 1, "neither [section] nor Key=value" },
		{ "[bad]\nName=N\nExplain=E\n", 1, 1, "[bad] has no Try=" },
		{ "[bad]\nTry=N\nExplain=E\n", 1, 1, "[bad] has no Name=" },
		{ "Kind=cpu-spin\n", 1, 1, "before the first [section]" },
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		_cleanup_(remedies_freep) struct remedies *r = NULL;
		_cleanup_free_ char *text = NULL;
		struct mistakes m = {};

		assert_true(asprintf(&text, "%s%s", cases[i].text, RULE("[good]\nKind=io-stall")) > 0);
		assert_int_equal(remedies_parse(&r, "test", text, strlen(text), on_mistake, &m), 1);
		assert_int_equal(m.n, 1);
		assert_string_equal(m.reason, cases[i].reason);
		assert_int_equal(m.line, cases[i].line);
		assert_int_equal(m.column, cases[i].column);
	}
}

static void the_first_rule_that_matches_has_the_word(void **state)
{
	static const char text[] = "# comment\n" RULE("[one]\nKind=io-stall lock-contention\nFrames=jbd2_* *fsync\nUnit=*.service")
		RULE("[two]\nMetric=blocked")
		"[three]\nName=Look at %f\nExplain=First\n second.\nTry=kill %p of %u, 100%% %x\nTry=b\n";
	_cleanup_(remedies_freep) struct remedies *r = NULL;
	const char *frames[] = { "main", "ext4_fsync" };
	struct remedy_case c = { .kind = CLUSTER_IO_STALL, .metric = METRIC_BLOCKED, .unit = "db.service", .function = "ext4_fsync", .pid = 77,
		                 .n_frames = 2, .frames = frames };
	char buf[REMEDY_TEXT_MAX];
	struct mistakes m = {};
	struct remedy got;

	(void)state;
	assert_int_equal(remedies_parse(&r, "test", text, sizeof(text) - 1, on_mistake, &m), 3);
	assert_int_equal(m.n, 0);
	assert_true(remedies_find(r, &c, &got));
	assert_string_equal(got.id, "one");
	c.unit = "db.scope";
	assert_true(remedies_find(r, &c, &got));
	assert_string_equal(got.id, "two");
	c.metric = METRIC_ON_CPU;
	assert_true(remedies_find(r, &c, &got));
	assert_string_equal(got.id, "three");
	assert_string_equal(got.explain, "First second.");
	assert_int_equal(got.n_try, 2);
	assert_string_equal(remedy_fill(buf, got.name, &c), "Look at ext4_fsync");
	assert_string_equal(remedy_fill(buf, got.try[0], &c), "kill 77 of db.scope, 100% %x");
	c.pid = 0;
	c.unit = "";
	assert_string_equal(remedy_fill(buf, got.try[0], &c), "kill ? of ?, 100% %x");
}

static void advice_with_a_hole_is_not_given(void **state)
{
	struct remedy_case c = { .unit = "db.service", .function = "f", .pid = 77 };
	char buf[REMEDY_TEXT_MAX];

	(void)state;
	assert_true(remedy_fits("kill %p of %u in %f, 100%%", &c));
	assert_string_equal(remedy_fill(buf, "flame --unit %u: %f", &c), "flame --unit db.service: f");
	c.unit = "";
	assert_true(remedy_fits("kill %p", &c));
	assert_false(remedy_fits("systemctl status %u", &c));
	assert_true(remedy_fits("flame --unit %u: %p", &c));
	assert_string_equal(remedy_fill(buf, "flame --unit %u: %p", &c), "flame --pid 77: 77");
	c.pid = 0;
	assert_false(remedy_fits("flame --unit %u", &c));
	assert_false(remedy_fits("kill %p", &c));
	assert_true(remedy_fits("100%%p %x", &c));
}

static struct remedies *shipped_remedies(void)
{
	_cleanup_free_ char *text = NULL;
	struct remedies *r = NULL;
	struct mistakes m = {};
	char path[4096];
	size_t size;

	/* This file's path as the compiler was given it: from the build directory, where tests run. */
	copy_string(path, sizeof(path), __FILE__);
	strcpy(strstr(path, "tests/unit/"), "conf/remedies.conf");
	assert_int_equal(read_small_file(AT_FDCWD, path, REMEDY_FILE_MAX, &text, &size), 0);
	assert_true(remedies_parse(&r, "test", text, size, on_mistake, &m) >= 25);
	assert_int_equal(m.n, 0);
	return r;
}

/* By the functions of real programs; what only sounds like it gets the general advice. */
static void shipped_remedies_know_what_they_speak_of(void **state)
{
	static const struct {
		enum cluster_kind kind;
		const char *function, *id;
	} cases[] = {
		{ CLUSTER_CPU_SPIN, "tree_traversal", "cpu" },
		{ CLUSTER_CPU_SPIN, "select_plan", "cpu" },
		{ CLUSTER_CPU_SPIN, "SHARED_lookup", "cpu" },
		{ CLUSTER_CPU_SPIN, "pollute_cache", "cpu" },
		{ CLUSTER_CPU_SPIN, "universal_hash", "cpu" },
		{ CLUSTER_CPU_SPIN, "do_epoll_wait", "poll-loop" },
		{ CLUSTER_CPU_SPIN, "core_sys_select", "poll-loop" },
		{ CLUSTER_CPU_SPIN, "deflate_slow", "compression-or-crypto" },
		{ CLUSTER_CPU_SPIN, "aesni_ctr32_encrypt_blocks", "compression-or-crypto" },
		{ CLUSTER_CPU_SPIN, "rsa_ossl_private_decrypt", "compression-or-crypto" },
		{ CLUSTER_CPU_SPIN, "ZSTD_compressBlock_fast", "compression-or-crypto" },
		{ CLUSTER_CPU_SPIN, "sre_ucs1_match", "regular-expression" },
		{ CLUSTER_CPU_SPIN, "regexp.(*Regexp).backtrack", "regular-expression" },
		{ CLUSTER_CPU_SPIN, "runtime.gcDrain", "garbage-collection" },
		{ CLUSTER_CPU_SPIN, "G1ParScanThreadState::trim_queue_to_threshold", "garbage-collection" },
		{ CLUSTER_LOCK_CONTENTION, "record_output", "kernel-lock" },
		{ CLUSTER_LOCK_CONTENTION, "__dentry_kill", "dentry-lock" },
		{ CLUSTER_LOCK_CONTENTION, "_int_malloc", "malloc-lock" },
		{ CLUSTER_LOCK_CONTENTION, "take_gil", "python-gil" },
		{ CLUSTER_LOCK_CONTENTION, "futex_wait_queue", "futex" },
		{ CLUSTER_LOCK_CONTENTION, "do_user_addr_fault", "mmap-lock" },
		{ CLUSTER_IO_STALL, "jbd2_log_wait_commit", "journal-commit" },
		{ CLUSTER_WAITING, "rpc_wait_bit_killable", "nfs" },
		{ CLUSTER_WAITING, "request_wait_answer", "fuse" },
		{ CLUSTER_WAITING, "redisGetReply", "database" },
		{ CLUSTER_WAITING, "redistribute", "waiting" },
		{ CLUSTER_NETWORK_WAIT, "PQexec", "database" },
		{ CLUSTER_NETWORK_WAIT, "__res_context_send", "dns" },
		{ CLUSTER_NETWORK_WAIT, "getaddrinfo", "dns" },
	};
	_cleanup_(remedies_freep) struct remedies *r = shipped_remedies();

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		const struct remedy_case c = { .kind = cases[i].kind, .metric = METRIC_BLOCKED, .unit = "", .function = "", .n_frames = 1,
			                       .frames = &cases[i].function };
		struct remedy got;

		assert_true(remedies_find(r, &c, &got));
		if (!streq(got.id, cases[i].id))
			fail_msg("%s: %s instead of %s", cases[i].function, got.id, cases[i].id);
	}
}

/* What is shipped has no mistake, and something to say about every kind. */
static void shipped_remedies_cover_every_kind(void **state)
{
	_cleanup_(remedies_freep) struct remedies *r = shipped_remedies();
	struct remedy got;

	(void)state;
	for (unsigned k = 0; k < CLUSTER_KIND_N; k++) {
		const struct remedy_case c = { .kind = k, .metric = METRIC_ON_CPU, .unit = "", .function = "" };

		assert_true(remedies_find(r, &c, &got));
		assert_true(got.n_try >= 1);
	}
}

static int is_found(void *userdata, const struct cluster_class *class)
{
	struct cluster_class found;

	assert_int_equal(clusters_get_class(userdata, class->id, &found), 0);
	assert_memory_equal(&found, class, sizeof(found));
	return 0;
}

/* Whatever comes, however much. */
static void floods_stay_in_bounds(void **state)
{
	struct world *w = world_new();
	struct clusters_status status;
	unsigned seed = (unsigned)time(NULL);

	(void)state;
	print_message("# seed %u\n", seed);
	srand(seed);
	for (unsigned i = 0; i < 20000; i++) {
		static const double odd[] = { 0, 1, -1, 1e300, NAN, INFINITY, -INFINITY, CPU };
		char service[16], path[128];

		snprintf(service, sizeof(service), "s%d", rand() % 300);
		snprintf(path, sizeof(path), "main f%d g%d h%d %s", rand() % 500, rand() % 500, rand() % 50, rand() % 2 ? "k:io_schedule" : "[x+0x1]");
		tell(w, service, rand() % 100 ? path : "", rand() % METRIC_HITS, odd[rand() % 8], odd[rand() % 8], rand() % 2);
		if (rand() % 10 == 0)
			ticks(w, 1);
		if (rand() % 1000 == 0)
			quiet(w);
	}
	clusters_get_status(w->c, &status);
	assert_true(status.classes <= config.max_clusters && status.incidents <= config.max_incidents && status.open <= CLUSTER_OPEN_MAX);
	assert_int_equal(status.anomalies, 20000);
	assert_true(status.forgotten > 0);
	clusters_visit_classes(w->c, is_found, w->c);
	world_free(w);
}

static void too_many_that_go_on_are_counted_and_told(void **state)
{
	struct world *w = world_new();
	struct clusters_status status;
	struct cluster_incident first;

	(void)state;
	for (unsigned k = 0; k < CLUSTER_OPEN_MAX + 5; k++) {
		char service[32], path[64];

		snprintf(service, sizeof(service), "service%u", k);
		snprintf(path, sizeof(path), "main%u serve%u burn%u", k, k, k);
		tell(w, service, path, METRIC_ON_CPU, 2 * CPU, 0, true);
		ticks(w, 1);
		clusters_get_status(w->c, &status);
		assert_int_equal(status.gave_way, k < CLUSTER_OPEN_MAX ? 0 : k + 1 - CLUSTER_OPEN_MAX);
	}
	assert_int_equal(status.open, CLUSTER_OPEN_MAX);
	assert_int_equal(clusters_get_incident(w->c, 1, &first), 0);
	assert_true(first.closed_us > 0);
	assert_int_equal(first.end, CLUSTER_GAVE_WAY);
	assert_int_equal(w->closed, 5);
	assert_int_equal(w->gave_way, 5);
	quiet(w);
	ticks(w, 20);
	assert_int_equal(w->closed, CLUSTER_OPEN_MAX + 5);
	assert_int_equal(w->gave_way, 5);
	assert_int_equal(clusters_get_incident(w->c, 6, &first), 0);
	assert_int_equal(first.end, CLUSTER_BACK);
	world_free(w);
}

/* Within one tick: none has settled yet. */
static void too_many_at_once_are_all_told(void **state)
{
	struct world *w = world_new();
	struct clusters_status status;

	(void)state;
	for (unsigned k = 0; k < CLUSTER_OPEN_MAX + 5; k++) {
		char service[32], path[64];

		snprintf(service, sizeof(service), "service%u", k);
		snprintf(path, sizeof(path), "main%u serve%u burn%u", k, k, k);
		tell(w, service, path, METRIC_ON_CPU, 2 * CPU, 0, true);
	}
	assert_int_equal(w->opened, 5);
	assert_int_equal(w->gave_way, 5);
	ticks(w, 4);
	assert_int_equal(w->opened, CLUSTER_OPEN_MAX + 5);
	clusters_get_status(w->c, &status);
	assert_int_equal(status.open, CLUSTER_OPEN_MAX);
	world_free(w);
}

/* What goes on while so many others come that it is not kept any longer. */
static void one_that_is_forgotten_is_told(void **state)
{
	struct world *w = world_new();
	struct cluster_incident last;
	uint64_t first;

	(void)state;
	first = tell(w, "lasting", "main0 serve0 burn0", METRIC_ON_CPU, 2 * CPU, 0, true);
	for (unsigned k = 1; k <= config.max_incidents; k++) {
		char service[32], path[64];

		assert_int_equal(w->closed, k - 1);
		snprintf(service, sizeof(service), "service%u", k);
		snprintf(path, sizeof(path), "main%u serve%u burn%u", k, k, k);
		tell(w, service, path, METRIC_ON_CPU, 2 * CPU, 0, true);
		ticks(w, 4);
		quiet(w);
		tell_goes_on(w, "lasting", "main0 serve0 burn0", METRIC_ON_CPU, 2 * CPU);
		ticks(w, 11);
	}
	assert_int_equal(clusters_get_incident(w->c, first, &last), -ENOENT);
	assert_int_equal(w->gave_way, 1);
	assert_int_equal(w->closed, config.max_incidents + 1);
	world_free(w);
}

/* test_cluster [--vectors=ORDER] */
int main(int argc, char **argv)
{
	unsigned order;

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_everywhere_weighs_nothing),
		cmocka_unit_test(offsets_and_library_versions_are_no_identity),
		cmocka_unit_test(anomalies_of_one_cause_are_one_incident),
		cmocka_unit_test(two_services_are_two_incidents),
		cmocka_unit_test(names_of_an_incidents_program_are_whole),
		cmocka_unit_test(what_moved_most_comes_first),
		cmocka_unit_test(workers_of_one_service_are_one_incident),
		cmocka_unit_test(what_comes_later_is_no_cause),
		cmocka_unit_test(what_comes_when_it_is_over_is_no_effect),
		cmocka_unit_test(other_metrics_say_what_it_is),
		cmocka_unit_test(what_begins_when_the_first_is_over_is_another),
		cmocka_unit_test(a_storm_is_no_effect_of_waiting_for_cpus),
		cmocka_unit_test(who_is_drawn_in_may_have_troubles_of_its_own),
		cmocka_unit_test(the_cause_decides_the_cluster_though_it_comes_late),
		cmocka_unit_test(a_unit_that_starves_does_not_spin),
		cmocka_unit_test(what_gets_its_cpu_spins_though_its_unit_starves),
		cmocka_unit_test(who_is_drawn_in_waits_by_itself),
		cmocka_unit_test(who_suffers_still_prolongs_nothing),
		cmocka_unit_test(the_same_in_another_unit_is_one_while_it_goes_on),
		cmocka_unit_test(what_is_sampled_seldom_is_back_when_it_is),
		cmocka_unit_test(what_ends_is_no_trouble),
		cmocka_unit_test(a_cluster_is_called_after_who_waits),
		cmocka_unit_test(small_change_keeps_no_incident_open),
		cmocka_unit_test(waiting_that_ends_is_a_notice),
		cmocka_unit_test(a_read_past_the_cache_waits_for_the_disk),
		cmocka_unit_test(a_stall_of_the_disk_is_one_incident),
		cmocka_unit_test(growth_is_told_once_and_decides_the_kind_anew),
		cmocka_unit_test(the_kind_that_an_expert_gave_stays),
		cmocka_unit_test(a_cluster_is_named_by_what_has_a_name),
		cmocka_unit_test(faults_of_known_cause_are_told_apart),
		cmocka_unit_test(ids_come_from_names),
		cmocka_unit_test(programs_tell_names_apart),
		cmocka_unit_test(what_moves_otherwise_is_another_trouble),
		cmocka_unit_test(the_smallest_and_oldest_is_forgotten),
		cmocka_unit_test(what_was_said_of_a_forgotten_one_holds),
		cmocka_unit_test(classes_that_come_together_are_merged),
		cmocka_unit_test(classes_that_come_apart_are_split),
		cmocka_unit_test(muted_ones_are_counted_and_not_told),
		cmocka_unit_test(too_many_that_go_on_are_counted_and_told),
		cmocka_unit_test(too_many_at_once_are_all_told),
		cmocka_unit_test(one_that_is_forgotten_is_told),
		cmocka_unit_test(labels_move_kinds_and_severity),
		cmocka_unit_test(a_labelled_kind_outlasts_what_is_found),
		cmocka_unit_test(labels_move_the_evidence_of_their_like),
		cmocka_unit_test(images_outlive_the_process),
		cmocka_unit_test(mistakes_cost_one_rule),
		cmocka_unit_test(the_first_rule_that_matches_has_the_word),
		cmocka_unit_test(advice_with_a_hole_is_not_given),
		cmocka_unit_test(shipped_remedies_cover_every_kind),
		cmocka_unit_test(shipped_remedies_know_what_they_speak_of),
		cmocka_unit_test(floods_stay_in_bounds),
	};

	if (argc == 2 && sscanf(argv[1], "--vectors=%u", &order) == 1)
		return print_vectors(order);
	return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
