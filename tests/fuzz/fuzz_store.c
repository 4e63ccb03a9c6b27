/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opens an arena of arbitrary content, asks it everything, and writes on. An arena of noise is told by its
 * first bytes, so the input is a list of changes to an arena that holds some ticks: section, place within
 * what is used of it, bytes. The checksums are then made right again (or not, as the first byte says), so
 * that what lies behind them is reached. */
#include "internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA STORE_ARENA_MIN
#define T0 1700000000000000ULL

static const struct store_config config = {
	.tiers = { { 1, 30 }, { 10, 100 }, { 60, 600 } },
	.series_state_size = 64,
	.global_state_size = 64,
	.slices_per_series = 4,
};

static void write_tick(struct store *s, uint64_t t)
{
	struct store_tick tick = { .time_us = T0 + t * USEC_PER_SEC,
		                   .duration_ns = NSEC_PER_SEC,
		                   .online_cpus = 2,
		                   .n_losses = 1,
		                   .losses = { { .cause = "lost", .n = 1 } } };

	if (store_tick_begin(s, tick.time_us, tick.duration_ns) < 0)
		return;
	for (uint64_t k = 0; k < 6; k++) {
		struct store_frame frames[2] = {
			{ .id = t % 20 * 8 + k, .display = "function", .object = "app" },
			{ .id = 1, .display = "main", .object = "app" }
		};
		struct store_process p = { .pid = (pid_t)(t % 8 + k + 1),
			                   .exec_id = 1,
			                   .uid = 1000 + (uint32_t)k % 2,
			                   .comm = "app",
			                   .exe = k % 3 ? "/usr/bin/app" : "",
			                   .unit = "app.service",
			                   .cgroup = "/a" };
		uint64_t values[METRIC_N] = { k * 20408163, t * 100003, k % 2 ? 12345678 : 0, k, 0, k, t % 3 ? 0 - k * 4096 : 0, (k % 2 ? t : 0 - t) << 20 };
		store_ref process, stack;

		if (store_intern_process(s, &p, &process) < 0 ||
		    store_intern_stack(s, frames[0].id + 100, frames, 2, false, &stack) < 0)
			continue;
		store_add(s, process, stack, values);
		store_add_total(s, process, values);
		store_wait(s, process, stack, (int)(t % 5) - 2);
	}
	store_tick_commit(s, &tick);
	if (t % 40 == 0) {
		store_add_anomaly(s, &(struct store_anomaly) { .time_us = tick.time_us, .comm = "app" });
		store_add_gate_change(
			s, &(struct store_gate_change){ .time_us = tick.time_us, .cause = "load" });
	}
}

static size_t text; /* read, so that the sanitizer sees where it lies */

static void read_process(const struct store *s, store_ref ref)
{
	struct store_process p;

	if (store_get_process(s, ref, &p) < 0)
		abort();
	text += strlen(p.comm) + strlen(p.exe) + strlen(p.unit) + strlen(p.cgroup);
}

static int read_slice(void *userdata, const struct store_slice_sum *sum)
{
	struct store_frame frames[64];
	bool truncated;
	uint64_t id;
	size_t n;

	read_process(userdata, sum->process);
	if (sum->stack == 0)
		return 0;
	if (store_get_stack(userdata, sum->stack, &id, &truncated, frames, ELEMENTS_OF(frames), &n) < 0)
		abort();
	for (size_t i = 0; i < MIN(n, ELEMENTS_OF(frames)); i++)
		text += strlen(frames[i].display) + strlen(frames[i].object);
	return 0;
}

static int read_point(void *userdata, const struct store_point *point)
{
	(void)userdata;
	text += point->step_s;
	return 0;
}

static int read_one_anomaly(void *userdata, const struct store_anomaly *a)
{
	(void)userdata;
	text += strlen(a->comm) + strlen(a->exe) + strlen(a->unit) + strlen(a->cgroup);
	return 0;
}

static int read_gate(void *userdata, const struct store_gate_change *change)
{
	(void)userdata;
	text += strlen(change->cause);
	return 0;
}

static void read_series(void *userdata, const struct store_series *series)
{
	if (series->top_process)
		read_process(userdata, series->top_process);
	++*(unsigned char *)series->state;
}

