/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Six troubles befall six services again and again, in another order each time: six clusters and no more. The detector and the clusters are the
 * daemon's, joined as it joins them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster.h"
#include "random.h"
#include "world.h"

#define HOUR 3600u
#define ROUNDS 3
#define LASTS 600 /* ticks of a trouble: a function that is seldom sampled is missed only after minutes */
#define APART 1000 /* from one to the next */
#define FRAMES 6
#define BEFELL_MAX 64

enum trouble { SPIN, CONVOY, DISK, BACKEND, STORM, STOPPED, TROUBLES };

static const struct {
	const char *service;
	enum fault_kind fault;
	enum cluster_kind kind;
	const char *path[FRAMES]; /* innermost first; the kernel's functions before a NULL */
	size_t kernel;
} troubles[TROUBLES] = {
	[SPIN] = { "shop", FAULT_SPIN, CLUSTER_CPU_SPIN, { "rebuild_index", "checkout", "handle", "serve", "start_thread" }, 0 },
	[CONVOY] = { "mailer", FAULT_BLOCKED, CLUSTER_LOCK_CONTENTION, { "futex_do_wait", "do_futex", "take_connection", "send_mail", "start_thread" }, 2 },
	[DISK] = { "indexer", FAULT_BLOCKED, CLUSTER_IO_STALL, { "__iomap_dio_rw", "vfs_read", "read_table", "walk_index", "start_thread" }, 2 },
	[BACKEND] = { "gateway", FAULT_BLOCKED, CLUSTER_NETWORK_WAIT, { "wait_woken", "tcp_recvmsg", "ask_backend", "proxy", "start_thread" }, 2 },
	[STORM] = { "billing", FAULT_STORM, CLUSTER_FAULT_STORM, { "load_images", "render_bill", "handle", "serve", "start_thread" }, 0 },
	[STOPPED] = { "batch", FAULT_VANISHED, CLUSTER_STOPPED_WORK, { "crunch_row", "crunch_table", "run_job", "main", "_start" }, 0 },
};

struct befell {
	struct fault fault;
	enum trouble trouble;
	uint64_t incident, cluster;
};

struct test {
	struct world *w;
	struct clusters *c;
	struct befell befell[BEFELL_MAX];
	unsigned n;
	uint64_t anomalies, last_told;
	unsigned opened;
};

static const struct cluster_config cluster_config = { .max_clusters = 64, .max_incidents = 256 };

static uint64_t now_us(const struct test *t)
{
	return (1000000 + world_now(t->w)) * USEC_PER_SEC;
}

static enum trouble trouble_of(const struct test *t, uint32_t series)
{
	for (unsigned k = t->n; k-- > 0;)
		if (t->befell[k].fault.series == series)
			return t->befell[k].trouble;
	return TROUBLES;
}

/* A series' names; of what nothing befell, those of its own. */
struct names {
	struct cluster_frame frames[FRAMES];
	size_t n;
	char leaf[32], object[32], unit[64];
};

static void names_of(const struct test *t, uint32_t series, struct names *ret)
{
	static const char *const others[] = { "dispatch", "handle", "serve", "start_thread" };
	enum trouble trouble = trouble_of(t, series);

	*ret = (struct names){};
	if (trouble < TROUBLES) {
		copy_string(ret->object, sizeof(ret->object), troubles[trouble].service);
		for (; ret->n < FRAMES && troubles[trouble].path[ret->n]; ret->n++) {
			bool kernel = ret->n < troubles[trouble].kernel;

			ret->frames[ret->n] = (struct cluster_frame){
				.function = troubles[trouble].path[ret->n], .object = kernel ? "[kernel]" : ret->object, .kernel = kernel,
			};
		}
	} else {
		snprintf(ret->leaf, sizeof(ret->leaf), "work_%u", series);
		snprintf(ret->object, sizeof(ret->object), "daemon-%u", (unsigned)world_unit(t->w, series));
		ret->frames[ret->n++] = (struct cluster_frame){ .function = ret->leaf, .object = ret->object };
		for (size_t k = 0; k < ELEMENTS_OF(others); k++)
			ret->frames[ret->n++] = (struct cluster_frame){ .function = others[k], .object = ret->object };
	}
	snprintf(ret->unit, sizeof(ret->unit), "%s.service", ret->object);
}

static void on_event(void *userdata, enum cluster_event_kind event, const struct cluster_incident *incident _unused_)
{
	struct test *t = userdata;

	t->opened += event == CLUSTER_OPENED;
}

static void on_alarm(void *userdata, const struct scored *scored)
{
	struct test *t = userdata;
	const struct detect_result *r = &scored->result;
	uint32_t series = scored->series == WORLD_TOTAL ? world_most(t->w, scored->unit, r->metric) : scored->series;
	const uint64_t *values = world_values(t->w, series);
	struct cluster_anomaly a;
	struct names names;
	uint64_t incident;

	names_of(t, series, &names);
	a = (struct cluster_anomaly){
		.id = ++t->anomalies, .time_us = now_us(t), .since_us = now_us(t), .type = r->type, .series_id = series + 1, .stack_id = series + 1,
		.metric = r->metric, .fresh = r->expected <= 0, .observed = r->observed, .expected = r->expected, .score = r->score, .unit = names.unit,
		.cgroup = "/", .exe = names.object, .comm = names.object, .starves = detect_unit_starves(world_detect(t->w), world_unit(t->w, series)),
		.frames = names.frames, .n_frames = names.n,
	};
	for (enum metric m = 0; m < METRIC_HITS; m++) {
		a.also[m].observed = (double)values[m];
		a.also[m].expected = detect_series_usual(world_state(t->w, series), m);
	}
	incident = clusters_add(t->c, &a, on_event, t);
	for (unsigned k = 0; k < t->n; k++)
		if (world_explains(t->w, &t->befell[k].fault, scored) && !t->befell[k].incident)
			t->befell[k].incident = incident;
}

