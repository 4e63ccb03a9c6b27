/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is left after a crash or damage: part of test_store.c. */

/* ---- between calls: the arena is copied after every call of a tick, and opened ---- */

struct crash {
	struct fixture *f;
	void *copy;
	uint64_t committed;      /* ticks */
	uint64_t hits, blocked_s; /* of committed ticks */
	unsigned opened;
};

static void look_at_copy(struct crash *c)
{
	struct store_status st;
	struct store *s;
	bool reused;

	memcpy(c->copy, c->f->arena, c->f->size);
	assert_int_equal(store_open(&s, c->copy, c->f->size, &config, &reused), 0);
	assert_true(reused);
	store_get_status(s, &st);
	assert_int_equal(st.ticks, c->committed);
	slices(s, &(struct store_filter) {});
	assert_int_equal(collected.sums[METRIC_HITS], c->hits);
	assert_int_equal(collected.sums[METRIC_BLOCKED], c->blocked_s * NSEC_PER_SEC);
	assert_int_equal(points(s, &(struct store_filter) {})->sums[METRIC_HITS], c->hits);
	store_close(s);
	c->opened++;
}

static void a_crash_between_calls_loses_no_committed_tick(void **state)
{
	struct crash c = { .f = fixture_new(SMALL_ARENA), .copy = aligned_alloc(4096, SMALL_ARENA) };
	unsigned threads = 0;

	(void)state;
	look_at_copy(&c);
	for (unsigned i = 1; i <= 130; i++) {
		uint64_t hits = 0;

		begin(c.f);
		look_at_copy(&c);
		for (uint64_t k = 0; k < 3; k++) {
			process(c.f->s, (pid_t)(i + k), 1000);
			look_at_copy(&c);
			stack(c.f->s, i % 40 * 2 + k + 1);
			look_at_copy(&c);
			add_hits(c.f, (pid_t)(i + k), 1000, i % 40 * 2 + k + 1, k + 1);
			hits += k + 1;
			look_at_copy(&c);
		}
		if (i % 9 == 0) {
			store_wait(c.f->s, process(c.f->s, 1, 1000), stack(c.f->s, 1), 1);
			threads++;
		} else if (i % 9 == 4 && threads > 0) {
			store_wait(c.f->s, process(c.f->s, 1, 1000), stack(c.f->s, 1), -1);
			threads--;
		}
		look_at_copy(&c);
		if (i % 50 == 0)
			store_add_anomaly(c.f->s, &(struct store_anomaly) { .time_us = now_us(c.f) });
		look_at_copy(&c);
		commit(c.f);
		c.committed++;
		c.hits += hits;
		c.blocked_s += threads;
		look_at_copy(&c);
	}
	assert_true(c.opened > 1500);
	free(c.copy);
	fixture_free(c.f);
}

/* ---- anywhere: a process that writes ticks is killed ---- */

/* What tick t adds; waits are up in every second block of ten ticks. */
static void killed_tick(struct fixture *f, uint64_t t)
{
	begin(f);
	for (uint64_t k = 0; k < 5; k++)
		add_hits(f, (pid_t)(t % 40 + k + 1), 1000, t % 70 + k * 100 + 1, 1 + k);
	store_add_total(f->s, process(f->s, (pid_t)(t % 40 + 1), 1000), (uint64_t[METRIC_N]) { 64 });
	commit(f);
}

static _Noreturn void write_until_killed(struct fixture *f)
{
	for (;;)
		killed_tick(f, f->ticks + 1);
}

static void kill_9_loses_no_committed_tick(void **state)
{
	struct fixture *f = fixture_new(ARENA);
	uint64_t last = 0;

	(void)state;
	/* A busy machine may let a writer do little before it is killed. */
	for (unsigned round = 0; round < 60 || (last <= 100 && round < 6000); round++) {
		struct timespec delay = { .tv_nsec = (long)next_random(4000000) };
		struct store_status st;
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0)
			write_until_killed(f);
		nanosleep(&delay, NULL);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		reopen(f);
		store_get_status(f->s, &st);
		assert_true(st.ticks >= last);
		f->ticks = last = st.ticks;
		if (st.newest_us > 0)
			assert_int_equal(st.newest_us, now_us(f));
		/* All of an hour is there in some tier. */
		if (st.ticks <= 3600) {
			assert_int_equal(slices(f->s, &(struct store_filter){})->sums[METRIC_HITS],
			                 st.ticks * 15);
			assert_int_equal(totals(f->s, &(struct store_filter){})->sums[METRIC_ON_CPU],
			                 st.ticks * 64);
		}
		assert_int_equal(slices(f->s, &(struct store_filter){ .since_us = now_us(f) - 50 * SECOND })
		                         ->sums[METRIC_HITS],
		                 MIN(st.ticks, 50U) * 15);
	}
	assert_true(last > 100);
	fixture_free(f);
}