static void ask_everything(struct store *s)
{
	static const struct store_filter filters[] = {
		{},
		{ .since_us = T0 + 20 * USEC_PER_SEC, .until_us = T0 + 155 * USEC_PER_SEC },
		{ .viewer_uid = 1000,
		  .unit = "app",
		  .cgroup = "/a",
		  .comm = "app",
		  .exe = "/usr/bin/app",
		  .pid = 3 },
		{ .stack_id = 108, .since_us = T0 + 100 * USEC_PER_SEC },
	};
	struct store_loss losses[STORE_LOSS_CAUSES_MAX];
	struct store_status st;

	for (size_t i = 0; i < ELEMENTS_OF(filters); i++) {
		store_visit_slices(s, &filters[i], read_slice, s);
		store_visit_totals(s, &filters[i], read_slice, s);
		store_visit_wall(s, &filters[i], read_slice, s);
		store_visit_points(s, &filters[i], read_point, NULL);
		store_visit_anomalies(s, &filters[i], read_one_anomaly, NULL);
	}
	store_visit_gate(s, 0, 0, read_gate, NULL);
	store_get_status(s, &st);
	for (size_t n = store_get_losses(s, losses); n > 0; n--)
		text += strlen(losses[n - 1].cause);
}

/* ---- changes ---- */

struct input {
	const uint8_t *at, *end;
};

static uint64_t take(struct input *in, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n && in->at < in->end; i++)
		v |= (uint64_t)*in->at++ << 8 * i;
	return v;
}

static struct section choose(const struct layout *l, unsigned which)
{
	if (which < DICTS)
		return (struct section) { l->dicts[which].offset, 1024 };
	which -= DICTS;
	if (which < RINGS)
		return (struct section) { l->ring_index[which].offset, 2048 };
	which -= RINGS;
	if (which < RINGS)
		return (struct section) { l->ring_bytes[which].offset, 4096 };
	switch (which - RINGS) {
	case 0:
		return (struct section) { l->pool.offset, 16384 };
	case 1:
		return (struct section) { l->open_waits.offset, 1024 };
	case 2:
		return (struct section) { l->runs.offset, 1024 };
	case 3:
		return (struct section) { l->anomalies.offset, 1024 };
	default:
		return (struct section) { offsetof(struct header, commits), sizeof(struct commit) * 2 };
	}
}

static void mend(struct store *view)
{
	for (int i = 0; i < 2; i++)
		view->header->commits[i].checksum = store_commit_checksum(&view->header->commits[i]);
	view->c = view->header->commits[view->header->sequence & 1];
	for (int r = 0; r < RINGS; r++)
		for (uint32_t i = 0; i < view->layout.ring_index[r].n; i++) {
			struct block *b = (struct block *)store_at(view, view->layout.ring_index[r].offset) +
			                  i;

			if (b->size <= view->layout.ring_bytes[r].n &&
			    b->offset <= view->layout.ring_bytes[r].n - b->size)
				b->checksum = store_block_checksum(view, r, b);
		}
}

static unsigned char *seed_arena(void)
{
	unsigned char *arena = aligned_alloc(4096, ARENA);
	struct store *s;
	bool reused;

	if (!arena)
		abort();
	memset(arena, 0, ARENA);
	if (store_open(&s, arena, ARENA, &config, &reused) < 0)
		abort();
	for (uint64_t t = 1; t <= 200; t++)
		write_tick(s, t);
	store_close(s);
	return arena;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned char *seed, *arena;
	struct input in = { data, data + size };
	struct store view = {}, *s;
	bool reused, mended;

	if (!seed) {
		seed = seed_arena();
		arena = aligned_alloc(4096, ARENA);
		if (!arena)
			abort();
	}
	memcpy(arena, seed, ARENA);
	view.arena = arena;
	view.header = (struct header *)arena;
	view.layout = view.header->layout;
	mended = take(&in, 1) & 1;
	while (in.at < in.end) {
		struct section section = choose(&view.layout,
		                                (unsigned)take(&in, 1) % (DICTS + 2 * RINGS + 5));
		uint64_t at = take(&in, 2) % section.n, n = take(&in, 1) % 16 + 1;

		for (uint64_t i = 0; i < n && section.offset + at + i < ARENA; i++)
			arena[section.offset + at + i] = (unsigned char)take(&in, 1);
	}
	if (mended)
		mend(&view);
	if (store_open(&s, arena, ARENA, &config, &reused) < 0)
		abort();
	ask_everything(s);
	for (uint64_t t = 201; t < 225; t++) {
		write_tick(s, t);
		if (t % 8 == 0 && store_tick_begin(s, T0 + t * USEC_PER_SEC, NSEC_PER_SEC) == 0) {
			store_tick_visit(s, 10, read_series, s);
			store_tick_commit(s, &(struct store_tick) { .time_us = T0 + t * USEC_PER_SEC });
		}
	}
	ask_everything(s);
	store_close(s);
	return 0;
}
