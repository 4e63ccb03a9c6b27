/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is known of clusters, on disk and back: whole, damaged, of another size. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster_files.c"
#include "decisions.c"

#define SECOND USEC_PER_SEC
#define MUTED_FOR (3600 * SECOND)

struct world {
	char dir[64];
	struct clusters *c;
	struct cluster_files *files;
	uint64_t now_us;
	pid_t pid;
	unsigned told;
};

static double observe(void *userdata _unused_, const struct cluster_incident *incident _unused_, const struct cluster_series *series _unused_)
{
	return 0;
}

static void on_event(void *userdata, enum cluster_event_kind event, const struct cluster_incident *incident _unused_)
{
	struct world *w = userdata;

	w->told += event == CLUSTER_OPENED;
}

/* Gives its cluster. */
static struct cluster_class occur(struct world *w, const char *function)
{
	const struct cluster_frame frames[] = { { .function = function, .object = "shop" }, { .function = "main", .object = "shop" } };
	struct cluster_incident i;
	struct cluster_class class;
	uint64_t id = clusters_add(w->c, &(struct cluster_anomaly){
		.id = 1, .time_us = w->now_us, .series_id = hash64_string(function, 0), .stack_id = 1, .metric = METRIC_ON_CPU, .observed = 1e9,
		.score = 8, .pid = w->pid, .unit = function, .cgroup = "/", .exe = "shop", .comm = "shop", .frames = frames, .n_frames = 2,
	}, on_event, w);

	for (unsigned k = 0; k < 15; k++) {
		w->now_us += SECOND;
		clusters_tick(w->c, w->now_us, observe, on_event, w);
	}
	assert_int_equal(clusters_get_incident(w->c, id, &i), 0);
	assert_int_equal(clusters_get_class(w->c, i.cluster, &class), 0);
	return class;
}

static void start(struct world *w, uint32_t max_clusters)
{
	const struct cluster_config config = { .max_clusters = max_clusters, .max_incidents = 64 };

	assert_int_equal(clusters_new(&w->c, &config), 0);
	assert_int_equal(cluster_files_new(&w->files, w->dir, w->c), 0);
	w->told = 0;
}

static void stop(struct world *w)
{
	cluster_files_save(w->files, w->now_us);
	w->files = cluster_files_free(w->files);
	w->c = clusters_free(w->c);
}

static char *path_of(char buf[static 128], const struct world *w, const char *name)
{
	snprintf(buf, 128, "%s/%s", w->dir, name);
	return buf;
}

static bool is_there(const struct world *w, const char *name)
{
	char path[128];

	return access(path_of(path, w, name), F_OK) == 0;
}

