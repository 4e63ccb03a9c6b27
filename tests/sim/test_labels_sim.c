/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Labels over rounds: of two troubles that come again and again, each time in a stack never seen before, one is called false and one
 * real. The detector and the clusters are the daemon's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster.h"
#include "world.h"

#define HOUR 3600u
#define ROUNDS 12
#define LASTS 60   /* ticks of a trouble */
#define APART 1800 /* from one to the next */
#define FRAMES 5

enum trouble { BACKUP, SPIN, TROUBLES };

struct labelling {
	struct world *w;
	struct clusters *c;
	bool labels;
	struct fault faults[ROUNDS][TROUBLES];
	unsigned begun; /* faults */
	uint64_t incident; /* that the latest alarm of a trouble is part of */
	uint64_t anomalies;
	unsigned told, others;
};

static const struct world_config config = { .seed = 3, .n_series = 1000, .false_alarms_per_day = 1 };

static uint64_t now_us(const struct labelling *l)
{
	return (1000000 + world_now(l->w)) * USEC_PER_SEC;
}

/* Frames of a series, innermost first. Of a trouble the leaf is another each time. */
static void frames_of(const struct labelling *l, uint32_t series, char leaf[static 32], struct cluster_frame frames[static FRAMES])
{
	static const char *const paths[TROUBLES][FRAMES - 1] = {
		[BACKUP] = { "compress_block", "archive_file", "walk_tree", "main" },
		[SPIN] = { "price_basket", "checkout", "serve", "main" },
	};
	static const char *const others[FRAMES - 1] = { "dispatch", "handle", "serve", "main" };
	const char *const *path = others;
	const char *object = "daemon";

	snprintf(leaf, 32, "work_%u", series);
	for (unsigned k = 0; k < l->begun; k++)
		if (l->faults[k / TROUBLES][k % TROUBLES].series == series) {
			path = paths[k % TROUBLES];
			object = k % TROUBLES == BACKUP ? "backup" : "shop";
		}
	frames[0] = (struct cluster_frame){ .function = leaf, .object = object };
	for (size_t k = 1; k < FRAMES; k++)
		frames[k] = (struct cluster_frame){ .function = path[k - 1], .object = object };
}

static double evidence(void *userdata, uint32_t series, enum metric metric, bool rises)
{
	struct labelling *l = userdata;
	struct cluster_frame frames[FRAMES];
	char leaf[32];

	frames_of(l, series, leaf, frames);
	return clusters_evidence(l->c, frames, FRAMES, metric, rises, now_us(l));
}

static void on_alarm(void *userdata, const struct scored *scored)
{
	struct labelling *l = userdata;
	unsigned latest = l->begun - 1;
	struct cluster_frame frames[FRAMES];
	char leaf[32];
	uint64_t incident;

	frames_of(l, scored->series, leaf, frames);
	incident = clusters_add(l->c, &(struct cluster_anomaly){
		.id = ++l->anomalies, .time_us = now_us(l), .series_id = scored->series + 1, .stack_id = scored->series + 1,
		.metric = scored->result.metric, .fresh = scored->result.expected <= 0, .observed = scored->result.observed,
		.expected = scored->result.expected, .score = scored->result.score, .unit = frames[0].object, .cgroup = "/",
		.exe = frames[0].object, .comm = frames[0].object, .frames = frames, .n_frames = FRAMES,
	}, NULL, NULL);
	if (l->begun == 0 || scored->series != l->faults[latest / TROUBLES][latest % TROUBLES].series) {
		l->others++;
		return;
	}
	l->told++;
	l->incident = incident;
}

static double observe(void *userdata _unused_, const struct cluster_incident *incident _unused_, const struct cluster_series *series _unused_)
{
	return 0;
}

static void run(struct labelling *l, unsigned ticks)
{
	while (ticks-- > 0) {
		world_tick(l->w, on_alarm, l);
		clusters_tick(l->c, now_us(l), observe, NULL, NULL);
	}
}

/* Gives whether it was told. */
static bool happen(struct labelling *l, unsigned round, enum trouble t)
{
	struct fault *f = &l->faults[round][t];
	struct detect_status status;

	*f = (struct fault){ .kind = FAULT_SPIN, .from = world_now(l->w), .until = world_now(l->w) + LASTS };
	world_add_fault(l->w, f);
	l->begun++;
	l->told = 0;
	run(l, APART);
	if (l->told > 0 && l->labels) {
		detect_get_status(world_detect(l->w), &status);
		assert_int_equal(clusters_label(l->c, l->incident, t == BACKUP ? CLUSTER_FALSE : CLUSTER_REAL, NULL, status.threshold, now_us(l)), 0);
	}
	return l->told > 0;
}

/* Gives how often each was told in the first and in the second half of the rounds. */
static void rounds(bool labels, unsigned ret[static 2][TROUBLES])
{
	static const struct cluster_config clusters = { .max_clusters = 16, .max_incidents = 256 };
	struct labelling l = { .labels = labels };

	assert_int_equal(world_new(&l.w, &config), 0);
	assert_int_equal(clusters_new(&l.c, &clusters), 0);
	world_set_evidence(l.w, evidence, &l);
	memset(ret, 0, 2 * sizeof(ret[0]));
	/* The first hours are for what is usual. */
	run(&l, 6 * HOUR);
	for (unsigned r = 0; r < ROUNDS; r++)
		for (enum trouble t = 0; t < TROUBLES; t++)
			ret[r >= ROUNDS / 2][t] += happen(&l, r, t);
	printf("# %s: told in the first half, of %u: backup %u, spin %u; in the second: backup %u, spin %u; others %u\n",
	       labels ? "labelled" : "without labels", ROUNDS / 2, ret[0][BACKUP], ret[0][SPIN], ret[1][BACKUP], ret[1][SPIN], l.others);
	world_free(l.w);
	clusters_free(l.c);
}

static void test_false_alarms_fall_and_real_ones_stay(void **state)
{
	unsigned with[2][TROUBLES], without[2][TROUBLES];

	(void)state;
	rounds(false, without);
	rounds(true, with);
	assert_true(without[0][BACKUP] + without[1][BACKUP] >= ROUNDS - 2);
	assert_true(without[0][SPIN] + without[1][SPIN] >= ROUNDS - 2);
	assert_true(with[0][BACKUP] > 0 && with[0][BACKUP] < without[0][BACKUP]);
	assert_int_equal(with[1][BACKUP], 0);
	for (unsigned half = 0; half < 2; half++)
		assert_true(with[half][SPIN] >= without[half][SPIN]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_false_alarms_fall_and_real_ones_stay) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
