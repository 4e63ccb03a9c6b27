/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "manager_state.h"

#include <grp.h>

#include "scoring.h"
#include "thread_waits.h"
#include "version.h"

#define GROUP_NAME "stackd"

struct collect_config config_for_collect(const struct conf *c)
{
	static const enum collect_source sources[] = {
		[CONF_SOURCE_AUTO] = COLLECT_AUTO, [CONF_SOURCE_BPF] = COLLECT_BPF, [CONF_SOURCE_PERF] = COLLECT_PERF
	};

	return (struct collect_config) {
		.source = sources[c->source],
		.copy_bytes = c->stack_copy,
		.oncpu_source = c->update_rq_clock ? ONCPU_UPDATE_RQ_CLOCK : ONCPU_PERF_EVENT,
		.sample_hz = c->sample_hz,
		.baseline_hz = c->baseline_hz,
		.fault_hz = c->fault_hz,
		.fault_baseline_hz = c->fault_baseline_hz,
		.offcpu_stacks_per_sec = c->offcpu_stacks,
		.known_stacks = c->known_stacks,
		.memory_stacks_per_sec = c->memory_stacks,
		.memory_baseline_stacks_per_sec = c->memory_baseline_stacks,
		.cpu_budget_closed = c->cpu_budget_closed / 100,
		.cpu_budget_open = c->cpu_budget_open / 100,
		.heap_sample_bytes = c->heap_sample_bytes,
		.max_heap_blocks = c->max_heap_blocks,
		.open_above = c->open_above,
		.close_below = c->close_below,
		.close_after_us = c->close_after_us,
		.cooldown_us = c->cooldown_us,
		.max_stacks = c->max_stacks,
		.max_counts = c->max_counts,
		.max_processes = c->max_processes,
		.unwind_depth = c->unwind_depth,
		.thread_waits_per_sec = (uint32_t)MIN(c->thread_waits_size / THREAD_WAITS_ENTRY / THREAD_WAITS_KEPT_S, (uint64_t)UINT32_MAX),
	};
}

struct recording_config config_for_recording(const struct manager *m)
{
	struct recording_config c = {
		.store_size = m->arena.size,
		.keep_us = { m->conf.keep_1s_us, m->conf.keep_10s_us, m->conf.keep_1min_us },
		.slices_per_series = m->conf.slices_per_series,
		.max_stacks = m->conf.max_stacks,
		.max_clusters = m->conf.max_clusters,
		.max_incidents = m->conf.max_incidents,
		.memory_bytes = scoring_machine_memory(),
		.false_alarms_per_day = m->conf.false_alarms_per_day,
		.version = STACKD_VERSION,
	};

	copy_string(c.kernel, sizeof(c.kernel), m->kernel.release);
	copy_string(c.machine, sizeof(c.machine), m->kernel.machine);
	return c;
}

struct store_config config_for_store(const struct conf *c)
{
	return (struct store_config) {
		.tiers = {
			{ 1, c->keep_1s_us / USEC_PER_SEC },
			{ 10, c->keep_10s_us / USEC_PER_SEC },
			{ 60, c->keep_1min_us / USEC_PER_SEC },
		},
		.series_state_size = detect_series_state_size(),
		.global_state_size = detect_global_state_size(),
		.slices_per_series = c->slices_per_series,
	};
}

struct api_config config_for_api(const struct conf *c)
{
	struct group *group = getgrnam(GROUP_NAME);

	return (struct api_config) {
		.max_connections = c->max_connections,
		.max_connections_uid = c->max_connections_uid,
		.subscriber_queue = c->subscriber_queue,
		.request_timeout_us = c->request_timeout_us,
		.users_see_own = c->users_see_own,
		.group = group ? group->gr_gid : (gid_t) -1,
	};
}

struct detect_config config_for_detect(const struct conf *c)
{
	return (struct detect_config) { .false_alarms_per_day = c->false_alarms_per_day };
}

struct alert_config config_for_alert(const struct conf *c)
{
	return (struct alert_config) { .burst = c->alert_burst, .interval_us = c->alert_interval_us };
}
