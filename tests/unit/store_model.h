/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store that is a plain table, to compare with: part of test_store.c. */

#define MODEL_TICKS 1500
#define MODEL_PIDS 6
#define MODEL_STACKS 12

static uint64_t model[MODEL_TICKS + 1][MODEL_PIDS][MODEL_STACKS][METRIC_N];
static int model_threads[MODEL_PIDS][MODEL_STACKS];

static uint64_t noisy(void)
{
	uint64_t magnitude = 1ULL << next_random(34);

	return magnitude + next_random(magnitude);
}

static void model_add(struct fixture *f, uint32_t pid, uint32_t st)
{
	uint64_t values[METRIC_N] = { [METRIC_HITS] = next_random(2) };

	values[METRIC_ON_CPU] = values[METRIC_HITS] * PERIOD;
	if (next_random(2))
		values[METRIC_BLOCKED] = noisy();
	if (next_random(4) == 0)
		values[METRIC_RUNNABLE] = noisy();
	if (next_random(8) == 0)
		values[METRIC_FAULTS_MINOR] = next_random(300);
	if (next_random(3) == 0)
		values[METRIC_BRK] = next_random(2) ? noisy() : 0 - noisy();
	if (next_random(6) == 0)
		values[METRIC_MMAP] = next_random(3) ? noisy() : 0 - noisy();
	if (next_random(5) == 0)
		values[METRIC_HEAP] = next_random(3) ? noisy() : 0 - noisy();
	for (int m = 0; m < METRIC_N; m++)
		model[f->ticks][pid][st][m] += values[m];
	assert_int_equal(store_add(f->s, process(f->s, (pid_t)pid + 1, pid % 2 ? 1000 : 1001),
	                           stack(f->s, st + 1), values),
	                 0);
}

static void model_wait(struct fixture *f, uint32_t pid, uint32_t st)
{
	int change = (int)next_random(5) - 2;

	model_threads[pid][st] = MAX(model_threads[pid][st] + change, 0);
	assert_int_equal(store_wait(f->s, process(f->s, (pid_t)pid + 1, pid % 2 ? 1000 : 1001),
	                            stack(f->s, st + 1), change),
	                 0);
}

static void model_tick(struct fixture *f)
{
	begin(f);
	for (uint64_t n = next_random(30); n > 0; n--)
		model_add(f, (uint32_t)next_random(MODEL_PIDS), (uint32_t)next_random(MODEL_STACKS));
	if (next_random(3) == 0)
		model_wait(f, (uint32_t)next_random(MODEL_PIDS), (uint32_t)next_random(MODEL_STACKS));
	for (uint32_t pid = 0; pid < MODEL_PIDS; pid++)
		for (uint32_t st = 0; st < MODEL_STACKS; st++)
			model[f->ticks][pid][st][METRIC_BLOCKED] += (uint64_t)model_threads[pid][st] *
			                                            NSEC_PER_SEC;
	commit(f);
}

/* Compares one window and filter. The tolerance is what rounding may leave at the ends of a stretch of one
 * tier: half a quantum of the largest value there; a window has at most five such stretches (1 s, 10 s, 1
 * min, 10 s, 1 s). */
static void compare(struct fixture *f, const struct store_filter *filter, uint64_t from, uint64_t until)
{
	uint64_t sums[METRIC_N] = {}, tolerance[METRIC_N] = {};
	struct collected *c;

	for (uint32_t pid = 0; pid < MODEL_PIDS; pid++)
		for (uint32_t st = 0; st < MODEL_STACKS; st++) {
			if ((filter->pid && filter->pid != (pid_t)pid + 1) ||
			    (filter->stack_id && filter->stack_id != st + 1) ||
			    (filter->viewer_uid && filter->viewer_uid != (pid % 2 ? 1000 : 1001)))
				continue;
			for (int m = 0; m < METRIC_N; m++) {
				uint64_t most = 0, minute = 0, v;

				for (uint64_t t = 1; t <= f->ticks; t++) {
					if (t > from && t <= until)
						sums[m] += model[t][pid][st][m];
					minute = t % 60 == 1 ? 0 : minute;
					/* of a signed metric a sum may be small though its parts are large */
					v = metric_magnitude(m, model[t][pid][st][m]);
					minute += v;
					most = MAX(most, minute);
				}
				tolerance[m] += m == METRIC_HITS || m == METRIC_ON_CPU ? 0
				                                                       : most / 128 * 5 + 5;
			}
		}
	c = slices(f->s, filter);
	for (int m = 0; m < METRIC_N; m++) {
		uint64_t p, got = c->sums[m];

		if (metric_magnitude(METRIC_MMAP, got - sums[m]) > tolerance[m])
			fail_msg("%s of ticks %llu..%llu: %llu, not %llu", metric_to_string(m),
			         (unsigned long long)from, (unsigned long long)until, (unsigned long long)got,
			         (unsigned long long)sums[m]);
		p = points(f->s, filter)->sums[m];
		if (metric_magnitude(METRIC_MMAP, p - sums[m]) > tolerance[m])
			fail_msg("points: %s of ticks %llu..%llu: %llu, not %llu", metric_to_string(m),
			         (unsigned long long)from, (unsigned long long)until, (unsigned long long)p,
			         (unsigned long long)sums[m]);
	}
	for (size_t i = 0; i < c->n; i++) {
		if (filter->pid)
			assert_int_equal(c->rows[i].pid, filter->pid);
		if (filter->stack_id)
			assert_int_equal(c->rows[i].stack_id, filter->stack_id);
	}
}

static void compare_random_window(struct fixture *f)
{
	uint64_t from, until, a, b;
	struct store_filter filter = {};

	if (next_random(2)) { /* what 1-s blocks hold */
		uint64_t low = f->ticks > 58 ? f->ticks - 58 : 0;

		a = low + next_random(f->ticks - low + 1);
		b = low + next_random(f->ticks - low + 1);
	} else { /* whole minutes: every tier has them */
		a = next_random(f->ticks / 60 + 1) * 60;
		b = next_random(f->ticks / 60 + 1) * 60;
	}
	from = MIN(a, b);
	until = MAX(a, b);
	if (from == until)
		return;
	filter.since_us = T0 + from * SECOND;
	filter.until_us = T0 + until * SECOND;
	switch (next_random(5)) {
	case 0:
		filter.pid = (pid_t)next_random(MODEL_PIDS) + 1;
		break;
	case 1:
		filter.stack_id = next_random(MODEL_STACKS) + 1;
		break;
	case 2:
		filter.viewer_uid = 1000;
		break;
	}
	compare(f, &filter, from, until);
}

static void sums_equal_the_model(void **state)
{
	struct fixture *f = fixture_new(ARENA);

	(void)state;
	memset(model, 0, sizeof(model));
	memset(model_threads, 0, sizeof(model_threads));
	while (f->ticks < MODEL_TICKS) {
		model_tick(f);
		if (next_random(10) == 0)
			compare_random_window(f);
		if (next_random(200) == 0) {
			/* Waits end when the store is left. */
			memset(model_threads, 0, sizeof(model_threads));
			reopen(f);
		}
	}
	compare(f, &(struct store_filter) {}, 0, f->ticks);
	fixture_free(f);
}
