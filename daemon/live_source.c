/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tick_source.h"
#include "unwind.h"

static int live_tick(void *userdata, const struct collect_sink *sink, void *sink_userdata)
{
	struct live_source *l = userdata;
	int r;

	symbols_dispatch(l->symbols);
	r = collect_tick(l->collect, sink, sink_userdata);
	if (r >= 0)
		unwind_tick(l->unwind);
	return r;
}

/* Realtime of a moment of the boot clock. What the kernel says of starts is exact, what time it was then is not. */
static uint64_t realtime_of_boot_ns(uint64_t boot_ns)
{
	return clock_realtime_us() - clock_boottime_ns() / NSEC_PER_USEC + boot_ns / NSEC_PER_USEC;
}

static int live_process(void *userdata, const struct collect_process *p, const struct symbols_process **ret, uint64_t *ret_start_us)
{
	const struct symbols_process_key key = { p->pid, p->exec_id, p->start_ns, p->seen_ns };
	const struct live_source *l = userdata;

	*ret_start_us = realtime_of_boot_ns(p->start_ns);
	return symbols_process(l->symbols, &key, p->cgroup_id, p->comm, p->uid, p->kernel_thread, ret);
}

static int live_stack(void *userdata, uint64_t raw_id, struct symbols_frame ret_frames[static SYMBOLS_FRAMES_MAX], size_t *ret_n,
		 uint64_t *ret_id, bool *ret_truncated)
{
	const struct live_source *l = userdata;
	struct symbols_process_key key;
	struct collect_frames raw;
	int r = collect_frames(l->collect, raw_id, &raw);

	if (r < 0)
		return r;
	*ret_truncated = raw.truncated;
	key = (struct symbols_process_key){ raw.process.pid, raw.process.exec_id, raw.process.start_ns, raw.process.seen_ns };
	return symbols_resolve(l->symbols, &key, raw.kernel, raw.n_kernel, raw.user, raw.n_user, ret_frames, ret_n, ret_id);
}

struct tick_source live_source(struct live_source *live)
{
	return (struct tick_source){ .tick = live_tick, .process = live_process, .stack = live_stack, .userdata = live };
}
