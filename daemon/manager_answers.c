/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "manager_state.h"

#include "helper.h"
#include "leaks.h"
#include "lines.h"
#include "pipeline.h"
#include "version.h"
#include "watches.h"

static uint64_t resident_bytes(void)
{
	_cleanup_free_ char *text = NULL;
	unsigned long long size, resident;

	if (read_small_file(-1, "/proc/self/statm", 256, &text, NULL) < 0 || sscanf(text, "%llu %llu", &size, &resident) != 2)
		return 0;
	return resident * sysconf(_SC_PAGESIZE);
}

static void fill_status(void *userdata, struct api_daemon_status *ret)
{
	struct manager *m = userdata;
	struct pipeline_status p;
	struct lines_status lines;

	pipeline_get_status(m->pipeline, &p);
	*ret = (struct api_daemon_status) {
		.version = STACKD_VERSION,
		.kernel = m->kernel.release,
		.config_path = m->options->config_path,
		.pid = getpid(),
		.opener_pid = helper_opener_pid(m->helper),
		.parser_pid = helper_parser_pid(m->helper),
		.parser_restarts = helper_parser_restarts(m->helper) + helper_parser_restarts(m->lines_helper),
		.started_us = m->started_us,
		.ticks = p.ticks,
		.ticks_missed = p.ticks_missed,
		.last_tick_us = p.last_tick_us,
		.tick_cost_ns = p.cost_ns,
		.tick_cost_max_ns = p.cost_max_ns,
		.resident_bytes = resident_bytes(),
		.pending = p.pending,
		.pending_max = p.pending_max,
		.cached_stacks = p.cached_stacks,
		.cached_stacks_max = p.cached_stacks_max,
		.waits = p.waits,
		.waits_max = p.waits_max,
		.open_above = m->conf.open_above,
		.close_below = m->conf.close_below,
		.false_alarms_per_day = m->conf.false_alarms_per_day,
	};
	lines_get_status(m->lines, &lines);
	ret->lines_parser_pid = lines.parser_pid;
	ret->lines_used = lines.used;
	ret->lines_max = lines.max;
	ret->holders = leaks_count(m->leaks, &ret->holders_max);
	ret->cpu_ns = process_cpu_ns(getpid()) + process_cpu_ns(ret->opener_pid) + process_cpu_ns(ret->parser_pid) +
	              (lines.parser_pid > 0 ? process_cpu_ns(lines.parser_pid) : 0);
	memcpy(ret->conservation, p.conservation, sizeof(ret->conservation));
}

static int set_gate(void *userdata, enum collect_gate_mode mode, uint64_t until_us, uint32_t by_uid)
{
	static const char *const modes[] = { [GATE_AUTO] = "automatic", [GATE_FORCED_OPEN] = "open", [GATE_FORCED_CLOSED] = "closed" };
	struct manager *m = userdata;
	int r = collect_gate_set(m->collect, mode, until_us);

	if (r >= 0)
		log_notice("gate set to %s by uid %u", modes[mode], by_uid);
	return r;
}

static int watch_memory(void *userdata, pid_t pid, uint64_t until_us, uint32_t by_uid, uint32_t *ret_id)
{
	struct manager *m = userdata;

	return watches_begin(m->watches, pid, until_us, by_uid, ret_id);
}

static int unwatch_memory(void *userdata, pid_t pid, uint32_t by_uid)
{
	struct manager *m = userdata;

	return watches_end(m->watches, pid, by_uid);
}

static const struct api_memory_watch *memory_watch_at(void *userdata, size_t i)
{
	struct manager *m = userdata;

	return watches_at(m->watches, i);
}

static int watch_memory_group(void *userdata, const char *name, uint64_t until_us, uint32_t by_uid, uint32_t *ret_id)
{
	struct manager *m = userdata;

	return watches_begin_group(m->watches, name, until_us, by_uid, ret_id);
}

static int unwatch_memory_group(void *userdata, const char *name, uint32_t by_uid)
{
	struct manager *m = userdata;

	return watches_end_group(m->watches, name, by_uid);
}

static const struct api_memory_group *memory_group_at(void *userdata, size_t i)
{
	struct manager *m = userdata;

	return watches_group_at(m->watches, i);
}

static size_t list_leaks(void *userdata, pid_t pid, struct api_leak *ret, size_t max, struct api_leaks *ret_all)
{
	struct manager *m = userdata;

	return leaks_list(m->leaks, pid, ret, max, ret_all);
}

static const struct remedies *get_remedies(void *userdata)
{
	struct manager *m = userdata;

	return incidents_remedies(m->incidents);
}

static size_t find_variants(void *userdata, uint64_t stack_id, struct api_variant ret[static API_VARIANTS_MAX], double *ret_weight)
{
	struct stack_address found[API_VARIANTS_MAX];
	struct manager *m = userdata;
	size_t n = pipeline_addresses(m->pipeline, stack_id, found, ELEMENTS_OF(found), ret_weight), kept = 0;

	for (size_t i = 0; i < n; i++)
		if (collect_frames(m->collect, found[i].raw_id, &ret[kept].frames) >= 0)
			ret[kept++].weight = found[i].weight;
	return kept;
}

struct api_actions manager_answers(struct manager *m)
{
	return (struct api_actions) {
		.status = fill_status,
		.gate_set = set_gate,
		.remedies = get_remedies,
		.variants = find_variants,
		.memory_watch = watch_memory,
		.memory_unwatch = unwatch_memory,
		.memory_watch_at = memory_watch_at,
		.memory_watch_group = watch_memory_group,
		.memory_unwatch_group = unwatch_memory_group,
		.memory_group_at = memory_group_at,
		.leaks = list_leaks,
		.userdata = m,
	};
}