static void damage(const struct world *w, const char *name, off_t at)
{
	char path[128], c;
	int fd = open(path_of(path, w, name), O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 0x20;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

/* Three clusters: one that is muted, one that is called something else, and one of which nothing was said. */
static void begin(struct world *w)
{
	const enum cluster_kind kind = CLUSTER_SLOW_DOWN;
	struct cluster_class class;

	*w = (struct world){ .dir = "/tmp/stackd-clusters-XXXXXX", .now_us = 1000 * SECOND };
	assert_non_null(mkdtemp(w->dir));
	start(w, 16);
	class = occur(w, "price_basket");
	assert_int_equal(clusters_mute(w->c, class.id, w->now_us + MUTED_FOR), 0);
	class = occur(w, "parse_mail");
	assert_int_equal(clusters_label(w->c, class.members[0], CLUSTER_REAL, &kind, 7, w->now_us), 0);
	occur(w, "render_page");
	assert_int_equal(w->told, 3);
	stop(w);
}

static void end(struct world *w)
{
	static const char *const names[] = { "clusters", "clusters.damaged", "decisions", "decisions.damaged" };
	char path[128];

	stop(w);
	for (size_t k = 0; k < ELEMENTS_OF(names); k++)
		unlink(path_of(path, w, names[k]));
	assert_int_equal(rmdir(w->dir), 0);
}

/* Of those that come again; each has been there so often before. */
static void assert_decisions_hold(struct world *w, unsigned before)
{
	struct cluster_class class = occur(w, "price_basket");

	assert_int_equal(w->told, 0);
	assert_int_equal(class.n_incidents, before + 1);
	assert_true(class.muted_until_us > w->now_us);
	class = occur(w, "parse_mail");
	assert_int_equal(w->told, 1);
	assert_int_equal(class.kind, CLUSTER_SLOW_DOWN);
	assert_int_equal(class.n_real, 1);
	assert_true(cluster_class_evidence(&class, METRIC_ON_CPU, class.evidence_us) < -0.4);
	class = occur(w, "render_page");
	assert_int_equal(class.kind, CLUSTER_CPU_SPIN);
	assert_int_equal(class.muted_until_us, 0);
}

static void all_is_there_again(void **state)
{
	struct world w;

	(void)state;
	begin(&w);
	start(&w, 16);
	assert_decisions_hold(&w, 1);
	assert_false(is_there(&w, "clusters.damaged") || is_there(&w, "decisions.damaged"));
	end(&w);
}

/* What is kept knows nothing of the boot that it was written on: the same trouble of another process, when the machine is up again or on another. */
static void clusters_outlive_the_boot(void **state)
{
	struct world w, other;
	struct cluster_class class, again, elsewhere;

	(void)state;
	begin(&w);
	start(&w, 16);
	w.pid = 4711;
	class = occur(&w, "price_basket");
	stop(&w);

	w.now_us += 86400 * SECOND;
	w.pid = 12;
	start(&w, 16);
	again = occur(&w, "price_basket");
	assert_true(again.id == class.id);
	assert_int_equal(again.n_incidents, class.n_incidents + 1);

	begin(&other);
	other.pid = 99;
	start(&other, 16);
	elsewhere = occur(&other, "price_basket");
	assert_true(elsewhere.id == class.id);
	assert_memory_equal(&elsewhere, &class, sizeof(class));
	end(&other);
	end(&w);
}

static void what_was_said_outlives_damage_to_the_rest(void **state)
{
	struct world w;

	(void)state;
	begin(&w);
	damage(&w, "clusters", 10000);
	start(&w, 16);
	assert_true(is_there(&w, "clusters.damaged") && !is_there(&w, "clusters") && is_there(&w, "decisions"));
	/* What has not come again yet holds, too. */
	stop(&w);
	start(&w, 16);
	assert_decisions_hold(&w, 0);
	end(&w);
}

static void what_was_said_outlives_another_size(void **state)
{
	struct world w;

	(void)state;
	begin(&w);
	start(&w, 32);
	assert_true(is_there(&w, "clusters.damaged"));
	assert_decisions_hold(&w, 0);
	end(&w);
}

static void damage_to_what_was_said_costs_nothing_else(void **state)
{
	struct world w;

	(void)state;
	begin(&w);
	damage(&w, "decisions", 25);
	start(&w, 16);
	assert_true(is_there(&w, "decisions.damaged") && !is_there(&w, "decisions") && !is_there(&w, "clusters.damaged"));
	assert_decisions_hold(&w, 1);
	end(&w);
}

/* What people have said is written first, and then the power fails. */
static void an_older_state_brings_no_mute_back(void **state)
{
	const char *const names[] = { "clusters", "older" };
	struct cluster_class class;
	char paths[2][128];
	struct world w;

	(void)state;
	begin(&w);
	for (size_t k = 0; k < 2; k++)
		path_of(paths[k], &w, names[k]);
	start(&w, 16);
	class = occur(&w, "price_basket");
	assert_int_equal(link(paths[0], paths[1]), 0);
	assert_int_equal(clusters_mute(w.c, class.id, 0), 0);
	stop(&w);
	assert_int_equal(rename(paths[1], paths[0]), 0);
	start(&w, 16);
	class = occur(&w, "price_basket");
	assert_int_equal(class.muted_until_us, 0);
	assert_int_equal(w.told, 1);
	class = occur(&w, "parse_mail");
	assert_int_equal(class.kind, CLUSTER_SLOW_DOWN);
	end(&w);
}

static void a_thread_writes(void **state)
{
	struct world w;
	char path[128];

	(void)state;
	begin(&w);
	start(&w, 16);
	unlink(path_of(path, &w, "clusters"));
	assert_true(cluster_files_save_later(w.files, w.now_us));
	for (unsigned k = 0; k < 1000 && !is_there(&w, "clusters"); k++)
		usleep(10000);
	assert_true(is_there(&w, "clusters"));
	end(&w);
}

/* Each cut and each wrong bit is found, and nothing is taken. */
static void no_damage_is_taken(void **state)
{
	const struct cluster_config config = { .max_clusters = 16, .max_incidents = 64 };
	_cleanup_(clusters_freep) struct clusters *to = NULL;
	_cleanup_free_ char *text = NULL, *none = NULL, *now = NULL;
	size_t size, none_size, now_size;
	struct world w;

	(void)state;
	begin(&w);
	start(&w, 16);
	assert_int_equal(decisions_format(w.c, w.now_us, &text, &size), 0);
	assert_int_equal(clusters_new(&to, &config), 0);
	assert_int_equal(decisions_format(to, w.now_us, &none, &none_size), 0);
	for (size_t at = 0; at < size; at++) {
		assert_true(decisions_parse(to, text, at) < 0);
		text[at] ^= 1;
		assert_true(decisions_parse(to, text, size) < 0);
		text[at] ^= 1;
	}
	assert_int_equal(decisions_format(to, w.now_us, &now, &now_size), 0);
	assert_string_equal(now, none);
	assert_int_equal(decisions_parse(to, text, size), 2);
	free(now);
	assert_int_equal(decisions_format(to, w.now_us, &now, &now_size), 0);
	assert_string_equal(now, text);
	/* A mute that is over says nothing more. */
	assert_int_equal(decisions_parse(to, text, size), 2);
	free(now);
	assert_int_equal(decisions_format(to, w.now_us + 2 * MUTED_FOR, &now, &now_size), 0);
	assert_true(now_size < size);
	end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_is_there_again),
		cmocka_unit_test(clusters_outlive_the_boot),
		cmocka_unit_test(what_was_said_outlives_damage_to_the_rest),
		cmocka_unit_test(what_was_said_outlives_another_size),
		cmocka_unit_test(damage_to_what_was_said_costs_nothing_else),
		cmocka_unit_test(an_older_state_brings_no_mute_back),
		cmocka_unit_test(a_thread_writes),
		cmocka_unit_test(no_damage_is_taken),
	};

	return cmocka_run_group_tests_name("cluster_files", tests, NULL, NULL);
}