/* ---- damage ---- */

static int ignore_anomaly(void *userdata, const struct store_anomaly *a)
{
	*(size_t *)userdata += strlen(a->comm) + strlen(a->exe) + strlen(a->unit) + strlen(a->cgroup);
	return 0;
}

static int read_slice(void *userdata, const struct store_slice_sum *sum)
{
	struct store_process p;
	struct store_frame frames[8];
	bool truncated;
	uint64_t id;
	size_t n;

	assert_int_equal(store_get_process(userdata, sum->process, &p), 0);
	assert_true(strlen(p.comm) < 4096 && strlen(p.exe) < 4096);
	if (sum->stack)
		assert_int_equal(store_get_stack(userdata, sum->stack, &id, &truncated, frames, 8, &n), 0);
	return 0;
}

static int ignore_point(void *userdata, const struct store_point *point)
{
	(void)userdata;
	(void)point;
	return 0;
}

static void damaged_arenas_are_survived(void **state)
{
	struct fixture *f = fixture_new(SMALL_ARENA);
	unsigned char *copy = aligned_alloc(4096, SMALL_ARENA);

	(void)state;
	for (unsigned i = 1; i <= 200; i++) {
		killed_tick(f, i);
		if (i % 50 == 0)
			store_add_anomaly(f->s,
			                  &(struct store_anomaly){ .time_us = now_us(f), .comm = "app" });
	}
	for (unsigned round = 0; round < 400; round++) {
		struct fixture g = { .arena = copy, .size = SMALL_ARENA, .ticks = f->ticks };
		size_t length = 0;
		bool reused;

		memcpy(copy, f->arena, SMALL_ARENA);
		for (uint64_t n = 1 + next_random(200); n > 0; n--)
			copy[sizeof(struct header) + next_random(SMALL_ARENA - sizeof(struct header))] ^=
				(unsigned char)(1 << next_random(8));
		assert_int_equal(store_open(&g.s, copy, SMALL_ARENA, &config, &reused), 0);
		assert_int_equal(store_visit_slices(g.s, &(struct store_filter) {}, read_slice, g.s), 0);
		assert_int_equal(store_visit_totals(g.s, &(struct store_filter) {}, read_slice, g.s), 0);
		assert_int_equal(store_visit_wall(g.s, &(struct store_filter) {}, read_slice, g.s), 0);
		assert_int_equal(store_visit_points(g.s, &(struct store_filter) {}, ignore_point, NULL), 0);
		store_visit_anomalies(g.s, &(struct store_filter) {}, ignore_anomaly, &length);
		for (unsigned i = 0; i < 20; i++)
			killed_tick(&g, g.ticks + 1);
		store_close(g.s);
	}
	free(copy);
	fixture_free(f);
}

static void damaged_blocks_are_dropped(void **state)
{
	struct fixture *f = fixture_new(SMALL_ARENA);

	(void)state;
	for (uint64_t t = 1; t <= 20; t++)
		killed_tick(f, t);
	((unsigned char *)store_block_payload(f->s, 0, store_block(f->s, 0, 12)))[50] ^= 4;
	reopen(f);
	assert_int_equal(points(f->s, &(struct store_filter) { .since_us = T0 + 10 * SECOND })->n, 9);
	assert_int_equal(gathered.sums[METRIC_HITS], 9 * 15);
	fixture_free(f);
}

static void foreign_arenas_are_formatted(void **state)
{
	struct store_config other = config;
	uint64_t *arena = aligned_alloc(4096, SMALL_ARENA);
	struct store *s;
	bool reused;

	(void)state;
	for (size_t i = 0; i < SMALL_ARENA / 8; i++)
		arena[i] = seed * (i + 1) * 0x9e3779b97f4a7c15ULL;
	assert_int_equal(store_open(&s, arena, SMALL_ARENA, &config, &reused), 0);
	assert_false(reused);
	s = store_close(s);
	other.tiers[0].keep_s = 120;
	assert_int_equal(store_open(&s, arena, SMALL_ARENA, &other, &reused), 0);
	assert_false(reused);
	s = store_close(s);
	assert_int_equal(store_open(&s, arena, SMALL_ARENA, &other, &reused), 0);
	assert_true(reused);
	store_close(s);
	free(arena);
}