static double observe(void *userdata, const struct cluster_incident *incident _unused_, const struct cluster_series *series)
{
	const struct test *t = userdata;

	return (double)world_values(t->w, (uint32_t)series->id - 1)[series->metric];
}

static void run(struct test *t, unsigned ticks)
{
	while (ticks-- > 0) {
		world_tick(t->w, on_alarm, t);
		clusters_tick(t->c, now_us(t), observe, on_event, t);
	}
}

static bool was_befallen(const struct test *t, const struct befell *b)
{
	for (const struct befell *other = t->befell; other < b; other++)
		if (other->fault.series == b->fault.series)
			return true;
	return false;
}

static void befall(struct test *t, enum trouble trouble)
{
	struct befell *b = &t->befell[t->n++];

	assert_true(t->n <= BEFELL_MAX);
	*b = (struct befell){ .fault = { .kind = troubles[trouble].fault, .from = world_now(t->w), .until = world_now(t->w) + LASTS }, .trouble = trouble };
	/* What it did hours ago is no news of a series. */
	do
		world_add_fault(t->w, &b->fault);
	while (was_befallen(t, b));
}

/* Nothing but what is written down stays. */
static void restart(struct test *t)
{
	struct clusters *new;
	const void *image;
	size_t size;

	world_restart_detector(t->w);
	clusters_image(t->c, &image, &size);
	assert_int_equal(clusters_new(&new, &cluster_config), 0);
	assert_int_equal(clusters_load(new, image, size), 0);
	clusters_free(t->c);
	t->c = new;
}

static void begin(struct test *t, uint64_t seed)
{
	const struct world_config config = { .seed = seed, .n_series = 1000, .units = true, .false_alarms_per_day = 0.2 };

	*t = (struct test){};
	assert_int_equal(world_new(&t->w, &config), 0);
	assert_int_equal(clusters_new(&t->c, &cluster_config), 0);
	for (uint32_t series = 0; series < config.n_series; series++) {
		struct names names;

		names_of(t, series, &names);
		clusters_learn_stack(t->c, names.frames, names.n);
	}
	run(t, 6 * HOUR);
}

static void end(struct test *t)
{
	world_free(t->w);
	clusters_free(t->c);
}

/* Gives how many are told. A function that is seldom sampled may stop and not be missed. */
static unsigned check(struct test *t, unsigned from, uint64_t ids[static TROUBLES])
{
	unsigned told = 0;

	for (unsigned k = from; k < t->n; k++) {
		struct befell *b = &t->befell[k];
		struct cluster_incident i;

		if (!b->incident) {
			printf("# %s is not told\n", troubles[b->trouble].service);
			assert_int_equal(b->trouble, STOPPED);
			continue;
		}
		told++;
		assert_int_equal(clusters_get_incident(t->c, b->incident, &i), 0);
		if (i.kind != troubles[b->trouble].kind)
			fail_msg("%s is told as %s", troubles[b->trouble].service, cluster_kind_to_string(i.kind));
		if (!ids[b->trouble])
			ids[b->trouble] = i.cluster;
		assert_int_equal(i.cluster, ids[b->trouble]);
	}
	return told;
}

static void shuffle(enum trouble order[static TROUBLES], struct random *r)
{
	for (unsigned k = 0; k < TROUBLES; k++)
		order[k] = k;
	for (unsigned k = TROUBLES - 1; k > 0; k--) {
		unsigned with = (unsigned)(random_u64(r) % (k + 1));
		enum trouble swap = order[k];

		order[k] = order[with];
		order[with] = swap;
	}
}

static void test_six_troubles_are_six_clusters(void **state)
{
	struct random r = { 6 };
	uint64_t ids[TROUBLES] = {}; /* the same in every machine, whatever came first there */

	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct clusters_status status;
		enum trouble order[TROUBLES];
		unsigned told = 0;
		struct test t;

		begin(&t, seed);
		for (unsigned round = 0; round < ROUNDS; round++) {
			unsigned from = t.n;

			shuffle(order, &r);
			for (unsigned k = 0; k < TROUBLES; k++) {
				befall(&t, order[k]);
				run(&t, APART);
			}
			if (round == 1)
				restart(&t);
			told += check(&t, from, ids);
		}
		clusters_get_status(t.c, &status);
		assert_int_equal(status.classes, TROUBLES);
		assert_int_equal(t.opened, told);
		assert_int_equal(status.open, 0);
		end(&t);
	}
}

static void test_two_at_once_are_two(void **state)
{
	uint64_t ids[TROUBLES] = {};
	struct test t;

	(void)state;
	begin(&t, 1);
	befall(&t, SPIN);
	befall(&t, CONVOY);
	run(&t, APART);
	assert_int_equal(check(&t, 0, ids), 2);
	assert_int_equal(t.opened, 2);
	assert_int_not_equal(t.befell[0].incident, t.befell[1].incident);
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_six_troubles_are_six_clusters),
		cmocka_unit_test(test_two_at_once_are_two),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
